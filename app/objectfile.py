"""The object as a file for libraries that seek: pyarrow, zipfile, pandas."""

import io
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

BLOCK_BYTES = 1 << 20
BLOCKS_KEPT = 16
# Reads that follow one another fetch more at once, up to this.
AHEAD_MAX_BLOCKS = 8


class ObjectFile(io.RawIOBase):
    """Readable and seekable, over ranged reads with a small cache of blocks.

    Args:
        size: of the object, in bytes.
        fetch: the bytes from one offset up to another; blocks.
    """

    def __init__(self, size: int, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._size = size
        self._fetch = fetch
        self._at = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._expected = 0
        self._ahead = 1

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """The offset of the next byte."""
        self._refuse_closed()
        return self._at

    def close(self) -> None:
        """Let go of the bytes that were kept."""
        self._blocks.clear()
        super().close()

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to an offset from the start, from here or from the end."""
        self._refuse_closed()
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError(f"seek to {origin + offset}: before the start")
        self._at = origin + offset
        return self._at

    def readinto(self, buffer: "WriteableBuffer") -> int:
        """Fill the buffer as far as the object goes; raises what the read raises."""
        self._refuse_closed()
        with memoryview(buffer).cast("B") as view:
            wanted = min(len(view), max(0, self._size - self._at))
            if wanted >= BLOCK_BYTES * AHEAD_MAX_BLOCKS:
                # A read as large as the cache gains nothing from it.
                view[:wanted] = self._fetch(self._at, self._at + wanted)
                self._at += wanted
                return wanted
            done = 0
            while done < wanted:
                block = self._block(self._at // BLOCK_BYTES)
                inside = self._at % BLOCK_BYTES
                piece = block[inside : inside + wanted - done]
                view[done : done + len(piece)] = piece
                done += len(piece)
                self._at += len(piece)
            return done

    def _refuse_closed(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _block(self, number: int) -> bytes:
        if number in self._blocks:
            self._blocks.move_to_end(number)
            return self._blocks[number]
        self._ahead = min(AHEAD_MAX_BLOCKS, self._ahead * 2) if number == self._expected else 1
        start = number * BLOCK_BYTES
        data = self._fetch(start, min(self._size, start + self._ahead * BLOCK_BYTES))
        for index in range(self._ahead):
            if block := data[index * BLOCK_BYTES : (index + 1) * BLOCK_BYTES]:
                self._blocks[number + index] = block
        self._expected = number + self._ahead
        while len(self._blocks) > BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        return self._blocks[number]
