"""Streams over the real S3 adapter, read from an origin that misbehaves."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from faults.origin import Origin
from harness.server import CREDENTIALS
from shaky import Heard, stream_of

from app.aws.clients import S3Source
from app.aws.s3 import S3Store
from app.ranges import Patience
from app.reading import Tuning
from app.stream import ObjectStream

KIBIBYTE = 1 << 10
MEBIBYTE = 1 << 20
DATA = Random(8).randbytes(6 * MEBIBYTE)
# What takes seconds in a pod takes milliseconds here.
PATIENCE = Patience(
    fruitless=3,
    base_seconds=0.001,
    most_seconds=0.002,
    floor_bytes=64 * KIBIBYTE,
    floor_seconds=0.6,
)
TUNING = Tuning(first_bytes=256 * KIBIBYTE, connections=4, patience=PATIENCE)
STALL_SECONDS = 0.6
# Slow enough for several connections to pay: 16 MiB/s each.
PAUSE_SECONDS = 0.004


@asynccontextmanager
async def store_of(origin: Origin) -> AsyncIterator[S3Store]:
    """The real adapter, its client pointed at the origin, with a short wait for silent bodies."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (CREDENTIALS | {"AWS_ENDPOINT_URL": origin.url}).items():
            patch.setenv(name, value)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        store = S3Store(S3Source(8, attempts=1, read_seconds=STALL_SECONDS), None)
        await store.warm()
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def stream_from(
    origin: Origin, heard: Heard | None = None, *, tuning: Tuning = TUNING, attempt: int = 1
) -> AsyncIterator[ObjectStream]:
    """A stream over that adapter; behind it no response is under way at the origin."""
    async with origin, store_of(origin) as store:
        stream = await stream_of(store, tuning, attempt=attempt, telemetry=heard or Heard())
        try:
            yield stream
        finally:
            origin.frozen = True
            await stream.close()
            await origin.quiet()


async def whole(stream: ObjectStream) -> bytes:
    """All bytes that `chunks` gives."""
    return b"".join([chunk async for chunk in stream.chunks()])
