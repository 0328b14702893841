"""Log lines: one JSON object each on stdout, whoever emits it.

The standard library's loggers (asyncio, the SDK), warnings, uncaught exceptions and what a handler
prints all come out of the same renderer with the same ids.
"""

import atexit
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, TextIO, cast

import msgspec
import structlog

from app import progress
from app.telemetry.writer import Footer, LineWriter

LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40}
# What the end of the process waits for a slow reader of stdout.
DRAIN_SECONDS = 1.0
_writers: list[LineWriter] = []
# At DEBUG these write signatures, bodies and receipt handles.
_SDK_LOGGERS = ("aioboto3", "aiobotocore", "boto3", "botocore", "aiohttp", "s3transfer", "urllib3")
_FIRST_FIELDS = ("timestamp", "level", "event", "job_id", "pod_name", "message_id")


def _told(value: Any) -> str:
    """The value's text, whatever its class makes of `repr`."""
    try:
        return repr(value)
    except Exception as error:  # noqa: BLE001 - a log line must not fail the handler
        return f"<{type(value).__name__} whose repr raises {type(error).__name__}>"


_encode = msgspec.json.Encoder(enc_hook=_told).encode


def configure(ids: Mapping[str, str], *, level: str, fmt: str) -> None:
    """Make this process log with these ids from now on; for a process's composition root.

    Args:
        ids: fields every line carries.
        level: the least level that is written.
        fmt: `json` or `console`.
    """
    writer = _open_writer(own=fmt == "json")
    _writers.append(writer)
    atexit.register(drain, DRAIN_SECONDS)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _stamp(dict(ids)),
            _tell_lost(writer),
            _render_json if fmt == "json" else _console_renderer(writer),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", writer)),
        cache_logger_on_first_use=True,
    )
    _adopt_standard_logging(LEVELS[level])
    if fmt == "json":
        sys.stdout = cast("TextIO", _Lines(_log_printed))
    sys.excepthook = _log_uncaught
    sys.unraisablehook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )
    threading.excepthook = lambda args: _log_uncaught(
        args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback
    )


@contextmanager
def message(message_id: str, **trace: str) -> Iterator[None]:
    """Give every line in this context, tasks and threads begun in it included, these ids."""
    with structlog.contextvars.bound_contextvars(message_id=message_id, **trace):
        yield


def draw_below(footer: Footer) -> Callable[[float], None]:
    """Keep this below the lines on a terminal; what is printed comes above it, line by line.

    Returns what takes it away again, and waits for that no longer than so many seconds.
    """
    writer, printed = _writers[-1], sys.stdout
    sys.stdout = cast("TextIO", _Lines(lambda line: writer.write(f"{line}\n")))
    writer.draw_below(footer)

    def take_away(seconds: float) -> None:
        sys.stdout = printed
        writer.draw_below(None)
        writer.drain(seconds)

    return take_away


def drain(seconds: float) -> None:
    """Wait until the lines so far are written, but no longer than this."""
    for writer in _writers:
        writer.drain(seconds)


def _open_writer(*, own: bool) -> LineWriter:
    """Stdout; `own` for log lines alone: what C code or a child writes there goes to stderr."""
    try:
        sys.stdout.flush()
        descriptor = os.dup(1)
        if own:
            os.dup2(2, 1)
    except (
        OSError,
        ValueError,
        AttributeError,
    ):  # stdout is closed, and there is nowhere to say so
        return LineWriter(None)
    return LineWriter(descriptor)


def _stamp(ids: dict[str, str]) -> structlog.types.Processor:
    def stamp(_: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fixed = {"timestamp": now, "level": method.upper(), "event": event["event"], **ids}
        if "message_id" in event:
            fixed["message_id"] = event["message_id"]
        # A field of the caller's never replaces an id.
        return fixed | {name: value for name, value in event.items() if name not in fixed}

    return stamp


def _tell_lost(writer: LineWriter) -> structlog.types.Processor:
    def tell(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if lost := writer.take_lost():
            event["lines_lost_before"] = lost
        return event

    return tell


def _render_json(_: Any, __: str, event: MutableMapping[str, Any]) -> str:
    if event.pop("exc_info", None):
        event["traceback"] = traceback.format_exc()
    try:
        return _encode(event).decode()
    except (UnicodeError, TypeError, ValueError, RecursionError):
        # Lone surrogates and odd keys, which the strict encoder refuses, are written escaped.
        plain = {str(name): _plain(value) for name, value in event.items()}
        return json.dumps(plain, default=_told)


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else _told(value)


def _console_renderer(writer: LineWriter) -> structlog.types.Processor:
    render = structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty(), pad_event_to=24)

    def render_line(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        if event["event"] == "progress" and writer.has_footer:
            raise structlog.DropEvent  # it is drawn, and more often
        shown = {name: value for name, value in event.items() if name not in ("job_id", "pod_name")}
        if event["event"] == "progress" and (words := progress.in_words(event)):
            numbers = progress.FACTS & shown.keys()
            shown = {n: v for n, v in shown.items() if n not in numbers} | {"so_far": words}
        return str(render(logger, method, {n: _harmless(value) for n, value in shown.items()}))

    return render_line


def _harmless(value: Any) -> Any:
    """The value without what a terminal would obey: keys and error texts are somebody else's."""
    if not isinstance(value, str) or value.isprintable():
        return value
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else repr(letter)[1:-1]
        for letter in value
    )


def _adopt_standard_logging(level: int) -> None:
    logging.captureWarnings(capture=True)
    root = logging.getLogger()
    root.handlers[:] = [_Adopted()]
    root.setLevel(level)
    for name in _SDK_LOGGERS:
        logging.getLogger(name).setLevel(max(level, logging.WARNING))


class _Adopted(logging.Handler):
    """Hands records of the standard library's loggers to ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger().bind(logger=record.name)
        if record.exc_info:
            log = log.bind(traceback="".join(traceback.format_exception(*record.exc_info)))
        log.log(max(10, min(record.levelno, 40) // 10 * 10), record.getMessage())


def _log_printed(line: str) -> None:
    structlog.get_logger().info("stdout", text=line)


class _Lines:
    """Stands in for `sys.stdout`: what is printed goes elsewhere, line by line."""

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._held = threading.local()

    def write(self, text: str) -> int:
        lines = (getattr(self._held, "text", "") + text).split("\n")
        self._held.text = lines.pop()
        for line in lines:
            self._say(line)
        return len(text)

    def flush(self) -> None:
        """Lines are written as they end."""

    def isatty(self) -> bool:
        return False

    @property
    def buffer(self) -> "_Bytes":
        """What some libraries write bytes to."""
        return _Bytes(self)

    def fileno(self) -> int:
        return 1


class _Bytes:
    """The binary side of a text stream."""

    def __init__(self, lines: _Lines) -> None:
        self._lines = lines

    def write(self, data: bytes) -> int:
        self._lines.write(data.decode(errors="backslashreplace"))
        return len(data)

    def flush(self) -> None:
        """As the text's."""


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: Any) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    structlog.get_logger().error("uncaught_exception", error=repr(error), traceback=text)
