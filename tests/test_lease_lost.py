"""How a lease is lost: in time, one way, and before anyone else may have the message."""

from itertools import pairwise

import anyio
import pytest
from fakes import message
from scripted import GONE, PASSING, Said, ScriptedExtender, lease_of
from virtual_time import now, virtual_time

from app.lease import Lease
from app.outcomes import (
    SQS_VISIBILITY_MAX_SECONDS,
    FailureError,
    LeaseLostError,
    MessageGoneError,
)


@virtual_time
async def test_a_lease_that_cannot_be_renewed_is_lost_in_time() -> None:
    """Lost when it can no longer be proven: a sixth before anyone else may have the message."""
    extender, said = ScriptedExtender([0.01], then=PASSING), Said()
    lease = lease_of(extender, said)
    await lease.take(now())
    await lease.keep()
    taken_at = extender.calls[0][0]
    assert now() - taken_at == pytest.approx(50, abs=0.1)
    assert lease.expires_in == pytest.approx(10, abs=0.1)
    assert lease.left == 0
    assert said.events[-1] == "lost lease_expired"
    with pytest.raises(LeaseLostError):
        lease.check()


@virtual_time
async def test_a_call_without_an_answer_does_not_outlive_the_belief() -> None:
    """Every call hangs: each is given up after its own time, and the last with the lease."""
    extender = ScriptedExtender([0.01], then=1e9)
    lease = lease_of(extender)
    await lease.take(now())
    await lease.keep()
    assert now() - extender.calls[0][0] == pytest.approx(50, abs=0.1)
    sent = [at for at, _ in extender.calls[1:]]
    assert len(sent) >= 3
    assert all(after - before < 10.1 for before, after in pairwise(sent))


@virtual_time
async def test_a_lease_is_lost_one_way() -> None:
    """Once lost, it stays lost, whatever a late answer says."""
    extender = ScriptedExtender([0.01, *[PASSING] * 40])
    lease = lease_of(extender)
    await lease.take(now())
    await lease.keep()
    for _ in range(2):
        with pytest.raises(LeaseLostError):
            await lease.ensure(1)
    assert lease.left == 0


@virtual_time
async def test_a_refused_renewal_loses_the_lease_at_once() -> None:
    """Where SQS says that the handle is gone, no time is left."""
    extender, said = ScriptedExtender([0.01, GONE]), Said()
    lease = lease_of(extender, said)
    await lease.take(now())
    await lease.keep()
    assert now() - extender.calls[1][0] < 0.1
    assert lease.left == 0
    assert said.events == ["lost message_gone"]
    with pytest.raises(MessageGoneError):
        lease.check()


@virtual_time
async def test_a_message_that_is_gone_cannot_be_taken() -> None:
    """The very first call may be refused."""
    lease = lease_of(ScriptedExtender([GONE]))
    with pytest.raises(MessageGoneError):
        await lease.take(now())


@virtual_time
async def test_taking_is_given_up_within_the_first_window() -> None:
    """Without an anchor the receive call's own window is all there is."""
    extender = ScriptedExtender(then=PASSING)
    lease = lease_of(extender)
    began = now()
    with pytest.raises(LeaseLostError, match="could not be taken"):
        await lease.take(began)
    assert 40 < now() - began <= 50
    assert len(extender.calls) > 5


@virtual_time
async def test_twelve_hours_are_never_exceeded() -> None:
    """Extensions shrink towards SQS's limit; then the lease is lost, and no call is refused."""
    extender, said = ScriptedExtender(), Said()
    lease = lease_of(extender, said, seconds=3600)
    received_at = now()
    await lease.take(now())
    await lease.keep()
    assert isinstance(lease.lost, LeaseLostError)
    for at, seconds in extender.calls:
        assert 0 < seconds <= 3600
        assert at - received_at + seconds < SQS_VISIBILITY_MAX_SECONDS
    assert now() - received_at < SQS_VISIBILITY_MAX_SECONDS
    assert now() - received_at > SQS_VISIBILITY_MAX_SECONDS - 1200


@virtual_time
async def test_a_delivery_as_old_as_twelve_hours_cannot_be_taken() -> None:
    """There is nothing to ask for; a call for no seconds would release the message."""
    extender = ScriptedExtender()
    lease = lease_of(extender, requested_at=now() - SQS_VISIBILITY_MAX_SECONDS)
    with pytest.raises(LeaseLostError, match="12 hours"):
        await lease.take(now())
    assert extender.calls == []


@virtual_time
async def test_a_step_waits_through_failures_until_the_end() -> None:
    """`ensure` tries while the lease lasts, and raises when it is over."""
    extender = ScriptedExtender([0.01], then=PASSING)
    lease = lease_of(extender)
    await lease.take(now())
    await anyio.sleep(45)
    with pytest.raises(LeaseLostError):
        await lease.ensure(10)
    assert now() - extender.calls[0][0] < 52


@virtual_time
async def test_a_suspended_machine_loses_the_lease_when_it_wakes() -> None:
    """The clock jumps while no timer ran: the next look finds the lease lost, not renewed."""
    skipped = 0.0

    def clock() -> float:
        return now() + skipped

    extender, said = ScriptedExtender(), Said()
    lease = Lease(extender, message(requested_at=clock()), said, seconds=60, now=clock)
    await lease.take(clock())
    async with anyio.create_task_group() as group:
        group.start_soon(lease.keep)
        await anyio.sleep(5)
        skipped = 3600.0
        woken_at = now()
    assert now() - woken_at <= 1
    assert said.events == ["lost lease_expired"]
    assert len(extender.calls) == 1


@virtual_time
async def test_a_failure_is_one_of_ours() -> None:
    """Whatever loses the lease is an error whose outcome is known: the message is left alone."""
    for last in (GONE, PASSING):
        lease = lease_of(ScriptedExtender([0.01], then=last))
        await lease.take(now())
        await lease.keep()
        assert isinstance(lease.lost, FailureError)
        assert lease.lost.outcome == "lease_lost"


@virtual_time
async def test_an_answer_after_the_visibility_ended_proves_nothing() -> None:
    """What SQS does to a message whose visibility has run out may be nothing, answered with 200."""
    for short in (2, 6):
        extender = ScriptedExtender([0.01], then=short / 3 - 0.1)
        lease = lease_of(extender, seconds=short)
        await lease.take(now())
        await anyio.sleep(short * 5 / 6 - 0.05)
        with pytest.raises(LeaseLostError):
            await lease.ensure(10)
