"""The widget on a phone: it fills the screen, and leaves the on-screen keyboard to the user."""

from typing import Any

import pytest
from playwright.async_api import Locator, expect

from tests.switchboards import Switchboard
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

# As if a keyboard had come up: it shrinks what is seen of the page, and may shift it.
KEYBOARD = """([height, offsetTop]) => {
  const seen = { height, offsetTop };
  for (const [name, value] of Object.entries(seen)) {
    Object.defineProperty(visualViewport, name, { value, configurable: true });
  }
  visualViewport.dispatchEvent(new Event("resize"));
  visualViewport.dispatchEvent(new Event("scroll"));
}"""

HAS_FOCUS = "(each) => each.matches(':focus')"


def phone(width: int, height: int) -> dict[str, Any]:
    size = {"width": width, "height": height}
    return {"viewport": size, "has_touch": True, "is_mobile": True, "device_scale_factor": 2}


async def box(of: Locator) -> tuple[float, float, float, float]:
    """Return left, top, right, and bottom."""
    found = await of.bounding_box()
    assert found
    left, top = found["x"], found["y"]
    return left, top, left + found["width"], top + found["height"]


async def asked(visitor: Visitor, board: Switchboard) -> None:
    """Say something, and be asked a question with buttons."""
    await visitor.say("Hello")
    await expect(visitor.from_user()).to_contain_text("Sent")
    buttons = [{"text": "Yes, please", "payload": 1}, {"text": "No", "payload": 0}]
    question = {"to": await visitor.session(), "type": "button", "body": "Tea?", "buttons": buttons}
    await board.postback(question)
    await expect(visitor.button("Yes, please")).to_be_visible()


async def test_chat_fills_the_screen(board: Switchboard, site: Site, arrive: Arrive) -> None:
    visitor = await arrive(**phone(320, 568))
    await visitor.visit(site.url)

    await visitor.launcher.tap()
    await expect(visitor.composer).to_be_visible()
    assert await box(visitor.panel) == (0, 0, 320, 568)
    assert await visitor.panel.get_attribute("aria-modal") == "true"
    await expect(visitor.launcher).to_be_hidden()
    # The focus is in the panel, but brings up no keyboard before the user wants one.
    assert await visitor.panel.evaluate(HAS_FOCUS)

    await visitor.composer.tap()
    await asked(visitor, board)
    await visitor.button("Yes, please").tap()
    await expect(visitor.from_user("Yes, please")).to_contain_text("Sent")
    assert not await visitor.composer.evaluate(HAS_FOCUS)
    assert await visitor.panel.evaluate("(each) => each.matches(':focus-within')")

    for width, height in [(320, 568), (390, 844)]:
        await visitor.page.set_viewport_size({"width": width, "height": height})
        assert await box(visitor.panel) == (0, 0, width, height)
        assert await visitor.page.evaluate("document.documentElement.scrollWidth") == width
    await visitor.button("Close chat").tap()
    await expect(visitor.panel).to_be_hidden()
    await expect(visitor.launcher).to_be_focused()


async def test_composer_stays_above_the_keyboard(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive(**phone(390, 844))
    await visitor.visit(site.url)
    await visitor.launcher.tap()
    await visitor.composer.tap()
    await asked(visitor, board)
    for number in range(10):
        await visitor.say(f"Line {number}")

    for seen, offset in [(508, 0), (508, 120), (400, 0)]:
        await visitor.page.evaluate(KEYBOARD, [seen, offset])
        left, top, right, bottom = await box(visitor.panel)
        assert (left, top, right, bottom) == (0, offset, 390, offset + seen)
        assert (await box(visitor.composer))[3] <= bottom
        assert (await box(visitor.button("Send")))[3] <= bottom
        # What was said last stays in sight.
        assert (await box(visitor.from_user("Line 9")))[3] <= (await box(visitor.log))[3] + 1

    await visitor.page.evaluate(KEYBOARD, [844, 0])
    assert await box(visitor.panel) == (0, 0, 390, 844)


async def test_small_type_does_not_make_a_phone_zoom_in(site: Site, arrive: Arrive) -> None:
    visitor = await arrive(**phone(320, 568))
    await visitor.visit(site.url)
    await visitor.launcher.tap()
    size = "(input) => parseFloat(getComputedStyle(input).fontSize)"
    assert await visitor.composer.evaluate(size) >= 16

    small = "(chat) => chat.style.setProperty('--switchboard-font-size', '13px')"
    await visitor.chat.evaluate(small)

    assert await visitor.composer.evaluate(size) == 16
    assert await visitor.button("Send").evaluate(size) == 13
    meta = "document.querySelector('meta[name=viewport]').content"
    assert "maximum-scale" not in await visitor.page.evaluate(meta)


async def test_turning_the_phone_keeps_the_chat_usable(site: Site, arrive: Arrive) -> None:
    visitor = await arrive(**phone(390, 844))
    await visitor.visit(site.url)
    await visitor.launcher.tap()
    await visitor.composer.fill("Half a sen")

    for width, height in [(844, 390), (1024, 768), (390, 844)]:
        await visitor.page.set_viewport_size({"width": width, "height": height})
        full = (width, height) != (1024, 768)
        modal = expect(visitor.panel)
        await (modal.to_have_attribute if full else modal.not_to_have_attribute)(
            "aria-modal", "true"
        )
        assert (await box(visitor.panel) == (0, 0, width, height)) is full
        _, top, right, bottom = await box(visitor.composer)
        assert top >= 0
        assert right <= width
        assert bottom <= height
        await expect(visitor.composer).to_have_value("Half a sen")
