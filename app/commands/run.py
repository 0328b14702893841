"""`run`, the pod's main process: opens the adapters, joins them, picks the exit code."""

import asyncio
import gc
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack

import anyio
import click

from app import clock, routes
from app.around import Stores
from app.aws import clients
from app.aws.records import S3Records
from app.aws.s3 import S3Store
from app.aws.sqs import SqsExtender, SqsQueue
from app.claims import Ledger
from app.handler import Route
from app.lease import call_seconds
from app.outcomes import EXIT_CODES, ConfigurationError, Outcome, Reason, Result, result_of
from app.podfiles import write_last_words
from app.runtime import Ending, Phase, Runtime
from app.settings import Settings, SettingsError, termination_log
from app.stop import Stop
from app.telemetry import logs
from app.telemetry.push import PUSH_SECONDS
from app.telemetry.reports import Reports
from app.worker import Worker
from app.workshop import Workshop

CLOSING_SECONDS = 2.0


@click.command()
@click.pass_obj
def run(stop: Stop) -> None:
    """Receive one message, process the object it names, settle it, exit."""
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        for complaint in error.complaints:
            click.echo(complaint, err=True)
        words = {"outcome": Outcome.MISCONFIGURED, "exit_code": 78, "reason": Reason.CONFIGURATION}
        write_last_words(termination_log(os.environ), words | {"message_id": None}, None)
        raise SystemExit(EXIT_CODES[Outcome.MISCONFIGURED]) from None
    process = _Process(settings, stop)
    code = process.finish(process.run())
    process.end_around_threads(code)
    raise SystemExit(code)


class _Process:
    """One run, from its configuration to its last log line."""

    def __init__(self, settings: Settings, stop: Stop) -> None:
        self.settings = settings
        self.stop = stop
        self.began = clock.now()
        self.runtime: Runtime | None = None
        ids = {"job_id": settings.job_name, "pod_name": settings.pod_name}
        if settings.pod_namespace:
            ids["namespace"] = settings.pod_namespace
        logs.configure(ids, level=settings.log_level, fmt=settings.log_format)
        self.reports = Reports(settings, os.environ)
        self.telemetry = self.reports.telemetry
        self.take_bar_away: Callable[[float], None] = lambda _: None

    def run(self) -> Ending:
        """Everything between the first log line and the last."""
        self.telemetry.job_started(
            handlers=self.settings.handlers,
            visibility_strategy=self.settings.visibility_strategy,
            visibility_timeout=self.settings.visibility_timeout,
            deduplication="on" if self.settings.ledger_url else "off: no LEDGER_URL",
        )
        self.reports.begin()
        try:
            found = routes.load(self.settings)
            return anyio.run(self._serve, found, backend_options={"use_uvloop": True})
        except ConfigurationError as error:
            return self._misconfigured(error)
        except Exception as error:  # noqa: BLE001 - a defect of this program: said, and exit 70
            self.telemetry.defect(error)
            result = Result(Outcome.DEFECT, Reason.DEFECT, repr(error))
            return Ending(result, EXIT_CODES[result.outcome])
        except SystemExit as error:
            if self.stop.signal is None:
                text = f"HANDLERS: {self.settings.handlers!r} is not usable: it exits: {error}"
                return self._misconfigured(ConfigurationError(text))
            self.telemetry.stop_requested(self.stop.signal.name, "starting")
            result = Result(Outcome.INTERRUPTED, Reason.STOPPED)
            return Ending(result, self.stop.exit_code)

    async def _serve(self, found: list[Route]) -> Ending:
        self.stop.attach(asyncio.get_running_loop())
        workshop = Workshop()
        workshop.start()
        async with AsyncExitStack() as stack:
            # Opened where it will be used, while the poll waits.
            objects = S3Store(
                # A few more than read at once: for the checksum and for reads beside the stream.
                clients.S3Source(self.settings.read_connections + 4, attempts=1),
                self.settings.expected_bucket_owner,
            )
            workshop.submit(objects.warm())
            uploads = S3Store(clients.S3Source(4), self.settings.expected_bucket_owner)
            self.runtime = await self._assemble(found, stack, workshop, objects, uploads)
            # Collected from here on, but for what start-up made.
            gc.freeze()
            gc.enable()
            self._draw_bar(self.runtime)
            ending = await self.runtime.run()
            if ending.stuck:
                self._end_around_handler(ending, workshop)
            with anyio.move_on_after(self._closing_seconds()):
                for store in (objects, uploads):
                    await workshop.submit(store.close()).stopped.wait()
        workshop.close(self._closing_seconds())
        return ending

    async def _assemble(
        self,
        found: list[Route],
        stack: AsyncExitStack,
        workshop: Workshop,
        objects: S3Store,
        uploads: S3Store,
    ) -> Runtime:
        settings = self.settings
        session = clients.session()
        queue = await clients.sqs(session, stack, settings.wait_seconds)
        renewals = await clients.lease_sqs(
            session, stack, *call_seconds(settings.visibility_timeout)
        )
        owner = settings.expected_bucket_owner
        source = clients.S3Source(8, source=session)
        stack.push_async_callback(source.close)
        records = S3Records(source, settings.ledger_url, owner) if settings.ledger_url else None
        stores = Stores(
            objects,
            uploads,
            S3Store(source, owner),
            records,
            Ledger(records, settings.max_attempts) if records else None,
        )
        return Runtime(
            settings,
            found,
            SqsQueue(queue, settings.queue_url, settings.dlq_url),
            SqsExtender(renewals, settings.queue_url),
            Worker(settings, workshop, stores, self.telemetry),
            self.telemetry,
            self.stop,
        )

    def _draw_bar(self, runtime: Runtime) -> None:
        """On a terminal show how far the work is, below the lines of the log."""
        if self.settings.log_format == "console" and os.isatty(1):
            from app.telemetry.bar import Bar

            doing = {Phase.RECEIVING: "waiting for a message", Phase.SETTLING: "settling"}
            bar = Bar(lambda: runtime.worker.counted, lambda: doing.get(runtime.phase, ""))
            self.take_bar_away = logs.draw_below(bar)

    def _closing_seconds(self) -> float:
        """How long closing may take: the message is settled, so nothing hangs on it."""
        if not self.stop.requested:
            return CLOSING_SECONDS
        left = self.settings.grace_seconds - self.stop.seconds_ago
        return max(0.1, min(CLOSING_SECONDS, left / 3))

    def _end_around_handler(self, ending: Ending, workshop: Workshop) -> None:
        """End the process although a handler still runs; its message comes back by itself."""
        self.telemetry.handler_stuck(ending.result.reason or "", workshop.stacks())
        os._exit(self.finish(ending))

    def end_around_threads(self, code: int) -> None:
        """Let the exit that follows not wait for ever for threads a handler left behind."""

        def end() -> None:
            time.sleep(self._closing_seconds())
            os._exit(code)

        threading.Thread(target=end, name="end", daemon=True).start()

    def _misconfigured(self, error: ConfigurationError) -> Ending:
        result = result_of(error)
        return Ending(result, EXIT_CODES[result.outcome])

    def finish(self, ending: Ending) -> int:
        """Say how it ended, to the log, to Kubernetes and to who reads the terminal."""
        result = ending.result
        self.take_bar_away(min(1.0, self._closing_seconds()))
        self.telemetry.job_ending(result)
        self.reports.finish(min(PUSH_SECONDS, self._closing_seconds()))
        self.telemetry.job_finished(
            result,
            ending.exit_code,
            seconds=clock.now() - self.began,
            bytes_read=self.runtime.bytes_read if self.runtime else 0,
            messages=self.runtime.messages if self.runtime else 0,
        )
        words = {
            "outcome": result.outcome,
            "exit_code": ending.exit_code,
            "reason": result.reason,
            "message_id": ending.message_id,
        }
        write_last_words(self.settings.termination_log, words, self.telemetry)
        logs.drain(logs.DRAIN_SECONDS)
        # Or the interpreter looks through everything twice on its way out.
        gc.freeze()
        if result.outcome is Outcome.MISCONFIGURED:
            print(result.error, file=sys.stderr)  # noqa: T201 - for people, as other complaints
        return ending.exit_code
