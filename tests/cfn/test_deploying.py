"""The targets of make, as processes on an AWS of our own, tried as somebody with several environments would."""

from __future__ import annotations

import json
import re
import shlex
import sys
import uuid
from typing import TYPE_CHECKING

import pexpect
import pytest
from botocore.exceptions import ClientError

from tests.support.account import REGION, account_in
from tests.support.deployment import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.account import Account

OTHER_REGION = "us-west-2"
TERMINAL_TIMEOUT_S = 60


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """An account with an image in it."""
    with account_in(tmp_path_factory.mktemp("account")) as account:
        account.environment["AWS_REGION"] = REGION
        account.run("make push")
        yield account


@pytest.fixture
def name() -> str:
    """A name for an environment of this test alone."""
    return f"test-{uuid.uuid4().hex[:8]}"


def write(account: Account, name: str, **values: str) -> None:
    """Write the file of an environment."""
    given = {"AWS_REGION": REGION, "VPC": "default", **values}
    lines = [f"{key}={value}\n" for key, value in given.items()]
    (account.clone / "cfn" / "environments" / f"{name}.env").write_text("".join(lines))


def done(account: Account, line: str, **exported: str) -> str:
    status, said = account.attempt(line, **exported)
    assert status == 0, said
    return said


def refused(account: Account, line: str, **exported: str) -> str:
    status, said = account.attempt(line, **exported)
    assert status == 2, said
    return said


def exists(account: Account, stack: str) -> bool:
    try:
        account.client("cloudformation").describe_stacks(StackName=stack)
    except ClientError:
        return False
    return True


def test_what_is_exported_means_something_else(account: Account, name: str) -> None:
    exported = {
        "CALCULATION": "path/file.py",
        "VPC": "vpc-of-another",
        "SUBNETS": "subnet-of-another",
        "STACK": "another",
        "ARCHITECTURE": "ARM64",
        "pMaxTasks": "77",
        "YES": "1",
    }
    assert "give YES=1" in refused(account, f"make deploy-fargate VPC=default STACK={name}", **exported)
    done(account, f"make deploy-fargate VPC=default STACK={name} YES=1", **exported)
    parameters = account.parameters_of(name)
    assert parameters["pCalculation"] == "/app/calculation.py"
    assert parameters["pArchitecture"] == "X86_64"
    assert parameters["pMaxTasks"] == "10"
    assert "another" not in parameters["pVPCId"] + parameters["pSubnetIds"]
    assert not exists(account, "another")


def test_values_reach_the_stack_as_they_are(account: Account, name: str) -> None:
    sql = """a * $b + "x y" || 'it''s' AS "c$(d)", `e` AS f"""
    line = f"make deploy-fargate VPC=default STACK={name} YES=1 pWhere={shlex.quote(sql)} CALCULATION='a AS b'"
    done(account, line)
    assert account.parameters_of(name)["pWhere"] == sql
    write(account, name, pWhere=sql, pCalculation="a AS b", pInputPrefix="'two words/'", STACK=name)
    said = done(account, f"make deploy-fargate ENV={name} YES=1")
    assert account.parameters_of(name)["pWhere"] == sql
    assert account.parameters_of(name)["pInputPrefix"] == "two words/"
    assert f"cfn/environments/{name}.env:5" in said, "where it comes from"


def test_environments_stay_apart(account: Account) -> None:
    write(account, "one", pMaxTasks="3")
    write(account, "two", pCalculation="a + 1 AS b")
    for name in ("one", "two"):
        done(account, f"make deploy-fargate ENV={name} YES=1")
    one, two = (account.parameters_of(f"jsonl-transform-{name}") for name in ("one", "two"))
    assert (one["pMaxTasks"], one["pCalculation"]) == ("3", "/app/calculation.py")
    assert (two["pMaxTasks"], two["pCalculation"]) == ("10", "a + 1 AS b")
    done(account, "make destroy ENV=one CONFIRM=jsonl-transform-one")
    assert not exists(account, "jsonl-transform-one")
    assert not exists(account, "jsonl-transform-one-monitoring")
    assert exists(account, "jsonl-transform-two")


def test_file_is_the_whole_truth(account: Account, name: str) -> None:
    write(account, name, pLogDays="3")
    done(account, f"make deploy-fargate ENV={name} YES=1 pRejectDays=5")
    parameters = account.parameters_of(f"jsonl-transform-{name}")
    assert (parameters["pLogDays"], parameters["pRejectDays"]) == ("3", "5")
    write(account, name)
    said = done(account, f"make deploy-fargate ENV={name} YES=1")
    parameters = account.parameters_of(f"jsonl-transform-{name}")
    assert (parameters["pLogDays"], parameters["pRejectDays"]) == ("30", "90")
    assert re.search(r"pLogDays +3 +30\n +pRejectDays +5 +90\n", said), said


def test_without_a_file_parameters_stay(account: Account, name: str) -> None:
    done(account, f"make deploy-fargate STACK={name} YES=1 VPC=default pMaxTasks=3 CALCULATION='a AS b'")
    done(account, f"make deploy-fargate STACK={name} YES=1 pMinTasks=1 TAGS='team=data cost=\"a b\"'")
    parameters = account.parameters_of(name)
    assert (parameters["pMinTasks"], parameters["pMaxTasks"], parameters["pCalculation"]) == ("1", "3", "a AS b")
    (found,) = account.client("cloudformation").describe_stacks(StackName=name)["Stacks"]
    assert {tag["Key"]: tag["Value"] for tag in found["Tags"]} == {"team": "data", "cost": "a b"}


@pytest.mark.parametrize(
    "command", ["push", "deploy-fargate YES=1", "status", "smoke", "destroy CONFIRM=jsonl-transform-x"]
)
def test_another_account_or_region_is_refused(account: Account, command: str) -> None:
    write(account, "x", AWS_ACCOUNT_ID="111122223333")
    said = refused(account, f"make {command} ENV=x")
    assert "of the account 000000000000" in said
    assert "AWS_ACCOUNT_ID (cfn/environments/x.env:3) is 111122223333" in said
    said = refused(account, f"make {command} ENV=x", AWS_REGION=OTHER_REGION)
    assert f"AWS_REGION is {OTHER_REGION} in your shell" in said
    assert not exists(account, "jsonl-transform-x")


def test_nothing_is_made_before_it_is_wanted(account: Account, name: str) -> None:
    write(account, name)
    line = f"make deploy-fargate ENV={name}"
    assert "this is not a terminal: give YES=1 to deploy without a question" in refused(account, line)
    terminal = pexpect.spawn(
        "bash", ["-c", line], cwd=account.clone, env=account.environment, encoding="utf-8", timeout=TERMINAL_TIMEOUT_S
    )
    terminal.expect(rf"Deploy this to jsonl-transform-{name}\?")
    for shown in ("account      000000000000", f"region       {REGION}", "calculation  docker/calculation.py", "Queue"):
        assert shown in terminal.before
    assert "calculation = Calculation(" in terminal.before, "the first lines of the calculation"
    assert ":" in terminal.before.partition("image        ")[2].split()[0], "the image's tag"
    terminal.sendline("n")
    terminal.expect("Nothing was changed")
    terminal.expect(pexpect.EOF)
    assert not exists(account, f"jsonl-transform-{name}")


def test_interruption_is_a_no(account: Account, name: str) -> None:
    write(account, name)
    line = f"make deploy-fargate ENV={name}"
    terminal = pexpect.spawn(
        "bash", ["-c", line], cwd=account.clone, env=account.environment, encoding="utf-8", timeout=TERMINAL_TIMEOUT_S
    )
    terminal.expect("Deploy this to")
    terminal.sendintr()
    terminal.expect(pexpect.EOF)
    wait_for(lambda: not exists(account, f"jsonl-transform-{name}"))


def test_waking_at_once_is_there_if_it_is_wanted(account: Account, name: str) -> None:
    stack, wake = f"jsonl-transform-{name}", f"jsonl-transform-{name}-wake"
    write(account, name, pWakeAtOnce="true")
    said = done(account, f"make deploy-fargate ENV={name} YES=1")
    assert f"{wake} is created" in said
    assert exists(account, wake)
    done(account, f"make deploy-fargate STACK={stack} YES=1")
    assert exists(account, wake), "as it is, if nothing is said of it"
    write(account, name)
    assert "give YES=1" in refused(account, f"make deploy-fargate ENV={name}")
    assert f"{wake} is deleted" in done(account, f"make deploy-fargate ENV={name} YES=1")
    assert not exists(account, wake)
    done(account, f"make deploy-fargate ENV={name} YES=1 pWakeAtOnce=true")
    done(account, f"make destroy ENV={name} CONFIRM={stack}")
    assert not exists(account, wake)


def test_stack_is_deleted_by_its_name_only(account: Account, name: str) -> None:
    write(account, name)
    done(account, f"make deploy-fargate ENV={name} YES=1")
    stack = f"jsonl-transform-{name}"
    assert f"give CONFIRM={stack}" in refused(account, f"make destroy ENV={name}")
    assert f"give CONFIRM={stack}" in refused(account, f"make destroy ENV={name} YES=1")
    assert "nothing was deleted" in refused(account, f"make destroy ENV={name} CONFIRM=jsonl-transform")
    line = f"make destroy ENV={name}"
    for typed, gone in (("y", False), (stack, True)):
        terminal = pexpect.spawn(
            "bash",
            ["-c", line],
            cwd=account.clone,
            env=account.environment,
            encoding="utf-8",
            timeout=TERMINAL_TIMEOUT_S,
        )
        terminal.expect(rf"type the name of the stack \({stack}\)")
        assert "the queues with their messages" in terminal.before
        terminal.sendline(typed)
        terminal.expect(pexpect.EOF)
        assert exists(account, stack) is not gone


def test_smoke_compares_with_what_was_meant(account: Account, name: str) -> None:
    write(account, name, pCalculation="stars * 2 AS twice", pInputPrefix="in/", pInputSuffix=".jsonl")
    done(account, f"make deploy-fargate ENV={name} YES=1")
    write(account, name, pCalculation="stars * 3 AS thrice", pInputPrefix="in/", pInputSuffix=".jsonl")
    said = refused(account, f"make smoke ENV={name}")
    assert "stars * 2 AS twice" in said
    assert "stars * 3 AS thrice" in said
    done(account, f"make deploy-fargate ENV={name} YES=1")
    account.learn(f"jsonl-transform-{name}")
    account.start_worker()
    try:
        assert "good: s3://" in done(account, f"make smoke ENV={name}")
    finally:
        account.stop_workers()


def test_smoke_finds_an_output_by_the_template_of_its_key(account: Account, name: str) -> None:
    write(account, name, pCalculation="stars * 2 AS twice", pOutputKey="{date:%Y}/{stem}.out.zst", pOutputPrefix="o/")
    done(account, f"make deploy-fargate ENV={name} YES=1")
    account.learn(f"jsonl-transform-{name}")
    account.start_worker()
    try:
        assert re.search(
            r"good: s3://\S+/o/20\d\d/yelp_businesses-\S+\.out\.zst is", done(account, f"make smoke ENV={name}")
        )
    finally:
        account.stop_workers()


def test_smoke_notices_that_the_clone_has_changed(account: Account, name: str) -> None:
    write(account, name)
    done(account, f"make deploy-fargate ENV={name} YES=1")
    calculation = account.clone / "docker" / "calculation.py"
    before = calculation.read_text()
    calculation.write_text(f"{before}\n# changed\n")
    try:
        assert "docker/ or the program has changed since" in refused(account, f"make smoke ENV={name}")
        assert "make push first" in refused(account, f"make deploy-fargate ENV={name} YES=1")
    finally:
        calculation.write_text(before)


def test_calculation_that_is_not_in_the_image_is_refused(account: Account, name: str) -> None:
    write(account, name)
    said = refused(account, f"make deploy-fargate ENV={name} YES=1 CALCULATION=work/old.py:f")
    assert "not in the image: put the file into docker/, and give /app/old.py" in said
    said = refused(account, f"make deploy-fargate ENV={name} YES=1 CALCULATION=/app/old.py")
    assert "there is no docker/old.py" in said
    assert not exists(account, f"jsonl-transform-{name}")


def test_image_that_a_command_did_not_find_is_not_another_one(account: Account, name: str) -> None:
    write(account, name)
    assert "IMAGE (the command line) is empty" in refused(
        account, f'make deploy-fargate ENV={name} YES=1 IMAGE="$(false)"'
    )


def test_the_other_kind_of_stack_is_refused(account: Account, name: str) -> None:
    write(account, name)
    done(account, f"make deploy-fargate ENV={name} YES=1")
    said = refused(account, f"make deploy-ec2 ENV={name} YES=1")
    assert f"jsonl-transform-{name} was made by make deploy-fargate" in said


def test_ec2(account: Account, name: str) -> None:
    write(account, name, pInstanceType="c7g.xlarge", ARCHITECTURE="ARM64")
    done(account, f"make push deploy-ec2 ENV={name} YES=1")
    assert account.parameters_of(f"jsonl-transform-{name}")["pInstanceType"] == "c7g.xlarge"
    assert "0 waiting" in done(account, f"make status ENV={name}")
    done(account, f"make destroy ENV={name} CONFIRM=jsonl-transform-{name}")


def test_commands_that_are_printed_are_those_that_are_run(account: Account, name: str) -> None:
    said = done(
        account, f"make deploy-fargate STACK={name} VPC=default YES=1 pWhere=\"a = 'b c'\" CALCULATION='a AS b'"
    )
    made = next(line for line in said.splitlines() if line.startswith("$ aws cloudformation create-change-set"))
    words = shlex.split(made)
    parameters = json.loads(words[words.index("--parameters") + 1])
    assert {"ParameterKey": "pWhere", "ParameterValue": "a = 'b c'"} in parameters
    words[words.index("--stack-name") + 1] = f"{name}-again"
    done(account, f"AWS_DEFAULT_REGION={REGION} {shlex.join(words[1:])}")
    assert exists(account, f"{name}-again")


def test_help_lists_the_commands(account: Account) -> None:
    said = done(account, f"{sys.executable} -m cfn --help")
    for command in ("image", "push", "deploy", "status", "smoke", "destroy"):
        assert f"\n  {command} " in said
