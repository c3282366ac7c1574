"""One tag on a page of another origin: the widget comes up, chats, and goes without a trace."""

import pytest
from playwright.async_api import WebSocket, expect

from switchboard_operator.web import keys
from tests.fakes import FakeConcierge
from tests.switchboards import Switchboard, eventually, switchboard
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

# Puts elements on the page and takes them off again, nine times: every other time a new one, and
# each time a little later, so that most go while they connect. The tenth stays.
COME_AND_GO = """
async (src) => {
  let element = document.createElement("switchboard-chat");
  for (let turn = 0; turn < 10; turn += 1) {
    if (turn % 2) element = document.createElement("switchboard-chat");
    element.setAttribute("src", src);
    element.setAttribute("open", "");
    document.body.append(element);
    if (turn === 9) return;
    if (turn) await new Promise((resolve) => setTimeout(resolve, 3 * turn));
    element.remove();
  }
}
"""


def script(board: Switchboard, attributes: str = "", query: str = "") -> str:
    source = f"{board.url}/widget/switchboard-chat.js{query}"
    return f'<script type="module"{attributes} src="{source}"></script>'


def tag(board: Switchboard) -> str:
    return f'<switchboard-chat src="{board.url.replace("http", "ws", 1)}/"></switchboard-chat>'


def lines(visitor: Visitor) -> list[str]:
    """Return the addresses of all sockets that the page has opened."""
    return [url for url in visitor.requests if url.startswith("ws")]


def held(sockets: list[WebSocket]) -> int:
    return sum(not each.is_closed() for each in sockets)


def connected(board: Switchboard) -> int:
    assert board.app is not None
    return len(board.app[keys.CONNECTIONS])


async def chats(visitor: Visitor, board: Switchboard, concierge: FakeConcierge) -> None:
    """Say something, be answered, and see that neither is there twice."""
    await visitor.open()
    await visitor.say("Do you have Assam?")
    session = await visitor.session()
    await board.postback({"to": session, "body": "We do."})

    await expect(visitor.from_user()).to_contain_text("Sent")
    await expect(visitor.from_bot()).to_contain_text("We do.")
    said = [post.content for post in concierge.received if post.content["From"] == session]
    assert [each["Body"] for each in said] == ["Do you have Assam?"]
    assert [heard["data"]["body"] for heard in await visitor.heard("message")] == ["We do."]


async def test_a_page_of_two_lines_chats_without_cookies_or_third_parties(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    site.pages["/"] = f"{script(board)}\n{tag(board)}\n"
    visitor = await arrive()
    await visitor.visit(site.url)

    await chats(visitor, board, concierge)

    assert await visitor.context.cookies() == []
    assert await visitor.page.evaluate("document.cookie") == ""
    origins = {"/".join(url.split("/")[:3]) for url in visitor.requests}
    assert origins == {site.url, board.url, board.url.replace("http", "ws", 1)}


@pytest.mark.parametrize(
    ("head", "body"),
    [
        pytest.param("{script}", "{tag}", id="from the head"),
        pytest.param("{async}", "{tag}", id="from the head, before the body is there"),
        pytest.param("", "{tag}{script}", id="after the element"),
        pytest.param("{script}{script}", "{tag}{script}", id="the same script thrice"),
        pytest.param("{script}", "{tag}{other}", id="twice, from two addresses"),
    ],
)
async def test_the_script_may_stand_anywhere_and_more_than_once(
    board: Switchboard,
    concierge: FakeConcierge,
    site: Site,
    arrive: Arrive,
    head: str,
    body: str,
) -> None:
    parts = {
        "tag": tag(board),
        "script": script(board),
        "async": script(board, " async"),
        "other": script(board, query="?v=2"),
    }
    head, body = head.format_map(parts), body.format_map(parts)
    site.pages["/"] = (
        f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>'
    )
    visitor = await arrive()
    await visitor.visit(site.url)

    await chats(visitor, board, concierge)

    await expect(visitor.launcher).to_have_count(1)
    await eventually(lambda: connected(board) == 1)


async def test_script_and_element_pasted_twice_are_two_views_of_one_conversation(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    snippet = f"{script(board)}\n{tag(board)}\n"
    site.pages["/"] = f'<!doctype html><html lang="en"><body>{snippet}{snippet}</body></html>'
    visitor = await arrive()
    await visitor.visit(site.url)
    first, second = visitor.chat.nth(0), visitor.chat.nth(1)

    await visitor.page.evaluate("document.querySelectorAll('switchboard-chat')[0].open()")
    await visitor.page.evaluate("document.querySelectorAll('switchboard-chat')[1].open()")
    await second.get_by_role("textbox").fill("Do you have Assam?")
    await second.get_by_role("textbox").press("Enter")
    session = await visitor.session()
    await expect(second.locator("li.user")).to_contain_text("Sent")
    await board.postback({"to": session, "body": "We do."})

    for element in (first, second):
        await expect(element.locator("li.bot")).to_contain_text("We do.")
        await expect(element.locator("li.user")).to_contain_text("Sent")
        await expect(element.locator("li")).to_have_count(2)
    said = [post.content for post in concierge.received if post.content["From"] == session]
    assert len(said) == 1


async def test_an_element_that_comes_and_goes_a_hundred_times_leaves_no_socket(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    socket = board.url.replace("http", "ws", 1) + "/"
    site.pages["/"] = f'<!doctype html><html lang="en"><body>{script(board)}</body></html>'
    visitor = await arrive()
    sockets: list[WebSocket] = []
    greeted: list[WebSocket] = []

    def watch(opened: WebSocket) -> None:
        sockets.append(opened)
        opened.once("framereceived", lambda _: greeted.append(opened))

    visitor.page.on("websocket", watch)
    await visitor.page.goto(site.url)
    await visitor.page.evaluate("customElements.whenDefined('switchboard-chat').then(() => null)")

    for _ in range(10):
        await visitor.page.evaluate(COME_AND_GO, socket)
        await eventually(lambda: sockets[-1] in greeted and not sockets[-1].is_closed())
        await visitor.chat.evaluate("element => element.remove()")

    await eventually(lambda: connected(board) == held(sockets) == 0)
    assert len(sockets) > 80  # those that went at once had nothing to open
    await visitor.page.evaluate("document.body.append(document.createElement('switchboard-chat'))")
    await chats(visitor, board, concierge)
    await eventually(lambda: connected(board) == held(sockets) == 1)


async def test_without_src_it_talks_to_the_switchboard_it_came_from(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    site.pages["/"] = f"{script(board)}\n<switchboard-chat></switchboard-chat>\n"
    visitor = await arrive()
    await visitor.visit(site.url)

    await chats(visitor, board, concierge)

    assert set(lines(visitor)) == {board.url.replace("http", "ws", 1) + "/"}


async def test_a_site_that_may_not_connect_has_a_widget_that_says_so_and_keeps_what_is_typed(
    concierge: FakeConcierge, arrive: Arrive
) -> None:
    async with (
        switchboard(concierge.url, ALLOWED_ORIGINS="https://shop.example") as board,
        Site().serving() as site,
    ):
        site.under_policy(board.url)
        site.embed(board.url)
        visitor = await arrive()
        await visitor.visit(site.url)
        await visitor.open()

        await visitor.say("Do you have Assam?")

        await expect(visitor.banner).to_contain_text("No connection.")
        await expect(visitor.from_user("Do you have Assam?")).to_contain_text("Sending")
        await expect(visitor.composer).to_have_value("")
        await visitor.page.reload()
        await visitor.open()
        await expect(visitor.from_user("Do you have Assam?")).to_contain_text("Sending")
        assert not await visitor.heard("error")
        await visitor.leave()
