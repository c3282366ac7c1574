"""Durations that no other test waits for with their real values."""

import asyncio
import socket
import time
from urllib.parse import urlsplit

import pytest

from tests.fakes import FakeConcierge
from tests.switchboards import Switchboard, eventually, signed, switchboard

pytestmark = pytest.mark.slow


async def test_a_body_must_arrive_within_10_s(board: Switchboard) -> None:
    address = urlsplit(board.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = "".join(f"{name}: {value}\r\n" for name, value in signed(b"{}").items())
    began = time.monotonic()

    writer.write(f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n{head}\r\n{{".encode())
    answer = await reader.readuntil(b"\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 408")
    assert 9.5 < time.monotonic() - began < 13
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
        assert 2.5 < time.monotonic() - began < 5

        async def asked_again() -> bool:
            await board.get("/")
            return len(asked) == 2

        await eventually(asked_again)
        assert 3.5 < asked[1] - asked[0] < 7  # 3 s of waiting, 1 s of knowing


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

            assert 4.5 < time.monotonic() - began < 8
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

        assert 9.5 < time.monotonic() - began < 13
        writer.close()
