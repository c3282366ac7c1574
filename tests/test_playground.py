"""The demo's page in a real Chromium: a chat to try, controls for its look, a snippet to paste."""

import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    expect,
)

from tests.fakes import FakeConcierge
from tests.switchboards import Switchboard, eventually, switchboard, switchboard_process
from tests.widget.browser import PATIENCE, chromium

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),  # the browser belongs to one loop
    pytest.mark.browser,
    pytest.mark.slow,
]

# Tells what the page's policy forbade.
WATCH = """
addEventListener("securitypolicyviolation", (event) => {
  console.error("POLICY", event.violatedDirective, event.blockedURI);
});
"""

# Each text that the widget shows whose contrast is below 4.5, as [text, contrast].
ILLEGIBLE = """
(chat) => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = channels(colour)
      .map((each) => each / 255)
      .map((each) => (each <= 0.04045 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    const { backgroundColor } = getComputedStyle(node);
    return channels(backgroundColor)[3] === 0 ? ground(node.parentElement) : backgroundColor;
  };
  const texts = [...chat.shadowRoot.querySelectorAll("*")].filter((node) =>
    node.checkVisibility() && node.getBoundingClientRect().width > 1 &&
    [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim()));
  return texts.map((node) => {
    const { color } = getComputedStyle(node);
    const [dark, light] = [color, ground(node)].map(luminance).sort((a, b) => a - b);
    return [node.textContent, (light + 0.05) / (dark + 0.05)];
  }).filter(([, contrast]) => contrast < 4.5);
}
"""


@dataclass
class Visitor:
    """Somebody at the demo's page, in a browser profile of their own; notes what goes wrong."""

    page: Page
    context: BrowserContext
    errors: list[str] = field(default_factory=list)
    places: set[str] = field(default_factory=set)

    @classmethod
    async def arrive(cls, context: BrowserContext) -> Self:
        """Open an empty page and watch it."""
        await context.add_init_script(WATCH)
        visitor = cls(await context.new_page(), context)
        page = visitor.page
        page.set_default_timeout(PATIENCE)
        page.on("console", visitor._note_console)
        page.on("pageerror", lambda error: visitor.errors.append(str(error)))
        page.on("request", lambda request: visitor.places.add(urlsplit(request.url).netloc))
        page.on("websocket", lambda socket: visitor.places.add(urlsplit(socket.url).netloc))
        return visitor

    def _note_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.errors.append(message.text)

    async def open(self, demo: Switchboard) -> None:
        """Open the demo's page, and wait until its controls work."""
        await self.page.goto(f"{demo.url}/chat")
        await expect(self.snippet).not_to_have_value("")
        await expect(self.part("root")).to_be_attached()

    async def say(self, words: str) -> None:
        await self.page.get_by_label("Message", exact=True).fill(words)
        await self.page.get_by_role("button", name="Send", exact=True).click()

    async def pick(self, name: str, value: str) -> None:
        """Choose a colour, or where a slider stands."""
        await self.page.get_by_label(name, exact=True).fill(value)

    async def choose(self, name: str, option: str) -> None:
        await self.page.get_by_label(name, exact=True).select_option(option)

    def part(self, name: str) -> Locator:
        return self.page.locator(f"switchboard-chat [part~={name}]")

    @property
    def snippet(self) -> Locator:
        return self.page.get_by_role("textbox", name="Snippet", exact=True)

    @property
    def answer(self) -> Locator:
        return self.page.get_by_role("log").get_by_text("What next?", exact=True)


@pytest_asyncio.fixture(loop_scope="session", scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for all tests here; if it can't be started they fail."""
    async with chromium() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def demo() -> AsyncIterator[Switchboard]:
    """The demo as a process, with nothing configured."""
    command = (sys.executable, "-m", "switchboard_operator", "demo")
    async with switchboard_process({"SWITCHBOARD_PORT": "0"}, command) as board:
        yield board


@asynccontextmanager
async def visiting(browser: Browser, demo: Switchboard, **options: Any) -> AsyncIterator[Visitor]:
    """Open the demo in a browser that has nothing to complain about, and talks to nobody else."""
    context = await browser.new_context(**options)
    try:
        visitor = await Visitor.arrive(context)
        await visitor.open(demo)
        yield visitor
        assert visitor.errors == []
        assert visitor.places == {urlsplit(demo.url).netloc}
    finally:
        await context.close()


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(browser: Browser, demo: Switchboard) -> AsyncIterator[Visitor]:
    """Somebody at a desk who likes light themes."""
    async with visiting(browser, demo, color_scheme="light") as arrived:
        yield arrived


async def test_who_types_is_answered_by_the_demo(visitor: Visitor) -> None:
    await visitor.say("good morning")

    answers = visitor.page.get_by_role("log").get_by_text("You said: good morning", exact=True)
    await expect(answers).to_be_visible()


async def test_the_controls_begin_with_what_the_widget_looks_like(visitor: Visitor) -> None:
    await visitor.say("hello")
    await expect(visitor.answer).to_be_visible()

    for name, part in [
        ("Accent", "launcher"),
        ("Background", "panel"),
        ("Visitor’s bubbles", "user-bubble"),
        ("Bot’s bubbles", "bot-bubble"),
    ]:
        value = await visitor.page.get_by_label(name, exact=True).input_value()
        await expect(visitor.part(part).first).to_have_css("background-color", rgb(value))
    bubble = visitor.part("bot-bubble").first
    for name, style in [("Corner radius", "border-radius"), ("Text size", "font-size")]:
        value = await visitor.page.get_by_label(name, exact=True).input_value()
        await expect(bubble).to_have_css(style, f"{value}px")


async def test_a_snippet_of_which_nothing_was_chosen_is_two_lines(
    demo: Switchboard, visitor: Visitor
) -> None:
    assert await visitor.snippet.input_value() == (
        f'<script type="module" src="{demo.url}/widget/switchboard-chat.js"></script>\n'
        '<switchboard-chat title="Ask us"></switchboard-chat>'
    )


async def test_a_chosen_accent_shows_in_the_widget_and_in_the_snippet(visitor: Visitor) -> None:
    await visitor.pick("Accent", "#7b1fa2")

    for part in ("launcher", "header", "send"):
        await expect(visitor.part(part)).to_have_css("background-color", rgb("#7b1fa2"))
        await expect(visitor.part(part)).to_have_css("color", rgb("#ffffff"))
    await expect(visitor.snippet).to_have_value(re.compile("--switchboard-accent: #7b1fa2;"))
    await expect(visitor.snippet).to_have_value(re.compile("--switchboard-on-accent: #ffffff;"))


async def test_other_choices_show_in_the_widget_and_in_the_snippet(visitor: Visitor) -> None:
    await visitor.say("hello")
    await expect(visitor.answer).to_be_visible()

    await visitor.pick("Title", "Questions?")
    await visitor.pick("Corner radius", "3")
    await visitor.pick("Text size", "20")
    await visitor.choose("Theme", "dark")
    await visitor.choose("Language", "es")
    await visitor.choose("Direction", "rtl")

    await expect(visitor.page.get_by_role("dialog", name="Questions?")).to_be_visible()
    await expect(visitor.page.get_by_role("button", name="Enviar", exact=True)).to_be_visible()
    bubble = visitor.part("bot-bubble").first
    await expect(bubble).to_have_css("border-radius", "3px")
    await expect(bubble).to_have_css("font-size", "20px")
    await expect(bubble).to_have_css("color-scheme", "dark")
    written = await visitor.snippet.input_value()
    assert '<switchboard-chat title="Questions?" theme="dark" lang="es" dir="rtl">' in written
    assert "--switchboard-radius: 3px;" in written
    assert "--switchboard-font-size: 20px;" in written


CHOICES: list[dict[str, str]] = [
    {"Accent": "#ffd400"},
    {"Accent": "#000000"},
    {"Accent": "#808080"},
    {"Background": "#0b1f3a"},
    {"Background": "#767676"},
    {"Background": "#ffe08a"},
    {"Accent": "#ff0000", "Background": "#00a000"},
    {"Visitor’s bubbles": "#123456", "Bot’s bubbles": "#fedcba"},
]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_whatever_colours_are_chosen_every_text_is_legible(
    browser: Browser, demo: Switchboard, scheme: Any
) -> None:
    async with visiting(browser, demo, color_scheme=scheme) as visitor:
        await visitor.say("hello")
        await expect(visitor.answer).to_be_visible()
        widget = visitor.page.locator("switchboard-chat")
        reset = visitor.page.get_by_role("button", name="Reset")
        illegible = {}

        for choices in CHOICES:
            await reset.click()
            for name, colour in choices.items():
                await visitor.pick(name, colour)
            illegible[str(choices)] = await widget.evaluate(ILLEGIBLE)

        assert illegible == {str(choices): [] for choices in CHOICES}


async def test_a_text_that_is_not_legible_would_be_noticed(visitor: Visitor) -> None:
    widget = visitor.page.locator("switchboard-chat")

    await widget.evaluate("chat => chat.style.setProperty('--switchboard-on-accent', '#1d5bd8')")

    found = await widget.evaluate(ILLEGIBLE)
    assert [text for text, _ in found] == ["Ask us", "Send"]


async def test_an_accent_that_had_to_change_is_told(visitor: Visitor) -> None:
    await visitor.choose("Theme", "light")
    await visitor.pick("Accent", "#ffd400")

    told = visitor.page.get_by_text("To stay legible on the background, the accent is #")
    await expect(told).to_be_visible()
    await visitor.pick("Accent", "#7b1fa2")
    await expect(told).to_be_hidden()


async def test_reset_brings_everything_back(visitor: Visitor) -> None:
    before = await visitor.snippet.input_value()
    await visitor.pick("Title", "Another")
    await visitor.pick("Accent", "#7b1fa2")
    await visitor.pick("Corner radius", "0")
    await visitor.choose("Direction", "rtl")
    await expect(visitor.snippet).not_to_have_value(before)

    await visitor.page.get_by_role("button", name="Reset").click()

    await expect(visitor.snippet).to_have_value(before)
    accent = await visitor.page.get_by_label("Accent", exact=True).input_value()
    assert accent != "#7b1fa2"
    await expect(visitor.part("launcher")).to_have_css("background-color", rgb(accent))


async def test_copy_copies_and_says_so(browser: Browser, demo: Switchboard) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    async with visiting(browser, demo, permissions=permissions) as visitor:
        await visitor.pick("Accent", "#7b1fa2")

        await visitor.page.get_by_role("button", name="Copy", exact=True).click()

        await expect(visitor.page.get_by_role("button", name="Copied", exact=True)).to_be_visible()
        await expect(visitor.page.get_by_role("status").get_by_text("Copied")).to_be_attached()
        copied = await visitor.page.evaluate("navigator.clipboard.readText()")
        assert copied == await visitor.snippet.input_value()
        await expect(visitor.page.get_by_role("button", name="Copy", exact=True)).to_be_visible()


async def test_where_nothing_may_be_copied_the_snippet_is_selected(visitor: Visitor) -> None:
    await visitor.page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject() }")

    await visitor.page.get_by_role("button", name="Copy", exact=True).click()

    await expect(visitor.page.get_by_text("Copy the selected text")).to_be_visible()
    await expect(visitor.snippet).to_be_focused()
    assert await visitor.snippet.evaluate(
        "node => node.selectionEnd - node.selectionStart === node.value.length"
    )
    assert await visitor.page.get_by_role("button", name="Copied").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_snippet_gives_another_page_the_same_widget(
    browser: Browser, demo: Switchboard, scheme: Any
) -> None:
    title = '"Ask" <us> & co'
    async with visiting(browser, demo, color_scheme=scheme) as visitor:
        await visitor.pick("Title", title)
        await visitor.pick("Accent", "#7b1fa2")
        await visitor.choose("Language", "fr")
        await expect(visitor.page.get_by_role("button", name="Envoyer")).to_be_visible()
        here = await visitor.part("launcher").evaluate("node => getComputedStyle(node).background")
        snippet = await visitor.snippet.input_value()
    context = await browser.new_context(color_scheme=scheme)

    async with page_of(snippet) as url:
        customer = await Visitor.arrive(context)
        await customer.page.goto(url)
        await customer.page.get_by_role("button", name="Ouvrir le chat").click()
        await customer.page.get_by_label("Message", exact=True).fill("bonjour")
        await customer.page.keyboard.press("Enter")

        await expect(customer.page.get_by_role("dialog", name=title, exact=True)).to_be_visible()
        await expect(customer.answer).to_be_visible()
        there = await customer.part("launcher").evaluate(
            "node => getComputedStyle(node).background"
        )
        await context.close()
    assert there == here
    assert customer.errors == []


@asynccontextmanager
async def page_of(snippet: str) -> AsyncIterator[str]:
    """Serve a page with *snippet* at an origin of its own."""
    icon = '<link rel="icon" href="data:,">'
    text = f"<!doctype html><html lang=de><title>A shop</title>{icon}<body>{snippet}"

    async def show(_request: web.Request) -> web.Response:
        return web.Response(text=text, content_type="text/html")

    app = web.Application()
    app.router.add_get("/", show)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize("direction", ["ltr", "rtl"])
async def test_the_open_panel_covers_no_control_on_a_desk(visitor: Visitor, direction: str) -> None:
    await visitor.choose("Direction", direction)

    await expect(visitor.part("panel")).to_be_visible()
    panel = await visitor.part("panel").bounding_box()
    for control in await visitor.page.locator("main > section").all():
        box = await control.bounding_box()
        assert box is not None
        assert panel is not None
        right_of = box["x"] >= panel["x"] + panel["width"]
        assert right_of or box["x"] + box["width"] <= panel["x"]


@pytest.mark.parametrize("width", [320, 390])
async def test_a_phone_begins_with_the_controls_one_below_the_other(
    browser: Browser, demo: Switchboard, width: int
) -> None:
    viewport: Any = {"width": width, "height": 700}
    async with visiting(browser, demo, viewport=viewport) as visitor:
        assert await visitor.page.evaluate("document.documentElement.scrollWidth") == width
        await expect(visitor.part("panel")).to_be_hidden()
        for control in await visitor.page.locator("form div, textarea, main button").all():
            box = await control.bounding_box()
            if box is not None:  # not in the closed panel
                assert box["x"] >= 0
                assert box["x"] + box["width"] <= width

        await visitor.page.get_by_role("button", name="Open chat").click()

        await expect(visitor.part("panel")).to_have_css("width", f"{width}px")


async def test_every_control_is_reached_by_the_keyboard(visitor: Visitor) -> None:
    reached = []

    for _ in range(13):
        await visitor.page.keyboard.press("Tab")
        reached.append(await visitor.page.evaluate("document.activeElement.id"))

    looks = ["title", "theme", "lang", "dir", "accent", "background", "user-bubble", "bot-bubble"]
    assert reached == ["reset", *looks, "radius", "font-size", "copy", "snippet"]


async def test_enter_in_the_title_stays_on_the_page(visitor: Visitor) -> None:
    title = visitor.page.get_by_label("Title", exact=True)
    await title.fill("Stay")

    await title.press("Enter")
    await visitor.say("still here")

    await expect(visitor.answer).to_be_visible()
    await expect(title).to_have_value("Stay")


async def test_a_violation_of_the_policy_would_be_noticed(
    browser: Browser, demo: Switchboard
) -> None:
    context = await browser.new_context()
    arrived = await Visitor.arrive(context)
    await arrived.open(demo)

    await arrived.page.evaluate("document.body.setAttribute('style', 'color: red')")

    await eventually(lambda: any("POLICY style-src" in error for error in arrived.errors))
    await context.close()


async def test_without_the_demo_there_is_no_playground() -> None:
    async with FakeConcierge().serving() as concierge, switchboard(concierge.url) as board:
        status, page = await board.get("/chat")
        missing, _ = await board.get("/widget/playground.js")

    assert status == 200
    assert "playground" not in page
    assert missing == 404


def rgb(colour: str) -> str:
    """Return #rrggbb as Chromium computes it."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return f"rgb({red}, {green}, {blue})"
