"""`janitor`: keeps the Pushgateway clean, and tells it the queues' depths; made for a CronJob."""

import os
import time
from http.client import HTTPException
from typing import Any
from urllib.request import urlopen

import click
import msgspec
from prometheus_client import CollectorRegistry, Gauge, delete_from_gateway, push_to_gateway

from app.aws.depths import depths
from app.commands.refusal import refused
from app.environment import Reader, parse_gateway, parse_url
from app.outcomes import ConfigurationError, FailureError
from app.telemetry.metrics import PREFIX

# The group of the depths; never one of a pod's, and never deleted.
INSTANCE = "janitor"
GATEWAY_SECONDS = 10.0
# How old the list of groups may be that is deleted by: a pod may push its last word meanwhile.
LISTED_SECONDS = 1.0
# What is left after so long is the next run's.
SWEEP_SECONDS = 60.0


class _Listing(msgspec.Struct):
    """What the gateway tells of its groups; the metrics of each by name, beside its labels."""

    data: list[dict[str, Any]]


@click.command()
@click.option(
    "--ttl",
    "ttl_seconds",
    type=click.FloatRange(min=0),
    default=3600,
    show_default=True,
    help="Seconds since its last push after which a pod's group is deleted.",
)
def janitor(ttl_seconds: float) -> None:
    """Delete this job's old Pushgateway groups, and push the depth of queue and DLQ.

    A group should live for at least two scrapes. Groups of other jobs, and groups with other
    labels, are left alone.
    """
    gateway, queue, dlq, job = _configured()
    try:
        # First, so that the time of the push below tells of both.
        deleted = _sweep(gateway, job, ttl_seconds)
        found = depths(queue, dlq)
        _push(gateway, job, found, queue.rpartition("/")[2])
    except ConfigurationError as error:
        raise refused([str(error)]) from None
    except FailureError as error:
        raise click.ClickException(str(error)) from None
    except (OSError, HTTPException, msgspec.MsgspecError) as error:
        raise click.ClickException(f"PUSHGATEWAY_URL: {gateway}: {error}") from None
    told = ", ".join(f"{name} {state} {count}" for (name, state), count in found.items())
    click.echo(f"{deleted} groups deleted; {told}")


def _configured() -> tuple[str, str, str | None, str]:
    """Gateway, queue, dead-letter queue and job; ends with 78 where one of them is wrong."""
    read = Reader(os.environ)
    gateway = read.take("PUSHGATEWAY_URL", None, parse_gateway, "the URL of a Pushgateway")
    queue = read.take("QUEUE_URL", None, parse_url, "the URL of an SQS queue")
    dlq = read.take("DLQ_URL", None, parse_url, "the URL of an SQS queue")
    for name in ("PUSHGATEWAY_URL", "QUEUE_URL"):
        if read.text(name) is None:
            read.complain(name, "a URL")
    if read.complaints:
        raise refused(read.complaints)
    return str(gateway), str(queue), dlq, read.text("METRICS_JOB") or "sqs-file-processor"


def _sweep(gateway: str, job: str, ttl_seconds: float) -> int:
    """Delete the groups that no pod has pushed to for so long; how many."""
    deleted: set[str] = set()
    until = time.monotonic() + SWEEP_SECONDS
    while time.monotonic() < until:
        listed_until = time.monotonic() + LISTED_SECONDS
        for pod in _stale_pods(gateway, job, ttl_seconds):
            delete_from_gateway(gateway, job, {"instance": pod}, timeout=GATEWAY_SECONDS)
            deleted.add(pod)
            if time.monotonic() > listed_until:
                break
        else:
            break
    return len(deleted)


def _stale_pods(gateway: str, job: str, ttl_seconds: float) -> list[str]:
    with urlopen(f"{gateway}/api/v1/metrics", timeout=GATEWAY_SECONDS) as answer:  # noqa: S310
        groups = msgspec.json.decode(answer.read(), type=_Listing).data
    before = time.time() - ttl_seconds
    return [pod for group in groups if (pod := _stale(group, job, before)) is not None]


def _stale(group: dict[str, Any], job: str, before: float) -> str | None:
    """The pod whose group this is, if it is one of this job's and old enough."""
    labels = group.get("labels", {})
    if set(labels) != {"job", "instance"} or labels["job"] != job:
        return None
    pushed = group.get("push_time_seconds", {}).get("metrics", [{}])[0].get("value", "inf")
    stale = labels["instance"] != INSTANCE and float(pushed) < before
    return str(labels["instance"]) if stale else None


def _push(gateway: str, job: str, found: dict[tuple[str, str], int], queue: str) -> None:
    """Replace the group of the depths; what is not in the queue itself is a dead letter."""
    registry = CollectorRegistry()
    messages = _gauge(registry, "queue_messages", "Messages of a queue by their state.", "state")
    letters = _gauge(registry, "dead_letters", "Messages of the dead-letter queue, all states.")
    for (name, state), count in found.items():
        messages.labels(name, state).set(count)
        if name != queue:
            letters.labels(name).inc(count)
    push_to_gateway(gateway, job, registry, {"instance": INSTANCE}, timeout=GATEWAY_SECONDS)


def _gauge(registry: CollectorRegistry, name: str, text: str, *labels: str) -> Gauge:
    return Gauge(name, text, ("queue", *labels), namespace=PREFIX, registry=registry)
