"""The chat page in a real Chromium: the demo, a gateway that comes back, a visitor who does too."""

import asyncio
import json
import re
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    async_playwright,
    expect,
)

from tests.fakes import FakeConcierge
from tests.switchboards import ROOT, Switchboard, eventually, switchboard, switchboard_process

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),  # the browser belongs to one loop
    pytest.mark.browser,
    pytest.mark.slow,
]

CHROMIUM = shutil.which("chromium") or "chromium is not installed"
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
UUID4 = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
MARKUP = "<img src=x onerror=\"alert(1)\"> <script>alert(2)</script> <b>bold</b> & 'more'"

# Tells what the page's policy forbade; the console alone may be cleared.
WATCH = """
addEventListener("securitypolicyviolation", (event) => {
  console.error("POLICY", event.violatedDirective, event.blockedURI);
});
"""


@dataclass
class Visitor:
    """Somebody at the chat page, in a browser profile of their own; notes what goes wrong."""

    page: Page
    context: BrowserContext
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @classmethod
    async def arrive(cls, context: BrowserContext) -> Self:
        """Open an empty page and watch it."""
        await context.add_init_script(WATCH)
        visitor = cls(await context.new_page(), context)
        page = visitor.page
        page.set_default_timeout(10_000)
        page.on("console", visitor._note_console)
        page.on("pageerror", lambda error: visitor.errors.append(str(error)))
        page.on("dialog", lambda dialog: visitor.errors.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: visitor.requests.append(request.url))
        page.on("websocket", lambda socket: visitor.requests.append(socket.url))
        return visitor

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    async def open(self, board: Switchboard) -> None:
        """Open the chat, and wait until it is connected."""
        await self.page.goto(f"{board.url}/chat")
        await self.is_connected()

    async def is_connected(self) -> None:
        await expect(self.page.locator("#status")).to_have_attribute("data-state", "open")

    async def type(self, words: str) -> None:
        await self.page.get_by_label("Message", exact=True).fill(words)

    async def say(self, words: str) -> None:
        await self.type(words)
        await self.button("Send").click()

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def log(self) -> Locator:
        return self.page.get_by_role("log", name="Conversation")

    @property
    def answers(self) -> Locator:
        """The latest buttons to press."""
        return self.log.get_by_role("group", name="Answers").last

    def from_bot(self, words: str | re.Pattern[str] = "") -> Locator:
        return self.log.locator("li[data-from=bot]").filter(has_text=words)

    def from_user(self, words: str = "") -> Locator:
        return self.log.locator("li[data-from=user]").filter(has_text=words)

    async def sees_picture(self, name: str) -> None:
        """Wait for a picture that has been loaded and has a size."""
        image = self.from_bot().get_by_role("img", name=name)
        await eventually(lambda: image.evaluate("node => node.complete && node.naturalWidth > 0"))

    async def press(self, name: str) -> None:
        """Ask for the menu, and press one of its buttons."""
        await self.say("hello")
        await self.answers.get_by_role("button", name=name, exact=True).click()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests here; if it can't be started they fail."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        await started.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def demo() -> AsyncIterator[Switchboard]:
    """The demo as a process, with nothing configured."""
    command = (sys.executable, "-m", "switchboard_operator", "demo")
    async with switchboard_process({"SWITCHBOARD_PORT": "0"}, command) as board:
        yield board


@pytest_asyncio.fixture(loop_scope="module")
async def visitor(browser: Browser) -> AsyncIterator[Visitor]:
    """Somebody whose browser has nothing to complain about in the end."""
    async with visiting(browser) as arrived:
        yield arrived
    assert arrived.errors == []


@asynccontextmanager
async def visiting(browser: Browser) -> AsyncIterator[Visitor]:
    context = await browser.new_context()
    try:
        yield await Visitor.arrive(context)
    finally:
        await context.close()


def first_url(board: Switchboard) -> str:
    """Return the first URL that a process printed."""
    found = re.search(r"https?://\S+", "\n".join(board.output))
    assert found is not None
    return found[0]


# The demo


async def test_who_opens_the_printed_address_and_types_is_answered(
    demo: Switchboard, visitor: Visitor
) -> None:
    await visitor.page.goto(first_url(demo))
    await visitor.is_connected()
    await visitor.say("Grüß Gott 🐶")

    await expect(visitor.from_user("Grüß Gott 🐶")).to_have_count(1)
    await expect(visitor.from_bot("You said: Grüß Gott 🐶")).to_be_visible()
    await expect(visitor.answers.get_by_role("button")).to_have_count(3)
    await expect(visitor.page.get_by_label("Message", exact=True)).to_have_value("")


async def test_enter_sends_and_shift_enter_begins_a_line(
    demo: Switchboard, visitor: Visitor
) -> None:
    await visitor.open(demo)
    message = visitor.page.get_by_label("Message", exact=True)

    await message.press_sequentially("one")
    await message.press("Shift+Enter")
    await message.press_sequentially("two")
    await message.press("Enter")

    await expect(visitor.from_bot(re.compile("You said: one\ntwo"))).to_be_visible()
    await expect(visitor.from_user()).to_have_count(1)


async def test_white_space_is_not_sent(demo: Switchboard, visitor: Visitor) -> None:
    await visitor.open(demo)

    await visitor.say("  \n ")
    await visitor.say("words")

    await expect(visitor.from_bot("What next?")).to_be_visible()
    await expect(visitor.from_user()).to_have_count(1)


async def test_a_pressed_button_is_said_answered_by_an_image_and_switched_off(
    demo: Switchboard, visitor: Visitor
) -> None:
    await visitor.open(demo)
    await visitor.press("Show an image")

    await expect(visitor.from_user("Show an image")).to_have_count(1)
    await visitor.sees_picture("A switchboard")
    for button in await visitor.answers.get_by_role("button").all():
        await expect(button).to_have_attribute("aria-disabled", "true")
    link = visitor.answers.get_by_role("link", name="What is a switchboard?")
    await expect(link).to_have_attribute("rel", "noopener noreferrer")


async def test_an_event_is_a_line_of_its_own_and_no_bubble(
    demo: Switchboard, visitor: Visitor
) -> None:
    await visitor.open(demo)
    await visitor.press("Send an event")

    await expect(visitor.log.locator("li.note", has_text="The bell rang.")).to_be_visible()
    await expect(visitor.from_bot("The bell rang.")).to_have_count(0)


async def test_a_slow_answer_comes_and_the_next_one_after_it(
    demo: Switchboard, visitor: Visitor
) -> None:
    await visitor.open(demo)
    await visitor.press("Take your time")
    await visitor.say("meanwhile")

    await expect(visitor.from_bot("You said: meanwhile")).to_be_visible(timeout=10_000)
    said = await visitor.from_bot().all_inner_texts()
    late = said.index("That took a while, and here it is.")
    assert said[late + 1] == "You said: meanwhile"


async def test_an_answer_is_undone(demo: Switchboard, visitor: Visitor) -> None:
    await visitor.open(demo)
    undo = visitor.button("Undo my last answer")
    await expect(undo).to_be_hidden()
    await visitor.say("a mistake")
    await expect(visitor.from_bot("What next?")).to_be_visible()

    await undo.click()

    await expect(visitor.from_bot("Forgotten: a mistake")).to_be_visible()
    await expect(
        visitor.log.locator("li.note", has_text="You asked to undo your last answer.")
    ).to_be_visible()


async def test_markup_is_shown_as_text(demo: Switchboard, visitor: Visitor) -> None:
    await visitor.open(demo)

    await visitor.say(MARKUP)

    await expect(visitor.from_bot("You said:")).to_have_text(f"You said: {MARKUP}")
    await expect(visitor.from_user()).to_have_text(MARKUP)
    await expect(visitor.log.locator("img, script, b")).to_have_count(0)


async def test_a_double_click_sends_once(demo: Switchboard, visitor: Visitor) -> None:
    await visitor.open(demo)

    await visitor.type("only once")
    await visitor.button("Send").dblclick()
    await expect(visitor.from_bot("What next?")).to_be_visible()
    await visitor.answers.get_by_role("button", name="Send an event", exact=True).dblclick()
    await visitor.say("the end")  # answered last, so what was sent twice would be there by then

    await expect(visitor.from_bot("You said: the end")).to_be_visible()
    await expect(visitor.from_bot("You said: only once")).to_have_count(1)
    await expect(visitor.log.locator("li.note", has_text="The bell rang.")).to_have_count(1)
    await expect(visitor.from_user()).to_have_count(3)


async def test_the_page_talks_to_the_demo_only_and_leaves_no_cookie(
    demo: Switchboard, visitor: Visitor
) -> None:
    concierge = re.search(r"Concierge +(\S+)", "\n".join(demo.output))
    assert concierge is not None

    await visitor.open(demo)
    await visitor.press("Show an image")
    await visitor.sees_picture("A switchboard")

    places = {urlsplit(url).netloc for url in visitor.requests}
    assert places == {urlsplit(demo.url).netloc, urlsplit(concierge[1]).netloc}
    assert {urlsplit(url).hostname for url in visitor.requests} == {"127.0.0.1"}
    assert await visitor.context.cookies() == []


async def test_a_violation_of_the_policy_would_be_noticed(
    demo: Switchboard, browser: Browser
) -> None:
    async with visiting(browser) as arrived:
        await arrived.open(demo)

        await arrived.page.evaluate("fetch('http://127.0.0.1:1/').catch(() => null)")

        await eventually(lambda: any("POLICY connect-src" in error for error in arrived.errors))


# With a Concierge of ours


async def test_a_page_that_is_loaded_again_is_the_same_user(visitor: Visitor) -> None:
    async with FakeConcierge().serving() as concierge, switchboard(concierge.url) as board:
        await visitor.open(board)
        await visitor.say("before")
        await concierge.has_accepted(1)

        await visitor.page.reload()
        await visitor.is_connected()
        await visitor.say("after")
        accepted = await concierge.has_accepted(2)
        await visitor.page.goto("about:blank")  # lets the socket go before the gateway ends

    before, after = [incoming.content for incoming in accepted]
    assert (before["Body"], after["Body"]) == ("before", "after")
    assert before["From"] == after["From"]
    assert re.fullmatch(UUID4, before["From"])


async def test_two_visitors_are_two_users(visitor: Visitor, browser: Browser) -> None:
    async with (
        FakeConcierge().serving() as concierge,
        switchboard(concierge.url) as board,
        visiting(browser) as another,
    ):
        for each in (visitor, another):
            await each.open(board)
            await each.say("hello")
        accepted = await concierge.has_accepted(2)
        await visitor.page.goto("about:blank")

    assert len({incoming.content["From"] for incoming in accepted}) == 2


async def test_what_is_typed_while_the_gateway_is_away_arrives_in_order_when_it_is_back(
    browser: Browser,
) -> None:
    words = [f"typed offline {number}" for number in range(5)]
    async with FakeConcierge().serving() as concierge, visiting(browser) as arrived:
        async with switchboard(concierge.url) as board:
            await arrived.open(board)
            await arrived.say("typed online")
            await concierge.has_accepted(1)
        status = arrived.page.locator("#status")
        await expect(status).to_have_attribute("data-state", "reconnecting")

        for each in words:
            await arrived.say(each)
        await expect(arrived.from_user("waiting…")).to_have_count(5)
        port = board.url.rpartition(":")[2]
        async with switchboard(concierge.url, SWITCHBOARD_PORT=port) as back:
            await arrived.is_connected()
            accepted = await concierge.has_accepted(6)
            session = accepted[0].content["From"]
            await back.postback({"to": session, "from": "bot", "body": "welcome back"})
            await expect(arrived.from_bot("welcome back")).to_be_visible()
            await expect(arrived.from_user("waiting…")).to_have_count(0)
            await arrived.page.goto("about:blank")

    assert [incoming.content["Body"] for incoming in accepted] == ["typed online", *words]
    assert {incoming.content["From"] for incoming in accepted} == {session}
    # A refused connection is an error to Chromium; there must be no other.
    assert [error for error in arrived.errors if "ERR_CONNECTION_REFUSED" not in error] == []


async def test_what_a_bot_sends_is_shown_whatever_it_lacks(visitor: Visitor) -> None:
    odd: list[dict[str, Any]] = [
        {"body": MARKUP},
        {"body": None},
        {"type": "unknown", "body": "of a kind that nobody knows"},
        {"type": "image", "body": "no address"},
        {"type": "image", "media_url": "javascript:alert(3)"},
        {"type": "button", "body": "no buttons"},
        {"type": "button", "buttons": [None, 1, {}, {"type": "payload"}, {"type": "url"}]},
        {
            "type": "button",
            "buttons": [{"type": "url", "text": "unsafe", "url": "javascript:alert(4)"}],
        },
        {"type": "event", "body": 1},
    ]
    async with FakeConcierge().serving() as concierge, switchboard(concierge.url) as board:
        await visitor.open(board)
        await visitor.say("hello")
        session = (await concierge.has_accepted(1))[0].content["From"]

        for content in odd:
            await board.postback({"to": session, **content})
        await board.postback({"to": session, "body": "the last one"})

        await expect(visitor.from_bot("the last one")).to_be_visible()
        await expect(visitor.from_bot("of a kind that nobody knows")).to_be_visible()
        await expect(visitor.from_bot("no address")).to_be_visible()
        await expect(visitor.log.locator("img, script, b, [href^=javascript]")).to_have_count(0)
        await visitor.page.goto("about:blank")


# As who has just cloned it does


async def test_make_demo_needs_nothing_configured_and_chats() -> None:
    async with switchboard_process({"SWITCHBOARD_PORT": "0"}, ("make", "demo"), ROOT) as board:
        user = await board.connect()
        await user.send_json({"message": "hello"})
        answers = [json.loads(await user.receive_str())["body"] for _ in range(2)]

    assert first_url(board) == f"{board.url}/chat"
    assert answers == ["You said: hello", "What next?"]


async def test_the_end_of_make_demo_is_the_end_of_all_that_it_started() -> None:
    async with switchboard_process({"SWITCHBOARD_PORT": "0"}, ("make", "demo"), ROOT) as board:
        url = urlsplit(board.url)

    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(url.hostname, url.port)
