"""Stored bytes from a place to the end, counted, and compared with S3's checksum at the end."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from app import integrity
from app.integrity import Checksum
from app.outcomes import FailureError, OutsideError, Reason, RejectedError
from app.ports import ObjectFacts, ObjectReader
from app.reading import Reading
from app.telemetry import Telemetry

# Delivered, and kept for the checksum, while its algorithm is still being asked for.
HELD_MAX_BYTES = 16 << 20


class Owner(Protocol):
    """The stream whose bytes these are."""

    facts: ObjectFacts

    def reading(self, start: int, end: int) -> Reading:
        """Bytes of its version."""

    async def done_with(self, reading: Reading) -> None:
        """Close what a reading left open."""

    def forget(self, checked: "Verified") -> None:
        """One of its ways to the bytes was closed."""


class Verified:
    """Stored bytes in order; only those that begin at 0 can be compared with a checksum.

    Args:
        attempt: 1 for the first one at this work; data that is wrong twice is given up.
        on_failed: told what was found wrong, before it is raised.

    Attributes:
        at: the offset behind what was delivered.
    """

    def __init__(
        self,
        owner: Owner,
        reader: ObjectReader,
        telemetry: Telemetry,
        start: int,
        *,
        attempt: int,
        on_bytes: Callable[[int], None],
        on_failed: Callable[[FailureError], None],
    ) -> None:
        self._owner = owner
        self._reader = reader
        self._telemetry = telemetry
        self.at = start
        self._start = start
        self._attempt = attempt
        self._on_bytes = on_bytes
        self._on_failed = on_failed
        self._reading: Reading | None = None
        self._asking: asyncio.Task[Mapping[str, str]] | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._algorithm = ""
        self._stored: Mapping[str, str] = {}
        self._checksum: Checksum | None = None
        self._ended = False

    async def read(self) -> bytes:
        """The next bytes as they come; empty at the end.

        Raises:
            OutsideError: reading failed, or the checksum is wrong for the first time.
            RejectedError: the checksum is wrong again.
        """
        if self._ended:
            return b""
        if self._reading is None:
            self._begin()
        assert self._reading is not None  # noqa: S101 - just made
        chunk = await self._reading.read()
        if not chunk:
            self._ended = True
            await self._owner.done_with(self._reading)
            await self._verify()
            return b""
        self.at += len(chunk)
        self._on_bytes(len(chunk))
        if self._checksum is not None:
            self._checksum.update(chunk)
        elif self._asking is not None:
            await self._hold(chunk)
        return chunk

    async def close(self) -> None:
        """Close what is open, and stop asking for the checksum; harmless twice."""
        self._ended = True
        if self._asking is not None:
            self._asking.cancel()
        if self._reading is not None:
            await self._owner.done_with(self._reading)
        if self._asking is not None:
            await asyncio.wait([self._asking])
            self._asking = None
        # Last: who is cancelled in the middle of this is closed again with the stream.
        self._owner.forget(self)

    def _begin(self) -> None:
        facts = self._owner.facts
        self._reading = self._owner.reading(self.at, facts.size)
        if self._start or not facts.size:
            return
        if facts.checksums is None:
            self._asking = asyncio.create_task(self._ask())
        else:
            self._settle(facts.checksums)

    async def _ask(self) -> Mapping[str, str]:
        try:
            return await self._reader.checksums(self._owner.facts)
        except FailureError as error:
            self._telemetry.checksum_unknown(error)
            return {}

    async def _hold(self, chunk: bytes) -> None:
        """Keep the bytes until it is known which checksum to compute over them."""
        assert self._asking is not None  # noqa: S101 - the caller's condition
        self._held.append(chunk)
        self._held_bytes += len(chunk)
        if self._asking.done() or self._held_bytes > HELD_MAX_BYTES:
            await self._catch_up()

    async def _catch_up(self) -> None:
        if self._asking is None:
            return
        self._settle(await self._asking)
        self._asking = None
        if self._checksum is not None:
            for chunk in self._held:
                self._checksum.update(chunk)
        self._held.clear()

    def _settle(self, stored: Mapping[str, str]) -> None:
        begun = integrity.begin(stored)
        if begun is not None:
            self._stored = stored
            self._algorithm, self._checksum = begun

    async def _verify(self) -> None:
        await self._catch_up()
        facts = self._owner.facts
        if self.at != facts.size:
            text = f"{facts.key}: {self.at} of {facts.size} bytes"
            raise self._failed(OutsideError(Reason.TRANSPORT, text))
        if self._checksum is None:
            self._telemetry.object_verified("length_only", facts.size)
            return
        found, wanted = self._checksum.text(), self._stored[self._algorithm]
        if found != wanted:
            text = f"{facts.key}: {self._algorithm} is {found}, S3 says {wanted}"
            raise self._failed(
                OutsideError(Reason.CHECKSUM_MISMATCH, text)
                if self._attempt == 1
                else RejectedError(Reason.CORRUPT_DATA, text)
            )
        self._telemetry.object_verified(self._algorithm.lower(), facts.size)

    def _failed(self, error: FailureError) -> FailureError:
        self._on_failed(error)
        return error
