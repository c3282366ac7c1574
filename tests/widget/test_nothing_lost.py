"""A hundred times the line is lost while both sides talk: all arrives, once, and in order."""

import asyncio
import os
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
from playwright.async_api import WebSocket, expect

from switchboard_operator.limits import Limits
from switchboard_operator.web import keys
from tests.fakes import FakeConcierge
from tests.fault_proxy import FaultProxy, Faults, Kind
from tests.switchboards import Switchboard, eventually, switchboard
from tests.widget.browser import POLICY, Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

SEED = int(os.environ.get("SEED", random.randrange(1_000_000)))  # SEED=… repeats a run's chances

MESSAGES = 1000  # of each side
DROPS = 100
BETWEEN = MESSAGES // DROPS  # messages of each side from one drop to the next, at most
PAUSE = 5  # ms from one message to the next, on average
PATIENCE = 0.8  # seconds in which a line that something befell must be replaced
SHOWN = 100  # messages that the widget keeps
RESTARTING = 1012

# What is found by waiting must be found soon. A link that is not cut, deaf or mute is well, until
# the switchboard closes it.
LIMITS = Limits(heartbeat=0.2, pong=0.2, retry_window=150, receipt_every=0.1, receipt_delay=0.05)
FAULTS = Faults(kinds=[Kind.CUT, Kind.CUT, Kind.DEAF, Kind.MUTE, Kind.NONE], within=3500)
GREETING = 2000  # bytes of an upgrade and a hello: the widget gives these 10 s

# The widget waits for chance parts of its back-off; here they are small ones.
HASTE = "{ const { random } = Math; Math.random = () => random() / 5; }"


SAY = """
async (chat, said) => {
  for (const [text, pause] of said) {
    await new Promise((resolve) => setTimeout(resolve, pause));
    chat.send(text);
  }
}
"""


class Road(FaultProxy):
    """Leads to a switchboard; holes are met only by who has been greeted there."""

    def _draw(self) -> tuple[Kind, int, float]:
        kind, within, delay = super()._draw()
        return kind, within + (GREETING if kind in {Kind.DEAF, Kind.MUTE} else 0), delay


class Talk:
    """A visitor and a Concierge who keep talking, and a line between them that keeps breaking."""

    def __init__(self, board: Switchboard, visitor: Visitor, road: Road, chance: Random) -> None:
        self.drops = 0
        self.restarts = 0
        self.board = board
        self.visitor = visitor
        self.road = road
        self.chance = chance
        self._met = 0  # faults before the line that is there now
        visitor.page.on("websocket", self._watch)

    def _watch(self, line: WebSocket) -> None:
        line.once("framereceived", self._greeted)

    def _greeted(self, _frame: str | bytes) -> None:
        self.drops += 1
        self._met = self.road.met.total()

    async def goes_on(self, session: str) -> None:
        """Let both sides say all they have, and lose the line all the while."""
        self.drops = 0
        for drop in range(DROPS):
            # One drop behind, so that both go on talking while there is no line.
            await self._dropped(drop - 1)
            said = range(drop * BETWEEN, (drop + 1) * BETWEEN)
            await asyncio.gather(self._user_talks(said), self._bot_talks(session, said))
        await self._dropped(DROPS)

    async def _user_talks(self, numbers: range) -> None:
        texts = [[f"user {number}", self.chance.uniform(0, 2 * PAUSE)] for number in numbers]
        await self.visitor.chat.evaluate(SAY, texts)

    async def _bot_talks(self, session: str, numbers: range) -> None:
        for number in numbers:
            await asyncio.sleep(self.chance.uniform(0, 2 * PAUSE) / 1000)
            response = await self.board.postback({"to": session, "body": f"bot {number}"})
            assert response.status == 204

    async def _dropped(self, count: int) -> None:
        """Wait until the line was lost so often; one that nothing befalls is closed."""
        while self.drops < count:
            if self.road.met.total() == self._met:
                self._restart()
            try:
                async with asyncio.timeout(PATIENCE):
                    await eventually(lambda: self.drops >= count, pause=0.005)
            except TimeoutError:
                self._met = self.road.met.total()  # that was the fault of a line that is gone

    def _restart(self) -> None:
        assert self.board.app is not None
        for connection in self.board.app[keys.CONNECTIONS]:
            self.restarts += not connection.closing
            connection.close(RESTARTING)


@asynccontextmanager
async def talking(
    concierge: FakeConcierge, arrive: Arrive, chance: Random
) -> AsyncIterator[tuple[Talk, str]]:
    """Let somebody come by a road full of holes, and open the chat."""
    async with (
        switchboard(concierge.url, LIMITS, MAILBOX_SIZE="2000", RATE_LIMIT="0") as board,
        Road(lambda: int(board.url.rpartition(":")[2]), FAULTS, chance).serving() as road,
        Site().serving() as site,
    ):
        socket = f"ws://127.0.0.1:{road.port}"
        policy = POLICY.format(widget=board.url, socket=socket)
        site.headers["Content-Security-Policy"] = policy
        site.embed(board.url, src=f"{socket}/")
        visitor: Visitor = await arrive()
        await visitor.context.add_init_script(HASTE)
        talk = Talk(board, visitor, road, chance)
        await visitor.visit(site.url)
        await visitor.open()
        yield talk, await visitor.session()
        await visitor.leave()


async def test_nothing_is_lost_doubled_or_reordered_over_a_hundred_drops(
    concierge: FakeConcierge, arrive: Arrive
) -> None:
    print(f"SEED={SEED}")
    bot = [f"bot {number}" for number in range(MESSAGES)]
    user = ["hello", *(f"user {number}" for number in range(MESSAGES))]
    async with talking(concierge, arrive, Random(SEED)) as (talk, session):
        visitor = talk.visitor

        await visitor.say("hello")
        await expect(visitor.from_user("hello")).to_contain_text("Sent")
        await visitor.page.keyboard.press("Escape")  # a closed chat spares the machine some layout
        await expect(visitor.panel).to_be_hidden()
        await talk.goes_on(session)
        talk.road.calm()
        await visitor.open()
        await visitor.hears("message", MESSAGES)
        await concierge.has_received(len(user))
        await expect(visitor.from_user("Sending")).to_have_count(0)

        assert [post.content["Body"] for post in concierge.received] == user
        cids = {post.header("Idempotency-Key") for post in concierge.received}
        assert len(cids) == len(user)
        assert [heard["data"]["body"] for heard in await visitor.heard("message")] == bot
        shown_from_bot = await visitor.from_bot().locator("[part~=bubble]").all_inner_texts()
        shown_from_user = await visitor.from_user().locator("[part~=bubble]").all_inner_texts()
        assert len(shown_from_bot) + len(shown_from_user) == SHOWN
        assert shown_from_bot == bot[-len(shown_from_bot) :]
        assert shown_from_user == user[-len(shown_from_user) :]
        await expect(visitor.from_user("Sent")).to_have_count(len(shown_from_user))
        await expect(visitor.log.locator("[part=note]")).to_have_count(0)
        befell = {Kind.CUT, Kind.DEAF, Kind.MUTE}
        assert befell == set(talk.road.met), "the drops were not of all kinds"
        assert talk.restarts > 0
