"""What was read of a stack, as it was said."""

from typing import Any

import msgspec


class QueueFacts(msgspec.Struct, frozen=True):
    """A queue.

    Attributes:
        attributes: as GetQueueAttributes gives them.
        skew_seconds: of this machine's clock against the service's; None where it does not say.
    """

    url: str
    attributes: dict[str, str]
    skew_seconds: float | None = None

    @property
    def name(self) -> str:
        """The last part of its URL."""
        return self.url.rpartition("/")[2]

    @property
    def arn(self) -> str:
        """As policies and notifications name it."""
        return self.attributes.get("QueueArn", "")

    @property
    def retention_seconds(self) -> int:
        """How long it keeps a message; SQS's default where it does not say."""
        return int(self.attributes.get("MessageRetentionPeriod", 345_600))

    def policy(self, name: str) -> dict[str, Any]:
        """An attribute that is JSON; empty where there is none, or it is no object."""
        try:
            found = msgspec.json.decode(self.attributes.get(name) or "{}")
        except msgspec.DecodeError:
            return {}
        return found if isinstance(found, dict) else {}


class Unread(msgspec.Struct, frozen=True):
    """A part of the stack that could not be looked at."""

    what: str
    why: str


class BucketFacts(msgspec.Struct, frozen=True):
    """A bucket.

    Attributes:
        notification: as GetBucketNotificationConfiguration gives it; None: not read.
        lifecycle: the rules of GetBucketLifecycleConfiguration; None: not read.
    """

    name: str
    notification: dict[str, Any] | None = None
    lifecycle: list[dict[str, Any]] | None = None
    unread: tuple[Unread, ...] = ()


class Feed(msgspec.Struct, frozen=True):
    """One way in which a bucket's events come to the queue.

    Attributes:
        events: which, as S3 names them.
        how: `queue`, `topic` or `eventbridge`.
        is_certain: it was seen that its events come to the queue, and which; else some may.
    """

    events: tuple[str, ...]
    prefix: str = ""
    suffix: str = ""
    how: str = "queue"
    is_certain: bool = True
