"""Durations and sizes that no variable sets, in one value that tests can shrink."""

from dataclasses import dataclass

KIB = 1024  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of everything that waits or grows. Times are in seconds, sizes in bytes."""

    # Connections
    heartbeat: float = 25.0  # silence of a client before it is pinged
    pong: float = 12.5  # a ping unanswered for so long ends the connection
    stall: float = 10.0  # a client that takes nothing for so long is cut off
    close: float = 10.0  # a client has so long to answer our Close frame
    sockets_per_session: int = 8
    outbox_frames: int = 1024
    outbox_bytes: int = 512 * KIB
    burst_bytes: int = 64 * KIB  # postbacks handed over before the writers have a turn

    frames_in_turn: int = 32  # a socket's frames taken before others have a turn

    # Uplink
    uplink_queue: int = 50  # messages a session may have waiting in any case
    parked_frames: int = 64  # and beyond those, until its sockets are not read for a while
    parked_bytes: int = 256 * KIB
    retry_first: float = 0.5  # upper bound of the first back-off
    retry_longest: float = 4.0  # upper bound of any back-off
    retry_total: float = 30.0  # trying again ends so long after a message's arrival
    rate_burst: int = 100  # messages a session may send at once before RATE_LIMIT paces it

    # Concierge
    concierge_connect: float = 5.0
    reset_window: float = 1.0  # a link reset so soon after a POST was never read from
    version_timeout: float = 3.0
    version_lifetime: float = 1.0  # the Concierge's version is asked for at most so often

    # Redis
    redis_connect: float = 2.0
    redis_answer: float = 4.0  # a call unanswered for so long breaks the link
    redis_pause: float = 0.5  # at most, between a link that broke and the next one
    redis_settle: float = 0.7  # from being subscribed to publishing: longer than any redis_pause
    confirm: float = 1.0  # a postback not confirmed by Redis in that time is answered 202
    held_postbacks: int = 10_000
    held_bytes: int = 64 * 1024 * KIB
    batch_messages: int = 500  # postbacks in one call, or an array that has more
    batch_bytes: int = 1024 * KIB
    probe_every: float = 4.0
    probe_answer: float = 4.0  # a probe not heard for so long means that we are deaf
    log_interval: float = 60.0  # the same trouble is logged at most so often

    # HTTP
    body: float = 10.0  # a request's body must arrive within
    unacknowledged: float = 40.0  # a peer that acknowledges nothing for so long is gone
    keep_alive: float = (
        95.0  # longer than any router in front keeps an idle connection (Heroku: 90)
    )
    array_bytes: int = 4096 * KIB
    array_items: int = 1000

    # SIGTERM
    shutdown: float = 17.0  # from the first signal until both lines must be at rest
    clean_up: float = 1.0  # then, for each of aiohttp's own two waits; all ends within 20 s
