"""Handlers that do not stop when they are to, and processes that are killed."""

import signal
import time
from itertools import pairwise

import pytest
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene
from harness.launch import COPY, WRITE_AND_WAIT, Launcher

SWALLOWS = """
async def handle(job):
    job.log.info("waiting")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        pass
    async with job.output("late") as out:
        await out.write(b"as if nothing had happened")
"""
REJECTS = """
async def handle(job):
    job.log.info("waiting")
    try:
        await asyncio.Event().wait()
    finally:
        raise Reject("at the wrong moment")
"""
LEAVES_TASKS = """
async def stay(job):
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.5)
        job.log.info("stopped_at_last")

async def handle(job):
    task = asyncio.create_task(stay(job))
    await asyncio.sleep(0)
    job.log.info("waiting")
    await asyncio.Event().wait()
"""
NEVER_STOPS = """
async def handle(job):
    job.log.info("waiting")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
"""
BLOCKS = """
async def handle(job):
    job.log.info("waiting")
    time.sleep(60)
"""
BLOCKS_IN_A_THREAD = """
def handle(job):
    job.log.info("waiting")
    time.sleep(60)
"""
CALLS_ON = """
def handle(job):
    job.log.info("waiting")
    while True:
        time.sleep(0.05)
        job.progress(1)
"""


@pytest.mark.parametrize(
    "handler",
    [SWALLOWS, REJECTS, CALLS_ON],
    ids=["returns", "rejects", "plain function"],
)
def test_a_stop_wins_over_what_the_handler_makes_of_it(
    handler: str, scene: Scene, start: Launcher
) -> None:
    """A handler that returns or rejects after a stop was interrupted: nothing of it counts."""
    scene.submit("k")
    worker = start(handler)
    worker.wait_for_event("waiting")

    worker.signal(signal.SIGTERM)

    assert worker.wait(5) == 143
    assert worker.events("job_finished")[0]["outcome"] == "interrupted"
    assert scene.outputs() == {}
    assert scene.letters() == []
    assert len(scene.visible_now()) == 1


def test_the_message_is_released_only_when_every_task_has_stopped(
    scene: Scene, start: Launcher
) -> None:
    """What the handler has started is waited for too, before another worker may begin."""
    scene.submit("k")
    worker = start(LEAVES_TASKS)
    worker.wait_for_event("waiting")

    worker.signal(signal.SIGTERM)

    assert worker.wait(5) == 143
    order = [line["event"] for line in worker.lines]
    assert order.index("stopped_at_last") < order.index("message_released")
    assert len(scene.visible_now()) == 1


@pytest.mark.parametrize(
    "handler",
    [NEVER_STOPS, BLOCKS, BLOCKS_IN_A_THREAD],
    ids=["swallows for ever", "blocks its loop", "blocks its thread"],
)
def test_a_handler_that_never_stops_ends_with_the_grace(
    handler: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """At the end of the grace the process goes, 143, and the message is left alone."""
    scene.submit("k")
    worker = start(handler, GRACE_SECONDS="2", VISIBILITY_TIMEOUT="6")
    worker.wait_for_event("waiting")

    worker.signal(signal.SIGTERM)
    began = time.monotonic()

    assert worker.wait(8) == 143
    assert 1 < time.monotonic() - began < 2.7
    assert all(c.parameters["VisibilityTimeout"] for c in proxy.calls("ChangeMessageVisibility"))
    assert proxy.calls("DeleteMessage") == []
    assert scene.depth() == Depth(0, 1)
    assert scene.outputs() == {}
    assert worker.termination_log["outcome"] == "interrupted"
    # The stack tells where it hangs.
    (stuck,) = worker.events("handler_stuck")
    assert "handlers.py" in stuck["stacks"]


def test_a_killed_process_loses_nothing(scene: Scene, start: Launcher) -> None:
    """SIGKILL: no output is visible, the message comes back by itself, and the next pod is done."""
    message_id = scene.submit("k")
    killed = start(WRITE_AND_WAIT, VISIBILITY_TIMEOUT="3")
    killed.wait_for_event("waiting")

    killed.signal(signal.SIGKILL)

    assert killed.wait(5) == 137
    assert scene.outputs() == {}
    assert scene.depth() == Depth(0, 1)
    assert scene.wait_visible() < 4

    following = start(COPY)
    assert following.wait() == 0
    (received,) = following.events("message_received")
    assert received["message_id"] == message_id
    assert received["receive_count"] > 1
    assert list(scene.outputs()) == ["out/k"]
    assert scene.depth() == Depth(0, 0)


def test_a_process_killed_before_its_delete(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Killed between commit and delete: the work is done once more, to the same end."""
    scene.submit("k", b"the same")
    delete = proxy.hold("DeleteMessage")
    killed = start(COPY, VISIBILITY_TIMEOUT="3")
    delete.wait()

    killed.signal(signal.SIGKILL)

    assert killed.wait(5) == 137
    assert scene.outputs() == {"out/k": b"the same"}
    assert scene.wait_visible() < 4
    assert start(COPY).wait() == 0
    assert scene.outputs() == {"out/k": b"the same"}
    assert scene.depth() == Depth(0, 0)


def test_a_blocked_handler_keeps_its_lease(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A handler that blocks its loop for leases on end keeps its message, and is done."""
    scene.submit("k")
    worker = start("async def handle(job): time.sleep(5)", VISIBILITY_TIMEOUT="2")
    worker.wait_for_event("handler_started")

    # A long poll of our own, over two leases: anything that became visible would end it.
    polled = scene.aws.sqs.receive_message(QueueUrl=scene.queue_url, WaitTimeSeconds=4)

    assert "Messages" not in polled
    assert worker.wait() == 0
    assert scene.depth() == Depth(0, 0)
    renewals = proxy.calls("ChangeMessageVisibility")
    assert len(renewals) >= 6
    gaps = [later.at - call.at for call, later in pairwise(renewals)]
    assert max(gaps) < 2 * 5 / 6
    assert all(line["late_seconds"] < 0.5 for line in worker.events("lease_renewed"))
