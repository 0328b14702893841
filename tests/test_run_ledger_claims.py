"""Who has the work: duplicates, takeovers, attempts, and what dead letters mean to the ledger."""

import signal

import pytest
from faults.plan import Answer, Cut, Drop, Fault, Reset, Rule, s3_error
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene, s3_event, s3_record
from harness.book import Book
from harness.launch import COPY, COPY_LINES, REJECT_AT_600, WAIT, Launcher, let_reject
from harness.process import Worker

DATA = b"".join(b"%d\n" % number for number in range(1000))
FAIL = "async def handle(job): raise ValueError(f'attempt {job.attempt}')"
# Waits for the test after having written more than a part, and once more for nothing.
WRITE_THEN_WAIT = """
async def handle(job):
    async with job.output("big") as out:
        await out.write(bytes(9 << 20))
        job.log.info("waiting")
        while not os.path.exists("go-on"):
            await asyncio.sleep(0.01)
        await out.write(b"the end" + bytes(9 << 20))
"""


def finished(worker: Worker, code: int) -> tuple[str, str | None]:
    """The outcome and the reason of a worker that ended with this exit code."""
    assert worker.wait() == code
    (line,) = worker.events("job_finished")
    return line["outcome"], line["reason"]


def test_a_duplicate_event_is_skipped(scene: Scene, book: Book, start: Launcher) -> None:
    """Another message of the same version: nothing is done again, and it is deleted."""
    scene.submit("k", DATA)
    assert finished(start(COPY), 0) == ("done", None)
    first = scene.aws.s3.head_object(Bucket=scene.output_bucket, Key="out/k")

    scene.send(s3_event(scene.bucket, "k"))
    second = start(COPY)
    assert finished(second, 0) == ("skipped", "already_done")
    assert second.events("handler_started") == []
    again = scene.aws.s3.head_object(Bucket=scene.output_bucket, Key="out/k")
    assert again["Metadata"] == first["Metadata"]
    book.assert_nothing_left()


def test_two_messages_at_the_same_time(scene: Scene, book: Book, start: Launcher) -> None:
    """One works, the other is deferred until that claim's end; then it finds the work done."""
    scene.submit("k", DATA)
    scene.send(s3_event(scene.bucket, "k"))
    first = start(WRITE_THEN_WAIT, JOB_TIMEOUT="20", GRACE_SECONDS="5")
    first.wait_for_event("waiting")
    second = start(WRITE_THEN_WAIT)
    assert finished(second, 0) == ("deferred", "claimed")
    assert 1 <= second.events("message_deferred")[0]["seconds"] <= 25
    assert scene.depth() == Depth(0, 2)
    (first.folder / "go-on").touch()
    assert finished(first, 0) == ("done", None)
    assert scene.outputs() == {"out/big": bytes(9 << 20) + b"the end" + bytes(9 << 20)}
    assert scene.open_uploads() == []
    assert scene.depth() == Depth(0, 1)


def test_the_same_message_twice_at_the_same_time(scene: Scene, book: Book, start: Launcher) -> None:
    """The second delivery takes over; the first is fenced at its next write, and one commits."""
    scene.submit("k", DATA)
    first = start(WRITE_THEN_WAIT)
    first.wait_for_event("waiting")
    book.release()  # as SQS may, though the lease is held
    second = start(WRITE_THEN_WAIT)
    second.wait_for_event("waiting")
    (first.folder / "go-on").touch()
    assert finished(first, 76) == ("lease_lost", "fenced")
    assert first.events("lease_lost", reason="fenced")
    assert scene.outputs() == {}
    (second.folder / "go-on").touch()
    assert finished(second, 0) == ("done", None)
    assert scene.outputs() == {"out/big": bytes(9 << 20) + b"the end" + bytes(9 << 20)}
    assert len(first.events("output_committed") + second.events("output_committed")) == 1
    book.assert_nothing_left()


def test_failures_and_crashes_count_until_they_are_too_many(
    scene: Scene, book: Book, start: Launcher
) -> None:
    """A failure, a kill and a failure are three; the fourth delivery runs nothing."""
    message = scene.submit("k", DATA)
    assert finished(start(FAIL), 75) == ("retry", "handler_error")
    assert book.record().attempts == 1
    killed = start(WAIT, MAX_ATTEMPTS="3")
    killed.wait_for_event("waiting")
    killed.signal(signal.SIGKILL)
    assert killed.wait() == 137
    book.release()
    failed = start(FAIL, MAX_ATTEMPTS="3")
    assert finished(failed, 75) == ("retry", "handler_error")
    assert failed.events("handler_started")[0]["attempt"] == 3
    assert book.record().attempts == 3

    last = start(FAIL, MAX_ATTEMPTS="3")
    assert finished(last, 65) == ("rejected", "attempts_exhausted")
    assert last.events("handler_started") == []
    (letter,) = scene.letters()
    assert letter.attributes["x-death-reason"] == "attempts_exhausted"
    assert letter.attributes["x-death-count"] == "3"
    assert letter.attributes["x-death-message-id"] == message
    assert "ValueError: attempt 3" in letter.attributes["x-death-error"]
    assert (book.record().state, book.record().reason) == ("dead", "attempts_exhausted")
    assert scene.depth() == Depth(0, 0)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (s3_error(400, "ExpiredToken"), "credentials"),
        (s3_error(503, "SlowDown"), "throttled"),
        (Reset(), "transport"),
    ],
    ids=["credentials", "throttled", "transport"],
)
def test_what_the_surroundings_do_does_not_count(
    fault: Fault, reason: str, scene: Scene, book: Book, start: Launcher, proxy: FaultProxy
) -> None:
    """Not even while the handler runs: it says nothing of the work, which is tried again."""
    scene.submit("k", bytes(30 << 20))
    proxy.add(
        Rule("UploadPart", fault, where=lambda call: call.bucket == scene.output_bucket),
    )
    assert finished(start(COPY, MAX_ATTEMPTS="1"), 75) == ("retry", reason)
    assert (book.record().state, book.record().attempts) == ("open", 0)
    proxy.clear()
    assert finished(start(COPY, MAX_ATTEMPTS="1"), 0) == ("done", None)
    assert scene.depth() == Depth(0, 0)


def test_a_commit_that_always_fails_uses_up_its_attempts(
    scene: Scene, book: Book, start: Launcher, proxy: FaultProxy
) -> None:
    """It would come back until the queue forgets it, else; sent back, it begins anew."""
    scene.submit("k", bytes(9 << 20))
    proxy.add(Rule("CompleteMultipartUpload", s3_error(403, "AccessDenied")))
    start.more |= {"MAX_ATTEMPTS": "2"}
    assert finished(start(COPY), 75) == ("retry", "access_denied")
    assert (book.record().state, book.record().attempts) == ("committing", 1)
    assert finished(start(COPY), 75) == ("retry", "access_denied")
    last = start(COPY)
    assert finished(last, 65) == ("rejected", "attempts_exhausted")
    assert last.events("rolling_forward") == []
    (letter,) = scene.drain_letters()
    assert "AccessDenied" in letter.attributes["x-death-error"]
    assert book.record().state == "dead"

    proxy.clear()
    scene.send(letter.body, **letter.attributes)
    assert finished(start(COPY), 0) == ("done", None)
    assert scene.outputs() == {"out/k": bytes(9 << 20)}
    book.assert_nothing_left()


def test_records_already_done_are_not_run_again(scene: Scene, book: Book, start: Launcher) -> None:
    """One record of three fails: the message comes back, and only that one is worked on."""
    keys = ["a", "bad", "c"]
    for key in keys:
        scene.put(key, DATA)
    scene.send({"Records": [s3_record(scene.bucket, key) for key in keys]})
    source = """
        async def handle(job):
            if job.object.key == "bad" and job.attempt == 1:
                raise ValueError("at first")
            async with job.output(job.object.key) as out:
                await out.write(b"done")
    """
    first = start(source)
    assert finished(first, 75) == ("retry", "handler_error")
    assert len(first.events("handler_started")) == 3
    second = start(source)
    assert finished(second, 0) == ("done", None)
    assert len(second.events("handler_started")) == 1
    assert len(second.events("already_done")) == 2
    assert scene.outputs() == {f"out/{key}": b"done" for key in keys}
    book.assert_nothing_left()


def test_a_letter_sent_back_begins_anew_at_its_checkpoint(
    scene: Scene, book: Book, start: Launcher
) -> None:
    """Another message id: attempts 0; the checkpoint is kept."""
    scene.submit("k", DATA)
    first = start(REJECT_AT_600)
    let_reject(first, DATA)
    assert finished(first, 65) == ("rejected", "rejected_by_handler")
    assert book.record().state == "dead"
    assert book.saved_rows() == 599
    (letter,) = scene.drain_letters()
    assert letter.attributes["x-death-count"] == "1"

    scene.send(letter.body, **letter.attributes)
    again = start(REJECT_AT_600, GOOD="yes")
    assert finished(again, 0) == ("done", None)
    assert again.events("began")[0]["rows"] == 599
    assert again.events("began")[0]["attempt"] == 1
    assert scene.outputs() == {"out/copy": DATA}
    book.assert_nothing_left()


@pytest.mark.parametrize("keys", [["k"], ["k", "k2"]], ids=["one", "two records"])
def test_a_letter_is_sent_once(
    keys: list[str], scene: Scene, book: Book, start: Launcher, proxy: FaultProxy
) -> None:
    """The delete was lost: the next delivery knows of the letter, and owes only the delete."""
    records = []
    for key in keys:
        scene.put(key, DATA)
        records += s3_event(scene.bucket, key)["Records"]
    scene.send({"Records": records})
    source = "async def handle(job): raise Reject('as always')"
    lost = Rule("DeleteMessage", Drop())
    proxy.add(lost)
    worker = start(source)
    worker.wait_for_event("message_dead_lettered")
    proxy.wait_for("DeleteMessage", over=False)
    worker.signal(signal.SIGKILL)
    worker.wait()
    lost.times = 0
    book.release()

    again = start(source)
    assert again.wait() == 65
    assert again.events("handler_started") == []
    assert again.events("message_deleted")
    assert len(scene.letters()) == 1
    assert scene.depth() == Depth(0, 0)


@pytest.mark.parametrize("lost", ["upload", "blob"])
def test_a_checkpoint_that_is_no_longer_whole(
    lost: str, scene: Scene, book: Book, start: Launcher
) -> None:
    """Somebody has tidied up: the work starts over, and the bytes are right."""
    data = b"".join(b"%07d" % number + b"x" * 1000 + b"\n" for number in range(12_000))
    scene.submit("k", data)
    first = start(COPY_LINES, PAUSE_AT="11000")
    first.wait_for_event("waiting")
    first.signal(signal.SIGTERM)
    assert first.wait() == 143
    if lost == "upload":
        (upload,) = scene.aws.s3.list_multipart_uploads(Bucket=scene.output_bucket)["Uploads"]
        scene.aws.s3.abort_multipart_upload(
            Bucket=scene.output_bucket, Key=upload["Key"], UploadId=upload["UploadId"]
        )
    else:
        (blob,) = book.blobs()
        scene.aws.s3.delete_object(Bucket=book.bucket, Key=blob)

    second = start(COPY_LINES)
    assert finished(second, 0) == ("done", None)
    assert second.events("checkpoint_void")
    assert second.events("began")[0]["rows"] == 0
    assert scene.outputs() == {"out/copy": data}
    book.assert_nothing_left()


@pytest.mark.parametrize(
    ("call", "fault"),
    [("GetObject", Cut()), ("PutObject", s3_error(503, "ServiceUnavailable"))],
    ids=["read", "write"],
)
def test_a_ledger_that_cannot_be_reached(
    call: str, fault: Answer | Cut, scene: Scene, book: Book, start: Launcher, proxy: FaultProxy
) -> None:
    """Tried later, and never taken for work that is done."""
    scene.submit("k", DATA)
    proxy.add(Rule(call, fault, where=lambda one: one.bucket == book.bucket))
    worker = start(COPY)
    assert finished(worker, 75) == ("retry", "ledger")
    assert worker.events("handler_started") == []
    assert scene.outputs() == {}
    assert len(scene.visible_now()) == 1
    assert scene.letters() == []
