"""The keyboard's focus, which the widget never takes unasked nor loses, and its Enter key."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.fakes import FakeConcierge, Incoming, accept
from tests.proxy import Proxy
from tests.switchboards import Switchboard
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

# What has the focus, also in the widget's shadow tree: "a", "body", "button.launcher".
FOCUSED = """() => {
  let found = document.activeElement;
  while (found.shadowRoot?.activeElement) found = found.shadowRoot.activeElement;
  return found.localName + (found.className && `.${found.className}`);
}"""


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def willing(concierge: FakeConcierge) -> AsyncIterator[None]:
    """Have the Concierge accept again what a test has had it refuse."""
    yield
    concierge.answer = accept


@asynccontextmanager
async def own_line(site: Site, board: Switchboard) -> AsyncIterator[Proxy]:
    """Give the site a page at /line whose line to *board* ends with the context."""
    async with Proxy(int(board.url.rsplit(":", 1)[1])).serving() as proxy:
        address = f"ws://127.0.0.1:{proxy.port}"
        policy = site.headers["Content-Security-Policy"]
        site.headers["Content-Security-Policy"] = policy.replace(
            "connect-src", f"connect-src {address}"
        )
        site.embed(board.url, path="/line", src=f"{address}/", title="Ask us")
        yield proxy


async def refuse(_incoming: Incoming) -> int:
    return 400


async def focused(visitor: Visitor) -> Any:
    """Return what has the focus, once a frame is drawn: it stays on what is hidden until then."""
    await visitor.page.evaluate(
        "new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
    )
    return await visitor.page.evaluate(FOCUSED)


async def call(visitor: Visitor, script: str) -> None:
    """Have the page do something with the element, `chat`."""
    await visitor.chat.evaluate(f"(chat) => {{ {script} }}")


def question(session: str, words: str = "A cup?") -> dict[str, Any]:
    buttons = [{"text": "Yes", "payload": 1}, {"text": "No", "payload": 0}]
    return {"to": session, "type": "button", "body": words, "buttons": buttons}


async def test_nothing_but_the_user_moves_the_focus(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    async with own_line(site, board) as line:
        await visitor.visit(f"{site.url}/line")
        await visitor.page.get_by_role("link").focus()

        for script in ["chat.open()", "chat.close()", "chat.setAttribute('open', '')"]:
            await call(visitor, script)
            assert await focused(visitor) == "a"
        await call(visitor, "chat.send('Hello')")
        await board.postback(question(await visitor.session()))
        await expect(visitor.button("Yes")).to_be_visible()
        assert await focused(visitor) == "a"

        line.cut()
        await expect(visitor.from_user("Hello")).to_contain_text("Sent")
        await call(visitor, "chat.send('Still there?')")
        await expect(visitor.from_user("Still there?")).to_contain_text("Sent")
        assert await focused(visitor) == "a"

        await call(visitor, "chat.title = 'Ask them'; chat.lang = 'es'")
        await expect(visitor.panel.get_by_role("heading", name="Ask them")).to_be_visible()
        await expect(visitor.button("Enviar")).to_be_visible()
        await call(visitor, "chat.reset()")
        assert await focused(visitor) == "a"


async def test_widget_open_from_the_start_leaves_the_focus_alone(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    site.embed(board.url, path="/open", title="Ask us", open="")
    await visitor.visit(f"{site.url}/open")
    await expect(visitor.composer).to_be_visible()

    assert await focused(visitor) == "body"


async def test_escape_closes_and_gives_the_focus_back(site: Site, arrive: Arrive) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)

    for leave in [visitor.composer, visitor.log, visitor.button("Send")]:
        await visitor.open()
        assert await focused(visitor) == "textarea.input"
        await leave.press("Escape")
        await expect(visitor.panel).to_be_hidden()
        assert await focused(visitor) == "button.launcher"
    await visitor.open()
    await visitor.panel.get_by_role("button", name="Close chat").click()
    assert await focused(visitor) == "button.launcher"

    # The page's own Escape is the page's.
    await call(visitor, "chat.open()")
    await visitor.page.get_by_role("link").press("Escape")
    await expect(visitor.panel).to_be_visible()


async def test_enter_sends_and_shift_enter_breaks_the_line(
    concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    keyboard = visitor.page.keyboard

    await keyboard.press("Enter")
    await keyboard.type("  ")
    await keyboard.press("Enter")
    await expect(visitor.from_user()).to_have_count(0)

    await visitor.composer.fill("")
    await keyboard.type("One")
    await keyboard.press("Shift+Enter")
    await keyboard.type("two")
    await expect(visitor.composer).to_have_value("One\ntwo")
    await expect(visitor.from_user()).to_have_count(0)

    await keyboard.press("Enter")
    await expect(visitor.from_user("One\ntwo")).to_contain_text("Sent")
    await expect(visitor.composer).to_have_value("")
    assert await focused(visitor) == "textarea.input"
    [*_, said] = concierge.accepted
    assert said.content["Body"] == "One\ntwo"


async def test_input_method_keeps_its_enter(site: Site, arrive: Arrive) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    devtools = await visitor.context.new_cdp_session(visitor.page)
    await visitor.composer.evaluate(
        "(input) => { window.composing = [];"
        " input.addEventListener('keydown', (event) => composing.push(event.isComposing)); }"
    )
    enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13}

    # Chromium says that it composes; what the key does is the input method's.
    written = {"text": "にほん", "selectionStart": 3, "selectionEnd": 3}
    await devtools.send("Input.imeSetComposition", written)
    await devtools.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    await devtools.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
    assert await visitor.page.evaluate("composing") == [True]
    await devtools.send("Input.insertText", {"text": "日本"})
    await expect(visitor.composer).to_have_value("日本")
    # Safari has ended the composition by then, and says 229.
    await visitor.composer.dispatch_event("keydown", {"key": "Enter", "keyCode": 229})
    await expect(visitor.from_user()).to_have_count(0)
    await expect(visitor.composer).to_have_value("日本")

    await visitor.page.keyboard.press("Enter")
    await expect(visitor.from_user()).to_have_count(1)
    await expect(visitor.from_user("日本")).to_contain_text("Sent")


async def test_focus_is_not_lost_with_the_button_that_had_it(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    concierge.answer = refuse
    await visitor.say("Hello")
    await visitor.button("Retry").press("Enter")
    assert await focused(visitor) == "div.log"

    concierge.answer = accept
    await board.postback(question(await visitor.session()))
    await visitor.button("Yes").press("Enter")
    await expect(visitor.from_user("Yes")).to_contain_text("Sent")
    assert await focused(visitor) == "div.log"

    # There is nothing more to take back then, and the button is gone.
    undo = visitor.button("Undo my last answer")
    await undo.press("Enter")
    await expect(visitor.from_user("Yes").locator("s")).to_be_visible()
    await expect(undo).to_be_hidden()
    assert await focused(visitor) != "body"


async def test_page_that_closes_the_chat_does_not_lose_the_focus(
    site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()

    await call(visitor, "chat.close()")

    assert await focused(visitor) == "button.launcher"


async def test_focus_survives_new_words(site: Site, arrive: Arrive) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    await visitor.composer.fill("Half a sen")
    await visitor.log.focus()

    await call(visitor, "chat.title = 'Ask them'")
    await expect(visitor.panel.get_by_role("heading", name="Ask them")).to_be_visible()

    assert await focused(visitor) == "div.log"
    await expect(visitor.composer).to_have_value("Half a sen")
