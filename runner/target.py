"""Where an output goes, and what is said of it: it keeps the input's content type, encoding, storage class and tags."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from runner.errors import ImpossibleError
from transform import codec_of_encoding, codec_of_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.store import Store
    from transform import Codec

_KEPT = ("ContentType", "ContentEncoding", "StorageClass")
_NO_CODING = {"", "aws-chunked", "identity"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where an output goes.

    Attributes:
        store: The bucket.
        key: The object.
        headers: What is to be said of it: content type, metadata and so on, by the names that boto3 uses.
        codec: The format to compress it in, None for none.
        part_bytes: How large the first parts are.
    """

    store: Store
    key: str
    headers: Mapping[str, Any]
    codec: Codec | None
    part_bytes: int

    @classmethod
    def from_headers(
        cls,
        store: Store,
        key: str,
        headers: Mapping[str, Any],
        tags: Mapping[str, str],
        metadata: Mapping[str, str],
        part_bytes: int,
    ) -> Target:
        """Return it for the output of an object.

        Args:
            store: The bucket.
            key: The object.
            headers: What S3 says of the input, by the names that boto3 uses.
            tags: Those of the input.
            metadata: What the output is to tell of itself.
            part_bytes: How large the first parts are.

        Raises:
            ImpossibleError: The input is encoded in a way that cannot be written.
        """
        said = {name: headers[name] for name in _KEPT if headers.get(name)} | {"Metadata": metadata}
        if tags:
            said["Tagging"] = urlencode(tags)
        codec = codec_of_name(key) or _codec_of_encoding(headers.get("ContentEncoding", ""))
        return cls(store, key, said, codec, part_bytes)


def _codec_of_encoding(encoding: str) -> Codec | None:
    """Return the format that a `Content-Encoding` names.

    Raises:
        ImpossibleError: It is one that cannot be read.
    """
    tokens = [token.strip() for token in encoding.split(",") if token.strip().lower() not in _NO_CODING]
    codecs = [codec_of_encoding(token) for token in tokens]
    if len(codecs) > 1 or None in codecs:
        raise ImpossibleError(f"the object's Content-Encoding is `{encoding}`; gzip, zstd, bzip2 and xz can be read")
    return codecs[0] if codecs else None
