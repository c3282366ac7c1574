"""Buttons of the bot's: what a press sends, once and to the letter, and what is left of them."""

from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Locator, expect

from tests.fakes import FakeConcierge, Incoming
from tests.switchboards import Switchboard, eventually
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

NUMBERS = '{"id":9007199254740993,"price":1.0,"of":[-0.0,1e2,12345678901234567890]}'


async def said(concierge: FakeConcierge, session: str, last: str) -> list[Incoming]:
    """Wait until *session* has said *last*; return all that it has said, in order."""

    def theirs() -> list[Incoming]:
        return [each for each in concierge.received if each.content["From"] == session]

    await eventually(lambda: any(each.content["Body"] == last for each in theirs()))
    return theirs()


def payload(incoming: Incoming) -> str:
    """Return the payload as the Concierge got it, no digit changed by a parser of ours."""
    return incoming.body.decode().partition('"Payload":')[2].removesuffix("}")


async def offer(board: Switchboard, session: str, *payloads: str) -> None:
    """Ask "Which?" with a payload button for each of *payloads*, named after its place."""
    buttons = ",".join(
        f'{{"type":"payload","text":"No. {place}","payload":{each}}}'
        for place, each in enumerate(payloads, 1)
    )
    question = f'{{"to":"{session}","body":"Which?","type":"button","buttons":[{buttons}]}}'
    await board.postback(question.encode())


def group(visitor: Visitor) -> Locator:
    return visitor.from_bot("Which?").get_by_role("group")


async def is_text(visitor: Visitor) -> None:
    """Check that the group's labels are there, and can't be pressed."""
    await expect(group(visitor)).to_have_text("No. 1No. 2")
    await expect(group(visitor).locator("button, a, [tabindex], [role=button]")).to_have_count(0)


async def click(button: Locator) -> None:
    await button.click()


async def double_click(button: Locator) -> None:
    await button.dblclick()


async def press_enter_twice(button: Locator) -> None:
    await button.press("Enter")
    await button.page.keyboard.press("Enter")


async def press_all_at_once(button: Locator) -> None:
    """Press it twice and then its neighbour, before the page has a turn."""
    await button.evaluate(
        "(one) => [one, one, one.nextElementSibling].forEach((each) => each.click())"
    )


@pytest.mark.parametrize(
    ("press", "raw"),
    [
        pytest.param(click, NUMBERS, id="click"),
        pytest.param(double_click, '"{\\"looks\\": \\"like JSON\\"}"', id="double click"),
        pytest.param(press_enter_twice, "9007199254740993", id="Enter"),
        pytest.param(press_all_at_once, '{"naïve":[null,true,"1"]}', id="all at once"),
    ],
)
async def test_a_press_sends_label_and_payload_once_as_received(
    press: Callable[[Locator], Awaitable[None]],
    raw: str,
    board: Switchboard,
    concierge: FakeConcierge,
    site: Site,
    arrive: Arrive,
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    session = await visitor.session()
    await offer(board, session, raw, '"another"')

    await press(group(visitor).get_by_role("button", name="No. 1"))
    await visitor.say("the end")  # behind it comes whatever was sent twice

    pressed, *rest = await said(concierge, session, "the end")
    assert [pressed.content["Body"], *(each.content["Body"] for each in rest)] == [
        "No. 1",
        "the end",
    ]
    assert payload(pressed) == raw
    await is_text(visitor)
    await expect(visitor.from_user("No. 1")).to_contain_text("Sent")


async def test_a_pressed_group_is_text_in_another_tab_and_after_a_reload(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    session = await visitor.session()
    await offer(board, session, NUMBERS, '"another"')
    await expect(group(visitor).get_by_role("button")).to_have_count(2)
    await visitor.page.reload()
    await visitor.open()
    beside = await Visitor.in_tab(visitor.context)
    await beside.visit(site.url)
    await beside.open()
    await expect(group(beside).get_by_role("button")).to_have_count(2)

    await group(visitor).get_by_role("button", name="No. 1").click()

    await is_text(beside)
    await visitor.page.reload()
    await visitor.open()
    await is_text(visitor)
    await visitor.say("the end")
    pressed, _ = await said(concierge, session, "the end")
    assert payload(pressed) == NUMBERS  # from the store, too
    assert not beside.errors


async def test_a_url_button_opens_a_tab_that_knows_nothing_of_ours_and_sends_nothing(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    site.pages["/more"] = "<!doctype html><title>More</title>"
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    session = await visitor.session()
    button = {"type": "url", "text": "Read on", "url": f"{site.url}/more", "name": "more"}
    await board.postback({"to": session, "body": "Which?", "type": "button", "buttons": [button]})

    link = group(visitor).get_by_role("link", name="Read on (new tab)")
    async with visitor.context.expect_page() as opening:
        await link.click()
    opened = await opening.value
    await visitor.say("the end")

    await expect(opened).to_have_url(f"{site.url}/more")
    assert await opened.evaluate("[window.opener, document.referrer]") == [None, ""]
    assert await link.get_attribute("rel") == "noopener noreferrer"
    assert [each.content["Body"] for each in await said(concierge, session, "the end")] == [
        "the end"
    ]
    await expect(link).to_be_visible()
    assert visitor.page.url == f"{site.url}/"


async def test_a_body_or_a_label_that_is_a_number_stops_nothing(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    session = await visitor.session()
    buttons = '[{"type":"payload","text":9007199254740993,"payload":1}]'

    await board.postback(
        f'{{"to":"{session}","body":1.0,"type":"button","buttons":{buttons}}}'.encode()
    )
    await board.postback({"to": session, "body": "after it"})

    await expect(visitor.from_bot("after it")).to_be_visible()
    await visitor.page.reload()
    await visitor.open()
    await expect(visitor.from_bot("after it")).to_be_visible()
