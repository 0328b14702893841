"""`k8s/aws/stack.yaml`: what it says, and what a deployed one does."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from harness.aws import Clients, client
from harness.process import REPOSITORY, Worker
from template import STACK, loaded

FORTNIGHT = 14 * 86_400
# ministack keeps no lifecycle rules of a stack: what `check` says of them is right there.
NOT_KEPT = {"uploads_left", "records_stay"}
HANDLERS = """
from app.handler import Route

async def copy(job):
    async with job.output(job.object.key) as out:
        async for chunk in job.object.chunks():
            await out.write(chunk)

ROUTES = [Route("incoming/*", copy)]
"""


def resource(name: str) -> Any:
    """The properties of one resource."""
    return loaded()["Resources"][name]["Properties"]


def test_the_template_is_clean() -> None:
    """cfn-lint finds nothing, not even a warning."""
    done = subprocess.run(
        [Path(sys.executable).with_name("cfn-lint"), STACK],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_queues_are_as_promised() -> None:
    """60 s, 14 days, long polls; a backstop of 100 receives; letters from this queue alone."""
    queue, letters = resource("Queue"), resource("DeadLetters")
    assert queue["VisibilityTimeout"] == 60
    assert queue["ReceiveMessageWaitTimeSeconds"] == 20
    assert queue["MessageRetentionPeriod"] == letters["MessageRetentionPeriod"] == FORTNIGHT
    assert queue["SqsManagedSseEnabled"] is letters["SqsManagedSseEnabled"] is True
    assert queue["RedrivePolicy"]["maxReceiveCount"] == 100
    allowed = letters["RedriveAllowPolicy"]
    assert allowed["redrivePermission"] == "byQueue"
    assert len(allowed["sourceQueueArns"]) == 1


@pytest.mark.parametrize("name", ["InputBucket", "OutputBucket"])
def test_the_buckets_are_private(name: str) -> None:
    """Encrypted, not public, incomplete uploads removed, and kept when the stack goes."""
    bucket = resource(name)
    rules = bucket["LifecycleConfiguration"]["Rules"]
    assert any("AbortIncompleteMultipartUpload" in rule for rule in rules)
    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert loaded()["Resources"][name]["DeletionPolicy"] == "Retain"


def test_ledger_records_expire_after_35_days() -> None:
    """Longer than any queue keeps a message, and nothing else expires."""
    rules = resource("OutputBucket")["LifecycleConfiguration"]["Rules"]
    expiring = [rule for rule in rules if "ExpirationInDays" in rule]
    assert [(rule["Prefix"], rule["ExpirationInDays"]) for rule in expiring] == [("ledger/", 35)]


@pytest.mark.parametrize(
    "name", ["QueuePolicy", "DeadLettersPolicy", "InputBucketPolicy", "OutputBucketPolicy"]
)
def test_only_tls_is_spoken(name: str) -> None:
    """Everything else is denied, to everyone."""
    statements = resource(name)["PolicyDocument"]["Statement"]
    (deny,) = (one for one in statements if one["Effect"] == "Deny")
    assert deny["Principal"] == "*"
    assert deny["Action"] in ("sqs:*", "s3:*")
    assert deny["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_keda_may_count_and_nothing_else() -> None:
    """One action on one queue."""
    (statement,) = resource("ScalerPolicy")["PolicyDocument"]["Statement"]
    assert statement["Action"] == "sqs:GetQueueAttributes"


@dataclass
class Deployed:
    """A stack that is up."""

    aws: Clients
    outputs: dict[str, str]
    variables: dict[str, str]
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        """What a pod is told of it."""
        # ministack names itself by the port it was asked for.
        told = {n: v.replace("localhost:0", self.aws.url[7:]) for n, v in self.variables.items()}
        return told | {
            "AWS_ENDPOINT_URL": self.aws.url,
            "WAIT_SECONDS": "2",
            "READY_FILE": str(self.folder / "ready"),
            "SPOOL_DIR": str(self.folder),
        }

    def run(self, *arguments: str, **env: str) -> Worker:
        """One command on it, ended."""
        (self.folder / "handlers.py").write_text(HANDLERS)
        with Worker(self.folder, self.env | env, arguments) as worker:
            worker.wait()
        return worker

    def check(self) -> tuple[set[str], str]:
        """The names of what `check` finds, and all it says."""
        worker = self.run("check", LOG_FORMAT="console")
        names = {line.split()[1].rstrip(":") for line in worker.stdout.splitlines()}
        return names, worker.stdout + worker.stderr


@pytest.fixture
def deployed(ministack: Clients, tmp_path: Path) -> Deployed:
    """The template, deployed under names that no other test has."""
    formation, name = client("cloudformation", ministack.url), f"files-{uuid4().hex[:8]}"
    chosen = {
        "InputBucketName": f"{name}-in",
        "OutputBucketName": f"{name}-out",
        "QueueName": name,
    }
    formation.create_stack(
        StackName=name,
        TemplateBody=STACK.read_text(),
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value} for key, value in chosen.items()
        ],
        Capabilities=["CAPABILITY_IAM"],
    )
    formation.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 30}
    )
    (stack,) = formation.describe_stacks(StackName=name)["Stacks"]
    told = {one["OutputKey"]: one["OutputValue"] for one in stack["Outputs"]}
    variables = {one["Description"]: one["OutputValue"] for one in stack["Outputs"]}
    named = {name: value for name, value in variables.items() if name.isupper()}
    return Deployed(ministack, told, named, tmp_path)


def test_a_file_goes_through_it(deployed: Deployed) -> None:
    """Uploaded, told to the queue, processed, in the ledger, and the message deleted."""
    bucket, _, prefix = deployed.outputs["AllowedBuckets"].partition("/")
    results = deployed.outputs["OutputUrl"].split("/")[2]
    s3 = deployed.aws.s3
    s3.put_object(Bucket=bucket, Key="elsewhere/not-told", Body=b"x")
    s3.put_object(Bucket=bucket, Key=f"{prefix}a file.csv", Body=b"1;2\n")

    # The first message may be S3's test event.
    worker = deployed.run("run", MAX_MESSAGES="2")

    assert worker.wait() == 0, worker.stdout
    assert [line["key"] for line in worker.events("object_opened")] == [f"{prefix}a file.csv"]
    assert worker.events("output_committed")
    keys = [one["Key"] for one in s3.list_objects_v2(Bucket=results)["Contents"]]
    assert f"out/{prefix}a file.csv" in keys
    assert len([key for key in keys if key.startswith("ledger/")]) == 1
    assert deployed.run("run").events("job_finished")[0]["outcome"] == "empty"


def test_check_finds_nothing_wrong_with_it(deployed: Deployed) -> None:
    """But for what the emulator itself has dropped; and it leaves nothing behind."""
    names, said = deployed.check()
    assert names <= NOT_KEPT, said
    letters = deployed.env["QUEUE_URL"] + "-dlq"
    depth = deployed.aws.sqs.get_queue_attributes(QueueUrl=letters, AttributeNames=["All"])
    assert depth["Attributes"]["ApproximateNumberOfMessages"] == "0"


def test_check_finds_what_was_changed_behind_its_back(deployed: Deployed) -> None:
    """Each mistake by its name, though nobody had it in mind when the stack was made."""
    sqs, url = deployed.aws.sqs, deployed.env["QUEUE_URL"]
    changes = {
        f"{url}-dlq": {
            "RedriveAllowPolicy": json.dumps({"redrivePermission": "denyAll"}),
            "MessageRetentionPeriod": "86400",
        },
        url: {"Policy": "", "DelaySeconds": "5"},
    }
    for queue, attributes in changes.items():
        sqs.set_queue_attributes(QueueUrl=queue, Attributes=attributes)
    bucket = deployed.outputs["AllowedBuckets"].partition("/")[0]
    deployed.aws.s3.put_bucket_notification_configuration(
        Bucket=bucket, NotificationConfiguration={}
    )
    names, said = deployed.check()
    planted = {"redrive_denied", "dead_letter_retention", "queue_delay", "notification_missing"}
    assert planted <= names, said


def test_the_workers_permissions_are_those_the_documentation_names() -> None:
    """docs/deployment.md lists every action of the worker's policy."""
    text = (REPOSITORY / "docs" / "deployment.md").read_text()
    (row,) = (line for line in text.splitlines() if line.startswith("| worker |"))
    for statement in resource("WorkerPolicy")["PolicyDocument"]["Statement"]:
        actions = statement["Action"]
        for action in [actions] if isinstance(actions, str) else actions:
            assert action.partition(":")[2] in row, action
