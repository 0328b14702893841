"""Opens SDK clients: every one with its timeouts, none with the SDK's defaults."""

import asyncio
import os
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

# First, since it decides what the SDK imports.
from app.aws.startup import SharedTrust, service_models  # isort: skip

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, NoRegionError

from app.outcomes import ConfigurationError

CONNECT_SECONDS = 5.0
READ_SECONDS = 20.0
_ATTEMPTS = {"total_max_attempts": 3, "mode": "standard"}
_config = partial(AioConfig, http_session_cls=SharedTrust)


def session() -> aioboto3.Session:
    """A session for one event loop; reads the SDK's own variables and files."""
    try:
        return _session()
    except BotoCoreError as error:
        raise ConfigurationError(f"AWS SDK: {error}") from None


def _session() -> aioboto3.Session:
    inner = AioSession()
    # Credentials belong to a loop, and so does their refresh; service models are read-only and
    # slow to load.
    models = service_models(inner.get_config_variable("data_path"))
    inner.register_component("data_loader", models)
    # The SDK for Python reads AWS_DEFAULT_REGION alone; Kubernetes and other SDKs set AWS_REGION.
    region = None if inner.get_config_variable("region") else os.environ.get("AWS_REGION")
    return aioboto3.Session(botocore_session=inner, region_name=region)


async def _open(
    source: aioboto3.Session, stack: AsyncExitStack, service: str, config: AioConfig
) -> Any:
    try:
        return await stack.enter_async_context(source.client(service, config=config))
    except NoRegionError:
        raise ConfigurationError("AWS_REGION: is not set: expected a region of AWS") from None
    except (ValueError, BotoCoreError) as error:  # an endpoint or a region that is none, and more
        raise ConfigurationError(f"AWS SDK: {error}") from None


async def sqs(source: aioboto3.Session, stack: AsyncExitStack, wait_seconds: float) -> Any:
    """A client for polling and settling; its read outlasts the longest poll."""
    config = _config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=wait_seconds + 10,
        retries=_ATTEMPTS,
        tcp_keepalive=True,
    )
    return await _open(source, stack, "sqs", config)


async def lease_sqs(
    source: aioboto3.Session, stack: AsyncExitStack, connect_seconds: float, read_seconds: float
) -> Any:
    """A client for renewals alone: short timeouts, one attempt, no pool shared with a poll."""
    config = _config(
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        retries={"total_max_attempts": 1},
        max_pool_connections=2,
    )
    return await _open(source, stack, "sqs", config)


class S3Source:
    """A client for objects, opened when first asked for, on the loop that asks.

    Args:
        connections: in its pool, for as many requests at once.
        attempts: requests for one call, the SDK's own retries included; 1 where the caller
            retries better, since it knows which bytes it still lacks.
        read_seconds: how long a body may bring nothing before it counts as broken.
        source: the session of the same loop, where there is one.
    """

    def __init__(
        self,
        connections: int,
        *,
        attempts: int = 3,
        read_seconds: float = READ_SECONDS,
        source: aioboto3.Session | None = None,
    ) -> None:
        self._connections = connections
        self._attempts = attempts
        self._read_seconds = read_seconds
        self._session = source
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: Any = None

    async def client(self) -> Any:
        """The client."""
        async with self._opening:
            if self._client is None:
                config = _config(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=self._read_seconds,
                    retries={"total_max_attempts": self._attempts, "mode": "standard"},
                    max_pool_connections=self._connections,
                    tcp_keepalive=True,
                    # The stream verifies whole objects itself, across ranges; the SDK cannot.
                    response_checksum_validation="when_required",
                )
                client = await _open(self._session or session(), self._stack, "s3", config)
                client.meta.events.register("before-call.s3.GetObject", _ask_for_checksum)
                self._client = client
            return self._client

    async def close(self) -> None:
        """Close the client, if there is one; on the same loop."""
        await self._stack.aclose()


def _ask_for_checksum(params: dict[str, Any], **_: Any) -> None:
    """Have S3 tell the checksum, without the SDK computing it over again in Python."""
    params["headers"]["x-amz-checksum-mode"] = "ENABLED"
