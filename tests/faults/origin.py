"""An S3 of one object that misbehaves at chosen bytes of it, on the test's own loop."""

import asyncio
import re
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from faults.plan import Answer, Cut, Drop, Reset, s3_error
from faults.wire import Head, read_head

PIECE_BYTES = 64 << 10
# Small, so that what was sent is close to what was received.
SEND_BUFFER_BYTES = 64 << 10
LAST_MODIFIED = "Fri, 02 Jan 2026 03:04:05 GMT"


@dataclass(frozen=True, slots=True)
class Trickle:
    """From here on, a byte every so many seconds."""

    seconds: float


@dataclass(slots=True)
class Trouble:
    """What happens to a response that comes to this byte of the object, to so many of them."""

    at: int
    fault: Cut | Reset | Drop | Trickle
    times: int = 1


@dataclass(frozen=True, slots=True)
class Asked:
    """One request.

    Attributes:
        start, end: the range asked for, `end` exclusive; None where none was.
    """

    method: str
    start: int | None
    end: int | None
    if_match: str


class _HungUp(Exception):  # noqa: N818 - no error: the connection is to be given up
    """The connection has ended, or is to end here."""


@dataclass(slots=True)
class Origin:
    """Serves one object under every bucket and key; an asynchronous context manager.

    Attributes:
        checksums: what S3 tells of the whole object, by algorithm.
        troubles: what happens to responses, in any order.
        refusals: what the next GETs are answered instead, in this order.
        ignores_range: answer a range with 200 and all of the object.
        shifts: so many answers to ranges tell the wrong Content-Range.
        flip_at: where a bit of what is sent is not what was stored, None for nowhere.
        flips: how many responses that is so in.
        changes_after: with this request the object becomes another one of the same size.
        pause_seconds: between two pieces of a response.
        frozen: nothing more is sent; who waits for it has to hang up.
        under_way: responses begun and neither sent in full nor given up by the client.
    """

    data: bytes
    checksums: Mapping[str, str] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    refusals: list[Answer] = field(default_factory=list)
    ignores_range: bool = False
    shifts: int = 0
    flip_at: int | None = None
    flips: int = 1 << 30
    changes_after: int | None = None
    pause_seconds: float = 0.0
    frozen: bool = False
    asked: list[Asked] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    url: str = ""
    tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _server: asyncio.Server | None = None
    _quiet: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        self._server = await asyncio.start_server(self._accept, sock=listening)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server
        self._server.close()
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    @property
    def etag(self) -> str:
        """The object's ETag; another one once it has changed."""
        changed = self.changes_after is not None and len(self.asked) > self.changes_after
        return '"another"' if changed else '"the first"'

    @property
    def ranges(self) -> list[tuple[int | None, int | None]]:
        """The ranges of all GETs so far."""
        return [(asked.start, asked.end) for asked in self.asked if asked.method == "GET"]

    async def quiet(self, seconds: float = 5) -> None:
        """Return as soon as no response is under way.

        Raises:
            TimeoutError: one still was after so many seconds.
        """
        async with asyncio.timeout(seconds):
            while self.under_way:
                self._quiet.clear()
                await self._quiet.wait()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A plain function: a coroutine here would have its task's errors handled by asyncio.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.set_write_buffer_limits(high=0)
        try:
            while (head := await read_head(reader)) is not None:
                self.under_way += 1
                self.most_under_way = max(self.most_under_way, self.under_way)
                try:
                    await self._respond(_asked(head), reader, writer)
                finally:
                    self.under_way -= 1
                    self._quiet.set()
        except (_HungUp, ConnectionError):
            pass
        finally:
            writer.close()

    async def _respond(
        self, asked: Asked, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.asked.append(asked)
        refusal = self._refusal(asked)
        if refusal is not None:
            _write(writer, refusal.status, dict(refusal.headers), len(refusal.body))
            writer.write(refusal.body if asked.method == "GET" else b"")
            await writer.drain()
            return
        size = len(self.data)
        ranged = asked.start is not None and not self.ignores_range
        start = asked.start if ranged and asked.start is not None else 0
        end = min(asked.end, size) if ranged and asked.end is not None else size
        headers = {"ETag": self.etag, "Last-Modified": LAST_MODIFIED, "Accept-Ranges": "bytes"}
        if ranged:
            self.shifts -= 1
            first = start + 1 if self.shifts >= 0 else start
            headers["Content-Range"] = f"bytes {first}-{end - 1}/{size}"
        else:
            names = {f"x-amz-checksum-{name.lower()}": v for name, v in self.checksums.items()}
            headers |= names | {"x-amz-checksum-type": "FULL_OBJECT"} if names else {}
        _write(writer, 206 if ranged else 200, headers, end - start)
        if asked.method == "GET":
            await self._send(start, end, reader, writer)

    def _refusal(self, asked: Asked) -> Answer | None:
        if asked.method == "GET" and self.refusals:
            return self.refusals.pop(0)
        if asked.if_match and asked.if_match != self.etag:
            return s3_error(412, "PreconditionFailed")
        if asked.start is not None and asked.start >= len(self.data):
            return s3_error(416, "InvalidRange")
        return None

    async def _send(
        self, at: int, end: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        flips = self.flip_at is not None and at <= self.flip_at < end and self.flips > 0
        self.flips -= flips
        every = 0.0
        while at < end:
            trouble = next((t for t in self.troubles if t.times and t.at == at), None)
            if trouble is not None:
                trouble.times -= 1
                every = await _do(trouble.fault, reader, writer)
            if self.frozen:
                await _until_closed(reader)
            stops = [t.at for t in self.troubles if t.times and t.at > at]
            stop = at + 1 if every else min(end, at + PIECE_BYTES, *stops)
            piece = bytearray(self.data[at:stop])
            if flips and self.flip_at is not None and at <= self.flip_at < stop:
                piece[self.flip_at - at] ^= 1
            writer.write(piece)
            await writer.drain()
            at = stop
            await asyncio.sleep(every or self.pause_seconds)


async def _do(
    fault: Cut | Reset | Drop | Trickle,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> float:
    """Do it; the seconds between the bytes that follow, 0 for no more of them than usual."""
    match fault:
        case Trickle(seconds):
            return seconds
        case Drop():
            await _until_closed(reader)
        case Reset():
            connection: socket.socket = writer.get_extra_info("socket")
            # To linger for zero seconds means to discard what is unsent and to send RST.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
    raise _HungUp


async def _until_closed(reader: asyncio.StreamReader) -> None:
    while await reader.read(1024):
        pass
    raise _HungUp


def _write(
    writer: asyncio.StreamWriter, status: int, headers: Mapping[str, str], length: int
) -> None:
    fields = (*headers.items(), ("Content-Length", str(length)))
    writer.write(Head(f"HTTP/1.1 {status} Made Up", fields).encode())


def _asked(head: Head) -> Asked:
    method, _, _ = head.start.split(" ")
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", head.get("range"))
    start, end = (int(found[1]), int(found[2]) + 1) if found else (None, None)
    return Asked(method, start, end, head.get("if-match"))
