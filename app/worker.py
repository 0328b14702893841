"""One delivery, from plan to outcome: its records, one after the other."""

from dataclasses import replace

from app import ledger
from app.around import Delivery, Stores, Surroundings, Workshop
from app.attempt import ObjectAttempt
from app.claims import Claim
from app.codecs import Limits
from app.described import StreamLimits
from app.outcomes import FailureError, HandlerError, Outcome, Reason, Result, result_of
from app.planning import Record, summed_up
from app.progress import Counted
from app.reading import Tuning
from app.settings import Settings
from app.telemetry import Telemetry
from app.watch import Halted


class Worker:
    """Processes the records of deliveries."""

    def __init__(
        self, settings: Settings, workshop: Workshop, stores: Stores, telemetry: Telemetry
    ) -> None:
        self._telemetry = telemetry
        limits = StreamLimits(
            settings.max_object_bytes,
            Limits(settings.max_decompression_ratio, settings.max_decompressed_bytes),
            settings.spool_dir,
            Tuning(connections=settings.read_connections, budget_bytes=settings.read_ahead_bytes),
        )
        self._around = Surroundings(settings, workshop, stores, telemetry, limits)
        self._under_way: list[Delivery] = []

    @property
    def counted(self) -> Counted | None:
        """How far the delivery begun last is, None where no handler runs; from any thread."""
        under_way = tuple(self._under_way)
        return under_way[-1].counted if under_way else None

    async def process(self, delivery: Delivery) -> Result:
        """Work on every record; the worst of them decides for the message.

        Raises:
            HandlerStuckError: a handler did not stop when it had to.
        """
        planned = delivery.planned
        if delivery.watch.cause is not None:  # a stop that came during the poll
            return delivery.watch.result()
        if planned.verdict is not None:
            return planned.verdict
        self._under_way.append(delivery)
        try:
            return await self._work(delivery)
        finally:
            self._under_way.remove(delivery)

    async def _work(self, delivery: Delivery) -> Result:
        planned = delivery.planned
        for record in planned.records:
            delivery.bytes_before = delivery.bytes_read
            result = await self._outcome(delivery, record)
            delivery.job = None
            delivery.results.append(result)
            if result.reason is Reason.FENCED:
                self._telemetry.lease_lost(result.reason, result.error)
            self._telemetry.object_read(result, delivery.bytes_read - delivery.bytes_before)
            if len(planned.records) > 1:
                self._telemetry.record_ended(result, record.where)
        return summed_up(planned, delivery.results)

    async def _outcome(self, delivery: Delivery, record: Record) -> Result:
        if record.route is None:
            return record.verdict or Result(Outcome.DEFECT)
        attempt = ObjectAttempt(self._around, delivery, record.ref, record.route)
        try:
            delivery.watch.check()
            return await attempt.run()
        except Halted as halted:
            self._telemetry.attempt_halted(record.route.name, halted.result)
            return halted.result
        except FailureError as failure:
            result = replace(result_of(failure), attempts=attempt.number)
            raised = failure.__cause__ if isinstance(failure, HandlerError) else failure
            self._telemetry.handler_failed(record.route.name, result, raised)
            return result


async def mark_dead(claims: list[Claim], reason: str) -> None:
    """Let the records say that their message's letter is sent.

    Raises:
        FencedError: another attempt has taken one of them over.
        OutsideError: `ledger`.
    """
    for claim in claims:
        await claim.change(lambda record, write_id: ledger.dead(record, write_id, reason=reason))
