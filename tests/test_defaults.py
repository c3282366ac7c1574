"""Durations that no other test waits for with their real values."""

import asyncio
import socket
import time
from urllib.parse import urlsplit

import pytest
from aiohttp import WSMsgType

from switchboard_operator.server_frames_v1 import SUBPROTOCOL
from switchboard_operator.web import keys
from tests.conftest import OpenRaw
from tests.fakes import FakeConcierge
from tests.raw import PING, TEXT
from tests.redis_server import RedisServer, redis_server
from tests.switchboards import SESSION, Switchboard, eventually, signed, switchboard

pytestmark = pytest.mark.slow


async def test_a_body_must_arrive_within_10_s(board: Switchboard) -> None:
    address = urlsplit(board.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(b"{}").items())
    began = time.monotonic()

    writer.write(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n{head}\r\n{{".encode())
    answer = await reader.readuntil(b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 408")
    assert 9.5 < time.monotonic() - began < 18
    writer.close()


async def test_the_index_waits_3_s_for_the_concierge_and_asks_again_after_1_s() -> None:
    asked: list[float] = []

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(time.monotonic())
        await reader.read()  # until the switchboard has waited long enough
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    async with (
        server,
        switchboard(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}") as board,
    ):
        began = time.monotonic()
        assert "unavailable" in (await board.get("/"))[1]
        assert 2.5 < time.monotonic() - began < 9

        async def asked_again() -> bool:
            await board.get("/")
            return len(asked) == 2

        await eventually(asked_again)
        assert 3.5 < asked[1] - asked[0] < 12  # 3 s of waiting, 1 s of knowing


async def test_a_concierge_has_5_s_to_take_up_a_connection() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for link in waiting:  # more than the kernel queues: the next one is not answered
            link.setblocking(False)
            link.connect_ex(full.getsockname())
        async with switchboard(f"http://127.0.0.1:{full.getsockname()[1]}") as board:
            talker = await board.connect()
            began = time.monotonic()
            await talker.send_json({"message": "hello"})

            async def failed() -> bool:
                return bool(
                    await board.metric("switchboard_concierge_errors_total", kind="connect")
                )

            await eventually(failed)

            assert 4.5 < time.monotonic() - began < 12
            await talker.close()
        for link in waiting:
            link.close()


async def test_our_close_frame_must_be_answered_within_10_s(
    concierge: FakeConcierge,
) -> None:
    async with switchboard(concierge.url) as board:
        address = urlsplit(board.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"\x82\x80\0\0\0\0")  # a binary frame
        assert await reader.readexactly(4) == b"\x88\x02\x03\xeb"
        began = time.monotonic()

        assert await reader.read() == b""

        assert 9.5 < time.monotonic() - began < 18
        writer.close()


async def test_a_v1_client_has_10_s_to_open(board: Switchboard) -> None:
    socket = await board.connect(protocols=(SUBPROTOCOL,))
    began = time.monotonic()

    message = await socket.receive()

    assert (message.type, message.data) == (WSMsgType.CLOSE, 4102)
    assert 9.5 < time.monotonic() - began < 18


async def test_a_receipt_is_asked_for_200_ms_after_a_postback_and_once_a_second_at_most(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    raw = await open_raw(board.url, f"/?session={SESSION}")
    pings: list[float] = []
    began = time.monotonic()

    for number in range(2):
        await board.postback({"to": SESSION, "n": number})
        assert (await raw.receive())[0] == TEXT
        assert (await raw.receive())[0] == PING
        pings.append(time.monotonic() - began)

    assert 0.15 < pings[0] < 0.9
    assert 0.9 < pings[1] - pings[0] < 1.8


async def test_a_close_waits_half_a_second_for_a_receipt(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard(concierge.url) as board:
        raw = await open_raw(board.url, f"/?session={SESSION}")
        await board.postback({"to": SESSION})
        assert (await raw.receive())[0] == TEXT
        began = time.monotonic()
        assert board.app is not None
        [connection] = board.app[keys.CONNECTIONS]

        connection.close(1012, receipt=True)

        assert (await raw.receive())[0] == PING
        assert await raw.close_code() == 1012
        assert 0.4 < time.monotonic() - began < 1.5


async def test_what_redis_keeps_for_a_while_it_keeps_for_the_time_that_was_meant(
    concierge: FakeConcierge,
) -> None:
    released = concierge.hold()
    async with (
        redis_server() as redis,
        switchboard(concierge.url, REDISCLOUD_URL=redis.url) as board,
    ):

        async def ready() -> bool:
            return (await board.get("/ready"))[0] == 200

        await eventually(ready)
        socket = await board.connect(protocols=(SUBPROTOCOL,))
        await socket.send_json({"type": "open"})
        await board.postback({"to": SESSION})
        await socket.send_json({"type": "message", "cid": "one", "message": "hello"})
        await concierge.has_received(1)

        leases = await lifetimes(redis, ":lease")
        released.set()
        await eventually(lambda: redis_has(redis, ":cid:one"))
        kept = [await lifetimes(redis, kind) for kind in (":cid:", ":once:", ":bodies", ":state")]

    assert 15 < max(leases) <= 20
    assert [max(seconds) for seconds in kept] == [
        pytest.approx(lifetime, abs=30) for lifetime in (600, 1800, 86_400, 2_592_000)
    ]


async def lifetimes(redis: RedisServer, kind: str) -> list[float]:
    """Return the seconds left of all keys of a kind that belong to a session."""
    names = [name for name in await redis.call("KEYS", f"*{kind}*") if b"~" not in name]
    return [await redis.call("PTTL", name) / 1000 for name in names]


async def redis_has(redis: RedisServer, kind: str) -> bool:
    return bool(await redis.call("KEYS", f"*{kind}*"))
