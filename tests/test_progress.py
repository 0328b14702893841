"""How far, how fast, how long: the arithmetic, and how often it is said."""

import itertools
import math
import re
from typing import Any

import anyio
import pytest
from harness.aws import Scene
from harness.launch import Launcher
from virtual_time import now, virtual_time

from app import progress
from app.progress import Counted, Meter

MB = 1_000_000


def counted(
    read: int, *, size: int = 100 * MB, reached: int = 0, began: float = 1000.0, **told: float
) -> Counted:
    """Some work on an object of 100 MB."""
    return Counted(began, "k", size, read, reached, **told)


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (counted(25 * MB), {"bytes": 25 * MB, "percent": 25.0, "rate": 5 * MB}),
        # After a resume: the bytes before it are not read again.
        (
            counted(10 * MB, reached=70 * MB),
            {"bytes": 70 * MB, "percent": 70.0, "rate": 2 * MB},
        ),
        # Read twice: never more than all of it.
        (counted(150 * MB), {"bytes": 100 * MB, "percent": 100.0, "rate": 30 * MB}),
        (counted(0, size=0), {"bytes": 0, "rate": 0}),
        (
            counted(50 * MB, done=7.0),
            {"bytes": 50 * MB, "percent": 50.0, "rate": 10 * MB, "done": 7},
        ),
        (
            counted(50 * MB, done=7.5, total=30.0),
            {
                "bytes": 50 * MB,
                "percent": 25.0,
                "rate": 10 * MB,
                "done": 7.5,
                "done_total": 30,
            },
        ),
        (
            counted(50 * MB, done=1.0, total=0.0),
            {"bytes": 50 * MB, "percent": 50.0, "rate": 10 * MB, "done": 1, "done_total": 0},
        ),
    ],
    ids=["read", "resumed", "read twice", "empty", "rows", "rows of a total", "of nothing"],
)
def test_what_the_first_look_tells(found: Counted, told: dict[str, Any]) -> None:
    """Bytes of the object, the share of the work, the speed since it began."""
    whole = {"total": found.size, "seconds": 5.0}
    assert Meter().look(1005.0, found) == told | whole


def test_numbers_that_are_none_make_no_share() -> None:
    """A handler may count on in what is no number; nothing is made of it."""
    found = Meter().look(1005.0, counted(MB, done=math.nan, total=10.0))
    assert "percent" not in found
    assert "percent" not in Meter().look(1005.0, counted(MB, done=1e308, total=1e-308))


def test_the_time_that_is_left_follows_the_speed_of_late() -> None:
    """A slow start is forgotten; at the end nothing is left."""
    meter = Meter()
    meter.look(1000.5, counted(0))
    assert "eta_seconds" not in meter.look(1010.0, counted(0))
    for second in range(20):
        found = meter.look(1011.0 + second, counted(2 * MB * second))
    assert (found["rate"], found["eta_seconds"]) == (2 * MB, 31.0)
    assert "eta_seconds" not in meter.look(1032.0, counted(100 * MB))


def test_another_piece_of_work_begins_anew() -> None:
    """The speed of one says nothing of the next; nor do rows of bytes."""
    meter = Meter()
    meter.look(1005.0, counted(50 * MB))
    meter.look(1010.0, counted(100 * MB))
    assert meter.look(1011.0, counted(MB, began=1010.0))["rate"] == MB
    rows = meter.look(1012.0, counted(2 * MB, began=1010.0, done=1.0, total=10.0))
    assert "eta_seconds" not in rows
    later = meter.look(1013.0, counted(2 * MB, began=1010.0, done=2.0, total=10.0))
    assert later["eta_seconds"] == 8.0


@virtual_time
async def test_it_is_said_soon_at_first_and_then_ever_more_seldom() -> None:
    """However often it changes: some ten lines in the first ten seconds, then one every ten."""
    said: list[float] = []

    def look() -> Counted:
        return counted(int((now() - 1000) * MB), size=10_000 * MB)

    with anyio.move_on_after(600):
        await progress.tell(look, lambda **_: said.append(now() - 1000), now)
    assert said[0] == 0.5
    assert 5 <= sum(at <= 10 for at in said) <= 12
    pauses = [later - sooner for sooner, later in itertools.pairwise(said)]
    assert min(pauses) >= 0.5
    assert set(pauses[-50:]) == {10.0}


@virtual_time
async def test_where_nothing_moves_nothing_is_said() -> None:
    """Before the work begins, and while it stands still."""
    said: list[dict[str, Any]] = []
    state: list[Counted | None] = [None]
    async with anyio.create_task_group() as group:
        group.start_soon(progress.tell, lambda: state[0], lambda **told: said.append(told), now)
        await anyio.sleep(5)
        assert said == []
        state[0] = counted(MB, began=now())
        await anyio.sleep(60)
        assert [told["bytes"] for told in said] == [MB]
        # The next one does not wait for the other's pause.
        state[0] = counted(2 * MB, began=now())
        await anyio.sleep(1)
        assert [told["bytes"] for told in said] == [MB, 2 * MB]
        group.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (
            {"bytes": 12_300_000, "total": 24_400_000, "percent": 50.4, "rate": 8_400_000},
            "12.3 of 24.4 MB, 50 %, 8.4 MB/s",
        ),
        ({"percent": 99.9, "eta_seconds": 0.2}, "99 %, 1 s left"),
        ({"bytes": 0, "total": 0, "done": 1234}, "1,234 so far"),
        ({"eta_seconds": 61}, "1 min 1 s left"),
        ({"eta_seconds": 7500}, "2 h 5 min left"),
        ({"percent": "<b>", "done": None, "rate": math.inf, "bytes": 10**400, "total": 1}, ""),
    ],
)
def test_it_is_told_in_words(facts: dict[str, Any], words: str) -> None:
    """For people; what a handler of the user's has put into such an event is no number to us."""
    assert progress.in_words(facts) == words


SLOWLY = """
def handle(job):
    for start in range(0, job.object.size, 100_000):
        job.object.read(start, start + 100_000)
        for _ in range(1000):
            {call}
        time.sleep(0.2)
"""


@pytest.mark.parametrize(
    ("call", "factor", "more"),
    [("pass", 1.0, set()), ("job.progress(start // 2, job.object.size)", 0.5, {"done"})],
    ids=["silent", "told"],
)
def test_a_job_tells_how_far_it_is(
    call: str, factor: float, more: set[str], scene: Scene, start: Launcher
) -> None:
    """Also of a handler that blocks, and never says a word itself; never once per call."""
    scene.submit("k", bytes(1_000_000))

    worker = start(SLOWLY.format(call=call))

    assert worker.wait() == 0
    events = worker.events("progress")
    assert 1 <= len(events) <= 2 * worker.events("job_finished")[0]["seconds"]
    found = events[-1]
    assert {"bytes", "total", "percent", "rate", "seconds"} | more <= set(found)
    assert found["total"] == 1_000_000
    assert found["percent"] == pytest.approx(found["bytes"] / 10_000 * factor, abs=11)
    assert 0 < found["rate"] < 1_000_000
    assert any("eta_seconds" in event for event in events)


def test_the_console_says_it_in_words(scene: Scene, start: Launcher) -> None:
    """One line to read, in place of eight numbers."""
    scene.submit("k", bytes(1_000_000))

    worker = start(SLOWLY.format(call="pass"), LOG_FORMAT="console")

    assert worker.wait() == 0
    lines = [line for line in worker.stdout.splitlines() if "progress" in line]
    assert lines
    assert re.search(r"so_far='0\.\d of 1\.0 MB, \d0 %, 0\.\d MB/s", lines[0]), lines[0]
    assert not any("eta_seconds" in line for line in lines)


def test_a_progress_that_is_no_number_is_the_handlers_own_error(
    scene: Scene, start: Launcher
) -> None:
    """It is raised where it is called, and never in what keeps the message."""
    scene.submit("k")

    worker = start("async def handle(job): job.progress('some')")

    assert worker.wait() == 75
    assert "could not convert" in worker.events("handler_failed")[0]["error"]
