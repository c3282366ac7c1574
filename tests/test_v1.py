"""The wire `switchboard.v1`, end to end: opening, resuming, acks, and what classic clients miss."""

import dataclasses
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import WSServerHandshakeError
from redis.asyncio import Redis

from switchboard_operator import sessions
from switchboard_operator.broker import keys
from switchboard_operator.limits import Limits
from switchboard_operator.tokens import Proof, Tokens
from switchboard_operator.web import keys as web_keys
from tests.conftest import Run
from tests.fakes import FakeConcierge, Incoming
from tests.redis_server import RedisServer, redis_server
from tests.session_api import running, user
from tests.switchboards import SECRET_KEY, Switchboard, eventually
from tests.v1_client import V1Client

QUICK = Limits(
    redis_pause=0.05,
    redis_settle=0.1,
    retry_first=0.01,
    retry_longest=0.02,
    retry_total=0.05,
    cursor_pause=0.0,
    receipt_delay=60.0,  # a client proves what it has by what the test has it say
    close=1.0,
    confirm=20.0,
    hello=20.0,
)
MARKERS = itertools.count(-1, -1)  # equal postbacks within a second would be one
MINTED = "s1.0123456789abcdef0123456789abcdef"


@pytest.fixture
def limits() -> Limits:
    return QUICK


@pytest.fixture
async def board(run: Run) -> AsyncIterator[Switchboard]:
    async with run() as started:
        yield started


def quick(**other: Any) -> Limits:
    return dataclasses.replace(QUICK, **other)


def always(status: int) -> Callable[[Incoming], Any]:
    async def answer(_incoming: Incoming) -> int:
        return status

    return answer


def said(incoming: list[Incoming]) -> list[str]:
    return [one.content["Body"] for one in incoming]


async def post(board: Switchboard, session: str, *numbers: int) -> None:
    """Post a postback for each of *numbers*, one after the other."""
    for number in numbers:
        answer = await board.postback({"to": session, "n": number})
        assert answer.status == 204


async def all_of(client: V1Client, board: Switchboard) -> list[int]:
    """Return the numbers of all postbacks that *client* got, once one more has arrived."""
    marker = next(MARKERS)
    await post(board, client.session, marker)
    await client.until(lambda: marker in client.numbers)
    assert client.numbers[-1] == marker
    return [number for number in client.numbers if number >= 0]


# The upgrade and the first frame


@pytest.mark.parametrize("offered", [["switchboard.v1"], ["other", "switchboard.v1"]])
async def test_the_subprotocol_is_selected_wherever_it_is_offered(
    board: Switchboard, offered: list[str]
) -> None:
    client = await V1Client.connect(board, protocols=offered)

    assert client.ws.protocol == "switchboard.v1"


async def test_an_unknown_subprotocol_is_not_selected_and_the_wire_is_classic(
    board: Switchboard,
) -> None:
    session = user()

    socket = await board.connect(session, protocols=["switchboard.v2"])
    await post(board, session, 1)

    assert socket.protocol is None
    assert await socket.receive_str() == f'{{"to":"{session}","n":1}}'


async def test_hello_says_all_that_a_client_needs(run: Run) -> None:
    async with run(quick(heartbeat=25.0, retry_window=5000)) as board:
        client = await V1Client.opened(board)

        assert client.frames == [client.hello]
        assert client.hello == {
            "type": "hello",
            "session": client.session,
            "token": client.token,
            "last": "",
            "resumed": False,
            "missed": 0,
            "heartbeat": 25,
            "retry": [0, 5000],
            "why": "new",
        }
        assert client.session.startswith("s1.")
        assert len(client.session) == len(MINTED)
        assert isinstance(client.hello["heartbeat"], int)


async def test_a_hello_that_resumes_gives_no_reason(board: Switchboard) -> None:
    first = await V1Client.opened(board)
    await post(board, first.session, 1)
    await first.has_messages(1)

    hello = (await first.resumed(board)).hello

    assert hello["resumed"] is True
    assert "why" not in hello
    assert hello["session"] == first.session
    assert hello["last"] == first.last != ""
    assert hello["missed"] == 0


async def test_hello_is_the_first_frame_whatever_is_said_right_after_open(
    board: Switchboard,
) -> None:
    client = await V1Client.connect(board)

    for frame in ('{"type":"open"}', "not JSON", '{"type":"message","cid":"empty"}'):
        await client.send(frame)
    await client.say("fine")
    await client.ack("fine")

    assert [frame["type"] for frame in client.frames][:4] == ["hello", "error", "ack", "ack"]


async def test_no_open_in_time_is_4102(run: Run) -> None:
    async with run(quick(open=0.1)) as board:
        client = await V1Client.connect(board)

        assert await client.closed() == 4102
        assert client.texts == []


@pytest.mark.slow
async def test_after_an_open_in_time_the_client_stays(run: Run) -> None:
    async with run(quick(open=2)) as board:
        late = await V1Client.connect(board)
        client = await V1Client.opened(board)

        assert await late.closed() == 4102  # so the time is up
        await post(board, client.session, 1)
        assert len(await client.has_messages(1)) == 1


@pytest.mark.parametrize(
    "frame",
    [
        '{"type":"message","cid":"1","message":"hi"}',
        '{"type":"opened"}',
        '{"message":"hi"}',
        "{}",
        "[]",
        "",
        "open",
        '{"type":"open","token":5}',
        '{"type":"open","last":5}',
        '{"type":"message","cid":"1","message":"%s"}' % ("x" * 70_000),
    ],
)
async def test_a_first_frame_other_than_open_is_4002(board: Switchboard, frame: str) -> None:
    client = await V1Client.connect(board)

    await client.send(frame)

    assert await client.closed() == 4002
    assert client.texts == []


async def test_a_second_open_is_4002(board: Switchboard) -> None:
    client = await V1Client.opened(board)

    await client.send({"type": "open", "token": client.token})

    assert await client.closed() == 4002


async def test_a_binary_frame_is_1003(board: Switchboard) -> None:
    stranger, client = await V1Client.connect(board), await V1Client.opened(board)

    await stranger.ws.send_bytes(b'{"type":"open"}')
    await client.ws.send_bytes(b'{"type":"message","cid":"1","message":"hi"}')

    assert await stranger.closed() == 1003
    assert await client.closed() == 1003


async def test_no_cookie_is_set_nor_taken(board: Switchboard, concierge: FakeConcierge) -> None:
    classic = await board.connect(None)
    cookie = classic._response.headers["Set-Cookie"].partition(";")[0]
    await classic.send_json({"message": "hi"})
    [incoming] = await concierge.has_accepted(1)

    client = await V1Client.opened(board, headers={"Cookie": cookie})

    assert "Set-Cookie" not in client.ws._response.headers
    assert client.session != incoming.content["From"]


async def test_a_cookie_proves_a_session_of_ours_that_the_url_names(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    classic = await board.connect(None)
    cookie = classic._response.headers["Set-Cookie"].partition(";")[0]
    await classic.send_json({"message": "hi"})
    [incoming] = await concierge.has_accepted(1)
    session = incoming.content["From"]

    client = await V1Client.opened(board, session=session, headers={"Cookie": cookie})

    assert client.session == session


# Tokens and sessions


def tokens(*secrets: str, lifetime: int = 2592000) -> Tokens:
    return Tokens(secrets or (SECRET_KEY,), lifetime)


def sealed(content: Any, purpose: bytes = b"switchboard token") -> str:
    """Return *content* encrypted under the right secret, with a key for *purpose*."""
    return sessions.Cipher((SECRET_KEY,), purpose).encrypt(json.dumps(content).encode()).decode()


def now() -> int:
    return int(time.time())


BAD_TOKENS = {
    "empty": lambda: "",
    "made up": lambda: "made up",
    "not ASCII": lambda: "é🐶",
    "of another secret": lambda: tokens("another").issue(Proof(MINTED, now())),
    "too old": lambda: tokens().issue(Proof(MINTED, now() - 2592000)),
    "cut off": lambda: tokens().issue(Proof(MINTED, now()))[:-4],
    "a cookie": lambda: sealed({"created": now(), "session": {"id": MINTED}}, sessions.COOKIE_KEY),
    "under the cookies' key": lambda: sealed(
        {"session": MINTED, "issued": now()}, sessions.COOKIE_KEY
    ),
    "no session in it": lambda: sealed({"issued": now()}),
    "no session id in it": lambda: sealed({"session": "~ not one", "issued": now()}),
    "no object in it": lambda: sealed([]),
}


@pytest.mark.parametrize("token", BAD_TOKENS.values(), ids=BAD_TOKENS)
async def test_a_token_that_is_none_of_ours_or_too_old_is_4001(
    board: Switchboard, token: Callable[[], str]
) -> None:
    client = await V1Client.connect(board)

    await client.send({"type": "open", "token": token()})

    assert await client.closed() == 4001
    assert client.texts == []


async def test_a_cookie_that_was_really_set_is_no_token(board: Switchboard) -> None:
    classic = await board.connect(None)
    cookie = classic._response.cookies[sessions.COOKIE_NAME].value
    client = await V1Client.connect(board)

    await client.send({"type": "open", "token": cookie})

    assert await client.closed() == 4001


async def test_a_token_is_no_cookie(board: Switchboard) -> None:
    client = await V1Client.opened(board)
    headers = {"Cookie": f"{sessions.COOKIE_NAME}={client.token}"}

    with pytest.raises(WSServerHandshakeError) as refused:
        await board.connect(client.session, headers=headers)

    assert refused.value.status == 403


async def test_a_session_of_ours_is_not_given_to_who_merely_names_it(board: Switchboard) -> None:
    client = await V1Client.opened(board)

    with pytest.raises(WSServerHandshakeError) as refused:
        await V1Client.connect(board, client.session)

    assert refused.value.status == 403


@pytest.mark.parametrize("asked", ["", None])
async def test_an_open_without_session_or_token_gets_a_new_session(
    board: Switchboard, asked: str | None
) -> None:
    first, second = [await V1Client.opened(board, session=asked) for _ in range(2)]

    assert sessions.is_valid(first.session)
    assert first.session != second.session


async def test_a_session_in_the_url_is_that_of_an_open_without_token_and_gets_one(
    board: Switchboard,
) -> None:
    session = user()
    await post(board, session, 1)  # its user came by the classic wire so far

    client = await V1Client.opened(board, session=session)

    assert client.session == session
    assert client.hello["why"] == "new"
    assert client.hello["missed"] == 1
    assert await all_of(client, board) == [1]
    again = await client.resumed(board)  # with nothing in the URL
    assert again.session == session
    assert again.hello["resumed"] is True


async def test_a_token_wins_over_the_session_in_the_url(board: Switchboard) -> None:
    first = await V1Client.opened(board)

    client = await V1Client.opened(board, first.token, session=user())

    assert client.session == first.session


async def test_a_session_in_the_url_may_be_forbidden(run: Run) -> None:
    async with run(ALLOW_CLIENT_SESSIONS="0") as board:
        with pytest.raises(WSServerHandshakeError) as refused:
            await V1Client.connect(board, user())

        assert refused.value.status == 403
        assert (await V1Client.opened(board)).session.startswith("s1.")


async def test_a_short_session_gets_live_delivery_only(board: Switchboard) -> None:
    first = await V1Client.opened(board, session="short-" + user()[:8])
    await post(board, first.session, 1)
    await first.has_messages(1)

    second = await first.resumed(board)

    assert second.hello["missed"] == 0
    assert second.hello["last"] == ""
    assert await all_of(second, board) == []
    assert await all_of(first, board) == [1]
    assert {tuple(frame) for frame in first.messages} == {("type", "data")}


async def test_tokens_of_an_old_key_work_and_are_issued_again_under_the_new_one(run: Run) -> None:
    began = now() - 50
    old = tokens("old").issue(Proof(MINTED, began))
    async with run(SWITCHBOARD_SECRET_KEY="new,old", SESSION_LIFETIME="100") as board:
        client = await V1Client.opened(board, old)

    assert client.session == MINTED
    assert tokens("new").read(client.token, now()) == Proof(MINTED, began)


async def test_a_token_that_is_issued_again_keeps_its_first_time(run: Run) -> None:
    async with run(SESSION_LIFETIME="100") as board:
        client = await V1Client.opened(board, tokens().issue(Proof(MINTED, now() - 50)))
        again = await client.resumed(board)
        expired = await V1Client.connect(board)
        await expired.send({"type": "open", "token": tokens().issue(Proof(MINTED, now() - 100))})

        assert tokens(lifetime=100).read(again.token, now()).issued <= now() - 50
        assert await expired.closed() == 4001


@pytest.mark.slow
async def test_a_token_expires_however_often_it_was_issued_again(run: Run) -> None:
    async with run(SESSION_LIFETIME="2") as board:
        client = await V1Client.opened(board)

        async def refused() -> bool:
            nonlocal client
            another = await V1Client.connect(board)
            await another.send({"type": "open", "token": client.token})
            await another.until(lambda: bool(another.frames) or another.ended)
            if another.ended:
                return await another.closed() == 4001
            another.hello = another.frames[0]
            client = another
            return False

        await eventually(refused, pause=0.2)


# Resuming


async def test_a_client_that_comes_back_gets_exactly_what_it_missed_then_what_is_new(
    board: Switchboard,
) -> None:
    first = await V1Client.opened(board)
    await post(board, first.session, 1, 2)
    await first.has_messages(2)
    await first.vanish()
    await post(board, first.session, 3, 4, 5)

    second = await first.resumed(board)

    assert second.hello["resumed"] is True
    assert second.hello["missed"] == 3
    await post(board, first.session, 6)
    assert await all_of(second, board) == [3, 4, 5, 6]
    epoch = first.last.partition(":")[0]
    assert [frame["id"] for frame in second.messages[:4]] == [f"{epoch}:{n}" for n in (3, 4, 5, 6)]
    assert second.hello["last"] == f"{epoch}:5"


async def test_more_than_a_page_was_missed_while_new_ones_come(board: Switchboard) -> None:
    first = await V1Client.opened(board)
    await post(board, first.session, 0)
    await first.has_messages(1)
    await first.vanish()
    await board.postback([{"to": first.session, "n": number} for number in range(1, 71)])

    second = await V1Client.connect(board)
    await second.send({"type": "open", "token": first.token, "last": first.last})
    await post(board, first.session, *range(71, 91))
    [second.hello] = await second.has("hello")

    assert await all_of(second, board) == list(range(1, 91))
    assert 70 <= second.hello["missed"] <= 90


async def test_last_may_lie_anywhere_in_what_was_received(board: Switchboard) -> None:
    first = await V1Client.opened(board)
    await post(board, first.session, 1, 2, 3)
    ids = [frame["id"] for frame in await first.has_messages(3)]

    for place, last in enumerate(["", *ids]):
        again = await V1Client.opened(board, first.token, last)

        assert again.hello["resumed"] is True
        assert again.hello["missed"] == 3 - place
        assert again.hello["last"] == ids[-1]
        got = await again.has_messages(3 - place)
        assert [frame["id"] for frame in got] == ids[place:]


async def test_without_last_a_session_is_resumed_from_what_was_proven(board: Switchboard) -> None:
    first = await V1Client.opened(board)
    await post(board, first.session, 1, 2)
    await first.has_messages(2)
    await first.close()  # which proves both
    await post(board, first.session, 3)

    second = await V1Client.opened(board, first.token)

    assert second.hello["resumed"] is True
    assert second.hello["missed"] == 1
    assert await all_of(second, board) == [3]


async def test_without_last_and_without_proof_all_is_sent(board: Switchboard) -> None:
    first = await V1Client.opened(board)
    await post(board, first.session, 1, 2)
    await first.has_messages(2)
    await first.vanish()

    second = await V1Client.opened(board, first.token)

    assert second.hello["resumed"] is True
    assert second.hello["missed"] == 2
    assert await all_of(second, board) == [1, 2]


async def test_last_proves_what_a_client_has(board: Switchboard) -> None:
    first = await V1Client.opened(board)
    await post(board, first.session, 1, 2, 3)
    ids = [frame["id"] for frame in await first.has_messages(3)]
    await first.vanish()

    second = await V1Client.opened(board, first.token, ids[1])
    await second.vanish()
    third = await V1Client.opened(board, first.token)

    assert third.hello["missed"] == 1
    assert await all_of(third, board) == [3]


async def test_what_a_client_did_not_take_is_sent_to_each_of_its_sockets(
    board: Switchboard,
) -> None:
    first = await V1Client.opened(board)
    await post(board, first.session, 1)
    second = await V1Client.opened(board, first.token, "")

    await post(board, first.session, 2)

    assert [frame["data"]["n"] for frame in await first.has_messages(2)] == [1, 2]
    assert await second.has_messages(2) == first.messages


async def test_an_erased_session_is_another_epoch_and_counts_from_one(board: Switchboard) -> None:
    first = await V1Client.opened(board)
    await post(board, first.session, 1, 2)
    await first.has_messages(2)
    await first.vanish()

    await erase(board, first.session)
    empty = await first.resumed(board)
    await post(board, first.session, 3)
    second = await first.resumed(board)

    assert (empty.hello["why"], empty.hello["missed"], empty.hello["last"]) == ("epoch", 0, "")
    assert (second.hello["why"], second.hello["missed"]) == ("epoch", 1)
    assert second.hello["resumed"] is False
    assert await all_of(second, board) == [3]
    assert await all_of(empty, board) == [3]
    ids = [frame["id"] for frame in second.messages]
    assert [one.partition(":")[2] for one in ids] == ["1", "2", "3"][: len(ids)]
    assert ids[0].partition(":")[0] != first.last.partition(":")[0]


async def erase(board: Switchboard, session: str) -> None:
    assert board.app is not None
    await board.app[web_keys.BROKER].mailbox.erase(session)


@pytest.mark.parametrize("last", ["nonsense", "~:1", "abc:", ":1", "abc:1:2", "é:1", "abc:-1"])
async def test_a_last_that_is_no_id_is_one_of_another_epoch(board: Switchboard, last: str) -> None:
    first = await V1Client.opened(board)
    await post(board, first.session, 1)
    await first.has_messages(1)

    second = await V1Client.opened(board, first.token, last)

    assert (second.hello["why"], second.hello["missed"]) == ("epoch", 1)
    assert await all_of(second, board) == [1]


@pytest.mark.parametrize("last", ["zzz:1", "zzz:2"])
async def test_a_last_of_another_epoch_proves_nothing(board: Switchboard, last: str) -> None:
    first = await V1Client.opened(board)
    await post(board, first.session, 1, 2)
    await first.has_messages(2)

    await V1Client.opened(board, first.token, last)
    second = await V1Client.opened(board, first.token)

    assert second.hello["missed"] == 2
    assert await all_of(second, board) == [1, 2]


async def test_bodies_beyond_the_mailboxs_size_are_trimmed(run: Run) -> None:
    async with run(MAILBOX_SIZE="3") as board:
        first = await V1Client.opened(board)
        await post(board, first.session, 1)
        await first.has_messages(1)
        await first.vanish()
        await post(board, first.session, 2, 3, 4, 5)

        second = await first.resumed(board)

        assert (second.hello["why"], second.hello["missed"]) == ("trimmed", 3)
        assert second.hello["resumed"] is False
        assert await all_of(second, board) == [3, 4, 5]


async def test_exactly_as_many_as_the_mailbox_keeps_are_no_loss(run: Run) -> None:
    async with run(MAILBOX_SIZE="3") as board:
        first = await V1Client.opened(board)
        await post(board, first.session, 1)
        await first.has_messages(1)
        await first.vanish()
        await post(board, first.session, 2, 3, 4)

        second = await first.resumed(board)

        assert (second.hello["resumed"], second.hello["missed"]) == (True, 3)
        assert await all_of(second, board) == [2, 3, 4]


async def test_bodies_beyond_the_mailboxs_bytes_are_trimmed(run: Run) -> None:
    async with run(quick(mailbox_bytes=2_500)) as board:
        first = await V1Client.opened(board)
        for number in range(5):
            await board.postback({"to": first.session, "n": number, "body": "x" * 1_000})
        await first.has_messages(5)

        second = await V1Client.opened(board, first.token, "")

        assert (second.hello["why"], second.hello["missed"]) == ("trimmed", 2)
        assert await all_of(second, board) == [3, 4]


@pytest.mark.slow
async def test_bodies_that_outlived_their_time_are_expired_but_the_count_goes_on(run: Run) -> None:
    async with run(MAILBOX_TTL="1") as board:
        first = await V1Client.opened(board)
        await post(board, first.session, 1, 2)
        ids = [frame["id"] for frame in await first.has_messages(2)]
        hellos = []

        async def expired() -> bool:
            again = await V1Client.opened(board, first.token, ids[0])
            hellos.append(again.hello)
            await again.close()
            return bool(again.hello["missed"] == 0)

        await eventually(expired, pause=0.1)

        assert {hello["resumed"] for hello in hellos[:-1]} <= {True}
        assert (hellos[-1]["why"], hellos[-1]["last"]) == ("expired", ids[1])
        assert hellos[-1]["resumed"] is False
        everything = await V1Client.opened(board, first.token, ids[1])
        assert (everything.hello["resumed"], everything.hello["missed"]) == (True, 0)
        await post(board, first.session, 3)
        [third] = await everything.has_messages(1)
        assert third["id"] == ids[0].replace(":1", ":3")


async def test_without_mailbox_there_are_no_ids_and_nothing_is_sent_again(run: Run) -> None:
    async with run(MAILBOX_SIZE="0") as board:
        first = await V1Client.opened(board)
        await post(board, first.session, 1)
        [message] = await first.has_messages(1)
        await first.vanish()
        await post(board, first.session, 2)

        second = await V1Client.opened(board, first.token, "")

        assert "id" not in message
        assert second.hello["missed"] == 0
        assert await all_of(second, board) == []


# Resuming, where Redis is to blame


@pytest.mark.slow
async def test_a_redis_that_lost_its_data_is_another_epoch(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with running(concierge, redis.url, QUICK) as board:
        first = await V1Client.opened(board)
        await post(board, first.session, 1, 2)
        await first.has_messages(2)

        await redis.call("FLUSHALL")
        second = await first.resumed(board)
        await post(board, first.session, 3)

        assert (second.hello["why"], second.hello["missed"]) == ("epoch", 0)
        assert await all_of(second, board) == [3]
        assert await all_of(first, board) == [1, 2, 3]
        epochs = [frame["id"].partition(":")[0] for frame in first.messages]
        assert epochs[0] == epochs[1] != epochs[2] == epochs[3]


async def dump(redis: RedisServer, session: str) -> dict[str, bytes]:
    """Return what Redis knows of a session now, as a replica that lags behind would."""
    names = keys.state(session), keys.bodies(session)
    async with Redis(port=redis.port) as client:
        return {name: await client.dump(name) or b"" for name in names}


async def restore(redis: RedisServer, dumped: dict[str, bytes]) -> None:
    for name, content in dumped.items():
        await redis.call("RESTORE", name, 0, content, "REPLACE")


@pytest.mark.slow
async def test_a_redis_that_went_back_in_time_is_another_epoch(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with running(concierge, redis.url, QUICK) as board:
        first = await V1Client.opened(board)
        await post(board, first.session, 1, 2)
        before = await dump(redis, first.session)
        await post(board, first.session, 3, 4)
        await first.has_messages(4)
        await first.vanish()

        await restore(redis, before)
        second = await first.resumed(board)

        assert (second.hello["why"], second.hello["missed"]) == ("epoch", 2)
        assert second.hello["resumed"] is False
        assert await all_of(second, board) == [1, 2]
        epoch = second.last.partition(":")[0]
        assert epoch != first.last.partition(":")[0]
        assert second.last == f"{epoch}:3"
        assert second.hello["last"] == f"{epoch}:2"


@pytest.mark.slow
async def test_a_connected_client_misses_nothing_when_redis_goes_back_in_time(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with running(concierge, redis.url, QUICK) as board:
        client = await V1Client.opened(board)
        await post(board, client.session, 1, 2)
        before = await dump(redis, client.session)
        await post(board, client.session, 3, 4)
        await client.has_messages(4)

        await restore(redis, before)
        await post(board, client.session, 5, 6)
        await client.until(lambda: 6 in client.numbers)

        assert client.numbers[:4] == [1, 2, 3, 4]
        assert client.numbers[-2:] == [5, 6]
        epochs = [frame["id"].partition(":")[0] for frame in client.messages]
        assert epochs[-1] == epochs[-2] != epochs[0]


@pytest.mark.slow
async def test_while_redis_is_away_hello_comes_and_what_was_missed_follows_when_it_is_back(
    concierge: FakeConcierge,
) -> None:
    async with redis_server() as own, running(concierge, own.url, quick(hello=0.1)) as board:
        first = await V1Client.opened(board)
        await post(board, first.session, 1, 2)
        ids = [frame["id"] for frame in await first.has_messages(2)]
        own.freeze()

        second = await V1Client.opened(board, first.token, ids[0])
        own.thaw()

        assert (second.hello["resumed"], second.hello["missed"]) == (True, 0)
        assert [frame["id"] for frame in await second.has_messages(1)] == ids[1:]
        assert await all_of(second, board) == [2]


# Acks


async def test_an_ack_says_that_the_concierge_accepted(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    client = await V1Client.opened(board)

    await client.send(
        '{"cid":"a-1","type":"message","x":1,"message":"hi","payload":{"z":1e400,"a":[ ]}}'
    )
    await client.ack("a-1")

    assert '{"type":"ack","cid":"a-1","ok":true}' in client.texts
    [incoming] = concierge.accepted
    body = f'{{"Body":"hi","From":"{client.session}","Payload":{{"z":1e400,"a":[ ]}}}}'
    assert incoming.body.decode() == body
    assert incoming.header("Idempotency-Key") == f"{client.session}:a-1"


CIDS = {
    "long": "x" * 64,
    "longer in bytes": "\U0001f436" * 64,
    "braces": "{}:*",
    "blank": " ",
    "not ASCII": "é\x85\u2028",
}


@pytest.mark.parametrize("cid", CIDS.values(), ids=CIDS)
async def test_a_cid_may_be_any_64_characters(
    board: Switchboard, concierge: FakeConcierge, cid: str
) -> None:
    client = await V1Client.opened(board)

    for nth in (1, 2):
        await client.say(cid)
        assert await client.ack(cid, nth) == {"type": "ack", "cid": cid, "ok": True}

    assert len(concierge.accepted) == 1


async def test_cids_that_differ_have_keys_that_differ(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    client = await V1Client.opened(board)
    cids = ["a", "A", "%61", "a%20", "é", "%C3%A9", "Ã©"]

    for cid in cids:
        await client.say(cid)
        assert (await client.ack(cid))["ok"] is True

    assert len({one.header("Idempotency-Key") for one in concierge.accepted}) == len(cids)


@pytest.mark.parametrize(
    ("status", "idempotent", "code", "retry"),
    [
        (503, "0", "concierge_unavailable", True),
        (429, "0", "concierge_unavailable", True),
        (500, "0", "concierge_timeout", False),
        (504, "0", "concierge_timeout", False),
        (502, "0", "concierge_timeout", False),
        (500, "1", "concierge_timeout", True),
        (504, "1", "concierge_timeout", True),
        (502, "1", "concierge_unavailable", True),
        (400, "0", "concierge_rejected", False),
        (307, "0", "concierge_rejected", False),
        (404, "1", "concierge_rejected", False),
    ],
)
async def test_an_ack_says_what_went_wrong_and_whether_to_send_it_again(
    run: Run, concierge: FakeConcierge, status: int, idempotent: str, code: str, retry: bool
) -> None:
    concierge.answer = always(status)
    async with run(CONCIERGE_IDEMPOTENT=idempotent) as board:
        client = await V1Client.opened(board)

        await client.say("1")

        ack = {"type": "ack", "cid": "1", "ok": False, "code": code, "retry": retry}
        assert await client.ack("1") == ack


@pytest.mark.slow
@pytest.mark.parametrize(("idempotent", "retry"), [("0", False), ("1", True)])
async def test_a_concierge_that_does_not_answer_in_time_leaves_the_outcome_unknown(
    run: Run, concierge: FakeConcierge, idempotent: str, retry: bool
) -> None:
    released = concierge.hold()
    async with run(CONCIERGE_TIMEOUT="0.5", CONCIERGE_IDEMPOTENT=idempotent) as board:
        client = await V1Client.opened(board)

        await client.say("1")
        ack = await client.ack("1")
        released.set()

        assert (ack["code"], ack["retry"]) == ("concierge_timeout", retry)
        assert len(concierge.received) == 1


async def test_a_concierge_that_is_not_there_is_unavailable(
    run: Run, concierge: FakeConcierge
) -> None:
    async with run() as board:
        client = await V1Client.opened(board)
        await concierge.stop()

        await client.say("1")
        ack = await client.ack("1")

        assert (ack["code"], ack["retry"]) == ("concierge_unavailable", True)
        await concierge.start()
        await client.say("1")
        assert (await client.ack("1", nth=2))["ok"] is True


async def test_a_message_that_is_too_long_is_refused_by_its_cid_and_the_socket_stays(
    run: Run, concierge: FakeConcierge
) -> None:
    async with run(MAX_MESSAGE_BYTES="1000") as board:
        client = await V1Client.opened(board)

        await client.say("long", "x" * 1000)
        await client.say("short")
        ack = await client.ack("long")

        assert ack == {
            "type": "ack",
            "cid": "long",
            "ok": False,
            "code": "too_large",
            "retry": False,
        }
        assert (await client.ack("short"))["ok"] is True
        assert said(concierge.received) == ["hi"]


@pytest.mark.parametrize(
    "head", ['{"type":"message",', '{"cid":"%s",' % ("x" * 65), '{"cid":5,', '{"cid":"1",,']
)
async def test_a_frame_that_is_too_long_and_has_no_cid_is_1009(run: Run, head: str) -> None:
    async with run(MAX_MESSAGE_BYTES="1000") as board:
        client = await V1Client.opened(board)

        await client.send(head + '"message":"%s"}' % ("x" * 1000))

        assert await client.closed() == 1009


@pytest.mark.parametrize("rest", ['"message":5', '"other":1', '"message":{}', '"message":["a"]'])
async def test_a_bad_message_is_refused_by_its_cid_and_the_socket_stays(
    board: Switchboard, concierge: FakeConcierge, rest: str
) -> None:
    client = await V1Client.opened(board)

    await client.send(f'{{"type":"message","cid":"bad",{rest}}}')
    await client.say("good")

    ack = {"type": "ack", "cid": "bad", "ok": False, "code": "bad_frame", "retry": False}
    assert await client.ack("bad") == ack
    assert (await client.ack("good"))["ok"] is True
    assert len(concierge.received) == 1


@pytest.mark.parametrize(
    "frame",
    [
        "",
        "hello",
        "[]",
        "null",
        "{}",
        '{"type":5}',
        '{"message":"hi"}',
        '{"type":"ack","cid":"1"}',
        '{"type":"message","message":"hi"}',
        '{"type":"message","cid":"","message":"hi"}',
        '{"type":"message","cid":5,"message":"hi"}',
        '{"type":"message","cid":null,"message":"hi"}',
        '{"type":"message","cid":"%s","message":"hi"}' % ("x" * 65),
        '{"type":"message","cid":"a\\r\\nX-Injected: b","message":"hi"}',
        '{"type":"message","cid":"\\u0000","message":"hi"}',
        '{"type":"message","cid":"\\u007f","message":"hi"}',
        '{"type":"message","cid":"1","message":"hi"',
        '{"type":"message","cid":"1","payload":NaN}',
        '{"type":"message","cid":"1","payload":"\\ud800"}',
        '{"type":"message","cid":"\\ud800","message":"hi"}',
        '{"type":"message","cid":"1","payload":%s}' % ("[" * 30_000 + "]" * 30_000),
    ],
)
async def test_a_frame_without_a_usable_cid_gets_an_error_and_the_socket_stays(
    board: Switchboard, concierge: FakeConcierge, frame: str
) -> None:
    client = await V1Client.opened(board)

    await client.send(frame)
    await client.say("good")
    assert (await client.ack("good"))["ok"] is True

    [error] = client.of_type("error")
    assert error.keys() == {"type", "code", "detail"}
    assert error["code"] == "bad_frame"
    assert error["detail"]
    assert len(concierge.received) == 1


# A message that is sent again


@pytest.mark.parametrize(("status", "ok"), [(204, True), (400, False), (500, False)])
async def test_a_message_sent_again_is_answered_from_its_outcome_and_not_posted(
    board: Switchboard, concierge: FakeConcierge, status: int, ok: bool
) -> None:
    concierge.answer = always(status)
    first = await V1Client.opened(board)
    await first.say("1", "one")
    told = await first.ack("1")
    second = await first.resumed(board)

    await first.say("1", "one")
    await second.say("1", "one")
    await second.say("2", "two")
    await second.ack("2")

    assert told["ok"] is ok
    assert await first.ack("1", nth=2) == told
    assert await second.ack("1") == told
    assert said(concierge.received) == ["one", "two"]


async def test_a_message_that_may_be_sent_again_is_posted_again(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    client = await V1Client.opened(board)
    concierge.answer = always(503)
    await client.say("1")
    assert (await client.ack("1"))["retry"] is True

    concierge.answer = always(204)
    await client.say("1")

    assert (await client.ack("1", nth=2))["ok"] is True
    assert len(concierge.accepted) == 1


async def test_the_same_cid_of_another_session_is_another_message(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    clients = [await V1Client.opened(board) for _ in range(2)]

    for client in clients:
        await client.say("1")
        await client.ack("1")

    assert {one.content["From"] for one in concierge.accepted} == {
        client.session for client in clients
    }


async def test_a_message_sent_again_while_it_is_under_way_is_posted_once_and_acked_on_both(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    released = concierge.hold()
    first = await V1Client.opened(board)
    await first.say("1", "one")
    await concierge.has_received(1)
    second = await first.resumed(board)
    await second.say("1", "one")
    await second.say("2", "two")
    await second.say("bad", message=5)  # type: ignore[arg-type] # its ack says that all was read
    await second.ack("bad")

    released.set()

    assert (await first.ack("1"))["ok"] is True
    assert (await second.ack("1"))["ok"] is True
    assert (await second.ack("2"))["ok"] is True
    assert said(concierge.received) == ["one", "two"]
    assert [ack["cid"] for ack in first.acks] == ["1"]


async def test_a_message_whose_socket_is_gone_is_acked_on_the_next_one(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    released = concierge.hold()
    first = await V1Client.opened(board)
    await first.say("1", "one")
    await concierge.has_received(1)
    await first.vanish()
    second = await first.resumed(board)
    await second.say("1", "one")
    await second.say("bad", message=5)  # type: ignore[arg-type] # its ack says that all was read
    await second.ack("bad")

    released.set()

    assert (await second.ack("1"))["ok"] is True
    assert said(concierge.received) == ["one"]


async def test_after_a_refusal_all_that_follows_is_refused_until_that_message_comes_again(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    concierge.answer = always(503)
    client = await V1Client.opened(board)
    for cid in "abc":
        await client.say(cid, cid)
    refused = [await client.ack(cid) for cid in "abc"]

    concierge.answer = always(204)
    await client.say("c", "c")
    await client.say("d", "d")
    early = [await client.ack("c", nth=2), await client.ack("d")]
    for cid in "abcd":
        await client.say(cid, cid)
    await client.until(lambda: sum(ack["ok"] for ack in client.acks) == 4)

    codes = {(ack["code"], ack["retry"]) for ack in refused + early}
    assert codes == {("concierge_unavailable", True)}
    assert said(concierge.accepted) == ["a", "b", "c", "d"]


async def test_what_was_said_after_a_message_that_is_refused_is_refused_with_it_not_posted(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    async def dislikes_a(incoming: Incoming) -> int:
        return 503 if incoming.content["Body"] == "a" else 204

    concierge.answer = dislikes_a
    client = await V1Client.opened(board)

    for cid in "abc":
        await client.say(cid, cid)
    refused = [await client.ack(cid) for cid in "abc"]
    before = said(concierge.received)
    concierge.answer = always(204)
    for cid in "abc":
        await client.say(cid, cid)
    await client.until(lambda: sum(ack["ok"] for ack in client.acks) == 3)

    assert {(ack["code"], ack["retry"]) for ack in refused} == {("concierge_unavailable", True)}
    assert set(before) == {"a"}
    assert said(concierge.accepted) == ["a", "b", "c"]


async def test_a_refusal_holds_up_nobody_else(board: Switchboard, concierge: FakeConcierge) -> None:
    concierge.answer = always(503)
    client, other = await V1Client.opened(board), await V1Client.opened(board)
    await client.say("a", "a")
    await client.ack("a")

    concierge.answer = always(204)
    again = await client.resumed(board)
    await again.say("b", "b")
    await other.say("b", "b")

    assert (await again.ack("b"))["ok"] is True
    assert (await other.ack("b"))["ok"] is True


async def test_messages_that_were_never_refused_for_good_do_not_hold_up_the_next(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    concierge.answer = always(400)
    client = await V1Client.opened(board)
    await client.say("a", "a")
    assert (await client.ack("a"))["retry"] is False

    concierge.answer = always(204)
    await client.say("b", "b")

    assert (await client.ack("b"))["ok"] is True


@pytest.mark.slow
async def test_while_one_instance_has_messages_of_a_session_another_takes_none_of_it(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    released = concierge.hold()
    async with (
        running(concierge, redis.url, QUICK) as here,
        running(concierge, redis.url, QUICK) as there,
    ):
        first = await V1Client.opened(here)
        await first.say("1", "one")
        await concierge.has_received(1)

        second = await first.resumed(there)
        for cid, text in (("1", "one"), ("2", "two")):
            await second.say(cid, text)
        refused = [await second.ack(cid) for cid in ("1", "2")]
        released.set()
        await first.ack("1")
        await until_free(redis, first.session)
        for cid, text in (("1", "one"), ("2", "two")):
            await second.say(cid, text)

        assert {(ack["code"], ack["retry"]) for ack in refused} == {("in_progress", True)}
        assert (await second.ack("1", nth=2))["ok"] is True  # as is known from the other instance
        assert (await second.ack("2", nth=2))["ok"] is True
        assert said(concierge.received) == ["one", "two"]


@pytest.mark.slow
async def test_a_lease_is_renewed_while_messages_are_under_way(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    limits = quick(lease=2, lease_renewal=0.2)
    released = concierge.hold()
    async with (
        running(concierge, redis.url, limits) as here,
        running(concierge, redis.url, limits) as there,
    ):
        first = await V1Client.opened(here)
        await first.say("1", "one")
        await concierge.has_received(1)
        second = await first.resumed(there)
        began = time.monotonic()
        codes = set()

        for nth in itertools.count(1):
            await second.say("2", "two")
            codes.add((await second.ack("2", nth)).get("code"))
            if time.monotonic() - began > 4:
                break
        released.set()

        assert codes == {"in_progress"}
        assert said(concierge.received) == ["one"]


@pytest.mark.slow
async def test_a_lease_of_an_instance_that_died_ends(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with running(concierge, redis.url, QUICK) as board:
        client = await V1Client.opened(board)
        await redis.call("SET", keys.lease(client.session), "another instance", "PX", 3000)

        await client.say("1", "one")
        refused = await client.ack("1")
        await until_free(redis, client.session)
        await client.say("1", "one")

        assert refused["code"] == "in_progress"
        assert (await client.ack("1", nth=2))["ok"] is True


async def until_free(redis: RedisServer, session: str) -> None:
    async def free() -> bool:
        return not await redis.call("EXISTS", keys.lease(session))

    await eventually(free)


# What only v1 clients see, and what classic ones don't


async def test_typing_follows_the_ack_on_all_sockets_of_v1_and_is_not_kept(
    board: Switchboard,
) -> None:
    first = await V1Client.opened(board)
    second = await first.resumed(board)

    await first.say("1")
    await first.has("typing")
    await second.has("typing")
    third = await first.resumed(board)

    kinds = [frame["type"] for frame in first.frames]
    assert kinds == ["hello", "ack", "typing"]
    assert first.others == [{"type": "typing", "ms": 10000}]
    assert [frame["type"] for frame in second.frames] == ["hello", "typing"]
    assert await all_of(third, board) == []
    assert third.others == []


@pytest.mark.parametrize("status", [503, 400, 500])
async def test_nobody_is_typing_after_a_message_that_was_not_accepted(
    board: Switchboard, concierge: FakeConcierge, status: int
) -> None:
    concierge.answer = always(status)
    client = await V1Client.opened(board)

    await client.say("1")
    await client.ack("1")

    assert await all_of(client, board) == []
    assert client.others == []


@pytest.mark.slow
async def test_a_heartbeat_comes_after_every_silence(run: Run) -> None:
    async with run(quick(heartbeat=0.2)) as board:
        stranger = await V1Client.connect(board)
        client = await V1Client.opened(board)

        await client.has("heartbeat", 3)

        assert client.hello["heartbeat"] == 0.2
        assert client.texts[1:] == ['{"type":"heartbeat"}'] * 3
        assert stranger.texts == []  # it has not opened


@pytest.mark.slow
async def test_a_client_that_gets_frames_gets_no_heartbeat(run: Run) -> None:
    async with run(quick(heartbeat=2)) as board:
        idle, busy = await V1Client.opened(board), await V1Client.opened(board)
        number = 0

        async def idle_has_two() -> bool:
            nonlocal number
            number += 1
            await post(board, busy.session, number)
            return len(idle.of_type("heartbeat")) >= 2

        await eventually(idle_has_two, pause=0.1)

        assert busy.others == []


async def test_a_classic_client_sees_no_frame_but_the_postbacks(
    run: Run, concierge: FakeConcierge
) -> None:
    async with run(quick(heartbeat=0.1)) as board:
        session = user()
        classic = await board.connect(session)
        client = await V1Client.opened(board, session=session)
        await classic.send_json({"message": "hi"})
        await client.say("1")
        await client.has("typing", 2)
        await client.ack("1")
        concierge.answer = always(400)
        await classic.send_json({"message": "not accepted"})
        await concierge.has_received(3)
        await client.has("heartbeat", 2)

        await post(board, session, 1)

        assert await classic.receive_str() == f'{{"to":"{session}","n":1}}'


async def test_an_offline_reply_is_sent_once_in_a_while_on_either_wire(
    run: Run, concierge: FakeConcierge
) -> None:
    concierge.answer = always(400)
    async with run(OFFLINE_REPLY="Sorry, we are closed.") as board:
        session = user()
        classic = await board.connect(session)
        client = await V1Client.opened(board, session=session)
        await client.say("1")
        await client.say("2")
        await client.ack("2")
        await post(board, session, 1)

        reply = {"to": session, "from": "switchboard", "body": "Sorry, we are closed."}
        assert await classic.receive_json() == reply
        assert await classic.receive_str() == f'{{"to":"{session}","n":1}}'
        messages = await client.has_messages(2)
        assert [frame["data"] for frame in messages] == [reply, {"to": session, "n": 1}]


@pytest.mark.slow
async def test_an_offline_reply_is_due_again_later(run: Run, concierge: FakeConcierge) -> None:
    concierge.answer = always(400)
    async with run(quick(offline_every=0.3), OFFLINE_REPLY="Sorry, we are closed.") as board:
        client, other = await V1Client.opened(board), await V1Client.opened(board)
        began = time.monotonic()

        async def replied_twice() -> bool:
            await client.say(uuid.uuid4().hex)
            return len(client.messages) >= 2

        await eventually(replied_twice)

        assert time.monotonic() - began >= 0.3
        assert other.messages == []


async def test_without_an_offline_reply_a_user_hears_nothing_of_it(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    concierge.answer = always(400)
    session = user()
    classic = await board.connect(session)
    client = await V1Client.opened(board, session=session)

    await client.say("1")
    await client.ack("1")

    assert await all_of(client, board) == []
    assert (await classic.receive_json())["n"] < 0


async def test_of_nine_sockets_the_one_heard_from_least_recently_is_replaced(
    board: Switchboard,
) -> None:
    first = await V1Client.opened(board)
    clients = [first, *[await first.resumed(board) for _ in range(7)]]
    for client in (clients[0], *clients[2:]):
        await client.send("a sign of life")
        await client.has("error")

    ninth = await first.resumed(board)

    assert await clients[1].closed() == 4003
    await post(board, first.session, 1)
    for client in (clients[0], *clients[2:], ninth):
        assert client.numbers == [1] or await client.has_messages(1)


# What is inside a message


ODD = [
    '{"to":"%s","n":1}',
    ' \n\t{ "to" : "%s" ,\r\n "b":1, "a":2 }\n ',
    '{"big":123456789012345678901234567890,"to":"%s","float":1.0e+400,"zero":-0.0}',
    '{"to":"%s","text":"\\u00e9 \\ud83d\\udc36 é🐶 <\\/script>","a":1,"a":2}',
    '{"switchboard":"zzz:9","to":"%s"}',
    '{"to":"%s","id":"zzz:9","type":"hello","data":{}}',
]


@pytest.mark.parametrize("form", ODD)
async def test_the_data_of_a_message_is_the_postback_byte_for_byte(
    board: Switchboard, form: str
) -> None:
    client = await V1Client.opened(board)
    body = form % client.session

    answer = await board.postback(body.encode())
    await client.has_messages(1)
    again = await V1Client.opened(board, client.token, "")
    await again.has_messages(1)

    name = answer.headers["Switchboard-Message-Id"]
    frame = f'{{"type":"message","id":"{name}","data":{body}}}'
    assert client.texts[1:] == [frame]
    assert again.texts[1:] == [frame]


async def test_the_data_of_each_of_an_array_is_its_own_bytes(board: Switchboard) -> None:
    client = await V1Client.opened(board)
    bodies = [form.strip() % client.session for form in ODD]

    await board.postback(f"[{' , '.join(bodies)}]".encode())
    messages = await client.has_messages(len(bodies))

    assert [text.partition('"data":')[2][:-1] for text in client.texts[1:]] == bodies
    numbers = [frame["id"].partition(":")[2] for frame in messages]
    assert numbers == [str(number) for number in range(1, len(bodies) + 1)]


@pytest.mark.slow
async def test_what_others_publish_arrives_as_it_is_without_an_id(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with running(concierge, redis.url, QUICK) as board:
        client = await V1Client.opened(board)
        await post(board, client.session, 1)
        bare = f'{{ "n": 2,  "to": "{client.session}" }}'

        await client.has_messages(1)
        await redis.publish(bare)
        await client.has_messages(2)
        await post(board, client.session, 3)
        messages = await client.has_messages(3)

        assert client.texts[2] == f'{{"type":"message","data":{bare}}}'
        assert [frame["data"]["n"] for frame in messages] == [1, 2, 3]
        assert messages[2]["id"] == messages[0]["id"].replace(":1", ":2")


@pytest.mark.slow
async def test_an_id_that_somebody_made_up_is_not_believed(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with running(concierge, redis.url, QUICK) as board:
        client = await V1Client.opened(board)
        await post(board, client.session, 1)
        [first] = await client.has_messages(1)
        epoch = first["id"].partition(":")[0]

        for made_up in (f"{epoch}:1", f"{epoch}:3", f"{epoch}:999", "zzz:1"):
            await redis.publish(f'{{"switchboard":"{made_up}","to":"{client.session}","n":0}}')
        await post(board, client.session, 2)

        await client.until(lambda: 2 in client.numbers)
        ids = [frame["id"] for frame in client.messages if frame["data"]["n"]]
        assert ids == [f"{epoch}:1", f"{epoch}:2"]
        assert await all_of(client, board) == client.numbers[:-1]


@pytest.mark.slow
async def test_sockets_on_all_instances_get_the_same_ids_and_a_client_may_change_between_them(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with (
        running(concierge, redis.url, QUICK) as here,
        running(concierge, redis.url, QUICK) as there,
    ):
        first = await V1Client.opened(here)
        second = await first.resumed(there)
        for number, board in enumerate([here, there] * 3):
            await post(board, first.session, number)
        await first.has_messages(6)
        assert await second.has_messages(6) == first.messages
        await first.vanish()
        await post(there, first.session, 6, 7)

        third = await first.resumed(there)

        assert third.hello["missed"] == 2
        assert await all_of(third, here) == [6, 7]
