"""Which AWS call a request is, by the names AWS gives them."""

import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from faults.wire import Head

# What follows is read from top to bottom: the first row whose query names are all there wins.
_OBJECT_CALLS: tuple[tuple[str, frozenset[str], str], ...] = (
    ("GET", frozenset({"uploadId"}), "ListParts"),
    ("GET", frozenset({"attributes"}), "GetObjectAttributes"),
    ("GET", frozenset({"tagging"}), "GetObjectTagging"),
    ("GET", frozenset(), "GetObject"),
    ("HEAD", frozenset(), "HeadObject"),
    ("PUT", frozenset({"partNumber", "uploadId"}), "UploadPart"),
    ("PUT", frozenset({"tagging"}), "PutObjectTagging"),
    ("PUT", frozenset(), "PutObject"),
    ("POST", frozenset({"uploads"}), "CreateMultipartUpload"),
    ("POST", frozenset({"uploadId"}), "CompleteMultipartUpload"),
    ("DELETE", frozenset({"uploadId"}), "AbortMultipartUpload"),
    ("DELETE", frozenset(), "DeleteObject"),
)
_BUCKET_CALLS: tuple[tuple[str, frozenset[str], str], ...] = (
    ("GET", frozenset({"uploads"}), "ListMultipartUploads"),
    ("GET", frozenset({"list-type"}), "ListObjectsV2"),
    ("GET", frozenset({"notification"}), "GetBucketNotificationConfiguration"),
    ("PUT", frozenset({"notification"}), "PutBucketNotificationConfiguration"),
    ("GET", frozenset({"versioning"}), "GetBucketVersioning"),
    ("GET", frozenset({"location"}), "GetBucketLocation"),
    ("HEAD", frozenset(), "HeadBucket"),
    ("PUT", frozenset(), "CreateBucket"),
    ("POST", frozenset({"delete"}), "DeleteObjects"),
    ("DELETE", frozenset(), "DeleteBucket"),
)
_COPIES = {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}


@dataclass(slots=True)
class Call:
    """One request that the proxy saw, and what became of it.

    Attributes:
        service: `s3`, `sqs`, or empty where the request is of neither.
        name: as AWS calls it: `GetObject`, `ReceiveMessage`.
        queue: the name of the queue, of an SQS call that has one.
        parameters: of an SQS call, its input; of an S3 call, its query.
        headers: of the request, names in lower case.
        at: `time.monotonic()` once the request was here in full.
        answered_at: when the last byte of the answer had been sent on; None if it never was.
        ended_at: when it was over, answered or not.
        status: that of the server, or of the answer put in its place.
        abandoned: the caller had closed its connection before it was answered.
        faults: what was done to it, in order.
    """

    service: str
    name: str
    bucket: str = ""
    key: str = ""
    queue: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    body_bytes: int = 0
    at: float = field(default_factory=time.monotonic)
    answered_at: float | None = None
    ended_at: float | None = None
    status: int | None = None
    abandoned: bool = False
    faults: list[str] = field(default_factory=list)


def classify(head: Head, body: bytes) -> Call:
    """The call that a request is; of a protocol unknown here, the method and path."""
    method, target, _ = head.start.split(" ")
    headers = {name.lower(): value for name, value in head.fields}
    service, _, operation = headers.get("x-amz-target", "").partition(".")
    if service == "AmazonSQS":
        call = _sqs_call(operation, body)
    else:
        call = _s3_call(method, target, headers)
    call.headers = headers
    call.body_bytes = len(body)
    return call


def _sqs_call(operation: str, body: bytes) -> Call:
    parameters = json.loads(body or b"{}")
    url = parameters.get("QueueUrl", "")
    queue = url.rpartition("/")[2] or parameters.get("QueueName", "")
    return Call("sqs", operation, queue=queue, parameters=parameters)


def _s3_call(method: str, target: str, headers: dict[str, str]) -> Call:
    parts = urlsplit(target)
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    # The path itself is taken as it is: a plus in it is a plus, unlike in a query.
    bucket, _, key = parts.path.removeprefix("/").partition("/")
    table = _OBJECT_CALLS if key else _BUCKET_CALLS
    rows = (name for verb, needs, name in table if verb == method and needs <= query.keys())
    name = next(rows, None)
    if name is None:
        return Call("", f"{method} {parts.path}", parameters=query)
    if "x-amz-copy-source" in headers:
        name = _COPIES.get(name, name)
    return Call("s3", name, bucket=unquote(bucket), key=unquote(key), parameters=query)
