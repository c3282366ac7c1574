"""Log lines: one for each event, whatever is in it."""

import asyncio
import io
import logging
import re
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import pytest
import structlog
from msgspec import json

from switchboard_operator import logs
from tests.fakes import FakeConcierge
from tests.switchboards import switchboard

LINE_ENDS = ["\n", "\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"]

FORMS = ["logfmt", "json", "console"]
MACHINE_FORMS = ["logfmt", "json"]  # what a collector reads, where a line is an event

LIBRARIES = ["", "asyncio", "aiohttp.server", "aiohttp.websocket", "aiohttp_session"]

Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Configure logging to a stream, which is returned; the end of the test takes it back."""
    saved = structlog.get_config()
    root = logging.getLogger()
    handlers = root.handlers[:]
    loggers = {name: logging.getLogger(name) for name in LIBRARIES}
    levels = {name: logger.level for name, logger in loggers.items()}
    filters = {name: logger.filters[:] for name, logger in loggers.items()}

    def to_stream(
        form: str = "logfmt", level: str = "debug", report: logs.Report | None = None
    ) -> io.StringIO:
        stream = io.StringIO()
        logs.configure(level, form, stream, report)
        return stream

    yield to_stream
    root.handlers[:] = handlers
    for name, logger in loggers.items():
        logger.setLevel(levels[name])
        logger.filters[:] = filters[name]
    structlog.configure(**saved)


def fail() -> None:
    raise RuntimeError("a bug\nof two lines")


def log_bug() -> None:
    """Log a bug with its traceback."""
    try:
        fail()
    except RuntimeError:
        structlog.get_logger().exception("request failed", path="/")


def log_librarys_bug() -> None:
    """Log a library's bug with its traceback."""
    try:
        fail()
    except RuntimeError:
        logging.getLogger("aiohttp.server").exception("Error handling request")


def test_logfmt_begins_with_time_level_and_event(configure: Configure) -> None:
    stream = configure("logfmt")

    structlog.get_logger().info("draining", sockets=3, clean=True, why="a signal")

    found = re.fullmatch(
        r'timestamp=(\S+) level=info event=draining sockets=3 clean=true why="a signal"\n',
        stream.getvalue(),
    )
    assert found is not None
    assert datetime.fromisoformat(found[1]).utcoffset() is not None


def test_json_has_the_same_by_key(configure: Configure) -> None:
    stream = configure("json")

    structlog.get_logger().info("draining", sockets=3, clean=True, why='a "signal"')
    line = json.decode(stream.getvalue())

    assert datetime.fromisoformat(line.pop("timestamp")).utcoffset() is not None
    assert line == {
        "level": "info",
        "event": "draining",
        "sockets": 3,
        "clean": True,
        "why": 'a "signal"',
    }


def test_json_begins_with_time_level_and_event(configure: Configure) -> None:
    stream = configure("json")

    structlog.get_logger().info("draining", sockets=3, clean=True)

    names = list(json.decode(stream.getvalue()))
    assert names == ["timestamp", "level", "event", "sockets", "clean"]


class Terminal(io.StringIO):
    """A stream that somebody looks at."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "seen"),
    [
        pytest.param(io.StringIO(), r"timestamp=\S+ level=info event=draining .*\n", id="pipe"),
        pytest.param(Terminal(), r"\x1b\[.*info.*draining.*\n", id="terminal"),
    ],
)
def test_unless_told_otherwise_lines_are_for_eyes_on_a_terminal_and_logfmt_elsewhere(
    configure: Configure, stream: io.StringIO, seen: str
) -> None:
    configure()
    logs.configure("info", "auto", stream)

    structlog.get_logger().info("draining", sockets=3)

    assert re.fullmatch(seen, stream.getvalue())


@pytest.mark.parametrize("form", FORMS)
def test_what_a_line_says_stands_in_the_order_in_which_it_was_said(
    configure: Configure, form: str
) -> None:
    stream = configure(form)

    structlog.get_logger().info("refused", request_id="r", connection="c", cause="a")

    assert re.search("request_id.*connection.*cause", stream.getvalue())


def test_the_console_is_for_eyes_and_not_coloured_in_a_file(configure: Configure) -> None:
    stream = configure("console")

    structlog.get_logger().warning("signature refused", cause="hmac_mismatch")

    assert re.search(r"warning.*signature refused.*cause=hmac_mismatch\n$", stream.getvalue())
    assert "\x1b" not in stream.getvalue()


@pytest.mark.parametrize("form", MACHINE_FORMS)
@pytest.mark.parametrize("log", [log_bug, log_librarys_bug], ids=["ours", "a library's"])
def test_a_traceback_is_part_of_its_line(
    configure: Configure, form: str, log: Callable[[], None]
) -> None:
    stream = configure(form)

    log()

    [line] = stream.getvalue().splitlines()
    assert "Traceback" in line
    assert "RuntimeError: a bug" in line
    assert log.__name__ in line


def test_a_traceback_can_be_read_on_the_console(configure: Configure) -> None:
    stream = configure("console")

    log_bug()

    assert "request failed" in stream.getvalue()
    assert "RuntimeError: a bug\nof two lines" in stream.getvalue()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", LINE_ENDS, ids=ascii)
def test_a_line_end_in_a_value_does_not_end_the_line(
    configure: Configure, form: str, end: str
) -> None:
    stream = configure(form)

    structlog.get_logger().info("refused", detail=f"first{end}level=error event=forged")

    assert len(stream.getvalue().splitlines()) == 1
    assert "forged" in stream.getvalue()


@pytest.mark.parametrize("form", MACHINE_FORMS)
@pytest.mark.parametrize("end", LINE_ENDS, ids=ascii)
def test_a_line_end_in_a_librarys_words_does_not_end_the_line(
    configure: Configure, form: str, end: str
) -> None:
    stream = configure(form)

    logging.getLogger("some.library").warning("peer said %s", f"first{end}second")

    assert len(stream.getvalue().splitlines()) == 1
    assert "second" in stream.getvalue()


@pytest.mark.parametrize(
    "value",
    ['say "hi"', "a=b", "back\\slash", "", "é🐶", None, 1.5, ["a b", 'c"d'], {"a": 1}, b"\xff"],
    ids=ascii,
)
def test_logfmt_keeps_values_apart(configure: Configure, value: object) -> None:
    stream = configure("logfmt")

    structlog.get_logger().info("event", first=value, second="the end")

    quoted = r'(?:"(?:[^"\\]|\\.)*"|[^\s"=]*)'
    assert re.fullmatch(
        rf"timestamp=\S+ level=info event=event first={quoted} second={quoted}\n", stream.getvalue()
    )


def test_logfmt_takes_a_key_with_a_space(configure: Configure) -> None:
    stream = configure("logfmt")

    structlog.get_logger().info("event", **{"two words": 1})

    assert stream.getvalue().endswith("two_words=1\n")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_only_the_level_asked_for_and_worse_is_logged(
    configure: Configure, form: str, level: str, seen: list[str]
) -> None:
    stream = configure(form, level)
    ours, librarys = structlog.get_logger(), logging.getLogger("some.library")

    for each in ("debug", "info", "warning", "error"):
        getattr(ours, each)(f"ours-{each}")
        getattr(librarys, each)(f"library-{each}")

    told = re.findall(r"(?:ours|library)-\w+", stream.getvalue())
    assert told == [f"{who}-{each}" for each in seen for who in ("ours", "library")]


@pytest.mark.parametrize("form", FORMS)
def test_a_librarys_record_looks_like_ours_and_names_it(configure: Configure, form: str) -> None:
    stream = configure(form)

    logging.getLogger("some.library").warning("it has %d %s", 3, "arguments")

    [line] = stream.getvalue().splitlines()
    assert "it has 3 arguments" in line
    assert "warning" in line
    assert "some.library" in line


def test_configured_twice_the_last_counts(configure: Configure) -> None:
    first = configure("json")
    second = configure("logfmt")

    structlog.get_logger().info("once")

    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_asyncio_does_not_chat(configure: Configure) -> None:
    stream = configure("logfmt", "debug")

    logging.getLogger("asyncio").debug("Using selector")
    logging.getLogger("asyncio").warning("slow callback")

    assert [line.count("slow") for line in stream.getvalue().splitlines()] == [1]


# What peers make the libraries say


BAD_REQUESTS = [
    pytest.param(b"GET / HTTP/1.1\r\nbad header hunter2\r\n\r\n", id="header"),
    pytest.param(b"GET /hunter2 HTTP/9.9\r\n\r\n", id="version"),
    pytest.param(b"hunter2\r\n\r\n", id="no request"),
    pytest.param(b"GET /?hunter2=%s HTTP/1.1\r\n\r\n" % (b"x" * 10_000), id="long line"),
    pytest.param(
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: hunter2\r\n\r\n", id="content length"
    ),
    pytest.param(
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nhunter2\r\n", id="chunk"
    ),
    pytest.param(b"\x16\x03\x01hunter2\r\n\r\n", id="TLS"),
]


async def status_line(url: str, request: bytes) -> bytes:
    """Send *request* on a link of its own; return the first line of the answer."""
    address = urlsplit(url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(request)
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("request_", BAD_REQUESTS)
async def test_a_bad_request_is_told_without_traceback_or_the_peers_words(
    configure: Configure, concierge: FakeConcierge, form: str, request_: bytes
) -> None:
    stream = configure(form, "debug")
    async with switchboard(concierge.url) as board:
        status = await status_line(board.url, request_)
        assert (await board.get("/live"))[0] == 200

    assert re.match(rb"HTTP/1\.[01] 400 ", status)
    assert "Traceback" not in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


async def test_a_bad_request_is_a_line_for_who_debugs_and_none_for_others(
    configure: Configure, concierge: FakeConcierge
) -> None:
    lines = {}
    for level in ("debug", "info"):
        stream = configure("logfmt", level)
        async with switchboard(concierge.url) as board:
            await status_line(board.url, b"GET / HTTP/1.1\r\nbad header\r\n\r\n")
        lines[level] = [line for line in stream.getvalue().splitlines() if "bad HTTP" in line]

    [line] = lines["debug"]
    assert "level=debug" in line
    assert lines["info"] == []


async def test_what_a_client_puts_into_an_upgrade_is_not_logged(
    configure: Configure, concierge: FakeConcierge
) -> None:
    stream = configure("logfmt", "debug")
    async with switchboard(concierge.url) as board:
        user = await board.connect(
            None, protocols=["hunter2"], headers={"Cookie": "switchboard_session=hunter2"}
        )
        await user.send_json({"message": "hunter2", "payload": {"token": "hunter2"}})
        await concierge.has_accepted(1)
        await user.send_str("hunter2 is no JSON")
        await user.receive()
        await board.get("/?token=hunter2")

    assert "event=draining" in stream.getvalue()
    assert "hunter2" not in stream.getvalue()


def test_a_bug_of_ours_keeps_its_traceback(configure: Configure) -> None:
    stream = configure("logfmt")
    logs.tame_libraries()

    log_librarys_bug()

    [line] = stream.getvalue().splitlines()
    assert "level=error" in line
    assert "RuntimeError: a bug" in line


def test_taming_twice_adds_nothing(configure: Configure) -> None:
    logs.tame_libraries()
    filters = logging.getLogger("aiohttp.server").filters[:]

    logs.tame_libraries()

    assert logging.getLogger("aiohttp.server").filters == filters
    assert filters


# Who is told of bugs


def log_bug_that_was_kept() -> None:
    """Log a bug outside of where it was caught."""
    bugs: list[BaseException] = []
    try:
        fail()
    except RuntimeError as exc:
        bugs.append(exc)
    structlog.get_logger().error("connection failed", exc_info=bugs[0])


@pytest.mark.parametrize(
    ("log", "event"),
    [
        (log_bug, "request failed"),
        (log_bug_that_was_kept, "connection failed"),
        (log_librarys_bug, "Error handling request"),
    ],
)
def test_a_bug_is_reported_once_with_its_event_and_still_logged(
    configure: Configure, log: Callable[[], None], event: str
) -> None:
    told: list[tuple[BaseException, Any]] = []
    stream = configure(report=lambda bug, line: told.append((bug, line)))

    log()

    [(bug, line)] = told
    assert isinstance(bug, RuntimeError)
    assert line["event"] == event
    assert "RuntimeError: a bug" in stream.getvalue()


def test_what_is_no_bug_is_not_reported(configure: Configure) -> None:
    told: list[BaseException] = []
    configure(report=lambda bug, _line: told.append(bug))

    structlog.get_logger().error("postbacks not published before the end", postbacks=3)
    structlog.get_logger().error("nothing caught", exc_info=True)
    logging.getLogger("some.library").error("it has trouble")

    assert told == []


def test_of_a_line_only_what_is_known_to_be_fit_is_reported(configure: Configure) -> None:
    told: list[dict[str, Any]] = []
    configure(report=lambda _bug, line: told.append(dict(line)))

    structlog.get_logger().error("x", request_id="r", detail="hunter2", exc_info=ValueError())

    assert told == [{"event": "x", "request_id": "r"}]
