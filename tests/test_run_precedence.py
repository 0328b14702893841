"""Which wins when several apply: lease lost, then the stop, then the deadline, then the handler."""

import signal
import time

import pytest
from faults.plan import Reset, Rule
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene
from harness.launch import Launcher

RENEWAL = "ChangeMessageVisibility"
HIDDEN = Depth(0, 1)
RETURNS = """
async def handle(job):
    async with job.output("late") as out:
        await out.write(b"late")
    job.log.info("waiting")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        pass
"""
REJECTS = """
async def handle(job):
    job.log.info("waiting")
    try:
        await asyncio.Event().wait()
    finally:
        raise Reject("too late")
"""
# Long enough for another cause to come while it cleans up.
CLEANS_UP = """
async def handle(job):
    job.log.info("waiting")
    try:
        await asyncio.Event().wait()
    finally:
        job.log.info("cleaning")
        await asyncio.sleep(1)
"""
BLOCKS = """
async def handle(job):
    job.log.info("waiting")
    time.sleep(60)
"""


@pytest.mark.parametrize("handler", [RETURNS, REJECTS], ids=["returns", "rejects"])
def test_a_lost_lease_wins_over_the_handler(
    handler: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Whatever a handler makes of a lost lease: no commit, no delete, no letter."""
    scene.submit("k")
    proxy.add(Rule(RENEWAL, Reset(), first=2))

    worker = start(handler, VISIBILITY_TIMEOUT="3")

    assert worker.wait() == 76
    assert proxy.calls("DeleteMessage", "SendMessage", "PutObject") == []
    assert scene.outputs() == {}
    assert scene.letters() == []


def test_a_lost_lease_wins_over_a_stop(scene: Scene, start: Launcher, proxy: FaultProxy) -> None:
    """A message whose lease is lost while the handler stops is not the worker's to release."""
    scene.submit("k")
    worker = start(
        CLEANS_UP.replace("sleep(1)", "sleep(60)"), VISIBILITY_TIMEOUT="3", GRACE_SECONDS="20"
    )
    worker.wait_for_event("waiting")
    proxy.add(Rule(RENEWAL, Reset()))

    worker.signal(signal.SIGTERM)

    assert worker.wait(10) == 76
    assert all(call.parameters["VisibilityTimeout"] for call in proxy.calls(RENEWAL))
    assert worker.events("message_released") == []


def test_a_stop_wins_over_a_deadline(scene: Scene, start: Launcher) -> None:
    """A stop that comes while the handler ends for its deadline: released, 143."""
    scene.submit("k")
    worker = start(CLEANS_UP, JOB_TIMEOUT="1")
    worker.wait_for_event("cleaning")

    worker.signal(signal.SIGTERM)

    assert worker.wait(8) == 143
    assert worker.events("message_released")
    assert len(scene.visible_now()) == 1


@pytest.mark.parametrize("handler", [RETURNS, REJECTS], ids=["returns", "rejects"])
def test_a_deadline_wins_over_the_handler(handler: str, scene: Scene, start: Launcher) -> None:
    """A handler that returns or rejects once its time was up is tried again."""
    scene.submit("k")

    worker = start(handler, JOB_TIMEOUT="1")

    assert worker.wait(8) == 75
    assert worker.termination_log["reason"] == "deadline"
    assert scene.outputs() == {}
    assert scene.letters() == []
    assert scene.depth() == HIDDEN


def test_a_handler_stuck_past_its_deadline(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """It has the grace to stop, as after a signal; then the process goes, the message stays."""
    scene.submit("k")
    worker = start(BLOCKS, JOB_TIMEOUT="1", GRACE_SECONDS="2")
    worker.wait_for_event("waiting")
    began = time.monotonic()

    assert worker.wait(10) == 75
    assert time.monotonic() - began < 4
    assert worker.events("handler_stuck")
    assert len(proxy.calls(RENEWAL)) == 1
    assert proxy.calls("DeleteMessage") == []
    assert scene.depth() == HIDDEN
