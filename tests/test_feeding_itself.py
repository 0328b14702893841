"""Whether a job's outputs would start the next job: tried out by brute force."""

from fnmatch import fnmatchcase
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from app.settings import Location, Settings, can_match, feeds_itself

PATTERNS = st.text("ab/*?", max_size=4)
PREFIXES = st.sampled_from(["", "a/", "b/", "a/b/"])
ENDINGS = ["".join(letters) for size in range(5) for letters in product("ab/", repeat=size)]


def allowing(*entries: tuple[str, str]) -> Settings:
    """Settings that admit these buckets, each below a prefix."""
    texts = [bucket if bucket == "*" else f"{bucket}/{start}" for bucket, start in entries]
    allowed = ",".join(texts) or "nothing"
    return Settings.from_env({"QUEUE_URL": "https://sqs/queue", "ALLOWED_BUCKETS": allowed})


@given(PATTERNS, st.text("ab/", max_size=4))
def test_whether_a_pattern_can_match_below_a_prefix(pattern: str, prefix: str) -> None:
    """Exactly where some text that begins with the prefix matches; tried out by brute force."""
    found = any(fnmatchcase(prefix + ending, pattern) for ending in ENDINGS)
    assert can_match(pattern, prefix) is found


ENTRIES = st.tuples(st.sampled_from(["out", "in", "*"]), PREFIXES)


@settings(max_examples=500)
@given(PATTERNS, PREFIXES, st.lists(ENTRIES, max_size=2))
def test_whether_outputs_would_start_the_job_again(
    pattern: str, prefix: str, entries: list[tuple[str, str]]
) -> None:
    """Exactly where some output would be allowed as input and match the route."""
    where = Location("out", prefix)
    allowed = allowing(*entries)
    starts = {prefix, *(start for _, start in entries if start.startswith(prefix))}
    keys = [start + ending for start in starts for ending in ENDINGS]
    again = any(allowed.allows("out", key) and fnmatchcase(key, pattern) for key in keys)
    assert feeds_itself(where, pattern, "*", allowed) is again


def test_a_route_of_another_bucket_takes_no_outputs() -> None:
    """A route's own bucket pattern keeps it from its outputs."""
    anywhere = allowing(("*", ""))
    assert feeds_itself(Location("out"), "*", "o*", anywhere)
    assert not feeds_itself(Location("out"), "*", "in*", anywhere)


def test_brackets_are_rather_refused_than_overlooked() -> None:
    """A class of letters in a pattern is understood where it is whole."""
    assert can_match("in/[ab]*.csv", "in/a")
    assert not can_match("in/[ab]*.csv", "in/c")
    assert can_match("in/[!ab]?", "in/c")
