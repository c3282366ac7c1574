"""Postbacks on their way to sockets: each arrives once and in order, whatever happens meanwhile."""

import asyncio
import dataclasses
import itertools
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from aiohttp.client import ClientWebSocketResponse
from redis.asyncio import Redis

from switchboard_operator import frames
from switchboard_operator.broker.memory_mailbox import MemoryMailbox
from switchboard_operator.connection import Connection
from switchboard_operator.limits import Limits
from switchboard_operator.mailbox import Page
from switchboard_operator.marks import Mark
from switchboard_operator.web import keys
from tests.conftest import OpenRaw
from tests.fakes import FakeConcierge
from tests.raw import CLOSE, PING, PONG, TEXT, RawWebSocket
from tests.redis_server import RedisServer, redis_server
from tests.switchboards import SESSION, Switchboard, eventually, switchboard
from tests.test_connections import RULES, FakeSocket
from tests.test_redis_broker import ready

pytestmark = pytest.mark.slow  # nearly each starts a Redis, or sends a lot

SWIFT = Limits(redis_pause=0.1, redis_settle=0.15)  # finds Redis soon, is as patient as ever
wires = pytest.mark.parametrize("wire", ["classic", "v1"])


class User:
    """A client on either wire that reads in the background and keeps what it got."""

    def __init__(self, ws: ClientWebSocketResponse) -> None:
        self.ws = ws
        self.hello: dict[str, Any] = {}
        self.ids: list[str] = []
        self.contents: list[Any] = []
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(lambda _: self._changed.set())

    @classmethod
    async def joined(
        cls, board: Switchboard, wire: str, session: str = SESSION, **opened: str
    ) -> Self:
        """Connect, and on v1 wait for the hello; *opened* goes into the `open`."""
        if wire == "classic":
            return cls(await board.connect(session))
        asked = None if "token" in opened else session
        user = cls(await board.connect(asked, protocols=("switchboard.v1",)))
        await user.ws.send_json({"type": "open", **opened})
        await user.until(lambda: bool(user.hello))
        return user

    @property
    def numbers(self) -> list[int]:
        """The `n` of each postback that came."""
        return [content.get("n", -1) for content in self.contents]

    async def has(self, count: int) -> list[int]:
        """Wait for *count* postbacks; return the `n` of all that came."""
        await self.until(lambda: len(self.contents) >= count)
        return self.numbers

    async def has_number(self, number: int) -> list[int]:
        """Wait for the postback with that `n`; return the `n` of all that came."""
        await self.until(lambda: bool(self.contents) and self.contents[-1].get("n") == number)
        return self.numbers

    async def until(self, there: Callable[[], bool]) -> None:
        """Wait until *there* is true of what came; the test's own time-out bounds it."""
        while not there():
            assert not self._reader.done(), f"closed with {self.ws.close_code}"
            self._changed.clear()
            await self._changed.wait()

    async def close(self) -> None:
        """Send a Close frame and wait for the answer to it."""
        await self.ws.close()
        await self._reader

    async def _read(self) -> None:
        with suppress(ConnectionError):  # a ping came in last
            await self._read_all()

    async def _read_all(self) -> None:
        async for message in self.ws:
            content = json.loads(message.data)
            if self.ws.protocol is None:
                self.contents.append(content)
            elif content["type"] == "hello":
                self.hello = content
            elif content["type"] == "message":
                self.ids.append(content.get("id", ""))
                self.contents.append(content["data"])
            self._changed.set()


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis that begins with what it saved last."""
    async with redis_server(["--dir", str(tmp_path)]) as server:
        yield server


Pair = tuple[Switchboard, Switchboard]


@pytest.fixture
async def pair(concierge: FakeConcierge, redis: RedisServer) -> AsyncIterator[Pair]:
    """Two switchboards on one Redis, whose mailboxes forget nothing while a user is away."""
    on_redis = {"REDISCLOUD_URL": redis.url, "MAILBOX_SIZE": "10000"}
    async with (
        switchboard(concierge.url, SWIFT, **on_redis) as first,
        switchboard(concierge.url, SWIFT, **on_redis) as second,
    ):
        await ready(first)
        await ready(second)
        yield first, second


@pytest.fixture(params=["memory", "redis"])
async def lone(
    request: pytest.FixtureRequest, concierge: FakeConcierge
) -> AsyncIterator[Switchboard]:
    """One switchboard on its own or with a Redis, as patient as a slow machine needs it."""
    limits = Limits(stall=60, pong=60)
    if request.param == "memory":
        async with switchboard(concierge.url, limits) as board:
            yield board
        return
    async with (
        redis_server() as redis,
        switchboard(concierge.url, limits, REDISCLOUD_URL=redis.url) as board,
    ):
        await ready(board)
        yield board


async def post(board: Switchboard, *numbers: int, session: str = SESSION) -> None:
    for number in numbers:
        answer = await board.postback({"to": session, "n": number})
        assert answer.status in {202, 204}


def keys_of(session: str) -> list[str]:
    return [f"switchboard:{{{session}}}:{name}" for name in ("state", "bodies")]


class Snapshot:
    """What Redis knew of some sessions at one time."""

    def __init__(self, redis: RedisServer, sessions: Sequence[str]) -> None:
        self._redis = redis
        self._keys = [key for session in sessions for key in keys_of(session)]
        self._dumps: list[bytes] = []

    async def take(self) -> Self:
        self._dumps = [await self._redis.call("DUMP", key) for key in self._keys]
        return self

    async def restore(self) -> None:
        for key, dump in zip(self._keys, self._dumps, strict=True):
            await self._redis.call("RESTORE", key, 0, dump, "REPLACE")


# Redis forgets.


@wires
async def test_after_flushall_the_next_postback_arrives(
    pair: Pair, redis: RedisServer, wire: str
) -> None:
    users = [await User.joined(board, wire) for board in pair]
    await post(pair[0], 0, 1, 2)
    for user in users:
        await user.has(3)

    await redis.call("FLUSHALL")
    await post(pair[0], 3, 4)

    for user in users:
        assert await user.has(5) == [0, 1, 2, 3, 4]
        if wire == "v1":
            epochs, counts = zip(*(name.split(":") for name in user.ids), strict=True)
            assert counts == ("1", "2", "3", "1", "2")
            assert len(set(epochs)) == 2


@wires
async def test_after_a_restored_snapshot_the_next_postback_arrives(
    pair: Pair, redis: RedisServer, wire: str
) -> None:
    users = [await User.joined(board, wire) for board in pair]
    await post(pair[0], 0, 1, 2)
    snapshot = await Snapshot(redis, [SESSION]).take()
    await post(pair[1], 3, 4, 5)
    for user in users:
        await user.has(6)

    await snapshot.restore()
    await post(pair[0], 6)
    await post(pair[1], 7)

    for user in users:
        got = await user.has_number(7)
        assert got[:6] == [0, 1, 2, 3, 4, 5]
        assert got[6:] == [0, 1, 2, 6, 7]  # what Redis still has comes again under another epoch


@wires
async def test_after_a_restart_with_an_older_file_what_was_held_and_the_next_postback_arrive(
    pair: Pair, redis: RedisServer, wire: str
) -> None:
    users = [await User.joined(board, wire) for board in pair]
    await post(pair[0], 0, 1, 2)
    await redis.call("SAVE")
    await post(pair[1], 3, 4, 5)
    for user in users:
        await user.has(6)

    await redis.kill()
    await ready(pair[0], 503)
    held = await pair[0].postback([{"to": SESSION, "n": number} for number in range(6, 20)])
    await redis.start()
    for user in users:
        await user.has_number(19)
    await post(pair[1], 20)

    assert held.status == 202
    for user in users:
        got = await user.has_number(20)
        assert got[:6] == [0, 1, 2, 3, 4, 5]
        assert got[6:] == [0, 1, 2, *range(6, 21)]


@pytest.mark.parametrize(
    ("fault", "why"),
    [("flush", "epoch"), ("rewound", "epoch"), ("trimmed", "trimmed"), ("expired", "expired")],
)
async def test_a_client_that_comes_back_is_told_why_it_could_not_be_resumed(
    concierge: FakeConcierge, redis: RedisServer, fault: str, why: str
) -> None:
    """100 of 100."""
    more = {"REDISCLOUD_URL": redis.url, "MAILBOX_SIZE": "5"}
    if fault == "expired":
        more["MAILBOX_TTL"] = "1"
    async with (
        switchboard(concierge.url, SWIFT, **more) as first,
        switchboard(concierge.url, SWIFT, **more) as second,
    ):
        await ready(first)
        await ready(second)
        boards = itertools.cycle([first, second])
        sessions = [f"a-session-that-comes-back-{number:03}" for number in range(100)]
        before = [await User.joined(next(boards), "v1", session) for session in sessions]
        for session in sessions:
            await post(first, 0, 1, session=session)
        snapshot = await Snapshot(redis, sessions).take()
        for session in sessions:
            await post(second, 2, session=session)
        for user in before:
            await user.has(3)
            await user.close()

        kept = await break_mailboxes(fault, redis, snapshot, first, sessions)
        after = []
        for session, old in zip(sessions, before, strict=True):
            opened = {"token": old.hello["token"], "last": old.ids[-1]}
            after.append(await User.joined(next(boards), "v1", session, **opened))
            await post(first, 99, session=session)

        for user in after:
            assert user.hello["resumed"] is False
            assert user.hello["why"] == why
            assert user.hello["missed"] == len(kept)
            assert await user.has_number(99) == [*kept, 99]
            await user.close()


async def break_mailboxes(
    fault: str,
    redis: RedisServer,
    snapshot: Snapshot,
    board: Switchboard,
    sessions: Sequence[str],
) -> list[int]:
    """Make Redis forget; return what it still has for each session."""
    match fault:
        case "flush":
            await redis.call("FLUSHALL")
            return []
        case "rewound":
            await snapshot.restore()
            return [0, 1]
        case "trimmed":
            for session in sessions:
                await post(board, *range(3, 10), session=session)
            return [5, 6, 7, 8, 9]
        case _:
            for session in sessions:
                await post(board, 3, session=session)
            await eventually(lambda: is_gone(redis, keys_of(sessions[-1])[1]))
            return []


async def is_gone(redis: RedisServer, key: str) -> bool:
    return not await redis.call("EXISTS", key)


@wires
async def test_a_user_whose_missed_postbacks_have_expired_costs_no_calls(
    concierge: FakeConcierge, redis: RedisServer, wire: str
) -> None:
    more = {"REDISCLOUD_URL": redis.url, "MAILBOX_TTL": "1"}
    async with switchboard(concierge.url, SWIFT, **more) as board:
        await ready(board)
        await post(board, 0, 1, 2)
        await eventually(lambda: is_gone(redis, keys_of(SESSION)[1]))
        user = await User.joined(board, wire)

        assert await calls_in_a_quiet_second(redis) < 20
        await post(board, 3)
        assert await user.has(1) == [3]


async def test_a_user_whose_missed_postbacks_have_expired_from_memory_is_read_for_once() -> None:
    class CountingMailbox(MemoryMailbox):
        reads = 0

        def read(self, session: str, after: Mark | None) -> asyncio.Future[Page | None]:
            self.reads += 1
            if self.reads == 50:
                connection.close(1000)  # it will not end otherwise
            return super().read(session, after)

    mailbox = CountingMailbox(dataclasses.replace(RULES, lifetime=0))
    mailbox.add(SESSION, b"expires at once")
    connection = Connection(FakeSocket(), frames.CLASSIC, mailbox, Limits())
    connection.join(SESSION, after=None)
    await asyncio.sleep(0.3)  # in which it could read on and on
    connection.close(1000)

    assert mailbox.reads <= 2


async def calls_in_a_quiet_second(redis: RedisServer) -> int:
    """Return how many scripts and publications Redis runs in a second in which nobody posts."""

    async def calls() -> int:
        statistics = await redis.call("INFO", "commandstats")
        names = ("cmdstat_evalsha", "cmdstat_publish")
        return sum(statistics.get(name, {"calls": 0})["calls"] for name in names)

    before = await calls()
    await asyncio.sleep(1)  # the length of the measurement
    return await calls() - before


# Users come while postbacks are sent.


async def test_300_joins_in_the_middle_of_a_stream_lose_and_double_nothing(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    """A classic and a v1 socket each; without receipts, so that each gets the whole stream."""
    limits = dataclasses.replace(SWIFT, receipt_delay=60)
    async with (
        switchboard(concierge.url, limits, REDISCLOUD_URL=redis.url) as first,
        switchboard(concierge.url, limits, REDISCLOUD_URL=redis.url) as second,
    ):
        await ready(first)
        await ready(second)
        turns = asyncio.Semaphore(6)

        async def one(number: int) -> None:
            async with turns:
                posting, others = (first, second) if number % 2 else (second, first)
                await join_in_the_middle(f"joins-in-the-middle-{number:03}", posting, others)

        async with asyncio.TaskGroup() as rounds:
            for number in range(300):
                rounds.create_task(one(number))


async def join_in_the_middle(session: str, posting: Switchboard, other: Switchboard) -> None:
    count = 10
    posted = asyncio.Event()
    after = random.randrange(count)

    async def stream() -> None:
        for number in range(count):
            await post(posting, number, session=session)
            if number == after:
                posted.set()

    streaming = asyncio.create_task(stream())
    await posted.wait()
    await asyncio.sleep(random.uniform(0, 0.003))
    classic, v1 = await asyncio.gather(
        User.joined(random.choice([posting, other]), "classic", session),
        User.joined(random.choice([posting, other]), "v1", session),
    )
    await streaming
    await post(posting, count, session=session)

    assert await classic.has_number(count) == list(range(count + 1))
    assert await v1.has_number(count) == list(range(count + 1))
    assert [name.partition(":")[2] for name in v1.ids] == [str(n) for n in range(1, count + 2)]
    last = int(v1.hello["last"].partition(":")[2] or 0)
    assert v1.hello["missed"] == last
    await asyncio.gather(classic.close(), v1.close())


@wires
async def test_a_user_who_comes_and_goes_all_the_time_gets_each_postback_once(
    pair: Pair, open_raw: OpenRaw, wire: str
) -> None:
    """Each Close frame of a client proves what it has, up to the answer to it."""
    got: list[int] = []
    opened: dict[str, str] = {}
    leaving = asyncio.Event()

    async def stream() -> int:
        for number in itertools.count():
            await post(random.choice(pair), number)
            if leaving.is_set():
                return number
        raise AssertionError

    async def come(until: int | None = None) -> None:
        asked = "" if "token" in opened else f"?session={SESSION}"
        raw = await open_raw(random.choice(pair).url, f"/{asked}", wire_headers(wire))
        if wire == "v1":
            await raw.send(TEXT, json.dumps({"type": "open", **opened}).encode())
        taking = asyncio.create_task(take(raw, got, opened))
        if until is None:
            await asyncio.sleep(random.uniform(0, 0.05))
        else:
            await eventually(lambda: bool(got) and got[-1] >= until)
        await raw.send(CLOSE, b"\x03\xe8")
        await taking

    streaming = asyncio.create_task(stream())
    for _ in range(100):
        await come()
    leaving.set()
    last = await streaming
    await come(until=last)

    assert last > 100
    assert got == list(range(last + 1))


def wire_headers(wire: str) -> str:
    return "Sec-WebSocket-Protocol: switchboard.v1\r\n" if wire == "v1" else ""


async def take(raw: RawWebSocket, got: list[int], opened: dict[str, str]) -> None:
    """Keep what comes until the Close frame, and answer pings."""
    while True:
        opcode, payload = await raw.receive()
        if opcode == CLOSE:
            return
        if opcode == PING:
            raw.write(PONG, payload)
        if opcode != TEXT:
            continue
        content = json.loads(payload)
        if content.get("type") == "hello":
            opened["token"] = content["token"]
        elif content.get("type") == "message":
            opened["last"] = content["id"]
            got.append(content["data"]["n"])
        else:
            got.append(content["n"])


# Arrays that are longer than a mailbox.


def array(start: int, session: str = SESSION) -> list[dict[str, Any]]:
    """Return 1,000 postbacks of 200 bytes, with the numbers from *start* on."""
    made = []
    for number in range(start, start + 1000):
        content = {"to": session, "n": number, "body": ""}
        content["body"] = "x" * (200 - len(msgspec.json.encode(content)))
        made.append(content)
    return made


@wires
async def test_arrays_of_1000_postbacks_that_follow_each_other_arrive_whole(
    lone: Switchboard, wire: str
) -> None:
    user = await User.joined(lone, wire)

    for start in range(0, 5000, 1000):
        assert (await lone.postback(array(start))).status in {202, 204}

    assert await user.has(5000) == list(range(5000))


async def test_an_array_posted_as_soon_as_the_socket_is_open_arrives_whole(
    lone: Switchboard,
) -> None:
    for number in range(15):
        session = f"opens-right-before-an-array-{number:03}"
        user = await User.joined(lone, "classic", session)
        answer = await lone.postback(array(0, session))

        assert answer.status in {202, 204}
        assert await user.has(1000) == list(range(1000))
        await user.close()


@wires
async def test_an_array_that_a_join_falls_into_arrives_from_there_on_without_a_hole(
    concierge: FakeConcierge, redis: RedisServer, wire: str
) -> None:
    """It is published in parts that each fill the mailbox anew."""
    limits = dataclasses.replace(SWIFT, batch_messages=100)
    async with (
        switchboard(concierge.url, limits, REDISCLOUD_URL=redis.url) as first,
        switchboard(concierge.url, limits, REDISCLOUD_URL=redis.url) as second,
    ):
        await ready(first)
        await ready(second)
        for number in range(30):
            session = f"joins-amid-an-array-{number:03}"
            posting = asyncio.create_task(first.postback(array(0, session)))
            await asyncio.sleep(random.uniform(0, 0.1))
            user = await User.joined(random.choice([first, second]), wire, session)
            assert (await posting).status in {202, 204}
            got = await user.has_number(999)

            assert got == list(range(got[0], 1000))
            assert len(got) >= 100
            if wire == "v1":
                last = int(user.hello["last"].partition(":")[2] or 0)
                assert int(user.ids[0].partition(":")[2]) <= last - user.hello["missed"] + 1
            await user.close()


async def test_a_client_that_resumes_as_an_array_is_published_is_told_whether_something_is_missing(
    pair: Pair,
) -> None:
    for number in range(30):
        session = f"resumes-amid-an-array-{number:03}"
        before = await User.joined(pair[0], "v1", session)
        await post(pair[0], -1, session=session)
        await before.has(1)
        await before.close()

        posting = asyncio.create_task(pair[0].postback(array(0, session)))
        await asyncio.sleep(random.uniform(0, 0.03))
        opened = {"token": before.hello["token"], "last": before.ids[-1]}
        after = await User.joined(pair[1], "v1", session, **opened)
        assert (await posting).status in {202, 204}
        got = await after.has_number(999)

        assert got == list(range(got[0], 1000))
        assert after.hello["resumed"] == (got[0] == 0)
        await after.close()


# Clients that read slowly.


@wires
async def test_a_reader_that_pauses_gets_what_its_mailbox_still_has_and_nobody_waits(
    lone: Switchboard, open_raw: OpenRaw, wire: str
) -> None:
    slow = await open_raw(lone.url, f"/?session={SESSION}", wire_headers(wire), receive_buffer=4096)
    if wire == "v1":
        await slow.send(TEXT, b'{"type":"open"}')
    assert lone.app is not None
    [connection] = lone.app[keys.CONNECTIONS]
    other = await User.joined(lone, wire)
    most = 0

    for start in range(0, 3000, 50):
        await lone.postback(
            [{"to": SESSION, "n": n, "body": "x" * 2000} for n in range(start, start + 50)]
        )
        most = max(most, connection.waiting)
    assert await other.has(3000) == list(range(3000))
    got: list[int] = []
    taking = asyncio.create_task(take(slow, got, {}))
    await eventually(lambda: bool(got) and got[-1] == 2999)
    taking.cancel()

    assert 0 < most <= 512 * 1024 / 2000  # what its line holds
    assert got == sorted(set(got))
    assert got[-100:] == list(range(2900, 3000))
    assert len(got) < 3000
    assert connection.close_code is None


@pytest.mark.parametrize("kilobytes", [1000, 4000])
async def test_a_slow_reader_that_goes_on_reading_is_not_cut_off(
    concierge: FakeConcierge, open_raw: OpenRaw, kilobytes: int
) -> None:
    """Two fifths of the default patience, and five times the rate of a poor mobile link."""
    limits = Limits(stall=4.0, pong=5.0)
    async with switchboard(concierge.url, limits) as board:
        slow = await open_raw(board.url, f"/?session={SESSION}", receive_buffer=4096)
        for start in range(0, kilobytes // 10, 100):
            await board.postback(
                [{"to": SESSION, "n": n, "body": "x" * 9900} for n in range(start, start + 100)]
            )
        last = kilobytes // 10 - 1
        assert board.app is not None
        [connection] = board.app[keys.CONNECTIONS]
        began, size, got = time.monotonic(), 0, [-1]

        while got[-1] < last:
            opcode, payload = await slow.receive()
            assert opcode in {TEXT, PING}
            if opcode == TEXT:
                got.append(json.loads(payload)["n"])
            else:
                slow.write(PONG, payload)
            size += len(payload)
            await asyncio.sleep(max(0, size / 200_000 - (time.monotonic() - began)))

        assert connection.close_code is None
        assert got == sorted(set(got))
        taking = asyncio.create_task(take(slow, got, {}))  # it goes on to answer pings
        await eventually(lambda: connection.receipts.complete)
        taking.cancel()


# Strangers on the channel.


def forgeries(epoch: str) -> list[str]:
    """Return what a stranger may publish; *epoch* is the session's."""
    tags: list[object] = [
        "zzzz:999999999999", "zzzz:1", f"{epoch}:999999999999", f"{epoch}:999999999999999",
        f"{epoch}:1", f"{epoch}:0", f"{epoch}:00", f"{epoch}:-1", f"{epoch}:1.5", f"{epoch}:1e3",
        f"{epoch}:" + "9" * 40, f"{epoch}:", epoch, ":5", ":", "", f" {epoch}:9 ", f"{epoch}:9:9",
        f"{epoch.upper()}X:9", "é:9", "z" * 4000 + ":9", 5, -1.5, True, None, {"a": 1}, [epoch, 9],
    ]  # fmt: skip
    plain = json.dumps({"to": SESSION, "forged": True})
    first = [f'{{"switchboard":{json.dumps(tag)},{plain[1:]}' for tag in tags]
    elsewhere = [
        f'{plain[:-1]},"switchboard":"{epoch}:999999999999"}}',
        f'{{"switchboard":"","switchboard":"{epoch}:999999999999",{plain[1:]}',
        f'{{ "switchboard":"{epoch}:999999999999",{plain[1:]}',
        f'{{"switch\\u0062oard":"{epoch}:999999999999",{plain[1:]}',
        f'{{"switchboard":"{epoch}:999999999999"}}',
        f'{{"switchboard":"{epoch}:999999999999",',
    ]
    return first + elsewhere


@wires
async def test_forged_and_absurd_tags_deafen_nobody(
    pair: Pair, redis: RedisServer, wire: str
) -> None:
    users = [await User.joined(board, wire) for board in pair]
    await post(pair[0], 0)
    epoch = (await redis.call("HGET", keys_of(SESSION)[0], "epoch")).decode()
    forged = forgeries(epoch)

    for number, forgery in enumerate(forged, 1):
        await redis.publish(forgery)
        await post(pair[number % 2], number)

    for user in users:
        await user.has_number(len(forged))
        assert genuine(user) == list(range(len(forged) + 1))


@wires
async def test_a_flood_of_forged_tags_deafens_nobody_and_keeps_nothing_busy_afterwards(
    pair: Pair, redis: RedisServer, wire: str
) -> None:
    users = [await User.joined(board, wire) for board in pair]
    await post(pair[0], 0)
    epoch = (await redis.call("HGET", keys_of(SESSION)[0], "epoch")).decode()

    async def flood() -> None:
        async with Redis(port=redis.port) as client:
            for start in range(0, 5000, 100):
                async with client.pipeline(transaction=False) as pipeline:
                    for number in range(start, start + 100):
                        tag = random.choice([f"{epoch}:{10**6 + number}", f"zzzz:{number + 1}"])
                        forgery = {"switchboard": tag, "to": SESSION, "forged": number}
                        await pipeline.publish("bot-message", msgspec.json.encode(forgery))
                    await pipeline.execute()

    flooding = asyncio.create_task(flood())
    await post(pair[1], *range(1, 50))
    await flooding
    await post(pair[0], 50)

    for user in users:
        await user.has_number(50)
        assert genuine(user) == list(range(51))
        assert len(user.contents) == 51  # a well-formed tag that is wrong makes nothing genuine
    await eventually(lambda: all_proven(pair))
    assert await calls_in_a_quiet_second(redis) < 20


@wires
async def test_a_stranger_who_takes_the_very_next_id_keeps_nobody_from_whose_it_is(
    pair: Pair, redis: RedisServer, wire: str
) -> None:
    users = [await User.joined(board, wire) for board in pair]
    await post(pair[0], 0)
    epoch = (await redis.call("HGET", keys_of(SESSION)[0], "epoch")).decode()

    await publish_as(redis, f"{epoch}:2")
    for user in users:
        await user.has(2)  # nothing tells it from a genuine one yet
    for number in range(1, 8):
        await post(pair[number % 2], number)

    for user in users:
        await user.has_number(7)
        # The genuine one can't have an id that was used: they come again under another epoch.
        assert list(dict.fromkeys(genuine(user))) == list(range(8))
        if wire == "v1":
            assert len(set(user.ids)) == len(user.ids)


@wires
async def test_a_stranger_who_takes_some_of_the_next_ids_keeps_nobody_from_whose_they_are(
    pair: Pair, redis: RedisServer, wire: str
) -> None:
    users = [await User.joined(board, wire) for board in pair]
    await post(pair[0], 0)
    epoch = (await redis.call("HGET", keys_of(SESSION)[0], "epoch")).decode()

    for number in (2, 3, 4):
        await publish_as(redis, f"{epoch}:{number}")
    for user in users:
        await user.has(4)
    for number in range(1, 8):
        await post(pair[number % 2], number)

    for user in users:
        await user.has_number(7)
        # Redis seems to have gone back in time, so that some come again under another epoch.
        assert list(dict.fromkeys(genuine(user))) == list(range(8))


async def publish_as(redis: RedisServer, tag: str) -> None:
    """Publish what bears *tag* as only a genuine postback would."""
    await redis.publish(f'{{"switchboard":"{tag}","to":"{SESSION}","forged":true}}')


def genuine(user: User) -> list[int]:
    return [content["n"] for content in user.contents if "forged" not in content]


def all_proven(boards: Sequence[Switchboard]) -> bool:
    """Tell whether every client has given a receipt for all it was sent."""
    tables = [board.app[keys.CONNECTIONS] for board in boards if board.app is not None]
    return all(connection.receipts.complete for table in tables for connection in table)


# The subscription is lost.


async def test_subscriptions_ended_in_the_middle_of_a_stream_lose_and_double_nothing(
    pair: Pair, redis: RedisServer
) -> None:
    users = [await User.joined(board, wire) for board in pair for wire in ("classic", "v1")]
    leaving = asyncio.Event()

    async def stream() -> int:
        for number in itertools.count():
            await post(pair[0], number)
            if leaving.is_set():
                return number
            await asyncio.sleep(0.002)
        raise AssertionError

    streaming = asyncio.create_task(stream())
    for _ in range(8):
        await asyncio.sleep(random.uniform(0.2, 0.5))
        await redis.call("CLIENT", "KILL", "TYPE", "pubsub")
    await ready(pair[0])
    leaving.set()
    last = await streaming

    for user in users:
        assert await user.has_number(last) == list(range(last + 1))


@pytest.fixture
async def reluctant(
    concierge: FakeConcierge, redis: RedisServer, pair: Pair
) -> AsyncIterator[Switchboard]:
    """A third switchboard, which waits for 0.4 s at least before it listens again."""
    limits = dataclasses.replace(SWIFT, redis_pause=2)
    async with switchboard(concierge.url, limits, REDISCLOUD_URL=redis.url) as board:
        await ready(board)
        yield board


@wires
async def test_what_was_published_while_the_subscription_was_made_anew_reaches_a_slow_reader(
    pair: Pair, reluctant: Switchboard, redis: RedisServer, open_raw: OpenRaw, wire: str
) -> None:
    """It was behind already, with something heard before the gap and nothing after it."""
    slow = await open_raw(
        reluctant.url, f"/?session={SESSION}", wire_headers(wire), receive_buffer=4096
    )
    if wire == "v1":
        await slow.send(TEXT, b'{"type":"open"}')
    assert reluctant.app is not None
    [connection] = reluctant.app[keys.CONNECTIONS]
    other = await User.joined(reluctant, wire)
    numbers = itertools.count()
    while not connection.waiting:
        await pair[0].postback({"to": SESSION, "n": next(numbers), "body": "x" * 100_000})

    await end_latest_subscription(redis)
    await ready(reluctant, 503)
    await ready(reluctant)
    heard = next(numbers)
    await post(pair[0], heard)
    await other.has_number(heard)
    await end_latest_subscription(redis)
    unheard = next(numbers)
    await post(pair[0], unheard)
    await other.has_number(unheard)

    got: list[int] = []
    taking = asyncio.create_task(take(slow, got, {}))
    await eventually(lambda: bool(got) and got[-1] == unheard)
    taking.cancel()
    assert got == list(range(unheard + 1))


async def end_latest_subscription(redis: RedisServer) -> None:
    listed = (await redis.call("CLIENT", "LIST", "TYPE", "pubsub")).decode()
    names = [int(line.split()[0].partition("=")[2]) for line in listed.splitlines()]
    assert await redis.call("CLIENT", "KILL", "ID", max(names)) == 1
