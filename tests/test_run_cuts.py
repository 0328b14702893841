"""Cut off or killed at every request: the next worker ends the work, with one effect.

The requests are those of a run that nobody disturbs, which is recorded and held to the table here.
The worker is killed once it applied, which is the same as before the next one; and it is cut before
it applied and after it: all in one run, and with KILLS set each in a run of its own.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from faults.calls import Call
from faults.plan import Cut, Gate, Rule, When
from faults.proxy import FaultProxy
from harness.aws import Clients, Scene
from harness.book import Book
from harness.launch import Launcher
from harness.process import Worker

# A large output and a small one, and a checkpoint in the middle, in an order that never changes.
TWO_OUTPUTS = """
async def handle(job):
    job.log.info("began", state=job.resume.state if job.resume else None)
    async with job.output("large") as large, job.output("small") as small:
        if job.resume is None:
            await large.write(bytes(range(256)) * (34 << 10))
            await small.write(b"one, ")
            await job.checkpoint("half")
            while not job.stopping and not os.path.exists("go-on"):
                await asyncio.sleep(0.01)
            if job.stopping:
                await job.checkpoint("half")
        await large.write(b"the end")
        await small.write(b"two")
"""
EXPECTED = {"out/large": bytes(range(256)) * (34 << 10) + b"the end", "out/small": b"one, two"}
DONE = (
    "ReceiveMessage queue",
    "ChangeMessageVisibility queue",
    "GetObject in",
    "GetObject record",
    "PutObject record",  # the claim
    "CreateMultipartUpload out",
    "PutObject record",  # which names the upload
    "UploadPart out",
    "PutObject blob",
    "PutObject record",  # the checkpoint
    "UploadPart out",
    "HeadObject out",
    "HeadObject out",
    "PutObject record",  # committing
    "CompleteMultipartUpload out",
    "PutObject out",
    "PutObject record",  # done
    "DeleteObject blob",
    "DeleteMessage queue",
)


@dataclass
class Stage:
    """One case's own queue, buckets, ledger and proxy."""

    proxy: FaultProxy
    scene: Scene
    start: Launcher
    book: Book

    def label(self, call: Call) -> str:
        """The call, and what it is about."""
        if call.service == "sqs":
            return f"{call.name} queue"
        where = {self.scene.bucket: "in", self.scene.output_bucket: "out"}
        told = where.get(call.bucket) or ("blob" if ".held/" in call.key else "record")
        return f"{call.name} {told}"

    def labels(self) -> list[str]:
        """All calls so far."""
        return [self.label(call) for call in self.proxy.calls()]


@contextlib.contextmanager
def stage(aws: Clients, folder: Path) -> Iterator[Stage]:
    """A fresh one, with one message on the queue."""
    folder.mkdir()
    with FaultProxy(aws.url) as proxy:
        scene = Scene(aws)
        start = Launcher(scene, proxy, folder)
        book = Book(scene, proxy)
        start.more |= book.env
        scene.submit("k")
        with contextlib.closing(start):
            yield Stage(proxy, scene, start, book)


def go_on(worker: Worker) -> None:
    """Let the handler go on once its checkpoint is kept."""
    worker.wait_for_event("checkpoint_saved")
    (worker.folder / "go-on").touch()


def test_the_requests_are_those_of_the_table(aws: Clients, tmp_path: Path) -> None:
    """Else a request would be left out below."""
    with stage(aws, tmp_path / "dry") as dry:
        worker = dry.start(TWO_OUTPUTS)
        go_on(worker)
        assert worker.wait() == 0
        assert dry.scene.outputs() == EXPECTED
        assert dry.labels() == list(DONE)


STOPPED = (
    "PutObject blob",
    "PutObject record",  # the checkpoint that the stop waited for
    "DeleteObject blob",
    "PutObject record",  # open again
    "ChangeMessageVisibility queue",
)


# Between a request that makes something and the record that names it nothing else knows of it,
# and a blob is deleted once no record names it: a lifecycle rule of the bucket removes the rest.
LEFT_UPLOAD = {"CreateMultipartUpload out", "each"}
LEFT_BLOB = {"PutObject blob", "PutObject record", "each"}
# Where the handler goes on once the test says so.
CHECKPOINTED = DONE.index("UploadPart out", DONE.index("PutObject blob"))


@dataclass(frozen=True)
class Case:
    """What happens to which request.

    Attributes:
        number: of the request, from 1.
        label: it, in words.
        how: the connection is cut `before` or `after` it applied, or the worker `killed` after.
        stopped: the worker was told to stop before.
    """

    number: int
    label: str
    how: str
    stopped: bool = False

    def __str__(self) -> str:
        return f"{self.how} {self.number} {self.label}" + (" at a stop" if self.stopped else "")


EVERY_ONE = 0
KILLED = [Case(number, label, "killed") for number, label in enumerate(DONE, 1)] + [
    Case(number, label, "killed", stopped=True)
    for number, label in enumerate(STOPPED, CHECKPOINTED + 1)
]
CUT = [
    Case(number, label, how)
    for how in ("before", "after")
    for number, label in enumerate(DONE if "KILLS" in os.environ else (), 1)
]
CASES = [*(Case(EVERY_ONE, "each", how) for how in ("before", "after")), *KILLED, *CUT]


def in_turn() -> Callable[[Call], bool]:
    """True for every other call: each is cut once, and what is sent again is not.

    Not for the poll: a message whose delivery was lost is not there for a while.
    """
    turns = cycle((True, False))
    return lambda call: call.name != "ReceiveMessage" and next(turns)


def disturb(case: Case, here: Stage) -> None:
    """The first worker's life, up to its end."""
    gate = Gate()
    when: When = "before" if case.how == "before" else "after"
    fault = gate if case.how == "killed" else Cut()
    if case.number == EVERY_ONE:
        here.proxy.add(Rule("*", fault, when, where=in_turn()))
    else:
        here.proxy.add(Rule("*", fault, when, first=case.number, times=1))
    never_came = case.number == 1  # whatever becomes of it, the poll brings nothing at first
    worker = here.start(TWO_OUTPUTS, **({"VISIBILITY_TIMEOUT": "2"} if never_came else {}))
    if never_came:
        (worker.folder / "go-on").touch()
    elif case.number > CHECKPOINTED or case.how != "killed":
        worker.wait_for_event("checkpoint_saved")
        if case.stopped:
            worker.signal(signal.SIGTERM)
        else:
            (worker.folder / "go-on").touch()
    if case.how == "killed":
        gate.wait()
        worker.signal(signal.SIGKILL)
        worker.wait()
        gate.open()
    worker.wait()
    assert case.number == EVERY_ONE or here.labels()[case.number - 1] == case.label


def play(case: Case, aws: Clients, folder: Path) -> None:
    """The first worker is disturbed; the next one ends the work, and leaves nothing behind."""
    with stage(aws, folder) as here:
        disturb(case, here)
        with contextlib.suppress(ClientError, IndexError):  # the message may be gone, or new
            here.book.release()
        depth = here.scene.depth()
        if depth.visible + depth.in_flight:
            worker = here.start(TWO_OUTPUTS, WAIT_SECONDS="4")
            (worker.folder / "go-on").touch()
            assert worker.wait() == 0
        assert here.scene.outputs() == EXPECTED
        assert here.book.record().state == "done"
        assert here.scene.letters() == []
        depth = here.scene.depth()
        assert (depth.visible, depth.in_flight) == (0, 0)
        if case.how == "before" or case.label not in LEFT_UPLOAD:
            assert here.scene.open_uploads() == []
        if case.how == "before" or case.label not in LEFT_BLOB:
            assert here.book.blobs() == []
        if case.how == "killed":  # else the SDK itself may have repeated what was answered
            applied = [here.label(call) for call in here.proxy.calls() if call.status == 200]
            assert applied.count("CompleteMultipartUpload out") == 1
            assert applied.count("PutObject out") == 1


@pytest.fixture(scope="module")
def played(
    aws: Clients, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Future[None]]]:
    """The cases that were asked for, all under way, a few at a time."""
    root = tmp_path_factory.mktemp("cuts")
    asked = {item.callspec.id for item in request.session.items if hasattr(item, "callspec")}
    with ThreadPoolExecutor(5) as pool:  # each case is mostly start-up
        yield {
            str(case): pool.submit(play, case, aws, root / str(number))
            for number, case in enumerate(CASES)
            if str(case) in asked
        }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_next_worker_ends_it(case: Case, played: dict[str, Future[None]]) -> None:
    """The right bytes, one effect, nothing left open."""
    played[str(case)].result(100)
