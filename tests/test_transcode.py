"""`transcode`: the same bytes in another compression, also when it is interrupted at any frame."""

import asyncio
import bz2
import gzip
import io
import lzma
from collections.abc import Callable, Coroutine
from pathlib import Path
from random import Random
from typing import Any

import pytest
import zstandard
from fakes import BUCKET, OUTPUT, FakeStore, Stored
from performing import perform
from resuming import resumed_at

from app import output
from app.handler import Job
from app.outcomes import RejectedError
from handlers import transcode
from handlers.transcode import to_gzip, to_zstd

MEBIBYTE = 1 << 20
PLAIN = b"".join(b"%d;%d;%d\n" % (n, n * n, n % 7) for n in range(180_000))
FRAMES = len(PLAIN) // MEBIBYTE


def members(compress: Callable[[bytes], bytes], each: int = 700_000) -> bytes:
    """The plain bytes in many members, none of which ends where a frame does."""
    return b"".join(compress(PLAIN[at : at + each]) for at in range(0, len(PLAIN), each))


INPUTS = {
    "a.csv": PLAIN,
    "a.csv.gz": members(lambda data: gzip.compress(data, 1)),
    "a.csv.bz2": bz2.compress(PLAIN, 1),
    "a.csv.xz": lzma.compress(PLAIN, preset=0),
    "a.csv.zst": members(zstandard.ZstdCompressor(level=1).compress),
}
Handler = Callable[[Job], Coroutine[Any, Any, None]]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of a MiB, and parts of a few frames: so that a small object has several of both."""
    monkeypatch.setattr(transcode, "FRAME_BYTES", MEBIBYTE)
    monkeypatch.setattr(output, "PART_BYTES", 300_000)


def unzstd(data: bytes) -> bytes:
    """The bytes of all frames."""
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True)
    return reader.read()


def store_with(key: str, data: bytes) -> FakeStore:
    """A store that holds this object."""
    store = FakeStore(chunk_bytes=100_000)
    store.keep(BUCKET, key, Stored(data))
    return store


def written(store: FakeStore, key: str) -> Stored:
    """What was committed under this key."""
    found = store.found(OUTPUT.bucket, OUTPUT.key(key))
    assert found is not None
    assert store.open_uploads == []
    return found


@pytest.mark.parametrize("key", INPUTS)
@pytest.mark.parametrize(
    ("handler", "name", "content_type", "decompress"),
    [
        (to_zstd, "a.csv.zst", "application/zstd", unzstd),
        (to_gzip, "a.csv.gz", "application/gzip", gzip.decompress),
    ],
    ids=["to zstd", "to gzip"],
)
def test_the_bytes_are_the_same(
    handler: Handler,
    name: str,
    content_type: str,
    decompress: Callable[[bytes], bytes],
    key: str,
) -> None:
    """Whatever it was compressed with: the output holds the same bytes, under its new name."""
    store = store_with(key, INPUTS[key])
    asyncio.run(perform(handler, store, key))
    found = written(store, name)
    assert decompress(found.data) == PLAIN
    assert found.content_type == content_type


@pytest.mark.parametrize("handler", [to_zstd, to_gzip])
def test_an_empty_object(handler: Handler) -> None:
    """Nothing becomes a valid file that holds nothing."""
    store = store_with("k", b"")
    asyncio.run(perform(handler, store, "k"))
    name, decompress = ("k.zst", unzstd) if handler is to_zstd else ("k.gz", gzip.decompress)
    assert decompress(written(store, name).data) == b""


@pytest.mark.parametrize("key", INPUTS)
@pytest.mark.parametrize("handler", [to_zstd, to_gzip], ids=["to zstd", "to gzip"])
def test_interrupted_at_every_frame(handler: Handler, key: str) -> None:
    """An attempt for each frame: the output is, to the byte, that of a single attempt."""
    name = "a.csv.zst" if handler is to_zstd else "a.csv.gz"
    undisturbed = store_with(key, INPUTS[key])
    asyncio.run(perform(handler, undisturbed, key))
    store = store_with(key, INPUTS[key])
    told = asyncio.run(resumed_at(lambda _: True, handler, store, key))
    assert told.attempts == FRAMES + 1
    assert written(store, name).data == written(undisturbed, name).data


def test_interrupted_at_any_frames() -> None:
    """Stopped at some frames and not at others: the bytes are the same."""
    key, dice = "a.csv.gz", Random(4)
    undisturbed = store_with(key, INPUTS[key])
    asyncio.run(perform(to_zstd, undisturbed, key))
    for _ in range(6):
        chosen = {n for n in range(1, FRAMES + 1) if dice.random() < 0.4}
        store = store_with(key, INPUTS[key])
        told = asyncio.run(resumed_at(chosen.__contains__, to_zstd, store, key))
        assert told.attempts == len(chosen) + 1
        assert written(store, "a.csv.zst").data == written(undisturbed, "a.csv.zst").data


def test_gone_on_with_the_input_is_not_read_again() -> None:
    """Where members allow it, all attempts together read little more than the object once."""
    key = "a.csv.gz"
    store = store_with(key, INPUTS[key])
    told = asyncio.run(resumed_at(lambda _: True, to_zstd, store, key))
    # Of each attempt: a member it begins in, and the chunks that had come when it was stopped.
    assert told.bytes_read < 2.5 * len(INPUTS[key])


@pytest.mark.parametrize("cut", [100, -100])
def test_a_broken_object_is_rejected(cut: int) -> None:
    """Corrupt input is an error of the content, and leaves no output."""
    key = "a.csv.gz"
    store = store_with(key, INPUTS[key][:cut])
    with pytest.raises(RejectedError):
        asyncio.run(perform(to_zstd, store, key))
    assert store.found(OUTPUT.bucket, OUTPUT.key("a.csv.zst")) is None
    assert store.open_uploads == []


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat() -> None:
    """Sixty-four megabytes take no more memory than the first six did."""
    line = Random(2).randbytes(40_000)
    store = store_with("a.gz", gzip.compress((line * 27)[:MEBIBYTE] * 64, 1))
    seen: list[int] = []

    async def watched(job: Any) -> None:
        progress = job.progress

        def looked_at(done: float, total: float | None = None) -> None:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            seen.append(pages * 4096)
            progress(done, total)

        job.progress = looked_at
        await to_zstd(job)

    asyncio.run(perform(watched, store, "a.gz"))
    assert len(seen) == 64
    assert max(seen[6:]) - max(seen[:6]) < 12 * MEBIBYTE
