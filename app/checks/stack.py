"""Everything about the running stack: read it, judge it."""

from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Protocol
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

from app.aws.inspect import Inspector, Permission
from app.checks import buckets, queues
from app.checks.findings import Finding, error, note, warning
from app.handler import Route
from app.outcomes import ConfigurationError, FailureError, Reason
from app.settings import Location, Settings
from app.stackfacts import BucketFacts, QueueFacts

GATEWAY_SECONDS = 5.0
_SERVER_ERROR = 500


class ConditionsProbe(Protocol):
    """Asks a store whether it honours the conditions of writes."""

    def __call__(self, settings: Settings) -> bool:
        """True where it does; raises FailureError where it cannot be asked."""


def judge(
    settings: Settings, routes: list[Route], look: Inspector, honours: ConditionsProbe
) -> Iterator[Finding]:
    """What reading the stack brings to light; what hides the rest comes alone."""
    try:
        queue = look.queue(settings.queue_url)
    except FailureError as failure:
        yield _unreachable(failure)
        return
    dlq: QueueFacts | None = None
    try:
        dlq = look.queue(settings.dlq_url) if settings.dlq_url else look.dead_letters_of(queue)
    except FailureError as failure:
        yield error(
            "dead_letter_queue",
            f"{failure}: no dead letter can be sent, and what is rejected comes back for ever",
            "create the queue, or correct the redrive policy or DLQ_URL",
        )
    yield from queues.judge(queue, dlq, settings)
    yield from _inputs(settings, routes, look, queue)
    yield from _outputs(settings, look, queue)
    inputs = [
        Location(entry.bucket, entry.prefix)
        for entry in settings.allowed_buckets
        if entry.bucket != "*"
    ]
    yield from _permissions(lambda: look.permissions(queue, dlq, inputs))
    if settings.output_url is not None:
        output = settings.output_url
        yield from _permissions(lambda: look.output_permissions(output))
    yield from _ledger(settings, honours)
    yield from _gateway(settings)


def _unreachable(failure: FailureError) -> Finding:
    text = f"{failure}: nothing can be received"
    if isinstance(failure, ConfigurationError):
        return error("queue", text, "correct what is named first")
    if failure.reason is Reason.CREDENTIALS:
        return error("credentials", text, "give the SDK credentials (aws sts get-caller-identity)")
    return error("queue", f"QUEUE_URL: {text}", "correct QUEUE_URL, or AWS_ENDPOINT_URL")


def _inputs(
    settings: Settings, routes: list[Route], look: Inspector, queue: QueueFacts
) -> Iterator[Finding]:
    for name in dict.fromkeys(entry.bucket for entry in settings.allowed_buckets):
        entries = [entry for entry in settings.allowed_buckets if entry.bucket == name]
        if name == "*":
            yield note("not_looked_at", "notifications: ALLOWED_BUCKETS names no bucket")
            continue
        bucket = yield from _bucket(look, name, "ALLOWED_BUCKETS")
        if bucket is None:
            continue
        feeds, unread = look.feeds(bucket, queue)
        yield from (note("not_looked_at", f"{one.what}: {one.why}") for one in unread)
        yield from buckets.judge_input(bucket, feeds, entries, routes, queue)


def _outputs(settings: Settings, look: Inspector, queue: QueueFacts) -> Iterator[Finding]:
    told = {"OUTPUT_URL": settings.output_url, "LEDGER_URL": settings.ledger_url}
    named = {variable: where for variable, where in told.items() if where is not None}
    for name in dict.fromkeys(where.bucket for where in named.values()):
        inside = {variable: where for variable, where in named.items() if where.bucket == name}
        bucket = yield from _bucket(look, name, next(iter(inside)))
        if bucket is None:
            continue
        feeds, unread = look.feeds(bucket, queue)
        yield from (note("not_looked_at", f"{one.what}: {one.why}") for one in unread)
        for variable, where in inside.items():
            yield from buckets.judge_output(feeds, where, variable, queue)
        yield from buckets.judge_lifecycle(bucket, settings)


def _bucket(
    look: Inspector, name: str, variable: str
) -> Generator[Finding, None, BucketFacts | None]:
    try:
        bucket = look.bucket(name)
    except FailureError as failure:
        yield error(
            "bucket",
            f"{variable}: {failure}: every job that needs it fails",
            f"create {name}, allow s3:ListBucket on it, or correct {variable}",
        )
        return None
    yield from buckets.judge_unread(bucket)
    return bucket


def _permissions(ask: Callable[[], Iterable[Permission]]) -> Iterator[Finding]:
    try:
        for one in ask():
            if one.why:
                yield error(
                    "permission",
                    f"{one.action} is not permitted on {one.where}: {one.why}",
                    f"allow {one.action} on {one.where} to the worker's role",
                )
    except FailureError as failure:
        yield error("permission", f"could not be asked for: {failure}")


def _ledger(settings: Settings, honours: ConditionsProbe) -> Iterator[Finding]:
    if settings.ledger_url is None:
        return
    where = f"s3://{settings.ledger_url.bucket}/{settings.ledger_url.prefix}"
    try:
        if not honours(settings):
            yield error(
                "conditions",
                f"the store of {where} ignores If-Match and If-None-Match: two workers both "
                "believe that they have claimed the work, and it is done twice",
                "use a store that honours conditional writes, as S3 does",
            )
    except FailureError as failure:
        yield error(
            "ledger",
            f"LEDGER_URL: {failure}: no work can be claimed, and every message is retried",
            f"allow s3:GetObject, s3:PutObject and s3:DeleteObject on {where}*",
        )


def _gateway(settings: Settings) -> Iterator[Finding]:
    if settings.pushgateway_url is None:
        return
    why = ""
    try:
        with urlopen(f"{settings.pushgateway_url}/-/ready", timeout=GATEWAY_SECONDS):  # noqa: S310
            pass
    except HTTPError as failure:
        why = str(failure) if failure.code >= _SERVER_ERROR else ""
    except (URLError, OSError) as failure:
        why = str(failure)
    if why:
        yield warning(
            "gateway",
            f"PUSHGATEWAY_URL: {settings.pushgateway_url}: {why}: metrics are lost, and every pod "
            "waits for it at its end",
            "kubectl apply -k k8s/monitoring, or allow port 9091 in the network policy",
        )
