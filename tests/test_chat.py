"""The WebSocket endpoint on the classic wire."""

import asyncio
import json
from struct import pack

import pytest
from aiohttp import WSMsgType

from switchboard_operator.limits import Limits
from tests.conftest import OpenRaw
from tests.fakes import FakeConcierge
from tests.raw import CLOSE, CONTINUATION, PING, PONG, TEXT, RawWebSocket
from tests.switchboards import SESSION, Switchboard, eventually, switchboard

TARGET = f"/?session={SESSION}"

BAD_FRAMES = [
    "",
    " ",
    "hello",
    "{",
    "[]",
    '["message"]',
    "null",
    "1",
    '"message"',
    "{}",
    '{"other": 1}',
    '{"message": 1}',
    '{"message": ["a"]}',
    '{"message": {}}',
    '{"message": true}',
    '{"message": "a",}',
    "{'message': 'a'}",
    '{"message": "a"} {"message": "b"}',
    '{"message": NaN}',
    '{"payload": NaN}',
    '{"payload": [-Infinity]}',
    '{"payload": "\\ud800"}',
    '{"message": "\\udfff"}',
    '{"payload": 01}',
    '{"payload": "\\x41"}',
    '{"payload": "tab\tinside"}',
    '{"payload": undefined}',
    '\ufeff{"message": "a"}',
    '{"payload": ' + "[" * 30_000 + "]" * 30_000 + "}",
    "[" * 60_000,
]


async def test_a_message_reaches_the_concierge_and_its_answer_the_user(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    socket = await board.connect()

    await socket.send_str('{"message": "Hi é🐶", "payload": {"big": 12345678901234567890, "a": 1}}')
    [incoming] = await concierge.has_accepted(1)
    answered = await board.postback({"to": SESSION, "from": "bot", "body": "Hello"})

    assert (
        incoming.body
        == (
            '{"Body":"Hi é🐶","From":"'
            + SESSION
            + '","Payload":{"big": 12345678901234567890, "a": 1}}'
        ).encode()
    )
    assert answered.status == 204
    assert await socket.receive_str() == '{"to":"' + SESSION + '","from":"bot","body":"Hello"}'


@pytest.mark.parametrize(
    ("frame", "body"),
    [
        ('{"message":"a"}', '{"Body":"a","From":"%s"}'),
        ('{"payload":{"z":1,"a":[ ]}}', '{"From":"%s","Payload":{"z":1,"a":[ ]}}'),
        ('{"message":null,"payload":null}', '{"Body":null,"From":"%s","Payload":null}'),
        ('{"message":"","x":{"y":1}}', '{"Body":"","From":"%s"}'),
        ('{"payload":1e400}', '{"From":"%s","Payload":1e400}'),
        (
            '{"message":"Rollback Request","payload":{"type":"rollback","rollback_count":2}}',
            '{"Body":"Rollback Request","From":"%s",'
            '"Payload":{"type":"rollback","rollback_count":2}}',
        ),
    ],
)
async def test_what_the_user_left_out_is_left_out_and_a_payload_is_untouched(
    board: Switchboard, concierge: FakeConcierge, frame: str, body: str
) -> None:
    socket = await board.connect()

    await socket.send_str(frame)
    [incoming] = await concierge.has_accepted(1)

    assert incoming.body.decode() == body % SESSION


async def test_every_bad_frame_is_answered_and_the_socket_lives_on(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    socket = await board.connect()

    for frame in BAD_FRAMES:
        await socket.send_str(frame)
        answer = json.loads(await socket.receive_str())
        assert (answer["type"], answer["code"]) == ("error", "bad_frame"), frame[:50]
        assert answer["body"]
        assert answer["detail"]
    await socket.send_str('{"message": "still here"}')
    [incoming] = await concierge.has_accepted(1)

    assert incoming.content["Body"] == "still here"
    assert await board.metric("switchboard_rejects_total", reason="bad_frame") == len(BAD_FRAMES)


async def test_each_socket_of_a_session_gets_every_postback_and_no_other_session_does(
    board: Switchboard,
) -> None:
    mine = [await board.connect() for _ in range(3)]
    other = await board.connect("another-session-of-somebody")

    for number in range(5):
        await board.postback({"to": SESSION, "body": str(number)})
    await board.postback({"to": "another-session-of-somebody", "body": "yours"})

    for socket in mine:
        bodies = [json.loads(await socket.receive_str())["body"] for _ in range(5)]
        assert bodies == ["0", "1", "2", "3", "4"]
    assert json.loads(await other.receive_str())["body"] == "yours"


async def test_closing_one_socket_of_a_session_leaves_the_others(board: Switchboard) -> None:
    first, second = await board.connect(), await board.connect()

    await first.close()
    await board.postback({"to": SESSION, "body": "for whoever is left"})

    assert "whoever" in await second.receive_str()


async def test_a_binary_frame_is_refused_with_1003(board: Switchboard) -> None:
    socket = await board.connect()

    await socket.send_bytes(b'{"message": "a"}')

    assert (await socket.receive()).type is WSMsgType.CLOSE
    assert socket.close_code == 1003


async def test_text_that_is_not_utf8_is_refused_with_1007(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    raw = await open_raw(board.url, TARGET)

    await raw.send(TEXT, b'{"message": "\xff"}')

    assert await raw.close_code() == 1007


async def test_the_longest_frame_allowed_is_taken(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    socket = await board.connect()
    frame = '{"message": "' + "x" * (65536 - 15) + '"}'
    assert len(frame) == 65536

    await socket.send_str(frame)
    [incoming] = await concierge.has_accepted(1)

    assert len(incoming.content["Body"]) == 65536 - 15


@pytest.mark.parametrize("size", [65537, 1024 * 1024 - 1, 1024 * 1024, 20_000_000])
async def test_a_longer_frame_is_refused_with_1009_however_late_the_client_looks(
    board: Switchboard, concierge: FakeConcierge, size: int, open_raw: OpenRaw
) -> None:
    raw = await open_raw(board.url, TARGET)

    await raw.send(TEXT, b"x" * size)
    await raw.send(TEXT, b'{"message": "after"}')

    assert await raw.close_code() == 1009
    assert concierge.received == []


async def test_a_fragmented_message_is_joined_and_a_ping_between_answered(
    board: Switchboard, concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    raw = await open_raw(board.url, TARGET)

    await raw.send(TEXT, b'{"mess', final=False)
    await raw.send(PING, b"are you there")
    await raw.send(CONTINUATION, b'age": "in pieces"}')
    [incoming] = await concierge.has_accepted(1)

    assert await raw.receive() == (PONG, b"are you there")
    assert incoming.content["Body"] == "in pieces"


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        (pack("!H", 1000), 1000),
        (pack("!H", 3999) + b"bye", 3999),
        (b"", 1000),
        (pack("!H", 1006), 1002),
        (pack("!H", 5000), 1002),
    ],
)
async def test_a_close_frame_is_answered_and_the_link_let_go(
    board: Switchboard, sent: bytes, echoed: int, open_raw: OpenRaw
) -> None:
    raw = await open_raw(board.url, TARGET)

    await raw.send(CLOSE, sent)

    assert await raw.close_code() == echoed
    await raw.ended()


@pytest.mark.parametrize(
    ("first_byte", "payload", "code"),
    [
        pytest.param(0x80 | 0x3, b"", 1002, id="reserved opcode"),
        pytest.param(0xC0 | TEXT, b"{}", 1002, id="reserved bit"),
        pytest.param(0x80 | CONTINUATION, b"{}", 1002, id="continuation of nothing"),
        pytest.param(PING, b"", 1002, id="control frame in pieces"),
        pytest.param(0x80 | PING, b"x" * 126, 1002, id="long control frame"),
        pytest.param(0x80 | CLOSE, b"x", 1002, id="half a close code"),
        pytest.param(0x80 | CLOSE, pack("!H", 1005), 1002, id="close code not for the wire"),
    ],
)
async def test_a_breach_of_the_protocol_closes_the_socket_with_its_code(
    board: Switchboard, first_byte: int, payload: bytes, code: int, open_raw: OpenRaw
) -> None:
    raw = await open_raw(board.url, TARGET)

    size = (
        bytes([0x80 | len(payload)]) if len(payload) < 126 else b"\xfe" + pack("!H", len(payload))
    )
    raw.writer.write(bytes([first_byte]) + size + b"\0\0\0\0" + payload)

    assert await raw.close_code() == code
    await raw.ended()  # nothing more it says could be understood

    async def counted() -> bool:
        return await board.metric("switchboard_closes_total", code=str(code)) == 1

    raw.abort()
    await eventually(counted)


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(400, id="some"),
        pytest.param(3000, id="in the kernel too", marks=pytest.mark.slow),
    ],
)
async def test_what_a_user_said_before_going_away_is_delivered(
    concierge: FakeConcierge, open_raw: OpenRaw, count: int
) -> None:
    released = concierge.hold()
    async with switchboard(concierge.url, RATE_LIMIT="0") as board:
        raw = await open_raw(board.url, TARGET)
        for number in range(count):
            raw.write(TEXT, b'{"message": "%d"}' % number)
        await raw.writer.drain()
        await concierge.has_received(1)

        raw.writer.write_eof()
        released.set()
        accepted = await concierge.has_accepted(count)

    assert [int(incoming.content["Body"]) for incoming in accepted] == list(range(count))


async def test_a_session_ahead_of_its_pace_waits_and_loses_nothing(
    concierge: FakeConcierge,
) -> None:
    async with switchboard(concierge.url, Limits(rate_burst=5), RATE_LIMIT="100") as board:
        socket = await board.connect()
        began = asyncio.get_running_loop().time()

        for number in range(30):
            await socket.send_json({"message": str(number)})
        accepted = await concierge.has_accepted(30)

        assert (
            asyncio.get_running_loop().time() - began >= 0.25
        )  # 25 beyond the burst, 100 a second
    assert [int(incoming.content["Body"]) for incoming in accepted] == list(range(30))


async def test_control_frames_are_answered_while_messages_are_parked(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    released = concierge.hold()
    limits = Limits(uplink_queue=2, parked_frames=8, close=0.2)
    async with switchboard(concierge.url, limits, RATE_LIMIT="0") as board:
        raw = await open_raw(board.url, TARGET)
        for number in range(8):
            raw.write(TEXT, b'{"message": "%d"}' % number)
        await raw.send(PING, b"1")

        assert await raw.receive() == (PONG, b"1")
        assert len(concierge.received) <= 1
        released.set()
        await concierge.has_accepted(8)


@pytest.mark.slow
async def test_a_flooding_client_is_not_read_nor_killed_by_its_own_heartbeat(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    released = concierge.hold()
    limits = Limits(uplink_queue=2, parked_frames=4, heartbeat=0.5, pong=1, close=0.2)
    async with switchboard(concierge.url, limits, RATE_LIMIT="0") as board:
        raw = await open_raw(board.url, TARGET)
        for number in range(20):
            raw.write(TEXT, b'{"message": "%d"}' % number)
        assert await raw.receive() == (PING, b"")
        raw.write(PONG)  # behind the messages, so it is not seen before they are
        await asyncio.sleep(2)  # more than an unanswered ping may take

        talking = asyncio.create_task(first_text(raw))  # from now on it answers pings at once
        released.set()
        accepted = await concierge.has_accepted(20)
        await board.postback({"to": SESSION, "body": "still here"})

        assert len(accepted) == 20
        assert b"still here" in await talking


async def first_text(raw: RawWebSocket) -> bytes:
    """Answer pings until a text comes; return that."""
    while True:
        opcode, payload = await raw.receive()
        if opcode == TEXT:
            return payload
        if opcode == PING:
            raw.write(PONG, payload)


@pytest.mark.slow
async def test_a_client_that_answers_pings_stays_and_one_that_does_not_is_cut_off(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard(concierge.url, Limits(heartbeat=0.3, pong=2)) as board:
        alive = await board.connect()  # this client answers pings while it is read
        listening = asyncio.create_task(alive.receive())
        vanished = await open_raw(board.url, TARGET)

        await vanished.ended()
        await board.postback({"to": SESSION, "body": "still here"})

        assert "still here" in (await listening).data

        async def counted() -> bool:
            return await board.metric("switchboard_closes_total", code="1006") == 1

        await eventually(counted)


async def test_a_flood_of_frames_makes_nobody_else_wait(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    """What is there already is taken in turns with others, not all at once."""
    flooding = await open_raw(board.url, TARGET)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    counting = asyncio.create_task(count_turns())
    for _ in range(20_000):
        flooding.write(PING, b"")
    flooding.write(TEXT, b"the last")
    while (await flooding.receive())[0] != TEXT:
        pass
    counting.cancel()

    assert turns > 500


@pytest.mark.slow
async def test_a_vanished_client_is_gone_within_45_s(board: Switchboard, open_raw: OpenRaw) -> None:
    began = asyncio.get_running_loop().time()
    raw = await open_raw(board.url, TARGET)

    assert await raw.receive() == (PING, b"")
    pinged = asyncio.get_running_loop().time() - began
    await raw.ended()
    ended = asyncio.get_running_loop().time() - began

    assert 24 < pinged < 32
    assert 36 < ended < 45
    assert await board.metric("switchboard_connections", wire="classic") == 0
