"""What S3, SNS and EventBridge send, as their documentation shows it."""

import json
from copy import deepcopy
from typing import Any

RECORD: dict[str, Any] = {
    "eventVersion": "2.3",
    "eventSource": "aws:s3",
    "awsRegion": "eu-central-1",
    "eventTime": "2026-01-02T03:04:05.678Z",
    "eventName": "ObjectCreated:CompleteMultipartUpload",
    "userIdentity": {"principalId": "EXAMPLE"},
    "s3": {
        "s3SchemaVersion": "1.0",
        "configurationId": "everything",
        "bucket": {"name": "in", "arn": "arn:aws:s3:::in"},
        "object": {
            "key": "a+b/c%2Bd.csv",
            "size": 1024,
            "eTag": "d41d8cd98f00b204e9800998ecf8427e",
            "versionId": "096fKKXTRTtl3on89fVO.nfljtsv6qko",
            "sequencer": "0055AED6DCD90281E5",
        },
    },
}
DIRECT: dict[str, Any] = {"Records": [RECORD]}
EVENTBRIDGE: dict[str, Any] = {
    "version": "0",
    "id": "17793124-05d4-b198-2fde-7ededc63b103",
    "detail-type": "Object Created",
    "source": "aws.s3",
    "account": "123456789012",
    "region": "eu-central-1",
    "resources": ["arn:aws:s3:::in"],
    "detail": {
        "version": "0",
        "bucket": {"name": "in"},
        "object": {
            "key": "a+b/c%2Bd.csv",
            "size": 5,
            "etag": "b1946ac92492d2347c6235b4d2611184",
            "version-id": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
            "sequencer": "00617F08299329D189",
        },
        "request-id": "N4N7GDK58NMKJ12R",
        "requester": "123456789012",
        "reason": "PutObject",
    },
}
TEST_EVENT: dict[str, Any] = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2026-01-02T03:04:05.678Z",
    "Bucket": "in",
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR",
}


def sns(inner: Any) -> dict[str, Any]:
    """What SNS sends without raw delivery."""
    return {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": "arn:aws:sns:eu-central-1:123456789012:files",
        "Subject": "Amazon S3 Notification",
        "Message": inner if isinstance(inner, str) else json.dumps(inner),
        "Timestamp": "2026-01-02T03:04:05.678Z",
    }


def direct(**changes: Any) -> dict[str, Any]:
    """S3's own message with changes to its record."""
    return {"Records": [RECORD | changes]}


def with_key(key: str, **more: Any) -> dict[str, Any]:
    """S3's own message of another key, as it stands there."""
    made = deepcopy(DIRECT)
    made["Records"][0]["s3"]["object"] |= {"key": key, **more}
    return made
