"""The table of connections, where the two lines meet: which sockets are a session's."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import attrgetter

from switchboard_operator import frames
from switchboard_operator.connection import Connection
from switchboard_operator.frames import Wire
from switchboard_operator.limits import Limits


class Connections:
    """The table of open connections: which sockets are a session's, and which nobody's yet."""

    def __init__(self, limits: Limits) -> None:
        """Begin with none."""
        self._most = limits.sockets_per_session
        self._by_session: dict[str, list[Connection]] = {}
        self._strangers: set[Connection] = set()
        self._by_wire: Counter[str] = Counter()
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of connections."""
        return self._by_wire.total()

    def __iter__(self) -> Iterator[Connection]:
        """Go through a copy of all connections, so that the table may change meanwhile."""
        joined = [connection for listed in self._by_session.values() for connection in listed]
        return iter([*joined, *self._strangers])

    def add(self, connection: Connection) -> None:
        """Register *connection*, under its session if it has joined one."""
        self._by_wire[connection.wire.name] += 1
        self._empty.clear()
        self._strangers.add(connection)
        if connection.session:
            self.admit(connection)

    def admit(self, connection: Connection) -> None:
        """
        Register *connection* under the session that it has joined.

        A session that would have too many loses the one whose last sign of life is oldest: of all,
        it is the likeliest to have been left behind by its client.
        """
        self._strangers.remove(connection)
        listed = self._by_session.setdefault(connection.session, [])
        open_ones = [other for other in listed if not other.closing]
        if len(open_ones) >= self._most:
            min(open_ones, key=attrgetter("heard_at")).close(frames.REPLACED, discard=True)
        listed.append(connection)

    def remove(self, connection: Connection) -> None:
        """Unregister this very *connection*; another one of its session stays."""
        self._by_wire[connection.wire.name] -= 1
        if connection in self._strangers:
            self._strangers.remove(connection)
        else:
            listed = self._by_session[connection.session]
            listed.remove(connection)
            if not listed:
                del self._by_session[connection.session]
        if not len(self):
            self._empty.set()

    def of(self, session: str) -> tuple[Connection, ...]:
        """Return the connections of *session*, oldest first."""
        return tuple(self._by_session.get(session, ()))

    def has(self, session: str) -> bool:
        """Tell whether there is any connection of *session*."""
        return session in self._by_session

    def has_any(self, sessions: Iterable[str]) -> bool:
        """Tell whether there is any connection of any of *sessions*."""
        return not self._by_session.keys().isdisjoint(sessions)

    async def emptied(self) -> None:
        """Wait until there is no connection."""
        while len(self):
            await self._empty.wait()

    def count(self, wire: Wire) -> int:
        """Return the number of connections that talk in the format of *wire*."""
        return self._by_wire[wire.name]

    def waiting_frames(self) -> int:
        """Return the number of frames in all outboxes."""
        return sum(connection.waiting for connection in self)
