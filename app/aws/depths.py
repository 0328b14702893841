"""How many messages a queue and its dead letters hold."""

from typing import Any

# First, since it decides what the SDK imports.
import app.aws.startup  # isort: skip  # noqa: F401

from botocore.config import Config

from app.aws import plain
from app.aws.errors import translated
from app.aws.redrive import named_by

_STATES = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}


def depths(queue_url: str, dlq_url: str | None) -> dict[tuple[str, str], int]:
    """Messages by queue and state; the dead letters' queue is looked up where it is not named.

    Raises:
        FailureError: a queue cannot be asked.
    """
    config = Config(connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 3})
    client = plain.client("sqs", config)
    with translated("asking for the depth"):
        asked = _attributes(client, queue_url)
        found = _counted(queue_url, asked)
        policy = asked.get("RedrivePolicy")
        if dlq_url is None and policy:
            dlq_url = client.get_queue_url(**named_by(policy))["QueueUrl"]
        if dlq_url is not None:
            found |= _counted(dlq_url, _attributes(client, dlq_url))
    return found


def _attributes(client: Any, queue_url: str) -> dict[str, str]:
    names = [*_STATES.values(), "RedrivePolicy"]
    answer = client.get_queue_attributes(QueueUrl=queue_url, AttributeNames=names)
    return dict(answer.get("Attributes", {}))


def _counted(queue_url: str, attributes: dict[str, str]) -> dict[tuple[str, str], int]:
    queue = queue_url.rpartition("/")[2]
    return {(queue, state): int(attributes.get(name, 0)) for state, name in _STATES.items()}
