"""The Concierge's door: what is taken, what is refused, over real sockets."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import pytest
from aiohttp.client import ClientWebSocketResponse
from msgspec import json

from switchboard_operator.limits import KIB, Limits
from tests.fakes import FakeConcierge
from tests.switchboards import (
    SESSION,
    Switchboard,
    signed,
    switchboard,
    switchboard_process,
    variables,
)
from tests.test_signatures import FORGERIES, signed_request

TO: Final = f'"to":"{SESSION}"'
GOOD: Final = f'{{{TO},"body":"good"}}'.encode()
UNAUTHORIZED: Final = {"error": "unauthorized", "detail": "the signature is not valid"}


# Both ways in: plain requests past aiohttp, and all of them through it


@pytest.fixture(
    params=[
        pytest.param(Limits().doorstep_bytes, id="doorstep"),
        pytest.param(0, id="aiohttp", marks=pytest.mark.slow),
    ]
)
def limits(request: pytest.FixtureRequest) -> Limits:
    return Limits(doorstep_bytes=request.param)


@pytest.fixture
async def board(concierge: FakeConcierge, limits: Limits) -> AsyncIterator[Switchboard]:
    async with switchboard(concierge.url, limits) as started:
        yield started


# Requests byte by byte, as no client library would send them


@dataclass(frozen=True)
class Answer:
    """An HTTP response as it came."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    @property
    def content(self) -> Any:
        return json.decode(self.body)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@asynccontextmanager
async def raw_link(
    board: Switchboard,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Connect to *board* without any client library."""
    host, port = board.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    status_line, *lines = head.strip().split("\r\n")
    headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
    answer = Answer(int(status_line.split()[1]), headers, b"")
    length = int((answer.all("Content-Length") or ["0"])[0])
    return Answer(answer.status, headers, await reader.readexactly(length))


async def exchange(board: Switchboard, request: bytes) -> Answer:
    """Send *request* as it is; return the answer."""
    async with raw_link(board) as (reader, writer):
        writer.write(request)
        return await read_answer(reader)


def request_bytes(
    target: str,
    headers: Sequence[tuple[str, str]] | dict[str, str],
    body: bytes,
    length: int | None = None,
) -> bytes:
    """Return a POST; *length* is what it says of its body, if not the truth."""
    pairs = headers.items() if isinstance(headers, dict) else headers
    lines = [f"POST {target} HTTP/1.1", "Host: switchboard"]
    lines += [f"{name}: {value}" for name, value in pairs]
    lines += [f"Content-Length: {len(body) if length is None else length}", "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body


def postback_bytes(body: bytes) -> bytes:
    """Return a signed POST of *body*."""
    return request_bytes("/", signed(body), body)


async def first_delivery(board: Switchboard, socket: ClientWebSocketResponse) -> str:
    """Send a good postback; return the first frame on *socket*, which nothing may precede."""
    answer = await board.postback(GOOD)
    assert answer.status == 204
    return await socket.receive_str()


# What is taken


@pytest.mark.parametrize(
    "body",
    [
        f'{{{TO},"body":"Hi é🐶"}}',
        f'\r\n\t {{ "z" : 1 ,\n  {TO} , "a" : [ ] }} \n',
        f'{{"z":1,"a":{{"y":1,"b":2}},{TO},"c":3}}',
        rf'{{{TO},"body":"\u0048\u00e9\/\ud83d\udc36\"\\"}}',
        rf'{{"\u0074o":"\u0037{SESSION[1:]}","body":"x"}}',
        f'{{{TO},"n":123456789012345678901234567890,"f":1.10,"e":1E400,"z":-0}}',
        f'{{{TO},"body":"one","body":"two"}}',
        f'{{{TO},"html":"<script>alert(1)</script>","nul":"\\u0000","del":"\x7f\u2028"}}',
        f'{{{TO},"type":"event","name":"n","payload":"{{\\"a\\": 1}}"}}',
        f"{{{TO}}}",
    ],
    ids=[
        "text",
        "white space",
        "order of keys",
        "escapes",
        "escaped to",
        "numbers",
        "repeated key",
        "odd characters",
        "JSON in a string",
        "nothing but to",
    ],
)
async def test_a_postback_is_delivered_byte_for_byte(board: Switchboard, body: str) -> None:
    socket = await board.connect()

    answer = await board.postback(body.encode())

    assert answer.status == 204
    assert (await socket.receive_str()).encode() == body.encode()


async def test_a_postback_for_nobody_is_taken_and_reaches_nobody_else(board: Switchboard) -> None:
    socket = await board.connect()

    answer = await board.postback({"to": "somebody-else", "body": "private"})

    assert answer.status == 204
    assert await first_delivery(board, socket) == GOOD.decode()


@pytest.mark.parametrize("session", ["x", "a" * 128, "s1." + "0" * 32, "A.z_9:@+/=-"])
async def test_every_valid_session_can_be_addressed(board: Switchboard, session: str) -> None:
    answer = await board.postback({"to": session})

    assert answer.status == 204


async def test_the_items_of_an_array_are_delivered_in_order_each_byte_for_byte(
    board: Switchboard,
) -> None:
    socket = await board.connect()
    items = [f'{{ {TO}, "n": {number}.0 }}' for number in range(5)]

    answer = await board.postback(f" [ {' , '.join(items)} ] ".encode())

    assert answer.status == 204
    assert [await socket.receive_str() for _ in items] == items


async def test_the_items_of_an_array_may_be_for_several_users(board: Switchboard) -> None:
    alice, bob = await board.connect("alice"), await board.connect("bob")

    answer = await board.postback([{"to": "bob", "n": 1}, {"to": "alice", "n": 2}])

    assert answer.status == 204
    assert await alice.receive_str() == '{"to":"alice","n":2}'
    assert await bob.receive_str() == '{"to":"bob","n":1}'


async def test_1000_postbacks_fit_into_an_array(board: Switchboard) -> None:
    socket = await board.connect()
    items = [{"to": SESSION, "n": number} for number in range(1000)]

    answer = await board.postback(items)

    assert answer.status == 204
    assert [json.decode(await socket.receive_str()) for _ in items] == items
    assert await board.metric("switchboard_postbacks_total", outcome="confirmed") == 1000


def padded(size: int) -> bytes:
    """Return a postback of *size* bytes."""
    start = f'{{{TO},"body":"'.encode()
    return start + b"x" * (size - len(start) - 2) + b'"}'


async def test_the_longest_postback_is_delivered(board: Switchboard) -> None:
    socket = await board.connect()

    answer = await board.postback(padded(100 * KIB))

    assert answer.status == 204
    assert (await socket.receive_str()).encode() == padded(100 * KIB)


async def test_max_postback_bytes_bounds_a_postback(
    concierge: FakeConcierge, limits: Limits
) -> None:
    async with switchboard(concierge.url, limits, MAX_POSTBACK_BYTES="200") as board:
        fits, too_long = await board.postback(padded(200)), await board.postback(padded(201))

        assert (fits.status, too_long.status) == (204, 413)


async def test_an_array_of_exactly_4_mib_fits(board: Switchboard) -> None:
    item = b'{"to":"nobody","x":"' + b"x" * (80 * KIB) + b'"}'
    array = b"[" + b",".join([item] * 51) + b"]"

    answer = await exchange(board, postback_bytes(array.ljust(4096 * KIB)))

    assert answer.status == 204


async def test_a_chunked_body_is_taken(board: Switchboard) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield GOOD[:10]
        yield GOOD[10:]

    socket = await board.connect()

    async with board.client.post(f"{board.url}/", data=chunks(), headers=signed(GOOD)) as answer:
        assert answer.status == 204

    assert await socket.receive_str() == GOOD.decode()


async def test_a_query_is_part_of_what_is_signed(board: Switchboard) -> None:
    target = "/?a=%2f&b=%C3%A9&&c=+1"

    answer = await exchange(board, request_bytes(target, signed(GOOD, target), GOOD))

    assert answer.status == 204


async def test_identity_is_no_encoding(board: Switchboard) -> None:
    answer = await board.postback(GOOD, headers={"Content-Encoding": "Identity"})

    assert answer.status == 204


@pytest.mark.parametrize("secret", ["new", "old"])
async def test_either_of_two_secrets_may_sign(
    concierge: FakeConcierge, limits: Limits, secret: str
) -> None:
    async with switchboard(
        concierge.url, limits, CONCIERGE_POSTBACK_SECRET_KEY="new, old"
    ) as board:
        answer = await board.postback(GOOD, headers=signed(GOOD, secret=secret))

        assert answer.status == 204


@pytest.mark.parametrize(("switch", "status"), [("0", 401), ("1", 204)])
async def test_an_old_gem_is_taken_only_if_md5_is_accepted(
    concierge: FakeConcierge, limits: Limits, switch: str, status: int
) -> None:
    async with switchboard(concierge.url, limits, CONCIERGE_ACCEPT_MD5=switch) as board:
        answer = await exchange(board, forged("hash of the old kind"))

        assert answer.status == status


# What is refused: signatures


def forged(forgery: str) -> bytes:
    """Return what a forger makes of a postback that was signed a moment ago."""
    request = FORGERIES[forgery][0](signed_request(now=datetime.now(UTC)))
    return request_bytes(request.target, request.headers, request.body)


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_or_broken_request_gets_401_and_delivers_nothing(
    board: Switchboard, forgery: str
) -> None:
    alice, mallory = await board.connect("alice"), await board.connect("mallory")
    cause = FORGERIES[forgery][1]

    answer = await exchange(board, forged(forgery))
    good = await board.postback([{"to": "alice", "n": 1}, {"to": "mallory", "n": 1}])

    assert (answer.status, answer.content) == (401, UNAUTHORIZED)
    assert answer.all("Content-Type") == ["application/json"]
    assert await board.metric("switchboard_signature_failures_total", cause=cause) == 1
    assert await board.metric("switchboard_postbacks_total", outcome="unauthorized") == 1
    assert good.status == 204
    assert await alice.receive_str() == '{"to":"alice","n":1}'
    assert await mallory.receive_str() == '{"to":"mallory","n":1}'


# What is refused: bodies, each of them correctly signed

BAD_BODIES: Final[dict[str, bytes | str]] = {
    "empty": "",
    "white space": " \r\n",
    "no JSON": "to=alice&body=hi",
    "byte-order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "invalid UTF-8": GOOD[:-2] + b'\xff"}',
    "surrogate in UTF-8": GOOD[:-2] + b'\xed\xa0\x80"}',
    "overlong UTF-8": GOOD[:-2] + b'\xc0\xaf"}',
    "lone surrogate": f'{{{TO},"body":"\\ud800"}}',
    "surrogates swapped": f'{{{TO},"body":"\\udc36\\ud83d"}}',
    "NaN": f'{{{TO},"n":NaN}}',
    "Infinity": f'{{{TO},"n":-Infinity}}',
    "leading zero": f'{{{TO},"n":01}}',
    "number without digits": f'{{{TO},"n":1.}}',
    "plus sign": f'{{{TO},"n":+1}}',
    "control character": f'{{{TO},"body":"a\nb"}}',
    "unknown escape": f'{{{TO},"body":"\\x41"}}',
    "trailing comma": f"{{{TO},}}",
    "trailing comma in an array": f"[{{{TO}}},]",
    "single quotes": f"{{'to':'{SESSION}'}}",
    "comment": f"{{{TO}/**/}}",
    "two objects": f"{{{TO}}}{{{TO}}}",
    "something after": f"{{{TO}}} x",
    "something after an array": f"[{{{TO}}}] x",
    "cut off": f'{{{TO},"body":"Hi',
    "array cut off": f"[{{{TO}}}",
    "form feed before": f"\f{{{TO}}}",
    "null": "null",
    "number": "1",
    "string": f'"{SESSION}"',
    "array of arrays": f"[[{{{TO}}}]]",
    "array of nulls": "[null]",
    "empty array": "[]",
    "no to": '{"body":"Hi"}',
    "To": f'{{"To":"{SESSION}"}}',
    "to null": '{"to":null}',
    "to a number": '{"to":1}',
    "to an array": f'{{"to":["{SESSION}"]}}',
    "to empty": '{"to":""}',
    "to too long": '{"to":"' + "a" * 129 + '"}',
    "to with a space": '{"to":"a b"}',
    "to with a line end": f'{{"to":"{SESSION}\\n"}}',
    "to not ASCII": '{"to":"josé"}',
    "to of ours": '{"to":"~probe.1"}',
    "to a lone surrogate": '{"to":"\\ud800"}',
    "to twice, once a number": f'{{"to":1,{TO}}}',
    "nested deeply": f'{{{TO},"a":' + "[" * 100_000,
    "array nested deeply": "[" * 100_000 + "]" * 100_000,
    "objects nested deeply": f'{{{TO},"a":' + '{"":' * 20_000,
    "1001 items": "[" + ",".join([f"{{{TO}}}"] * 1001) + "]",
    "one bad item, the first": f'[{{"body":"Hi"}},{{{TO}}}]',
    "one bad item, the last": f"[{{{TO}}},{{{TO}}},null]",
    "one badly written item": f'[{{{TO}}},{{{TO},"n":NaN}}]',
}


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_malformed_body_gets_400_and_delivers_nothing(
    board: Switchboard, name: str
) -> None:
    socket = await board.connect()
    body = BAD_BODIES[name]

    answer = await board.postback(body if isinstance(body, bytes) else body.encode())

    content = await answer.json()
    assert (answer.status, content["error"]) == (400, "bad_postback")
    assert set(content) == {"error", "detail"}
    assert content["detail"]
    assert await board.metric("switchboard_postbacks_total", outcome="bad_postback") == 1
    assert await first_delivery(board, socket) == GOOD.decode()


@pytest.mark.parametrize(
    "body",
    [
        padded(100 * KIB + 1),
        b"[" + GOOD + b"," + padded(100 * KIB + 1) + b"]",
        (b"[" + GOOD + b"]").ljust(4096 * KIB + 1),
        padded(4096 * KIB + 1),
    ],
    ids=["single", "item", "array", "single beyond an array"],
)
async def test_a_body_that_is_too_large_gets_413_and_delivers_nothing(
    board: Switchboard, body: bytes
) -> None:
    socket = await board.connect()

    answer = await exchange(board, postback_bytes(body))

    assert (answer.status, answer.content["error"]) == (413, "too_large")
    assert await first_delivery(board, socket) == GOOD.decode()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
async def test_an_encoded_body_gets_415(board: Switchboard, encoding: str) -> None:
    socket = await board.connect()
    body = gzip.compress(GOOD)

    answer = await board.postback(body, headers={"Content-Encoding": encoding})

    assert (answer.status, (await answer.json())["error"]) == (415, "content_encoding")
    assert await first_delivery(board, socket) == GOOD.decode()


@pytest.mark.slow
async def test_a_body_that_stops_half_way_gets_408(
    concierge: FakeConcierge, limits: Limits
) -> None:
    half = request_bytes("/", signed(GOOD), GOOD[: len(GOOD) // 2], length=len(GOOD))
    async with switchboard(concierge.url, replace(limits, body=0.2)) as board:
        socket = await board.connect()

        answer = await exchange(board, half)

        assert (answer.status, answer.content["error"]) == (408, "body_late")
        assert await first_delivery(board, socket) == GOOD.decode()


async def test_a_sender_that_hangs_up_half_way_delivers_nothing(board: Switchboard) -> None:
    socket = await board.connect()
    async with raw_link(board) as (_, writer):
        writer.write(request_bytes("/", signed(GOOD), GOOD, length=len(GOOD) + 1))
        await writer.drain()

    assert await first_delivery(board, socket) == GOOD.decode()


# The rest of the surface


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_another_method_gets_405_with_those_allowed(board: Switchboard, method: str) -> None:
    async with board.client.request(method, f"{board.url}/") as answer:
        content = await answer.json()

        assert (answer.status, content["error"]) == (405, "method_not_allowed")
        assert set(content) == {"error", "detail"}
        assert set(answer.headers["Allow"].split(",")) == {"GET", "HEAD", "POST"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("POST", "/nothing"),
        ("GET", "/%ff"),
        ("GET", "//"),
        ("POST", "/x/..%2f"),
    ],
)
async def test_an_unknown_path_gets_404(board: Switchboard, method: str, path: str) -> None:
    answer = await exchange(board, f"{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())

    assert (answer.status, answer.content["error"]) == (404, "not_found")
    assert set(answer.content) == {"error", "detail"}


@pytest.mark.parametrize("expectation", ["nonsense", "\udcff"], ids=["unknown", "no text"])
async def test_an_expectation_that_nobody_can_meet_gets_417(
    board: Switchboard, expectation: str
) -> None:
    request = request_bytes("/", signed(GOOD) | {"Expect": expectation}, GOOD)

    answer = await exchange(board, request)

    assert (answer.status, answer.all("Content-Type")) == (417, ["application/json"])
    assert answer.content["error"] == "expectation_failed"


async def test_a_sender_that_waits_to_be_asked_for_the_body_is_asked(board: Switchboard) -> None:
    head = request_bytes("/", signed(GOOD) | {"Expect": "100-continue"}, b"", length=len(GOOD))
    async with raw_link(board) as (reader, writer):
        writer.write(head)
        asked = await read_answer(reader)
        writer.write(GOOD)
        answer = await read_answer(reader)

    assert (asked.status, answer.status) == (100, 204)


BAD_HTTP: Final[dict[str, bytes]] = {
    "garbage": b"\x00\x01\x02\xff\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32) + b"\r\n\r\n",
    "unknown version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "method with a blank": b"PO ST / HTTP/1.1\r\nHost: x\r\n\r\n",
    "header without colon": b"POST / HTTP/1.1\r\nHost: x\r\nMARKER-HEADER\r\n\r\n",
    "header name with a blank": b"POST / HTTP/1.1\r\nHost: x\r\nMARKER HEADER: 1\r\n\r\n",
    "header with a NUL": b"POST / HTTP/1.1\r\nHost: x\r\nX: MARKER\0HEADER\r\n\r\n",
    "oversize header": b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"MARKER" * 20_000 + b"\r\n\r\n",
    "oversize target": b"POST /?" + b"MARKER" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: x\r\nHost: MARKER\r\n\r\n",
    "two content types": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: MARKER\r\n"
    b"Content-Type: MARKER\r\n\r\n",
    "target not ASCII": "POST /?MARKER=é HTTP/1.1\r\nHost: x\r\n\r\n".encode(),
    "length no number": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: MARKER\r\n\r\n",
    "length negative": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "length and chunks": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk without size": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"MARKER\r\n",
    "chunk of a wrong size": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3\r\nMARKER\r\n0\r\n\r\n",
}


async def test_what_is_not_http_gets_400_and_no_traceback(concierge: FakeConcierge) -> None:
    environment = variables(concierge.url, LOG_LEVEL="debug")
    async with switchboard_process(environment) as board:
        statuses = {name: (await exchange(board, data)).status for name, data in BAD_HTTP.items()}
        live = await board.get("/live")

    assert statuses == dict.fromkeys(BAD_HTTP, 400)
    assert live[0] == 200
    output = "\n".join(board.output)
    assert "bad HTTP request" in output
    assert "Traceback" not in output
    assert "MARKER" not in output


async def test_the_log_holds_no_secret_body_or_query(concierge: FakeConcierge) -> None:
    keys = {
        "CONCIERGE_POSTBACK_SECRET_KEY": "MARKER-SHARED-KEY",
        "SWITCHBOARD_SECRET_KEY": "MARKER-COOKIE-KEY",
        "METRICS_TOKEN": "MARKER-METRICS-TOKEN",
    }
    body = b'{"to":"alice","body":"MARKER-BODY"}'
    target = "/?token=MARKER-QUERY"
    good = signed(body, target, "MARKER-SHARED-KEY")
    bad_body = b'{"to":"MARKER BODY"}'
    requests = [
        request_bytes(target, good, body),
        request_bytes(target, good | {"Authorization": "APIAuth MARKER-ID:MARKER"}, body),
        request_bytes(target, signed(body, target), body),
        request_bytes(target, signed(bad_body, target, "MARKER-SHARED-KEY"), bad_body),
        request_bytes(target, good | {"Content-Encoding": "MARKER"}, body),
        request_bytes("/nothing?token=MARKER-QUERY", good, body),
    ]
    environment = variables(concierge.url, LOG_LEVEL="debug") | keys

    async with switchboard_process(environment) as board:
        statuses = [(await exchange(board, request)).status for request in requests]

    assert statuses == [204, 401, 401, 400, 415, 404]
    output = "\n".join(board.output)
    assert len(re.findall("signature refused", output)) == 2
    assert "MARKER" not in output
