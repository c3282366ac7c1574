"""What the switchboard counts, under the names that /metrics shows."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_CONCIERGE_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)
_DELIVERY_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_REPLY_SECONDS = (0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)
_KNOWN_CLOSE_CODES = frozenset(
    (*range(1000, 1004), *range(1005, 1010), 1011, 1012, 1013, 4001, 4002, 4003, 4101, 4102)
)


class Tally:
    """Adds up what happens with each message; Prometheus, whose counters lock, is told later."""

    __slots__ = ("_counter", "_untold")

    def __init__(self, counter: Counter) -> None:
        """Add to *counter*."""
        self._counter = counter
        self._untold = 0

    def add(self, count: int = 1) -> None:
        """Count *count* more."""
        self._untold += count

    def tell(self) -> None:
        """Bring the counter up to date."""
        self._counter.inc(self._untold)
        self._untold = 0


class Metrics:
    """
    The metrics of one process, in a registry of its own.

    Labels take their values from fixed sets, so the number of series does not grow with users.
    """

    def __init__(self, version: str) -> None:
        """Create every metric; *version* is shown by `switchboard_build_info`."""
        self._registry = CollectorRegistry()
        counter, gauge, seconds = self._counter, self._gauge, self._seconds
        self.connections = gauge("connections", "Sockets that are open.", "wire")
        self.opens = counter("opens", "Sockets opened.")
        self.closes = counter("closes", "Sockets closed, by close code.", "code")
        self.rejects = counter("rejects", "Upgrades and frames refused, by reason.", "reason")
        self.user_messages = counter("user_messages", "User messages, by outcome.", "outcome")
        self.postbacks = counter("postbacks", "Postbacks taken or refused, by outcome.", "outcome")
        self.deliveries = counter(
            "deliveries", "Postbacks put on a socket's line, and those that expired before.", "how"
        )
        self.messages_accepted, self.postbacks_confirmed, self.delivered_live = self._tallies = (
            Tally(self.user_messages.labels("accepted")),
            Tally(self.postbacks.labels("confirmed")),
            Tally(self.deliveries.labels("live")),
        )
        self.delivery_seconds = seconds(
            "delivery",
            "Time from taking a postback to putting it on a line, both here: a sample.",
            _DELIVERY_SECONDS,
        )
        self.first_reply_seconds = seconds(
            "first_reply",
            "Time from a user's message, if it was accepted, to the next postback to them.",
            _REPLY_SECONDS,
        )
        self.unanswered_turns = counter(
            "unanswered_turns", "User messages that were followed by no postback in time."
        )
        self.concierge_seconds = seconds(
            "concierge", "Time the Concierge took to answer a POST.", _CONCIERGE_SECONDS
        )
        self.concierge_errors = counter("concierge_errors", "POSTs that failed, by kind.", "kind")
        self.signature_failures = counter(
            "signature_failures", "Requests with a bad signature, by cause.", "cause"
        )
        self.uplink_queued = gauge("uplink_queued", "User messages waiting or under way.")
        self.outbox_frames = gauge("outbox_frames", "Frames waiting for their socket.")
        self.redis_up = gauge("redis_up", "1 if Redis answers.")
        self.listener_up = gauge("listener_up", "1 if what is published reaches this instance.")
        self.probe_seconds = gauge("probe_seconds", "Time from Redis taking a probe to hearing it.")
        self.postbacks_held = gauge("postbacks_held", "Postbacks that Redis has not confirmed.")
        self.script_errors = counter("script_errors", "Calls whose script Redis refused to run.")
        self._look_at_process(version)

    def _look_at_process(self, version: str) -> None:
        counter, gauge = self._counter, self._gauge
        self.task_failures = counter(
            "task_failures", "Background tasks that died of a bug of ours."
        )
        self.tasks = gauge("tasks", "Asyncio tasks that have not ended.")
        self.event_loop_lag = gauge(
            "event_loop_lag_seconds", "How late the event loop was at worst, of late."
        )
        gauge("build_info", "Constant 1, labelled with the version.", "version").labels(
            version
        ).set(1)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"switchboard_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"switchboard_{name}", text, labels, registry=self._registry)

    def _seconds(self, name: str, text: str, buckets: Sequence[float]) -> Histogram:
        full_name = f"switchboard_{name}_seconds"
        return Histogram(full_name, text, registry=self._registry, buckets=buckets)

    def closed(self, code: int) -> None:
        """Count a closed socket; codes that clients make up share one label."""
        self.closes.labels(str(code) if code in _KNOWN_CLOSE_CODES else "other").inc()

    def replayed(self, sent: int, lost: int) -> None:
        """Count postbacks *sent* from a mailbox, and those *lost* to it: too old, or too many."""
        if sent:
            self.deliveries.labels("replayed").inc(sent)
        if lost:
            self.deliveries.labels("expired").inc(lost)

    def exposition(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        for tally in self._tallies:
            tally.tell()
        return generate_latest(self._registry)
