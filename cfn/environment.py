"""What to deploy, and where: one validated value, from the command line and the file of an environment.

Of the exported variables, only those that AWS's own tools read are used: profile, credentials and region.
"""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cfn.environment_file import DIRECTORY, Value, path_of, read_file
from cfn.messages import DeployError, did_you_mean
from cfn.template import COMPANIONS
from runner import setting_texts
from runner.errors import SettingsError
from runner.settings import Settings
from runner.settings_variable import PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from cfn.template import Template

DEFAULT_STACK = "jsonl-transform"
COMMAND_LINE = "the command line"

NOT_TO_BE_SET = {
    "SQS_BATCH_QUEUE": "the stack creates the queue, or pQueueArn names it",
    "BACKFILL_QUEUE": "the stack creates the queue",
    "HMAC_KEY": "give pHmacKeyArn instead, the ARN of the secret that has the key",
    "SETTINGS": "give each setting on its own, or pSettings",
    "AWSRegion": "give AWS_REGION instead",
    "AWS_DEFAULT_REGION": "give AWS_REGION instead",
    "s3InputBucket": "give pInputBucket instead",
    "s3OutputBucket": "give pOutputBucket instead",
    "SQSBatchQueue": "the stack creates the queue, or pQueueArn names it",
    "DEAD_LETTER_QUEUE": "the stack creates the queue, or pDeadLetterQueueArn names it",
    "REJECTS_PREFIX": "the worker's role allows rejects/ only",
    "CHECKPOINT_PREFIX": "the worker's role allows checkpoints/ only",
    "WORKERS": "it follows from pCpu",
    "METRICS_NAMESPACE": "the alarms watch the one in the template",
    "HEALTH_FILE": "the root file system is read-only except for /tmp",
    "PARAMETERS": "give each parameter on its own, as in make deploy-fargate pMaxTasks=50",
}
"""Names that are not to be set, and why."""
ALIASES = {
    "VPC": "pVPCId",
    "SUBNETS": "pSubnetIds",
    "IMAGE": "pDockerImage",
    "ARCHITECTURE": "pArchitecture",
    **{name: parameter for name, parameter in PARAMETERS.items() if name not in NOT_TO_BE_SET},
}
"""Other names of parameters, most of which are those of settings."""
OF_THE_FILE = {"STACK", "AWS_REGION", "AWS_ACCOUNT_ID", "AWS_PROFILE", "TAGS", "REPOSITORY", "BASE", "pWakeAtOnce"}
ONLY_OF_THE_COMMAND_LINE = {"ENV", "YES", "CONFIRM", "ENGINE", "BUCKET", "OUTPUT_BUCKET", "WAIT_S"}
GUARDS = {"AWS_REGION", "AWS_ACCOUNT_ID"}
"""Variables whose values in the file the command line may not override."""

_SETTINGS = {name for told in Settings.model_fields.values() for name in setting_texts.names_of(told)}
_PATTERNS = {
    "STACK": (re.compile(r"[A-Za-z][A-Za-z0-9-]{0,116}"), "a name of up to 117 letters, digits and hyphens"),
    "AWS_ACCOUNT_ID": (re.compile(r"[0-9]{12}"), "12 digits"),
    "AWS_REGION": (re.compile(r"[a-z0-9]+(-[a-z0-9]+)+"), "a region such as eu-central-1"),
    "YES": (re.compile("1?"), "1"),
    "pWakeAtOnce": (re.compile("true|false"), "true or false"),
    "WAIT_S": (re.compile(r"[0-9]{1,6}"), "a number of seconds"),
    "pArchitecture": (re.compile("X86_64|ARM64"), "X86_64 or ARM64"),
}
_TAG = re.compile(r"([^=]{1,128})=(.{0,256})")


@dataclass(frozen=True)
class Environment:
    """What to deploy, and where.

    Attributes:
        name: That of the file, None without one.
        options: What is for the commands, such as `STACK`.
        parameters: Parameters of the template that were given, in full and without settings.
        settings: Settings of the worker that have no parameter.
        tags: Tags of the stack; None if not given.
        places: Where each value was found, by its name.
    """

    name: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    @property
    def stack(self) -> str:
        """The name of the stack; that of each environment is another one, unless it is given."""
        return self.options.get("STACK") or (f"{DEFAULT_STACK}-{self.name}" if self.name else DEFAULT_STACK)

    @property
    def architecture(self) -> str | None:
        """What images are built for, None if it is not said."""
        return self.parameters.get("pArchitecture")

    def parameters_for(self, template: Template, kept: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
        """Return the parameters to give to a template, settings among them.

        Args:
            template: The template.
            kept: The parameters that stay as they are if they are not given. So do settings: with one of them, the
                others that the stack has stay.

        Raises:
            DeployError: The template has no such parameter.
        """
        known = template.parameters
        for name in self.parameters:
            if name not in known:
                raise DeployError(
                    f"{name} ({self.places[name]}) is not a parameter of {template.path.name}."
                    f"{did_you_mean(name, known)}"
                )
        if not self.settings:
            return dict(self.parameters)
        given = self.parameters.get("pSettings", kept.get("pSettings"))
        return {**self.parameters, "pSettings": _compact({**_settings_of(given), **self.settings})}


def read_environment(arguments: Iterable[str], parameters: Iterable[str], directory: Path = DIRECTORY) -> Environment:
    """Return what NAME=value arguments, and the file of the environment that they name, say.

    Args:
        arguments: The arguments; what they say counts more than the file.
        parameters: The names of all parameters of all templates.
        directory: Where the files of environments are.

    Raises:
        DeployError: A name is not known, or a value is not valid.
    """
    known = set(parameters)
    given = _from_arguments(arguments)
    name = given["ENV"].text if "ENV" in given else None
    in_file = read_file(path_of(name, directory)) if name else {}
    for values, allowed in ((given, OF_THE_FILE | ONLY_OF_THE_COMMAND_LINE), (in_file, OF_THE_FILE)):
        for key, value in values.items():
            _check_name(key, value, known, allowed)
    given, in_file = _in_full(given), _in_full(in_file)
    for key in GUARDS & given.keys() & in_file.keys():
        if given[key].text != in_file[key].text:
            raise DeployError(
                f"{key} is {given[key].text} on the command line and {in_file[key].text} at {in_file[key].place}"
            )
    values = {**in_file, **given}
    for key, (pattern, expected) in _PATTERNS.items():
        if key in values and not pattern.fullmatch(values[key].text):
            raise DeployError(f"{key} ({values[key].place}) is expected to be {expected}, not {values[key].text!r}")
    tags = _tags(values["TAGS"]) if "TAGS" in values else None
    environment = Environment(
        name,
        {key: value.text for key, value in values.items() if key in OF_THE_FILE | ONLY_OF_THE_COMMAND_LINE},
        {key: value.text for key, value in values.items() if key in known},
        {key: value.text for key, value in values.items() if key in _SETTINGS and key not in OF_THE_FILE},
        tags,
        {key: value.place for key, value in values.items()},
    )
    _check_settings(environment)
    _check_stack(environment.stack)
    return environment


def _check_stack(name: str) -> None:
    """Refuse the name of a stack that belongs to another deployment."""
    for ending in COMPANIONS:
        if name.endswith(f"-{ending}"):
            raise DeployError(
                f"the name {name} is reserved for a stack beside {name.removesuffix(f'-{ending}')}: choose a name that "
                f"does not end in -{ending}"
            )


def _from_arguments(arguments: Iterable[str]) -> dict[str, Value]:
    found = {}
    for argument in arguments:
        name, sign, text = argument.partition("=")
        if not sign:
            raise DeployError(f"expected NAME=value, found {argument!r}")
        if re.search("[\ud800-\udfff]", argument):
            raise DeployError(f"{name} is not UTF-8: {text!r}")
        found[name] = Value(text, COMMAND_LINE)
    if "ENV" in found and not found["ENV"].text:
        raise DeployError("ENV is empty: give the name of an environment, or leave ENV out")
    return {name: value for name, value in found.items() if value.text or name not in ONLY_OF_THE_COMMAND_LINE}


def _check_name(name: str, value: Value, parameters: set[str], options: set[str]) -> None:
    if name in NOT_TO_BE_SET:
        raise DeployError(f"{name} ({value.place}) is not to be set: {NOT_TO_BE_SET[name]}")
    if name in options or name in ALIASES or name in parameters or name in _SETTINGS:
        return
    if name in ONLY_OF_THE_COMMAND_LINE:
        raise DeployError(
            f"{name} ({value.place}) belongs on the command line of make: a file should not answer for you"
        )
    known = [*options, *ALIASES, *parameters, *(_SETTINGS - NOT_TO_BE_SET.keys())]
    raise DeployError(
        f"{name} ({value.place}) is neither a parameter of the templates nor a setting of the worker nor a variable of "
        f"these commands.{did_you_mean(name, known)} docs/deployment.md lists them"
    )


def _in_full(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return the values with the full names of parameters."""
    found: dict[str, Value] = {}
    for name, value in values.items():
        full = ALIASES.get(name, name)
        if full in found:
            raise DeployError(f"{full} is given twice, under two names: {found[full].place} and {value.place}")
        found[full] = value
    return found


def _tags(value: Value) -> dict[str, str]:
    try:
        found = [_TAG.fullmatch(part) for part in shlex.split(value.text)]
    except ValueError as error:
        raise DeployError(f"TAGS ({value.place}): {error}") from None
    if not all(found):
        raise DeployError(f"TAGS ({value.place}) is expected to be like team=data cost=42, not {value.text!r}")
    return {tag[1]: tag[2] for tag in found if tag}


def _settings_of(text: str | None) -> dict[str, str]:
    """Return the settings in `pSettings`."""
    twice: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        twice.extend(name for number, (name, _) in enumerate(pairs) if name in dict(pairs[:number]))
        return dict(pairs)

    try:
        found = json.loads(text or "{}", object_pairs_hook=members)
    except (ValueError, RecursionError) as error:
        raise DeployError(f"pSettings is expected to be a JSON object: {error}") from None
    if twice:
        raise DeployError(f"pSettings has {' and '.join(twice)} twice")
    if not isinstance(found, dict) or not all(type(value) in {str, int, float} for value in found.values()):
        raise DeployError(f'pSettings is expected to be a JSON object such as {{"LOG_LEVEL": "debug"}}, not {text}')
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}


def _compact(settings: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(settings.items())), separators=(",", ":"), ensure_ascii=False) if settings else ""


def worker_settings(parameters: Mapping[str, str]) -> Settings:
    """Return the settings of the worker that parameters of the template lead to, with made-up names of what it creates.

    Raises:
        DeployError: Some are wrong.
    """
    inputs = parameters.get("pInputBucket") or "input"
    made_up = {"S3_INPUT_BUCKET": inputs, "S3_OUTPUT_BUCKET": "output", "SQS_BATCH_QUEUE": "queue"}
    told = {name: parameters[full] for name, full in ALIASES.items() if name in _SETTINGS and full in parameters}
    try:
        return Settings.read({**_settings_of(parameters.get("pSettings")), **told, **made_up})
    except SettingsError as error:
        raise DeployError(f"the worker would not start:\n{error}") from None


def _check_settings(environment: Environment) -> None:
    for name, text in _settings_of(environment.parameters.get("pSettings")).items():
        _check_name(name, Value(text, "pSettings"), set(), set())
        if name in ALIASES:
            raise DeployError(f"set {name} with the parameter {ALIASES[name]}, not in pSettings")
        if environment.settings.get(name, text) != text:
            raise DeployError(f"{name} is in pSettings, and given on its own ({environment.places[name]})")
