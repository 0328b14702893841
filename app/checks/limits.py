"""The configuration by itself: times that do not fit together, and what is left to luck."""

import os
from collections.abc import Iterator

from app.checks.findings import Finding, error, note, warning
from app.settings import Settings, fixed_job_seconds

VISIBILITY_LEAST_SECONDS = 30


def judge(settings: Settings) -> Iterator[Finding]:
    """What the variables alone tell."""
    if not settings.fixed and settings.visibility_timeout < VISIBILITY_LEAST_SECONDS:
        yield warning(
            "visibility_short",
            f"VISIBILITY_TIMEOUT is {settings.visibility_timeout} s: a pause of the node or the "
            "network for half of it loses the lease, and the work is done again",
            f"VISIBILITY_TIMEOUT={2 * VISIBILITY_LEAST_SECONDS}",
        )
    if settings.fixed:
        yield from _fixed(settings)
    if settings.ledger_url is None:
        yield warning(
            "no_ledger",
            "LEDGER_URL is not set: a duplicate event repeats the work, nothing is resumed, and "
            "evictions count as failed attempts",
            "LEDGER_URL=s3://BUCKET/ledger",
        )
    if settings.output_url is None:
        yield note("no_output", "OUTPUT_URL is not set: a handler that writes outputs ends with 78")
    if any(entry.bucket == "*" for entry in settings.allowed_buckets):
        yield warning(
            "any_bucket",
            "ALLOWED_BUCKETS is *: whoever may send to the queue has any object read that the "
            "role may read",
            "ALLOWED_BUCKETS=BUCKET/PREFIX",
        )
    if not os.access(settings.ready_file.parent, os.W_OK):
        yield error(
            "ready_file",
            f"READY_FILE: {settings.ready_file.parent} cannot be written to: the pod never becomes "
            "ready, and KEDA takes it for pending and starts too few",
            "mount a writable folder there, or set READY_FILE",
        )


def _fixed(settings: Settings) -> Iterator[Finding]:
    lasts = fixed_job_seconds(settings.visibility_timeout, settings.grace_seconds)
    if settings.job_timeout is not None and settings.job_timeout > lasts:
        yield warning(
            "job_timeout_cut",
            f"JOB_TIMEOUT is {settings.job_timeout:g} s, but VISIBILITY_STRATEGY=fixed with "
            f"VISIBILITY_TIMEOUT {settings.visibility_timeout} s ends a job after {lasts:g} s",
            "raise VISIBILITY_TIMEOUT, or use VISIBILITY_STRATEGY=heartbeat",
        )
