"""What is in the lines: whom each is about, by an alias, and nothing that is nobody's business."""

import asyncio
import io
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Never

import pytest
from aiohttp import WSServerHandshakeError
from msgspec import json

from switchboard_operator import logs
from switchboard_operator.aliases import Aliases
from switchboard_operator.app import create_app, serving
from switchboard_operator.broker.base import Receipt
from switchboard_operator.broker.memory import MemoryBroker
from switchboard_operator.limits import Limits
from switchboard_operator.messages import Postback
from switchboard_operator.settings import Settings
from switchboard_operator.web import keys
from tests.brokers import RULES
from tests.fakes import SECRET, FakeConcierge, Incoming
from tests.raw import BINARY, RawWebSocket
from tests.redis_server import RedisServer, redis_server
from tests.session_api import call, path_of
from tests.switchboards import (
    SECRET_KEY,
    SESSION,
    Switchboard,
    client_session,
    eventually,
    signed,
    switchboard,
    variables,
)
from tests.v1_client import V1Client

REQUEST_ID = "an-id-of-the-router"
OURS = re.compile("[0-9a-f]{32}")
ALIASES = Aliases([SECRET_KEY])

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Lines:
    """Log at the most talkative level; return what reads the lines so far."""
    stream = io.StringIO()
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    monkeypatch.setattr(root, "level", root.level)
    logs.configure("debug", "json", stream)
    # Beside pytest's own handlers, not in their place.
    return lambda: [json.decode(line) for line in stream.getvalue().splitlines()]


def the(event: str, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the one line about *event*."""
    [line] = [line for line in lines if line["event"] == event]
    return line


# Bugs, planted where lines are about a request or a socket


class BrokenBroker(MemoryBroker):
    """Takes no postback, or breaks its promise, and has lost its mailbox."""

    def __init__(self, *, late: bool = False) -> None:
        super().__init__(RULES, Limits())
        self._late = late
        del self.mailbox

    def put(self, postbacks: Sequence[Postback]) -> asyncio.Future[Receipt]:
        if not self._late:
            raise RuntimeError("planted")
        failed: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        failed.set_exception(RuntimeError("planted"))
        return failed

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        raise RuntimeError("planted")


class BrokenCounter:
    """Counts nothing."""

    def labels(self, *_labels: str) -> Never:
        raise RuntimeError("planted")


@asynccontextmanager
async def buggy(broker: MemoryBroker | None = None) -> AsyncIterator[Switchboard]:
    """Run a switchboard with a broken broker, or with one broken counter."""
    app = create_app(Settings.read(variables("http://127.0.0.1:9")))
    if broker is not None:
        app[keys.BROKER] = broker
        del app[keys.MAILBOX]
    else:
        setattr(app[keys.METRICS], "rejects", BrokenCounter())  # noqa: B010 - not of its type
    async with client_session() as client, serving(app, "127.0.0.1", 0) as url:
        yield Switchboard(url, client, app)


@pytest.mark.plants_a_bug
@pytest.mark.parametrize("late", [False, True], ids=["at once", "later"])
async def test_a_bug_in_the_fast_lane_is_logged_with_the_requests_id(
    log: Lines, late: bool
) -> None:
    async with buggy(BrokenBroker(late=late)) as board:
        answer = await board.postback({"to": SESSION}, headers={"X-Request-ID": REQUEST_ID})

    assert answer.status == 500
    if late:
        assert OURS.fullmatch(the("answer failed", log())["request_id"])
    else:
        assert the("fast lane failed", log())["request_id"] == REQUEST_ID
        assert the("request failed", log())["request_id"] == REQUEST_ID


@pytest.mark.plants_a_bug
async def test_a_bug_in_a_request_is_logged_without_whom_it_was_about(log: Lines) -> None:
    async with buggy(BrokenBroker()) as board:
        status, _ = await call(board, "GET", path_of(SESSION))

    line = the("request failed", log())
    assert status == 500
    assert line["path"] == "/sessions/{session}"
    assert OURS.fullmatch(line["request_id"])
    assert SESSION not in str(line)


@pytest.mark.plants_a_bug
async def test_a_bug_in_an_upgrade_is_logged_with_its_id_and_an_alias(log: Lines) -> None:
    async with buggy(BrokenBroker()) as board:
        raw = await RawWebSocket.open(
            board.url, f"/?session={SESSION}", f"X-Request-ID: {REQUEST_ID}\r\n"
        )
        await raw.ended()
        raw.abort()

    line = the("upgrade failed", log())
    assert line["request_id"] == REQUEST_ID
    assert line["session"] == ALIASES.of_session(SESSION)
    assert SESSION not in str(line)


@pytest.mark.plants_a_bug
async def test_a_bug_on_a_socket_is_logged_with_the_connection_and_an_alias(log: Lines) -> None:
    async with buggy() as board:
        users = [await board.connect() for _ in range(2)]
        for user in users:
            await user.send_str("no JSON")
            await user.receive()

    first, second = [line for line in log() if line["event"] == "connection failed"]
    assert first["session"] == second["session"] == ALIASES.of_session(SESSION)
    assert re.fullmatch("[0-9a-f]{8}", first["connection"])
    assert SESSION not in str((first, second))


# What may go wrong without a bug


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        pytest.param({"X-Request-ID": REQUEST_ID}, REQUEST_ID, id="sane"),
        pytest.param({}, OURS.pattern, id="none"),
        pytest.param({"X-Request-ID": "hunter2 level=error"}, OURS.pattern, id="not sane"),
    ],
)
async def test_a_refused_signature_is_logged_with_the_requests_id(
    board: Switchboard, log: Lines, sent: dict[str, str], shown: str
) -> None:
    answer = await board.postback({"to": SESSION}, headers={"Authorization": "hunter2", **sent})

    line = the("signature refused", log())
    assert answer.status == 401
    assert re.fullmatch(shown, line["request_id"])
    assert "hunter2" not in str(line)


async def test_a_message_that_is_not_delivered_is_logged_as_the_concierge_knows_it(
    board: Switchboard, concierge: FakeConcierge, log: Lines
) -> None:
    async def refuse(_incoming: Incoming) -> int:
        return 400

    concierge.answer = refuse
    user = await board.connect()
    await user.send_json({"message": "hello"})
    [incoming] = await concierge.has_received(1)
    await eventually(lambda: any("not delivered" in line["event"] for line in log()))

    line = the("user message not delivered", log())
    assert line["request_id"] == incoming.header("X-Request-ID")
    assert re.fullmatch("[0-9a-f]{8}", line["connection"])
    assert line["session"] == ALIASES.of_session(SESSION)
    assert SESSION not in str(line)


async def test_messages_that_are_not_delivered_are_told_apart_by_their_sockets(
    board: Switchboard, concierge: FakeConcierge, log: Lines
) -> None:
    async def refuse(_incoming: Incoming) -> int:
        return 400

    concierge.answer = refuse
    classic, v1 = await board.connect(), await V1Client.opened(board, session=SESSION)
    await classic.send_json({"message": "the first"})
    await concierge.has_received(1)
    for cid in ("second", "third"):
        await v1.say(cid)
        await v1.ack(cid)

    lines = [line for line in log() if line["event"] == "user message not delivered"]
    assert [line["request_id"] for line in lines[1:]] == ["second", "third"]
    first, second, third = [line["connection"] for line in lines]
    assert first != second == third


async def test_a_postback_that_is_not_taken_is_logged_once_in_a_while_and_its_words_are_not(
    board: Switchboard, log: Lines
) -> None:
    for _ in range(3):
        answer = await board.postback(b'{"body":"hunter2"}', headers={"X-Request-ID": REQUEST_ID})
        assert answer.status == 400
    assert (await board.postback(b"{}", headers={"Authorization": "hunter2"})).status == 401

    line = the("postback refused", log())
    assert line["request_id"] == REQUEST_ID
    assert line["code"] == "bad_postback"
    assert line["detail"] == "a postback is a JSON object whose to is a string"
    assert "hunter2" not in str(log())


# Who comes and goes, at level debug


@pytest.mark.parametrize("cookie", ["", "other=1"], ids=["at once", "through aiohttp"])
async def test_a_socket_is_logged_from_its_upgrade_to_its_close_code(
    board: Switchboard, log: Lines, cookie: str
) -> None:
    named = {"X-Request-ID": REQUEST_ID, "Cookie": cookie}
    user = await board.connect(SESSION, headers=named)
    await user.send_bytes(b"not for this wire")
    await user.receive()
    await eventually(lambda: any(line["event"] == "socket closed" for line in log()))

    opened, closed = the("socket opened", log()), the("socket closed", log())
    assert (opened["request_id"], opened["wire"]) == (REQUEST_ID, "classic")
    assert re.fullmatch("[0-9a-f]{8}", opened["connection"])
    assert opened["connection"] == closed["connection"]
    assert opened["session"] == closed["session"] == ALIASES.of_session(SESSION)
    assert closed["code"] == 1003


async def test_a_socket_of_v1_is_known_by_its_connection_before_its_session_is(
    board: Switchboard, log: Lines
) -> None:
    user = await V1Client.opened(board, session=SESSION)
    await user.close()
    await eventually(lambda: any(line["event"] == "socket closed" for line in log()))

    opened, closed = the("socket opened", log()), the("socket closed", log())
    assert opened["wire"] == "v1"
    assert OURS.fullmatch(opened["request_id"])
    assert opened["connection"] == closed["connection"]
    assert (opened["session"], closed["session"]) == ("", ALIASES.of_session(SESSION))


async def test_an_upgrade_that_is_refused_is_logged_with_the_reason(
    concierge: FakeConcierge, log: Lines
) -> None:
    async with switchboard(concierge.url, ALLOWED_ORIGINS="https://a.example") as board:
        with pytest.raises(WSServerHandshakeError):
            await board.connect(headers={"Origin": "https://b.example", "X-Request-ID": REQUEST_ID})

    line = the("request refused", log())
    assert (line["code"], line["request_id"]) == ("origin_not_allowed", REQUEST_ID)


async def test_at_another_level_nobody_who_comes_and_goes_is_logged(
    board: Switchboard, log: Lines
) -> None:
    logging.getLogger().setLevel(logging.INFO)

    await (await board.connect()).close()
    await eventually(lambda: board.app is not None and not len(board.app[keys.CONNECTIONS]))

    assert [line for line in log() if "socket" in line["event"]] == []


# All that people say and hold, whatever becomes of it

MARK = "hunter2"
NAMED = f"a-session-{MARK}-of-somebody"


async def talk_classic(board: Switchboard) -> None:
    """Say what can be said on the classic wire, well and badly."""
    user = await board.connect(NAMED, headers={"Cookie": f"other={MARK}", "User-Agent": MARK})
    await user.send_json({"message": MARK, "payload": {MARK: MARK}})
    for bad in (f"{MARK} is no JSON", f'{{"message": ["{MARK}"]}}', f'"{MARK}"', "[" * 5000):
        await user.send_str(bad)
        await user.receive()
    await user.close()
    longest = await board.connect(NAMED)
    await longest.send_str(MARK * 20_000)
    await longest.receive()
    raw = await RawWebSocket.open(board.url, f"/?session={NAMED}")
    await raw.send(BINARY, MARK.encode())
    await raw.close_code()
    raw.abort()
    stranger = await board.connect(None)
    await stranger.send_json({"message": MARK})
    await stranger.close(message=MARK.encode())


async def talk_v1(board: Switchboard) -> list[str]:
    """Open, resume and be refused on the wire v1; return the tokens that were issued."""
    first = await V1Client.opened(board)
    await first.send({"type": "message", "cid": "1", "message": MARK, "payload": MARK})
    await first.send({"type": MARK, "cid": f"{MARK}-2"})
    second = await first.resumed(board)
    for token in (MARK, second.token[:-4] + "AAAA"):
        refused = await V1Client.connect(board)
        await refused.send({"type": "open", "token": token})
        assert await refused.closed() == 4001
    lost = await V1Client.connect(board)
    await lost.send({"type": "message", "message": MARK})
    assert await lost.closed() == 4002
    return [first.token, second.token]


async def ask(board: Switchboard) -> None:
    """Ask for what is there and what is not, as who may and who may not."""
    for path in ("/", "/chat", "/nowhere", f"/widget/{MARK}.js", "/live", "/ready", f"/{MARK}"):
        await board.get(f"{path}?token={MARK}", headers={"Authorization": f"Bearer {MARK}"})
    for token in (MARK, "the scraper's token"):
        await board.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    for method in ("GET", "DELETE"):
        await call(board, method, path_of(NAMED))
        await call(board, method, path_of(NAMED), headers={"Authorization": MARK})
    for origin, session in (("https://" + MARK, NAMED), ("null", f"s1.{MARK}"), ("x", f" {MARK}")):
        path = f"/?session={session}"
        await board.get(path, headers={"Upgrade": "websocket", "Origin": origin})


async def post(board: Switchboard) -> None:
    """Post well and badly."""
    said = {"to": NAMED, "body": MARK, "type": "event", "name": MARK, "payload": MARK}
    await board.postback(said)
    await board.postback(said, params={"token": MARK})
    await board.postback([said, {**said, "n": 1}])
    for bad in (b"{", MARK.encode(), b'{"to": "%b"}' % b"\xff", b'{"body": "hunter2"}', b"[]"):
        await board.postback(bad)
    await board.postback({"to": f"~{MARK}"})
    await board.postback({"to": NAMED, "body": MARK * 20_000})
    for headers in (
        {"Authorization": f"APIAuth {MARK}:{MARK}"},
        {"Authorization": f"Bearer {MARK}"},
        {"Date": MARK},
        {"X-Authorization-Content-SHA256": MARK},
        {"Content-Encoding": MARK},
        {"Content-Type": MARK},
    ):
        await board.postback({"to": NAMED, "body": MARK}, headers=headers)
    await board.postback(said, headers=signed(json.encode(said), secret=MARK))


async def everything(board: Switchboard, concierge: FakeConcierge) -> list[str]:
    """Do all of that, with a Concierge that takes it, refuses it and fails; return tokens."""
    tokens = []
    for status in (204, 400, 302, 500):

        async def answer(_incoming: Incoming, status: int = status) -> int:
            return status

        concierge.answer = answer
        await talk_classic(board)
        tokens += await talk_v1(board)
    await ask(board)
    await post(board)
    return tokens


@pytest.mark.slow
@pytest.mark.parametrize("how", ["memory", "redis", "redis that goes away", "plain path"])
async def test_no_line_holds_a_secret_or_what_people_say(
    concierge: FakeConcierge, log: Lines, how: str
) -> None:
    limits = Limits(confirm=0.1, log_interval=0, redis_settle=0.02, hello=0.1)
    if how == "plain path":
        limits = Limits(log_interval=0, doorstep_bytes=0)
    async with redis_server() as server:
        await let_in(server)
        url = server.url.replace("//", f"//somebody:{MARK}@") if "redis" in how else ""
        async with switchboard(concierge.url, limits, REDISCLOUD_URL=url) as board:
            await eventually(lambda: is_ready(board))
            tokens = await everything(board, concierge)
            if how == "redis that goes away":
                await server.kill()
                await post(board)
                await ask(board)
                await (await board.connect(NAMED)).send_json({"message": MARK})
                await concierge.stop()
                await server.start()
                await let_in(server)

    lines = [str(line) for line in log()]
    assert {line["event"] for line in log()} > {"signature refused", "user message not delivered"}
    assert len(tokens) == 8
    for secret in (MARK, SECRET, SECRET_KEY, "the scraper", NAMED, *tokens):
        assert [line for line in lines if secret in line] == []


async def let_in(server: RedisServer) -> None:
    await server.call("ACL", "SETUSER", "somebody", "on", f">{MARK}", "~*", "&*", "+@all")


async def is_ready(board: Switchboard) -> bool:
    return (await board.get("/ready"))[0] == 200
