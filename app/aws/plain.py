"""Clients for commands that run no event loop."""

import os
from typing import Any

# First, since it decides what the SDK imports.
import app.aws.startup  # isort: skip  # noqa: F401

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, NoRegionError

from app.outcomes import ConfigurationError


def client(service: str, config: Config) -> Any:
    """A client as the environment configures it, `AWS_REGION` included.

    Raises:
        ConfigurationError: there is no region, or an endpoint that is none.
    """
    try:
        session = boto3.Session()
        # This SDK reads AWS_DEFAULT_REGION alone; Kubernetes and other SDKs set AWS_REGION.
        region = session.region_name or os.environ.get("AWS_REGION")
        return session.client(service, region_name=region, config=config)
    except NoRegionError:
        raise ConfigurationError("AWS_REGION: is not set: expected a region of AWS") from None
    except (ValueError, BotoCoreError) as error:
        raise ConfigurationError(f"AWS SDK: {error}") from None
