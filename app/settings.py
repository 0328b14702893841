"""The environment, read once: either whole and valid, or refused with all complaints at once."""

import fnmatch
import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from app.outcomes import SQS_VISIBILITY_MAX_SECONDS

T = TypeVar("T")

SQS_WAIT_MAX_SECONDS = 20


class SettingsError(Exception):
    """The environment is not usable; `complaints` has one line per variable."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__("\n".join(complaints))
        self.complaints = complaints


class Location(msgspec.Struct, frozen=True):
    """A bucket and the prefix in it; the prefix is empty or ends with a slash."""

    bucket: str
    prefix: str = ""

    def key(self, name: str) -> str:
        """The full key of `name` under this prefix."""
        return self.prefix + name


class Allowed(msgspec.Struct, frozen=True):
    """One entry of ALLOWED_BUCKETS; the bucket `*` is any."""

    bucket: str
    prefix: str = ""

    def admits(self, bucket: str, key: str) -> bool:
        """Whether an object may be touched at all."""
        return self.bucket in ("*", bucket) and key.startswith(self.prefix)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What `run` is told; one field per variable, in its lower-case name."""

    queue_url: str
    allowed_buckets: tuple[Allowed, ...]
    handlers: str = "handlers:ROUTES"
    expected_bucket_owner: str | None = None
    output_url: Location | None = None
    visibility_strategy: str = "heartbeat"
    visibility_timeout: int = 60
    job_timeout: float = 21600
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


class _Reader:
    """Takes variables out of an environment and remembers what was wrong with them."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.complaints: list[str] = []

    def complain(self, name: str, expected: str) -> None:
        value = self._env.get(name)
        found = "is not set" if value is None else f"{value!r} is not usable"
        self.complaints.append(f"{name}: {found}: expected {expected}")

    def take(
        self, name: str, default: T, parse: Callable[[str], T | None], expected: str
    ) -> T | Any:
        """The parsed variable; the default where it is unset or empty, or its value is wrong."""
        text = self._env.get(name, "").strip()
        if not text:
            return default
        try:
            value = parse(text)
        except ValueError:
            value = None
        if value is None:
            self.complain(name, expected)
            return default
        return value

    def whole(self, name: str, default: int, low: int, high: int | None = None) -> int:
        return int(self.take(name, default, _within(int, low, high), _range("a whole", low, high)))

    def number(self, name: str, default: float, low: float, high: float | None = None) -> float:
        return float(self.take(name, default, _within(float, low, high), _range("a", low, high)))

    def choice(self, name: str, default: str, *options: str) -> str:
        return str(self.take(name, default, _one_of(options), " or ".join(options)))

    def text(self, name: str) -> str | None:
        return self._env.get(name, "").strip() or None


def _within(kind: Callable[[str], T], low: float, high: float | None) -> Callable[[str], T | None]:
    def parse(text: str) -> T | None:
        value = kind(text)
        fits = value >= low and (high is None or value <= high)  # type: ignore[operator]
        return value if fits else None  # a NaN compares false, and is refused with the rest

    return parse


def _range(article: str, low: float, high: float | None) -> str:
    return f"{article} number " + (
        f"of at least {low}" if high is None else f"from {low} to {high}"
    )


def _one_of(options: tuple[str, ...]) -> Callable[[str], str | None]:
    return lambda text: text if text in options else None


def parse_location(text: str) -> Location | None:
    """`s3://bucket/prefix` as a Location, None where it is not one."""
    scheme, _, rest = text.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        return None
    return Location(bucket, prefix.rstrip("/") + "/" if prefix.strip("/") else "")


def _parse_allowed(text: str) -> tuple[Allowed, ...] | None:
    entries = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        bucket, _, prefix = part.partition("/")
        if not bucket or ":" in bucket or ("*" in bucket and part != "*"):
            return None
        entries.append(Allowed(bucket, prefix))
    return tuple(entries) or None


def _parse_url(text: str) -> str | None:
    return text if text.startswith(("http://", "https://")) and "/" in text[8:] else None


def _parse_account(text: str) -> str | None:
    return text if len(text) == 12 and text.isascii() and text.isdigit() else None  # noqa: PLR2004


def _parse_level(text: str) -> str | None:
    return text.upper() if text.upper() in ("DEBUG", "INFO", "WARNING", "ERROR") else None


def _parse_folder(text: str) -> Path | None:
    path = Path(text)
    return path if path.is_dir() and os.access(path, os.W_OK) else None


# Names of the contract that this version does not have yet, with the values that ask for nothing.
_NOT_BUILT: dict[str, tuple[str, ...]] = {
    "LEDGER_URL": (),
    "CHECKPOINT_SECONDS": (),
    "STALL_TIMEOUT": ("0",),
    "CONCURRENCY": ("1",),
    "IDLE_SECONDS": ("0",),
    "HTTP_PORT": ("0",),
    "HANDLER_PROCESSES": ("0",),
    "MISSING_OBJECT": ("reject",),
    "CHANGED_OBJECT": (),
    "PUSHGATEWAY_URL": (),
    "METRICS_JOB": (),
}


def _refuse_what_is_not_built(read: _Reader) -> None:
    for name, harmless in _NOT_BUILT.items():
        value = read.text(name)
        if value is not None and value not in harmless:
            allowed = f"{harmless[0]!r}, or no value" if harmless else "no value"
            read.complain(name, f"{allowed}: this version does not support it yet")
    if read.text("MAX_MESSAGES") == "0":
        read.complain("MAX_MESSAGES", "at least 1: this version cannot serve without end yet")


def _read(env: Mapping[str, str]) -> Settings:
    read = _Reader(env)
    _refuse_what_is_not_built(read)
    strategy = read.choice("VISIBILITY_STRATEGY", "heartbeat", "heartbeat", "fixed")
    owner = read.take("EXPECTED_BUCKET_OWNER", None, _parse_account, "an account id of 12 digits")
    output = read.take("OUTPUT_URL", None, parse_location, "s3://bucket/prefix")
    spool = read.take("SPOOL_DIR", Path(tempfile.gettempdir()), _parse_folder, "a writable folder")
    level = read.take("LOG_LEVEL", "INFO", _parse_level, "DEBUG, INFO, WARNING or ERROR")
    default_timeout = 600 if strategy == "fixed" else 60
    timeout = read.whole("VISIBILITY_TIMEOUT", default_timeout, 2, SQS_VISIBILITY_MAX_SECONDS)
    grace = read.number("GRACE_SECONDS", 50, 1, 3600)
    settings = Settings(
        queue_url=_required(read, "QUEUE_URL", _parse_url, "the URL of an SQS queue"),
        allowed_buckets=_required(
            read, "ALLOWED_BUCKETS", _parse_allowed, "a comma list of bucket or bucket/prefix, or *"
        ),
        handlers=read.text("HANDLERS") or "handlers:ROUTES",
        expected_bucket_owner=owner,
        output_url=output,
        visibility_strategy=strategy,
        visibility_timeout=timeout,
        job_timeout=_job_timeout(read, strategy, timeout, grace),
        wait_seconds=read.whole("WAIT_SECONDS", 20, 0, SQS_WAIT_MAX_SECONDS),
        max_messages=max(1, read.whole("MAX_MESSAGES", 1, 0)),
        grace_seconds=grace,
        max_attempts=read.whole("MAX_ATTEMPTS", 5, 1),
        retry_strategy=read.choice("RETRY_STRATEGY", "backoff", "backoff", "expire"),
        retry_base_seconds=read.number("RETRY_BASE_SECONDS", 30, 0, SQS_VISIBILITY_MAX_SECONDS),
        retry_max_seconds=read.number("RETRY_MAX_SECONDS", 900, 0, SQS_VISIBILITY_MAX_SECONDS),
        on_sigterm=read.choice("ON_SIGTERM", "release", "release", "expire"),
        dlq_url=read.take("DLQ_URL", None, _parse_url, "the URL of an SQS queue"),
        read_connections=read.whole("READ_CONNECTIONS", 8, 1, 256),
        read_ahead_bytes=read.whole("READ_AHEAD_BYTES", 64 << 20, 1 << 20),
        max_object_bytes=read.whole("MAX_OBJECT_BYTES", 0, 0),
        max_decompressed_bytes=read.whole("MAX_DECOMPRESSED_BYTES", 0, 0),
        max_decompression_ratio=read.number("MAX_DECOMPRESSION_RATIO", 200, 0),
        spool_dir=spool,
        ready_file=Path(read.text("READY_FILE") or "/tmp/ready"),  # noqa: S108
        termination_log=_termination_log(read),
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


def _required(read: _Reader, name: str, parse: Callable[[str], T | None], expected: str) -> T | Any:
    value = read.take(name, None, parse, expected)
    if value is None and read.text(name) is None:
        read.complain(name, expected)
    return () if value is None and parse is _parse_allowed else value or ""


def _job_timeout(read: _Reader, strategy: str, visibility_seconds: int, grace: float) -> float:
    default = fixed_job_seconds(visibility_seconds, grace) if strategy == "fixed" else 21600
    return read.number("JOB_TIMEOUT", default, 0.001, SQS_VISIBILITY_MAX_SECONDS)


def fixed_job_seconds(visibility_seconds: float, grace_seconds: float) -> float:
    """What a handler may take where nothing renews: the lease's proven part less the stop."""
    return visibility_seconds * 5 / 6 - min(grace_seconds, visibility_seconds / 4)


def _termination_log(read: _Reader) -> Path | None:
    named = read.text("TERMINATION_LOG")
    if named:
        return Path(named)
    kubernetes = Path("/dev/termination-log")
    return kubernetes if kubernetes.exists() else None


def _complain_of_pairs(read: _Reader, settings: Settings) -> None:
    if settings.wait_seconds >= settings.grace_seconds:
        read.complain(
            "WAIT_SECONDS",
            f"less than GRACE_SECONDS ({settings.grace_seconds:g}), since a poll is never aborted",
        )


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
