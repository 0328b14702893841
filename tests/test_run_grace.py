"""From the signal to the exit it takes no longer than the grace, whatever hangs."""

import signal
import time
from collections.abc import Callable

import pytest
from faults.calls import Call
from faults.plan import Drop, Reset, Rule
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene
from harness.launch import COPY, WAIT, WRITE_AND_WAIT, Launcher
from harness.process import Worker

GRACE_SECONDS = 2


def stop_within_the_grace(worker: Worker, *signals: signal.Signals) -> int:
    """Send the signals; the exit code, once the process has ended in time."""
    began = time.monotonic()
    for number in signals or (signal.SIGTERM,):
        worker.signal(number)
        # Signals that are pending together are delivered in no order to rely on.
        worker.wait_for_event("stop_requested")
    code = worker.wait(10)
    assert time.monotonic() - began < GRACE_SECONDS + 0.7
    return code


@pytest.mark.parametrize("hanging", ["GetObject", "CreateMultipartUpload", "UploadPart"])
def test_a_call_of_the_handlers_that_hangs(
    hanging: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Opening, reading or writing that S3 never answers is cancelled, and the message released."""
    scene.submit("k")
    proxy.add(Rule(hanging, Drop()))
    worker = start(WRITE_AND_WAIT, GRACE_SECONDS=str(GRACE_SECONDS))
    proxy.wait_for(hanging, over=False)

    assert stop_within_the_grace(worker) == 143
    assert len(scene.visible_now()) == 1
    assert scene.outputs() == {}


def test_an_abort_that_hangs(scene: Scene, start: Launcher, proxy: FaultProxy) -> None:
    """Tidying up is worth less than the release: the message is visible in time all the same."""
    scene.submit("k")
    proxy.add(Rule("AbortMultipartUpload", Drop()))
    worker = start(WRITE_AND_WAIT, GRACE_SECONDS=str(GRACE_SECONDS))
    worker.wait_for_event("waiting")

    assert stop_within_the_grace(worker) == 143
    assert len(scene.visible_now()) == 1
    assert scene.outputs() == {}


@pytest.mark.parametrize("fault", [Drop(), Reset()], ids=["drop", "reset"])
def test_a_lease_that_cannot_be_taken(
    fault: Drop | Reset, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A stop is heard also while the lease is not yet anchored."""
    scene.submit("k")
    proxy.add(Rule("ChangeMessageVisibility", fault))
    worker = start(WAIT, GRACE_SECONDS=str(GRACE_SECONDS))
    proxy.wait_for("ChangeMessageVisibility", over=False)

    assert stop_within_the_grace(worker) == 143
    assert worker.events("handler_started") == []
    assert proxy.calls("DeleteMessage") == []


def is_release(call: Call) -> bool:
    """Whether a change of visibility makes the message visible at once."""
    return bool(call.parameters["VisibilityTimeout"] == 0)


def test_a_release_that_hangs(scene: Scene, start: Launcher, proxy: FaultProxy) -> None:
    """A message that cannot be released comes back by itself; the exit code is the stop's."""
    scene.submit("k")
    proxy.add(Rule("ChangeMessageVisibility", Drop(), where=is_release))
    worker = start(WAIT, GRACE_SECONDS=str(GRACE_SECONDS))
    worker.wait_for_event("waiting")

    assert stop_within_the_grace(worker) == 143
    assert worker.events("message_released") == []
    assert scene.depth() == Depth(0, 1)


@pytest.mark.parametrize("hanging", ["DeleteMessage", "SendMessage"])
def test_a_settlement_that_hangs(
    hanging: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A delete or a letter that is never answered is not waited for longer than the grace."""
    scene.submit("k")
    proxy.add(Rule(hanging, Drop()))
    handler = COPY if hanging == "DeleteMessage" else "async def handle(job): raise Reject('no')"
    worker = start(handler, GRACE_SECONDS=str(GRACE_SECONDS))
    proxy.wait_for(hanging, over=False)

    assert stop_within_the_grace(worker) in (0, 65, 75, 143)
    assert scene.depth() == Depth(0, 1)
    assert worker.events("message_deleted") == []


def test_a_poll_that_hangs(start: Launcher, proxy: FaultProxy) -> None:
    """The poll is never aborted, but for one whose answer does not come within the grace."""
    proxy.add(Rule("ReceiveMessage", Drop()))
    worker = start(WAIT, GRACE_SECONDS=str(GRACE_SECONDS))
    proxy.wait_for("ReceiveMessage", over=False)

    assert stop_within_the_grace(worker) == 143


THREADS = {
    "to_thread": """
        async def handle(job):
            job.log.info("waiting")
            await asyncio.to_thread(time.sleep, 60)
    """,
    "a thread of its own": """
        async def handle(job):
            threading.Thread(target=time.sleep, args=(60,)).start()
            job.log.info("waiting")
            await asyncio.Event().wait()
    """,
}


@pytest.mark.parametrize("handler", THREADS.values(), ids=THREADS)
def test_threads_that_the_handler_leaves_behind(
    handler: str, scene: Scene, start: Launcher
) -> None:
    """A thread that goes on does not keep the process from ending in time."""
    scene.submit("k")
    worker = start(handler, GRACE_SECONDS=str(GRACE_SECONDS))
    worker.wait_for_event("waiting")

    assert stop_within_the_grace(worker) == 143


def test_a_done_process_does_not_wait_for_threads(scene: Scene, start: Launcher) -> None:
    """Once the message is settled nothing is left to wait for."""
    scene.submit("k")

    worker = start("""
        async def handle(job):
            threading.Thread(target=time.sleep, args=(60,)).start()
    """)

    assert worker.wait(10) == 0
    assert scene.depth() == Depth(0, 0)


def ignore_signals() -> str:
    """A handler that takes the signals for itself, as some libraries do."""
    return """
        async def handle(job):
            job.log.info("waiting")
            await asyncio.Event().wait()
        ROUTES = [Route("*", handle)]
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    """


@pytest.mark.parametrize(
    ("handler", "signals", "code"),
    [
        (lambda: WAIT, [signal.SIGTERM, signal.SIGTERM, signal.SIGINT], 143),
        (lambda: WAIT, [signal.SIGINT, signal.SIGTERM], 130),
        (ignore_signals, [signal.SIGTERM], 143),
    ],
    ids=["again and again", "SIGINT first", "a module that takes signals"],
)
def test_the_first_signal_counts(
    handler: Callable[[], str],
    signals: list[signal.Signals],
    code: int,
    scene: Scene,
    start: Launcher,
) -> None:
    """Further signals change nothing, and no module can make the process deaf."""
    scene.submit("k")
    worker = start(handler(), GRACE_SECONDS=str(GRACE_SECONDS))
    worker.wait_for_event("waiting")

    assert stop_within_the_grace(worker, *signals) == code
    assert len(scene.visible_now()) == 1
