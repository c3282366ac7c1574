"""
Two instances, one Redis, a bare publisher and many users, for as long as you like.

Users talk through either instance; the Concierge answers each message by a postback to either;
the bare publisher stands for an instance of the original program. Every answer and every bare
message must arrive once and in order, and memory must not grow. Exit code 1 if not.
"""

import argparse
import asyncio
import itertools
import random
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from aiohttp.client import ClientWebSocketResponse
from msgspec import json

from tests.fakes import FakeConcierge, Incoming
from tests.redis_server import RedisServer, redis_server
from tests.switchboards import Switchboard, switchboard_process, variables

WARM_UP = 0.2  # of the run, before memory is looked at
GROWTH = 1.1  # times as much memory late in the run as early counts as a leak
QUIET = 5.0  # seconds after the load in which the last messages arrive


@dataclass
class User:
    """A user on one socket, and what was sent to and received from them."""

    session: str
    socket: ClientWebSocketResponse
    said: int = 0
    published: int = 0
    answers: list[int] = field(default_factory=list)
    bare: list[int] = field(default_factory=list)

    async def listen(self) -> None:
        """Keep the numbers of all that comes."""
        async for message in self.socket:
            content = json.decode(message.data)
            (self.bare if content["from"] == "bare" else self.answers).append(content["n"])


@dataclass
class Soak:
    """A run: its parts, and what it has found."""

    boards: list[Switchboard]
    redis: RedisServer
    concierge: FakeConcierge
    users: list[User] = field(default_factory=list)
    memory: list[list[float]] = field(default_factory=list)
    refused: int = 0
    _replies: dict[str, asyncio.Queue[int]] = field(default_factory=dict)

    async def run(self, seconds: float, users: int) -> bool:
        """Put load on for *seconds*; return whether all was well."""
        self.concierge.answer = self._answer
        async with asyncio.TaskGroup() as listening:
            for number in range(users):
                board = self.boards[number % len(self.boards)]
                session = f"soak-user-{number:06}"
                user = User(session, await board.connect(session))
                self._replies[session] = asyncio.Queue()
                self.users.append(user)
                listening.create_task(user.listen())
            replying = [asyncio.create_task(self._reply(user.session)) for user in self.users]
            await self._load(seconds)
            await asyncio.sleep(QUIET)
            for task in replying:
                task.cancel()
            for user in self.users:
                await user.socket.close()
        return self._report()

    async def _load(self, seconds: float) -> None:
        jobs: list[Callable[[], Awaitable[None]]] = [self._say, self._publish_bare, self._churn]
        end = asyncio.get_running_loop().time() + seconds

        async def repeat(job: Callable[[], Awaitable[None]], pause: float) -> None:
            while asyncio.get_running_loop().time() < end:
                await job()
                await asyncio.sleep(pause)

        async with asyncio.TaskGroup() as load:
            for job, pause in zip(jobs, (0.01, 0.02, 0.1), strict=True):
                load.create_task(repeat(job, pause))
            load.create_task(repeat(self._look_at_memory, max(0.5, seconds / 100)))

    async def _say(self) -> None:
        user = random.choice(self.users)
        await user.socket.send_json({"message": "hello", "payload": {"n": user.said}})
        user.said += 1

    async def _answer(self, incoming: Incoming) -> int:
        if incoming.content["From"] in self._replies:
            self._replies[incoming.content["From"]].put_nowait(incoming.content["Payload"]["n"])
        self.concierge.received.clear()
        self.concierge.accepted.clear()
        return 204

    async def _reply(self, session: str) -> None:
        """Answer one session's messages one after the other, as a bot does, by either instance."""
        while True:
            number = await self._replies[session].get()
            board = random.choice(self.boards)
            answer = await board.postback({"to": session, "from": "bot", "n": number})
            if answer.status not in {202, 204}:
                self.refused += 1

    async def _publish_bare(self) -> None:
        user = random.choice(self.users)
        content = {"to": user.session, "from": "bare", "n": user.published}
        user.published += 1
        await self.redis.publish(json.encode(content))

    async def _churn(self) -> None:
        """Come, say something, go; politely or not."""
        socket = await random.choice(self.boards).connect(f"passer-by-{random.randrange(10**9):09}")
        await socket.send_json({"message": "bye", "payload": {"n": 0}})
        if random.random() < 0.5:
            await socket.close()
        elif (transport := socket.get_extra_info("socket")) is not None:
            transport.shutdown(2)
            await socket.close()

    async def _look_at_memory(self) -> None:
        self.memory.append([resident(board) for board in self.boards])

    def _report(self) -> bool:
        lost = doubled = reordered = total = 0
        for user in self.users:
            for got, sent in ((user.answers, user.said), (user.bare, user.published)):
                total += sent
                lost += sent - len(set(got))
                doubled += len(got) - len(set(got))
                reordered += sum(later < earlier for earlier, later in itertools.pairwise(got))
        print(f"messages {total}, lost {lost}, doubled {doubled}, reordered {reordered}")
        samples = self.memory[int(len(self.memory) * WARM_UP) :]
        third = max(1, len(samples) // 3)
        flat = True
        for number, of_board in enumerate(zip(*samples, strict=True), 1):
            early, late = mean(of_board[:third]), mean(of_board[-third:])
            print(f"instance {number}: {early:.1f} MB early, ×{late / early:.3f} late")
            flat = flat and late < GROWTH * early
        if self.refused:
            print(f"postbacks refused: {self.refused}")
        return flat and total > 0 and not (lost or doubled or reordered or self.refused)


def resident(board: Switchboard) -> float:
    """Return the memory that a process occupies, in MB."""
    assert board.process is not None
    pages = int(Path(f"/proc/{board.process.pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


async def main() -> bool:
    """Run as told on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--users", type=int, default=200)
    options = parser.parse_args()
    async with redis_server() as redis, FakeConcierge().serving() as concierge:
        environment = variables(concierge.url, REDISCLOUD_URL=redis.url, RATE_LIMIT="0")
        async with (
            switchboard_process(environment) as first,
            switchboard_process(environment) as second,
        ):
            return await Soak([first, second], redis, concierge).run(options.seconds, options.users)


if __name__ == "__main__":
    sys.exit(not asyncio.run(main()))
