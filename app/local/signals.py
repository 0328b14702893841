"""SIGTERM and SIGINT as cancellation of a program's main task."""

import signal
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskStatus


async def run_until_signalled(
    main: Callable[[], Awaitable[None]], on_second: Callable[[], None]
) -> int | None:
    """Run `main`; the first SIGTERM or SIGINT cancels it, any further one calls `on_second`.

    Returns the number of the first signal, None if there was none. What `main` raises is raised as
    it is.
    """
    received: list[int] = []
    failure: Exception | None = None

    async def watch(*, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                if received:
                    on_second()
                received.append(number)
                work.cancel()

    work = anyio.CancelScope()
    async with anyio.create_task_group() as group:
        await group.start(watch)
        with work:
            try:
                await main()
            except Exception as error:  # noqa: BLE001 - raised again outside of the group
                failure = error
        group.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return received[0] if received else None
