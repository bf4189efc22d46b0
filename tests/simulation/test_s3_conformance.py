"""The model of S3 answers as ministack does, but for known differences of ministack from AWS; or as moto does."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tests.simulation.s3_model import S3Model
from tests.support.fakes import FakeClock

if TYPE_CHECKING:
    from collections.abc import Callable

START = 1_700_000_000.25
KEYS = ["a", "a/b", "a b+c&d", "ü/Ö", "z%20", "z~"]
TAGGED = KEYS[:2]  # always: ministack keeps the tags of an object that is overwritten by one without
BODIES = [b"", b"one", b"two", b"0123456789"]
RANGES = [
    "bytes=0-0",
    "bytes=2-4",
    "bytes=1-",
    "bytes=-3",
    "bytes=-0",
    "bytes=3-99",
    "bytes=10-",
]
SEEN = (
    *("ETag", "ContentLength", "ContentType", "ContentEncoding", "ContentRange", "Metadata", "TagCount", "TagSet"),
    *("Body", "KeyCount", "IsTruncated", "DeleteMarker", "Status", "StorageClass", "Prefix", "NextKeyMarker"),
)


@dataclass(frozen=True)
class Difference:
    """A known difference of ministack from AWS; the model is right.

    Attributes:
        what: The difference.
        source: Where AWS says what it does, or where somebody has measured it.
        operations: The operations that it is about.
        name: The property of the answers that is not compared, or "".
        refusal: The status and the code with which the model, unlike ministack, refuses a request. From then on the
            two have different contents.
    """

    what: str
    source: str
    operations: tuple[str, ...]
    name: str = ""
    refusal: tuple[int, str] | None = None


COMPLETE = "complete_multipart_upload"
DIFFERENCES = [
    Difference(
        "ministack gives objects another content type by default",
        "user guide of S3, Working with object metadata: Content-Type",
        ("head_object", "get_object"),
        name="ContentType",
    ),
    Difference(
        "ministack does not count tags in the answer to HEAD",
        "API reference of S3, HeadObject: x-amz-tagging-count",
        ("head_object",),
        name="TagCount",
    ),
    Difference(
        "ministack does not repeat the prefix in a listing of uploads",
        "API reference of S3, ListMultipartUploads: Prefix",
        ("list_multipart_uploads",),
        name="Prefix",
    ),
    Difference(
        "ministack sorts the parts that a request names",
        "API reference of S3, CompleteMultipartUpload: InvalidPartOrder",
        (COMPLETE,),
        refusal=(400, "InvalidPartOrder"),
    ),
    Difference(
        "ministack completes an upload although its key was changed since it was initiated",
        "localstack/localstack, tests/aws/services/s3/test_s3_api.py, run against AWS: TestS3ObjectWritePrecondition",
        (COMPLETE,),
        refusal=(409, "ConditionalRequestConflict"),
    ),
]


def without_differences(operation: str, outcome: Any) -> Any:
    """Return an outcome without the properties that are not compared."""
    if not isinstance(outcome[1], dict):
        return outcome
    left_out = {known.name for known in DIFFERENCES if operation in known.operations}
    return outcome[0], {name: value for name, value in outcome[1].items() if name not in left_out}


def outcome_of(
    send: Callable[..., dict[str, Any]], operation: str, arguments: dict[str, Any], ids: dict[str, int]
) -> Any:
    """Return what can be compared of an answer: its status, and its code or content."""
    try:
        answer = send(operation, **arguments)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    seen: dict[str, Any] = {name: answer[name] for name in SEEN if name in answer}
    if hasattr(seen.get("Body"), "read"):
        seen["Body"] = seen["Body"].read()
    if "TagSet" in seen:
        seen["TagSet"] = {tag["Key"]: tag["Value"] for tag in seen["TagSet"]}
    seen["Contents"] = [
        # S3 encodes spaces as `+`, ministack as `%20`
        (unquote_plus(one["Key"]), one["ETag"], one["Size"])
        for one in answer.get("Contents", ())
    ]
    seen["Versions"] = [
        (one["Key"], one["IsLatest"], one.get("ETag"))
        for name in ("Versions", "DeleteMarkers")
        for one in answer.get(name, ())
    ]
    seen["Uploads"] = sorted((one["Key"], ids.get(one["UploadId"])) for one in answer.get("Uploads", ()))
    seen["HasVersion"] = answer.get("VersionId", "null") != "null"
    return answer["ResponseMetadata"]["HTTPStatusCode"], seen


class Pair:
    """A bucket of the model and one of a server, to which the same requests are sent."""

    def __init__(self, model: S3Model, server: Any, bucket: str) -> None:
        self.model, self.server, self.bucket = model, server, bucket
        self.ids: tuple[dict[str, int], dict[str, int]] = {}, {}
        self.uploads: list[tuple[str, str, str]] = []  # the key and both ids
        self.log: list[str] = []
        self.differs = False

    def send(self, operation: str, *upload: int, **arguments: Any) -> Any:
        """Send a request to both; return the outcome of the model."""
        given = {"Bucket": self.bucket, **arguments}
        ours, theirs = dict(given), dict(given)
        if upload:
            key, *both = self.uploads[upload[0]]
            ours |= {"Key": key, "UploadId": both[0]}
            theirs |= {"Key": key, "UploadId": both[1]}
        expected = outcome_of(self.model.request, operation, ours, self.ids[0])
        found = outcome_of(self._request, operation, theirs, self.ids[1])
        self.log.append(f"{operation} {upload} {arguments}: {expected}")
        if without_differences(operation, expected) != without_differences(operation, found):
            known = any(operation in one.operations and expected == one.refusal for one in DIFFERENCES)
            assert known, "\n".join([*self.log[-40:], f"but the server: {found}"])
            self.differs = True
        return expected

    def _request(self, operation: str, **arguments: Any) -> dict[str, Any]:
        answer: dict[str, Any] = getattr(self.server, operation)(**arguments)
        return answer

    def create(self, **arguments: Any) -> None:
        """Begin a multipart upload in both."""
        ours = self.model.request("create_multipart_upload", Bucket=self.bucket, **arguments)["UploadId"]
        theirs = self.server.create_multipart_upload(Bucket=self.bucket, **arguments)["UploadId"]
        self.ids[0][ours] = self.ids[1][theirs] = len(self.uploads)
        self.uploads.append((arguments["Key"], ours, theirs))

    def list_all(self, operation: str, tokens: dict[str, str], **arguments: Any) -> None:
        """List everything page by page, in both."""
        ours, theirs = dict(arguments), dict(arguments)
        while True:
            expected = self.model.request(operation, Bucket=self.bucket, **ours)
            found = self._request(operation, Bucket=self.bucket, **theirs)
            seen = [
                without_differences(operation, outcome_of(lambda _, answer=answer: answer, operation, {}, ids))
                for answer, ids in ((expected, self.ids[0]), (found, self.ids[1]))
            ]
            assert seen[0] == seen[1], "\n".join(
                [*self.log[-40:], f"{operation} {ours}: {seen[0]}", f"but the server: {seen[1]}"]
            )
            if not expected["IsTruncated"]:
                return
            for ask, answer in ((ours, expected), (theirs, found)):
                ask.pop("StartAfter", None)
                ask |= {argument: answer[token] for token, argument in tokens.items()}


def condition(pair: Pair, chance: random.Random, key: str, *names: str, writes: bool = False) -> dict[str, str]:
    """Return a condition that may hold or not, or none."""
    current = pair.model.objects(pair.bucket).get(key)
    known = [one.etag for one in pair.model.versions(pair.bucket, key)] + ['"0123456789abcdef0123456789abcdef"']
    name = chance.choice(["", *names])
    if not name:
        return {}
    if name == "IfNoneMatch" and writes:
        return {name: "*"}
    return {name: current.etag if current and chance.random() < 0.5 else chance.choice(known)}


def described(chance: random.Random, key: str) -> dict[str, Any]:
    """Return what a write may say about its object."""
    told: dict[str, Any] = {"Metadata": {"Origin": chance.choice("xyz")}, "ContentType": "text/x"}
    tags = {"Tagging": f"team=a%20b&cost={chance.randint(1, 9)}"} if key in TAGGED else {}
    return {**(told if chance.random() < 0.5 else {}), **tags}


def put(pair: Pair, chance: random.Random) -> None:
    """Put an object in both."""
    key = chance.choice(KEYS)
    write = condition(pair, chance, key, "IfMatch", "IfNoneMatch", writes=True)
    pair.send("put_object", Key=key, Body=chance.choice(BODIES), **described(chance, key), **write)


def delete(pair: Pair, chance: random.Random) -> None:
    """Delete an object in both."""
    key = chance.choice(KEYS)
    pair.send("delete_object", Key=key, **condition(pair, chance, key, "IfMatch"))


def get(pair: Pair, chance: random.Random) -> None:
    """Read an object, or a range of it."""
    key = chance.choice(KEYS)
    found = pair.model.objects(pair.bucket).get(key)
    # Of an empty object, ministack sends `bytes 0--1/0` for a suffix.
    ranges = RANGES if found is None or found.body else [one for one in RANGES if "=-" not in one]
    part = {"Range": chance.choice(ranges)} if chance.random() < 0.6 else {}
    pair.send("get_object", Key=key, **part, **condition(pair, chance, key, "IfMatch", "IfNoneMatch"))


def head(pair: Pair, chance: random.Random) -> None:
    """Ask for the properties of an object, and of the bucket."""
    key = chance.choice(KEYS)
    pair.send("head_object", Key=key, **condition(pair, chance, key, "IfMatch", "IfNoneMatch"))
    pair.send("get_object_tagging", Key=key)
    pair.send("head_bucket")


def tag(pair: Pair, chance: random.Random) -> None:
    """Replace the tags of an object in both, and look at them."""
    key = chance.choice(sorted(TAGGED))  # the tags of others stay in ministack when the object is overwritten
    tags = [{"Key": f"t{number}", "Value": chance.choice("xyz")} for number in range(chance.choice((0, 1, 3, 10)))]
    pair.send("put_object_tagging", Key=key, Tagging={"TagSet": tags})
    pair.send("get_object_tagging", Key=key)


def create(pair: Pair, chance: random.Random) -> None:
    """Initiate an upload in both."""
    key = chance.choice([key for key in KEYS if key not in TAGGED])  # ministack loses the tags of uploads
    pair.create(Key=key, **described(chance, key))


def send_parts(pair: Pair, chance: random.Random) -> None:
    """Send parts of an upload, which may replace others."""
    for _ in range(2 if pair.uploads else 0):
        number = chance.randint(1, 3)
        pair.send("upload_part", newest(pair, chance), PartNumber=number, Body=chance.choice(BODIES))


def newest(pair: Pair, chance: random.Random) -> int:
    """Return the index of an upload: usually one of the last, which is probably open."""
    return len(pair.uploads) - 1 if chance.random() < 0.7 else chance.randrange(len(pair.uploads))


def complete(pair: Pair, chance: random.Random) -> None:
    """Complete or abort an upload, perhaps with parts that are wrong."""
    if not pair.uploads:
        return
    upload = newest(pair, chance)
    key, upload_id, _ = pair.uploads[upload]
    found = pair.model.uploads(pair.bucket).get(upload_id)
    parts = [{"PartNumber": number, "ETag": etag} for number, (_, etag) in sorted(found.parts.items())] if found else []
    parts = parts or [{"PartNumber": 1, "ETag": '"0123456789abcdef0123456789abcdef"'}]
    match chance.randrange(8):
        case 0:
            pair.send("abort_multipart_upload", upload)
            return
        case 1:
            parts[0]["ETag"] = '"0123456789abcdef0123456789abcdef"'
        case 2:
            parts = parts[::-1]
        case 3:
            parts.append({"PartNumber": 9, "ETag": parts[0]["ETag"]})
        case 4:
            parts = parts[-1:]
    write = condition(pair, chance, key, "IfMatch", "IfNoneMatch", writes=True)
    pair.send("complete_multipart_upload", upload, MultipartUpload={"Parts": parts}, **write)


def list_objects(pair: Pair, chance: random.Random) -> None:
    """List the objects of both."""
    after = {"StartAfter": chance.choice(KEYS)} if chance.random() < 0.3 else {}
    where: dict[str, Any] = {"Prefix": chance.choice(["", "a", "a/", "z"]), "MaxKeys": chance.randint(1, 4)}
    tokens = {"NextContinuationToken": "ContinuationToken"}
    pair.list_all("list_objects_v2", tokens, EncodingType="url", **where, **after)


def list_versions(pair: Pair, chance: random.Random) -> None:
    """List the versions of both."""
    tokens = {"NextKeyMarker": "KeyMarker", "NextVersionIdMarker": "VersionIdMarker"}
    # Without versions, ministack repeats the last entry of a page in the next one.
    size = chance.randint(3, 9) if pair.model.request("get_bucket_versioning", Bucket=pair.bucket).get("Status") else 99
    pair.list_all("list_object_versions", tokens, Prefix=chance.choice(["", "a"]), MaxKeys=size)


def list_uploads(pair: Pair, chance: random.Random) -> None:
    """List the open uploads of both."""
    pair.list_all("list_multipart_uploads", {}, Prefix=chance.choice(["", "a"]))


STEPS = [put, put, put, delete, get, get, head, tag, create, send_parts, send_parts, complete]
LISTS = [list_objects, list_versions, list_uploads]


@pytest.mark.parametrize("versioning", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_the_model_and_ministack_answer_random_requests_alike(
    s3: Any, bucket: str, seed: int, versioning: bool
) -> None:
    compare(s3, bucket, random.Random(seed), versioning=versioning, requests=100)


@pytest.mark.slow
@pytest.mark.parametrize("versioning", [False, True])
@pytest.mark.parametrize("seed", range(100, 110))
def test_the_model_and_ministack_answer_many_random_requests_alike(
    s3: Any, bucket: str, seed: int, versioning: bool
) -> None:
    compare(s3, bucket, random.Random(seed), versioning=versioning, requests=200)


def compare(s3: Any, bucket: str, chance: random.Random, *, versioning: bool, requests: int) -> None:
    """Send random requests to both, until their contents differ for a known reason."""
    model = S3Model(FakeClock(START).time, min_part_bytes=0)
    model.create_bucket(bucket, versioning=versioning)
    if versioning:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    pair = Pair(model, s3, bucket)
    pair.send("get_bucket_versioning")
    for _ in range(requests):
        chance.choice([*STEPS, chance.choice(LISTS)])(pair, chance)
        if pair.differs:
            return
    for list_one in LISTS:
        list_one(pair, chance)


def test_the_model_and_moto_answer_alike_where_ministack_is_wrong() -> None:
    model = S3Model(FakeClock(START).time, min_part_bytes=5 << 20)
    model.create_bucket("bucket")
    with mock_aws():
        server = boto3.client("s3", region_name="us-east-1")
        server.create_bucket(Bucket="bucket")
        pair = Pair(model, server, "bucket")
        pair.send("put_object", Key="k", Body=b"0123")
        pair.send("put_object", Key="empty", Body=b"")
        for asked in ("bytes=2-1", "bytes=-0", "bytes=4-4", "bytes=-9"):
            pair.send("get_object", Key="k", Range=asked)
        pair.send("get_object", Key="empty", Range="bytes=0-0")
        pair.create(Key="k")
        assert pair.send("upload_part", 0, PartNumber=10_001, Body=b"") == (400, "InvalidArgument")
        parts = [
            {"PartNumber": number, "ETag": pair.send("upload_part", 0, PartNumber=number, Body=b"x")[1]["ETag"]}
            for number in (1, 2)
        ]
        assert pair.send(COMPLETE, 0, MultipartUpload={"Parts": parts}) == (400, "EntityTooSmall")
        pair.send(COMPLETE, 0, MultipartUpload={"Parts": parts[1:]})
        pair.send(COMPLETE, 0, MultipartUpload={"Parts": parts[1:]})
        pair.send("head_object", Key="k")
        pair.create(Key="k")
        assert pair.send(COMPLETE, 1, MultipartUpload={"Parts": []}) == (400, "MalformedXML")
