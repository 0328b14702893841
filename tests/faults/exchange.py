"""One call on its way through the proxy."""

import asyncio
import socket
import struct
import time

from faults.calls import Call
from faults.plan import Answer, Cut, Delay, Drop, Fault, Gate, Reset, Rule, When
from faults.wire import Head, pieces, read_head

HEAD_LIMIT_BYTES = 1 << 20


class HungUp(Exception):  # noqa: N818 - no error: the connection is to be given up
    """The fault has ended the connection."""


class _Answered(Exception):  # noqa: N818 - no error: nothing more is to be done to this call
    """The fault has answered the call."""


class Exchange:
    """One request and its response, with the faults that happen to them."""

    def __init__(
        self,
        upstream: tuple[str, int],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        call: Call,
        rules: list[Rule],
    ) -> None:
        self._upstream = upstream
        self._reader = reader
        self._writer = writer
        self._call = call
        self._rules = rules

    async def run(self, head: Head, body: bytes) -> None:
        """See the call through.

        Raises:
            HungUp: the connection is to be given up, and no answer went back.
        """
        try:
            await self._apply("before")
            # A connection for each request: that of the caller is kept alive all the same.
            reader, writer = await asyncio.open_connection(*self._upstream, limit=HEAD_LIMIT_BYTES)
            try:
                writer.write(head.without("expect").encode() + body)
                await writer.drain()
                await self._respond(reader, head_only=self._call.name.startswith("Head"))
            finally:
                writer.close()
        except _Answered:
            pass
        except ConnectionError:
            self._call.abandoned = True
            raise
        self._call.answered_at = time.monotonic()

    async def _respond(self, upstream: asyncio.StreamReader, *, head_only: bool) -> None:
        head = await read_head(upstream)
        while head is not None and head.status < 200:
            head = await read_head(upstream)
        if head is None:
            raise HungUp
        self._call.status = head.status
        await self._apply("after")
        self._call.abandoned = self._reader.at_eof()
        self._writer.write(head.without("connection").encode())
        if not head_only and head.status not in (204, 304):
            await self._stream(upstream, head)
        await self._writer.drain()

    async def _stream(self, upstream: asyncio.StreamReader, head: Head) -> None:
        middle = [(r.after_bytes, r.fault) for r in self._rules if r.after_bytes is not None]
        middle.sort(key=lambda pair: pair[0])
        sent = 0
        async for piece in pieces(upstream, head, until_close=True):
            raw = piece.raw
            while piece.payload and middle and sent + len(raw) > middle[0][0]:
                at, fault = middle.pop(0)
                self._writer.write(raw[: at - sent])
                await self._writer.drain()
                raw, sent = raw[at - sent :], at
                await self._do(fault)
            self._writer.write(raw)
            await self._writer.drain()
            sent += len(raw) if piece.payload else 0

    async def _apply(self, when: When) -> None:
        for rule in self._rules:
            if rule.after_bytes is None and rule.when == when:
                await self._do(rule.fault)

    async def _do(self, fault: Fault) -> None:
        self._call.faults.append(type(fault).__name__)
        match fault:
            case Delay(seconds):
                await asyncio.sleep(seconds)
            case Gate():
                await fault.hold(self._call)
            case Answer():
                self._answer(fault)
                raise _Answered
            case Drop():
                await _until_closed(self._reader)
                raise HungUp
            case Cut():
                raise HungUp
            case Reset():
                _reset(self._writer)
                raise HungUp

    def _answer(self, answer: Answer) -> None:
        self._call.status = answer.status
        length = ("Content-Length", str(len(answer.body)))
        head = Head(f"HTTP/1.1 {answer.status} Made Up", (*answer.headers, length))
        self._writer.write(head.encode() + answer.body)


async def _until_closed(reader: asyncio.StreamReader) -> None:
    while await reader.read(HEAD_LIMIT_BYTES):
        pass


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    # To linger for zero seconds means to discard what is unsent and to send RST.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
