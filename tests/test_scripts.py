"""What only a real Redis shows: its keys and scripts, what goes wrong there, and many instances."""

import asyncio
import dataclasses
import json
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from switchboard_operator import broker
from switchboard_operator.broker import keys, scripts
from switchboard_operator.broker.base import Claim
from switchboard_operator.broker.link import Link
from switchboard_operator.broker.linker import linker
from switchboard_operator.broker.publisher import Publisher
from switchboard_operator.broker.resp import Command, packed
from switchboard_operator.errors import BrokerUnavailable
from switchboard_operator.limits import Limits
from switchboard_operator.marks import Mark
from switchboard_operator.messages import Delivery, Postback
from switchboard_operator.metrics import Metrics
from tests.brokers import LIMITS, RULES, Instance, instance, postback, sized, starting
from tests.proxy import Proxy
from tests.redis_server import RedisServer, free_port, redis_server
from tests.switchboards import eventually

SHORT = "under-16-chars"
# Outages are noticed soon.
BRISK = Limits(
    redis_answer=0.4, redis_pause=0.1, redis_settle=0.15, confirm=0.3,
    probe_every=0.3, probe_answer=0.4,
)  # fmt: skip

LUA = sorted(Path(*broker.__path__).glob("*.lua"))
# Of the commands of Redis 6.2, those that we have a use for.
COMMANDS = {
    "DEL", "EXPIRE", "GET", "HMGET", "HSET", "LLEN", "LPOP", "LRANGE", "PUBLISH", "PUBSUB", "RPUSH",
    "SET",
}  # fmt: skip

Start = Callable[..., Awaitable[Instance]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis() -> AsyncIterator[RedisServer]:
    """One Redis for all tests that don't break it."""
    async with redis_server() as server:
        yield server


@pytest.fixture
async def own_redis() -> AsyncIterator[RedisServer]:
    """A Redis that a test may break."""
    async with redis_server() as server:
        yield server


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start instances, as `brokers.instance` does; they end with the test."""
    async with AsyncExitStack() as stack:

        async def start_one(url: str, limits: Limits = LIMITS, **rules: int) -> Instance:
            return await stack.enter_async_context(instance(url, limits, **rules))

        yield start_one


@pytest.fixture
def session() -> str:
    """A session that no other test knows."""
    return str(uuid.uuid4())


def numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return [json.loads(delivery.body)["n"] for delivery in deliveries]


def ids(counted: Sequence[Mark | None]) -> list[int | None]:
    return [mark and mark.number for mark in counted]


async def heard_up_to(each: Instance, number: int) -> list[int]:
    """Wait until the postback with *number* was heard; return the numbers of all."""
    await eventually(lambda: number in numbers(each.ear.heard))
    return numbers(each.ear.heard)


async def kept(redis: RedisServer, session: str) -> list[int]:
    """Return the numbers of the postbacks in a session's list."""
    return [
        json.loads(body)["n"] for body in await redis.call("LRANGE", keys.bodies(session), 0, -1)
    ]


async def seconds_left(redis: RedisServer, key: str) -> float:
    return float(await redis.call("PTTL", key)) / 1000


async def wait_until_left(redis: RedisServer, key: str, seconds: float) -> None:
    async def are_left() -> bool:
        return await seconds_left(redis, key) < seconds

    await eventually(are_left)


# The scripts' text


def test_every_script_is_looked_at() -> None:
    assert [each.stem for each in LUA] == ["claim", "prove", "publish", "read", "release"]


@pytest.mark.parametrize("path", LUA, ids=lambda path: path.stem)
def test_a_script_calls_nothing_that_redis_6_2_lacks(path: Path) -> None:
    code = re.sub(r"--.*", "", path.read_text())

    named = re.findall(r"redis\.p?call\(\s*'([A-Z]+)'", code)

    assert named
    assert set(named) <= COMMANDS
    assert len(named) == len(re.findall(r"\bredis\b", code))  # so nothing else of `redis` is used
    assert not code.startswith("#!")
    # EXPIRE's conditions came with 7.0, LPOP's count with 6.2: neither is used.
    assert not re.search(r"'EXPIRE'(,[^,()]+){3,}\)", code)


# Keys


@pytest.mark.slow
async def test_all_keys_of_a_session_lie_in_one_slot_of_a_cluster(
    start: Start, session: str, tmp_path: Path
) -> None:
    cluster = [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        str(free_port()),
        "--dir",
        str(tmp_path),
    ]
    async with redis_server(cluster) as redis:
        await redis.call("CLUSTER", "ADDSLOTS", *range(16384))
        await eventually(lambda: says(redis, "cluster_state:ok", "CLUSTER", "INFO"))
        first = await start(redis.url)
        receipt = await first.publish(*(postback(session, number) for number in (1, 2, 1)))
        await first.publish(postback(SHORT, 3))
        mark = receipt.marks[1]
        assert mark is not None
        await first.broker.mailbox.prove(session, mark, urgent=True)
        await first.read(session, mark._replace(number=9))
        claim = await first.broker.leases.claim(session, "a-1")
        first.broker.leases.settle(session, "a-1", "accepted")
        await first.broker.flush()

        names = {name.decode() for name in await redis.call("KEYS", "*")}
        slots = {name: await redis.call("CLUSTER", "KEYSLOT", name) for name in names}

        assert claim.granted
        assert first.script_errors() == 0
        mine = {name for name in names if session in name}
        assert mine == {
            keys.state(session), keys.bodies(session), keys.lease(session),
            keys.once(session, "key 1"), keys.once(session, "key 2"), keys.outcome(session, "a-1"),
        }  # fmt: skip
        assert {re.findall(r"\{(.*?)\}", name)[0] for name in mine} == {session}
        assert len({slots[name] for name in mine}) == 1
        assert len(set(slots.values())) > 1  # other sessions may lie elsewhere
        await first.broker.mailbox.erase(session)
        assert await redis.call("EXISTS", keys.state(session)) == 0


async def says(redis: RedisServer, what: str, *command: str) -> bool:
    return what in (await redis.call(*command)).decode()


@pytest.mark.slow
async def test_each_key_has_its_own_lifetime_and_what_goes_on_renews_it(
    start: Start, redis: RedisServer, session: str
) -> None:
    here = await start(redis.url, lifetime=1000, state_lifetime=5000, once_lifetime=300)
    state, list_, once = keys.state(session), keys.bodies(session), keys.once(session, "key 1")

    receipt = await here.publish(postback(session, 1))
    assert 990 < await seconds_left(redis, list_) <= 1000
    assert 4990 < await seconds_left(redis, state) <= 5000
    assert 290 < await seconds_left(redis, once) <= 300

    for key in (state, list_, once):
        await redis.call("EXPIRE", key, 100)
    await here.publish(postback(session, 1))  # it is known
    await here.read(session)
    assert await seconds_left(redis, list_) <= 100
    assert await seconds_left(redis, state) <= 100
    assert await seconds_left(redis, once) <= 100

    mark = receipt.marks[0]
    assert mark is not None
    await here.broker.mailbox.prove(session, mark, urgent=True)
    assert await seconds_left(redis, list_) <= 100
    assert 4990 < await seconds_left(redis, state) <= 5000

    await here.read(session, mark._replace(number=9))  # another epoch begins
    assert 4900 < await seconds_left(redis, state) <= 5000


@pytest.mark.slow
async def test_a_postback_renews_lifetimes_of_which_some_has_passed(
    start: Start, redis: RedisServer, session: str
) -> None:
    here = await start(redis.url, lifetime=6, state_lifetime=9)
    state, list_ = keys.state(session), keys.bodies(session)
    await here.publish(postback(session, 1))
    await wait_until_left(redis, list_, 5.8)  # a step of 6 s / 64 is over

    await here.publish(postback(session, 2))

    assert await seconds_left(redis, list_) > 5.8
    assert await seconds_left(redis, state) > 8.8


@pytest.mark.slow
async def test_lifetimes_of_which_hardly_any_has_passed_are_left_as_they_are(
    start: Start, redis: RedisServer, session: str
) -> None:
    here = await start(redis.url, lifetime=640_000)
    await here.publish(postback(session, 1))
    await redis.call("EXPIRE", keys.bodies(session), 7)

    await here.publish(postback(session, 2))

    assert await seconds_left(redis, keys.bodies(session)) <= 7


@pytest.mark.slow
async def test_a_list_that_begins_anew_has_its_lifetime_however_soon(
    start: Start, redis: RedisServer, session: str
) -> None:
    here = await start(redis.url, lifetime=640_000)
    await here.publish(postback(session, 1))
    await redis.call("DEL", keys.bodies(session))

    await here.publish(postback(session, 2))

    assert await seconds_left(redis, keys.bodies(session)) > 639_000


@pytest.mark.slow
async def test_keys_of_leases_and_outcomes_have_their_lifetimes(
    start: Start, redis: RedisServer, session: str
) -> None:
    here = await start(redis.url)

    await here.broker.leases.claim(session, "a-1")
    here.broker.leases.settle(session, "a-1", "accepted")
    await here.broker.flush()

    assert 10 < await seconds_left(redis, keys.lease(session)) <= 20
    assert 590 < await seconds_left(redis, keys.outcome(session, "a-1")) <= 600


@pytest.mark.slow
async def test_without_a_mailbox_only_the_keys_of_postbacks_are_kept_and_no_body(
    start: Start, redis: RedisServer
) -> None:
    here, who = await start(redis.url, size=0, once_lifetime=300), uuid.uuid4().hex

    await here.publish(postback(who, 1))
    await here.broker.mailbox.prove(who, Mark("feed", 1), urgent=True)
    await here.broker.flush()

    found = await redis.call("KEYS", f"*{who}*")
    assert [name.decode() for name in found] == [keys.once(who, "key 1")]
    assert await redis.call("GET", *found) == b""
    assert 290 < await seconds_left(redis, keys.once(who, "key 1")) <= 300


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_the_bytes_that_are_counted_are_those_of_the_list(
    start: Start, redis: RedisServer, session: str, seed: int
) -> None:
    here = await start(redis.url, size=7 + seed, most_bytes=1000)
    sizes = [(number * 37 + seed * 101) % 400 + 100 for number in range(60)]

    for number, size in enumerate(sizes):
        await here.publish(sized(session, number, size))
        found = await redis.call("LRANGE", keys.bodies(session), 0, -1)
        counted = int(await redis.call("HGET", keys.state(session), "bytes"))

        assert counted == sum(len(body) for body in found)
        assert [len(body) for body in found] == sizes[number + 1 - len(found) : number + 1]
        assert len(found) <= 7 + seed
        assert counted <= 1000
        if len(found) < min(number + 1, 7 + seed):  # no fewer than need be
            assert counted + sizes[number - len(found)] > 1000


@pytest.mark.slow
async def test_an_old_list_does_not_outlive_the_first_postback_of_a_new_epoch(
    start: Start, redis: RedisServer, session: str
) -> None:
    here = await start(redis.url, most_bytes=350)
    old = await here.publish(*(sized(session, number, 100) for number in (1, 2, 3)))
    await redis.call("DEL", keys.state(session))

    new = await here.publish(sized(session, 4, 100))

    assert ids(new.marks) == [1]
    assert new.marks[0] is not None
    assert old.marks[0] is not None
    assert new.marks[0].epoch != old.marks[0].epoch
    assert await kept(redis, session) == [4]
    assert await redis.call("HGET", keys.state(session), "bytes") == b"100"
    assert await redis.call("HGET", keys.state(session), "cursor") is None


@pytest.mark.slow
async def test_a_count_that_lags_behind_its_list_is_given_up_with_its_cursor(
    start: Start, redis: RedisServer, session: str
) -> None:
    here = await start(redis.url)
    receipt = await here.publish(*(postback(session, number) for number in (1, 2, 3)))
    mark = receipt.marks[0]
    assert mark is not None
    await here.broker.mailbox.prove(session, mark, urgent=True)
    await redis.call("HSET", keys.state(session), "last", 1)

    new = await here.publish(postback(session, 4))
    page = await here.read(session)

    assert ids(new.marks) == [1]
    assert page.epoch != mark.epoch
    assert page.cursor == 0
    assert page.bodies == (postback(session, 4).body,)


@pytest.mark.slow
async def test_proofs_that_come_together_are_one_write_for_each_session(
    own_redis: RedisServer, start: Start
) -> None:
    here = await start(own_redis.url)
    epochs = {}
    for who in ("session-number-one", "session-number-two"):
        receipt = await here.publish(*(postback(who, number) for number in range(50)))
        assert receipt.marks[0] is not None
        epochs[who] = receipt.marks[0].epoch
    await own_redis.call("CONFIG", "RESETSTAT")

    await asyncio.gather(
        *(
            here.broker.mailbox.prove(who, Mark(epoch, number))
            for number in range(1, 51)
            for who, epoch in epochs.items()
        )
    )

    assert [(await here.read(who)).cursor for who in epochs] == [50, 50]
    # Nothing else in here writes to a hash.
    assert (await own_redis.call("INFO", "commandstats"))["cmdstat_hset"]["calls"] == 2


# Scripts that Redis forgets


@pytest.mark.slow
async def test_scripts_that_redis_forgets_again_and_again_lose_double_and_reorder_nothing(
    start: Start, redis: RedisServer, session: str
) -> None:
    first, second = await start(redis.url), await start(redis.url)
    count = 600

    async def forget() -> None:
        for share in range(1, 6):
            await first.ear.hears(share * count // 6)
            await redis.call("SCRIPT", "FLUSH")

    forgetting = asyncio.create_task(forget())
    receipts = []
    for batch in range(count // 20):
        receipts += await asyncio.gather(
            *(first.publish(postback(session, 20 * batch + number)) for number in range(20))
        )
    await forgetting

    given = [receipt.marks[0] for receipt in receipts]
    assert ids(given) == list(range(1, count + 1))
    assert not any(receipt.repeated for receipt in receipts)
    for each in (first, second):
        heard = await each.ear.hears(count)
        assert numbers(heard) == list(range(count))
        assert [delivery.mark for delivery in heard] == given
    assert await kept(redis, session) == list(range(count - 100, count))
    assert first.script_errors() == 0


@pytest.mark.slow
async def test_every_script_is_loaded_when_it_is_not_known(
    start: Start, redis: RedisServer, session: str
) -> None:
    first, second = await start(redis.url), await start(redis.url)
    receipt = await first.publish(postback(session, 1), postback(session, 2))
    mark = receipt.marks[0]
    assert mark is not None

    await redis.call("SCRIPT", "FLUSH")
    await first.broker.mailbox.prove(session, mark, urgent=True)
    await redis.call("SCRIPT", "FLUSH")
    page = await first.read(session)
    await redis.call("SCRIPT", "FLUSH")
    claim = await first.broker.leases.claim(session, "a-1")
    refused = await second.broker.leases.claim(session, "a-1")
    await redis.call("SCRIPT", "FLUSH")
    first.broker.leases.release(session)
    await first.broker.flush()

    assert page.bodies == (postback(session, 2).body,)
    assert claim.granted
    assert not refused.granted
    assert (await second.broker.leases.claim(session, "a-1")).granted
    assert first.script_errors() == 0


SHA, TEXT = scripts.PUBLISH.sha.encode(), scripts.PUBLISH.text.encode()


class Interrupted(Link):
    """A link between whose calls others get a word in with Redis."""

    def __init__(self, link: Link, before: Callable[[Command], Awaitable[None]]) -> None:
        self._link = link
        self._before = before
        self._turn = asyncio.Lock()
        self._sending: set[asyncio.Task[None]] = set()

    async def call(self, *command: str | bytes | int) -> Any:
        return await self._link.call(*command)

    async def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        replies = []
        for command in commands:
            await self._before(command)
            replies += await self._link.pipeline([command])
        return replies

    def send(self, commands: Sequence[Command], take: Callable[[list[Any]], None]) -> None:
        async def run() -> None:
            async with self._turn:
                take(await self.pipeline(commands))

        self._sending.add(asyncio.create_task(run()))

    def check(self) -> None:
        self._link.check()


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2], ids=["before it is sent", "and before it is sent again"])
async def test_a_script_that_redis_forgets_before_a_batch_loses_doubles_and_reorders_nothing(
    redis: RedisServer, session: str, times: int
) -> None:
    calls = 0
    open_link = linker(redis.url, LIMITS, verify=True)
    metrics = Metrics("test")

    async def get_a_word_in(command: Command) -> None:
        nonlocal calls
        if not any(each in packed(command) for each in (SHA, TEXT)):
            return
        calls += 1
        if calls <= times:
            await redis.call("SCRIPT", "FLUSH")

    @asynccontextmanager
    async def open_interrupted() -> AsyncIterator[Link]:
        async with open_link() as link:
            yield Interrupted(link, get_a_word_in)

    await redis.call("SCRIPT", "LOAD", scripts.PUBLISH.text)
    publisher = Publisher(open_interrupted, RULES, LIMITS, metrics)
    async with starting(redis.url) as there:
        await eventually(lambda: there.broker.health().listening)
        task = asyncio.create_task(publisher.run())
        published = publisher.put([postback(session, number) for number in range(1, 6)])
        publisher.resume()
        receipt = await published
        heard = await there.ear.hears(5)
        task.cancel()
        await asyncio.wait({task})

    assert calls == 2
    assert ids(receipt.marks) == [1, 2, 3, 4, 5]
    assert numbers(heard) == [1, 2, 3, 4, 5]
    assert tuple(delivery.mark for delivery in heard) == receipt.marks
    assert await kept(redis, session) == [1, 2, 3, 4, 5]
    assert not receipt.repeated


@pytest.mark.slow
async def test_a_large_batch_is_a_call_for_each_half_which_brings_its_script_along(
    own_redis: RedisServer, start: Start, session: str
) -> None:
    here = await start(own_redis.url)
    await here.publish(postback(session, 0))
    await own_redis.call("CONFIG", "RESETSTAT")

    await here.publish(*(postback(session, number) for number in range(1, 50)))

    calls = await own_redis.call("INFO", "commandstats")
    assert "cmdstat_evalsha" not in calls
    assert calls["cmdstat_eval"]["calls"] == 2  # since another batch may follow, as the half did
    assert not [name for name in calls if name.startswith("cmdstat_script")]


@pytest.mark.slow
async def test_a_batch_whose_script_is_forgotten_for_want_of_memory_goes_bare_in_order(
    own_redis: RedisServer, session: str
) -> None:
    open_link = linker(own_redis.url, LIMITS, verify=True)

    async def run_out(command: Command) -> None:
        if TEXT in packed(command):
            await own_redis.call("CONFIG", "SET", "maxmemory", "1")

    @asynccontextmanager
    async def open_interrupted() -> AsyncIterator[Link]:
        async with open_link() as link:
            yield Interrupted(link, run_out)

    publisher = Publisher(open_interrupted, RULES, LIMITS, Metrics("test"))
    async with starting(own_redis.url) as there:
        await eventually(lambda: there.broker.health().listening)
        task = asyncio.create_task(publisher.run())
        await eventually(lambda: publisher.up)
        await own_redis.call("SCRIPT", "FLUSH")
        published = publisher.put([postback(session, number) for number in range(1, 6)])
        publisher.resume()
        receipt = await published
        heard = await there.ear.hears(5)
        task.cancel()
        await asyncio.wait({task})

    assert receipt.marks == (None,) * 5
    assert numbers(heard) == [1, 2, 3, 4, 5]


# A Redis that refuses


@pytest.mark.slow
async def test_without_memory_postbacks_go_bare_and_ids_go_on_when_there_is_some(
    own_redis: RedisServer, start: Start, session: str, caplog: pytest.LogCaptureFixture
) -> None:
    here = await start(own_redis.url)
    forged = Postback(session, b'{"switchboard":"feed:7","to":"%s","n":4}' % session.encode(), "f")
    before = await here.publish(postback(session, 1), postback(session, 2))
    await own_redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
    await own_redis.call("CONFIG", "SET", "maxmemory", "1")

    bare = await here.publish(postback(session, 3), forged, postback(SHORT, 5))
    known = await here.publish(postback(session, 2))
    page = await here.read(session)
    counted = here.script_errors()
    await own_redis.call("CONFIG", "SET", "maxmemory", "0")
    after = await here.publish(postback(session, 6), postback(SHORT, 7))

    assert ids(before.marks) == [1, 2]
    assert bare.confirmed
    assert bare.marks == (None, None, None)
    assert not bare.repeated
    assert known.repeated
    assert known.marks == before.marks[1:]
    assert page.bodies == (postback(session, 1).body, postback(session, 2).body)
    assert counted == 3
    assert ids(after.marks) == [3, None]
    heard = await here.ear.hears(7)
    assert numbers(heard) == [1, 2, 3, 4, 5, 6, 7]
    assert [delivery.mark for delivery in heard] == [
        *before.marks, None, None, None, after.marks[0], None,
    ]  # fmt: skip
    assert heard[3].body == forged.body
    assert await kept(own_redis, session) == [1, 2, 6]
    assert here.script_errors() == 3
    assert caplog.text.count("publishing without ids") == 1


@pytest.mark.slow
async def test_without_memory_claims_are_granted_and_a_cursor_stays_where_it_is(
    own_redis: RedisServer, start: Start, session: str
) -> None:
    here = await start(own_redis.url)
    receipt = await here.publish(postback(session, 1), postback(session, 2))
    first, second = receipt.marks
    assert first is not None
    assert second is not None
    await here.broker.mailbox.prove(session, first, urgent=True)
    await own_redis.call("CONFIG", "SET", "maxmemory", "1")

    await here.broker.mailbox.prove(session, second, urgent=True)
    claim = await here.broker.leases.claim(session, "a-1")
    here.broker.leases.settle(session, "a-1", "accepted")
    settled = await here.broker.leases.claim(session, "a-1")
    here.broker.leases.release(session)
    await here.broker.flush()

    assert (await here.read(session)).cursor == 1
    assert claim == Claim(granted=True)
    assert settled == Claim(granted=True, outcome="accepted")
    assert here.script_errors() == 1  # the cursor


@pytest.mark.slow
@pytest.mark.parametrize("which", ["state", "bodies", "once"])
async def test_a_key_of_another_kind_makes_a_postback_bare(
    start: Start, redis: RedisServer, session: str, which: str
) -> None:
    here = await start(redis.url)
    before = await here.publish(postback(session, 1), postback(session, 2))
    key = f"switchboard:{{{session}}}:{'once:key 3' if which == 'once' else which}"
    await redis.call("DEL", key)
    await redis.call("SADD", key, "of another kind")

    bare = await here.publish(postback(session, 3), postback(f"{session}-other", 4))
    refused = here.script_errors()
    await redis.call("DEL", key)
    after = await here.publish(postback(session, 5))

    assert bare.confirmed
    assert not bare.repeated
    assert ids(bare.marks) == [None, 1]
    assert refused == 1
    heard = await here.ear.hears(5)
    assert numbers(heard) == [1, 2, 3, 4, 5]  # it takes its turn
    assert [delivery.mark for delivery in heard] == [*before.marks, *bare.marks, *after.marks]
    assert ids(after.marks) == ([1] if which == "state" else [3])
    assert here.script_errors() == 1


@pytest.mark.slow
async def test_a_mailbox_of_another_kind_can_neither_be_read_nor_proven_and_holds_nobody_up(
    start: Start, redis: RedisServer, session: str
) -> None:
    here = await start(redis.url)
    await redis.call("SET", keys.state(session), "of another kind")

    page = await here.broker.mailbox.read(session, None)
    await here.broker.mailbox.prove(session, Mark("feed", 1), urgent=True)
    await here.broker.flush()

    assert page is None
    assert here.script_errors() == 2


# Links that break


@pytest.mark.slow
@pytest.mark.parametrize("who", ["a mailbox", "no mailbox"])
async def test_a_postback_whose_confirmation_gets_lost_is_published_once(
    start: Start, redis: RedisServer, session: str, who: str
) -> None:
    who = session if who == "a mailbox" else f"x{session[:8]}"
    there = await start(redis.url)
    async with Proxy(redis.port).serving() as proxy:
        here = await start(
            f"redis://127.0.0.1:{proxy.port}", dataclasses.replace(BRISK, confirm=20)
        )
        await here.publish(postback(who, 0))

        proxy.silence()
        publishing = asyncio.create_task(here.publish(*(postback(who, n) for n in (1, 2, 3))))
        await there.ear.hears(4)  # Redis has them, but we can't know
        proxy.cut()
        proxy.restore()
        receipt = await publishing
        await here.publish(postback(who, 4))

        assert receipt.confirmed
        assert not receipt.repeated
        assert ids(receipt.marks) == ([2, 3, 4] if who == session else [None] * 3)
        assert numbers(await there.ear.hears(5)) == [0, 1, 2, 3, 4]
        assert await kept(redis, who) == ([0, 1, 2, 3, 4] if who == session else [])


@pytest.mark.slow
async def test_a_frozen_redis_has_each_postback_once_and_in_order_when_it_thaws(
    own_redis: RedisServer, start: Start, session: str
) -> None:
    here, there = await start(own_redis.url, BRISK), await start(own_redis.url, BRISK)
    before = await here.publish(postback(session, 0))
    mark = before.marks[0]
    assert mark is not None
    own_redis.freeze()

    receipts = [await here.publish(postback(session, number)) for number in range(1, 6)]
    await eventually(lambda: not here.broker.health().redis)
    receipts.append(await here.publish(*(postback(session, number) for number in range(6, 20))))
    stored = here.broker.mailbox.prove(session, mark)
    reading = here.broker.mailbox.read(session, mark)
    own_redis.thaw()
    await here.broker.flush()
    page = await reading
    again = await here.publish(postback(session, 7))

    assert not any(receipt.confirmed for receipt in receipts)
    assert await kept(own_redis, session) == list(range(20))
    assert again.repeated
    assert ids(again.marks) == [8]
    assert page is not None
    assert page.epoch == mark.epoch
    assert stored.done()
    assert (await here.read(session)).cursor == 1
    await here.publish(postback(session, 20))
    for each in (here, there):
        found = await heard_up_to(each, 20)
        assert found == sorted(set(found))
        # What has passed while nobody could hear it is looked up after a re-subscription.
        assert found == list(range(21)) or each.ear.resyncs > 1


@pytest.mark.slow
async def test_what_was_put_is_told_when_it_is_confirmed_however_late(
    own_redis: RedisServer, start: Start, session: str
) -> None:
    here = await start(own_redis.url, BRISK)
    own_redis.freeze()

    put = here.broker.put([postback(session, 1)])
    left = asyncio.ensure_future(here.broker.put([postback(session, 2)]))
    left.cancel()
    given_up = await here.publish(postback(session, 3))
    late = not put.done()
    own_redis.thaw()
    receipt = await put
    await here.broker.flush()

    assert not given_up.confirmed
    assert late
    assert receipt.confirmed
    assert ids(receipt.marks) == [1]
    assert await kept(own_redis, session) == [1, 2, 3]


@pytest.mark.slow
async def test_a_postback_without_a_mailbox_that_was_held_for_a_frozen_redis_is_heard_once(
    own_redis: RedisServer, start: Start
) -> None:
    here = await start(own_redis.url, BRISK)
    await here.publish(postback(SHORT, 0))
    own_redis.freeze()

    receipts = [await here.publish(postback(SHORT, number)) for number in range(1, 6)]
    await eventually(lambda: not here.broker.health().redis)
    own_redis.thaw()
    await here.broker.flush()
    await here.publish(postback(SHORT, 6))
    heard = await heard_up_to(here, 6)

    assert not any(receipt.confirmed for receipt in receipts)
    assert heard == [0, 1, 2, 3, 4, 5, 6]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["publish", "read"])
@pytest.mark.parametrize("turns", range(9))
async def test_an_instance_ends_whatever_it_is_just_doing(
    redis: RedisServer, session: str, what: str, turns: int
) -> None:
    """A cancelled task must not take what it was waiting for instead, and go on."""
    async with instance(redis.url) as here:
        doing: asyncio.Future[Any] = here.broker.mailbox.read(session, None)
        if what == "publish":
            await doing
            doing = asyncio.create_task(here.publish(postback(session, turns)))
        for _ in range(turns):
            await asyncio.sleep(0)

    doing.cancel()


# Instances that share a Redis


@pytest.mark.slow
async def test_what_two_instances_publish_at_once_gets_ids_without_a_gap_in_the_order_heard(
    start: Start, redis: RedisServer, session: str
) -> None:
    first, second = await start(redis.url), await start(redis.url)

    receipts = await asyncio.gather(
        *(first.publish(postback(session, number)) for number in range(0, 100, 2)),
        *(second.publish(postback(session, number)) for number in range(1, 100, 2)),
    )

    given = [receipt.marks[0] for receipt in receipts]
    heard = await first.ear.hears(100)
    assert len({mark and mark.epoch for mark in given}) == 1
    assert sorted(number or 0 for number in ids(given)) == list(range(1, 101))
    assert ids([delivery.mark for delivery in heard]) == list(range(1, 101))
    assert await second.ear.hears(100) == heard
    assert await kept(redis, session) == numbers(heard)


@pytest.mark.slow
async def test_what_comes_to_two_instances_is_published_by_one_of_them(
    start: Start, redis: RedisServer, session: str
) -> None:
    first, second = await start(redis.url), await start(redis.url)

    receipts = await asyncio.gather(
        first.publish(postback(session, 1)), second.publish(postback(session, 1))
    )
    await second.publish(postback(session, 2))

    assert sorted(receipt.repeated for receipt in receipts) == [False, True]
    assert receipts[0].marks == receipts[1].marks
    assert numbers(await first.ear.hears(2)) == [1, 2]


@pytest.mark.slow
async def test_instances_that_find_their_marks_ahead_at_once_agree_on_one_new_epoch(
    start: Start, redis: RedisServer, session: str
) -> None:
    first, second = await start(redis.url), await start(redis.url)
    receipt = await first.publish(postback(session, 1), postback(session, 2))
    mark = receipt.marks[1]
    assert mark is not None
    ahead = mark._replace(number=9)

    pages = await asyncio.gather(
        *(each.read(session, ahead) for each in (first, second, first, second))
    )

    assert len({page.epoch for page in pages} - {mark.epoch}) == 1
    assert len(set(pages)) == 1


@pytest.mark.slow
async def test_a_cursor_proven_on_one_instance_is_where_another_begins(
    start: Start, redis: RedisServer, session: str
) -> None:
    first, second = await start(redis.url), await start(redis.url)
    receipt = await first.publish(*(postback(session, number) for number in (1, 2, 3)))
    _, earlier, later = receipt.marks
    assert earlier is not None
    assert later is not None

    await first.broker.mailbox.prove(session, later)
    await second.broker.mailbox.prove(session, earlier)

    assert (await second.read(session)).cursor == 3
    assert (await second.read(session)).bodies == ()


@pytest.mark.slow
async def test_sockets_are_those_on_all_instances(
    start: Start, redis: RedisServer, session: str
) -> None:
    first, second = await start(redis.url), await start(redis.url)
    first.ear.sockets[session] = 2
    second.ear.sockets |= {session: 3, f"{session}-other": 1}

    for each in (first, second):
        assert await each.broker.sockets(session) == 5
        assert await each.broker.sockets(f"{session}-other") == 1
        assert await each.broker.sockets(f"{session}-nobody") == 0


@pytest.mark.slow
async def test_sockets_are_counted_once_though_redis_has_forgotten_a_script(
    start: Start, redis: RedisServer, session: str
) -> None:
    first, second = await start(redis.url), await start(redis.url)
    first.ear.sockets[session] = 2
    second.ear.sockets[session] = 3
    await redis.call("SCRIPT", "FLUSH")

    reading = first.broker.mailbox.read(session, None)  # goes out with the question
    counted = await first.broker.sockets(session)
    await reading

    assert counted == 5


@pytest.mark.slow
async def test_sockets_are_counted_beside_a_listener_that_says_nothing(
    start: Start, redis: RedisServer, session: str
) -> None:
    first, second = await start(redis.url), await start(redis.url)
    first.ear.sockets[session] = 1
    second.ear.sockets[session] = 1
    async with linker(redis.url, LIMITS, verify=True)() as mute:
        await mute.call("SUBSCRIBE", "bot-message")

        assert await first.broker.sockets(session) == 2


@pytest.mark.slow
async def test_sockets_can_not_be_counted_while_redis_is_away(
    own_redis: RedisServer, start: Start, session: str
) -> None:
    here = await start(own_redis.url, BRISK)
    await own_redis.kill()
    await eventually(lambda: not here.broker.health().redis)

    with pytest.raises(BrokerUnavailable):
        await here.broker.sockets(session)
    with pytest.raises(BrokerUnavailable):
        await here.broker.mailbox.erase(session)


# Leases


@pytest.mark.slow
async def test_a_lease_is_refused_to_others_while_it_is_held_and_theirs_after_its_release(
    start: Start, redis: RedisServer, session: str
) -> None:
    first, second = await start(redis.url), await start(redis.url)
    other = f"{session}-other"

    mine = await first.broker.leases.claim(session, "a-1")
    refused = await second.broker.leases.claim(session, "a-1")
    elsewhere = await second.broker.leases.claim(other, "a-1")
    first.broker.leases.settle(session, "a-1", "accepted")
    still_refused = await second.broker.leases.claim(session, "a-2")
    first.broker.leases.release(session)
    await first.broker.flush()
    settled = await second.broker.leases.claim(session, "a-1")
    refused_in_turn = await first.broker.leases.claim(session, "a-2")

    assert mine == Claim(granted=True)
    assert not refused.granted
    assert elsewhere == Claim(granted=True)
    assert not still_refused.granted
    assert settled == Claim(granted=True, outcome="accepted")
    assert not refused_in_turn.granted


@pytest.mark.slow
async def test_a_lease_of_an_instance_that_is_gone_runs_out(
    start: Start, redis: RedisServer, session: str
) -> None:
    second = await start(redis.url)
    async with instance(redis.url, dataclasses.replace(LIMITS, lease=3)) as first:
        assert (await first.broker.leases.claim(session, "a-1")).granted
        refused = await second.broker.leases.claim(session, "a-1")

    async def granted() -> bool:
        return (await second.broker.leases.claim(session, "a-1")).granted

    assert not refused.granted
    await eventually(granted)


@pytest.mark.slow
@pytest.mark.parametrize("taken_by", ["claim", "hold"])
async def test_a_lease_is_renewed_for_as_long_as_it_is_held(
    start: Start, redis: RedisServer, session: str, taken_by: str
) -> None:
    quick = dataclasses.replace(LIMITS, lease=3, lease_renewal=0.2)
    first, second = await start(redis.url, quick), await start(redis.url, quick)
    if taken_by == "claim":
        await first.broker.leases.claim(session, "a-1")
    else:
        first.broker.leases.hold(session)
    await first.broker.flush()

    await asyncio.sleep(4)  # longer than the lease's time
    refused = await second.broker.leases.claim(session, "a-2")
    first.broker.leases.release(session)
    await first.broker.flush()
    granted = await second.broker.leases.claim(session, "a-2")

    assert not refused.granted
    assert granted.granted


@pytest.mark.slow
async def test_to_hold_a_lease_takes_it_from_nobody_and_waits_until_it_is_free(
    start: Start, redis: RedisServer, session: str
) -> None:
    quick = dataclasses.replace(LIMITS, lease_renewal=0.1)
    first, second = await start(redis.url, quick), await start(redis.url)
    await second.broker.leases.claim(session, "a-1")
    holder = await redis.call("GET", keys.lease(session))

    first.broker.leases.hold(session)
    await first.broker.flush()
    beside = await redis.call("GET", keys.lease(session))
    second.broker.leases.release(session)

    async def passed_on() -> bool:
        return await redis.call("GET", keys.lease(session)) not in {None, holder}

    assert beside == holder
    await eventually(passed_on)
    assert not (await second.broker.leases.claim(session, "a-2")).granted


@pytest.mark.slow
async def test_who_does_not_have_a_lease_can_not_give_it_up(
    start: Start, redis: RedisServer, session: str
) -> None:
    first, second, third = [await start(redis.url) for _ in range(3)]
    await first.broker.leases.claim(session, "a-1")

    second.broker.leases.hold(session)
    second.broker.leases.release(session)
    third.broker.leases.release(session)
    await second.broker.flush()
    await third.broker.flush()

    assert not (await third.broker.leases.claim(session, "a-1")).granted


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["killed", "frozen"])
async def test_while_redis_is_away_claims_are_granted_and_outcomes_known_to_who_settled_them(
    own_redis: RedisServer, start: Start, session: str, trouble: str
) -> None:
    first, second = await start(own_redis.url, BRISK), await start(own_redis.url, BRISK)
    assert (await first.broker.leases.claim(session, "a-1")).granted
    if trouble == "killed":
        await own_redis.kill()
    else:
        own_redis.freeze()

    claims = [await each.broker.leases.claim(session, "a-2") for each in (first, second)]
    first.broker.leases.settle(session, "a-2", "accepted")
    known = await first.broker.leases.claim(session, "a-2")
    unknown = await second.broker.leases.claim(session, "a-2")

    assert claims == [Claim(granted=True)] * 2
    assert known == Claim(granted=True, outcome="accepted")
    assert unknown == Claim(granted=True)
    if trouble == "frozen":
        own_redis.thaw()


@pytest.mark.slow
async def test_a_lease_that_redis_refuses_to_look_at_is_granted(
    start: Start, redis: RedisServer, session: str
) -> None:
    here = await start(redis.url)
    await redis.call("LPUSH", keys.lease(session), "of another kind")

    assert await here.broker.leases.claim(session, "a-1") == Claim(granted=True)
