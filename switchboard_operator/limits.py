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
    burst_bytes: int = 256 * KIB  # postbacks handed over before others have a turn
    send_buffer: int = 128 * KIB  # what the kernel takes for a client: a ping waits behind it
    receipt_delay: float = 0.2  # from a postback being written to the ping that asks for a receipt
    receipt_every: float = 1.0  # a client is asked at most so often
    last_receipt: float = 0.5  # a Close frame waits so long for the receipt of what went before it
    open: float = 10.0  # a v1 client has so long for its first frame
    hello: float = 1.0  # a hello waits so long for a mailbox that does not answer
    retry_window: int = 5000  # milliseconds over which clients spread their return

    # Mailbox
    mailbox_bytes: int = 1_000_000
    # All of a usual mailbox at once: an array that goes on meanwhile pushes nothing out.
    page: int = 100  # postbacks read at once
    page_bytes: int = 256 * KIB
    once: int = 200_000  # postbacks whose keys a process without Redis knows

    frames_in_turn: int = 32  # a socket's frames taken before others have a turn

    # Uplink
    uplink_queue: int = 50  # messages a session may have waiting in any case
    parked_frames: int = 64  # and beyond those, until its sockets are not read for a while
    parked_bytes: int = 256 * KIB
    retry_first: float = 0.5  # upper bound of the first back-off
    retry_longest: float = 4.0  # upper bound of any back-off
    retry_total: float = 30.0  # trying again ends so long after a message's arrival
    rate_burst: int = 100  # messages a session may send at once before RATE_LIMIT paces it

    lease: float = 20.0  # an instance that dies keeps others from a session's messages so long
    lease_renewal: float = 5.0
    outcome: float = 600.0  # what became of a message is known so long
    outcomes: int = 100_000  # and of so many messages, in a process
    offline_every: float = 60.0  # a session gets OFFLINE_REPLY at most so often

    # Turns
    unanswered: float = 60.0  # a message followed by no postback for so long is not answered
    sample: float = 10.0  # a postback is followed on its way no longer

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
    cursor_pause: float = 0.1  # cursors that move within are written together
    once_lifetime: int = 1800  # a postback's key is known so long: its Date is good ±900 s
    presence: float = 0.3  # instances have so long to say how many sockets of a session they have
    held_postbacks: int = 10_000
    held_bytes: int = 64 * 1024 * KIB
    batch_messages: int = 500  # postbacks in one call, or an array that has more
    batch_bytes: int = 1024 * KIB
    lull: float = 0.005  # what is not for us of late is read so often, but not singly
    probe_every: float = 4.0
    probe_answer: float = 4.0  # a probe not heard for so long means that we are deaf
    log_interval: float = 60.0  # the same trouble is logged at most so often

    first_look: float = 0.5  # the banner waits so long for Redis and the Concierge

    # HTTP
    doorstep_bytes: int = 64 * KIB  # a longer body goes through aiohttp; 0: so does everything
    doorstep_patience: float = 1.0  # what has not all arrived by then goes through aiohttp
    body: float = 10.0  # a request's body must arrive within
    unacknowledged: float = 40.0  # a peer that acknowledges nothing for so long is gone
    keep_alive: float = (
        95.0  # longer than any router in front keeps an idle connection (Heroku: 90)
    )
    array_bytes: int = 4096 * KIB
    array_items: int = 1000

    # Event loop
    lag_every: float = 0.1  # its lag is looked at so often; what blocks it for less may go unseen
    lag_window: float = 10.0  # the worst is shown for so long

    # SIGTERM
    shutdown: float = 17.0  # from the first signal until both lines must be at rest
    clean_up: float = 1.0  # then, for answers due, and aiohttp's own two waits; all within 20 s
