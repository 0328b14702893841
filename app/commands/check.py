"""`check`: looks at the configuration and the stack, and says what will go wrong."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import click

from app import routes
from app.aws import clients
from app.aws.inspect import Inspector
from app.aws.records import S3Records
from app.checks import limits, manifest, pod, routing, stack
from app.checks.findings import Finding, Level, error, note, worst_first
from app.claims import honours_conditions
from app.commands.refusal import refused
from app.handler import Route
from app.outcomes import ConfigurationError
from app.settings import Settings, SettingsError


@click.command()
@click.option(
    "--manifest",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A render (kubectl kustomize k8s/… > FILE) to look at too; its ConfigMap gives the "
    "variables that the environment does not.",
)
def check(path: Path | None) -> None:
    """Look for what would lose or repeat work: one line per finding, worst first.

    Reads the configuration, the handlers, the queue and its dead letters, the buckets and their
    notifications, permissions, the ledger's store, the gateway, and in a pod its own Job. Changes
    nothing but a probe under LEDGER_URL, which it removes. Exits 1 where something would lose or
    repeat work.
    """
    documents = _documents(path)
    for name, value in manifest.variables(documents).items():
        # The SDK reads some of them too.
        os.environ.setdefault(name, value)
    settings = _settings(dict(os.environ))
    findings = worst_first(_findings(settings, documents))
    for finding in findings:
        click.echo(finding.line)
    count = {level: sum(one.level is level for one in findings) for level in Level}
    told = ", ".join(f"{n} {level}{'s' * (n != 1)}" for level, n in count.items())
    click.echo(f"looked at {settings.queue_url}: {told}", err=True)
    raise SystemExit(1 if count[Level.ERROR] else 0)


def _documents(path: Path | None) -> list[dict[str, Any]]:
    if path is None:
        return []
    try:
        documents = pod.documents_of(path)
    except pod.UnreadableError as failure:
        raise click.UsageError(str(failure)) from None
    if not any(one.get("kind") == "ScaledJob" for one in documents):
        raise click.UsageError(f"{path}: there is no ScaledJob in it")
    return documents


def _settings(environ: dict[str, str]) -> Settings:
    try:
        return Settings.from_env(environ)
    except SettingsError as failure:
        raise refused(failure.complaints) from None


def _findings(settings: Settings, documents: list[dict[str, Any]]) -> Iterator[Finding]:
    yield from limits.judge(settings)
    if documents:
        yield from manifest.judge(documents, settings)
    else:
        yield from _own_job(settings)
    found: list[Route] = []
    try:
        found = routes.load(settings)
    except (ConfigurationError, SystemExit) as failure:
        text = f"{failure}: every pod exits with 78, and nothing is processed"
        yield error("handlers", text, "correct what is named first")
    else:
        yield from routing.judge(found, settings)
    yield from stack.judge(settings, found, Inspector(settings.expected_bucket_owner), _honours)


def _own_job(settings: Settings) -> Iterator[Finding]:
    try:
        spec = pod.own_job(os.environ)
    except pod.UnreadableError as failure:
        mend = "app check --manifest FILE"
        yield note("not_looked_at", f"the Job of this pod: {failure}", mend)
        return
    if spec is not None:
        yield from manifest.judge_job(spec, settings)


def _honours(settings: Settings) -> bool:
    """Ask the ledger's store, with the very adapter that the worker uses."""

    async def ask() -> bool:
        source = clients.S3Source(2)
        assert settings.ledger_url is not None  # noqa: S101 - the caller's condition
        try:
            store = S3Records(source, settings.ledger_url, settings.expected_bucket_owner)
            return await honours_conditions(store)
        finally:
            await source.close()

    return anyio.run(ask)
