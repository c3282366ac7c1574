"""A connection as it comes in: plain postbacks are taken at once, the rest goes on to aiohttp."""

import asyncio
from collections.abc import Callable
from typing import cast

from switchboard_operator import plain_http
from switchboard_operator.broker.base import Published
from switchboard_operator.limits import Limits
from switchboard_operator.plain_http import Verdict
from switchboard_operator.web.deadline import Deadline
from switchboard_operator.web.porter import Porter
from switchboard_operator.web.upgrades import Upgrades


class Doorstep(asyncio.Protocol):
    """
    A connection on which nothing but plain postbacks came so far, which are answered in order.

    At the first request that is anything else aiohttp gets the connection, with all bytes that
    were not answered here.
    """

    _transport: asyncio.Transport

    def __init__(
        self,
        porter: Porter,
        upgrades: Upgrades,
        limits: Limits,
        aiohttp: Callable[[], asyncio.Protocol],
        there: "set[Doorstep]",
    ) -> None:
        """Leave to what *aiohttp* makes what neither *porter* nor *upgrades* take; be *there*."""
        self._porter = porter
        self._upgrades = upgrades
        self._limits = limits
        self._aiohttp = aiohttp
        self._there = there
        self._loop = asyncio.get_running_loop()
        self._ours = False  # neither lost nor aiohttp's
        self._waiting = b""
        self._begun = False  # some of a request is here, and the time for the rest is running
        self._due: Published | None = None  # what the next answer is about
        self._closing = False
        self._over: asyncio.Future[None] | None = None
        self._clogged = False  # our answers are not read
        self._paused = False  # nor are requests, since too many wait
        self._deadline = Deadline(self._time_is_up)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first request."""
        self._transport = cast(asyncio.Transport, transport)
        self._ours = True
        self._there.add(self)
        self._deadline.set(self._limits.keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - whatever the cause
        """Forget all but a postback that is published, which is still to be counted."""
        self._leave()
        if self._due is None:
            self._deadline.cancel()

    def data_received(self, data: bytes) -> None:
        """Take what came."""
        self._waiting += data
        self._proceed()

    def eof_received(self) -> None:
        """Take no more; the transport closes itself."""
        self._closing = True

    def pause_writing(self) -> None:
        """Answer nothing more for now."""
        self._clogged = True

    def resume_writing(self) -> None:
        """Go on answering."""
        self._clogged = False
        self._proceed()

    def close(self) -> asyncio.Future[None]:
        """Take no more, and end as soon as nothing is due; the future is done then."""
        self._closing = True
        if self._due is None:
            self._transport.close()
        self._over = self._loop.create_future()
        return self._over

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def _proceed(self) -> None:
        """Deal with the request at the head of what waits, if it is its turn."""
        if self._closing or not self._ours:
            return
        if self._waiting and self._due is None and not self._clogged:
            self._step()
        crowded = len(self._waiting) > plain_http.MOST_HEAD + self._limits.doorstep_bytes
        if crowded is not self._paused:
            self._paused = crowded
            (self._transport.pause_reading if crowded else self._transport.resume_reading)()

    def _step(self) -> None:
        if self._waiting.startswith(b"GET"):
            self._let_in()
            return
        took = self._porter.take(self._waiting)
        if took is Verdict.OTHER:
            self._hand_over()
        elif took is Verdict.MORE:
            if not self._begun:
                self._begun = True
                self._deadline.set(self._limits.doorstep_patience)
        else:
            published, size = took
            self._waiting = self._waiting[size:]
            self._await(published)

    def _let_in(self) -> None:
        """Let a user in, or leave it to aiohttp what this is; we have no part in it any more."""
        if self._upgrades.take(self._waiting, self._transport) is Verdict.OTHER:
            self._hand_over()
        else:
            self._leave()
            self._deadline.cancel()

    def _await(self, published: Published) -> None:
        self._due = published
        if published.done():
            self._answer(published)
        else:
            self._deadline.set(self._limits.confirm)
            published.add_done_callback(self._answer)

    def _answer(self, published: Published) -> None:
        if published is not self._due:  # the answer was that it is held
            return
        self._due, self._begun = None, False
        answer = self._porter.answer(published)
        if not self._ours:
            self._deadline.cancel()
            return
        self._transport.write(answer)
        if self._closing:
            self._transport.close()
        self._deadline.set(self._limits.keep_alive)
        if self._waiting:
            self._loop.call_soon(self._proceed)  # others have a turn in between

    def _time_is_up(self) -> None:
        if self._due is not None:
            self._answer(self._due)
        elif self._begun:
            self._hand_over()
        else:
            self._transport.abort()

    def _hand_over(self) -> None:
        """Let aiohttp have the connection, as if it had had it from the first byte that waits."""
        if self._transport.is_closing():
            return
        waiting = self._waiting
        if self._paused:
            self._transport.resume_reading()
        self._leave()
        self._deadline.cancel()
        protocol = self._aiohttp()
        protocol.connection_made(self._transport)
        self._transport.set_protocol(protocol)
        if self._clogged:
            protocol.pause_writing()
        protocol.data_received(waiting)

    def _leave(self) -> None:
        self._ours, self._paused = False, False
        self._waiting = b""
        self._there.discard(self)
        if self._over is not None:
            self._over.set_result(None)
