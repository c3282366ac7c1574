"""The configuration: what each variable takes, its default, and how faults are told."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator.errors import SettingsError
from switchboard_operator.settings import Settings, read_some, variables

REQUIRED: Final[Mapping[str, str]] = {
    "CONCIERGE_URL": "http://bot.example.com",
    "CONCIERGE_POSTBACK_SECRET_KEY": "shared",
    "SWITCHBOARD_SECRET_KEY": "cookies",
}

DEFAULTS: Final[dict[str, Any]] = {
    "rediscloud_url": "",
    "redis_tls_verify": True,
    "switchboard_host": "0.0.0.0",  # noqa: S104 - compared, not bound
    "switchboard_port": 5555,
    "allowed_origins": frozenset({"*"}),
    "allow_client_sessions": True,
    "max_connections": 0,
    "max_message_bytes": 65_536,
    "max_postback_bytes": 102_400,
    "rate_limit": 20.0,
    "concierge_timeout": 15.0,
    "concierge_concurrency": 100,
    "concierge_idempotent": False,
    "concierge_accept_md5": False,
    "offline_reply": "",
    "mailbox_size": 100,
    "mailbox_ttl": 86_400,
    "session_lifetime": 2_592_000,
    "pre_drain_seconds": 0.0,
    "drain_seconds": 1.0,
    "metrics_token": "",
    "log_level": "info",
    "log_format": "auto",
    "sentry_dsn": "",
    "otel_exporter_otlp_endpoint": "",
}


def read(**environ: str) -> Settings:
    """Read the settings from what is required and *environ*."""
    return Settings.read({**REQUIRED, **environ})


def problems(environ: Mapping[str, str]) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        Settings.read(environ)
    return refused.value.problems


def outcome(name: str, text: str) -> Settings | tuple[str, ...]:
    """Return the settings with a variable set to *text*, or what is told instead."""
    try:
        return read(**{name: text})
    except SettingsError as exc:
        return exc.problems


def test_the_defaults() -> None:
    settings = dataclasses.asdict(read())

    assert settings == {
        "concierge_url": "http://bot.example.com",
        "concierge_postback_secret_key": ("shared",),
        "switchboard_secret_key": ("cookies",),
        **DEFAULTS,
    }


@pytest.mark.parametrize("name", variables())
def test_the_example_of_a_variable_is_taken(name: str) -> None:
    variable = variables()[name]

    settings = read(**{name: variable.example})

    assert getattr(settings, name.lower()) == variable.parse(variable.example)


@pytest.mark.parametrize("name", variables())
def test_a_variable_says_what_it_is_for(name: str) -> None:
    variable = variables()[name]

    assert variable.meaning.endswith(".")
    assert variable.example
    assert variable.required == (name in REQUIRED)


GOOD: Final[dict[str, list[tuple[str, Any]]]] = {
    "CONCIERGE_URL": [
        ("https://bot.example.com/", "https://bot.example.com"),
        ("http://127.0.0.1:5000/base/path/", "http://127.0.0.1:5000/base/path"),
        ("http://[::1]:5000", "http://[::1]:5000"),
        ("  http://bot  ", "http://bot"),
    ],
    "CONCIERGE_POSTBACK_SECRET_KEY": [
        ("one", ("one",)),
        ("new, old", ("new", "old")),
        ("k3y+/==,é", ("k3y+/==", "é")),
    ],
    "SWITCHBOARD_SECRET_KEY": [(" new ,old ", ("new", "old"))],
    "REDISCLOUD_URL": [
        (url, url)
        for url in (
            "redis://localhost",
            "redis://localhost:6379/",
            "redis://:p%40ss@[::1]:6379/15",
            "rediss://user:p+s=@redis.example.com:6380/0",
        )
    ],
    "REDIS_TLS_VERIFY": [("0", False), ("1", True)],
    "SWITCHBOARD_HOST": [("::", "::"), ("localhost", "localhost")],
    "SWITCHBOARD_PORT": [("0", 0), ("65535", 65535), ("08080", 8080), (" 80 ", 80)],
    "ALLOWED_ORIGINS": [
        ("*", frozenset({"*"})),
        (" https://A.example , app://X/ ", frozenset({"https://a.example", "app://x"})),
        ("http://localhost:8080", frozenset({"http://localhost:8080"})),
    ],
    "ALLOW_CLIENT_SESSIONS": [("0", False), ("1", True)],
    "MAX_CONNECTIONS": [("0", 0), ("10000000", 10_000_000)],
    "MAX_MESSAGE_BYTES": [("1", 1), ("1048576", 1_048_576)],
    "MAX_POSTBACK_BYTES": [("1", 1), ("4194304", 4_194_304)],
    "RATE_LIMIT": [("0", 0.0), ("0.5", 0.5), ("100000", 100_000.0)],
    "CONCIERGE_TIMEOUT": [("0.05", 0.05), ("300", 300.0), ("2.5", 2.5)],
    "CONCIERGE_CONCURRENCY": [("1", 1), ("10000", 10_000)],
    "CONCIERGE_IDEMPOTENT": [("1", True)],
    "CONCIERGE_ACCEPT_MD5": [("1", True)],
    "OFFLINE_REPLY": [("Back soon!", "Back soon!")],
    "MAILBOX_SIZE": [("0", 0), ("100000", 100_000)],
    "MAILBOX_TTL": [("1", 1), ("31536000", 31_536_000)],
    "SESSION_LIFETIME": [("1", 1), ("31536000", 31_536_000)],
    "PRE_DRAIN_SECONDS": [("0", 0.0), ("11", 11.0)],
    "DRAIN_SECONDS": [("0", 0.0), ("2.5", 2.5)],
    "METRICS_TOKEN": [("any text, at all", "any text, at all")],
    "LOG_LEVEL": [("DEBUG", "debug"), ("warning", "warning"), ("Error", "error")],
    "LOG_FORMAT": [("json", "json"), ("Console", "console")],
    "SENTRY_DSN": [
        (dsn, dsn)
        for dsn in ("https://0123abc@o1.ingest.sentry.io/45", "http://key@127.0.0.1:9000/under/1")
    ],
    "OTEL_EXPORTER_OTLP_ENDPOINT": [("http://127.0.0.1:4318/", "http://127.0.0.1:4318")],
}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        pytest.param(name, *row, id=f"{name}={row[0]}")
        for name, rows in GOOD.items()
        for row in rows
    ],
)
def test_a_good_value_is_read(name: str, text: str, value: Any) -> None:
    assert getattr(read(**{name: text}), name.lower()) == value


def test_good_values_are_shown_for_every_variable() -> None:
    assert list(GOOD) == list(variables())


_BAD_KEYS = ["one,,two", ",one", "one,", ",", "one, ,two"]
_BAD_WHOLE = ["-1", "+1", "1.0", "1e3", "0x10", "1_000", "one", "\u0661", "9" * 5000, "1 2", "nan"]
_BAD_NUMBERS = ["-1", "+1", "1e3", "nan", "inf", "1,5", ".5", "1.", "one", "9" * 5000]
_BAD_FLAGS = ["2", "true", "yes", "on", "01", "-"]
BAD: Final[dict[str, list[str]]] = {
    "CONCIERGE_URL": [
        "bot.example.com",
        "localhost:5000",
        "ftp://bot.example.com",
        "http://",
        "http:///path",
        "https://bot.example.com:port",
        "https://bot.example.com:99999",
        "https://bot.example.com:0",
        "http://[::1",
        "https://bot.example.com/?key=value",
        "https://bot.example.com/#part",
        "https://bot.example.com/a b",
        "https://bot.example.com/a\nb",
    ],
    "CONCIERGE_POSTBACK_SECRET_KEY": _BAD_KEYS,
    "SWITCHBOARD_SECRET_KEY": _BAD_KEYS,
    "REDISCLOUD_URL": [
        "localhost:6379",
        "http://localhost:6379",
        "unix:///run/redis.sock",
        "redis://",
        "redis:///0",
        "redis://localhost:port",
        "redis://localhost:0",
        "redis://localhost:99999",
        "redis://[::1",
        "redis://localhost/zero",
        "redis://localhost/0/1",
        "redis://localhost/0?db=1",
        "redis://localhost/0#1",
        "redis://:pass#word@localhost",
        "redis://local host",
        "redis://local\nhost/0",
    ],
    "REDIS_TLS_VERIFY": _BAD_FLAGS,
    "SWITCHBOARD_PORT": [*_BAD_WHOLE, "65536"],
    "ALLOWED_ORIGINS": [
        "www.example.com",
        "https://",
        "https://a.example/path",
        "https://a.example?x",
        "https://*.example.com",
        "https://a.example,",
        "https://a.example,*",
        "https://a.example https://b.example",
        "null",
        "**",
    ],
    "ALLOW_CLIENT_SESSIONS": _BAD_FLAGS,
    "MAX_CONNECTIONS": [*_BAD_WHOLE, "10000001"],
    "MAX_MESSAGE_BYTES": [*_BAD_WHOLE, "0", "1048577"],
    "MAX_POSTBACK_BYTES": [*_BAD_WHOLE, "0", "4194305"],
    "RATE_LIMIT": [*_BAD_NUMBERS, "100000.1"],
    "CONCIERGE_TIMEOUT": [*_BAD_NUMBERS, "0", "0.04", "301"],
    "CONCIERGE_CONCURRENCY": [*_BAD_WHOLE, "0", "10001"],
    "CONCIERGE_IDEMPOTENT": _BAD_FLAGS,
    "CONCIERGE_ACCEPT_MD5": _BAD_FLAGS,
    "MAILBOX_SIZE": [*_BAD_WHOLE, "100001"],
    "MAILBOX_TTL": [*_BAD_WHOLE, "0", "31536001"],
    "SESSION_LIFETIME": [*_BAD_WHOLE, "0", "31536001"],
    "PRE_DRAIN_SECONDS": [*_BAD_NUMBERS, "12.1"],
    "DRAIN_SECONDS": [*_BAD_NUMBERS, "13"],
    "LOG_LEVEL": ["verbose", "10", "info,debug"],
    "LOG_FORMAT": ["xml", "text"],
    "SENTRY_DSN": [
        "https://sentry.example.com/1",
        "https://key@sentry.example.com/",
        "https://key@sentry.example.com/one",
        "key@sentry.example.com/1",
        "redis://key@sentry.example.com/1",
        "https://key@sentry.example.com/1?x=y",
    ],
    "OTEL_EXPORTER_OTLP_ENDPOINT": ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://u:p@host"],
}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        pytest.param(name, text, id=f"{name}={text[:40]!a}")
        for name, texts in BAD.items()
        for text in texts
    ],
)
def test_a_bad_value_gets_a_line_with_variable_reason_and_example(name: str, text: str) -> None:
    [problem] = problems({**REQUIRED, name: text})

    assert problem.startswith(f"{name}: ")
    assert problem.endswith(f"; for example {name}={variables()[name].example}")
    assert "\n" not in problem
    assert len(problem) > len(f"{name}: ; for example {name}={variables()[name].example}")


def test_bad_values_are_shown_for_every_variable_but_those_that_take_any_text() -> None:
    assert set(variables()) - set(BAD) == {"SWITCHBOARD_HOST", "METRICS_TOKEN", "OFFLINE_REPLY"}


def test_what_is_required_and_missing_is_told_at_once() -> None:
    missing = problems({})

    assert [problem.split(";")[0] for problem in missing] == [
        "CONCIERGE_URL: is required",
        "CONCIERGE_POSTBACK_SECRET_KEY: is required",
        "SWITCHBOARD_SECRET_KEY: is required",
    ]


def test_all_faults_are_told_at_once_in_the_order_of_the_variables() -> None:
    told = problems({name: texts[0] for name, texts in BAD.items()})

    assert [problem.split(":")[0] for problem in told] == list(BAD)


def test_the_error_reads_as_its_lines() -> None:
    with pytest.raises(SettingsError) as refused:
        Settings.read({})

    assert str(refused.value) == "\n".join(refused.value.problems)


def test_no_value_of_any_variable_appears_in_the_error() -> None:
    environ = {name: f"MARKER,,{name.lower()}" for name in variables()} | {"PORT": "MARKER"}

    told = "\n".join(problems(environ))

    assert "MARKER" not in told
    assert not [name for name in variables() if name.lower() in told]


@given(
    st.sampled_from(sorted(BAD)),
    st.text(st.characters(exclude_categories=["Cs"])).filter(lambda text: text.strip() != ""),
)
def test_whatever_a_value_is_it_is_read_or_refused_in_the_same_words(name: str, text: str) -> None:
    told = outcome(name, text)

    assert isinstance(told, Settings) or told == outcome(name, BAD[name][0])
    assert told == outcome(name, f" {text}\n")


@pytest.mark.parametrize("empty", ["", " ", "\t\n"], ids=["empty", "blank", "white space"])
def test_an_empty_variable_counts_as_unset(empty: str) -> None:
    optional = {name: empty for name in variables() if name not in REQUIRED}

    assert read(**optional, PORT=empty) == read()


@pytest.mark.parametrize("empty", ["", "  "], ids=["empty", "blank"])
def test_a_required_variable_that_is_empty_is_missing(empty: str) -> None:
    assert problems(dict.fromkeys(REQUIRED, empty)) == problems({})


# PORT


@pytest.mark.parametrize(
    ("environ", "port"),
    [
        ({"PORT": "8080"}, 8080),
        ({"SWITCHBOARD_PORT": "", "PORT": "8080"}, 8080),
        ({"SWITCHBOARD_PORT": "7070", "PORT": "8080"}, 7070),
        ({"SWITCHBOARD_PORT": "0", "PORT": "8080"}, 0),
        ({"SWITCHBOARD_PORT": "7070", "PORT": "nonsense"}, 7070),
        ({"PORT": ""}, 5555),
    ],
    ids=["PORT alone", "ours empty", "both", "ours 0", "PORT wrong but unused", "PORT empty"],
)
def test_port_is_read_if_ours_is_unset(environ: dict[str, str], port: int) -> None:
    assert read(**environ).switchboard_port == port


def test_a_bad_port_is_called_by_its_name() -> None:
    [problem] = problems({**REQUIRED, "PORT": "nonsense"})

    assert problem.startswith("PORT: must be a whole number from 0 to 65535; for example ")


def test_nothing_else_is_read() -> None:
    assert read(HOST="evil", SECRET="x", switchboard_port="1", HTTP_PROXY="http://x") == read()


# Secrets


@pytest.mark.parametrize("show", [repr, str, "{!r}".format, "{}".format], ids=range(4))
def test_secrets_are_not_in_the_repr(show: Any) -> None:
    settings = read(
        CONCIERGE_POSTBACK_SECRET_KEY="MARKER-1,MARKER-2",
        SWITCHBOARD_SECRET_KEY="MARKER-3",
        METRICS_TOKEN="MARKER-4",
        REDISCLOUD_URL="redis://user:MARKER-5@localhost",
        SENTRY_DSN="https://MARKER-6@localhost/1",
    )

    assert "MARKER" not in show(settings)
    assert "bot.example.com" in show(settings)


def test_settings_do_not_change() -> None:
    settings = read()

    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.rate_limit = 1.0  # type: ignore[misc]  # that it is forbidden is the point


@pytest.mark.parametrize(("before", "over", "usable"), [("2", "10", True), ("2.5", "10", False)])
def test_a_drain_must_leave_time_for_the_last_messages(
    before: str, over: str, usable: bool
) -> None:
    environ = {**REQUIRED, "PRE_DRAIN_SECONDS": before, "DRAIN_SECONDS": over}

    if usable:
        assert Settings.read(environ).drain_seconds == float(over)
    else:
        with pytest.raises(SettingsError) as refused:
            Settings.read(environ)
        [problem] = refused.value.problems
        assert "PRE_DRAIN_SECONDS and DRAIN_SECONDS" in problem


# Some of them


def test_who_needs_some_variables_gets_those_and_their_faults_alone() -> None:
    names = ("SWITCHBOARD_PORT", "CONCIERGE_POSTBACK_SECRET_KEY")
    environ = {"PORT": "81", "CONCIERGE_POSTBACK_SECRET_KEY": "a,b", "RATE_LIMIT": "none of both"}

    assert read_some(environ, *names) == {
        "switchboard_port": 81,
        "concierge_postback_secret_key": ("a", "b"),
    }
    with pytest.raises(SettingsError) as caught:
        read_some({"PORT": "http", "RATE_LIMIT": "none of both"}, *names)
    assert [problem.split(":")[0] for problem in caught.value.problems] == [
        "PORT",
        "CONCIERGE_POSTBACK_SECRET_KEY",
    ]
