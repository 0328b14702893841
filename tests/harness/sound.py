"""A scene with which nothing is wrong, for `check` to find nothing in."""

import json
from typing import Any

from harness.aws import Scene

FORTNIGHT = str(14 * 86_400)


def make_sound(scene: Scene) -> None:
    """Give the queues, policies, notification and lifecycle rules that a deployed stack has."""
    sqs = scene.aws.sqs
    set_attributes(scene, scene.queue_url, MessageRetentionPeriod=FORTNIGHT)
    sqs.set_queue_attributes(
        QueueUrl=scene.dlq_url,
        Attributes={
            "MessageRetentionPeriod": FORTNIGHT,
            "RedriveAllowPolicy": json.dumps(
                {
                    "redrivePermission": "byQueue",
                    "sourceQueueArns": [scene.arn(scene.queue_url)],
                }
            ),
        },
    )
    admit(scene, scene.bucket)
    notify(scene, prefix="incoming/")
    rules = [
        expiring("records", "ledger/", 35),
        {
            "ID": "uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 3},
        },
    ]
    scene.aws.s3.put_bucket_lifecycle_configuration(
        Bucket=scene.output_bucket, LifecycleConfiguration={"Rules": rules}
    )


def set_attributes(scene: Scene, url: str, **attributes: str) -> None:
    """Change attributes of a queue."""
    scene.aws.sqs.set_queue_attributes(QueueUrl=url, Attributes=attributes)


def redrive(scene: Scene, receives: int) -> None:
    """Let SQS itself move a message after so many receives."""
    policy = {"deadLetterTargetArn": scene.arn(scene.dlq_url), "maxReceiveCount": receives}
    set_attributes(scene, scene.queue_url, RedrivePolicy=json.dumps(policy))


def admit(scene: Scene, bucket: str) -> None:
    """Let the events of this bucket alone into the queue."""
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": scene.arn(scene.queue_url),
        "Condition": {"ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{bucket}"}},
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    set_attributes(scene, scene.queue_url, Policy=json.dumps(policy))


def notify(
    scene: Scene, bucket: str = "", events: str = "s3:ObjectCreated:*", prefix: str = ""
) -> None:
    """Let a bucket, by default the input, tell the queue of such objects."""
    target: dict[str, Any] = {"QueueArn": scene.arn(scene.queue_url), "Events": [events]}
    if prefix:
        target["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": prefix}]}}
    scene.aws.s3.put_bucket_notification_configuration(
        Bucket=bucket or scene.bucket,
        NotificationConfiguration={"QueueConfigurations": [target]},
    )


def expiring(name: str, prefix: str, days: int) -> dict[str, Any]:
    """A lifecycle rule."""
    return {
        "ID": name,
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "Expiration": {"Days": days},
    }
