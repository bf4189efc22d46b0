"""What SQS answers when it does not do what it was asked for, as our errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from runner.errors import DeniedError, LeaseLostError, QueueError, RunnerError

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
        client: Of SQS, from boto3.
        operation: As boto3 names it.
        url: Of the queue.
        arguments: As boto3 names them.

    Raises:
        DeniedError, LeaseLostError, QueueError: What SQS answered instead.
    """
    queue = url.rpartition("/")[2]
    try:
        return getattr(client, operation)(QueueUrl=url, **arguments)
    except ClientError as error:
        raise to_error(error.response, error.operation_name, queue) from error
    except (BotoCoreError, RuntimeError) as error:  # the latter where new credentials have expired already
        raise QueueError(f"queue {queue}: {operation} failed: {error}") from error


def to_error(response: Mapping[str, Any], operation: str, queue: str) -> RunnerError:
    """Return the error of ours for what SQS has answered."""
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
    """Return the error's code without the namespaces and suffixes that protocols add; those of KMS begin with `KMS`."""
    code = str(response.get("Error", {}).get("Code", "")).rpartition("#")[2].removesuffix("Exception")
    return code if code.startswith("KMS.") else code.rpartition(".")[2]


def names_no_queue(response: Mapping[str, Any]) -> bool:
    """Return whether SQS has answered that there is no queue of a name, or that it is none."""
    return _code_of(response) in _MISSING | _MISNAMED


def text_of(response: Mapping[str, Any]) -> str:
    """Return what SQS has said."""
    error = response.get("Error", {})
    return f"{error.get('Code', 'no code')}: {error.get('Message', 'no message')}"
