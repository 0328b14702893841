"""What becomes of a message by what its handler does: return, raise, take too long."""

import pytest
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene, s3_event
from harness.launch import COPY, WAIT, Launcher

HIDDEN = Depth(0, 1)
KINDS = {"async": "async def", "plain": "def"}


@pytest.fixture(params=KINDS)
def define(request: pytest.FixtureRequest) -> str:
    """How a handler's definition begins: both kinds keep the same promises."""
    return KINDS[request.param]


RAISED = [
    "ValueError('wrong')",
    "BaseException('worse')",
    "SystemExit(0)",
    "KeyboardInterrupt()",
    "asyncio.CancelledError()",
    "GeneratorExit()",
    "TimeoutError()",
    "ExceptionGroup('several', [ValueError('one'), Reject('two')])",
]


def test_whatever_a_handler_raises_is_tried_again(
    define: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Any error that is not known to be permanent: 75, hidden for the back-off, and on it goes."""
    for number, _ in enumerate(RAISED):
        scene.submit(str(number))

    worker = start(
        f"""
        {define} handle(job):
            raise [lambda: {", lambda: ".join(RAISED)}][int(job.object.key)]()
        """,
        MAX_MESSAGES=str(len(RAISED)),
        RETRY_BASE_SECONDS="40",
    )

    assert worker.wait() == 75
    failures = worker.events("handler_failed", reason="handler_error")
    names = [raised.partition("(")[0].rpartition(".")[2] for raised in RAISED]
    assert [line["error"].partition(":")[0] for line in failures] == names
    hidden = [line["seconds"] for line in worker.events("message_hidden")]
    assert len(hidden) == len(RAISED)
    assert all(1 <= seconds <= 40 for seconds in hidden)
    changes = [c.parameters["VisibilityTimeout"] for c in proxy.calls("ChangeMessageVisibility")]
    assert [seconds for seconds in changes if seconds != 60] == hidden
    assert proxy.calls("DeleteMessage", "SendMessage") == []
    assert scene.depth() == Depth(0, len(RAISED))


def test_a_task_of_the_handlers_may_raise_anything(scene: Scene, start: Launcher) -> None:
    """SystemExit in a task, which asyncio lets through its loop, does not end the process."""
    scene.submit("k")

    worker = start("""
        async def leave(): sys.exit(3)
        async def handle(job):
            task = asyncio.create_task(leave())
            try:
                await task
            except SystemExit:
                job.log.info("outlived")
            raise ValueError("after all")
    """)

    assert worker.wait() == 75
    assert worker.events("outlived")
    assert scene.depth() == HIDDEN


def test_reject_sends_the_message_to_the_dead_letters(
    define: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Reject: 65, a letter that says why, and the message is deleted only after it was sent."""
    scene.submit("k")

    worker = start(f"{define} handle(job):\n    raise Reject('no such column')")

    assert worker.wait() == 65
    (letter,) = scene.letters()
    assert letter.attributes["x-death-reason"] == "rejected_by_handler"
    assert "no such column" in letter.attributes["x-death-error"]
    assert scene.depth() == Depth(0, 0)
    (sent,) = proxy.calls("SendMessage")
    (deleted,) = proxy.calls("DeleteMessage")
    assert sent.answered_at is not None
    assert sent.answered_at <= deleted.at


@pytest.mark.parametrize(
    ("after", "least", "most"), [(7, 7, 7), (43_200, 43_180, 43_199)], ids=["7 s", "12 h"]
)
def test_retry_hides_the_message_for_as_long_as_it_says(
    *,
    after: int,
    least: int,
    most: int,
    define: str,
    scene: Scene,
    start: Launcher,
    proxy: FaultProxy,
) -> None:
    """Retry(after=): 75, hidden for just that long, or as long as SQS's 12 hours allow."""
    source = f"{define} handle(job):\n    raise Retry('busy', after={after})"
    worker = start(source, WAIT_SECONDS="5")
    # Sent when it is awaited: the local SQS counts the 12 hours from then, not from the receive.
    proxy.wait_for("ReceiveMessage", over=False)
    scene.submit("k")

    assert worker.wait() == 75
    *_, hidden = proxy.calls("ChangeMessageVisibility")
    assert least <= hidden.parameters["VisibilityTimeout"] <= most
    assert hidden.status == 200
    assert worker.events("message_hidden")
    assert scene.depth() == HIDDEN


def test_retry_with_expire_leaves_the_message_alone(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """RETRY_STRATEGY=expire: the message comes back when its visibility timeout ends."""
    scene.submit("k")

    worker = start("async def handle(job): raise ValueError", RETRY_STRATEGY="expire")

    assert worker.wait() == 75
    assert len(proxy.calls("ChangeMessageVisibility")) == 1
    assert scene.depth() == HIDDEN


PAST_ITS_TIME = [
    (WAIT, {"JOB_TIMEOUT": "1"}),
    (WAIT + "\nROUTES = [Route('*', handle, timeout=1)]", {}),
    (
        "def handle(job):\n    while True:\n        time.sleep(0.05)\n        job.progress(1)",
        {"JOB_TIMEOUT": "1"},
    ),
]


@pytest.mark.parametrize(
    ("handler", "env"), PAST_ITS_TIME, ids=["JOB_TIMEOUT", "a route's own", "plain function"]
)
def test_a_handler_past_its_time_is_tried_again(
    handler: str, env: dict[str, str], scene: Scene, start: Launcher
) -> None:
    """At the deadline the handler is cancelled and its message hidden for a retry."""
    scene.submit("k")

    worker = start(handler, **env)

    assert worker.wait(8) == 75
    assert worker.events("job_finished")[0]["reason"] == "deadline"
    assert scene.depth() == HIDDEN


def test_a_deadline_does_not_end_a_commit(scene: Scene, start: Launcher, proxy: FaultProxy) -> None:
    """The time is the handler's: a commit under way when it runs out is finished."""
    scene.submit("k")
    commit = proxy.hold("PutObject")
    worker = start(
        COPY, JOB_TIMEOUT="1", VISIBILITY_TIMEOUT="3", GRACE_SECONDS="1", WAIT_SECONDS="0"
    )
    commit.wait()

    # Three renewals of a 3 s lease: the time and the grace are long over.
    proxy.wait_for("ChangeMessageVisibility", count=4, timeout=8)
    commit.open()

    assert worker.wait() == 0
    assert list(scene.outputs()) == ["out/k"]
    assert scene.depth() == Depth(0, 0)


def test_what_a_job_knows_of_itself(scene: Scene, start: Launcher) -> None:
    """The key is the same for every delivery of the same bytes, the attempt's id is fresh."""
    scene.submit("k")
    scene.visible_now()
    scene.send(s3_event(scene.bucket, "k"))

    worker = start(
        """
        async def handle(job):
            job.log.info(
                "known", key=job.idempotency_key, id=job.attempt_id, attempt=job.attempt,
                deadline=job.deadline, resume=job.resume, stopping=job.stopping,
            )
        """,
        MAX_MESSAGES="2",
        JOB_TIMEOUT="100",
    )

    assert worker.wait() == 0
    first, second = worker.events("known")
    assert first["key"] == second["key"]
    assert first["id"] != second["id"]
    assert [first["attempt"], second["attempt"]] == [2, 1]
    assert 90 < first["deadline"] <= 100
    assert first["resume"] is None
    assert first["stopping"] is False
