"""The lease while it is held: its arithmetic, and how it is taken, renewed and given up."""

from itertools import pairwise
from random import Random

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import PASSING, Said, ScriptedExtender, kept, lease_of
from virtual_time import now, virtual_time

from app.lease import Belief, call_seconds, clamp, renew_after
from app.outcomes import SQS_VISIBILITY_MAX_SECONDS, LeaseLostError

SECONDS = st.integers(2, SQS_VISIBILITY_MAX_SECONDS)


@given(st.floats(0, 1e6), SECONDS)
def test_the_belief_ends_before_the_visibility_does(sent_at: float, seconds: int) -> None:
    """What can be proven ends a sixth of the lease before another may be given the message."""
    belief = Belief(sent_at, seconds)
    assert sent_at < belief.until < belief.expires_at == sent_at + seconds
    assert belief.expires_at - belief.until == pytest.approx(seconds / 6, abs=1e-6)


@given(SECONDS, st.integers())
def test_two_renewals_fit_into_what_is_proven(seconds: int, seed: int) -> None:
    """Even two late ones in a row, each with a call that takes all the time it has."""
    random = Random(seed)
    first, second = renew_after(seconds, random), renew_after(seconds, random)
    assert seconds * 0.3 <= first <= seconds * 0.3667
    assert first + second < Belief(0, seconds).until


@given(SECONDS)
def test_a_renewal_gives_up_in_time_for_the_next(seconds: int) -> None:
    """One call takes a third of the lease at most, connecting and answering together."""
    connect, read = call_seconds(seconds)
    assert 0 < connect <= 3
    assert 0 < read <= 5
    assert connect + read <= seconds / 3 + 1e-9


@given(st.floats(0, SQS_VISIBILITY_MAX_SECONDS * 2), st.floats(0, 1e6), st.floats(0, 1e5))
def test_nothing_is_asked_beyond_twelve_hours(
    seconds: float, requested_at: float, passed: float
) -> None:
    """Asking for more than SQS grants is an error of SQS's, so it is never asked for."""
    granted = clamp(seconds, requested_at, requested_at + passed)
    assert 0 <= granted <= seconds
    assert granted == 0 or granted + passed < SQS_VISIBILITY_MAX_SECONDS
    if seconds + passed < SQS_VISIBILITY_MAX_SECONDS - 3:
        assert granted == int(seconds)


@virtual_time
async def test_a_lease_is_anchored_before_it_is_believed() -> None:
    """Nothing is held until one change of visibility has succeeded."""
    extender = ScriptedExtender()
    lease = lease_of(extender)
    assert lease.left == 0
    began = now()
    await lease.take(began)
    assert extender.calls == [(began, 60)]
    assert lease.left == pytest.approx(50, abs=0.1)
    assert lease.expires_in == pytest.approx(60, abs=0.1)


@virtual_time
async def test_the_lease_runs_from_when_it_was_asked_for() -> None:
    """How long the answer took counts against it: SQS may have acted at any time before."""
    lease = lease_of(ScriptedExtender([7.0]))
    began = now()
    await lease.take(began)
    assert now() == began + 7
    assert lease.left == pytest.approx(43)


@virtual_time
async def test_renewals_come_every_third_of_the_lease() -> None:
    """An hour's work under a lease of a minute: renewed all along, never late, never lost."""
    extender, said = ScriptedExtender(), Said()
    lease = lease_of(extender, said)
    async with kept(lease):
        await anyio.sleep(3600)
        lease.check()
    sent = [at for at, _ in extender.calls]
    pauses = [after - before for before, after in pairwise(sent)]
    assert all(18 <= pause <= 22.1 for pause in pauses)
    assert 3600 / 22.1 < len(sent) < 3600 / 18 + 2
    assert said.events == ["renewed"] * (len(sent) - 1)
    assert max(said.late) < 0.1
    assert lease.lost is None


@virtual_time
async def test_a_renewal_that_fails_once_ends_nothing() -> None:
    """It is tried again soon, long before the lease runs out."""
    extender, said = ScriptedExtender([0.01, PASSING]), Said()
    lease = lease_of(extender, said)
    async with kept(lease):
        await anyio.sleep(30)
        lease.check()
    failed, repeated = extender.calls[1][0], extender.calls[2][0]
    assert repeated - failed < 2.5
    assert said.events == ["failed transport", "renewed"]


@virtual_time
async def test_taking_survives_a_failed_call() -> None:
    """The anchor is tried again, like any renewal."""
    extender = ScriptedExtender([PASSING, PASSING])
    lease = lease_of(extender)
    await lease.take(now())
    assert lease.left > 49
    assert len(extender.calls) == 3


@virtual_time
async def test_stopping_waits_for_the_call_under_way() -> None:
    """A renewal that is on its way is answered before `keep` returns, and none follows."""
    extender = ScriptedExtender([0.01, 7.0])
    lease = lease_of(extender)
    await lease.take(now())
    async with anyio.create_task_group() as group:
        group.start_soon(lease.keep)
        await anyio.sleep(22.5)  # the first renewal comes at 22 seconds at the latest
        assert len(extender.calls) == 2
        lease.stop()
        stopped_at = now()
    assert now() > stopped_at + 2
    assert len(extender.answered) == 2
    assert extender.answered[1] <= now()
    await anyio.sleep(120)
    assert len(extender.calls) == 2


@virtual_time
async def test_stopping_an_idle_heartbeat_is_immediate() -> None:
    """Between two renewals there is nothing to wait for."""
    lease = lease_of(ScriptedExtender())
    async with kept(lease):
        await anyio.sleep(5)
        stopped_at = now()
    assert now() == stopped_at


@virtual_time
async def test_a_fixed_lease_is_never_renewed() -> None:
    """One change of visibility at the beginning, and the end where it was said."""
    extender = ScriptedExtender()
    lease = lease_of(extender, renewing=False, seconds=600)
    await lease.take(now())
    await lease.keep()
    assert len(extender.calls) == 1
    assert now() - extender.calls[0][0] == pytest.approx(500, abs=0.1)
    with pytest.raises(LeaseLostError):
        await lease.ensure(1)
    assert len(extender.calls) == 1


@virtual_time
async def test_enough_is_left_for_a_step_or_made_to_be() -> None:
    """`ensure` renews where too little is left, and asks nothing where enough is."""
    extender = ScriptedExtender()
    lease = lease_of(extender)
    await lease.take(now())
    await lease.ensure(10)
    assert len(extender.calls) == 1
    await anyio.sleep(45)
    assert lease.left < 10
    await lease.ensure(10)
    assert len(extender.calls) == 2
    assert lease.left > 40


@virtual_time
async def test_taking_ends_when_it_is_stopped() -> None:
    """A stop does not wait until the first window is over."""
    extender = ScriptedExtender(then=PASSING)
    lease = lease_of(extender)
    began = now()
    async with anyio.create_task_group() as group:
        group.start_soon(lease.take, began)
        await anyio.sleep(7)
        lease.stop()
    assert now() - began == pytest.approx(7, abs=0.1)
    assert not lease.taken
    assert lease.left == 0
