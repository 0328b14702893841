"""S3 as the ports want it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from app.aws.errors import translated
from app.notifications import ObjectRef
from app.outcomes import ConfigurationError, OutsideError, Reason, RejectedError
from app.ports import ObjectFacts, Opened, Part, Upload
from app.settings import Location

# Asked of the socket at once: large enough that a fast network costs few wake-ups, small enough
# that slow bytes are handed on as they trickle in.
READ_BYTES = 1 << 20


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
        if start or end is not None:
            asked["Range"] = f"bytes={start}-" + ("" if end is None else str(end - 1))
        client = await self._source.client()
        with translated(f"reading s3://{ref.bucket}/{ref.key}"):
            answer = await client.get_object(Bucket=ref.bucket, Key=ref.key, **asked)
        body = S3Body(answer["Body"], f"s3://{ref.bucket}/{ref.key}")
        try:
            return _opened(ref, answer, body, start, ranged="Range" in asked)
        except BaseException:
            body.close()
            raise

    async def begin(
        self, where: Location, key: str, content_type: str, metadata: Mapping[str, str]
    ) -> Upload:
        """Begin a multipart upload."""
        client = await self._source.client()
        with _writing(where.bucket, key):
            answer = await client.create_multipart_upload(
                Bucket=where.bucket,
                Key=key,
                ContentType=content_type,
                Metadata=dict(metadata),
                **self._owner,
            )
        return Upload(where.bucket, key, answer["UploadId"])

    async def upload(self, upload: Upload, number: int, data: bytes) -> Part:
        """Send one part."""
        client = await self._source.client()
        with _writing(upload.bucket, upload.key):
            answer = await client.upload_part(
                **_named(upload), PartNumber=number, Body=data, **self._owner
            )
        return Part(number, answer["ETag"], len(data))

    async def complete(self, upload: Upload, parts: list[Part]) -> None:
        """Make the upload visible."""
        listed = [{"PartNumber": part.number, "ETag": part.etag} for part in parts]
        client = await self._source.client()
        with _writing(upload.bucket, upload.key):
            await client.complete_multipart_upload(
                **_named(upload), MultipartUpload={"Parts": listed}, **self._owner
            )

    async def abort(self, upload: Upload) -> None:
        """Throw the upload away."""
        client = await self._source.client()
        with _writing(upload.bucket, upload.key):
            await client.abort_multipart_upload(**_named(upload), **self._owner)

    async def put(
        self, where: Location, key: str, content_type: str, metadata: Mapping[str, str], data: bytes
    ) -> None:
        """Write a small output in one request."""
        client = await self._source.client()
        with _writing(where.bucket, key):
            await client.put_object(
                Bucket=where.bucket,
                Key=key,
                Body=data,
                ContentType=content_type,
                Metadata=dict(metadata),
                **self._owner,
            )


class S3Body:
    """One response's bytes; closing it before its end gives up the connection with it."""

    def __init__(self, body: Any, name: str) -> None:
        self._body = body
        self._name = name

    async def read(self) -> bytes:
        """The next bytes, as they come; empty at the end."""
        with translated(f"reading {self._name}"):
            return bytes(await self._body.read(READ_BYTES))

    def close(self) -> None:
        """Give the connection up; harmless when read to the end, or twice."""
        self._body.close()


def _pinned(ref: ObjectRef, pin: ObjectFacts | None) -> dict[str, Any]:
    version = pin.version_id if pin else ref.version_id
    if version:
        return {"VersionId": version}
    return {"IfMatch": pin.etag} if pin else {}


def _opened(
    ref: ObjectRef, answer: Mapping[str, Any], body: S3Body, start: int, *, ranged: bool
) -> Opened:
    length = int(answer["ContentLength"])
    size = length
    if ranged:
        size = _total(answer.get("ContentRange"), start, length)
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
    )
    return Opened(facts, body, start, start + length)


def _total(content_range: str | None, start: int, length: int) -> int:
    """The object's size out of `bytes 0-9/100`, once the rest of it fits what was asked."""
    expected = f"bytes {start}-{start + length - 1}/"
    if content_range is None or not content_range.startswith(expected):
        text = f"asked for bytes from {start}, answered with Content-Range {content_range!r}"
        raise OutsideError(Reason.TRANSPORT, text)
    return int(content_range.removeprefix(expected))


def _version(text: str | None) -> str | None:
    return text if text and text != "null" else None


def _named(upload: Upload) -> dict[str, str]:
    return {"Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.id}


@contextmanager
def _writing(bucket: str, key: str) -> Iterator[None]:
    """As `translated`, for outputs: a bucket that is not there is a matter of configuration."""
    try:
        with translated(f"writing s3://{bucket}/{key}"):
            yield
    except RejectedError as error:
        raise ConfigurationError(f"OUTPUT_URL: {error}") from error
