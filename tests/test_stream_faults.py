"""The object stream over real connections to a server that does what networks and servers do."""

import base64
import hashlib
import zlib
from collections.abc import Mapping

import msgspec
import pytest
from awscrt import checksums
from faults.origin import Origin, Trickle, Trouble
from faults.plan import Answer, Cut, Drop, Reset, s3_error
from origins import DATA, KIBIBYTE, MEBIBYTE, PATIENCE, PAUSE_SECONDS, TUNING, stream_from, whole
from shaky import Heard

from app.outcomes import OutsideError, Reason, RejectedError

SLOW_DOWN = s3_error(503, "SlowDown")


def in_base64(number: int, width: int) -> str:
    """A checksum of so many bytes, as S3 writes it."""
    return base64.b64encode(number.to_bytes(width, "big")).decode()


CHECKSUMS = {
    "CRC32": in_base64(zlib.crc32(DATA), 4),
    "CRC32C": in_base64(checksums.crc32c(DATA), 4),
    "CRC64NVME": in_base64(checksums.crc64nvme(DATA), 8),
    "SHA1": base64.b64encode(hashlib.sha1(DATA, usedforsecurity=False).digest()).decode(),
    "SHA256": base64.b64encode(hashlib.sha256(DATA).digest()).decode(),
}
CRC64 = {"CRC64NVME": CHECKSUMS["CRC64NVME"]}


@pytest.mark.parametrize("at", [0, 1, 256 * KIBIBYTE - 1, 256 * KIBIBYTE, 3 * MEBIBYTE + 7])
@pytest.mark.parametrize("fault", [Cut(), Reset()])
async def test_a_broken_body_goes_on_where_it_stopped(fault: Cut | Reset, at: int) -> None:
    """Cut in good order or reset, at any byte: the bytes are whole, and none is asked for twice."""
    origin, heard = Origin(DATA, CRC64, [Trouble(at, fault)]), Heard()
    async with stream_from(origin, heard) as stream:
        assert await whole(stream) == DATA
    assert heard.verified == ["crc64nvme"]
    retried = [asked_at for reason, asked_at in heard.retried if reason is Reason.TRANSPORT]
    if isinstance(fault, Cut) and at:
        assert at in [start for start, _ in origin.ranges]
        assert retried == [at]
    else:
        # A reset may take bytes with it that were sent before it.
        assert all(asked_at <= at for asked_at in retried)
        assert len(retried) == 1


async def test_every_request_after_the_first_is_pinned() -> None:
    """Each further request says If-Match, also those that go on where a body broke."""
    origin = Origin(DATA, CRC64, [Trouble(n * MEBIBYTE, Cut()) for n in range(1, 6)])
    async with stream_from(origin) as stream:
        assert await whole(stream) == DATA
    assert [asked.if_match for asked in origin.asked[1:]] == [origin.etag] * 7


async def test_cuts_that_bring_bytes_are_never_too_many() -> None:
    """Attempts are bounded only where they bring nothing: sixty cuts in a row are borne."""
    cuts = [Trouble(n * 100 * KIBIBYTE, Cut()) for n in range(1, 61)]
    origin, heard = Origin(DATA, CRC64, cuts), Heard()
    async with stream_from(origin, heard) as stream:
        assert await whole(stream) == DATA
    assert len(heard.retried) == len(cuts)
    assert heard.verified == ["crc64nvme"]


async def test_cuts_that_bring_nothing_are_given_up() -> None:
    """Cut at one and the same byte for ever: an error of transport, after so many attempts."""
    origin = Origin(DATA, CRC64, [Trouble(MEBIBYTE, Cut(), times=1000)])
    async with stream_from(origin) as stream:
        with pytest.raises(OutsideError) as caught:
            await whole(stream)
    assert caught.value.reason is Reason.TRANSPORT
    assert len([r for r in origin.ranges if r[0] == MEBIBYTE]) == PATIENCE.fruitless


@pytest.mark.parametrize("fault", [Drop(), Trickle(0.01)])
async def test_a_silent_or_trickling_body_is_reopened(fault: Drop | Trickle) -> None:
    """A connection that brings nothing, or next to nothing, is given up for another one."""
    origin, heard = Origin(DATA, CRC64, [Trouble(2 * MEBIBYTE, fault)]), Heard()
    async with stream_from(origin, heard) as stream:
        assert await whole(stream) == DATA
    ((reason, at),) = heard.retried
    assert reason is Reason.TRANSPORT
    assert 2 * MEBIBYTE <= at < 2 * MEBIBYTE + KIBIBYTE
    assert heard.verified == ["crc64nvme"]


@pytest.mark.parametrize("count", [1, 3])
async def test_a_wrong_content_range_is_no_answer(count: int) -> None:
    """Bytes of another place than asked for are never taken for those asked for."""
    origin, heard = Origin(DATA, CRC64, shifts=count), Heard()
    async with stream_from(origin, heard) as stream:
        assert await whole(stream) == DATA
    assert len(heard.retried) == count


async def test_a_content_range_that_stays_wrong_is_an_error() -> None:
    """A server that never answers what it was asked is given up."""
    origin = Origin(DATA, shifts=1 << 30)
    with pytest.raises(OutsideError, match="Content-Range") as caught:
        async with stream_from(origin):
            pass
    assert caught.value.reason is Reason.TRANSPORT


async def test_a_server_that_ignores_ranges() -> None:
    """200 to a range: what was not asked for is skipped, not delivered."""
    origin, heard = Origin(DATA, CRC64, [Trouble(MEBIBYTE, Cut())], ignores_range=True), Heard()
    async with stream_from(origin, heard) as stream:
        assert await whole(stream) == DATA
        assert await stream.read(MEBIBYTE, MEBIBYTE + 9) == DATA[MEBIBYTE : MEBIBYTE + 9]
    assert heard.verified == ["crc64nvme"]


async def test_a_storm_of_slow_down() -> None:
    """503 at the start and again on the way is waited out, with fewer connections for a while."""
    origin = Origin(DATA, CRC64, refusals=[SLOW_DOWN] * 2, pause_seconds=PAUSE_SECONDS)
    heard = Heard()
    async with stream_from(origin, heard) as stream:
        chunks = stream.chunks()
        parts = [await anext(chunks)]
        while not heard.parallel:
            parts.append(await anext(chunks))
        origin.refusals += [SLOW_DOWN] * 3
        parts += [chunk async for chunk in chunks]
        assert b"".join(parts) == DATA
    throttled = [reason for reason, _ in heard.retried if reason is Reason.THROTTLED]
    assert len(throttled) == 5
    assert heard.verified == ["crc64nvme"]


async def test_one_slow_down_halves_the_connections() -> None:
    """What is under way is read to its end; behind it fewer requests are made at once."""
    data = DATA * 6
    origin, heard = Origin(data, pause_seconds=PAUSE_SECONDS), Heard()
    read, left = 0, 0
    async with stream_from(
        origin, heard, tuning=msgspec.structs.replace(TUNING, budget_bytes=8 << 20)
    ) as stream:
        async for chunk in stream.chunks():
            read += len(chunk)
            if origin.most_under_way >= 3 and not heard.retried:
                origin.refusals[:] = [SLOW_DOWN]
            elif heard.retried and not left and origin.under_way == 1:
                # From here on it is the reader's choice how many there are.
                left, origin.most_under_way = len(data) - read, 0
    assert read == len(data)
    assert left > 8 * MEBIBYTE, "nothing was left to be read with fewer"
    # One, and the next one asked for while its last bytes come.
    assert origin.most_under_way <= 2


async def test_a_storm_that_does_not_end() -> None:
    """503 for ever is an error that says so, before the first byte as well as behind it."""
    origin = Origin(DATA, refusals=[SLOW_DOWN] * 100)
    with pytest.raises(OutsideError) as caught:
        async with stream_from(origin):
            pass
    assert caught.value.reason is Reason.THROTTLED
    later = Origin(DATA)
    async with stream_from(later) as stream:
        chunks = stream.chunks()
        await anext(chunks)
        later.refusals = [SLOW_DOWN] * 100
        with pytest.raises(OutsideError) as caught:
            [_ async for _ in chunks]
    assert caught.value.reason is Reason.THROTTLED


@pytest.mark.parametrize("answer", [Answer(500), s3_error(500, "InternalError"), Answer(502)])
async def test_a_server_error_passes(answer: Answer) -> None:
    """500 and 502, with or without a body, are asked again."""
    origin = Origin(DATA, CRC64, refusals=[answer, answer])
    async with stream_from(origin) as stream:
        assert await whole(stream) == DATA


async def test_an_object_that_changes_in_the_middle() -> None:
    """412: the object is another one now, and the error says so at once."""
    origin = Origin(DATA, changes_after=1)
    async with stream_from(origin) as stream:
        with pytest.raises(OutsideError) as caught:
            await whole(stream)
    assert caught.value.reason is Reason.OBJECT_CHANGED
    assert len(origin.ranges) == 2


async def test_an_object_that_becomes_shorter() -> None:
    """416 to a range of the pinned version means changed, not ended."""
    origin = Origin(DATA)
    async with stream_from(origin) as stream:
        origin.refusals = [s3_error(416, "InvalidRange")]
        with pytest.raises(OutsideError) as caught:
            await whole(stream)
    assert caught.value.reason is Reason.OBJECT_CHANGED


async def test_an_empty_object() -> None:
    """416 to the very first range means that there is no byte, which is no error."""
    origin, heard = Origin(b"", {"CRC32": in_base64(0, 4)}), Heard()
    async with stream_from(origin, heard) as stream:
        assert await whole(stream) == b""
        assert stream.size == 0
    assert [asked.start for asked in origin.asked] == [0, None]


async def test_over_several_connections() -> None:
    """Ranges over several slow connections, three of them broken: the same bytes in order."""
    cuts = [Trouble(n * MEBIBYTE + 70_000, Cut()) for n in (1, 3, 4)]
    origin, heard = Origin(DATA, CRC64, cuts, pause_seconds=PAUSE_SECONDS), Heard()
    async with stream_from(origin, heard) as stream:
        assert await whole(stream) == DATA
    assert heard.parallel
    # Beside them: the question for the checksum, and one that was hung up on a moment ago.
    assert 1 < origin.most_under_way <= TUNING.connections + 2
    assert heard.verified == ["crc64nvme"]


@pytest.mark.parametrize("name", CHECKSUMS)
async def test_checksums(name: str) -> None:
    """Each of S3's checksums is asked for, computed across cuts and ranges, and found right."""
    origin, heard = Origin(DATA, {name: CHECKSUMS[name]}, [Trouble(MEBIBYTE, Cut())]), Heard()
    async with stream_from(origin, heard) as stream:
        assert await whole(stream) == DATA
        stream.check()
    assert heard.verified == [name.lower()]


@pytest.mark.parametrize(
    "stored", [{}, {"CRC32": "AAAAAA==-3"}, {"MD6": "AAAA"}], ids=["none", "of parts", "unknown"]
)
async def test_without_a_checksum(stored: Mapping[str, str]) -> None:
    """Where S3 has none of the whole the length is what is checked, and the log says so."""
    origin, heard = Origin(DATA, stored, flip_at=MEBIBYTE), Heard()
    async with stream_from(origin, heard) as stream:
        assert len(await whole(stream)) == len(DATA)
        stream.check()
    assert heard.verified == ["length_only"]


@pytest.mark.parametrize("first_bytes", [256 * KIBIBYTE, 16 * MEBIBYTE], ids=["ranges", "one"])
@pytest.mark.parametrize("name", CHECKSUMS)
async def test_a_flipped_bit_is_found(name: str, first_bytes: int) -> None:
    """Wrong once, it is tried again; wrong for the second time, the data itself is corrupt."""
    tuning = msgspec.structs.replace(TUNING, first_bytes=first_bytes)
    for attempt, kind, reason in (
        (1, OutsideError, Reason.CHECKSUM_MISMATCH),
        (2, RejectedError, Reason.CORRUPT_DATA),
    ):
        origin, heard = Origin(DATA, {name: CHECKSUMS[name]}, flip_at=3 * MEBIBYTE), Heard()
        async with stream_from(origin, heard, tuning=tuning, attempt=attempt) as stream:
            with pytest.raises(kind) as caught:
                await whole(stream)
            assert caught.value.reason is reason
            # A handler that swallows the error is found out before anything is committed.
            with pytest.raises(kind):
                stream.check()
        assert heard.verified == []
