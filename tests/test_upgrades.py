"""Upgrades past aiohttp: answered as through it, and all that is unusual left to it."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

import pytest

from switchboard_operator.limits import Limits
from switchboard_operator.plain_http import Upgrade, Verdict, recognise_upgrade
from tests.fakes import FakeConcierge
from tests.switchboards import SESSION, Switchboard, eventually, switchboard

KEY: Final = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, section 1.3 …
ACCEPT: Final = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # … and its answer
LINES: Final = (
    "Host: x",
    "Upgrade: websocket",
    "Connection: Upgrade",
    "Sec-WebSocket-Version: 13",
    f"Sec-WebSocket-Key: {KEY}",
)
V1: Final = "Sec-WebSocket-Protocol: switchboard.v1"


def upgrade(
    *more: str, target: str = f"/?session={SESSION}", lines: tuple[str, ...] = LINES
) -> bytes:
    """Return an upgrade with *more* lines at its head."""
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, *more, "", ""]).encode("latin-1")


def without(name: str, *instead: str) -> tuple[str, ...]:
    """Return the usual lines but for the one with *name*, which *instead* takes the place of."""
    return (*(line for line in LINES if not line.startswith(name)), *instead)


@pytest.mark.parametrize(
    ("request_", "session"),
    [
        pytest.param(upgrade(), SESSION, id="as most clients write it"),
        pytest.param(upgrade(target="/"), "", id="no session"),
        pytest.param(upgrade(target="/?session=a.b_c:d@e/f=g-"), "a.b_c:d@e/f=g-", id="all signs"),
        pytest.param(
            upgrade(lines=without("Connection", "Connection: keep-alive, Upgrade")),
            SESSION,
            id="Firefox",
        ),
        pytest.param(
            upgrade(lines=without("Upgrade", "upgrade: WebSocket")), SESSION, id="other cases"
        ),
        pytest.param(upgrade(V1, "Origin: https://a.example"), SESSION, id="more lines"),
    ],
)
def test_an_upgrade_is_recognised(request_: bytes, session: str) -> None:
    found = recognise_upgrade(request_ + b"early")

    assert isinstance(found, Upgrade)
    assert found.session == session
    assert found.size == len(request_)


NOT_PLAIN: Final = {
    "a cookie": upgrade("Cookie: a=b"),
    "a body": upgrade("Content-Length: 0"),
    "a chunked body": upgrade("Transfer-Encoding: chunked"),
    "an expectation": upgrade("Expect: 100-continue"),
    "a repeated header": upgrade("Host: y"),
    "no host": upgrade(lines=without("Host")),
    "no key": upgrade(lines=without("Sec-WebSocket-Key")),
    "a short key": upgrade(lines=without("Sec-WebSocket-Key", "Sec-WebSocket-Key: c2hvcnQ=")),
    "a long key": upgrade(lines=without("Sec-WebSocket-Key", f"Sec-WebSocket-Key: A{KEY}")),
    "a key with bits to spare": upgrade(
        lines=without("Sec-WebSocket-Key", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAB==")
    ),
    "no version": upgrade(lines=without("Sec-WebSocket-Version")),
    "version 8": upgrade(lines=without("Sec-WebSocket-Version", "Sec-WebSocket-Version: 8")),
    "version 12": upgrade(lines=without("Sec-WebSocket-Version", "Sec-WebSocket-Version: 12")),
    "another protocol": upgrade(lines=without("Upgrade", "Upgrade: h2c")),
    "no Connection": upgrade(lines=without("Connection")),
    "Connection: close": upgrade(lines=without("Connection", "Connection: close")),
    "a plus sign": upgrade(target="/?session=a+b"),
    "a percent sign": upgrade(target="/?session=a%2Bb"),
    "two sessions": upgrade(target="/?session=a&session=b"),
    "another parameter": upgrade(target=f"/?x=1&session={SESSION}"),
    "an empty session": upgrade(target="/?session="),
    "a session that is too long": upgrade(target=f"/?session={'a' * 129}"),
    "a fragment": upgrade(target="/?session=a#b"),
    "another path": upgrade(target=f"/chat?session={SESSION}"),
    "an absolute target": upgrade(target=f"http://x/?session={SESSION}"),
    "HTTP/1.0": upgrade().replace(b"HTTP/1.1", b"HTTP/1.0", 1),
    "HEAD": upgrade().replace(b"GET", b"HEAD", 1),
    "a bare line feed": upgrade().replace(b"\r\nUpgrade", b"\nUpgrade", 1),
    "a folded line": upgrade(" folded"),
    "a tab": upgrade("X:\tx"),
    "a space before the colon": upgrade("X : x"),
    "no space after it": upgrade("X:x"),
    "a null byte": upgrade("X: a\0b"),
    "no ASCII": upgrade("X: \xe9"),
    "half a head": upgrade()[:-2],
    "a head that is too long": upgrade("X: " + "x" * 8192),
}


@pytest.mark.parametrize("name", NOT_PLAIN)
def test_anything_else_is_not_recognised(name: str) -> None:
    assert recognise_upgrade(NOT_PLAIN[name]) is Verdict.OTHER


# The answers, next to those of aiohttp


@pytest.fixture
async def both(concierge: FakeConcierge) -> AsyncIterator[tuple[Switchboard, Switchboard]]:
    """Return a switchboard with doorsteps, and one without."""
    allowed = "https://a.example"
    async with (
        switchboard(concierge.url, ALLOWED_ORIGINS=allowed, ALLOW_CLIENT_SESSIONS="1") as quick,
        switchboard(concierge.url, Limits(doorstep_bytes=0), ALLOWED_ORIGINS=allowed) as plain,
    ):
        yield quick, plain


async def answer_of(board: Switchboard, request: bytes) -> tuple[bytes, bytes]:
    """Return the head of the answer, without what differs each time, and what follows."""
    address = urlsplit(board.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    rest = b""
    if head.startswith(b"HTTP/1.1 101"):
        rest = await reader.readexactly(3)
    writer.transport.abort()
    head = re.sub(rb"(?i)\r\n(?:Date|Set-Cookie): [^\r]*", b"", head)
    return head, rest


PING: Final = b"\x89\x81\0\0\0\0p"  # with the answer of which the socket shows that it is open
SAME: Final = {
    **{name: request + PING for name, request in NOT_PLAIN.items() if "half" not in name},
    "plain": upgrade() + PING,
    "plain, of v1": upgrade(V1) + PING,
    "of v1, without a session": upgrade(V1, target="/") + PING,
    "of v1 and another": upgrade("Sec-WebSocket-Protocol: chat, switchboard.v1") + PING,
    "of another format": upgrade("Sec-WebSocket-Protocol: chat") + PING,
    "classic, without a session": upgrade(target="/") + PING,
    "from an origin that may": upgrade("Origin: https://a.example") + PING,
    "from one that may not": upgrade("Origin: https://b.example") + PING,
    "from our own": upgrade("Origin: https://x") + PING,
    "a session minted here": upgrade(target=f"/?session=s1.{'0' * 32}") + PING,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAME)
async def test_the_answers_are_those_of_aiohttp(
    both: tuple[Switchboard, Switchboard], name: str
) -> None:
    quick, plain = [await answer_of(board, SAME[name]) for board in both]

    assert quick == plain
    if name.startswith("plain"):
        assert b"Sec-WebSocket-Accept: " + ACCEPT in quick[0]
        assert quick[1] == b"\x8a\x01p"


async def test_one_after_a_postback_on_the_same_link_is_taken_too(board: Switchboard) -> None:
    from tests.test_doorstep import reply  # noqa: PLC0415 - that module has tests of its own

    head, rest = await answer_of(board, reply(1) + upgrade() + PING)

    assert head.startswith(b"HTTP/1.1 204")
    assert rest == b""


@pytest.mark.parametrize("room", ["0", "1"])
async def test_a_place_is_taken_and_given_back(concierge: FakeConcierge, room: str) -> None:
    async with switchboard(concierge.url, MAX_CONNECTIONS=room) as board:
        for _ in range(3):
            first = await board.connect()
            head, _ = await answer_of(board, upgrade(target="/?session=other") + PING)
            await first.close()

            async def is_empty() -> bool:
                return await board.metric("switchboard_connections", wire="classic") == 0

            await eventually(is_empty)
            assert head.startswith(b"HTTP/1.1 503" if room == "1" else b"HTTP/1.1 101")
