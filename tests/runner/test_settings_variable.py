from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import SettingsError
from runner.ops.deployment import _OF_THE_CALCULATION
from runner.settings import Settings, describe, with_settings_as_variables
from runner.settings_variable import NEEDS_ITS_OWN_VARIABLE, PARAMETERS, VARIABLE
from tests.cfn.templates import KINDS, container_of, everything_in, load

LEAST = {
    "S3_INPUT_BUCKET": "incoming",
    "S3_OUTPUT_BUCKET": "outgoing",
    "SQS_BATCH_QUEUE": "jobs",
    "CALCULATION": "stars * review_count AS review_score",
}


def wrong(settings: object, **variables: str) -> list[str]:
    """The lines on what is wrong with SETTINGS, beside these variables."""
    text = settings if isinstance(settings, str) else json.dumps(settings)
    with pytest.raises(SettingsError) as caught:
        Settings.read({**LEAST, **variables, VARIABLE: text})
    return str(caught.value).splitlines()


def test_each_is_read_as_if_it_were_a_variable() -> None:
    names = {"DROP": "a,b", "SELECT": "c", "WITH": "account", "EACH": "Records", "OUTCOME_BUS": "outcomes"}
    numbers = {"MAX_INFLATION": 1000, "MAX_ATTEMPTS": 3, "BREAKER_FAILURES": 5, "RETRY_MIN_S": 0.5}
    words = {"ON_ERROR": "fail", "FORMAT": "json", "REJECT": "stars < 0: negative", "OUTPUT_PREFIX": ""}
    told = {"MAX_LINE_BYTES": "64MiB", **names, **numbers, **words}
    variables = {name: str(value) for name, value in told.items()}
    assert Settings.read({**LEAST, VARIABLE: json.dumps(told)}) == Settings.read({**LEAST, **variables})


@pytest.mark.parametrize("empty", ["", " ", "{}", " { } "])
def test_nothing_is_nothing(empty: str) -> None:
    assert Settings.read({**LEAST, VARIABLE: empty}) == Settings.read(LEAST)


def test_an_empty_variable_is_not_set() -> None:
    settings = Settings.read({**LEAST, "WHERE": "", "OUTPUT_KEY": "", VARIABLE: '{"WHERE": "stars > 3"}'})
    assert settings.where == "stars > 3"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("MAX_LINE_BYTES=1MiB", "text that is not JSON (Expecting value: line 1 column 1"),
        ('{"HMAC_KEY": "secret" "DROP": "a"}', "text that is not JSON (Expecting ',' delimiter: line 1 column 23"),
        ("{'DROP': 'a'}", "text that is not JSON (Expecting property name"),
        ('\ufeff{"DROP": "a"}', "text that is not JSON (Unexpected UTF-8 BOM"),
        ('{"DROP": "a"} {}', "text that is not JSON (Extra data"),
        ("{", "text that is not JSON"),
        *((text, "JSON that is not an object") for text in ("[]", '"secret"', "null", "1e999")),
        *((text, "JSON that cannot be read") for text in ("[" * 100_000, f'{{"MAX_ATTEMPTS": {"9" * 5000}}}')),
    ],
)
def test_no_object(text: str, found: str) -> None:
    (line,) = wrong(text)
    assert line.startswith(f"{VARIABLE}: found {found}")
    assert "secret" not in line
    assert line.endswith('expected a JSON object such as {"MAX_LINE_BYTES": "64MiB"}')
    assert len(line) < 250


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("MAX_LINE_BYTE", "; did you mean MAX_LINE_BYTES?"),
        ("on_error", "; did you mean ON_ERROR?"),
        ("HMAC_KEY", ""),
        (VARIABLE, ""),
        ("PATH", ""),
    ],
)
def test_unknown_name(name: str, meant: str) -> None:
    (line,) = wrong({name: "1", "ON_ERROR": "fail"})
    assert line.startswith(f"SETTINGS: found '{name}', expected the name of a setting")
    assert line.endswith(meant) or not meant


@pytest.mark.parametrize("value", [None, True, ["a"], {"a": 1}])
def test_value_that_no_variable_could_have(value: object) -> None:
    (line,) = wrong({"DROP": value})
    assert line.endswith("expected a string or a number")


def test_wrong_value_is_described_as_that_of_a_variable() -> None:
    assert wrong({"WORKERS": "many", "PART_BYTES": 5}) == [
        "PART_BYTES: found '5', expected a size such as 64KiB, 10MB or 5000 from 5MiB to 5GiB",
        "WORKERS: found 'many', expected a whole number from 1 to 1024",
    ]


def test_twice() -> None:
    assert wrong('{"DROP": "a", "DROP": "b"}') == ["SETTINGS: found 'DROP' twice, expected it once"]
    (line,) = wrong({"WORKERS": 3}, WORKERS="2")
    assert line.startswith("SETTINGS: found 'WORKERS', expected it only once, as the variable WORKERS is set, too; ")
    assert line.endswith("; the templates set it by pCpu")
    assert wrong({"LOG_LEVEL": "debug"}, LOG_LEVEL="info") == [
        "SETTINGS: found 'LOG_LEVEL', expected it only once, as the variable LOG_LEVEL is set, too"
    ]
    (line,) = wrong({"s3InputBucket": "other"})
    assert "as the variable S3_INPUT_BUCKET is set, too; the templates set it by pInputBucket" in line
    (line,) = wrong({"OUTPUT_PREFIX": "a/"}, OUTPUT_PREFIX="")
    assert "the templates set it by pOutputPrefix" in line


def test_health_check_reads_its_own_variable_only() -> None:
    (line,) = wrong({NEEDS_ITS_OWN_VARIABLE: "/tmp/other"})
    assert "expected a variable of its own" in line


def test_operators_need_nothing_of_the_calculation() -> None:
    told = json.dumps({"DROP": "a", "RETRY_MAX_S": 60})
    variables = with_settings_as_variables({**LEAST, VARIABLE: told})
    assert "DROP" in _OF_THE_CALCULATION
    assert {name: variables[name] for name in ("DROP", "RETRY_MAX_S")} == {"DROP": "a", "RETRY_MAX_S": "60"}
    assert VARIABLE not in variables
    with pytest.raises(SettingsError, match="expected the name of a setting"):
        with_settings_as_variables({VARIABLE: '{"A": "b"}'})


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_templates(kind: str) -> None:
    template = load(kind)
    found = {}
    for variable in container_of(template)["Environment"]:
        refs = [part["Ref"] for part in everything_in(variable["Value"]) if isinstance(part, dict) and "Ref" in part]
        names = [name for name in refs if name in template["Parameters"]]
        if names and variable["Name"] != VARIABLE:
            (found[variable["Name"]],) = names
    assert found == PARAMETERS


@given(st.dictionaries(st.sampled_from([name for name, _, _ in describe()]) | st.text(max_size=9), st.text(max_size=9)))
def test_any_object_gives_settings_or_lines(told: dict[str, str]) -> None:
    try:
        settings = Settings.read({**LEAST, VARIABLE: json.dumps(told)})
    except SettingsError as error:
        lines = str(error).split("\n")
        assert lines == [line for line in lines if ", expected " in line]  # of any text
    else:
        assert settings == Settings.read({**LEAST, **told})


@pytest.mark.parametrize("value", ["\ud83d", "a\0b"])
@pytest.mark.parametrize("name", ["OUTPUT_PREFIX", "WHERE", "DROP", "CALCULATION"])
def test_text_that_is_not_utf8(name: str, value: str) -> None:
    """As an environment variable is whose bytes are not UTF-8."""
    with pytest.raises(SettingsError, match=f"{name}: found .*, expected text in UTF-8, without NUL"):
        Settings.read({**LEAST, name: value})
    if name not in LEAST:
        assert wrong({name: value})[0].endswith("expected text in UTF-8, without NUL")
