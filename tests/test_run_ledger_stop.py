"""Stops of workers that keep checkpoints: soft at first, within the grace always."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor, as_completed

import pytest
from faults.calls import Call
from faults.plan import Drop, Rule
from faults.proxy import FaultProxy
from harness.aws import Scene
from harness.book import Book
from harness.launch import COPY, COPY_LINES, Launcher
from harness.process import Worker

ROWS = 1000
DATA = b"".join(b"%d\n" % number for number in range(ROWS))
GRACE_SECONDS = 4


def stopped(worker: Worker) -> float:
    """The seconds from SIGTERM to the exit, which is that of an interruption."""
    began = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 143
    return time.monotonic() - began


def test_a_handler_is_stopped_at_its_next_checkpoint(
    scene: Scene, book: Book, start: Launcher
) -> None:
    """The one that it reaches after the signal is what the next attempt goes on from."""
    scene.submit("k", DATA)
    worker = start(COPY_LINES, PAUSE_AT="600")
    worker.wait_for_event("waiting")
    worker.wait_for_event("checkpoint_saved")
    assert book.saved_rows() == 599
    assert stopped(worker) < 4
    assert book.saved_rows() == 600
    assert all("message_id" in line for line in worker.events("checkpoint_saved"))


NEVER_AGAIN = COPY_LINES.replace("while not job.stopping:", "while True:")


def test_a_handler_has_a_quarter_of_the_grace(scene: Scene, book: Book, start: Launcher) -> None:
    """One that does not reach a checkpoint is cancelled then, and the last one offered is kept."""
    scene.submit("k", DATA)
    worker = start(
        NEVER_AGAIN, PAUSE_AT="600", GRACE_SECONDS=str(GRACE_SECONDS), CHECKPOINT_SECONDS="100"
    )
    worker.wait_for_event("waiting")
    assert GRACE_SECONDS / 4 <= stopped(worker) < GRACE_SECONDS * 3 / 4
    assert book.saved_rows() == 599
    assert len(scene.visible_now()) == 1


def test_a_handler_that_never_offered_one_is_stopped_at_once(
    scene: Scene, book: Book, start: Launcher
) -> None:
    """There is nothing to wait for."""
    scene.submit("k", DATA)
    worker = start(NEVER_AGAIN, PAUSE_AT="1", GRACE_SECONDS="8")
    worker.wait_for_event("waiting")
    assert stopped(worker) < 1.9
    assert book.record().checkpoint is None


@pytest.mark.parametrize("end", ["raise ValueError('at a stop')", "return", "raise Reject('x')"])
def test_a_handler_that_ends_by_itself_at_a_stop(
    end: str, scene: Scene, book: Book, start: Launcher
) -> None:
    """However it ends: interrupted, and nothing of what it had offered is lost."""
    scene.submit("k", DATA)
    source = COPY_LINES.replace(
        "await job.checkpoint(", f"if job.stopping: {end}\n            await job.checkpoint("
    )
    worker = start(source, PAUSE_AT="600", CHECKPOINT_SECONDS="100")
    worker.wait_for_event("waiting")
    assert stopped(worker) < 4
    assert (book.saved_rows(), book.record().attempts) == (599, 0)

    assert start(COPY_LINES).wait() == 0
    assert scene.outputs() == {"out/copy": DATA}
    book.assert_nothing_left()


@pytest.mark.parametrize("call", ["PutObject", "GetObject"])
def test_a_ledger_that_hangs_at_a_stop(
    call: str, scene: Scene, book: Book, start: Launcher, proxy: FaultProxy
) -> None:
    """The message is released within the grace all the same, and nothing is lost."""
    scene.submit("k", DATA)
    worker = start(
        COPY_LINES, PAUSE_AT="600", GRACE_SECONDS=str(GRACE_SECONDS), CHECKPOINT_SECONDS="100"
    )
    worker.wait_for_event("waiting")

    def of_ledger(one: Call) -> bool:
        return hanging and one.bucket == book.bucket

    hanging = True
    if call == "GetObject":
        proxy.add(Rule("PutObject", Drop(), "after", where=of_ledger))
    proxy.add(Rule(call, Drop(), where=of_ledger))
    assert stopped(worker) < GRACE_SECONDS + 0.7
    assert worker.events("message_released")
    hanging = False

    assert start(COPY_LINES).wait() == 0
    assert scene.outputs() == {"out/copy": DATA}
    book.assert_nothing_left()


def test_a_commit_that_hangs_at_a_stop(
    scene: Scene, book: Book, start: Launcher, proxy: FaultProxy
) -> None:
    """Interrupted at the end of the grace; the next one finishes it without the handler."""
    scene.submit("k", bytes(9 << 20))
    hanging = Rule("CompleteMultipartUpload", Drop(), "after")
    proxy.add(hanging)
    worker = start(COPY, GRACE_SECONDS="2")
    proxy.wait_for("CompleteMultipartUpload", over=False)
    assert stopped(worker) < 2.7
    assert book.record().state == "committing"
    hanging.times = 0

    again = start(COPY)
    assert again.wait() == 0
    assert again.events("rolling_forward")
    assert again.events("handler_started") == []
    assert scene.outputs() == {"out/k": bytes(9 << 20)}
    book.assert_nothing_left()


def test_evicted_ten_times(scene: Scene, book: Book, start: Launcher) -> None:
    """Interruptions are nobody's failure: with MAX_ATTEMPTS=2 the work is done all the same."""
    scene.submit("k", DATA)
    again = COPY_LINES.replace("rows == PAUSE_AT", "rows % 90 == 0")
    more = {"MAX_ATTEMPTS": "2", "WAIT_SECONDS": "20", "GRACE_SECONDS": "21"}
    # All of them poll; whoever is given the message is the next to be evicted.
    with ThreadPoolExecutor(10) as pool:
        workers = [start(again, **more) for _ in range(10)]
        paused = {pool.submit(worker.wait_for_event, "waiting"): worker for worker in workers}
        for number, future in enumerate(as_completed(paused), 1):
            future.result()
            worker = paused[future]
            assert worker.events("began")[0]["attempt"] == 1
            worker.signal(signal.SIGTERM)
            assert worker.wait() == 143
            # The next one may be at work already, up to where it waits in its turn.
            assert number * 90 <= book.saved_rows() < (number + 1) * 90

    assert start(COPY_LINES, MAX_ATTEMPTS="2").wait() == 0
    assert scene.outputs() == {"out/copy": DATA}
    assert scene.letters() == []
    book.assert_nothing_left()
