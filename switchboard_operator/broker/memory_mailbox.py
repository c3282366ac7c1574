"""Mailboxes in this process: what publish.lua and read.lua do, without Redis."""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from switchboard_operator import marks
from switchboard_operator.mailbox import EMPTY, MailboxRules, Page
from switchboard_operator.marks import Mark


@dataclass(slots=True)
class _Box:
    """One session's postbacks; times are the loop's."""

    epoch: str
    last: int = 0
    cursor: int = 0
    size: int = 0  # bytes
    bodies: deque[bytes] = field(default_factory=deque)
    bodies_until: float = 0.0
    until: float = 0.0

    def trim(self, most: int, most_bytes: int) -> None:
        while len(self.bodies) > most or (self.size > most_bytes and len(self.bodies) > 1):
            self.size -= len(self.bodies.popleft())

    def clear(self) -> None:
        self.bodies.clear()
        self.size = 0


class MemoryMailbox:
    """Implements `mailbox.Mailbox`; `add` fills it."""

    def __init__(self, rules: MailboxRules) -> None:
        """Keep what *rules* say."""
        self._rules = rules
        self._boxes: dict[str, _Box] = {}  # the longest untouched first

    def add(self, session: str, body: bytes) -> Mark | None:
        """Keep *body* as the latest of *session*; return its id, None if there is no mailbox."""
        most = self._rules.size_for(session)
        if not most:
            return None
        self._forget()
        now = asyncio.get_running_loop().time()
        box = self._box(session) or _Box(marks.new_epoch())
        box.last += 1
        box.bodies.append(body)
        box.size += len(body)
        box.trim(most, self._rules.most_bytes)
        box.bodies_until = now + self._rules.lifetime
        self._touch(session, box)
        return Mark(box.epoch, box.last)

    def read(self, session: str, after: Mark | None) -> asyncio.Future[Page | None]:
        """Return a page at once."""
        result: asyncio.Future[Page | None] = asyncio.get_running_loop().create_future()
        box = self._box(session)
        result.set_result(self._page(box, after) if box is not None else EMPTY)
        return result

    def prove(self, session: str, mark: Mark, *, urgent: bool = False) -> asyncio.Future[None]:  # noqa: ARG002 - all is urgent here
        """Move the cursor at once."""
        box = self._box(session)
        if box is not None and box.epoch == mark.epoch and box.cursor < mark.number <= box.last:
            box.cursor = mark.number
            self._touch(session, box)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    async def erase(self, session: str) -> None:
        """Forget all of *session*."""
        self._boxes.pop(session, None)

    def _box(self, session: str) -> _Box | None:
        """Return what is known of *session* and not over."""
        box, now = self._boxes.get(session), asyncio.get_running_loop().time()
        if box is None or box.until <= now:
            return None
        if box.bodies_until <= now:
            box.clear()
        return box

    def _page(self, box: _Box, after: Mark | None) -> Page:
        start = 0
        if after is None:
            start = box.cursor
        elif after.epoch == box.epoch:
            start = after.number
            if start > box.last:  # no count of ours was ever there
                box.epoch, box.last, box.cursor, start = marks.new_epoch(), len(box.bodies), 0, 0
        oldest = box.last - len(box.bodies) + 1
        begin = max(start + 1, oldest) - oldest
        bodies: list[bytes] = []
        size = 0
        for body in islice(box.bodies, begin, begin + self._rules.page):
            size += len(body)
            if bodies and size > self._rules.page_bytes:
                break
            bodies.append(body)
        return Page(box.epoch, box.last, box.cursor, oldest, start, tuple(bodies))

    def _touch(self, session: str, box: _Box) -> None:
        self._boxes.pop(session, None)
        self._boxes[session] = box
        box.until = asyncio.get_running_loop().time() + self._rules.state_lifetime

    def _forget(self) -> None:
        # Two go for each one that comes, so memory shrinks again after a rush.
        now = asyncio.get_running_loop().time()
        for session, box in list(islice(self._boxes.items(), 2)):
            if box.until <= now:
                del self._boxes[session]
            elif box.bodies_until <= now:
                box.clear()
