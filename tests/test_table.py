"""The table of connections under random interleavings of all that happens to it."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from switchboard_operator import frames
from switchboard_operator.broker.memory_mailbox import MemoryMailbox
from switchboard_operator.connection import Connection
from switchboard_operator.connections import Connections
from switchboard_operator.delivery_sample import DeliverySample
from switchboard_operator.downlink import Downlink
from switchboard_operator.limits import Limits
from switchboard_operator.messages import Delivery
from switchboard_operator.metrics import Metrics
from switchboard_operator.turns import Turns
from tests.switchboards import eventually
from tests.test_connections import RULES

SESSIONS = ("a", "b", "c")
METRICS = Metrics("test")  # nothing here looks at them, and they are slow to make


class Peer:
    """A client's end: keeps what it gets; now and then it is not quick, or gone."""

    def __init__(self, dice: random.Random) -> None:
        self.got: list[bytes] = []
        self.closed_with: int | None = None
        self.gone = False
        self.full = False
        self.connection: Connection
        self._dice = dice

    def send(self, frames: Sequence[bytes]) -> None:
        if not self.gone:
            self.got += frames
        if not self.full and self._dice.randrange(3) == 0:
            self.full = True
            self.connection.filled()
            asyncio.get_running_loop().call_soon(self._take)

    def _take(self) -> None:
        self.full = False
        self.connection.drained()

    def ping(self, payload: bytes) -> None:
        """Nobody pings here."""

    def pong(self, payload: bytes) -> None:
        """Nobody pings here."""

    def close(self, code: int) -> None:
        if not self.gone:
            self.closed_with = code

    def release(self) -> None:
        """Nobody looks."""

    def abort(self) -> None:
        self.gone = True

    def unsent(self) -> int:
        return 0


@dataclass
class Client:
    """A connection with its peer, and what that must have got in the end."""

    connection: Connection
    peer: Peer
    due: list[bytes] = field(default_factory=list)


class World:
    """Does one thing after the other, and knows what must come of it."""

    def __init__(self, seed: int) -> None:
        self.limits = Limits(sockets_per_session=3)
        self.table = Connections(self.limits)
        turns = Turns(METRICS, self.limits.unanswered)
        sample = DeliverySample(METRICS, self.limits.sample)
        self.downlink = Downlink(self.table, turns, sample, METRICS)
        self.mailbox = MemoryMailbox(RULES)
        self.open: list[Client] = []
        self.all: list[Client] = []
        self._dice = random.Random(seed)
        self._sent = 0

    async def do(self, action: str, which: int) -> None:
        if action == "open":
            self._open(SESSIONS[which % len(SESSIONS)])
        elif action == "postback":
            self._postback(SESSIONS[which % len(SESSIONS)])
        elif action == "step":
            await asyncio.sleep(0)
        elif self.open:
            client = self.open[which % len(self.open)]
            if action == "close":
                client.connection.close(1000, discard=True)
                self._leave(client)
            elif action == "vanish":
                client.peer.gone = True
                client.connection.abort()
                self._leave(client)
            elif action == "late leave":  # closing, but its handler has not noticed yet
                client.connection.close(1012)

    def _open(self, session: str) -> None:
        peer = Peer(self._dice)
        connection = peer.connection = Connection(peer, frames.CLASSIC, self.mailbox, self.limits)
        connection.join(session, after=None)
        self.table.add(connection)
        client = Client(connection, peer)
        self.open.append(client)
        self.all.append(client)

    def _postback(self, session: str) -> None:
        self._sent += 1
        body = b"%d" % self._sent
        for client in self.open:
            if client.connection.session == session and not client.connection.closing:
                client.due.append(body)
        here = [client for client in self.open if client.connection.session == session]
        assert self.downlink.has(session) == bool(here)
        self.downlink.deliver(Delivery(session, body, None))
        self.downlink.write()

    def _leave(self, client: Client) -> None:
        self.open.remove(client)
        self.table.remove(client.connection)

    async def end(self) -> None:
        for client in self.open:
            client.connection.close(1012)
        await eventually(
            lambda: all(
                client.peer.gone or client.peer.closed_with is not None for client in self.all
            ),
            pause=0,
        )
        for client in list(self.open):
            self._leave(client)
        for client in self.all:
            client.connection.lost()


@pytest.mark.slow
@pytest.mark.timeout(900)  # many examples, on a machine that is busy
@settings(max_examples=10_000, deadline=None, database=None)
@given(
    seed=st.integers(0, 2**32),
    actions=st.lists(
        st.tuples(
            st.sampled_from(
                ["open", "open", "postback", "postback", "step", "close", "vanish", "late leave"]
            ),
            st.integers(0, 50),
        ),
        max_size=40,
    ),
)
def test_no_delivery_to_a_live_socket_is_missed_and_no_closed_one_kept(
    seed: int, actions: list[tuple[str, int]]
) -> None:
    async def live() -> None:
        world = World(seed)
        for action, which in actions:
            await world.do(action, which)
            assert set(world.table) == {client.connection for client in world.open}
        stayed = [
            client
            for client in world.all
            if client.connection.close_code in {None, 1012} and not client.peer.gone
        ]
        await world.end()

        for client in stayed:
            assert client.peer.got == client.due
        for client in world.all:
            assert client.peer.got == client.due[: len(client.peer.got)]
        assert len(world.table) == 0
        assert not any(world.table.of(session) for session in SESSIONS)

    asyncio.run(live())
