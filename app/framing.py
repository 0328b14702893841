"""Bytes to lines, with their offsets; no I/O."""

from io import BytesIO
from operator import itemgetter

from app.outcomes import Reason, RejectedError

MAX_LINE_BYTES = 64 << 20
# `bytes.split` looks at each byte, a file in memory at many at once; but then the terminator has
# still to be cut off, which pays for lines that are on average longer than this.
LONG_BYTES = 150
_without_last_byte = itemgetter(slice(None, -1))


class Splitter:
    """Cuts a stream of pieces into lines.

    Args:
        terminator: what ends a line; it is not part of the line.
        start: the offset of the first byte that will be fed.
        max_line_bytes: a line longer than this is corrupt data.
    """

    def __init__(
        self, terminator: bytes = b"\n", start: int = 0, max_line_bytes: int = MAX_LINE_BYTES
    ) -> None:
        if not terminator:
            raise ValueError("a line terminator needs at least one byte")
        self._terminator = terminator
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._most = max_line_bytes
        self._fed = start
        self._long = False

    @property
    def offset(self) -> int:
        """The offset of the first byte that no line was made of yet."""
        return self._fed - self._held_bytes

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that end in this piece, without their terminators.

        Raises:
            RejectedError: `corrupt_data`, where a line grows beyond the bound.
        """
        self._fed += len(piece)
        if self._straddles(piece):
            piece = b"".join((*self._held, piece))
            self._forget_held()
        if self._terminator not in piece:
            self._hold(piece)
            return []
        lines, rest = self._cut(piece)
        if self._held:
            lines[0] = b"".join((*self._held, lines[0]))
            self._forget_held()
        self._hold(rest)
        if len(piece) > self._most or len(lines[0]) > self._most:
            self._check_each(lines)
        return lines

    def finish(self) -> list[bytes]:
        """The last line, where the stream does not end with a terminator."""
        rest = b"".join(self._held)
        self._forget_held()
        return [rest] if rest else []

    def _cut(self, piece: bytes) -> tuple[list[bytes], bytes]:
        """The lines that end in the piece, and what is behind the last of them."""
        if self._long and self._terminator == b"\n":
            lines = list(map(_without_last_byte, BytesIO(piece)))
            rest = piece[piece.rfind(b"\n") + 1 :]
            if rest:
                lines.pop()
        else:
            lines = piece.split(self._terminator)
            rest = lines.pop()
        self._long = len(piece) > LONG_BYTES * len(lines)
        return lines, rest

    def _straddles(self, piece: bytes) -> bool:
        """Whether a terminator of several bytes ends in this piece but began before it."""
        width = len(self._terminator) - 1
        if not width or not self._held:
            return False
        tail = b""
        for held in reversed(self._held):
            tail = held[-width:] + tail
            if len(tail) >= width:
                break
        tail = tail[-width:]
        return self._terminator in tail + piece[:width]

    def _forget_held(self) -> None:
        self._held.clear()
        self._held_bytes = 0

    def _hold(self, rest: bytes) -> None:
        if rest:
            self._held.append(rest)
            self._held_bytes += len(rest)
        if self._held_bytes > self._most:
            self._check_each([b"".join(self._held)])

    def _check_each(self, lines: list[bytes]) -> None:
        for line in lines:
            if len(line) > self._most:
                text = f"a line is longer than {self._most} bytes"
                raise RejectedError(Reason.CORRUPT_DATA, text)
