"""Places in an object's bytes, and the tokens by which a later attempt finds them again."""

from collections.abc import Iterator
from typing import Any, Protocol, Self

import msgspec

from app.codecs import ORIGIN, Boundary
from app.framing import consumed


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


class Source(Protocol):
    """What decompresses; knows from where on a later attempt could."""

    def restart(self, at: int) -> tuple[Boundary, str]:
        """The last place at or before `at` to begin decompressing at, and the codec there."""


class Place:
    """Where a reader has got to; its token is only computed when asked for.

    Args:
        source: None for raw bytes.
        begin: the offset of the first of `lines`.
        end: the offset behind them.
        lines: those handed out last, as a batch or one by one.
    """

    def __init__(
        self,
        source: Source | None,
        begin: int,
        end: int,
        lines: list[bytes] | None = None,
        terminator: int = 1,
    ) -> None:
        self.rest: Iterator[bytes] | None = None
        self._source = source
        self._begin = begin
        self._end = end
        self._lines = lines
        self._terminator = terminator

    @property
    def at(self) -> int:
        """The offset behind all that was handed out."""
        if self._lines is None or self.rest is None:
            return self._end
        done = consumed(self._lines, self.rest)
        if len(done) == len(self._lines):
            return self._end
        return self._begin + sum(map(len, done)) + len(done) * self._terminator

    @property
    def token(self) -> list[Any]:
        """JSON; opaque to handlers."""
        at = self.at
        if self._source is None:
            return ["chunks", at]
        boundary, codec = self._source.restart(at)
        return ["lines", at, boundary.raw, boundary.decompressed, codec]
