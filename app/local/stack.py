"""The local AWS: buckets, queue, dead-letter queue and notification on a moto server.

Nothing of it is the caller's: what is configured here for AWS and for the worker comes from here.
"""

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import anyio
import anyio.to_thread
from anyio.abc import Process

from app.settings import Settings

REGION = "eu-central-1"
OUTPUT_PREFIX = "out/"
# How often a message may be received before SQS moves it by itself: a backstop, no more, since
# interruptions spend receives too. The worker's MAX_ATTEMPTS decides.
_MAX_RECEIVE_COUNT = 100
_START_SECONDS = 30.0
_STOP_SECONDS = 5.0

# Every variable that configures a worker, of this version or a later one: none of the caller's
# reaches a pod of the local AWS.
WORKER_VARIABLES = frozenset(name.upper() for name in Settings.__struct_fields__) | {
    "CONCURRENCY",
    "IDLE_SECONDS",
    "HTTP_PORT",
    "HANDLER_PROCESSES",
}
# In development mode aiohttp refuses the two Server headers of moto's answers.
_FOREIGN_PREFIXES = ("AWS_", "BOTO_", "MOTO_", "PYTHONDEVMODE")

_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "local",
    "AWS_SECRET_ACCESS_KEY": "local",
    "AWS_DEFAULT_REGION": REGION,
    "AWS_REGION": REGION,
    # Neither the caller's profiles nor a metadata service are asked.
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    # A proxy would look for 127.0.0.1 on its own machine.
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


class StackError(Exception):
    """The local AWS did not come up; the text says what its server wrote."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What stands on the local AWS once it is up."""

    endpoint_url: str
    queue_url: str
    dlq_url: str
    input_bucket: str = "input"
    output_bucket: str = "output"

    def environment(self, caller: Mapping[str, str]) -> dict[str, str]:
        """The environment of a process that works on this stack, with the caller's PATH and such.

        Lively rather than economical: short polls, short leases, quick retries.
        """
        return clean_environment(caller) | {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "QUEUE_URL": self.queue_url,
            "ALLOWED_BUCKETS": self.input_bucket,
            "OUTPUT_URL": f"s3://{self.output_bucket}/{OUTPUT_PREFIX}",
            "LEDGER_URL": f"s3://{self.output_bucket}/ledger",
            "CHECKPOINT_SECONDS": "0.5",
            "VISIBILITY_TIMEOUT": "10",
            "WAIT_SECONDS": "1",
            "GRACE_SECONDS": "20",
            "MAX_ATTEMPTS": "3",
            "RETRY_BASE_SECONDS": "1",
            "RETRY_MAX_SECONDS": "2",
            "LOG_FORMAT": "json",
        }

    def notify(self, key: str) -> None:
        """Send the message that S3 would send when an object is created; blocks."""
        etag = self.client("s3").head_object(Bucket=self.input_bucket, Key=key)["ETag"].strip('"')
        record = {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {
                "bucket": {"name": self.input_bucket},
                "object": {"key": quote_plus(key), "eTag": etag},
            },
        }
        body = json.dumps({"Records": [record]})
        self.client("sqs").send_message(QueueUrl=self.queue_url, MessageBody=body)

    def client(self, service: str) -> Any:
        """A boto3 client of one service of this stack."""
        return _client(service, self.endpoint_url)


def clean_environment(caller: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment without what configures AWS or the worker, with made-up credentials.

    PATH, HOME, VIRTUAL_ENV and what else a user's handlers may need stays.
    """
    kept = {
        name: value
        for name, value in caller.items()
        if name not in WORKER_VARIABLES and not name.startswith(_FOREIGN_PREFIXES)
    }
    return kept | _CREDENTIALS


@asynccontextmanager
async def local_stack(folder: Path) -> AsyncIterator[Stack]:
    """A stack on a server of its own, which is stopped at the end; `folder` takes its log.

    Raises:
        StackError: the server did not start.
    """
    with (folder / "moto.log").open("wb") as log:
        server = await anyio.open_process(
            # By its path: what lies in the working directory must not get in the way.
            [sys.executable, "-P", str(Path(__file__).with_name("moto_process.py"))],
            stderr=log,
            env=clean_environment(os.environ),
            start_new_session=True,
        )
    try:
        url = await _url_told_by(server, folder / "moto.log")
        yield await anyio.to_thread.run_sync(_create, url)
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(server)


async def _url_told_by(server: Process, log: Path) -> str:
    said = b""
    with anyio.move_on_after(_START_SECONDS):
        while not said.endswith(b"\n"):
            try:
                said += await server.stdout.receive()  # type: ignore[union-attr]
            except anyio.EndOfStream:
                break
    if not said.endswith(b"\n"):
        text = await anyio.Path(log).read_text(errors="replace")
        raise StackError(f"the local AWS did not start: {text.strip() or 'its server is silent'}")
    return said.decode().strip()


async def _stop(server: Process) -> None:
    await server.stdin.aclose()  # type: ignore[union-attr]
    with anyio.move_on_after(_STOP_SECONDS):
        await server.wait()
    if server.returncode is None:
        server.kill()
    await server.aclose()


def _client(service: str, endpoint_url: str) -> Any:
    import boto3
    from botocore.config import Config

    session = boto3.Session(
        aws_access_key_id=_CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=_CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        region_name=REGION,
    )
    # moto answers an upload of gigabytes only after it has digested it.
    config = Config(connect_timeout=3, read_timeout=120, retries={"total_max_attempts": 2})
    return session.client(service, endpoint_url=endpoint_url, config=config)


def _create(endpoint_url: str) -> Stack:
    sqs, s3 = _client("sqs", endpoint_url), _client("s3", endpoint_url)
    dlq_url = sqs.create_queue(QueueName="files-dlq")["QueueUrl"]
    redrive = {"deadLetterTargetArn": _arn(sqs, dlq_url), "maxReceiveCount": _MAX_RECEIVE_COUNT}
    queue_url = sqs.create_queue(
        QueueName="files", Attributes={"RedrivePolicy": json.dumps(redrive)}
    )["QueueUrl"]
    stack = Stack(endpoint_url, queue_url, dlq_url)
    for bucket in (stack.input_bucket, stack.output_bucket):
        where = {"LocationConstraint": REGION}
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    created = {"QueueArn": _arn(sqs, queue_url), "Events": ["s3:ObjectCreated:*"]}
    s3.put_bucket_notification_configuration(
        Bucket=stack.input_bucket, NotificationConfiguration={"QueueConfigurations": [created]}
    )
    return stack


def _arn(sqs: Any, queue_url: str) -> str:
    answer = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])
    return str(answer["Attributes"]["QueueArn"])
