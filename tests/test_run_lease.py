"""The lease: what renews it, and what follows when it can no longer be proven."""

import time
from collections.abc import Callable

import pytest
from faults.plan import Cut, Drop, Fault, Reset, Rule, sqs_error
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene
from harness.launch import WAIT, WRITE_AND_WAIT, Launcher
from harness.process import Worker

RENEWAL = "ChangeMessageVisibility"
BLOCK = """
async def handle(job):
    job.log.info("waiting")
    time.sleep(60)
"""


def assert_left_alone(worker: Worker, proxy: FaultProxy, scene: Scene) -> None:
    """No delete, no release, no dead letter, nothing visible: another may be at work on it."""
    assert worker.events("job_finished")[0]["outcome"] == "lease_lost"
    assert worker.termination_log["exit_code"] == 76
    assert len(worker.events("lease_lost")) == 1
    assert proxy.calls("DeleteMessage", "SendMessage") == []
    assert all(call.parameters["VisibilityTimeout"] for call in proxy.calls(RENEWAL))
    assert proxy.calls("PutObject", "CompleteMultipartUpload") == []
    assert scene.outputs() == {}
    assert scene.letters() == []


@pytest.mark.parametrize("fault", [Cut(), Drop()])
def test_one_failed_renewal_ends_nothing(
    fault: Fault, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A renewal that fails once is tried again in time; the work is done all the same."""
    scene.submit("k")
    proxy.add(Rule(RENEWAL, fault, first=2, times=1))

    worker = start("async def handle(job): await asyncio.sleep(2.6)", VISIBILITY_TIMEOUT="3")

    assert worker.wait() == 0
    assert len(worker.events("lease_renewal_failed")) == 1
    assert len(worker.events("lease_renewed")) >= 1
    assert scene.depth() == Depth(0, 0)


@pytest.mark.parametrize(
    ("handler", "fault"),
    [
        (WRITE_AND_WAIT, Reset()),
        (WRITE_AND_WAIT, sqs_error(503, "ServiceUnavailable")),
        (BLOCK, Drop()),
    ],
    ids=["reset", "refused for now", "no answer to a handler that blocks"],
)
def test_renewals_that_fail_until_the_deadline_lose_the_lease(
    fault: Fault, handler: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """The process has ended before anyone else may be given the message."""
    scene.submit("k")
    proxy.add(Rule(RENEWAL, fault, first=2))
    worker = start(handler, VISIBILITY_TIMEOUT="3")
    anchored_at = proxy.wait_for(RENEWAL).at

    assert worker.wait() == 76
    assert time.monotonic() - anchored_at < 3.3
    assert_left_alone(worker, proxy, scene)


def purge(scene: Scene, proxy: FaultProxy) -> None:
    """Throw away every message of the queue, those in flight too."""
    scene.aws.sqs.purge_queue(QueueUrl=scene.queue_url)


def delete(scene: Scene, proxy: FaultProxy) -> None:
    """Delete the message by the handle that the worker holds."""
    handle = proxy.calls(RENEWAL)[0].parameters["ReceiptHandle"]
    scene.aws.sqs.delete_message(QueueUrl=scene.queue_url, ReceiptHandle=handle)


def refuse(code: str, text: str) -> Callable[[Scene, FaultProxy], None]:
    """Let SQS refuse every renewal from now on."""
    return lambda _, proxy: proxy.add(Rule(RENEWAL, sqs_error(400, code, text)))


@pytest.mark.parametrize(
    "lose",
    [
        purge,
        delete,
        refuse("MessageNotInflight", "The message is not in flight."),
        refuse(
            "InvalidParameterValue",
            "Value X for parameter ReceiptHandle is invalid. Reason: Message does not exist or is "
            "not available for visibility timeout change.",
        ),
    ],
    ids=["purged", "deleted", "not in flight", "does not exist"],
)
def test_a_message_that_is_gone_loses_the_lease(
    lose: Callable[[Scene, FaultProxy], None], scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A refused renewal ends the work at once."""
    scene.submit("k")
    worker = start(WRITE_AND_WAIT, VISIBILITY_TIMEOUT="3")
    worker.wait_for_event("waiting")

    lose(scene, proxy)

    assert worker.wait() == 76
    assert worker.events("lease_lost")[0]["reason"] == "message_gone"
    assert_left_alone(worker, proxy, scene)


def test_a_lease_that_cannot_be_taken_is_lost(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Where not even the first renewal succeeds, the handler is never called."""
    scene.submit("k")
    proxy.add(Rule(RENEWAL, Reset()))

    worker = start(WAIT, VISIBILITY_TIMEOUT="3")

    assert worker.wait() == 76
    assert worker.events("handler_started") == []
    assert_left_alone(worker, proxy, scene)


def test_fixed_visibility_is_set_once(scene: Scene, start: Launcher, proxy: FaultProxy) -> None:
    """VISIBILITY_STRATEGY=fixed: one change of visibility, which has to last for the whole job."""
    scene.submit("k")

    worker = start(
        "async def handle(job): await asyncio.sleep(3)",
        VISIBILITY_STRATEGY="fixed",
        VISIBILITY_TIMEOUT="8",
    )

    assert worker.wait() == 0
    (change,) = proxy.calls(RENEWAL)
    assert change.parameters["VisibilityTimeout"] == 8
    assert proxy.calls("ReceiveMessage")[0].parameters["VisibilityTimeout"] == 8
    assert scene.depth() == Depth(0, 0)


def test_fixed_visibility_bounds_the_job(scene: Scene, start: Launcher, proxy: FaultProxy) -> None:
    """Under `fixed` the deadline comes while the one lease still holds, for a retry."""
    scene.submit("k")

    worker = start(
        WAIT, VISIBILITY_STRATEGY="fixed", VISIBILITY_TIMEOUT="3", RETRY_STRATEGY="expire"
    )

    assert worker.wait() == 75
    assert len(proxy.calls(RENEWAL)) == 1
    assert scene.depth() == Depth(0, 1)


def test_a_route_sets_its_own_lease(scene: Scene, start: Launcher, proxy: FaultProxy) -> None:
    """A route's visibility_timeout is in force from the change that follows the routing."""
    scene.submit("k")

    worker = start(
        """
        async def handle(job): pass
        ROUTES = [Route("*", handle, visibility_timeout=77)]
        """
    )

    assert worker.wait() == 0
    assert proxy.calls("ReceiveMessage")[0].parameters["VisibilityTimeout"] == 60
    assert proxy.calls(RENEWAL)[0].parameters["VisibilityTimeout"] == 77
