"""The fault proxy, between boto3 and a real local S3 and SQS."""

import contextlib
import http.client
import threading
import time
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, ReadTimeoutError  # noqa: A004
from faults.plan import (
    Answer,
    Cut,
    Delay,
    Drop,
    Fault,
    Gate,
    Reset,
    Rule,
    When,
    s3_error,
    sqs_error,
)
from faults.proxy import FaultProxy
from harness.aws import Scene, client


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Cut(), ConnectionError),
        (Reset(), ConnectionError),
        (Drop(), ReadTimeoutError),
        (s3_error(503, "SlowDown"), ClientError),
    ],
)
def test_before_means_no_effect_and_after_means_an_effect(
    fault: Fault, error: type[Exception], when: When, scene: Scene, proxy: FaultProxy
) -> None:
    """A fault before a call leaves the server untouched; one after it loses only the answer."""
    proxy.add(Rule("PutObject", fault, when))
    s3 = client("s3", proxy.url, read_timeout=0.5)

    # botocore wraps a reset in one of its two families, by the moment at which it is noticed.
    with pytest.raises((error, BotoCoreError) if error is ConnectionError else error):
        s3.put_object(Bucket=scene.bucket, Key="k", Body=b"x")

    assert list(scene.outputs(scene.bucket)) == (["k"] if when == "after" else [])
    assert proxy.calls("PutObject")[0].faults == [type(fault).__name__]


@pytest.mark.parametrize(("fault", "end"), [(Cut(), b"cut"), (Reset(), b"reset")])
def test_breaks_a_response_in_its_middle(
    fault: Fault, end: bytes, scene: Scene, proxy: FaultProxy
) -> None:
    """So many bytes of a response come, and then its end, in good order or not."""
    scene.put("k", bytes(200_000))
    scene.aws.s3.put_object_acl(Bucket=scene.bucket, Key="k", ACL="public-read")
    proxy.add(Rule("GetObject", fault, after_bytes=100_001))
    connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=5)
    connection.request("GET", f"/{scene.bucket}/k")
    response = connection.getresponse()

    got, ended = 0, b"cut"
    try:
        while chunk := response.read1(65536):
            got += len(chunk)
    except ConnectionResetError:
        ended = b"reset"
    connection.close()

    assert ended == end
    # A reset may overtake the bytes before it.
    assert got == 100_001 if end == b"cut" else got <= 100_001


def test_goes_on_after_a_delay(s3: Any, scene: Scene, proxy: FaultProxy) -> None:
    """A delayed call is late and otherwise whole, also where the delay is within its body."""
    scene.put("k", b"0123456789")
    proxy.add(Rule("GetObject", Delay(0.2)), Rule("GetObject", Delay(0.2), after_bytes=3))
    began = time.monotonic()

    assert s3.get_object(Bucket=scene.bucket, Key="k")["Body"].read() == b"0123456789"

    assert time.monotonic() - began >= 0.4
    assert proxy.calls()[0].faults == ["Delay", "Delay"]


def test_happens_to_the_calls_it_is_meant_for(s3: Any, scene: Scene, proxy: FaultProxy) -> None:
    """A rule picks by name, by a condition, and by number among those that fit."""
    proxy.add(
        Rule("GetObject", Answer(503), first=2, times=2, where=lambda call: call.key == "picked"),
    )
    scene.put("picked")
    scene.put("other")
    statuses = []

    for key in ["picked", "other", "picked", "other", "picked", "picked"]:
        with contextlib.suppress(ClientError):
            s3.get_object(Bucket=scene.bucket, Key=key)["Body"].read()
        statuses.append(proxy.calls()[-1].status)

    assert statuses == [200, 200, 503, 200, 503, 200]


def test_answers_as_sqs_does(sqs: Any, scene: Scene, proxy: FaultProxy) -> None:
    """A made-up SQS error reaches boto3 with both of its codes."""
    proxy.add(Rule("ChangeMessageVisibility", sqs_error(400, "MessageNotInflight")))

    with pytest.raises(ClientError) as caught:
        sqs.change_message_visibility(
            QueueUrl=scene.queue_url, ReceiptHandle="h", VisibilityTimeout=0
        )

    error = caught.value.response["Error"]
    assert error["Code"] == "AWS.SimpleQueueService.MessageNotInflight"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400


@pytest.mark.parametrize("when", ["before", "after"])
def test_holds_a_call_at_a_gate(s3: Any, when: When, scene: Scene, proxy: FaultProxy) -> None:
    """The test learns that a call has come, and it goes on only when the test says so."""
    gate = proxy.hold("PutObject", when=when)
    put = threading.Thread(
        target=lambda: s3.put_object(Bucket=scene.bucket, Key="k", Body=b"x"), daemon=True
    )
    put.start()

    assert gate.wait().key == "k"
    assert list(scene.outputs(scene.bucket)) == (["k"] if when == "after" else [])
    assert proxy.calls()[0].answered_at is None

    gate.open()
    assert proxy.wait_for("PutObject").status == 200
    put.join(5)
    assert scene.outputs(scene.bucket) == {"k": b"x"}


def test_tells_a_caller_that_gave_up(scene: Scene, proxy: FaultProxy) -> None:
    """A call whose caller went away before the answer came is known as abandoned."""
    gate = proxy.hold("GetObject", when="after")
    scene.put("k")
    with pytest.raises(ReadTimeoutError):
        client("s3", proxy.url, read_timeout=0.3).get_object(Bucket=scene.bucket, Key="k")
    call = gate.wait()
    gate.open()

    proxy.wait_for("GetObject")
    assert call.abandoned


@pytest.mark.parametrize("fault", [Drop(), Gate(), Delay(60)])
def test_stops_at_once_whatever_is_under_way(fault: Fault, aws: Any, scene: Scene) -> None:
    """Leaving the context ends held, dropped and delayed calls, and the thread with them."""
    with FaultProxy(aws.url, [Rule("*", fault)]) as proxy:
        connection = http.client.HTTPConnection(proxy.url.removeprefix("http://"), timeout=5)
        connection.request("GET", f"/{scene.bucket}/k")
        proxy.wait_for("*", over=False)
        began = time.monotonic()

    assert time.monotonic() - began < 2
    connection.close()
