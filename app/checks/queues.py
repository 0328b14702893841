"""The queue and its dead letters."""

import json
from collections.abc import Iterator
from typing import Any

from app.checks.findings import Finding, error, warning
from app.settings import Settings
from app.stackfacts import QueueFacts

DAY_SECONDS = 86_400
RETENTION_LEAST_SECONDS = 14 * DAY_SECONDS
RECEIVES_LEAST, RECEIVES_GOOD = 50, 100
SKEW_WARNING_SECONDS, SKEW_ERROR_SECONDS = 30, 300
# SSE-KMS with this key cannot be used by other services, S3 among them.
_OWN_KEYS = ("alias/aws/sqs",)


def judge(queue: QueueFacts, dlq: QueueFacts | None, settings: Settings) -> Iterator[Finding]:
    """What the attributes of both queues tell; `dlq` is the one letters are sent to."""
    yield from _clock(queue)
    yield from _retention(queue)
    yield from _redrive(queue, dlq, settings)
    if dlq is not None:
        yield from _letters(queue, dlq)
    key = queue.attributes.get("KmsMasterKeyId", "")
    if key.endswith(_OWN_KEYS):
        yield error(
            "queue_key",
            f"{queue.name} is encrypted with {key}, which S3 may not use: no notification arrives",
            _set(queue, "KmsMasterKeyId=,SqsManagedSseEnabled=true"),
        )
    if int(queue.attributes.get("DelaySeconds") or 0):
        yield warning(
            "queue_delay",
            f"{queue.name} delays every message by {queue.attributes['DelaySeconds']} s, and KEDA "
            "does not count delayed ones",
            _set(queue, "DelaySeconds=0"),
        )


def _clock(queue: QueueFacts) -> Iterator[Finding]:
    skew = queue.skew_seconds
    if skew is None or abs(skew) < SKEW_WARNING_SECONDS:
        return
    make = error if abs(skew) >= SKEW_ERROR_SECONDS else warning
    yield make(
        "clock",
        f"this machine's clock is {abs(skew):.0f} s {'ahead' if skew > 0 else 'behind'}: ages and "
        f"claims are off by that, and from {SKEW_ERROR_SECONDS} s on AWS refuses every request",
        "chronyc makestep",
    )


def _retention(queue: QueueFacts) -> Iterator[Finding]:
    if queue.retention_seconds < RETENTION_LEAST_SECONDS:
        yield warning(
            "queue_retention",
            f"{queue.name} keeps messages for {_days(queue)}: what is not done by then is lost, an "
            "outage and retries included",
            _set(queue, f"MessageRetentionPeriod={RETENTION_LEAST_SECONDS}"),
        )


def _redrive(queue: QueueFacts, dlq: QueueFacts | None, settings: Settings) -> Iterator[Finding]:
    policy = queue.policy("RedrivePolicy")
    if not policy:
        if dlq is None:
            yield error(
                "no_dead_letter_queue",
                f"{queue.name} has no redrive policy and DLQ_URL is not set: what can never "
                f"succeed comes back every {settings.retry_max_seconds:g} s until it expires, "
                "and is lost then",
                _set_redrive(queue, "DLQ_ARN"),
            )
        return
    receives = int(policy.get("maxReceiveCount") or 0)
    if receives < RECEIVES_LEAST:
        few = receives <= 2 * settings.max_attempts
        yield (error if few else warning)(
            "max_receive_count",
            f"{queue.name} moves a message to the dead letters after {receives} receives: "
            "evictions and deferrals spend receives too, so that work which is fine ends there, "
            f"without a reason; MAX_ATTEMPTS ({settings.max_attempts}) decides better",
            _set_redrive(queue, str(policy.get("deadLetterTargetArn", "DLQ_ARN"))),
        )
    target = str(policy.get("deadLetterTargetArn", ""))
    if dlq is not None and dlq.arn and target != dlq.arn:
        yield warning(
            "two_dead_letter_queues",
            f"DLQ_URL is {dlq.name}, but the redrive policy of {queue.name} names {target}: `dlq` "
            "and the alerts see only one of them",
            _set_redrive(queue, dlq.arn),
        )


def _letters(queue: QueueFacts, dlq: QueueFacts) -> Iterator[Finding]:
    if dlq.arn and dlq.arn == queue.arn:
        yield error(
            "dead_letters_return",
            f"{queue.name} is its own dead-letter queue: what is rejected comes back for ever",
            _set_redrive(queue, "DLQ_ARN"),
        )
        return
    if dlq.url.endswith(".fifo") != queue.url.endswith(".fifo"):
        yield error(
            "dead_letter_queue_type",
            f"{queue.name} and {dlq.name} are not of one type (FIFO or standard): SQS moves "
            "nothing",
            "name a dead-letter queue of the same type",
        )
    if dlq.retention_seconds < max(queue.retention_seconds, RETENTION_LEAST_SECONDS):
        shorter = dlq.retention_seconds < queue.retention_seconds
        yield (error if shorter else warning)(
            "dead_letter_retention",
            f"{dlq.name} keeps letters for {_days(dlq)}, counted from when the message was first "
            f"sent ({queue.name}: {_days(queue)}): letters vanish before anyone has read them",
            _set(dlq, f"MessageRetentionPeriod={RETENTION_LEAST_SECONDS}"),
        )
    yield from _allowed(queue, dlq)


def _allowed(queue: QueueFacts, dlq: QueueFacts) -> Iterator[Finding]:
    policy = dlq.policy("RedriveAllowPolicy")
    kind = policy.get("redrivePermission", "allowAll")
    named = policy.get("sourceQueueArns") or []
    if kind == "denyAll" or (kind == "byQueue" and queue.arn not in named):
        yield error(
            "redrive_denied",
            f"{dlq.name} does not take messages of {queue.name} (redrivePermission {kind}): SQS "
            "moves nothing, and a message that kills its pod comes back until it expires",
            _set_json(
                dlq,
                "RedriveAllowPolicy",
                {"redrivePermission": "byQueue", "sourceQueueArns": [queue.arn]},
            ),
        )


def _days(queue: QueueFacts) -> str:
    return f"{queue.retention_seconds / DAY_SECONDS:.3g} days"


def _set(queue: QueueFacts, attributes: str) -> str:
    return f"aws sqs set-queue-attributes --queue-url {queue.url} --attributes {attributes}"


def _set_redrive(queue: QueueFacts, arn: str) -> str:
    value = {"deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES_GOOD}
    return _set_json(queue, "RedrivePolicy", value)


def _set_json(queue: QueueFacts, name: str, value: dict[str, Any]) -> str:
    return _set(queue, f"'{json.dumps({name: json.dumps(value)})}'")
