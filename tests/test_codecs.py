"""Streaming decompression: any cut, any number of members, and an end to what grows too far."""

import bz2
import gzip
import lzma
import random
from collections.abc import Callable
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from app.codecs import MAGIC_BYTES, PIECE_BYTES, Decoder, Limits, detect
from app.outcomes import Reason, RejectedError

Pack = Callable[[bytes], bytes]
PACKS: dict[str, Pack] = {
    "gzip": lambda data: gzip.compress(data, 6),
    "zstd": lambda data: zstandard.ZstdCompressor(write_checksum=True).compress(data),
    "bz2": bz2.compress,
    "xz": lzma.compress,
}
CODECS = pytest.mark.parametrize("codec", PACKS)
FREE = Limits(ratio=0)


def decoded(codec: str, data: bytes, step: int = 1 << 20, limits: Limits = FREE) -> bytes:
    """What the bytes decompress to, fed in pieces of this size."""
    decoder = Decoder(codec, limits)
    found = [
        piece
        for start in range(0, len(data), step)
        for piece in decoder.feed(data[start : start + step])
    ]
    decoder.finish()
    assert all(found)
    assert decoder.bytes_in == len(data)
    assert decoder.bytes_out == sum(map(len, found))
    return b"".join(found)


def refused(codec: str, data: bytes, step: int = 1000, limits: Limits = FREE) -> Reason:
    """Why these bytes are refused."""
    with pytest.raises(RejectedError) as raised:
        decoded(codec, data, step, limits)
    return raised.value.reason


@settings(deadline=None)
@given(
    st.sampled_from(sorted(PACKS)),
    st.lists(st.binary(max_size=300), min_size=1, max_size=4),
    st.integers(1, 200),
)
def test_members_in_any_pieces(codec: str, members: list[bytes], step: int) -> None:
    """Several members one after the other are one stream, wherever the bytes are cut."""
    data = b"".join(PACKS[codec](member) for member in members)
    assert decoded(codec, data, step) == b"".join(members)


@CODECS
def test_pieces_are_bounded(codec: str) -> None:
    """What expands a thousand times comes in pieces all the same."""
    data = PACKS[codec](bytes(30 << 20))
    decoder = Decoder(codec, FREE)
    sizes = [len(piece) for piece in decoder.feed(data)]
    decoder.finish()
    assert sum(sizes) == 30 << 20
    # zstandard cannot be told to stop within a slice of its input.
    assert max(sizes) <= (PIECE_BYTES if codec != "zstd" else 128 << 20)


@CODECS
def test_a_stream_that_ends_early_is_corrupt(codec: str) -> None:
    """Whatever is missing at its end, also where the last member has not even begun well."""
    data = PACKS[codec](random.Random(1).randbytes(5000))
    for missing in (1, 4, len(data) // 2, len(data) - 1):
        assert refused(codec, data[:-missing]) is Reason.CORRUPT_DATA
    assert refused(codec, data + data[:-1]) is Reason.CORRUPT_DATA


@CODECS
def test_wrong_bytes_are_corrupt(codec: str) -> None:
    """Garbage in the middle, at the beginning, or behind the end."""
    data = PACKS[codec](random.Random(1).randbytes(5000))
    middle = len(data) // 2
    flipped = bytes([data[middle] ^ 0xFF])
    assert refused(codec, data[:middle] + flipped + data[middle + 1 :]) is Reason.CORRUPT_DATA
    assert refused(codec, b"not compressed at all") is Reason.CORRUPT_DATA
    assert refused(codec, data + b"garbage behind the end") is Reason.CORRUPT_DATA
    assert refused(codec, b"") is Reason.CORRUPT_DATA


@settings(deadline=None)
@given(st.sampled_from(sorted(PACKS)), st.binary(min_size=1, max_size=200), st.integers(1, 50))
def test_any_bytes_are_data_or_corrupt(codec: str, data: bytes, step: int) -> None:
    """No error of a library's own reaches the caller."""
    packed = PACKS[codec](b"some bytes in front")
    try:
        decoded(codec, packed[: len(packed) // 2] + data, step)
    except RejectedError as error:
        reason = error.reason
    else:
        reason = Reason.CORRUPT_DATA
    assert reason is Reason.CORRUPT_DATA


@pytest.mark.parametrize("codec", ["gzip", "xz"])
def test_zeros_may_pad_members(codec: str) -> None:
    """Tapes and some tools fill up with zeros, between members and at the end."""
    data = PACKS[codec](b"some bytes")
    assert decoded(codec, data + bytes(512) + data + bytes(1024), 7) == b"some bytes" * 2


@CODECS
def test_data_that_grows_too_far_is_rejected(codec: str) -> None:
    """A small body that expands without end is found out long before its end."""
    bomb = PACKS[codec](bytes(100 << 20))
    decoder, starts = Decoder(codec, Limits(ratio=50)), range(0, len(bomb), 512)
    with pytest.raises(RejectedError, match="MAX_DECOMPRESSION_RATIO") as raised:
        [len(piece) for start in starts for piece in decoder.feed(bomb[start : start + 512])]
    assert raised.value.reason is Reason.OBJECT_TOO_LARGE
    assert decoder.bytes_out < 64 << 20


@CODECS
def test_a_bound_on_the_size(codec: str) -> None:
    """MAX_DECOMPRESSED_BYTES is met exactly."""
    data = PACKS[codec](random.Random(1).randbytes(5000))
    assert len(decoded(codec, data, limits=Limits(200, 5000))) == 5000
    assert refused(codec, data, limits=Limits(200, 4999)) is Reason.OBJECT_TOO_LARGE


@CODECS
def test_a_small_file_of_zeros_is_no_attack(codec: str) -> None:
    """The ratio counts only from 64 KiB on."""
    assert len(decoded(codec, PACKS[codec](bytes(64 << 10)), limits=Limits(ratio=2))) == 64 << 10
    larger = PACKS[codec](bytes(512 << 10))
    assert refused(codec, larger, limits=Limits(ratio=2)) is Reason.OBJECT_TOO_LARGE


@CODECS
def test_one_can_begin_again_at_a_boundary(codec: str) -> None:
    """In front of a member nothing of what came before is needed."""
    members = [b"first", b"second" * 50, b"third"]
    packed = [PACKS[codec](member) for member in members]
    data = b"".join(packed)
    decoder = Decoder(codec, FREE)
    seen = {decoder.boundary}
    for byte in range(len(data)):
        list(decoder.feed(data[byte : byte + 1]))
        seen.add(decoder.boundary)
    raw = [sum(map(len, packed[:count])) for count in range(4)]
    assert sorted((one.raw, one.decompressed) for one in seen) == [
        (raw[count], sum(map(len, members[:count]))) for count in range(4)
    ]
    for boundary in seen:
        again = Decoder(codec, FREE, boundary)
        rest = b"".join(again.feed(data[boundary.raw :]))
        again.finish()
        assert rest == b"".join(members)[boundary.decompressed :]
        assert again.bytes_out == len(b"".join(members))
    assert all(before < after for before, after in pairwise(raw))


@pytest.mark.parametrize(
    ("encoding", "head", "key", "codec"),
    [
        ("", b"\x1f\x8b\x08\x00\x00\x00", "a.csv", "gzip"),
        ("", b"\x28\xb5\x2f\xfd\x00\x00", "a.gz", "zstd"),
        ("", b"BZh91A", "a", "bz2"),
        ("", b"\xfd7zXZ\x00", "a", "xz"),
        ("", b"a,b,c,", "a.csv", None),
        ("", b"a,b,c,", "a.csv.gz", "gzip"),
        ("", b"a,b,c,", "a.zst", "zstd"),
        ("gzip", b"a,b,c,", "a.zst", "gzip"),
        ("aws-chunked, gzip", b"a,b,c,", "a", "gzip"),
        ("GZIP ", b"a,b,c,", "a", "gzip"),
        ("identity", b"\x1f\x8b\x08\x00\x00\x00", "a", "gzip"),
        ("aws-chunked", b"a,b,c,", "a", None),
        ("gzip", b"", "a.gz", None),
    ],
)
def test_how_a_codec_is_found(encoding: str, head: bytes, key: str, codec: str | None) -> None:
    """By what the store says, then by the first bytes, then by the name; nothing is nothing."""
    assert len(head) in (0, MAGIC_BYTES)
    assert detect(encoding, head, key) == codec
