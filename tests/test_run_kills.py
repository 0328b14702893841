"""Killed at random moments, again and again: the bytes are those of an undisturbed run.

Five kills here; `make test-kills` has 25, on an input of 100 MB. KILLS_SEED repeats a run.
"""

import gzip
import hashlib
import os
import random
import signal
import time

import pytest
from harness.aws import Depth, Scene
from harness.book import Book
from harness.launch import Launcher
from harness.process import Worker

KILLS = int(os.environ.get("KILLS") or 5)
SEED = int(os.environ.get("KILLS_SEED") or random.randrange(1 << 32))
INPUT_BYTES = (100 << 20) if "KILLS" in os.environ else (12 << 20)
# A life of the handler, at most; all of them together are too short for the whole.
LIFE_SECONDS = 1.0

# Of the input's length to the byte, so that one number tells of both sides.
TRANSCODE = """
async def handle(job):
    job.log.info("began", at=job.resume.state["at"] if job.resume else 0)
    pause = float(os.environ["SECONDS_PER_BYTE"])
    async with job.output("copy") as out:
        with open("reached", "w", buffering=1) as reached:
            async for piece in job.object.decompressed():
                await out.write(piece.upper())
                reached.write(f"{out.size}\\n")
                await job.checkpoint({"at": out.size})
                await asyncio.sleep(len(piece) * pause)
"""


def reached(worker: Worker) -> int:
    """How far the worker's handler had come when it died."""
    path = worker.folder / "reached"
    lines = path.read_text().splitlines() if path.exists() else []
    return int(lines[-1]) if lines else 0


def kill(worker: Worker, moment: float) -> None:
    """Kill it so many seconds after it was given the message."""
    worker.wait_for_event("message_received")
    time.sleep(moment)  # not to wait for anything: the moment is the point
    assert worker.running, "it had no time to be killed in"
    worker.signal(signal.SIGKILL)
    worker.wait()


@pytest.mark.timeout(600)
def test_a_worker_that_is_killed_at_random_moments(
    scene: Scene, book: Book, start: Launcher, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is read again is what came after the last checkpoint; no upload is left open."""
    chance = random.Random(SEED)
    block = b"\n".join(chance.randbytes(60).hex().encode() for _ in range(20_000)) + b"\n"
    member = gzip.compress(block, 1)
    members = INPUT_BYTES // len(member) + 1
    pause = LIFE_SECONDS * (KILLS + 1) * 0.7 / (members * len(block))
    told = [f"seed {SEED}: {KILLS} kills, {members * len(member):,} bytes of gzip"]
    scene.submit("k.gz", member * members)
    start.more |= {"VISIBILITY_TIMEOUT": "10", "MAX_ATTEMPTS": str(KILLS + 1)}

    saved = again = unnamed = 0
    for number in range(KILLS):
        worker = start(TRANSCODE, SECONDS_PER_BYTE=str(pause))
        kill(worker, chance.uniform(0, LIFE_SECONDS))
        resumed = next((line["at"] for line in worker.events("began")), saved)
        assert resumed >= saved, "a checkpoint that was kept is gone"
        saved = max(
            [resumed, *(line["output_bytes"] for line in worker.events("checkpoint_saved"))]
        )
        lost = max(0, reached(worker) - saved)
        again += lost
        # Killed before the record could name it, an upload is left to the bucket's lifecycle rule.
        unnamed += book.proxy.calls(service="s3")[-1].name == "CreateMultipartUpload"
        told.append(f"kill {number + 1}: from {resumed:,} to {reached(worker):,}, again {lost:,}")
        book.release()

    last = start(TRANSCODE, SECONDS_PER_BYTE="0")
    assert last.wait(120) == 0
    resumed = last.events("began")[0]["at"]
    assert resumed >= saved
    told.append(f"the last one: from {resumed:,}; again in all {again:,}")
    with capsys.disabled():
        print("", *told, sep="\n  ")  # noqa: T201 - to be read, and to repeat the run
    body = scene.aws.s3.get_object(Bucket=scene.output_bucket, Key="out/copy")["Body"].read()
    expected = hashlib.sha256(block.upper() * members).hexdigest()
    assert hashlib.sha256(body).hexdigest() == expected
    assert len(scene.open_uploads()) <= unnamed
    assert scene.depth() == Depth(0, 0)
