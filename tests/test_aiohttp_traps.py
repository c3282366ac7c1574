"""
What aiohttp does that a gateway can't live with: shown on a plain server, absent from ours.

When a plain server no longer shows a trap, the care taken about it can go.
"""

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from switchboard_operator.limits import Limits
from tests.conftest import OpenRaw
from tests.fakes import FakeConcierge
from tests.raw import PING, PONG, TEXT
from tests.switchboards import SESSION, Switchboard, signed, switchboard

pytestmark = pytest.mark.slow  # each waits to see that something does not happen

TARGET = f"/?session={SESSION}"
SMALL = 4096  # bytes of receive buffer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def plain_server(handler: Handler, **options: float) -> AsyncIterator[str]:
    """Serve *handler* with aiohttp's defaults."""
    app = web.Application()
    app.router.add_route("*", "/", handler)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_cancelled_send_poisons_later_ones_on_a_plain_server(open_raw: OpenRaw) -> None:
    poisoned = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with suppress(TimeoutError):
            await asyncio.wait_for(socket.send_str("x" * 10_000_000), 0.2)
        try:
            await socket.send_str("x" * 1_000_000)
        except asyncio.CancelledError:  # nobody has cancelled this one
            poisoned.set_result(True)
        request.transport.abort() if request.transport is not None else None
        return socket

    async with plain_server(handler) as url:
        await open_raw(url, receive_buffer=SMALL)
        assert await poisoned


async def test_a_blocked_send_is_waited_for_and_everything_arrives_here(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    late = await open_raw(board.url, TARGET, receive_buffer=SMALL)
    text = b"x" * 90_000
    for number in range(100):  # far more than buffers between us take, less than the outbox
        if number < 80:
            await board.postback(b'{"to":"%s","n":%d}' % (SESSION.encode(), number))
        else:
            await board.postback(
                b'{"to":"%s","n":%d,"b":"%s"}' % (SESSION.encode(), number, text[:20_000])
            )
    await late.send(PING, b"while blocked")

    texts: list[bytes] = []
    pongs: list[tuple[int, bytes]] = []
    while len(texts) < 100 or not pongs:
        opcode, payload = await late.receive()
        if opcode == TEXT:
            texts.append(payload)
        elif opcode != PING:  # which may come at any time: it asks for a receipt
            pongs.append((opcode, payload))

    assert [
        int(payload.split(b'"n":')[1].split(b",")[0].rstrip(b"}")) for payload in texts
    ] == list(range(100))
    assert pongs == [(PONG, b"while blocked")]


async def test_close_does_not_return_on_a_plain_server_while_the_peer_does_not_read(
    open_raw: OpenRaw,
) -> None:
    returned = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(timeout=0.1)
        await socket.prepare(request)
        sending = asyncio.create_task(socket.send_str("x" * 10_000_000))
        await asyncio.sleep(0.1)
        closing = asyncio.create_task(socket.close())
        done, _ = await asyncio.wait([closing], timeout=1)
        returned.set_result(bool(done))
        if request.transport is not None:
            request.transport.abort()
        await asyncio.gather(sending, closing, return_exceptions=True)
        return socket

    async with plain_server(handler) as url:
        await open_raw(url, receive_buffer=SMALL)
        assert await returned is False


async def test_a_socket_is_closed_in_time_here_though_its_peer_does_not_read(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard(concierge.url, Limits(close=0.3, stall=60)) as board:
        deaf = await open_raw(board.url, TARGET, receive_buffer=SMALL)
        for number in range(60):
            await board.postback({"to": SESSION, "n": number, "body": "x" * 100_000})

    await deaf.ended()  # the switchboard's end did not wait for it


async def test_a_missed_pong_leaves_the_socket_open_on_a_plain_server(open_raw: OpenRaw) -> None:
    still_open = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(heartbeat=0.2)
        await socket.prepare(request)
        transport = request.transport
        assert transport is not None
        transport.write(b"\x82\x7f" + (10_000_000).to_bytes(8, "big") + b"x" * 10_000_000)
        await socket.receive()  # ends: no pong came
        await asyncio.sleep(0.3)
        still_open.set_result(transport.get_write_buffer_size() > 0)
        transport.abort()
        return socket

    async with plain_server(handler) as url:
        await open_raw(url, receive_buffer=SMALL)
        assert await still_open


async def test_a_missed_pong_frees_the_socket_here(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard(concierge.url, Limits(heartbeat=0.2, pong=0.2, stall=60)) as board:
        deaf = await open_raw(board.url, TARGET, receive_buffer=SMALL)

        await deaf.ended()

        assert await board.metric("switchboard_connections", wire="classic") == 0


@pytest.mark.plants_a_leak
async def test_the_access_log_shows_query_strings_on_a_plain_server_but_not_here(
    board: Switchboard, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response()

    async with plain_server(handler) as url:
        await board.client.get(f"{url}/?session=on-a-plain-server")
    await board.client.get(f"{board.url}/live?session=not-for-logs")
    await (await board.connect("not-for-logs-either")).close()

    assert "on-a-plain-server" in caplog.text
    assert "not-for-logs" not in caplog.text
    assert not [
        r for r in caplog.records if r.name == "aiohttp.access" and "/live" in r.getMessage()
    ]


async def test_a_plain_server_unzips_a_body_before_it_can_be_hashed_and_ours_refuses_it(
    board: Switchboard,
) -> None:
    zipped = gzip.compress(b'{"to":"somebody","body":"squeezed"}')
    seen = asyncio.get_running_loop().create_future()

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.set_result(await request.read())
        return web.Response()

    headers = signed(zipped) | {"Content-Encoding": "gzip"}
    async with plain_server(handler) as url:
        await board.client.post(f"{url}/", data=zipped, headers=headers)
    refused = await board.postback(zipped, headers={"Content-Encoding": "gzip"})

    assert await seen != zipped
    assert refused.status == 415


async def test_deflate_is_taken_on_a_plain_server_but_not_here(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.receive()
        return socket

    offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
    async with plain_server(handler) as url:
        plain = await open_raw(url, headers=offer)
        plain.abort()
    ours = await open_raw(board.url, TARGET, headers=offer)

    assert b"permessage-deflate" in plain.response
    assert b"permessage-deflate" not in ours.response


async def test_an_idle_connection_is_kept_as_long_as_set(concierge: FakeConcierge) -> None:
    async with switchboard(concierge.url, Limits(keep_alive=0.3)) as board:
        address = urlsplit(board.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        writer.write(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")

        answer = await reader.read()  # to the end, which the server makes

        assert answer.startswith(b"HTTP/1.1 200")
        writer.close()


async def test_an_idle_connection_outlives_a_router_that_keeps_its_own_for_90_s(
    board: Switchboard,
) -> None:
    address = urlsplit(board.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    for pause in (91, 0):
        writer.write(b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await reader.readexactly(len('{"live":true}'))
        await asyncio.sleep(pause)
    writer.close()


async def test_a_request_that_cannot_be_parsed_leaves_no_traceback(
    board: Switchboard, caplog: pytest.LogCaptureFixture
) -> None:
    address = urlsplit(board.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)

    writer.write(b"GET / HTTP/1.1\r\nbroken header secret-word\r\n\r\n")

    assert (await reader.read()).startswith(b"HTTP/1.0 400")
    assert "secret-word" not in "".join(
        record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG
    )
    writer.close()
