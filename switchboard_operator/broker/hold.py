"""What waits for Redis: messages in order, each until it is confirmed, and no more than fit."""

import asyncio
import sys
from collections import deque
from collections.abc import Sequence
from itertools import islice

import msgspec

from switchboard_operator.broker.publication import Publication
from switchboard_operator.broker.publish_command import Part, PublishCommand
from switchboard_operator.errors import BrokerFull
from switchboard_operator.limits import Limits
from switchboard_operator.messages import Postback


class Entry(msgspec.Struct, eq=False):  # made for each postback: a dataclass takes longer
    """A message that waits; its part of a call is made once, however often it is sent."""

    body: bytes
    part: Part
    publication: Publication
    in_doubt: bool = False  # it was sent before: if Redis has had it, then from us


class Hold:
    """
    Messages in the order in which they were put, each until Redis has confirmed it.

    They are postbacks, which count and have a bound, and probes, which do not.
    """

    def __init__(self, command: PublishCommand, limits: Limits) -> None:
        """Keep what *command* is to publish; be full as *limits* say."""
        self.held = 0  # postbacks
        self._held_bytes = 0
        self._command = command
        self._limits = limits
        self._queue: deque[Entry] = deque()
        self._emptied = asyncio.Event()

    def __len__(self) -> int:
        """Return the number of messages, probes among them."""
        return len(self._queue)

    def put(self, postbacks: Sequence[Postback]) -> Publication:
        """
        Append postbacks, all or none; the publication is done when all are confirmed.

        Raises:
            BrokerFull: there is no room for them.
        """
        size = sum([len(postback.body) for postback in postbacks])
        too_many = self.held + len(postbacks) > self._limits.held_postbacks
        if too_many or self._held_bytes + size > self._limits.held_bytes:
            raise BrokerFull
        self.held += len(postbacks)
        self._held_bytes += size
        publication = Publication(len(postbacks))
        for postback in postbacks:
            part = self._command.part(postback)
            self._queue.append(Entry(postback.body, part, publication))
        return publication

    def put_probe(self, probe: Postback) -> Publication:
        """Append *probe*, for which there is always room."""
        publication = Publication(1, is_probe=True)
        part = self._command.part(probe, kept=False)
        self._queue.append(Entry(probe.body, part, publication))
        return publication

    def batch(self, most_bytes: int, behind: int = 0, most: int = sys.maxsize) -> list[Entry]:
        """
        Return messages *behind* so many, which stay there, *most* or as many as go into one call.

        Their bodies have *most_bytes* at most, but the first is among them however long.
        """
        batch: list[Entry] = []
        size = 0
        for entry in islice(self._queue, behind, behind + min(most, self._limits.batch_messages)):
            size += len(entry.body)
            if batch and size > most_bytes:
                break
            batch.append(entry)
        return batch

    def confirm_first(self, id_: str, *, repeated: bool) -> None:
        """
        Drop the message at the head, which Redis has published with the id *id_*, "" for none.

        *repeated*: it had done so before, which means nothing for a message that was in doubt.
        """
        entry = self._queue.popleft()
        if not entry.publication.is_probe:
            self.held -= 1
            self._held_bytes -= len(entry.body)
        entry.publication.confirm(id_, repeated=repeated and not entry.in_doubt)
        if not self.held:
            self._emptied.set()

    async def emptied(self) -> None:
        """Wait until no postback is held."""
        while self.held:
            self._emptied.clear()
            await self._emptied.wait()
