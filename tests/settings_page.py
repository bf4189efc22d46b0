"""The page docs/settings.md, made from the fields of the settings: `python -m tests.settings_page` writes it."""

from __future__ import annotations

from runner import setting_texts
from runner.settings import Settings
from tests.conftest import ROOT

PAGE = ROOT / "docs" / "settings.md"

GROUPS = {
    "input_bucket": "Where",
    "calculation": "What to compute",
    "output_prefix": "Names of what is written",
    "on_error": "Bad lines",
    "part_bytes": "Sizes and cores",
    "dead_letter_queue": "Outcomes",
    "visibility_timeout_s": "Leases and attempts",
    "poll_wait_s": "Polling, stopping, progress",
    "health_file": "Health, logs, metrics",
}
"""A heading by the first setting that is below it, in the order of the fields."""

_START = """# Settings of the worker

Made from [runner/settings.py](../runner/settings.py) by `python -m tests.settings_page`; a test compares the two.
`runner worker --help` prints the same.

The worker reads its settings from the environment, once, when it starts. If any are wrong, it names all of them, each
with the value found and the values expected, and ends.

- Some settings can also be set by an older name. If a setting is given under two names, both must have the same value;
  only for the region, the first in the list is used.
- An empty variable counts as unset, except `OUTPUT_PREFIX`. If that is empty, an output has the key of its input, which
  must not start with `REJECTS_PREFIX` or `CHECKPOINT_PREFIX`.
- A variable whose name resembles a setting's is logged as a warning.
- `SETTINGS` is a JSON object of any of these settings, such as `{"MAX_LINE_BYTES": "64MiB", "ON_ERROR": "fail"}`. Each
  is read as if it were a variable. A name that is unknown, or that has a value in a variable of its own as well, is an
  error. `HEALTH_FILE` needs its own variable.

`runner status`, `submit`, `letters`, `redrive`, `discard`, `cancel` and `sweep` read the same settings, but need no
`CALCULATION`. The variables of the AWS SDK apply as well, such as `AWS_ENDPOINT_URL` and `AWS_PROFILE`. The key
of [`hmac_sha256`](calculations.md#pseudonyms) is in `HMAC_KEY`, which is no setting, so that nothing shows it.
"""


def page() -> str:
    """Return what the page is to hold."""
    fields = Settings.model_fields
    parts = [_START]
    for (name, field), (variable, default, meaning) in zip(fields.items(), setting_texts.describe(fields), strict=True):
        if name in GROUPS:
            parts.append(f"\n## {GROUPS[name]}\n\n| setting | default | meaning | also read |\n|---|---|---|---|\n")
        others = setting_texts.names_of(field)[1:]
        text = meaning.removesuffix(f" (also read: {', '.join(others)})")
        cells = [f"`{variable}`", _code(default), text, ", ".join(map(_code, others))]
        parts.append(_row(cells))
    return "".join(parts)


def _row(cells: list[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |\n"


def _code(text: str) -> str:
    return text if text in {"", "required"} else f"`{text}`"


if __name__ == "__main__":
    PAGE.write_text(page())
