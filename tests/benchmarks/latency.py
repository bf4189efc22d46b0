"""A proxy that makes each answer come later, as if the server were farther away."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK_BYTES = 1 << 20


@contextmanager
def delayed(upstream: str, delay_s: float) -> Iterator[str]:
    """Yield an endpoint that passes everything on to another, the first bytes of each answer after a delay.

    It looks at no byte, so it costs next to no CPU: an answer begins with what the server sends after it was sent to.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, upstream, delay_s), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def _accept(server: socket.socket, upstream: str, delay_s: float) -> None:
    place = urlsplit(upstream)
    with suppress(OSError):  # closed: the end
        while True:
            client, _ = server.accept()
            remote = socket.create_connection((place.hostname, place.port))
            asked = threading.Event()
            threading.Thread(target=_pass_on, args=(client, remote, asked, None), daemon=True).start()
            threading.Thread(target=_pass_on, args=(remote, client, asked, delay_s), daemon=True).start()


def _pass_on(source: socket.socket, target: socket.socket, asked: threading.Event, delay_s: float | None) -> None:
    """Pass on what comes: requests, where there is no delay, else answers."""
    buffer = memoryview(bytearray(_BLOCK_BYTES))
    with suppress(OSError):
        while count := source.recv_into(buffer):
            if delay_s is None:
                asked.set()
            elif asked.is_set():
                asked.clear()
                time.sleep(delay_s)
            target.sendall(buffer[:count])
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
