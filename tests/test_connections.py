"""Sockets as seen from the side that writes: slow readers, vanished peers, the table."""

import asyncio
import gc
import itertools
import json
import weakref
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from aiohttp import web

from switchboard_operator import frames
from switchboard_operator.broker.memory_mailbox import MemoryMailbox
from switchboard_operator.connection import Connection
from switchboard_operator.connections import Connections
from switchboard_operator.ending import Ending
from switchboard_operator.limits import Limits
from switchboard_operator.mailbox import MailboxRules, Page
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery
from switchboard_operator.replay import Mailbox, Replay
from switchboard_operator.web import keys
from switchboard_operator.web.conversation import Conversation
from switchboard_operator.web.deadline import Deadline
from switchboard_operator.web.doorstep import Doorstep
from switchboard_operator.web.heartbeat import Heartbeat
from switchboard_operator.web.websocket import WebSocket
from tests.conftest import OpenRaw
from tests.fakes import FakeConcierge
from tests.raw import BINARY, CLOSE, PING, PONG, TEXT
from tests.switchboards import SESSION, Switchboard, eventually, switchboard

TARGET = f"/?session={SESSION}"
SMALL = 4096  # bytes of receive buffer: a client that does not read is soon full


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


class FakeSocket:
    """Records what is sent; stands for a peer that can be made to take nothing."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes | int]] = []
        self.full = False
        self.waiting = 0  # bytes
        self.released = False
        self.aborted = False

    def send(self, frames: Sequence[bytes]) -> None:
        self.sent += (("text", frame) for frame in frames)

    def ping(self, payload: bytes) -> None:
        self.sent.append(("ping", payload))

    def pong(self, payload: bytes) -> None:
        self.sent.append(("pong", payload))

    def close(self, code: int) -> None:
        self.sent.append(("close", code))

    def release(self) -> None:
        self.released = True

    def abort(self) -> None:
        self.aborted = True

    def unsent(self) -> int:
        return self.waiting


def texts(socket: FakeSocket) -> list[bytes]:
    """Return the text frames that were sent on *socket*."""
    return [said for kind, said in socket.sent if kind == "text" and isinstance(said, bytes)]


def pings(socket: FakeSocket) -> list[bytes]:
    """Return the payloads of the pings that were sent on *socket*."""
    return [said for kind, said in socket.sent if kind == "ping" and isinstance(said, bytes)]


RULES = MailboxRules(
    size=100,
    lifetime=60,
    state_lifetime=60,
    once_lifetime=60,
    most_bytes=1_000_000,
    page=20,
    page_bytes=256 * 1024,
)


def connection_on(socket: FakeSocket, limits: Limits, mailbox: Mailbox | None = None) -> Connection:
    """Return a connection of SESSION on *socket*, on the classic wire."""
    connection = Connection(socket, frames.CLASSIC, mailbox or MemoryMailbox(RULES), limits)
    connection.join(SESSION, after=None)
    return connection


def take_nothing(socket: FakeSocket, connection: Connection) -> None:
    """Have the peer take nothing more from now on."""
    socket.full, socket.waiting = True, 100_000
    connection.filled()


def take_all(socket: FakeSocket, connection: Connection) -> None:
    """Have the peer take all there is."""
    socket.full, socket.waiting = False, 0
    connection.drained()


async def cursor(mailbox: MemoryMailbox) -> int:
    """Return the number of the last postback that is proven."""
    page = await mailbox.read(SESSION, None)
    assert page is not None
    return page.cursor


async def test_what_waits_on_a_line_is_sent_in_order_control_frames_first() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits())
    take_nothing(socket, connection)

    connection.offer(b"1")
    connection.offer(b"2")
    connection.ping()
    connection.pong(b"q")
    connection.close(1012)
    take_all(socket, connection)

    assert socket.sent == [
        ("pong", b"q"), ("ping", b""), ("text", b"1"), ("text", b"2"), ("close", 1012)
    ]  # fmt: skip


async def test_what_a_peer_takes_is_sent_at_once() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits())

    connection.offer(b"1")

    assert socket.sent == [("text", b"1")]
    assert connection.waiting == 0


async def test_only_the_latest_ping_of_a_peer_is_answered() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits())
    take_nothing(socket, connection)

    connection.pong(b"old")
    connection.pong(b"new")
    connection.close(1000)
    take_all(socket, connection)

    assert socket.sent == [("pong", b"new"), ("close", 1000)]


async def test_a_closing_connection_takes_no_more_and_keeps_its_first_code() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits())

    connection.close(1012)
    connection.close(1000)

    assert not connection.offer(b"too late")
    assert socket.sent == [("close", 1012)]


async def test_what_is_in_no_mailbox_and_does_not_fit_closes_with_4101() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits(outbox_frames=2))
    take_nothing(socket, connection)

    assert connection.deliver(Delivery(SESSION, b"1", None))
    assert connection.deliver(Delivery(SESSION, b"2", None))
    assert not connection.deliver(Delivery(SESSION, b"3", None))
    take_all(socket, connection)

    assert socket.sent == [("close", 4101)]


async def test_postbacks_leave_room_for_answers() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits(outbox_frames=2))
    take_nothing(socket, connection)
    for number in range(2):
        connection.deliver(Delivery(SESSION, b"%d" % number, None))

    assert connection.offer(b"ack")
    assert connection.offer(b"ack")
    assert not connection.offer(b"a client that asks on and on and reads nothing")
    assert connection.close_code == 4101


async def test_a_peer_that_takes_nothing_is_cut_off_after_the_stall() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits(stall=0.05))
    take_nothing(socket, connection)

    await eventually(lambda: socket.aborted)

    assert connection.close_code == 4101


@pytest.mark.slow
async def test_a_slow_peer_that_takes_something_is_not_cut_off() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits(stall=3))
    connection.offer(b"1")
    take_nothing(socket, connection)
    connection.offer(b"2")

    for _ in range(9):
        await asyncio.sleep(0.6)  # a fifth of what it may take for each
        socket.waiting -= 1
    take_all(socket, connection)
    await asyncio.sleep(3.2)  # it has taken all, so nothing can stall

    assert not socket.aborted
    assert socket.sent == [("text", b"1"), ("text", b"2")]


async def test_a_peer_that_closes_its_side_gets_what_is_unsent_but_not_for_ever() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits(close=0.05))
    take_nothing(socket, connection)

    connection.ended_by_peer()
    assert not socket.aborted
    await eventually(lambda: socket.aborted)

    assert connection.close_code == 1006


async def test_who_closed_first_does_not_matter_the_link_is_let_go_after_both_close_frames() -> (
    None
):
    ours, theirs = FakeSocket(), FakeSocket()
    closing, closed = connection_on(ours, Limits()), connection_on(theirs, Limits())

    closing.close(1012)
    assert not ours.released
    closing.closed_by_peer(1012)
    closed.closed_by_peer(1000)
    await eventually(lambda: theirs.released and ours.released)

    assert ours.sent == [("close", 1012)]
    assert theirs.sent == [("close", 1000)]


async def written_to(socket: FakeSocket, mailbox: MemoryMailbox) -> Connection:
    """Return a connection on which a postback has been written."""
    connection = connection_on(socket, Limits(), mailbox)
    connection.deliver(Delivery(SESSION, b"{}", mailbox.add(SESSION, b"{}")))
    await eventually(lambda: bool(texts(socket)))
    return connection


async def test_a_peer_that_has_said_its_last_gets_no_more_of_what_waits() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits())
    take_nothing(socket, connection)
    connection.offer(b"1")

    connection.closed_by_peer(1000)
    take_all(socket, connection)

    assert socket.sent == [("close", 1000)]


async def test_a_close_with_receipt_asks_for_it_and_goes_out_when_it_comes() -> None:
    socket, mailbox = FakeSocket(), MemoryMailbox(RULES)
    connection = await written_to(socket, mailbox)

    connection.close(1012, receipt=True)
    [ping] = pings(socket)
    assert socket.sent[-1] == ("ping", ping)
    connection.ponged(ping)
    await eventually(lambda: socket.sent[-1] == ("close", 1012))

    assert await cursor(mailbox) == 1


async def test_a_close_proves_what_has_left_us() -> None:
    socket, mailbox = FakeSocket(), MemoryMailbox(RULES)
    connection = await written_to(socket, mailbox)

    connection.closed_by_peer(1000)

    assert connection.receipts.complete
    assert await cursor(mailbox) == 1


async def test_a_close_that_crosses_with_what_has_not_left_us_proves_nothing() -> None:
    socket, mailbox = FakeSocket(), MemoryMailbox(RULES)
    connection = await written_to(socket, mailbox)
    socket.waiting = 1

    connection.closed_by_peer(1000)

    assert await cursor(mailbox) == 0


async def test_nor_does_one_that_crosses_with_ours() -> None:
    socket, mailbox = FakeSocket(), MemoryMailbox(RULES)
    connection = await written_to(socket, mailbox)
    socket.waiting = 1
    connection.close(1012)

    connection.closed_by_peer(1000)

    assert socket.sent[-1] == ("close", 1012)
    assert await cursor(mailbox) == 0


async def test_a_second_close_proves_no_more_than_the_first() -> None:
    socket, mailbox = FakeSocket(), MemoryMailbox(RULES)
    connection = await written_to(socket, mailbox)
    socket.waiting = 1
    connection.closed_by_peer(1000)
    socket.waiting = 0

    connection.closed_by_peer(1000)

    assert await cursor(mailbox) == 0


async def test_a_close_that_is_heard_when_the_link_is_lost_proves_what_had_left_us() -> None:
    cursors = []
    for unsent in (0, 1):
        socket, mailbox = FakeSocket(), MemoryMailbox(RULES)
        connection = await written_to(socket, mailbox)
        socket.waiting = unsent
        connection.lost()
        socket.waiting = 0  # a transport that is closed has nothing

        connection.closed_by_peer(1000)

        cursors.append(await cursor(mailbox))

    assert cursors == [1, 0]


async def test_a_session_may_be_joined_though_the_link_is_lost() -> None:
    """What was said with it still counts."""
    socket = FakeSocket()
    connection = Connection(socket, frames.CLASSIC, MemoryMailbox(RULES), Limits())
    connection.lost()

    connection.join(SESSION, after=None)
    connection.fall_behind()

    assert connection.session == SESSION
    assert not connection.deliver(Delivery(SESSION, b"{}", None))
    assert socket.sent == []


async def test_a_peer_that_does_not_answer_our_close_is_cut_off() -> None:
    socket = FakeSocket()
    connection = connection_on(socket, Limits(close=0.05))

    connection.close(1012)
    await eventually(lambda: socket.aborted)

    assert connection.close_code == 1012


async def test_a_bug_in_reading_the_mailbox_ends_the_connection_and_is_not_passed_over() -> None:
    class BuggyMailbox(MemoryMailbox):
        def read(self, session: str, after: Mark | None) -> asyncio.Future[Page | None]:
            bug: asyncio.Future[Page | None] = asyncio.get_running_loop().create_future()
            bug.set_exception(ZeroDivisionError)
            return bug

    socket = FakeSocket()
    connection = Connection(socket, frames.CLASSIC, BuggyMailbox(RULES), Limits())
    bugs: list[Exception] = []
    connection.failed = lambda _, bug: bugs.append(bug)

    connection.join(SESSION, after=None)

    assert socket.aborted
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]


async def test_the_table_unregisters_the_very_connection_that_closed() -> None:
    table = Connections(Limits())
    old, new = (connection_on(FakeSocket(), Limits()) for _ in range(2))
    table.add(old)
    table.add(new)

    table.remove(old)

    assert table.of(SESSION) == (new,)
    assert list(table) == [new]
    assert len(table) == 1
    table.remove(new)
    assert table.of(SESSION) == ()
    await table.emptied()


async def test_a_session_with_too_many_sockets_loses_the_one_silent_for_longest(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard(concierge.url, Limits(sockets_per_session=3, close=0.2)) as board:
        sockets = [await open_raw(board.url, TARGET) for _ in range(3)]
        loop = asyncio.get_running_loop()
        opened_at = loop.time()
        await eventually(lambda: loop.time() > opened_at)  # uvloop's clock ticks by the millisecond
        await sockets[0].send(PING, b"I am here")
        assert await sockets[0].receive() == (PONG, b"I am here")

        newest = await open_raw(board.url, TARGET)
        await board.postback({"to": SESSION, "body": "to three"})

        assert await sockets[1].close_code() == 4003
        for kept in (sockets[0], sockets[2], newest):
            opcode, payload = await kept.receive()
            assert (opcode, json.loads(payload)["body"]) == (TEXT, "to three")


async def test_eight_sockets_of_a_session_are_kept_and_a_ninth_replaces_one(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    sockets = [await open_raw(board.url, TARGET) for _ in range(8)]
    assert await board.metric("switchboard_connections", wire="classic") == 8

    sockets.append(await open_raw(board.url, TARGET))

    assert await sockets[0].close_code() == 4003
    await board.postback({"to": SESSION, "body": "to eight"})
    for kept in sockets[1:]:
        assert (await kept.receive())[0] == TEXT


@pytest.mark.slow
async def test_a_client_that_does_not_read_is_closed_and_nobody_else_waits(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard(concierge.url, Limits(outbox_frames=50, stall=0.5)) as board:
        deaf = await open_raw(board.url, TARGET, receive_buffer=SMALL)
        reader = await board.connect()
        text = "x" * 50_000

        for number in range(300):
            await board.postback({"to": SESSION, "n": number, "body": text})
            assert json.loads(await reader.receive_str())["n"] == number

        async def deaf_is_gone() -> bool:
            return await board.metric("switchboard_closes_total", code="4101") == 1

        await eventually(deaf_is_gone)
        await deaf.ended()


async def test_a_client_that_reads_late_gets_everything_that_fits(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    late = await open_raw(board.url, TARGET, receive_buffer=SMALL)

    await board.postback(
        [{"to": SESSION, "n": number, "body": "x" * 200} for number in range(1000)]
    )
    numbers: list[int] = []
    while len(numbers) < 1000:
        opcode, payload = await late.receive()
        assert opcode in {TEXT, PING}  # which asks for a receipt if this takes long
        if opcode == TEXT:
            numbers.append(json.loads(payload)["n"])

    assert numbers == list(range(1000))


@pytest.mark.slow
@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("wire", ["classic", "v1"])
@pytest.mark.parametrize("end", ["close", "eof", "abort", "refused"])
async def test_of_a_connection_that_is_over_nothing_waits_for_the_collector(
    board: Switchboard, open_raw: OpenRaw, wire: str, end: str
) -> None:
    await board.postback({"to": SESSION, "body": "before"})  # on a link that is kept
    kept = remains()
    header = "Sec-WebSocket-Protocol: switchboard.v1\r\n" if wire == "v1" else ""
    raw = await open_raw(board.url, TARGET, header)
    if wire == "v1":
        await raw.send(TEXT, b'{"type":"open"}')
        assert (await raw.receive())[0] == TEXT
    await board.postback({"to": SESSION, "body": "hello"})
    while (await raw.receive())[0] != PING:  # for a receipt, so that timers have been set
        pass
    assert remains() > kept

    match end:
        case "close":
            await raw.send(CLOSE, b"\x03\xe8")
        case "eof":
            raw.writer.write_eof()
        case "abort":
            raw.abort()
        case _:
            await raw.send(BINARY)
            await raw.send(CLOSE, b"\x03\xeb")

    await eventually(lambda: remains() == kept)


def remains() -> Counter[type]:
    """Count what there is of connections, their upgrades among it."""
    parts = {Connection, Conversation, Deadline, Doorstep, Ending, Heartbeat, Replay, WebSocket}
    there = Counter(map(type, gc.get_objects()))
    return Counter({each: there[each] for each in parts | {web.Request} if there[each]})


@pytest.mark.usefixtures("without_collector")
async def test_nor_of_one_that_is_lost_before_its_mailbox_has_answered() -> None:
    class Greeter:
        """Refers to its connection, as whoever greets for it does."""

        def __init__(self, connection: Connection) -> None:
            self.connection = connection

        def greet(self, _page: Page | None, _lost: int) -> bytes:
            return b"hello"

    class SilentMailbox(MemoryMailbox):
        def read(self, session: str, after: Mark | None) -> asyncio.Future[Page | None]:
            return asyncio.get_running_loop().create_future()

    connection = Connection(FakeSocket(), frames.CLASSIC, SilentMailbox(RULES), Limits())
    greeter = Greeter(connection)
    connection.join(SESSION, None, greeter.greet)
    left = weakref.ref(greeter)

    connection.lost()
    del connection, greeter

    await eventually(lambda: left() is None)


@pytest.mark.slow
async def test_a_client_that_takes_nothing_for_10_s_is_cut_off(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    deaf = await open_raw(board.url, TARGET, receive_buffer=SMALL)
    body = "x" * 100_000
    numbers = itertools.count()
    began = asyncio.get_running_loop().time()
    [connection] = board.app[keys.CONNECTIONS] if board.app is not None else []
    while not connection.waiting:  # until neither kernel nor transport takes more
        await board.postback({"to": SESSION, "n": next(numbers), "body": body})
    full = asyncio.get_running_loop().time()

    async def is_gone() -> bool:
        return await board.metric("switchboard_closes_total", code="4101") == 1

    await eventually(is_gone)

    assert asyncio.get_running_loop().time() - began > 9.5
    assert asyncio.get_running_loop().time() - full < 18
    assert not deaf.reader.at_eof()


@pytest.mark.slow
async def test_no_descriptor_outlives_its_client(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    limits = Limits(heartbeat=1, pong=1, close=0.2, stall=0.2)
    async with switchboard(concierge.url, limits) as board:
        await board.get("/live")
        before = descriptors()
        polite, rude, deaf, silent = [await open_raw(board.url, TARGET) for _ in range(4)]

        await polite.send(CLOSE, b"\x03\xe8")
        rude.abort()
        await deaf.send(TEXT, b"x" * 70_000)  # refused with 1009, and never answers that
        assert await silent.receive() == (PING, b"")

        async def all_gone() -> bool:
            return await board.metric("switchboard_connections", wire="classic") == 0

        await eventually(all_gone)
        for raw in (polite, deaf, silent):
            raw.abort()
        await eventually(lambda: descriptors() <= before)


async def test_pings_and_postbacks_share_one_writer(board: Switchboard, open_raw: OpenRaw) -> None:
    """Frames of several origins, under load, never end up inside one another."""
    raw = await open_raw(board.url, TARGET)

    async def ping() -> None:
        for number in range(200):
            await raw.send(PING, b"%d" % number)

    async def post() -> None:
        for number in range(50):
            await board.postback({"to": SESSION, "n": number, "body": "y" * 20_000})

    numbers: list[int] = []
    async with asyncio.TaskGroup() as both:
        both.create_task(ping())
        both.create_task(post())
        while len(numbers) < 50:
            opcode, payload = await raw.receive()
            assert opcode in {TEXT, PONG, PING}  # which asks for a receipt if this takes long
            if opcode == TEXT:
                numbers.append(json.loads(payload)["n"])

    assert numbers == list(range(50))
