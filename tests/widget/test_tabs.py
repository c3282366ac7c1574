"""One conversation in all tabs of a browser: each shows everything once, and soon."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import WebSocketRoute, expect

from tests.fakes import FakeConcierge
from tests.switchboards import Switchboard, eventually
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

Tabs = Callable[[str], Awaitable[tuple[Visitor, Visitor]]]

SOON = 300  # ms

# The milliseconds since 1970 at which some words appear in the conversation.
APPEARS = """(chat, words) => new Promise((resolve) => {
  const look = () => {
    const log = chat.shadowRoot.querySelector("[part=log]");
    if (log.textContent.includes(words)) resolve(Date.now());
  };
  new MutationObserver(look).observe(chat.shadowRoot, { childList: true, subtree: true });
  look();
})"""
SAYS = "(chat, words) => { const at = Date.now(); chat.send(words); return at; }"


@pytest_asyncio.fixture(loop_scope="session")
async def tabs(arrive: Arrive) -> AsyncIterator[Tabs]:
    """Open two tabs of a profile; nothing must go wrong in either."""
    others: list[Visitor] = []

    async def come(url: str) -> tuple[Visitor, Visitor]:
        first = await arrive()
        others.append(await Visitor.in_tab(first.context))
        await asyncio.gather(first.visit(url), others[-1].visit(url))
        return first, others[-1]

    yield come
    for visitor in others:
        assert not visitor.errors


async def in_conversation(*tabs: Visitor) -> str:
    """Say something in the first tab, and wait for it in all; return the session."""
    for tab in tabs:
        await tab.open()
    await tabs[0].say("Hello")
    for tab in tabs:
        await expect(tab.from_user("Hello")).to_contain_text("Sent")
    return await tabs[0].session()


async def said(concierge: FakeConcierge, session: str) -> list[str]:
    """Return what the Concierge got from a session."""
    got = [incoming.content for incoming in concierge.accepted]
    return [content["Body"] for content in got if content["From"] == session]


async def test_what_is_said_in_one_tab_shows_in_the_other_once_and_soon(
    concierge: FakeConcierge, site: Site, tabs: Tabs
) -> None:
    first, second = await tabs(site.url)
    session = await in_conversation(first, second)
    words: list[str] = []

    async def shows_soon() -> bool:
        words.append(f"To both, {len(words)}.")
        appears = asyncio.create_task(second.chat.evaluate(APPEARS, words[-1]))
        await second.page.evaluate("1")  # by now it looks
        at = await first.chat.evaluate(SAYS, words[-1])
        return bool(await appears - at <= SOON)

    await eventually(shows_soon)  # as often as it takes where others keep it from that
    await second.say("And back")

    for tab in (first, second):
        await expect(tab.from_user("And back")).to_contain_text("Sent")
        for each in words:
            await expect(tab.from_user(each)).to_contain_text("Sent")
        await expect(tab.from_user()).to_have_count(len(words) + 2)
    assert await said(concierge, session) == ["Hello", *words, "And back"]


async def test_what_the_bot_says_shows_once_in_each_tab(
    board: Switchboard, site: Site, tabs: Tabs
) -> None:
    both = await tabs(site.url)
    session = await in_conversation(*both)
    bodies = [f"Answer {at}." for at in range(20)]

    for body in bodies:
        await board.postback({"to": session, "body": body})

    for tab in both:
        await tab.hears("message", len(bodies))
        await expect(tab.from_bot(bodies[-1])).to_be_visible()
        assert [detail["data"]["body"] for detail in await tab.heard("message")] == bodies
        await expect(tab.from_bot()).to_have_count(len(bodies))


async def test_what_is_seen_in_one_tab_is_seen_in_all(
    board: Switchboard, site: Site, tabs: Tabs
) -> None:
    first, second = await tabs(site.url)
    session = await in_conversation(first, second)
    for tab in (first, second):
        await tab.panel.press("Escape")
    await board.postback({"to": session, "body": "An answer"})
    await expect(second.launcher).to_have_accessible_name("Open chat, 1 unread message")

    await first.open()

    await expect(second.launcher).to_have_accessible_name("Open chat")
    assert await second.heard("unread") == [{"count": 1}, {"count": 0}]


async def test_a_new_conversation_begins_in_all_tabs(
    board: Switchboard, concierge: FakeConcierge, site: Site, tabs: Tabs
) -> None:
    first, second = await tabs(site.url)
    before = await in_conversation(first, second)

    await first.chat.evaluate("(chat) => chat.reset()")
    for tab in (first, second):
        await expect(tab.log.locator("li")).to_have_count(0)
    await second.say("Anew")
    for tab in (first, second):
        await expect(tab.from_user("Anew")).to_contain_text("Sent")

    after = await second.session()
    assert after != before
    await board.postback({"to": before, "body": "To the one that is over"})
    await board.postback({"to": after, "body": "To the new one"})
    for tab in (first, second):
        await expect(tab.from_bot()).to_have_text(["Reply: To the new one"])
        assert await tab.session() == after
    assert await said(concierge, after) == ["Anew"]


async def test_tabs_that_begin_at_the_same_time_end_in_one_conversation(
    board: Switchboard, concierge: FakeConcierge, site: Site, tabs: Tabs
) -> None:
    both = await tabs(site.url)
    greeted: set[WebSocketRoute] = set()
    held: list[Callable[[], None]] = []

    def connect(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def hold(frame: str | bytes) -> None:
            # Both get a session before either knows of it, unless one waits for the other.
            greeted.add(socket)
            held.append(partial(socket.send, frame))
            if len(greeted) > 1:
                let_go()
            else:
                asyncio.get_running_loop().call_later(1, let_go)

        server.on_message(hold)

    def let_go() -> None:
        while held:
            held.pop(0)()

    await both[0].context.route_web_socket("**", connect)
    for tab in both:
        await tab.page.reload()
    marks = [f"From one {uuid4()}", f"From the other {uuid4()}"]

    begin = "(chat, words) => { chat.open(); chat.send(words); }"
    await asyncio.gather(
        *(tab.chat.evaluate(begin, mark) for tab, mark in zip(both, marks, strict=True))
    )

    for tab in both:
        for mark in marks:
            await expect(tab.from_user(mark)).to_contain_text("Sent")
        await expect(tab.from_user()).to_have_count(2)
    sessions = {await tab.session() for tab in both}
    assert len(sessions) == 1
    senders = [
        incoming.content["From"]
        for incoming in concierge.accepted
        if incoming.content["Body"] in marks
    ]
    assert senders == [*sessions] * 2
    await board.postback({"to": senders[0], "body": "To both"})
    for tab in both:
        await expect(tab.from_bot()).to_have_text(["Reply: To both"])
