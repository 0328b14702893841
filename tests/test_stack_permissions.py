"""The worker with just the permissions of its policy, and with each of them taken away."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from guarded import Cloud, guarded_cloud, policy_of, statements, user
from harness.aws import Scene, s3_event
from harness.process import PRELUDE, Worker

# moto answers 404 for an object that is missing, whoever asks; S3 403 without this one.
NOT_ENFORCED = {("TellMissingFromForbidden", "s3:ListBucket")}
HANDLER = """
async def handle(job):
    kind = job.object.key.rpartition("/")[2]
    if kind == "reject":
        raise Reject("as its name says")
    async with job.output(kind) as out:
        if job.resume is None:
            await out.write(bytes(9 << 20))
            if kind == "resume":
                await job.checkpoint("half")
                while not os.path.exists("go-on"):
                    await asyncio.sleep(0.01)
                raise Retry("the rest comes later", after=0)
        if kind == "abort":
            raise ValueError("as its name says")
        await out.write(b"the end")

ROUTES = [Route("incoming/*", handle)]
"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A server of its own, since the enforcement is for all of it."""
    with guarded_cloud() as running:
        yield running


@dataclass
class Bench:
    """A scene, and workers who may do on it what the policy says."""

    cloud: Cloud
    folder: Path
    scene: Scene = field(init=False)
    workers: int = 0

    def __post_init__(self) -> None:
        self.scene = self.cloud.scene()
        self._iam = self.cloud.client("iam")
        self._name, self._key = user(self._iam, policy_of(self.scene, "WorkerPolicy"))

    def take_away(self, action: tuple[str, str]) -> None:
        """From now on workers may do one thing less."""
        policy = json.dumps(policy_of(self.scene, "WorkerPolicy", without=action))
        self._iam.put_user_policy(UserName=self._name, PolicyName="p", PolicyDocument=policy)

    def submit(self, kind: str) -> None:
        """An object that the handler does this with, and its message."""
        self.scene.submit(f"incoming/{kind}")

    def start(self) -> Worker:
        """A worker; to be entered."""
        folder = self.folder / f"pod-{self.workers}"
        folder.mkdir()
        self.workers += 1
        (folder / "handlers.py").write_text(PRELUDE + HANDLER)
        env = {
            "AWS_ENDPOINT_URL": self.cloud.url,
            "AWS_ACCESS_KEY_ID": self._key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": self._key["SecretAccessKey"],
            "QUEUE_URL": self.scene.queue_url,
            "ALLOWED_BUCKETS": f"{self.scene.bucket}/incoming/",
            "OUTPUT_URL": f"s3://{self.scene.output_bucket}/out",
            "LEDGER_URL": f"s3://{self.scene.output_bucket}/ledger",
            "CHECKPOINT_SECONDS": "0.05",
            "VISIBILITY_TIMEOUT": "6",
            "WAIT_SECONDS": "1",
            "GRACE_SECONDS": "5",
            "RETRY_BASE_SECONDS": "0",
            "READY_FILE": str(folder / "ready"),
            "SPOOL_DIR": str(folder),
        }
        return Worker(folder, env, ("run",))

    def run(self) -> tuple[int, Worker]:
        """A worker's exit code, and its log."""
        with self.start() as worker:
            code = worker.wait()
        return code, worker

    def checkpointed(self) -> None:
        """One attempt at `resume` that ends behind its checkpoint."""
        with self.start() as worker:
            worker.wait_for_event("checkpoint_saved")
            (worker.folder / "go-on").touch()
            assert worker.wait() == 75


@pytest.fixture
def bench(cloud: Cloud, tmp_path: Path) -> Bench:
    """A fresh scene under enforcement."""
    return Bench(cloud, tmp_path)


def test_the_policy_is_enough(bench: Bench) -> None:
    """Done, done from a checkpoint, rejected with a letter, failed and cleaned up."""
    bench.submit("plain")
    assert bench.run()[0] == 0
    bench.submit("resume")
    bench.checkpointed()
    assert bench.run()[0] == 0
    bench.submit("reject")
    assert bench.run()[0] == 65
    assert len(bench.scene.drain_letters()) == 1
    bench.submit("abort")
    assert bench.run()[0] == 75
    assert bench.scene.open_uploads() == []
    assert set(bench.scene.outputs()) >= {"out/plain", "out/resume"}


def versioned(bench: Bench) -> tuple[int, Worker]:
    """A message that names a version of its object."""
    bench.scene.aws.s3.put_bucket_versioning(
        Bucket=bench.scene.bucket, VersioningConfiguration={"Status": "Enabled"}
    )
    put = bench.scene.aws.s3.put_object(Bucket=bench.scene.bucket, Key="incoming/plain", Body=b"x")
    event = s3_event(bench.scene.bucket, "incoming/plain", size=1)
    event["Records"][0]["s3"]["object"]["versionId"] = put["VersionId"]
    bench.scene.send(event)
    return bench.run()


def worked_on(kind: str) -> Callable[[Bench], tuple[int, Worker]]:
    """What becomes of a message of this kind."""

    def work(bench: Bench) -> tuple[int, Worker]:
        bench.submit(kind)
        return bench.run()

    return work


def resumed(bench: Bench) -> tuple[int, Worker]:
    """What becomes of work whose checkpoint was made when all was permitted."""
    return bench.run()


# By what is taken away: what is done then, the exit code, and an event that says what was missed.
BREAKS: dict[tuple[str, str], tuple[Callable[[Bench], tuple[int, Worker]], int, str]] = {
    ("TakeAndSettleMessages", "sqs:ReceiveMessage"): (worked_on("plain"), 75, "receive_failed"),
    ("TakeAndSettleMessages", "sqs:ChangeMessageVisibility"): (
        worked_on("plain"),
        76,
        "lease_lost",
    ),
    ("TakeAndSettleMessages", "sqs:DeleteMessage"): (worked_on("plain"), 75, "settlement_failed"),
    ("TakeAndSettleMessages", "sqs:GetQueueAttributes"): (
        worked_on("reject"),
        75,
        "settlement_failed",
    ),
    ("SendDeadLetters", "sqs:GetQueueUrl"): (worked_on("reject"), 75, "settlement_failed"),
    ("SendDeadLetters", "sqs:SendMessage"): (worked_on("reject"), 75, "settlement_failed"),
    ("ReadInput", "s3:GetObject"): (worked_on("plain"), 75, "handler_failed"),
    ("ReadInput", "s3:GetObjectVersion"): (versioned, 75, "handler_failed"),
    ("WriteOutputs", "s3:GetObject"): (worked_on("plain"), 75, "handler_failed"),
    ("WriteOutputs", "s3:PutObject"): (worked_on("plain"), 75, "handler_failed"),
    ("WriteOutputs", "s3:AbortMultipartUpload"): (worked_on("abort"), 75, "output_left_behind"),
    ("WriteOutputs", "s3:ListMultipartUploadParts"): (resumed, 75, "handler_failed"),
    ("KeepTheLedger", "s3:GetObject"): (worked_on("plain"), 75, "handler_failed"),
    ("KeepTheLedger", "s3:PutObject"): (worked_on("plain"), 75, "handler_failed"),
    ("KeepTheLedger", "s3:DeleteObject"): (resumed, 0, "blob_left_behind"),
}


def test_every_action_is_accounted_for() -> None:
    """Either it is shown below what breaks without it, or moto does not enforce it."""
    assert BREAKS.keys() | NOT_ENFORCED == set(statements("WorkerPolicy"))


@pytest.mark.parametrize("action", BREAKS, ids="-".join)
def test_without_it_something_breaks(action: tuple[str, str], bench: Bench) -> None:
    """And the log says what."""
    work, code, event = BREAKS[action]
    if work is resumed:
        bench.submit("resume")
        bench.checkpointed()
    bench.take_away(action)
    ended, worker = work(bench)
    told = [line["event"] for line in worker.lines]
    assert (ended, event in told) == (code, True), worker.stdout
    # S3 does not say what was not allowed; SQS does, so that it is this and nothing else.
    assert action[1].startswith("s3:") or action[1] in worker.stdout
