"""What SQS refuses, and which attributes a receive returns: checks that need nothing but the request."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_BYTES = 1 << 20
_MAX_ENTRIES = 10
_MAX_ATTRIBUTES = 10
_MAX_NAME_CHARACTERS = 256
_BYTES_PER_CHARACTER = 4  # at most
_NAMESPACE = "AWS.SimpleQueueService."

_NOT_ALLOWED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ALLOWED = "the set of allowed characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF"
_ENTRY_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_ATTRIBUTE_NAME = re.compile(r"(?!(?i:aws|amazon)\.)(?!\.)[A-Za-z0-9_.-]+(?<!\.)")
_TYPE = re.compile(r"(String|Number|Binary)(\..+)?", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


class RefusedError(Exception):
    """The answer to a request, or to an entry of a batch, that fails.

    Args:
        code: Its error code.
        message: Its message.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message

    def to_entry(self, entry_id: str) -> dict[str, Any]:
        """Return it as a failed entry of a batch."""
        return {"Id": entry_id, "SenderFault": True, "Code": self.code, "Message": self.message}


def invalid_value(name: str, value: object, reason: str) -> RefusedError:
    """Return the error for the value of a parameter."""
    return RefusedError("InvalidParameterValue", f"Value {value} for parameter {name} is invalid. Reason: {reason}")


def check_range(name: str, value: int, low: int, high: int) -> int:
    """Return a number; raise if it is out of its range."""
    if not low <= value <= high:
        raise invalid_value(name, value, f"Must be between {low} and {high}, if provided.")
    return value


def size_of(message: Mapping[str, Any]) -> int:
    """Return the size of a message as SQS counts it: the bytes of the body, and of each attribute's name and values."""
    size = len(message["MessageBody"].encode(errors="surrogatepass"))
    for name, value in (message.get("MessageAttributes") or {}).items():
        texts = (name, *value.values())
        size += sum(len(text.encode(errors="surrogatepass") if isinstance(text, str) else text) for text in texts)
    return size


def check_message(message: Mapping[str, Any], max_bytes: int = MAX_BYTES) -> None:
    """Raise if a message cannot be sent."""
    body: str = message["MessageBody"]
    attributes: Mapping[str, Mapping[str, Any]] = message.get("MessageAttributes") or {}
    if not body:
        raise RefusedError("MissingParameter", "The request must contain the parameter MessageBody.")
    _check_characters(body, "message body")
    if len(attributes) > _MAX_ATTRIBUTES:
        text = f"Number of message attributes [{len(attributes)}] exceeds the allowed maximum [{_MAX_ATTRIBUTES}]."
        raise RefusedError("InvalidParameterValue", text)
    characters = len(body) + sum(_check_attribute(name, value) for name, value in attributes.items())
    if characters * _BYTES_PER_CHARACTER > max_bytes and size_of(message) > max_bytes:
        text = f"One or more parameters are invalid. Reason: Message must be shorter than {max_bytes} bytes."
        raise RefusedError("InvalidParameterValue", text)


def _check_characters(text: str, where: str) -> None:
    if not text.isascii() or not text.isprintable():
        bad = _NOT_ALLOWED.search(text)
        if bad:
            found = f"Invalid binary character '#x{ord(bad[0]):X}' was found in the {where}, {_ALLOWED}"
            raise RefusedError("InvalidMessageContents", found)


def _check_attribute(name: str, value: Mapping[str, Any]) -> int:
    """Return the number of characters of a message attribute; raise if it is refused."""
    _check_name(name)
    kind = _kind_of(value.get("DataType", ""))
    content = value.get("BinaryValue" if kind == "Binary" else "StringValue")
    if not content:
        text = f"Message (user) attribute '{name}' must contain a non-empty value of type '{kind}'."
        raise RefusedError("InvalidParameterValue", text)
    if kind == "Number" and not _NUMBER.fullmatch(content):
        text = f"Message (user) attribute '{name}' has a value that is not a number."
        raise RefusedError("InvalidParameterValue", text)
    if kind != "Binary":
        _check_characters(content, "value of a message attribute")
    return len(name) + len(value["DataType"]) + len(content)


@lru_cache(maxsize=256)
def _check_name(name: str) -> None:
    if not _ATTRIBUTE_NAME.fullmatch(name) or ".." in name or len(name) > _MAX_NAME_CHARACTERS:
        raise RefusedError("InvalidParameterValue", f"The message attribute name '{name}' is invalid.")


@lru_cache(maxsize=256)
def _kind_of(data_type: str) -> str:
    """Return the type of a message attribute without its custom label."""
    kind = _TYPE.fullmatch(data_type)
    if kind is None:
        text = f"The type of message (user) attribute '{data_type}' is invalid. Expected String, Number or Binary."
        raise RefusedError("InvalidParameterValue", text)
    return kind[1]


def check_batch(entries: Sequence[Mapping[str, Any]]) -> None:
    """Raise if a batch is refused as a whole."""
    if not entries:
        raise RefusedError(f"{_NAMESPACE}EmptyBatchRequest", "There should be at least one entry in the request.")
    if len(entries) > _MAX_ENTRIES:
        text = f"Maximum number of entries per request are {_MAX_ENTRIES}. You have sent {len(entries)}."
        raise RefusedError(f"{_NAMESPACE}TooManyEntriesInBatchRequest", text)
    ids = [entry["Id"] for entry in entries]
    if not all(map(_ENTRY_ID.fullmatch, ids)):
        text = "A batch entry id can only contain alphanumeric characters, hyphens and underscores, at most 80."
        raise RefusedError(f"{_NAMESPACE}InvalidBatchEntryId", text)
    if len({*ids}) < len(ids):
        raise RefusedError(f"{_NAMESPACE}BatchEntryIdsNotDistinct", "Two or more batch entries have the same Id.")


def check_batch_size(size: int) -> None:
    """Raise if the messages of a batch are too large together."""
    if size > MAX_BYTES:
        text = f"Batch requests cannot be longer than {MAX_BYTES} bytes. You have sent {size} bytes."
        raise RefusedError(f"{_NAMESPACE}BatchRequestTooLong", text)


def select_attributes(attributes: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return the message attributes with one of the names, or with a prefix that is given as `PREFIX.*`."""
    if "All" in names or ".*" in names:
        return {name: dict(value) for name, value in attributes.items()}
    prefixes = tuple(name.removesuffix(".*") for name in names if name.endswith(".*"))
    return {name: dict(value) for name, value in attributes.items() if name in names or name.startswith(prefixes)}
