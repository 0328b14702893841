"""The vocabulary: one method per event; callers know neither levels nor metrics.

WARNING is for what was recovered from, ERROR for what someone has to act on.
"""

import hashlib
import time
import traceback
from collections.abc import Mapping
from typing import Any

import structlog

from app.outcomes import FailureError, Outcome, OutsideError, Reason, Result
from app.ports import ObjectFacts
from app.telemetry.levels import LEVELS
from app.telemetry.metrics import Metrics
from app.telemetry.tracing import Spans


class Telemetry:
    """Says what happens; one for a process.

    Methods take values of the program and may be called from any thread.
    """

    def __init__(self, metrics: Metrics | None = None, spans: Spans | None = None) -> None:
        self.metrics = metrics or Metrics()
        self.spans = spans or Spans()
        self.log = structlog.get_logger()
        self._least_headroom: float | None = None

    def job_started(self, **configuration: Any) -> None:
        """The process begins; what it is configured to do."""
        self.metrics.jobs_launched.inc()
        self.metrics.job_start.set(time.time())
        self.log.info("job_started", **configuration)

    def message_received(
        self, body: str, receive_count: int, sent_at: float, named: Mapping[str, object]
    ) -> None:
        """A message came; `named` says which object it names, where it names one."""
        age = max(0.0, time.time() - sent_at)
        if receive_count > 1:
            self.metrics.retries.inc()
        else:
            self.metrics.message_age.set(age)
        digest = hashlib.sha256(body.encode(errors="surrogatepass")).hexdigest()
        self.log.info(
            "message_received",
            receive_count=receive_count,
            body_sha256=digest,
            **named,
            age_seconds=round(age, 3),
        )

    def object_opened(self, facts: ObjectFacts) -> None:
        """The first response has come and pins the version."""
        self.log.info(
            "object_opened",
            bucket=facts.bucket,
            key=facts.key,
            size=facts.size,
            etag=facts.etag,
            version_id=facts.version_id,
            content_type=facts.content_type,
        )

    def handler_started(self, handler: str, attempt: int) -> None:
        """The handler is about to be called."""
        self.log.info("handler_started", handler=handler, attempt=attempt)

    def read_retried(self, error: OutsideError, at: int, pause: float) -> None:
        """A read broke, and goes on where it stopped."""
        self.log.warning(
            "read_retried",
            reason=error.reason,
            error=str(error),
            at=at,
            pause_seconds=round(pause, 3),
        )

    def reading_parallel(self, connections: int, rate: float) -> None:
        """One connection alone keeps the handler waiting."""
        self.log.debug("reading_parallel", connections=connections, rate=round(rate))

    def object_verified(self, integrity: str, size: int) -> None:
        """All bytes were delivered; which check of them was possible."""
        self.log.info("object_verified", integrity=integrity, bytes=size)

    def checksum_unknown(self, error: FailureError) -> None:
        """The store could not be asked for the object's checksum."""
        self.log.warning("checksum_unknown", reason=error.reason, error=str(error))

    def object_read(self, result: Result, count: int) -> None:
        """So many bytes were read for one record; a metric only."""
        self.metrics.object_bytes.inc(count)
        if result.outcome is not Outcome.DONE:
            self.metrics.wasted_bytes.inc(count)

    def progress(self, **numbers: object) -> None:
        """How far the handler is."""
        self.log.info("progress", **numbers)

    def lease_renewed(self, seconds: int, headroom: float, late: float) -> None:
        """A renewal succeeded, with so much of the lease left, so late after it was due."""
        self.metrics.lease_renewals.labels("ok").inc()
        least = headroom if self._least_headroom is None else min(self._least_headroom, headroom)
        self._least_headroom = least
        self.metrics.lease_headroom.set(least)
        self.log.info(
            "lease_renewed",
            seconds=seconds,
            headroom_seconds=round(headroom, 3),
            late_seconds=round(late, 4),
        )

    def lease_renewal_failed(self, reason: Reason, error: BaseException, left: float) -> None:
        """A renewal failed; it is tried again while the lease lasts."""
        self.metrics.lease_renewals.labels("failed").inc()
        self.log.warning(
            "lease_renewal_failed", reason=reason, error=repr(error), left_seconds=round(left, 3)
        )

    def lease_lost(self, reason: Reason, error: str) -> None:
        """The lease can no longer be proven, or another attempt has taken the work over."""
        self.metrics.lease_lost.inc()
        self.log.error("lease_lost", reason=reason, error=error)

    def handler_failed(self, handler: str, result: Result, error: BaseException | None) -> None:
        """An attempt failed, by the handler's doing or in its surroundings."""
        trace = "".join(traceback.format_exception(error)) if error else None
        # No retry mends these: someone has to.
        loud = result.reason in (Reason.CREDENTIALS, Reason.ACCESS_DENIED)
        (self.log.error if loud else self.log.warning)(
            "handler_failed",
            handler=handler,
            reason=result.reason,
            error=result.error,
            traceback=trace,
        )

    def attempt_halted(self, handler: str, result: Result) -> None:
        """An attempt was ended early, and has stopped."""
        self.log.warning("attempt_halted", handler=handler, reason=result.reason)

    def record_ended(self, result: Result, where: str) -> None:
        """One object of a message that names several has its outcome."""
        self.log.info("record_ended", outcome=result.outcome, reason=result.reason, object=where)

    def object_changed(self, named: str, found: str) -> None:
        """The object was overwritten after its event."""
        self.log.info("object_changed", event_etag=named, etag=found)

    def duplicate(self) -> None:
        """The work was done before."""
        self.metrics.duplicates.inc()
        self.log.info("already_done")

    def resumed(self, position: object) -> None:
        """The handler goes on from an earlier attempt's checkpoint."""
        self.log.info("resumed", position=position)

    def checkpoint_saved(self, position: object, output_bytes: int) -> None:
        """A restart point is durable."""
        self.log.info("checkpoint_saved", position=position, output_bytes=output_bytes)

    def checkpoint_failed(self, error: BaseException) -> None:
        """A restart point could not be made durable; the one before it stays."""
        self.log.warning("checkpoint_failed", error=repr(error))

    def checkpoint_void(self) -> None:
        """A part of the checkpoint is missing: the work starts over."""
        self.log.warning("checkpoint_void")

    def rolling_forward(self, outputs: int) -> None:
        """An earlier attempt died while it committed; its commit is finished."""
        self.log.info("rolling_forward", outputs=outputs)

    def commit_void(self, error: BaseException) -> None:
        """An earlier attempt's commit cannot be finished; the handler runs again."""
        self.log.warning("commit_void", error=str(error))

    def ledger_unreachable(self, error: BaseException) -> None:
        """The end of this attempt could not be recorded; the next one will count a crash."""
        self.log.error("ledger_unreachable", error=str(error))

    def blob_left_behind(self, name: str, error: BaseException) -> None:
        """A blob beside a record could not be deleted; a lifecycle rule will."""
        self.log.warning("blob_left_behind", name=name, error=repr(error))

    def output_committed(self, bucket: str, key: str, size: int) -> None:
        """An output is visible now."""
        self.log.info("output_committed", bucket=bucket, key=key, size=size)

    def output_left_behind(self, bucket: str, key: str, error: BaseException) -> None:
        """An upload could not be thrown away; a lifecycle rule will."""
        self.log.warning("output_left_behind", bucket=bucket, key=key, error=repr(error))

    def message_deleted(self) -> None:
        """The message is gone, its work done."""
        self.log.info("message_deleted")

    def message_released(self) -> None:
        """The message is visible again at once."""
        self.log.info("message_released")

    def message_hidden(self, seconds: int) -> None:
        """The message comes back after the back-off."""
        self.log.info("message_hidden", seconds=seconds)

    def message_deferred(self, seconds: int) -> None:
        """The message comes back when another's claim has ended."""
        self.log.info("message_deferred", seconds=seconds)

    def message_left(self, why: str) -> None:
        """The message is left alone; it comes back when its visibility timeout ends."""
        self.log.info("message_left", why=why)

    def message_dead_lettered(self, result: Result, cut: list[str]) -> None:
        """The message is with the dead letters; `cut` names the attributes that did not fit."""
        self.log.error(
            "message_dead_lettered",
            reason=result.reason,
            error=result.error,
            **({"left_out": cut} if cut else {}),
        )

    def no_dead_letter_queue(self, result: Result, seconds: int) -> None:
        """A rejected message has nowhere to go."""
        self.log.error(
            "no_dead_letter_queue", reason=result.reason, error=result.error, hidden_seconds=seconds
        )

    def settlement_failed(self, step: str, error: BaseException) -> None:
        """The message could not be settled; it comes back by itself."""
        self.log.error("settlement_failed", step=step, error=repr(error))

    def settlement_retried(self, error: BaseException, pause: float) -> None:
        """A step of the settlement failed, and is tried again."""
        self.log.warning("settlement_retried", error=str(error), pause_seconds=pause)

    def receive_failed(self, result: Result) -> None:
        """The poll failed."""
        self.log.error("receive_failed", reason=result.reason, error=result.error)

    def file_failed(self, path: str, error: BaseException) -> None:
        """A file that others look at could not be written or removed."""
        self.log.warning("file_failed", path=path, error=repr(error))

    def stop_requested(self, signal_name: str, phase: str) -> None:
        """A signal asked the process to end."""
        self.log.warning("stop_requested", signal=signal_name, phase=phase)

    def handler_stuck(self, why: str, stacks: str) -> None:
        """The handler did not stop in time; the process ends around it."""
        self.log.error("handler_stuck", why=why, stacks=stacks)

    def defect(self, error: BaseException) -> None:
        """The program itself is wrong."""
        trace = "".join(traceback.format_exception(error))
        self.log.error("defect", error=repr(error), traceback=trace)

    def message_settled(self, result: Result, handler: str, seconds: float) -> None:
        """A message has its outcome; a metric, and the end of its span."""
        self.spans.note(result)
        self.metrics.messages.labels(result.outcome, handler).inc()
        self.metrics.job_seconds.labels(result.outcome, handler).observe(seconds)
        if result.outcome in LEVELS:
            self.metrics.failures.labels(result.reason or "unknown").inc()

    def spans_lost(self, why: str) -> None:
        """The collector does not get the spans of this process."""
        self.log.warning("spans_lost", why=why)

    def job_ending(self, result: Result) -> None:
        """The process is about to end, of its own accord; a metric only, for the last push."""
        self.metrics.jobs_finished.labels(result.outcome).inc()

    def push_failed(self, error: Exception) -> None:
        """The gateway did not take the metrics; the line carries what it would have."""
        self.log.warning("metrics_push_failed", error=repr(error), counters=self.metrics.counters())

    def job_finished(
        self, result: Result, exit_code: int, seconds: float, bytes_read: int, messages: int
    ) -> None:
        """The process ends."""
        getattr(self.log, LEVELS.get(result.outcome, "info"))(
            "job_finished",
            outcome=result.outcome,
            reason=result.reason,
            exit_code=exit_code,
            seconds=round(seconds, 3),
            bytes_read=bytes_read,
            messages=messages,
            **({"error": result.error} if result.error else {}),
        )
