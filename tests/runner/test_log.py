from __future__ import annotations

import io
import json
import os
import re
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runner.aws.ecs import TaskMetadata, read_task_metadata
from runner.log import make_logger
from runner.metrics import JobNumbers, Metrics, job_metrics
from tests.support.terminal_texts import EVIL, not_shown, special_texts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

UNITS = {"Seconds", "Bytes", "Count", "Megabytes/Second", "None"}


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def parse(text: str) -> list[Any]:
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


# Logs


def test_line() -> None:
    stream = io.StringIO()
    log = make_logger("info", stream, task="arn:aws:ecs:1")
    log.bind(job="j1", key="in/å.jsonl").info("job started", bytes=5)
    (line,) = parse(stream.getvalue())
    written = datetime.fromisoformat(line.pop("timestamp"))
    assert abs((datetime.now(UTC) - written).total_seconds()) < 60
    assert list(line.items()) == [
        ("level", "info"),
        ("event", "job started"),
        ("task", "arn:aws:ecs:1"),
        ("job", "j1"),
        ("key", "in/å.jsonl"),
        ("bytes", 5),
    ]
    assert stream.getvalue().isascii()


def test_level() -> None:
    stream = io.StringIO()
    log = make_logger("warning", stream)
    log.debug("no")
    log.info("no")
    log.warning("yes")
    log.error("yes")
    log.critical("yes")
    assert [(line["level"], line["event"]) for line in parse(stream.getvalue())] == [
        ("warning", "yes"),
        ("error", "yes"),
        ("critical", "yes"),
    ]


def test_exception_is_text_without_local_variables() -> None:
    stream = io.StringIO()
    secret = "hunter2" * 2  # noqa: F841 # a local variable that must not be shown
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        make_logger("info", stream).exception("job failed", job="j1")
    (line,) = parse(stream.getvalue())
    assert (line["level"], line["event"], line["job"]) == ("error", "job failed", "j1")
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ZeroDivisionError: integer division or modulo by zero")
    assert "hunter2hunter2" not in line["exception"]


def test_stdout_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    make_logger("info").info("here")
    assert parse(capsys.readouterr().out)[0]["event"] == "here"


def test_loggers_share_nothing() -> None:
    one, two = io.StringIO(), io.StringIO()
    make_logger("debug", one, a=1).debug("x")
    make_logger("error", two, b=2).error("y")
    assert [line.keys() & {"a", "b"} for line in parse(one.getvalue() + two.getvalue())] == [{"a"}, {"b"}]


def test_stream_that_takes_no_more_is_borne(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:  # noqa: PTH123
        make_logger("info", full).info("lost")
        Metrics("N", full, {}).emit({"A": (1, "Count")})
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        os.dup2(os.open(tmp_path / "rest", os.O_CREAT | os.O_WRONLY), full.fileno())  # to be closed in peace


JSON_OR_NOT = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.just(...)
    | st.complex_numbers(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.tuples(st.integers()), inner),
    max_leaves=5,
)


@given(st.text(), st.dictionaries(st.text(st.characters(codec="ascii"), min_size=1), JSON_OR_NOT))
def test_whatever_is_logged_is_one_line_of_json(event: str, fields: dict[str, Any]) -> None:
    stream = io.StringIO()
    fields = {name: value for name, value in fields.items() if name not in {"event", "exc_info", "stack_info"}}
    make_logger("info", stream).bind(**fields).info(event)
    assert stream.getvalue().count("\n") == 1
    (line,) = parse(stream.getvalue())
    assert line["event"] == event
    assert line.keys() == {*fields, "event", "level", "timestamp"}


def test_what_holds_itself_is_logged() -> None:
    stream = io.StringIO()
    loop: list[Any] = []
    loop.append(loop)
    make_logger("info", stream).info("x", loop=loop, good=[1])
    (line,) = parse(stream.getvalue())
    assert (line["loop"], line["good"]) == ("[[...]]", [1])


def test_lines_of_many_threads_stay_whole() -> None:
    reading, writing = os.pipe()
    received = bytearray()

    def read() -> None:
        while block := os.read(reading, 1 << 16):
            received.extend(block)

    with os.fdopen(writing, "w") as stream:
        reader = threading.Thread(target=read)
        reader.start()
        log = make_logger("info", stream)
        metrics = Metrics("N", stream, {"Family": "f"})

        def write(number: int) -> None:
            for index in range(100):
                log.info("x" * (index * 97), thread=number)
                metrics.emit({"A": (index, "Count")}, thread=number, filler="y" * (index * 53))

        writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in writers:
            thread.start()
        for thread in writers:
            thread.join()
    reader.join()
    os.close(reading)
    assert sorted(line["thread"] for line in parse(received.decode())) == sorted([*range(8)] * 200)


# Metrics


def conforms(record: dict[str, Any]) -> None:
    """Check a line by what the specification demands; written from its text, not from our code."""
    assert isinstance(record["_aws"]["Timestamp"], int)
    assert abs(record["_aws"]["Timestamp"] / 1000 - time.time()) < 60
    for directive in record["_aws"]["CloudWatchMetrics"]:
        assert directive.keys() == {"Namespace", "Dimensions", "Metrics"}
        assert 1 <= len(directive["Namespace"]) <= 1024
        assert len(directive["Dimensions"]) >= 1
        for names in directive["Dimensions"]:
            assert len(names) <= 30
            for name in names:
                assert isinstance(record[name], str)
                assert 1 <= len(record[name]) <= 1024
        assert 1 <= len(directive["Metrics"]) <= 100
        for metric in directive["Metrics"]:
            assert type(record[metric["Name"]]) in {int, float}
            assert 1 <= len(metric["Name"]) <= 255
            assert metric["Unit"] in UNITS


def test_names_that_no_line_has_are_counted_if_there_are_any() -> None:
    stream = io.StringIO()
    for absent in (0, 2):
        job_metrics(Metrics("N", stream, {}), "done", JobNumbers(absent=absent))
    without, some = parse(stream.getvalue())
    assert "AbsentNames" not in without
    assert some["AbsentNames"] == 2


def test_metrics_of_a_job() -> None:
    stream = io.StringIO()
    numbers = JobNumbers(
        lines_in=10,
        lines_out=8,
        rejects=1,
        bytes_in=4_000_000,
        bytes_out=3_000_000,
        seconds=2.0,
        message_age_s=12.5,
        retries=1,
    )
    job_metrics(Metrics("JsonlTransform", stream, {"Family": "transform"}), "published", numbers, job="j1", key="in/a")
    (record,) = parse(stream.getvalue())
    conforms(record)
    (directive,) = record.pop("_aws")["CloudWatchMetrics"]
    assert directive["Namespace"] == "JsonlTransform"
    assert directive["Dimensions"] == [["Family"], ["Family", "Outcome"]]
    assert {metric["Name"]: metric["Unit"] for metric in directive["Metrics"]} == {
        "Jobs": "Count",
        "LinesIn": "Count",
        "LinesOut": "Count",
        "Rejects": "Count",
        "BytesIn": "Bytes",
        "BytesOut": "Bytes",
        "Seconds": "Seconds",
        "MBPerSecond": "Megabytes/Second",
        "MessageAge": "Seconds",
        "Retries": "Count",
    }
    assert record == {
        "job": "j1",
        "key": "in/a",
        "Family": "transform",
        "Outcome": "published",
        "Jobs": 1,
        "LinesIn": 10,
        "LinesOut": 8,
        "Rejects": 1,
        "BytesIn": 4_000_000,
        "BytesOut": 3_000_000,
        "Seconds": 2.0,
        "MBPerSecond": 2.0,
        "MessageAge": 12.5,
        "Retries": 1,
    }


def test_what_is_not_known_is_left_out() -> None:
    stream = io.StringIO()
    job_metrics(Metrics("N", stream, {"Family": ""}), "failed", JobNumbers())
    (record,) = parse(stream.getvalue())
    conforms(record)
    assert record["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [[], ["Outcome"]]
    assert not record.keys() & {"Family", "MBPerSecond", "MessageAge"}


def test_numbers_that_are_not_finite_are_left_out() -> None:
    stream = io.StringIO()
    metrics = Metrics("N", stream, {})
    metrics.emit({"A": (float("nan"), "Count"), "B": (1, "Count"), "C": (float("inf"), "Count")})
    metrics.emit({"A": (float("-inf"), "Count")})
    (record,) = parse(stream.getvalue())
    conforms(record)
    assert record["B"] == 1
    assert not record.keys() & {"A", "C"}


def test_more_than_a_hundred_take_several_lines() -> None:
    stream = io.StringIO()
    Metrics("N", stream, {"Family": "f"}).emit({f"m{n}": (n, "Count") for n in range(250)})
    records = parse(stream.getvalue())
    for record in records:
        conforms(record)
    assert {name: record[name] for record in records for name in record if name.startswith("m")} == {
        f"m{n}": n for n in range(250)
    }


@pytest.mark.parametrize("name", ["", "x" * 256])
def test_name_that_cloudwatch_does_not_take(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 255 characters"):
        Metrics("N", io.StringIO(), {}).emit({name: (1, "Count")})


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=255), st.tuples(st.integers() | st.floats(), st.sampled_from([*UNITS]))
    ),
    st.dictionaries(st.sampled_from(["Family", "Outcome"]), st.text()),
    st.dictionaries(st.text(st.characters(codec="ascii"), min_size=1), JSON_OR_NOT),
)
def test_whatever_is_emitted_conforms(
    values: dict[str, tuple[float, str]], dimensions: dict[str, str], properties: dict[str, Any]
) -> None:
    stream = io.StringIO()
    values = {name: value for name, value in values.items() if name not in {"_aws", "Family", "Outcome"}}
    properties = {name: value for name, value in properties.items() if name not in {"self", "values", "by"}}
    Metrics("N", stream, {"Family": "f"}).emit(values, by=dimensions, **properties)
    for record in parse(stream.getvalue()):
        conforms(record)


# The task


@contextmanager
def agent(body: bytes, delay_s: float = 0) -> Iterator[str]:
    """A real server in the agent's place; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            time.sleep(delay_s)
            self.send_response(200 if self.path == "/v4/abc/task" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v4/abc"
        finally:
            server.shutdown()
            thread.join()


def test_task_is_known_from_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # which is of no concern to the agent
    with agent(b'{"TaskARN": "arn:aws:ecs:eu-west-1:1:task/c/1", "Family": "transform", "Revision": "3"}') as uri:
        read = read_task_metadata({"ECS_CONTAINER_METADATA_URI_V4": uri})
    assert read == TaskMetadata(arn="arn:aws:ecs:eu-west-1:1:task/c/1", family="transform")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"null", b'{"TaskARN": null}', b"\xff"])
def test_task_is_not_known_from_anything_else(body: bytes) -> None:
    with agent(body) as uri:
        assert read_task_metadata({"ECS_CONTAINER_METADATA_URI_V4": uri}) == TaskMetadata()
        assert read_task_metadata({"ECS_CONTAINER_METADATA_URI_V4": f"{uri}/else"}) == TaskMetadata()


@pytest.mark.parametrize(
    "uri", ["", "garbage", "file:///etc/passwd", "http://127.0.0.1:1/v4/abc", "http://[", "http://"]
)
def test_task_is_not_known_without_an_agent(uri: str) -> None:
    assert read_task_metadata({}) == TaskMetadata()
    assert read_task_metadata({"ECS_CONTAINER_METADATA_URI_V4": uri}) == TaskMetadata()


def test_agent_that_hangs_is_given_up() -> None:
    with agent(b"{}", delay_s=1) as uri:
        start = time.monotonic()
        assert read_task_metadata({"ECS_CONTAINER_METADATA_URI_V4": uri}, timeout_s=0.1) == TaskMetadata()
        assert time.monotonic() - start < 0.9


def test_timestamp_is_utc() -> None:
    stream = io.StringIO()
    make_logger("info", stream).info("x")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", parse(stream.getvalue())[0]["timestamp"])


@given(special_texts())
@example(EVIL)
def test_line_has_no_control_characters(text: str) -> None:
    stream = io.StringIO()
    make_logger("info", stream, key=text).info("done", reason=text)
    assert stream.getvalue().count("\n") == 1
    assert not_shown(stream.getvalue()) == set()
    assert json.loads(stream.getvalue())["key"] == text
