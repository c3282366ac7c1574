"""One connection's postbacks on their way to its outbox: live ones, and pages of the mailbox."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from switchboard_operator.feed import Feed
from switchboard_operator.frames import Wire
from switchboard_operator.mailbox import Page
from switchboard_operator.marks import Mark
from switchboard_operator.outbox import Outbox


class Mailbox(Protocol):
    """What a connection needs of a mailbox, which keeps the latest postbacks of each session."""

    def read(self, session: str, after: Mark | None) -> asyncio.Future[Page | None]:
        """
        Return the postbacks after a mark, or after the cursor; wait for Redis if it is away.

        A number that is ahead of the mailbox's own means that it has lost some: what is left gets a
        new epoch. The result is None if the mailbox can't be read.
        """

    def prove(self, session: str, mark: Mark, *, urgent: bool = False) -> asyncio.Future[None]:
        """Move the cursor up to *mark*, soon or at once; the future is done when it is stored."""


Greet = Callable[[Page | None, int], bytes]  # the first page, and how many are lost before it


class Replay:
    """
    Puts a session's postbacks into an outbox, in order, whether they come or have to be read.

    A page is asked for only when all before it has been sent, so a slow reader sets its own pace.
    """

    __slots__ = (
        "_after_hello",
        "_feed",
        "_greet",
        "_held_bytes",
        "_mailbox",
        "_outbox",
        "_page",
        "_session",
        "_wake",
        "_wire",
    )

    def __init__(
        self, mailbox: Mailbox, outbox: Outbox, wire: Wire, wake: Callable[[], None]
    ) -> None:
        """
        Fill *outbox* with frames in the format of *wire*, once a session is joined.

        *wake* is called when there is something to send, or a page to take.
        """
        self._mailbox = mailbox
        self._outbox = outbox
        self._wire = wire
        self._wake = wake
        self._session = ""
        self._feed: Feed | None = None  # until it joins
        self._page: asyncio.Future[Page | None] | None = None  # being read
        self._greet: Greet | None = None
        self._after_hello: tuple[bytes, ...] = ()  # frames that came before the greeting
        self._held_bytes = 0

    @property
    def joined(self) -> bool:
        """Tell whether it has a session."""
        return self._feed is not None

    def join(self, session: str, after: Mark | None, greet: Greet | None) -> None:
        """
        Begin *after* a mark of *session*, or with None from its cursor on.

        *greet* makes the frame that goes before all of it.
        """
        self._session = session
        self._feed = Feed(after)
        self._greet = greet
        self._wake()

    def take(self, mark: Mark, body: bytes) -> bool:
        """
        Take a postback of the channel; return whether it goes out next, and is not read later.

        What comes of it is to be seen to by the caller, once there is no more to take.
        """
        if (feed := self._feed) is None:
            return False
        room = self._outbox.has_room(len(body), beside=(feed.ahead, feed.ahead_bytes))
        is_next = feed.take(mark, body, room=room)
        if is_next:
            self._outbox.put(self._wire.message(body, mark), mark)
        return is_next

    @property
    def held(self) -> tuple[int, int]:
        """Return how many frames wait for the greeting, and their bytes."""
        return len(self._after_hello), self._held_bytes

    def holds(self, frame: bytes) -> bool:
        """Keep *frame* if it must wait for the greeting; tell whether it does."""
        if self._greet is None:
            return False
        self._after_hello += (frame,)
        self._held_bytes += len(frame)
        return True

    def fall_behind(self) -> None:
        """Look in the mailbox for what may have gone unheard."""
        if self._feed is not None:
            self._feed.fall_behind()
            self._wake()

    def greet_without_page(self) -> None:
        """Greet now, if the mailbox has not answered yet."""
        self._say_hello(None, 0)
        self._wake()

    def catch_up(self) -> tuple[int, int] | None:
        """
        Put the page that was read into the outbox, or ask for one that is needed.

        Returns how many postbacks it brought and how many are lost; None if none was there.
        """
        if (feed := self._feed) is None:
            return None
        if self._page is None and not feed.live and not self._outbox:
            feed.asked()
            self._page = self._mailbox.read(self._session, feed.place)
            self._page.add_done_callback(lambda _: self._wake())
        if self._page is None or not self._page.done():
            return None
        page, self._page = self._page.result(), None
        due = feed.take_page(page)
        self._say_hello(page, feed.lost)
        for mark, body in due:
            self._outbox.put(self._wire.message(body, mark), mark)
        return len(due), feed.lost

    def stop(self) -> None:
        """Read no further, and wake nobody."""
        self._wake = lambda: None
        self._greet = None
        if self._page is not None:
            self._page.cancel()

    def _say_hello(self, page: Page | None, lost: int) -> None:
        if self._greet is not None:
            self._outbox.put(self._greet(page, lost))
            self._greet = None
            for frame in self._after_hello:
                self._outbox.put(frame)
            self._after_hello = ()
            self._held_bytes = 0
