"""The command lines of the documents do what they are shown to do, each run as it stands there, on an AWS of our own.

Those that begin with `transform` are run by test_docs.py, as they need no AWS. A new line is run from the moment it is
there: it fails until it works here, is given what stands for its places, or is among the exceptions.
"""

from __future__ import annotations

import itertools
import re
import signal
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore import xform_name

from runner.cli import cli as runner
from tests.conftest import ROOT
from tests.support import documents
from tests.support.account import KEY, account_in, deploy, furnish
from tests.support.documents import LINES, Line
from transform.cli import cli as transform

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.account import Account

EXCEPTIONS = {
    r"make install": "has made the environment that this runs in, which takes minutes and a network",
    r"make test(-slow)?": "runs the tests, and would never end",
    r"make lint test": "runs the tests, and would never end",
    r"\.venv/bin/python -m pytest .*": "runs tests in a test; test_docs.py looks at the files that they name",
    r"make docs": "has an environment of its own, which takes minutes and a network; CI runs it",
    r"make bench": "measures for many minutes, alone on a machine",
    r"make simulate( .*)?": "simulates for many minutes; tests/simulation runs what it runs",
    r"make lock": "asks for the newest versions, which are others every day",
    r"aws logs tail( .*)?": "is in version 2 of the CLI only, which no package brings, and ministack takes every "
    "filter for one that all lines pass",
    r"\.venv/bin/pip install jupyterlab": "takes a network, for what no other line needs",
    r"docker compose .*": "needs Docker; tests/docker has what can be said of the file without",
    r"runner redrive --reason": "names the option, without a value; other lines have it with one",
}
"""What is not run, and why."""

PLACES: list[tuple[str, Callable[[Account], str]]] = [
    ("INPUT-BUCKET", lambda account: account.told["oInputBucket"]),
    ("OUTPUT-BUCKET", lambda account: account.told["oOutputBucket"]),
    ("DEAD-LETTER-QUEUE-URL", lambda account: account.told["oDeadLetterQueueUrl"]),
    ("s3://BUCKET/PREFIX", lambda account: f"s3://{account.told['oInputBucket']}/raw/"),
    ("--since …", lambda _: "--since 2026-01-01"),
    ("--reason …", lambda _: "--reason 'TEXT OF THE REASON'"),
    ("path/file.py", lambda _: "docker/calculation.py"),
    ('/output/KEY"', lambda _: '/"'),
    ("--alarm-name …", lambda _: "--alarm-name jsonl-transform-DeadLetters"),
    ("cancel KEY", lambda _: f"cancel {KEY}"),
    (":REVISION", lambda _: ":1"),
    ("cp cfn/environments/example.env", lambda _: "printf 'AWS_ACCOUNT_ID=000000000000\\nVPC=default\\n' >"),
]
"""What stands for something else in the lines, and for what."""

ENDLESS = {
    "CALCULATION=old.py runner demo in.jsonl --stay": signal.SIGINT,
    "runner worker": signal.SIGTERM,
    "runner status --watch": signal.SIGINT,
}
"""What goes on until it is ended, and how that is done."""

SAYS_SOMETHING = ("output ", "aws s3 cp s3:", "aws sqs receive", "aws ecs describe", "make ", "runner status")
"""What a line begins with that is there to be read."""


def bare(line: Line) -> str:
    """Return a line without the comment after it."""
    return re.sub(r"\s+#.*", "", line.text)


def excepted(line: Line) -> bool:
    return any(re.fullmatch(pattern, bare(line), re.DOTALL) for pattern in EXCEPTIONS)


def session_of(line: Line) -> str:
    """Return which lines are run in one shell: all of a page, or of a chapter of the README."""
    name = str(line.document.relative_to(ROOT))
    return f"{name}, {line.section}" if name == "README.md" else name


README_QUEUE = "README.md, Transform what arrives in a bucket"
RUN = [line for line in LINES if not (line.only_names or excepted(line) or line.program == "transform")]
SESSIONS = {name: list(lines) for name, lines in itertools.groupby(RUN, session_of)}
NETWORK = [bare(line) for line in RUN if line.section == "In your account" and line.text.startswith("export ")]


def test_lines_are_found() -> None:
    assert {
        "README.md, Transform what arrives in a bucket",
        "docs/deployment.md",
        "docs/worker.md",
        "docs/operations.md",
    } <= SESSIONS.keys()
    assert len(RUN) > 30
    assert {"aws", "make", "runner", "export", "output", "output()", "image()", "image", "eval", "python", "cp"} == {
        line.program for line in RUN
    }


def test_lines_are_found_wherever_they_stand(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(
        "# Page\n\nSee `aws s3\nls` and `select`:\n\n    make a  # why\n    $ run b \\\n      c\n    {}\n\n"
        "1. One:\n\n       new d\n\nAnd:\n\n    import e\n\n```python\nf()\n```\n\n## Two\n\n| `runner g --h` |\n"
    )
    found = [(line.section, line.text, line.in_sentence) for line in documents.lines(tmp_path / "page.md")]
    assert found == [
        ("Page", "aws s3 ls", True),
        ("Page", "make a  # why", False),
        ("Page", "run b \\\n      c", False),
        ("Page", "new d", False),
        ("Two", "runner g --h", True),
    ]


@pytest.mark.parametrize("pattern", EXCEPTIONS)
def test_exception_is_still_there(pattern: str) -> None:
    assert any(re.fullmatch(pattern, bare(line), re.DOTALL) for line in LINES)


@pytest.mark.parametrize("place", [place for place, _ in PLACES])
def test_place_is_still_there(place: str) -> None:
    assert any(place in line.text for line in RUN)


@pytest.mark.parametrize(
    "line", {line.text: line for line in LINES if line.only_names and not excepted(line)}.values(), ids=bare
)
def test_command_that_a_sentence_names_is_there(line: Line) -> None:
    program, name, *more = line.text.split()
    match program:
        case "transform" | "runner":
            command = {"transform": transform, "runner": runner}[program]
            assert name in command.commands or any(name in option.opts for option in command.params)
        case "make":
            assert re.search(rf"^{name}:.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case _:
            service = {"s3api": "s3"}.get(name, name)
            operations = boto3.client(service, region_name="us-east-1").meta.service_model.operation_names
            assert more[0] in {xform_name(operation, "-") for operation in operations}


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with account_in(tmp_path) as account:
        (account.clone / "YOUR.jsonl").write_bytes((ROOT / "sample_data" / "yelp_businesses.json").read_bytes())
        yield account


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SESSIONS)
def test_lines_do_what_they_are_shown_to_do(name: str, account: Account) -> None:
    if name in {README_QUEUE, "docs/worker.md"}:
        furnish(account)
    if name == "docs/migration.md":
        (account.clone / "in.jsonl").write_bytes(b'{"a":1}\n')
        (account.clone / "old.py").write_text("def calculation(json_obj):\n    return json_obj | {'b': 1}\n")
    if name == "docs/operations.md":
        deploy(account, NETWORK)
    for line in SESSIONS[name]:
        run(line, account)


def run(line: Line, account: Account) -> None:
    """Run a line, and look at what there is to see of it."""
    text = bare(line)
    for place, found in PLACES:
        if place in text:
            text = text.replace(place, found(account))
    if text in ENDLESS:
        account.run_until_it_speaks(text, ENDLESS[text])
        return
    prepare(text, account)
    said = account.run(answered(text))
    if re.search(r"make .*deploy-", text) and "ENV=" not in text:
        account.learn()
        account.start_worker()
    if text.startswith(SAYS_SOMETHING):
        assert said.strip(), text
    if text.startswith("runner redrive") and "--dry-run" not in text:
        assert account.queues
        assert account.queues.letters() == 0, said


def answered(text: str) -> str:
    """Return a line that asks, with the answer that is typed in a terminal."""
    if not text.startswith("make "):
        return text
    return text + " YES=1" * ("deploy-" in text) + " CONFIRM=jsonl-transform" * ("destroy" in text)


def prepare(text: str, account: Account) -> None:
    """See to what a line needs that the reader would have waited for."""
    if "destroy" in text:
        account.stop_workers()
    if "/output/raw/YOUR.jsonl" in text:
        account.wait_for_object(account.told["oOutputBucket"], "output/raw/YOUR.jsonl")
    if "receive-message" in text:
        account.client("sqs").send_message(QueueUrl=account.told["oDeadLetterQueueUrl"], MessageBody="no event")
