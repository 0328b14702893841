"""What a handler writes: invisible until it is committed, gone if it is not.

Small outputs are kept in memory and written with one request at the commit; larger ones go up in
parts while the handler runs, and the commit completes the upload.
"""

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from app.outcomes import ConfigurationError, HandlerError
from app.ports import S3_PARTS_MAX, OutputStore, Part, Upload
from app.settings import Location

PART_BYTES = 8 << 20
DEFAULT_CONTENT_TYPE = "application/octet-stream"


def part_bytes(number: int) -> int:
    """The size of a part: it doubles every thousand, so that 10 000 hold S3's largest object."""
    return PART_BYTES << (number - 1) // 1000


class Output:
    """One output under its key; an async context manager.

    Nothing is visible under the key until the handler has returned. Leaving the block by an
    exception gives the output up.
    """

    def __init__(
        self,
        store: OutputStore,
        where: Location,
        name: str,
        content_type: str,
        metadata: Mapping[str, str],
    ) -> None:
        self.key = where.key(name)
        self.bucket = where.bucket
        self.size = 0
        self.state = "open"
        self._store = store
        self._where = where
        self._content_type = content_type
        self._metadata = metadata
        self._held = bytearray()
        self._upload: Upload | None = None
        self._parts: list[Part] = []
        self._sending: asyncio.Task[Part] | None = None

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
            self.state = "abandoned"

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes; waits while a part before these is still on its way.

        Raises:
            ValueError: the output is closed.
            OutsideError: a part could not be sent.
        """
        if self.state != "open":
            raise ValueError(f"output {self.key!r} is {self.state}: it takes no more bytes")
        self._held += data
        self.size += len(data)
        while len(self._held) >= part_bytes(len(self._parts) + 1):
            await self._send()

    async def commit(self, store: OutputStore) -> None:
        """Make the output visible, over the client of the loop that commits."""
        if self._upload is None:
            data = bytes(self._held)
            await store.put(self._where, self.key, self._content_type, self._metadata, data)
        else:
            await store.complete(self._upload, self._parts)
        self.state = "committed"

    async def abort(self, store: OutputStore) -> None:
        """Throw away what was sent; harmless where nothing was."""
        self._held.clear()
        if self._upload is not None and self.state != "committed":
            await store.abort(self._upload)
        self.state = "abandoned"

    async def _send(self) -> None:
        """Start sending the next part once the one before it has arrived."""
        await self._settle()
        if self._upload is None:
            self._upload = await self._store.begin(
                self._where, self.key, self._content_type, self._metadata
            )
        number = len(self._parts) + 1
        if number > S3_PARTS_MAX:
            raise ValueError(f"output {self.key!r} needs more than {S3_PARTS_MAX} parts")
        size = part_bytes(number)
        data = bytes(memoryview(self._held)[:size])
        del self._held[:size]
        self._sending = asyncio.create_task(self._store.upload(self._upload, number, data))

    async def _settle(self) -> None:
        if self._sending is not None:
            self._parts.append(await self._sending)
            self._sending = None

    async def _finish(self) -> None:
        if self._upload is not None and self._held:
            await self._send()
        await self._settle()
        self.state = "finished"


class Outputs:
    """All outputs of one attempt.

    Args:
        where: OUTPUT_URL, None where it is not set.
        metadata: written with every output.
    """

    def __init__(
        self, store: OutputStore, where: Location | None, metadata: Mapping[str, str]
    ) -> None:
        self._store = store
        self._where = where
        self._metadata = metadata
        self._opened: list[Output] = []

    def open(self, key: str, content_type: str = DEFAULT_CONTENT_TYPE) -> Output:
        """A new output.

        Raises:
            ConfigurationError: OUTPUT_URL is not set.
            ValueError: the key is empty, or open or finished already in this attempt.
        """
        if self._where is None:
            raise ConfigurationError("OUTPUT_URL: is not set: the handler writes an output")
        if not key:
            raise ValueError("an output needs a key")
        if any(other.key == self._where.key(key) for other in self.live):
            raise ValueError(f"output {key!r} was opened twice")
        output = Output(self._store, self._where, key, content_type, self._metadata)
        self._opened.append(output)
        return output

    @property
    def live(self) -> list[Output]:
        """Those that were not given up."""
        return [output for output in self._opened if output.state != "abandoned"]

    @property
    def uncommitted(self) -> list[Output]:
        """Those of which nothing is to stay."""
        return [output for output in self._opened if output.state != "committed"]

    def finished(self) -> list[Output]:
        """Those that are to be committed.

        Raises:
            HandlerError: one was never closed, so that its end is unknown.
        """
        for output in self.live:
            if output.state == "open":
                text = f"output {output.key!r} was not closed before the handler returned"
                raise HandlerError(ValueError(text))
        return self.live
