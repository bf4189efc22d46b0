"""An S3 server for the benchmark: TLS 1.3, objects in memory, and connections as fast as those of S3.

    python -m tests.benchmarks.s3_server FOLDER MB_PER_S DELAY_S

It costs little CPU, and none of it is the client's. Its signatures, ETags and listings are no proof of anything: it is
for measuring clients that work, and answers with what they ask for. It prints its two endpoints: one that answers at
once, and one that answers after a delay. In FOLDER it writes the certificate to trust.
"""

from __future__ import annotations

import base64
import itertools
import json
import mmap
import re
import ssl
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import trustme
from awscrt.checksums import crc64nvme  # type: ignore[import-untyped]
from isal import isal_zlib

if TYPE_CHECKING:
    from collections.abc import Iterator

CA_FILE = "ca.pem"
FILE_HEADER = "x-bench-file"  # names a file whose content a PUT stores
COUNTS_PATH = "/-/counts"
_BLOCK_BYTES = 256 << 10


@dataclass
class Stored:
    """An object, or the parts of one."""

    pieces: list[memoryview]
    etag: str
    headers: dict[str, str] = field(default_factory=dict)
    modified: float = field(default_factory=time.time)

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return sum(map(len, self.pieces))


@dataclass
class Objects:
    """All that is stored."""

    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, tuple[str, dict[str, str], dict[int, Stored]]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    numbers: Iterator[int] = field(default_factory=itertools.count)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def etag(self) -> str:
        """Return a new ETag; MD5 would take longer than everything else."""
        return f'"{next(self.numbers):032x}"'


class Server(ThreadingHTTPServer):
    """Serves objects over TLS."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, objects: Objects, context: ssl.SSLContext, bytes_per_s: float, delay_s: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.objects = objects
        self.context = context
        self.bytes_per_s = bytes_per_s
        self.delay_s = delay_s

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a separate thread, which also makes its handshake."""
        super().finish_request(self.context.wrap_socket(request, server_side=True), client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection, which its TLS socket has taken over."""
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that go away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class Pace:
    """Waits, so that a transfer is no faster than a connection to S3."""

    def __init__(self, bytes_per_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._start = time.monotonic()
        self._bytes = 0

    def wait(self, count: int) -> None:
        """Wait until that many bytes more may have been transferred."""
        self._bytes += count
        time.sleep(max(0.0, self._start + self._bytes / self._bytes_per_s - time.monotonic()))


class Handler(BaseHTTPRequestHandler):
    """Answers requests."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 64 << 10
    server: Server
    codes: ClassVar = {404: "NoSuchKey", 412: "PreconditionFailed", 416: "InvalidRange", 400: "BadDigest"}

    def answer_request(self) -> None:
        """Answer a request after the delay."""
        url = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        self.key = unquote(url.path).removeprefix("/")
        body = self.read_body()
        time.sleep(self.server.delay_s)
        if url.path == COUNTS_PATH:
            counts, self.server.objects.counts = self.server.objects.counts, Counter()
            self.send(200, {}, json.dumps(counts).encode())
            return
        name = self.operation()
        with self.server.objects.lock:
            self.server.objects.counts[name] += 1
            status, headers, content = getattr(self, f"_{name}")(body)
        self.send(status, headers, content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer_request  # noqa: N815 # as the base class wants them named

    def operation(self) -> str:
        """Return what S3 calls the request."""
        names = {
            ("PUT", "partNumber"): "UploadPart",
            ("POST", "uploads"): "CreateMultipartUpload",
            ("POST", "uploadId"): "CompleteMultipartUpload",
            ("DELETE", "uploadId"): "AbortMultipartUpload",
            ("GET", "versioning"): "GetBucketVersioning",
            ("GET", "uploads"): "ListMultipartUploads",
        }
        for (method, parameter), name in names.items():
            if self.command == method and parameter in self.query:
                return name
        if not self.key.partition("/")[2]:
            return {"HEAD": "HeadBucket", "GET": "ListObjects"}[self.command]
        return f"{self.command.capitalize()}Object"

    def read_body(self) -> Stored:
        """Read a body, at the pace of S3, and compare it with its checksum."""
        pace = Pace(self.server.bytes_per_s)
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.flush()
        chunked = "chunked" in self.headers.get("Transfer-Encoding", "")
        content = b"".join(self.chunks()) if chunked else self.read_exactly(int(self.headers.get("Content-Length", 0)))
        trailer = ""
        if "aws-chunked" in self.headers.get("Content-Encoding", ""):
            content, trailer = split_aws_chunks(content)
        pace.wait(len(content))
        view = memoryview(content)
        stored = Stored([view], "")
        crc = base64.b64encode(isal_zlib.crc32(view).to_bytes(4, "big")).decode()
        given = self.headers.get("x-amz-checksum-crc32") or trailer
        if given:
            assert given == crc, "a damaged body"
            stored.headers["x-amz-checksum-crc32"] = crc
        return stored

    def chunks(self) -> Iterator[bytes | bytearray]:
        """Yield the chunks of a body in chunks."""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            yield self.read_exactly(size)
            self.rfile.readline()
        self.rfile.readline()

    def read_exactly(self, size: int) -> bytearray:
        """Read so many bytes."""
        content, filled, pace = bytearray(size), 0, Pace(self.server.bytes_per_s)
        view = memoryview(content)
        while filled < size:
            count = self.rfile.readinto(view[filled : filled + _BLOCK_BYTES])
            if not count:
                raise ConnectionError
            filled += count
            pace.wait(count)
        return content

    def send(self, status: int, headers: dict[str, str], content: bytes | list[memoryview] = b"") -> None:
        """Send an answer, at the pace of S3."""
        if status >= 400 and self.command != "HEAD":
            content = f"<Error><Code>{self.codes.get(status, 'InvalidRequest')}</Code></Error>".encode()
        pieces = content if isinstance(content, list) else [memoryview(content)]
        self.send_response_only(status)
        sent = {"Date": formatdate(usegmt=True), "Content-Length": str(sum(map(len, pieces))), **headers}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            self.wfile.flush()
            return
        pace = Pace(self.server.bytes_per_s)
        for piece in pieces:
            for start in range(0, len(piece), _BLOCK_BYTES):
                block = piece[start : start + _BLOCK_BYTES]
                self.wfile.write(block)
                pace.wait(len(block))
        self.wfile.flush()

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""

    # --- what is done, by the names of S3; each is called with the lock ------------------------------------------

    def _meets(self) -> bool:
        found = self.server.objects.objects.get(self.key)
        wanted = self.headers.get("If-Match")
        return not (self.headers.get("If-None-Match") and found) and (
            not wanted or (found is not None and found.etag.strip('"') == wanted.strip('"'))
        )

    def _own_headers(self) -> dict[str, str]:
        kept = {name.lower(): value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")}
        return kept | {"content-type": self.headers.get("Content-Type") or "binary/octet-stream"}

    def _PutObject(self, body: Stored) -> tuple[int, dict[str, str], bytes]:  # noqa: N802
        if not self._meets():
            return 412, {}, b""
        checksums = dict(body.headers)
        if self.headers.get(FILE_HEADER):
            with Path(self.headers[FILE_HEADER]).open("rb") as file:
                view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            body = Stored([view], "")
            crc = 0
            for start in range(0, len(view), _BLOCK_BYTES):
                crc = crc64nvme(view[start : start + _BLOCK_BYTES], crc)
            checksums = {"x-amz-checksum-crc64nvme": base64.b64encode(crc.to_bytes(8, "big")).decode()}
        body.headers = self._own_headers() | checksums | {"x-amz-checksum-type": "FULL_OBJECT"}
        body.etag = self.server.objects.etag()
        self.server.objects.objects[self.key] = body
        return 200, {"ETag": body.etag, **checksums}, b""

    def _HeadObject(self, _body: Stored) -> tuple[int, dict[str, str], Any]:  # noqa: N802
        found = self.server.objects.objects.get(self.key)
        if found is None:
            return 404, {}, b""
        if not self._meets():
            return 412, {}, b""
        with_checksum = self.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED"
        headers = {
            name: value
            for name, value in found.headers.items()
            if with_checksum or not name.startswith("x-amz-checksum-")
        }
        modified = formatdate(found.modified, usegmt=True)
        length = {"Content-Length": str(found.size)}
        return 200, {"ETag": found.etag, "Last-Modified": modified, "Accept-Ranges": "bytes", **length, **headers}, b""

    def _GetObject(self, body: Stored) -> tuple[int, dict[str, str], Any]:  # noqa: N802
        status, headers, content = self._HeadObject(body)
        if status != 200:
            return status, headers, content
        found = self.server.objects.objects[self.key]
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        start, stop = 0, found.size
        if asked:
            start, stop = int(asked[1]), min(int(asked[2] or stop - 1) + 1, stop)
            if start >= found.size:
                return 416, {}, b""
            headers = {name: value for name, value in headers.items() if not name.startswith("x-amz-checksum-")}
            headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{found.size}", "Content-Length": str(stop - start)}
        pieces: list[memoryview] = []
        position = 0
        for piece in found.pieces:
            pieces.append(piece[max(0, start - position) : max(0, stop - position)])
            position += len(piece)
        return 206 if asked else 200, headers, [piece for piece in pieces if len(piece)]

    def _DeleteObject(self, _body: Stored) -> tuple[int, dict[str, str], bytes]:  # noqa: N802
        if not self._meets():
            return 412, {}, b""
        self.server.objects.objects.pop(self.key, None)
        return 204, {}, b""

    def _CreateMultipartUpload(self, _body: Stored) -> tuple[int, dict[str, str], bytes]:  # noqa: N802
        upload = f"upload-{next(self.server.objects.numbers)}"
        self.server.objects.uploads[upload] = self.key, self._own_headers(), {}
        return 200, {}, _xml("InitiateMultipartUploadResult", f"<UploadId>{upload}</UploadId>")

    def _UploadPart(self, body: Stored) -> tuple[int, dict[str, str], bytes]:  # noqa: N802
        upload = self.server.objects.uploads.get(self.query["uploadId"])
        if upload is None:
            return 404, {}, b""
        body.etag = self.server.objects.etag()
        upload[2][int(self.query["partNumber"])] = body
        return 200, {"ETag": body.etag, **body.headers}, b""

    def _CompleteMultipartUpload(self, body: Stored) -> tuple[int, dict[str, str], bytes]:  # noqa: N802
        if not self._meets():
            return 412, {}, b""
        upload = self.server.objects.uploads.pop(self.query["uploadId"], None)
        if upload is None:
            return 404, {}, b""
        _, headers, parts = upload
        numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)<", bytes(body.pieces[0]))]
        etag = self.server.objects.etag()
        pieces = [piece for number in numbers for piece in parts[number].pieces]
        self.server.objects.objects[self.key] = Stored(pieces, etag, headers)
        return 200, {}, _xml("CompleteMultipartUploadResult", f"<ETag>{escape(etag)}</ETag>")

    def _AbortMultipartUpload(self, _body: Stored) -> tuple[int, dict[str, str], bytes]:  # noqa: N802
        self.server.objects.uploads.pop(self.query["uploadId"], None)
        return 204, {}, b""

    def _HeadBucket(self, _body: Stored) -> tuple[int, dict[str, str], bytes]:  # noqa: N802
        return 200, {}, b""

    def _ListObjects(self, _body: Stored) -> tuple[int, dict[str, str], bytes]:  # noqa: N802
        bucket = self.key.partition("/")[0]
        start = f"{bucket}/{self.query.get('prefix', '')}"
        found = ((key, self.server.objects.objects[key]) for key in sorted(self.server.objects.objects))
        content = "".join(
            f"<Contents><Key>{escape(key.partition('/')[2])}</Key><Size>{one.size}</Size>"
            f"<ETag>{escape(one.etag)}</ETag><LastModified>{_iso(one.modified)}</LastModified></Contents>"
            for key, one in found
            if key.startswith(start)
        )
        return 200, {}, _xml("ListBucketResult", f"<Name>{bucket}</Name><IsTruncated>false</IsTruncated>{content}")

    def _ListMultipartUploads(self, _body: Stored) -> tuple[int, dict[str, str], bytes]:  # noqa: N802
        return 200, {}, _xml("ListMultipartUploadsResult", "<IsTruncated>false</IsTruncated>")

    def _GetBucketVersioning(self, _body: Stored) -> tuple[int, dict[str, str], bytes]:  # noqa: N802
        return 200, {}, _xml("VersioningConfiguration", "")


def _iso(timestamp: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(timestamp))


def _xml(name: str, content: str) -> bytes:
    declaration = '<?xml version="1.0" encoding="UTF-8"?>'
    return f'{declaration}<{name} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{content}</{name}>'.encode()


def split_aws_chunks(content: bytes | bytearray) -> tuple[bytes, str]:
    """Return a body without the frame of its chunks, and the checksum that follows them."""
    view, position = memoryview(content), 0
    pieces: list[memoryview] = []
    while True:
        end = content.index(b"\r\n", position)
        size = int(bytes(content[position:end]).partition(b";")[0], 16)
        position = end + 2
        if not size:
            return b"".join(pieces), bytes(content[position:]).strip().decode().partition(":")[2]
        pieces.append(view[position : position + size])
        position += size + 2


@contextmanager
def _certificates(folder: Path) -> Iterator[ssl.SSLContext]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / CA_FILE))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    authority.issue_cert("127.0.0.1").configure_cert(context)
    yield context


def main(folder: str, mb_per_s: str, delay_s: str) -> None:
    """Serve until killed."""
    objects = Objects()
    with _certificates(Path(folder)) as context:
        servers = [Server(objects, context, float(mb_per_s) * 1e6, wait_s) for wait_s in (0.0, float(delay_s))]
        for server in servers:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        print(*(f"https://127.0.0.1:{server.server_port}" for server in servers), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
