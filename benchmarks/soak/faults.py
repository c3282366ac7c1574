"""What befalls the instances' surroundings, one thing after the other."""

import asyncio
from itertools import cycle

from benchmarks.soak.users import World
from tests.fakes import FakeConcierge, Incoming
from tests.redis_server import RedisServer

FROZEN = 2.0  # seconds
REFUSING = 3.0  # seconds
MARGIN = 3.0  # seconds in which links to Redis are made anew


class Concierge:
    """Keeps the numbers of what it accepts, unless it refuses."""

    def __init__(self, world: World, fake: FakeConcierge) -> None:
        """Answer for *fake*."""
        self.refuses = False
        self._world = world
        self._fake = fake
        fake.answer = self._answer

    async def _answer(self, incoming: Incoming) -> int:
        self._fake.received.clear()  # it would keep everything
        self._fake.accepted.clear()
        if self.refuses:
            self._world.counts["refusals"] += 1
            return 503
        content = incoming.content
        number = int(content["Body"].removeprefix("number "))
        self._world.accepted[content["From"]].append(number)
        return 204


class Faults:
    """Breaks the links to Redis, freezes it, has the Concierge refuse: each in its turn."""

    def __init__(self, world: World, redis: RedisServer, concierge: Concierge) -> None:
        """Befall *redis* and *concierge*, and let *world* know."""
        self._world = world
        self._redis = redis
        self._concierge = concierge

    async def run(self, every: float) -> None:
        """Let something befall, and then nothing for *every* so many seconds, for ever."""
        turns = cycle((self._break_links, self._freeze, self._refuse))
        while True:
            await asyncio.sleep(every)
            await next(turns)()
            self._world.counts["faults"] += 1

    async def _break_links(self) -> None:
        await self._doubt()
        for kind in self._world.chance.choice((["normal"], ["pubsub"], ["normal", "pubsub"])):
            broken = await self._redis.call("CLIENT", "KILL", "TYPE", kind)
            self._world.counts["links to Redis broken"] += broken
        await self._trust()

    async def _freeze(self) -> None:
        await self._doubt()
        self._redis.freeze()
        try:
            await asyncio.sleep(FROZEN)
        finally:
            self._redis.thaw()
        await self._trust()

    async def _refuse(self) -> None:
        self._concierge.refuses = True
        try:
            await asyncio.sleep(REFUSING)
        finally:
            self._concierge.refuses = False

    async def _doubt(self) -> None:
        """Let who is away with something unacknowledged be back before Redis is missed."""
        self._world.redis_in_doubt = True
        await asyncio.sleep(self._world.away)

    async def _trust(self) -> None:
        """Let who left while Redis was missed be back, too."""
        await asyncio.sleep(MARGIN + self._world.away)
        self._world.redis_in_doubt = False
