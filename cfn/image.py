"""The worker's image: its tag, which says what is in it, how it is built, and what ECR has of it."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfn.messages import DeployError, show_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cfn.account import Account
    from cfn.environment import Environment

ROOT = Path(__file__).parents[1]
IN_THE_IMAGE = "/app/"
"""Where the files of docker/ are."""
DEFAULT_REPOSITORY = "jsonl-transform"
DEFAULT_ARCHITECTURE = "X86_64"
_PLATFORMS = {"X86_64": "linux/amd64", "ARM64": "linux/arm64"}
_OF_CALCULATIONS = {".py", ".csv", ".json", ".jsonl"}
_NOT_IN_THE_IMAGE = ("*.pyc", "libkernel.*", "powers.h*")
_TAG_CHARACTERS = 12


def tag_of(architecture: str, base: str = "", root: Path = ROOT) -> str:
    """Return the tag of the image of a clone, which is another one whenever something in the image is.

    So another calculation is another tag, and its deployment an update.
    """
    hashed = hashlib.sha256(f"{architecture} {base}\n".encode())
    for path in sorted(_parts(root)):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        hashed.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return hashed.hexdigest()[:_TAG_CHARACTERS]


def _parts(root: Path) -> Iterator[Path]:
    for folder in ("transform", "runner"):
        for path in (root / folder).rglob("*"):
            if path.is_file() and not any(path.match(pattern) for pattern in _NOT_IN_THE_IMAGE):
                yield path
    yield from (path for path in (root / "docker").iterdir() if path.suffix in _OF_CALCULATIONS)
    for name in ("docker/Dockerfile", "pyproject.toml", "requirements-run.lock", "requirements-build.lock"):
        yield root / name


def local_tag(environment: Environment, architecture: str | None = None) -> str:
    """Return the tag of what this clone holds, for the architecture of the environment or another one."""
    chosen = architecture or environment.architecture or DEFAULT_ARCHITECTURE
    return tag_of(chosen, environment.options.get("BASE", ""))


def repository_of(environment: Environment) -> str:
    """Return the name of the ECR repository."""
    return environment.options.get("REPOSITORY") or DEFAULT_REPOSITORY


def pushed_image(account: Account, environment: Environment, architecture: str) -> str | None:
    """Return the URI of the image of what this clone holds, None if it is not in ECR."""
    ecr, name, tag = account.client("ecr"), repository_of(environment), local_tag(environment, architecture)
    try:
        uri = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryUri"]
        there = ecr.describe_images(repositoryName=name, imageIds=[{"imageTag": tag}])["imageDetails"]
    except (ecr.exceptions.RepositoryNotFoundException, ecr.exceptions.ImageNotFoundException):
        return None
    return f"{uri}:{tag}" if there else None


def build(environment: Environment) -> None:
    """Build the image, as `latest` too."""
    engine, name = _engine(environment), repository_of(environment)
    tagged = f"{name}:{local_tag(environment)}"
    _build(engine, environment, tagged)
    _run(engine, "tag", tagged, f"{name}:latest")


def push(account: Account, environment: Environment) -> str:
    """Build the image and push it to ECR, whose repository is created the first time; return its URI."""
    engine, name, ecr = _engine(environment), repository_of(environment), account.client("ecr")
    try:
        found = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
    except ecr.exceptions.RepositoryNotFoundException:
        show_command(
            *("aws", "ecr", "create-repository", "--repository-name", name),
            *("--image-scanning-configuration", "scanOnPush=true"),
        )
        found = ecr.create_repository(repositoryName=name, imageScanningConfiguration={"scanOnPush": True})[
            "repository"
        ]
    uri = f"{found['repositoryUri']}:{local_tag(environment)}"
    _build(engine, environment, uri)
    _log_in(engine, ecr, uri.partition("/")[0])
    _run(engine, "push", uri)
    return uri


def _log_in(engine: str, ecr: Any, registry: str) -> None:
    (given,) = ecr.get_authorization_token()["authorizationData"]
    user, _, password = base64.b64decode(given["authorizationToken"]).decode().partition(":")
    _run(engine, "login", "--username", user, "--password-stdin", registry, stdin=password)


def _build(engine: str, environment: Environment, name: str) -> None:
    base, options = environment.options.get("BASE"), []
    if base:
        options += ["--build-arg", f"BASE={base}"]
    if os.environ.get("PIP_INDEX_URL"):  # pip's own variable; its value may hold a password
        options += ["--build-arg", "PIP_INDEX_URL"]
    if Path(engine).name == "podman":
        options += ["--format", "docker"]  # the other format has no health checks
    _run(
        *(engine, "build", "--platform", _PLATFORMS[environment.architecture or DEFAULT_ARCHITECTURE]),
        *("--file", "docker/Dockerfile", "--tag", name),
        *("--build-arg", f"VERSION={name.rpartition(':')[2]}", "--build-arg", f"REVISION={_revision()}"),
        *(*options, "."),
    )


def _revision() -> str:
    git = shutil.which("git")
    command = [git or "git", "rev-parse", "HEAD"]
    done = git and subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done and done.returncode == 0 else "unknown"


def _engine(environment: Environment) -> str:
    engine = environment.options.get("ENGINE") or "docker"
    if not shutil.which(engine):
        raise DeployError(f"there is no {engine} command here: install Docker, or give ENGINE=podman")
    if subprocess.run([engine, "info"], capture_output=True, check=False).returncode:  # noqa: S603 # named by the user
        raise DeployError(f"{engine} does not answer: is it running, and may you use it?")
    return engine


def _run(*command: str, stdin: str | None = None) -> None:
    """Run a command of the engine in the clone, after showing it."""
    show_command(*command)
    _execute(command, stdin)


def _execute(command: Sequence[str], stdin: str | None) -> None:
    done = subprocess.run(command, cwd=ROOT, input=stdin, text=True, check=False)  # noqa: S603 # named by the user
    if done.returncode:
        raise DeployError(f"{' '.join(command[:2])} has failed, with exit status {done.returncode}")
