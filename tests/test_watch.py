"""Why work ends early, and how long it may take to: the gravest cause decides."""

from collections.abc import Callable
from itertools import permutations

import anyio
import pytest
from scripted import PASSING, Said, ScriptedExtender, lease_of
from virtual_time import now, virtual_time

from app.lease import Lease
from app.outcomes import Outcome, Reason
from app.watch import Cause, Halted, HandlerStuckError, Watch

GRACE = 50.0


class ScriptedErrand:
    """Work that stops so many seconds after it was asked to; never where that is infinite."""

    def __init__(self, stops_after: float = 0.0) -> None:
        self.stopped = anyio.Event()
        self.error: BaseException | None = None
        self.value: object = None
        self.cancelled_at: list[float] = []
        self._stops_after = stops_after

    def cancel(self) -> None:
        """Ask it to stop."""
        self.cancelled_at.append(now())

    async def run(self) -> None:
        """Go on until asked to stop, and then for as long as it takes."""
        while not self.cancelled_at:  # noqa: ASYNC110 - in virtual time, nothing is waited for
            await anyio.sleep(0.01)
        await anyio.sleep(self._stops_after)
        self.stopped.set()


async def held() -> Lease:
    """A lease of 60 seconds that was just taken."""
    lease = lease_of(ScriptedExtender())
    await lease.take(now())
    return lease


async def lost() -> Lease:
    """A lease that could not be renewed."""
    lease = lease_of(ScriptedExtender([0.01], then=PASSING), Said())
    await lease.take(now())
    await lease.keep()
    return lease


@pytest.mark.parametrize("order", list(permutations(Cause)))
@virtual_time
async def test_the_gravest_cause_decides(order: tuple[Cause, ...]) -> None:
    """In whatever order they come: lease lost, then the stop, then the deadline."""
    watch = Watch(await lost(), GRACE, now)
    for seen, cause in enumerate(order, 1):
        watch.halt(cause)
        assert watch.cause == min(order[:seen])
    assert watch.result().outcome is Outcome.LEASE_LOST


@pytest.mark.parametrize(
    ("cause", "outcome", "reason"),
    [
        (Cause.LEASE_LOST, Outcome.LEASE_LOST, Reason.LEASE_EXPIRED),
        (Cause.STOP, Outcome.INTERRUPTED, Reason.STOPPED),
        (Cause.DEADLINE, Outcome.RETRY, Reason.DEADLINE),
    ],
)
@virtual_time
async def test_what_a_cause_means(cause: Cause, outcome: Outcome, reason: Reason) -> None:
    """Each cause has its outcome and its reason, which `check` raises."""
    watch = Watch(await (lost() if cause is Cause.LEASE_LOST else held()), GRACE, now)
    watch.check()
    watch.halt(cause)
    with pytest.raises(Halted) as halted:
        watch.check()
    assert (halted.value.result.outcome, halted.value.result.reason) == (outcome, reason)


@virtual_time
async def test_work_that_ends_by_itself_is_left_alone() -> None:
    """Without a cause nothing is cancelled and nothing raised."""
    watch, errand = Watch(await held(), GRACE, now), ScriptedErrand()
    errand.stopped.set()
    await watch.finish(errand)
    assert errand.cancelled_at == []


@virtual_time
async def test_halting_cancels_the_work_and_waits_until_it_has_stopped() -> None:
    """The handler is told at once; that it has stopped is waited for, not assumed."""
    watch, errand = Watch(await held(), GRACE, now), ScriptedErrand(stops_after=7)
    async with anyio.create_task_group() as group:
        group.start_soon(errand.run)
        group.start_soon(_later, 3, lambda: watch.halt(Cause.STOP))
        began = now()
        with pytest.raises(Halted):
            await watch.finish(errand)
    assert errand.cancelled_at == [pytest.approx(began + 3)]
    assert now() - began == pytest.approx(10, abs=0.6)


@virtual_time
async def test_work_begun_after_a_halt_is_cancelled_at_once() -> None:
    """A stop that came between two pieces of work is not forgotten."""
    watch, errand = Watch(await held(), GRACE, now), ScriptedErrand()
    watch.halt(Cause.STOP)
    async with anyio.create_task_group() as group:
        group.start_soon(errand.run)
        with pytest.raises(Halted):
            await watch.finish(errand)
    assert len(errand.cancelled_at) == 1


@pytest.mark.parametrize("cause", [Cause.STOP, Cause.DEADLINE])
@virtual_time
async def test_a_handler_that_does_not_stop_is_stuck_at_the_grace(cause: Cause) -> None:
    """It has the grace, less what handing the message back takes; then it is given up."""
    watch, errand = Watch(await held(), GRACE, now), ScriptedErrand(float("inf"))
    began = now()
    watch.halt(cause)
    with pytest.raises(HandlerStuckError) as stuck:
        await watch.finish(errand)
    assert 45 < now() - began < 50
    assert stuck.value.result == watch.result()


@virtual_time
async def test_a_signal_counts_from_when_it_came() -> None:
    """Twenty seconds of the grace were used up before the handler was told."""
    watch, errand = Watch(await held(), GRACE, now), ScriptedErrand(float("inf"))
    began = now()
    watch.halt(Cause.STOP, since_seconds=20)
    with pytest.raises(HandlerStuckError):
        await watch.finish(errand)
    assert 25 < now() - began < 30


@virtual_time
async def test_a_lost_lease_leaves_less_time_than_anyone_else_needs() -> None:
    """The process is gone before the message can be given to another consumer."""
    lease = await lost()
    watch, errand = Watch(lease, GRACE, now), ScriptedErrand(float("inf"))
    assert lease.expires_in == pytest.approx(10, abs=0.1)
    watch.halt(Cause.LEASE_LOST)
    with pytest.raises(HandlerStuckError):
        await watch.finish(errand)
    assert lease.expires_in > 0


@virtual_time
async def test_a_graver_cause_shortens_the_time_and_a_lesser_one_does_not_lengthen_it() -> None:
    """A stop, then a lost lease: the lease's limit counts. The other way round: it still does."""
    for order in ([Cause.STOP, Cause.LEASE_LOST], [Cause.LEASE_LOST, Cause.STOP]):
        lease = await lost()
        watch, errand = Watch(lease, GRACE, now), ScriptedErrand(float("inf"))
        for cause in order:
            watch.halt(cause)
        with pytest.raises(HandlerStuckError):
            await watch.finish(errand)
        assert lease.expires_in > 0


@virtual_time
async def test_a_stop_gives_no_second_grace() -> None:
    """The handler was to stop at its deadline already; a signal does not buy it more time."""
    watch, errand = Watch(await held(), GRACE, now), ScriptedErrand(float("inf"))
    began = now()
    watch.halt(Cause.DEADLINE)
    await anyio.sleep(40)
    watch.halt(Cause.STOP)
    with pytest.raises(HandlerStuckError) as stuck:
        await watch.finish(errand)
    assert now() - began < 50
    assert stuck.value.result.outcome is Outcome.INTERRUPTED


@virtual_time
async def test_who_asked_for_it_is_told_of_the_halt() -> None:
    """Once for each graver cause, and at once by one that asks too late."""
    watch = Watch(await held(), GRACE, now)
    told: list[str] = []
    watch.on_halt(lambda: told.append("early"))
    watch.halt(Cause.DEADLINE)
    watch.on_halt(lambda: told.append("late"))
    assert told == ["early", "late"]


@virtual_time
async def test_a_commit_under_way_is_bounded_not_cancelled() -> None:
    """A stop while committing leaves it the time that the grace has, and no more."""
    watch = Watch(await held(), GRACE, now)
    began = now()
    with anyio.CancelScope() as scope, watch.committing(scope):
        watch.halt(Cause.STOP)
        await anyio.sleep(10)
        reached = now() - began
        await anyio.sleep_forever()
    assert reached == pytest.approx(10)
    assert scope.cancelled_caught
    assert 45 < now() - began < 50


@virtual_time
async def test_a_deadline_while_committing_is_none() -> None:
    """The time is the handler's, and the handler is done."""
    watch = Watch(await held(), GRACE, now)
    with anyio.CancelScope() as scope, watch.committing(scope):
        watch.halt(Cause.DEADLINE)
        await anyio.sleep(3600)
    assert not scope.cancelled_caught
    watch.check()


async def _later(seconds: float, act: Callable[[], None]) -> None:
    await anyio.sleep(seconds)
    act()
