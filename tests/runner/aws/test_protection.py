from __future__ import annotations

import io
import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.ecs import CLOSE_S, Protection
from runner.log import make_logger

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_S = 24 * 3600.0
SOON_S = 5.0
PROTECTED = {"ProtectionEnabled": True, "ExpiresInMinutes": 30}
UNPROTECTED = {"ProtectionEnabled": False}
DONE: dict[str, Any] = {"protection": {"ProtectionEnabled": True, "TaskArn": "arn:aws:ecs:1"}}


class Agent:
    """Plays the container agent: a real server that keeps what it was asked, and answers as it is told."""

    def __init__(self) -> None:
        self.asked: queue.Queue[Any] = queue.Queue()
        self.status, self.answer = 200, DONE
        self.answers = threading.Event()  # unset: it hangs
        self.answers.set()
        agent = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                agent.asked.put((self.path, body))
                agent.answers.wait(30)
                text = json.dumps(agent.answer).encode()
                self.send_response(agent.status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                pass  # the other side gave up

        self.server = Server(("127.0.0.1", 0), Handler)
        self.uri = f"http://127.0.0.1:{self.server.server_port}/api/abc"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}).start()

    def next(self) -> Any:
        path, body = self.asked.get(timeout=SOON_S)
        assert path == "/api/abc/task-protection/v1/state"
        return body

    def quiet(self, seconds: float = 0.3) -> bool:
        """Whether nothing is asked for a while."""
        time.sleep(seconds)
        return self.asked.empty()

    def stop(self) -> None:
        self.answers.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent()
    yield agent
    agent.stop()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def protection(agent: Agent, stream: io.StringIO) -> Iterator[Protection]:
    protection = Protection(agent.uri, make_logger("debug", stream), DAY_S)
    yield protection
    agent.answers.set()
    protection.close()


def logged(stream: io.StringIO) -> list[Any]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def wait_for_log(stream: io.StringIO, count: int) -> list[Any]:
    deadline = time.monotonic() + SOON_S
    while len(logged(stream)) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return logged(stream)


def test_busy_and_idle(agent: Agent, protection: Protection, stream: io.StringIO) -> None:
    protection.busy()
    assert agent.next() == PROTECTED
    protection.busy()
    assert agent.quiet()
    protection.idle()
    assert agent.next() == UNPROTECTED
    protection.idle()
    assert agent.quiet()
    protection.busy()
    assert agent.next() == PROTECTED
    protection.close()
    assert agent.next() == UNPROTECTED
    assert logged(stream) == []


def test_idle_from_the_start_asks_nothing(agent: Agent, protection: Protection) -> None:
    protection.idle()
    protection.tick(time.monotonic())
    protection.close()
    assert agent.quiet()


def test_job_after_job_is_one_request(agent: Agent, protection: Protection) -> None:
    for _ in range(50):
        protection.busy()
        time.sleep(0.005)
        protection.idle()
    assert agent.next() == PROTECTED
    assert agent.quiet(0.2)
    assert agent.next() == UNPROTECTED
    assert agent.quiet()


def test_only_what_is_wanted_last_is_sent(agent: Agent, protection: Protection) -> None:
    agent.answers.clear()
    protection.busy()
    assert agent.next() == PROTECTED
    for _ in range(50):  # while the agent is still thinking
        protection.idle()
        protection.busy()
    agent.answers.set()
    assert agent.quiet()
    protection.idle()
    assert agent.next() == UNPROTECTED


def test_renewal_at_half_time(agent: Agent, protection: Protection) -> None:
    start = time.monotonic()
    protection.busy()
    assert agent.next() == PROTECTED
    protection.tick(start + 14 * 60)
    assert agent.quiet()
    protection.tick(start + 15 * 60 + 10)
    assert agent.next() == PROTECTED
    protection.tick(start + 29 * 60)
    assert agent.quiet()
    protection.tick(start + 31 * 60)
    assert agent.next() == PROTECTED


def test_limit_of_a_busy_stretch(agent: Agent, stream: io.StringIO) -> None:
    protection = Protection(agent.uri, make_logger("info", stream), max_s=50 * 60)
    start = time.monotonic()
    protection.busy()
    assert agent.next() == PROTECTED
    protection.tick(start + 15 * 60 + 10)
    assert agent.next() == PROTECTED
    protection.tick(start + 31 * 60)
    assert agent.next() == {
        "ProtectionEnabled": True,
        "ExpiresInMinutes": 20,
    }  # up to the limit, begun minutes being whole
    for minute in (32, 42, 49):
        protection.tick(start + 60 * minute)
    assert agent.quiet()
    assert logged(stream) == []
    for minute in (51, 52, 60, 120):
        protection.tick(start + 60 * minute)
    assert agent.quiet()
    (line,) = logged(stream)
    assert line["event"] == "scale-in protection ends although the task is busy"
    # The next stretch is protected anew.
    protection.idle()
    protection.busy()
    assert agent.next() == PROTECTED
    protection.close()


def test_short_limit(agent: Agent, stream: io.StringIO) -> None:
    protection = Protection(agent.uri, make_logger("info", stream), max_s=90)
    protection.busy()
    assert agent.next() == {"ProtectionEnabled": True, "ExpiresInMinutes": 2}
    protection.close()


def test_server_error_is_logged_once_and_tried_again(agent: Agent, protection: Protection, stream: io.StringIO) -> None:
    agent.status, agent.answer = 500, {"error": {"Code": "ServerException", "Message": "Unexpected error occurred"}}
    start = time.monotonic()
    protection.busy()
    assert agent.next() == PROTECTED
    (line,) = wait_for_log(stream, 1)
    assert (line["level"], line["kind"], line["detail"]) == ("warning", "ServerException", "Unexpected error occurred")
    protection.tick(start + 5)
    assert agent.quiet()
    protection.tick(start + 30)
    assert agent.next() == PROTECTED
    assert agent.quiet()
    agent.status, agent.answer = 403, {"error": {"Code": "AccessDeniedException", "Message": "no"}}
    protection.tick(start + 60)
    assert agent.next() == PROTECTED
    assert [line["kind"] for line in wait_for_log(stream, 2)] == ["ServerException", "AccessDeniedException"]
    agent.status, agent.answer = 200, DONE
    protection.tick(start + 90)
    assert agent.next() == PROTECTED
    protection.tick(start + 120)
    assert agent.quiet()


def test_error_without_a_body_we_know(agent: Agent, protection: Protection, stream: io.StringIO) -> None:
    agent.status, agent.answer = 502, {}
    protection.busy()
    agent.next()
    assert wait_for_log(stream, 1)[0]["kind"] == "HTTP 502"


def test_failure_comes_with_status_200(agent: Agent, protection: Protection, stream: io.StringIO) -> None:
    agent.answer = {"failure": {"Arn": "arn:aws:ecs:1", "Detail": None, "Reason": "DEPLOYMENT_BLOCKED"}}
    protection.busy()
    agent.next()
    assert wait_for_log(stream, 1)[0]["kind"] == "DEPLOYMENT_BLOCKED"


def test_outside_a_service_nothing_more_is_asked(agent: Agent, protection: Protection, stream: io.StringIO) -> None:
    agent.answer = {"failure": {"Arn": "arn:aws:ecs:1", "Detail": None, "Reason": "TASK_NOT_VALID"}}
    start = time.monotonic()
    protection.busy()
    agent.next()
    (line,) = wait_for_log(stream, 1)
    assert line["level"] == "info"
    for minute in range(5):
        protection.idle()
        protection.busy()
        protection.tick(start + 600 * minute)
    protection.close()
    assert agent.quiet()
    assert len(logged(stream)) == 1


def test_task_whose_protection_failed_is_unprotected_all_the_same(agent: Agent, protection: Protection) -> None:
    agent.status = 504  # the agent gave up, but ECS may have heard it
    protection.busy()
    assert agent.next() == PROTECTED
    agent.status = 200
    protection.close()
    assert agent.next() == UNPROTECTED


@pytest.mark.parametrize(
    ("uri", "kind"),
    [("http://127.0.0.1:1", "ConnectionRefusedError"), ("garbage", "ValueError"), ("http://[", "ValueError")],
)
def test_agent_that_is_not_there(stream: io.StringIO, uri: str, kind: str) -> None:
    protection = Protection(uri, make_logger("info", stream), DAY_S)
    start = time.monotonic()
    protection.busy()
    assert [line["kind"] for line in wait_for_log(stream, 1)] == [kind]
    protection.tick(start + 30)
    protection.idle()
    protection.close()
    time.sleep(0.1)
    assert len(logged(stream)) == 1


def test_no_agent(stream: io.StringIO) -> None:
    before = threading.active_count()
    for uri in (None, ""):
        protection = Protection(uri, make_logger("info", stream), max_s=60)
        protection.busy()
        protection.tick(time.monotonic() + 3600)
        assert threading.active_count() == before
        protection.idle()
        protection.close()
    assert logged(stream) == []


def test_agent_that_hangs_delays_nobody(agent: Agent, protection: Protection) -> None:
    agent.answers.clear()
    protection.busy()
    assert agent.next() == PROTECTED
    longest_s = 0.0
    for _ in range(100):
        for call in (protection.busy, protection.tick, protection.idle, protection.tick):
            start = time.monotonic()
            call()
            longest_s = max(longest_s, time.monotonic() - start)
    assert longest_s < 1  # a request takes 3 s to be given up
    start = time.monotonic()
    protection.close()
    assert CLOSE_S / 2 < time.monotonic() - start < CLOSE_S + 0.9


def test_agent_that_hangs_is_given_up(agent: Agent, protection: Protection, stream: io.StringIO) -> None:
    agent.answers.clear()
    protection.busy()
    agent.next()
    (line,) = wait_for_log(stream, 1)
    assert line["kind"] == "TimeoutError"


def test_close_is_quick_and_final(agent: Agent, protection: Protection) -> None:
    protection.busy()
    agent.next()
    start = time.monotonic()
    protection.close()
    assert time.monotonic() - start < CLOSE_S / 2
    assert agent.next() == UNPROTECTED
    protection.busy()
    protection.close()
    assert agent.quiet()
