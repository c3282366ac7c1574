"""Users who are sent away again and again, and come back to either instance."""

import asyncio
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from benchmarks.lines import GONE, Line, opened
from benchmarks.verdict import Verdict

SILENCE = 60.0  # seconds without a frame, though pings come every 25


@dataclass
class World:
    """What all users have in common."""

    ports: Sequence[int]  # of the instances
    chance: Random
    away: float  # seconds, at most
    counts: Counter[str] = field(default_factory=Counter)
    accepted: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    redis_in_doubt: bool = False  # it is away, or soon will be, or was

    def any_port(self) -> int:
        """Return the port of either instance."""
        return self.chance.choice(self.ports)


class User(ABC):
    """A user, and all that was sent to and by them."""

    upgrade = ""  # headers
    receive_buffer: int | None = None
    ends_are_ours = True  # that is, the server never ends a socket of theirs

    def __init__(self, session: str, world: World) -> None:
        """Come as *session*."""
        self.session = session
        self.posted = 0  # postbacks that were taken for them
        self.came: list[int] = []
        self.troubles: list[str] = []
        self.here: Line | None = None
        self._world = world
        self._port = world.any_port()
        self._gone = False

    async def come_and_go(self) -> None:
        """Come again and again until sent away for good."""
        while not self._gone:
            await self._visit()
            await asyncio.sleep(self._world.chance.uniform(0, self._world.away))

    def leave(self) -> None:
        """Close, or let go without a word; come back later."""
        assert self.here is not None
        politely = self._is_polite()
        self._world.counts["left" if politely else "dropped"] += 1
        if politely:
            self.here.leave()
        else:
            self.here.drop(reset=self._world.chance.random() < 0.5)
        self.here = None

    def leave_for_good(self) -> None:
        """Close, and don't come back."""
        self._gone = True
        if self.here is not None:
            self.here.leave()
            self.here = None

    def complete(self) -> bool:
        """Tell whether all has come that was taken for them, and all they said is accepted."""
        return self.here is not None and len(set(self.came)) == self.posted and self.settled()

    @property
    @abstractmethod
    def said(self) -> int:
        """Return how many messages they have said."""

    @abstractmethod
    def say(self) -> None:
        """Say one thing more."""

    def settled(self) -> bool:
        """Tell whether the Concierge has accepted all that was said."""
        return len(self._world.accepted[self.session]) >= self.said

    def may_leave(self) -> bool:
        """Tell whether all must still arrive, and in order, if they leave now."""
        return self.here is not None

    def got(self) -> Verdict:
        """Judge what came to them."""
        return Verdict.of(self.came, self.posted, self.troubles)

    def was_heard(self) -> Verdict:
        """Judge what the Concierge got of them."""
        return Verdict.of(self._world.accepted[self.session], self.said)

    def may_get_twice(self) -> bool:
        """Tell whether postbacks may come to them twice."""
        return False

    def _choose_port(self) -> int:
        return self._world.any_port()

    def _arrived(self, line: Line) -> None:
        if self._gone:
            line.leave()
        elif not line.left:
            self.here = line

    async def _visit(self) -> None:
        self._port = self._choose_port()
        self._world.counts["visits"] += 1
        line = None
        try:
            async with (
                asyncio.timeout(SILENCE) as deadline,
                opened(self._port, self.session, self.upgrade, self.receive_buffer) as socket,
            ):
                line = Line(socket, deadline, SILENCE)
                await self._stay(line)
        except TimeoutError:
            doing = "coming" if line is None else "leaving" if line.left else "being here"
            self.troubles.append(f"nothing came for {SILENCE:g} s while {doing}")
        except GONE as exc:
            self._ended(line, repr(exc))
        else:
            self._ended(line, "closed by the server")
        self.here = None

    def _ended(self, line: Line | None, how: str) -> None:
        if line is not None and line.left:
            return
        self._world.counts["cut off"] += 1
        if self.ends_are_ours:
            self.troubles.append(how)

    @abstractmethod
    def _is_polite(self) -> bool:
        """Decide whether to close before going."""

    @abstractmethod
    async def _stay(self, line: Line) -> None:
        """Be there until the line ends."""
