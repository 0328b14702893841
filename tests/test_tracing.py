"""Traces: the sender's ids on every log line, and spans for whoever collects them."""

import socket
import time
from contextlib import closing
from pathlib import Path

import pytest
from fakes import message
from harness.aws import Scene, s3_event
from harness.book import Book
from harness.collector import Collector
from harness.launch import COPY, Launcher
from harness.process import REPOSITORY, Worker

from app.telemetry.tracing import TraceContext, context_of

TRACE, SENDER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TRACEPARENT = f"00-{TRACE}-{SENDER}-01"
XRAY = f"Root=1-{TRACE[:8]}-{TRACE[8:]};Parent={SENDER};Sampled=1"
FOUND = TraceContext(TRACE, SENDER)


def attributes(traceparent: str) -> dict[str, dict[str, str]]:
    """The message attributes of a sender who is traced."""
    return {"traceparent": {"DataType": "String", "StringValue": traceparent}}


@pytest.mark.parametrize(
    ("traceparent", "xray", "expected"),
    [
        (TRACEPARENT, "", FOUND),
        (TRACEPARENT, "Root=1-00000001-000000000000000000000002", FOUND),
        (f"00-{TRACE}-{SENDER}-00", "", TraceContext(TRACE, SENDER, sampled=False)),
        (f"cc-{TRACE}-{SENDER}-01-of-a-later-version", "", FOUND),
        (f"ff-{TRACE}-{SENDER}-01", "", None),
        (f"00-{'0' * 32}-{SENDER}-01", "", None),
        (f"00-{TRACE}-{'0' * 16}-01", "", None),
        ("nonsense", XRAY, FOUND),
        ("", XRAY, FOUND),
        ("", XRAY.replace("Sampled=1", "Sampled=0"), TraceContext(TRACE, SENDER, sampled=False)),
        ("", f"Self=1-2-3; {XRAY}", FOUND),
        ("", f"Root=1-{TRACE[:8]}-{TRACE[8:]}", TraceContext(TRACE, "0" * 16)),
        ("", "Root=1-x-y;Parent=z", None),
        ("", "", None),
    ],
)
def test_where_the_sender_was(traceparent: str, xray: str, expected: TraceContext | None) -> None:
    """W3C's header before SQS's own; what is malformed is as good as absent."""
    told = attributes(traceparent) if traceparent else {}
    assert context_of(message(attributes=told, trace_header=xray)) == expected


def of_the_message(worker: Worker) -> list[dict[str, object]]:
    """The log lines that name a message."""
    return [line for line in worker.lines if "message_id" in line]


def test_every_line_of_a_message_names_its_trace(scene: Scene, start: Launcher) -> None:
    """Without any collector, or anything installed for one."""
    scene.put("k")
    scene.send(s3_event(scene.bucket, "k"), traceparent=TRACEPARENT)
    worker = start("async def handle(job): job.log.info('mine')")
    assert worker.wait() == 0
    lines = of_the_message(worker)
    assert {"message_received", "mine", "message_deleted"} <= {str(line["event"]) for line in lines}
    assert {(line["trace_id"], line["span_id"]) for line in lines} == {(TRACE, SENDER)}


def test_sqs_own_header_counts_too_and_goes_on_with_the_letter(
    scene: Scene, start: Launcher
) -> None:
    """AWSTraceHeader, which a traced uploader's SNS or Lambda sets."""
    header = {"DataType": "String", "StringValue": XRAY}
    scene.aws.sqs.send_message(
        QueueUrl=scene.queue_url,
        MessageBody="no event",
        MessageSystemAttributes={"AWSTraceHeader": header},
    )
    worker = start(COPY)
    assert worker.wait() == 65
    assert {line["trace_id"] for line in of_the_message(worker)} == {TRACE}
    (letter,) = scene.aws.sqs.receive_message(
        QueueUrl=scene.dlq_url, MessageSystemAttributeNames=["All"]
    )["Messages"]
    assert letter["Attributes"]["AWSTraceHeader"] == XRAY


def test_the_spans_of_a_message(scene: Scene, book: Book, start: Launcher) -> None:
    """receive, process; below it handle, commit and settle: in the sender's trace."""
    scene.put("k")
    scene.send(s3_event(scene.bucket, "k"), traceparent=TRACEPARENT)
    with Collector() as collector:
        worker = start(
            COPY,
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            OTEL_RESOURCE_ATTRIBUTES="team=blue,service.name=files",
        )
        assert worker.wait() == 0
        spans = collector.spans
    assert spans.keys() == {"receive", "process", "handle", "commit", "settle"}
    assert {span.trace_id.hex() for span in spans.values()} == {TRACE}
    process = spans["process"]
    assert spans["receive"].parent_span_id.hex() == process.parent_span_id.hex() == SENDER
    for name in ("handle", "commit", "settle"):
        assert spans[name].parent_span_id == process.span_id
        assert process.start_time_unix_nano <= spans[name].start_time_unix_nano
        assert spans[name].end_time_unix_nano <= process.end_time_unix_nano
    told = {one.key: one.value.string_value for one in process.attributes}
    assert (told["outcome"], told["messaging.system"]) == ("done", "aws_sqs")
    assert {line["span_id"] for line in of_the_message(worker)} == {process.span_id.hex()}
    assert collector.resource["service.name"] == "files"
    assert collector.resource["team"] == "blue"
    assert collector.resource["k8s.pod.name"] == "pod-0"


def test_a_failure_is_an_error_of_its_spans(scene: Scene, start: Launcher) -> None:
    """What the handler raised is said on both; a message without a trace begins one."""
    scene.submit("k")
    with Collector() as collector:
        worker = start(
            "async def handle(job): raise ValueError('row 7')",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        )
        assert worker.wait() == 75
        spans = collector.spans
    assert not spans["process"].parent_span_id
    for name in ("handle", "process"):
        assert spans[name].status.code == 2
        assert "row 7" in spans[name].status.message


def test_a_trace_that_is_not_sampled_sends_nothing(scene: Scene, start: Launcher) -> None:
    """The sender decides; the ids are logged all the same."""
    scene.put("k")
    scene.send(s3_event(scene.bucket, "k"), traceparent=f"00-{TRACE}-{SENDER}-00")
    with Collector() as collector:
        worker = start(COPY, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
        assert worker.wait() == 0
        assert collector.spans == {}
    assert {line["trace_id"] for line in of_the_message(worker)} == {TRACE}


@pytest.mark.parametrize("kind", ["is down", "never answers", "fails"])
def test_a_collector_that_fails_changes_nothing(kind: str, scene: Scene, start: Launcher) -> None:
    """Outcome and exit code as without it, within two seconds more; and the log says so."""
    scene.submit("k")
    with closing(socket.socket()) as deaf, Collector(status=400) as failing:
        deaf.bind(("127.0.0.1", 0))
        if kind == "never answers":
            deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        worker = start(COPY, OTEL_EXPORTER_OTLP_ENDPOINT=failing.url if kind == "fails" else url)
        settled = worker.wait_for_event("message_deleted")
        began = time.monotonic()
        assert worker.wait() == 0
        assert time.monotonic() - began < 5, settled
    assert worker.events("spans_lost")


def test_a_protocol_that_is_not_spoken(scene: Scene, start: Launcher) -> None:
    """Said once, and the job goes on without spans."""
    scene.submit("k")
    worker = start(
        COPY,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        OTEL_EXPORTER_OTLP_PROTOCOL="grpc",
    )
    assert worker.wait() == 0
    (line,) = worker.events("spans_lost")
    assert "OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc'" in line["why"]


def test_without_the_extra(scene: Scene, start: Launcher, tmp_path: Path) -> None:
    """Said once, with what to install, and the job goes on without spans."""
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['opentelemetry'] = None")
    scene.submit("k")
    worker = start(
        COPY,
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1",
        PYTHONPATH=f"{tmp_path}:{REPOSITORY}",
    )
    assert worker.wait() == 0
    (line,) = worker.events("spans_lost")
    assert "sqs-file-processor[otel]" in line["why"]


def test_nothing_is_imported_where_nobody_asks(scene: Scene, start: Launcher) -> None:
    """Tracing costs nothing where it is not configured."""
    scene.submit("k")
    worker = start(
        """
        async def handle(job):
            job.log.info("loaded", names=[n for n in sys.modules if n.startswith("opentelemetry")])
        """
    )
    assert worker.wait() == 0
    assert worker.events("loaded")[0]["names"] == []
