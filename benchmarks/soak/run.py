"""A run: its parts, what it does, and the report in the end."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from random import Random

import aiohttp
from yarl import URL

from benchmarks.soak.crowd import Crowd, Rates
from benchmarks.soak.faults import Concierge, Faults
from benchmarks.soak.footprint import Holdings, Memory, at_rest, left_over, pid_of
from benchmarks.soak.posting import Poster
from benchmarks.soak.users import World
from benchmarks.verdict import Verdict
from tests.fakes import FakeConcierge
from tests.redis_server import redis_server
from tests.switchboards import (
    Switchboard,
    client_session,
    eventually,
    switchboard_process,
    variables,
)

LAG = "switchboard_event_loop_lag_seconds"
SHOWN_EVERY = 30.0  # seconds
SHOWN = 20  # things that are wrong
FAULT_EVERY = 15.0  # seconds, at most
AWAY = 3.0  # seconds that users are away, at most
SETTLING = 60.0  # seconds in which all must be there after the load
LEAVING = 45.0  # seconds in which all must be let go
QUIET = 2.0  # seconds in which something may still come twice


@dataclass
class Soak:
    """All parts of a run, and what is wrong."""

    boards: Sequence[Switchboard]
    fake: FakeConcierge
    client: aiohttp.ClientSession  # of the bot
    world: World
    faults: Faults
    poster: Poster
    crowd: Crowd
    troubles: list[str] = field(default_factory=list)

    async def run(self, rates: Rates, seconds: float) -> None:
        """Put load on for so many *seconds*; print what came of it."""
        before = [await at_rest(board) for board in self.boards]
        memories = [Memory(pid_of(board)) for board in self.boards]
        async with asyncio.TaskGroup() as visits:
            await self.crowd.come(visits)
            await self._load(rates, seconds, memories)
            await self._settle()
            for user in self.crowd.users:
                user.leave_for_good()
        self._judge_messages()
        self._judge_memory(memories)
        await self._judge_holdings(before)

    def report(self) -> bool:
        """Print what is wrong, also with how the instances ended; return whether nothing is."""
        for number, board in enumerate(self.boards, 1):
            assert board.process is not None
            if board.process.returncode != 0:
                self.troubles.append(f"instance {number} ended with {board.process.returncode}")
            self.troubles += [line for line in board.output if "Traceback" in line]
        counted = Counter(self.troubles)
        for trouble, times in counted.most_common(SHOWN):
            print(f"WRONG: {trouble}" + (f" ({times} times)" if times > 1 else ""))
        if len(counted) > SHOWN:
            print(f"WRONG: and {len(counted) - SHOWN} things more")
        return not self.troubles

    async def _load(self, rates: Rates, seconds: float, memories: Sequence[Memory]) -> None:
        async with asyncio.TaskGroup() as beside:
            tasks = [beside.create_task(memory.watch()) for memory in memories]
            tasks.append(beside.create_task(self.faults.run(min(FAULT_EVERY, seconds / 6))))
            tasks.append(beside.create_task(self._show(memories)))
            await self.crowd.live(rates, seconds)
            for task in tasks:
                task.cancel()

    async def _show(self, memories: Sequence[Memory]) -> None:
        for number in range(1, 10**6):
            await asyncio.sleep(SHOWN_EVERY)
            lags = [await board.metric(LAG) for board in self.boards]
            print(
                f"{number * SHOWN_EVERY:5.0f} s: {self.crowd.here()} here, {self._counted()};",
                " / ".join(memory.shown() for memory in memories) + ";",
                "lag " + " / ".join(f"{1000 * lag:.0f}" for lag in lags) + " ms",
                flush=True,
            )

    def _counted(self) -> str:
        return ", ".join(f"{what} {count}" for what, count in sorted(self.world.counts.items()))

    async def _settle(self) -> None:
        """Wait until all is there, and a little longer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLING):
                await eventually(self.crowd.complete, pause=0.2)
        await asyncio.sleep(QUIET)

    def _judge_messages(self) -> None:
        totals: Counter[str] = Counter()
        for who, verdict, doubles in self._verdicts():
            totals["lost"] += len(verdict.lost)
            totals["doubled, as may be" if doubles else "doubled"] += len(verdict.doubled)
            totals["reordered"] += len(verdict.reordered)
            if not verdict.good(doubles=doubles):
                self.troubles.append(f"{who}: {verdict}")
        print(self._counted())
        print(", ".join(f"{what} {count}" for what, count in totals.items()))
        self.troubles += [*self.poster.troubles, *self.crowd.troubles]

    def _verdicts(self) -> Iterator[tuple[str, Verdict, bool]]:
        """Judge all that was sent: to or by whom, what came of it, and whether doubles may be."""
        for user in self.crowd.users:
            yield f"to {user.session}", user.got(), user.may_get_twice()
            yield f"by {user.session}", user.was_heard(), False
        for session in self.crowd.passers_by:  # each of whom said one thing
            yield f"by {session}", Verdict.of(self.world.accepted[session], 1), False

    def _judge_memory(self, memories: Sequence[Memory]) -> None:
        for number, memory in enumerate(memories, 1):
            text, good = memory.verdict()
            print(f"instance {number}: {text}")
            if not good:
                self.troubles.append(f"memory of instance {number} grows")

    async def _judge_holdings(self, before: Sequence[Holdings]) -> None:
        """Compare what is left when nobody is connected with what there was at first."""
        await self.client.close()
        await self.fake.stop()
        for number, (board, first) in enumerate(zip(self.boards, before, strict=True), 1):
            left = await left_over(board, first, LEAVING)
            print(f"instance {number}: {first} before, {left} after")
            if left.descriptors > first.descriptors or left.tasks > first.tasks:
                self.troubles.append(f"instance {number} holds on to something")
            if failures := await board.metric("switchboard_task_failures_total"):
                self.troubles.append(f"{failures:.0f} tasks of instance {number} failed")


@asynccontextmanager
async def soaking(sockets: int, seconds: float) -> AsyncIterator[Soak]:
    """Start all parts of a run of so many *seconds* with so many *sockets*."""
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_server())
        fake = await stack.enter_async_context(FakeConcierge().serving())
        environment = variables(fake.url, REDISCLOUD_URL=redis.url)
        boards = [
            await stack.enter_async_context(switchboard_process(environment)) for _ in range(2)
        ]
        client = await stack.enter_async_context(client_session())
        away = min(AWAY, seconds / 20)
        world = World([URL(board.url).port or 0 for board in boards], Random("soak"), away)
        faults = Faults(world, redis, Concierge(world, fake))
        poster = Poster(world, client)
        yield Soak(boards, fake, client, world, faults, poster, Crowd(world, poster, sockets))
