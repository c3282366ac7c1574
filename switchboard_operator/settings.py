"""The configuration: every variable with its type, default, meaning and example, read once."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from switchboard_operator.errors import SettingsError
from switchboard_operator.variables import (
    REQUIRED,
    Variable,
    choice,
    decimal,
    flag,
    http_url,
    integer,
    origins,
    redis_url,
    secrets,
    sentry_dsn,
    text,
)


def _variable(
    parse: Callable[[str], Any],
    example: str,
    meaning: str,
    default: Any = REQUIRED,
    *,
    secret: bool = False,
    fallback: str | None = None,
) -> Any:
    variable = Variable(parse, default, example, meaning, fallback)
    return dataclasses.field(repr=not secret, metadata={"variable": variable})


LONGEST_DRAIN = 12.0  # seconds; what is left of the 20 after SIGTERM is for the last messages

_DRAIN = ("pre_drain_seconds", "drain_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """
    The values of all variables; each field is its variable's name in lower case.

    Secrets are left out of the repr. Times are in seconds, sizes in bytes.
    """

    concierge_url: str = _variable(
        http_url, "http://127.0.0.1:8080", "Where the Concierge listens."
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
        "Encrypts session cookies and tokens. Several, separated by commas, while rotating: all"
        " decrypt, the first encrypts.",
        secret=True,
    )
    rediscloud_url: str = _variable(
        redis_url,
        "rediss://user:password@redis.example.com:6380/0",
        "The Redis that joins instances, redis:// or rediss://; unset, a process is on its own.",
        "",
        secret=True,
    )
    redis_tls_verify: bool = _variable(
        flag, "1", "0 takes any certificate from a rediss:// server, as some hosts need.", True
    )
    switchboard_host: str = _variable(text, "0.0.0.0", "Address to listen on.", "0.0.0.0")  # noqa: S104 - a platform's router comes from outside
    switchboard_port: int = _variable(
        integer(0, 65535),
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
        integer(0, 10_000_000),
        "0",
        "Sockets at once in this process, beyond which upgrades get 503; 0 is no bound.",
        0,
    )
    max_message_bytes: int = _variable(
        integer(1, 1024 * 1024), "65536", "Longest frame a user may send, in bytes.", 64 * 1024
    )
    max_postback_bytes: int = _variable(
        integer(1, 4 * 1024 * 1024), "102400", "Longest postback, in bytes.", 100 * 1024
    )
    rate_limit: float = _variable(
        decimal(0, 100_000),
        "20",
        "Messages a second that a session may send on end; more wait. 0 is no bound.",
        20.0,
    )
    concierge_timeout: float = _variable(
        decimal(0.05, 300), "15", "Seconds the Concierge has to answer a message.", 15.0
    )
    concierge_concurrency: int = _variable(
        integer(1, 10_000), "100", "POSTs under way to the Concierge at once.", 100
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
    offline_reply: str = _variable(
        text,
        "We could not reach our assistant just now. Please try again in a minute.",
        "What users are answered, once a minute at most, when a message could not be delivered;"
        " unset, nothing.",
        "",
    )
    mailbox_size: int = _variable(
        integer(0, 100_000),
        "100",
        "Postbacks kept for each session, to be sent again to a client that missed them; 0 keeps"
        " none.",
        100,
    )
    mailbox_ttl: int = _variable(
        integer(1, 365 * 86400),
        "86400",
        "Seconds that they are kept after the latest.",
        86400,
    )
    session_lifetime: int = _variable(
        integer(1, 365 * 86400),
        "2592000",
        "Seconds that a token is good for after its first issue, and that a session's count of"
        " postbacks is known after the latest.",
        30 * 86400,
    )
    pre_drain_seconds: float = _variable(
        decimal(0, LONGEST_DRAIN),
        "0",
        "Seconds between SIGTERM, from which on /live is 503, and the first socket closed.",
        0.0,
    )
    drain_seconds: float = _variable(
        decimal(0, LONGEST_DRAIN),
        "1",
        "Seconds over which sockets are then closed, so that clients don't come back all at once.",
        1.0,
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
        choice("auto", "logfmt", "json", "console"),
        "auto",
        "How log lines look: logfmt, json or console; auto is console on a terminal, else logfmt.",
        "auto",
    )
    sentry_dsn: str = _variable(
        sentry_dsn,
        "https://key@sentry.example.com/1",
        "Where bugs are reported to Sentry; unset, nowhere. Needs requirements-observability.txt.",
        "",
        secret=True,
    )
    otel_exporter_otlp_endpoint: str = _variable(
        http_url,
        "http://127.0.0.1:4318",
        "Where a span for each message is sent by OTLP over HTTP; unset, nowhere. Needs"
        " requirements-observability.txt.",
        "",
    )

    @classmethod
    def read(cls, environ: Mapping[str, str]) -> "Settings":
        """
        Read all variables; one that is empty counts as unset.

        Raises:
            SettingsError: every fault at once.
        """
        values, problems = _values(environ, variables())
        if sum(values.get(name, 0.0) for name in _DRAIN) > LONGEST_DRAIN:
            names = " and ".join(name.upper() for name in _DRAIN)
            problems.append(
                f"{names}: must be {LONGEST_DRAIN:g} seconds at most together;"
                " for example PRE_DRAIN_SECONDS=2 DRAIN_SECONDS=10"
            )
        if problems:
            raise SettingsError(problems)
        return cls(**values)


def read_some(environ: Mapping[str, str], *names: str) -> dict[str, Any]:
    """
    Read the variables of these *names* and no others, for who needs no more; by field.

    Raises:
        SettingsError: every fault at once.
    """
    values, problems = _values(environ, {name: variables()[name] for name in names})
    if problems:
        raise SettingsError(problems)
    return values


def variables() -> dict[str, Variable]:
    """Return all variables by name, in the order of their importance."""
    fields = dataclasses.fields(Settings)
    return {field.name.upper(): field.metadata["variable"] for field in fields}


def _values(
    environ: Mapping[str, str], wanted: Mapping[str, Variable]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of what is *wanted* by field, and a line for each fault."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, variable in wanted.items():
        try:
            values[name.lower()] = _value(name, variable, environ)
        except ValueError as exc:
            problems.append(f"{exc}; for example {name}={variable.example}")
    return values, problems


def _value(name: str, variable: Variable, environ: Mapping[str, str]) -> Any:
    for source in filter(None, (name, variable.fallback)):
        if value := environ.get(source, "").strip():
            return _parsed(source, variable, value)
    if variable.required:
        raise ValueError(f"{name}: is required")
    return variable.default


def _parsed(source: str, variable: Variable, value: str) -> Any:
    try:
        value.encode()
        return variable.parse(value)
    except UnicodeEncodeError as exc:  # its own text would show a part of the value
        raise ValueError(f"{source}: is not UTF-8") from exc
    except ValueError as exc:
        raise ValueError(f"{source}: {exc}") from exc
