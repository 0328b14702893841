"""What a message asks for, decided before anything outside is asked; pure."""

from collections.abc import Callable
from dataclasses import dataclass

from app import notifications
from app.handler import Route, route_for
from app.notifications import ObjectRef
from app.outcomes import Outcome, Reason, RejectedError, Result, result_of, worst
from app.ports import Message, ObjectFacts
from app.settings import Settings


@dataclass(frozen=True, slots=True)
class Record:
    """One object of a message: the route it goes, or the verdict on it."""

    ref: ObjectRef
    route: Route | None = None
    verdict: Result | None = None

    @property
    def where(self) -> str:
        """The object's name, for people."""
        return f"s3://{self.ref.bucket}/{self.ref.key}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a message asks for.

    Attributes:
        verdict: the outcome of the whole message, where its body alone decides.
    """

    records: tuple[Record, ...] = ()
    verdict: Result | None = None

    def longest(self, of: Callable[[Route], float | None], default: float) -> float:
        """The largest of the routes' own values, the default where a route has none."""
        routes = [record.route for record in self.records if record.route]
        return max((of(route) or default for route in routes), default=default)

    @property
    def handler(self) -> str:
        """The routes' names, for metrics."""
        names = {record.route.name for record in self.records if record.route}
        return ",".join(sorted(names)) or "none"

    @property
    def named(self) -> dict[str, object]:
        """Which objects the message names, for its log line."""
        if not self.records:
            return {}
        first = self.records[0].ref
        named: dict[str, object] = {"bucket": first.bucket, "key": first.key, "size": first.size}
        return named | ({"records": len(self.records)} if len(self.records) > 1 else {})


def plan(message: Message, routes: list[Route], settings: Settings) -> Plan:
    """Parse the body, and find each object's route."""
    try:
        told = notifications.parse(message.body)
    except RejectedError as error:
        return Plan(verdict=result_of(error))
    if told.test:
        return Plan(verdict=Result(Outcome.SKIPPED, Reason.TEST_EVENT))
    if not told.objects:
        events = ", ".join(told.ignored)
        return Plan(verdict=Result(Outcome.SKIPPED, Reason.NOT_CREATED_EVENT, detail=events))
    records = tuple(_record(ref, routes, settings) for ref in told.objects)
    # With a ledger the attempts are counted there: evictions spend receives too.
    if settings.ledger_url is None and message.receive_count > settings.max_attempts:
        text = f"received {message.receive_count} times, MAX_ATTEMPTS is {settings.max_attempts}"
        return Plan(records, Result(Outcome.REJECTED, Reason.ATTEMPTS_EXHAUSTED, text))
    return Plan(records)


def _record(ref: ObjectRef, routes: list[Route], settings: Settings) -> Record:
    route = route_for(routes, ref.bucket, ref.key)
    if not settings.allows(ref.bucket, ref.key):
        reason, text = Reason.BUCKET_NOT_ALLOWED, "not in ALLOWED_BUCKETS"
    elif route is None:
        reason, text = Reason.NO_ROUTE, "no route matches"
    else:
        return Record(ref, route)
    named = f"s3://{ref.bucket}/{ref.key}: {text}"
    return Record(ref, verdict=Result(Outcome.REJECTED, reason, named))


def was_changed(ref: ObjectRef, facts: ObjectFacts) -> bool:
    """Whether what was opened is not what the event tells of; one with a version is never."""
    named = (ref.etag or "").strip('"')
    return not ref.version_id and named not in ("", facts.etag.strip('"'))


def verdict_on_changed(policy: str) -> Result | None:
    """What CHANGED_OBJECT says becomes of it; None: what is there is processed."""
    verdicts = {"skip": Outcome.SKIPPED, "reject": Outcome.REJECTED}
    if policy not in verdicts:
        return None
    text = "overwritten after its event"
    return Result(verdicts[policy], Reason.OBJECT_CHANGED, text)


def summed_up(planned: Plan, results: list[Result]) -> Result:
    """The outcome of a message from those of its records: the worst decides.

    A rejection of one of several names all that were rejected, since one letter tells of all.
    """
    decided = worst(results)
    if decided.outcome is not Outcome.REJECTED or len(results) == 1:
        return decided
    pairs = zip(planned.records, results, strict=True)
    rejected = [(record, one) for record, one in pairs if one.outcome is Outcome.REJECTED]
    text = "; ".join(f"{record.where}: {one.reason}: {one.error}" for record, one in rejected)
    return Result(
        Outcome.REJECTED,
        decided.reason,
        f"{len(rejected)} of {len(results)}: {text}",
        buried=all(one.buried for _, one in rejected),
    )
