"""A connection's place in its session's postbacks: live, or behind and reading the mailbox."""

from dataclasses import replace

from switchboard_operator import marks
from switchboard_operator.mailbox import Page
from switchboard_operator.marks import NOWHERE, Mark

REMEMBERED = 16  # postbacks: Redis may go back by as many and be noticed at once
Numbered = tuple[Mark, bytes]  # a postback's id and its body


class Feed:
    """
    Decides what a connection sends next, so that nothing is missed, doubled or out of order.

    Live, it takes what follows its mark. Anything else, be it a hole, another epoch or a number
    that was there before, turns it behind: then pages are read from the mailbox, which alone is
    believed, and what comes meanwhile is kept `ahead` until the pages reach it.
    """

    __slots__ = (
        "_ahead",
        "_doubted",
        "_heard",
        "_sent",
        "_torn",
        "after",
        "ahead_bytes",
        "live",
        "lost",
    )

    def __init__(self, after: Mark | None) -> None:
        """Begin behind, *after* a mark or, with None, the session's cursor."""
        self.after = after  # the mark: what was sent last
        self.live = False
        self._sent: list[int] = []  # hashes of what was sent up to there, the last ones
        self._doubted = 0  # a number of those under which something else came
        self.lost = 0  # postbacks that the last page should have had: too old, or too many
        self.ahead_bytes = 0
        self._ahead: list[Numbered] = []  # without a hole
        # Since the page that is under way was asked for:
        self._heard = False  # something came
        self._torn = False  # something was dropped, or may have gone unheard

    @property
    def ahead(self) -> int:
        """Return the number of postbacks kept until the pages reach them."""
        return len(self._ahead)

    @property
    def place(self) -> Mark | None:
        """Return the place after which to read."""
        if self._doubted and self.after is not None:
            return Mark(self.after.epoch, self._doubted - 1)
        return self.after

    def fall_behind(self) -> None:
        """Trust the mailbox alone: something may have been missed."""
        self.live = False
        self._heard = self._torn = True
        self._forget_ahead()

    def take(self, mark: Mark, body: bytes, *, room: bool) -> bool:
        """
        Take a postback of the channel; return whether it is to be sent now.

        Without *room* it is not kept, and read later.
        """
        if self.live and room and self.after is not None and self.after.precedes(mark):
            self._send(mark, body)
            return True
        sent = self._hash_of(mark)
        if self.live and sent == hash(body):  # a page was faster than the channel
            return False
        if self.live and sent is not None:  # one of the two is made up, or Redis has gone back
            self._doubted = mark.number
        self.live = False
        self._heard = True
        if not room or (self._ahead and not self._ahead[-1][0].precedes(mark)):
            self._forget_ahead()
            self._torn = True
        if room:
            self._ahead.append((mark, body))
            self.ahead_bytes += len(body)
        return False

    def asked(self) -> None:
        """Note that a page is being asked for."""
        self._heard = self._torn = False

    def take_page(self, page: Page | None) -> list[Numbered]:
        """Take the page that was asked for, None if it can't be read; return what is to be sent."""
        self.lost = 0
        if page is None:  # nothing is known but what was heard
            return self._send_ahead(self.after or NOWHERE, 0)
        if self._doubted and self.after is not None:
            if self._contradicts(page, self.after):
                # What is there needs ids of its own, and gets them if we ask for what no mailbox
                # has counted to.
                self._go_to(Mark(page.epoch, marks.LAST))
                return []
            page = _after(page, self.after)
        return self._follow(page)

    def _follow(self, page: Page) -> list[Numbered]:
        if self._ahead_reaches(page):
            self.lost = max(0, self._ahead[0][0].number - page.start - 1)
            return self._send_ahead(page.at(page.start), page.last)
        self.lost = page.first - page.start - 1
        due = [(page.at(number), body) for number, body in enumerate(page.bodies, start=page.first)]
        reached = page.at(page.first - 1 + len(due))
        self._go_to(page.at(page.first - 1))
        for mark, body in due:
            self._send(mark, body)
        if self._ahead_reaches(page, reached.number + 1):
            return due + self._send_ahead(reached, page.last)
        if reached.number >= page.last and not self._heard:
            # What is still ahead was said before the page was asked for, and the mailbox knows
            # nothing of it: somebody has made it up.
            self._forget_ahead()
            self.live = True
        return due

    def _contradicts(self, page: Page, after: Mark) -> bool:
        """Tell whether what was sent is not what *page*, which goes back before it, has there."""
        self._doubted = 0
        return page.epoch == after.epoch and (
            page.last < after.number
            or any(
                self._hash_of(page.at(number)) not in {None, hash(body)}
                for number, body in enumerate(page.bodies, start=page.first)
            )
        )

    def _ahead_reaches(self, page: Page, number: int | None = None) -> bool:
        """Tell whether what was heard goes back to *number*, or to all that the mailbox keeps."""
        if not self._ahead:
            return False
        mark = self._ahead[0][0]
        epoch = page.epoch or mark.epoch  # where there is none yet, the first one is right
        return mark.epoch == epoch and mark.number <= (number or page.first)

    def _send_ahead(self, mark: Mark, last: int) -> list[Numbered]:
        """Return what was heard after *mark*; turn live if that is all, *last* being the latest."""
        due = [heard for heard in self._ahead if heard[0].epoch != mark.epoch or heard[0] > mark]
        self._go_to(mark)
        for heard, body in due:
            self._send(heard, body)
        self._forget_ahead()
        reached = due[-1][0] if due else mark
        self.live = reached.number >= last and not self._torn
        return due

    def _go_to(self, mark: Mark) -> None:
        if mark != self.after:
            self._sent.clear()
        self.after = mark

    def _send(self, mark: Mark, body: bytes) -> None:
        self.after = mark
        self._sent.append(hash(body))
        if len(self._sent) > REMEMBERED:
            del self._sent[0]

    def _hash_of(self, mark: Mark) -> int | None:
        """Return the hash of what was sent under *mark*, None if that is not known."""
        if self.after is None or self.after.epoch != mark.epoch:
            return None
        back = self.after.number - mark.number
        return self._sent[-1 - back] if 0 <= back < len(self._sent) else None

    def _forget_ahead(self) -> None:
        self._ahead.clear()
        self.ahead_bytes = 0


def _after(page: Page, mark: Mark) -> Page:
    """Return *page* from *mark* on, if it is of its epoch."""
    if page.epoch != mark.epoch or mark.number <= page.start:
        return page
    bodies = page.bodies[max(0, mark.number + 1 - page.first) :]
    return replace(page, start=mark.number, bodies=bodies)
