"""What to deploy comes from the command line and the file of an environment, both of which are checked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cfn import environment_file
from cfn.account import connect
from cfn.environment import ONLY_OF_THE_COMMAND_LINE, Environment, read_environment, worker_settings
from cfn.environment_file import read_file
from cfn.messages import DeployError
from cfn.template import KINDS, read_template
from tests.cfn.templates import load

if TYPE_CHECKING:
    from pathlib import Path

PARAMETERS = [*read_template("ecs-fargate").parameters]


def read(text: str, directory: Path) -> dict[str, str]:
    path = directory / "prod.env"
    path.write_text(text)
    return {name: value.text for name, value in read_file(path).items()}


def environment(*arguments: str, directory: Path = environment_file.DIRECTORY) -> Environment:
    return read_environment(arguments, PARAMETERS, directory)


def refused(*arguments: str, directory: Path = environment_file.DIRECTORY) -> str:
    with pytest.raises(DeployError) as error:
        environment(*arguments, directory=directory)
    return str(error.value)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        ("A = 1 ", "1"),
        ("A=", ""),
        ("A=''", ""),
        ("A=two words", "two words"),
        ("A=' kept '", " kept "),
        ('A="it\'s"', "it's"),
        ("A=state = 'NV' AND x = \"y\"", "state = 'NV' AND x = \"y\""),
        ("A=a * $b + ${c} + `d` + \\n", "a * $b + ${c} + `d` + \\n"),
        ('A={"LOG_LEVEL": "debug", "n": "$x"}', '{"LOG_LEVEL": "debug", "n": "$x"}'),
        ("A=a=b=c", "a=b=c"),
        ("A=a#b", "a#b"),
        ("A='a #b'", "a #b"),
        ("A=größe", "größe"),
        ("A=x\u2028C=y\x85D=z\x0cE=", "x\u2028C=y\x85D=z\x0cE="),
    ],
)
def test_value_is_what_stands_there(tmp_path: Path, line: str, value: str) -> None:
    assert read(f"# a comment\n\n{line}\r\n  # another\nB=2\n", tmp_path) == {"A": value, "B": "2"}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("A=1\nA=2\n", "prod.env:2: A was set before, at "),
        ("\nnonsense\n", "prod.env:2: expected NAME=value, found 'nonsense'"),
        ("export A=1\n", "Leave `export` out"),
        ("A=4 # tasks\n", "`#` after white space may be meant as a comment"),
        ("A='NV' = state AND city = 'Reno'\n", "the value starts and ends with ' and contains it"),
    ],
)
def test_line_that_may_be_meant_otherwise_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(DeployError) as error:
        read(text, tmp_path)
    assert complaint in str(error.value)


def test_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prod.env").write_bytes(b"A=\xff\n")
    with pytest.raises(DeployError, match="is not UTF-8"):
        read_file(tmp_path / "prod.env")


def test_command_line_counts_more_than_the_file(tmp_path: Path) -> None:
    (tmp_path / "prod.env").write_text("pMaxTasks=9\npMinTasks=1\nTAGS=a=1\nVPC=vpc-1\n")
    found = environment("ENV=prod", "pMaxTasks=4", directory=tmp_path)
    assert found.parameters == {"pMaxTasks": "4", "pMinTasks": "1", "pVPCId": "vpc-1"}
    assert found.places["pMaxTasks"] == "the command line"
    assert found.places["pMinTasks"].endswith("prod.env:2")
    assert (found.stack, found.tags) == ("jsonl-transform-prod", {"a": "1"})


def test_each_environment_has_a_stack_of_its_own(tmp_path: Path) -> None:
    for name in ("dev", "prod"):
        (tmp_path / f"{name}.env").write_text("pMaxTasks=1\n")
    stacks = {
        environment(*given, directory=tmp_path).stack
        for given in ([], ["ENV=dev"], ["ENV=prod"], ["ENV=dev", "STACK=mine"])
    }
    assert stacks == {"jsonl-transform", "jsonl-transform-dev", "jsonl-transform-prod", "mine"}


def test_unknown_environment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "prod.env").write_text("")
    assert "Did you mean prod?" in refused("ENV=prd", directory=tmp_path)
    assert "ENV is expected to be a name" in refused("ENV=../prod", directory=tmp_path)


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ("pMaxTask=4", "Did you mean pMaxTasks"),
        ("maxtasks=4", "is neither a parameter"),
        ("MAX_LINE_BYTE=1MiB", "Did you mean MAX_LINE_BYTES"),
        ("Stack=x", "Did you mean STACK"),
        ("SQS_BATCH_QUEUE=q", "SQS_BATCH_QUEUE (the command line) is not to be set: the stack creates the queue"),
        ("METRICS_NAMESPACE=x", "the alarms watch the one in the template"),
        ("PARAMETERS=pMaxTasks=5", "give each parameter on its own"),
        ("STACK=a b", "STACK (the command line) is expected to be a name"),
        (f"STACK={'a' * 118}", "is expected to be a name of up to 117 letters"),
        ("AWS_ACCOUNT_ID=1", "expected to be 12 digits, not '1'"),
        ("AWS_REGION=Frankfurt", "expected to be a region such as eu-central-1"),
        ("YES=yes", "YES (the command line) is expected to be 1"),
        ("ARCHITECTURE=arm", "expected to be X86_64 or ARM64"),
        ("TAGS=team", "TAGS (the command line) is expected to be like team=data"),
        ("TAGS=a='b", "No closing quotation"),
        ("pSettings=[1]", "pSettings is expected to be a JSON object such as"),
        ('pSettings={"WORKERS": true}', "pSettings is expected to be a JSON object such as"),
        ("pSettings={", "pSettings is expected to be a JSON object"),
        (f"pSettings={'[' * 100_000}", "pSettings is expected to be a JSON object"),
        ('pSettings={"LOG_LEVEL": "debug", "LOG_LEVEL": "info"}', "pSettings has LOG_LEVEL twice"),
        ("ENV=", "ENV is empty"),
        ("TAGS=a=\udcff", r"TAGS is not UTF-8: 'a=\udcff'"),
        ("STACK=prod-monitoring", "the name prod-monitoring is reserved for a stack beside prod"),
        ("STACK=jsonl-transform-wake", "does not end in -wake"),
        ('pSettings={"LOGLEVEL": "debug"}', "LOGLEVEL (pSettings) is neither"),
        ('pSettings={"WHERE": "a > 1"}', "set WHERE with the parameter pWhere, not in pSettings"),
        ("deploy", "expected NAME=value, found 'deploy'"),
    ],
)
def test_wrong_names_and_values_are_refused(given: str, complaint: str) -> None:
    assert complaint in refused(given)


@pytest.mark.parametrize("name", sorted(ONLY_OF_THE_COMMAND_LINE - {"ENV"}))
def test_file_does_not_answer_for_whoever_deploys(tmp_path: Path, name: str) -> None:
    (tmp_path / "prod.env").write_text(f"{name}=1\n")
    assert "belongs on the command line" in refused("ENV=prod", directory=tmp_path)


def test_one_parameter_under_two_names_is_refused(tmp_path: Path) -> None:
    assert "pVPCId is given twice" in refused("VPC=vpc-1", "pVPCId=vpc-2")
    (tmp_path / "prod.env").write_text("VPC=vpc-1\n")
    assert environment("ENV=prod", "pVPCId=vpc-2", directory=tmp_path).parameters["pVPCId"] == "vpc-2"


def test_settings_of_the_worker_become_one_parameter() -> None:
    given = environment("MAX_LINE_BYTES=64MiB", "LOG_LEVEL=debug", "WHERE=a > 1", "CALCULATION=a AS b")
    parameters = given.parameters_for(read_template("ecs-fargate"))
    assert json.loads(parameters.pop("pSettings")) == {"LOG_LEVEL": "debug", "MAX_LINE_BYTES": "64MiB"}
    assert parameters == {"pWhere": "a > 1", "pCalculation": "a AS b"}
    both = environment('pSettings={"LOG_LEVEL": "debug"}', "RETRY_MIN_S=5").parameters_for(read_template("ecs-fargate"))
    assert json.loads(both["pSettings"]) == {"LOG_LEVEL": "debug", "RETRY_MIN_S": "5"}
    assert "LOG_LEVEL is in pSettings, and given on its own" in refused(
        'pSettings={"LOG_LEVEL":"info"}', "LOG_LEVEL=debug"
    )


def test_settings_that_are_not_given_stay_with_the_parameters() -> None:
    template, kept = read_template("ecs-fargate"), {"pSettings": '{"DROP":"email","LOG_LEVEL":"info"}', "pLogDays": "3"}
    given = environment("LOG_LEVEL=debug", "SELECT=").parameters_for(template, kept)
    assert json.loads(given["pSettings"]) == {"DROP": "email", "LOG_LEVEL": "debug", "SELECT": ""}
    assert environment("pSettings={}", "LOG_LEVEL=debug").parameters_for(template, kept) == {
        "pSettings": '{"LOG_LEVEL":"debug"}'
    }
    assert "pSettings" not in environment("pMaxTasks=2").parameters_for(template, kept)


def test_no_environment_has_the_name_of_a_stack_beside_another(tmp_path: Path) -> None:
    (tmp_path / "monitoring.env").write_text("")
    assert "jsonl-transform-monitoring is reserved" in refused("ENV=monitoring", directory=tmp_path)


def test_settings_with_which_the_worker_would_not_start_are_refused() -> None:
    for given, complaint in {
        "MAX_LINE_BYTES=huge": "MAX_LINE_BYTES: found 'huge', expected a size",
        "WHERE=a > 1": "WHERE: found 'a > 1', expected it not to be set",
    }.items():
        parameters = {
            **read_template("ecs-fargate").defaults,
            **environment(given).parameters_for(read_template("ecs-fargate")),
        }
        with pytest.raises(DeployError, match="the worker would not start") as error:
            worker_settings(parameters)
        assert complaint in str(error.value)


def test_parameter_of_the_other_template_is_refused() -> None:
    names = {name for kind in KINDS for name in read_template(f"ecs-{kind}").parameters}
    given = read_environment(["pInstanceType=c7g.large"], names)
    assert given.parameters_for(read_template("ecs-ec2")) == {"pInstanceType": "c7g.large"}
    with pytest.raises(DeployError, match=r"pInstanceType .* is not a parameter of ecs-fargate\.yaml"):
        given.parameters_for(read_template("ecs-fargate"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_reads_the_parameters_as_cloudformation_does(kind: str) -> None:
    assert read_template(f"ecs-{kind}").parameters == load(kind)["Parameters"]


def test_example_is_valid() -> None:
    example = environment("ENV=example")
    assert {"pVPCId", "pSubnetIds", "pCalculation"} <= example.parameters.keys()
    path = environment_file.path_of("example")
    commented = [
        line.removeprefix("# ") for line in path.read_text().splitlines() if line.startswith("# ") and "=" in line
    ]
    known = [line for line in commented if line.split("=")[0].isidentifier()]
    assert len(known) > 5
    for line in known:
        environment(line)


@pytest.mark.parametrize("variable", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_region_of_the_shell_has_to_be_that_of_the_environment(variable: str) -> None:
    given = environment("AWS_REGION=eu-central-1")
    with pytest.raises(DeployError, match=f"{variable} is us-east-1 in your shell, and AWS_REGION is eu-central-1"):
        connect(given, {variable: "us-east-1"})


def test_region_of_the_command_line_has_to_be_that_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "prod.env").write_text("AWS_REGION=eu-central-1\n")
    assert "AWS_REGION is us-east-1 on the command line and eu-central-1 at" in refused(
        "ENV=prod", "AWS_REGION=us-east-1", directory=tmp_path
    )
