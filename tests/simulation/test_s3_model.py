"""The model of S3 follows AWS where no emulator does, and keeps what checks need."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, ParamValidationError
from s3fs.errors import translate_boto_error

from runner.aws.bucket import to_error
from runner.errors import ConditionFailedError, ConflictError, DeniedError, NoUploadError, StoreError
from tests.simulation.s3_model import READS, S3Model
from tests.support.fakes import FakeClock
from transform import S3Failure

START = 1_700_000_000.75
WHOLE = datetime.fromtimestamp(1_700_000_000, UTC)


def make(clock: FakeClock | None = None, *, versioning: bool = False, **options: Any) -> S3Model:
    """Return a model with the bucket `b`."""
    model = S3Model((clock or FakeClock(START)).time, **options)
    model.create_bucket("b", versioning=versioning)
    return model


def send(model: S3Model, operation: str, **arguments: Any) -> dict[str, Any]:
    """Return the answer to a request about the bucket."""
    return model.request(operation, Bucket="b", **arguments)


def refusal(model: S3Model, operation: str, **arguments: Any) -> tuple[int, str]:
    """Return the status and the code of a request that fails."""
    with pytest.raises(ClientError) as caught:
        send(model, operation, **arguments)
    return caught.value.response["ResponseMetadata"]["HTTPStatusCode"], caught.value.response["Error"]["Code"]


def upload(model: S3Model, *parts: bytes, key: str = "k", **described: Any) -> dict[str, Any]:
    """Begin an upload and send its parts; return the arguments that complete it."""
    about = {"Key": key, "UploadId": send(model, "create_multipart_upload", Key=key, **described)["UploadId"]}
    etags = [
        send(model, "upload_part", PartNumber=number, Body=part, **about)["ETag"]
        for number, part in enumerate(parts, start=1)
    ]
    named = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
    return {**about, "MultipartUpload": {"Parts": named}}


def test_times_have_whole_seconds() -> None:
    clock = FakeClock(START)
    model = make(clock)
    send(model, "put_object", Key="k", Body=b"one")
    clock.now += 0.2
    send(model, "put_object", Key="k", Body=b"two")
    found = send(model, "head_object", Key="k")
    assert found["LastModified"] == WHOLE
    assert found["ResponseMetadata"]["HTTPHeaders"]["date"] == "Tue, 14 Nov 2023 22:13:20 GMT"
    assert [one.written for one in model.versions("b", "k")] == [START, START + 0.2]
    clock.now += 0.1
    send(model, "put_object", Key="k", Body=b"three")
    assert (send(model, "head_object", Key="k")["LastModified"] - WHOLE).total_seconds() == 1


def test_the_object_of_an_upload_has_the_time_of_its_initiation() -> None:
    clock = FakeClock(START)
    model = make(clock)
    complete = upload(model, b"one")
    clock.now += 60
    send(model, "put_object", Key="k", Body=b"between")
    clock.now += 60
    send(model, "complete_multipart_upload", **complete)
    assert send(model, "head_object", Key="k")["LastModified"] == WHOLE
    assert send(model, "list_objects_v2")["Contents"][0]["LastModified"] == WHOLE
    assert model.objects("b")["k"].written == START + 120


def test_the_object_of_an_upload_can_have_the_time_of_its_completion() -> None:
    clock = FakeClock(START)
    model = make(clock)
    model.initiation_dates = False
    complete = upload(model, b"one")
    clock.now += 60
    send(model, "complete_multipart_upload", **complete)
    assert (send(model, "head_object", Key="k")["LastModified"] - WHOLE).total_seconds() == 60


@pytest.mark.parametrize("versioning", [False, True])
def test_a_conditional_completion_conflicts_with_what_has_happened_since_the_initiation(versioning: bool) -> None:
    model = make(versioning=versioning)
    etag = send(model, "put_object", Key="k", Body=b"old")["ETag"]
    written, deleted, untouched = upload(model, b"1"), upload(model, b"2"), upload(model, b"3", key="other")
    send(model, "put_object", Key="k", Body=b"old")
    # Then the condition holds again, but it is too late.
    conflict = 409, "ConditionalRequestConflict"
    assert refusal(model, "complete_multipart_upload", **written, IfMatch=etag) == conflict
    assert refusal(model, "complete_multipart_upload", **written, IfMatch='"other"') == (412, "PreconditionFailed")
    send(model, "delete_object", Key="k")
    assert refusal(model, "complete_multipart_upload", **deleted, IfNoneMatch="*") == conflict
    assert refusal(model, "complete_multipart_upload", **deleted, IfMatch=etag) == (404, "NoSuchKey")
    send(model, "complete_multipart_upload", **untouched, IfNoneMatch="*")
    # A new upload succeeds, and so does one without a condition.
    send(model, "complete_multipart_upload", **upload(model, b"4"), IfNoneMatch="*")
    send(model, "complete_multipart_upload", **deleted)
    assert model.objects("b")["k"].body == b"2"
    assert len(model.uploads("b")) == 1


def test_a_deletion_conflicts_with_a_conditional_completion_and_a_needless_one_does_not() -> None:
    model = make()
    send(model, "put_object", Key="k", Body=b"old")
    late, free = upload(model, b"1"), upload(model, b"2", key="other")
    for key in ("k", "other"):
        send(model, "delete_object", Key=key)
    assert refusal(model, "complete_multipart_upload", **late, IfNoneMatch="*") == (409, "ConditionalRequestConflict")
    send(model, "complete_multipart_upload", **free, IfNoneMatch="*")
    model.overlaps_conflict = False
    send(model, "complete_multipart_upload", **late, IfNoneMatch="*")


def test_conflicts_can_be_injected() -> None:
    model = make()
    asked: list[tuple[str, str, str]] = []

    def conflict(operation: str, bucket: str, key: str) -> bool:
        asked.append((operation, bucket, key))
        return True

    model.conflict = conflict
    etag = send(model, "put_object", Key="k", Body=b"")["ETag"]
    assert refusal(model, "put_object", Key="k", Body=b"new", IfMatch=etag) == (409, "ConditionalRequestConflict")
    assert refusal(model, "put_object", Key="k", Body=b"new", IfNoneMatch="*") == (412, "PreconditionFailed")
    assert refusal(model, "delete_object", Key="k", IfMatch=etag) == (409, "ConditionalRequestConflict")
    assert asked == [("put_object", "b", "k"), ("delete_object", "b", "k")]
    assert model.objects("b")["k"].body == b""


def test_a_repeated_completion_has_no_effect() -> None:
    model = make()
    complete = upload(model, b"one")
    first = send(model, "complete_multipart_upload", **complete)
    send(model, "put_object", Key="k", Body=b"newer")
    assert send(model, "complete_multipart_upload", **complete, IfNoneMatch="*")["ETag"] == first["ETag"]
    assert model.objects("b")["k"].body == b"newer"
    assert refusal(model, "abort_multipart_upload", Key="k", UploadId=complete["UploadId"]) == (404, "NoSuchUpload")
    model.replay_completes = False
    assert refusal(model, "complete_multipart_upload", **complete) == (404, "NoSuchUpload")


def test_parts_must_be_those_that_were_uploaded_in_their_order() -> None:
    model = make(min_part_bytes=4)
    complete = upload(model, b"long", b"long enough", b"x", b"x")
    parts = complete["MultipartUpload"]["Parts"]

    def outcome(*named: dict[str, Any]) -> tuple[int, str]:
        return refusal(model, "complete_multipart_upload", **{**complete, "MultipartUpload": {"Parts": list(named)}})

    assert outcome() == (400, "MalformedXML")
    assert outcome(parts[1], parts[0]) == (400, "InvalidPartOrder")
    assert outcome(parts[0], parts[0]) == (400, "InvalidPartOrder")
    assert outcome({**parts[0], "ETag": parts[1]["ETag"]}) == (400, "InvalidPart")
    assert outcome({"PartNumber": 9, "ETag": parts[0]["ETag"]}) == (400, "InvalidPart")
    assert outcome(*parts) == (400, "EntityTooSmall")
    assert refusal(model, "complete_multipart_upload", **{**complete, "Key": "other"}) == (404, "NoSuchUpload")
    about = {"Key": "k", "UploadId": complete["UploadId"], "Body": b""}
    assert refusal(model, "upload_part", PartNumber=10_001, **about) == (400, "InvalidArgument")
    send(model, "complete_multipart_upload", **{**complete, "MultipartUpload": {"Parts": parts[:3]}})
    assert send(model, "get_object", Key="k")["Body"] == b"longlong enoughx"


def test_a_foreign_key_denies_reads_and_nothing_else() -> None:
    model = make()
    send(model, "put_object", Key="in/denied", Body=b"secret")
    model.deny("b", "in/denied", READS)
    assert refusal(model, "head_object", Key="in/denied") == (403, "403")
    assert refusal(model, "get_object", Key="in/denied") == (403, "AccessDenied")
    assert send(model, "list_objects_v2")["KeyCount"] == 1
    send(model, "put_object", Key="in/denied", Body=b"another")
    model.deny("b", "in/")
    assert refusal(model, "put_object", Key="in/any", Body=b"") == (403, "AccessDenied")
    model.allow("b", "in/")
    model.allow("b", "in/denied")
    assert send(model, "get_object", Key="in/denied")["Body"] == b"another"


def test_versions_stay_under_a_delete_marker() -> None:
    model = make(versioning=True)
    first = send(model, "put_object", Key="k", Body=b"one")
    second = send(model, "put_object", Key="k", Body=b"two", IfMatch=first["ETag"])
    marker = send(model, "delete_object", Key="k")
    assert marker["DeleteMarker"]
    assert refusal(model, "get_object", Key="k") == (404, "NoSuchKey")
    assert refusal(model, "put_object", Key="k", Body=b"", IfMatch=second["ETag"]) == (404, "NoSuchKey")
    listed = send(model, "list_object_versions")
    assert [one["VersionId"] for one in listed["Versions"]] == [second["VersionId"], first["VersionId"]]
    assert [one["IsLatest"] for one in listed["Versions"]] == [False, False]
    assert [(one["VersionId"], one["IsLatest"]) for one in listed["DeleteMarkers"]] == [(marker["VersionId"], True)]
    send(model, "put_object", Key="k", Body=b"three", IfNoneMatch="*")
    assert [one.body for one in model.versions("b", "k")] == [b"one", b"two", b"three"]


def test_tags_are_those_of_a_version() -> None:
    model = make(versioning=True)
    first, second = (send(model, "put_object", Key="k", Body=body)["VersionId"] for body in (b"1", b"2"))
    mark = {"TagSet": [{"Key": "a", "Value": "b"}]}
    assert send(model, "put_object_tagging", Key="k", Tagging=mark, VersionId=first)["VersionId"] == first
    assert send(model, "get_object_tagging", Key="k", VersionId=first)["TagSet"] == mark["TagSet"]
    assert send(model, "get_object_tagging", Key="k")["VersionId"] == second
    assert send(model, "get_object_tagging", Key="k")["TagSet"] == []
    marker = send(model, "delete_object", Key="k")["VersionId"]
    assert refusal(model, "get_object_tagging", Key="k") == (404, "NoSuchKey")
    assert refusal(model, "put_object_tagging", Key="k", Tagging=mark, VersionId="v0") == (404, "NoSuchVersion")
    assert refusal(model, "put_object_tagging", Key="k", Tagging=mark, VersionId=marker) == (405, "MethodNotAllowed")
    too_many = {"TagSet": [{"Key": str(number), "Value": ""} for number in range(11)]}
    assert refusal(model, "put_object_tagging", Key="k", Tagging=too_many, VersionId=first) == (400, "BadRequest")


def test_pages_of_uploads_go_on_after_the_last_one() -> None:
    model = make(page_size=2)
    for key in ("b", "a b", "a b", "c", "a b"):
        upload(model, key=key)
    seen: list[str] = []
    markers: dict[str, str] = {}
    while True:
        page = send(model, "list_multipart_uploads", EncodingType="url", **markers)
        seen += [one["Key"] for one in page["Uploads"]]
        if not page["IsTruncated"]:
            break
        # As `runner.aws.bucket` does, which decodes the marker first.
        key = page["NextKeyMarker"].replace("+", " ")
        markers = {"KeyMarker": key, "UploadIdMarker": page["NextUploadIdMarker"]}
    assert seen == ["a+b", "a+b", "a+b", "b", "c"]


def test_limits_of_keys_and_metadata() -> None:
    model = make()
    assert refusal(model, "put_object", Key="ü" * 513, Body=b"") == (400, "KeyTooLongError")
    assert refusal(model, "put_object", Key="k", Body=b"", Metadata={"a": "x" * 2048}) == (400, "MetadataTooLarge")
    tags = "&".join(f"t{number}=1" for number in range(11))
    assert refusal(model, "create_multipart_upload", Key="k", Tagging=tags) == (400, "BadRequest")
    with pytest.raises(ParamValidationError):
        send(model, "put_object", Key="k", Body=b"", Metadata={"a": "ü"})
    send(model, "put_object", Key="ü" * 512, Body=b"", Metadata={"a": "x" * 2047})


def test_etags_can_be_unique() -> None:
    model = make(unique_etags=True)
    etags = [send(model, "put_object", Key="k", Body=b"same")["ETag"] for _ in range(3)]
    complete = upload(model, b"same", b"same")
    etags += [part["ETag"] for part in complete["MultipartUpload"]["Parts"]]
    etags.append(send(model, "complete_multipart_upload", **complete)["ETag"])
    assert len({*etags}) == len(etags)
    assert send(model, "get_object", Key="k", IfMatch=etags[-1].strip('"'))["Body"] == b"samesame"


def test_history_says_when_a_version_was_visible() -> None:
    clock = FakeClock(START)
    model = make(clock)
    for body in (b"one", b"two"):
        send(model, "put_object", Key="k", Body=body)
        clock.now += 1
    send(model, "delete_object", Key="k")
    assert [(one.written - START, (one.ended or 0) - START) for one in model.versions("b", "k")] == [(0, 1), (1, 2)]
    assert model.objects("b") == {}


def test_ranges_without_a_byte_are_refused() -> None:
    model = make()
    send(model, "put_object", Key="empty", Body=b"")
    send(model, "put_object", Key="k", Body=b"0123")
    for key, asked in (("empty", "bytes=0-9"), ("empty", "bytes=-1"), ("k", "bytes=4-"), ("k", "bytes=-0")):
        assert refusal(model, "get_object", Key=key, Range=asked) == (416, "InvalidRange")
    found = send(model, "get_object", Key="k", Range="bytes=3-9")
    assert (found["Body"], found["ContentRange"], found["ContentLength"]) == (b"3", "bytes 3-3/4", 1)


NO_UPLOAD = {"UploadId": "none", "Key": "k"}


@pytest.mark.parametrize(
    ("operation", "arguments", "failure", "error_class"),
    [
        ("head_object", {"Key": "none"}, S3Failure.NOT_FOUND, StoreError),
        ("get_object", {"Key": "none"}, S3Failure.NO_KEY, ConditionFailedError),
        ("head_object", {"Key": "denied"}, S3Failure.DENIED, DeniedError),
        ("get_object", {"Key": "denied"}, S3Failure.DENIED, DeniedError),
        ("get_object", {"Key": "k", "IfMatch": '"x"'}, S3Failure.CONDITION_FAILED, ConditionFailedError),
        ("put_object", {"Key": "k", "IfNoneMatch": "*"}, S3Failure.CONDITION_FAILED, ConditionFailedError),
        ("delete_object", {"Key": "none", "IfMatch": '"x"'}, S3Failure.NO_KEY, ConditionFailedError),
        ("put_object", {"Key": "new", "IfNoneMatch": "*"}, S3Failure.CONFLICT, ConflictError),
        ("upload_part", {**NO_UPLOAD, "PartNumber": 1}, S3Failure.NO_UPLOAD, NoUploadError),
        ("complete_multipart_upload", NO_UPLOAD, S3Failure.NO_UPLOAD, NoUploadError),
        ("abort_multipart_upload", NO_UPLOAD, S3Failure.NO_UPLOAD, NoUploadError),
    ],
)
def test_the_worker_understands_refusals(
    operation: str, arguments: dict[str, Any], failure: S3Failure, error_class: type[Exception]
) -> None:
    model = make()
    send(model, "put_object", Key="k", Body=b"")
    model.deny("b", "denied")
    model.conflict = lambda *_: True
    with pytest.raises(ClientError) as caught:
        send(model, operation, **arguments)
    error = translate_boto_error(caught.value)  # as s3fs raises it
    assert S3Failure.from_error(error) is failure
    assert type(to_error(error, "")) is error_class


def test_what_the_model_does_not_know_is_an_error() -> None:
    model = make()
    with pytest.raises(NotImplementedError, match="copy_object"):
        send(model, "copy_object", Key="k")
    with pytest.raises(NotImplementedError, match="SSECustomerKey"):
        send(model, "put_object", Key="k", SSECustomerKey="secret")
    with pytest.raises(ClientError, match="NoSuchBucket"):
        model.request("get_object", Bucket="other", Key="k")
    with pytest.raises(ClientError, match="404"):
        model.request("head_bucket", Bucket="other")
