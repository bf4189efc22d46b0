from __future__ import annotations

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.errors import SettingsError
from runner.settings import Settings, describe, near_misses

LEAST = {
    "S3_INPUT_BUCKET": "incoming",
    "S3_OUTPUT_BUCKET": "outgoing",
    "SQS_BATCH_QUEUE": "jobs",
    "CALCULATION": "stars * review_count AS review_score",
}
BUCKETS = "the name of a bucket, without s3:// or a key; several are separated by commas"
ONE_BUCKET = {**LEAST, "S3_OUTPUT_BUCKET": "incoming"}
OLD_NAMES = ["s3InputBucket", "s3OutputBucket", "SQSBatchQueue", "AWS_REGION", "AWS_DEFAULT_REGION"]
NAMES = [name for name, _, _ in describe()]


def wrong(**variables: str) -> list[str]:
    """The lines on what is wrong with these variables, beside good ones."""
    with pytest.raises(SettingsError) as caught:
        Settings.read({**LEAST, **variables})
    return str(caught.value).splitlines()


def test_least_environment_gives_the_defaults() -> None:
    settings = Settings.read(LEAST)
    assert (settings.input_buckets, settings.output_bucket, settings.queue) == (("incoming",), "outgoing", "jobs")
    assert (settings.region, settings.where, settings.drop, settings.select) == (None, "", (), ())
    assert settings.schema_ == {}
    assert settings.output_prefix == "output/"
    assert (settings.rejects_prefix, settings.checkpoint_prefix) == ("rejects/", "checkpoints/")
    assert (settings.on_error, settings.max_rejects, settings.workers) == ("reject", None, None)
    assert (settings.max_line_bytes, settings.part_bytes, settings.range_bytes) == (32 << 20, 16 << 20, 16 << 20)
    assert (settings.visibility_timeout_s, settings.max_lease_s, settings.max_job_s) == (120, 42000, None)
    assert (settings.retry_min_s, settings.retry_max_s, settings.breaker_failures) == (15, 900, 3)
    assert (settings.poll_wait_s, settings.stop_timeout_s, settings.progress_s) == (10, 15, 30)
    assert settings.protect_max_s == 48 * 3600
    assert str(settings.health_file) == "/tmp/runner-health.json"
    assert (settings.log_level, settings.metrics_namespace) == ("info", "JsonlTransform")


def test_names_of_the_sample_work() -> None:
    settings = Settings.read(
        {
            "s3InputBucket": "incoming",
            "s3OutputBucket": "outgoing",
            "SQSBatchQueue": "jobs",
            "AWSRegion": "eu-central-1",
            "CALCULATION": "calculation.py",
        }
    )
    assert settings.input_buckets == ("incoming",)
    assert settings.output_bucket == "outgoing"
    assert settings.queue == "jobs"
    assert settings.region == "eu-central-1"


def test_old_and_new_name_may_agree_but_not_differ() -> None:
    assert Settings.read({**LEAST, "s3InputBucket": "incoming"}).input_buckets == ("incoming",)
    (line,) = wrong(s3InputBucket="another")
    assert line.startswith("S3_INPUT_BUCKET and s3InputBucket: found S3_INPUT_BUCKET='incoming', s3InputBucket='an")


def test_region_is_the_first_of_three() -> None:
    regions = {"AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "us-east-1"}
    assert Settings.read({**LEAST, **regions}).region == "eu-west-1"
    assert Settings.read({**LEAST, **regions, "AWSRegion": "eu-north-1"}).region == "eu-north-1"
    assert Settings.read({**LEAST, "AWS_DEFAULT_REGION": "us-east-1"}).region == "us-east-1"


def test_case_of_a_name_matters() -> None:
    assert Settings.read({**LEAST, "workers": "7"}).workers is None


def test_own_environment_of_the_process_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "7")
    monkeypatch.setenv("S3_INPUT_BUCKET", "x")
    assert Settings.read(LEAST) == Settings.read(LEAST | {"WORKERS": ""})
    assert Settings.read(LEAST).workers is None
    assert Settings.read(os.environ | LEAST).workers == 7
    with pytest.raises(SettingsError, match=r"^S3_INPUT_BUCKET: not set"):
        Settings.read({name: value for name, value in LEAST.items() if name != "S3_INPUT_BUCKET"})


def test_settings_do_not_change() -> None:
    settings = Settings.read({**LEAST, "SCHEMA": "stars=Float64"})
    with pytest.raises(ValueError, match="frozen"):
        settings.workers = 2
    with pytest.raises(TypeError):
        settings.schema_["stars"] = "Int64"  # type: ignore[index]


def test_settings_can_be_made_by_their_fields() -> None:
    settings = Settings(input_buckets=("incoming",), output_bucket="outgoing", queue="jobs", calculation="a AS b")
    assert settings == Settings.read({**LEAST, "CALCULATION": "a AS b"})


@pytest.mark.parametrize("name", [name for name in NAMES if name != "OUTPUT_PREFIX"])
def test_empty_is_not_set(name: str) -> None:
    if name in LEAST:
        assert wrong(**{name: " "})[0].startswith(f"{name}: not set, expected ")
    else:
        assert Settings.read({**LEAST, name: ""}) == Settings.read(LEAST)


@pytest.mark.parametrize("text", ["calculation.py", "/opt/my dir/calc.py:scores", "package.module:name", "module:name"])
def test_reference(text: str) -> None:
    assert Settings.read({**LEAST, "CALCULATION": text}).is_reference


@pytest.mark.parametrize(
    "text", ["a * b AS c", "a", "a.b", "lower(city) AS city", "a::int AS b", "'x:y' AS z", 'a AS "b:c"', "x AS py"]
)
def test_sql(text: str) -> None:
    assert not Settings.read({**LEAST, "CALCULATION": text}).is_reference


def test_what_goes_beside_sql() -> None:
    settings = Settings.read(
        {
            **LEAST,
            "WHERE": "is_open = 1",
            "SCHEMA": "stars=Float64; review_count=Int64; tags = List(Struct({'a': String}));",
            "REJECT": "stars < 0: negative stars; name = 'a;b'",
            "DROP": "address, postal_code ,",
            "SELECT": "name",
        }
    )
    assert settings.where == "is_open = 1"
    assert settings.schema_ == {
        "stars": "Float64",
        "review_count": "Int64",
        "tags": "List(Struct({'a': String}))",
    }
    assert settings.reject == "stars < 0: negative stars; name = 'a;b'"
    assert (settings.drop, settings.select) == (("address", "postal_code"), ("name",))


def test_names_are_those_that_the_command_takes() -> None:
    settings = Settings.read({**LEAST, "DROP": ' "a,b" , "say ""hi""", e-mail ', "SELECT": '" x "'})
    assert (settings.drop, settings.select) == (("a,b", 'say "hi"', "e-mail"), (" x ",))
    expected = 'expected names separated by commas, a name with a comma or a quote in double quotes, as "a,b"'
    assert wrong(DROP='a, "b', SELECT=" ,") == [
        f"DROP: found 'a, \"b', {expected}; the quote at character 4 does not fit",
        f"SELECT: found ',', {expected}, and at least one",
    ]


@pytest.mark.parametrize("rules", [";", "a < 0:", ": negative", "a < 0: ; b < 0"])
def test_what_is_no_list_of_rules_is_wrong(rules: str) -> None:
    (line,) = wrong(REJECT=rules)
    assert line.startswith(f"REJECT: found {rules!r}, expected rules separated by `;`")


def test_what_goes_beside_sql_does_not_go_beside_a_reference() -> None:
    lines = wrong(CALCULATION="calculation.py", WHERE="a > 1", SCHEMA="a=Int64", REJECT="a < 0", DROP="b", SELECT="c")
    assert [line.partition(":")[0] for line in lines] == ["WHERE", "SCHEMA", "REJECT", "DROP", "SELECT"]
    assert lines[0] == (
        "WHERE: found 'a > 1', expected it not to be set, as CALCULATION names Python code, which says that itself"
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 2**16), ("1MB", 10**6), ("70000", 70000), ("1.5 mib", 3 * 2**19), ("100k", 10**5), ("0.5g", 5 * 10**8)],
)
def test_sizes(text: str, size: int) -> None:
    assert Settings.read({**LEAST, "RANGE_BYTES": text}).range_bytes == size


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("S3_INPUT_BUCKET", "s3://incoming", BUCKETS),
        ("S3_INPUT_BUCKET", "incoming,", BUCKETS),
        ("S3_OUTPUT_BUCKET", "s3://outgoing", "the name of a bucket, without s3:// or a key"),
        ("SQS_BATCH_QUEUE", "my queue", "the name, URL or ARN of a queue"),
        ("SQS_BATCH_QUEUE", "arn:aws:sns:eu-west-1:123456789012:topic", "the name, URL or ARN of a queue"),
        ("AWS_REGION", "Frankfurt", "a region such as eu-central-1"),
        ("PART_BYTES", "4MiB", "a size such as 64KiB, 10MB or 5000 from 5MiB to 5GiB"),
        ("PART_BYTES", "6GiB", "a size such as 64KiB, 10MB or 5000 from 5MiB to 5GiB"),
        ("RANGE_BYTES", "much", "a size such as 64KiB, 10MB or 5000 from 64KiB to 1GiB"),
        ("RANGE_BYTES", "-1MiB", "a size such as 64KiB, 10MB or 5000 from 64KiB to 1GiB"),
        ("VISIBILITY_TIMEOUT_S", "4", "a whole number of seconds from 5 to 43200"),
        ("VISIBILITY_TIMEOUT_S", "2m", "a whole number of seconds from 5 to 43200"),
        ("POLL_WAIT_S", "21", "a whole number of seconds from 0 to 20"),
        ("STOP_TIMEOUT_S", "0", "a number of seconds above 0"),
        ("PROGRESS_S", "inf", "a number of seconds above 0"),
        ("WORKERS", "0", "a whole number from 1 to 1024"),
        ("MAX_REJECTS", "101%", "a number of lines such as 100 or a share such as 5%"),
        ("MAX_REJECTS", "-1", "a number of lines such as 100 or a share such as 5%"),
        ("ON_ERROR", "ignore", "`reject` or `fail`"),
        ("LOG_LEVEL", "loud", "debug, info, warning, error or critical"),
        ("SCHEMA", "stars", "types such as stars=Float64; review_count=Int64, each name once"),
        ("SCHEMA", "a=Int64;a=Float64", "types such as stars=Float64; review_count=Int64, each name once"),
        ("METRICS_NAMESPACE", "AWS/S3", "a namespace such as JsonlTransform"),
    ],
)
def test_wrong_value(name: str, value: str, expected: str) -> None:
    assert wrong(**{name: value}) == [f"{name}: found {value!r}, expected {expected}"]


@pytest.mark.parametrize(
    "queue",
    [
        "jobs",
        "https://sqs.eu-central-1.amazonaws.com/123456789012/jobs",
        "http://127.0.0.1:4566/000000000000/jobs",
        "arn:aws:sqs:eu-central-1:123456789012:jobs",
        "arn:aws-cn:sqs:cn-north-1:123456789012:jobs",
    ],
)
def test_queues(queue: str) -> None:
    assert Settings.read({**LEAST, "SQS_BATCH_QUEUE": queue}).queue == queue


@pytest.mark.parametrize(("text", "kept"), [("0", "0"), ("5%", "5%"), ("0.5%", "0.5%"), ("100%", "100%")])
def test_max_rejects(text: str, kept: str) -> None:
    assert Settings.read({**LEAST, "MAX_REJECTS": text}).max_rejects == kept


def test_words_in_any_case() -> None:
    settings = Settings.read({**LEAST, "LOG_LEVEL": "DEBUG", "ON_ERROR": "Fail"})
    assert (settings.log_level, settings.on_error) == ("debug", "fail")


def test_short_times_for_tests() -> None:
    settings = Settings.read({**LEAST, "RETRY_MIN_S": "0.05", "RETRY_MAX_S": ".1", "PROGRESS_S": "0.2"})
    assert (settings.retry_min_s, settings.retry_max_s, settings.progress_s) == (0.05, 0.1, 0.2)


def test_lease_is_not_shorter_than_the_visibility_timeout() -> None:
    assert wrong(MAX_LEASE_S="60") == ["MAX_LEASE_S: found '60', expected at least VISIBILITY_TIMEOUT_S, which is 120"]
    assert wrong(VISIBILITY_TIMEOUT_S="43000") == [
        "MAX_LEASE_S: not set, 42000 by default, expected at least VISIBILITY_TIMEOUT_S, which is 43000"
    ]


def test_longest_delay_is_not_shorter_than_the_first() -> None:
    assert wrong(RETRY_MIN_S="10", RETRY_MAX_S="9.5") == [
        "RETRY_MAX_S: found '9.5', expected at least RETRY_MIN_S, which is 10"
    ]


def test_dead_letter_queue_is_another() -> None:
    assert wrong(DEAD_LETTER_QUEUE="jobs") == [
        "DEAD_LETTER_QUEUE: found 'jobs', expected another queue than the one that the messages come from"
    ]


def test_backfill_queue_is_another() -> None:
    for variables in ({"BACKFILL_QUEUE": "jobs"}, {"BACKFILL_QUEUE": "dead", "DEAD_LETTER_QUEUE": "dead"}):
        name = variables["BACKFILL_QUEUE"]
        assert wrong(**variables) == [
            f"BACKFILL_QUEUE: found {name!r}, expected another queue than the main one and the dead-letter queue"
        ]


@pytest.mark.parametrize("share", ["0%", "0.0%", "00%", "101%", "100.5%", "-5%", "50", "half", "%", ".5%"])
def test_backfill_share_is_a_share(share: str) -> None:
    assert wrong(BACKFILL_SHARE=share) == [
        f"BACKFILL_SHARE: found {share!r}, expected a share above 0%, up to 100%, such as 50%"
    ]


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({"REJECTS_PREFIX": "output/rejects/"}, "REJECTS_PREFIX"),
        ({"OUTPUT_PREFIX": "rejects/output/"}, "REJECTS_PREFIX"),
        ({"CHECKPOINT_PREFIX": "rej"}, "CHECKPOINT_PREFIX"),
        ({"REJECTS_PREFIX": "same/", "OUTPUT_PREFIX": "same/"}, "REJECTS_PREFIX"),
    ],
)
@pytest.mark.parametrize("base", [LEAST, ONE_BUCKET])
def test_prefixes_that_overlap(base: dict[str, str], variables: dict[str, str], name: str) -> None:
    (line,) = wrong(**{**base, **variables})
    assert line.startswith(f"{name}: ")
    assert "expected neither to start with the other" in line


@pytest.mark.parametrize("name", ["OUTPUT_PREFIX", "REJECTS_PREFIX", "CHECKPOINT_PREFIX"])
def test_prefix_with_a_slash_at_the_start(name: str) -> None:
    assert wrong(**{name: "/a/"}) == [f"{name}: found '/a/', expected no `/` at the start: S3's keys have none"]


def test_output_prefix_may_be_nothing_between_two_buckets() -> None:
    settings = Settings.read({**LEAST, "OUTPUT_PREFIX": ""})
    assert settings.output_prefix == ""
    assert (settings.rejects_prefix, settings.checkpoint_prefix) == ("rejects/", "checkpoints/")


def test_one_bucket_needs_prefixes_of_their_own() -> None:
    assert Settings.read(ONE_BUCKET).output_prefix == "output/"
    assert wrong(**ONE_BUCKET, OUTPUT_PREFIX="") == [
        "OUTPUT_PREFIX: found '', expected a prefix, as incoming is the input bucket, too: "
        "each output would be a new input"
    ]
    for name in ("rejects_prefix", "checkpoint_prefix"):
        with pytest.raises(ValueError, match="expected a prefix"):
            Settings.model_validate(ONE_BUCKET | {name: ""})


def test_several_input_buckets() -> None:
    settings = Settings.read({**LEAST, "S3_INPUT_BUCKET": " incoming, second ,incoming"})
    assert settings.input_buckets == ("incoming", "second")
    assert settings.key_template.fill("second", "a/b", None) == "second/a/b"
    assert not settings.keeps_keys
    assert wrong(S3_INPUT_BUCKET="first,outgoing", OUTPUT_PREFIX="") == [
        "OUTPUT_PREFIX: found '', expected a prefix, as outgoing is the input bucket, too: "
        "each output would be a new input"
    ]


@pytest.mark.parametrize("template", [None, "{key}", "{dir}{name}"])
def test_the_default_of_output_keys(template: str | None) -> None:
    given = {} if template is None else {"OUTPUT_KEY": template}
    settings = Settings.read(LEAST | given)
    assert settings.key_template.fill("incoming", "a/b", None) == "a/b"
    assert settings.keeps_keys == (template != "{dir}{name}")


def test_output_key_that_is_no_template() -> None:
    assert wrong(OUTPUT_KEY="{date:%B}/{key}") == [
        "OUTPUT_KEY: found '{date:%B}/{key}', expected a date such as {date:%Y/%m/%d}, "
        "of %Y %m %d %H %M %S %j %G %V %u %y and %%"
    ]
    assert wrong(OUTPUT_PREFIX="", OUTPUT_KEY="rejects/{key}") == [
        "OUTPUT_KEY: found 'rejects/{key}', expected no output below REJECTS_PREFIX, which is 'rejects/'"
    ]
    assert Settings.read({**LEAST, "OUTPUT_KEY": "rejects/{key}"}).output_key == "rejects/{key}"


def test_prefixes_and_suffixes_of_inputs() -> None:
    settings = Settings.read({**LEAST, "INPUT_PREFIX": 'raw/, "a,b/"', "INPUT_SUFFIX": ".jsonl"})
    assert (settings.input_prefixes, settings.input_suffixes) == (("raw/", "a,b/"), (".jsonl",))
    assert Settings.read(LEAST).input_prefixes == ()


def test_what_the_worker_writes_is_never_an_input() -> None:
    assert wrong(**ONE_BUCKET, INPUT_PREFIX="raw/,rejects/x") == [
        "REJECTS_PREFIX: not set, rejects/ by default, expected INPUT_PREFIX to have nothing below it, as incoming is "
        "the input bucket, too, and what the worker has written is never an input; it has 'rejects/x'"
    ]
    assert Settings.read({**LEAST, "INPUT_PREFIX": "rejects/"}).input_prefixes == ("rejects/",)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({"s3InputBucket": "s3://in", "CALCULATION": "calc.py", "WHERE": "a", "WORKERS": "many"})
    assert str(caught.value).splitlines() == [
        f"s3InputBucket: found 's3://in', expected {BUCKETS}",
        "S3_OUTPUT_BUCKET: not set, expected the name of a bucket, without s3:// or a key",
        "SQS_BATCH_QUEUE: not set, expected the name, URL or ARN of a queue",
        "WHERE: found 'a', expected it not to be set, as CALCULATION names Python code, which says that itself",
        "WORKERS: found 'many', expected a whole number from 1 to 1024",
    ]


def test_message_hides_secrets_and_stays_short() -> None:
    (line,) = wrong(DEAD_LETTER_QUEUE="ftp://user:secret@host/queue" + "x" * 5000)
    assert "secret" not in line
    assert "user" not in line
    assert len(line) < 200


def test_error_has_no_cause_to_be_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.read({})
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("VISIBILITY_TIMEOUT", "VISIBILITY_TIMEOUT_S"),
        ("OUTPUT_PREFX", "OUTPUT_PREFIX"),
        ("OUTPUT_BUCKET", "S3_OUTPUT_BUCKET"),
        ("LOGLEVEL", "LOG_LEVEL"),
        ("WORKER", "WORKERS"),
        ("S3InputBucket", "S3_INPUT_BUCKET"),
        ("max_rejects", "MAX_REJECTS"),
    ],
)
def test_near_miss(name: str, meant: str) -> None:
    assert near_misses({**LEAST, name: "a secret"}) == [f"{name} is not a setting; did you mean {meant}?"]


def test_names_of_others_are_no_near_misses() -> None:
    others = (
        "PATH HOME HOSTNAME LANG LC_ALL USER SHELL PWD TERM TMPDIR TZ LOGNAME PYTHONPATH PYTHONUNBUFFERED "
        "PYTHON_VERSION GPG_KEY POLARS_MAX_THREADS AWS_REGION AWS_DEFAULT_REGION AWS_EXECUTION_ENV "
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI ECS_AGENT_URI ECS_CONTAINER_METADATA_URI ECS_CONTAINER_METADATA_URI_V4 "
        "AWS_ACCESS_KEY_ID http_proxy NO_PROXY "
        "s3InputBucket s3OutputBucket SQSBatchQueue AWSRegion OMP_NUM_THREADS MAX_RETRIES DEBUG VIRTUAL_ENV"
    )
    assert near_misses(dict.fromkeys(others.split(), "1")) == []


def test_description_covers_every_setting() -> None:
    rows = {name: (default, meaning) for name, default, meaning in describe()}
    assert len(rows) == len(Settings.model_fields)
    assert set(LEAST) <= {name for name, (default, _) in rows.items() if default == "required"}
    assert rows["VISIBILITY_TIMEOUT_S"][0] == "120"
    assert rows["PART_BYTES"][0] == "16MiB"
    assert rows["RETRY_MIN_S"][0] == "15"
    assert rows["WORKERS"][0] == ""
    assert rows["POLL_WAIT_S"][1].endswith(": a whole number of seconds from 0 to 20")
    assert rows["S3_INPUT_BUCKET"][1].endswith("(also read: s3InputBucket)")
    assert all(meaning and "None" not in meaning for _, meaning in rows.values())


def test_defaults_are_what_the_description_says() -> None:
    said = {name: default for name, default, _ in describe() if default not in ("required", "")}
    assert Settings.read({**LEAST, **said}) == Settings.read(LEAST)


GOOD_OR_NOT = st.one_of(
    st.text(st.characters(exclude_characters="\0"), max_size=20),  # lone surrogates among them, as of bytes not UTF-8
    st.sampled_from(["", " ", "0", "1", "5%", "64KiB", "nan", "-1", "a.py", "a AS b", "output/", "bucket", "a=Int64"]),
    st.integers().map(str),
    st.floats().map(str),
)


@given(st.dictionaries(st.sampled_from([*NAMES, *OLD_NAMES]), GOOD_OR_NOT))
def test_any_environment_gives_settings_or_a_line_for_each_wrong_one(variables: dict[str, str]) -> None:
    for environ in (variables, {**LEAST, **variables}):
        try:
            settings = Settings.read(environ)
        except SettingsError as error:
            for line in str(error).split("\n"):
                assert re.fullmatch(
                    r"(\w+: (not set|found '.*'|found \".*\")|\w+ and \w+: found .*).*, expected .+", line
                )
                assert not re.search(r"pydantic|Value error|Input should|validation", line)
        else:
            prefixes = [settings.output_prefix, settings.rejects_prefix, settings.checkpoint_prefix]
            apart = [prefix for prefix in prefixes if prefix]
            assert not any(a is not b and a.startswith(b) for a in apart for b in apart)
            assert settings.output_bucket not in settings.input_buckets or len(apart) == 3
            assert settings.visibility_timeout_s <= settings.max_lease_s <= 43200


@given(st.dictionaries(st.text(max_size=20), st.text(max_size=5)))
def test_variables_of_others_change_nothing(others: dict[str, str]) -> None:
    theirs = {name: value for name, value in others.items() if name not in {*NAMES, *OLD_NAMES}}
    assert Settings.read({**theirs, **LEAST}) == Settings.read(LEAST)
    assert isinstance(near_misses(theirs), list)
