"""The upgrade of an HTTP link to a WebSocket: what is answered, refused and taken over."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit

import pytest
from aiohttp import HttpVersion, HttpVersion10, HttpVersion11, web
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from switchboard_operator.web import handshake
from switchboard_operator.web.errors import as_json
from tests.raw import CLOSE, PING, PONG, TEXT, RawWebSocket, frame
from tests.switchboards import SESSION, Switchboard

RFC_KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, section 1.3 …
RFC_ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # … and its answer
UPGRADE = [
    ("Host", "localhost"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", RFC_KEY),
]
LIVE = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n"


def asked(*, without: str = "", version: HttpVersion = HttpVersion11, **other: str) -> web.Request:
    """Return the request of an upgrade, *other* headers in place of the usual."""
    headers = CIMultiDict((name, value) for name, value in UPGRADE if name != without)
    headers.update({name.replace("_", "-"): value for name, value in other.items()})
    return make_mocked_request("GET", "/", headers, version=version)


def upgrade(more: str = "", version: str = "1.1") -> bytes:
    """Return the bytes of an upgrade, with *more* header lines."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in UPGRADE)
    return f"GET /?session={SESSION} HTTP/{version}\r\n{lines}{more}\r\n".encode()


@asynccontextmanager
async def link(board: Switchboard) -> AsyncIterator[RawWebSocket]:
    """Open a link on which nothing has been said yet."""
    address = urlsplit(board.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    raw = RawWebSocket(reader, writer, b"")
    try:
        yield raw
    finally:
        raw.abort()


async def head(raw: RawWebSocket) -> bytes:
    return await raw.reader.readuntil(b"\r\n\r\n")


def test_the_key_of_the_rfc_has_the_answer_of_the_rfc() -> None:
    assert handshake.accept_key(asked()) == RFC_ACCEPT


@pytest.mark.parametrize("version", ["13", "8", "7"])
def test_drafts_that_differ_in_nothing_are_answered_too(version: str) -> None:
    assert handshake.accept_key(asked(Sec_WebSocket_Version=version)) == RFC_ACCEPT


@pytest.mark.parametrize("options", ["upgrade", "keep-alive, Upgrade", "UPGRADE ,close"])
def test_upgrade_may_be_one_of_several_options(options: str) -> None:
    assert handshake.accept_key(asked(Connection=options)) == RFC_ACCEPT


def test_options_may_stand_on_several_lines() -> None:
    headers = CIMultiDict([("Connection", "keep-alive"), *UPGRADE])

    assert handshake.accept_key(make_mocked_request("GET", "/", headers)) == RFC_ACCEPT


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(asked(without="Connection"), id="no Connection"),
        pytest.param(asked(Connection="keep-alive"), id="another Connection"),
        pytest.param(asked(Connection="upgraded"), id="nearly"),
        pytest.param(asked(without="Sec-WebSocket-Version"), id="no version"),
        pytest.param(asked(Sec_WebSocket_Version="12"), id="another version"),
        pytest.param(asked(without="Sec-WebSocket-Key"), id="no key"),
        pytest.param(asked(Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25j"), id="a short key"),
        pytest.param(asked(Sec_WebSocket_Key=RFC_KEY[:-1] + "!"), id="no base64"),
        pytest.param(asked(Sec_WebSocket_Key="ü"), id="no ASCII"),
        pytest.param(asked(version=HttpVersion10), id="HTTP/1.0"),
    ],
)
def test_what_is_no_upgrade_is_refused(request_: web.Request) -> None:
    with pytest.raises(web.HTTPBadRequest):
        handshake.accept_key(request_)


def test_the_answer_is_what_the_rfc_says() -> None:
    answer = handshake.answer(RFC_ACCEPT, None, web.Response())

    assert answer == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n"
    )


def test_the_answer_names_the_subprotocol() -> None:
    answer = handshake.answer(RFC_ACCEPT, "switchboard.v1", web.Response())

    assert b"\r\nSec-WebSocket-Protocol: switchboard.v1\r\n" in answer


def test_the_answer_sets_each_cookie_on_a_line_of_its_own() -> None:
    cookies = web.Response()
    cookies.set_cookie("a", "1", httponly=True, samesite="Lax")
    cookies.set_cookie("b", "2", secure=True)

    lines = handshake.answer(RFC_ACCEPT, None, cookies).decode().split("\r\n")

    assert lines[4:] == [
        "Set-Cookie: a=1; HttpOnly; Path=/; SameSite=Lax",
        "Set-Cookie: b=2; Path=/; Secure",
        "",
        "",
    ]


async def test_frames_that_come_with_the_upgrade_are_heard_first(board: Switchboard) -> None:
    frames = frame(PING, b"1") + frame(PING, b"2") + frame(PING, b"3")
    for cut in (1, 6, 8, len(frames)):
        async with link(board) as raw:
            raw.writer.write(upgrade() + frames[:cut])
            await head(raw)
            raw.writer.write(frames[cut:])

            assert [await raw.receive() for _ in range(3)] == [
                (PONG, b"1"), (PONG, b"2"), (PONG, b"3")
            ]  # fmt: skip


async def test_a_client_may_say_all_and_leave_with_its_upgrade(board: Switchboard) -> None:
    async with link(board) as raw:
        raw.writer.write(upgrade() + frame(TEXT, b'{"message": "hi"}') + frame(CLOSE, b"\x03\xe8"))
        await head(raw)

        assert await raw.receive() == (CLOSE, b"\x03\xe8")
        await raw.ended()
    assert await board.metric("switchboard_closes_total", code="1000") == 1


async def test_requests_before_an_upgrade_on_the_same_link_are_answered_first(
    board: Switchboard,
) -> None:
    async with link(board) as raw:
        raw.writer.write(LIVE + LIVE + upgrade() + frame(PING, b"p"))

        for _ in range(2):
            assert (await head(raw)).startswith(b"HTTP/1.1 200 ")
            await raw.reader.readexactly(len('{"live":true}'))
        assert (await head(raw)).startswith(b"HTTP/1.1 101 ")
        assert await raw.receive() == (PONG, b"p")


async def test_a_request_behind_an_upgrade_is_no_frame(board: Switchboard) -> None:
    async with link(board) as raw:
        raw.writer.write(upgrade() + LIVE)
        await head(raw)

        assert await raw.close_code() == 1002


async def test_a_link_whose_upgrade_was_refused_can_be_used_on(board: Switchboard) -> None:
    async with link(board) as raw:
        raw.writer.write(upgrade().replace(b"13", b"12") + LIVE)

        assert (await head(raw)).startswith(b"HTTP/1.1 400 ")
        await raw.reader.readuntil(b"}")
        assert (await head(raw)).startswith(b"HTTP/1.1 200 ")


async def test_an_old_http_is_refused(board: Switchboard) -> None:
    async with link(board) as raw:
        raw.writer.write(upgrade(version="1.0"))

        assert b" 400 " in await head(raw)


CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(LIVE), LIVE)


@pytest.mark.parametrize(
    ("more", "body"),
    [
        pytest.param(f"Content-Length: {len(LIVE)}\r\n", LIVE, id="at once"),
        pytest.param("Transfer-Encoding: chunked\r\n", CHUNKED, id="in chunks"),
    ],
)
async def test_an_upgrade_with_a_body_is_refused_and_its_body_is_no_request(
    board: Switchboard, more: str, body: bytes
) -> None:
    async with link(board) as raw:
        raw.writer.write(upgrade(more) + body)
        assert (await head(raw)).startswith(b"HTTP/1.1 400 ")
        assert json.loads(await raw.reader.readuntil(b"}"))["error"] == "bad_request"
        rest = b""
        with suppress(ConnectionResetError):  # for the part that was not read
            rest = await raw.reader.read()

    assert rest == b""
    assert await board.metric("switchboard_opens_total") == 0


async def test_a_peer_that_has_gone_is_not_taken_over() -> None:
    """As far as anybody can tell: its end may still be on its way."""

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        try:
            handshake.take_link(request)
        except web.HTTPBadRequest:
            refused.set()
            raise
        return handshake.HandedOver()

    refused = asyncio.Event()
    app = web.Application(middlewares=[as_json])
    app.router.add_get("/", handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        _, writer = await asyncio.open_connection(*runner.addresses[0][:2])
        writer.write(upgrade())
        await refused.wait()
        writer.transport.abort()
    finally:
        await runner.cleanup()
