"""Stands between the program and the emulator, and says what that cannot: that tasks of ECS have failed.

ministack starts no containers, so none of its tasks ends by itself. What ECS and CloudFormation would answer is put
into the answers here, in the shapes of their service models, from the moment on at which a change set is executed.
"""

from __future__ import annotations

import json
import ssl
import threading
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cfn.cloud import Cloud

_NOT_PASSED_ON = {"connection", "transfer-encoding", "content-length", "accept-encoding"}
_ECS = "AmazonEC2ContainerServiceV20141113."


@dataclass
class Script:
    """What is answered in the place of the emulator.

    Attributes:
        tasks: Tasks that have ended, as `DescribeTasks` describes them but for the time.
        replaced: Texts in the events of a stack, and what is there instead.
        executed_at: When the last change set was executed, None if none was.
        service_runs: The task definition of services, if it is another than the emulator's.
        requests: The operations that were asked for.
    """

    tasks: list[dict[str, Any]] = field(default_factory=list)
    replaced: dict[str, str] = field(default_factory=dict)
    executed_at: float | None = None
    service_runs: str | None = None
    requests: list[str] = field(default_factory=list)

    def answer(self, operation: str, told: dict[str, Any]) -> dict[str, Any] | None:
        """Return an answer of ECS, None if the emulator's counts."""
        if self.executed_at is None or not self.tasks:
            return None
        if operation == "ListTasks" and told.get("desiredStatus") == "STOPPED":
            return {"taskArns": [task["taskArn"] for task in self.tasks]}
        if operation == "DescribeTasks":
            made = {"createdAt": self.executed_at + 1, "lastStatus": "STOPPED", "desiredStatus": "STOPPED"}
            return {
                "tasks": [{**made, **task} for task in self.tasks if task["taskArn"] in told["tasks"]],
                "failures": [],
            }
        return None

    def in_other_words(self, content: bytes) -> bytes:
        """Return the events of a stack with other texts."""
        for text, other in self.replaced.items():
            content = content.replace(text.encode(), other.encode())
        return content

    def with_another_definition(self, content: bytes) -> bytes:
        """Return an answer about services, which run what is in the script."""
        told = json.loads(content)
        for service in told["services"] if self.service_runs else []:
            service["taskDefinition"] = self.service_runs
        return json.dumps(told).encode()


class _Handler(BaseHTTPRequestHandler):
    """Answers a request."""

    protocol_version = "HTTP/1.1"
    cloud: Cloud
    script: Script

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def handle_one(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        operation = (self.headers.get("X-Amz-Target") or "").removeprefix(_ECS)
        self.script.requests.append(operation)
        if b"Action=ExecuteChangeSet" in body:
            self.script.executed_at = time.time()
        found = self.script.answer(operation, json.loads(body)) if operation in {"ListTasks", "DescribeTasks"} else None
        if found is not None:
            self.reply(200, {"Content-Type": "application/x-amz-json-1.1"}, json.dumps(found).encode())
            return
        status, headers, content = _passed_on(self.cloud, self, body)
        if b"Action=DescribeStackEvents" in body:
            content = self.script.in_other_words(content)
        if operation == "DescribeServices":
            content = self.script.with_another_definition(content)
        self.reply(status, headers, content)

    def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in _NOT_PASSED_ON:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one  # noqa: N815 # the names that the server calls


@contextmanager
def aws_proxy(cloud: Cloud) -> Iterator[tuple[str, Script]]:
    """Start it; yield its address, and the script that it follows."""
    script = Script()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cloud": cloud, "script": script}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", script
    finally:
        server.shutdown()
        server.server_close()


def _passed_on(cloud: Cloud, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Return what the emulator answers."""
    headers = {name: value for name, value in handler.headers.items() if name.lower() not in _NOT_PASSED_ON}
    request = urllib.request.Request(
        cloud.endpoint + handler.path, data=body or None, headers=headers, method=handler.command
    )
    try:
        with urllib.request.urlopen(
            request, context=ssl.create_default_context(cafile=cloud.authority), timeout=60
        ) as answer:
            status, told, content = answer.status, dict(answer.headers), answer.read()
    except HTTPError as error:
        status, told, content = error.code, dict(error.headers), error.read()
    return status, told, content
