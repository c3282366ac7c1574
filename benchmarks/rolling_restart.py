"""
Restart two instances, one after the other, while their users chat: does anybody notice?

Users of switchboard.v1 and the bot choose among the instances whose /live answers 200, as a
balancer would for them. Every postback must arrive once and in order, none may be refused, and
users must not come back in one wave. Exit code 1 if not.
"""

import argparse
import asyncio
import itertools
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp.client import ClientWebSocketResponse
from msgspec import json

from tests.fakes import FakeConcierge
from tests.redis_server import free_port, redis_server
from tests.switchboards import (
    Switchboard,
    client_session,
    eventually,
    switchboard_process,
    variables,
)

LOOK = 0.2  # seconds between two looks at /live
WAVE = 200  # users may come back within one second
LOST_FOR_GOOD = 60.0  # seconds after the load in which the last postbacks arrive
PATIENCE = 300.0  # seconds that a run may take


class Instance:
    """An instance on a port of its own, which can be restarted."""

    def __init__(self, environment: dict[str, str]) -> None:
        """Run it with *environment*."""
        self.live = False
        self.board: Switchboard
        self._environment = environment | {"SWITCHBOARD_PORT": str(free_port())}
        self._running = AsyncExitStack()

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        running = switchboard_process(self._environment)
        self.board = await self._running.enter_async_context(running)

    async def stop(self) -> int | None:
        """End it as a deployment does; return its exit code."""
        assert self.board.process is not None
        if self.board.process.returncode is None:
            self.board.process.send_signal(signal.SIGTERM)
        code = await self.board.process.wait()
        await self._running.aclose()
        return code

    async def look(self, client: aiohttp.ClientSession) -> None:
        """Find out whether it takes traffic."""
        try:
            async with client.get(f"{self.board.url}/live") as response:
                self.live = response.status == 200
        except aiohttp.ClientError:
            self.live = False


class Balancer:
    """Knows which instances take traffic."""

    def __init__(self, instances: list[Instance]) -> None:
        """Choose among *instances*."""
        self._instances = instances

    async def watch(self) -> None:
        """Look at all instances again and again."""
        async with client_session() as client:
            while True:
                for instance in self._instances:
                    await instance.look(client)
                await asyncio.sleep(LOOK)

    def choices(self) -> list[str]:
        """Return the addresses of those that take traffic, in the order to try them in."""
        urls = [instance.board.url for instance in self._instances if instance.live]
        return random.sample(urls, len(urls))


@dataclass
class Comings:
    """Who left and came back when, in the loop's time."""

    closes: Counter[int | None] = field(default_factory=Counter)
    failed: int = 0  # upgrades that were refused or broke, and were tried again
    moments: list[float] = field(default_factory=list)
    longest: float = 0.0  # seconds between a close and the next hello

    def wave(self) -> int:
        """Return how many came back within the busiest second."""
        moments = sorted(self.moments)
        first = most = 0
        for last, moment in enumerate(moments):
            while moments[first] <= moment - 1:
                first += 1
            most = max(most, last - first + 1)
        return most


class User:
    """A user of switchboard.v1 who comes back whenever the socket is closed."""

    def __init__(self, session: str, balancer: Balancer, comings: Comings) -> None:
        """Talk as *session*, wherever *balancer* leads."""
        self.session = session
        self.posting = asyncio.Lock()  # the bot's: it sends one postback after the other
        self.posted = 0
        self.got: list[int] = []
        self.here = asyncio.Event()
        self._balancer = balancer
        self._comings = comings
        self._opened = {"type": "open"}
        self._retry: tuple[int, int] = (0, 5000)  # milliseconds, until a hello says otherwise
        self._left: float | None = None

    async def stay(self, client: aiohttp.ClientSession) -> None:
        """Be there, as far as the instances let."""
        while True:
            with suppress(aiohttp.ClientError, OSError):
                await self._visit(client)
            await asyncio.sleep(random.uniform(*self._retry) / 1000)

    async def _visit(self, client: aiohttp.ClientSession) -> None:
        url = next(iter(self._balancer.choices()), "http://127.0.0.1:9")  # where nobody listens
        query = {} if "token" in self._opened else {"session": self.session}
        self._comings.failed += 1
        socket = await client.ws_connect(url, params=query, protocols=["switchboard.v1"])
        self._comings.failed -= 1
        async with socket:
            await socket.send_json(self._opened)
            await self._listen(socket)
        self.here.clear()
        self._left = asyncio.get_running_loop().time()
        self._comings.closes[socket.close_code] += 1

    async def _listen(self, socket: ClientWebSocketResponse) -> None:
        async for message in socket:
            frame = json.decode(message.data)
            if frame["type"] == "hello":
                self._greeted(frame)
            elif frame["type"] == "message":
                self._opened["last"] = frame["id"]
                self.got.append(frame["data"]["n"])

    def _greeted(self, hello: dict[str, Any]) -> None:
        self._opened["token"] = hello["token"]
        self._retry = tuple(hello["retry"])
        self.here.set()
        if self._left is not None:
            now = asyncio.get_running_loop().time()
            self._comings.moments.append(now)
            self._comings.longest = max(self._comings.longest, now - self._left)


class Bot:
    """Posts to one user after the other, at a steady rate."""

    def __init__(self, users: list[User], balancer: Balancer) -> None:
        """Talk to *users*, by whichever instance *balancer* names."""
        self.answers: Counter[int] = Counter()
        self.refused: list[str] = []
        self._users = users
        self._balancer = balancer

    async def talk(self, rate: float, leaving: asyncio.Event) -> None:
        """Post *rate* times a second until *leaving* is set, and all is answered."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with client_session() as client, asyncio.TaskGroup() as posts:
            for user in itertools.cycle(self._users):
                if leaving.is_set():
                    break
                posts.create_task(self._post(Switchboard("", client), user))
                due += 1 / rate
                await asyncio.sleep(due - loop.time())

    async def _post(self, board: Switchboard, user: User) -> None:
        async with user.posting:
            content = {"to": user.session, "n": user.posted}
            refusal = "nobody is live"
            for board.url in self._balancer.choices():
                with suppress(aiohttp.ClientConnectorError):  # nobody listens: then the other one
                    refusal = await self._answer(board, content)
                    break
            if refusal:
                self.refused.append(refusal)
            else:
                user.posted += 1

    async def _answer(self, board: Switchboard, content: dict[str, Any]) -> str:
        """Return why a postback was refused, "" if it was taken."""
        try:
            answer = await board.postback(content)
        except aiohttp.ClientConnectorError:
            raise
        except aiohttp.ClientError as exc:
            return repr(exc)
        self.answers[answer.status] += 1
        return "" if answer.status in {202, 204} else str(answer.status)


@dataclass
class RollingRestart:
    """A run: its parts, and what it has found."""

    instances: list[Instance]
    users: list[User]
    bot: Bot
    comings: Comings
    codes: list[int | None] = field(default_factory=list)

    async def run(self, rate: float, pause: float) -> bool:
        """Restart one instance after the other under load; return whether nobody noticed."""
        leaving = asyncio.Event()
        async with asyncio.TaskGroup() as load:
            load.create_task(self.bot.talk(rate, leaving))
            for instance in self.instances:
                await asyncio.sleep(pause)
                self.codes.append(await instance.stop())
                await instance.start()
                await self.everybody_here()
            await asyncio.sleep(pause)
            leaving.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(LOST_FOR_GOOD):
                await eventually(lambda: all(len(user.got) >= user.posted for user in self.users))
        return self._report()

    async def everybody_here(self) -> None:
        """Wait until all users are connected."""
        for user in self.users:
            await user.here.wait()

    def _report(self) -> bool:
        posted = lost = doubled = reordered = 0
        for user in self.users:
            posted += user.posted
            lost += user.posted - len(set(user.got))
            doubled += len(user.got) - len(set(user.got))
            reordered += sum(later < earlier for earlier, later in itertools.pairwise(user.got))
        wave = self.comings.wave()
        print(f"postbacks {posted}, lost {lost}, doubled {doubled}, reordered {reordered}")
        print(f"answers {dict(self.bot.answers)}, refused {len(self.bot.refused)}")
        print(f"exit codes {self.codes}, close codes {dict(self.comings.closes)}")
        print(f"users back {len(self.comings.moments)}, {wave} in the busiest second,")
        print(
            f"  after {self.comings.longest:.1f} s at most; upgrades failed {self.comings.failed}"
        )
        for refusal in self.bot.refused[:5]:
            print(f"refused: {refusal}")
        nobody_noticed = not (lost or doubled or reordered or self.bot.refused)
        restarted = self.codes == [0, 0] and set(self.comings.closes) == {1012}
        return nobody_noticed and restarted and posted > 0 and wave <= WAVE


@asynccontextmanager
async def rolling_restart(sockets: int, drain: str) -> AsyncIterator[RollingRestart]:
    """Start all parts of a run with *sockets* users, whose sockets are closed over *drain* s."""
    async with (
        redis_server() as redis,
        FakeConcierge().serving() as concierge,
        client_session() as client,
        AsyncExitStack() as stopping,
    ):
        environment = variables(concierge.url, REDISCLOUD_URL=redis.url, DRAIN_SECONDS=drain)
        instances = [Instance(environment), Instance(environment)]
        for instance in instances:
            await instance.start()
            stopping.push_async_callback(instance.stop)
            await instance.look(client)
        balancer, comings = Balancer(instances), Comings()
        users = [User(f"rolling-user-{n:06}", balancer, comings) for n in range(sockets)]
        run = RollingRestart(instances, users, Bot(users, balancer), comings)
        async with asyncio.TaskGroup() as going:
            tasks = [going.create_task(balancer.watch())]
            tasks += [going.create_task(user.stay(client)) for user in users]
            await run.everybody_here()
            yield run
            for task in tasks:
                task.cancel()


async def main() -> bool:
    """Run as told on the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sockets", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=50.0, help="postbacks a second")
    parser.add_argument("--drain", default="10", help="DRAIN_SECONDS")
    parser.add_argument("--pause", type=float, default=5.0, help="seconds between restarts")
    options = parser.parse_args()
    async with (
        asyncio.timeout(PATIENCE),
        rolling_restart(options.sockets, options.drain) as run,
    ):
        return await run.run(options.rate, options.pause)


if __name__ == "__main__":
    sys.exit(not asyncio.run(main()))
