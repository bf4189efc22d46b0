"""Messages that are put on the queue by the handful."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from runner.queue_errors import ask_sqs, to_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.queue import Queue

_TRIES = 6
_FIRST_WAIT_S = 0.2


def send_all(queue: Queue, messages: Sequence[dict[str, Any]]) -> None:
    """Put messages on the queue, and those of them that SQS does not take at first once more.

    Args:
        queue: Where to.
        messages: As `message.compose` makes them, and no more than `message.batches` puts together.

    Raises:
        DeniedError, QueueError: SQS has not taken all of them; it may have taken some.
    """
    wait_s = _FIRST_WAIT_S
    entries = [{"Id": str(number), **message} for number, message in enumerate(messages)]
    for tries_left in reversed(range(_TRIES)):
        failed = ask_sqs(queue.client, "send_message_batch", queue.url, Entries=entries).get("Failed", ())
        if not failed:
            return
        if not tries_left or any(one.get("SenderFault") for one in failed):
            error = to_error({"Error": failed[0]}, "SendMessageBatch", queue.name)
            raise type(error)(f"{error} ({len(failed)} of {len(messages)} messages were not taken)")
        ids = {one["Id"] for one in failed}
        entries = [entry for entry in entries if entry["Id"] in ids]
        time.sleep(wait_s)
        wait_s *= 2
    raise AssertionError
