"""What a process of ours is told by signals, and how it ends."""

import asyncio
import logging
import os
import signal
import sys
from typing import Never


def stop_signal() -> asyncio.Event:
    """Return what SIGTERM and SIGINT set, however often they come."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def end(code: int = 0) -> Never:
    """
    End at once, with *code*: everything is closed.

    An ordinary exit would wait for look-ups of names that hang in threads, and one more signal
    while the interpreter winds up would make the exit code another one.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(code)


def let_nobody_read() -> None:
    """Print to nowhere from now on, since who read it has gone: `check | head -1`."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
