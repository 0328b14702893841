"""S3 as the ports want it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from app import integrity
from app.aws.errors import (
    CONDITION_CODES,
    HTTP_ERRORS,
    UPLOAD_GONE_CODES,
    codes_behind,
    translated,
)
from app.notifications import ObjectRef
from app.outcomes import (
    ConditionError,
    ConfigurationError,
    OutsideError,
    Reason,
    RejectedError,
    UploadGoneError,
)
from app.ports import ABSENT, ObjectFacts, Opened, Part, SmallOutput, Standing, Upload


class Source(Protocol):
    """Gives the client of the SDK, which belongs to one event loop."""

    async def client(self) -> Any:
        """The client; opened at the first call."""

    async def close(self) -> None:
        """Close it."""


class S3Store:
    """Objects and outputs over one client.

    Args:
        owner: the account id sent as ExpectedBucketOwner with every call, None for none.
    """

    def __init__(self, source: Source, owner: str | None) -> None:
        self._source = source
        self._owner = {"ExpectedBucketOwner": owner} if owner else {}

    async def warm(self) -> None:
        """Open the client before it is needed; an error will be met again by who needs it."""
        await self._source.client()

    async def close(self) -> None:
        """Close the client."""
        await self._source.close()

    async def open_at(
        self, ref: ObjectRef, start: int, end: int | None, pin: ObjectFacts | None
    ) -> Opened:
        """Ask for bytes of the pinned version; the first response is the pin of the rest."""
        asked = _pinned(ref, pin) | self._owner
        if end is not None:
            asked["Range"] = f"bytes={start}-{end - 1}"
        client = await self._source.client()
        with translated(f"reading s3://{ref.bucket}/{ref.key}"):
            answer = await client.get_object(Bucket=ref.bucket, Key=ref.key, **asked)
        body = S3Body(answer["Body"], f"s3://{ref.bucket}/{ref.key}")
        try:
            return _opened(ref, answer, body, start, ranged="Range" in asked)
        except BaseException:
            body.close()
            raise

    async def checksums(self, facts: ObjectFacts) -> Mapping[str, str]:
        """The pinned version's checksums over the whole object; empty where S3 has none."""
        ref = ObjectRef(facts.bucket, facts.key, facts.version_id)
        client = await self._source.client()
        with translated(f"asking for the checksum of s3://{ref.bucket}/{ref.key}"):
            answer = await client.head_object(
                Bucket=ref.bucket,
                Key=ref.key,
                ChecksumMode="ENABLED",
                **_pinned(ref, facts),
                **self._owner,
            )
        return _checksums(answer)

    async def begin(
        self, bucket: str, key: str, content_type: str, metadata: Mapping[str, str]
    ) -> Upload:
        """Begin a multipart upload."""
        client = await self._source.client()
        with _writing(bucket, key):
            answer = await client.create_multipart_upload(
                Bucket=bucket,
                Key=key,
                ContentType=content_type,
                Metadata=dict(metadata),
                **self._owner,
            )
        return Upload(bucket, key, answer["UploadId"])

    async def upload(self, upload: Upload, number: int, data: bytes) -> Part:
        """Send one part."""
        client = await self._source.client()
        with _writing(upload.bucket, upload.key):
            answer = await client.upload_part(
                **_named(upload), PartNumber=number, Body=data, **self._owner
            )
        return Part(number, answer["ETag"], len(data))

    async def parts(self, upload: Upload) -> list[Part] | None:
        """The parts that S3 has, in order; None where the upload is gone."""
        client = await self._source.client()
        found: list[Part] = []
        marker = 0
        try:
            with _writing(upload.bucket, upload.key):
                while True:
                    answer = await client.list_parts(
                        **_named(upload), PartNumberMarker=marker, **self._owner
                    )
                    found += [
                        Part(part["PartNumber"], part["ETag"], part["Size"])
                        for part in answer.get("Parts", ())
                    ]
                    if not answer.get("IsTruncated"):
                        return found
                    marker = int(answer["NextPartNumberMarker"])
        except UploadGoneError:
            return None

    async def complete(self, upload: Upload, parts: list[Part], expected: str | None) -> None:
        """Make the upload visible, if what stands at its key is what was expected."""
        listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        client = await self._source.client()
        with _writing(upload.bucket, upload.key):
            await client.complete_multipart_upload(
                **_named(upload),
                MultipartUpload={"Parts": listed},
                **_condition(expected),
                **self._owner,
            )

    async def abort(self, upload: Upload) -> None:
        """Throw the upload away; harmless where it is gone."""
        client = await self._source.client()
        try:
            with _writing(upload.bucket, upload.key):
                await client.abort_multipart_upload(**_named(upload), **self._owner)
        except UploadGoneError:
            return

    async def standing(self, bucket: str, key: str) -> Standing | None:
        """What is there under the key now."""
        client = await self._source.client()
        try:
            with translated(f"looking at s3://{bucket}/{key}"):
                answer = await client.head_object(Bucket=bucket, Key=key, **self._owner)
        except RejectedError:
            return None
        return Standing(answer["ETag"], answer.get("Metadata", {}))

    async def put(
        self, what: SmallOutput, metadata: Mapping[str, str], expected: str | None
    ) -> None:
        """Write a small output in one request, if what stands there is what was expected."""
        client = await self._source.client()
        with _writing(what.bucket, what.key):
            await client.put_object(
                Bucket=what.bucket,
                Key=what.key,
                Body=what.data,
                ContentType=what.content_type,
                Metadata=dict(metadata),
                **_condition(expected),
                **self._owner,
            )


class S3Body:
    """One response's bytes; closing it before its end gives up the connection with it."""

    def __init__(self, body: Any, name: str) -> None:
        # The HTTP library's stream below the SDK's wrapper: it hands on what has come, as it is.
        self._response = body
        self._content = body.content
        self._name = name

    async def read(self) -> bytes:
        """The next bytes, as they come; empty at the end."""
        chunk, more = b"", True
        try:
            # As the loop read it: `readany` would join what has come, which copies it all.
            # Empty with a mark is the end of a chunk in HTTP's own sense, not of the body.
            while more and not chunk:
                chunk, more = await self._content.readchunk()
        except HTTP_ERRORS as error:
            text = f"reading {self._name}: {type(error).__name__}: {error}"
            raise OutsideError(Reason.TRANSPORT, text) from error
        return chunk

    def close(self) -> None:
        """Give the connection up; harmless when read to the end, or twice."""
        self._response.close()


def _condition(expected: str | None) -> dict[str, str]:
    if expected is None:
        return {}
    return {"IfMatch": expected} if expected != ABSENT else {"IfNoneMatch": "*"}


def _pinned(ref: ObjectRef, pin: ObjectFacts | None) -> dict[str, Any]:
    version = pin.version_id if pin else ref.version_id
    if version:
        return {"VersionId": version}
    return {"IfMatch": pin.etag} if pin else {}


def _opened(
    ref: ObjectRef, answer: Mapping[str, Any], body: S3Body, start: int, *, ranged: bool
) -> Opened:
    length = int(answer["ContentLength"])
    partial = ranged and "ContentRange" in answer
    size = _total(answer["ContentRange"], start, length) if partial else length
    facts = ObjectFacts(
        bucket=ref.bucket,
        key=ref.key,
        version_id=_version(answer.get("VersionId")),
        etag=answer["ETag"],
        size=size,
        content_type=answer.get("ContentType", ""),
        content_encoding=answer.get("ContentEncoding", ""),
        metadata=answer.get("Metadata", {}),
        last_modified=answer["LastModified"],
        # A range's response tells nothing of the whole.
        checksums=None if partial else _checksums(answer),
    )
    return Opened(facts, body, start if partial else 0, start + length if partial else length)


def _total(content_range: str, start: int, length: int) -> int:
    """The object's size out of `bytes 0-9/100`, once the rest of it fits what was asked."""
    expected = f"bytes {start}-{start + length - 1}/"
    total = content_range.removeprefix(expected)
    if not content_range.startswith(expected) or not total.isdigit():
        text = f"asked for bytes from {start}, answered with Content-Range {content_range!r}"
        raise OutsideError(Reason.TRANSPORT, text)
    return int(total)


def _checksums(answer: Mapping[str, Any]) -> dict[str, str]:
    """Those over the whole object: of one made of parts some are checksums of checksums."""
    # A store that does not say which it is may have either of an object that came in parts.
    in_parts = "-" in answer.get("ETag", "")
    if answer.get("ChecksumType", "COMPOSITE" if in_parts else "FULL_OBJECT") != "FULL_OBJECT":
        return {}
    found = {name: answer.get(f"Checksum{name}") for name in integrity.PREFERRED}
    return {name: text for name, text in found.items() if text and "-" not in text}


def _version(text: str | None) -> str | None:
    return text if text and text != "null" else None


def _named(upload: Upload) -> dict[str, str]:
    return {"Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.id}


@contextmanager
def _writing(bucket: str, key: str) -> Iterator[None]:
    """As `translated`, for outputs: their conditions, their uploads, and a bucket that is not."""
    try:
        with translated(f"writing s3://{bucket}/{key}"):
            yield
    except (RejectedError, OutsideError) as error:
        codes = codes_behind(error)
        # If-Match on an output that somebody has deleted answers 404.
        if codes & CONDITION_CODES or "NoSuchKey" in codes:
            raise ConditionError(str(error)) from error
        if codes & UPLOAD_GONE_CODES:
            raise UploadGoneError(str(error)) from error
        if isinstance(error, RejectedError):
            raise ConfigurationError(f"OUTPUT_URL: {error}") from error
        raise
