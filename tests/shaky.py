"""One object in memory behind a network that fails by the dice, and counts what is left open."""

import asyncio
import base64
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Self

import pytest

from app import readahead, reading
from app.codecs import Limits
from app.described import StreamLimits
from app.notifications import ObjectRef
from app.outcomes import OutsideError, Reason
from app.ports import ObjectFacts, Opened
from app.ranges import Patience
from app.reading import Tuning
from app.stream import ObjectStream
from app.telemetry import Telemetry

REF = ObjectRef("in", "k")
RANGE_MIN_BYTES = 500
PIECE_BYTES = 900
NEVER_PAUSES = Patience(fruitless=8, base_seconds=0, most_seconds=0)


class Heard(Telemetry):
    """Remembers what was told of a reading, and logs nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.verified: list[str] = []
        self.retried: list[tuple[Reason, int]] = []
        self.parallel: list[int] = []

    def read_retried(self, error: OutsideError, at: int, pause: float) -> None:  # noqa: ARG002
        """A read broke, and goes on where it stopped."""
        self.retried.append((error.reason, at))

    def reading_parallel(self, connections: int, rate: float) -> None:  # noqa: ARG002
        """One connection alone keeps the handler waiting."""
        self.parallel.append(connections)

    def object_verified(self, integrity: str, size: int) -> None:  # noqa: ARG002
        """All bytes were delivered, and checked by this."""
        self.verified.append(integrity)


@contextmanager
def small_ranges(dice: Random) -> Iterator[None]:
    """Within the block ranges have a few hundred bytes, and connections come by the dice.

    Sizes are the real ones divided by some thousand, so that a small object has as many ranges as
    a large one; how many connections would be useful does not depend on the clock.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readahead, "RANGE_MIN_BYTES", RANGE_MIN_BYTES)
        patch.setattr(readahead, "RANGE_MAX_BYTES", 20_000)
        patch.setattr(readahead, "EARLY_RANGE_BYTES", 4_000)
        patch.setattr(readahead, "CHUNK_BYTES", PIECE_BYTES)
        patch.setattr(reading, "SINGLE_RANGE_BYTES", 5000)
        patch.setattr(reading, "REST_BYTES", 300)
        patch.setattr(reading, "SEEN_SECONDS", 0)
        patch.setattr(reading, "SEEN_OF_FAST_SECONDS", 0)
        patch.setattr(reading, "UNSEEN_SECONDS", 0)
        patch.setattr(reading.Meter, "useful", lambda *_: dice.choice([1, 1, 3, 8]))
        yield


@dataclass(slots=True)
class Memory:
    """Bytes that bodies have handed out and nobody has let go of."""

    now: int = 0
    most: int = 0


class Counted(bytes):
    """Bytes that are counted for as long as they live."""

    memory: Memory

    @classmethod
    def of(cls, data: bytes, memory: Memory) -> Self:
        """The same bytes, counted from now on."""
        made = cls(data)
        made.memory = memory
        memory.now += len(data)
        memory.most = max(memory.most, memory.now)
        return made

    def __del__(self) -> None:
        self.memory.now -= len(self)


@dataclass(slots=True)
class ShakyStore:
    """Gives one object out, in pieces of any size, over a network that fails.

    Attributes:
        failing: the probability that a request or a read fails.
        ignores_range: it answers every request with the whole object.
        changes_after: after so many requests it is another object; None: never.
        checksum: of the object, as S3 would tell it; known with the first response of the whole,
            or when asked for.
        opened: bodies that were given out and not closed or read to their end.
    """

    data: bytes
    dice: Random = field(default_factory=Random)
    failing: float = 0.0
    ignores_range: bool = False
    changes_after: int | None = None
    piece_bytes: int = PIECE_BYTES
    checksum: bool = True
    opened: set["ShakyBody"] = field(default_factory=set)
    memory: Memory = field(default_factory=Memory)
    requests: int = 0

    async def open_at(
        self, ref: ObjectRef, start: int, end: int | None, pin: ObjectFacts | None
    ) -> Opened:
        """Bytes of the object, or one of the errors a store may give."""
        self.requests += 1
        await self.tick()
        if self.dice.random() < self.failing:
            reason = self.dice.choice([Reason.THROTTLED, Reason.TRANSPORT])
            raise OutsideError(reason, "no answer")
        if pin and self.changes_after is not None and self.requests > self.changes_after:
            raise OutsideError(Reason.OBJECT_CHANGED, "412")
        if end is not None and start >= len(self.data):
            raise OutsideError(Reason.OBJECT_CHANGED, "416")
        whole = end is None or self.ignores_range
        start, end = (0, None) if whole else (start, end)
        wanted = self.data[start:end]
        body = ShakyBody(self, wanted)
        self.opened.add(body)
        facts = ObjectFacts(
            bucket=ref.bucket,
            key=ref.key,
            version_id=None,
            etag='"e"',
            size=len(self.data),
            content_type="",
            content_encoding="",
            metadata={},
            last_modified=datetime(2026, 1, 2, tzinfo=UTC),
            checksums=self._told() if whole else None,
        )
        return Opened(facts, body, start, start + len(wanted))

    async def checksums(self, facts: ObjectFacts) -> Mapping[str, str]:  # noqa: ARG002
        """The object's CRC32, if it has one."""
        for _ in range(self.dice.randint(0, 20)):
            await self.tick()
        return self._told()

    async def tick(self) -> None:
        """Let others run, once or a few times."""
        for _ in range(self.dice.choice([1, 1, 1, 4])):
            await asyncio.sleep(0)

    def _told(self) -> dict[str, str]:
        crc = zlib.crc32(self.data).to_bytes(4, "big")
        return {"CRC32": base64.b64encode(crc).decode()} if self.checksum else {}


class ShakyBody:
    """The bytes of one response: they may end early, in silence or with an error."""

    def __init__(self, store: ShakyStore, data: bytes) -> None:
        self._store = store
        self._data = data
        self._at = 0
        self._closed = False

    async def read(self) -> bytes:
        """The next bytes; empty at the end."""
        assert not self._closed, "read after it was closed"
        store = self._store
        await store.tick()
        if store.dice.random() < store.failing:
            raise OutsideError(Reason.TRANSPORT, "cut")
        ends = store.dice.random() < store.failing / 3
        size = 0 if ends else store.dice.randint(1, store.piece_bytes)
        piece = self._data[self._at : self._at + size]
        self._at += len(piece)
        if not piece:
            # A body that has ended keeps no connection.
            store.opened.discard(self)
        return Counted.of(piece, store.memory)

    def close(self) -> None:
        """Give the connection up."""
        self._closed = True
        self._store.opened.discard(self)


async def stream_of(
    store: Any,
    tuning: Tuning | None = None,
    *,
    size: int | None = None,
    attempt: int = 1,
    key: str = "k",
    telemetry: Telemetry | None = None,
) -> ObjectStream:
    """A stream over the store; `size` is what the event said of the object."""
    tuning = tuning or Tuning(patience=NEVER_PAUSES)
    limits = StreamLimits(0, Limits(), Path("/nowhere"), tuning)
    return await ObjectStream.open(
        store,
        ObjectRef(REF.bucket, key, size=size),
        limits,
        telemetry or Heard(),
        lambda _: None,
        attempt=attempt,
    )
