"""One process that reads one object in one of several ways, and says in JSON what it took.

Time and processor time are those of reading, from the first request to the last byte: imports and
the making of a client are the business of bench-start. The memory is the most that the process
ever held.
"""

import argparse
import asyncio
import gc
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from s3_origins import BUCKET

MIB = 1 << 20
CHUNK_BYTES = 1 * MIB
# What the program's defaults allow: READ_CONNECTIONS and READ_AHEAD_BYTES.
CONNECTIONS = 8
WINDOW_BYTES = 64 * MIB
RANGE_BYTES = WINDOW_BYTES // CONNECTIONS
# And where there is memory for longer ranges.
WIDE_BYTES = 128 * MIB

# Called when all is ready and the first request is about to be sent.
Begin = Callable[[], None]


def read_app(endpoint: str, key: str, begin: Begin, window: int = WINDOW_BYTES) -> int:
    """This program, as `job.object.chunks()` reads: verified."""
    del endpoint  # AWS_ENDPOINT_URL
    import logging

    import structlog
    import uvloop
    from awscrt import checksums  # imported on the way, else

    from app import codecs
    from app.aws import clients
    from app.aws.s3 import S3Store
    from app.described import StreamLimits
    from app.notifications import ObjectRef
    from app.reading import Tuning
    from app.stream import ObjectStream
    from app.telemetry import Telemetry

    del checksums
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    verified: list[str] = []

    class Listening(Telemetry):
        def object_verified(self, integrity: str, size: int) -> None:
            verified.append(f"{integrity} {size}")

    async def read() -> int:
        tuning = Tuning(connections=CONNECTIONS, budget_bytes=window)
        store = S3Store(clients.S3Source(tuning.connections + 4, attempts=1), None)
        limits = StreamLimits(0, codecs.Limits(), Path(tempfile.gettempdir()), tuning)
        await store.warm()
        begin()
        ref = ObjectRef(BUCKET, key)
        stream = await ObjectStream.open(store, ref, limits, Listening(), lambda _: None)
        total = 0
        async for chunk in stream.chunks():
            total += len(chunk)
        await stream.close()
        await store.close()
        if verified != [f"crc64nvme {total}"]:
            raise RuntimeError(f"verified: {verified}, read: {total}")
        return total

    return uvloop.run(read())


def read_boto3(endpoint: str, key: str, begin: Begin) -> int:
    """One stream of boto3, a MiB at a time, not verified."""
    del endpoint
    import boto3
    from botocore.config import Config

    client = boto3.client("s3", config=Config(response_checksum_validation="when_required"))
    begin()
    body = client.get_object(Bucket=BUCKET, Key=key)["Body"]
    return sum(map(len, body.iter_chunks(CHUNK_BYTES)))


def read_aioboto3(endpoint: str, key: str, begin: Begin) -> int:
    """One stream of aioboto3 on uvloop, a MiB at a time, not verified."""
    del endpoint
    import aioboto3
    import uvloop
    from aiobotocore.config import AioConfig

    async def read() -> int:
        config = AioConfig(response_checksum_validation="when_required")
        total = 0
        async with aioboto3.Session().client("s3", config=config) as client:
            begin()
            answer = await client.get_object(Bucket=BUCKET, Key=key)
            async for chunk in answer["Body"].iter_chunks(CHUNK_BYTES):
                total += len(chunk)
        return total

    return uvloop.run(read())


def read_obstore(endpoint: str, key: str, begin: Begin, window: int = WINDOW_BYTES) -> int:
    """Ranges by obstore, as many at once and as much in memory, handed on in order."""
    import obstore  # type: ignore[import-not-found]  # of the bench's own environment
    import uvloop
    from obstore.store import S3Store  # type: ignore[import-not-found]

    length = window // CONNECTIONS

    async def read() -> int:
        store = S3Store(BUCKET, endpoint=endpoint, client_options={"allow_http": True})
        begin()
        size = (await obstore.head_async(store, key))["size"]
        waiting: deque[asyncio.Future[Any]] = deque()
        total = 0
        for start in range(0, size, length):
            if len(waiting) == CONNECTIONS:
                total += len(memoryview(await waiting.popleft()))
            end = min(size, start + length)
            asking = obstore.get_range_async(store, key, start=start, end=end)
            waiting.append(asyncio.ensure_future(asking))
        while waiting:
            total += len(memoryview(await waiting.popleft()))
        return total

    return uvloop.run(read())


def read_crt(endpoint: str, key: str, begin: Begin) -> int:
    """The AWS CRT through s3transfer, as many connections, into a file that only counts."""
    import awscrt.s3
    import botocore.session
    from awscrt.io import ClientBootstrap, DefaultHostResolver, EventLoopGroup
    from s3transfer.crt import (  # type: ignore[import-untyped]
        BotocoreCRTRequestSerializer,
        CRTTransferManager,
    )

    class Counted:
        total = 0

        def write(self, data: bytes) -> int:
            self.total += len(data)
            return len(data)

    loops = EventLoopGroup()
    client = awscrt.s3.S3Client(
        bootstrap=ClientBootstrap(loops, DefaultHostResolver(loops)),
        region="us-east-1",
        part_size=RANGE_BYTES,
        tls_mode=awscrt.s3.S3RequestTlsMode.DISABLED,
        max_active_connections_override=CONNECTIONS,
    )
    asking = BotocoreCRTRequestSerializer(
        botocore.session.Session(), {"endpoint_url": endpoint, "region_name": "us-east-1"}
    )
    into = Counted()
    begin()
    with CRTTransferManager(client, asking) as manager:
        manager.download(BUCKET, key, into).result()
    return into.total


def read_s5cmd(endpoint: str, key: str, begin: Begin) -> int:
    """`s5cmd cat` into a pipe, as many parts at once, from the start of its process."""
    program = Path(sys.executable).with_name("s5cmd")
    parts = ["--concurrency", str(CONNECTIONS), "--part-size", str(RANGE_BYTES // MIB)]
    begin()
    with subprocess.Popen(
        [program, "--endpoint-url", endpoint, "cat", *parts, f"s3://{BUCKET}/{key}"],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout
        total = 0
        taken = bytearray(CHUNK_BYTES)
        while count := process.stdout.readinto(taken):  # type: ignore[attr-defined]
            total += count
    if process.returncode != 0:
        raise RuntimeError(f"s5cmd exited {process.returncode}")
    return total


READERS: dict[str, Callable[[str, str, Begin], int]] = {
    "app": read_app,
    "app-wide": partial(read_app, window=WIDE_BYTES),
    "boto3": read_boto3,
    "aioboto3": read_aioboto3,
    "obstore": read_obstore,
    "obstore-wide": partial(read_obstore, window=WIDE_BYTES),
    "crt": read_crt,
    "s5cmd": read_s5cmd,
}


def _used() -> float:
    every = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in every)


def _peak() -> int:
    """Bytes; not of `getrusage`, which on Linux counts what the parent held before the exec."""
    status = Path("/proc/self/status").read_text()
    own = int(status.partition("VmHWM:")[2].split()[0]) << 10
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10
    return max(own, children)


def main() -> None:
    """Read, and print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("endpoint")
    parser.add_argument("key")
    told = parser.parse_args()
    at_first: list[float] = []

    def begin() -> None:
        # As `app run` does once it has started; what is imported is looked through no more.
        gc.collect()
        gc.freeze()
        at_first[:] = [time.perf_counter(), _used()]

    total = READERS[told.reader](told.endpoint, told.key, begin)
    seconds, cpu_seconds = time.perf_counter() - at_first[0], _used() - at_first[1]
    took = {"bytes": total, "seconds": seconds, "cpu_seconds": cpu_seconds}
    print(json.dumps(took | {"peak_bytes": _peak()}))


if __name__ == "__main__":
    main()
