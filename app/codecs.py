"""Streaming decompression with limits; no I/O.

Every codec gives its output in bounded pieces, so that a small body that expands without end is
found out before it fills the memory.
"""

import bz2
import lzma
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias, cast

from app.outcomes import ConfigurationError, Reason, RejectedError

PIECE_BYTES = 1 << 20
# zstandard cannot bound its output, but 4 KiB of it hold no more than 128 MiB.
_ZSTD_SLICE_BYTES = 4 << 10
# Below this a ratio says little: a small file of zeros is no attack.
_RATIO_FROM_BYTES = 64 << 10

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bz2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
)
MAGIC_BYTES = 6
_ENCODINGS = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd", "bzip2": "bz2", "xz": "xz"}
_SUFFIXES = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz", ".lz4": "lz4"}


@dataclass(frozen=True, slots=True)
class Limits:
    """What decompression may grow to; 0 is no limit."""

    ratio: float = 200
    total_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Boundary:
    """A place in front of a member, from which one can decompress without what came before.

    Attributes:
        raw: its offset among the compressed bytes.
        decompressed: its offset among the decompressed bytes.
    """

    raw: int
    decompressed: int


ORIGIN = Boundary(0, 0)


class _Decompressor(Protocol):
    """What the standard library's and most other decompressors look like."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


_Codec: TypeAlias = tuple[Callable[[], _Decompressor], tuple[type[Exception], ...]]


def detect(content_encoding: str, head: bytes, key: str) -> str | None:
    """The codec by content-encoding, then magic bytes, then suffix; None for plain bytes."""
    encoding = content_encoding.rpartition(",")[2].strip().lower()
    if not head:
        return None
    if encoding in _ENCODINGS:
        return _ENCODINGS[encoding]
    for magic, codec in _MAGIC:
        if head.startswith(magic):
            return codec
    return next((codec for suffix, codec in _SUFFIXES.items() if key.endswith(suffix)), None)


class Decoder:
    """Decompresses one stream of one or more members (frames, streams).

    Args:
        codec: a name that `detect` gives.
        limits: past any of them the data is corrupt.
        start: the place in front of a member to begin at, instead of the stream's beginning.
    """

    def __init__(self, codec: str, limits: Limits, start: Boundary = ORIGIN) -> None:
        self._codec = codec
        self._make, self._errors = _codec(codec)
        self._limits = limits
        self._member: _Decompressor | None = None
        self._begun = start != ORIGIN
        self.bytes_in = start.raw
        self.bytes_out = start.decompressed
        self.boundary = start

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The pieces that these compressed bytes give, each of about a MiB at most.

        Raises:
            RejectedError: `corrupt_data`, or `object_too_large` past a limit.
        """
        self.bytes_in += len(data)
        while data or (self._member is not None and not self._member.needs_input):
            if self._member is None:
                data = self._begin(data)
                if self._member is None:
                    return
            piece = self._decompress(self._member, data)
            data = b""
            if self._member.eof:
                data = self._member.unused_data
                self._member = None
            self.bytes_out += len(piece)
            if self._member is None:
                self.boundary = Boundary(self.bytes_in - len(data), self.bytes_out)
            if piece:
                self._check_limits()
                yield piece

    def finish(self) -> None:
        """The input is at its end.

        Raises:
            RejectedError: `corrupt_data` where it ends in the middle of a member.
        """
        if self._member is not None or not self._begun:
            raise self._corrupt("it ends too early")

    def _begin(self, data: bytes) -> bytes:
        # gzip and xz allow members to be padded with zeros.
        data = data.lstrip(b"\0") if self._begun else data
        if data:
            self._member = self._make()
            self._begun = True
        return data

    def _decompress(self, member: _Decompressor, data: bytes) -> bytes:
        try:
            return member.decompress(data, PIECE_BYTES)
        except self._errors as error:
            raise self._corrupt(str(error)) from error

    def _check_limits(self) -> None:
        limits = self._limits
        if limits.total_bytes and self.bytes_out > limits.total_bytes:
            raise _too_large(f"MAX_DECOMPRESSED_BYTES ({limits.total_bytes})")
        grown = self.bytes_out > max(_RATIO_FROM_BYTES, self.bytes_in * limits.ratio)
        if limits.ratio and grown:
            raise _too_large(f"MAX_DECOMPRESSION_RATIO ({limits.ratio:g})")

    def _corrupt(self, text: str) -> RejectedError:
        where = f"{self._codec} data is corrupt after {self.bytes_in} bytes"
        return RejectedError(Reason.CORRUPT_DATA, f"{where}: {text}")


def _too_large(limit: str) -> RejectedError:
    return RejectedError(Reason.OBJECT_TOO_LARGE, f"decompressed past {limit}")


def _codec(name: str) -> _Codec:
    """A codec's decompressor and errors; its library is imported only now."""
    if name == "gzip":
        from isal import igzip_lib

        make = partial(igzip_lib.IgzipDecompressor, flag=igzip_lib.DECOMP_GZIP)
        # The stubs have the error class as an instance.
        return cast("Any", make), (cast("Any", igzip_lib.IsalError), EOFError)
    if name == "zstd":
        import zstandard

        return _Zstd, (zstandard.ZstdError,)
    if name == "bz2":
        return bz2.BZ2Decompressor, (OSError, EOFError)
    if name == "xz":
        return lzma.LZMADecompressor, (lzma.LZMAError, EOFError)
    return _lz4()


def _lz4() -> _Codec:
    try:
        from lz4 import frame
    except ImportError:
        text = "lz4: is not installed: the object is lz4, which needs sqs-file-processor[lz4]"
        raise ConfigurationError(text) from None
    return frame.LZ4FrameDecompressor, (RuntimeError, EOFError)


class _Zstd:
    """Gives zstandard's decompressor the shape of the others."""

    def __init__(self) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor().decompressobj()
        self._waiting = b""
        self.eof = False
        self.needs_input = True
        self.unused_data = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """At least one slice's output, and slices until `max_length` is reached."""
        view = memoryview(self._waiting + data if self._waiting else data)
        pieces: list[bytes] = []
        size = used = 0
        while used < len(view) and size < max_length and not self._inner.eof:
            piece = self._inner.decompress(view[used : used + _ZSTD_SLICE_BYTES])
            used += _ZSTD_SLICE_BYTES
            pieces.append(piece)
            size += len(piece)
        self._waiting = bytes(view[used:])
        self.eof = self._inner.eof
        self.needs_input = not self._waiting
        if self.eof:
            self.unused_data = self._inner.unused_data + self._waiting
        return b"".join(pieces)
