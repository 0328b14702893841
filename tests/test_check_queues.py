"""What `check` makes of attributes that the local AWS does not keep."""

import json
from collections.abc import Mapping

import pytest

from app.checks import queues
from app.checks.findings import Level
from app.settings import Settings
from app.stackfacts import QueueFacts

SETTINGS = Settings.from_env(
    {"QUEUE_URL": "https://sqs.example.com/1/files", "ALLOWED_BUCKETS": "b"}
)
ARN, DLQ_ARN = "arn:aws:sqs:eu-central-1:123456789012:files", "arn:aws:sqs:eu-central-1:1:letters"
FORTNIGHT = str(14 * 86_400)


def queue(skew: float | None = 0.0, /, **attributes: str) -> QueueFacts:
    """A queue that is as it should be, but for these attributes."""
    redrive = json.dumps({"deadLetterTargetArn": DLQ_ARN, "maxReceiveCount": 100})
    usual = {"QueueArn": ARN, "MessageRetentionPeriod": FORTNIGHT, "RedrivePolicy": redrive}
    return QueueFacts("https://sqs.example.com/1/files", usual | attributes, skew)


def letters(url: str = "https://sqs.example.com/1/letters", /, **attributes: str) -> QueueFacts:
    """Dead letters that are as they should be, but for these attributes."""
    usual = {"QueueArn": DLQ_ARN, "MessageRetentionPeriod": FORTNIGHT}
    return QueueFacts(url, usual | attributes)


def found(source: QueueFacts, dlq: QueueFacts | None) -> Mapping[str, Level]:
    """The findings' names, with their levels."""
    return {one.name: one.level for one in queues.judge(source, dlq, SETTINGS)}


@pytest.mark.parametrize(
    ("allow", "expected"),
    [
        ({"redrivePermission": "allowAll"}, {}),
        ({"redrivePermission": "denyAll"}, {"redrive_denied": Level.ERROR}),
        ({"redrivePermission": "byQueue", "sourceQueueArns": [ARN]}, {}),
        (
            {"redrivePermission": "byQueue", "sourceQueueArns": [DLQ_ARN]},
            {"redrive_denied": Level.ERROR},
        ),
    ],
)
def test_whom_the_dead_letters_admit(
    allow: Mapping[str, object], expected: Mapping[str, Level]
) -> None:
    """RedriveAllowPolicy: who is not named is not moved."""
    assert found(queue(), letters(RedriveAllowPolicy=json.dumps(allow))) == expected


@pytest.mark.parametrize(
    ("skew", "expected"),
    [
        (None, {}),
        (-29.0, {}),
        (31.0, {"clock": Level.WARNING}),
        (-301.0, {"clock": Level.ERROR}),
    ],
)
def test_a_clock_that_is_off(skew: float | None, expected: Mapping[str, Level]) -> None:
    """Within AWS's five minutes it only puts ages off."""
    assert found(queue(skew), letters()) == expected


def test_dead_letters_of_another_kind() -> None:
    """SQS moves nothing between a FIFO queue and a standard one."""
    assert found(queue(), letters("https://sqs.example.com/1/letters.fifo")) == {
        "dead_letter_queue_type": Level.ERROR
    }


def test_a_queue_that_is_its_own_dead_letters() -> None:
    """What is rejected would come back for ever."""
    redrive = json.dumps({"deadLetterTargetArn": ARN, "maxReceiveCount": 100})
    same = queue(RedrivePolicy=redrive)
    assert found(same, same) == {"dead_letters_return": Level.ERROR}


def test_two_places_for_dead_letters() -> None:
    """DLQ_URL and the redrive policy name different queues."""
    assert found(queue(), letters(QueueArn="arn:aws:sqs:eu-central-1:1:others")) == {
        "two_dead_letter_queues": Level.WARNING
    }
