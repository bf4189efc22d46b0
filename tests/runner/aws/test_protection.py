from __future__ import annotations

import io
import json
import queue
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.ecs import CLOSE_S, REST_AFTER_S, REST_S, Protection
from runner.aws.ecs import Agent as RealAgent
from runner.aws.surroundings import REAL
from runner.log import make_logger
from runner.machine import Bugs, SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from structlog.typing import FilteringBoundLogger

DAY_S = 24 * 3600.0
SOON_S = 30.0
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
def protection(agent: Agent, stream: io.StringIO) -> Iterator[Ticked]:
    protection = Ticked(agent.uri, make_logger("debug", stream), DAY_S)
    yield protection
    agent.answers.set()
    protection.close()


class AheadClock(SystemClock):
    """The clock of this machine, but never before a time that a test sets."""

    least_s = 0.0

    def monotonic(self) -> float:
        return max(self.least_s, super().monotonic())


class Ticked(Protection):
    """A protection that can be told the time."""

    def __init__(self, uri: str | None, log: FilteringBoundLogger, max_s: float) -> None:
        self.clock = AheadClock()
        super().__init__(RealAgent(uri) if uri else None, log, max_s, self.clock, REAL.tasks, Bugs())

    def tick_at(self, now: float) -> None:
        self.clock.least_s = max(self.clock.least_s, now)
        self.tick()


def logged(stream: io.StringIO) -> list[Any]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def wait_for_log(stream: io.StringIO, count: int) -> list[Any]:
    deadline = time.monotonic() + SOON_S
    while len(logged(stream)) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return logged(stream)


def test_busy_and_idle(agent: Agent, protection: Ticked, stream: io.StringIO) -> None:
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


def test_idle_from_the_start_asks_nothing(agent: Agent, protection: Ticked) -> None:
    protection.idle()
    protection.tick_at(time.monotonic())
    protection.close()
    assert agent.quiet()


def test_a_bug_in_the_thread_is_kept_for_the_worker() -> None:
    class Broken:
        def protect(self, minutes: int) -> tuple[str, str]:
            asked.set()
            raise ZeroDivisionError(minutes)

    bugs, asked = Bugs(), threading.Event()
    protection = Protection(Broken(), make_logger("debug", io.StringIO()), DAY_S, REAL.clock, REAL.tasks, bugs)
    bugs.raise_first()
    protection.busy()
    assert asked.wait(SOON_S)
    protection.close()
    with pytest.raises(ZeroDivisionError):
        bugs.raise_first()


def test_job_after_job_is_one_request(agent: Agent, protection: Ticked) -> None:
    for _ in range(50):
        protection.busy()
        time.sleep(0.005)
        protection.idle()
    assert agent.next() == PROTECTED
    assert agent.quiet(0.2)
    assert agent.next() == UNPROTECTED
    assert agent.quiet()


def test_only_what_is_wanted_last_is_sent(agent: Agent, protection: Ticked) -> None:
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


def test_renewal_at_half_time(agent: Agent, protection: Ticked) -> None:
    start = time.monotonic()
    protection.busy()
    assert agent.next() == PROTECTED
    protection.tick_at(start + 14 * 60)
    assert agent.quiet()
    protection.tick_at(start + 15 * 60 + 10)
    assert agent.next() == PROTECTED
    protection.tick_at(start + 29 * 60)
    assert agent.quiet()
    protection.tick_at(start + 31 * 60)
    assert agent.next() == PROTECTED


def test_limit_of_a_busy_stretch(agent: Agent, stream: io.StringIO) -> None:
    protection = Ticked(agent.uri, make_logger("info", stream), max_s=50 * 60)
    start = time.monotonic()
    protection.busy()
    assert agent.next() == PROTECTED
    protection.tick_at(start + 15 * 60 + 10)
    assert agent.next() == PROTECTED
    protection.tick_at(start + 31 * 60)
    assert agent.next() == {
        "ProtectionEnabled": True,
        "ExpiresInMinutes": 20,
    }  # up to the limit, begun minutes being whole
    for minute in (32, 42, 49):
        protection.tick_at(start + 60 * minute)
    assert agent.quiet()
    assert logged(stream) == []
    for minute in (51, 52, 60, 120):
        protection.tick_at(start + 60 * minute)
    assert agent.quiet()
    (line,) = logged(stream)
    assert line["event"] == "scale-in protection ends although the task is busy"
    # The next stretch is protected anew.
    protection.idle()
    protection.busy()
    assert agent.next() == PROTECTED
    protection.close()


def test_short_limit(agent: Agent, stream: io.StringIO) -> None:
    protection = Ticked(agent.uri, make_logger("info", stream), max_s=90)
    protection.busy()
    assert agent.next() == {"ProtectionEnabled": True, "ExpiresInMinutes": 2}
    protection.close()


def test_server_error_is_logged_once_and_tried_again(agent: Agent, protection: Ticked, stream: io.StringIO) -> None:
    agent.status, agent.answer = 500, {"error": {"Code": "ServerException", "Message": "Unexpected error occurred"}}
    start = time.monotonic()
    protection.busy()
    assert agent.next() == PROTECTED
    (line,) = wait_for_log(stream, 1)
    assert (line["level"], line["kind"], line["detail"]) == ("warning", "ServerException", "Unexpected error occurred")
    protection.tick_at(start + 5)
    assert agent.quiet()
    protection.tick_at(start + 30)
    assert agent.next() == PROTECTED
    assert agent.quiet()
    agent.status, agent.answer = 403, {"error": {"Code": "AccessDeniedException", "Message": "no"}}
    protection.tick_at(start + 60)
    assert agent.next() == PROTECTED
    assert [line["kind"] for line in wait_for_log(stream, 2)] == ["ServerException", "AccessDeniedException"]
    agent.status, agent.answer = 200, DONE
    protection.tick_at(start + 90)
    assert agent.next() == PROTECTED
    protection.tick_at(start + 120)
    assert agent.quiet()


def test_error_without_a_body_we_know(agent: Agent, protection: Ticked, stream: io.StringIO) -> None:
    agent.status, agent.answer = 502, {}
    protection.busy()
    agent.next()
    assert wait_for_log(stream, 1)[0]["kind"] == "HTTP 502"


def test_failure_comes_with_status_200(agent: Agent, protection: Ticked, stream: io.StringIO) -> None:
    agent.answer = {"failure": {"Arn": "arn:aws:ecs:1", "Detail": None, "Reason": "DEPLOYMENT_BLOCKED"}}
    protection.busy()
    agent.next()
    assert wait_for_log(stream, 1)[0]["kind"] == "DEPLOYMENT_BLOCKED"


def test_outside_a_service_nothing_more_is_asked(agent: Agent, protection: Ticked, stream: io.StringIO) -> None:
    agent.answer = {"failure": {"Arn": "arn:aws:ecs:1", "Detail": None, "Reason": "TASK_NOT_VALID"}}
    start = time.monotonic()
    protection.busy()
    agent.next()
    (line,) = wait_for_log(stream, 1)
    assert line["level"] == "info"
    for minute in range(5):
        protection.idle()
        protection.busy()
        protection.tick_at(start + 600 * minute)
    protection.close()
    assert agent.quiet()
    assert len(logged(stream)) == 1


def test_task_whose_protection_failed_is_unprotected_all_the_same(agent: Agent, protection: Ticked) -> None:
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
    protection = Ticked(uri, make_logger("info", stream), DAY_S)
    start = time.monotonic()
    protection.busy()
    assert [line["kind"] for line in wait_for_log(stream, 1)] == [kind]
    protection.tick_at(start + 30)
    protection.idle()
    protection.close()
    time.sleep(0.1)
    assert len(logged(stream)) == 1


def test_no_agent(stream: io.StringIO) -> None:
    before = threading.active_count()
    for uri in (None, ""):
        protection = Ticked(uri, make_logger("info", stream), max_s=60)
        protection.busy()
        protection.tick_at(time.monotonic() + 3600)
        assert threading.active_count() == before
        protection.idle()
        protection.close()
    assert logged(stream) == []


def test_agent_that_hangs_delays_nobody(agent: Agent, protection: Ticked) -> None:
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


def test_agent_that_hangs_is_given_up(agent: Agent, protection: Ticked, stream: io.StringIO) -> None:
    agent.answers.clear()
    protection.busy()
    agent.next()
    (line,) = wait_for_log(stream, 1)
    assert line["kind"] == "TimeoutError"


def test_close_is_quick_and_final(agent: Agent, protection: Ticked) -> None:
    protection.busy()
    agent.next()
    start = time.monotonic()
    protection.close()
    assert time.monotonic() - start < CLOSE_S / 2
    assert agent.next() == UNPROTECTED
    protection.busy()
    protection.close()
    assert agent.quiet()


# Rests


def jobs_back_to_back(protection: Ticked, start: float, until_s: float, gap_s: float = 0.0) -> None:
    """Do job after job, each of a minute, with gaps between them."""
    now = 0.0
    while now + gap_s <= until_s:
        protection.idle()
        now += gap_s
        protection.tick_at(start + now)
        protection.busy()
        now += 60 - gap_s
        protection.tick_at(start + now)


def test_a_task_with_jobs_back_to_back_rests_after_a_while(agent: Agent, protection: Ticked) -> None:
    start = time.monotonic()
    protection.busy()
    assert agent.next() == PROTECTED
    jobs_back_to_back(protection, start, REST_AFTER_S - 120)
    assert protection.may_take()
    protection.tick_at(start + REST_AFTER_S + 2)
    assert not protection.may_take()
    assert agent.next() == PROTECTED, "the jobs that run keep it until they end"
    protection.tick_at(start + REST_AFTER_S + 600)
    assert (agent.quiet(), protection.may_take()) == (True, False)
    began = start + REST_AFTER_S + 600
    protection.idle()
    assert agent.next() == UNPROTECTED
    protection.tick_at(began + REST_S - 1)
    assert not protection.may_take()
    protection.tick_at(began + REST_S + 2)
    assert protection.may_take()
    protection.busy()
    assert agent.next() == PROTECTED
    jobs_back_to_back(protection, began + REST_S + 2, REST_AFTER_S - 120)
    assert protection.may_take(), "all begins anew"


def test_a_task_that_was_idle_meanwhile_need_not_rest(agent: Agent, protection: Ticked) -> None:
    start = time.monotonic()
    protection.busy()
    assert agent.next() == PROTECTED
    protection.tick_at(start + REST_AFTER_S - 60)
    protection.idle()
    protection.tick_at(start + REST_AFTER_S - 50)
    assert agent.next() == UNPROTECTED
    agent.quiet(0.1)
    protection.busy()
    assert agent.next() == PROTECTED
    protection.tick_at(start + REST_AFTER_S + 60)
    assert protection.may_take()


def test_a_message_that_was_on_its_way_is_worked_on_before_the_rest(agent: Agent, protection: Ticked) -> None:
    start = time.monotonic()
    protection.busy()
    assert agent.next() == PROTECTED
    protection.tick_at(start + REST_AFTER_S + 2)
    assert agent.next() == PROTECTED
    protection.idle()
    assert agent.next() == UNPROTECTED
    agent.quiet(0.1)
    protection.busy()
    assert agent.next() == PROTECTED
    protection.tick_at(start + REST_AFTER_S + REST_S + 60)
    assert not protection.may_take()
    protection.idle()
    assert agent.next() == UNPROTECTED
    protection.tick_at(start + REST_AFTER_S + 2 * REST_S + 65)
    assert protection.may_take()


def test_a_rest_in_a_gap_between_jobs(agent: Agent, protection: Ticked) -> None:
    """With short jobs the loop may find the task idle whenever it looks."""
    start = time.monotonic()
    protection.busy()
    assert agent.next() == PROTECTED
    protection.idle()
    protection.busy()
    protection.idle()
    protection.tick_at(start + REST_AFTER_S + 1)
    assert not protection.may_take()
    assert agent.next() == UNPROTECTED


def test_a_task_goes_on_after_its_rest_if_the_agent_does_not_answer(agent: Agent, protection: Ticked) -> None:
    start = time.monotonic()
    protection.busy()
    assert agent.next() == PROTECTED
    agent.quiet(0.1)
    agent.status, agent.answer = 500, {}
    protection.tick_at(start + REST_AFTER_S - 1)
    protection.idle()
    protection.busy()
    protection.tick_at(start + REST_AFTER_S + 1)
    protection.idle()
    assert not protection.may_take()
    protection.tick_at(start + REST_AFTER_S + REST_S + 2)
    assert protection.may_take()


def test_without_an_agent_nobody_rests(stream: io.StringIO) -> None:
    protection = Ticked(None, make_logger("info", stream), DAY_S)
    start = time.monotonic()
    jobs_back_to_back(protection, start, 3 * REST_AFTER_S)
    assert protection.may_take()


def test_outside_of_a_service_nobody_rests(agent: Agent, protection: Ticked) -> None:
    agent.answer = {"failure": {"Arn": "arn:aws:ecs:1", "Detail": None, "Reason": "TASK_NOT_VALID"}}
    start = time.monotonic()
    protection.busy()
    agent.next()
    agent.quiet(0.1)
    protection.tick_at(start + REST_AFTER_S + 1)
    protection.idle()
    assert protection.may_take()
