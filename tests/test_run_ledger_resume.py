"""A worker that is stopped or killed, and the next one, which goes on at its checkpoint."""

import gzip
import signal

import pytest
from harness.aws import Scene
from harness.book import Book
from harness.launch import COPY_LINES, Launcher

# More than two parts of an output.
ROWS = 18_000
DATA = b"".join(b"%07d" % number + b"x" * 1000 + b"\n" for number in range(ROWS))
MEMBERS = b"".join(
    gzip.compress(DATA[start : start + (3 << 20)], 1) for start in range(0, len(DATA), 3 << 20)
)
PAUSED = {"PAUSE_AT": str(ROWS * 2 // 3)}

# Nobody knows how many pieces come, so that these wait once they have written enough.
PIECES = """
async def handle(job):
    rows = job.resume.state["rows"] if job.resume else 0
    job.log.info("began", rows=rows, attempt=job.attempt)
    async with job.output("copy") as out:
        async for piece in job.object.decompressed():
            await out.write(piece)
            rows += 1
            if "PAUSE_AT" in os.environ and out.size > 10 << 20:
                job.log.info("waiting")
                while not job.stopping:
                    await asyncio.sleep(0.01)
            await job.checkpoint({"rows": rows})
"""
CHUNKS = PIECES.replace("decompressed()", "chunks()")
BATCHES = """
async def handle(job):
    rows = job.resume.state["rows"] if job.resume else 0
    job.log.info("began", rows=rows, attempt=job.attempt)
    async with job.output("copy") as out:
        async for batch in job.object.batches():
            await out.write(b"\\n".join(batch) + b"\\n")
            rows += len(batch)
            if "PAUSE_AT" in os.environ and rows > int(os.environ["PAUSE_AT"]):
                job.log.info("waiting")
                while not job.stopping:
                    await asyncio.sleep(0.01)
            await job.checkpoint({"rows": rows})
"""
PLAIN_DEF = """
def handle(job):
    rows = job.resume.state["rows"] if job.resume else 0
    job.log.info("began", rows=rows, attempt=job.attempt)
    with job.output("copy") as out:
        for batch in job.object.batches():
            out.write(b"\\n".join(batch) + b"\\n")
            rows += len(batch)
            if "PAUSE_AT" in os.environ and rows > int(os.environ["PAUSE_AT"]):
                job.log.info("waiting")
                while not job.stopping:
                    time.sleep(0.01)
            job.checkpoint({"rows": rows})
"""


@pytest.mark.parametrize(
    ("handler", "data"),
    [
        (COPY_LINES, DATA),
        (COPY_LINES, MEMBERS),
        (PIECES, MEMBERS),
        (CHUNKS, DATA),
        (BATCHES, MEMBERS),
        (PLAIN_DEF, MEMBERS),
    ],
    ids=["lines", "gzip lines", "gzip pieces", "chunks", "gzip batches", "plain def"],
)
def test_a_stop_and_the_next_attempt(
    handler: str, data: bytes, scene: Scene, book: Book, start: Launcher
) -> None:
    """Input and output go on where they were, and the bytes are those of an undisturbed run."""
    scene.submit("k", data)
    first = start(handler, **PAUSED)
    first.wait_for_event("waiting")
    first.signal(signal.SIGTERM)
    assert first.wait() == 143
    assert first.events("message_released")
    record = book.record()
    assert (record.state, record.attempts) == ("open", 0)
    assert len(scene.open_uploads()) == 1

    second = start(handler)
    assert second.wait() == 0
    assert second.events("began")[0]["rows"] == book_rows(record.checkpoint)
    assert second.events("began")[0]["attempt"] == 1
    assert scene.outputs() == {"out/copy": DATA}
    assert second.events("job_finished")[0]["bytes_read"] < len(data) * 0.6
    assert book.record().state == "done"
    book.assert_nothing_left()


def book_rows(checkpoint: object) -> int:
    """The rows that a checkpoint tells of."""
    return int(getattr(checkpoint, "state")["rows"])  # noqa: B009 - typed as anything


SEVERAL = """
async def handle(job):
    job.log.info("began", rows=job.resume.state["rows"] if job.resume else 0)
    async with job.output("open") as still_open:
        if job.resume is None:
            for key, size in (("small", 10), ("large", 2 << 20)):
                async with job.output(key) as closed:
                    await closed.write(key.encode() * size)
            await still_open.write(b"one, ")
            await job.checkpoint({"rows": 1})
            job.log.info("waiting")
            while not job.stopping:
                await asyncio.sleep(0.01)
            await job.checkpoint({"rows": 1})
        await still_open.write(b"two")
"""


def test_outputs_that_were_closed_before_the_checkpoint(
    scene: Scene, book: Book, start: Launcher
) -> None:
    """Not opened again, they are part of the commit all the same, with the one that was open."""
    scene.submit("k")
    first = start(SEVERAL)
    first.wait_for_event("waiting")
    first.signal(signal.SIGTERM)
    assert first.wait() == 143
    assert scene.outputs() == {}

    second = start(SEVERAL)
    assert second.wait() == 0
    assert second.events("began", rows=1)
    assert scene.outputs() == {
        "out/small": b"small" * 10,
        "out/large": b"large" * (2 << 20),
        "out/open": b"one, two",
    }
    book.assert_nothing_left()
