"""Reads variables out of an environment, and remembers all that was wrong with them."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")


class SettingsError(Exception):
    """The environment is not usable; `complaints` has one line per variable."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__("\n".join(complaints))
        self.complaints = complaints


class Location(msgspec.Struct, frozen=True):
    """A bucket and the prefix in it; the prefix is empty or ends with a slash."""

    bucket: str
    prefix: str = ""

    def key(self, name: str) -> str:
        """The full key of `name` under this prefix."""
        return self.prefix + name


class Allowed(msgspec.Struct, frozen=True):
    """One entry of ALLOWED_BUCKETS; the bucket `*` is any."""

    bucket: str
    prefix: str = ""

    def admits(self, bucket: str, key: str) -> bool:
        """Whether an object may be touched at all."""
        return self.bucket in ("*", bucket) and key.startswith(self.prefix)


class Reader:
    """Takes variables out of an environment and remembers what was wrong with them."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self.complaints: list[str] = []

    def complain(self, name: str, expected: str) -> None:
        """Remember that the variable is missing or wrong, and what it should be."""
        value = self._env.get(name)
        found = "is not set" if value is None else f"{value!r} is not usable"
        self.complaints.append(f"{name}: {found}: expected {expected}")

    def take(
        self, name: str, default: T, parse: Callable[[str], T | None], expected: str
    ) -> T | Any:
        """The parsed variable; the default where it is unset or empty, or its value is wrong."""
        text = self._env.get(name, "").strip()
        if not text:
            return default
        try:
            value = parse(text)
        except (ValueError, OSError):
            value = None
        if value is None:
            self.complain(name, expected)
            return default
        return value

    def whole(self, name: str, default: int, low: int, high: int | None = None) -> int:
        """A whole number within bounds."""
        return int(self.take(name, default, _within(int, low, high), _range("a whole", low, high)))

    def number(self, name: str, default: float, low: float, high: float | None = None) -> float:
        """A number within bounds."""
        return float(self.take(name, default, _within(float, low, high), _range("a", low, high)))

    def choice(self, name: str, default: str, *options: str) -> str:
        """One of a few words."""
        return str(self.take(name, default, _one_of(options), " or ".join(options)))

    def text(self, name: str) -> str | None:
        """The text as it is, None where it is unset or empty."""
        return self._env.get(name, "").strip() or None


def _within(kind: Callable[[str], T], low: float, high: float | None) -> Callable[[str], T | None]:
    def parse(text: str) -> T | None:
        value = kind(text)
        fits = value >= low and (high is None or value <= high)  # type: ignore[operator]
        return value if fits else None  # a NaN compares false, and is refused with the rest

    return parse


def _range(article: str, low: float, high: float | None) -> str:
    return f"{article} number " + (
        f"of at least {low}" if high is None else f"from {low} to {high}"
    )


def _one_of(options: tuple[str, ...]) -> Callable[[str], str | None]:
    return lambda text: text if text in options else None


def parse_location(text: str) -> Location | None:
    """`s3://bucket/prefix` as a Location, None where it is not one."""
    scheme, _, rest = text.partition("://")
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or not bucket:
        return None
    return Location(bucket, prefix.rstrip("/") + "/" if prefix.strip("/") else "")


def parse_allowed(text: str) -> tuple[Allowed, ...] | None:
    """The entries of ALLOWED_BUCKETS, None where one of them is none."""
    entries = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        bucket, _, prefix = part.partition("/")
        if not bucket or ":" in bucket or ("*" in bucket and part != "*"):
            return None
        entries.append(Allowed(bucket, prefix))
    return tuple(entries) or None


def parse_url(text: str) -> str | None:
    """The text, if it is the URL of a queue."""
    return text if text.startswith(("http://", "https://")) and "/" in text[8:] else None


def parse_gateway(text: str) -> str | None:
    """The URL of a Pushgateway, without a slash at its end."""
    return text.rstrip("/") if text.startswith(("http://", "https://")) and text[8:] else None


def parse_account(text: str) -> str | None:
    """The text, if it is an account id."""
    return text if len(text) == 12 and text.isascii() and text.isdigit() else None  # noqa: PLR2004


def parse_level(text: str) -> str | None:
    """The name of a log level, in capitals."""
    return text.upper() if text.upper() in ("DEBUG", "INFO", "WARNING", "ERROR") else None


def parse_folder(text: str) -> Path | None:
    """The path, if it is a folder that can be written to."""
    path = Path(text)
    return path if path.is_dir() and os.access(path, os.W_OK) else None
