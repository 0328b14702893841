"""Which queue policies let S3 deliver, as people and tools write them."""

import json
from typing import Any

import pytest

from app.checks import buckets
from app.settings import Allowed, Location
from app.stackfacts import BucketFacts, Feed, QueueFacts

ARN = "arn:aws:sqs:eu-central-1:123456789012:files"
BUCKET = BucketFacts("my-bucket", notification={})
FEED = Feed(("s3:ObjectCreated:*",))
SOURCE = {"ArnLike": {"aws:SourceArn": "arn:aws:s3:*:*:my-bucket"}}


def statement(**changes: Any) -> dict[str, Any]:
    """A statement that lets S3 send, but for these changes."""
    usual = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": ARN,
    }
    return usual | changes


@pytest.mark.parametrize(
    ("told", "delivers"),
    [
        (statement(), True),
        (statement(Condition=SOURCE), True),
        (statement(Principal="*", Condition=SOURCE), True),
        (statement(Principal={"AWS": "*"}, Action=["SQS:SendMessage"], Condition=SOURCE), True),
        (statement(Principal={"Service": ["sns.amazonaws.com", "s3.amazonaws.com"]}), True),
        (statement(Action="sqs:*"), True),
        (statement(Condition={"ArnEquals": {"AWS:SourceArn": ["arn:aws:s3:::my-bucket"]}}), True),
        (statement(Condition={"StringEquals": {"aws:SourceAccount": "123456789012"}}), True),
        (statement(Principal={"Service": "sns.amazonaws.com"}), False),
        (statement(Principal={"AWS": "arn:aws:iam::123456789012:root"}), False),
        (statement(Action="sqs:ReceiveMessage"), False),
        (statement(Effect="Deny"), False),
        (statement(Condition={"ArnEquals": {"aws:SourceArn": "arn:aws:s3:::theirs"}}), False),
    ],
)
def test_who_may_send(told: dict[str, Any], *, delivers: bool) -> None:
    """Found by `queue_policy` where S3 may not."""
    queue = QueueFacts("https://sqs/1/files", {"Policy": json.dumps({"Statement": told})})
    found = list(buckets.judge_input(BUCKET, [FEED], [Allowed("my-bucket")], [], queue))
    assert [one.name for one in found] == ([] if delivers else ["queue_policy"])


@pytest.mark.parametrize("certain", [True, False])
def test_only_what_was_seen_is_held_against_an_output(*, certain: bool) -> None:
    """A rule of EventBridge's, or a topic that may not be read, need not be about this bucket."""
    feed = Feed(("s3:ObjectCreated:*",), how="eventbridge", is_certain=certain)
    queue = QueueFacts("https://sqs/1/files", {})
    where = Location("my-results", "out/")
    found = list(buckets.judge_output([feed], where, "OUTPUT_URL", queue))
    assert [one.name for one in found] == (["outputs_notify"] if certain else [])
