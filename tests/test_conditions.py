"""Outputs written under conditions: one suite for the fake and for S3 over two servers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import anyio
import pytest
from harness.aws import Clients, Scene
from harness.server import CREDENTIALS
from places import Place, fake_place, s3_place

from app.aws.clients import S3Source
from app.aws.s3 import S3Store
from app.outcomes import ConditionError, OutsideError, UploadGoneError
from app.ports import ABSENT, S3_PART_MIN_BYTES, Part, SmallOutput, Upload

SERVERS = {"moto": "aws", "ministack": "ministack"}
BIG = bytes(S3_PART_MIN_BYTES)
OTHER_ETAG = '"d41d8cd98f00b204e9800998ecf8427e"'


@asynccontextmanager
async def place_of(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """The store that the parameter names."""
    if request.param == "fake":
        yield fake_place()
        return
    aws: Clients = request.getfixturevalue(SERVERS[request.param])
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    store = S3Store(S3Source(8), None)
    yield s3_place(store, Scene(aws, with_dlq=False))
    await store.close()


@pytest.fixture(params=["fake", "moto", "ministack"])
async def place(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """Each of the stores in turn."""
    async with place_of(request, monkeypatch) as made:
        yield made


@pytest.fixture(params=["fake", "ministack"])
async def strict(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Place]:
    """Without moto: kinder than S3 to who completes an upload, and two writers may both win."""
    async with place_of(request, monkeypatch) as made:
        yield made


async def put(place: Place, data: bytes, expected: str | None, metadata: str = "one") -> None:
    """A small output under the key `k`."""
    what = SmallOutput(place.where.bucket, "k", "text/plain", data)
    await place.store.put(what, {"attempt-id": metadata}, expected)


async def uploaded(place: Place, *pieces: bytes) -> tuple[Upload, list[Part]]:
    """An upload under the key `k` that is ready to be completed."""
    upload = await place.store.begin(place.where.bucket, "k", "text/plain", {"attempt-id": "up"})
    numbered = enumerate(pieces, 1)
    return upload, [await place.store.upload(upload, number, data) for number, data in numbered]


async def standing(place: Place) -> str:
    """The ETag of what stands at the key `k`."""
    found = await place.store.standing(place.where.bucket, "k")
    return found.etag if found else ABSENT


def bytes_of(place: Place) -> bytes | None:
    """What is there under the key `k`."""
    found = place.found("k")
    return found.data if found else None


async def test_what_stands_at_a_key(place: Place) -> None:
    """Nothing, or something with its metadata, by which its maker is known."""
    assert await place.store.standing(place.where.bucket, "k") is None
    await put(place, b"first", None)
    first = await place.store.standing(place.where.bucket, "k")
    await put(place, b"second", None, "two")
    second = await place.store.standing(place.where.bucket, "k")
    assert first is not None
    assert second is not None
    assert first.etag != second.etag
    assert (first.metadata["attempt-id"], second.metadata["attempt-id"]) == ("one", "two")


async def test_a_small_output_where_nothing_stands(place: Place) -> None:
    """ABSENT: the first comes to stand there, a second is refused."""
    await put(place, b"first", ABSENT)
    with pytest.raises(ConditionError):
        await put(place, b"second", ABSENT)
    assert bytes_of(place) == b"first"


async def test_a_small_output_over_what_was_looked_at(place: Place) -> None:
    """The ETag that was seen, or the write is refused."""
    await put(place, b"first", None)
    seen = await standing(place)
    await put(place, b"second", seen)
    with pytest.raises(ConditionError):
        await put(place, b"third", seen)
    assert bytes_of(place) == b"second"


async def test_what_was_looked_at_is_gone(place: Place) -> None:
    """Somebody has deleted it: that too is not what was expected."""
    with pytest.raises(ConditionError):
        await put(place, b"second", OTHER_ETAG)
    assert bytes_of(place) is None


async def test_an_upload_where_nothing_stands(place: Place) -> None:
    """One is completed; the other is refused, and stays to be completed under other conditions."""
    first, first_parts = await uploaded(place, b"first")
    second, second_parts = await uploaded(place, BIG, b"second")
    await place.store.complete(first, first_parts, ABSENT)
    with pytest.raises(ConditionError):
        await place.store.complete(second, second_parts, ABSENT)
    assert bytes_of(place) == b"first"
    assert place.open_uploads() == ["k"]
    await place.store.complete(second, second_parts, await standing(place))
    assert bytes_of(place) == BIG + b"second"
    assert place.open_uploads() == []


async def test_an_upload_over_what_was_looked_at(strict: Place) -> None:
    """The ETag that was seen, or the upload is refused and can still be completed."""
    await put(strict, b"first", None)
    seen = await standing(strict)
    upload, parts = await uploaded(strict, b"upload")
    await put(strict, b"second", None)
    with pytest.raises(ConditionError):
        await strict.store.complete(upload, parts, seen)
    assert bytes_of(strict) == b"second"
    await strict.store.complete(upload, parts, await standing(strict))
    assert bytes_of(strict) == b"upload"


async def test_an_upload_is_completed_once(place: Place) -> None:
    """Whoever comes again is answered as before, or learns that it is gone; the output stays."""
    upload, parts = await uploaded(place, b"upload")
    await place.store.complete(upload, parts, ABSENT)
    with suppress(UploadGoneError, ConditionError):
        await place.store.complete(upload, parts, ABSENT)
    assert await place.store.parts(upload) is None
    assert bytes_of(place) == b"upload"
    found = await place.store.standing(place.where.bucket, "k")
    assert found is not None
    assert found.metadata["attempt-id"] == "up"


async def test_an_upload_that_was_thrown_away(strict: Place) -> None:
    """It is gone for everybody, and to throw it away again is harmless."""
    upload, parts = await uploaded(strict, b"upload")
    await strict.store.abort(upload)
    await strict.store.abort(upload)
    assert await strict.store.parts(upload) is None
    with pytest.raises(UploadGoneError):
        await strict.store.complete(upload, parts, ABSENT)
    assert bytes_of(strict) is None


async def test_parts_are_told_in_order(place: Place) -> None:
    """However they came, and with the sizes and names that complete the upload."""
    upload = await place.store.begin(place.where.bucket, "k", "text/plain", {})
    assert await place.store.parts(upload) == []
    last = await place.store.upload(upload, 2, b"the end")
    first = await place.store.upload(upload, 1, BIG)
    told = await place.store.parts(upload)
    assert told is not None
    assert [(part.number, part.size) for part in told] == [(1, len(BIG)), (2, 7)]
    assert [part.etag.strip('"') for part in told] == [
        part.etag.strip('"') for part in (first, last)
    ]
    await place.store.complete(upload, told, ABSENT)
    assert bytes_of(place) == BIG + b"the end"


async def test_a_part_sent_again_takes_the_place_of_the_first(place: Place) -> None:
    """What a dead attempt sent behind its checkpoint is written over, not added to."""
    upload, _ = await uploaded(place, b"of the dead attempt")
    again = await place.store.upload(upload, 1, b"of this one")
    await place.store.complete(upload, [again], ABSENT)
    assert bytes_of(place) == b"of this one"


@pytest.mark.parametrize("there", [False, True], ids=["nothing", "something"])
async def test_one_of_many_outputs_wins(there: bool, strict: Place) -> None:  # noqa: FBT001
    """All at the same moment over what they all saw: one is told so, and its bytes are there."""
    if there:
        await put(strict, b"before", None)
    seen = await standing(strict)
    won: list[bytes] = []

    async def write(data: bytes) -> None:
        try:
            await put(strict, data, seen)
        except (ConditionError, OutsideError):
            return
        won.append(data)

    async with anyio.create_task_group() as group:
        for number in range(6):
            group.start_soon(write, b"%d" % number)
    assert won == [bytes_of(strict)]


async def test_two_uploads_at_the_same_moment(strict: Place) -> None:
    """Completed together over nothing: one stands, the other is whole still."""
    prepared = [await uploaded(strict, b"one"), await uploaded(strict, b"two")]
    won: list[int] = []

    async def complete(number: int) -> None:
        try:
            await strict.store.complete(*prepared[number], ABSENT)
        except (ConditionError, OutsideError):
            return
        won.append(number)

    async with anyio.create_task_group() as group:
        group.start_soon(complete, 0)
        group.start_soon(complete, 1)
    assert [(b"one", b"two")[number] for number in won] == [bytes_of(strict)]
    assert strict.open_uploads() == ["k"]
