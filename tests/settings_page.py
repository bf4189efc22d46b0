"""The page docs/settings.md, made from the fields of the settings: `python -m tests.settings_page` writes it anew."""

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
    "dead_letter_queue": "Who is told",
    "visibility_timeout_s": "Leases and attempts",
    "poll_wait_s": "Polling, stopping, progress",
    "health_file": "Health, logs, metrics",
}
"""A heading by the first setting that is below it, in the order of the fields."""

_START = """# Settings of the worker

Made from [runner/settings.py](../runner/settings.py) by `python -m tests.settings_page`; a test holds the two equal.
`runner worker --help` says the same.

The worker reads its settings from the environment, once, when it starts. All that are wrong are named, each with
what was found and what was expected, and the worker ends. Some are read by older names, too: where a setting is given
under two names, both have to say the same (but for the region, where the first in the list counts). A variable that is
set to nothing is not set, but for `OUTPUT_PREFIX`: set to nothing, outputs have the keys of their inputs, none of
which may start with `REJECTS_PREFIX` or `CHECKPOINT_PREFIX`. A variable whose name resembles a setting's is logged as a
warning when the worker starts.

`runner status`, `submit`, `letters`, `redrive`, `discard`, `cancel` and `sweep` read the same settings, and need no
`CALCULATION`. Beside these, the AWS SDK's own variables count, `AWS_ENDPOINT_URL` and `AWS_PROFILE` among them; and
`HMAC_KEY`, the key of [`hmac_sha256`](calculations.md#pseudonyms), which is no setting so that nothing shows it.
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
