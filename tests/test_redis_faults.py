"""
A stream of postbacks through two instances while something befalls their Redis.

Each fault is seen, and told; once it is over, everything that was taken meanwhile has arrived.
"""

import asyncio
import dataclasses
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from switchboard_operator.limits import Limits
from tests.fakes import FakeConcierge
from tests.proxy import Proxy
from tests.redis_server import RedisServer, redis_server
from tests.switchboards import Switchboard, eventually, switchboard
from tests.test_delivery import User
from tests.test_redis_broker import QUICK, SLACK, ready

pytestmark = pytest.mark.slow  # each waits for a Redis to be missed and found

# An outage can be seen from outside as long as no new link is tried.
IMPATIENT = dataclasses.replace(QUICK, redis_pause=0.5, redis_settle=0.6)
SESSIONS = [f"a-session-in-trouble-{number}" for number in range(5)]
EVERY = 0.1  # seconds between two postbacks to an instance: few enough for every mailbox


class Route(Proxy):
    """A way to Redis that can be dropped in either direction, or in both."""

    def __init__(self, target: int) -> None:
        super().__init__(target)
        self._questions = asyncio.Event()
        self._questions.set()
        self._open = asyncio.Event()
        self._open.set()

    async def _carry(self, client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        await self._open.wait()
        await super()._carry(client, back)

    async def _forth(
        self, client: asyncio.StreamReader, there: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        gated = asyncio.StreamReader()
        passing = asyncio.create_task(self._pass(client, gated))
        await super()._forth(gated, there, back)
        await passing

    async def _pass(self, client: asyncio.StreamReader, gated: asyncio.StreamReader) -> None:
        try:
            while data := await client.read(65536):
                await self._questions.wait()
                gated.feed_data(data)
        except ConnectionError as exc:
            gated.set_exception(exc)
        else:
            gated.feed_eof()

    def hold(self) -> None:
        """Have new links wait for now."""
        self._open.clear()

    def silence_questions(self) -> None:
        """Carry nothing more to Redis for now; what it says comes through."""
        self._questions.clear()

    def restore(self) -> None:
        """Carry everything again."""
        super().restore()
        self._questions.set()
        self._open.set()


class Stream:
    """Postbacks through one instance to each session in turn, for as long as it runs."""

    def __init__(self, board: Switchboard, name: str) -> None:
        self.name = name
        self.posted: dict[str, int] = defaultdict(int)  # by session
        self._board = board
        self._running = True
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Post no more; what is under way is answered first."""
        self._running = False
        await self._task

    async def _run(self) -> None:
        for session in itertools.cycle(SESSIONS):
            number = self.posted[session]
            content = {"to": session, "via": self.name, "n": number}
            answer = await self._board.postback(content)
            assert answer.status in {202, 204}
            self.posted[session] += 1
            if not self._running:
                return
            await asyncio.sleep(EVERY)


@dataclasses.dataclass
class Trouble:
    """Two instances, each of which reaches Redis by a route of its own, and their users."""

    redis: RedisServer
    routes: tuple[Route, Route]
    first: Switchboard
    second: Switchboard
    users: dict[str, list[User]]  # by session
    streams: list[Stream]

    def posted(self) -> dict[tuple[str, str], int]:
        """Return how many postbacks were taken so far, by session and stream."""
        return {
            (session, stream.name): stream.posted[session]
            for session in SESSIONS
            for stream in self.streams
        }

    def arrived(self, session: str, name: str) -> list[list[int]]:
        """Return what each user of a session has of one stream."""
        return [
            [content["n"] for content in user.contents if content["via"] == name]
            for user in self.users[session]
        ]

    async def everybody_has(self, posted: dict[tuple[str, str], int]) -> None:
        """Wait until all that was *posted* has arrived everywhere."""
        for (session, name), count in posted.items():
            await eventually(
                lambda session=session, name=name, count=count: all(  # type: ignore[misc] # bool
                    len(set(got)) >= count for got in self.arrived(session, name)
                )
            )


@asynccontextmanager
async def trouble(
    concierge: FakeConcierge, redis: RedisServer, limits: Limits
) -> AsyncIterator[Trouble]:
    async with (
        Route(redis.port).serving() as way,
        Route(redis.port).serving() as other,
        switchboard(concierge.url, limits, REDISCLOUD_URL=f"redis://127.0.0.1:{way.port}") as one,
        switchboard(concierge.url, limits, REDISCLOUD_URL=f"redis://127.0.0.1:{other.port}") as two,
    ):
        await ready(one)
        await ready(two)
        users = {
            session: [
                await User.joined(board, wire, session)
                for board in (one, two)
                for wire in ("classic", "v1")
            ]
            for session in SESSIONS
        }
        streams = [Stream(one, "first"), Stream(two, "second")]
        try:
            yield Trouble(redis, (way, other), one, two, users, streams)
        finally:
            for stream in streams:
                await stream.stop()


@dataclasses.dataclass(frozen=True)
class Fault:
    """What befalls Redis or the way to it, and what ends that, if it does not end by itself."""

    name: str
    begin: Callable[[Trouble], Awaitable[object]]
    end: Callable[[Trouble], Awaitable[object]] | None = None
    lasts: float = 0.0  # seconds, with the real limits
    both: bool = True  # instances are hit, or the first alone
    forgets: bool = False  # so that some may arrive twice

    def __str__(self) -> str:
        return self.name


async def kill(at: Trouble) -> None:
    await at.redis.kill()


async def save_and_go_on_and_kill(at: Trouble) -> None:
    await at.redis.call("SAVE")
    await at.everybody_has({each: count + 2 for each, count in at.posted().items()})
    await at.redis.kill()


async def start(at: Trouble) -> None:
    await at.redis.start()


async def freeze(at: Trouble) -> None:
    at.redis.freeze()


async def thaw(at: Trouble) -> None:
    at.redis.thaw()


async def end_subscriptions(at: Trouble) -> None:
    hold_links(at)
    assert await at.redis.call("CLIENT", "KILL", "TYPE", "pubsub") == 2


def hold_links(at: Trouble) -> None:
    """Have what is over in a moment last until it was seen, however slowly anybody looks."""
    for route in at.routes:
        route.hold()


async def publish_more_than_redis_buffers(at: Trouble) -> None:
    hold_links(at)
    assert await at.redis.publish(b"x" * 40_000_000) == 2


async def drop_answers(at: Trouble) -> None:
    at.routes[0].silence()


async def drop_questions(at: Trouble) -> None:
    at.routes[0].silence_questions()


async def drop_both(at: Trouble) -> None:
    at.routes[0].silence()
    at.routes[0].silence_questions()


async def restore(at: Trouble) -> None:
    for route in at.routes:
        route.restore()


async def reset(at: Trouble) -> None:
    at.routes[0].cut()
    at.routes[0].restore()


FAULTS = [
    Fault("restarted empty", kill, start, lasts=3, forgets=True),
    Fault("restarted with an older file", save_and_go_on_and_kill, start, lasts=3, forgets=True),
    Fault("frozen", freeze, thaw, lasts=30),
    Fault("subscriptions ended", end_subscriptions, restore),
    Fault("output buffers full", publish_more_than_redis_buffers, restore),
    Fault("answers dropped", drop_answers, restore, lasts=15, both=False),
    Fault("questions dropped", drop_questions, restore, lasts=15, both=False),
    Fault("route dropped", drop_both, restore, lasts=15, both=False),
    Fault("route dropped, links lost", drop_both, reset, lasts=15, both=False),
]
faults = pytest.mark.parametrize("fault", FAULTS, ids=str)


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis that begins with what it saved last."""
    async with redis_server(["--dir", str(tmp_path)]) as server:
        yield server


@faults
async def test_what_was_taken_while_redis_was_in_trouble_arrives(
    concierge: FakeConcierge, redis: RedisServer, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    async with trouble(concierge, redis, IMPATIENT) as at:
        await endure(at, fault, caplog, lasts=min(fault.lasts, 2))


@faults
async def test_with_real_limits_trouble_is_seen_within_10_s_and_over_within_5(
    concierge: FakeConcierge, redis: RedisServer, caplog: pytest.LogCaptureFixture, fault: Fault
) -> None:
    async with trouble(concierge, redis, Limits()) as at:
        seen, over = await endure(at, fault, caplog, lasts=fault.lasts)

    assert seen < 10 + SLACK
    assert over < 5 + SLACK


async def endure(
    at: Trouble, fault: Fault, caplog: pytest.LogCaptureFixture, lasts: float
) -> tuple[float, float]:
    """Return after how many seconds the fault was seen, and how long its effects outlived it."""
    boards = [at.first, at.second] if fault.both else [at.first]
    await at.everybody_has(dict.fromkeys(at.posted(), 1))
    caplog.clear()

    await fault.begin(at)
    began = time.monotonic()
    await asyncio.gather(*(missed(board) for board in boards))
    seen = time.monotonic() - began
    assert "redis is missed" in caplog.text
    if fault.end is not None:
        await asyncio.sleep(lasts - seen)
        await fault.end(at)
        began = time.monotonic()
    await at.everybody_has(at.posted())
    for board in boards:
        await ready(board)
    over = time.monotonic() - began

    for stream in at.streams:
        await stream.stop()
    posted = at.posted()
    await at.everybody_has(posted)
    for (session, name), count in posted.items():
        for got in at.arrived(session, name):
            once = list(dict.fromkeys(got)) if fault.forgets else got
            assert once == list(range(count))
    return seen, over


async def missed(board: Switchboard) -> None:
    """Wait until both the page for monitors and the metrics say that something is wrong."""

    async def told() -> bool:
        status, metrics = await asyncio.gather(
            board.get("/ready"),
            board.get("/metrics", headers={"Authorization": "Bearer the scraper's token"}),
        )
        down = ("switchboard_redis_up 0.0", "switchboard_listener_up 0.0")
        return status[0] == 503 and any(line in metrics[1] for line in down)

    await eventually(told, pause=0.005)


async def test_more_than_a_mailbox_holds_waits_out_a_redis_frozen_for_30_s(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    """With real limits: what is held is published when every instance listens again."""
    session = SESSIONS[0]
    async with (
        switchboard(concierge.url, REDISCLOUD_URL=redis.url) as first,
        switchboard(concierge.url, REDISCLOUD_URL=redis.url) as second,
    ):
        await ready(first)
        await ready(second)
        users = [
            await User.joined(board, wire, session)
            for board in (first, second)
            for wire in ("classic", "v1")
        ]

        redis.freeze()
        await asyncio.gather(ready(first, 503), ready(second, 503))
        for start_ in range(0, 1000, 100):
            contents = [{"to": session, "n": number} for number in range(start_, start_ + 100)]
            assert (await first.postback(contents)).status == 202
        await asyncio.sleep(15)  # half of the time that it is frozen
        redis.thaw()

        for user in users:
            assert await user.has(1000) == list(range(1000))


async def test_quiet_instances_stay_ready_and_leave_nothing_in_redis(
    concierge: FakeConcierge, redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Many probes long, and long enough to miss the first of them."""
    limits = dataclasses.replace(QUICK, redis_answer=4, probe_answer=4)
    async with (
        switchboard(concierge.url, limits, REDISCLOUD_URL=redis.url) as first,
        switchboard(concierge.url, limits, REDISCLOUD_URL=redis.url) as second,
    ):
        await ready(first)
        await ready(second)

        await asyncio.sleep(2 * (limits.probe_every + limits.probe_answer))

        assert "redis is missed" not in caplog.text
        assert await first.metric("switchboard_probe_seconds") > 0
        assert await second.metric("switchboard_probe_seconds") > 0
        left = await redis.call("KEYS", "*")
        assert [key for key in left if key.endswith((b":state", b":bodies"))] == []
