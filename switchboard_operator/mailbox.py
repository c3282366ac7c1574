"""Mailboxes: what they keep of a session's postbacks, and a page of one."""

from dataclasses import dataclass

from switchboard_operator.marks import NOWHERE, Mark

SHORTEST = 16  # characters; a shorter session id stands in routers' logs and is guessed too easily


@dataclass(frozen=True, slots=True)
class Page:
    """
    Some of what a session's mailbox holds, and the state it is in.

    `last` is the number of the latest postback, `oldest` of the oldest that is kept (`last + 1` if
    none is), `cursor` up to which the user has proven to have all. `bodies` begin after `start`,
    which is 0 if the reader asked for another epoch, and with `first`.
    """

    epoch: str
    last: int
    cursor: int
    oldest: int
    start: int
    bodies: tuple[bytes, ...] = ()

    @property
    def first(self) -> int:
        """Return the number of the first postback after `start` that is kept."""
        return max(self.start + 1, self.oldest)

    @property
    def missed(self) -> int:
        """Return how many postbacks after `start` are kept."""
        return self.last - self.first + 1

    def at(self, number: int) -> Mark:
        """Return the mark of *number* in this page's epoch."""
        return Mark(self.epoch, number) if self.epoch else NOWHERE


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxRules:
    """
    Which sessions have a mailbox, how much it keeps and for how long.

    `size` postbacks (0: nobody has a mailbox) and `most_bytes`. Bodies live `lifetime` seconds
    after the latest, the count of them and the cursor `state_lifetime`, the keys of postbacks
    `once_lifetime`. A page holds `page` bodies and `page_bytes`.
    """

    size: int
    lifetime: int
    state_lifetime: int
    once_lifetime: int
    most_bytes: int
    page: int
    page_bytes: int

    def size_for(self, session: str) -> int:
        """Return how many postbacks of *session* are kept."""
        return self.size if len(session) >= SHORTEST else 0


EMPTY = Page(epoch="", last=0, cursor=0, oldest=1, start=0)
