"""The users of a run, and the rates at which they come, go, talk and are talked to."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.lines import GONE, Line, opened
from benchmarks.soak.kinds import ClassicUser, SlowReader, V1User
from benchmarks.soak.posting import Poster
from benchmarks.soak.users import SILENCE, User, World

SLOW_SHARE = 0.01  # of the users
FILLING = 200  # users that come in a second, at first
BURST, PAD = 12, "x" * 50_000  # postbacks to a slow reader: more than their outbox takes
STOPS = (4.0, 14.0)  # seconds for which they read nothing: a server may bear 10


@dataclass(frozen=True, kw_only=True)
class Rates:
    """How much happens a second."""

    postbacks: float = 150.0
    messages: float = 50.0
    comings: float = 20.0  # of users who come back; a quarter as many pass by


class Crowd:
    """All users of a run."""

    def __init__(self, world: World, poster: Poster, sockets: int) -> None:
        """Make so many users, who are not here yet."""
        self.passers_by: list[str] = []  # sessions of those who said something
        self.troubles: list[str] = []
        self._end = 0.0  # of the load, in the loop's time
        self._world = world
        self._poster = poster
        slow = max(1, int(SLOW_SHARE * sockets))
        self._slow = [SlowReader(f"soak-slow-reader-{n:06}", world) for n in range(slow)]
        self._ordinary = [self._ordinary_user(n) for n in range(sockets - slow)]
        self.users: Sequence[User] = [*self._slow, *self._ordinary]

    def _ordinary_user(self, number: int) -> User:
        if number % 2:
            return V1User(f"soak-v1-user-{number:06}", self._world)
        return ClassicUser(f"soak-classic-user-{number:06}", self._world, polite=number % 4 == 0)

    async def come(self, tasks: asyncio.TaskGroup) -> None:
        """Let all come, a few at a time; their visits are of *tasks*."""
        for user in self.users:
            tasks.create_task(user.come_and_go())
            await asyncio.sleep(1 / FILLING)

    def here(self) -> int:
        """Return how many are here."""
        return sum(user.here is not None for user in self.users)

    def complete(self) -> bool:
        """Tell whether all users are here and have all, and all that was said is accepted."""
        heard = all(self._world.accepted[session] for session in self.passers_by)
        return heard and all(user.complete() for user in self.users)

    async def live(self, rates: Rates, seconds: float) -> None:
        """Have all happen at its rate for so many *seconds*; end when what was begun has ended."""
        self._end = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as doings:
            paces: list[tuple[float, Callable[[asyncio.TaskGroup], None]]] = [
                (rates.postbacks, self._post),
                (rates.messages, self._say),
                (rates.comings, self._send_away),
                (rates.comings / 4, self._pass_by),
                (1 / (STOPS[0] + 1), self._stop_reading),
            ]
            for rate, do in paces:
                doings.create_task(_at_rate(rate, do, self._end))

    def _anybody(self, is_fit: Callable[[User], bool]) -> User | None:
        drawn = (self._world.chance.choice(self._ordinary) for _ in range(20))
        return next(filter(is_fit, drawn), None)

    def _post(self, doings: asyncio.TaskGroup) -> None:
        doings.create_task(self._poster.post(self._world.chance.choice(self._ordinary)))

    def _say(self, _doings: asyncio.TaskGroup) -> None:
        user = self._anybody(lambda user: user.here is not None)
        if user is not None:
            self._world.counts["messages"] += 1
            user.say()

    def _send_away(self, _doings: asyncio.TaskGroup) -> None:
        """Send somebody away, perhaps in the midst of what they say."""
        user = self._anybody(lambda user: user.may_leave())
        if user is None:
            return
        if isinstance(user, V1User) and self._world.chance.random() < 0.5:
            self._world.counts["messages"] += 1
            user.say()
        user.leave()

    def _pass_by(self, doings: asyncio.TaskGroup) -> None:
        doings.create_task(
            self._passer_by(f"soak-passer-by-{self._world.chance.randrange(10**12)}")
        )

    async def _passer_by(self, session: str) -> None:
        """Come, say something and go, or go without a word: a session that is never seen again."""
        talks = self._world.chance.random() < 0.5
        self._world.counts["passers-by"] += 1
        try:
            async with (
                asyncio.timeout(SILENCE) as deadline,
                opened(self._world.any_port(), session) as socket,
            ):
                if talks:
                    line = Line(socket, deadline, SILENCE)
                    line.say({"message": "number 0"})
                    await line.close()
                    self.passers_by.append(session)
        except (*GONE, TimeoutError) as exc:
            self.troubles.append(f"a passer-by was not served: {exc!r}")

    def _stop_reading(self, doings: asyncio.TaskGroup) -> None:
        slow = [user for user in self._slow if user.reading.is_set() and user.complete()]
        if slow:
            doings.create_task(self._overwhelm(self._world.chance.choice(slow)))

    async def _overwhelm(self, user: SlowReader) -> None:
        """Post more to *user* than they take, for a while."""
        self._world.counts["slow readers"] += 1
        user.reading.clear()
        for _ in range(BURST):
            await self._poster.post(user, PAD)
        left = self._end - asyncio.get_running_loop().time()
        await asyncio.sleep(min(self._world.chance.choice(STOPS), left))
        user.reading.set()


async def _at_rate(rate: float, do: Callable[[asyncio.TaskGroup], None], end: float) -> None:
    """Do it so often a second, on average, until the loop's time is *end*; tasks are awaited."""
    loop = asyncio.get_running_loop()
    due = loop.time()
    async with asyncio.TaskGroup() as doings:
        while (due := due + 1 / rate) < end:
            await asyncio.sleep(due - loop.time())
            do(doings)
