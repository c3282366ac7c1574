"""What the widget's documentation says, and each of its examples, in a browser."""

import re
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.async_api import Page, expect

from tests.fakes import FakeConcierge, Incoming, accept
from tests.switchboards import ROOT, Switchboard
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

DOCUMENT = (ROOT / "docs/widget.md").read_text()
TYPES = ROOT / "docs/switchboard-chat.d.ts"
TSC = ROOT / "tests/widget/node_modules/.bin/tsc"


@dataclass(frozen=True)
class Example:
    """A fenced example: the heading that it stands under, its language, its text."""

    heading: str
    language: str
    code: str

    def __str__(self) -> str:
        return self.heading

    def of(self, board: Switchboard) -> str:
        """Return the example as its reader would have it, for the switchboard that there is."""
        code = self.code.replace("https://chat.example.com", board.url)
        return code.replace("wss://chat.example.com", board.url.replace("http", "ws", 1))


def examples() -> list[Example]:
    found, heading = [], ""
    for title, language, code in re.findall(
        r"^#+ ([^\n]+)$|^```(\w+)\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL
    ):
        heading = title or heading
        if language:
            found.append(Example(heading, language, code))
    return found


EXAMPLES = examples()
IN_BROWSER = [example for example in EXAMPLES if example.language != "ts"]
[TAGS] = [example for example in EXAMPLES if example.heading == "Put it on a page"]


def table(first: str) -> set[str]:
    """Return what stands in the first column of the table whose head begins with *first*."""
    [rows] = re.findall(rf"^\| {first} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", DOCUMENT, re.MULTILINE)
    cells = [row.split(" | ")[0] for row in rows.splitlines()]
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def page(example: Example, board: Switchboard) -> str:
    """Return a page with an example as it is meant: beside the tags, or in their place."""
    code, tags = example.of(board), TAGS.of(board)
    script, tag = tags.splitlines()
    head, body = {
        "css": (f"<style>{code}</style>", tags),
        "js": ("", f'{tags}<script type="module">{code}</script>'),
        "html": ("", code if "<script" in code else f"{script}{code}"),
        "http": ("", tags),
    }[example.language]
    if "createElement" in code:
        body = body.replace(tag, "")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>A shop</title>'
        f"{head}<body><h1>A shop</h1>{body}</body></html>"
    )


async def chats(visitor: Visitor, board: Switchboard, concierge: FakeConcierge) -> None:
    before = len(concierge.accepted)
    await visitor.say("Hello")
    await expect(visitor.from_user("Hello").last).to_contain_text("Sent")
    session = concierge.accepted[before].content["From"]
    await board.postback({"to": session, "from": "bot", "body": "Hello to you"})
    await expect(visitor.from_bot("Hello to you")).to_be_visible()


async def opens_and_chats(visitor: Visitor, board: Switchboard, concierge: FakeConcierge) -> None:
    await visitor.open()
    await expect(visitor.panel).to_have_accessible_name("Ask us")
    await chats(visitor, board, concierge)
    assert await visitor.context.cookies() == []


async def is_the_page(visitor: Visitor, board: Switchboard, concierge: FakeConcierge) -> None:
    await expect(visitor.launcher).to_be_hidden()
    box, size = await visitor.panel.bounding_box(), visitor.page.viewport_size
    assert box is not None
    assert box == {"x": 0, "y": 0, **(size or {})}


async def is_coloured(visitor: Visitor, board: Switchboard, concierge: FakeConcierge) -> None:
    styles = await visitor.launcher.evaluate("""(launcher) => {
      const { backgroundColor, color } = getComputedStyle(launcher);
      return [backgroundColor, color];
    }""")
    assert styles == ["rgb(122, 31, 92)", "rgb(255, 255, 255)"]
    await visitor.open()
    styles = await visitor.panel.evaluate("""(panel) => {
      const { borderRadius, fontFamily } = getComputedStyle(panel);
      return [borderRadius, fontFamily];
    }""")
    assert styles == ["4px", "Georgia, serif"]


async def is_square(visitor: Visitor, board: Switchboard, concierge: FakeConcierge) -> None:
    radius = "(launcher) => getComputedStyle(launcher).borderRadius"
    assert await visitor.launcher.evaluate(radius) == "0px"
    await visitor.open()
    await chats(visitor, board, concierge)
    await expect(visitor.chat.locator("[part=undo]")).to_be_hidden()


async def opens_by_the_heading(
    visitor: Visitor, board: Switchboard, concierge: FakeConcierge
) -> None:
    await visitor.page.get_by_role("heading", name="A shop").click()
    await expect(visitor.panel).to_be_visible()


async def has_said_hello(visitor: Visitor, board: Switchboard, concierge: FakeConcierge) -> None:
    await expect(visitor.panel).to_be_visible()
    await expect(visitor.from_user("Hello")).to_contain_text("Sent")
    assert concierge.accepted[-1].content["Payload"] == {"page": "/"}


async def counts_in_the_title(
    visitor: Visitor, board: Switchboard, concierge: FakeConcierge
) -> None:
    await visitor.open()
    await visitor.say("Hello")
    session = await visitor.session()
    await visitor.panel.press("Escape")
    await board.postback({"to": session, "body": "An answer"})
    await expect(visitor.page).to_have_title("(1) A shop")
    await visitor.open()
    await expect(visitor.page).to_have_title("A shop")


async def says_other_words(visitor: Visitor, board: Switchboard, concierge: FakeConcierge) -> None:
    await visitor.launcher.click()
    await expect(visitor.panel).to_contain_text("Moin! What can we do for you?")
    await expect(visitor.panel.get_by_role("textbox", name="Your question")).to_be_visible()
    await expect(visitor.button("Send")).to_be_visible()


def has_session(session: str) -> "Check":
    async def check(visitor: Visitor, board: Switchboard, concierge: FakeConcierge) -> None:
        await visitor.open()
        await chats(visitor, board, concierge)
        assert concierge.accepted[-1].content["From"] == session

    return check


Check = Callable[[Visitor, Switchboard, FakeConcierge], Awaitable[None]]
CHECKS: dict[str, Check] = {
    "Put it on a page": opens_and_chats,
    "A page that is the chat": is_the_page,
    "Look": is_coloured,
    "Style its parts": is_square,
    "A strict policy": opens_and_chats,
    "Calls": opens_by_the_heading,
    "Calls from before it is there": has_said_hello,
    "Events": counts_in_the_title,
    "Other words": says_other_words,
    "A user whom you know": has_session("7c1f1f0e-6d0f-4d5c-8a53-2f0c2f6b9a11"),
    "An older switchboard": has_session("0b9f7f52-3a56-4f0e-9c39-3f0f4f1e6c77"),
}


@pytest.mark.parametrize("example", IN_BROWSER, ids=str)
async def test_an_example_does_what_it_says(
    example: Example, board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    site.pages["/"] = page(example, board)
    site.headers.clear()
    if example.language == "http":
        name, _, value = example.of(board).strip().partition(": ")
        site.headers[name] = value
    visitor = await arrive()

    await visitor.page.goto(site.url)
    await expect(visitor.panel).to_be_attached()

    await CHECKS[example.heading](visitor, board, concierge)


async def test_every_heading_has_one_example_at_most() -> None:
    headings = [example.heading for example in EXAMPLES]

    assert len(set(headings)) == len(headings)
    assert {example.heading for example in IN_BROWSER} == set(CHECKS)


async def names_in_the_sheet(page: Page) -> set[str]:
    names: list[str] = await page.evaluate("""() => {
      const { shadowRoot } = document.querySelector("switchboard-chat");
      const rules = shadowRoot.adoptedStyleSheets.flatMap(({ cssRules }) => [...cssRules]);
      return rules.flatMap(({ cssText }) => cssText.match(/--switchboard-[a-z-]+/g) ?? []);
    }""")
    return set(names)


async def test_the_tables_name_what_there_is(site: Site, arrive: Arrive) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)

    observed = await visitor.chat.evaluate("(chat) => chat.constructor.observedAttributes")

    # The others are of every element, or for the style sheet alone.
    assert table("attribute") == {*observed, "theme", "dir", "hidden"}
    assert table("variable") == await names_in_the_sheet(visitor.page)
    assert len(table("variable")) >= 12
    assert table("event") == set(re.findall(r'"(switchboard:\w+)"', TYPES.read_text()))
    calls = {name.partition("(")[0] for name in table("method")}
    assert {*calls, "unread", "strings"} == await members(visitor)


async def members(visitor: Visitor) -> set[str]:
    """Return the names of all that the element has, and others have not."""
    names: list[str] = await visitor.chat.evaluate("""(chat) => [
      ...Object.keys(chat), ...Object.getOwnPropertyNames(chat.constructor.prototype),
    ]""")
    return {name for name in names if name != "constructor" and not name.endswith("Callback")}


async def test_the_parts_are_there(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    async def refuse(incoming: Incoming) -> int:
        return 400 if incoming.content["Body"] == "Refused" else 204

    [listed] = re.findall(r"there are `::part\(…\)`s to style: (.*?)\. ", DOCUMENT, re.DOTALL)
    documented = re.findall(r"`([a-z-]+)`", listed)
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    concierge.answer = refuse
    await visitor.say("Refused")
    await expect(visitor.button("Retry")).to_be_visible()
    concierge.answer = accept
    to = {"to": await visitor.session(), "from": "bot"}
    buttons = {"type": "button", "buttons": [{"type": "payload", "text": "This"}]}
    await board.postback(to | buttons | {"body": "Which?"})
    await board.postback(to | {"type": "image", "media_url": ""})
    await board.postback(to | {"type": "event", "name": "joined", "body": "Ann has joined"})
    await expect(visitor.log).to_contain_text("Ann has joined")

    found = await visitor.chat.evaluate("""({ shadowRoot }) =>
      [...shadowRoot.querySelectorAll("[part]")].flatMap(({ part }) => [...part])""")

    assert len(documented) >= 8
    assert [part for part in documented if part not in found] == []


async def test_the_type_file_has_the_element_s_members_and_words(
    site: Site, arrive: Arrive
) -> None:
    types = TYPES.read_text()
    visitor = await arrive()
    await visitor.visit(site.url)
    words = await visitor.page.evaluate(
        "async (at) => Object.keys((await import(at)).english)",
        f"{site_of_the_widget(visitor)}/widget/strings.js",
    )

    element = types.partition("interface SwitchboardChatElement ")[2].partition("\n}")[0]
    names = types.partition("type SwitchboardStringName =")[2].partition(";")[0]

    declared = re.findall(r"^  (?:readonly )?(\w+)[(:]", element, re.MULTILINE)
    assert set(declared) == await members(visitor)
    assert re.findall(r'"(\w+)"', names) == words


def site_of_the_widget(visitor: Visitor) -> str:
    [module] = [url for url in visitor.requests if url.endswith("/widget/switchboard-chat.js")]
    return module.removesuffix("/widget/switchboard-chat.js")


def compiled(folder: Path, code: str) -> str:
    """Return what tsc says of some lines that use the type file."""
    (folder / "example.ts").write_text(f'/// <reference path="{TYPES}" />\n{code}')
    done = subprocess.run(
        [TSC, "--noEmit", "--strict", "--lib", "es2023,dom", "--target", "es2023", "example.ts"],
        check=False, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert (done.returncode == 0) == (not done.stdout), done.stdout
    return done.stdout


USES = """
const chat = document.createElement("switchboard-chat");
chat.open(); chat.close(); chat.toggle(); chat.reset();
chat.send(); chat.send("Hello"); chat.send(undefined, { any: ["thing"] });
chat.strings = { empty: "Moin!" };
const count: number = chat.unread;
chat.addEventListener("switchboard:message", ({ detail }) => detail.data.body?.trim());
document.addEventListener("switchboard:error", ({ detail }) => detail.code.trim());
window.switchboard ??= [];
window.switchboard.push(["open"], ["send", "Hello"], ["send", undefined, { any: "thing" }]);
"""
MISUSES = """
chat.unread = 1;
chat.send(7);
chat.strings = { nothing: "of the kind" };
window.switchboard.push(["shout", "Hello"]);
chat.addEventListener("switchboard:unread", ({ detail }) => detail.count.trim());
"""


async def test_the_types_hold(tmp_path: Path) -> None:
    documented = [example.code for example in EXAMPLES if example.language == "ts"]
    assert documented

    assert compiled(tmp_path, USES + "".join(documented)) == ""
    wrong = compiled(tmp_path, USES + MISUSES)

    lines = {int(line) for line in re.findall(r"^example\.ts\((\d+),", wrong, re.MULTILINE)}
    start = USES.count("\n") + 2  # after the reference
    assert lines == {start + at for at, line in enumerate(MISUSES.splitlines()) if line}
