"""Outputs: invisible until they are committed, gone if they are not."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from fakes import OUTPUT, FakeStore, Stored
from hypothesis import given
from hypothesis import strategies as st
from performing import METADATA, commit

from app.outcomes import ConfigurationError, HandlerError, OutsideError, Reason
from app.output import PART_BYTES, Output, OutputPolicy, part_bytes
from app.outputs import Outputs
from app.ports import S3_PART_MIN_BYTES, S3_PARTS_MAX

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
S3_OBJECT_MAX_BYTES = 5 << 40
S3_PART_MAX_BYTES = 5 << 30
KEY = OUTPUT.key("k")
PASSING = OutsideError(Reason.TRANSPORT, "no answer")


def outputs_of(store: FakeStore) -> Outputs:
    """The outputs of one attempt."""
    return Outputs(store, OUTPUT, OutputPolicy(METADATA), {}, [])


@asynccontextmanager
async def written(outputs: Outputs, *pieces: bytes, key: str = "k") -> AsyncIterator[Output]:
    """An output of these pieces, open in the block and closed after it."""
    async with outputs.open(key, "text/plain") as out:
        for piece in pieces:
            await out.write(piece)
        yield out


async def finish(outputs: Outputs, store: FakeStore) -> None:
    """Commit what is finished and throw away the rest, as a worker does."""
    for output in outputs.finished():
        await commit(output, store)
    for output in outputs._opened:  # noqa: SLF001 - a worker has the list from elsewhere
        if output.state != "committed":
            await output.abort(store)


@given(st.integers(1, S3_PARTS_MAX))
def test_every_part_is_one_that_s3_takes(number: int) -> None:
    """Never too small, never too large, never smaller than the one before."""
    assert S3_PART_MIN_BYTES <= part_bytes(number) <= S3_PART_MAX_BYTES
    assert number == 1 or part_bytes(number) >= part_bytes(number - 1)


def test_the_parts_hold_the_largest_object() -> None:
    """Ten thousand of them are enough for whatever S3 can store."""
    assert sum(map(part_bytes, range(1, S3_PARTS_MAX + 1))) >= S3_OBJECT_MAX_BYTES


@pytest.mark.parametrize("pieces", [[], [b""], [b"a"], [b"a"] * 1000])
async def test_a_small_output_is_one_request_at_the_commit(pieces: list[bytes]) -> None:
    """Nothing is sent before, and then it is all there, with its metadata."""
    store = FakeStore()
    outputs = outputs_of(store)
    async with written(outputs, *pieces):
        pass
    assert store.calls == []
    await finish(outputs, store)
    assert store.calls == ["put"]
    assert store.found(OUTPUT.bucket, KEY) == Stored(
        b"".join(pieces), None, "text/plain", "", {"attempt-id": "one"}
    )


@pytest.mark.parametrize("size", [PART_BYTES, PART_BYTES + 1, 3 * PART_BYTES, 3 * PART_BYTES + 5])
@pytest.mark.parametrize("step", [1 << 20, 5_000_000, 20 << 20])
async def test_a_large_output_goes_up_in_parts(size: int, step: int) -> None:
    """However it is written, it arrives whole, and is seen only after the commit."""
    store = FakeStore()
    outputs = outputs_of(store)
    data = bytes(n % 253 for n in range(1 << 16)) * (size // (1 << 16) + 1)
    data = data[:size]
    pieces = [data[start : start + step] for start in range(0, size, step)]
    async with written(outputs, *pieces) as out:
        assert out.size == size
        assert "begin" in store.calls
    assert store.found(OUTPUT.bucket, KEY) is None
    assert store.open_uploads == [KEY]
    await finish(outputs, store)
    found = store.found(OUTPUT.bucket, KEY)
    assert found is not None
    assert found.data == data
    assert (found.content_type, found.metadata) == ("text/plain", {"attempt-id": "one"})
    assert store.open_uploads == []
    assert store.calls.count("upload") == -(-size // PART_BYTES)


@pytest.mark.parametrize("size", [10, PART_BYTES * 2])
async def test_an_exception_gives_the_output_up(size: int) -> None:
    """Leaving the block by an error leaves nothing behind, and the key may be opened again."""
    store = FakeStore()
    outputs = outputs_of(store)
    with pytest.raises(ZeroDivisionError):
        async with written(outputs, bytes(size)):
            raise ZeroDivisionError
    async with written(outputs, b"again"):
        pass
    await finish(outputs, store)
    found = store.found(OUTPUT.bucket, KEY)
    assert found is not None
    assert found.data == b"again"
    assert store.open_uploads == []


@pytest.mark.parametrize("failing", ["begin", "upload"])
async def test_a_part_that_cannot_be_sent_fails_the_output(failing: str) -> None:
    """The handler learns of it at a later write or at the end, and nothing is committed."""
    store = FakeStore(failures={failing: [PASSING]})
    outputs = outputs_of(store)
    with pytest.raises(OutsideError):
        async with written(outputs, bytes(PART_BYTES), bytes(PART_BYTES), bytes(PART_BYTES)):
            pass
    assert outputs.finished() == []
    await finish(outputs, store)
    assert store.found(OUTPUT.bucket, KEY) is None
    assert store.open_uploads == []


async def test_the_last_part_counts_as_well() -> None:
    """An output is finished only when its last part has arrived."""
    store = FakeStore(failures={"upload": [None, PASSING]})
    outputs = outputs_of(store)
    with pytest.raises(OutsideError):
        async with written(outputs, bytes(PART_BYTES), b"the rest"):
            pass
    with pytest.raises(HandlerError, match="was not closed"):
        outputs.finished()


async def test_a_commit_that_fails_leaves_the_output_uncommitted() -> None:
    """What did not become visible is thrown away with the rest."""
    for failing, size in (("put", 1), ("complete", PART_BYTES)):
        store = FakeStore(failures={failing: [PASSING]})
        outputs = outputs_of(store)
        async with written(outputs, bytes(size)) as out:
            pass
        with pytest.raises(OutsideError):
            await commit(out, store)
        assert out.state == "finished"
        await out.abort(store)
        assert store.found(OUTPUT.bucket, KEY) is None
        assert store.open_uploads == []


async def test_a_closed_output_takes_no_more_bytes() -> None:
    """Neither after its end nor after it was given up."""
    outputs = outputs_of(FakeStore())
    async with written(outputs) as out:
        pass
    with pytest.raises(ValueError, match="is finished"):
        await out.write(b"x")
    with pytest.raises(ZeroDivisionError):
        async with written(outputs, key="other") as other:
            raise ZeroDivisionError
    with pytest.raises(ValueError, match="is abandoned"):
        await other.write(b"x")


async def test_an_output_that_was_never_closed_is_an_error() -> None:
    """Its end is unknown, so it cannot be committed."""
    outputs = outputs_of(FakeStore())
    await outputs.open("k").write(b"x")
    with pytest.raises(HandlerError, match="was not closed"):
        outputs.finished()


async def test_a_key_is_opened_once() -> None:
    """Two outputs under one key would overwrite each other."""
    outputs = outputs_of(FakeStore())
    outputs.open("k")
    with pytest.raises(ValueError, match="opened twice"):
        outputs.open("k")
    with pytest.raises(ValueError, match="needs a key"):
        outputs.open("")


async def test_without_a_place_there_are_no_outputs() -> None:
    """OUTPUT_URL is missing: a matter of configuration, not of the object."""
    with pytest.raises(ConfigurationError, match="OUTPUT_URL: is not set"):
        Outputs(FakeStore(), None, OutputPolicy({}), {}, []).open("k")


async def test_an_abort_is_harmless_where_nothing_was_sent() -> None:
    """Nothing is asked of the store for an output that was only ever in memory."""
    store = FakeStore()
    async with written(outputs_of(store), b"x") as small:
        pass
    await small.abort(store)
    assert store.calls == []
