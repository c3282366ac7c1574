"""A customer's site with the widget on its pages, and visitors who come in a real Chromium."""

import asyncio
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web
from playwright.async_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Locator,
    Page,
    WebSocket,
    async_playwright,
    expect,
)

from tests.log_guard import PASSED

# The same engine without windows starts and renders in half the time.
CHROMIUM = (
    shutil.which("chromium-headless-shell")
    or shutil.which("chromium")
    or "chromium is not installed"
)
PATIENCE = 60_000  # ms in which what a test waits for must come, also on a busy machine
expect.set_options(timeout=PATIENCE)

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# What a careful customer sends with a page; {widget} is where the switchboard serves the widget.
POLICY = (
    "default-src 'none'; script-src 'self' {widget}; style-src 'none';"
    " connect-src 'self' {widget} {socket}; img-src 'self' https: http:;"
    " require-trusted-types-for 'script'"
)

# Notes what the page's policy forbids (the console alone may be cleared) and the widget's events.
WATCH = """
addEventListener("securitypolicyviolation", (event) => {
  console.error("POLICY", event.violatedDirective, event.blockedURI);
});
window.heard = [];
for (const name of ["ready", "open", "close", "message", "unread", "event", "error"]) {
  addEventListener(`switchboard:${name}`, ({ detail }) => heard.push([name, detail]));
}
"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Run a Chromium within the context; where it can't be started, that is an error."""
    async with async_playwright() as playwright:
        started = await playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield started
        await started.close()


class Site:
    """
    A web server of another origin than the switchboard's: the customer's.

    `pages` are its documents by path, `headers` go with each. What was asked for is in `loaded`.
    """

    def __init__(self) -> None:
        self.url = ""
        self.pages: dict[str, str] = {}
        self.files: dict[str, tuple[bytes, str]] = {}  # content and type, by path
        self.headers: dict[str, str] = {}
        self.loaded: list[str] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        app = web.Application()
        app.router.add_get("/{name:.*}", self._page)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        try:
            yield self
        finally:
            await runner.cleanup()

    def under_policy(self, switchboard: str) -> None:
        """Send a strict policy with every page, which lets the widget of *switchboard* in."""
        socket = switchboard.replace("http", "ws", 1)
        self.headers["Content-Security-Policy"] = POLICY.format(widget=switchboard, socket=socket)

    def embed(
        self,
        switchboard: str,
        *,
        path: str = "/",
        before: str = "",
        after: str = "",
        **attributes: str,
    ) -> None:
        """Put the widget of *switchboard* on a page; *before* goes into the head."""
        source = attributes.pop("src", switchboard.replace("http", "ws", 1) + "/")
        given = "".join(f' {name}="{value}"' for name, value in attributes.items())
        lang = f' lang="{attributes["lang"]}"' if "lang" in attributes else ' lang="en"'
        self.pages[path] = (
            f'<!doctype html><html{lang}><head><meta charset="utf-8"><title>A shop</title>'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<link rel="icon" href="/favicon.ico">{before}'
            f'<script type="module" src="{switchboard}/widget/switchboard-chat.js"></script></head>'
            f'<body><main><h1>A shop</h1><p>Tea and coffee.</p><a href="#top">To the top</a></main>'
            f'<switchboard-chat src="{source}"{given}></switchboard-chat>{after}</body></html>'
        )

    async def _page(self, request: web.Request) -> web.Response:
        self.loaded.append(request.path)
        if request.path == "/favicon.ico":
            return web.Response(status=204)
        if request.path in self.files:
            content, content_type = self.files[request.path]
            return web.Response(body=content, content_type=content_type)
        if request.path not in self.pages:
            raise web.HTTPNotFound
        return web.Response(
            text=self.pages[request.path], content_type="text/html", headers=self.headers
        )


@dataclass
class Visitor:
    """Somebody with a browser profile of their own, at a page with the widget; notes what fails."""

    page: Page
    context: BrowserContext
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @classmethod
    async def arrive(cls, browser: Browser, **options: Any) -> Self:
        """Come with a fresh profile; *options* are those of Browser.new_context."""
        context = await browser.new_context(**options)
        await context.add_init_script(WATCH)
        return await cls.in_tab(context)

    @classmethod
    async def in_tab(cls, context: BrowserContext) -> Self:
        """Open one more tab of a profile that has been here."""
        visitor = cls(await context.new_page(), context)
        page = visitor.page
        page.set_default_timeout(PATIENCE)
        page.on("console", visitor._note_console)
        page.on("pageerror", lambda error: visitor.errors.append(str(error)))
        page.on("dialog", lambda dialog: visitor.errors.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: visitor._note_request(request.url))
        page.on("websocket", visitor._note_socket)
        return visitor

    def _note_request(self, url: str) -> None:
        self.requests.append(url)
        PASSED.request(url)

    def _note_socket(self, socket: WebSocket) -> None:
        self._note_request(socket.url)
        socket.on("framesent", PASSED.body)
        socket.on("framereceived", PASSED.body)

    def _note_console(self, message: ConsoleMessage) -> None:
        # That a line is cut is what some tests are about.
        if message.type in {"error", "warning"} and "WebSocket connection to" not in message.text:
            self.errors.append(message.text)

    async def visit(self, url: str) -> None:
        """Go to *url*, and wait until the widget is there."""
        await self.page.goto(url)
        await expect(self.panel.or_(self.launcher).first).to_be_visible()

    @property
    def chat(self) -> Locator:
        """The element itself."""
        return self.page.locator("switchboard-chat")

    @property
    def launcher(self) -> Locator:
        return self.chat.locator("[part=launcher]")

    @property
    def panel(self) -> Locator:
        return self.chat.locator("[part=panel]")

    @property
    def composer(self) -> Locator:
        return self.panel.get_by_role("textbox", name="Message", exact=True)

    @property
    def log(self) -> Locator:
        return self.panel.get_by_role("log", name="Conversation")

    @property
    def banner(self) -> Locator:
        return self.panel.locator("[part=banner]")

    @property
    def live(self) -> Locator:
        """The region whose content is read out."""
        return self.chat.get_by_role("status")

    def from_bot(self, words: str | re.Pattern[str] = "") -> Locator:
        return self.log.locator("li.bot").filter(has_text=words)

    def from_user(self, words: str | re.Pattern[str] = "") -> Locator:
        return self.log.locator("li.user").filter(has_text=words)

    def button(self, name: str | re.Pattern[str]) -> Locator:
        return self.chat.get_by_role("button", name=name, exact=isinstance(name, str))

    async def open(self) -> None:
        """Press the launcher."""
        await self.launcher.click()
        await expect(self.composer).to_be_visible()

    async def say(self, words: str) -> None:
        await self.composer.fill(words)
        await self.composer.press("Enter")

    async def heard(self, name: str) -> list[Any]:
        """Return the details of the widget's events of one name, so far."""
        events: list[list[Any]] = await self.page.evaluate("heard")
        return [detail for event, detail in events if event == name]

    async def hears(self, name: str, count: int = 1) -> list[Any]:
        """Wait until the widget has fired so many events of one name; return their details."""
        while len(found := await self.heard(name)) < count:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)
        return found

    async def session(self) -> str:
        """Return the session of the conversation, once it has one."""
        kept = "Object.values(localStorage).map((text) => JSON.parse(text).session)"
        while not (found := await self.page.evaluate(f"{kept}.find(Boolean)")):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.02)
        return str(found)

    async def leave(self) -> None:
        """Close the profile, with all its tabs."""
        await self.context.close()
