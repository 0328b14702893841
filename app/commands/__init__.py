"""The commands; each is imported when it is called, and no other."""

import gc
from importlib import import_module

import click

from app import __version__
from app.outcomes import EXIT_CODES, Outcome

_COMMANDS = {
    "run": "app.commands.run:run",
    "check": "app.commands.check:check",
    "dlq": "app.commands.dlq:dlq",
    "janitor": "app.commands.janitor:janitor",
    "demo": "app.local.demo:demo",
    "scale": "app.local.scaler:scale",
}
_NOT_BUILT = ("backfill",)


class _LazyGroup(click.Group):
    """A group that knows its commands by name and imports only the one it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted((*_COMMANDS, *_NOT_BUILT))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name in _NOT_BUILT:
            return _refusal(cmd_name)
        if cmd_name not in _COMMANDS:
            return None
        module, _, attribute = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        if cmd_name != "run":
            # Start-up is over; `run` says so itself, when its clients are open.
            gc.enable()
        return command


def _refusal(name: str) -> click.Command:
    """A command of a later version: refused, never ignored."""

    def refuse() -> None:
        click.echo(f"{name}: this version does not have this command yet", err=True)
        raise SystemExit(EXIT_CODES[Outcome.MISCONFIGURED])

    return click.Command(
        name,
        callback=refuse,
        params=[click.Argument(["ignored"], nargs=-1, expose_value=False)],
        context_settings={"ignore_unknown_options": True, "help_option_names": []},
        short_help="Not in this version yet.",
    )


@click.group(cls=_LazyGroup)
@click.version_option(__version__, prog_name="sqs-file-processor")
def program() -> None:
    """Processes large S3 objects, one SQS message a pod."""
