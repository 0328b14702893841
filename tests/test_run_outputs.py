"""No message is deleted before its work is committed, and no work is seen before it is done."""

import pytest
from faults.plan import Cut, Drop, Fault, Reset, Rule, When, s3_error, sqs_error
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene
from harness.launch import COPY, Launcher

EMPTY = Depth(0, 0)
HIDDEN = Depth(0, 1)
BIG = 9 << 20


@pytest.mark.parametrize("size", [10, BIG], ids=["put", "multipart"])
def test_an_output_is_invisible_until_the_handler_has_returned(
    size: int, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A finished output of a handler still at work is nobody's to see."""
    scene.submit("k", b"0123456789")
    last_read = proxy.hold("GetObject", first=2)
    worker = start(f"""
        async def handle(job):
            async with job.output("early") as out:
                await out.write(bytes({size}))
            job.log.info("closed")
            await job.object.read(0, 1)
    """)
    worker.wait_for_event("closed")
    last_read.wait()

    assert scene.outputs() == {}
    assert proxy.calls("DeleteMessage") == []
    last_read.open()

    assert worker.wait() == 0
    assert scene.outputs() == {"out/early": bytes(size)}
    assert scene.depth() == EMPTY


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError('after it')",
        "raise Reject('after it')",
        "os.kill(os.getpid(), signal.SIGTERM); await asyncio.Event().wait()",
    ],
    ids=["fails", "rejects", "is stopped"],
)
def test_outputs_of_a_failed_attempt_leave_nothing(
    body: str, scene: Scene, start: Launcher
) -> None:
    """Neither the finished nor the unfinished output is seen, and no upload stays open."""
    scene.submit("k")

    worker = start(f"""
        async def handle(job):
            async with job.output("finished") as out:
                await out.write(bytes({BIG}))
            async with job.output("small") as out:
                await out.write(b"x")
            async with job.output("unfinished") as out:
                await out.write(bytes({BIG}))
                {body}
    """)

    assert worker.wait() in (65, 75, 143)
    assert scene.outputs() == {}
    assert scene.open_uploads() == []


def test_an_output_given_up_by_the_handler(scene: Scene, start: Launcher) -> None:
    """An output left by an exception that the handler survives is gone; its others are not."""
    scene.submit("k")

    worker = start(f"""
        async def handle(job):
            try:
                async with job.output("given up") as out:
                    await out.write(bytes({BIG}))
                    raise ValueError
            except ValueError:
                pass
            async with job.output("kept") as out:
                await out.write(b"kept")
    """)

    assert worker.wait() == 0
    assert scene.outputs() == {"out/kept": b"kept"}
    assert scene.open_uploads() == []


def test_an_output_that_is_never_closed(scene: Scene, start: Launcher) -> None:
    """Nobody knows whether it is whole: the attempt failed, and nothing of it is seen."""
    scene.submit("k")

    worker = start("""
        async def handle(job):
            async with job.output("closed") as out:
                await out.write(b"closed")
            await job.output("open").write(b"and no more")
    """)

    assert worker.wait() == 75
    assert scene.outputs() == {}
    assert scene.depth() == HIDDEN


@pytest.mark.parametrize("size", [10, BIG], ids=["put", "multipart"])
@pytest.mark.parametrize(
    ("fault", "when"),
    [(Cut(), "before"), (Reset(), "after"), (s3_error(503, "SlowDown"), "after")],
)
def test_a_commit_that_fails_once_is_repeated(
    *, fault: Fault, when: When, size: int, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A commit whose request or answer is lost once ends in the same output."""
    data = bytes(range(250)) * (size // 250 + 1)
    scene.submit("k", data)
    call = "PutObject" if size < BIG else "CompleteMultipartUpload"
    proxy.add(Rule(call, fault, when, times=1))

    worker = start(COPY)

    assert worker.wait() == 0
    assert scene.outputs() == {"out/k": data}
    assert scene.depth() == EMPTY


@pytest.mark.parametrize(
    ("call", "when", "fault", "reason"),
    [
        ("PutObject", "before", s3_error(403, "AccessDenied"), "access_denied"),
        ("PutObject", "before", s3_error(503, "SlowDown"), "throttled"),
        ("PutObject", "after", Reset(), "transport"),
        ("CreateMultipartUpload", "before", s3_error(403, "ExpiredToken"), "credentials"),
        ("UploadPart", "before", s3_error(403, "AccessDenied"), "access_denied"),
        ("UploadPart", "after", Reset(), "transport"),
        ("CompleteMultipartUpload", "before", s3_error(403, "AccessDenied"), "access_denied"),
    ],
)
def test_a_commit_that_fails_keeps_the_message(
    *,
    call: str,
    fault: Fault,
    reason: str,
    when: When,
    scene: Scene,
    start: Launcher,
    proxy: FaultProxy,
) -> None:
    """An output that cannot be written is a retry; the message is not deleted."""
    scene.submit("k", bytes(10 if call == "PutObject" else BIG))
    proxy.add(Rule(call, fault, when))

    worker = start(COPY)

    assert worker.wait() == 75
    assert worker.events("job_finished")[0]["reason"] == reason
    assert proxy.calls("DeleteMessage", "SendMessage") == []
    assert scene.depth() == HIDDEN
    assert scene.open_uploads() == []


@pytest.mark.parametrize(
    ("fault", "when"),
    [(Cut(), "before"), (Reset(), "after"), (sqs_error(503, "ServiceUnavailable"), "after")],
)
def test_a_delete_that_fails_once_is_repeated(
    fault: Fault, when: When, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A delete whose request or answer is lost once leaves nothing behind."""
    scene.submit("k")
    proxy.add(Rule("DeleteMessage", fault, when, times=1))

    worker = start(COPY)

    assert worker.wait() == 0
    assert list(scene.outputs()) == ["out/k"]
    assert scene.depth() == EMPTY


@pytest.mark.parametrize("fault", [Reset(), sqs_error(403, "AccessDenied")])
def test_a_delete_that_never_succeeds_is_reported(
    fault: Fault, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """The output stands, the message comes back by itself, and an ERROR says so."""
    scene.submit("k")
    proxy.add(Rule("DeleteMessage", fault))

    worker = start(COPY)

    # What is done is done; what is left is a delivery too many.
    assert worker.wait() in (0, 75)
    assert list(scene.outputs()) == ["out/k"]
    assert scene.depth() == HIDDEN
    assert worker.events("settlement_failed", level="ERROR")
    assert worker.events("message_deleted") == []


def test_a_message_whose_delivery_was_lost_comes_back(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Where the answer to the poll is lost the message is hidden, for one visibility timeout."""
    scene.submit("k")
    proxy.add(Rule("ReceiveMessage", Reset(), "after", times=1))

    worker = start(COPY, WAIT_SECONDS="0", VISIBILITY_TIMEOUT="2")

    assert worker.wait() in (0, 75)
    assert proxy.calls("ReceiveMessage")[0].parameters["VisibilityTimeout"] == 2
    if not scene.outputs():
        assert scene.wait_visible() < 3


def test_a_slow_output_does_not_lose_the_lease(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Renewals go on while the commit waits for S3."""
    scene.submit("k")
    commit = proxy.hold("PutObject")
    worker = start(COPY, VISIBILITY_TIMEOUT="3")
    commit.wait()

    proxy.wait_for("ChangeMessageVisibility", count=4)
    assert scene.visible_now() == []
    commit.open()

    assert worker.wait() == 0
    assert list(scene.outputs()) == ["out/k"]
    assert scene.depth() == EMPTY


@pytest.mark.parametrize("call", ["PutObject", "CompleteMultipartUpload"])
def test_a_lease_lost_while_committing_deletes_nothing(
    call: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """What was sent may stand; but without a lease the message is not the worker's to delete."""
    scene.submit("k", bytes(10 if call == "PutObject" else BIG))
    proxy.add(Rule(call, Drop()))
    worker = start(COPY, VISIBILITY_TIMEOUT="3")
    proxy.wait_for(call, over=False)

    proxy.add(Rule("ChangeMessageVisibility", Reset()))

    assert worker.wait(15) == 76
    assert proxy.calls("DeleteMessage") == []
    assert all(c.parameters["VisibilityTimeout"] for c in proxy.calls("ChangeMessageVisibility"))
