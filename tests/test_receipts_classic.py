"""What clients that know nothing of receipts prove all the same, and what they get again."""

import asyncio
import dataclasses
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from struct import pack
from typing import Any, Self

import pytest

from switchboard_operator.limits import Limits
from switchboard_operator.shutdown import drain
from tests.conftest import OpenRaw, Run
from tests.fakes import FakeConcierge
from tests.raw import CLOSE, PING, PONG, TEXT, RawWebSocket
from tests.redis_server import RedisServer, redis_server
from tests.session_api import call, path_of, ready, running, state, user
from tests.switchboards import Switchboard, client_session, eventually

QUICK = Limits(
    redis_pause=0.05,
    redis_settle=0.1,
    receipt_delay=0.02,
    receipt_every=0.05,
    last_receipt=0.1,
    cursor_pause=0.0,
    close=0.2,
    confirm=20.0,
)


@pytest.fixture
def limits() -> Limits:
    return QUICK


@pytest.fixture
async def board(run: Run) -> AsyncIterator[Switchboard]:
    async with run() as started:
        yield started


class Phone:
    """A classic client that answers nothing unless it is told to."""

    def __init__(self, raw: RawWebSocket) -> None:
        self.raw = raw
        self.numbers: list[int] = []
        self.pings: list[bytes] = []
        self.close_code: int | None = None
        self._looked_at = 0  # pings that were asked for

    async def has(self, count: int) -> list[int]:
        """Read until *count* postbacks have come; return the numbers of all."""
        await self._read_until(lambda: len(self.numbers) >= count)
        return self.numbers

    async def next_ping(self) -> bytes:
        """Return the payload of the next ping."""
        await self._read_until(lambda: len(self.pings) > self._looked_at)
        self._looked_at += 1
        return self.pings[self._looked_at - 1]

    async def ping(self, payload: str) -> None:
        """Read until a ping with this payload comes."""
        while await self.next_ping() != payload.encode():
            pass

    async def pong(self, payload: str | bytes) -> None:
        await self.raw.send(PONG, payload.encode() if isinstance(payload, str) else payload)

    async def proves(self, payload: str) -> None:
        """Answer a ping once one with this payload comes."""
        await self.ping(payload)
        await self.pong(payload)

    async def closed(self) -> int:
        """Read until a Close frame comes; return its code."""
        await self._read_until(lambda: self.close_code is not None)
        return self.close_code or 0

    async def ended(self) -> None:
        """Read until the link is let go of."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            await self._read_until(lambda: False)

    async def end(self) -> None:
        """Let go of the link in good order, but without a Close frame."""
        self.raw.writer.write_eof()
        await self.ended()

    async def reset(self) -> None:
        """Have the kernel reset the link."""
        linger = pack("ii", 1, 0)
        self.raw.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self.raw.abort()

    async def _read_until(self, there: Callable[[], bool]) -> None:
        while not there():
            opcode, payload = await self.raw.receive()
            if opcode == TEXT:
                self.numbers.append(number_in(payload))
            elif opcode == PING:
                self.pings.append(payload)
            elif opcode == CLOSE:
                self.close_code = int.from_bytes(payload[:2], "big")


def number_in(text: bytes) -> int:
    return int(text.partition(b'"n":')[2].partition(b",")[0].rstrip(b"}"))


class Users:
    """Opens sockets of one user after the other."""

    def __init__(self, open_raw: OpenRaw) -> None:
        self.session = user()
        self._open_raw = open_raw

    async def connect(self, board: Switchboard, **options: Any) -> Phone:
        return Phone(await self._open_raw(board.url, f"/?session={self.session}", **options))

    async def gone(self, board: Switchboard) -> None:
        """Wait until no socket of the user is known."""

        async def none() -> bool:
            return not (await state(board, self.session))["sockets"]

        await eventually(none)

    async def cursor(self, board: Switchboard) -> str:
        return str((await state(board, self.session))["cursor"])

    async def proven(self, board: Switchboard, name: str) -> None:
        """Wait until the cursor is at *name*."""

        async def there() -> bool:
            return await self.cursor(board) == name

        await eventually(there)

    async def post(self, board: Switchboard, *numbers: int) -> list[str]:
        """Post a postback for each of *numbers*; return their ids."""
        names = []
        for number in numbers:
            answer = await board.postback({"to": self.session, "n": number})
            names.append(answer.headers["Switchboard-Message-Id"])
        return names


@pytest.fixture
def mine(open_raw: OpenRaw) -> Users:
    return Users(open_raw)


def quick(**other: Any) -> Limits:
    return dataclasses.replace(QUICK, **other)


# Pings


async def test_a_ping_after_postbacks_carries_the_id_of_the_last_one_written(
    board: Switchboard, mine: Users
) -> None:
    phone = await mine.connect(board)

    names = await mine.post(board, 1, 2, 3)
    await phone.ping(names[-1])

    assert phone.numbers == [1, 2, 3]
    assert set(phone.pings) <= {name.encode() for name in names}


@pytest.mark.slow
async def test_a_ping_waits_a_moment_for_more_to_come(run: Run, mine: Users) -> None:
    async with run(quick(receipt_delay=2)) as board:
        phone = await mine.connect(board)
        began = time.monotonic()
        await mine.post(board, 1)
        await phone.has(1)

        last = (await mine.post(board, 2))[-1]
        first = await phone.next_ping()

        assert first == last.encode()
        assert time.monotonic() - began > 1.9


@pytest.mark.slow
async def test_pings_for_receipts_are_not_sent_more_often_than_allowed(
    run: Run, mine: Users
) -> None:
    async with run(quick(receipt_delay=0.0, receipt_every=0.5)) as board:
        phone = await mine.connect(board)
        began, number, last = time.monotonic(), 0, ""

        while time.monotonic() - began < 1.7:
            number += 1
            [last] = await mine.post(board, number)
            await phone.has(number)
        await phone.ping(last)

        assert 2 <= len(phone.pings) <= 1 + (time.monotonic() - began) / 0.5


@pytest.mark.slow
async def test_a_ping_after_a_silence_carries_the_last_id_too(run: Run, mine: Users) -> None:
    async with run(quick(heartbeat=0.2)) as board:
        phone = await mine.connect(board)
        first = await phone.next_ping()
        await phone.pong(first)

        [name] = await mine.post(board, 1)
        await phone.proves(name)
        await mine.proven(board, name)

        assert first == b""
        assert await phone.next_ping() == name.encode()


# Pongs


async def test_a_pong_moves_the_cursor_to_its_id_and_not_beyond(
    board: Switchboard, mine: Users
) -> None:
    phone = await mine.connect(board)
    names = await mine.post(board, 1)
    await phone.ping(names[0])
    names += await mine.post(board, 2)
    await phone.ping(names[1])
    assert await mine.cursor(board) == ""

    await phone.pong(names[0])  # it answers the ping before the latest
    await mine.proven(board, names[0])
    await phone.pong(names[1])
    await mine.proven(board, names[1])


async def test_a_pong_that_nobody_asked_for_may_be_of_any_bytes_and_proves_nothing(
    board: Switchboard, mine: Users
) -> None:
    phone = await mine.connect(board)
    names = await mine.post(board, 1, 2)
    await phone.has(2)
    epoch = names[0].partition(":")[0]

    made_up = ["", "junk", f"{epoch}:3", f"{epoch}:999999999999999", f"{epoch}:0", f"{epoch}:-1",
               f"{epoch}:1:2", f"{epoch}0:2", "zzz:1", ":2", f"{epoch}:", "x" * 125]  # fmt: skip
    for payload in made_up:
        await phone.pong(payload)
    for raw in (b"\xff\xfe\x00", f"{epoch}:".encode() + "٢".encode()):
        await phone.pong(raw)
    await phone.pong(names[0])

    await mine.proven(board, names[0])
    [last] = await mine.post(board, 3)
    await phone.proves(last)
    await mine.proven(board, last)


@pytest.mark.slow
async def test_a_pong_with_an_id_that_was_not_written_yet_proves_nothing(
    run: Run, mine: Users
) -> None:
    async with run(quick(mailbox_bytes=10**8)) as board:
        phone = await mine.connect(board, receive_buffer=4096)
        names = []
        for number in range(60):  # more than the kernel takes for a client that does not read
            answer = await board.postback({"to": mine.session, "n": number, "x": "x" * 100_000})
            names.append(answer.headers["Switchboard-Message-Id"])

        await phone.pong(names[-1])
        await phone.pong(names[0])
        await mine.proven(board, names[0])

        assert await phone.has(60) == list(range(60))
        await phone.pong(names[-1])
        await mine.proven(board, names[-1])


async def test_a_pong_with_an_id_of_an_epoch_that_is_over_proves_nothing(
    board: Switchboard, mine: Users
) -> None:
    phone = await mine.connect(board)
    [old] = await mine.post(board, 1)
    await phone.ping(old)
    await call(board, "DELETE", path_of(mine.session))
    names = await mine.post(board, 2, 3)
    await phone.has(3)

    await phone.pong(old)
    await phone.pong(names[0])

    await mine.proven(board, names[0])
    assert old.partition(":")[0] != names[0].partition(":")[0]


@pytest.mark.slow
async def test_only_the_latest_ping_need_be_answered(run: Run, mine: Users) -> None:
    async with run(quick(pong=2)) as board:
        phone = await mine.connect(board)
        [first] = await mine.post(board, 1)
        await phone.ping(first)
        [second] = await mine.post(board, 2)

        await phone.proves(second)
        await mine.proven(board, second)
        await asyncio.sleep(2.5)  # more than either ping had

        await mine.post(board, 3)
        assert await phone.has(3) == [1, 2, 3]


@pytest.mark.slow
async def test_a_client_that_answers_every_other_ping_stays(run: Run, mine: Users) -> None:
    async with run(quick(heartbeat=0.2, pong=2.0)) as board:
        phone = await mine.connect(board)
        began = time.monotonic()

        while time.monotonic() - began < 5:
            await phone.next_ping()
            await phone.pong(await phone.next_ping())

        await mine.post(board, 1)
        assert await phone.has(1) == [1]


@pytest.mark.slow
@pytest.mark.parametrize("heartbeat", [0.2, 25.0])
async def test_a_client_that_answers_none_is_cut_off_and_has_proven_nothing(
    run: Run, mine: Users, heartbeat: float
) -> None:
    async with run(quick(heartbeat=heartbeat, pong=0.5)) as board:
        phone = await mine.connect(board)
        began = time.monotonic()
        await mine.post(board, 1)

        await phone.ended()

        assert time.monotonic() - began >= 0.5
        assert phone.pings
        assert phone.close_code is None
        await mine.gone(board)
        assert await mine.cursor(board) == ""


async def test_of_two_sockets_the_furthest_proof_counts(board: Switchboard, mine: Users) -> None:
    here, there = await mine.connect(board), await mine.connect(board)
    names = await mine.post(board, 1, 2, 3, 4)
    await here.has(4)
    await there.has(4)

    await here.pong(names[0])
    await mine.proven(board, names[0])
    await there.pong(names[2])
    await mine.proven(board, names[2])
    await here.pong(names[1])
    await here.raw.send(TEXT, b"not JSON")  # its answer says that the pong was taken
    while (await here.raw.receive())[0] != TEXT:
        pass
    assert await mine.cursor(board) == names[2]
    await here.pong(names[3])
    await mine.proven(board, names[3])


@pytest.mark.slow
async def test_of_two_sockets_on_two_instances_the_furthest_proof_counts(
    concierge: FakeConcierge, redis: RedisServer, mine: Users
) -> None:
    async with (
        running(concierge, redis.url, QUICK) as first,
        running(concierge, redis.url, QUICK) as second,
    ):
        here, there = await mine.connect(first), await mine.connect(second)
        names = await mine.post(first, 1, 2, 3)
        await here.has(3)
        await there.has(3)

        await there.pong(names[2])
        await mine.proven(first, names[2])
        await here.pong(names[0])
        await here.reset()
        await mine.post(first, 4)
        await there.reset()
        await mine.gone(second)

        assert await mine.cursor(second) == names[2]
        assert await (await mine.connect(second)).has(1) == [4]


@pytest.mark.slow
async def test_a_cursor_that_moves_while_redis_is_away_is_stored_when_it_is_back(
    concierge: FakeConcierge, mine: Users
) -> None:
    async with redis_server() as own, running(concierge, own.url, QUICK) as board:
        phone = await mine.connect(board)
        names = await mine.post(board, 1, 2)
        await phone.has(2)
        own.freeze()

        await phone.pong(names[0])
        await phone.pong(names[1])
        own.thaw()
        await ready(board)

        await mine.proven(board, names[1])


# Ends


async def test_a_close_frame_of_the_client_proves_all_that_was_written(
    board: Switchboard, mine: Users
) -> None:
    phone = await mine.connect(board)
    names = await mine.post(board, 1, 2)
    await phone.has(2)

    await phone.raw.send(CLOSE, pack("!H", 1000))

    assert await phone.closed() == 1000
    await mine.proven(board, names[1])


async def test_the_answer_to_our_close_frame_proves_all_that_was_written(
    run: Run, mine: Users
) -> None:
    async with run(quick(close=60.0)) as board:
        assert board.app is not None
        phone = await mine.connect(board)
        names = await mine.post(board, 1, 2)
        await phone.has(2)
        draining = asyncio.create_task(drain(board.app))
        assert await phone.closed() == 1012
        assert await mine.cursor(board) == ""

        await phone.raw.send(CLOSE, pack("!H", 1012))
        await draining

        assert await mine.cursor(board) == names[1]


async def test_a_replaced_client_that_answers_has_proven_what_it_has(run: Run, mine: Users) -> None:
    async with run(quick(sockets_per_session=1, close=60.0)) as board:
        phone = await mine.connect(board)
        names = await mine.post(board, 1, 2)
        await phone.has(2)
        another = await mine.connect(board)
        assert await phone.closed() == 4003

        await phone.raw.send(CLOSE, pack("!H", 4003))

        await mine.proven(board, names[1])
        another.raw.abort()


@pytest.mark.parametrize("ending", [Phone.end, Phone.reset])
async def test_the_end_of_a_link_proves_nothing(
    board: Switchboard, mine: Users, ending: Callable[[Phone], Any]
) -> None:
    phone = await mine.connect(board)
    await mine.post(board, 1, 2)
    await phone.has(2)

    await ending(phone)
    await mine.gone(board)

    assert await mine.cursor(board) == ""
    assert await (await mine.connect(board)).has(2) == [1, 2]


async def test_an_end_in_the_middle_of_our_closing_proves_nothing(
    board: Switchboard, mine: Users
) -> None:
    assert board.app is not None
    phone = await mine.connect(board)
    await mine.post(board, 1, 2)
    await phone.has(2)
    draining = asyncio.create_task(drain(board.app))
    await phone.closed()

    await phone.end()
    await draining

    assert await mine.cursor(board) == ""


# Coming back


@pytest.mark.parametrize("ending", [Phone.end, Phone.reset])
async def test_a_client_that_comes_back_gets_exactly_what_it_has_not_proven(
    board: Switchboard, mine: Users, ending: Callable[[Phone], Any]
) -> None:
    phone = await mine.connect(board)
    names = await mine.post(board, 1, 2, 3)
    await phone.has(3)
    await phone.pong(names[1])
    await mine.proven(board, names[1])
    await ending(phone)
    await mine.gone(board)
    await mine.post(board, 4, 5)

    again = await mine.connect(board)
    await again.has(3)
    await mine.post(board, 6)

    assert await again.has(4) == [3, 4, 5, 6]


async def test_a_client_that_closed_gets_only_what_came_after(
    board: Switchboard, mine: Users
) -> None:
    phone = await mine.connect(board)
    await mine.post(board, 1, 2)
    await phone.has(2)
    await phone.raw.send(CLOSE, pack("!H", 1000))
    await phone.closed()
    await mine.gone(board)
    await mine.post(board, 3)

    again = await mine.connect(board)
    await again.has(1)
    await mine.post(board, 4)

    assert await again.has(2) == [3, 4]


async def test_who_was_never_there_gets_all_that_is_kept_byte_for_byte(
    board: Switchboard, mine: Users
) -> None:
    body = f' {{ "b": 1e400, "to" : "{mine.session}", "n":1, "a": "\\u00e9 é" }}\n'.encode()
    await board.postback(body)

    phone = await mine.connect(board)

    assert await phone.raw.receive() == (TEXT, body)


async def test_more_than_a_page_comes_in_order_without_doubles(
    board: Switchboard, mine: Users
) -> None:
    await board.postback([{"to": mine.session, "n": number} for number in range(90)])

    phone = await mine.connect(board)
    await mine.post(board, *range(90, 100))

    assert await phone.has(100) == list(range(100))


async def test_without_a_mailbox_nothing_is_proven_or_sent_again(run: Run, mine: Users) -> None:
    async with run(MAILBOX_SIZE="0") as board:
        phone = await mine.connect(board)
        await board.postback({"to": mine.session, "n": 1})
        await phone.has(1)
        await phone.end()
        await mine.gone(board)

        again = await mine.connect(board)
        await board.postback({"to": mine.session, "n": 2})

        assert await again.has(1) == [2]
        assert (await state(board, mine.session))["last"] == ""


# Draining

# It asks for no receipt but the last one, and waits for that.
PATIENT = dataclasses.replace(QUICK, receipt_delay=60.0, last_receipt=60.0, close=60.0)


async def test_before_a_socket_is_closed_for_a_restart_it_is_asked_for_a_receipt(
    run: Run, mine: Users
) -> None:
    async with run(PATIENT) as board:
        assert board.app is not None
        phone = await mine.connect(board)
        names = await mine.post(board, 1, 2)
        await phone.has(2)

        draining = asyncio.create_task(drain(board.app))
        asked = await phone.next_ping()
        assert phone.close_code is None
        await phone.pong(asked)
        code = await phone.closed()
        await phone.end()  # without an answer to our Close frame
        await draining

        assert asked == names[1].encode()
        assert code == 1012
        assert await mine.cursor(board) == names[1]


async def test_a_client_that_gives_no_receipt_is_closed_all_the_same(
    board: Switchboard, mine: Users
) -> None:
    assert board.app is not None
    phone = await mine.connect(board)
    await mine.post(board, 1)
    await phone.has(1)

    draining = asyncio.create_task(drain(board.app))

    assert await phone.closed() == 1012
    await phone.end()
    await draining


async def test_a_client_that_has_proven_all_is_not_asked_again_before_it_is_closed(
    run: Run, mine: Users
) -> None:
    async with run(quick(last_receipt=60.0, close=60.0)) as board:
        assert board.app is not None
        phone, stranger = await mine.connect(board), await mine.connect(board)
        [name] = await mine.post(board, 1)
        for each in (phone, stranger):
            await each.proves(name)
        await mine.proven(board, name)
        pings = len(phone.pings)

        draining = asyncio.create_task(drain(board.app))

        assert [await phone.closed(), await stranger.closed()] == [1012, 1012]
        assert len(phone.pings) == pings
        await phone.end()
        await stranger.end()
        await draining


@pytest.mark.slow
async def test_a_client_that_answers_gets_nothing_twice_on_another_instance(
    concierge: FakeConcierge, redis: RedisServer, mine: Users
) -> None:
    async with running(concierge, redis.url, QUICK) as second:
        async with running(concierge, redis.url, PATIENT) as first:
            phone = await mine.connect(first)
            names = await mine.post(first, 1, 2, 3)
            await phone.has(3)
            answering = asyncio.create_task(_prove_and_go(phone, names[-1]))
        await answering
        await mine.post(second, 4)

        again = await mine.connect(second)
        await again.has(1)
        await mine.post(second, 5)

        assert await again.has(2) == [4, 5]


async def _prove_and_go(phone: Phone, name: str) -> None:
    """Answer the ping, but not the Close frame."""
    await phone.proves(name)
    await phone.closed()
    await phone.end()


@pytest.mark.slow
async def test_a_client_that_does_not_answer_loses_nothing_on_another_instance(
    concierge: FakeConcierge, redis: RedisServer, mine: Users
) -> None:
    async with running(concierge, redis.url, QUICK) as second:
        async with running(concierge, redis.url, quick(receipt_delay=60.0)) as first:
            phone = await mine.connect(first)
            await mine.post(first, 1, 2, 3)
            await phone.has(3)
        await phone.ended()
        await mine.post(second, 4)

        again = await mine.connect(second)

        assert await again.has(4) == [1, 2, 3, 4]


class Unmodified:
    """A client of a common library, which keeps reading and comes back wherever it is told."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.codes: list[int | None] = []
        self._client = client_session()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._client.close()

    async def talk(self, board: Switchboard, session: str) -> None:
        """Read until the socket is closed."""
        async with self._client.ws_connect(f"{board.url}/", params={"session": session}) as ws:
            async for message in ws:
                self.numbers.append(number_in(message.data.encode()))
            self.codes.append(ws.close_code)


@pytest.mark.slow
async def test_an_unmodified_client_misses_nothing_and_gets_nothing_twice_in_a_rolling_restart(
    concierge: FakeConcierge, redis: RedisServer, mine: Users
) -> None:
    patient = quick(last_receipt=10.0, close=10.0)
    async with Unmodified() as client:
        number = 0
        for _ in range(4):
            async with running(concierge, redis.url, patient) as board:
                talking = asyncio.create_task(client.talk(board, mine.session))
                for _ in range(10):
                    number += 1
                    await mine.post(board, number)
                await eventually(lambda: number in client.numbers)  # noqa: B023 - awaited at once
                number += 1
                await mine.post(board, number)  # may or may not arrive before the end
            await talking
        async with running(concierge, redis.url, patient) as board:
            talking = asyncio.create_task(client.talk(board, mine.session))
            number += 1
            await mine.post(board, number)
            await eventually(lambda: number in client.numbers)
        await talking

    assert client.numbers == list(range(1, number + 1))
    assert client.codes == [1012] * 5
