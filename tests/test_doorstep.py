"""The doorstep: postbacks past aiohttp, answered as through it, and all else handed over to it."""

import asyncio
import dataclasses
import gc
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from random import Random
from typing import Any, Final

import pytest
import uvloop
from aiohttp import web

from switchboard_operator import app
from switchboard_operator.app import create_app, serving
from switchboard_operator.broker.base import Receipt
from switchboard_operator.broker.memory import MemoryBroker
from switchboard_operator.errors import BrokerFull
from switchboard_operator.limits import KIB, Limits
from switchboard_operator.mailbox import MailboxRules
from switchboard_operator.messages import Postback
from switchboard_operator.plain_http import MOST_HEAD
from switchboard_operator.settings import Settings
from switchboard_operator.web import keys
from switchboard_operator.web.deadline import Deadline
from switchboard_operator.web.doorstep import Doorstep
from switchboard_operator.web.doorsteps import Doorsteps
from tests.brokers import RULES
from tests.fakes import FakeConcierge
from tests.redis_server import redis_server
from tests.switchboards import (
    SESSION,
    Switchboard,
    client_session,
    eventually,
    switchboard,
    switchboard_process,
    variables,
)
from tests.test_postback import Answer, postback_bytes, raw_link, read_answer

pytestmark = pytest.mark.slow  # each runs a switchboard, some two

LAST: Final = b"GET /live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LIVE: Final = b"GET /live HTTP/1.1\r\nHost: x\r\n\r\n"
QUICK: Final = Limits(body=1, doorstep_patience=0.05, keep_alive=2)


def reply(number: int, pad: int = 0) -> bytes:
    """Return a signed request with postback *number* for SESSION."""
    return postback_bytes(reply_body(number, pad))


def reply_body(number: int, pad: int = 0) -> bytes:
    return b'{"to":"%s","n":%d,"pad":"%s"}' % (SESSION.encode(), number, b"x" * pad)


HALF: Final = reply(1)[:-1]

# Brokers that tell which way a postback came, and do as they are told


class Door(MemoryBroker):
    """Knows what was put by a doorstep, and what was published by aiohttp's handler."""

    def __init__(self, rules: MailboxRules = RULES, limits: Limits | None = None) -> None:
        super().__init__(rules, limits or Limits())
        self.put_here: list[bytes] = []
        self.published: list[bytes] = []

    def put(self, postbacks: Sequence[Postback]) -> asyncio.Future[Receipt]:
        self.put_here += [postback.body for postback in postbacks]
        return self.confirm(super().put(postbacks))

    def confirm(self, published: asyncio.Future[Receipt]) -> asyncio.Future[Receipt]:
        return published

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        self.published += [postback.body for postback in postbacks]
        return await super().publish(postbacks)


class SlowDoor(Door):
    """Confirms what was put when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.due: list[asyncio.Future[Receipt]] = []
        self.arrived = asyncio.Event()

    def confirm(self, published: asyncio.Future[Receipt]) -> asyncio.Future[Receipt]:
        self.due.append(asyncio.get_running_loop().create_future())
        self.arrived.set()
        return self.due[-1]


class FullDoor(Door):
    def put(self, postbacks: Sequence[Postback]) -> asyncio.Future[Receipt]:
        raise BrokerFull

    async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
        raise BrokerFull


class BrokenDoor(Door):
    """Has a bug."""

    def put(self, postbacks: Sequence[Postback]) -> asyncio.Future[Receipt]:
        raise RuntimeError("planted")


class BrokenPromise(Door):
    """Has a bug that shows later."""

    def confirm(self, published: asyncio.Future[Receipt]) -> asyncio.Future[Receipt]:
        failed: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        failed.set_exception(RuntimeError("planted"))
        return failed


@asynccontextmanager
async def serving_with(broker: Door, limits: Limits | None = None) -> AsyncIterator[Switchboard]:
    """Run a switchboard in this process on *broker*."""
    made = create_app(Settings.read(variables("http://127.0.0.1:9")), limits)
    made[keys.BROKER] = broker
    async with client_session() as client, serving(made, "127.0.0.1", 0) as url:
        yield Switchboard(url, client, made)


# A connection without a network, for what must come in certain pieces or at certain moments


class Wire(asyncio.Transport):
    """A transport that keeps what is done with it."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.closed = False
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data: Any) -> None:
        self.written += data

    def pause_reading(self) -> None:
        assert self.reading
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    @property
    def statuses(self) -> list[int]:
        return [int(found) for found in re.findall(rb"HTTP/1.1 (\d+) ", self.written)]


class Heir(asyncio.Protocol):
    """Stands where aiohttp would: keeps what it inherits."""

    def __init__(self) -> None:
        self.data = b""
        self.made = False
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made = True

    def data_received(self, data: bytes) -> None:
        assert self.made
        self.data += data

    def pause_writing(self) -> None:
        self.paused = True


@asynccontextmanager
async def doorstep(
    broker: Door, limits: Limits | None = None
) -> AsyncIterator[tuple[Any, Wire, Heir, Switchboard]]:
    """Open a doorstep on *broker*, with nothing around it but stand-ins."""
    async with serving_with(broker, limits) as board:
        assert board.app is not None
        heir, wire = Heir(), Wire()
        doorsteps = Doorsteps(board.app, lambda: heir)
        opened = doorsteps()
        opened.connection_made(wire)
        yield opened, wire, heir, board
        opened.connection_lost(None)


async def turn() -> None:
    """Let callbacks run that are due."""
    for _ in range(3):
        await asyncio.sleep(0)


# Which way a request goes


async def test_a_plain_postback_does_not_go_through_aiohttp() -> None:
    broker = Door()
    async with serving_with(broker) as board:
        async with raw_link(board) as (reader, writer):
            for number in range(3):
                writer.write(reply(number))
                assert (await read_answer(reader)).status == 204

        assert broker.put_here == [reply_body(number) for number in range(3)]
        assert not broker.published


async def test_a_client_library_s_postback_does_not_go_through_aiohttp() -> None:
    broker = Door()
    async with serving_with(broker) as board:
        answer = await board.postback(reply_body(1))

        assert answer.status == 204
        assert broker.put_here == [reply_body(1)]


async def test_with_no_bytes_allowed_everything_goes_through_aiohttp() -> None:
    broker = Door()
    async with serving_with(broker, Limits(doorstep_bytes=0)) as board:
        answer = await board.postback(reply_body(1))

        assert answer.status == 204
        assert broker.published == [reply_body(1)]
        assert not broker.put_here


@pytest.mark.parametrize("size", [64 * KIB, 64 * KIB + 1])
async def test_the_bound_of_a_body(size: int) -> None:
    broker = Door()
    body = reply_body(1, size - len(reply_body(1)))
    async with serving_with(broker) as board:
        answer = await board.postback(body)

        assert answer.status == 204
        assert (broker.put_here, broker.published) == (
            ([body], []) if size == 64 * KIB else ([], [body])
        )


async def test_an_accepted_connection_sends_without_delay(board: Switchboard) -> None:
    found: list[int] = []

    class Look(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            link = transport.get_extra_info("socket")
            found.append(link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    async def look() -> None:
        assert board.app is not None
        before = len(found)
        listening = app._listen(board.app, "127.0.0.1", 0)
        server = await asyncio.get_running_loop().create_server(Look, sock=listening)
        async with server:
            _, writer = await asyncio.open_connection(*listening.getsockname())
            await eventually(lambda: len(found) > before)
            writer.transport.abort()

    def look_from(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(look())

    for new_loop in (asyncio.SelectorEventLoop, uvloop.new_event_loop):
        await asyncio.to_thread(look_from, new_loop)

    assert all(found)
    assert len(found) == 2


# Answers, byte for byte those of aiohttp


def undated(answer: bytes) -> bytes:
    return re.sub(rb"Date: [^\r]*", b"Date: now", answer)


def anonymous(answer: bytes) -> bytes:
    """Return *answer* without what differs from one process to the next."""
    return re.sub(rb"Message-Id: \w+", b"Message-Id: epoch", undated(answer))


async def head_of(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


@pytest.fixture
async def both(concierge: FakeConcierge) -> AsyncIterator[tuple[Switchboard, Switchboard]]:
    """Two switchboards: with a doorstep, and with aiohttp alone."""
    plain = dataclasses.replace(QUICK, doorstep_bytes=0)
    async with switchboard(concierge.url, QUICK) as one, switchboard(concierge.url, plain) as other:
        yield one, other


async def test_the_answers_are_those_of_aiohttp(both: tuple[Switchboard, Switchboard]) -> None:
    answers = []
    once, same = reply(1), reply(2)
    for board in both:
        async with raw_link(board) as (reader, writer):
            for request in (once, same, same):
                writer.write(request)
                answers.append(anonymous(await head_of(reader)))

    assert answers[:3] == answers[3:]
    assert b"Message-Id: epoch:2\r\nSwitchboard-Duplicate: true" in answers[2]


async def test_the_answer_is_dated(board: Switchboard) -> None:
    async with raw_link(board) as (reader, writer):
        writer.write(reply(1) + LIVE)
        taken, live = await read_answer(reader), await read_answer(reader)

    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", taken.all("Date")[0])
    moments = [parsedate_to_datetime(answer.all("Date")[0]) for answer in (taken, live)]
    assert abs(moments[1] - moments[0]) < timedelta(minutes=5)


@pytest.mark.slow
async def test_a_held_postback_is_answered_as_by_aiohttp_and_published_when_redis_is_back(
    concierge: FakeConcierge,
) -> None:
    answers = []
    for size in (Limits().doorstep_bytes, 0):
        limits = Limits(confirm=0.1, doorstep_bytes=size)
        async with (
            redis_server() as redis,
            switchboard(concierge.url, limits, REDISCLOUD_URL=redis.url) as board,
            raw_link(board) as (reader, writer),
        ):
            await eventually(partial(ready, board))
            connected = await board.connect()
            redis.freeze()
            writer.write(reply(1))
            answers.append(undated(await head_of(reader)))
            redis.thaw()
            assert (await connected.receive_str()).encode() == reply_body(1)
            writer.write(LIVE)
            assert (await read_answer(reader)).status == 200  # nothing came in between
            assert await board.metric("switchboard_postbacks_total", outcome="held") == 1

    assert answers[0] == answers[1]
    assert answers[0].startswith(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n")


async def ready(board: Switchboard) -> bool:
    return (await board.get("/ready"))[0] == 200


async def test_who_is_answered_202_gets_no_second_answer() -> None:
    broker = SlowDoor()
    async with serving_with(broker, Limits(confirm=0.05)) as board:
        async with raw_link(board) as (reader, writer):
            writer.write(reply(1))
            assert (await read_answer(reader)).status == 202
            broker.due[0].set_result(Receipt(confirmed=True, ids=("",)))
            writer.write(LIVE)
            assert (await read_answer(reader)).status == 200

        assert await board.metric("switchboard_postbacks_total", outcome="held") == 1
        assert await board.metric("switchboard_postbacks_total", outcome="confirmed") == 0


async def test_outcomes_are_counted(board: Switchboard) -> None:
    async with raw_link(board) as (reader, writer):
        for request in (reply(1), again := reply(2), again):
            writer.write(request)
            await read_answer(reader)

    assert await board.metric("switchboard_postbacks_total", outcome="confirmed") == 2
    assert await board.metric("switchboard_postbacks_total", outcome="repeated") == 1


async def test_a_full_broker_gets_503_from_aiohttp() -> None:
    async with serving_with(FullDoor()) as board:
        answer = await board.postback(reply_body(1))

        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert await board.metric("switchboard_postbacks_total", outcome="overloaded") == 1


# Bugs


def tracebacks(caplog: pytest.LogCaptureFixture) -> int:
    return sum("RuntimeError: planted" in record.getMessage() for record in caplog.records)


@pytest.mark.plants_a_bug
async def test_a_bug_before_a_postback_is_published_sends_it_through_aiohttp(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker = BrokenDoor()
    async with serving_with(broker) as board:
        answer = await board.postback(reply_body(1))

        assert answer.status == 204
        assert broker.published == [reply_body(1)]
        assert await board.metric("switchboard_task_failures_total") == 1
    assert tracebacks(caplog) == 1


@pytest.mark.plants_a_bug
async def test_a_bug_after_it_is_answered_500_as_aiohttp_does_and_the_link_lives_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving_with(BrokenPromise()) as board:
        async with raw_link(board) as (reader, writer):
            writer.write(reply(1))
            answer = await read_answer(reader)
            writer.write(LIVE)
            assert (await read_answer(reader)).status == 200

        assert answer.status == 500
        assert await board.metric("switchboard_task_failures_total") == 1
    assert tracebacks(caplog) == 1

    class BrokenPublish(Door):
        async def publish(self, postbacks: Sequence[Postback]) -> Receipt:
            raise RuntimeError("planted")

    async with (
        serving_with(BrokenPublish(), Limits(doorstep_bytes=0)) as board,
        raw_link(board) as (reader, writer),
    ):
        writer.write(reply(1))
        other = await read_answer(reader)

    names = [name for name, _ in answer.headers]
    assert (answer.status, answer.body, names) == (
        other.status,
        other.body,
        [name for name, _ in other.headers],
    )


# Pieces


async def test_a_request_in_two_pieces_is_taken_wherever_it_is_cut() -> None:
    broker = Door()
    whole = reply(0)
    async with doorstep(broker) as (step, wire, heir, _):
        for cut in range(1, len(whole)):
            request = reply(cut)
            step.data_received(request[:cut])
            assert len(wire.statuses) == cut - 1
            step.data_received(request[cut:])
            assert wire.statuses == [204] * cut

        assert not heir.made
    assert broker.put_here == [reply_body(number) for number in range(1, len(whole))]


async def test_a_request_in_single_bytes_is_taken() -> None:
    broker = Door()
    async with doorstep(broker) as (step, wire, heir, _):
        for request in (reply(1), reply(2)):
            for byte in request:
                step.data_received(bytes([byte]))

        assert wire.statuses == [204, 204]
        assert not heir.made


async def test_any_other_request_goes_to_aiohttp_whole_wherever_it_is_cut() -> None:
    request = LIVE + reply(1)
    for cut in range(1, len(LIVE)):
        async with doorstep_of(Door()) as (step, _, heir):
            step.data_received(request[:cut])
            if not heir.made:
                step.data_received(request[cut:])
            else:
                heir.data_received(request[cut:])

        assert heir.data == request


@asynccontextmanager
async def doorstep_of(broker: Door) -> AsyncIterator[tuple[Any, Wire, Heir]]:
    """Open a doorstep on *broker* without a server."""
    made = create_app(Settings.read(variables("http://127.0.0.1:9")))
    made[keys.BROKER] = broker
    runner = web.AppRunner(made)
    await runner.setup()
    heir, wire = Heir(), Wire()
    opened = Doorsteps(made, lambda: heir)()
    opened.connection_made(wire)
    yield opened, wire, heir
    opened.connection_lost(None)
    await runner.cleanup()


async def test_what_does_not_come_in_time_goes_to_aiohttp_as_far_as_it_is_there() -> None:
    request = reply(1)
    async with doorstep(Door(), Limits(doorstep_patience=0.05)) as (step, wire, heir, _):
        step.data_received(request[:-1])
        await eventually(lambda: heir.made)

        assert heir.data == request[:-1]
        assert wire.protocol is heir
        assert not wire.written


async def test_a_piece_now_and_then_gains_no_time() -> None:
    request = reply(1)
    async with doorstep(Door(), Limits(doorstep_patience=0.1)) as (step, _, heir, _):
        sent = 0
        while not heir.made:
            step.data_received(request[sent : sent + 1])
            sent += 1
            await asyncio.sleep(0.01)

    assert sent < len(request) / 2


async def test_the_time_of_one_request_is_not_that_of_the_next() -> None:
    async with doorstep(Door(), Limits(doorstep_patience=0.2)) as (step, wire, heir, _):
        step.data_received(reply(1)[:-1])
        step.data_received(reply(1)[-1:])
        await asyncio.sleep(0.3)  # the first one's time is over

        step.data_received(reply(2))

        assert wire.statuses == [204, 204]
        assert not heir.made


async def test_each_request_has_its_own_time_to_come_in() -> None:
    first, second = reply(1), reply(2)  # each has its second in it
    async with doorstep(Door(), Limits(doorstep_patience=0.05)) as (step, wire, heir, _):
        for piece in (first[:-1], first[-1:]):
            step.data_received(piece)
        step.data_received(second[:-1])

        await eventually(lambda: heir.made)

        assert wire.statuses == [204]
        assert heir.data == second[:-1]


# Requests one after the other without waiting


async def answers_of(board: Switchboard, *pieces: bytes) -> list[Answer]:
    """
    Send *pieces*, each once the one before is answered, and a last request with the last one.

    Return all answers, to the end or to a body that is late.
    """
    answers: list[Answer] = []
    async with raw_link(board) as (reader, writer):
        for piece in pieces[:-1]:
            writer.write(piece)
            answers.append(await read_answer(reader))
        writer.write(pieces[-1] + LAST)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while not answers or answers[-1].status != 408:
                answers.append(await read_answer(reader))
    return answers


def seen(answers: Sequence[Answer]) -> list[object]:
    """Return what of *answers* must be the same for two switchboards."""
    return [
        (
            answer.status,
            [
                (name, value.partition(":")[2] if name == "Switchboard-Message-Id" else value)
                for name, value in answer.headers
                if name != "Date"
            ],
            answer.body,
        )
        for answer in answers
    ]


async def compare(
    boards: tuple[Switchboard, Switchboard], data: bytes, *before: bytes
) -> list[int]:
    """
    Make sure that both answer *before* and *data* with the same; return the statuses.

    One gets it all at once. aiohttp forgets what comes in one piece with what it can't parse, so
    the other gets *before* first.
    """
    doorstep, plain = boards
    mine, others = await asyncio.gather(
        answers_of(doorstep, b"".join(before) + data), answers_of(plain, *before, data)
    )
    assert seen(mine) == seen(others), data
    return [answer.status for answer in mine]


ARRAY: Final = b'[{"to":"%s","n":1},{"to":"%s","n":2}]' % (SESSION.encode(), SESSION.encode())

PIPELINES: Final[dict[str, tuple[Callable[[], bytes], list[int]]]] = {
    "postbacks": (lambda: reply(2) + reply(3), [204, 204, 204, 200]),
    "a GET": (lambda: reply(2) + LIVE + reply(3), [204, 204, 200, 204, 200]),
    "an array": (lambda: postback_bytes(ARRAY) + reply(3), [204, 204, 204, 200]),
    "a long one": (lambda: reply(2, 80_000) + reply(3), [204, 204, 204, 200]),
    "a bad one": (lambda: postback_bytes(b"{}") + reply(3), [204, 400, 204, 200]),
    "a forged one": (
        lambda: reply(2).replace(b'"n":2', b'"n":4') + reply(3),
        [204, 401, 204, 200],
    ),
    "garbage": (lambda: b"\0\1\2\r\n\r\n" + reply(3), [204, 400]),
    "a line end": (lambda: b"\r\n" + reply(2), [204, 204, 200]),
    "one whose body lacks": (
        lambda: reply(2).replace(b"Content-Length: ", b"Content-Length: 9"),
        [204, 408],
    ),
    "one whose head lacks": (lambda: b"POST / HTTP/1.1\r\nHost: x\r\nX: ", [204, 400]),
    "nothing": (lambda: b"", [204, 200]),
}


@pytest.mark.parametrize("name", PIPELINES)
async def test_what_does_not_wait_for_an_answer_is_answered_in_order_as_by_aiohttp(
    both: tuple[Switchboard, Switchboard], name: str
) -> None:
    data, expected = PIPELINES[name]

    assert await compare(both, data(), reply(1)) == expected


async def test_hundreds_of_requests_at_once_are_delivered_in_order(board: Switchboard) -> None:
    connected = await board.connect()
    requests = b"".join(reply(number, 500) for number in range(700))  # far more than may wait
    async with raw_link(board) as (reader, writer):
        writer.write(requests)
        answers = [await read_answer(reader) for _ in range(700)]

    ids = [answer.all("Switchboard-Message-Id")[0].partition(":")[2] for answer in answers]
    assert ids == [str(number) for number in range(1, 701)]
    assert [(await connected.receive_str()).encode() for _ in range(700)] == [
        reply_body(number, 500) for number in range(700)
    ]


async def test_while_an_answer_is_due_the_next_request_waits_and_too_many_are_not_read() -> None:
    broker = SlowDoor()
    limits = Limits(doorstep_bytes=2 * KIB)
    async with doorstep(broker, limits) as (step, wire, heir, _):
        one = len(reply(0, KIB))
        fitting = (MOST_HEAD + 2 * KIB) // one
        requests = [reply(number, KIB) for number in range(10, 12 + fitting)]
        for request in requests[:-1]:
            step.data_received(request)
        before = wire.reading
        step.data_received(requests[-1])
        assert (before, wire.reading) == (True, False)
        assert len(broker.due) == 1

        for number in range(len(requests)):
            broker.due[number].set_result(Receipt(confirmed=True, ids=("",)))
            await turn()
            assert len(wire.statuses) == number + 1

        assert wire.reading
        assert broker.put_here == [reply_body(n, KIB) for n in range(10, 12 + fitting)]
        assert not heir.made


async def test_what_waited_goes_to_aiohttp_after_the_answer_and_reading_goes_on() -> None:
    broker = SlowDoor()
    async with doorstep(broker, Limits(doorstep_bytes=2 * KIB)) as (step, wire, heir, _):
        rest = LIVE * 500
        step.data_received(reply(1) + rest)
        await turn()
        assert not wire.reading
        assert not heir.made

        broker.due[0].set_result(Receipt(confirmed=True, ids=("",)))
        await turn()

        assert wire.statuses == [204]
        assert heir.data == rest
        assert wire.reading


async def test_a_peer_that_does_not_read_its_answers_is_not_served_until_it_does() -> None:
    broker = Door()
    async with doorstep(broker) as (step, wire, heir, _):
        step.pause_writing()
        step.data_received(reply(1) + reply(2) + LIVE)
        await turn()
        assert not broker.put_here

        step.resume_writing()
        await turn()

        assert wire.statuses == [204, 204]
        assert heir.data == LIVE
        assert not heir.paused


async def test_aiohttp_learns_that_a_peer_does_not_read() -> None:
    async with doorstep(Door(), Limits(doorstep_patience=0.05)) as (step, _, heir, _):
        step.data_received(reply(1)[:-1])
        step.pause_writing()

        await eventually(lambda: heir.made)

        assert heir.paused


# Whatever is sent, what comes back is what aiohttp sends


def with_line(line: str) -> Callable[[bytes], bytes]:
    """Put *line* before the last one of a request's head."""
    return lambda request: request.replace(
        b"\r\nContent-Length", b"\r\n" + line.encode("latin-1") + b"\r\nContent-Length", 1
    )


def replaced(old: str, new: str) -> Callable[[bytes], bytes]:
    return lambda request: request.replace(old.encode(), new.encode("latin-1"), 1)


def chunked(request: bytes) -> bytes:
    """Return *request* with its body in a chunk, its length, and a request where it would end."""
    head, body = request.split(b"\r\n\r\n", 1)
    return head + b"\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


AMBIGUOUS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "obs-fold": with_line("X: 1\r\n 2"),
    "obs-fold with a tab": with_line("X: 1\r\n\t2"),
    "folded length": replaced("Content-Length: ", "Content-Length:\r\n "),
    "length with a plus": replaced("Content-Length: ", "Content-Length: +"),
    "length with a minus": replaced("Content-Length: ", "Content-Length: -"),
    "length with zeros": replaced("Content-Length: ", "Content-Length: 000"),
    "length in hexadecimal": replaced("Content-Length: ", "Content-Length: 0x"),
    "length with a blank in it": replaced("Content-Length: ", "Content-Length: 1 "),
    "length with a comma": replaced("Content-Length: ", "Content-Length: 5, "),
    "length with an underscore": replaced("Content-Length: ", "Content-Length: 1_"),
    "length with a full-width digit": replaced("Content-Length: ", "Content-Length: \xb2"),
    "length of nothing": lambda request: re.sub(rb"Length: \d+", b"Length: ", request),
    "length of zero": lambda request: re.sub(rb"Length: \d+", b"Length: 0", request),
    "length too short": lambda request: re.sub(rb"Length: \d+", b"Length: 9", request),
    "length immense": replaced("Content-Length: ", "Content-Length: 99999999999999999999"),
    "no length": replaced("Content-Length: ", "X-Length: "),
    "two lengths": with_line("Content-Length: 5"),
    "two equal lengths": lambda request: re.sub(rb"(\r\nContent-Length.*)", rb"\1\1", request),
    "two lengths in other letters": with_line("content-LENGTH: 5"),
    "length and chunks": chunked,
    "length and a chunk that ends early": with_line("Transfer-Encoding: chunked"),
    "chunks, oddly named": with_line("Transfer-Encoding : chunked"),
    "chunks without a colon": with_line("Transfer-Encoding chunked"),
    "chunks, value on the next line": with_line("Transfer-Encoding:\r\n chunked"),
    "chunks, spelled oddly": with_line("Transfer-Encoding: xchunked"),
    "chunks after a tab": with_line("Transfer-Encoding:\tchunked"),
    "chunks and identity": with_line("Transfer-Encoding: identity, chunked"),
    "chunks behind a NUL": with_line("X: \0\r\nTransfer-Encoding: chunked"),
    "chunks behind a bare CR": with_line("X: 1\rTransfer-Encoding: chunked"),
    "chunks behind a bare LF": with_line("X: 1\nTransfer-Encoding: chunked"),
    "only a name": with_line("Transfer-Encoding"),
    "bare LF after the request line": replaced("HTTP/1.1\r\n", "HTTP/1.1\n"),
    "bare LF everywhere": lambda request: request.replace(b"\r\n", b"\n"),
    "bare CR everywhere": lambda request: request.replace(b"\r\n", b"\r"),
    "bare LF at the end of the head": replaced("\r\n\r\n", "\r\n\n"),
    "CR CR LF": replaced("HTTP/1.1\r\n", "HTTP/1.1\r\r\n"),
    "NUL in a value": with_line("X: a\0b"),
    "NUL in a name": with_line("X\0: a"),
    "tab before a value": with_line("X:\ta"),
    "tab after a value": with_line("X: a\t"),
    "tab in a value": with_line("X: a\tb"),
    "blank before the colon": with_line("X : a"),
    "blank before the colon of the length": replaced("Content-Length:", "Content-Length :"),
    "blank before the first name": replaced("\r\nHost", "\r\n Host"),
    "blanks around values": lambda request: request.replace(b": ", b":   ").replace(
        b"json", b"json  "
    ),
    "no blanks before values": lambda request: re.sub(rb"(?m)^([\w-]+): ", rb"\1:", request),
    "an empty value": with_line("X: "),
    "an empty value without blank": with_line("X:"),
    "an empty name": with_line(": x"),
    "lower-case names": lambda request: re.sub(
        rb"(?m)^[\w-]+:", lambda found: found[0].lower(), request
    ),
    "upper-case names": lambda request: re.sub(
        rb"(?m)^[\w-]+:", lambda found: found[0].upper(), request
    ),
    "a name that is not ASCII": with_line("X\xe9: a"),
    "a value that is not ASCII": with_line("X: \xe9"),
    "a value with NEL": with_line("X: a\x85b"),
    "a field signed, not ASCII": replaced("application/json", "application/js\xf6n"),
    "two hosts": with_line("Host: y"),
    "no host": replaced("Host: switchboard\r\n", ""),
    "a wild host": replaced("Host: switchboard", "Host: a@[b/?#"),
    "two dates": with_line("Date: Tue, 05 May 2026 10:11:12 GMT"),
    "two authorizations": with_line("Authorization: APIAuth a:b="),
    "expectation": with_line("Expect: 100-continue"),
    "upgrade": with_line("Upgrade: websocket\r\nConnection: Upgrade"),
    "upgrade to HTTP/2": with_line("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings"),
    "old upgrade": with_line("Sec-WebSocket-Key1: 1"),
    "connection close": with_line("Connection: close"),
    "connection close by an old name": with_line("Proxy-Connection: close"),
    "connection keep-alive": with_line("Connection: Keep-Alive"),
    "connection with more": with_line("Connection: keep-alive, close"),
    "two connections": with_line("Connection: keep-alive\r\nConnection: close"),
    "gzip": with_line("Content-Encoding: gzip"),
    "identity": with_line("Content-Encoding: identity"),
    "trailer": with_line("Trailer: X"),
    "HTTP/1.0": replaced("HTTP/1.1", "HTTP/1.0"),
    "HTTP/1.0 kept alive": lambda request: with_line("Connection: keep-alive")(
        replaced("HTTP/1.1", "HTTP/1.0")(request)
    ),
    "HTTP/2": replaced("HTTP/1.1", "HTTP/2.0"),
    "http/1.1": replaced("HTTP/1.1", "http/1.1"),
    "absolute target": replaced("POST /", "POST http://switchboard/"),
    "target with a query": replaced("POST /", "POST /?x"),
    "target with a fragment": replaced("POST /", "POST /#x"),
    "target with two slashes": replaced("POST /", "POST //"),
    "lower-case method": replaced("POST", "post"),
    "blank before the method": replaced("POST", " POST"),
    "two blanks before the target": replaced("POST ", "POST  "),
    "blank after the version": replaced("HTTP/1.1\r", "HTTP/1.1 \r"),
    "line ends first": lambda request: b"\r\n\r\n" + request,
    "a head of 9 KiB in one field": with_line("X: " + "x" * 9000),
    "a head of 9 KiB in many": with_line("\r\n".join(f"X{n}: {'x' * 90}" for n in range(95))),
    "100 fields": with_line("\r\n".join(f"X{number}: 1" for number in range(100))),
    "200 fields": with_line("\r\n".join(f"X{number}: 1" for number in range(200))),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_what_could_be_read_in_two_ways_is_read_as_aiohttp_does(
    both: tuple[Switchboard, Switchboard], name: str
) -> None:
    request, smuggled = reply(1), reply(2)
    changed = AMBIGUOUS[name](request)
    assert changed != request

    await compare(both, changed + smuggled)
    await compare(both, changed + smuggled, reply(3), reply(4))


async def test_a_request_in_a_body_is_no_request(both: tuple[Switchboard, Switchboard]) -> None:
    inner = reply(1).decode().replace("\\", "\\\\").replace('"', '\\"').replace("\r\n", "\\r\\n")
    body = f'{{"to":"{SESSION}","text":"{inner}"}}'.encode()

    assert await compare(both, postback_bytes(body)) == [204, 200]


ODD_BYTES: Final = b"\r\n\0\t :;,+-0159aZ/?\x7f\x80\xff"
ODD_LINES: Final = (
    b"Connection: keep-alive",
    b"Transfer-Encoding: chunked",
    b"Content-Length: 3",
    b"content-type: a/b",
    b"Cookie: a=b",
    b"X-Forwarded-For: 1.2.3.4",
    b" folded",
)


def mutated(chance: Random, number: int) -> bytes:
    """Return a request that is a few steps away from a good one."""
    body = reply_body(number)
    if chance.random() < 0.2:
        body = edited(chance, body)
    head, _, body = postback_bytes(body).partition(b"\r\n\r\n")
    kinds: list[Callable[[], tuple[bytes, bytes]]] = [
        lambda: (edited(chance, head), body),
        lambda: (edited_line(chance, head), body),
        lambda: (head, edited(chance, body)),
        lambda: (head, body),
    ]
    head, body = chance.choice(kinds)()
    if chance.random() < 0.3:
        head = edited_line(chance, head)
    return head + b"\r\n\r\n" + body


def edited(chance: Random, data: bytes) -> bytes:
    """Return *data* with a byte replaced, removed or added."""
    at = chance.randrange(len(data))
    new = bytes([chance.choice(ODD_BYTES)]) if chance.random() < 0.8 else b""
    return data[:at] + new + data[at + chance.randrange(2) :]


def edited_line(chance: Random, head: bytes) -> bytes:
    lines = head.split(b"\r\n")
    at = chance.randrange(len(lines))
    change = chance.randrange(5)
    if change == 0:
        lines.insert(at, lines[at])
    elif change == 1:
        del lines[at]
    elif change == 2:
        lines[at] = lines[at].swapcase()
    elif change == 3:
        lines.insert(at, chance.choice(ODD_LINES))
    else:
        chance.shuffle(lines)
    return b"\r\n".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_changed_in_a_request_is_answered_as_by_aiohttp(
    both: tuple[Switchboard, Switchboard], seed: int
) -> None:
    chance = Random(seed)

    statuses = [await compare(both, mutated(chance, number)) for number in range(60)]

    assert [204, 200] in statuses
    assert [401, 200] in statuses
    assert any(400 in found for found in statuses)


# Idle, vanished, over


Open = Callable[[Switchboard], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@pytest.fixture
async def open_link() -> AsyncIterator[Open]:
    """Connect to a switchboard; the link ends with the test."""
    opened: list[asyncio.StreamWriter] = []

    async def open_one(
        board: Switchboard,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = board.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        opened.append(writer)
        return reader, writer

    yield open_one
    for writer in opened:
        writer.transport.abort()


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Wait for the other side to close; return what came before."""
    return await reader.read()


async def test_a_connection_that_never_sends_is_closed(concierge: FakeConcierge) -> None:
    async with (
        switchboard(concierge.url, Limits(keep_alive=0.2)) as board,
        raw_link(board) as (reader, _),
    ):
        assert await ended(reader) == b""


async def test_a_connection_is_kept_between_postbacks_and_closed_when_it_is_idle(
    concierge: FakeConcierge,
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        switchboard(concierge.url, Limits(keep_alive=2)) as board,
        raw_link(board) as (reader, writer),
    ):
        for number in range(2):
            writer.write(reply(number))
            assert (await read_answer(reader)).status == 204
            await asyncio.sleep(1.2)
        answered = loop.time()
        writer.write(reply(2))
        assert (await read_answer(reader)).status == 204
        assert await ended(reader) == b""

        assert loop.time() - answered >= 1.99


async def test_what_a_sender_that_vanishes_has_sent_is_published_and_counted() -> None:
    broker = SlowDoor()
    async with serving_with(broker) as board:
        async with raw_link(board) as (_, writer):
            writer.write(reply(1))
            await broker.arrived.wait()
        await turn()
        broker.due[0].set_result(Receipt(confirmed=True, ids=("",)))
        await turn()

        assert await board.metric("switchboard_postbacks_total", outcome="confirmed") == 1


async def test_a_sender_that_vanishes_gets_nothing_written() -> None:
    broker = SlowDoor()
    async with doorstep(broker, Limits(confirm=0.05)) as (step, wire, _, board):
        step.data_received(reply(1) + reply(2))
        step.connection_lost(ConnectionResetError())

        async def held() -> bool:
            return await board.metric("switchboard_postbacks_total", outcome="held") == 1

        await eventually(held)

        assert not wire.written
        assert broker.put_here == [reply_body(1)]


async def test_half_a_request_before_the_end_is_forgotten(board: Switchboard) -> None:
    async with raw_link(board) as (reader, writer):
        writer.write(reply(1)[:-1])
        writer.write_eof()

        assert await ended(reader) == b""


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("sent", [b"", reply(1), HALF, LIVE], ids=["-", "all", "half", "other"])
@pytest.mark.parametrize("ours", [False, True], ids=["they end it", "we end it"])
async def test_of_a_connection_that_is_over_nothing_waits_for_the_collector(
    concierge: FakeConcierge, sent: bytes, ours: bool
) -> None:
    patience = 0.2 if ours else 60
    limits = Limits(keep_alive=patience, doorstep_patience=patience, body=patience)
    others = in_memory()
    async with switchboard(concierge.url, limits) as board:
        async with raw_link(board) as (reader, writer):
            writer.write(sent)
            if sent in {reply(1), LIVE}:
                await read_answer(reader)
            if ours and sent is not HALF:  # which aiohttp gets, and takes its time to end
                await ended(reader)
            elif not ours and not sent:
                await eventually(lambda: in_memory() == others + 2)

        await eventually(lambda: in_memory() == others)


def in_memory() -> int:
    """Count the doorsteps that there are, and their deadlines."""
    return sum(type(each) in {Doorstep, Deadline} for each in gc.get_objects())


@pytest.mark.parametrize("size", [Limits().doorstep_bytes, 0], ids=["doorstep", "aiohttp"])
async def test_at_the_end_idle_connections_are_closed_at_once(
    concierge: FakeConcierge, open_link: Open, size: int
) -> None:
    async with switchboard(concierge.url, Limits(doorstep_bytes=size, clean_up=30)) as board:
        silent, _ = await open_link(board)
        idle, writer = await open_link(board)
        half, half_writer = await open_link(board)
        half_writer.write(reply(2)[:100])
        writer.write(reply(1))
        assert (await read_answer(idle)).status == 204
        began = asyncio.get_running_loop().time()

    assert [await ended(reader) for reader in (silent, idle, half)] == [b"", b"", b""]
    assert asyncio.get_running_loop().time() - began < 15


async def test_at_the_end_an_answer_that_is_due_is_waited_for(open_link: Open) -> None:
    broker, loop = SlowDoor(), asyncio.get_running_loop()
    async with serving_with(broker, Limits(clean_up=60, confirm=60)) as board:
        reader, writer = await open_link(board)
        writer.write(reply(1) + reply(2))
        await broker.arrived.wait()
        loop.call_later(0.2, lambda: broker.due[0].set_result(Receipt(confirmed=True, ids=("",))))
        began = loop.time()

    assert loop.time() - began < 30  # no longer than it took
    assert (await read_answer(reader)).status == 204
    assert await ended(reader) == b""
    assert broker.put_here == [reply_body(1)]


async def test_at_the_end_an_answer_is_not_waited_for_beyond_the_time_for_it(
    open_link: Open,
) -> None:
    broker = SlowDoor()
    began = asyncio.get_running_loop().time()
    async with serving_with(broker, Limits(clean_up=0.2, confirm=60)) as board:
        reader, writer = await open_link(board)
        writer.write(reply(1))
        await broker.arrived.wait()

    assert await ended(reader) == b""
    assert 0.2 <= asyncio.get_running_loop().time() - began < 30


# The loop that runs in production


@pytest.mark.slow
async def test_a_process_answers_all_of_it_too(concierge: FakeConcierge) -> None:
    async with switchboard_process(variables(concierge.url)) as board:
        connected = await board.connect()
        first = reply(1)
        async with raw_link(board) as (reader, writer):
            for piece in (first[:7], first[7:-20], first[-20:]):
                writer.write(piece)
                await asyncio.sleep(0.02)
            writer.write(b"".join(reply(number, 500) for number in range(2, 400)))
            writer.write(postback_bytes(ARRAY) + reply(400) + LIVE)
            statuses = [(await read_answer(reader)).status for _ in range(402)]
        frames = [(await connected.receive_str()).encode() for _ in range(402)]

    assert statuses == [204] * 401 + [200]
    assert frames[:399] == [reply_body(1)] + [reply_body(n, 500) for n in range(2, 400)]
    assert frames[-1] == reply_body(400)
    assert "Traceback" not in "\n".join(board.output)
