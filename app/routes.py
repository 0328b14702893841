"""Finds the routes that HANDLERS names."""

import traceback
from importlib import import_module

from app.handler import Route
from app.outcomes import ConfigurationError
from app.settings import Location, Settings, feeds_itself


def load(settings: Settings) -> list[Route]:
    """Import the list of routes.

    Raises:
        ConfigurationError: it cannot be imported, is no list of routes, or its outputs would
            start it again.
    """
    name = settings.handlers
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise _unusable(name, "it has no colon")
    try:
        found = getattr(import_module(module), attribute)
    except Exception as error:
        raise _unusable(name, _told(error)) from error
    routes = list(found) if isinstance(found, list | tuple) else []
    if not routes or not all(isinstance(route, Route) for route in routes):
        raise _unusable(name, f"it is {found!r:.80}")
    for route in routes:
        _refuse_feeding_itself(route, "OUTPUT_URL", settings.output_url, settings)
        _refuse_feeding_itself(route, "LEDGER_URL", settings.ledger_url, settings)
    return routes


def _refuse_feeding_itself(
    route: Route, variable: str, where: Location | None, settings: Settings
) -> None:
    if where is not None and feeds_itself(where, route.pattern, route.bucket, settings):
        url = f"s3://{where.bucket}/{where.prefix}"
        raise ConfigurationError(
            f"{variable}: {url!r} is not usable: expected a place that no route takes as input: "
            f"{route!r} would process its own output"
        )


def _unusable(name: str, why: str) -> ConfigurationError:
    text = f"HANDLERS: {name!r} is not usable: expected module:name of a list of routes: {why}"
    return ConfigurationError(text)


def _told(error: Exception) -> str:
    """The error and the line it came from, instead of a traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "importlib" not in frame.filename]
    at = f" ({ours[-1].filename}, line {ours[-1].lineno})" if len(ours) > 1 else ""
    return f"{type(error).__name__}: {error}{at}"
