"""Hands spans to an OpenTelemetry collector, where one is configured and the extra is installed.

From a thread of its own, which also imports the SDK: a job neither waits for it nor fails by it.
"""

import threading
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from app.telemetry.tracing import Span

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_KINDS = {"receive": "CLIENT", "process": "CONSUMER"}


def is_wanted(environ: Mapping[str, str]) -> bool:
    """Whether OpenTelemetry's own variables ask for spans to be sent."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if "otlp" not in environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        return False
    return any(environ.get(name) for name in _ENDPOINTS)


def hindrance(environ: Mapping[str, str]) -> str | None:
    """Why spans that are wanted cannot be sent, if they cannot."""
    asked = next((environ[name] for name in _PROTOCOLS if environ.get(name)), _PROTOCOL)
    if asked != _PROTOCOL:
        return f"OTEL_EXPORTER_OTLP_PROTOCOL: {asked!r}; expected: {_PROTOCOL}"
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        return "spans need sqs-file-processor[otel]"
    return None


class SpanExport:
    """Sends spans as they end.

    Args:
        resource: what this process is, beside what OTEL_RESOURCE_ATTRIBUTES says of it.
    """

    def __init__(self, resource: Mapping[str, str]) -> None:
        self._resource = dict(resource)
        self._waiting: SimpleQueue[Span | threading.Event] = SimpleQueue()
        self._failed: Exception | None = None
        threading.Thread(target=self._run, name="spans", daemon=True).start()

    def add(self, span: Span) -> None:
        """Send the span as soon as can be; returns at once."""
        self._waiting.put(span)

    def flush(self) -> threading.Event:
        """The event tells when all that was added before has been sent."""
        sent = threading.Event()
        self._waiting.put(sent)
        return sent

    def finish(self, sent: threading.Event, seconds: float) -> Exception | None:
        """Wait for a flush, but no longer than this; why spans were lost, if some were."""
        if not sent.wait(seconds):
            return TimeoutError(f"no answer within {seconds:.1f} s")
        return self._failed

    def _run(self) -> None:
        try:
            exporter, resource = self._open()
        except Exception as error:  # noqa: BLE001 - told at the end; the job goes on
            self._failed = error
            exporter = resource = None
        while True:
            taken = [self._waiting.get(), *_drained(self._waiting)]
            spans = [one for one in taken if isinstance(one, Span)]
            if spans and exporter is not None:
                self._send(exporter, [_readable(span, resource) for span in spans])
            for one in taken:
                if isinstance(one, threading.Event):
                    one.set()

    def _open(self) -> tuple[Any, Any]:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource

        # What the environment says of the service comes before what the program knows.
        told = Resource.create()
        return OTLPSpanExporter(), Resource(self._resource).merge(told)

    def _send(self, exporter: Any, spans: "Sequence[ReadableSpan]") -> None:
        try:
            if exporter.export(spans).name != "SUCCESS":
                self._failed = RuntimeError(f"the collector did not take {len(spans)} spans")
        except Exception as error:  # noqa: BLE001 - told at the end; the job goes on
            self._failed = error


def _drained(waiting: "SimpleQueue[Span | threading.Event]") -> "list[Span | threading.Event]":
    taken = []
    while True:
        try:
            taken.append(waiting.get_nowait())
        except Empty:
            return taken


def _readable(span: Span, resource: "Resource") -> "ReadableSpan":
    """The span as OpenTelemetry's exporters take it."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, TraceFlags
    from opentelemetry.trace.status import Status, StatusCode

    def context(span_id: str, *, remote: bool) -> SpanContext:
        sampled = TraceFlags(TraceFlags.SAMPLED)
        return SpanContext(
            int(span.context.trace_id, 16), int(span_id, 16), is_remote=remote, trace_flags=sampled
        )

    parented = bool(span.parent_id.strip("0"))
    return ReadableSpan(
        name=span.name,
        context=context(span.context.span_id, remote=False),
        parent=context(span.parent_id, remote=False) if parented else None,
        resource=resource,
        attributes=span.attributes,
        kind=SpanKind[_KINDS.get(span.name, "INTERNAL")],
        instrumentation_scope=InstrumentationScope("sqs-file-processor"),
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.OK),
        start_time=span.started,
        end_time=span.ended,
    )
