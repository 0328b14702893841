"""How many Jobs KEDA creates for a ScaledJob at one poll; pure, no I/O.

After kedacore/keda 2.20: `pkg/scaling/executor/scale_jobs.go`, `pkg/scaling/scaledjob/metrics.go`
and `pkg/scalers/aws_sqs_queue_scaler.go`, oddities included: what it computes wrongly is what a
cluster does.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum


class Strategy(StrEnum):
    """The scaling strategies of a ScaledJob."""

    DEFAULT = "default"
    CUSTOM = "custom"
    ACCURATE = "accurate"
    EAGER = "eager"


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """The three counts of GetQueueAttributes, in messages; on real SQS they lag."""

    visible: int = 0
    in_flight: int = 0
    delayed: int = 0

    @property
    def empty(self) -> bool:
        """Whether no message is counted in any state."""
        return not (self.visible or self.in_flight or self.delayed)


@dataclass(frozen=True, slots=True)
class Trigger:
    """The metadata of an `aws-sqs-queue` trigger; the defaults are KEDA's."""

    queue_length: int = 5
    activation_queue_length: int = 0
    scale_on_in_flight: bool = True
    scale_on_delayed: bool = False

    def messages(self, depth: QueueDepth) -> int:
        """Q: the messages that count for scaling."""
        return (
            depth.visible
            + (depth.in_flight if self.scale_on_in_flight else 0)
            + (depth.delayed if self.scale_on_delayed else 0)
        )


@dataclass(frozen=True, slots=True)
class ScaledJob:
    """What a ScaledJob says about scaling; the defaults are KEDA's.

    Attributes:
        custom_deduction: customScalingQueueLengthDeduction.
        custom_percentage: customScalingRunningJobPercentage, a factor for all its name (0.5 is
            half of the running Jobs); None where it is absent or no number.
    """

    trigger: Trigger = field(default_factory=Trigger)
    strategy: Strategy = Strategy.DEFAULT
    min_replicas: int = 0
    max_replicas: int = 100
    custom_deduction: int = 0
    custom_percentage: float | None = None


def jobs_to_create(job: ScaledJob, depth: QueueDepth, running: int, pending: int) -> int:
    """How many Jobs one poll creates, never negative.

    `running` are the Jobs that have not finished, `pending` those of them whose pods do not meet
    pendingPodConditions yet. `custom` alone can lead past `max_replicas`: KEDA bounds what it
    adds, not the sum.
    """
    if running < job.min_replicas:
        return job.min_replicas - running
    messages = job.trigger.messages(depth)
    if messages <= job.trigger.activation_queue_length:
        return 0
    room = job.max_replicas - job.min_replicas
    wanted = math.ceil(min(messages / job.trigger.queue_length, room))
    above_min = running - job.min_replicas
    allowed = _allowed(job, wanted, above_min, pending, room)
    ceiling = room if job.strategy is Strategy.EAGER else messages
    return max(0, min(ceiling, allowed))


def _allowed(job: ScaledJob, wanted: int, running: int, pending: int, room: int) -> int:
    """GetEffectiveMaxScale of the job's strategy; `running` counts those above the minimum."""
    match job.strategy:
        case Strategy.ACCURATE if wanted + running - pending > room:
            return room - running
        case Strategy.ACCURATE:
            return wanted - pending
        case Strategy.EAGER:
            return min(room - running - pending, wanted)
        case Strategy.CUSTOM if job.custom_percentage is not None:
            deducted = wanted - job.custom_deduction - int(running * job.custom_percentage)
            return min(deducted, room)
        case _:  # KEDA falls back to it also from a `custom` whose percentage is no number
            return wanted - running
