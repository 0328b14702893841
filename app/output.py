"""What a handler writes: invisible until it is committed, gone if it is not.

Small outputs are kept in memory and written with one request at the commit; larger ones go up in
parts while the handler runs, and the commit completes the upload.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Self

import msgspec

from app.ledger import SavedOutput
from app.ports import S3_PARTS_MAX, OutputStore, Part, SmallOutput, Upload

PART_BYTES = 8 << 20
DEFAULT_CONTENT_TYPE = "application/octet-stream"


def part_bytes(number: int) -> int:
    """The size of a part: it doubles every thousand, so that 10 000 hold S3's largest object."""
    return PART_BYTES << (number - 1) // 1000


class Restored(msgspec.Struct, frozen=True):
    """An output as an earlier attempt's checkpoint kept it, found whole.

    Attributes:
        held: the bytes that are in no part yet.
    """

    saved: SavedOutput
    parts: tuple[Part, ...]
    held: bytes


class Offers:
    """The newest checkpoint offered, as outputs need to know it: by identity.

    Each output notes its size at the first write after an offer, so that an offer itself costs
    nothing per output.

    Attributes:
        newest: changes with every offer.
        before_cut: called before bytes leave the memory for a part, or an output is given up.
    """

    __slots__ = ("before_cut", "newest")

    def __init__(self) -> None:
        self.newest: object = None
        self.before_cut: Callable[[], None] = lambda: None


class OutputPolicy(msgspec.Struct, frozen=True):
    """How outputs are written.

    Attributes:
        metadata: written with every output.
        single_bytes: an output that is no larger is written in one request.
        on_begun: awaited before an upload gets its first part.
    """

    metadata: Mapping[str, str]
    single_bytes: int = PART_BYTES
    on_begun: Callable[[Upload], Awaitable[None]] | None = None


class Output:
    """One output under its key; an async context manager.

    Nothing is visible under the key until the handler has returned. Leaving the block by an
    exception gives the output up.
    """

    def __init__(
        self,
        store: OutputStore,
        bucket: str,
        key: str,
        content_type: str,
        policy: OutputPolicy,
        offers: Offers | None = None,
    ) -> None:
        self.bucket = bucket
        self.key = key
        self.content_type = content_type
        self.size = 0
        self.state = "open"
        self._store = store
        self._policy = policy
        self._offers = offers or Offers()
        # The offer seen last, and the size there was when it was made; -1: there was no output.
        self._seen = self._offers.newest
        self._size_then = -1
        self._held = bytearray()
        self._cut = 0
        self._upload: Upload | None = None
        self._parts: list[Part] = []
        self._last: Part | None = None
        self._sending: asyncio.Task[Part] | None = None
        self._cutting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self._finish()
        else:
            # What was offered with it must not be kept without it.
            self._offers.before_cut()
            self.state = "abandoned"

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes; waits while a part before these is still on its way.

        Raises:
            ValueError: the output is closed.
            OutsideError: a part could not be sent.
        """
        if self.state != "open":
            raise ValueError(f"output {self.key!r} is {self.state}: it takes no more bytes")
        if self._seen is not self._offers.newest:
            self._seen = self._offers.newest
            self._size_then = self.size
        self._held += data
        self.size += len(data)
        if len(self._held) >= part_bytes(self._next_number()):
            # Several tasks of a handler may write to one output.
            async with self._cutting:
                while len(self._held) >= part_bytes(self._next_number()):
                    await self._cut_part()

    def size_at(self, offer: object) -> int:
        """The size when this offer, the newest, was made; -1 where there was no output yet."""
        return self._size_then if self._seen is offer else self.size

    def saved(self, size: int) -> tuple[SavedOutput, bytes]:
        """What a checkpoint at this size keeps; and the bytes that are in no part.

        Args:
            size: of the output when the checkpoint was offered; nothing was cut since.
        """
        saved = SavedOutput(
            self.bucket,
            self.key,
            self.content_type,
            upload_id=self._upload.id if self._upload else "",
            part_count=len(self._parts) + (self._sending is not None),
            size=size,
            finished=self.state == "finished",
        )
        return saved, bytes(memoryview(self._held)[: size - self._cut])

    async def sent(self, count: int) -> None:
        """Wait until S3 has so many parts."""
        if len(self._parts) < count and self._sending is not None:
            await asyncio.shield(self._sending)

    def restore(self, found: Restored) -> None:
        """Go on where an earlier attempt's checkpoint was."""
        saved = found.saved
        self.size = self._size_then = saved.size
        self._held = bytearray(found.held)
        self._cut = saved.size - len(found.held)
        self._parts = list(found.parts)
        if saved.upload_id:
            self._upload = Upload(saved.bucket, saved.key, saved.upload_id)

    async def finish_restored(self) -> None:
        """Close an output that an earlier attempt had closed."""
        await self._finish()

    def pending(self) -> SavedOutput:
        """The finished output as its commit needs it."""
        return SavedOutput(
            self.bucket,
            self.key,
            self.content_type,
            upload_id=self._upload.id if self._upload else "",
            part_count=len(self.parts),
            data=b"" if self._upload else bytes(self._held),
            size=self.size,
            finished=True,
        )

    @property
    def upload(self) -> Upload | None:
        """The multipart upload, where one was begun."""
        return self._upload

    @property
    def parts(self) -> list[Part]:
        """What the upload is completed with."""
        return [*self._parts, *([self._last] if self._last else [])]

    @property
    def small(self) -> SmallOutput:
        """The whole, where no upload was begun."""
        return SmallOutput(self.bucket, self.key, self.content_type, bytes(self._held))

    async def abort(self, store: OutputStore) -> None:
        """Throw away what was sent; harmless where nothing was."""
        self._held.clear()
        self.state = "abandoned"
        if self._upload is not None:
            await store.abort(self._upload)

    def _next_number(self) -> int:
        return len(self._parts) + (self._sending is not None) + 1

    async def _begin(self) -> None:
        if self._next_number() > S3_PARTS_MAX:
            raise ValueError(f"output {self.key!r} needs more than {S3_PARTS_MAX} parts")
        if self._upload is None:
            self._upload = await self._store.begin(
                self.bucket, self.key, self.content_type, self._policy.metadata
            )
            if self._policy.on_begun is not None:
                await self._policy.on_begun(self._upload)

    async def _send(self, number: int, piece: bytes) -> Part:
        assert self._upload is not None  # noqa: S101 - `_begin` comes first
        return await self._store.upload(self._upload, number, piece)

    async def _cut_part(self) -> None:
        """Let a part go once the one before it has arrived."""
        await self._settle()
        self._offers.before_cut()
        await self._begin()
        number = self._next_number()
        size = part_bytes(number)
        piece = bytes(memoryview(self._held)[:size])
        del self._held[:size]
        self._cut += size
        self._sending = asyncio.create_task(self._send(number, piece))

    async def _settle(self) -> None:
        if self._sending is not None:
            part = await self._sending
            self._sending = None
            self._parts.append(part)

    async def _finish(self) -> None:
        """Send the rest, and keep it: the handler may go on writing in a later attempt."""
        await self._settle()
        if self._upload is not None or len(self._held) > self._policy.single_bytes:
            await self._begin()
            if self._held or not self._parts:
                self._last = await self._send(self._next_number(), bytes(self._held))
        self.state = "finished"
