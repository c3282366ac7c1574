"""The line from the Concierge to users: a postback goes to every local socket of its session."""

from collections.abc import Iterable

from switchboard_operator.connection import Connection
from switchboard_operator.connections import Connections
from switchboard_operator.delivery_sample import DeliverySample
from switchboard_operator.messages import Delivery
from switchboard_operator.metrics import Metrics
from switchboard_operator.turns import Turns


class Downlink:
    """Puts postbacks that a broker hands over on the lines of this instance's sockets."""

    def __init__(
        self, connections: Connections, turns: Turns, sample: DeliverySample, metrics: Metrics
    ) -> None:
        """Deliver to *connections*; *turns* and *sample* measure it."""
        self._connections = connections
        self._turns = turns
        self._sample = sample
        self._live = metrics.delivered_live
        self._touched: list[Connection] = []

    def deliver(self, delivery: Delivery) -> None:
        """Put a postback on the line of each socket of its session; never waits for a client."""
        self._turns.answered(delivery.session)
        for connection in self._connections.of(delivery.session):
            self._touched.append(connection)
            if connection.deliver(delivery):
                self._live.add()
                if delivery.session == self._sample.session:
                    self._sample.delivered(delivery)

    def write(self) -> None:
        """Write what was delivered, since no more comes for now."""
        touched, self._touched = self._touched, []
        for connection in touched:
            connection.flush()

    def resync(self) -> None:
        """Have every socket look in its mailbox: something may have gone unheard."""
        self._turns.forget()
        for connection in self._connections:
            connection.fall_behind()

    def has(self, session: str) -> bool:
        """Tell whether there is any socket of *session* here, or was when it said something."""
        return self._connections.has(session) or self._turns.waits(session)

    def has_any(self, sessions: Iterable[str]) -> bool:
        """Tell whether `has` is true of any of *sessions*: of most it is not, in a large fleet."""
        return self._connections.has_any(sessions) or self._turns.waits_for_any(sessions)

    def sockets_of(self, session: str) -> int:
        """Return how many sockets of *session* are here."""
        return sum(not connection.closing for connection in self._connections.of(session))
