"""The configuration: every variable with its type, default, meaning and example, read once."""

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from switchboard_operator.errors import SettingsError

_REQUIRED: Final = object()


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
        return self.default is _REQUIRED


def _variable(
    parse: Callable[[str], Any],
    example: str,
    meaning: str,
    default: Any = _REQUIRED,
    *,
    secret: bool = False,
    fallback: str | None = None,
) -> Any:
    variable = Variable(parse, default, example, meaning, fallback)
    return dataclasses.field(repr=not secret, metadata={"variable": variable})


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


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from *lowest* to *highest*."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", value) or not lowest <= int(value) <= highest:
            raise ValueError(f"must be a whole number from {lowest} to {highest}")
        return int(value)

    return parse


def number(lowest: float, highest: float) -> Callable[[str], float]:
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
    if not _is_plain_http_url(value):
        raise ValueError("must be an http:// or https:// URL with a host and no query")
    return value.rstrip("/")


def _is_plain_http_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a broken IPv6 address
        return False
    return usable and not parts.query and not parts.fragment and not re.search(r"\s", value)


def origins(value: str) -> frozenset[str]:
    """Read `*`, or origins (scheme://host[:port]) separated by commas."""
    listed = frozenset(origin.strip().lower().rstrip("/") for origin in value.split(","))
    if listed == {"*"}:
        return listed
    if not all(re.fullmatch(r"[a-z][a-z0-9+.-]*://[^/\s?#,*]+", origin) for origin in listed):
        raise ValueError("must be * or origins (scheme://host[:port]) separated by commas")
    return listed


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    The values of all variables; each field is its variable's name in lower case.

    Secrets are left out of the repr. Times are in seconds, sizes in bytes.
    """

    concierge_url: str = _variable(
        http_url, "https://bot.example.com", "Where the Concierge listens."
    )
    concierge_postback_secret_key: tuple[str, ...] = _variable(
        secrets,
        "change-me-shared-with-the-concierge",
        "Shared with the Concierge, signs what goes either way. Several, separated by commas, while"
        " rotating: all are accepted, the first signs.",
        secret=True,
    )
    switchboard_secret_key: tuple[str, ...] = _variable(
        secrets,
        "change-me-to-a-long-random-text",
        "Encrypts session cookies. Several, separated by commas, while rotating: all decrypt, the"
        " first encrypts.",
        secret=True,
    )
    switchboard_host: str = _variable(text, "0.0.0.0", "Address to listen on.", "0.0.0.0")  # noqa: S104 - the card's default: a dyno's router comes from outside
    switchboard_port: int = _variable(
        whole(0, 65535),
        "5555",
        "Port to listen on; 0 takes a free one. PORT is read if it is unset.",
        5555,
        fallback="PORT",
    )
    allowed_origins: frozenset[str] = _variable(
        origins,
        "https://www.example.com,https://shop.example.com",
        "Web origins that may open a socket, besides our own; * is any. Apps send none and pass.",
        frozenset({"*"}),
    )
    allow_client_sessions: bool = _variable(
        flag, "1", "1 lets clients choose their session by ?session=; 0 answers 403.", True
    )
    max_connections: int = _variable(
        whole(0, 10_000_000),
        "0",
        "Sockets at once in this process, beyond which upgrades get 503; 0 is no bound.",
        0,
    )
    max_message_bytes: int = _variable(
        whole(1, 1024 * 1024), "65536", "Longest frame a user may send, in bytes.", 64 * 1024
    )
    max_postback_bytes: int = _variable(
        whole(1, 4 * 1024 * 1024), "102400", "Longest postback, in bytes.", 100 * 1024
    )
    rate_limit: float = _variable(
        number(0, 100_000),
        "20",
        "Messages a second that a session may send on end; more wait. 0 is no bound.",
        20.0,
    )
    concierge_timeout: float = _variable(
        number(0.05, 300), "15", "Seconds the Concierge has to answer a message.", 15.0
    )
    concierge_concurrency: int = _variable(
        whole(1, 10_000), "100", "POSTs under way to the Concierge at once.", 100
    )
    concierge_idempotent: bool = _variable(
        flag,
        "0",
        "1 if the Concierge drops a repeated Idempotency-Key: then more failures are tried again.",
        False,
    )
    concierge_accept_md5: bool = _variable(
        flag,
        "0",
        "1 also takes signatures of api-auth 2.4 and older, which hash the body with MD5.",
        False,
    )
    metrics_token: str = _variable(
        text,
        "change-me-for-the-scraper",
        "Bearer token for /metrics; unset hides it.",
        "",
        secret=True,
    )
    log_level: str = _variable(
        choice("debug", "info", "warning", "error"),
        "info",
        "Least severe level that is logged.",
        "info",
    )
    log_format: str = _variable(
        choice("logfmt", "json", "console"),
        "logfmt",
        "How log lines look: logfmt, json or console.",
        "logfmt",
    )

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Settings":
        """
        Read all variables; one that is empty counts as unset.

        Raises:
            SettingsError: every fault at once.
        """
        values: dict[str, Any] = {}
        problems: list[str] = []
        for name, variable in variables().items():
            try:
                values[name.lower()] = _value(name, variable, environ)
            except ValueError as exc:
                problems.append(f"{exc}; for example {name}={variable.example}")
        if problems:
            raise SettingsError(problems)
        return cls(**values)


def variables() -> dict[str, Variable]:
    """Return all variables by name, in the order of their importance."""
    fields = dataclasses.fields(Settings)
    return {field.name.upper(): field.metadata["variable"] for field in fields}


def _value(name: str, variable: Variable, environ: Mapping[str, str]) -> Any:
    for source in filter(None, (name, variable.fallback)):
        if value := environ.get(source, "").strip():
            try:
                return variable.parse(value)
            except ValueError as exc:
                raise ValueError(f"{source}: {exc}") from exc
    if variable.required:
        raise ValueError(f"{name}: is required")
    return variable.default
