"""As much of HTTP/1.1 as a proxy needs: heads, and where bodies end."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

PIECE_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request or a response.

    Attributes:
        start: the request line or the status line.
        fields: the header fields in their order, names as they were spelt.
    """

    start: str
    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str:
        """The value of the first field of this lower-case name, empty where there is none."""
        return next((value for field, value in self.fields if field.lower() == name), "")

    def without(self, *names: str) -> "Head":
        """The same head less the fields of these lower-case names."""
        kept = tuple(field for field in self.fields if field[0].lower() not in names)
        return Head(self.start, kept)

    def encode(self) -> bytes:
        """The head as it goes over the wire, with the empty line that ends it."""
        lines = [self.start, *(f"{name}: {value}" for name, value in self.fields), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    @property
    def status(self) -> int:
        """The status code of a response."""
        return int(self.start.split(" ")[1])


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of a body as they came; `payload` of them are content, the rest is framing."""

    raw: bytes
    payload: int


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """The next head; None where the peer has closed the connection instead."""
    try:
        block = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    start, *lines = block.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    return Head(start, tuple((name, value.strip()) for name, _, value in pairs))


async def read_request_body(reader: asyncio.StreamReader, head: Head) -> bytes:
    """The body of a request, framing included, so that it can be sent on as it came."""
    return b"".join([piece.raw async for piece in pieces(reader, head, until_close=False)])


async def pieces(
    reader: asyncio.StreamReader, head: Head, *, until_close: bool
) -> AsyncIterator[Piece]:
    """The body that follows this head.

    One without a length ends with the connection if `until_close` (that of a response), and is
    empty otherwise (that of a request).
    """
    if "chunked" in head.get("transfer-encoding").lower():
        async for piece in _chunks(reader):
            yield piece
    elif length := head.get("content-length"):
        async for piece in _exactly(reader, int(length)):
            yield piece
    elif until_close:
        while raw := await reader.read(PIECE_BYTES):
            yield Piece(raw, len(raw))


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[Piece]:
    while size:
        raw = await reader.read(min(size, PIECE_BYTES))
        if not raw:
            raise ConnectionResetError("the peer closed the connection within a body")
        size -= len(raw)
        yield Piece(raw, len(raw))


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[Piece]:
    size = -1
    while size:
        line = await reader.readuntil(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        yield Piece(line, 0)
        async for piece in _exactly(reader, size):
            yield piece
        if size:
            yield Piece(await reader.readexactly(2), 0)
    trailer = b""
    while trailer != b"\r\n":
        trailer = await reader.readuntil(b"\r\n")
        yield Piece(trailer, 0)
