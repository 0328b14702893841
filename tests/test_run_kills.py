"""`transcode` killed again and again, anywhere in its input: the bytes of an undisturbed run.

Five kills here; `make test-kills` has 25, on an input of 100 MB. KILLS_SEED repeats a run.
"""

import gzip
import os
import random
import signal
import time

import pytest
from harness.aws import Depth, Scene
from harness.book import Book
from harness.launch import Launcher
from harness.process import REPOSITORY, Worker

KILLS = int(os.environ.get("KILLS") or 5)
SEED = int(os.environ.get("KILLS_SEED") or random.randrange(1 << 32))
INPUT_BYTES = (100 << 20) if "KILLS" in os.environ else (20 << 20)
VISIBILITY_SECONDS = 3
# Killed so long after the piece was read, at most: while it is compressed, sent, or kept.
LATER_SECONDS = 0.1
# What it goes on by until then must not be the end: two of the handler's frames.
ROOM_BYTES = 16 << 20

# The handler as it is shipped, told how far it reads.
TRANSCODE = f"""
import importlib.util

path = {str(REPOSITORY / "handlers/transcode.py")!r}
spec = importlib.util.spec_from_file_location("shipped", path)
shipped = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shipped)


class Told:
    def __init__(self, wrapped, **own):
        self.wrapped = wrapped
        vars(self).update(own)

    def __getattr__(self, name):
        return getattr(self.wrapped, name)


async def handle(job):
    at = job.resume.state["frames"] * shipped.FRAME_BYTES if job.resume else 0
    job.log.info("began", at=at)

    async def decompressed():
        nonlocal at
        async for piece in job.object.decompressed():
            at += len(piece)
            if at % (1 << 20) == 0:  # a piece ends at each
                job.log.info("read", at=at)
            yield piece

    await shipped.to_zstd(Told(job, object=Told(job.object, decompressed=decompressed)))
"""


def furthest(worker: Worker) -> int:
    """How far the worker had read, of the decompressed bytes."""
    return max((line["at"] for line in worker.events("read")), default=0)


def kill_at(worker: Worker, place: int, later: float) -> bool:
    """Kill it a moment after it has read so far; whether it was still there to be killed."""
    begun = worker.wait_for_event("began")["at"]
    worker.wait_for_count("read", max(1, (place - begun) >> 20), timeout=60)
    time.sleep(later)  # not to wait for anything: the moment is the point
    there = worker.running
    worker.signal(signal.SIGKILL)
    worker.wait()
    return there


def output(scene: Scene, key: str) -> bytes:
    """The bytes of one output."""
    found = scene.aws.s3.get_object(Bucket=scene.output_bucket, Key=f"out/{key}")
    return bytes(found["Body"].read())


@pytest.mark.timeout(600)
def test_a_worker_that_is_killed_at_random_moments(
    scene: Scene, book: Book, start: Launcher, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is read again is what came after the last checkpoint; no upload is left open."""
    chance = random.Random(SEED)
    block = b"\n".join(chance.randbytes(60).hex().encode() for _ in range(20_000)) + b"\n"
    member = gzip.compress(block, 1)
    members = INPUT_BYTES // len(member) + 1
    told = [f"seed {SEED}: {KILLS} kills, {members * len(member):,} bytes of gzip"]
    print(told[0])  # noqa: T201 - what repeats a run that failed
    start.more |= {"MAX_ATTEMPTS": str(KILLS + 1)}
    scene.submit("undisturbed.gz", member * members)
    undisturbed = start(TRANSCODE)
    assert undisturbed.wait(120) == 0
    scene.submit("k.gz", member * members)

    start.more |= {"VISIBILITY_TIMEOUT": str(VISIBILITY_SECONDS), "WAIT_SECONDS": "8"}
    again = unnamed = 0
    most = members * len(block) - ROOM_BYTES
    for place in sorted(chance.randrange(most) for _ in range(KILLS)):
        worker = start(TRANSCODE)
        assert kill_at(worker, place, chance.uniform(0, LATER_SECONDS)), "it had ended by itself"
        begun, reached = worker.events("began")[0]["at"], furthest(worker)
        # Killed before the record could name it, an upload is left to the bucket's lifecycle rule.
        unnamed += book.proxy.calls(service="s3")[-1].name == "CreateMultipartUpload"
        (record,) = (one for one in book.records() if one.source.endswith("/k.gz"))
        kept = record.checkpoint
        saved = kept.state["frames"] * (8 << 20) if kept else 0
        assert saved >= begun, "a checkpoint that was kept is gone"
        again += reached - saved
        told.append(f"from {begun:,} to {reached:,}, to be read again {reached - saved:,}")

    last = start(TRANSCODE)
    assert last.wait(120) == 0
    told.append(f"the last one from {last.events('began')[0]['at']:,}; again in all {again:,}")
    told.append(f"uploads that a kill left to the lifecycle rule: {unnamed}")
    with capsys.disabled():
        print("", *told, sep="\n  ")  # noqa: T201 - the figures
    assert output(scene, "k.zst") == output(scene, "undisturbed.zst")
    assert len(scene.open_uploads()) <= unnamed
    assert scene.depth() == Depth(0, 0)
