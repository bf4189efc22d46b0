"""A proxy in front of a server of S3 and SQS, which lets a test decide what goes wrong with which request."""

from __future__ import annotations

import http.client
import json
import re
import socket
import struct
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_OWN_HEADERS = {"connection", "content-length", "transfer-encoding", "keep-alive", "date", "server"}
_TIMEOUT_S = 60


@dataclass(frozen=True)
class Request:
    """A request that came.

    Attributes:
        operation: What S3 or SQS calls it, as `UploadPart`.
        number: The how manieth of that operation it is, from 1 on.
        key: Of the object; empty where it is about a bucket.
        size: Of its body, in bytes.
        range: Which bytes it asks for, as the header says: `bytes=0-9`; empty where it asks for all.
        credential: The id of the access key that it is signed with.
    """

    operation: str
    number: int
    key: str
    size: int
    range: str = ""
    credential: str = ""

    @property
    def first_byte(self) -> int:
        """The first byte that is asked for."""
        return int(self.range.removeprefix("bytes=").partition("-")[0] or 0)


@dataclass(frozen=True)
class Refuse:
    """Answer with an error, and do not pass the request on."""

    status: int
    code: str


@dataclass(frozen=True)
class Cut:
    """Close the connection without an answer, before or after the request was passed on."""

    passed_on: bool


@dataclass(frozen=True)
class Reset:
    """Reset the connection without an answer, before or after the request was passed on."""

    passed_on: bool


@dataclass(frozen=True)
class Damage:
    """Pass the request on, and answer with another byte in the middle of the body."""


@dataclass(frozen=True)
class Halt:
    """Pass the request on, stop in the middle of the answer's body, and close the connection once the event is set."""

    until: threading.Event


@dataclass(frozen=True)
class Shorten:
    """Pass the request on, and close the connection in the middle of the answer's body.

    With `honest`, the answer says how long it should have been; without, nothing tells that it is not all.
    """

    honest: bool


@dataclass(frozen=True)
class Hold:
    """Pass the request on, and keep the answer back until the event is set."""

    passed_on: threading.Event
    until: threading.Event


@dataclass(frozen=True)
class Stall:
    """Keep the request back until the event is set, and pass it on never: close the connection then."""

    reached: threading.Event
    until: threading.Event


Fault = Refuse | Cut | Reset | Damage | Halt | Shorten | Hold | Stall


class Proxy:
    """A running proxy.

    Attributes:
        endpoint: Where it is reached.
        rule: Decides what goes wrong with a request; nothing, where it returns None.
        requests: All that came, in order.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.rule: Callable[[Request], Fault | None] = lambda _request: None
        self.requests: list[Request] = []
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def count(self, operation: str) -> int:
        """Return how many requests of an operation came."""
        return sum(request.operation == operation for request in self.requests)

    def note(self, method: str, path: str, size: int, headers: Mapping[str, str]) -> Request:
        """Take down a request."""
        target = headers.get("X-Amz-Target")  # which SQS has, and S3 has not
        operation, key = (target.rpartition(".")[2], "") if target else _operation(method, path)
        signed = re.search("Credential=([^/]*)/", headers.get("Authorization", ""))
        credential = signed[1] if signed else ""
        with self._lock:
            self._counts[operation] += 1
            request = Request(operation, self._counts[operation], key, size, headers.get("Range", ""), credential)
            self.requests.append(request)
        return request


class _Server(ThreadingHTTPServer):
    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = urlsplit(upstream).netloc
        self.proxy = Proxy(f"http://127.0.0.1:{self.server_port}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # the body of an answer would wait 40 ms for the client to confirm its headers
    server: _Server

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the client is gone
            self.close_connection = True

    def relay(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        proxy = self.server.proxy
        fault = proxy.rule(proxy.note(self.command, self.path, len(body), cast("Mapping[str, str]", self.headers)))
        if isinstance(fault, Refuse):
            kind, content = _error(fault.code, to_json="X-Amz-Target" in self.headers)
            self.answer(fault.status, [("Content-Type", kind)], content)
        elif fault == Cut(passed_on=False):
            self.close_connection = True
        elif fault == Reset(passed_on=False):
            self.reset()
        elif isinstance(fault, Stall):
            fault.reached.set()
            fault.until.wait(_TIMEOUT_S)
            self.close_connection = True
        else:
            self.answer_late(fault, *self.pass_on(body))

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = relay  # noqa: N815 # as the base class wants them named

    def pass_on(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.server.upstream, timeout=_TIMEOUT_S)
        try:
            connection.request(self.command, self.path, body, dict(self.headers))
            response = connection.getresponse()
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _OWN_HEADERS]
            if self.command == "HEAD":  # there the length is that of another answer's body
                headers.append(("Content-Length", response.headers.get("Content-Length", "0")))
            return response.status, headers, response.read()
        finally:
            connection.close()

    def answer_late(self, fault: Fault | None, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        match fault:
            case Cut():
                self.close_connection = True
                return
            case Reset():
                self.reset()
                return
            case Damage():
                middle = len(content) // 2
                content = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
            case Halt(until):
                self.send(status, [*headers, ("Content-Length", str(len(content)))], content[: len(content) // 2])
                until.wait(_TIMEOUT_S)
                self.close_connection = True
                return
            case Shorten(honest):
                length = [("Content-Length", str(len(content)))] if honest else []
                self.send(status, [*headers, *length, ("Connection", "close")], content[: len(content) // 2])
                return
            case Hold(passed_on, until):
                passed_on.set()
                until.wait(_TIMEOUT_S)
        self.answer(status, headers, content)

    def reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        if self.command == "HEAD":
            self.send(status, headers, b"")
        else:
            self.send(status, [*headers, ("Content-Length", str(len(content)))], content)

    def send(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args: Any) -> None:
        """Say nothing: `Proxy.requests` has it all."""


@contextmanager
def proxy_of(upstream: str) -> Iterator[Proxy]:
    """Run a proxy in front of an endpoint."""
    with _Server(upstream) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.proxy
        finally:
            server.shutdown()
            thread.join()


def _operation(method: str, path: str) -> tuple[str, str]:
    """Return what S3 calls a request, and the key that it is about."""
    url = urlsplit(path)
    query = parse_qs(url.query, keep_blank_values=True)
    _, _, key = unquote(url.path).removeprefix("/").partition("/")
    names = {
        ("PUT", "partNumber"): "UploadPart",
        ("POST", "uploads"): "CreateMultipartUpload",
        ("POST", "uploadId"): "CompleteMultipartUpload",
        ("DELETE", "uploadId"): "AbortMultipartUpload",
        ("PUT", "tagging"): "PutObjectTagging",
        ("GET", "tagging"): "GetObjectTagging",
    }
    for (verb, parameter), name in names.items():
        if method == verb and parameter in query:
            return name, key
    return method.capitalize() + ("Object" if key else "Bucket"), key


def _error(code: str, *, to_json: bool) -> tuple[str, bytes]:
    """Return an error as S3 tells it, or SQS; its type and content."""
    if to_json:
        content = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": f"{code}!"})
        return "application/x-amz-json-1.0", content.encode()
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{code}!</Message></Error>'
    return "application/xml", text.encode()
