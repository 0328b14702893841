"""A stop, in every phase: nothing is lost, nothing is stranded, and the exit code says so."""

import signal

import pytest
from faults.plan import When
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene
from harness.launch import COPY, WAIT, WRITE_AND_WAIT, Launcher

EMPTY = Depth(0, 0)
BIG = 9 << 20


def released(proxy: FaultProxy) -> bool:
    """Whether the last word to the queue about visibility was that it is visible at once."""
    changes = proxy.calls("ChangeMessageVisibility")
    return bool(changes) and changes[-1].parameters["VisibilityTimeout"] == 0


def assert_deleted_after(call: str, proxy: FaultProxy) -> None:
    """The one delete was sent when the call before it had been answered."""
    (commit,) = proxy.calls(call)
    (delete,) = proxy.calls("DeleteMessage")
    assert commit.answered_at is not None
    assert commit.answered_at <= delete.at


def test_a_stop_while_the_handlers_are_imported(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Before anything is received a stop ends the process at once, and takes no message."""
    scene.submit("k")
    worker = start("""
        print("importing", file=sys.stderr, flush=True)
        time.sleep(60)
        async def handle(job): pass
    """)
    worker.wait_for_stderr("importing")

    worker.signal(signal.SIGTERM)

    assert worker.wait(5) == 143
    # Its own doing, not the signal's default action, which process 1 of a container lacks.
    assert worker.events("job_finished")[0]["outcome"] == "interrupted"
    assert proxy.calls("ReceiveMessage") == []
    assert scene.visible_now()[0]["Attributes"]["ApproximateReceiveCount"] == "1"


def test_a_stop_while_an_import_swallows_everything(scene: Scene, start: Launcher) -> None:
    """A bare `except` around the import the signal falls into does not swallow the stop."""
    scene.submit("k")
    worker = start("""
        try:
            print("importing", file=sys.stderr, flush=True)
            time.sleep(5)
        except:
            pass
        async def handle(job): await asyncio.Event().wait()
    """)
    worker.wait_for_stderr("importing")

    worker.signal(signal.SIGTERM)

    assert worker.wait(8) == 143
    assert len(scene.visible_now()) == 1


@pytest.mark.parametrize("arrives", [False, True])
def test_a_stop_while_receiving(
    *,
    arrives: bool,
    scene: Scene,
    start: Launcher,
    proxy: FaultProxy,
) -> None:
    """The poll is never aborted, and what it still brings is released at once."""
    worker = start(WAIT, WAIT_SECONDS="2")
    poll = proxy.wait_for("ReceiveMessage", over=False)

    worker.signal(signal.SIGTERM)
    worker.wait_for_event("stop_requested")
    if arrives:
        scene.submit("k")

    assert worker.wait() == 143
    assert poll.answered_at is not None
    assert not poll.abandoned
    assert len(proxy.calls("ReceiveMessage")) == 1
    assert len(scene.visible_now()) == int(arrives)
    assert released(proxy) == arrives
    assert worker.events("handler_started") == []
    assert not worker.is_ready()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "SIGINT"]
)
def test_a_stop_while_running(
    number: signal.Signals, code: int, scene: Scene, start: Launcher
) -> None:
    """The handler is cancelled, its upload thrown away, and the message is visible at once."""
    scene.submit("k")
    worker = start(WRITE_AND_WAIT)
    worker.wait_for_event("waiting")

    worker.signal(number)

    assert worker.wait(5) == code
    assert len(scene.visible_now()) == 1
    assert scene.outputs() == {}
    assert scene.open_uploads() == []
    assert worker.events("message_released")
    assert worker.events("job_finished")[0]["outcome"] == "interrupted"


def test_no_renewal_comes_after_the_release(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A renewal under way when the stop comes is joined first, or it would undo the release."""
    scene.submit("k")
    renewal = proxy.hold("ChangeMessageVisibility", first=2)
    worker = start(WAIT, VISIBILITY_TIMEOUT="3")
    renewal.wait()

    worker.signal(signal.SIGTERM)
    worker.wait_for_event("stop_requested")
    renewal.open()

    assert worker.wait(5) == 143
    *others, last = proxy.calls("ChangeMessageVisibility")
    assert last.parameters["VisibilityTimeout"] == 0
    assert all(call.ended_at is not None and call.ended_at <= last.at for call in others)
    assert len(scene.visible_now()) == 1


def test_a_stop_with_expire_leaves_the_message_alone(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """ON_SIGTERM=expire: the message comes back when its visibility timeout ends, not before."""
    scene.submit("k")
    worker = start(WAIT, ON_SIGTERM="expire")
    worker.wait_for_event("waiting")

    worker.signal(signal.SIGTERM)

    assert worker.wait(5) == 143
    assert not released(proxy)
    assert scene.depth() == Depth(0, 1)


@pytest.mark.parametrize("call", ["PutObject", "CompleteMultipartUpload"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_stop_while_committing(
    call: str, when: When, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A commit under way is finished, and the message is deleted only after it."""
    scene.submit("k", bytes(BIG if call != "PutObject" else 10))
    commit = proxy.hold(call, when=when)
    worker = start(COPY)
    commit.wait()

    worker.signal(signal.SIGTERM)
    worker.wait_for_event("stop_requested")
    assert proxy.calls("DeleteMessage") == []
    commit.open()

    assert worker.wait(8) == 0
    assert list(scene.outputs()) == ["out/k"]
    assert scene.depth() == EMPTY
    assert_deleted_after(call, proxy)


def test_a_stop_that_outlasts_a_commit_hands_the_message_back(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A commit that does not end within the grace is given up; its message is not deleted."""
    scene.submit("k")
    proxy.hold("PutObject")
    worker = start(COPY, GRACE_SECONDS="2")
    proxy.wait_for("PutObject", over=False)

    worker.signal(signal.SIGTERM)

    assert worker.wait(8) == 143
    assert proxy.calls("DeleteMessage") == []
    assert scene.depth() != EMPTY


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_stop_while_settling(
    when: When, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """With the delete under way the work is done: it is finished, and nothing is left behind."""
    scene.submit("k")
    delete = proxy.hold("DeleteMessage", when=when)
    worker = start(COPY)
    delete.wait()

    worker.signal(signal.SIGTERM)
    worker.wait_for_event("stop_requested")
    delete.open()

    assert worker.wait(8) == 0
    assert list(scene.outputs()) == ["out/k"]
    assert scene.depth() == EMPTY


def test_a_stop_between_two_messages(scene: Scene, start: Launcher, proxy: FaultProxy) -> None:
    """After a stop no further message is taken, however many were allowed."""
    for key in ("one", "two"):
        scene.submit(key)
    delete = proxy.hold("DeleteMessage")
    worker = start(COPY, MAX_MESSAGES="5")
    delete.wait()

    worker.signal(signal.SIGTERM)
    worker.wait_for_event("stop_requested")
    delete.open()

    assert worker.wait(8) in (0, 143)
    assert len(proxy.calls("ReceiveMessage")) == 1
    assert len(scene.visible_now()) == 1


def test_ready_while_it_holds_a_message(scene: Scene, start: Launcher, proxy: FaultProxy) -> None:
    """The ready file is there from the first message until the stop or the end, no longer."""
    worker = start(WAIT, WAIT_SECONDS="5")
    proxy.wait_for("ReceiveMessage", over=False)
    assert not worker.is_ready()
    scene.submit("k")
    worker.wait_for_event("waiting")
    assert worker.is_ready()
    gate = proxy.hold(
        "ChangeMessageVisibility", where=lambda c: not c.parameters["VisibilityTimeout"]
    )

    worker.signal(signal.SIGTERM)
    gate.wait()
    assert not worker.is_ready()
    gate.open()

    assert worker.wait(5) == 143
    assert not worker.is_ready()
