"""Mailboxes in Redis: read in pages, and the cursors written in batches."""

import asyncio
from functools import partial
from typing import Any

from redis.exceptions import ResponseError

from switchboard_operator import marks
from switchboard_operator.broker import keys, scripts
from switchboard_operator.broker.calls import Calls
from switchboard_operator.limits import Limits
from switchboard_operator.mailbox import EMPTY, MailboxRules, Page
from switchboard_operator.marks import Mark
from switchboard_operator.metrics import Metrics


class RedisMailbox:
    """Implements `mailbox.Mailbox`; `broker.publisher` fills it."""

    def __init__(self, calls: Calls, rules: MailboxRules, limits: Limits, metrics: Metrics) -> None:
        """Make *calls* for what *rules* keep."""
        self._calls = calls
        self._rules = rules
        self._refused = metrics.script_errors
        self._pause = limits.cursor_pause
        # Cursors to write, by session and epoch.
        self._due: dict[tuple[str, str], tuple[int, asyncio.Future[None]]] = {}
        self._writing: set[asyncio.Future[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # looked up once

    def read(self, session: str, after: Mark | None) -> asyncio.Future[Page | None]:
        """Return a page, when Redis is there; None if it refuses to read."""
        self._loop = self._loop or asyncio.get_running_loop()
        result: asyncio.Future[Page | None] = self._loop.create_future()
        if not self._rules.size_for(session):
            result.set_result(EMPTY)
            return result
        epoch, number = ("*", 0) if after is None else after
        command = scripts.READ.call(
            (keys.state(session), keys.bodies(session)),
            epoch, number, self._rules.page, self._rules.page_bytes, marks.new_epoch(),
        )  # fmt: skip
        reply = self._calls.put(command, patient=True)
        reply.add_done_callback(lambda done: self._answer(result, done))
        result.add_done_callback(lambda _: reply.cancel())
        return result

    def _answer(self, result: asyncio.Future[Page | None], reply: asyncio.Future[Any]) -> None:
        if result.done():
            return
        if isinstance(reply.exception(), ResponseError):
            self._refused.inc()
            result.set_result(None)
            return
        epoch, last, cursor, oldest, start, *bodies = reply.result()
        result.set_result(Page(epoch.decode(), last, cursor, oldest, start, tuple(bodies)))

    def prove(self, session: str, mark: Mark, *, urgent: bool = False) -> asyncio.Future[None]:
        """Move the cursor with others that move soon, or at once if it is *urgent*."""
        loop = asyncio.get_running_loop()
        if not mark.number or not self._rules.size_for(session):
            stored = loop.create_future()
            stored.set_result(None)
            return stored
        key = (session, mark.epoch)
        if key not in self._due:
            self._due[key] = (mark.number, loop.create_future())
        number, stored = self._due[key]
        self._due[key] = (max(number, mark.number), stored)
        if urgent:
            self._write_cursors()
        elif self._timer is None:
            self._timer = loop.call_later(self._pause, self._write_cursors)
        return stored

    def _write_cursors(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._calls.up:  # they are collected meanwhile
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._write_cursors)
            return
        due, self._due = self._due, {}
        for (session, epoch), (number, stored) in due.items():
            state, lifetime = keys.state(session), self._rules.state_lifetime
            command = scripts.PROVE.call((state,), epoch, number, lifetime)
            reply = self._calls.put(command, patient=True)
            self._writing.add(reply)
            reply.add_done_callback(self._writing.discard)
            reply.add_done_callback(partial(self._stored, stored))

    def _stored(self, stored: asyncio.Future[None], reply: asyncio.Future[Any]) -> None:
        if not reply.cancelled() and isinstance(reply.exception(), ResponseError):
            self._refused.inc()  # what is proven next moves the cursor over this, too
        if not stored.done():
            stored.set_result(None)

    async def flush(self) -> None:
        """Wait until all cursors are written."""
        while self._due or self._writing:
            self._write_cursors()
            if self._writing:
                await asyncio.wait(self._writing)
            else:
                await asyncio.sleep(self._pause)

    async def erase(self, session: str) -> None:
        """Forget all of *session*."""
        await self._calls.ask(("DEL", keys.state(session), keys.bodies(session)))
