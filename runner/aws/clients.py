"""Clients of botocore, with timeouts and retries that suit their users: the worker, notifications, operators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.config import Config
from botocore.exceptions import BotoCoreError, NoRegionError

from runner.errors import SettingsError

if TYPE_CHECKING:
    from runner.settings import Settings

_WORKER_CONNECT_TIMEOUT_S, _WORKER_ANSWER_TIMEOUT_S = 5, 10
_WORKER_TRIES = 4
_NOTIFICATION_CONNECT_TIMEOUT_S, _NOTIFICATION_ANSWER_TIMEOUT_S = 1.0, 2.0
_NOTIFICATION_TRIES = 2  # the first finds out that an idle connection was closed
_OPERATOR_TRIES = 5
_OPERATOR_CONNECTIONS = 16


def worker_client(service: str, settings: Settings) -> Any:
    """Return a client that gives up before the jobs of the worker would suffer.

    Raises:
        SettingsError: An AWS setting is missing, or names something that does not exist.
    """
    config = Config(
        connect_timeout=_WORKER_CONNECT_TIMEOUT_S,
        read_timeout=settings.poll_wait_s + _WORKER_ANSWER_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": _WORKER_TRIES},
    )
    return _make(service, settings.region, config)


def notification_client(service: str, name: str, settings: Settings) -> Any:
    """Return a client for a topic or a bus, in the region of its ARN, that gives up within seconds.

    Raises:
        SettingsError: An AWS setting is missing, or names something that does not exist.
    """
    region = name.split(":")[3] if name.startswith("arn:") else settings.region
    config = Config(
        connect_timeout=_NOTIFICATION_CONNECT_TIMEOUT_S,
        read_timeout=_NOTIFICATION_ANSWER_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": _NOTIFICATION_TRIES},
    )
    return _make(service, region, config)


def operator_client(service: str, settings: Settings) -> Any:
    """Return a client that retries for as long as a person would wait.

    Raises:
        SettingsError: An AWS setting is missing, or names something that does not exist.
    """
    retries = {"mode": "standard", "total_max_attempts": _OPERATOR_TRIES}
    return _make(service, settings.region, Config(retries=retries, max_pool_connections=_OPERATOR_CONNECTIONS))


def _make(service: str, region: str | None, config: Config) -> Any:
    # boto3 itself takes 0.1 s to import. Job processes import this file, and need no such client.
    from botocore.session import Session  # noqa: PLC0415

    try:
        return Session().create_client(service, region_name=region, config=config)
    except NoRegionError:
        raise SettingsError("no AWS region is set: set AWS_REGION, as in AWS_REGION=eu-central-1") from None
    except (BotoCoreError, ValueError) as error:  # the latter if the endpoint is not a URL
        raise SettingsError(f"the AWS settings of this environment cannot be used: {error}") from error
