"""The routes: whether each can be reached, and whether every allowed object has one."""

import fnmatch
from collections.abc import Iterator

from app.checks.findings import Finding, error, warning
from app.handler import Route
from app.settings import Allowed, Settings, can_match


def judge(routes: list[Route], settings: Settings) -> Iterator[Finding]:
    """What no object comes to, and which objects come to nothing."""
    for number, route in enumerate(routes):
        earlier = next((one for one in routes[:number] if _covers(one, route)), None)
        if earlier is not None:
            yield error(
                "route_unreachable",
                f"{route} comes after {earlier}, which takes every object it could take: they go "
                f"to the handler {earlier.name}",
                f"put {route} before {earlier} in HANDLERS ({settings.handlers})",
            )
        elif not any(_meet(entry, route) for entry in settings.allowed_buckets):
            yield warning(
                "route_not_allowed",
                f"{route} matches nothing that ALLOWED_BUCKETS allows: its objects are rejected",
                "add their bucket/prefix to ALLOWED_BUCKETS, or take the route out",
            )
    yield from _without_route(routes, settings)
    yield from _same_name(routes)


def _without_route(routes: list[Route], settings: Settings) -> Iterator[Finding]:
    for entry in settings.allowed_buckets:
        if not any(_meet(entry, route) for route in routes):
            yield error(
                "no_route",
                f"no route takes objects of {entry.bucket}/{entry.prefix}, which ALLOWED_BUCKETS "
                "allows: their messages are dead-lettered",
                f"add a route to HANDLERS ({settings.handlers}), or take it out of ALLOWED_BUCKETS",
            )


def _same_name(routes: list[Route]) -> Iterator[Finding]:
    """Routes under one name share a ledger key, so one object must not come to both."""
    named: dict[tuple[str, str], Route] = {}
    for route in routes:
        other = named.setdefault((route.name, route.version), route)
        if other.handler is not route.handler:
            yield warning(
                "route_names_alike",
                f"{other} and {route} are different handlers under one name and version: the "
                "ledger and the metrics take them for the same",
                "give one of them a name: Route(…, name=…)",
            )


def _covers(earlier: Route, later: Route) -> bool:
    return _includes(earlier.bucket, later.bucket) and _includes(earlier.pattern, later.pattern)


def _includes(wide: str, narrow: str) -> bool:
    """Whether the pattern `wide` matches whatever `narrow` does; False where that is not plain."""
    if wide == narrow:
        return True
    # As a text, `narrow` stands for what it matches, as long as only stars have to match stars.
    return "?" not in wide and "[" not in wide and fnmatch.fnmatchcase(narrow, wide)


def _meet(entry: Allowed, route: Route) -> bool:
    same = entry.bucket == "*" or fnmatch.fnmatchcase(entry.bucket, route.bucket)
    return same and can_match(route.pattern, entry.prefix)
