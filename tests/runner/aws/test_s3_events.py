"""Every kind of message S3 sends is understood, and no other."""

from __future__ import annotations

import json
from copy import deepcopy
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.aws.s3_events import MAX_MESSAGE_CHARACTERS, ObjectCreated, Parsed, parse
from runner.errors import EventError
from tests.support.queues import arn_of, create_queue, take_all

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTIFICATION: dict[str, Any] = {
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-west-2",
            "eventTime": "1970-01-01T00:00:00.000Z",
            "eventName": "ObjectCreated:Put",
            "userIdentity": {"principalId": "AIDAJDPLRKLG7UEXAMPLE"},
            "requestParameters": {"sourceIPAddress": "172.16.0.1"},
            "responseElements": {
                "x-amz-request-id": "C3D13FE58DE4C810",
                "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD",
            },
            "s3": {
                "s3SchemaVersion": "1.0",
                "configurationId": "testConfigRule",
                "bucket": {
                    "name": "amzn-s3-demo-bucket",
                    "ownerIdentity": {"principalId": "A3NL1KOZZKExample"},
                    "arn": "arn:aws:s3:::amzn-s3-demo-bucket",
                },
                "object": {
                    "key": "HappyFace.jpg",
                    "size": 1024,
                    "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                    "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
                    "sequencer": "0055AED6DCD90281E5",
                },
            },
        }
    ]
}
CREATED = ObjectCreated(
    bucket="amzn-s3-demo-bucket",
    key="HappyFace.jpg",
    version_id="096fKKXTRTtl3on89fVO.nfljtsv6qko",
    etag="d41d8cd98f00b204e9800998ecf8427e",
    size=1024,
    sequencer="0055AED6DCD90281E5",
    time=datetime(1970, 1, 1, tzinfo=UTC),
)
BRIDGED: dict[str, Any] = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "111122223333",
    "time": "2021-11-12T00:00:00Z",
    "region": "ca-central-1",
    "resources": ["arn:aws:s3:::amzn-s3-demo-bucket1"],
    "detail": {
        "version": "0",
        "bucket": {"name": "amzn-s3-demo-bucket1"},
        "object": {
            "key": "example-key",
            "size": 5,
            "etag": "b1946ac92492d2347c6235b4d2611184",
            "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
            "sequencer": "617f08299329d189",
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "123456789012",
        "source-ip-address": "1.2.3.4",
        "reason": "PutObject",
    },
}
TEST_EVENT = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2014-10-13T15:57:02.089Z",
    "Bucket": "amzn-s3-demo-bucket",
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
}
MISSING = object()

keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
sizes = st.none() | st.integers(0, (1 << 63) - 1)
# Not before 1900: to_body may be handed any zone, and those of long ago have seconds.
times = st.none() | st.datetimes(datetime(1900, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
words = st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters='"'), min_size=1)
events = st.builds(ObjectCreated, keys, keys, words, words, sizes, words, times).filter(
    lambda event: not (event.key.endswith("/") and event.size == 0)
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


def wrap(body: str) -> str:
    """Return what SNS sends of a message to a queue."""
    return json.dumps(
        {
            "Type": "Notification",
            "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
            "TopicArn": "arn:aws:sns:us-west-2:123456789012:MyTopic",
            "Subject": "Amazon S3 Notification",
            "Message": body,
            "Timestamp": "2012-05-02T00:54:06.655Z",
            "SignatureVersion": "1",
            "Signature": "EXAMPLEw6JRN...",
            "UnsubscribeURL": "https://sns.us-west-2.amazonaws.com/?Action=Unsubscribe",
        }
    )


def changed(event: dict[str, Any], *path: str | int, to: Any) -> dict[str, Any]:
    """Return an event with one value replaced, or removed."""
    copy = deepcopy(event)
    place: Any = copy
    for step in path[:-1]:
        place = place[step]
    if to is MISSING:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return copy


def named(name: str) -> str:
    return json.dumps(changed(NOTIFICATION, "Records", 0, "eventName", to=name))


def with_object(**changes: Any) -> str:
    described = NOTIFICATION["Records"][0]["s3"]["object"] | changes
    return json.dumps(changed(NOTIFICATION, "Records", 0, "s3", "object", to=described))


def of_key(key: str, **changes: Any) -> ObjectCreated:
    (created,) = parse(with_object(key=key, **changes)).created
    return created


def refused(body: str) -> str:
    with pytest.raises(EventError) as caught:
        parse(body)
    message = str(caught.value)
    assert 0 < len(message) <= MAX_MESSAGE_CHARACTERS
    return message


class TestNotification:
    def test_as_documented(self) -> None:
        assert parse(json.dumps(NOTIFICATION)) == Parsed((CREATED,), ())

    @pytest.mark.parametrize("version", ["2.0", "2.1", "2.2", "2.3", "2.6", "2.19"])
    def test_of_any_version_2(self, version: str) -> None:
        assert parse(json.dumps(changed(NOTIFICATION, "Records", 0, "eventVersion", to=version))).created == (CREATED,)

    @pytest.mark.parametrize("action", ["Put", "Post", "Copy", "CompleteMultipartUpload", "SomethingNew"])
    @pytest.mark.parametrize("prefix", ["", "s3:"])
    def test_of_any_creation(self, prefix: str, action: str) -> None:
        assert parse(named(f"{prefix}ObjectCreated:{action}")).created == (CREATED,)

    @pytest.mark.parametrize(
        ("encoded", "key"),
        [
            ("a+b", "a b"),
            ("a%20b", "a b"),
            ("a%2Bb", "a+b"),
            ("100%25", "100%"),
            ("%2520", "%20"),
            ("a/b%2Fc", "a/b/c"),
            ("a%3FversionId%3D5", "a?versionId=5"),
            ("%C3%A9%F0%9F%98%80", "é\U0001f600"),
            ("é", "é"),
            ("%00", "\0"),
        ],
    )
    def test_keys_are_decoded(self, encoded: str, key: str) -> None:
        assert of_key(encoded).key == key

    def test_keeps_the_order_of_many(self) -> None:
        records = [json.loads(with_object(key=f"k{number}"))["Records"][0] for number in range(5)]
        records.insert(2, json.loads(named("ObjectRemoved:Delete"))["Records"][0])
        parsed = parse(json.dumps({"Records": records}))
        assert [one.key for one in parsed.created] == ["k0", "k1", "k2", "k3", "k4"]
        assert parsed.ignored == ("'ObjectRemoved:Delete' of 's3://amzn-s3-demo-bucket/HappyFace.jpg'",)

    def test_says_what_is_known(self) -> None:
        assert of_key("k", versionId="null").version_id == "null"
        assert of_key("k", versionId="").version_id is None
        assert of_key("k", versionId=None).version_id is None
        assert of_key("k", eTag='"abc-3"').etag == "abc-3"
        assert of_key("k", eTag="").etag is None
        assert of_key("k", sequencer="").sequencer is None
        bare = {"eventName": "ObjectCreated:Put", "s3": {"bucket": {"name": "b"}, "object": {"key": "k"}}}
        (created,) = parse(json.dumps({"Records": [bare]})).created
        assert created == ObjectCreated("b", "k", None, None, None, None, None)

    def test_times_come_in_utc(self) -> None:
        event = changed(NOTIFICATION, "Records", 0, "eventTime", to="2024-01-01T01:30:00.5+01:30")
        (created,) = parse(json.dumps(event)).created
        assert created.time == datetime(2024, 1, 1, 0, 0, 0, 500_000, UTC)
        assert created.time.tzinfo is UTC

    def test_folder_markers_are_ignored(self) -> None:
        parsed = parse(with_object(key="folder/", size=0))
        assert parsed.created == ()
        assert parsed.ignored == (
            "'s3://amzn-s3-demo-bucket/folder/' is a folder marker: empty, with a key that ends in /",
        )
        assert of_key("folder/", size=1).key == "folder/"
        assert of_key("empty", size=0).size == 0

    @pytest.mark.parametrize("prefix", ["", "s3:"])
    @pytest.mark.parametrize(
        "name",
        [
            *("ObjectRemoved:Delete", "ObjectRemoved:DeleteMarkerCreated", "LifecycleExpiration:Delete"),
            *("LifecycleExpiration:DeleteMarkerCreated", "LifecycleTransition", "IntelligentTiering"),
            *("ObjectTagging:Put", "ObjectTagging:Delete", "ObjectAcl:Put", "ObjectRestore:Post"),
            *("ObjectRestore:Completed", "ObjectRestore:Delete", "Replication:OperationFailedReplication"),
            *("Replication:OperationMissedThreshold", "ReducedRedundancyLostObject"),
        ],
    )
    def test_what_is_no_work_is_ignored(self, prefix: str, name: str) -> None:
        parsed = parse(named(prefix + name))
        assert parsed.created == ()
        assert parsed.ignored == (f"'{prefix}{name}' of 's3://amzn-s3-demo-bucket/HappyFace.jpg'",)

    def test_a_removal_needs_no_size(self) -> None:
        event = json.loads(named("ObjectRemoved:Delete"))
        event["Records"][0]["s3"]["object"] = {"key": "k", "sequencer": "1"}
        assert len(parse(json.dumps(event)).ignored) == 1

    def test_reasons_are_short(self) -> None:
        (reason,) = parse(with_object(key="%01" * 1023 + "/", size=0)).ignored
        assert len(reason) <= MAX_MESSAGE_CHARACTERS


class TestOtherWays:
    def test_through_sns(self) -> None:
        assert parse(wrap(json.dumps(NOTIFICATION))).created == (CREATED,)

    @pytest.mark.parametrize("way", [str, wrap])
    def test_through_eventbridge(self, way: Any) -> None:
        assert parse(way(json.dumps(BRIDGED))) == Parsed(
            (
                ObjectCreated(
                    bucket="amzn-s3-demo-bucket1",
                    key="example-key",
                    version_id="IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
                    etag="b1946ac92492d2347c6235b4d2611184",
                    size=5,
                    sequencer="617f08299329d189",
                    time=datetime(2021, 11, 12, tzinfo=UTC),
                ),
            ),
            (),
        )

    def test_eventbridge_does_not_encode_keys(self) -> None:
        (created,) = parse(json.dumps(changed(BRIDGED, "detail", "object", "key", to="a+b%20c d"))).created
        assert created.key == "a+b%20c d"

    def test_folder_markers_of_eventbridge_are_ignored(self) -> None:
        event = changed(changed(BRIDGED, "detail", "object", "key", to="f/"), "detail", "object", "size", to=0)
        assert parse(json.dumps(event)).created == ()

    @pytest.mark.parametrize(
        "detail_type",
        [
            *("Object Deleted", "Object Restore Initiated", "Object Restore Completed", "Object Restore Expired"),
            *("Object Tags Added", "Object Tags Deleted", "Object ACL Updated", "Object Storage Class Changed"),
            *("Object Access Tier Changed", "Async Copy Completion"),
        ],
    )
    def test_what_is_no_work_is_ignored(self, detail_type: str) -> None:
        event = changed(changed(BRIDGED, "detail-type", to=detail_type), "detail", to={})
        assert parse(json.dumps(event)) == Parsed((), (f"'{detail_type}' from EventBridge",))

    @pytest.mark.parametrize("way", [str, wrap])
    def test_the_test_event_is_ignored(self, way: Any) -> None:
        parsed = parse(way(json.dumps(TEST_EVENT)))
        assert parsed == Parsed((), ("s3:TestEvent, which S3 sends when notifications are set up",))


class TestRefused:
    @pytest.mark.parametrize(
        ("body", "found"),
        [
            ("", "not JSON"),
            ("hello " * 100, "'hello hello"),
            ("\ufeff{}", "not JSON"),
            ("\ud800", "surrogates"),
            ('{"Records":NaN}', "not JSON"),
            ("[]", "got `array`"),
            ("null", "got `null`"),
            ("{}", "no members"),
            ('{"b":1,"a":2}', "the members 'a', 'b'"),
            ('{"x":' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
            ('{"Records":[' + '{"s3":' * 100_000, "nested too deeply"),
            ('{"Records":[]}', "Records is empty"),
            ('{"Records":{}}', "Expected `array`, got `object` - at `$.Records`"),
            ('{"Type":"SubscriptionConfirmation","Message":"You have"}', "SubscriptionConfirmation"),
            ('{"Type":"UnsubscribeConfirmation"}', "UnsubscribeConfirmation"),
            ('{"Type":"Notification"}', "missing required field `Message`"),
            ('{"Type":"Notification","Message":{}}', "got `object` - at `$.Message`"),
            (wrap("hello"), "'hello'"),
            (wrap(wrap(json.dumps(NOTIFICATION))), "'Notification', within another"),
            (json.dumps(changed(BRIDGED, "source", to="my.app")), "the source 'my.app'"),
            (json.dumps(changed(BRIDGED, "source", to=MISSING)), "no source"),
            (json.dumps(changed(BRIDGED, "detail-type", to="AWS API Call via CloudTrail")), "CloudTrail"),
            (json.dumps(TEST_EVENT | {"Event": "s3:Other"}), "not an event of S3"),
        ],
    )
    def test_says_what_was_found(self, body: str, found: str) -> None:
        assert found in refused(body)

    @pytest.mark.parametrize(
        ("member", "value", "found"),
        [
            ("eventName", "ObjectCreated", "the unknown eventName 'ObjectCreated'"),
            ("eventName", "ObjectCreated:", "the unknown eventName"),
            ("eventName", "", "the unknown eventName ''"),
            ("eventName", "ObjectMoved:" + "x" * 1000, "the unknown eventName 'ObjectMoved:xxx"),
            ("eventName", "s3:s3:ObjectCreated:Put", "the unknown eventName"),
            ("eventVersion", "1.0", "eventVersion '1.0'"),
            ("eventVersion", "3.0", "eventVersion '3.0'"),
            ("eventVersion", "2", "eventVersion '2'"),
            ("eventSource", "aws:ses", "comes from 'aws:ses'"),
            ("s3", MISSING, "has no s3"),
        ],
    )
    def test_one_unknown_record_is_enough(self, member: str, value: Any, found: str) -> None:
        wrong = changed(NOTIFICATION, "Records", 0, member, to=value)["Records"]
        message = refused(json.dumps({"Records": NOTIFICATION["Records"] + wrong}))
        assert found in message
        assert "Records[1]" in message

    @pytest.mark.parametrize("value", [None, 5, 1.5, True, [], {}, MISSING, ""])
    @pytest.mark.parametrize(
        ("event", "path"),
        [
            (NOTIFICATION, ("Records", 0, "eventName")),
            (NOTIFICATION, ("Records", 0, "s3", "bucket", "name")),
            (NOTIFICATION, ("Records", 0, "s3", "object", "key")),
            (BRIDGED, ("detail", "bucket", "name")),
            (BRIDGED, ("detail", "object", "key")),
        ],
    )
    def test_what_has_to_be_a_text(self, event: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
        refused(json.dumps(changed(event, *path, to=value)))

    @pytest.mark.parametrize("value", [None, -1, 1.5, 5.0, True, "5", [], float("nan"), 1 << 63, 10**400])
    @pytest.mark.parametrize(
        ("event", "path"),
        [(NOTIFICATION, ("Records", 0, "s3", "object", "size")), (BRIDGED, ("detail", "object", "size"))],
    )
    def test_what_has_to_be_a_size(self, event: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
        refused(json.dumps(changed(event, *path, to=value)))

    def test_a_size_of_any_length(self) -> None:
        refused(with_object(size=5).replace('"size": 5', '"size": ' + "9" * 100_000))

    @pytest.mark.parametrize(
        "value",
        [None, 5, "", "yesterday", "2024-01-01", "2024-01-01T00:00:00", "0001-01-01T00:00:00+23:59", "9" * 99],
    )
    @pytest.mark.parametrize(("event", "path"), [(NOTIFICATION, ("Records", 0, "eventTime")), (BRIDGED, ("time",))])
    def test_what_has_to_be_a_time(self, event: dict[str, Any], path: tuple[str | int, ...], value: Any) -> None:
        refused(json.dumps(changed(event, *path, to=value)))

    @pytest.mark.parametrize("member", ["eTag", "sequencer", "versionId"])
    def test_what_may_be_a_text(self, member: str) -> None:
        assert f"- at `$.Records[0].s3.object.{member}`" in refused(with_object(**{member: 5}))

    @pytest.mark.parametrize("key", ["%FF", "%ED%A0%80", "a%C3b", "\ud800", "\udfff\ud800"])
    def test_keys_that_are_no_unicode(self, key: str) -> None:
        refused(with_object(key=key))


class TestAnyInput:
    @given(events)
    def test_bodies_are_parsed_back(self, event: ObjectCreated) -> None:
        assert parse(event.to_body()) == Parsed((event,), ())
        assert parse(wrap(event.to_body())) == Parsed((event,), ())

    @given(events)
    def test_eventbridge_says_the_same(self, event: ObjectCreated) -> None:
        described = {
            "key": event.key,
            "size": event.size,
            "etag": event.etag,
            "version-id": event.version_id,
            "sequencer": event.sequencer,
        }
        body = json.dumps(
            {
                "detail-type": "Object Created",
                "source": "aws.s3",
                **({"time": event.time.isoformat()} if event.time else {}),
                "detail": {
                    "bucket": {"name": event.bucket},
                    "object": {name: value for name, value in described.items() if value is not None},
                },
            }
        )
        assert parse(body) == Parsed((event,), ())
        assert parse(wrap(body)) == Parsed((event,), ())

    def test_times_of_any_zone(self) -> None:
        zone = timezone(timedelta(minutes=53, seconds=28))
        event = ObjectCreated("b", "k", None, None, None, None, datetime(2024, 1, 1, tzinfo=zone))
        assert parse(event.to_body()).created == (event,)

    @given(anything)
    def test_any_json_is_parsed_or_refused(self, value: Any) -> None:
        parses_or_refuses(json.dumps(value))
        parses_or_refuses(json.dumps({"Records": value}))
        parses_or_refuses(json.dumps({"Type": "Notification", "Message": value}))
        parses_or_refuses(json.dumps({"detail-type": "Object Created", "source": "aws.s3", "detail": value}))

    @given(st.text(st.characters(exclude_categories=[])))
    def test_any_text_is_parsed_or_refused(self, text: str) -> None:
        parses_or_refuses(text)

    @given(st.data())
    def test_any_change_of_a_value_is_parsed_or_refused(self, data: st.DataObject) -> None:
        event = deepcopy(data.draw(st.sampled_from([NOTIFICATION, BRIDGED, TEST_EVENT])))
        for _ in range(data.draw(st.integers(1, 3))):
            places = list(places_in(event))
            if not places:
                break
            holder, name = data.draw(st.sampled_from(places))
            if data.draw(st.booleans()):
                holder[name] = data.draw(anything | st.sampled_from(list(map(deepcopy, [NOTIFICATION, BRIDGED]))))
            else:
                del holder[name]
        parses_or_refuses(json.dumps(event))
        parses_or_refuses(wrap(json.dumps(event)))

    @given(st.data())
    def test_any_change_of_the_text_is_parsed_or_refused(self, data: st.DataObject) -> None:
        bodies = [json.dumps(NOTIFICATION), json.dumps(BRIDGED), wrap(json.dumps(NOTIFICATION))]
        body = data.draw(st.sampled_from(bodies))
        start = data.draw(st.integers(0, len(body)))
        end = data.draw(st.integers(start, min(len(body), start + 20)))
        parses_or_refuses(body[:start] + data.draw(st.text(st.characters(exclude_categories=[]))) + body[end:])


def parses_or_refuses(body: str) -> None:
    try:
        parsed = parse(body)
    except EventError:
        refused(body)
        return
    assert parsed.created or parsed.ignored
    for event in parsed.created:
        assert parse(event.to_body()).created == (event,)


def places_in(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield each container within a value with each name or index it has."""
    if isinstance(value, dict):
        for name in value:
            yield value, name
            yield from places_in(value[name])
    elif isinstance(value, list):
        for position in range(len(value)):
            yield value, position
            yield from places_in(value[position])


class TestServer:
    def test_what_a_server_sends(self, s3: Any, aws: str, bucket: str) -> None:
        sqs = boto3.client("sqs", endpoint_url=aws)
        url = create_queue(sqs)
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={
                "QueueConfigurations": [{"QueueArn": arn_of(sqs, url), "Events": ["s3:ObjectCreated:*"]}]
            },
        )
        assert await_parsed(sqs, url, 1)[0].ignored == ("s3:TestEvent, which S3 sends when notifications are set up",)

        key = "in/ä b+c%2B?versionId=x&y=\U0001f600.jsonl"
        put = s3.put_object(Bucket=bucket, Key=key, Body=b"hello")
        upload = s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        described = {"Bucket": bucket, "Key": key, "UploadId": upload}
        part = s3.upload_part(**described, PartNumber=1, Body=b"hello again")
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        completed = s3.complete_multipart_upload(**described, MultipartUpload=parts)
        s3.put_object(Bucket=bucket, Key="folder/", Body=b"")

        found = await_parsed(sqs, url, 3)
        assert [one.ignored for one in found if one.ignored] == [
            (f"'s3://{bucket}/folder/' is a folder marker: empty, with a key that ends in /",)
        ]
        events = sorted((event for one in found for event in one.created), key=lambda event: event.size or 0)
        for event, answer, size in zip(events, (put, completed), (5, 11), strict=True):
            assert (event.bucket, event.key, event.size) == (bucket, key, size)
            assert (event.version_id, event.etag) == (answer["VersionId"], answer["ETag"].strip('"'))
            assert event.time is not None
            assert abs(event.time - datetime.now(UTC)) < timedelta(minutes=1)
        first, second = (event.sequencer or "" for event in events)
        assert first < second
        sqs.close()

    def test_what_a_server_sends_through_sns_and_eventbridge(self, s3: Any, aws: str, bucket: str) -> None:
        clients = {name: boto3.client(name, endpoint_url=aws) for name in ("sqs", "sns", "events")}
        sqs = clients["sqs"]
        by_sns, by_bridge = create_queue(sqs), create_queue(sqs)
        topic = clients["sns"].create_topic(Name=bucket)["TopicArn"]
        clients["sns"].subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn_of(sqs, by_sns))
        pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}}}
        clients["events"].put_rule(Name=bucket, EventPattern=json.dumps(pattern))
        clients["events"].put_targets(Rule=bucket, Targets=[{"Id": "queue", "Arn": arn_of(sqs, by_bridge)}])
        s3.put_bucket_notification_configuration(
            Bucket=bucket,
            NotificationConfiguration={
                "TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}],
                "EventBridgeConfiguration": {},
            },
        )
        s3.put_object(Bucket=bucket, Key="a b+c%20", Body=b"hello")
        s3.delete_object(Bucket=bucket, Key="a b+c%20")
        for url in (by_sns, by_bridge):
            found = await_parsed(sqs, url, 2)  # SNS brings the test event, EventBridge the removal
            (event,) = (event for one in found for event in one.created)
            assert (event.bucket, event.key, event.size) == (bucket, "a b+c%20", 5)
            assert sum(len(one.ignored) for one in found) == 1
        for client in clients.values():
            client.close()


def await_parsed(sqs: Any, url: str, count: int) -> list[Parsed]:
    """Return what so many messages say, as soon as they are there."""
    deadline = datetime.now(UTC) + timedelta(seconds=20)
    found: list[Parsed] = []
    while len(found) < count and datetime.now(UTC) < deadline:
        for message in take_all(sqs, url):
            found.append(parse(message["Body"]))
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert len(found) == count
    return found
