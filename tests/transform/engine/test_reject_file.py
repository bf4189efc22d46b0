"""Rejected lines are kept where they can be found, never beside an output they do not belong to."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.conftest import environment_with
from tests.support.example import ARGUMENTS, CALCULATION, lines, transformed
from tests.support.places import OLD, FilePlace, ObjectPlace
from tests.support.proxy import Refuse, proxy_of
from transform import Calculation, InputError, OutputError, RejectedError
from transform.engine.reject_file import default_target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.conftest import Command
    from tests.support.places import Place

SUFFIX = ".rejects.jsonl"
BAD = b"no JSON\n"


def rejected(*places: tuple[int, int]) -> list[dict[str, Any]]:
    """Return what is to be kept of lines of `BAD`, given their offsets and numbers, but for the reason."""
    return [{"offset": offset, "line": line, "raw": BAD.decode().rstrip()} for offset, line in places]


def kept(content: bytes | None) -> list[dict[str, Any]]:
    """Return what was kept, but for the reason."""
    assert content is not None
    records = [json.loads(line) for line in content.splitlines()]
    for record in records:
        assert "not valid JSON" in record.pop("reason")
    return records


def appending_to(path: Path) -> Callable[[int, int | None], None]:
    """Return a progress callback that changes the input."""

    def progress(_done: int, _total: int | None) -> None:
        with path.open("ab") as file:
            file.write(b"\n")

    return progress


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "input.jsonl"


@pytest.fixture(params=["file", "object"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Place, Place]:
    """An output and the rejects beside it."""
    if request.param == "file":
        (tmp_path / "out").mkdir()
        path = tmp_path / "out" / "output.jsonl"
        return FilePlace(path), FilePlace(path.with_name(path.name + SUFFIX))
    s3, bucket, scratch = (request.getfixturevalue(name) for name in ("s3", "bucket", "scratch"))
    return ObjectPlace(s3, bucket, scratch), ObjectPlace(s3, bucket, scratch, f"some/output.jsonl{SUFFIX}")


def there(places: tuple[Place, Place]) -> tuple[bytes | None, bytes | None]:
    """Return the output and the rejects, having made sure that nothing else is there."""
    output, rejects = places
    assert len(output.others()) == (0 if rejects.content() is None else 1)
    return output.content(), rejects.content()


@pytest.mark.parametrize("old", [OLD, None], ids=["over those of an earlier run", "new"])
def test_rejects_are_kept_beside_the_output(places: tuple[Place, Place], old: bytes | None, source: Path) -> None:
    output, rejects = places
    if old is not None:
        output.put(old)
        rejects.put(old)
    first, blank, last = lines(2), b"\n", b"no JSON"
    source.write_bytes(first + BAD + blank + lines(1) + last)
    summary = CALCULATION.run(source, output.target)
    content, records = there(places)
    assert content == transformed(2) + transformed(1)
    stop = len(first + BAD + blank + lines(1))
    assert kept(records) == rejected((len(first), 3), (stop, 6))
    assert (summary.rejects, summary.rejected) == (rejects.target, 2)


def test_rejects_of_an_earlier_run_go_when_there_are_none_any_more(places: tuple[Place, Place], source: Path) -> None:
    output, rejects = places
    output.put(OLD)
    rejects.put(OLD)
    source.write_bytes(lines(3))
    assert CALCULATION.run(source, output.target).rejects is None
    assert there(places) == (transformed(3), None)


def test_rejects_of_an_earlier_run_stay_when_the_run_fails(places: tuple[Place, Place], source: Path) -> None:
    output, rejects = places
    output.put(OLD)
    rejects.put(OLD)
    source.write_bytes(lines(3))
    with pytest.raises(InputError, match="changed while it was read"):
        CALCULATION.run(source, output.target, progress=appending_to(source))
    assert there(places) == (OLD, OLD)


def test_rejects_are_kept_when_the_run_then_fails(places: tuple[Place, Place], source: Path) -> None:
    output, rejects = places
    output.put(OLD)
    rejects.put(OLD)
    source.write_bytes(lines(3) + BAD)
    with pytest.raises(InputError, match=rf"changed while it was read.*\. The rejected lines are in {rejects.target}$"):
        CALCULATION.run(source, output.target, progress=appending_to(source))
    content, records = there(places)
    assert content == OLD
    assert kept(records) == rejected((len(lines(3)), 4))


def test_rejects_go_where_they_are_wanted(places: tuple[Place, Place], source: Path, tmp_path: Path) -> None:
    output, rejects = places
    rejects.put(OLD)
    source.write_bytes(lines(3) + BAD)
    elsewhere = tmp_path / "rejects.jsonl.gz"
    summary = CALCULATION.run(source, output.target, rejects=elsewhere)
    assert summary.rejects == str(elsewhere)
    assert kept(gzip.decompress(elsewhere.read_bytes())) == rejected((len(lines(3)), 4))
    assert there(places) == (transformed(3), OLD), "what is not this run's place is not touched"


def test_on_error_fail_stops_at_the_first(places: tuple[Place, Place], source: Path) -> None:
    output, rejects = places
    output.put(OLD)
    source.write_bytes(lines(3) + BAD + lines(5) + BAD)
    message = rf"^line 4 \(offset {len(lines(3))}\) was rejected, .*The rejected lines are in {rejects.target}$"
    with pytest.raises(RejectedError, match=message):
        CALCULATION.run(source, output.target, on_error="fail")
    content, records = there(places)
    assert content == OLD
    assert kept(records) == rejected((len(lines(3)), 4))


@pytest.mark.parametrize(
    ("most", "fails"), [(0, True), (2, True), ("2", True), (3, False), ("100", False), (None, False)]
)
def test_max_rejects_is_how_many_a_run_bears(most: int | str | None, fails: bool, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "output"
    source.write_bytes(lines(3) + 3 * BAD)
    if fails:
        with pytest.raises(RejectedError, match=r"^line "):
            CALCULATION.run(source, target, max_rejects=most)
        assert not target.exists()
    else:
        CALCULATION.run(source, target, max_rejects=most)
        assert target.read_bytes() == transformed(3)
    found = kept((tmp_path / f"output{SUFFIX}").read_bytes())
    assert len(found) == (min(int(most) + 1, 3) if most is not None else 3)


INEXACT = (29, 57, 58)
"""Shares that are a little less than they should be when multiplied as floats: 0.29 * 100 < 29."""


@pytest.mark.parametrize(
    "percent",
    [0, 1, 5, 7, 14, 28, *INEXACT, 50, 99],
)
def test_max_rejects_is_the_share_that_a_run_bears(percent: int, source: Path, tmp_path: Path) -> None:
    target = tmp_path / "output"
    source.write_bytes(BAD * percent + lines(100 - percent))
    CALCULATION.run(source, target, max_rejects=f"{percent}%")
    assert target.read_bytes() == transformed(100 - percent)
    target.write_bytes(OLD)
    source.write_bytes(BAD * (2 * percent + 1) + lines(200 - 2 * percent - 1))
    with pytest.raises(RejectedError, match=rf"^{2 * percent + 1} of 200 lines were rejected, more than"):
        CALCULATION.run(source, target, max_rejects=f"{percent}%")
    assert target.read_bytes() == OLD


def test_a_share_is_of_the_lines_that_are_not_blank(source: Path, tmp_path: Path) -> None:
    calculation = CALCULATION.filter(pl.col("a") > 0)
    source.write_bytes(lines(2) + BAD + 90 * b"\n")  # one of three, a filtered one among them
    calculation.run(source, tmp_path / "output", max_rejects="34%")
    with pytest.raises(RejectedError, match="1 of 3 lines were rejected"):
        calculation.run(source, tmp_path / "output", max_rejects="33%")


@pytest.mark.parametrize(
    "calculation",
    [CALCULATION, Calculation.from_sql("a + 1 AS b")],
    ids=["declared", "to be inferred"],
)
@pytest.mark.parametrize("after", [b"", b"\n \n"], ids=["", "and blank ones"])
def test_a_run_of_nothing_but_rejects_fails_and_keeps_them(
    calculation: Calculation, after: bytes, places: tuple[Place, Place], source: Path
) -> None:
    output, _ = places
    output.put(OLD)
    source.write_bytes(BAD * 2 + after)
    with pytest.raises(RejectedError, match=r"^every line was rejected \(2 × not valid JSON\)"):
        calculation.run(source, output.target)
    content, records = there(places)
    assert content == OLD
    assert kept(records) == rejected((0, 1), (len(BAD), 2))


@pytest.mark.parametrize("content", [b"", b"\n", b" \r\n\n"])
def test_an_input_without_lines_is_an_output_without_any_whatever_is_computed(
    content: bytes, source: Path, tmp_path: Path
) -> None:
    source.write_bytes(content)
    Calculation.from_sql("a + 1 AS b, upper(c) AS d", where="e").run(source, tmp_path / "output")
    assert (tmp_path / "output").read_bytes() == b""


def test_filtered_lines_and_rejects_are_not_nothing_but_rejects(source: Path, tmp_path: Path) -> None:
    source.write_bytes(lines(1) + BAD)
    CALCULATION.filter(pl.col("a") > 5).run(source, tmp_path / "output")
    assert (tmp_path / "output").read_bytes() == b""
    assert kept((tmp_path / f"output{SUFFIX}").read_bytes()) == rejected((len(lines(1)), 2))


def test_rejects_are_published_before_the_output(
    aws: str, s3: Any, bucket: str, scratch: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = ObjectPlace(s3, bucket, scratch)
    rejects = ObjectPlace(s3, bucket, scratch, output.key + SUFFIX)
    output.put(OLD)
    source.write_bytes(lines(3) + BAD)
    with proxy_of(aws) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        proxy.rule = lambda r: (
            Refuse(403, "AccessDenied") if (r.operation, r.key) == ("PutObject", output.key) else None
        )
        with pytest.raises(OutputError, match=f"^{output.target}: access denied"):
            CALCULATION.run(source, output.target)
        assert output.content() == OLD
        assert kept(rejects.content()) == rejected((len(lines(3)), 4))
        proxy.rule = lambda r: (
            Refuse(403, "AccessDenied") if (r.operation, r.key) == ("PutObject", rejects.key) else None
        )
        rejects.put(OLD)
        with pytest.raises(OutputError, match=f"^{rejects.target}: access denied"):
            CALCULATION.run(source, output.target)
        assert (output.content(), rejects.content()) == (OLD, OLD)


def test_rejects_that_cannot_be_removed_fail_the_run_before_the_output_is_published(
    source: Path, tmp_path: Path
) -> None:
    output, rejects = FilePlace(tmp_path / "output"), tmp_path / f"output{SUFFIX}"
    output.put(OLD)
    rejects.mkdir()
    source.write_bytes(lines(3))
    with pytest.raises(OutputError, match=f"^{rejects}: is a directory$"):
        CALCULATION.run(source, output.target)
    assert output.content() == OLD


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("a/output.jsonl", "a/output.jsonl.rejects.jsonl"),
        ("output.jsonl.gz", "output.jsonl.gz.rejects.jsonl"),
        ("s3://bucket/key", "s3://bucket/key.rejects.jsonl"),
        ("-", None),
        ("/dev/null", None),
        (sys.stdout.buffer, None),
    ],
)
def test_where_rejects_go_by_default(target: Any, expected: str | None) -> None:
    assert default_target(target) == expected


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ((), 3),
        (("--max-rejects", "24.9%"), 1),
        (("--on-error", "fail"), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_the_exit_status_tells_of_rejects(
    options: tuple[str, ...], status: int, source: Path, tmp_path: Path, command: Command
) -> None:
    source.write_bytes(lines(3) + BAD)
    done = command("run", source, "output", *options, *ARGUMENTS)
    assert b"Traceback" not in done.stderr
    assert (done.returncode, done.stdout) == (status, b"")
    assert (tmp_path / "output").exists() == (status == 3)
    assert kept((tmp_path / f"output{SUFFIX}").read_bytes()) == rejected((len(lines(3)), 4))
    assert (done.stderr == b"") == (status == 3)


MEMORY = """
import resource, sys
from tests.support.example import CALCULATION

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

CALCULATION.run(sys.argv[1], sys.argv[3], workers=1)
before = peak()
CALCULATION.run(sys.argv[2], sys.argv[3], workers=1)
print(peak() - before)
"""


def test_memory_does_not_grow_with_the_number_of_rejects(tmp_path: Path) -> None:
    few, many = tmp_path / "few", tmp_path / "many"
    line = b"no JSON" + b"x" * 4000 + b"\n"
    few.write_bytes(lines(1) + line * 2000)
    many.write_bytes(lines(1) + line * 20_000)  # 76 MiB
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, few, many, tmp_path / "output"],
        capture_output=True,
        env=environment_with({}),
        check=True,
    )
    assert len((tmp_path / f"output{SUFFIX}").read_bytes().splitlines()) == 20_000
    assert int(done.stdout) < 24 << 20
