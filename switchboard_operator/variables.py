"""Environment variables: what is known of one, and how each kind is read."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

REQUIRED: Final = object()
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


@dataclass(frozen=True, slots=True)
class Variable:
    """
    What is known of an environment variable.

    `parse` turns its text into a value or raises ValueError with the reason; `fallback` names the
    variable that is read when this one is unset.
    """

    parse: Callable[[str], Any]
    default: Any
    example: str
    meaning: str
    fallback: str | None = None

    @property
    def required(self) -> bool:
        """Tell whether there is no default."""
        return self.default is REQUIRED


def text(value: str) -> str:
    """Take any text."""
    return value


def secrets(value: str) -> tuple[str, ...]:
    """Read keys separated by commas; none of them empty."""
    keys = tuple(key.strip() for key in value.split(","))
    if not all(keys):
        raise ValueError("has an empty key between its commas")
    return keys


def flag(value: str) -> bool:
    """Read 0 or 1."""
    if value not in {"0", "1"}:
        raise ValueError("must be 0 or 1")
    return value == "1"


def integer(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from *lowest* to *highest*."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", value) or not lowest <= int(value) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(value)

    return parse


def decimal(lowest: float, highest: float) -> Callable[[str], float]:
    """Return a reader of decimal numbers from *lowest* to *highest*."""

    def parse(value: str) -> float:
        if (
            not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", value)
            or not lowest <= float(value) <= highest
        ):
            raise ValueError(f"must be a number from {lowest:g} to {highest:g}")
        return float(value)

    return parse


def choice(*allowed: str) -> Callable[[str], str]:
    """Return a reader of one of the *allowed* words, in any case."""

    def parse(value: str) -> str:
        if value.lower() not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return value.lower()

    return parse


def http_url(value: str) -> str:
    """Read an http or https URL to which paths can be added; a final slash is dropped."""
    parts = _url(value)
    if parts is None or parts.scheme not in {"http", "https"} or "@" in parts.netloc:
        raise ValueError("must be an http:// or https:// URL with a host, no user and no query")
    return value.rstrip("/")


def sentry_dsn(value: str) -> str:
    """Read what Sentry calls a DSN."""
    parts = _url(value)
    known = parts is not None and parts.scheme in {"http", "https"} and parts.username
    if parts is None or not known or not re.fullmatch(r"(/[^/]+)*/[0-9]+", parts.path):
        raise ValueError("must be https://key@host/number, as Sentry shows it")
    return value


def redis_url(value: str) -> str:
    """Read a redis:// or rediss:// URL: user, password, host, port and number of the database."""
    parts = _url(value)
    known = parts is not None and parts.scheme in {"redis", "rediss"}
    if parts is None or not known or not re.fullmatch(r"/?|/[0-9]{1,4}", parts.path):
        raise ValueError("must be redis[s]://[user:password@]host[:port][/number]")
    return parts.geturl()


def _url(value: str) -> SplitResult | None:
    """Return the parts of a URL that has a host and no query; None of anything else."""
    try:
        parts = urlsplit(value)
        usable = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address, a name that can't be
        return None
    plain = not parts.query and not parts.fragment and not re.search(r"\s", value)
    return parts if usable and plain else None


def _origin(text: str) -> str:
    """Return an origin as browsers write it: lower case, without its scheme's own port."""
    scheme, separator, host = text.strip().lower().rstrip("/").partition("://")
    return scheme + separator + host.removesuffix(_DEFAULT_PORTS.get(scheme, ""))


def origins(value: str) -> frozenset[str]:
    """Read `*`, or origins (scheme://host[:port]) separated by commas."""
    listed = frozenset(_origin(origin) for origin in value.split(","))
    if listed == {"*"}:
        return listed
    if not all(re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s?#,*]+", origin) for origin in listed):
        raise ValueError("must be * or origins (scheme://host[:port]) separated by commas")
    return listed
