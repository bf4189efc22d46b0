"""Single requests to SQS, with failures as errors of `runner.errors`; and queues found by their name, URL or ARN."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from runner.errors import DeniedError, LeaseLostError, QueueError, RunnerError, SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping


_DENIED = {"AccessDenied", "AuthorizationError", "NotAuthorized", "UnauthorizedOperation"}
_MISSING = {"NonExistentQueue", "QueueDoesNotExist"}
_MISNAMED = {"InvalidAddress", "InvalidParameterValue", "InvalidQueueName"}
_LOST = {
    *("InvalidIdFormat", "InvalidParameterCombination", "InvalidParameterValue"),
    *("MessageNotInflight", "ReceiptHandleIsInvalid"),
}
_ON_LEASE = {"ChangeMessageVisibility", "DeleteMessage"}


def ask_sqs(client: Any, operation: str, url: str, **arguments: Any) -> Any:
    """Return the answer to a request about a queue.

    Args:
        client: A boto3 client of SQS.
        operation: The operation, as boto3 names it.
        url: The URL of the queue.
        arguments: The other arguments, as boto3 names them.

    Raises:
        DeniedError, LeaseLostError, QueueError: The request failed.
    """
    queue = url.rpartition("/")[2]
    try:
        return getattr(client, operation)(QueueUrl=url, **arguments)
    except ClientError as error:
        raise to_error(error.response, error.operation_name, queue) from error
    except (BotoCoreError, RuntimeError) as error:  # the latter if refreshed credentials have expired already
        raise QueueError(f"queue {queue}: {operation} failed: {error}") from error


def to_error(response: Mapping[str, Any], operation: str, queue: str) -> RunnerError:
    """Return the error for an answer of SQS."""
    code, said = _code_of(response), text_of(response)
    if code.lower().startswith("kms") and "throttl" not in code.lower():
        needed = "kms:Decrypt" if operation == "ReceiveMessage" else "kms:GenerateDataKey and kms:Decrypt"
        return DeniedError(f"sqs:{operation} on queue {queue} is denied by its key, which takes {needed}: {said}")
    if code in _DENIED:
        action = operation.removesuffix("Batch")  # IAM has no actions for batches
        return DeniedError(f"sqs:{action} on queue {queue} is denied: allow it to the role of the worker ({said})")
    handle_expired = "receipt handle" in said.lower() and "expired" in said.lower()
    if operation in _ON_LEASE and (code in _LOST or handle_expired):
        return LeaseLostError(f"queue {queue}: the message is no longer this worker's: {said}")
    return QueueError(f"queue {queue}: {operation} failed: {said}")


def _code_of(response: Mapping[str, Any]) -> str:
    """Return the code of an error without the namespace and suffix that a protocol adds; `KMS.` stays."""
    code = str(response.get("Error", {}).get("Code", "")).rpartition("#")[2].removesuffix("Exception")
    return code if code.startswith("KMS.") else code.rpartition(".")[2]


def names_no_queue(response: Mapping[str, Any]) -> bool:
    """Return whether SQS has answered that there is no queue of a name, or that the name is not valid."""
    return _code_of(response) in _MISSING | _MISNAMED


def text_of(response: Mapping[str, Any]) -> str:
    """Return the code and the message of an error."""
    error = response.get("Error", {})
    return f"{error.get('Code', 'no code')}: {error.get('Message', 'no message')}"


_ARN = re.compile(r"arn:[\w-]+:sqs:(?P<region>[\w-]+):(?P<account>\d+):(?P<name>[\w.-]+)", re.ASCII)


def find_queue(client: Any, name: str, what: str) -> tuple[str, dict[str, str]]:
    """Return the URL and the attributes of a queue.

    Args:
        client: A boto3 client of SQS.
        name: The name, URL or ARN of the queue.
        what: What the queue is called in errors.

    Raises:
        SettingsError: It does not exist, is not accessible, or is a FIFO queue.
        QueueError: A request to SQS failed.
    """
    try:
        url = _locate(client, name, what)
        if name_of(url).endswith(".fifo"):
            raise SettingsError(
                f"{what} {name} is a FIFO queue, which drops a copy handed over as a duplicate: use a standard queue"
            )
        # "All", because asking for the redrive policy of a queue without one may be an error.
        return url, client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]).get("Attributes", {})
    except ClientError as error:
        if names_no_queue(error.response):
            raise SettingsError(
                f"there is no {what} {name} in {client.meta.region_name}, or you have no permission to see it"
                f" ({text_of(error.response)}): check its name, account and region"
            ) from error
        refusal = to_error(error.response, error.operation_name, name)
        if isinstance(refusal, DeniedError):
            raise SettingsError(f"{what} {name}: {refusal}") from error
        raise refusal from error
    except NoCredentialsError:
        raise SettingsError(
            f"{what} {name}: no AWS credentials found. Give the task a role, or set AWS_PROFILE. "
            "(`runner demo FILE` needs none.)"
        ) from None
    except BotoCoreError as error:
        raise QueueError(f"{what} {name} cannot be looked up: {error}") from error


def _locate(client: Any, name: str, what: str) -> str:
    if name.startswith(("http://", "https://")):
        return name.rstrip("/")
    if not name.startswith("arn:"):
        return str(client.get_queue_url(QueueName=name)["QueueUrl"])
    arn = _ARN.fullmatch(name)
    if not arn:
        raise SettingsError(f"{what} {name}: expected arn:aws:sqs:REGION:ACCOUNT:NAME, a URL, or a name")
    if arn["region"] != client.meta.region_name:  # the other region may have a queue of this name, too
        raise SettingsError(
            f"{what} {name} is in {arn['region']}, and the worker in {client.meta.region_name}: set AWS_REGION"
        )
    return str(client.get_queue_url(QueueName=arn["name"], QueueOwnerAWSAccountId=arn["account"])["QueueUrl"])


def read_redrive_policy(name: str, policy: str | None) -> tuple[str, int | None]:
    """Return the ARN of a queue's dead-letter queue and its maxReceiveCount; "" and None without a policy.

    Raises:
        SettingsError: The policy cannot be read.
    """
    if not policy:
        return "", None
    try:
        read = json.loads(policy)
        return str(read["deadLetterTargetArn"]), int(read["maxReceiveCount"])
    except (ValueError, TypeError, KeyError):
        raise SettingsError(f"queue {name} has a RedrivePolicy that cannot be read: {policy[:200]}") from None


def name_of(url: str) -> str:
    """Return the name of a queue, given its URL."""
    return url.rpartition("/")[2]
