"""The buckets: whether their events come to the queue, and what becomes of old objects."""

import fnmatch
import json
from collections.abc import Iterator
from typing import Any

from app.checks.findings import Finding, error, note, warning
from app.handler import Route
from app.settings import Allowed, Location, Settings
from app.stackfacts import BucketFacts, Feed, QueueFacts

CREATED = "s3:ObjectCreated:"
# Longer than any queue keeps a message.
RECORDS_LEAST_DAYS = 15


def judge_unread(bucket: BucketFacts) -> Iterator[Finding]:
    """What could not be looked at."""
    for unread in bucket.unread:
        yield note("not_looked_at", f"{unread.what} of {bucket.name}: {unread.why}")


def judge_input(
    bucket: BucketFacts,
    feeds: list[Feed],
    entries: list[Allowed],
    routes: list[Route],
    queue: QueueFacts,
) -> Iterator[Finding]:
    """Whether what is allowed of this bucket arrives; `feeds` are the ways to this queue."""
    if bucket.notification is None:
        return
    for entry in entries:
        yield from _arrives(bucket, [f for f in feeds if _overlap(f, entry)], entry, routes, queue)
    for feed in feeds:
        wide = not any(feed.prefix.startswith(entry.prefix) for entry in entries)
        if wide and feed.is_certain:
            yield warning(
                "notification_too_wide",
                f"{bucket.name} sends events of {feed.prefix or 'every key'}, but ALLOWED_BUCKETS "
                f"allows {', '.join(entry.prefix for entry in entries)}: the others are "
                "dead-lettered",
                "give the notification the prefix that is allowed",
            )
    if any(feed.how == "queue" for feed in feeds):
        yield from _may_send(bucket, queue)


def _arrives(
    bucket: BucketFacts, feeds: list[Feed], entry: Allowed, routes: list[Route], queue: QueueFacts
) -> Iterator[Finding]:
    where = f"{bucket.name}/{entry.prefix}"
    if not feeds:
        yield error(
            "notification_missing",
            f"nothing tells {queue.name} of objects in {where}: they are never processed",
            f"aws s3api put-bucket-notification-configuration --bucket {bucket.name} "
            f"--notification-configuration '{_wanted(queue, entry)}'",
        )
        return
    events = {event for feed in feeds for event in feed.events}
    if f"{CREATED}*" not in events:
        yield error(
            "notification_events",
            f"{where} tells {queue.name} only of {', '.join(sorted(events))}: objects that come "
            "otherwise (large ones by CompleteMultipartUpload, copies) are never processed",
            f"put {CREATED}* into the bucket's notification",
        )
    elif any(not event.startswith(CREATED) for event in events):
        yield warning(
            "notification_noise",
            f"{where} sends {', '.join(sorted(events))}: all but {CREATED}* start pods that skip",
            f"leave only {CREATED}* in the bucket's notification",
        )
    missed = [route for route in routes if not any(_reaches(f, entry, route) for f in feeds)]
    if missed:
        yield warning(
            "notification_partial",
            f"no notification of {where} covers all that {missed[0]} takes",
            "check the filters of the bucket's notification",
        )


def _may_send(bucket: BucketFacts, queue: QueueFacts) -> Iterator[Finding]:
    """Whether the queue's policy lets S3 deliver."""
    policy = queue.policy("Policy")
    mend = (
        f"allow s3.amazonaws.com sqs:SendMessage on {queue.arn} with aws:SourceArn "
        f"arn:aws:s3:::{bucket.name} (aws sqs set-queue-attributes, attribute Policy)"
    )
    if not policy:
        text = f"{queue.name} has no policy: on AWS S3 may not send to it, and nothing arrives"
        yield warning("queue_policy", text, mend)
    elif not any(_admits(one, bucket) for one in _listed(policy.get("Statement"))):
        text = f"the policy of {queue.name} does not let S3 send events of {bucket.name}"
        yield error("queue_policy", f"{text}: nothing arrives", mend)


def judge_output(
    feeds: list[Feed], where: Location, variable: str, queue: QueueFacts
) -> Iterator[Finding]:
    """Whether what is written here comes back as a message."""
    for feed in feeds:
        overlaps = feed.prefix.startswith(where.prefix) or where.prefix.startswith(feed.prefix)
        if overlaps and feed.is_certain:
            yield error(
                "outputs_notify",
                f"{variable}: what is written to {where.bucket}/{where.prefix} is told to "
                f"{queue.name}: every output starts a pod, and its message is rejected, or worked "
                "on",
                "give the notification a prefix that excludes it, or use another bucket",
            )
            return


def judge_lifecycle(bucket: BucketFacts, settings: Settings) -> Iterator[Finding]:
    """What is removed of outputs and records, and when."""
    if bucket.lifecycle is None:
        return
    rules = [rule for rule in bucket.lifecycle if rule.get("Status") == "Enabled"]
    output, ledger = settings.output_url, settings.ledger_url
    aborting = any("AbortIncompleteMultipartUpload" in rule for rule in rules)
    if output is not None and output.bucket == bucket.name and not aborting:
        yield warning(
            "uploads_left",
            f"{bucket.name} has no rule for incomplete uploads: what a killed pod left behind is "
            "paid for for ever",
            f"aws s3api put-bucket-lifecycle-configuration --bucket {bucket.name} with "
            "AbortIncompleteMultipartUpload",
        )
    if ledger is not None and ledger.bucket == bucket.name:
        yield from _records(bucket, rules, ledger)


def _records(
    bucket: BucketFacts, rules: list[dict[str, Any]], ledger: Location
) -> Iterator[Finding]:
    days = [
        rule["Expiration"]["Days"]
        for rule in rules
        if rule.get("Expiration", {}).get("Days") and ledger.prefix.startswith(_prefix(rule))
    ]
    mend = (
        f"expire {bucket.name}/{ledger.prefix} after 35 days "
        "(aws s3api put-bucket-lifecycle-configuration)"
    )
    if days and min(days) < RECORDS_LEAST_DAYS:
        yield error(
            "records_expire_early",
            f"records under {bucket.name}/{ledger.prefix} expire after {min(days)} days, while a "
            "queue keeps messages for 14: what was done is done again",
            mend,
        )
    elif not days:
        yield warning(
            "records_stay", f"records under {bucket.name}/{ledger.prefix} never expire", mend
        )


def _prefix(rule: dict[str, Any]) -> str:
    found = rule.get("Filter") or {}
    inner = found.get("And") or found
    return str(inner.get("Prefix") or rule.get("Prefix") or "")


def _overlap(feed: Feed, entry: Allowed) -> bool:
    return feed.prefix.startswith(entry.prefix) or entry.prefix.startswith(feed.prefix)


def _reaches(feed: Feed, entry: Allowed, route: Route) -> bool:
    """Whether the feed tells of all objects that the route takes under the entry."""
    head, tail = _literal_ends(route.pattern)
    certain = max(entry.prefix, head, key=len)
    return certain.startswith(feed.prefix) and tail.endswith(feed.suffix)


def _literal_ends(pattern: str) -> tuple[str, str]:
    """What every match begins and ends with."""
    wild = [at for at, letter in enumerate(pattern) if letter in "*?[]"]
    return (pattern[: wild[0]], pattern[wild[-1] + 1 :]) if wild else (pattern, pattern)


def _admits(statement: dict[str, Any], bucket: BucketFacts) -> bool:
    told = statement.get("Principal")
    named = told.items() if isinstance(told, dict) else [("AWS", told)]
    admitted = {(kind, who) for kind, value in named for who in _listed(value)}
    actions = [str(action).lower() for action in _listed(statement.get("Action"))]
    return (
        statement.get("Effect") == "Allow"
        and bool(admitted & {("AWS", "*"), ("Service", "s3.amazonaws.com")})
        and any(one in ("*", "sqs:*", "sqs:sendmessage") for one in actions)
        and _named_source(statement.get("Condition") or {}, bucket)
    )


def _named_source(conditions: dict[str, Any], bucket: BucketFacts) -> bool:
    sources = [
        str(value)
        for tests in conditions.values()
        for name, values in tests.items()
        if name.lower() == "aws:sourcearn"
        for value in _listed(values)
    ]
    arn = f":s3:::{bucket.name}"
    return not sources or any(
        fnmatch.fnmatchcase(f"arn:aws{arn}", one) or one.endswith(arn) for one in sources
    )


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _wanted(queue: QueueFacts, entry: Allowed) -> str:
    rules = [{"Name": "prefix", "Value": entry.prefix}]
    target: dict[str, Any] = {"QueueArn": queue.arn, "Events": [f"{CREATED}*"]}
    if entry.prefix:
        target["Filter"] = {"Key": {"FilterRules": rules}}
    return json.dumps({"QueueConfigurations": [target]})
