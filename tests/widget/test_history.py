"""What is left of a conversation after a reload, a reset, a day offline; and without a store."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pytest
from playwright.async_api import WebSocket, expect

from tests.fakes import FakeConcierge
from tests.fault_proxy import NO_FAULTS, FaultProxy
from tests.switchboards import Switchboard, eventually
from tests.widget.browser import POLICY, Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

NOBODY = 1  # a port that refuses

# Notes whatever is put into the live region, however short it stays.
LISTEN = """
window.announced = [];
const attach = Element.prototype.attachShadow;
Element.prototype.attachShadow = function (options) {
  const root = attach.call(this, options);
  new MutationObserver((records) => {
    for (const { target, addedNodes } of records) {
      if (target.role !== "status") continue;
      for (const node of addedNodes) announced.push(node.textContent);
    }
  }).observe(root, { subtree: true, childList: true });
  return root;
};
"""
FORBIDDEN = """
Object.defineProperty(window, "localStorage", {
  get() { throw new DOMException("not for you", "SecurityError"); },
});
"""
FULL = """
try {
  for (let size = 1 << 22; size; size >>= 1) {
    try {
      for (let n = 0; ; n += 1) localStorage.setItem(`filler ${size} ${n}`, "x".repeat(size));
    } catch {}
  }
} catch {}
"""

KEPT = """() => {
  try {
    return Object.keys(localStorage).some((key) => key.startsWith("switchboard"));
  } catch {
    return false;
  }
}"""


@dataclass
class Line:
    """The way to a switchboard, which leads nowhere until it is mended."""

    url: str
    port: int = NOBODY

    def mend(self, board: Switchboard) -> None:
        self.port = int(board.url.rpartition(":")[2])


@asynccontextmanager
async def dead_line() -> AsyncIterator[Line]:
    line = Line("")
    async with FaultProxy(lambda: line.port, NO_FAULTS, Random(0)).serving() as proxy:
        line.url = f"ws://127.0.0.1:{proxy.port}"
        yield line


def bodies(concierge: FakeConcierge, session: str) -> list[str]:
    """Return what the Concierge has got of *session*."""
    received = [each.content for each in concierge.received]
    return [each["Body"] for each in received if each["From"] == session]


async def user_of(concierge: FakeConcierge, words: str) -> str:
    """Wait for somebody to say *words*; return the session."""

    def found() -> list[str]:
        received = [each.content for each in concierge.received]
        return [each["From"] for each in received if each["Body"] == words]

    await eventually(lambda: bool(found()))
    return found()[0]


async def kept(visitor: Visitor) -> dict[str, Any]:
    """Return what the widget has in the store."""
    found: dict[str, Any] = json.loads(
        await visitor.page.evaluate("Object.values(localStorage)[0]")
    )
    return found


async def shown(visitor: Visitor) -> list[str]:
    """Return the words in the bubbles, in order."""
    return await visitor.log.locator("[part~=bubble]").all_text_contents()


async def is_online(visitor: Visitor) -> bool:
    """Let the browser say that there is a network; tell whether the widget has a line by now."""
    await visitor.page.evaluate("dispatchEvent(new Event('online'))")
    return await visitor.banner.is_hidden()


def record_frames(visitor: Visitor) -> list[dict[str, Any]]:
    """Note what passes on each socket from now on, both ways."""
    frames: list[dict[str, Any]] = []

    def take(frame: str | bytes) -> None:
        frames.append(json.loads(frame))

    def watch(socket: WebSocket) -> None:
        socket.on("framesent", take)
        socket.on("framereceived", take)

    visitor.page.on("websocket", watch)
    return frames


async def test_a_reload_shows_the_last_100_and_resumes_in_silence(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    site.embed(board.url, open="")
    visitor = await arrive()
    await visitor.page.add_init_script(LISTEN)
    await visitor.visit(site.url)
    session = await visitor.session()
    for first in (0, 55):  # not more at once than the mailbox keeps
        news = [{"to": session, "body": f"No. {n}"} for n in range(first, first + 55)]
        await board.postback(json.dumps(news).encode())
        await expect(visitor.from_bot(f"No. {first + 54}")).to_be_visible()
    await visitor.say("Is that all?")
    await expect(visitor.from_user("Is that all?")).to_contain_text("Sent")
    before = await kept(visitor)
    frames = record_frames(visitor)

    await visitor.page.reload()
    await eventually(lambda: any(frame["type"] == "hello" for frame in frames))
    await board.postback({"to": session, "body": "Yes"})
    await expect(visitor.from_bot("Yes")).to_be_visible()

    assert frames[0] == {"type": "open", "token": before["token"], "last": before["last"]}
    hello = next(frame for frame in frames if frame["type"] == "hello")
    assert (hello["session"], hello["resumed"], hello["missed"]) == (session, True, 0)
    assert await shown(visitor) == [*(f"No. {n}" for n in range(12, 110)), "Is that all?", "Yes"]
    assert await visitor.page.evaluate("announced") == ["Yes"]
    assert await visitor.page.evaluate("heard.filter(([name]) => name === 'message').length") == 1


async def test_reset_begins_a_conversation_that_knows_nothing_of_the_one_before(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    await visitor.say("a secret")
    before = await user_of(concierge, "a secret")
    await board.postback({"to": before, "body": "I shall tell nobody"})
    await expect(visitor.from_bot("I shall tell nobody")).to_be_visible()

    await visitor.chat.evaluate("(chat) => chat.reset()")
    await expect(visitor.log.locator("li")).to_have_count(0)
    await visitor.say("who am I?")
    after = await user_of(concierge, "who am I?")
    await board.postback({"to": before, "body": "for the one before"})
    await board.postback({"to": after, "body": "Somebody else"})
    await expect(visitor.from_bot("Somebody else")).to_be_visible()
    await visitor.page.reload()
    await visitor.open()

    assert after != before
    assert await shown(visitor) == ["who am I?", "Somebody else"]
    assert "a secret" not in await visitor.page.evaluate("JSON.stringify(localStorage)")


@pytest.mark.parametrize(
    "store", [pytest.param(FORBIDDEN, id="forbidden"), pytest.param(FULL, id="full")]
)
async def test_a_browser_that_keeps_nothing_chats(
    store: str, board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    words = f"to be forgotten, {len(store)}"
    visitor = await arrive()
    await visitor.page.add_init_script(store)
    await visitor.visit(site.url)
    await visitor.open()

    await visitor.say(words)
    session = await user_of(concierge, words)
    await board.postback({"to": session, "body": "It will be"})
    await expect(visitor.from_bot("It will be")).to_be_visible()
    await visitor.say("Good")

    await expect(visitor.from_user("Good")).to_contain_text("Sent")
    assert bodies(concierge, session) == [words, "Good"]
    assert await shown(visitor) == [words, "It will be", "Good"]
    found = (
        "try { Object.keys(localStorage).find((key) => key.startsWith('switchboard')) } catch {}"
    )
    assert await visitor.page.evaluate(found) is None


async def test_a_sandboxed_frame_chats(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    site.headers.clear()  # to a frame without an origin, 'self' is nobody
    site.pages["/framed"] = site.pages["/"]
    site.pages["/"] = (
        "<!doctype html><title>Outside</title>"
        '<iframe src="/framed" width="600" height="700" sandbox="allow-scripts allow-forms">'
        "</iframe>"
    )
    visitor = await arrive()
    await visitor.page.goto(site.url)
    inside = visitor.page.frame_locator("iframe")

    await inside.get_by_role("button", name="Open chat").click()
    await inside.get_by_role("textbox", name="Message", exact=True).fill("From a sandbox")
    await inside.get_by_role("button", name="Send", exact=True).click()
    session = await user_of(concierge, "From a sandbox")
    await board.postback({"to": session, "body": "Hello in there"})

    await expect(inside.locator("li.bot")).to_contain_text("Hello in there")
    await expect(inside.locator("li.user")).to_contain_text("Sent")


async def test_50_messages_typed_offline_go_out_in_order(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    words = [f"offline {n}" for n in range(50)]
    visitor = await arrive()
    async with dead_line() as line:
        site.headers["Content-Security-Policy"] = POLICY.format(widget=board.url, socket=line.url)
        site.embed(board.url, src=f"{line.url}/")
        await visitor.visit(site.url)
        await visitor.open()

        for each in words[:25]:
            await visitor.say(each)
        await visitor.page.reload()
        await visitor.open()
        for each in words[25:]:
            await visitor.say(each)
        await expect(visitor.from_user("Sending")).to_have_count(50)
        await expect(visitor.banner).to_be_visible()
        line.mend(board)
        await eventually(lambda: is_online(visitor))

        await expect(visitor.from_user("Sent")).to_have_count(50)
        assert bodies(concierge, await visitor.session()) == words


async def test_what_is_older_than_a_day_is_offered_and_not_sent(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    now = datetime.now(UTC)
    visitor = await arrive()
    async with dead_line() as line:
        site.headers["Content-Security-Policy"] = POLICY.format(widget=board.url, socket=line.url)
        site.embed(board.url, src=f"{line.url}/")
        await visitor.page.clock.set_fixed_time(now - timedelta(hours=24, minutes=1))
        await visitor.visit(site.url)
        await visitor.open()
        await visitor.say("older than a day")
        await visitor.page.clock.set_fixed_time(now - timedelta(hours=23, minutes=59))
        await visitor.say("not so old")
        await visitor.page.clock.set_fixed_time(now)
        old = visitor.from_user("older than a day")

        await visitor.page.reload()
        line.mend(board)
        await visitor.open()
        await visitor.say("young")
        await expect(visitor.from_user("young")).to_contain_text("Sent")
        session = await visitor.session()
        assert bodies(concierge, session) == ["not so old", "young"]
        await expect(old).to_contain_text("Not sent")
        await old.get_by_role("button", name="Retry", exact=True).click()

        await expect(old.locator("[part~=state]")).to_have_text("Sent")
        assert bodies(concierge, session) == ["not so old", "young", "older than a day"]
