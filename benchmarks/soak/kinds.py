"""The kinds of users: of original clients, of switchboard.v1, and slow ones."""

import asyncio
from typing import Any

from msgspec import json

from benchmarks.conversations import Heard, Said
from benchmarks.lines import V1, Line
from benchmarks.soak.users import User, World


class ClassicUser(User):
    """A user of an original client, who leaves in one manner always."""

    def __init__(self, session: str, world: World, *, polite: bool) -> None:
        """Come as *session*, and close before going or not."""
        super().__init__(session, world)
        self._polite = polite
        self._said = 0

    @property
    def said(self) -> int:
        """Return how many messages they have said."""
        return self._said

    def say(self) -> None:
        """Say one thing more, for which they must be here."""
        assert self.here is not None
        self.here.say({"message": f"number {self._said}"})
        self.here.bear()  # who talks is not pinged
        self._said += 1

    def may_leave(self) -> bool:
        """
        Tell whether all must still arrive, and in order, if they leave now.

        What an original client said on a link that broke may be lost, and what it says on two
        sockets has no order. And that it closed with all received is soon known only to a Redis
        that is there.
        """
        closes_in_vain = self._polite and self._world.redis_in_doubt
        return super().may_leave() and self.settled() and not closes_in_vain

    def may_get_twice(self) -> bool:
        """Tell whether they leave without a Close frame, which proves what has come."""
        return not self._polite

    def _is_polite(self) -> bool:
        return self._polite

    async def _stay(self, line: Line) -> None:
        self._arrived(line)
        while (text := await line.hear()) is not None:
            self.came.append(json.decode(text)["n"])


class V1User(User):
    """A user of switchboard.v1, who comes back with the last id and says again what is open."""

    upgrade = V1

    def __init__(self, session: str, world: World) -> None:
        """Come as *session*."""
        super().__init__(session, world)
        self._heard, self._said = Heard(), Said(world.counts)
        self.came = self._heard.came
        self._heard.troubles = self._said.troubles = self.troubles

    @property
    def said(self) -> int:
        """Return how many messages they have said."""
        return self._said.count

    def say(self) -> None:
        """Say one thing more, now or when they are back."""
        self._said.say(self.here)

    def settled(self) -> bool:
        """Tell whether all that was said is acknowledged."""
        return not self._said.unacknowledged

    def _choose_port(self) -> int:
        # While Redis is away instances don't know what was said to others: it may be posted twice.
        if self._world.redis_in_doubt and not self.settled():
            return self._port
        return super()._choose_port()

    def _is_polite(self) -> bool:
        return self._world.chance.random() < 0.5

    async def _stay(self, line: Line) -> None:
        line.say(self._heard.open)
        while (text := await line.hear()) is not None:
            await self._take(line, json.decode(text))

    async def _take(self, line: Line, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "ack":
                await self._said.take(line, frame)
            case "typing":
                pass
            case _:
                self._heard.take(frame)
        if frame["type"] == "hello":
            self._said.say_again(line)
            self._arrived(line)


class SlowReader(V1User):
    """A user of switchboard.v1 who stops reading now and then, and whom the server may cut off."""

    receive_buffer = 32_768  # bytes that the kernel takes for them
    ends_are_ours = False

    def __init__(self, session: str, world: World) -> None:
        """Come as *session*, and read for now."""
        super().__init__(session, world)
        self.reading = asyncio.Event()
        self.reading.set()

    async def _take(self, line: Line, frame: dict[str, Any]) -> None:
        await super()._take(line, frame)
        await self.reading.wait()
