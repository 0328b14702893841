"""Whether what was delivered is what was stored: length, and a checksum where S3 has one."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Protocol

# Cheapest first; of several checksums that a store has of one object, one is enough.
PREFERRED = ("CRC64NVME", "CRC32", "CRC32C", "SHA1", "SHA256")


class Checksum(Protocol):
    """A checksum over bytes as they come."""

    def update(self, data: bytes) -> None:
        """Take more bytes in."""

    def text(self) -> str:
        """Its value, in base64 as S3 writes it."""


def begin(stored: Mapping[str, str]) -> "tuple[str, Checksum] | None":
    """The algorithm and its checksum to compare with, None where none can be computed.

    Args:
        stored: full-object checksums by algorithm, as S3 names and writes them.
    """
    for name in PREFERRED:
        if name in stored and (made := _make(name)) is not None:
            return name, made
    return None


def _make(name: str) -> Checksum | None:
    if name == "SHA256":
        return _Digest("sha256")
    if name == "SHA1":
        return _Digest("sha1")
    if name == "CRC32":
        from isal import isal_zlib

        return _Crc(isal_zlib.crc32, 4)
    try:
        from awscrt import checksums
    except ImportError:
        return None
    if name == "CRC32C":
        return _Crc(checksums.crc32c, 4)
    return _Crc(checksums.crc64nvme, 8)


class _Crc:
    def __init__(self, function: Callable[[bytes, int], int], width: int) -> None:
        self._function = function
        self._width = width
        self._value = 0

    def update(self, data: bytes) -> None:
        self._value = self._function(data, self._value)

    def text(self) -> str:
        return base64.b64encode(self._value.to_bytes(self._width, "big")).decode()


class _Digest:
    def __init__(self, name: str) -> None:
        self._digest = hashlib.new(name, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self._digest.update(data)

    def text(self) -> str:
        return base64.b64encode(self._digest.digest()).decode()
