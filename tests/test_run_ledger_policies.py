"""What a user may choose: missing and changed objects, stalls, and when to try again."""

import hashlib

import pytest
from harness.aws import Depth, Scene, s3_event
from harness.book import Book
from harness.launch import COPY, WAIT, Launcher
from harness.process import Worker


def finished(worker: Worker, code: int = 0) -> tuple[str, str | None]:
    """The outcome and the reason of a worker that ended with this exit code."""
    assert worker.wait() == code
    (line,) = worker.events("job_finished")
    return line["outcome"], line["reason"]


def send_event_of(scene: Scene, data: bytes) -> None:
    """The message of an object `k` that had these bytes."""
    event = s3_event(scene.bucket, "k")
    etag = hashlib.md5(data, usedforsecurity=False).hexdigest()
    event["Records"][0]["s3"]["object"]["eTag"] = etag
    scene.send(event)


def test_a_missing_object_may_be_skipped(scene: Scene, start: Launcher) -> None:
    """MISSING_OBJECT=skip: deleted before its turn came, which is nobody's fault."""
    scene.send(s3_event(scene.bucket, "k"))
    worker = start(COPY, MISSING_OBJECT="skip")
    assert finished(worker) == ("skipped", "object_missing")
    assert scene.depth() == Depth(0, 0)
    assert scene.letters() == []


def test_a_changed_object_is_followed(scene: Scene, book: Book, start: Launcher) -> None:
    """What is there is processed, and its own event finds that done."""
    send_event_of(scene, b"X")
    scene.put("k", b"Y")
    worker = start(COPY)
    assert finished(worker) == ("done", None)
    assert worker.events("object_changed")
    assert scene.outputs() == {"out/k": b"Y"}

    send_event_of(scene, b"Y")
    assert finished(start(COPY)) == ("skipped", "already_done")
    book.assert_nothing_left()


@pytest.mark.parametrize(
    ("policy", "code", "outcome"), [("skip", 0, "skipped"), ("reject", 65, "rejected")]
)
def test_a_changed_object_is_left_alone(
    policy: str, code: int, outcome: str, scene: Scene, start: Launcher
) -> None:
    """CHANGED_OBJECT=skip or reject: the new one has an event of its own."""
    send_event_of(scene, b"X")
    scene.put("k", b"Y")
    worker = start(COPY, CHANGED_OBJECT=policy)
    assert finished(worker, code) == (outcome, "object_changed")
    assert worker.events("handler_started") == []
    assert scene.outputs() == {}
    assert len(scene.letters()) == (policy == "reject")
    assert scene.depth() == Depth(0, 0)


@pytest.mark.parametrize("policy", ["skip", "reject"])
def test_an_unchanged_object_is_processed(policy: str, scene: Scene, start: Launcher) -> None:
    """The policy is about others."""
    scene.put("k", b"X")
    send_event_of(scene, b"X")
    assert finished(start(COPY, CHANGED_OBJECT=policy)) == ("done", None)


def test_an_attempt_that_stalls_is_cancelled(scene: Scene, book: Book, start: Launcher) -> None:
    """STALL_TIMEOUT: nothing read, written or reported; tried again, and counted."""
    scene.submit("k")
    worker = start(WAIT, STALL_TIMEOUT="0.5")
    assert finished(worker, 75) == ("retry", "stalled")
    assert (book.record().state, book.record().attempts) == ("open", 1)
    assert len(scene.visible_now()) == 1


MOVES = """
async def handle(job):
    began = time.monotonic()
    async with job.output("k") as out:
        while time.monotonic() - began < 1.5:
            await asyncio.sleep(0.05)
            MOVE
"""


@pytest.mark.parametrize(
    "move", ["job.progress(1)", "await out.write(b'x')", "await job.object.read(0, 1)"]
)
def test_an_attempt_that_moves_does_not_stall(move: str, scene: Scene, start: Launcher) -> None:
    """Slowly, in any of the three ways."""
    scene.submit("k")
    worker = start(MOVES.replace("MOVE", move), STALL_TIMEOUT="0.6")
    assert finished(worker) == ("done", None)


@pytest.mark.parametrize("with_ledger", [True, False], ids=["ledger", "none"])
def test_a_handler_says_when_to_try_again(
    with_ledger: bool,  # noqa: FBT001 - a parameter of the test
    scene: Scene,
    start: Launcher,
    request: pytest.FixtureRequest,
) -> None:
    """Retry(after=…) is the delay, whatever the back-off would have been."""
    if with_ledger:
        request.getfixturevalue("book")
    scene.submit("k")
    source = "async def handle(job): raise Retry('not yet', after=4321)"
    worker = start(source, RETRY_BASE_SECONDS="0", RETRY_MAX_SECONDS="0")
    assert finished(worker, 75) == ("retry", "retry_by_handler")
    assert worker.events("message_hidden")[0]["seconds"] == 4321
    assert scene.depth() == Depth(0, 1)


def test_a_state_that_is_no_json_is_the_handlers_error(
    scene: Scene, book: Book, start: Launcher
) -> None:
    """Said at the call, and never found out by an attempt that resumes with something else."""
    scene.submit("k")
    source = """
        async def handle(job):
            for state in ({1, 2}, b"bytes", object(), {"a": object()}, 1j, float("nan")):
                try:
                    await job.checkpoint(state)
                except TypeError as error:
                    job.log.info("refused", error=str(error))
            await job.checkpoint({1, 2})
    """
    worker = start(source)
    assert finished(worker, 75) == ("retry", "handler_error")
    assert len(worker.events("refused")) == 6
    assert (book.record().checkpoint, book.record().attempts) == (None, 1)


def test_a_later_state_that_is_no_json_is_not_kept(
    scene: Scene, book: Book, start: Launcher
) -> None:
    """It is found out when it is to be saved: said in the log, and the one before stays."""
    scene.submit("k")
    source = """
        async def handle(job):
            if job.resume:
                job.log.info("resumed with", state=job.resume.state)
                return
            await job.checkpoint("good")
            while not os.path.exists("go-on"):
                await asyncio.sleep(0.01)
            await job.checkpoint(1j)
            while not os.path.exists("go-on-2"):
                await asyncio.sleep(0.01)
            raise ValueError
    """
    worker = start(source)
    worker.wait_for_event("checkpoint_saved")
    (worker.folder / "go-on").touch()
    worker.wait_for_event("checkpoint_failed")
    (worker.folder / "go-on-2").touch()
    assert finished(worker, 75) == ("retry", "handler_error")
    again = start(source)
    assert finished(again) == ("done", None)
    assert again.events("resumed with", state="good")
