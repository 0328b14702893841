"""Stored bytes to decompressed ones, from any position on."""

from collections import deque
from collections.abc import Iterator

from app import codecs
from app.codecs import Decoder
from app.ports import ObjectFacts
from app.positions import PLAIN, Place, Position
from app.verified import Verified


class Decoded:
    """Decompressed bytes in pieces of a MiB at most.

    Args:
        source: stored bytes, from the position's boundary on.
    """

    def __init__(
        self, source: Verified, facts: ObjectFacts, limits: codecs.Limits, position: Position
    ) -> None:
        self.offset = position.at
        self._source = source
        self._facts = facts
        self._limits = limits
        self._codec = position.codec
        self._boundaries = deque([position.boundary])
        self._skip = position.at - position.boundary.decompressed
        self._decoder: Decoder | None = None
        self._pieces: Iterator[bytes] = iter(())

    async def read(self) -> bytes:
        """The next piece; empty at the end.

        Raises:
            RejectedError: the data is corrupt, or grows past a limit.
            OutsideError: reading failed.
        """
        while True:
            for piece in self._pieces:
                self._note_boundary()
                if wanted := self._unskipped(piece):
                    self.offset += len(wanted)
                    return wanted
            chunk = await self._source.read()
            if chunk and not self._codec:
                chunk = await self._detect(chunk)
            if not chunk:
                if self._decoder is not None:
                    self._decoder.finish()
                return b""
            self._pieces = self._decode(chunk)

    async def close(self) -> None:
        """Close what reading left open."""
        await self._source.close()

    def place(
        self, begin: int, end: int, lines: list[bytes] | None = None, terminator: int = 0
    ) -> Place:
        """The place of a reader who is between these offsets, and will not go back."""
        while len(self._boundaries) > 1 and self._boundaries[1].decompressed <= begin:
            self._boundaries.popleft()
        codec = self._codec or PLAIN
        return Place(begin, end, self._boundaries[0], codec, lines, terminator)

    async def _detect(self, head: bytes) -> bytes:
        """Find the codec out from the first bytes, and give them back."""
        while len(head) < codecs.MAGIC_BYTES and (more := await self._source.read()):
            head += more
        facts = self._facts
        self._codec = codecs.detect(facts.content_encoding, head, facts.key) or PLAIN
        return head

    def _decode(self, chunk: bytes) -> Iterator[bytes]:
        if self._codec == PLAIN:
            return iter((chunk,))
        if self._decoder is None:
            self._decoder = Decoder(self._codec, self._limits, self._boundaries[-1])
        return self._decoder.feed(chunk)

    def _note_boundary(self) -> None:
        if self._decoder is not None and self._decoder.boundary is not self._boundaries[-1]:
            self._boundaries.append(self._decoder.boundary)

    def _unskipped(self, piece: bytes) -> bytes:
        if not self._skip:
            return piece
        cut = min(self._skip, len(piece))
        self._skip -= cut
        return piece[cut:]
