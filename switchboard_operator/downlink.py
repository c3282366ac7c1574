"""The line from the Concierge to users: a postback goes to every local socket of its session."""

from switchboard_operator.connections import Connections
from switchboard_operator.messages import Postback
from switchboard_operator.metrics import Metrics


class Downlink:
    """Puts postbacks that a broker hands over on the lines of this instance's sockets."""

    def __init__(self, connections: Connections, metrics: Metrics) -> None:
        """Deliver to *connections*."""
        self._connections = connections
        self._live = metrics.deliveries.labels("live")

    def deliver(self, postback: Postback) -> None:
        """Put *postback* on the line of each socket of its session; never waits for a client."""
        for connection in self._connections.of(postback.session):
            if connection.offer(postback.body):
                self._live.inc()
