"""Links to Redis, one after the other, and the tasks that use them."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Never

import structlog

from switchboard_operator.broker.link import LINK_ERRORS, Link
from switchboard_operator.broker.linker import OpenLink
from switchboard_operator.limits import Limits

CANCEL_AGAIN = 0.1  # seconds
STEADY = 1.0  # seconds after which a link that works is worth a line in the log

log = structlog.get_logger()


class Reconnector:
    """
    Uses one link after the other, for ever, and knows whether the one at hand works.

    *name* says what the links are for, in the log. Each outage is told once, and its end when a
    link has held for a moment: links that break again and again are one outage.
    """

    def __init__(self, name: str, open_link: OpenLink, limits: Limits) -> None:
        """Open links by *open_link*."""
        self.up = False
        self._name = name
        self._open_link = open_link
        self._pause = limits.redis_pause
        self._missed = False
        self._steady: asyncio.TimerHandle | None = None

    async def run(self, use: Callable[[Link], Awaitable[Never]]) -> Never:
        """Call *use* with a link, and with another one whenever that breaks."""
        while True:
            try:
                async with self._open_link() as link:
                    await use(link)
            except LINK_ERRORS as exc:
                self._tell_missed(exc)
            finally:
                self.up = False
                if self._steady is not None:
                    self._steady.cancel()
            # An outage costs next to nothing, its end is seen soon, instances don't come in step.
            await asyncio.sleep(random.uniform(self._pause / 5, self._pause))  # noqa: S311 - jitter

    def works(self) -> None:
        """Note that the link at hand works."""
        self.up = True
        self._steady = asyncio.get_running_loop().call_later(STEADY, self._tell_up)

    def _tell_up(self) -> None:
        self._missed = False
        log.info("redis is there", use=self._name)

    def _tell_missed(self, error: Exception) -> None:
        if not self._missed:
            self._missed = True
            # The text of an error may quote the URL, and with it a password.
            log.warning("redis is missed", use=self._name, error=type(_cause(error)).__name__)


def _cause(error: BaseException) -> BaseException:
    """Return what *error* says in general: a certificate refused, a connection refused, no host."""
    cause = error.__cause__ or error.__context__
    return _cause(cause) if isinstance(cause, OSError) else error


async def ended(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel *tasks* until they have ended: redis-py's use of `wait_for` may swallow it once."""
    running: Collection[asyncio.Task[Any]] = [task for task in tasks if not task.done()]
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN)
