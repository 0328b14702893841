"""The depth of a queue, read as KEDA reads it: sqs:GetQueueAttributes and nothing else."""

from collections.abc import Callable
from typing import Any

import anyio.to_thread

from app.local.keda import QueueDepth
from app.outcomes import ConfigurationError
from app.settings import SettingsError

_ATTRIBUTES = {
    "visible": "ApproximateNumberOfMessages",
    "in_flight": "ApproximateNumberOfMessagesNotVisible",
    "delayed": "ApproximateNumberOfMessagesDelayed",
}
_THROTTLED = ("RequestThrottled", "Throttling", "ThrottlingException", "OverLimit")
_SERVER_ERROR = 500


class PollError(Exception):
    """The queue could not be read this time; the next poll may succeed."""


def sqs_client() -> Any:
    """A client as the environment configures it."""
    from botocore.config import Config

    from app.aws import plain

    retries = {"mode": "standard", "total_max_attempts": 2}
    return plain.client("sqs", Config(connect_timeout=3, read_timeout=10, retries=retries))


class DepthReader:
    """Reads the three counts of one queue.

    Args:
        create_client: makes the boto3 client, at the first call.
    """

    def __init__(self, queue_url: str, create_client: Callable[[], Any] = sqs_client) -> None:
        self._queue_url = queue_url
        self._create_client = create_client
        self._client: Any = None

    async def __call__(self) -> QueueDepth:
        """The counts; a cancelled call is left to its own timeouts.

        Raises:
            PollError: where the error may pass.
            SettingsError: where configuration, queue or permission is wrong.
        """
        return await anyio.to_thread.run_sync(self._read, abandon_on_cancel=True)

    def _read(self) -> QueueDepth:
        from botocore.exceptions import (
            BotoCoreError,
            ClientError,
            ConnectionError,  # noqa: A004 - its name there
            HTTPClientError,
        )

        try:
            counts = self._counts()
        except (HTTPClientError, ConnectionError) as error:
            raise PollError(str(error)) from error
        except ClientError as error:
            if _may_pass(error.response):
                raise PollError(str(error)) from error
            raise self._refused(error) from error
        except ConfigurationError as error:
            raise SettingsError([str(error)]) from error
        except (BotoCoreError, ValueError) as error:
            raise self._refused(error) from error
        return QueueDepth(**{field: int(counts[name]) for field, name in _ATTRIBUTES.items()})

    def _counts(self) -> dict[str, str]:
        self._client = self._client or self._create_client()
        answer = self._client.get_queue_attributes(
            QueueUrl=self._queue_url, AttributeNames=list(_ATTRIBUTES.values())
        )
        return dict(answer["Attributes"])

    def _refused(self, error: Exception) -> SettingsError:
        expected = "a queue, with region and credentials that may call sqs:GetQueueAttributes"
        return SettingsError(
            [f"QUEUE_URL: {self._queue_url!r} is not usable: expected {expected}: {error}"]
        )


def _may_pass(response: dict[str, Any]) -> bool:
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= _SERVER_ERROR or response.get("Error", {}).get("Code") in _THROTTLED
