"""The variable SETTINGS: a JSON object of settings, each as if it were a variable of its own.

A deployment passes one text on, and so needs no parameter for every setting.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any

from runner.setting_texts import Fields, names_of, quote_value

VARIABLE = "SETTINGS"
NEEDS_ITS_OWN_VARIABLE = "HEALTH_FILE"
"""The health check of the container, which must be fast, looks nowhere else."""

PARAMETERS = {
    "S3_INPUT_BUCKET": "pInputBucket",
    "S3_OUTPUT_BUCKET": "pOutputBucket",
    "SQS_BATCH_QUEUE": "pQueueArn",
    "DEAD_LETTER_QUEUE": "pDeadLetterQueueArn",
    "BACKFILL_SHARE": "pBackfillShare",
    "INPUT_PREFIX": "pInputPrefix",
    "INPUT_SUFFIX": "pInputSuffix",
    "AFTER": "pAfter",
    "OUTPUT_PREFIX": "pOutputPrefix",
    "OUTPUT_KEY": "pOutputKey",
    "CALCULATION": "pCalculation",
    "WHERE": "pWhere",
    "SCHEMA": "pSchema",
    "MAX_REJECTS": "pMaxRejects",
    "OUTCOME_TOPIC": "pOutcomeTopicArn",
    "MAX_ATTEMPTS": "pMaxAttempts",
    "WORKERS": "pCpu",
}
"""The parameters of the templates in cfn/ by the variables that they set."""

_EXAMPLE = 'expected a JSON object such as {"MAX_LINE_BYTES": "64MiB"}'
_NEAR = 0.6


def expand_settings(fields: Fields, environ: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return an environment with the settings in SETTINGS as variables, and a line for each that is wrong.

    Args:
        fields: The fields of the settings.
        environ: The environment. Empty variables count as not set, except `OUTPUT_PREFIX`.
    """
    expanded = {name: text for name, text in environ.items() if name != VARIABLE}
    text = environ.get(VARIABLE, "").strip()
    if not text:
        return expanded, []
    pairs = _pairs_of(text)
    if isinstance(pairs, str):
        return expanded, [f"{VARIABLE}: found {pairs}, {_EXAMPLE}"]
    known = {name: names_of(field) for field in fields.values() for name in names_of(field)}
    wrong: list[str] = []
    given: set[str] = set()
    for name, value in pairs:
        problem = _problem(name, value, known, environ, given)
        given.update(known.get(name, [name]))
        if problem:
            wrong.append(f"{VARIABLE}: found {problem}")
        else:
            expanded[name] = value if isinstance(value, str) else json.dumps(value)
    return expanded, wrong


def _pairs_of(text: str) -> list[tuple[str, Any]] | str:
    """Return the members of a JSON object, or what the text is instead: not the text, which may have secrets."""
    try:
        found = json.loads(text, object_pairs_hook=_Members, parse_constant=str)
    except json.JSONDecodeError as error:
        return f"text that is not JSON ({error})"
    except (ValueError, RecursionError):  # too many digits, or too deep
        return "JSON that cannot be read"
    return list(found) if isinstance(found, _Members) else "JSON that is not an object"


class _Members(list[tuple[str, Any]]):
    """The members of an object, those of one name as well."""


def _problem(
    name: str, value: object, known: Mapping[str, list[str]], environ: Mapping[str, str], given: set[str]
) -> str | None:
    """Return what is wrong with a setting and what was expected, None if it is good."""
    if name not in known:
        near = difflib.get_close_matches(name.upper(), known, n=1, cutoff=_NEAR)
        return f"{quote_value(name)}, expected the name of a setting{f'; did you mean {near[0]}?' if near else ''}"
    if name == NEEDS_ITS_OWN_VARIABLE:
        return f"{quote_value(name)}, expected a variable of its own, which the health check reads as well"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return f"{quote_value(name)} with {quote_value(_written(value))}, expected a string or a number"
    if name in given:
        return f"{quote_value(name)} twice, expected it once"
    others = [other for other in known[name] if environ.get(other, "").strip()]
    if name == "OUTPUT_PREFIX" and name in environ:  # which may be set to nothing
        others = [name]
    if others:
        parameter = next((PARAMETERS[other] for other in known[name] if other in PARAMETERS), None)
        templates = f"; the templates set it by {parameter}" if parameter else ""
        return f"{quote_value(name)}, expected it only once, as the variable {others[0]} is set, too{templates}"
    return None


def _written(value: object) -> str:
    return json.dumps(value, default=str) if not isinstance(value, _Members) else "{…}"
