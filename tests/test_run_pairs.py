"""Messages of two records: the worse of two outcomes decides, whichever comes first."""

import time
from itertools import product

import msgspec
from harness.aws import Depth, Scene, s3_record
from harness.book import Book
from harness.launch import Launcher
from harness.process import Worker

from app.ledger import Record, work_key
from app.ports import ObjectFacts

# Worst first, as documented; the last two are equals. A stop ends the whole message.
ORDER = ("lease_lost", "retry", "deferred", "rejected", "done", "skipped")
EVENTS = {
    "lease_lost": {"message_left"},
    "retry": {"message_hidden"},
    "deferred": {"message_deferred"},
    "rejected": {"message_dead_lettered", "message_deleted"},
    "done": {"message_deleted"},
    "skipped": {"message_deleted"},
}
BY_NAME = """
import boto3

async def handle(job):
    wanted = job.object.key.rpartition("-")[2]
    if wanted == "retry":
        raise Retry("as its name says", after=1000)
    if wanted == "rejected":
        raise Reject("as its name says")
    if wanted == "lease_lost":
        # What a later attempt would do to the record, only worse.
        record = f"records/{job.idempotency_key}.json"
        boto3.client("s3").delete_object(Bucket=os.environ["LEDGER"], Key=record)
    async with job.output(job.object.key):
        pass
"""
PAIRS = list(product(ORDER, ORDER))


def prepare(scene: Scene, book: Book, key: str) -> None:
    """An object, or none to be skipped, or one that another message's attempt is at work on."""
    if key.endswith("skipped"):
        return
    scene.put(key)
    if key.endswith("deferred"):
        head = scene.aws.s3.head_object(Bucket=scene.bucket, Key=key)
        facts = ObjectFacts(
            scene.bucket, key, None, head["ETag"], 0, "", "", {}, head["LastModified"]
        )
        claimed = Record("claimed", "w", 0, "other", "other", time.time() + 2000)
        name = f"records/{work_key(facts, 'handle', '1')}.json"
        data = msgspec.json.encode(claimed)
        scene.aws.s3.put_object(Bucket=book.bucket, Key=name, Body=data)


def settled(worker: Worker, message: str) -> set[str]:
    """What was done with a message."""
    known = set().union(*EVENTS.values()) | {"message_released"}
    return {line["event"] for line in worker.lines if line.get("message_id") == message} & known


def test_every_pair(scene: Scene, book: Book, start: Launcher) -> None:
    """All of them, taken by one process: deleted, hidden or left as the worse one says."""
    sent = {}
    for number, pair in enumerate(PAIRS):
        keys = [f"{number}-{at}-{outcome}" for at, outcome in enumerate(pair)]
        for key in keys:
            prepare(scene, book, key)
        records = [s3_record(scene.bucket, key) for key in keys]
        sent[scene.send({"Records": records})] = pair

    worker = start(BY_NAME, LEDGER=book.bucket, MAX_MESSAGES=str(len(PAIRS)), MISSING_OBJECT="skip")
    assert worker.wait(60) == 76
    for message, pair in sent.items():
        worst = min(pair, key=ORDER.index)
        assert settled(worker, message) == EVENTS[worst], pair
        ended = [line["outcome"] for line in worker.events("record_ended", message_id=message)]
        assert ended == list(pair), "a record was not worked on"
    worsts = [min(pair, key=ORDER.index) for pair in PAIRS]
    letters = {letter.attributes["x-death-message-id"] for letter in scene.drain_letters()}
    assert letters == {
        name for name, pair in sent.items() if min(pair, key=ORDER.index) == "rejected"
    }
    left = [worst for worst in worsts if worst in ("lease_lost", "retry", "deferred")]
    assert scene.depth() == Depth(0, len(left))
