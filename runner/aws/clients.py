"""Clients of AWS services, as the environment's AWS settings say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, NoRegionError

from runner.errors import SettingsError

if TYPE_CHECKING:
    from botocore.config import Config


def make_client(service: str, region: str | None, config: Config) -> Any:
    """Return a boto3 client.

    Raises:
        SettingsError: The AWS settings are not all there, or name what is not: a region, a profile, an endpoint.
    """
    try:
        return boto3.client(service, region_name=region, config=config)
    except NoRegionError:
        raise SettingsError("no AWS region is set: set AWS_REGION, as in AWS_REGION=eu-central-1") from None
    except (BotoCoreError, ValueError) as error:  # the latter where the endpoint is no URL
        raise SettingsError(f"the AWS settings of this environment cannot be used: {error}") from error
