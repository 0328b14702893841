"""The worker with just the permissions of its policy, and with each of them taken away.

Under moto's enforcement, which knows the ARNs of objects and buckets but of no queue: there every
resource is `*`.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import boto3
import pytest
from botocore.config import Config
from harness.aws import Clients, Scene, s3_event
from harness.process import PRELUDE, Worker
from harness.server import REGION, moto_server
from template import loaded, resolved

ANYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
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


def actions() -> list[tuple[str, str]]:
    """Every action of the policy, with the statement that allows it."""
    policy = loaded()["Resources"]["WorkerPolicy"]["Properties"]["PolicyDocument"]
    return [
        (one["Sid"], action)
        for one in policy["Statement"]
        for action in ([one["Action"]] if isinstance(one["Action"], str) else one["Action"])
    ]


def policy_of(scene: Scene, without: tuple[str, str] | None = None) -> dict[str, Any]:
    """The template's policy for the scene's buckets, less one action of one statement."""
    names = {
        "Queue.Arn": "*",
        "DeadLetters.Arn": "*",
        "InputBucket.Arn": f"arn:aws:s3:::{scene.bucket}",
        "OutputBucket.Arn": f"arn:aws:s3:::{scene.output_bucket}",
        "InputPrefix": "incoming/",
    }
    template = loaded()["Resources"]["WorkerPolicy"]["Properties"]["PolicyDocument"]
    policy: dict[str, Any] = json.loads(json.dumps(resolved(template, names)))
    for statement in policy["Statement"]:
        told = statement["Action"]
        listed = [told] if isinstance(told, str) else told
        statement["Action"] = [one for one in listed if (statement["Sid"], one) != without]
    policy["Statement"] = [one for one in policy["Statement"] if one["Action"]]
    return policy


@dataclass(frozen=True)
class Cloud:
    """A local AWS that asks everyone for permission, and somebody who has all."""

    url: str
    key: dict[str, str]

    def client(self, service: str) -> Any:
        """A client of who may do anything."""
        session = boto3.Session(self.key["AccessKeyId"], self.key["SecretAccessKey"])
        once = Config(retries={"total_max_attempts": 1}, proxies={})
        return session.client(service, REGION, endpoint_url=self.url, config=once)

    def scene(self) -> Scene:
        """Buckets and queues."""
        return Scene(Clients(self.url, *(self.client(name) for name in ("s3", "sqs", "sns"))))


def user(iam: Any, policy: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Somebody with this policy: the name, and an access key."""
    name = f"user-{uuid4().hex[:8]}"
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
    return name, iam.create_access_key(UserName=name)["AccessKey"]


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A server of its own, since the enforcement is for all of it."""
    with moto_server() as url:
        anybody = boto3.Session("anybody", "anything")
        iam = anybody.client("iam", REGION, endpoint_url=url, config=Config(proxies={}))
        _, key = user(iam, ANYTHING)
        plain = {"Content-Type": "text/plain"}
        urlopen(Request(f"{url}/moto-api/reset-auth", b"0", plain, method="POST")).close()
        yield Cloud(url, key)


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
        self._name, self._key = user(self._iam, policy_of(self.scene))

    def take_away(self, action: tuple[str, str]) -> None:
        """From now on workers may do one thing less."""
        policy = json.dumps(policy_of(self.scene, action))
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
    assert BREAKS.keys() | NOT_ENFORCED == set(actions())


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
