"""Handlers for `signals.py`: one that waits as handlers should, two that block their loop."""

import asyncio
import time

from app.handler import Job, Route

BLOCKED_SECONDS = 20


async def waiting(job: Job) -> None:
    """Wait for ever, in a way that can be cancelled."""
    job.log.info("handling")
    await asyncio.Event().wait()


async def blocking(job: Job) -> None:
    """Block the loop of the handlers, in pure Python's worst way."""
    job.log.info("handling")
    time.sleep(BLOCKED_SECONDS)  # noqa: ASYNC251 - what is measured is that this harms nothing


ROUTES = [Route("blocking/*", blocking), Route("waiting/*", waiting)]
