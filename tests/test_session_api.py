"""What the Concierge can ask and have forgotten of a session, and what it learns of its POSTs."""

import dataclasses
import hmac
import json
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from redis.asyncio import Redis

from switchboard_operator import signatures
from switchboard_operator.limits import Limits
from tests.conftest import Run
from tests.fakes import SECRET, FakeConcierge
from tests.redis_server import RedisServer, redis_server
from tests.session_api import call, path_of, ready, running, signed, state, user
from tests.switchboards import Switchboard, eventually
from tests.v1_client import V1Client

QUICK = Limits(
    redis_pause=0.05,
    redis_settle=0.1,
    redis_answer=1.5,
    confirm=3,
    presence=2,
    cursor_pause=0.0,
    close=1.0,
)


@pytest.fixture
def limits() -> Limits:
    return QUICK


@pytest.fixture
async def board(run: Run) -> AsyncIterator[Switchboard]:
    async with run() as started:
        yield started


# Asking


async def test_of_a_session_that_nobody_knows_nothing_is_known(board: Switchboard) -> None:
    answer = await call(board, "GET", path_of(user()))

    assert answer == (200, {"online": False, "sockets": 0, "last": "", "cursor": ""})


async def test_the_last_id_and_the_cursor_are_told_also_of_a_user_who_is_away(
    board: Switchboard,
) -> None:
    session = user()
    names = [
        (await board.postback({"to": session, "n": number})).headers["Switchboard-Message-Id"]
        for number in range(3)
    ]
    away = await state(board, session)
    client = await V1Client.opened(board, last=names[1], session=session)
    there = await state(board, session)

    assert away == {"online": False, "sockets": 0, "last": names[2], "cursor": ""}
    assert there == {"online": True, "sockets": 1, "last": names[2], "cursor": names[1]}
    await client.close()
    gone = {"online": False, "sockets": 0, "last": names[2], "cursor": names[2]}
    await eventually_is(board, session, gone)


async def eventually_is(board: Switchboard, session: str, expected: dict[str, Any]) -> None:
    async def found() -> bool:
        return await state(board, session) == expected

    await eventually(found)


async def test_a_pong_moves_the_cursor_that_is_told(run: Run) -> None:
    async with run(dataclasses.replace(QUICK, receipt_delay=0.0)) as board:
        client = await V1Client.opened(board)  # answers pings
        answer = await board.postback({"to": client.session, "n": 1})
        name = answer.headers["Switchboard-Message-Id"]

        expected = {"online": True, "sockets": 1, "last": name, "cursor": name}
        await eventually_is(board, client.session, expected)


async def test_sockets_on_either_wire_are_counted_but_not_those_that_have_not_opened(
    board: Switchboard,
) -> None:
    session = user()
    stranger = await V1Client.connect(board, session)
    strangers = await state(board, session)
    socket = await board.connect(session)
    client = await V1Client.opened(board, session=session)
    both = await state(board, session)
    await client.vanish()

    async def one_is_left() -> bool:
        return bool((await state(board, session))["sockets"] == 1)

    await eventually(one_is_left)
    assert (strangers["online"], strangers["sockets"]) == (False, 0)
    assert (both["online"], both["sockets"]) == (True, 2)
    assert not stranger.ended
    assert not socket.closed


@pytest.mark.slow
async def test_sockets_of_all_instances_are_counted_on_each(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    session = user()
    async with (
        running(concierge, redis.url, QUICK) as here,
        running(concierge, redis.url, QUICK) as there,
    ):
        sockets = [await board.connect(session) for board in (here, there, there)]
        counts = [(await state(board, session))["sockets"] for board in (here, there)]
        await sockets[1].close()

        assert counts == [3, 3]
        for board in (here, there):
            await eventually_is(
                board, session, {"online": True, "sockets": 2, "last": "", "cursor": ""}
            )


@pytest.mark.slow
async def test_others_on_the_channel_who_do_not_count_do_not_matter(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    session = user()
    async with (
        running(concierge, redis.url, QUICK) as board,
        Redis(port=redis.port) as client,
        client.pubsub() as original,
    ):
        await original.subscribe("bot-message")
        socket = await board.connect(session)
        for junk in ('{"to":"~sockets"}', '{"to":"~sockets","question":"x","count":7}'):
            await redis.publish(junk)

        assert (await state(board, session))["sockets"] == 1
        assert not socket.closed


AWKWARD = [
    "a/b+c@d=e:f.g_h-0123456789",
    "a/../b/./0123456789abcdef",
    "..//0123456789abcdef",
    "==/+@:0123456789abcdef",
    "x" * 128,
]


@pytest.mark.parametrize("session", AWKWARD)
@pytest.mark.parametrize("safe", ["", "/", "/+@=:"])
async def test_any_id_may_stand_in_the_path_percent_encoded_or_not(
    board: Switchboard, session: str, safe: str
) -> None:
    session = session[:-8] + user()[:8]
    socket = await board.connect(session)
    target = f"/sessions/{quote(session, safe=safe)}"

    status, found = await call(board, "GET", target)
    erased, _ = await call(board, "DELETE", target)

    assert (status, found["sockets"]) == (200, 1)
    assert erased == 204
    assert not socket.closed


async def test_the_signature_covers_the_path_as_it_was_sent(board: Switchboard) -> None:
    lower = "/sessions/a%2fb%2B0123456789"

    assert (await call(board, "GET", lower))[0] == 200
    assert (await call(board, "GET", lower, signed("GET", "/sessions/a/b+0123456789")))[0] == 401


async def test_a_request_without_body_needs_no_hash(board: Switchboard) -> None:
    target = path_of(user())
    headers = signed("GET", target)
    del headers["X-Authorization-Content-SHA256"]
    content = signatures.canonical_string("GET", "", "", target, headers["Date"])
    digest = b64encode(hmac.digest(SECRET.encode(), content, "sha256")).decode()
    headers["Authorization"] = f"APIAuth-HMAC-SHA256 concierge:{digest}"

    assert (await call(board, "GET", target, headers))[0] == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("identity", ["a%20b", "x" * 129, "%7Eprobe.0123456789abcdef", "a%00", "é"])
async def test_what_is_no_session_id_is_400(board: Switchboard, method: str, identity: str) -> None:
    target = f"/sessions/{quote(identity, safe='%')}"

    status, content = await call(board, method, target)

    assert status == 400
    assert content["error"] == "bad_session"


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_what_is_not_signed_is_401_and_does_nothing(board: Switchboard, method: str) -> None:
    session = user()
    target, other = path_of(session), {"GET": "DELETE", "DELETE": "GET"}[method]
    await board.postback({"to": session, "n": 1})
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    wrong = [
        {},
        signed(other, target),
        signed(method, path_of(user())),
        signed(method, target, an_hour_ago),
        signed(method, target) | {"Authorization": "APIAuth-HMAC-SHA256 x:AAAA"},
    ]

    answers = [await call(board, method, target, headers) for headers in wrong]
    answers.append(await call(board, method, "/sessions/a%20b", {}))

    assert {status for status, _ in answers} == {401}
    assert len({json.dumps(content) for _, content in answers}) == 1
    assert (await state(board, session))["last"] != ""


# Forgetting


async def test_what_is_erased_is_gone_for_a_client_that_comes_back(board: Switchboard) -> None:
    first = await V1Client.opened(board)
    for number in range(3):
        await board.postback({"to": first.session, "n": number})
    await first.has_messages(2)
    await first.vanish()

    answer = await call(board, "DELETE", path_of(first.session))
    after = await state(board, first.session)
    second = await first.resumed(board)

    assert answer == (204, None)
    assert (after["last"], after["cursor"]) == ("", "")
    assert (second.hello["resumed"], second.hello["why"]) == (False, "epoch")
    assert (second.hello["missed"], second.hello["last"]) == (0, "")


async def test_a_client_that_stays_gets_what_comes_after_in_another_epoch(
    board: Switchboard,
) -> None:
    client = await V1Client.opened(board)
    socket = await board.connect(session := user())
    for session_of in (client.session, session):
        await board.postback({"to": session_of, "n": 1})
    [before] = await client.has_messages(1)

    for session_of in (client.session, session):
        await call(board, "DELETE", path_of(session_of))
        await board.postback({"to": session_of, "n": 2})

    _, after = await client.has_messages(2)
    assert after["data"]["n"] == 2
    assert before["id"].partition(":")[2] == after["id"].partition(":")[2] == "1"
    assert before["id"] != after["id"]
    assert [(await socket.receive_json())["n"] for _ in range(2)] == [1, 2]


async def test_erasing_twice_or_nothing_is_fine_and_harms_nobody_else(board: Switchboard) -> None:
    other = user()
    await board.postback({"to": other, "n": 1})

    for _ in range(2):
        assert (await call(board, "DELETE", path_of(user())))[0] == 204

    assert (await state(board, other))["last"] != ""


@pytest.mark.slow
async def test_nothing_of_a_session_is_left_in_redis_but_what_suppresses_duplicates(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with running(concierge, redis.url, QUICK) as board:
        session = user()
        await board.postback({"to": session, "body": "a secret of the user's"})

        await call(board, "DELETE", path_of(session))

        for key in await redis.call("KEYS", f"*{session}*"):
            assert b":once:" in key
            assert b"secret" not in await redis.call("GET", key)


# While Redis is away


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_while_redis_is_away_both_are_503(concierge: FakeConcierge, method: str) -> None:
    async with (
        redis_server() as own,
        running(concierge, own.url, QUICK) as board,
    ):
        target = path_of(user())

        own.freeze()
        frozen = await call(board, method, target)
        own.thaw()
        await ready(board)
        thawed, _ = await call(board, method, target)
        await own.kill()
        killed = await call(board, method, target)
        unsigned, _ = await call(board, method, target, {})
        await own.start()
        await ready(board)
        back, _ = await call(board, method, target)

        assert (frozen[0], frozen[1]["error"]) == (503, "redis_unavailable")
        assert (killed[0], killed[1]["error"]) == (503, "redis_unavailable")
        assert unsigned == 401
        assert thawed == back == {"GET": 200, "DELETE": 204}[method]


# What the Concierge learns of its POSTs


async def test_a_postback_is_answered_with_the_id_that_its_user_sees(board: Switchboard) -> None:
    client = await V1Client.opened(board)

    answers = [await board.postback({"to": client.session, "n": number}) for number in range(3)]

    names = [frame["id"] for frame in await client.has_messages(3)]
    assert [answer.headers["Switchboard-Message-Id"] for answer in answers] == names
    assert [name.partition(":")[2] for name in names] == ["1", "2", "3"]
    assert not any("Switchboard-Duplicate" in answer.headers for answer in answers)


async def test_an_array_is_answered_without_an_id(board: Switchboard) -> None:
    session = user()

    one = await board.postback([{"to": session, "n": 1}])
    two = await board.postback([{"to": session, "n": 2}, {"to": session, "n": 3}])

    assert one.status == two.status == 204
    for answer in (one, two):
        assert "Switchboard-Message-Id" not in answer.headers
        assert "Switchboard-Duplicate" not in answer.headers


async def test_without_a_mailbox_there_is_no_id_but_duplicates_are_known(run: Run) -> None:
    async with run(MAILBOX_SIZE="0") as board:
        client = await V1Client.opened(board)
        body, headers = request({"to": client.session, "n": 1})

        answers = [await board.postback(body, headers=headers) for _ in range(2)]

        assert {answer.status for answer in answers} == {204}
        assert not any("Switchboard-Message-Id" in answer.headers for answer in answers)
        assert [answer.headers.get("Switchboard-Duplicate") for answer in answers] == [None, "true"]
        assert await got(client, board) == [1]


def request(content: Any, now: datetime | None = None) -> tuple[bytes, dict[str, str]]:
    """Return a body and the headers that sign it, to be sent more than once."""
    body = json.dumps(content).encode()
    moment = now or datetime.now(UTC)
    return body, signatures.sign("POST", "/", "application/json", body, SECRET, moment)


async def got(client: V1Client, board: Switchboard) -> list[int]:
    """Return the numbers of all postbacks that *client* got, once one more has arrived."""
    await board.postback({"to": client.session, "n": -1, "once": user()})
    await client.until(lambda: -1 in client.numbers)
    return client.numbers[: client.numbers.index(-1)]


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_request_that_comes_again_is_told_and_not_delivered_again(
    board: Switchboard, count: int
) -> None:
    client = await V1Client.opened(board)
    items = [{"to": client.session, "n": number} for number in range(max(count, 1))]
    body, headers = request(items if count else items[0])

    first = await board.postback(body, headers=headers)
    again = [await board.postback(body, headers=headers) for _ in range(2)]

    assert "Switchboard-Duplicate" not in first.headers
    for answer in again:
        assert answer.status == 204
        assert answer.headers["Switchboard-Duplicate"] == "true"
        named = first.headers.get("Switchboard-Message-Id")
        assert answer.headers.get("Switchboard-Message-Id") == named
    assert await got(client, board) == list(range(len(items)))


async def test_another_spelling_of_the_same_signature_is_the_same_request(
    board: Switchboard,
) -> None:
    client = await V1Client.opened(board)
    body, headers = request({"to": client.session, "n": 1})
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    start, last = headers["Authorization"][:-2], headers["Authorization"][-2]
    other = (
        f"{start}{alphabet[alphabet.index(last) + 1]}="  # differs in bits that count for nothing
    )

    await board.postback(body, headers=headers)
    again = await board.postback(body, headers=headers | {"Authorization": other})

    assert again.status == 204
    assert again.headers["Switchboard-Duplicate"] == "true"
    assert await got(client, board) == [1]


async def test_another_access_id_does_not_make_it_another_request(board: Switchboard) -> None:
    client = await V1Client.opened(board)
    body, headers = request({"to": client.session, "n": 1})
    other = headers["Authorization"].replace(" switchboard:", " somebody-else:")
    assert other != headers["Authorization"]

    await board.postback(body, headers=headers)
    again = await board.postback(body, headers=headers | {"Authorization": other})

    assert again.headers["Switchboard-Duplicate"] == "true"
    assert await got(client, board) == [1]


async def test_the_same_postback_signed_at_another_second_is_another_one(
    board: Switchboard,
) -> None:
    client = await V1Client.opened(board)
    content, now = {"to": client.session, "n": 1}, datetime.now(UTC)

    for moment in (now, now - timedelta(seconds=1)):
        body, headers = request(content, moment)
        answer = await board.postback(body, headers=headers)
        assert "Switchboard-Duplicate" not in answer.headers

    assert await got(client, board) == [1, 1]


async def test_the_same_postback_twice_in_an_array_is_two(board: Switchboard) -> None:
    client = await V1Client.opened(board)

    answer = await board.postback([{"to": client.session, "n": 1}] * 2)

    assert "Switchboard-Duplicate" not in answer.headers
    assert await got(client, board) == [1, 1]


@pytest.mark.parametrize("together", [True, False])
async def test_the_same_words_to_two_users_are_no_duplicate(
    board: Switchboard, together: bool
) -> None:
    clients = [await V1Client.opened(board) for _ in range(2)]
    contents = [{"to": client.session, "n": 1} for client in clients]

    for content in [contents] if together else contents:
        answer = await board.postback(content)
        assert "Switchboard-Duplicate" not in answer.headers

    for client in clients:
        assert await got(client, board) == [1]


@pytest.mark.slow
async def test_a_request_is_known_only_as_long_as_its_date_is_good(run: Run) -> None:
    async with run(dataclasses.replace(QUICK, once_lifetime=3)) as board:
        client = await V1Client.opened(board)
        body, headers = request({"to": client.session, "n": 1})
        await board.postback(body, headers=headers)

        async def taken_again() -> bool:
            answer = await board.postback(body, headers=headers)
            return "Switchboard-Duplicate" not in answer.headers

        assert not await taken_again()
        await eventually(taken_again, pause=0.1)
        assert await got(client, board) == [1, 1]


@pytest.mark.slow
async def test_a_duplicate_is_known_on_every_instance(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with (
        running(concierge, redis.url, QUICK) as here,
        running(concierge, redis.url, QUICK) as there,
    ):
        client = await V1Client.opened(there)
        body, headers = request({"to": client.session, "n": 1})

        first = await here.postback(body, headers=headers)
        again = await there.postback(body, headers=headers)

        assert again.headers["Switchboard-Duplicate"] == "true"
        name = first.headers["Switchboard-Message-Id"]
        assert again.headers["Switchboard-Message-Id"] == name
        assert await got(client, here) == [1]


@pytest.mark.slow
async def test_what_is_held_has_no_id_yet_and_is_delivered_once_however_often_it_came(
    concierge: FakeConcierge,
) -> None:
    async with (
        redis_server() as own,
        running(concierge, own.url, QUICK) as board,
    ):
        client = await V1Client.opened(board)
        body, headers = request({"to": client.session, "n": 1})
        await own.kill()

        answers = [await board.postback(body, headers=headers) for _ in range(2)]
        await own.start()
        await ready(board)

        assert {answer.status for answer in answers} == {202}
        assert not any("Switchboard-Message-Id" in answer.headers for answer in answers)
        assert await got(client, board) == [1]
