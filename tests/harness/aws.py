"""Buckets and queues of one test, and what a test wants to know of them."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus
from uuid import uuid4

import boto3
from botocore.config import Config

from harness.server import CREDENTIALS, REGION

ACCOUNT = "123456789012"


@dataclass(frozen=True, slots=True)
class Clients:
    """boto3's clients, straight to the server: faults are for the process under test alone."""

    url: str
    s3: Any
    sqs: Any
    sns: Any

    @classmethod
    def of(cls, url: str) -> "Clients":
        """Clients of the server at this URL."""
        return cls(url, *(client(name, url) for name in ("s3", "sqs", "sns")))


def client(service: str, url: str, **config: Any) -> Any:
    """One client that never repeats a call."""
    session = boto3.Session(
        CREDENTIALS["AWS_ACCESS_KEY_ID"], CREDENTIALS["AWS_SECRET_ACCESS_KEY"], region_name=REGION
    )
    options = Config(retries={"total_max_attempts": 1}, proxies={}, **config)
    return session.client(service, endpoint_url=url, config=options)


@dataclass(frozen=True, slots=True)
class Depth:
    """How many messages a queue holds."""

    visible: int
    in_flight: int


@dataclass(frozen=True, slots=True)
class Letter:
    """One message of the dead-letter queue; `attributes` without their types."""

    body: str
    attributes: dict[str, str]
    types: dict[str, str]

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> "Letter":
        """The letter that SQS tells of."""
        found = message.get("MessageAttributes", {})
        values = {name: value.get("StringValue", "") for name, value in found.items()}
        types = {name: value["DataType"] for name, value in found.items()}
        return cls(message["Body"], values, types)


@dataclass(slots=True)
class Scene:
    """One test's own input bucket, output bucket, queue and dead-letter queue."""

    aws: Clients
    redrive_after: int = 100
    with_dlq: bool = True
    bucket: str = field(default_factory=lambda: f"in-{uuid4().hex[:12]}")
    output_bucket: str = field(default_factory=lambda: f"out-{uuid4().hex[:12]}")
    queue_url: str = field(init=False)
    dlq_url: str = field(init=False)

    def __post_init__(self) -> None:
        for bucket in (self.bucket, self.output_bucket):
            self.create_bucket(bucket)
        name = f"queue-{uuid4().hex[:12]}"
        self.dlq_url = self.aws.sqs.create_queue(QueueName=f"{name}-dlq")["QueueUrl"]
        attributes = {"VisibilityTimeout": "30"}
        if self.with_dlq:
            redrive = {
                "deadLetterTargetArn": self.arn(self.dlq_url),
                "maxReceiveCount": self.redrive_after,
            }
            attributes["RedrivePolicy"] = json.dumps(redrive)
        created = self.aws.sqs.create_queue(QueueName=name, Attributes=attributes)
        self.queue_url = created["QueueUrl"]

    def create_bucket(self, name: str) -> None:
        """One more bucket."""
        where = {"LocationConstraint": REGION}
        self.aws.s3.create_bucket(Bucket=name, CreateBucketConfiguration=where)

    def arn(self, queue_url: str) -> str:
        """The ARN of a queue."""
        return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue_url.rpartition('/')[2]}"

    def connect(self) -> None:
        """Let the bucket notify the queue of created objects, itself."""
        target = {"QueueArn": self.arn(self.queue_url), "Events": ["s3:ObjectCreated:*"]}
        self.aws.s3.put_bucket_notification_configuration(
            Bucket=self.bucket, NotificationConfiguration={"QueueConfigurations": [target]}
        )

    def put(self, key: str, data: bytes = b"some bytes\n", **more: Any) -> None:
        """Put an object into the input bucket."""
        self.aws.s3.put_object(Bucket=self.bucket, Key=key, Body=data, **more)

    def send(self, body: str | Mapping[str, Any], **attributes: str) -> str:
        """Send a message with these String attributes; its id."""
        text = body if isinstance(body, str) else json.dumps(body)
        own = {n: {"DataType": "String", "StringValue": v} for n, v in attributes.items()}
        sent = self.aws.sqs.send_message(
            QueueUrl=self.queue_url, MessageBody=text, MessageAttributes=own
        )
        return str(sent["MessageId"])

    def submit(self, key: str, data: bytes = b"some bytes\n", /, **attributes: str) -> str:
        """Put an object and send the message that S3 would send of it; the message's id."""
        self.put(key, data)
        return self.send(s3_event(self.bucket, key, size=len(data)), **attributes)

    def depth(self, queue_url: str | None = None) -> Depth:
        """How many messages the queue holds."""
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        got = self.aws.sqs.get_queue_attributes(
            QueueUrl=queue_url or self.queue_url, AttributeNames=list(names)
        )["Attributes"]
        return Depth(*(int(got[name]) for name in names))

    def visible_now(self) -> list[dict[str, Any]]:
        """The messages that a consumer would be given at this moment; they stay visible."""
        return self._receive(self.queue_url, VisibilityTimeout=0)

    def wait_visible(self, seconds: int = 20) -> float:
        """Long-poll until a message is visible again, which it stays; the seconds it took."""
        began = time.monotonic()
        found = self._receive(self.queue_url, VisibilityTimeout=0, WaitTimeSeconds=seconds)
        assert found, f"no message became visible in {seconds} s"
        return time.monotonic() - began

    def letters(self) -> list[Letter]:
        """Up to ten dead letters, left where they are."""
        return [Letter.of(message) for message in self.raw_letters()]

    def raw_letters(self) -> list[dict[str, Any]]:
        """Up to ten dead letters as SQS tells them, left where they are."""
        return self._receive(self.dlq_url, VisibilityTimeout=0)

    def drain_letters(self) -> list[Letter]:
        """All dead letters, taken away."""
        letters: list[Letter] = []
        while found := self.raw_letters():
            for message in found:
                letters.append(Letter.of(message))
                handle = message["ReceiptHandle"]
                self.aws.sqs.delete_message(QueueUrl=self.dlq_url, ReceiptHandle=handle)
        return letters

    def outputs(self, bucket: str | None = None) -> dict[str, bytes]:
        """The objects in the output bucket."""
        where = bucket or self.output_bucket
        listed = self.aws.s3.list_objects_v2(Bucket=where).get("Contents", [])
        keys = [item["Key"] for item in listed]
        return {k: self.aws.s3.get_object(Bucket=where, Key=k)["Body"].read() for k in keys}

    def open_uploads(self) -> list[str]:
        """The keys of multipart uploads that were neither completed nor aborted."""
        listed = self.aws.s3.list_multipart_uploads(Bucket=self.output_bucket)
        return [upload["Key"] for upload in listed.get("Uploads", [])]

    def _receive(self, queue_url: str, **more: Any) -> list[dict[str, Any]]:
        answer = self.aws.sqs.receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
            **more,
        )
        return list(answer.get("Messages", []))


def s3_event(
    bucket: str, key: str, *, size: int = 11, event: str = "ObjectCreated:Put"
) -> dict[str, Any]:
    """The body of S3's own message of one object."""
    return {"Records": [s3_record(bucket, key, size=size, event=event)]}


def s3_record(
    bucket: str, key: str, *, size: int = 11, event: str = "ObjectCreated:Put"
) -> dict[str, Any]:
    """One record of such a message; the key form-encoded, as S3 does it."""
    return {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": "2026-01-02T03:04:05.678Z",
        "eventName": event,
        "userIdentity": {"principalId": "EXAMPLE"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "everything",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {
                "key": quote_plus(key, safe="/"),
                "size": size,
                "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "sequencer": "0055AED6DCD90281E5",
            },
        },
    }
