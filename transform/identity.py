"""What a calculation is, as a digest: the same for the same outputs, another for any other code."""

import hashlib
from collections.abc import Iterable

FORMAT_VERSION = 1
"""Of the output for the same calculation and input; counted up whenever the engine would write other bytes."""


def digest(parts: Iterable[bytes]) -> str:
    """Return the SHA-256 of parts that no other division into parts gives, in hexadecimal."""
    total = hashlib.sha256(f"transform {FORMAT_VERSION}".encode())
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()
