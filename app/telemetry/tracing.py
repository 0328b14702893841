"""Where a message belongs in a trace, and the spans of its work.

Whoever uploaded the object may have begun a trace: its ids are on every log line of the message.
The spans are plain values; what becomes of them is the business of who takes them (`otlp`).
"""

import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias

import msgspec

from app import clock
from app.outcomes import Outcome, Result
from app.ports import Message
from app.telemetry import logs

# https://www.w3.org/TR/trace-context/
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html
_XRAY_ROOT = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_WELL = (Outcome.DONE, Outcome.SKIPPED, Outcome.DEFERRED, Outcome.EMPTY)

Attributes: TypeAlias = dict[str, str | int | float | bool]


class TraceContext(msgspec.Struct, frozen=True):
    """A place in a trace: ids in hex, 32 digits and 16."""

    trace_id: str
    span_id: str
    sampled: bool = True


class Span(msgspec.Struct):
    """A stretch of work; times in nanoseconds since the epoch."""

    name: str
    context: TraceContext
    parent_id: str
    started: int
    ended: int = 0
    attributes: Attributes = {}
    error: str = ""


_current: ContextVar[Span | None] = ContextVar("span", default=None)


def context_of(message: Message) -> TraceContext | None:
    """Where the sender of the message was in its trace; None where it names none.

    The attribute `traceparent` comes before SQS's own `AWSTraceHeader`; what is malformed is as
    good as absent.
    """
    told = message.attributes.get("traceparent", {}).get("StringValue", "")
    return _of_w3c(told) or _of_xray(message.trace_header)


def _of_w3c(text: str) -> TraceContext | None:
    found = _TRACEPARENT.fullmatch(text.strip().lower())
    if found is None or text.startswith("ff"):
        return None
    return _known(found[1], found[2], sampled=bool(int(found[3], 16) & 1))


def _of_xray(text: str) -> TraceContext | None:
    fields = dict(part.strip().partition("=")[::2] for part in text.split(";"))
    root = _XRAY_ROOT.fullmatch(fields.get("Root", "").lower())
    if root is None:
        return None
    parent = fields.get("Parent", "").lower()
    span_id = parent if re.fullmatch(r"[0-9a-f]{16}", parent) else "0" * 16
    return _known(root[1] + root[2], span_id, sampled=fields.get("Sampled") != "0", rootless=True)


def _known(
    trace_id: str, span_id: str, *, sampled: bool, rootless: bool = False
) -> TraceContext | None:
    """The context, unless an id is all zeros; X-Ray's may come without a parent."""
    if not trace_id.strip("0") or not (rootless or span_id.strip("0")):
        return None
    return TraceContext(trace_id, span_id, sampled)


class Spans:
    """The spans of this process.

    Args:
        take: given each span as it ends; None: nobody asks for them, and none are made.
    """

    def __init__(self, take: Callable[[Span], None] | None = None) -> None:
        self._take = take

    @contextmanager
    def message(self, message: Message) -> Iterator[None]:
        """The life of a message, from its arrival; what is logged in it names message and trace."""
        sender = context_of(message)
        if self._take is None or (sender is not None and not sender.sampled):
            with logs.message(message.id, **_ids(sender)):
                yield
            return
        waited = int((clock.now() - message.requested_at) * 1e9)
        about: Attributes = {"messaging.system": "aws_sqs", "messaging.message.id": message.id}
        received = _begun("receive", sender, about, time.time_ns() - waited)
        self._end(received)
        with (
            self._open("process", sender, about) as span,
            logs.message(message.id, **_ids(span.context)),
        ):
            yield

    @contextmanager
    def step(self, name: str, **attributes: str | int) -> Iterator[None]:
        """A part of the message's life: handle, commit or settle."""
        span = _current.get()
        if span is None:
            yield
            return
        with self._open(name, span.context, dict(attributes)):
            yield

    def note(self, result: Result) -> None:
        """What became of the work whose span is open."""
        span = _current.get()
        if span is not None:
            span.attributes |= {"outcome": str(result.outcome), "reason": str(result.reason or "")}
            if result.outcome not in _WELL:
                span.error = result.error or str(result.reason)

    @contextmanager
    def _open(
        self, name: str, parent: TraceContext | None, attributes: Attributes
    ) -> Iterator[Span]:
        span = _begun(name, parent, attributes, time.time_ns())
        before = _current.set(span)
        try:
            yield span
        except BaseException as error:
            span.error = span.error or repr(error)
            raise
        finally:
            _current.reset(before)
            self._end(span)

    def _end(self, span: Span) -> None:
        span.ended = time.time_ns()
        if self._take is not None:
            self._take(span)


def _begun(name: str, parent: TraceContext | None, attributes: Attributes, started: int) -> Span:
    trace_id = parent.trace_id if parent else secrets.token_hex(16)
    context = TraceContext(trace_id, secrets.token_hex(8))
    return Span(name, context, parent.span_id if parent else "", started, 0, dict(attributes))


def _ids(context: TraceContext | None) -> dict[str, Any]:
    """What log lines carry, under the names that log viewers look for."""
    if context is None:
        return {}
    return {"trace_id": context.trace_id, "span_id": context.span_id}
