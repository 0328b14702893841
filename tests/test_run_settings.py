"""What the environment asks for: refused as a whole when it cannot be done, else kept to."""

import json

import pytest
from faults.plan import Rule, sqs_error
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene
from harness.launch import COPY, Launcher
from harness.process import Worker

NOT_BUILT = {
    "CONCURRENCY": "2",
    "MAX_MESSAGES": "0",
    "IDLE_SECONDS": "60",
    "HTTP_PORT": "8080",
    "HANDLER_PROCESSES": "2",
}
WRONG = {
    "QUEUE_URL": "not-a-url",
    "ALLOWED_BUCKETS": "s3://bucket",
    "OUTPUT_URL": "bucket/prefix",
    "EXPECTED_BUCKET_OWNER": "12345",
    "VISIBILITY_STRATEGY": "sometimes",
    "VISIBILITY_TIMEOUT": "1",
    "JOB_TIMEOUT": "nan",
    "WAIT_SECONDS": "21",
    "MAX_MESSAGES": "-1",
    "GRACE_SECONDS": "soon",
    "MAX_ATTEMPTS": "0",
    "RETRY_STRATEGY": "never",
    "ON_SIGTERM": "ignore",
    "MAX_OBJECT_BYTES": "1e6",
    "SPOOL_DIR": "/no/such/folder",
    "PUSHGATEWAY_URL": "gateway:9091",
    "LOG_LEVEL": "LOUD",
    "LOG_FORMAT": "xml",
}


def assert_refused(worker: Worker, proxy: FaultProxy, *names: str) -> None:
    """Exit 78, a line for each name on stderr, no traceback, and AWS was not asked."""
    assert worker.wait() == 78
    lines = [line for line in worker.stderr.splitlines() if line.strip()]
    for name in names:
        assert len([line for line in lines if name in line.split(":")[0]]) == 1, name
    assert "Traceback" not in worker.stderr + worker.stdout
    assert proxy.calls() == []


@pytest.mark.parametrize(
    "wrong",
    [WRONG, {"QUEUE_URL": "", "ALLOWED_BUCKETS": ""}, {"WAIT_SECONDS": "10"}, NOT_BUILT],
    ids=["wrong", "missing", "a pair that does not fit", "not built yet"],
)
def test_all_complaints_come_at_once(
    wrong: dict[str, str], start: Launcher, proxy: FaultProxy
) -> None:
    """A wrong environment is refused with one line per variable, each with its value."""
    worker = start(COPY, **wrong)

    assert_refused(worker, proxy, *wrong)
    assert all(value in worker.stderr for value in wrong.values())


@pytest.mark.parametrize("command", ["backfill"])
def test_a_command_that_is_not_built_yet_is_refused(
    command: str, start: Launcher, proxy: FaultProxy
) -> None:
    """A name of the contract that does nothing yet says so, and is never ignored."""
    worker = start(COPY, command)

    assert_refused(worker, proxy)
    assert command in worker.stderr


@pytest.mark.parametrize(
    ("handlers", "module"),
    [
        ("no_such_module:ROUTES", ""),
        ("handlers:NOTHING", "ROUTES = []"),
        ("handlers", "ROUTES = []"),
        ("handlers:ROUTES", "ROUTES = []"),
        ("handlers:ROUTES", "ROUTES = 17"),
        ("handlers:ROUTES", "ROUTES = ['*.csv']"),
        ("handlers:ROUTES", "raise ValueError('while importing')\nROUTES = []"),
        ("handlers:ROUTES", "import no_such_module\nROUTES = []"),
        ("handlers:ROUTES", "this is no Python\nROUTES = []"),
        ("handlers:ROUTES", "sys.exit(0)\nROUTES = []"),
        ("handlers:ROUTES", "ROUTES = [Route('*', None)]"),
    ],
)
def test_handlers_that_cannot_be_had_are_refused(
    handlers: str, module: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Nothing is received for handlers that are not there."""
    scene.submit("k")

    worker = start(module + "\n# ROUTES", HANDLERS=handlers)

    assert worker.wait() == 78
    assert "HANDLERS" in worker.stderr
    assert proxy.calls("ReceiveMessage") == []
    assert len(scene.visible_now()) == 1


def test_an_output_that_would_feed_itself_is_refused(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """OUTPUT_URL under what a route takes as input would go round for ever."""
    worker = start(COPY, OUTPUT_URL=f"s3://{scene.bucket}/out")

    assert_refused(worker, proxy, "OUTPUT_URL")


def test_an_output_without_output_url_is_a_matter_of_configuration(
    scene: Scene, start: Launcher
) -> None:
    """The handler's job.output without OUTPUT_URL: 78, and the message is not lost."""
    scene.submit("k")

    worker = start(COPY, OUTPUT_URL="")

    assert worker.wait() == 78
    assert any("OUTPUT_URL" in json.dumps(line) for line in worker.lines)
    assert scene.letters() == []
    assert scene.depth() == Depth(0, 1)


@pytest.mark.parametrize("size", [10, 9 << 20], ids=["put", "multipart"])
def test_the_expected_owner_goes_with_every_s3_call(
    size: int, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """EXPECTED_BUCKET_OWNER: a bucket of the same name in another account is never touched."""
    scene.submit("k", bytes(size))

    worker = start(COPY, EXPECTED_BUCKET_OWNER="123456789012")

    assert worker.wait() == 0
    owners = {call.headers.get("x-amz-expected-bucket-owner") for call in proxy.calls(service="s3")}
    assert owners == {"123456789012"}


def test_an_empty_queue(start: Launcher) -> None:
    """The poll brought nothing: exit 0."""
    worker = start(COPY, WAIT_SECONDS="0")

    assert worker.wait() == 0
    assert worker.events("job_finished")[0]["outcome"] == "empty"
    assert worker.termination_log["outcome"] == "empty"


def test_a_queue_that_is_not_there(scene: Scene, start: Launcher) -> None:
    """A QUEUE_URL that names no queue is a matter of configuration."""
    worker = start(COPY, QUEUE_URL=scene.queue_url + "-not")

    assert worker.wait() == 78
    assert "QUEUE_URL" in worker.stdout + worker.stderr


def test_a_ledger_that_is_not_there(scene: Scene, start: Launcher) -> None:
    """A LEDGER_URL that names no bucket: 78, and the message is not lost."""
    scene.submit("k")

    worker = start(COPY, LEDGER_URL="s3://no-such-bucket-anywhere/ledger")

    assert worker.wait() == 78
    assert "LEDGER_URL: " in worker.events("handler_failed")[0]["error"]
    assert scene.outputs() == {}
    assert scene.depth() == Depth(0, 1)


def test_a_poll_that_is_refused_ends_with_an_error(start: Launcher, proxy: FaultProxy) -> None:
    """Without permission to receive there is nothing to do but to say so, and to come again."""
    proxy.add(Rule("ReceiveMessage", sqs_error(403, "AccessDenied")))

    worker = start(COPY)

    assert worker.wait() == 75
    assert worker.events("receive_failed", level="ERROR")


@pytest.mark.parametrize(("there", "taken"), [(5, 3), (2, 2)])
def test_max_messages(
    there: int, taken: int, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """So many messages are taken, one after another, or as many as there are."""
    for number in range(there):
        scene.submit(f"k{number}")

    worker = start(COPY, MAX_MESSAGES="3", WAIT_SECONDS="0")

    assert worker.wait() == 0
    assert len(scene.outputs()) == taken
    assert scene.depth() == Depth(there - taken, 0)
    names = [n for n in proxy.names() if n in ("ReceiveMessage", "DeleteMessage")]
    assert names == (["ReceiveMessage", "DeleteMessage"] * 3)[: 2 * taken + (taken < 3)]


def test_the_worst_of_several_messages_is_the_exit_code(scene: Scene, start: Launcher) -> None:
    """One failed message among others shows in the exit code, and the others are done."""
    for key in ("one", "reject", "fail", "two"):
        scene.submit(key)

    worker = start(
        """
        async def handle(job):
            if job.object.key == "reject": raise Reject("as its name says")
            if job.object.key == "fail": raise ValueError("as its name says")
        """,
        MAX_MESSAGES="4",
    )

    assert worker.wait() == 75
    assert scene.depth() == Depth(0, 1)
    assert len(scene.letters()) == 1
