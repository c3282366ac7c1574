"""What a page can do with the widget: call it, before it is there as well, hear it, change it."""

from uuid import uuid4

import pytest
from playwright.async_api import Locator, expect

from tests.fakes import FakeConcierge
from tests.switchboards import Switchboard, eventually
from tests.widget.browser import Site
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]


async def said(concierge: FakeConcierge, session: str, count: int) -> list[dict[str, object]]:
    """Wait for so many messages of a session; return what the Concierge got."""

    def bodies() -> list[dict[str, object]]:
        contents = [incoming.content for incoming in concierge.accepted]
        return [content for content in contents if content.pop("From") == session]

    await eventually(lambda: len(bodies()) >= count)
    return bodies()


async def colour(part: Locator) -> str:
    found: str = await part.evaluate("(part) => getComputedStyle(part).backgroundColor")
    return found


async def test_methods_and_the_attribute_open_and_close_it(site: Site, arrive: Arrive) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)

    for call, is_open in [
        ("open()", True),
        ("open()", True),
        ("close()", False),
        ("close()", False),
        ("toggle()", True),
        ("toggle()", False),
        ("setAttribute('open', '')", True),
        ("removeAttribute('open')", False),
    ]:
        reflected = await visitor.chat.evaluate(
            f"(chat) => {{ chat.{call}; return chat.hasAttribute('open'); }}"
        )
        assert reflected == is_open, call
        await expect(visitor.panel).to_be_visible(visible=is_open)
        await expect(visitor.launcher).to_have_attribute("aria-expanded", str(is_open).lower())
    await visitor.open()
    await expect(visitor.chat).to_have_attribute("open", "")
    await visitor.panel.press("Escape")
    await expect(visitor.chat).not_to_have_attribute("open", "")

    assert await visitor.heard("open") == [{}] * 4
    assert await visitor.heard("close") == [{}] * 4


async def test_what_the_page_says_goes_as_the_user_s_with_its_payload(
    concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)

    await visitor.chat.evaluate("""(chat) => {
      chat.send("Where is my order?");
      chat.send("This one", { order: 7, of: ["tea"] });
      chat.send(undefined, { page: "/checkout" });
    }""")

    assert await said(concierge, await visitor.session(), 3) == [
        {"Body": "Where is my order?"},
        {"Body": "This one", "Payload": {"order": 7, "of": ["tea"]}},
        {"Payload": {"page": "/checkout"}},
    ]
    assert not await visitor.chat.evaluate("(chat) => chat.hasAttribute('open')")
    await visitor.open()
    await expect(visitor.from_user("Where is my order?")).to_contain_text("Sent")


async def test_a_reset_forgets_the_conversation_and_begins_another(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    await visitor.say("Hello")
    before = await visitor.session()
    await board.postback({"to": before, "body": "An answer"})
    await expect(visitor.from_bot()).to_have_count(1)

    await visitor.chat.evaluate("(chat) => chat.reset()")
    await expect(visitor.log.locator("li")).to_have_count(0)
    kept = await visitor.page.evaluate("JSON.stringify(localStorage)")
    assert before not in kept
    assert "An answer" not in kept
    await visitor.say("Anew")

    after = await visitor.session()
    assert after != before
    assert await said(concierge, after, 1) == [{"Body": "Anew"}]


async def test_the_page_hears_all_that_happens(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    assert await visitor.hears("ready") == [{}]
    await visitor.open()
    assert await visitor.hears("open") == [{}]
    await visitor.say("Hello")
    to = {"to": await visitor.session(), "from": "bot"}

    buttons = [{"type": "payload", "text": "A", "payload": {"n": 1}}]
    answer = to | {"body": "Which?", "type": "button", "buttons": buttons}
    await board.postback(answer)
    assert await visitor.hears("message") == [{"data": answer}]

    for payload in ('{"rings":3}', {"rings": 3}, "loud", None):
        await board.postback(to | {"type": "event", "name": "bell", "payload": payload})
    rings = {"name": "bell", "payload": {"rings": 3}}
    loud, silent = {"name": "bell", "payload": "loud"}, {"name": "bell", "payload": None}
    assert await visitor.hears("event", 4) == [rings, rings, loud, silent]

    await visitor.panel.press("Escape")
    assert await visitor.hears("close") == [{}]
    await board.postback(to | {"body": "Are you there?"})
    assert await visitor.hears("unread") == [{"count": 1}]
    assert len(await visitor.heard("message")) == 2

    # A token that the switchboard does not know: the session is over.
    await visitor.page.evaluate("""for (const [key, kept] of Object.entries(localStorage)) {
      localStorage.setItem(key, JSON.stringify({ ...JSON.parse(kept), token: "made up" }));
    }""")
    await visitor.page.reload()
    assert await visitor.hears("error") == [{"code": "bad_token", "detail": ""}]
    assert await visitor.heard("ready") == [{}]


async def test_numbers_that_the_page_hears_are_numbers(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    await visitor.say("Hello")
    to = b'{"to":"%s",' % (await visitor.session()).encode()

    await board.postback(to + b'"body":"For you","price":1.0,"digits":12345678901234567890}')
    await board.postback(to + b'"type":"event","name":"louder","payload":{"by":1.0}}')
    await board.postback(to + b'"type":"event","name":"louder","payload":"{\\"by\\":1.0}"}')

    [message] = await visitor.hears("message")
    assert message["data"]["price"] == 1
    assert message["data"]["digits"] == pytest.approx(12345678901234567890)
    assert await visitor.hears("event", 2) == [{"name": "louder", "payload": {"by": 1}}] * 2


async def test_calls_are_made_in_order_from_before_the_widget_is_there(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    site.pages["/calls.js"] = (
        "window.switchboard = [['open'], ['send', 'One'], ['send', 'Two', { two: 2 }]];"
        "switchboard.push(['send', 'Three']);"
    )
    site.embed(board.url, before='<script src="/calls.js"></script>')
    visitor = await arrive()

    await visitor.visit(site.url)

    await expect(visitor.panel).to_be_visible()
    for words in ("One", "Two", "Three"):
        await expect(visitor.from_user(words)).to_contain_text("Sent")
    session = await visitor.session()
    at_once = await visitor.page.evaluate("""() => {
      switchboard.push(["send", "Four"], ["close"]);
      return !document.querySelector("switchboard-chat").hasAttribute("open");
    }""")
    assert at_once
    assert await said(concierge, session, 4) == [
        {"Body": "One"},
        {"Body": "Two", "Payload": {"two": 2}},
        {"Body": "Three"},
        {"Body": "Four"},
    ]


async def test_it_can_be_changed_while_it_is_there(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive(color_scheme="light")
    sessions = [str(uuid4()), str(uuid4())]
    sources = [board.url.replace("http", "ws", 1) + f"/?session={session}" for session in sessions]
    site.embed(board.url, src=sources[0], title="Ask us")
    await visitor.visit(site.url)
    await visitor.open()
    await expect(visitor.panel).to_have_accessible_name("Ask us")
    light = await colour(visitor.panel)

    await visitor.chat.evaluate("(chat) => { chat.title = 'Ask Ann'; }")
    await expect(visitor.panel).to_have_accessible_name("Ask Ann")
    await visitor.chat.evaluate("(chat) => chat.setAttribute('theme', 'dark')")
    assert await colour(visitor.panel) != light
    await visitor.chat.evaluate("(chat) => chat.removeAttribute('theme')")
    assert await colour(visitor.panel) == light

    await visitor.composer.fill("A word half written")
    await visitor.chat.evaluate("(chat) => { chat.lang = 'es'; }")
    spanish = visitor.panel.get_by_role("textbox", name="Mensaje", exact=True)
    await expect(spanish).to_have_value("A word half written")
    await visitor.chat.evaluate("(chat) => { chat.lang = ''; }")
    await expect(visitor.composer).to_have_value("A word half written")

    await visitor.say("To the first")
    await expect(visitor.from_user("To the first")).to_contain_text("Sent")
    await visitor.chat.evaluate("(chat, src) => chat.setAttribute('src', src)", sources[1])
    await expect(visitor.log.locator("li")).to_have_count(0)
    await board.postback({"to": sessions[0], "body": "From the first"})
    await board.postback({"to": sessions[1], "body": "From the second"})
    await expect(visitor.from_bot()).to_have_text(["Reply: From the second"])
    await eventually(lambda: only_socket(board, "v1"))


async def only_socket(board: Switchboard, wire: str) -> bool:
    return await board.metric("switchboard_connections", wire=wire) == 1


async def test_on_the_classic_wire_it_asks_for_no_subprotocol(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    session = str(uuid4())
    source = board.url.replace("http", "ws", 1) + f"/?session={session}"
    site.embed(board.url, src=source, wire="classic")
    visitor = await arrive()
    await visitor.visit(site.url)

    await visitor.open()
    await visitor.say("Hello")
    await expect(visitor.from_user("Hello")).to_contain_text("Sent")
    await board.postback({"to": session, "body": "Hello to you"})

    await expect(visitor.from_bot()).to_have_text(["Reply: Hello to you"])
    assert await said(concierge, session, 1) == [{"Body": "Hello"}]
    await eventually(lambda: only_socket(board, "classic"))
