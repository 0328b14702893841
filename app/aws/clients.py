"""Opens SDK clients: every one with its timeouts, none with the SDK's defaults."""

import asyncio
import os
from contextlib import AsyncExitStack
from functools import cache
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import NoRegionError
from botocore.loaders import Loader, create_loader

from app.outcomes import ConfigurationError

CONNECT_SECONDS = 5.0
READ_SECONDS = 30.0
_ATTEMPTS = {"total_max_attempts": 3, "mode": "standard"}


def session() -> aioboto3.Session:
    """A session for one event loop; reads the SDK's own variables and files."""
    inner = AioSession()
    # Credentials belong to a loop, and so does their refresh; service models are read-only and
    # slow to load.
    inner.register_component("data_loader", _service_models())
    # The SDK for Python reads AWS_DEFAULT_REGION alone; Kubernetes and other SDKs set AWS_REGION.
    region = None if inner.get_config_variable("region") else os.environ.get("AWS_REGION")
    return aioboto3.Session(botocore_session=inner, region_name=region)


@cache
def _service_models() -> Loader:
    return create_loader(AioSession().get_config_variable("data_path"))


async def _open(
    source: aioboto3.Session, stack: AsyncExitStack, service: str, config: AioConfig
) -> Any:
    try:
        return await stack.enter_async_context(source.client(service, config=config))
    except NoRegionError:
        raise ConfigurationError("AWS_REGION: is not set: expected a region of AWS") from None
    except ValueError as error:  # what botocore says to an endpoint that is no URL
        raise ConfigurationError(f"AWS_ENDPOINT_URL: {error}") from None


async def sqs(source: aioboto3.Session, stack: AsyncExitStack, wait_seconds: float) -> Any:
    """A client for polling and settling; its read outlasts the longest poll."""
    config = AioConfig(
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
    config = AioConfig(
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        retries={"total_max_attempts": 1},
        max_pool_connections=2,
    )
    return await _open(source, stack, "sqs", config)


class S3Source:
    """A client for objects, opened when first asked for, on the loop that asks.

    Args:
        connections: how many objects' bytes are read over at once; some more are for writing.
    """

    def __init__(self, connections: int) -> None:
        self._connections = connections
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._client: Any = None

    async def client(self) -> Any:
        """The client."""
        async with self._opening:
            if self._client is None:
                config = AioConfig(
                    connect_timeout=CONNECT_SECONDS,
                    read_timeout=READ_SECONDS,
                    retries=_ATTEMPTS,
                    max_pool_connections=self._connections + 4,
                    tcp_keepalive=True,
                    # The stream verifies whole objects itself, across ranges; the SDK cannot.
                    response_checksum_validation="when_required",
                )
                self._client = await _open(session(), self._stack, "s3", config)
            return self._client

    async def close(self) -> None:
        """Close the client, if there is one; on the same loop."""
        await self._stack.aclose()
