"""`dlq`: dead letters with their reasons, and the way back."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import click

from app import notifications
from app.aws.letterbox import Found, LetterBox
from app.commands.refusal import refused
from app.environment import Reader, parse_url
from app.outcomes import ConfigurationError, FailureError, RejectedError

_HEADERS = ("ID", "AGE", "OBJECT", "REASON", "ATTEMPTS", "ERROR")
_UNITS = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_ERROR_MIN_WIDTH = 24


@click.group()
def dlq() -> None:
    """Look at dead letters with their reasons, and send them back.

    Needs QUEUE_URL, or DLQ_URL where the queue has no redrive policy.
    """


@dlq.command("list")
def list_letters() -> None:
    """A table of all letters; each is visible again afterwards."""
    with _box() as box:
        rows = [_row(found) for found in box.letters()]
    if not rows:
        click.echo("no dead letters")
        return
    for line in _table(rows):
        click.echo(line)


@dlq.command()
@click.argument("letter_id", metavar="ID")
def show(letter_id: str) -> None:
    """One letter, whole: by its own ID or by that of the message it was."""
    with _box() as box:
        found = next((one for one in box.letters() if letter_id in _ids(one)), None)
    if found is None:
        raise _Missing([letter_id])
    click.echo(f"id:        {found.id}")
    click.echo(f"age:       {_age(found.age_seconds)}")
    click.echo(f"object:    {_object(found)}")
    click.echo(f"receives:  {found.receives}")
    for name, value in sorted(found.attributes.items()):
        click.echo(f"{name + ':':<22} {value.get('StringValue', '(binary)')}")
    click.echo(f"\n{found.body}")


@dlq.command()
@click.argument("letter_ids", metavar="[ID]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Send all of them back.")
def redrive(letter_ids: tuple[str, ...], *, every: bool) -> None:
    """Send letters back to the queue they came from.

    A letter is deleted only once it was sent; the command can be interrupted and repeated.
    """
    if every == bool(letter_ids):
        raise click.UsageError("name letters by ID, or say --all")
    wanted = set(letter_ids)
    with _box() as box:
        # All are looked at before any is sent: one that dies again at once is not met twice.
        chosen = [one for one in box.letters() if every or wanted & set(_ids(one))]
        for found in chosen:
            source = box.send_back(found)
            click.echo(f"{found.id} sent back to {source}")
    missing = wanted.difference(*(_ids(found) for found in chosen))
    if missing:
        raise _Missing(sorted(missing))
    click.echo(f"{len(chosen)} sent back")


class _Missing(click.ClickException):
    """Letters that are not there, or that somebody else looks at right now."""

    def __init__(self, ids: list[str]) -> None:
        super().__init__(f"no such dead letter to be seen now: {', '.join(ids)}")


@contextmanager
def _box() -> Iterator[LetterBox]:
    """The letter box; what was looked at is released, also when it is interrupted."""
    read = Reader(os.environ)
    dlq_url = read.take("DLQ_URL", None, parse_url, "the URL of an SQS queue")
    queue_url = read.take("QUEUE_URL", None, parse_url, "the URL of an SQS queue")
    if queue_url is None and dlq_url is None and not read.complaints:
        read.complain("QUEUE_URL", "the URL of an SQS queue")
    if read.complaints:
        raise refused(read.complaints)
    try:
        box = LetterBox(queue_url, dlq_url)
        try:
            yield box
        finally:
            box.release()
    except ConfigurationError as error:
        raise refused([str(error)]) from None
    except FailureError as error:
        raise click.ClickException(str(error)) from None


def _ids(found: Found) -> tuple[str, ...]:
    original = found.said("message-id")
    return (found.id, original) if original else (found.id,)


def _row(found: Found) -> tuple[str, ...]:
    return (
        found.id,
        _age(found.age_seconds),
        _object(found),
        found.said("reason") or "moved_by_sqs",
        found.said("count") or str(found.receives),
        found.said("error").replace("\n", " "),
    )


def _object(found: Found) -> str:
    try:
        told = notifications.parse(found.body)
    except RejectedError:
        return "(not an S3 event)"
    if not told.objects:
        return "(no object)"
    first, more = told.objects[0], len(told.objects) - 1
    return f"{first.bucket}/{first.key}" + (f" and {more} more" if more else "")


def _age(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return "0s"


def _table(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """The rows under their headers; only the last column is cut, to what the terminal holds."""
    table = [_HEADERS, *rows]
    widths = [max(len(row[column]) for row in table) for column in range(len(_HEADERS) - 1)]
    room = shutil.get_terminal_size((200, 24)).columns - sum(widths) - 2 * len(widths)
    for row in table:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        yield "  ".join((*cells, row[-1][: max(_ERROR_MIN_WIDTH, room)])).rstrip()
