"""The line from users to the Concierge: order, retries, outcomes, bounds."""

import asyncio
import dataclasses
import random
import signal
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest
from aiohttp.client import ClientWebSocketResponse

from switchboard_operator.broker.memory import MemoryBroker
from switchboard_operator.concierge import Concierge
from switchboard_operator.connections import Connections
from switchboard_operator.feedback import Feedback
from switchboard_operator.limits import Limits
from switchboard_operator.messages import UserMessage
from switchboard_operator.metrics import Metrics
from switchboard_operator.settings import Settings
from switchboard_operator.turns import Turns
from switchboard_operator.uplink import Uplink
from tests.conftest import OpenRaw
from tests.fakes import FakeConcierge, Incoming
from tests.raw import TEXT
from tests.redis_server import free_port
from tests.switchboards import ROOT, SESSION, Switchboard, eventually, switchboard, variables
from tests.test_connections import RULES

QUICK = Limits(retry_first=0.02, retry_longest=0.1, retry_total=10)


def bodies(incoming: list[Incoming]) -> list[str]:
    return [one.content["Body"] for one in incoming]


async def say(socket: ClientWebSocketResponse, *texts: str) -> None:
    for text in texts:
        await socket.send_json({"message": text})


@pytest.mark.slow
async def test_500_messages_arrive_once_in_order_while_others_proceed(
    concierge: FakeConcierge,
) -> None:
    dice = random.Random(7)
    troubled_busy_until = 0.0
    others_done_at = 0.0

    async def troubled(incoming: Incoming) -> int:
        nonlocal troubled_busy_until
        if incoming.content["From"] == SESSION:
            troubled_busy_until = time.monotonic()
            return 503 if dice.random() < 0.3 else 204
        return 204

    concierge.answer = troubled
    limits = Limits(retry_first=0.02, retry_longest=0.2)
    async with switchboard(concierge.url, limits, RATE_LIMIT="0") as board:
        mine = await board.connect()
        others = {f"user-{number:02}-of-fifty": await board.connect(f"user-{number:02}-of-fifty")
                  for number in range(50)}  # fmt: skip

        async def proceed() -> None:
            nonlocal others_done_at
            for number in range(10):
                await asyncio.gather(*(say(other, str(number)) for other in others.values()))
            while sum(one.content["From"] != SESSION for one in concierge.accepted) < 500:
                await concierge.has_accepted(len(concierge.accepted) + 1)
            others_done_at = time.monotonic()

        async with asyncio.TaskGroup() as both:
            both.create_task(say(mine, *map(str, range(500))))
            both.create_task(proceed())
        accepted = await concierge.has_accepted(1000)

    by_session = defaultdict(list)
    for one in accepted:
        by_session[one.content["From"]].append(one.content["Body"])
    assert by_session.pop(SESSION) == [str(number) for number in range(500)]
    assert by_session == {name: [str(number) for number in range(10)] for name in others}
    assert others_done_at < troubled_busy_until


@pytest.mark.parametrize("status", [429, 503])
async def test_a_message_that_cannot_have_been_processed_is_tried_again_as_the_same(
    concierge: FakeConcierge, status: int
) -> None:
    statuses = iter([status, status, 204])

    async def recover(_incoming: Incoming) -> int:
        return next(statuses)

    concierge.answer = recover
    async with switchboard(concierge.url, QUICK) as board:
        await say(await board.connect(), "again")
        await concierge.has_accepted(1)

        attempts = concierge.received
        assert bodies(attempts) == ["again"] * 3
        assert len({attempt.header("Idempotency-Key") for attempt in attempts}) == 1
        assert attempts[0].header("Idempotency-Key").startswith(f"{SESSION}:")
        assert len({attempt.header("X-Request-ID") for attempt in attempts}) == 1


@pytest.mark.parametrize(
    ("status", "idempotent", "outcome"),
    [
        (204, "0", "accepted"),
        (200, "0", "accepted"),
        (202, "0", "accepted"),
        (301, "0", "concierge_rejected"),
        (307, "0", "concierge_rejected"),
        (400, "0", "concierge_rejected"),
        (401, "0", "concierge_rejected"),
        (404, "0", "concierge_rejected"),
        (422, "1", "concierge_rejected"),
        (500, "0", "concierge_timeout"),
        (500, "1", "concierge_timeout"),
        (502, "0", "concierge_timeout"),
        (504, "1", "concierge_timeout"),
        (599, "0", "concierge_timeout"),
    ],
)
async def test_any_other_answer_settles_a_message_at_once(
    concierge: FakeConcierge, status: int, idempotent: str, outcome: str
) -> None:
    answers = iter([status])

    async def answer(_incoming: Incoming) -> int:
        return next(answers, 204)

    concierge.answer = answer
    async with switchboard(concierge.url, QUICK, CONCIERGE_IDEMPOTENT=idempotent) as board:
        await say(await board.connect(), "first", "second")
        await concierge.has_received(2)

        assert bodies(concierge.received) == ["first", "second"]
        await settled(board, outcome)


async def settled(board: Switchboard, outcome: str) -> None:
    """Wait until a message has had that outcome."""

    async def moved() -> bool:
        return bool(await board.metric("switchboard_user_messages_total", outcome=outcome))

    await eventually(moved)


@pytest.mark.parametrize(("idempotent", "attempts"), [("0", 1), ("1", 2)])
async def test_a_502_is_tried_again_only_if_the_concierge_is_idempotent(
    concierge: FakeConcierge, idempotent: str, attempts: int
) -> None:
    answers = iter([502])

    async def answer(_incoming: Incoming) -> int:
        return next(answers, 204)

    concierge.answer = answer
    async with switchboard(concierge.url, QUICK, CONCIERGE_IDEMPOTENT=idempotent) as board:
        await say(await board.connect(), "once", "then")
        await concierge.has_received(attempts + 1)

        assert bodies(concierge.received) == ["once"] * attempts + ["then"]


@pytest.mark.slow
async def test_a_message_that_timed_out_is_posted_once(concierge: FakeConcierge) -> None:
    async def hang(incoming: Incoming) -> int:
        if incoming.content["Body"] == "slow":
            await asyncio.Event().wait()
        return 204

    concierge.answer = hang
    async with switchboard(
        concierge.url, QUICK, CONCIERGE_TIMEOUT="0.2", CONCIERGE_IDEMPOTENT="1"
    ) as board:
        await say(await board.connect(), "slow", "next")
        await concierge.has_received(2)
        await settled(board, "concierge_timeout")

        assert bodies(concierge.received) == ["slow", "next"]


@pytest.mark.parametrize(("idempotent", "outcome"), [("0", "concierge_timeout"), ("1", "accepted")])
async def test_a_link_that_dies_after_sending_leaves_the_outcome_unknown(
    idempotent: str, outcome: str
) -> None:
    connections = 0

    async def die_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        if connections > 1:
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(die_once, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with (
        server,
        switchboard(f"http://127.0.0.1:{port}", QUICK, CONCIERGE_IDEMPOTENT=idempotent) as board,
    ):
        await say(await board.connect(), "once")

        await settled(board, outcome)
        assert connections == (1 if outcome == "concierge_timeout" else 2)


def uplink_to(concierge: object, metrics: Metrics) -> Uplink:
    settings = Settings.read(variables("http://127.0.0.1:9", RATE_LIMIT="0"))
    limits = Limits()
    broker = MemoryBroker(RULES, limits)
    turns = Turns(metrics, limits.unanswered)
    feedback = Feedback(Connections(limits), broker, turns, "", 60)
    return Uplink(cast("Concierge", concierge), broker.leases, feedback, settings, limits, metrics)


class BuggyConcierge:
    """Fails on one message as only a bug can."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    async def post(self, message: UserMessage) -> None:
        if message.body == b"1":
            raise ZeroDivisionError
        self.got.append(message.body)


@pytest.mark.plants_a_bug
async def test_a_bug_costs_one_message_and_is_counted_and_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    concierge, metrics = BuggyConcierge(), Metrics("test")
    uplink = uplink_to(concierge, metrics)

    for number in range(4):
        uplink.put(UserMessage(SESSION, str(number), b"%d" % number, 0.0))
    await eventually(lambda: not uplink.queued)

    assert concierge.got == [b"0", b"2", b"3"]
    assert metrics.task_failures._value.get() == 1
    assert "ZeroDivisionError" in caplog.text


async def test_what_is_not_settled_at_the_end_is_counted_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Silent:
        async def post(self, _message: UserMessage) -> None:
            await asyncio.Event().wait()

    uplink = uplink_to(Silent(), Metrics("test"))
    async with uplink:
        for number in range(10):
            uplink.put(UserMessage(SESSION, str(number), b"", 0.0))
        await asyncio.sleep(0)
        assert uplink.queued == 10

    assert "messages=10" in caplog.text


async def test_a_redirect_is_never_followed(concierge: FakeConcierge) -> None:
    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 307 Temporary Redirect\r\nContent-Length: 0\r\nConnection: close\r\n"
            b"Location: " + concierge.url.encode() + b"/incoming/postback\r\n\r\n"
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(redirect, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, switchboard(f"http://127.0.0.1:{port}", QUICK) as board:
        await say(await board.connect(), "stay here")

        await settled(board, "concierge_rejected")
    assert concierge.received == []


@pytest.mark.slow
async def test_a_message_is_given_up_when_its_time_is_up_and_the_next_has_its_turn(
    concierge: FakeConcierge,
) -> None:
    async def refuse_the_first(incoming: Incoming) -> int:
        return 503 if incoming.content["Body"] == "first" else 204

    concierge.answer = refuse_the_first
    limits = dataclasses.replace(QUICK, retry_total=2)
    async with switchboard(concierge.url, limits) as board:
        await say(await board.connect(), "first", "second")

        assert bodies(await concierge.has_accepted(1)) == ["second"]
        assert await board.metric(
            "switchboard_user_messages_total", outcome="concierge_unavailable"
        ) == 1  # fmt: skip
        assert Counter(bodies(concierge.received))["first"] > 2


@pytest.mark.slow
async def test_messages_that_wait_in_a_line_that_moves_are_not_given_up(
    concierge: FakeConcierge,
) -> None:
    tries: Counter[str] = Counter()

    async def refuse_each_a_few_times(incoming: Incoming) -> int:
        tries[incoming.content["Body"]] += 1
        return 503 if tries[incoming.content["Body"]] <= 3 else 204

    concierge.answer = refuse_each_a_few_times
    limits = Limits(retry_first=0.3, retry_longest=0.3, retry_total=2.5)
    async with switchboard(concierge.url, limits) as board:
        texts = [str(number) for number in range(20)]
        await say(await board.connect(), *texts)

        # All twenty take several times as long as each may.
        assert bodies(await concierge.has_accepted(20)) == texts


@pytest.mark.slow
async def test_a_message_is_given_up_30_s_after_its_arrival() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with switchboard(url) as board:
            began = time.monotonic()
            await say(await board.connect(), "nobody listens")
            await settled(board, "concierge_unavailable")

            assert 29.5 < time.monotonic() - began < 45
            refused = await board.metric("switchboard_concierge_errors_total", kind="connect")
            assert refused >= 8  # at most every 4 s, and soon at first


@pytest.mark.slow
async def test_the_concierge_has_15_s_to_answer(concierge: FakeConcierge) -> None:
    concierge.hold()
    async with switchboard(concierge.url) as board:
        began = time.monotonic()
        await say(await board.connect(), "take your time")
        await concierge.has_received(1)
        await settled(board, "concierge_timeout")

        assert 14.5 < time.monotonic() - began < 25


async def test_what_was_said_on_an_old_socket_comes_before_the_next_one(
    concierge: FakeConcierge,
) -> None:
    released = concierge.hold()
    limits = Limits(uplink_queue=5, parked_frames=5)
    async with switchboard(concierge.url, limits, RATE_LIMIT="0") as board:
        old = await board.connect()
        await say(old, *(f"old {number}" for number in range(40)))
        await concierge.has_received(1)
        closing = asyncio.create_task(old.close())  # answered when all before it is read
        new = await board.connect()
        await say(new, *(f"new {number}" for number in range(5)))
        released.set()

        said = bodies(await concierge.has_accepted(45))
        await closing

    assert said == [f"old {n}" for n in range(40)] + [f"new {n}" for n in range(5)]


async def test_what_a_session_may_have_waiting_does_not_grow_by_reconnecting(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    released = concierge.hold()
    limits = Limits(uplink_queue=5, parked_frames=5, heartbeat=1, pong=1)
    async with switchboard(concierge.url, limits, RATE_LIMIT="0") as board:
        for number in range(30):
            raw = await open_raw(board.url, f"/?session={SESSION}")
            await raw.send(TEXT, b'{"message": "%d"}' % number)
            raw.abort()

        async def all_are_gone() -> bool:
            return await board.metric("switchboard_connections", wire="classic") == 0

        assert await board.metric("switchboard_uplink_queued") <= 10
        released.set()
        await eventually(all_are_gone)


async def test_no_more_posts_are_under_way_than_allowed_and_every_session_has_its_turn(
    concierge: FakeConcierge,
) -> None:
    under_way = 0
    most = 0
    said = asyncio.Event()

    async def count(_incoming: Incoming) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await said.wait()
        await asyncio.sleep(0.01)
        under_way -= 1
        return 204

    concierge.answer = count
    async with switchboard(concierge.url, CONCIERGE_CONCURRENCY="4") as board:
        sockets = [await board.connect(f"session-number-{number:03}") for number in range(12)]
        for socket_ in sockets:
            await say(socket_, *map(str, range(5)))
        await concierge.has_received(4)
        await eventually(lambda: queued(board, 60))
        said.set()
        accepted = await concierge.has_accepted(60)

    assert most == 4
    # Fair: nobody is a round ahead by more than those under way.
    seen: Counter[str] = Counter()
    for one in accepted:
        seen[one.content["From"]] += 1
        if len(seen) == 12:
            assert max(seen.values()) - min(seen.values()) <= 2


async def queued(board: Switchboard, count: int) -> bool:
    return await board.metric("switchboard_uplink_queued") == count


@pytest.mark.slow
@pytest.mark.on_asyncio  # on uvloop aiohttp, which is the Concierge here, reads on and drops
async def test_a_concierge_that_stops_and_comes_back_gets_every_message_once_in_order(
    concierge: FakeConcierge,
) -> None:
    """In our own loop, so that nothing is cut off between two turns of it: none may be lost."""
    texts = [str(number) for number in range(60)]
    limits = Limits(retry_first=0.1, retry_longest=0.4)
    async with switchboard(concierge.url, limits, RATE_LIMIT="0") as board:
        sockets = {name: await board.connect(name) for name in sessions(20)}

        async with asyncio.TaskGroup() as saying:
            for open_socket in sockets.values():
                saying.create_task(say(open_socket, *texts))
            await concierge.has_accepted(200)
            await concierge.stop()
            await asyncio.sleep(1)  # a while in which every attempt is refused
            await concierge.start()
        accepted = await concierge.has_accepted(20 * len(texts))

    said = defaultdict(list)
    for one in accepted:
        said[one.content["From"]].append(one.content["Body"])
    assert said == dict.fromkeys(sockets, texts)


def sessions(count: int) -> list[str]:
    return [f"session-number-{number:03}" for number in range(count)]


@asynccontextmanager
async def concierge_process(port: int, record: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.concierge_process", str(port), str(record),
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert await process.stdout.readline() == b"listening\n"
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def recorded(record: Path) -> dict[str, list[str]]:
    said: dict[str, list[str]] = defaultdict(list)
    for line in record.read_text().splitlines():
        _, session, text = line.split("\t")
        said[session].append(text)
    return said


async def until(record: Path, count: int) -> None:
    """Wait until the Concierge has written *count* lines."""
    await eventually(lambda: len(record.read_text().splitlines()) >= count)


@pytest.mark.slow
async def test_a_killed_concierge_gets_every_message_once_in_order_if_it_is_idempotent(
    tmp_path: Path,
) -> None:
    record = tmp_path / "record"
    record.touch()
    port = free_port()
    texts = [str(number) for number in range(60)]
    limits = Limits(retry_first=0.1, retry_longest=0.4)
    async with switchboard(
        f"http://127.0.0.1:{port}", limits, RATE_LIMIT="0", CONCIERGE_IDEMPOTENT="1"
    ) as board:
        async with concierge_process(port, record) as process, asyncio.TaskGroup() as saying:
            for name in sessions(20):
                saying.create_task(say(await board.connect(name), *texts))
            await until(record, 300)
            process.kill()
            await process.wait()
        async with concierge_process(port, record):
            await until(record, 20 * len(texts))

    assert recorded(record) == dict.fromkeys(sessions(20), texts)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_concierge_that_ends_doubles_nothing_and_every_doubt_is_counted(
    tmp_path: Path, how: signal.Signals
) -> None:
    """Without a promise of idempotence, what was under way at the kill must not be repeated."""
    record = tmp_path / "record"
    record.touch()
    port = free_port()
    texts = [str(number) for number in range(60)]
    limits = Limits(retry_first=0.1, retry_longest=0.4)
    async with switchboard(f"http://127.0.0.1:{port}", limits, RATE_LIMIT="0") as board:
        async with concierge_process(port, record) as process, asyncio.TaskGroup() as saying:
            for name in sessions(20):
                saying.create_task(say(await board.connect(name), *texts))
            await until(record, 300)
            process.send_signal(how)
            await process.wait()
        async with concierge_process(port, record):
            outcomes: Counter[str] = Counter()

            async def all_settled() -> bool:
                for outcome in ("accepted", "concierge_timeout"):
                    outcomes[outcome] = int(
                        await board.metric("switchboard_user_messages_total", outcome=outcome)
                    )
                return outcomes.total() == 20 * len(texts)

            await eventually(all_settled)

    said = recorded(record)
    for name in sessions(20):
        assert said[name] == sorted(set(said[name]), key=int), "doubled or out of order"
    missing = 20 * len(texts) - sum(map(len, said.values()))
    assert missing <= outcomes["concierge_timeout"] <= 20  # one POST is under way per session
