"""Ports of loopback that nobody else gets."""

import os
import random
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 10
FIRST, EACH = 10_000, 2_000  # none is ephemeral, and each worker has its own


_given: deque[int] = deque(maxlen=EACH // 2)  # on which somebody may not listen yet


def free_port() -> int:
    """Return a port on which nothing listens, nor will by chance."""
    while True:
        port = FIRST + EACH * WORKER + random.randrange(EACH)
        if port in _given:
            continue
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            _given.append(port)
            return port


@contextmanager
def kept_port() -> Iterator[int]:
    """Keep a port within the context for who listens on it, ends, and listens on it again."""
    with socket.socket() as kept:
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", 0))
        yield kept.getsockname()[1]
