"""Reads what a stack is like, and asks what it permits, by calls that change nothing."""

import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

# First, since it decides what the SDK imports.
import app.aws.startup  # isort: skip  # noqa: F401

import msgspec
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from app.aws import plain
from app.aws.errors import DENIED_CODES, MISSING_CODES, codes_of, translated
from app.aws.redrive import named_by
from app.outcomes import FailureError
from app.settings import Location
from app.stackfacts import BucketFacts, Feed, QueueFacts, Unread

_CONFIG = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3})
# Nothing of this name is ever made.
_PROBE = f"check-{secrets.token_hex(8)}"


class Permission(msgspec.Struct, frozen=True):
    """Whether one action is permitted; `why` where it is not."""

    action: str
    where: str
    why: str = ""


class Inspector:
    """Looks at one stack with the credentials of the environment."""

    def __init__(self, owner: str | None) -> None:
        self._owner = {"ExpectedBucketOwner": owner} if owner else {}
        self._clients: dict[str, Any] = {}

    def queue(self, url: str) -> QueueFacts:
        """A queue's attributes.

        Raises:
            FailureError: it is not there, or cannot be asked.
        """
        with translated(f"asking for the attributes of {url}"):
            answer = self._client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
        return QueueFacts(url, answer.get("Attributes", {}), _skew(answer))

    def dead_letters_of(self, queue: QueueFacts) -> QueueFacts | None:
        """The queue that the redrive policy names, None where there is no policy.

        Raises:
            FailureError: it is not there, or cannot be asked.
        """
        policy = queue.attributes.get("RedrivePolicy")
        if not policy:
            return None
        with translated("looking for the dead-letter queue", queue="RedrivePolicy"):
            found = self._client("sqs").get_queue_url(**named_by(policy))
        return self.queue(found["QueueUrl"])

    def bucket(self, name: str) -> BucketFacts:
        """A bucket's notification and lifecycle.

        Raises:
            FailureError: it is not there, is another account's, or cannot be reached.
        """
        s3 = self._client("s3")
        with translated(f"asking for the bucket {name}"):
            s3.head_bucket(Bucket=name, **self._owner)
        unread: list[Unread] = []
        at = {"Bucket": name, **self._owner}
        notification = _tried(
            lambda: s3.get_bucket_notification_configuration(**at), "the notification", unread
        )
        lifecycle = _tried(
            lambda: s3.get_bucket_lifecycle_configuration(**at), "the lifecycle rules", unread
        )
        return BucketFacts(
            name,
            notification,
            None if lifecycle is None else lifecycle.get("Rules", []),
            tuple(unread),
        )

    def feeds(self, bucket: BucketFacts, queue: QueueFacts) -> tuple[list[Feed], list[Unread]]:
        """The ways in which this bucket's events come to this queue."""
        told = bucket.notification or {}
        unread: list[Unread] = []
        feeds = [
            _feed(one, "queue")
            for one in told.get("QueueConfigurations", ())
            if one.get("QueueArn") == queue.arn
        ]
        for one in told.get("TopicConfigurations", ()):
            subscribed = self._is_subscribed(one["TopicArn"], queue.arn, unread)
            if subscribed is not False:
                feed = _feed(one, "topic")
                feeds.append(msgspec.structs.replace(feed, is_certain=subscribed is True))
        if "EventBridgeConfiguration" in told and self._has_rule(queue.arn, unread):
            # Neither the rule's pattern nor the bucket in it is looked at.
            every = ("s3:ObjectCreated:*",)
            feeds.append(Feed(every, how="eventbridge", is_certain=False))
        return feeds, unread

    def permissions(
        self, queue: QueueFacts, dlq: QueueFacts | None, inputs: list[Location]
    ) -> Iterator[Permission]:
        """What the worker does to queues and inputs, each by a call that does nothing."""
        sqs, s3 = self._client("sqs"), self._client("s3")
        handle = {"QueueUrl": queue.url, "ReceiptHandle": _PROBE}
        # More messages than can be asked for at once: refused, but only to who may ask.
        yield _permitted(
            "sqs:ReceiveMessage",
            queue.arn,
            lambda: sqs.receive_message(QueueUrl=queue.url, MaxNumberOfMessages=11),
        )
        yield _permitted(
            "sqs:ChangeMessageVisibility",
            queue.arn,
            lambda: sqs.change_message_visibility(**handle, VisibilityTimeout=0),
        )
        yield _permitted("sqs:DeleteMessage", queue.arn, lambda: sqs.delete_message(**handle))
        if dlq is not None:
            # Nothing of it is valid: whoever is lenient about one part refuses another.
            nonsense: dict[str, Any] = {
                "MessageBody": "",
                "DelaySeconds": 901,
                "MessageAttributes": {"check": {"DataType": "Nonsense", "StringValue": "nothing"}},
            }
            yield _permitted(
                "sqs:SendMessage",
                dlq.arn,
                lambda: sqs.send_message(QueueUrl=dlq.url, **nonsense),
            )
        for where in inputs:
            yield from self._may_read(s3, where)

    def _may_read(self, s3: Any, where: Location) -> Iterator[Permission]:
        arn = f"arn:aws:s3:::{where.bucket}"
        at = {"Bucket": where.bucket, **self._owner}
        listing = _permitted(
            "s3:ListBucket",
            arn,
            lambda: s3.list_objects_v2(**at, Prefix=where.prefix, MaxKeys=1),
        )
        yield listing
        reading = _permitted(
            "s3:GetObject",
            f"{arn}/{where.prefix}*",
            lambda: s3.get_object(**at, Key=where.key(_PROBE)),
        )
        # Without s3:ListBucket an object that is missing is forbidden too: nothing is known then.
        if not listing.why:
            yield reading

    def output_permissions(self, where: Location) -> Iterator[Permission]:
        """Whether outputs can be written: an upload is begun, and thrown away."""
        s3 = self._client("s3")
        at = {"Bucket": where.bucket, "Key": where.key(_PROBE), **self._owner}
        arn = f"arn:aws:s3:::{where.bucket}/{where.prefix}*"
        begun: dict[str, Any] = {}
        putting = _permitted(
            "s3:PutObject", arn, lambda: begun.update(s3.create_multipart_upload(**at))
        )
        yield putting
        upload = {**at, "UploadId": begun.get("UploadId", _PROBE)}
        yield _permitted("s3:ListMultipartUploadParts", arn, lambda: s3.list_parts(**upload))
        yield _permitted(
            "s3:AbortMultipartUpload", arn, lambda: s3.abort_multipart_upload(**upload)
        )
        yield from self._may_read(s3, where)

    def _is_subscribed(self, topic: str, queue_arn: str, unread: list[Unread]) -> bool | None:
        """Whether the topic sends to the queue; None where that cannot be read."""
        sns = self._client("sns")
        pages = _tried(
            lambda: {
                "all": list(
                    sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
                )
            },
            f"the subscriptions of {topic}",
            unread,
        )
        if pages is None:
            return None
        ends = [one["Endpoint"] for page in pages["all"] for one in page["Subscriptions"]]
        return queue_arn in ends

    def _has_rule(self, queue_arn: str, unread: list[Unread]) -> bool:
        events = self._client("events")
        found = _tried(
            lambda: events.list_rule_names_by_target(TargetArn=queue_arn),
            "EventBridge's rules",
            unread,
        )
        return found is None or bool(found.get("RuleNames"))

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = plain.client(service, _CONFIG)
        return self._clients[service]


def _feed(told: Mapping[str, Any], how: str) -> Feed:
    rules = told.get("Filter", {}).get("Key", {}).get("FilterRules", ())
    named = {str(rule["Name"]).lower(): str(rule["Value"]) for rule in rules}
    return Feed(tuple(told["Events"]), named.get("prefix", ""), named.get("suffix", ""), how)


def _skew(answer: Mapping[str, Any]) -> float | None:
    """Of this machine's clock, by the answer's own date, which has whole seconds."""
    told = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        return time.time() - parsedate_to_datetime(str(told)).timestamp()
    except (TypeError, ValueError):
        return None


def _tried(
    ask: Callable[[], dict[str, Any]], what: str, unread: list[Unread]
) -> dict[str, Any] | None:
    """The answer; empty where there is nothing of the kind, None where it cannot be read."""
    try:
        return ask()
    except ClientError as error:
        if any(code.startswith("NoSuch") for code in codes_of(error)):
            return {}
        unread.append(Unread(what, str(error)))
    except BotoCoreError as error:
        unread.append(Unread(what, str(error)))
    return None


def _permitted(action: str, where: str, call: Callable[[], Any]) -> Permission:
    """Whether the call is refused for want of a permission; what else comes of it is no matter."""
    try:
        with translated(action):
            call()
    except FailureError as error:
        cause = error.__cause__
        if not isinstance(cause, ClientError):
            raise
        codes = codes_of(cause)
        if codes & DENIED_CODES and not codes & MISSING_CODES:
            return Permission(action, where, str(cause))
    return Permission(action, where)
