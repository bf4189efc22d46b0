"""A message is never lost: whatever becomes of it, a copy is there before the original goes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from runner.aws.message import BATCH_BYTES, Message
from runner.aws.queue import CopiedError, Queue
from runner.errors import DeniedError, LeaseLostError, QueueError, SettingsError
from tests.conftest import ministack
from tests.support.queues import answering, arn_of, create_queue, name_of, redrive_policy, take_all, texts_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
DENIALS = [
    "AccessDenied",
    "AccessDeniedException",
    "KMS.AccessDeniedException",
    "KmsAccessDenied",
    "KMS.DisabledException",
]
LOST = [
    ("ReceiptHandleIsInvalid", "The input receipt handle is invalid."),
    ("AWS.SimpleQueueService.MessageNotInflight", "not in flight"),
    ("MessageNotInflight", "not in flight"),
    ("InvalidParameterValue", "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"),
    ("InvalidParameterCombination", "no"),
    ("SomethingElse", "The receipt handle has expired"),
]


@pytest.fixture
def sqs(aws: str) -> Iterator[Any]:
    client = boto3.client("sqs", endpoint_url=aws)
    yield client
    client.close()


@pytest.fixture
def queue(sqs: Any) -> Queue:
    dead = create_queue(sqs)
    return Queue.open(sqs, create_queue(sqs, RedrivePolicy=redrive_policy(sqs, dead)), None)


def send(queue: Queue, body: str = "body", trace: str = "", **attributes: Any) -> None:
    described = {
        name: value if isinstance(value, dict) else {"DataType": "String", "StringValue": value}
        for name, value in attributes.items()
    }
    header = {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}} if trace else {}
    queue.client.send_message(
        QueueUrl=queue.url, MessageBody=body, MessageAttributes=described, MessageSystemAttributes=header
    )


def receive(queue: Queue, visibility_s: int = 60) -> Message:
    message = queue.receive(1, visibility_s)
    assert message is not None
    return message


def move_back(queue: Queue) -> None:
    """Do to the dead letters what an operator does: each is sent to the queue that it came from, as it is."""
    for letter in take_all(queue.client, queue.dead_letter_url):
        queue.client.send_message(
            QueueUrl=queue.url, MessageBody=letter["Body"], MessageAttributes=letter["MessageAttributes"]
        )


def lose(queue: Queue) -> Message:
    """Return a message that somebody else has received since."""
    lost = receive(queue, 0)
    assert receive(queue).id == lost.id
    return lost


class TestOpen:
    def test_finds_a_queue_by_name_url_and_arn(self, sqs: Any) -> None:
        dead = create_queue(sqs)
        url = create_queue(sqs, RedrivePolicy=redrive_policy(sqs, dead, receives=7))
        for name in (url, name_of(url), arn_of(sqs, url)):
            for dead_letter in (None, dead, name_of(dead), arn_of(sqs, dead)):
                queue = Queue.open(sqs, name, dead_letter)
                assert (queue.name, queue.url, queue.dead_letter_url) == (name_of(url), url, dead)
                assert queue.max_receives == 7

    def test_takes_a_dead_letter_queue_other_than_the_policys(self, sqs: Any) -> None:
        url = create_queue(sqs, RedrivePolicy=redrive_policy(sqs, create_queue(sqs)))
        other = create_queue(sqs)
        assert Queue.open(sqs, url, other).dead_letter_url == other

    def test_needs_no_redrive_policy(self, sqs: Any) -> None:
        dead = create_queue(sqs)
        queue = Queue.open(sqs, create_queue(sqs), dead)
        assert (queue.dead_letter_url, queue.max_receives) == (dead, None)

    def test_asks_the_account_of_an_arn(self, sqs: Any, aws: str) -> None:
        theirs = boto3.client("sqs", endpoint_url=aws, aws_access_key_id="111122223333", aws_secret_access_key="x")
        url, dead = create_queue(theirs), create_queue(theirs)
        queue = Queue.open(sqs, arn_of(theirs, url), arn_of(theirs, dead))
        assert (queue.url, queue.dead_letter_url) == (url, dead)
        with pytest.raises(SettingsError, match="there is no queue"):
            Queue.open(sqs, name_of(url), dead)
        theirs.close()

    def test_says_what_is_not_there(self, sqs: Any) -> None:
        url = create_queue(sqs)
        for missing in ("nowhere", f"{url}x", arn_of(sqs, url) + "x"):
            with pytest.raises(
                SettingsError, match=r"there is no queue .* in us-east-1.*check its name, account and region"
            ):
                Queue.open(sqs, missing, url)
            with pytest.raises(SettingsError, match="there is no dead-letter queue"):
                Queue.open(sqs, url, missing)

    def test_says_that_the_policys_dead_letter_queue_is_gone(self, sqs: Any) -> None:
        dead = create_queue(sqs)
        url = create_queue(sqs, RedrivePolicy=redrive_policy(sqs, dead))
        sqs.delete_queue(QueueUrl=dead)
        with pytest.raises(SettingsError, match=f"there is no dead-letter queue .*{name_of(dead)}"):
            Queue.open(sqs, url, None)

    def test_says_that_there_is_no_dead_letter_queue(self, sqs: Any) -> None:
        with pytest.raises(SettingsError, match="has no dead-letter queue: give it a RedrivePolicy"):
            Queue.open(sqs, create_queue(sqs), None)

    def test_refuses_a_queue_as_its_own_dead_letter_queue(self, sqs: Any) -> None:
        url = create_queue(sqs)
        with pytest.raises(SettingsError, match="its own dead-letter queue"):
            Queue.open(sqs, url, name_of(url))

    def test_refuses_fifo_queues(self, sqs: Any) -> None:
        fifo, standard = create_queue(sqs, FifoQueue="true"), create_queue(sqs)
        with pytest.raises(SettingsError, match=r"queue .* is a FIFO queue, which drops a copy"):
            Queue.open(sqs, fifo, standard)
        with pytest.raises(SettingsError, match=r"dead-letter queue .* is a FIFO queue"):
            Queue.open(sqs, name_of(standard), arn_of(sqs, fifo))

    @pytest.mark.parametrize("name", ["arn:aws:sqs:us-east-1:name", "arn:aws:sns:us-east-1:000000000000:name"])
    def test_refuses_other_arns(self, sqs: Any, name: str) -> None:
        with pytest.raises(SettingsError, match="expected arn:aws:sqs:REGION:ACCOUNT:NAME"):
            Queue.open(sqs, name, None)

    def test_does_not_take_a_queue_of_the_same_name_in_its_own_region(self, sqs: Any) -> None:
        arn = arn_of(sqs, create_queue(sqs)).replace("us-east-1", "eu-west-1")
        with pytest.raises(SettingsError, match="is in eu-west-1, and the worker in us-east-1: set AWS_REGION"):
            Queue.open(sqs, arn, None)

    @pytest.mark.parametrize("operation", ["GetQueueUrl", "GetQueueAttributes"])
    def test_names_the_action_that_is_denied(self, sqs: Any, operation: str) -> None:
        with (
            answering(sqs, operation, "AccessDenied", status=403),
            pytest.raises(SettingsError, match=f"sqs:{operation} on queue .* is denied: allow it"),
        ):
            Queue.open(sqs, name_of(create_queue(sqs)), None)

    def test_says_that_there_are_no_credentials(self, sqs: Any, aws: str, monkeypatch: pytest.MonkeyPatch) -> None:
        url = create_queue(sqs)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, "/dev/null")
        client = boto3.Session().client("sqs", endpoint_url=aws)
        with pytest.raises(SettingsError, match="no AWS credentials"):
            Queue.open(client, url, None)
        client.close()

    def test_may_be_tried_again_when_nobody_answers(self, sqs: Any) -> None:
        client = boto3.client(
            "sqs", endpoint_url="http://127.0.0.1:1", config=Config(retries={"total_max_attempts": 1})
        )
        with pytest.raises(QueueError, match="cannot be looked up"):
            Queue.open(client, create_queue(sqs), None)
        client.close()


class TestReceive:
    def test_gives_a_message_as_it_was_sent(self, queue: Queue) -> None:
        before_ms = int(time.time() * 1000)
        send(queue, "the body", TRACE, colour="red")
        message = receive(queue)
        assert (message.body, message.trace, message.attempts, message.progress) == ("the body", TRACE, 0, 0)
        assert before_ms - 1 <= message.sent <= time.time() * 1000
        assert message.first_sent == message.sent
        assert message.attributes == {"colour": {"DataType": "String", "StringValue": "red"}}
        hash(message)

    def test_gives_nothing_when_nothing_comes(self, queue: Queue) -> None:
        began = time.monotonic()
        assert queue.receive(1, 60) is None
        assert time.monotonic() - began >= 0.9

    def test_gives_one_at_a_time(self, queue: Queue) -> None:
        send(queue)
        send(queue)
        receive(queue)
        assert queue.waiting() == (1, 1, 0)

    def test_counts_receives_and_earlier_attempts(self, queue: Queue) -> None:
        send(queue, attempts={"DataType": "Number", "StringValue": "3"})
        assert receive(queue, 0).attempts == 3
        assert receive(queue, 0).attempts == 4
        assert receive(queue, 0).attempts == 5

    @pytest.mark.parametrize("text", ["abc", "-1", "1001", "9" * 38, "1.5", "1e3", "٣", " 1", "0x1", "NaN"])
    def test_counts_nonsense_as_none(self, queue: Queue, text: str) -> None:
        huge = text if text != "1001" else str(1 << 47)
        send(queue, attempts=text, first_sent=text, progress=huge)
        message = receive(queue)
        assert (message.attempts, message.first_sent, message.progress) == (0, message.sent, 0)

    def test_counts_bytes_as_none(self, queue: Queue) -> None:
        send(queue, attempts={"DataType": "Binary", "BinaryValue": b"\xff"})
        assert receive(queue).attempts == 0

    def test_knows_no_first_copy_that_is_later(self, queue: Queue) -> None:
        send(queue, first_sent="999999999999999")
        message = receive(queue)
        assert message.first_sent == message.sent


class TestLease:
    def test_extends(self, queue: Queue) -> None:
        send(queue)
        message = receive(queue, 1)
        queue.extend(message, 60)
        assert queue.receive(2, 60) is None
        queue.extend(message, 0)
        assert receive(queue).id == message.id

    def test_is_lost_when_somebody_else_has_received_it(self, queue: Queue) -> None:
        send(queue)
        lost = lose(queue)
        with pytest.raises(LeaseLostError):
            queue.extend(lost, 60)
        with pytest.raises(LeaseLostError):
            queue.delete(lost)
        queue.release(lost, 0)
        assert queue.waiting() == (0, 1, 0)

    def test_is_lost_when_the_message_is_gone(self, queue: Queue) -> None:
        send(queue)
        message = receive(queue)
        queue.delete(message)
        assert queue.waiting() == (0, 0, 0)
        with pytest.raises(LeaseLostError):
            queue.extend(message, 60)

    @pytest.mark.parametrize(("code", "said"), LOST)
    def test_is_lost_by_whatever_word_for_it(self, queue: Queue, code: str, said: str) -> None:
        send(queue)
        message = receive(queue)
        with answering(queue.client, "ChangeMessageVisibility", code, said):
            with pytest.raises(LeaseLostError, match=queue.name):
                queue.extend(message, 60)
            queue.release(message, 0)

    def test_is_lost_for_each_message_that_is_deleted_with_others(self, queue: Queue) -> None:
        send(queue)
        send(queue)
        messages = [receive(queue), receive(queue)]
        lost = replace(messages[0], receipt="not a receipt")
        error, none = queue.delete_all([lost, messages[1]])
        assert isinstance(error, LeaseLostError)
        assert none is None
        assert queue.waiting() == (0, 1, 0)
        assert queue.delete_all(messages[:1]) == [None]
        assert queue.waiting() == (0, 0, 0)
        with answering(queue.client, "DeleteMessageBatch", "AccessDenied", status=403), pytest.raises(DeniedError):
            queue.delete_all(messages)

    def test_is_not_lost_by_other_errors(self, queue: Queue) -> None:
        send(queue)
        message = receive(queue)
        for code in ("ExpiredToken", "RequestThrottled", "AWS.SimpleQueueService.NonExistentQueue"):
            with answering(queue.client, "ChangeMessageVisibility", code, "The security token has expired"):
                for call in (queue.extend, queue.release):
                    with pytest.raises(QueueError, match=r"ChangeMessageVisibility failed: .*expired"):
                        call(message, 60)

    def test_is_given_back_after_a_time(self, queue: Queue) -> None:
        send(queue)
        message = receive(queue)
        queue.release(message, 1)
        assert queue.waiting() == (0, 1, 0)
        assert queue.receive(3, 60) is not None

    @pytest.mark.parametrize(("asked", "given"), [(10**9, 43_200), (-5, 0), (7, 7)])
    def test_is_given_back_within_the_limits_of_sqs(self, queue: Queue, asked: int, given: int) -> None:
        send(queue)
        message = receive(queue)
        sent = requests(queue, "ChangeMessageVisibility")
        queue.release(message, asked)
        assert [request["VisibilityTimeout"] for request in sent] == [given]


class TestHandOver:
    def test_replaces_a_message_by_a_copy(self, queue: Queue) -> None:
        send(queue, "the body", TRACE, colour="red", blob={"DataType": "Binary.gzip", "BinaryValue": b"\0\xff"})
        message = receive(queue)
        time.sleep(0.01)
        queue.requeue(message, attempts=2, progress=1 << 40)
        copy = receive(queue)
        assert copy.id != message.id
        assert (copy.body, copy.trace, copy.attempts, copy.progress) == ("the body", TRACE, 2, 1 << 40)
        assert (copy.first_sent, copy.attributes) == (message.first_sent, message.attributes)
        assert copy.sent > message.sent
        assert queue.waiting() == (0, 1, 0)

    def test_is_told_from_the_copys_own_receives(self, queue: Queue) -> None:
        send(queue)
        receive(queue, 0)
        queue.requeue(receive(queue), attempts=1, progress=5)
        receive(queue, 0)
        copy = receive(queue)
        queue.requeue(copy, attempts=copy.attempts, progress=0)
        again = receive(queue)
        assert (again.body, again.attempts, again.progress, again.first_sent) == (copy.body, 2, 0, copy.first_sent)

    def test_writes_numbers(self, queue: Queue) -> None:
        send(queue)
        queue.requeue(receive(queue), attempts=0, progress=0)
        (raw,) = take_all(queue.client, queue.url)
        assert texts_of(raw).keys() == {"attempts", "first_sent", "progress", "owner"}
        assert raw["MessageAttributes"].pop("owner")["DataType"] == "String"
        assert {value["DataType"] for value in raw["MessageAttributes"].values()} == {"Number"}

    def test_delays_the_copy(self, queue: Queue) -> None:
        send(queue)
        queue.requeue(receive(queue), attempts=0, progress=0, delay_s=1)
        assert queue.waiting() == (0, 0, 1)
        assert queue.receive(3, 60) is not None

    @pytest.mark.parametrize(("asked", "given"), [(10**9, 900), (-5, 0)])
    def test_delays_within_the_limits_of_sqs(self, queue: Queue, asked: int, given: int) -> None:
        send(queue)
        message = receive(queue)
        sent = requests(queue, "SendMessage")
        queue.requeue(message, attempts=0, progress=0, delay_s=asked)
        assert [request["DelaySeconds"] for request in sent] == [given]

    def test_keeps_ten_attributes_in_all(self, queue: Queue) -> None:
        send(queue, attempts="9", **{f"a{number}": "x" for number in range(9)})
        queue.requeue(receive(queue), attempts=4, progress=5)
        (raw,) = take_all(queue.client, queue.url)
        assert len(raw["MessageAttributes"]) == 10
        assert texts_of(raw).items() >= {"attempts": "4", "progress": "5"}.items()

    def test_leaves_both_where_the_delete_fails(self, queue: Queue) -> None:
        send(queue)
        message = receive(queue)
        with answering(queue.client, "DeleteMessage", "InternalError"), pytest.raises(CopiedError):
            queue.requeue(message, attempts=1, progress=0)
        assert queue.waiting() == (1, 1, 0)
        assert receive(queue).attempts == 1

    def test_leaves_the_original_where_the_send_fails(self, queue: Queue) -> None:
        send(queue)
        message = receive(queue)
        with answering(queue.client, "SendMessage", "InternalError"), pytest.raises(QueueError):
            queue.requeue(message, attempts=1, progress=0)
        assert queue.waiting() == (0, 1, 0)

    def test_leaves_a_lost_message_to_whoever_has_it(self, queue: Queue) -> None:
        send(queue)
        lost = lose(queue)
        with pytest.raises(LeaseLostError):
            queue.requeue(lost, attempts=1, progress=0)
        assert queue.waiting() == (1, 1, 0)

    def test_tells_a_denied_delete_from_a_denied_send(self, queue: Queue) -> None:
        send(queue)
        message = receive(queue)
        with answering(queue.client, "DeleteMessage", "AccessDenied", status=403), pytest.raises(CopiedError) as found:
            queue.requeue(message, attempts=1, progress=0)
        assert isinstance(found.value.__cause__, DeniedError)


class TestSplit:
    def test_replaces_a_message_by_one_for_each_body(self, queue: Queue) -> None:
        send(queue, "both", colour="red", attempts="3", progress="9")
        message = receive(queue)
        bodies = [f"body {number}" for number in range(23)]
        queue.split(message, bodies)
        copies = [receive(queue) for _ in bodies]
        assert sorted(copy.body for copy in copies) == sorted(bodies)
        for copy in copies:
            assert (copy.attempts, copy.progress, copy.first_sent) == (0, 0, message.first_sent)
            assert copy.attributes == message.attributes
        assert queue.waiting() == (0, 23, 0)

    def test_sends_no_more_than_a_mebibyte_at_once(self, queue: Queue) -> None:
        send(queue, trace=TRACE)
        message = receive(queue)
        sent = requests(queue, "SendMessageBatch")
        queue.split(message, ["é" * (BATCH_BYTES // 5)] * 5)
        assert [len(request["Entries"]) for request in sent] == [2, 2, 1]
        assert queue.waiting() == (5, 0, 0)
        for request in sent:
            for entry in request["Entries"]:
                assert entry["MessageSystemAttributes"]["AWSTraceHeader"]["StringValue"] == TRACE

    def test_keeps_the_original_where_one_fails(self, queue: Queue) -> None:
        send(queue)
        message = receive(queue)
        with pytest.raises(QueueError, match=r"SendMessageBatch failed: .*outside the allowed set"):
            queue.split(message, ["good", "bad \0"])
        assert queue.waiting() == (1, 1, 0)

    def test_leaves_all_where_the_delete_fails(self, queue: Queue) -> None:
        send(queue)
        message = receive(queue)
        with answering(queue.client, "DeleteMessage", "InternalError"), pytest.raises(CopiedError):
            queue.split(message, ["a", "b"])
        assert queue.waiting() == (2, 1, 0)


class TestDeadLetter:
    def test_moves_a_message_with_the_reason(self, queue: Queue) -> None:
        send(queue, "the body", TRACE, colour="red", attempts="2")
        message = receive(queue)
        queue.dead_letter(message, reason="unknown event", job="s3://in/é")
        assert queue.waiting() == (0, 0, 0)
        (letter,) = take_all(queue.client, queue.dead_letter_url)
        assert letter["Body"] == "the body"
        assert letter["Attributes"]["AWSTraceHeader"] == TRACE
        assert texts_of(letter) == {
            "reason": "unknown event",
            "job": "s3://in/é",
            "trace": TRACE,
            "attempts": "2",
            "first_sent": str(message.first_sent),
            "colour": "red",
        }

    def test_writes_what_sqs_takes(self, queue: Queue) -> None:
        send(queue)
        reason = "a\0b\x1b\ud800\uffff\ufffe\t\n\r \U0001f600" + "x" * 10_000
        queue.dead_letter(receive(queue), reason=reason, job="")
        (letter,) = take_all(queue.client, queue.dead_letter_url)
        texts = texts_of(letter)
        assert texts.keys() == {"reason", "attempts", "first_sent"}
        assert texts["reason"].startswith("a\ufffdb" + "\ufffd" * 4 + "\t\n\r \U0001f600xxx")
        assert len(texts["reason"]) == 1100

    def test_is_tried_anew_when_an_operator_moves_it_back(self, queue: Queue) -> None:
        send(queue, "the body", colour="red", attempts="4", progress="1234")
        first = receive(queue)
        queue.dead_letter(first, reason="no memory", job="s3://in/é")
        move_back(queue)
        back = receive(queue, 0)
        assert (back.body, back.attempts, back.progress, back.first_sent) == ("the body", 0, 1234, first.first_sent)
        assert back.attributes == first.attributes
        assert receive(queue, 0).attempts == 1, "its receives do count"

    def test_counts_the_attempts_after_it_was_moved_back(self, queue: Queue) -> None:
        send(queue, attempts="4")
        queue.dead_letter(receive(queue), reason="no memory", job="s3://in/é")
        move_back(queue)
        queue.requeue(receive(queue), attempts=1, progress=5)
        assert (receive(queue, 0).attempts, receive(queue).attempts) == (1, 2)

    def test_leaves_both_where_the_delete_fails(self, queue: Queue) -> None:
        send(queue)
        message = receive(queue)
        with answering(queue.client, "DeleteMessage", "InternalError"), pytest.raises(CopiedError):
            queue.dead_letter(message, reason="r", job="j")
        assert queue.waiting() == (0, 1, 0)
        assert len(take_all(queue.client, queue.dead_letter_url)) == 1

    def test_keeps_the_message_where_the_send_is_denied(self, queue: Queue) -> None:
        send(queue)
        message = receive(queue)
        with (
            answering(queue.client, "SendMessage", "AccessDenied", status=403),
            pytest.raises(DeniedError, match=f"sqs:SendMessage on queue {name_of(queue.dead_letter_url)} "),
        ):
            queue.dead_letter(message, reason="r", job="j")
        assert queue.waiting() == (0, 1, 0)


class TestDenied:
    @pytest.mark.parametrize("code", DENIALS)
    def test_every_method_says_so(self, queue: Queue, code: str) -> None:
        send(queue)
        message = receive(queue)
        calls = {
            "ReceiveMessage": lambda: queue.receive(0, 60),
            "ChangeMessageVisibility": lambda: queue.release(message, 60),
            "SendMessage": lambda: queue.requeue(message, attempts=0, progress=0),
            "SendMessageBatch": lambda: queue.split(message, ["a"]),
            "DeleteMessage": lambda: queue.delete(message),
            "GetQueueAttributes": queue.waiting,
        }
        for operation, call in calls.items():
            with (
                answering(queue.client, operation, code, "the reason"),
                pytest.raises(DeniedError, match=f"sqs:{operation.removesuffix('Batch')}.* {queue.name} .*the reason"),
            ):
                call()

    def test_a_throttled_key_is_no_denial(self, queue: Queue) -> None:
        for code in ("KmsThrottled", "KMS.ThrottlingException"):
            with answering(queue.client, "ReceiveMessage", code), pytest.raises(QueueError):
                queue.receive(0, 60)

    @pytest.mark.usefixtures("aws")
    def test_by_the_policy_of_a_queue(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("AUTH", "true")
        with ministack(tmp_path / "log") as endpoint:
            assert endpoint
            client = boto3.client("sqs", endpoint_url=endpoint)
            queue = Queue.open(client, create_queue(client), create_queue(client))
            send(queue)
            message = receive(queue)
            policy = (
                '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"sqs:SendMessage",'
                f'"Resource":"{arn_of(client, queue.url)}"}}]}}'
            )
            client.set_queue_attributes(QueueUrl=queue.url, Attributes={"Policy": policy})
            with pytest.raises(DeniedError, match=f"sqs:SendMessage on queue {queue.name} is denied"):
                queue.requeue(message, attempts=0, progress=0)
            assert queue.waiting() == (0, 1, 0)
            client.close()

    def test_an_unreachable_server_is_no_denial(self, queue: Queue) -> None:
        client = boto3.client(
            "sqs", endpoint_url="http://127.0.0.1:1", config=Config(retries={"total_max_attempts": 1})
        )
        away = Queue(client, queue.name, queue.url, queue.dead_letter_url, None)
        with pytest.raises(QueueError, match=f"queue {queue.name}: receive_message failed"):
            away.receive(0, 60)
        client.close()


def requests(queue: Queue, operation: str) -> list[dict[str, Any]]:
    """Return a list to which the parameters of an operation's calls will be added."""
    seen: list[dict[str, Any]] = []
    queue.client.meta.events.register(f"provide-client-params.sqs.{operation}", lambda params, **_: seen.append(params))
    return seen
