"""From an SQS body to the objects it names, whatever wrapped them.

S3 itself, SNS around it (or with raw delivery), EventBridge. Formats:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
"""

from typing import Any
from urllib.parse import unquote_plus

import msgspec

from app.outcomes import Reason, RejectedError


class ObjectRef(msgspec.Struct, frozen=True):
    """One object as a notification names it.

    Attributes:
        key: decoded, as S3's API takes it.
        version_id: None where the bucket has no versions, never the text `null`.
        size: bytes; None where the notification does not tell.
        sequencer: orders the events of one key; a hint.
    """

    bucket: str
    key: str
    version_id: str | None = None
    etag: str | None = None
    size: int | None = None
    sequencer: str | None = None


class Notification(msgspec.Struct, frozen=True):
    """What a message says: objects that were created, and how many other events it tells of.

    Attributes:
        test: the message is the one S3 sends when a notification is configured.
        ignored: names of the events that tell of something else than a created object.
    """

    objects: tuple[ObjectRef, ...] = ()
    test: bool = False
    ignored: tuple[str, ...] = ()


class _Bucket(msgspec.Struct):
    name: str


class _Object(msgspec.Struct, rename={"version_id": "versionId", "etag": "eTag"}):
    key: str
    size: int | None = None
    etag: str | None = None
    version_id: str | None = None
    sequencer: str | None = None


class _S3(msgspec.Struct):
    bucket: _Bucket
    object: _Object


class _Record(msgspec.Struct, rename="camel"):
    event_version: str
    event_source: str
    event_name: str
    s3: _S3 | None = None


class _EventBridgeObject(msgspec.Struct, rename={"version_id": "version-id"}):
    key: str
    size: int | None = None
    etag: str | None = None
    version_id: str | None = None
    sequencer: str | None = None


class _EventBridgeDetail(msgspec.Struct):
    bucket: _Bucket
    object: _EventBridgeObject


QUOTED_CHARS = 200
_decoder = msgspec.json.Decoder()


def parse(body: str) -> Notification:
    """The objects that a message names.

    Raises:
        RejectedError: `malformed_message`, naming what is wrong.
    """
    return _parse_envelope(_decode(body), wrapped=False)


def _decode(text: str) -> dict[str, Any]:
    try:
        value = _decoder.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise _malformed(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _malformed(f"expected an object, found {type(value).__name__}")
    return value


def _parse_envelope(value: dict[str, Any], *, wrapped: bool) -> Notification:
    if "Records" in value:
        return _parse_records(value["Records"])
    if value.get("Event") == "s3:TestEvent":
        return Notification(test=True)
    if value.get("source") == "aws.s3":
        return _parse_eventbridge(value)
    if value.get("Type") == "Notification" and not wrapped:
        message = value.get("Message")
        if not isinstance(message, str):
            raise _malformed("SNS notification without a text in `Message`")
        return _parse_envelope(_decode(message), wrapped=True)
    raise _malformed("neither an S3 event, nor one in SNS, nor one of EventBridge")


def _parse_records(value: object) -> Notification:
    records = _convert(value, list[_Record], "Records")
    if not records:
        raise _malformed("`Records` is empty")
    objects = []
    ignored = []
    for record in records:
        if not record.event_source.endswith(":s3"):
            raise _malformed(f"eventSource {record.event_source!r} is not S3")
        if record.event_version.partition(".")[0] != "2":
            raise _malformed(f"eventVersion {record.event_version!r}: only 2.x is known")
        if not record.event_name.removeprefix("s3:").startswith("ObjectCreated:"):
            ignored.append(record.event_name)
        elif record.s3 is None:
            raise _malformed(f"{record.event_name} without `s3`")
        else:
            objects.append(_reference(record.s3.bucket, record.s3.object, encoded=True))
    return Notification(tuple(objects), ignored=tuple(ignored))


def _parse_eventbridge(value: dict[str, Any]) -> Notification:
    kind = value.get("detail-type")
    if kind != "Object Created":
        return Notification(ignored=(str(kind),))
    detail = _convert(value.get("detail"), _EventBridgeDetail, "detail")
    return Notification((_reference(detail.bucket, detail.object, encoded=False),))


def _reference(bucket: _Bucket, found: _Object | _EventBridgeObject, *, encoded: bool) -> ObjectRef:
    # S3 form-encodes the key (a plus is a space); EventBridge does not encode it at all.
    key = _unquote(found.key) if encoded else found.key
    if not bucket.name or not key:
        raise _malformed("an empty bucket name or object key")
    version = found.version_id if found.version_id not in ("", "null") else None
    return ObjectRef(bucket.name, key, version, found.etag, found.size, found.sequencer)


def _unquote(key: str) -> str:
    try:
        return unquote_plus(key, errors="strict")
    except UnicodeDecodeError:
        raise _malformed(f"object key {key!r} does not decode as UTF-8") from None


def _convert(value: object, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _malformed(f"{where}: {error}") from None


def _malformed(text: str) -> RejectedError:
    # What is quoted here comes from the body, which no log may repeat at length.
    cut = text if len(text) <= QUOTED_CHARS else f"{text[:QUOTED_CHARS]}…"
    return RejectedError(Reason.MALFORMED_MESSAGE, cut)
