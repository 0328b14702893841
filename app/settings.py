"""The environment, read once: either whole and valid, or refused with all complaints at once."""

import fnmatch
import secrets
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from app.environment import (
    Allowed,
    Location,
    Reader,
    SettingsError,
    parse_account,
    parse_allowed,
    parse_folder,
    parse_gateway,
    parse_level,
    parse_location,
    parse_url,
)
from app.outcomes import SQS_VISIBILITY_MAX_SECONDS

__all__ = ["Allowed", "Location", "Settings", "SettingsError", "parse_location"]

T = TypeVar("T")

SQS_WAIT_MAX_SECONDS = 20
DEFAULT_JOB_SECONDS = 21600.0


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `run` is told; one field per variable, in its lower-case name."""

    queue_url: str
    allowed_buckets: tuple[Allowed, ...]
    handlers: str = "handlers:ROUTES"
    expected_bucket_owner: str | None = None
    output_url: Location | None = None
    ledger_url: Location | None = None
    checkpoint_seconds: float = 10
    stall_timeout: float = 0
    missing_object: str = "reject"
    changed_object: str = "follow"
    visibility_strategy: str = "heartbeat"
    visibility_timeout: int = 60
    # None with a fixed visibility timeout: what that can prove, less the grace.
    job_timeout: float | None = DEFAULT_JOB_SECONDS
    wait_seconds: int = 20
    max_messages: int = 1
    grace_seconds: float = 50
    max_attempts: int = 5
    retry_strategy: str = "backoff"
    retry_base_seconds: float = 30
    retry_max_seconds: float = 900
    on_sigterm: str = "release"
    dlq_url: str | None = None
    read_connections: int = 8
    read_ahead_bytes: int = 64 << 20
    max_object_bytes: int = 0
    max_decompressed_bytes: int = 0
    max_decompression_ratio: float = 200
    spool_dir: Path
    ready_file: Path = Path("/tmp/ready")  # noqa: S108 - a name the pod's probe knows
    termination_log: Path | None = None
    pushgateway_url: str | None = None
    metrics_job: str = "sqs-file-processor"
    pod_name: str
    job_name: str
    pod_namespace: str | None = None
    log_level: str = "INFO"
    log_format: str = "json"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Read every variable of the contract.

        Raises:
            SettingsError: with one line per variable that is missing, wrong or not built yet.
        """
        return _read(env)

    @property
    def fixed(self) -> bool:
        """Whether one visibility timeout has to last for the whole job."""
        return self.visibility_strategy == "fixed"

    def allows(self, bucket: str, key: str) -> bool:
        """Whether ALLOWED_BUCKETS admits this object."""
        return any(entry.admits(bucket, key) for entry in self.allowed_buckets)


# Names of the contract that this version does not have yet, with the values that ask for nothing.
_NOT_BUILT: dict[str, tuple[str, ...]] = {
    "CONCURRENCY": ("1",),
    "IDLE_SECONDS": ("0",),
    "HTTP_PORT": ("0",),
    "HANDLER_PROCESSES": ("0",),
}


def _refuse_what_is_not_built(read: Reader) -> None:
    for name, harmless in _NOT_BUILT.items():
        value = read.text(name)
        if value is not None and value not in harmless:
            allowed = f"{harmless[0]!r}, or no value" if harmless else "no value"
            read.complain(name, f"{allowed}: this version does not support it yet")
    if read.text("MAX_MESSAGES") == "0":
        read.complain("MAX_MESSAGES", "at least 1: this version cannot serve without end yet")


def _read(env: Mapping[str, str]) -> Settings:
    read = Reader(env)
    _refuse_what_is_not_built(read)
    strategy = read.choice("VISIBILITY_STRATEGY", "heartbeat", "heartbeat", "fixed")
    owner = read.take("EXPECTED_BUCKET_OWNER", None, parse_account, "an account id of 12 digits")
    output = read.take("OUTPUT_URL", None, parse_location, "s3://bucket/prefix")
    spool = read.take("SPOOL_DIR", None, parse_folder, "a writable folder") or _temporary(read)
    level = read.take("LOG_LEVEL", "INFO", parse_level, "DEBUG, INFO, WARNING or ERROR")
    default_timeout = 600 if strategy == "fixed" else 60
    timeout = read.whole("VISIBILITY_TIMEOUT", default_timeout, 2, SQS_VISIBILITY_MAX_SECONDS)
    grace = read.number("GRACE_SECONDS", 50, 1, 3600)
    settings = Settings(
        queue_url=_required(read, "QUEUE_URL", parse_url, "the URL of an SQS queue"),
        allowed_buckets=_required(
            read, "ALLOWED_BUCKETS", parse_allowed, "a comma list of bucket or bucket/prefix, or *"
        ),
        handlers=read.text("HANDLERS") or "handlers:ROUTES",
        expected_bucket_owner=owner,
        output_url=output,
        ledger_url=read.take("LEDGER_URL", None, parse_location, "s3://bucket/prefix"),
        checkpoint_seconds=read.number("CHECKPOINT_SECONDS", 10, 0.01, 3600),
        stall_timeout=read.number("STALL_TIMEOUT", 0, 0, SQS_VISIBILITY_MAX_SECONDS),
        missing_object=read.choice("MISSING_OBJECT", "reject", "reject", "skip"),
        changed_object=read.choice("CHANGED_OBJECT", "follow", "follow", "skip", "reject"),
        visibility_strategy=strategy,
        visibility_timeout=timeout,
        job_timeout=_job_timeout(read, strategy),
        wait_seconds=read.whole("WAIT_SECONDS", 20, 0, SQS_WAIT_MAX_SECONDS),
        max_messages=max(1, read.whole("MAX_MESSAGES", 1, 0)),
        grace_seconds=grace,
        max_attempts=read.whole("MAX_ATTEMPTS", 5, 1),
        retry_strategy=read.choice("RETRY_STRATEGY", "backoff", "backoff", "expire"),
        retry_base_seconds=read.number("RETRY_BASE_SECONDS", 30, 0, SQS_VISIBILITY_MAX_SECONDS),
        retry_max_seconds=read.number("RETRY_MAX_SECONDS", 900, 0, SQS_VISIBILITY_MAX_SECONDS),
        on_sigterm=read.choice("ON_SIGTERM", "release", "release", "expire"),
        dlq_url=read.take("DLQ_URL", None, parse_url, "the URL of an SQS queue"),
        read_connections=read.whole("READ_CONNECTIONS", 8, 1, 256),
        read_ahead_bytes=read.whole("READ_AHEAD_BYTES", 64 << 20, 1 << 20),
        max_object_bytes=read.whole("MAX_OBJECT_BYTES", 0, 0),
        max_decompressed_bytes=read.whole("MAX_DECOMPRESSED_BYTES", 0, 0),
        max_decompression_ratio=read.number("MAX_DECOMPRESSION_RATIO", 200, 0),
        spool_dir=spool,
        ready_file=Path(read.text("READY_FILE") or "/tmp/ready"),  # noqa: S108
        termination_log=termination_log(env),
        pushgateway_url=read.take(
            "PUSHGATEWAY_URL", None, parse_gateway, "the URL of a Pushgateway"
        ),
        metrics_job=read.text("METRICS_JOB") or "sqs-file-processor",
        pod_name=read.text("POD_NAME") or socket.gethostname(),
        job_name=read.text("JOB_NAME") or secrets.token_hex(6),
        pod_namespace=read.text("POD_NAMESPACE"),
        log_level=level,
        log_format=read.choice("LOG_FORMAT", "json", "json", "console"),
    )
    _complain_of_pairs(read, settings)
    if read.complaints:
        raise SettingsError(read.complaints)
    return settings


def _required(read: Reader, name: str, parse: Callable[[str], T | None], expected: str) -> T | Any:
    value = read.take(name, None, parse, expected)
    if value is None and read.text(name) is None:
        read.complain(name, expected)
    return () if value is None and parse is parse_allowed else value or ""


def _job_timeout(read: Reader, strategy: str) -> float | None:
    default = 0.0 if strategy == "fixed" else DEFAULT_JOB_SECONDS
    return read.number("JOB_TIMEOUT", default, 0.001, SQS_VISIBILITY_MAX_SECONDS) or None


def fixed_job_seconds(visibility_seconds: float, grace_seconds: float) -> float:
    """What a handler may take where nothing renews: the lease's proven part less the stop."""
    return visibility_seconds * 5 / 6 - min(grace_seconds, visibility_seconds / 4)


def _temporary(read: Reader) -> Path:
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:
        read.complain("SPOOL_DIR", "a writable folder, since the system has no temporary one")
        return Path()


def termination_log(env: Mapping[str, str]) -> Path | None:
    """Where Kubernetes looks for a container's last words, None where it does not."""
    named = env.get("TERMINATION_LOG", "").strip()
    if named:
        return Path(named)
    kubernetes = Path("/dev/termination-log")
    return kubernetes if kubernetes.exists() else None


def _complain_of_pairs(read: Reader, settings: Settings) -> None:
    if settings.wait_seconds >= settings.grace_seconds:
        read.complain(
            "WAIT_SECONDS",
            f"less than GRACE_SECONDS ({settings.grace_seconds:g}), since a poll is never aborted",
        )
    if settings.dlq_url is not None and settings.dlq_url == settings.queue_url:
        read.complain("DLQ_URL", "another queue than QUEUE_URL")


def feeds_itself(where: Location, pattern: str, bucket: str, settings: Settings) -> bool:
    """Whether an object under `where` could match a route, and so start the next job."""
    if not fnmatch.fnmatchcase(where.bucket, bucket):
        return False
    return any(
        entry.bucket in ("*", where.bucket)
        and (entry.prefix.startswith(where.prefix) or where.prefix.startswith(entry.prefix))
        and can_match(pattern, max(entry.prefix, where.prefix, key=len))
        for entry in settings.allowed_buckets
    )


def can_match(pattern: str, prefix: str) -> bool:
    """Whether some text that starts with `prefix` matches the fnmatch pattern."""
    # Every head of the pattern that matches the whole prefix can be continued by its tail.
    heads = (pattern[:end] for end in range(len(pattern) + 1))
    return any(fnmatch.fnmatchcase(prefix, head) for head in heads)
