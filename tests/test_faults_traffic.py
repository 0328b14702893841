"""What the fault proxy tells of calls, and that it hands them on as they came."""

import asyncio
import http.client
from collections.abc import Callable
from typing import Any

import pytest
from faults.proxy import FaultProxy
from faults.wire import Head, pieces
from harness.aws import Scene

KEY = "a folder/a+b%2Bc é.csv"


def multipart(s3: Any, scene: Scene) -> None:
    """Upload in one part, then begin another upload and throw it away."""
    where = {"Bucket": scene.bucket, "Key": KEY}
    upload = s3.create_multipart_upload(**where)["UploadId"]
    part = s3.upload_part(**where, UploadId=upload, PartNumber=1, Body=b"part")
    s3.list_parts(**where, UploadId=upload)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=parts)
    upload = s3.create_multipart_upload(**where)["UploadId"]
    s3.abort_multipart_upload(**where, UploadId=upload)


def single(s3: Any, scene: Scene) -> None:
    """Write, look at, read and delete one object."""
    where = {"Bucket": scene.bucket, "Key": KEY}
    s3.put_object(**where, Body=b"x")
    s3.head_object(**where)
    s3.get_object(**where)["Body"].read()
    s3.delete_object(**where)


@pytest.mark.parametrize(
    ("act", "names"),
    [
        (single, ["PutObject", "HeadObject", "GetObject", "DeleteObject"]),
        (
            multipart,
            [
                "CreateMultipartUpload",
                "UploadPart",
                "ListParts",
                "CompleteMultipartUpload",
                "CreateMultipartUpload",
                "AbortMultipartUpload",
            ],
        ),
    ],
)
def test_names_s3_calls(
    act: Callable[[Any, Scene], None],
    names: list[str],
    s3: Any,
    scene: Scene,
    proxy: FaultProxy,
) -> None:
    """S3 calls are known by AWS's names, their keys decoded once and only once."""
    act(s3, scene)

    assert proxy.names() == names
    assert {(call.bucket, call.key) for call in proxy.calls()} == {(scene.bucket, KEY)}
    assert all(call.status in (200, 204) for call in proxy.calls())


def test_names_sqs_calls(sqs: Any, scene: Scene, proxy: FaultProxy) -> None:
    """SQS calls are known by name, queue and input."""
    scene.send("body")
    got = sqs.receive_message(QueueUrl=scene.queue_url, VisibilityTimeout=7)["Messages"][0]
    sqs.delete_message(QueueUrl=scene.queue_url, ReceiptHandle=got["ReceiptHandle"])

    receive, delete = proxy.calls(service="sqs")
    assert (receive.name, delete.name) == ("ReceiveMessage", "DeleteMessage")
    assert scene.queue_url.endswith("/" + receive.queue)
    assert receive.parameters["VisibilityTimeout"] == 7
    assert delete.parameters["ReceiptHandle"] == got["ReceiptHandle"]
    assert receive.answered_at is not None
    assert receive.answered_at <= delete.at


def test_hands_bodies_on_unchanged(s3: Any, scene: Scene) -> None:
    """What goes through is what came: aws-chunked with its trailer, Expect: 100-continue, 12 MB."""
    data = bytes(range(256)) * 48_000

    s3.put_object(Bucket=scene.bucket, Key=KEY, Body=data, ChecksumAlgorithm="SHA256")

    assert s3.get_object(Bucket=scene.bucket, Key=KEY)["Body"].read() == data
    assert s3.head_object(Bucket=scene.bucket, Key=KEY)["ContentLength"] == len(data)


def test_keeps_the_callers_connection(scene: Scene, proxy: FaultProxy) -> None:
    """One connection serves many requests, those with a chunked body among them."""
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=5)
    scene.put("there", b"1234")
    scene.aws.s3.put_bucket_acl(Bucket=scene.bucket, ACL="public-read-write")
    scene.aws.s3.put_object_acl(Bucket=scene.bucket, Key="there", ACL="public-read")
    sockets = set()

    for method, key, body in [("GET", "there", None), ("PUT", "new", [b"12", b"3"])] * 2:
        connection.request(method, f"/{scene.bucket}/{key}", body, encode_chunked=bool(body))
        with connection.getresponse() as response:
            sockets.add(connection.sock)
            assert response.status == 200
            assert response.read() == (b"1234" if method == "GET" else b"")
    connection.close()

    assert len(sockets) == 1
    assert scene.outputs(scene.bucket)["new"] == b"123"


async def test_reads_a_chunked_response_piece_by_piece() -> None:
    """Of a chunked body the content is told from the framing, to the end of the trailer."""
    raw = b"4;x=1\r\nabcd\r\n2\r\nef\r\n0\r\nTrailer: x\r\n\r\n"
    reader = asyncio.StreamReader()
    reader.feed_data(raw + b"HTTP/1.1 200 next")
    head = Head("HTTP/1.1 200 OK", (("Transfer-Encoding", "chunked"),))

    got = [piece async for piece in pieces(reader, head, until_close=True)]

    assert b"".join(piece.raw for piece in got) == raw
    assert b"".join(piece.raw for piece in got if piece.payload) == b"abcdef"
