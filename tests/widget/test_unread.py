"""The launcher counts what has not been seen: on its badge, in its name, in each tab."""

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import expect

from tests.switchboards import Switchboard
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

Answer = Callable[..., Awaitable[None]]

# A real tab can't be put behind another one here: each has a window of its own.
LOOK_AWAY = """(state) => {
  Object.defineProperty(document, "visibilityState", { configurable: true, get: () => state });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


async def begin(visitor: Visitor, board: Switchboard, site: Site) -> Answer:
    """Have a conversation of which all is seen, and the panel closed; return what answers in it."""
    await visitor.visit(site.url)
    await visitor.open()
    await visitor.say("Hello")
    session = await visitor.session()
    await visitor.panel.press("Escape")

    async def answer(*bodies: str) -> None:
        await board.postback([{"to": session, "from": "bot", "body": body} for body in bodies])

    return answer


async def test_what_comes_while_it_is_closed_is_counted_until_it_is_opened(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    answer = await begin(visitor, board, site)
    await expect(visitor.launcher).to_have_accessible_name("Open chat")
    badge = visitor.launcher.locator("[part=badge]")
    await expect(badge).to_be_hidden()

    await answer("One")
    await expect(badge).to_have_text("1")
    await expect(visitor.launcher).to_have_accessible_name("Open chat, 1 unread message")
    await answer("Two", "Three")
    await expect(badge).to_have_text("3")
    await expect(badge).to_be_visible()
    await expect(visitor.launcher).to_have_accessible_name("Open chat, 3 unread messages")
    assert await visitor.chat.evaluate("(chat) => chat.unread") == 3

    await visitor.page.reload()
    await expect(visitor.launcher).to_have_accessible_name("Open chat, 3 unread messages")
    assert await visitor.hears("unread") == [{"count": 3}]

    await visitor.open()
    await expect(badge).to_be_hidden()
    assert await visitor.chat.evaluate("(chat) => chat.unread") == 0
    await visitor.panel.press("Escape")
    await expect(visitor.launcher).to_have_accessible_name("Open chat")
    assert await visitor.heard("unread") == [{"count": 3}, {"count": 0}]


async def test_the_page_hears_each_change_of_the_count(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    answer = await begin(visitor, board, site)

    for count, body in enumerate(["One", "Two"], start=1):
        await answer(body)
        await visitor.hears("unread", count)
    await visitor.open()

    assert await visitor.hears("unread", 3) == [{"count": 1}, {"count": 2}, {"count": 0}]


async def test_only_what_can_be_seen_is_counted(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await begin(visitor, board, site)
    session = await visitor.session()

    await visitor.chat.evaluate("(chat) => chat.send('What the page says for the user')")
    await board.postback({"to": session, "from": "bot", "type": "event", "name": "bell"})
    await board.postback({"to": session, "from": "bot", "body": "An answer"})

    await expect(visitor.launcher).to_have_accessible_name("Open chat, 1 unread message")
    assert await visitor.heard("unread") == [{"count": 1}]


async def test_an_open_panel_is_seen_once_its_tab_is_looked_at(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    answer = await begin(visitor, board, site)
    await visitor.open()
    await answer("Seen at once")
    await expect(visitor.from_bot("Seen at once")).to_be_visible()
    assert await visitor.heard("unread") == []

    await visitor.page.evaluate(LOOK_AWAY, "hidden")
    await answer("Not looked at")
    assert await visitor.hears("unread") == [{"count": 1}]

    await visitor.page.evaluate(LOOK_AWAY, "visible")
    assert await visitor.hears("unread", 2) == [{"count": 1}, {"count": 0}]


async def test_every_tab_counts_the_same(board: Switchboard, site: Site, arrive: Arrive) -> None:
    visitor = await arrive()
    answer = await begin(visitor, board, site)
    other = await Visitor.in_tab(visitor.context)
    await other.visit(site.url)

    for body in ("One", "Two", "Three"):
        await answer(body)

    for tab in (visitor, other):
        await expect(tab.launcher).to_have_accessible_name("Open chat, 3 unread messages")
        assert await tab.heard("unread") == [{"count": 1}, {"count": 2}, {"count": 3}]
    assert not other.errors
