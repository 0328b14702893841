"""The environment: whole and valid, or refused with every complaint at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.settings import (
    Allowed,
    Location,
    Settings,
    SettingsError,
    fixed_job_seconds,
    parse_location,
)

QUEUE = "https://sqs.eu-central-1.amazonaws.com/123456789012/files"
NEEDED = {"QUEUE_URL": QUEUE, "ALLOWED_BUCKETS": "in"}

# Every variable that is promised, with a value unlike the default and what it becomes.
OBEYED: dict[str, tuple[str, Any]] = {
    "QUEUE_URL": (f"{QUEUE}-2", f"{QUEUE}-2"),
    "HANDLERS": ("mine:TABLE", "mine:TABLE"),
    "ALLOWED_BUCKETS": ("a, b/p ,c/", (Allowed("a"), Allowed("b", "p"), Allowed("c"))),
    "EXPECTED_BUCKET_OWNER": ("123456789012", "123456789012"),
    "OUTPUT_URL": ("s3://out/some/prefix", Location("out", "some/prefix/")),
    "VISIBILITY_STRATEGY": ("fixed", "fixed"),
    "VISIBILITY_TIMEOUT": ("2", 2),
    "JOB_TIMEOUT": ("0.5", 0.5),
    "WAIT_SECONDS": ("0", 0),
    "MAX_MESSAGES": ("7", 7),
    "GRACE_SECONDS": ("21.5", 21.5),
    "MAX_ATTEMPTS": ("1", 1),
    "RETRY_STRATEGY": ("expire", "expire"),
    "RETRY_BASE_SECONDS": ("0", 0.0),
    "RETRY_MAX_SECONDS": ("43200", 43200.0),
    "ON_SIGTERM": ("expire", "expire"),
    "DLQ_URL": (f"{QUEUE}-dlq", f"{QUEUE}-dlq"),
    "LEDGER_URL": ("s3://ledger/records", Location("ledger", "records/")),
    "CHECKPOINT_SECONDS": ("0.5", 0.5),
    "STALL_TIMEOUT": ("60", 60.0),
    "MISSING_OBJECT": ("skip", "skip"),
    "CHANGED_OBJECT": ("reject", "reject"),
    "READ_CONNECTIONS": ("1", 1),
    "READ_AHEAD_BYTES": ("1048576", 1 << 20),
    "MAX_OBJECT_BYTES": ("1", 1),
    "MAX_DECOMPRESSED_BYTES": ("1", 1),
    "MAX_DECOMPRESSION_RATIO": ("0", 0.0),
    "SPOOL_DIR": ("/", Path("/")),
    "READY_FILE": ("/run/ready", Path("/run/ready")),
    "TERMINATION_LOG": ("/run/last-words", Path("/run/last-words")),
    "PUSHGATEWAY_URL": ("http://gateway:9091/", "http://gateway:9091"),
    "METRICS_JOB": ("mine", "mine"),
    "POD_NAME": ("pod-1", "pod-1"),
    "JOB_NAME": ("job-1", "job-1"),
    "POD_NAMESPACE": ("files", "files"),
    "LOG_LEVEL": ("debug", "DEBUG"),
    "LOG_FORMAT": ("console", "console"),
}
# Promised for a later version: refused, never ignored.
REFUSED = {
    "CONCURRENCY": "2",
    "IDLE_SECONDS": "5",
    "HTTP_PORT": "8080",
    "HANDLER_PROCESSES": "2",
    "MAX_MESSAGES": "0",
}
WRONG = {
    "QUEUE_URL": ["files", "https://", "s3://bucket", "https://host"],
    "ALLOWED_BUCKETS": [",", "s3://bucket", "in*", "/prefix", "*/prefix"],
    "EXPECTED_BUCKET_OWNER": ["1234", "12345678901x", "١٢٣٤٥٦٧٨٩٠١٢"],
    "OUTPUT_URL": ["out/prefix", "s3://", "s3:///prefix", "https://out/prefix"],
    "VISIBILITY_STRATEGY": ["Heartbeat", "dynamic"],
    "VISIBILITY_TIMEOUT": ["1", "43201", "60.5", "a minute", "nan"],
    "JOB_TIMEOUT": ["0", "-1", "nan", "inf", "43201"],
    "WAIT_SECONDS": ["-1", "21", "1.5"],
    "MAX_MESSAGES": ["-1", "many"],
    "GRACE_SECONDS": ["0", "3601", "nan"],
    "MAX_ATTEMPTS": ["0", "1.5"],
    "RETRY_STRATEGY": ["linear"],
    "RETRY_BASE_SECONDS": ["-1", "nan", "43201"],
    "RETRY_MAX_SECONDS": ["-1", "nan", "43201"],
    "ON_SIGTERM": ["delete"],
    "DLQ_URL": ["files-dlq"],
    "READ_CONNECTIONS": ["0", "257"],
    "READ_AHEAD_BYTES": ["0", "1000"],
    "MAX_OBJECT_BYTES": ["-1", "1e6"],
    "MAX_DECOMPRESSED_BYTES": ["-1"],
    "MAX_DECOMPRESSION_RATIO": ["-1", "nan"],
    "SPOOL_DIR": ["/no/such/folder", "/dev/null"],
    "LEDGER_URL": ["ledger/records", "s3://"],
    "CHECKPOINT_SECONDS": ["0", "3601", "nan"],
    "STALL_TIMEOUT": ["-1", "43201", "nan"],
    "MISSING_OBJECT": ["ignore"],
    "CHANGED_OBJECT": ["Follow", "ignore"],
    "LOG_LEVEL": ["LOUD"],
    "LOG_FORMAT": ["xml"],
}


def read(**env: str) -> Settings:
    """Settings of what is needed and these variables."""
    return Settings.from_env(NEEDED | env)


def complaints(env: Mapping[str, str]) -> list[str]:
    """What is said of an environment that is refused."""
    with pytest.raises(SettingsError) as refused:
        Settings.from_env(env)
    return refused.value.complaints


@pytest.mark.parametrize(("name", "promised"), OBEYED.items())
def test_every_promised_variable_is_obeyed(name: str, promised: tuple[str, Any]) -> None:
    """A variable of the documentation changes the setting of its name."""
    text, value = promised
    changed = read(**{name: text})
    assert getattr(changed, name.lower()) == value
    assert value != getattr(read(), name.lower())


@pytest.mark.parametrize(("name", "value"), REFUSED.items())
def test_what_is_not_built_yet_is_refused(name: str, value: str) -> None:
    """A variable that this version cannot obey is complained of, never ignored."""
    (complaint,) = complaints(NEEDED | {name: value})
    assert complaint.startswith(f"{name}: {value!r} is not usable: expected ")


@pytest.mark.parametrize(
    ("name", "value"),
    [("STALL_TIMEOUT", "0"), ("CONCURRENCY", "1"), ("HTTP_PORT", "0"), ("LEDGER_URL", " ")],
)
def test_what_asks_for_nothing_is_not_refused(name: str, value: str) -> None:
    """The default of a later version's variable, said aloud, asks for nothing new."""
    read(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_refused(name: str, value: str) -> None:
    """One line with the variable, its value and what is expected instead."""
    (complaint,) = complaints(NEEDED | {name: value})
    assert complaint.startswith(f"{name}: {value!r} is not usable: expected ")


def test_all_complaints_come_at_once() -> None:
    """Whoever configures a pod learns of every mistake in one go."""
    wrong = {name: values[0] for name, values in WRONG.items()} | REFUSED
    said = complaints(wrong)
    assert {line.partition(":")[0] for line in said} == set(wrong)
    assert len(said) == len(wrong)


def test_what_is_needed_is_asked_for() -> None:
    """Without a queue and without allowed buckets nothing can be done."""
    assert [line.partition(": expected")[0] for line in complaints({})] == [
        "QUEUE_URL: is not set",
        "ALLOWED_BUCKETS: is not set",
    ]


def test_an_empty_value_is_none() -> None:
    """Kubernetes makes variables of missing things empty: that is as if they were not there."""
    empty = dict.fromkeys([*OBEYED, *REFUSED], "  ") | NEEDED
    different = ("job_name", "pod_name")
    for name in Settings.__struct_fields__:
        if name not in different:
            assert getattr(Settings.from_env(empty), name) == getattr(read(), name)


def test_a_poll_must_end_within_the_grace() -> None:
    """A poll is never aborted, so a longer one could not be waited for after SIGTERM."""
    (complaint,) = complaints(NEEDED | {"WAIT_SECONDS": "10", "GRACE_SECONDS": "10"})
    assert complaint.startswith("WAIT_SECONDS: '10' is not usable: expected less than")
    read(WAIT_SECONDS="10", GRACE_SECONDS="10.5")
    (default,) = complaints(NEEDED | {"GRACE_SECONDS": "20"})
    assert default.startswith("WAIT_SECONDS: is not set: expected less than GRACE_SECONDS")


@given(st.integers(2, 43_200), st.floats(1, 3600))
def test_a_fixed_timeout_leaves_room_for_the_stop(seconds: int, grace: float) -> None:
    """The job's time and the time to hand back end before the lease can be proven no more."""
    job = fixed_job_seconds(seconds, grace)
    assert 0 < job < seconds * 5 / 6


def test_defaults_of_the_fixed_strategy() -> None:
    """Ten minutes of visibility, and the job's time within them."""
    fixed = read(VISIBILITY_STRATEGY="fixed")
    assert fixed.visibility_timeout == 600
    assert fixed.job_timeout is None  # as long as the lease of the message lasts
    assert read(VISIBILITY_STRATEGY="fixed", JOB_TIMEOUT="7").job_timeout == 7


NAMES = st.sampled_from(sorted({*OBEYED, *REFUSED}))
# What an environment can hold: no NUL.
VALUES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=200)


@given(st.dictionaries(NAMES, VALUES))
def test_any_environment_is_settings_or_complaints(env: dict[str, str]) -> None:
    """Never a traceback."""
    said: list[str] = []
    try:
        Settings.from_env(env)
    except SettingsError as refused:
        said = refused.complaints
    assert all(line.partition(":")[0] in {*OBEYED, *REFUSED} for line in said)
    assert all("\n" not in line for line in said)


def test_a_path_that_is_too_long_is_refused() -> None:
    """The operating system's own limits are no traceback either."""
    (complaint,) = complaints(NEEDED | {"SPOOL_DIR": "/" + "x" * 300})
    assert complaint.startswith("SPOOL_DIR: ")


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("s3://b", Location("b")),
        ("s3://b/", Location("b")),
        ("s3://b/p", Location("b", "p/")),
        ("s3://b/p/q//", Location("b", "p/q/")),
        ("b/p", None),
        ("s3:///p", None),
    ],
)
def test_locations(text: str, location: Location | None) -> None:
    """A prefix ends with one slash, so that no key runs into it."""
    assert parse_location(text) == location


@pytest.mark.parametrize(
    ("allowed", "bucket", "key", "admitted"),
    [
        ("in", "in", "any/key", True),
        ("in", "in2", "any/key", False),
        ("in/a/", "in", "a/key", True),
        ("in/a/", "in", "b/key", False),
        ("in/a", "in", "ab", True),
        ("*", "whatever", "key", True),
        ("x,in/a", "in", "a", True),
    ],
)
def test_which_objects_are_allowed(allowed: str, bucket: str, key: str, *, admitted: bool) -> None:
    """The bucket exactly, and the prefix as the beginning of the key."""
    assert read(ALLOWED_BUCKETS=allowed).allows(bucket, key) is admitted
