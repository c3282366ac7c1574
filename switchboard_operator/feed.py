"""A connection's place in its session's postbacks: live, or behind and reading the mailbox."""

from collections import deque

from switchboard_operator.mailbox import Page
from switchboard_operator.marks import NOWHERE, Mark

Numbered = tuple[Mark, bytes]  # a postback's id and its body


class Feed:
    """
    Decides what a connection sends next, so that nothing is missed, doubled or out of order.

    Live, it takes what follows its mark. Anything else, be it a hole, another epoch or a number
    that was there before, turns it behind: then pages are read from the mailbox, which alone is
    believed, and what comes meanwhile is kept `ahead` until the pages reach it.
    """

    def __init__(self, after: Mark | None) -> None:
        """Begin behind, *after* a mark or, with None, the session's cursor."""
        self.after = after  # the mark: what was sent last
        self.live = False
        self._latest: int | None = None  # a hash of what the channel brought under that mark
        self.lost = 0  # postbacks that the last page should have had: too old, or too many
        self.ahead_bytes = 0
        self._ahead: deque[Numbered] = deque()  # without a hole
        # Since the page that is under way was asked for:
        self._heard = False  # something came
        self._torn = False  # something was dropped, or may have gone unheard

    @property
    def ahead(self) -> int:
        """Return the number of postbacks kept until the pages reach them."""
        return len(self._ahead)

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
            self.after, self._latest = mark, hash(body)
            return True
        if self.live and mark == self.after and self._latest not in {None, hash(body)}:
            # One of the two is made up. The mailbox has the right one.
            self.after = Mark(mark.epoch, mark.number - 1)
        self._latest = None
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
        if self._ahead_reaches(page):
            self.lost = max(0, self._ahead[0][0].number - page.start - 1)
            return self._send_ahead(page.at(page.start), page.last)
        self.lost = page.first - page.start - 1
        due = [(page.at(number), body) for number, body in enumerate(page.bodies, start=page.first)]
        self.after = due[-1][0] if due else page.at(page.first - 1)
        if self._ahead_reaches(page, self.after.number + 1):
            return due + self._send_ahead(self.after, page.last)
        if self.after.number >= page.last and not self._heard:
            # What is still ahead was said before the page was asked for, and the mailbox knows
            # nothing of it: somebody has made it up.
            self._forget_ahead()
            self.live = True
        return due

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
        self.after = due[-1][0] if due else mark
        self._forget_ahead()
        self.live = self.after.number >= last and not self._torn
        return due

    def _forget_ahead(self) -> None:
        self._ahead.clear()
        self.ahead_bytes = 0
