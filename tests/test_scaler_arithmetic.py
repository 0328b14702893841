"""KEDA's ScaledJob arithmetic: the worked numbers, and what holds for any."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.local.keda import QueueDepth, ScaledJob, Strategy, Trigger, jobs_to_create

DEFAULT, CUSTOM, ACCURATE, EAGER = Strategy


def _scaled_job(
    strategy: Strategy, *, in_flight: bool = True, most: int = 10, least: int = 0
) -> ScaledJob:
    trigger = Trigger(queue_length=1, scale_on_in_flight=in_flight)
    return ScaledJob(trigger, strategy, min_replicas=least, max_replicas=most)


# Three pods work on three messages, three more are visible.
BUSY = QueueDepth(visible=3, in_flight=3)


@pytest.mark.parametrize(
    ("strategy", "in_flight", "created"),
    [(DEFAULT, True, 3), (DEFAULT, False, 0), (ACCURATE, True, 6), (ACCURATE, False, 3)],
)
def test_three_running_three_visible(
    strategy: Strategy,
    in_flight: bool,  # noqa: FBT001 - a row of the table
    created: int,
) -> None:
    """Only `accurate` without the messages in flight creates one Job for each waiting message."""
    assert jobs_to_create(_scaled_job(strategy, in_flight=in_flight), BUSY, 3, 0) == created


def test_accurate_counting_in_flight_goes_on_creating_empty_pods() -> None:
    """With all six taken and three found empty, the next poll creates four more for nothing."""
    job = _scaled_job(ACCURATE)
    assert jobs_to_create(job, QueueDepth(in_flight=6), 6, 0) == 4


def test_accurate_does_not_create_twice_for_a_message_a_pending_pod_will_take() -> None:
    """Pods that were created but hold no message yet count against what is visible."""
    job = _scaled_job(ACCURATE, in_flight=False)
    assert jobs_to_create(job, QueueDepth(visible=3), 3, 3) == 0
    assert jobs_to_create(job, QueueDepth(visible=3), 3, 1) == 2


def test_accurate_near_the_maximum_takes_pending_pods_off_both() -> None:
    """Five waiting, three of six pods pending: two are missing, though 5 + 6 is too many."""
    job = _scaled_job(ACCURATE, in_flight=False)
    assert jobs_to_create(job, QueueDepth(visible=5), 6, 3) == 2
    assert jobs_to_create(job, QueueDepth(visible=8), 6, 3) == 4


def test_eager_fills_up_to_the_maximum_less_the_pending() -> None:
    """`eager` takes running and pending off the room, and is bounded by what is wanted."""
    assert jobs_to_create(_scaled_job(EAGER), QueueDepth(visible=20), 3, 2) == 5
    assert jobs_to_create(_scaled_job(EAGER), QueueDepth(visible=2), 3, 2) == 2


def test_custom_deducts_and_falls_back_to_default() -> None:
    """`custom` deducts a constant and a part of the running; without a percentage it is default."""
    job = dataclasses.replace(_scaled_job(CUSTOM), custom_deduction=1, custom_percentage=0.5)
    assert jobs_to_create(job, QueueDepth(visible=8), 5, 0) == 8 - 1 - 2
    assert jobs_to_create(_scaled_job(CUSTOM), QueueDepth(visible=8), 5, 0) == 3


def test_custom_can_lead_past_the_maximum() -> None:
    """KEDA bounds what `custom` adds, not the sum: so do we, or the local scaler would flatter."""
    job = dataclasses.replace(_scaled_job(CUSTOM), custom_percentage=0.0)
    assert jobs_to_create(job, QueueDepth(visible=50), 8, 0) == 10


def test_queue_length_is_messages_a_job() -> None:
    """Eleven messages at five a Job want three Jobs."""
    job = ScaledJob(Trigger(queue_length=5), DEFAULT, max_replicas=10)
    assert jobs_to_create(job, QueueDepth(visible=11), 0, 0) == 3


def test_delayed_messages_count_only_when_asked_for() -> None:
    """Messages sent with a delay wait for nobody: scaleOnDelayed is off unless set."""
    depth = QueueDepth(delayed=4)
    assert jobs_to_create(ScaledJob(Trigger(1)), depth, 0, 0) == 0
    assert jobs_to_create(ScaledJob(Trigger(1, scale_on_delayed=True)), depth, 0, 0) == 4


def test_below_the_minimum_only_the_missing_are_created() -> None:
    """A poll that finds too few Jobs restores the minimum and leaves the rest to the next one."""
    job = _scaled_job(ACCURATE, least=2)
    assert jobs_to_create(job, QueueDepth(), 0, 0) == 2
    assert jobs_to_create(job, QueueDepth(visible=9), 1, 0) == 1
    assert jobs_to_create(job, QueueDepth(), 2, 0) == 0


depths = st.builds(QueueDepth, *[st.integers(0, 10_000)] * 3)
triggers = st.builds(Trigger, st.integers(1, 50), st.integers(0, 50), st.booleans(), st.booleans())
bounds = st.tuples(st.integers(0, 200), st.integers(0, 200)).map(sorted)


@st.composite
def situations(
    draw: st.DrawFn, strategies: st.SearchStrategy[Strategy]
) -> tuple[ScaledJob, QueueDepth, int, int]:
    """A ScaledJob, a queue, and as many running and pending Jobs as it may have."""
    least, most = draw(bounds)
    deduction, percentage = draw(st.integers(0, 20)), draw(st.none() | st.floats(0, 2))
    job = ScaledJob(draw(triggers), draw(strategies), least, most, deduction, percentage)
    running = draw(st.integers(0, most))
    return job, draw(depths), running, draw(st.integers(0, running))


@given(situations(st.sampled_from([DEFAULT, ACCURATE, EAGER])))
def test_never_more_than_the_maximum(situation: tuple[ScaledJob, QueueDepth, int, int]) -> None:
    """Running and created together stay within max_replicas."""
    job, _, running, _ = situation
    assert running + jobs_to_create(*situation) <= job.max_replicas


@given(situations(st.sampled_from(Strategy)))
def test_never_negative_and_never_more_at_once_than_there_is_room_in_all(
    situation: tuple[ScaledJob, QueueDepth, int, int],
) -> None:
    """A poll never takes Jobs away, and never adds more than the ScaledJob may have."""
    job = situation[0]
    assert 0 <= jobs_to_create(*situation) <= job.max_replicas


@given(situations(st.sampled_from(Strategy)))
def test_nothing_is_created_at_or_below_activation(
    situation: tuple[ScaledJob, QueueDepth, int, int],
) -> None:
    """Once the minimum runs, a queue that is not active creates nothing."""
    job, depth, running, _ = situation
    if running >= job.min_replicas and (
        job.trigger.messages(depth) <= job.trigger.activation_queue_length
    ):
        assert jobs_to_create(*situation) == 0


@given(depths, st.integers(0, 10))
def test_the_manifests_choice_creates_one_for_each_waiting_message(
    depth: QueueDepth, ready: int
) -> None:
    """`accurate` without in flight, all running pods at work: min(visible, room)."""
    job = _scaled_job(ACCURATE, in_flight=False)
    assert jobs_to_create(job, depth, ready, 0) == min(depth.visible, 10 - ready)


@given(situations(st.sampled_from([ACCURATE, EAGER])))
def test_more_pending_never_creates_more(
    situation: tuple[ScaledJob, QueueDepth, int, int],
) -> None:
    """A Job that has not begun can only stand for one that need not be created."""
    job, depth, running, pending = situation
    assert jobs_to_create(job, depth, running, pending) <= jobs_to_create(job, depth, running, 0)
