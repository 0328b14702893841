"""Places in an object's bytes, and the tokens by which a later attempt finds them again."""

from collections.abc import Iterator
from operator import length_hint
from typing import Any, Self

import msgspec

from app.codecs import ORIGIN, Boundary

# The codec of an object that is not compressed.
PLAIN = "plain"


class Position(msgspec.Struct, frozen=True):
    """A place to start at.

    Attributes:
        at: offset in the stream: of stored bytes for `chunks`, else of decompressed ones.
        boundary: the place from which `at` is reached by skipping.
        codec: how the bytes from the boundary on are compressed; empty: not known, look.
    """

    at: int = 0
    boundary: Boundary = ORIGIN
    codec: str = ""

    @classmethod
    def of(cls, start: Any, kind: str) -> Self:
        """The position that a token, an offset or None (the beginning) stands for.

        Raises:
            ValueError: it is none of them, or a token of another kind of reading.
        """
        if start is None:
            return cls()
        if isinstance(start, int) and start >= 0:
            return cls(start)
        if isinstance(start, list) and start and start[0] == kind:
            at, raw, decompressed, codec = start[1:] if kind == "lines" else (start[1], 0, 0, "")
            return cls(at, Boundary(raw, decompressed), codec)
        raise ValueError(f"start={start!r}: expected an offset or a position of {kind}")


class Place:
    """Where a reader has got to; its token is only computed when asked for.

    Args:
        boundary, codec: from where on, and how, to decompress again; no codec: stored bytes.
        begin: the offset of the first of `lines`.
        end: the offset behind them.
        lines: those handed out last, as a batch or one by one.
        terminator: bytes at the end of each.
    """

    __slots__ = ("_begin", "_boundary", "_codec", "_end", "_lines", "_terminator", "rest")

    def __init__(
        self,
        begin: int,
        end: int,
        boundary: Boundary = ORIGIN,
        codec: str = "",
        lines: list[bytes] | None = None,
        terminator: int = 1,
    ) -> None:
        self.rest: Iterator[bytes] | None = None
        self._begin = begin
        self._end = end
        self._boundary = boundary
        self._codec = codec
        self._lines = lines
        self._terminator = terminator

    def mark(self) -> int:
        """How many lines have not been handed out; with the place, it is a position."""
        return length_hint(self.rest) if self.rest is not None else 0

    def token(self, mark: int) -> list[Any]:
        """JSON, opaque to handlers: the position at a mark taken before."""
        at = self._end
        if mark and self._lines is not None:
            done = self._lines[:-mark]
            at = self._begin + sum(map(len, done)) + len(done) * self._terminator
        if not self._codec:
            return ["chunks", at]
        boundary = Boundary(at, at) if self._codec == PLAIN else self._boundary
        return ["lines", at, boundary.raw, boundary.decompressed, self._codec]
