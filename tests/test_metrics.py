"""Every metric is moved by what it counts, and users do not add to their number."""

import asyncio
import itertools
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import WSServerHandshakeError

from switchboard_operator import __version__, signatures
from switchboard_operator.limits import Limits
from switchboard_operator.metrics import Metrics
from tests.conftest import OpenRaw
from tests.fakes import SECRET, FakeConcierge, Incoming
from tests.raw import BINARY, CLOSE
from tests.switchboards import SESSION, Switchboard, eventually, signed, switchboard

TARGET = f"/?session={SESSION}"


async def moved(board: Switchboard, name: str, value: float = 1, **labels: str) -> None:
    """Wait until a metric has *value*: some are moved right after what the test can see."""

    async def has_value() -> bool:
        return await board.metric(name, **labels) == value

    await eventually(has_value)


async def series(board: Switchboard) -> set[str]:
    """Return the names of all series, with their labels."""
    _, text = await board.get("/metrics", headers={"Authorization": "Bearer the scraper's token"})
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {line.rpartition(" ")[0] for line in lines}


# Sockets


async def test_sockets_that_open_and_those_that_are_open(board: Switchboard) -> None:
    sockets = [await board.connect(), await board.connect(), await board.connect(None)]

    await moved(board, "switchboard_connections", 3, wire="classic")
    await sockets.pop().close()
    await moved(board, "switchboard_connections", 2, wire="classic")

    assert await board.metric("switchboard_opens_total") == 3


@pytest.mark.parametrize("code", [1000, 1001, 1008, 4003])
async def test_a_socket_closed_by_the_client_counts_under_its_code(
    board: Switchboard, code: int
) -> None:
    user = await board.connect()

    await user.close(code=code)

    await moved(board, "switchboard_closes_total", code=str(code))


async def test_a_socket_that_we_close_counts_under_our_code(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    raw = await open_raw(board.url, TARGET)

    await raw.send(BINARY, b"{}")

    assert await raw.close_code() == 1003
    raw.abort()
    await moved(board, "switchboard_closes_total", code="1003")
    assert await board.metric("switchboard_rejects_total", reason="close_1003") == 1


async def test_a_socket_that_ends_without_a_close_frame_counts_as_1006(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    raw = await open_raw(board.url, TARGET)

    raw.abort()

    await moved(board, "switchboard_closes_total", code="1006")


async def test_codes_that_clients_make_up_share_a_label(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    made_up = [3000, 3333, 3999, 4000, 4567, 4999]

    for code in made_up:
        raw = await open_raw(board.url, TARGET)
        await raw.send(CLOSE, struct.pack("!H", code))
        await raw.ended()

    await moved(board, "switchboard_closes_total", len(made_up), code="other")
    assert not any(str(code) in name for name in await series(board) for code in made_up)


def test_a_code_of_any_number_has_a_known_label() -> None:
    metrics = Metrics("0")

    for code in range(5000):
        metrics.closed(code)

    labels = re.findall(rb'switchboard_closes_total{code="(\w+)"}', metrics.exposition())
    assert len(labels) < 20
    assert b"other" in labels


@pytest.mark.parametrize(
    ("reason", "query", "headers"),
    [
        pytest.param("bad_session", "?session=a%20b", {}, id="bad session"),
        pytest.param("session_not_yours", f"?session=s1.{'0' * 32}", {}, id="session of ours"),
        pytest.param("session_not_allowed", TARGET[1:], {}, id="session not allowed"),
        pytest.param("origin_not_allowed", "", {"Origin": "https://evil.example"}, id="origin"),
    ],
)
async def test_an_upgrade_that_is_refused_counts_under_its_reason(
    concierge: FakeConcierge, reason: str, query: str, headers: dict[str, str]
) -> None:
    more = {"ALLOWED_ORIGINS": "https://good.example", "ALLOW_CLIENT_SESSIONS": "0"}
    async with switchboard(concierge.url, None, **more) as board:
        with pytest.raises(WSServerHandshakeError):
            await board.client.ws_connect(f"{board.url}/{query}", headers=headers)

        assert await board.metric("switchboard_rejects_total", reason=reason) == 1
        assert await board.metric("switchboard_opens_total") == 0


async def test_an_upgrade_for_which_there_is_no_room_counts_as_full(
    concierge: FakeConcierge,
) -> None:
    async with switchboard(concierge.url, MAX_CONNECTIONS="1") as board:
        user = await board.connect()
        with pytest.raises(WSServerHandshakeError):
            await board.connect()

        assert not user.closed
        assert await board.metric("switchboard_rejects_total", reason="full") == 1


async def test_a_bad_frame_counts_as_rejected(board: Switchboard) -> None:
    user = await board.connect()

    await user.send_str("not JSON")
    await user.receive()

    assert await board.metric("switchboard_rejects_total", reason="bad_frame") == 1


# User messages


@pytest.mark.parametrize(
    ("status", "outcome", "kind"),
    [
        (200, "accepted", None),
        (302, "concierge_rejected", "status_3xx"),
        (400, "concierge_rejected", "status_4xx"),
        (429, "concierge_unavailable", "status_429"),
        (500, "concierge_timeout", "status_5xx"),
        (502, "concierge_timeout", "status_502"),
        (503, "concierge_unavailable", "status_503"),
    ],
)
async def test_a_message_counts_under_its_outcome_and_a_failed_post_under_its_kind(
    concierge: FakeConcierge, status: int, outcome: str, kind: str | None
) -> None:
    async def answer(_incoming: Incoming) -> int:
        return status

    concierge.answer = answer
    async with switchboard(concierge.url, Limits(retry_total=0)) as board:
        user = await board.connect()
        await user.send_json({"message": "hello"})

        await moved(board, "switchboard_user_messages_total", outcome=outcome)
        if kind is not None:
            assert await board.metric("switchboard_concierge_errors_total", kind=kind) == 1
        assert await board.metric("switchboard_concierge_seconds_count") == 1
        assert await board.metric("switchboard_concierge_seconds_sum") > 0


async def fail_to_post(concierge_url: str, kind: str, **more: str) -> None:
    """Send a message to a Concierge that fails; wait for its failure to be counted as *kind*."""
    async with switchboard(concierge_url, Limits(retry_total=0), **more) as board:
        user = await board.connect()
        await user.send_json({"message": "hello"})

        await moved(board, "switchboard_concierge_errors_total", kind=kind)
        assert await board.metric("switchboard_concierge_seconds_count") == 0


async def test_a_concierge_that_is_down_counts_as_connect(concierge: FakeConcierge) -> None:
    await concierge.stop()

    await fail_to_post(concierge.url, "connect")


@pytest.mark.slow
async def test_a_concierge_that_does_not_answer_counts_as_timeout(
    concierge: FakeConcierge,
) -> None:
    never = asyncio.Event()

    async def hang(_incoming: Incoming) -> int:
        await never.wait()
        return 204

    concierge.answer = hang

    await fail_to_post(concierge.url, "timeout", CONCIERGE_TIMEOUT="0.2")


@asynccontextmanager
async def concierge_ending(
    ending: Callable[[asyncio.StreamWriter], None], *, read: bool
) -> AsyncIterator[str]:
    """Listen as a Concierge that ends every link by *ending*, having *read* the POST or not."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}" if read else b"POST")
        ending(writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def end(writer: asyncio.StreamWriter) -> None:
    writer.close()


def reset(writer: asyncio.StreamWriter) -> None:
    linger = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    writer.transport.abort()


async def test_a_link_that_is_ended_counts_as_lost() -> None:
    async with concierge_ending(end, read=True) as url:
        await fail_to_post(url, "link_lost")


async def test_a_link_that_is_reset_counts_as_reset() -> None:
    async with concierge_ending(reset, read=False) as url:
        await fail_to_post(url, "link_reset")


async def test_messages_that_wait_for_the_concierge_are_queued(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    released = concierge.hold()
    user = await board.connect()

    for _ in range(3):
        await user.send_json({"message": "hello"})
    await moved(board, "switchboard_uplink_queued", 3)
    released.set()
    await moved(board, "switchboard_uplink_queued", 0)

    assert await board.metric("switchboard_user_messages_total", outcome="accepted") == 3


# Postbacks


async def test_a_postback_counts_once_and_its_deliveries_for_each_socket(
    board: Switchboard,
) -> None:
    users = [await board.connect() for _ in range(2)]

    await board.postback({"to": SESSION, "body": "hello"})
    await board.postback({"to": "nobody-who-is-here", "body": "hello"})
    for user in users:
        await user.receive()

    assert await board.metric("switchboard_postbacks_total", outcome="confirmed") == 2
    assert await board.metric("switchboard_deliveries_total", how="live") == 2


async def test_each_postback_of_an_array_counts(board: Switchboard) -> None:
    await board.postback([{"to": SESSION, "body": str(number)} for number in range(5)])

    assert await board.metric("switchboard_postbacks_total", outcome="confirmed") == 5


@pytest.mark.parametrize(
    ("outcome", "body", "headers"),
    [
        pytest.param("bad_postback", b"{}", {}, id="bad postback"),
        pytest.param("too_large", b'{"to":"%s"}' % (b"x" * 102_400), {}, id="too large"),
        pytest.param("content_encoding", b"{}", {"Content-Encoding": "gzip"}, id="encoded"),
        pytest.param("unauthorized", b"{}", {"Authorization": "none"}, id="unsigned"),
    ],
)
async def test_a_postback_that_is_refused_counts_under_its_reason(
    board: Switchboard, outcome: str, body: bytes, headers: dict[str, str]
) -> None:
    await board.postback(body, headers=headers)

    assert await board.metric("switchboard_postbacks_total", outcome=outcome) == 1
    assert await board.metric("switchboard_postbacks_total", outcome="confirmed") == 0


async def test_a_postback_whose_body_is_late_counts_as_that(concierge: FakeConcierge) -> None:
    async def late() -> AsyncIterator[bytes]:
        yield b'{"to":'
        await answered.wait()

    answered = asyncio.Event()
    async with switchboard(concierge.url, Limits(body=0.1)) as board:
        async with board.client.post(f"{board.url}/", data=late()) as response:
            assert response.status == 408
        answered.set()

        assert await board.metric("switchboard_postbacks_total", outcome="body_late") == 1


BODY = b'{"to":"nobody-who-is-here"}'


def without(name: str) -> dict[str, str]:
    headers = signed(BODY)
    del headers[name]
    return headers


def long_ago() -> dict[str, str]:
    past = datetime.now(UTC) - timedelta(hours=1)
    return signatures.sign("POST", "/", "application/json", BODY, SECRET, past)


HASH = "X-Authorization-Content-SHA256"


@pytest.mark.parametrize(
    ("cause", "headers"),
    [
        ("hmac_mismatch", lambda: signed(BODY, secret="somebody else's")),
        ("content_hash_mismatch", lambda: signed(b"another body")),
        ("date_out_of_range", long_ago),
        ("date_malformed", lambda: signed(BODY) | {"Date": "yesterday"}),
        ("authorization_missing", lambda: without("Authorization")),
        ("authorization_malformed", lambda: signed(BODY) | {"Authorization": "Basic eA=="}),
        ("content_hash_missing", lambda: without(HASH)),
        ("base64_malformed", lambda: signed(BODY) | {HASH: "?"}),
        ("md5_not_accepted", lambda: without(HASH) | {"Content-MD5": "eA=="}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_bad_signature_counts_under_its_cause(
    board: Switchboard, cause: str, headers: Callable[[], dict[str, str]]
) -> None:
    async with board.client.post(f"{board.url}/", data=BODY, headers=headers()) as response:
        assert response.status == 401

    assert await board.metric("switchboard_signature_failures_total", cause=cause) == 1
    assert await board.metric("switchboard_postbacks_total", outcome="unauthorized") == 1


async def test_frames_wait_for_a_client_that_does_not_read_and_for_no_other(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    user = await board.connect("a-user-who-does-read")
    deaf = await open_raw(board.url, TARGET, receive_buffer=4096)

    await board.postback({"to": "a-user-who-does-read", "body": "hello"})
    await user.receive()
    assert await board.metric("switchboard_outbox_frames") == 0
    numbers = itertools.count()  # equal bodies within a second would be one and the same postback
    while await board.metric("switchboard_outbox_frames") == 0:
        await board.postback({"to": SESSION, "n": next(numbers), "body": "x" * 100_000})
    deaf.abort()

    await moved(board, "switchboard_outbox_frames", 0)


async def test_the_build_is_ours(board: Switchboard) -> None:
    assert await board.metric("switchboard_build_info", version=__version__) == 1


async def test_at_the_start_everything_is_at_rest(board: Switchboard) -> None:
    at_rest = [
        await board.metric(f"switchboard_{name}")
        for name in ("opens_total", "outbox_frames", "uplink_queued", "task_failures_total")
    ]

    assert at_rest == [0] * 4


async def test_who_needs_no_redis_hears_itself(board: Switchboard) -> None:
    assert await board.metric("switchboard_listener_up") == 1


# The number of series


async def live_through_it_all(board: Switchboard, number: int) -> None:
    """Do as user *number* what a user and a bot can do, all in words of its own."""
    session = f"session-of-user-number-{number}"
    user = await board.connect(
        session, headers={"Origin": f"https://{number}.example"}, protocols=[f"protocol-{number}"]
    )
    await user.send_json({"message": f"hello {number}", "payload": {"number": number}})
    await user.send_str(f"junk {number}")
    await user.receive()
    await board.postback({"to": session, "body": f"hello {number}", "type": f"kind-{number}"})
    await user.receive()
    await user.close(code=3000 + number)
    await board.postback({"to": f"nobody {number}"})
    await board.postback(b"{}", headers={"Authorization": f"APIAuth {number}:eA=="})
    with pytest.raises(WSServerHandshakeError):
        await board.connect(f"no session {number}")
    await board.get(f"/no/such/page/{number}")
    await board.get("/metrics", headers={"Authorization": f"Bearer {number}"})


@pytest.mark.slow
async def test_users_add_nothing_to_the_number_of_series(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    await live_through_it_all(board, 0)
    await moved(board, "switchboard_closes_total", code="other")
    await moved(board, "switchboard_user_messages_total", outcome="accepted")
    before = await series(board)

    for number in range(1, 201):
        await live_through_it_all(board, number)
    await moved(board, "switchboard_closes_total", 201, code="other")
    await moved(board, "switchboard_user_messages_total", 201, outcome="accepted")

    assert await board.metric("switchboard_opens_total") == 201
    assert await series(board) == before


async def test_a_scrape_does_not_move_what_it_shows(concierge: FakeConcierge) -> None:
    headers = {"Authorization": "Bearer the scraper's token"}
    never = Limits(lag_every=3600, lag_window=3600)  # the time moves what is seen of the loop
    async with switchboard(concierge.url, never) as board:
        first = await board.get("/metrics", headers=headers)

        assert await board.get("/metrics", headers=headers) == first


# Tasks


async def test_tasks_are_counted_while_they_run(board: Switchboard) -> None:
    never = asyncio.Event()
    before = await board.metric("switchboard_tasks")
    tasks = [asyncio.create_task(never.wait()) for _ in range(10)]

    assert before > 0
    assert await board.metric("switchboard_tasks") == before + 10
    never.set()
    await asyncio.gather(*tasks)
    assert await board.metric("switchboard_tasks") == before
