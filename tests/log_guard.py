"""Holds all that is logged in a test against all that passed in it and is for no log."""

import asyncio
import logging
import re
import traceback
from collections.abc import Iterable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, unquote

import aiohttp
import msgspec
import pytest

SHORTEST = 6  # characters; what is shorter stands in lines by accident
SHORTEST_BROKEN = 10  # of what is no JSON, and may consist of names that lines have, too
SHORTEST_NUMBER = 8
LONGEST = 24  # what is longer is known by its beginning, since a line may cut it

# What a frame, a postback or an answer says of itself, or is named by in lines: the cid is its
# request_id.
OPEN = frozenset(("type", "code", "error", "detail", "why", "id", "last", "cid"))

# What tests send, and events have in their names.
ORDINARY = frozenset(("message", "messages"))

# Which are the same in a line, however that is written: no quotes, no escapes.
RUN = re.compile(r"""[^\x00-\x1f\x7f-\xa0\u2028\u2029"'\\]+""")
ASCII_RUN = re.compile(r"""[ !#-&(-\[\]-~]+""")

HEAD = re.compile(r"(?:[A-Z]+ (\S+) )?HTTP/1\.[01]\b")


class Passed:
    """
    What a test has configured, sent and received, and what was logged meanwhile.

    It costs a test little: what is noted is looked into at its end, and only if there are lines.
    """

    def __init__(self) -> None:
        self.records: list[logging.LogRecord] = []
        self.output: list[str] = []  # of processes
        self._secrets: set[str] = set()
        self._kept: set[str] = set()  # secrets of what outlives a test: a module's fixtures
        self._bodies: list[str | bytes] = []
        self._heads: list[tuple[str, tuple[tuple[str, str], ...]]] = []
        self._raw: list[bytes] = []

    def body(self, body: str | bytes) -> None:
        """Note a body, or a frame's text: JSON, or what somebody takes for it."""
        self._bodies.append(body)

    def request(self, url: str, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Note a request: its query, the session in its path, its credentials."""
        self._heads.append((url, tuple(headers)))

    def raw(self, data: bytes) -> None:
        """Note what goes over a link by hand, if it begins a request or an answer, or is a body."""
        if data[:1] in {b"{", b"["}:
            self._bodies.append(data)
        elif b"HTTP/1." in data[:10_000]:
            self._raw.append(data)

    def variables(self, environment: Mapping[str, str | bytes]) -> None:
        """Note the secrets among variables."""
        for name, given in environment.items():
            value = given.decode(errors="replace") if isinstance(given, bytes) else given
            if re.search("SECRET|TOKEN", name):
                self._secrets.update(key.strip() for key in value.split(","))
            elif re.search("URL|DSN", name):
                self._secrets.update(_password(value))

    def begin(self) -> None:
        """Begin a test: what was configured before is for all that follow."""
        self._kept |= self._secrets

    def clear(self) -> None:
        """Forget all but what was configured before the test began."""
        for noted in (self.records, self.output, self._bodies, self._heads, self._raw):
            noted.clear()
        self._secrets = set(self._kept)

    def lines(self) -> list[str]:
        """Return all that was logged, here and by processes."""
        return [*map(_line, self.records), *self.output]

    def private(self) -> set[str]:
        """Return what no line may hold."""
        for data in self._raw:
            self._take_apart(data)
        found = {known for word in self._secrets for known in marks(word)}
        for url, headers in self._heads:
            found |= {known for word in _of_head(url, headers) for known in marks(word)}
        for body in self._bodies:
            found |= of_body(body)
        return found

    def _take_apart(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        first, *fields = head.decode("latin-1").split("\r\n")
        if not (begun := HEAD.match(first)):
            return
        pairs = (field.partition(":") for field in fields)
        self.request(begun[1] or "", ((name, value.strip()) for name, _, value in pairs))
        if body:
            self.body(body)


PASSED = Passed()  # of the test that is under way


def leaks(lines: Iterable[str], private: Iterable[str]) -> list[tuple[str, str]]:
    """Return what should not stand in *lines*, each with the first line that holds it."""
    lines = list(lines)
    whole = "\n".join(lines)
    return [
        (word, next(line for line in lines if word in line))
        for word in sorted(private)
        if word in whole
    ]


def marks(word: str, shortest: int = SHORTEST) -> Iterator[str]:
    """Return by what *word* is known in a line, in whatever way a line writes it."""
    for pattern in (RUN,) if word.isascii() else (RUN, ASCII_RUN):
        run = max(pattern.findall(word), key=len, default="").strip()
        if len(run) >= shortest and run not in ORDINARY:
            yield run[:LONGEST]


def of_body(body: str | bytes) -> set[str]:
    """Return by what the values in *body* are known."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        text = body.decode(errors="replace") if isinstance(body, bytes) else body
        return set(marks(text, SHORTEST_BROKEN))
    found: set[str] = set()
    waiting = [content]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            waiting += [value for key, value in each.items() if key not in OPEN]
        elif isinstance(each, list):
            waiting += each
        elif isinstance(each, str):
            found.update(marks(each))
        elif not isinstance(each, bool | None):
            found.update(marks(str(each), SHORTEST_NUMBER))
    return found


def _of_head(url: str, headers: Iterable[tuple[str, str]]) -> Iterator[str]:
    path, _, query = url.partition("?")
    _, _, session = path.partition("/sessions/")
    yield unquote(session)
    yield from (value for _, value in parse_qsl(query))
    if len(query.partition("=")[2]) >= SHORTEST:  # else it may begin as `session=alias` does
        yield query
    for name, value in headers:
        if name.lower() == "authorization":
            yield re.split("[ :]", value)[-1]
        elif name.lower() == "cookie":
            yield from (cookie.partition("=")[2] or cookie for cookie in value.split(";"))
        elif name.lower() == "set-cookie":
            yield value.partition("=")[2].partition(";")[0]


def _password(url: str) -> Iterator[str]:
    user, at, _ = url.partition("://")[2].rpartition("@")
    if at:
        yield unquote(user.rpartition(":")[2])


def _line(record: logging.LogRecord) -> str:
    bug = record.exc_info
    told = "".join(traceback.format_exception(*bug)) if bug and bug[0] else ""
    return f"{record.getMessage()} {told}".rstrip()


# Where it is noted, for tests that do nothing about it


class NotedWebSocket(aiohttp.ClientWebSocketResponse):
    """A client's WebSocket, whose frames are noted."""

    async def send_str(self, data: str, compress: int | None = None) -> None:
        PASSED.body(data)
        await super().send_str(data, compress)

    async def receive(self, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - aiohttp's
        message = await super().receive(timeout)
        if message.type is aiohttp.WSMsgType.TEXT:
            PASSED.body(message.data)
        return message


def noting() -> aiohttp.TraceConfig:
    """Return what makes aiohttp's clients note their requests."""
    config = aiohttp.TraceConfig()

    async def began(_: Any, __: SimpleNamespace, told: aiohttp.TraceRequestStartParams) -> None:
        PASSED.request(str(told.url), told.headers.items())

    async def sent(_: Any, __: SimpleNamespace, told: aiohttp.TraceRequestChunkSentParams) -> None:
        PASSED.body(told.chunk)

    async def ended(_: Any, __: SimpleNamespace, told: aiohttp.TraceRequestEndParams) -> None:
        cookies = told.response.headers.getall("Set-Cookie", [])
        PASSED.request("", [("Set-Cookie", cookie) for cookie in cookies])

    config.on_request_start.append(began)
    config.on_request_chunk_sent.append(sent)
    config.on_request_end.append(ended)
    return config


@pytest.fixture(autouse=True)
def no_leak(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test in which something was logged that is for no log."""
    make, write = logging.getLogRecordFactory(), asyncio.StreamWriter.write

    def keep(*arguments: Any, **more: Any) -> logging.LogRecord:
        PASSED.records.append(make(*arguments, **more))
        return PASSED.records[-1]

    def note(writer: asyncio.StreamWriter, data: bytes | bytearray | memoryview) -> None:
        PASSED.raw(bytes(data))
        write(writer, data)

    PASSED.begin()
    logging.setLogRecordFactory(keep)
    monkeypatch.setattr(asyncio.StreamWriter, "write", note)  # only tests use these streams
    try:
        yield
        found = leaks(lines, PASSED.private()) if (lines := PASSED.lines()) else []
    finally:
        logging.setLogRecordFactory(make)
        PASSED.clear()
    if request.node.get_closest_marker("plants_a_leak"):
        assert found
        return
    assert not found, "\n".join(f"{word!r} was logged: {line}" for word, line in found)
