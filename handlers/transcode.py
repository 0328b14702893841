"""Turns compressed objects into zstd (or gzip): gzip, bz2, xz, lz4 and plain ones alike.

An example of everything that lets a long job survive its pod. The output is a row of independent
frames, each of exactly FRAME_BYTES of the decompressed stream, so that after a checkpoint nothing
but whole frames has been written: an attempt that resumes goes on with the next one, and the
result is the same to the byte as if nobody had ever been interrupted.
"""

import asyncio
import gzip
from collections.abc import Callable

import zstandard

from app.handler import Job

# A multiple of a MiB: `decompressed()` ends a piece at each.
FRAME_BYTES = 8 << 20
ZSTD_LEVEL = 6
GZIP_LEVEL = 6
Compress = Callable[[bytes], bytes]
_SUFFIXES = (".gz", ".bz2", ".xz", ".lz4", ".zst")


async def to_zstd(job: Job) -> None:
    """Write `<key without its suffix>.zst`, one frame for each FRAME_BYTES."""
    await _transcode(job, ".zst", "application/zstd", _zstd_frame)


async def to_gzip(job: Job) -> None:
    """Write `<key without its suffix>.gz`, one member for each FRAME_BYTES."""
    await _transcode(job, ".gz", "application/gzip", _gzip_member)


async def _transcode(job: Job, suffix: str, content_type: str, compress: Compress) -> None:
    frames = job.resume.state["frames"] if job.resume else 0
    key = next(
        (job.object.key.removesuffix(end) for end in _SUFFIXES if job.object.key.endswith(end)),
        job.object.key,
    )
    # Opened again under the same key, the output goes on where the checkpoint was; so do the
    # pieces, which begin at the frame that comes next.
    async with job.output(key + suffix, content_type) as out:
        held = bytearray()
        async for piece in job.object.decompressed():
            held += piece
            if len(held) == FRAME_BYTES:
                await out.write(await _in_thread(compress, held))
                held.clear()
                frames += 1
                await job.checkpoint({"frames": frames})
                job.progress(frames * FRAME_BYTES)
        if held or not frames:
            await out.write(await _in_thread(compress, held))


async def _in_thread(compress: Compress, held: bytearray) -> bytes:
    # Both libraries let go of the interpreter lock, so that reading goes on meanwhile.
    return await asyncio.to_thread(compress, bytes(held))


def _zstd_frame(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True).compress(data)


def _gzip_member(data: bytes) -> bytes:
    # Without a time stamp, or no two runs would write the same bytes.
    return gzip.compress(data, GZIP_LEVEL, mtime=0)
