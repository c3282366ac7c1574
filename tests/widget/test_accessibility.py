"""The widget by keyboard and by ear: axe, roles and names, announcements, reflow, contrast."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, expect

from tests.fakes import FakeConcierge, Incoming, accept
from tests.proxy import Proxy
from tests.switchboards import Switchboard, eventually
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

AXE = Path(__file__).parent / "node_modules/axe-core/axe.min.js"
RUN_AXE = """
async (tags) => {
  const results = await axe.run(document, { runOnly: tags, preload: false });
  const why = ({ any, all, none }) => [...any, ...all, ...none].map(({ message }) => message);
  const found = (kind) => results[kind].flatMap(({ id, nodes }) =>
    nodes.map((node) => [id, node.target.flat().at(-1), why(node).join("; ")]));
  return { wrong: found("violations"), open: found("incomplete"), passes: found("passes").length };
}
"""
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]

# What axe can't decide with forced colours, and why it is well: (rule, selector, reason).
REVIEWED: list[tuple[str, str, str]] = [
    # test_contrast computes these.
    ("color-contrast", "h2", "axe takes -webkit-text-fill-color, which isn't what is drawn here"),
    (
        "color-contrast",
        ".send",
        "axe takes -webkit-text-fill-color, which isn't what is drawn here",
    ),
]

# A red picture of 64 by 64 pixels.
PICTURE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"><rect width="64" height="64"'
    ' fill="red"/></svg>'
)

# Notes whatever is put into a live region, from the first moment on, and when it goes.
LISTEN = """
window.announced = [];
const { attachShadow } = Element.prototype;
Element.prototype.attachShadow = function (options) {
  const shadow = attachShadow.call(this, options);
  const live = "[role=status], [role=alert], [aria-live=polite], [aria-live=assertive]";
  new MutationObserver((changes) => {
    for (const { target, addedNodes, removedNodes } of changes) {
      const heard = target.closest?.(live) ? [...addedNodes] : [];
      for (const node of addedNodes) heard.push(...node.querySelectorAll?.(live) ?? []);
      for (const node of heard) {
        const { textContent: text } = node;
        if (text) announced.push({ node, text, at: performance.now() });
      }
      for (const each of announced) {
        if ([...removedNodes].includes(each.node)) each.gone = performance.now();
      }
    }
  }).observe(shadow, { childList: true, subtree: true });
  return shadow;
};
"""

# Computes contrasts from what is drawn: of texts, of icons, of what shows a control, of the focus.
CONTRAST = """
(chat) => {
  const parse = (text) => {
    const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number);
    return [r, g, b, a];
  };
  const over = ([r, g, b, a], back) =>
    [r, g, b].map((part, at) => part * a + back[at] * (1 - a)).concat(1);
  const up = (each) => each.assignedSlot ?? each.parentElement ?? each.getRootNode().host;
  const behind = (each) => (up(each) ? ground(up(each)) : [255, 255, 255, 1]);
  const faded = ([r, g, b], each) => over([r, g, b, +getComputedStyle(each).opacity], behind(each));
  const ground = (each) =>
    faded(over(parse(getComputedStyle(each).backgroundColor), behind(each)), each);
  const light = (colour) => {
    const [r, g, b] = colour.map((part) => part / 255)
      .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [more, less] = [light(a), light(b)].sort((x, y) => y - x);
    return (more + 0.05) / (less + 0.05);
  };
  const drawn = (text, each) => faded(over(parse(text), ground(each)), each);
  const found = [];
  const note = (kind, each, value) => {
    const name = `${each.localName}.${[...each.classList].join(".")}`;
    found.push([kind, name, Math.round(value * 100) / 100]);
  };
  const shadow = chat.shadowRoot;
  for (const each of shadow.querySelectorAll("[part~=root] *")) {
    const style = getComputedStyle(each);
    if (!each.getClientRects().length || each.closest(".unseen")) continue;
    const says = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const stands = (colour) => ratio(drawn(colour, each), ground(each));
    if (says) note("text", each, stands(style.color));
    if (each.localName === "svg") note("icon", each.parentElement, stands(style.stroke));
    const placeholder = getComputedStyle(each, "::placeholder").color;
    if (each.localName === "textarea") note("placeholder", each, stands(placeholder));
    if (!each.matches("button, textarea, a, [part=log]")) continue;
    if (each.matches("textarea, button, a[part]") && !each.matches("[part=close], [part=undo]")) {
      const edge = ratio(over(parse(style.borderTopColor), behind(each)), behind(each));
      note("control", each, Math.max(edge, ratio(ground(each), behind(each))));
    }
    each.focus();
    if (!each.matches(":focus-visible")) found.push(["focus", each.outerHTML, 0]);
    const ring = style.outlineStyle === "none" ? 0 : parse(style.outlineColor);
    const around = parseFloat(style.outlineOffset) < 0 ? ground(each) : behind(each);
    note("focus", each, ring ? ratio(over(ring, around), around) : 0);
  }
  return found;
}
"""

# The colours that a launcher with the focus has towards the page: its outline's, sharp shadows'.
EDGES = """
(launcher) => {
  launcher.focus();
  const style = getComputedStyle(launcher);
  const shadows = style.boxShadow.match(/rgba?\\([^)]*\\)( -?[\\d.]+px){4}/g) ?? [];
  const sharp = shadows.filter((each) => / 0px -?[1-9][\\d.]*px$/.test(each));
  const parse = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  return [style.outlineColor, ...sharp].map(parse);
}
"""


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def willing(concierge: FakeConcierge) -> AsyncIterator[None]:
    """Have the Concierge accept again what a test has had it refuse."""
    yield
    concierge.answer = accept


async def refuse(_incoming: Incoming) -> int:
    return 400


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


async def chatted(visitor: Visitor, board: Switchboard) -> str:
    """Open the chat and have a word each way; return the session."""
    await visitor.open()
    await visitor.say("Do you have Assam?")
    session = await visitor.session()
    await expect(visitor.from_user()).to_contain_text("Sent")
    await board.postback({"to": session, "body": "We do. See https://example.com/assam"})
    await expect(visitor.from_bot()).to_have_count(1)
    return session


def choice(session: str, words: str = "A cup?") -> dict[str, Any]:
    """Return a question with a button of each kind."""
    buttons = [
        {"text": "Yes, please", "payload": {"tea": True}},
        {"text": "No", "payload": {"tea": False}},
        {"text": "Our teas", "type": "url", "url": "https://example.com/"},
    ]
    return {"to": session, "type": "button", "body": words, "buttons": buttons}


async def be_asked(visitor: Visitor, board: Switchboard) -> None:
    """Answer one question, and have another to answer."""
    session = await visitor.session()
    await board.postback(choice(session))
    await visitor.button("No").click()
    await expect(visitor.from_user("No")).to_contain_text("Sent")
    await board.postback(choice(session, "A second cup?"))
    await expect(visitor.button("No")).to_be_visible()


async def get_images(visitor: Visitor, board: Switchboard) -> None:
    """Get an image that can be shown, and one that can't."""
    await visitor.page.route(
        "**/tea.svg", lambda route: route.fulfill(body=PICTURE, content_type="image/svg+xml")
    )
    session = await visitor.session()
    shown = visitor.page.url.rpartition("/")[0] + "/tea.svg"
    for url, words in [(shown, "A cup of tea"), ("javascript:alert(1)", "No picture")]:
        await board.postback({"to": session, "type": "image", "media_url": url, "body": words})
    await expect(visitor.log.get_by_role("img", name="A cup of tea")).to_be_visible()
    await expect(visitor.log).to_contain_text("The image could not be loaded.")


async def fail(visitor: Visitor, concierge: FakeConcierge) -> None:
    """Say something that the Concierge refuses."""
    concierge.answer = refuse
    await visitor.say("And Darjeeling?")
    await expect(visitor.button("Retry")).to_be_visible()
    concierge.answer = accept


async def audit(visitor: Visitor, *, forced: bool = False) -> list[Any]:
    """Return what axe finds wrong, and what it leaves to people and none has reviewed."""
    found = await visitor.page.evaluate(RUN_AXE, TAGS)
    assert found["passes"] > 20, "axe looked at nothing"
    known = {(rule, selector) for rule, selector, _ in REVIEWED} if forced else set()
    return [*found["wrong"], *(each for each in found["open"] if tuple(each[:2]) not in known)]


async def test_axe_finds_nothing_in_nine_states(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive(viewport={"width": 900, "height": 700})
    page = visitor.page
    found = {}
    async with own_line(site, board):
        await visitor.visit(f"{site.url}/line")
        await page.evaluate(AXE.read_text())
        session = await chatted(visitor, board)
        found["open"] = await audit(visitor)

        await page.keyboard.press("Escape")
        await board.postback({"to": session, "body": "Anything else?"})
        await expect(visitor.launcher).to_have_accessible_name("Open chat, 1 unread message")
        found["closed"] = await audit(visitor)

        await visitor.open()
        await be_asked(visitor, board)
        found["buttons"] = await audit(visitor)
        await get_images(visitor, board)
        found["image"] = await audit(visitor)
        await fail(visitor, concierge)
        found["failed"] = await audit(visitor)

        await page.emulate_media(color_scheme="dark")
        found["dark"] = await audit(visitor)
        await page.emulate_media(color_scheme="light", forced_colors="active")
        found["forced colours"] = await audit(visitor, forced=True)
        await page.emulate_media(forced_colors="none")
        await page.set_viewport_size({"width": 320, "height": 568})
        await page.evaluate("document.dir = 'rtl'")
        found["320 px from right to left"] = await audit(visitor)

    await visitor.say("Are you there?")
    await expect(visitor.banner).to_be_visible()
    await expect(visitor.from_user("Are you there?")).to_contain_text("Sending")
    found["reconnecting"] = await audit(visitor)

    assert len(found) == 9
    assert not any(found.values()), found


async def test_launcher_and_panel_say_what_they_are(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)

    await expect(visitor.launcher).to_have_role("button")
    await expect(visitor.launcher).to_have_accessible_name("Open chat")
    await expect(visitor.launcher).to_have_attribute("aria-expanded", "false")
    assert await visitor.launcher.evaluate("(each) => each.localName") == "button"
    box = await visitor.launcher.bounding_box()
    assert box
    assert min(box["width"], box["height"]) >= 44

    session = await chatted(visitor, board)
    await expect(visitor.launcher).to_have_attribute("aria-expanded", "true")
    await expect(visitor.panel).to_have_role("dialog")
    await expect(visitor.panel).to_have_accessible_name("Ask us")
    await expect(visitor.panel).not_to_have_attribute("aria-modal", "true")
    # Chromium alone lets the keyboard come to what scrolls without this.
    await expect(visitor.log).to_have_attribute("tabindex", "0")
    await expect(visitor.composer).to_be_visible()
    # The page has landmarks of its own, of which there must be one each.
    for landmark in ["banner", "main", "contentinfo"]:
        await expect(visitor.chat.get_by_role(landmark)).to_have_count(0)  # type: ignore[arg-type]
    await expect(visitor.button("Send")).to_be_visible()

    await visitor.page.keyboard.press("Escape")
    for words in ["One more thing.", "And another."]:
        await board.postback({"to": session, "body": words})
    await expect(visitor.launcher).to_have_accessible_name("Open chat, 2 unread messages")


async def test_focus_stays_in_the_panel_only_while_it_fills_the_screen(
    site: Site, arrive: Arrive
) -> None:
    visitor = await arrive(viewport={"width": 900, "height": 700})
    await visitor.visit(site.url)
    await visitor.open()
    inside = "(each) => each.matches(':focus-within')"

    async def leaves() -> bool:
        await visitor.composer.focus()
        stayed = []
        for key in ["Tab"] * 6 + ["Shift+Tab"] * 12:
            await visitor.page.keyboard.press(key)
            stayed.append(await visitor.panel.evaluate(inside))
        return not all(stayed)

    await expect(visitor.panel).not_to_have_attribute("aria-modal", "true")
    assert await leaves()

    await visitor.page.set_viewport_size({"width": 390, "height": 700})
    await expect(visitor.panel).to_have_attribute("aria-modal", "true")
    assert not await leaves()


async def test_announcements_come_once_and_go_and_history_is_silent(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.context.add_init_script(LISTEN)
    texts = "announced.map(({ text }) => text)"
    await visitor.visit(site.url)
    await visitor.open()
    await visitor.say("Do you have Assam?")
    await expect(visitor.from_user()).to_contain_text("Sent")
    session = await visitor.session()

    await board.postback(choice(session))
    await eventually(lambda: visitor.page.evaluate("announced.length > 0"))
    # It is no part of the log, which says nothing by itself.
    assert await visitor.log.get_attribute("aria-live") == "off"
    assert await visitor.log.get_by_role("status").count() == 0
    await eventually(lambda: visitor.page.evaluate("announced[0].gone > 0"))
    await expect(visitor.live).to_be_empty()
    [(text, stayed)] = await visitor.page.evaluate(
        "announced.map((each) => [each.text, each.gone - each.at])"
    )
    assert text == "A cup?. Yes, please. No. Our teas"
    assert 1_900 <= stayed <= 15_000

    await visitor.page.reload()
    await expect(visitor.from_bot("A cup?")).to_be_visible(visible=False)
    await visitor.open()
    await expect(visitor.from_bot("A cup?")).to_be_visible()
    await board.postback({"to": session, "body": "Or two?"})
    await eventually(lambda: visitor.page.evaluate("announced.length > 0"))
    assert await visitor.page.evaluate(texts) == ["Or two?"]

    concierge.answer = refuse
    await visitor.say("Two.")
    await eventually(lambda: visitor.page.evaluate("announced.length > 1"))
    assert await visitor.page.evaluate(texts) == ["Or two?", "Not sent"]


async def has_focus(locator: Locator) -> bool:
    return bool(await locator.evaluate("(each) => each.matches(':focus')"))


async def tab_to(visitor: Visitor, target: Locator, key: str = "Tab") -> None:
    """Press *key* until *target* has the focus; it must not be far."""
    for _ in range(12):
        if await has_focus(target):
            return
        await visitor.page.keyboard.press(key)
    pytest.fail(f"{key} does not come to {target}")


async def test_everything_can_be_done_by_keyboard(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive(viewport={"width": 900, "height": 600})
    keyboard = visitor.page.keyboard
    await visitor.visit(site.url)

    await tab_to(visitor, visitor.launcher)
    await keyboard.press("Enter")
    await expect(visitor.composer).to_be_focused()
    await keyboard.type("Do you have Assam?")
    await keyboard.press("Enter")
    await expect(visitor.from_user()).to_contain_text("Sent")
    session = await visitor.session()
    long = "Tea. " * 400
    await board.postback({"to": session, "body": long})
    await board.postback(choice(session))

    await tab_to(visitor, visitor.button("Yes, please"), "Shift+Tab")
    await keyboard.press("Enter")
    await expect(visitor.from_user("Yes, please")).to_contain_text("Sent")
    [*_, pressed] = await concierge.has_accepted(2)
    assert b'"tea":true' in pressed.body.replace(b" ", b"")
    await expect(visitor.log).to_be_focused()

    top = await visitor.log.evaluate("(log) => log.scrollTop")
    await keyboard.press("PageUp")
    await visitor.log.evaluate(
        "(log, top) => new Promise((ready) => (function look() {"
        " log.scrollTop < top - 50 ? ready() : requestAnimationFrame(look); })())",
        top,
    )

    await tab_to(visitor, visitor.button("Undo my last answer"))
    await keyboard.press("Space")
    await expect(visitor.from_user("Yes, please").locator("s")).to_be_visible()

    await keyboard.press("Escape")
    await expect(visitor.panel).to_be_hidden()
    await expect(visitor.launcher).to_be_focused()


async def test_reflow_at_320_px_and_at_400_percent(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive(viewport={"width": 320, "height": 568})
    async with own_line(site, board):
        await visitor.visit(f"{site.url}/line")
        session = await chatted(visitor, board)
        await be_asked(visitor, board)
        await fail(visitor, concierge)
        long = "Donaudampfschifffahrt" * 12
        await board.postback({"to": session, "body": f"{long} https://{long}.example/"})
        await expect(visitor.from_bot(long)).to_be_visible()
    await visitor.say("Are you there?")
    await expect(visitor.banner).to_be_visible()

    for height in [568, 256]:  # 400 % of a screen of 1280 by 1024 pixels
        await visitor.page.set_viewport_size({"width": 320, "height": height})
        wide = await visitor.panel.evaluate(
            "(panel) => [document.documentElement, panel, ...panel.querySelectorAll('*')]"
            ".filter((each) => !each.matches('.unseen') && each.clientWidth)"
            ".filter((each) => each.scrollWidth > each.clientWidth + 1)"
            ".map((each) => each.outerHTML)"
        )
        assert not wide
        close = visitor.panel.get_by_role("button", name="Close chat")
        for part, least in [(visitor.composer, 150), (visitor.button("Send"), 44), (close, 44)]:
            box = await part.bounding_box()
            assert box
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= 320
            assert box["y"] >= 0
            assert box["y"] + box["height"] <= height
            assert box["width"] >= least
            assert box["height"] >= 44
        log = await visitor.log.bounding_box()
        assert log
        assert log["height"] >= 48  # two lines of it


THEMES: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "forced_colors": "none"},
    "dark": {"color_scheme": "dark", "forced_colors": "none"},
    "forced colours": {"color_scheme": "light", "forced_colors": "active"},
}
LEAST = {"text": 4.5, "placeholder": 4.5, "icon": 3, "control": 3, "focus": 3}


async def test_contrast(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await chatted(visitor, board)
    await be_asked(visitor, board)
    await visitor.button("Undo my last answer").click()
    await expect(visitor.log.locator("s").first).to_be_visible()
    await get_images(visitor, board)
    await visitor.say("Hello?")
    await expect(visitor.from_user("Hello?")).to_contain_text("Sent")
    await fail(visitor, concierge)
    await visitor.panel.evaluate(
        "(panel) => panel.querySelectorAll('[hidden]').forEach((each) => { each.hidden = false; })"
    )
    await visitor.page.keyboard.press("Tab")

    weak: dict[str, list[Any]] = {}
    for theme, media in THEMES.items():
        await visitor.page.emulate_media(**media)
        ground = "#111" if theme == "dark" else "#fff"
        await visitor.page.evaluate(
            "(ground) => { document.body.style.background = ground; }", ground
        )
        found = await visitor.chat.evaluate(CONTRAST)
        assert {kind for kind, _, _ in found} == set(LEAST)
        assert len(found) > 40
        weak[theme] = [each for each in found if each[2] < LEAST[each[0]]]

    assert not any(weak.values()), weak


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the contrast of two colours, as WCAG defines it."""

    def luminance(colour: Sequence[float]) -> float:
        parts = [part / 255 for part in colour]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(weight * p for weight, p in zip([0.2126, 0.7152, 0.0722], linear, strict=True))

    less, more = sorted([luminance(one), luminance(other)])
    return (more + 0.05) / (less + 0.05)


async def test_launcher_with_the_focus_is_seen_on_any_page(site: Site, arrive: Arrive) -> None:
    # Many pages stay light when the reader has asked for dark: the theme tells nothing of the page.
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.page.keyboard.press("Tab")

    for theme in ["light", "dark"]:
        await visitor.chat.evaluate("(chat, theme) => chat.setAttribute('theme', theme)", theme)
        edges = await visitor.launcher.evaluate(EDGES)
        for page in [[255, 255, 255], [0, 0, 0]]:
            assert max(ratio(page, edge) for edge in edges) >= 3, (theme, page)
