"""One suite for every store: the fake that other tests use, and S3 itself."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from fakes import Stored
from harness.aws import Clients, Scene
from harness.server import CREDENTIALS
from places import Place, fake_place, s3_place

from app import integrity
from app.aws.clients import S3Source
from app.aws.s3 import S3Store
from app.outcomes import ConfigurationError, OutsideError, Reason, RejectedError
from app.ports import S3_PART_MIN_BYTES, Opened, SmallOutput


@pytest.fixture(params=["fake", "s3"])
async def place(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """Each of the stores in turn."""
    if request.param == "fake":
        yield fake_place()
        return
    aws: Clients = request.getfixturevalue("aws")
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    store = S3Store(S3Source(2), None)
    yield s3_place(store, Scene(aws))
    await store.close()


async def all_of(opened: Opened) -> bytes:
    """The body to its end."""
    pieces = []
    while piece := await opened.body.read():
        pieces.append(piece)
    opened.body.close()
    return b"".join(pieces)


async def test_a_whole_object_with_its_facts(place: Place) -> None:
    """The first response tells the bytes, their number and what was stored with them."""
    stored = Stored(b"0123456789", None, "text/x-made-up", "gzip", {"colour": "blue"})
    place.keep("a key/with + and ü.txt", stored)
    opened = await place.store.open_at(place.ref("a key/with + and ü.txt"), 0, None, None)
    assert await all_of(opened) == b"0123456789"
    facts = opened.facts
    assert (opened.start, opened.end, facts.size) == (0, 10, 10)
    assert (facts.bucket, facts.key) == (place.bucket, "a key/with + and ü.txt")
    assert facts.etag == stored.etag
    assert facts.version_id is None
    assert (facts.content_type, facts.content_encoding) == ("text/x-made-up", "gzip")
    assert facts.metadata == {"colour": "blue"}
    assert facts.last_modified.tzinfo is not None


@pytest.mark.parametrize(("start", "end"), [(0, 3), (3, 7), (7, 10), (9, 100)])
async def test_a_range_tells_the_whole_size(place: Place, start: int, end: int) -> None:
    """A range gives its own bytes, and the size of the object they are of."""
    place.keep("k", Stored(b"0123456789"))
    opened = await place.store.open_at(place.ref("k"), start, end, None)
    assert await all_of(opened) == b"0123456789"[start:end]
    assert (opened.start, opened.end) == (start, min(end, 10))
    assert opened.facts.size == 10


async def test_checksums_are_those_of_the_bytes(place: Place) -> None:
    """What the store says of the whole object can be recomputed from its bytes."""
    place.keep("k", Stored(b"0123456789"))
    facts = (await place.store.open_at(place.ref("k"), 0, 4, None)).facts
    stored = await place.store.checksums(facts)
    begun = integrity.begin(stored)
    assert begun is not None
    name, checksum = begun
    checksum.update(b"0123456789")
    assert checksum.text() == stored[name]


async def test_an_empty_object_has_no_bytes(place: Place) -> None:
    """An object of no bytes is an object."""
    place.keep("empty", Stored(b""))
    opened = await place.store.open_at(place.ref("empty"), 0, None, None)
    assert (await all_of(opened), opened.facts.size) == (b"", 0)


async def test_a_missing_object_is_rejected(place: Place) -> None:
    """What is not there is said to be missing, and nothing else."""
    with pytest.raises(RejectedError) as raised:
        await place.store.open_at(place.ref("nothing"), 0, None, None)
    assert raised.value.reason is Reason.OBJECT_MISSING


async def test_a_pinned_read_never_mixes_versions(place: Place) -> None:
    """Once the object was overwritten, the pinned read says so instead of giving other bytes."""
    place.keep("k", Stored(b"first"))
    facts = (await place.store.open_at(place.ref("k"), 0, None, None)).facts
    place.keep("k", Stored(b"second"))
    with pytest.raises(OutsideError) as raised:
        await place.store.open_at(place.ref("k"), 0, None, facts)
    assert raised.value.reason is Reason.OBJECT_CHANGED


async def test_a_read_past_the_end_is_a_change(place: Place) -> None:
    """An object that is shorter than what was asked for has changed."""
    place.keep("k", Stored(b"first"))
    with pytest.raises(OutsideError) as raised:
        await place.store.open_at(place.ref("k"), 100, 200, None)
    assert raised.value.reason is Reason.OBJECT_CHANGED


async def test_a_kept_version_is_read_to_its_end(place: Place) -> None:
    """Where the bucket keeps versions, the pinned one is read although a newer one came."""
    place.keep_versions()
    old = place.keep("k", Stored(b"first"))
    facts = (await place.store.open_at(place.ref("k"), 0, None, None)).facts
    new = place.keep("k", Stored(b"second"))
    assert facts.version_id == old
    pinned = await place.store.open_at(place.ref("k"), 0, None, facts)
    assert (await all_of(pinned), pinned.facts.version_id) == (b"first", old)
    named = await place.store.open_at(place.ref("k", old), 0, None, None)
    assert await all_of(named) == b"first"
    newest = await place.store.open_at(place.ref("k"), 0, None, None)
    assert (await all_of(newest), newest.facts.version_id) == (b"second", new)


async def test_a_body_may_be_closed_at_any_time(place: Place) -> None:
    """Closing is harmless before the end, at the end and twice."""
    place.keep("k", Stored(bytes(100_000)))
    early = await place.store.open_at(place.ref("k"), 0, None, None)
    early.body.close()
    early.body.close()
    late = await place.store.open_at(place.ref("k"), 0, None, None)
    assert len(await all_of(late)) == 100_000
    late.body.close()


async def test_a_small_output_in_one_request(place: Place) -> None:
    """What is put is there, with its type and metadata."""
    key = place.where.key("small")
    what = SmallOutput(place.where.bucket, key, "text/plain", b"some text")
    await place.store.put(what, {"attempt-id": "one"}, None)
    found = place.found(key)
    assert found is not None
    assert (found.data, found.content_type) == (b"some text", "text/plain")
    assert found.metadata == {"attempt-id": "one"}


async def test_an_upload_is_visible_once_completed(place: Place) -> None:
    """Nothing is seen under the key while parts go up, and all of it afterwards."""
    key = place.where.key("big")
    first, last = bytes(S3_PART_MIN_BYTES), b"the end"
    upload = await place.store.begin(place.where.bucket, key, "text/plain", {"attempt-id": "one"})
    parts = [
        await place.store.upload(upload, 1, first),
        await place.store.upload(upload, 2, last),
    ]
    assert [(part.number, part.size) for part in parts] == [(1, len(first)), (2, len(last))]
    assert place.found(key) is None
    assert place.open_uploads() == [key]
    await place.store.complete(upload, parts, None)
    found = place.found(key)
    assert found is not None
    assert found.data == first + last
    assert (found.content_type, found.metadata) == ("text/plain", {"attempt-id": "one"})
    assert place.open_uploads() == []


async def test_an_aborted_upload_leaves_nothing(place: Place) -> None:
    """What is thrown away is never seen, and takes no room."""
    key = place.where.key("big")
    upload = await place.store.begin(place.where.bucket, key, "text/plain", {})
    await place.store.upload(upload, 1, bytes(S3_PART_MIN_BYTES))
    await place.store.abort(upload)
    assert place.found(key) is None
    assert place.open_uploads() == []


async def test_an_output_bucket_that_is_not_there(place: Place) -> None:
    """A wrong OUTPUT_URL is a matter of configuration, not of the object."""
    nowhere = f"no-such-bucket-{uuid4().hex[:8]}"
    with pytest.raises(ConfigurationError, match="OUTPUT_URL"):
        await place.store.put(SmallOutput(nowhere, "k", "text/plain", b"x"), {}, None)
    with pytest.raises(ConfigurationError, match="OUTPUT_URL"):
        await place.store.begin(nowhere, "k", "text/plain", {})


async def test_a_range_of_an_empty_object_is_not_to_be_had(place: Place) -> None:
    """No range of it exists, which S3 says in the words of a change: who opens it asks again."""
    place.keep("empty", Stored(b""))
    with pytest.raises(OutsideError) as raised:
        await place.store.open_at(place.ref("empty"), 0, 100, None)
    assert raised.value.reason is Reason.OBJECT_CHANGED
