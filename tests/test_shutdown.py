"""SIGTERM: every socket told, every message delivered, exit 0 in time."""

import asyncio
import signal

import pytest
from aiohttp import WSServerHandshakeError
from aiohttp.client import ClientWebSocketResponse

from switchboard_operator.limits import Limits
from switchboard_operator.shutdown import drain
from tests.conftest import OpenRaw
from tests.fakes import FakeConcierge, Incoming
from tests.raw import BINARY, PING, TEXT, frame
from tests.switchboards import SESSION, switchboard, switchboard_process, variables

TARGET = f"/?session={SESSION}"
SLACK = 5.0  # seconds that a busy machine may take for what is done at once


@pytest.mark.slow
async def test_sigterm_closes_sockets_with_1012_and_delivers_what_is_in_flight(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    """200 sockets, 20 messages under way, one client that reads nothing, three signals."""
    released = concierge.hold()
    async with switchboard_process(variables(concierge.url)) as board:
        assert board.process is not None
        sockets = [await board.connect(f"session-number-{number:03}") for number in range(200)]
        deaf = await open_raw(board.url, TARGET, receive_buffer=4096)
        for number in range(40):
            await board.postback({"to": SESSION, "n": number, "body": "x" * 100_000})
        for socket in sockets[:20]:
            await socket.send_json({"message": "in flight"})
        await concierge.has_received(20)

        for _ in range(3):
            board.process.send_signal(signal.SIGTERM)
        codes = []
        for socket in sockets:
            await socket.receive()
            codes.append(socket.close_code)
        released.set()

        assert codes == [1012] * 200
        assert await asyncio.wait_for(board.process.wait(), 60) == 0
        await deaf.ended()
    assert len(concierge.accepted) == 20
    assert "Traceback" not in "\n".join(board.output)


@pytest.mark.slow
async def test_sigterm_finds_sockets_in_every_state_and_ends_in_time(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard_process(variables(concierge.url, RATE_LIMIT="0")) as board:
        assert board.process is not None
        idle, half_a_frame, refused, broken, talking, half_closed, deaf = [
            await open_raw(board.url, f"/?session=session-number-{number}", receive_buffer=4096)
            for number in range(7)
        ]
        stranger = await open_raw(board.url, "/", "Sec-WebSocket-Protocol: switchboard.v1\r\n")
        half_a_frame.writer.write(frame(TEXT, b"x" * 1000)[:500])
        await refused.send(BINARY)
        broken.writer.write(b"\x83\x80aaaa")  # an opcode that is none
        half_closed.writer.write_eof()
        for number in range(40):
            await board.postback({"to": "session-number-6", "n": number, "body": "x" * 100_000})
        for _ in range(20_000):
            deaf.write(PING, b"and answers none of it")
        for number in range(500):
            talking.write(TEXT, b'{"message": "%d"}' % number)
        await concierge.has_received(1)

        board.process.send_signal(signal.SIGTERM)
        told = await asyncio.gather(
            *(raw.close_code() for raw in (idle, half_a_frame, refused, broken, talking, stranger))
        )

        assert told == [1012, 1012, 1003, 1002, 1012, 1012]
        assert await asyncio.wait_for(board.process.wait(), 60) == 0
        for raw in (half_closed, deaf):
            await raw.ended()
    said = [int(one.content["Body"]) for one in concierge.accepted]
    assert said == list(range(500))
    assert "Traceback" not in "\n".join(board.output)


@pytest.mark.slow
async def test_sockets_are_closed_spread_over_the_time_set_for_it(
    concierge: FakeConcierge,
) -> None:
    async with switchboard(concierge.url, DRAIN_SECONDS="6", PRE_DRAIN_SECONDS="1") as board:
        assert board.app is not None
        sockets = [await board.connect(f"session-number-{number:03}") for number in range(100)]
        began = asyncio.get_running_loop().time()

        async def closed_at(socket: ClientWebSocketResponse) -> float:
            async for _ in socket:
                pass  # until the Close frame
            assert socket.close_code == 1012
            return asyncio.get_running_loop().time() - began

        draining = asyncio.create_task(drain(board.app))
        closed = asyncio.gather(*(closed_at(socket) for socket in sockets))
        assert (await board.get("/live"))[0] == 503  # at once, while sockets still work
        await board.postback({"to": "session-number-000", "body": "not closed yet"})
        moments = sorted(await closed)
        await draining

    assert moments[0] >= 0.95
    quarters = [sum(1.5 * n <= moment - 1 < 1.5 * (n + 1) for moment in moments) for n in range(4)]
    assert min(quarters) >= 10


async def test_what_a_client_says_before_it_sees_our_close_is_delivered(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard(concierge.url) as board:
        raw = await open_raw(board.url, TARGET)
        assert board.app is not None
        draining = asyncio.create_task(drain(board.app))
        assert await raw.close_code() == 1012

        raw.write(TEXT, b'{"message": "crossed your Close"}')
        raw.write(0x8, b"\x03\xf4")
        [incoming] = await concierge.has_accepted(1)
        await draining

    assert incoming.content["Body"] == "crossed your Close"


@pytest.mark.slow
async def test_a_client_that_does_not_read_or_answer_does_not_delay_the_exit_beyond_20_s(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    concierge.hold()
    async with switchboard_process(variables(concierge.url, CONCIERGE_TIMEOUT="60")) as board:
        assert board.process is not None
        deaf = await open_raw(board.url, TARGET, receive_buffer=4096)
        for number in range(40):
            await board.postback({"to": SESSION, "n": number, "body": "x" * 100_000})
        await deaf.send(TEXT, b'{"message": "never answered"}')
        await concierge.has_received(1)
        began = asyncio.get_running_loop().time()

        board.process.send_signal(signal.SIGTERM)

        assert await asyncio.wait_for(board.process.wait(), 60) == 0
        assert asyncio.get_running_loop().time() - began < 20 + SLACK
    assert any("not delivered" in line and "messages=1" in line for line in board.output)
    assert "Traceback" not in "\n".join(board.output)


@pytest.mark.slow
async def test_while_draining_health_says_so_upgrades_are_refused_and_postbacks_taken(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard(concierge.url, Limits(close=60)) as board:
        raw = await open_raw(board.url, TARGET)  # does not answer the Close, so draining lasts
        assert board.app is not None
        draining = asyncio.create_task(drain(board.app))
        assert await raw.close_code() == 1012

        statuses = [(await board.get(path))[0] for path in ("/live", "/ready")]
        postback = await board.postback({"to": SESSION, "body": "to the end"})
        with pytest.raises(WSServerHandshakeError) as refused:
            await board.connect()

        assert statuses == [503, 503]
        assert postback.status == 204
        assert refused.value.status == 503
        assert not draining.done()
        raw.abort()
        await draining


async def test_retries_stop_when_draining(concierge: FakeConcierge) -> None:
    async def refuse(_incoming: Incoming) -> int:
        return 503

    concierge.answer = refuse
    limits = Limits(retry_first=30, retry_longest=30)
    async with switchboard(concierge.url, limits) as board:
        socket = await board.connect()
        await socket.send_json({"message": "refused"})
        await concierge.has_received(1)
        await socket.close()
        began = asyncio.get_running_loop().time()

    assert asyncio.get_running_loop().time() - began < 12  # the end did not wait for the back-off


async def test_a_socket_that_is_not_read_for_want_of_room_does_not_delay_the_end(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async def refuse(_incoming: Incoming) -> int:
        return 503

    concierge.answer = refuse
    limits = Limits(uplink_queue=2, parked_frames=2, retry_first=30, retry_longest=30, close=0.2)
    async with switchboard(concierge.url, limits, RATE_LIMIT="0") as board:
        raw = await open_raw(board.url, TARGET)
        for number in range(50):
            raw.write(TEXT, b'{"message": "%d"}' % number)
        await concierge.has_received(1)
        began = asyncio.get_running_loop().time()

    assert asyncio.get_running_loop().time() - began < 12
    assert len(concierge.received) >= 50  # each had its one try


async def test_parked_messages_are_delivered_before_the_end(
    concierge: FakeConcierge,
) -> None:
    limits = Limits(rate_burst=1, close=0.5)
    async with switchboard(concierge.url, limits, RATE_LIMIT="1") as slow:
        socket = await slow.connect()
        for number in range(20):
            await socket.send_json({"message": str(number)})
        await concierge.has_received(1)
        await socket.close()

    accepted = [incoming.content["Body"] for incoming in concierge.accepted]
    assert accepted == [str(number) for number in range(20)]
