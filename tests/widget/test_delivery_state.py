"""What became of a message, as its writer sees it: sending, sent, not sent; and how to retry."""

from collections.abc import Iterator

import pytest
from playwright.async_api import Locator, expect

from switchboard_operator.limits import Limits
from tests.fakes import FakeConcierge, Incoming, accept
from tests.ports import kept_port
from tests.switchboards import eventually, switchboard
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

IMPATIENT = Limits(retry_first=0.05, retry_total=0.2)  # a Concierge that is away is soon given up
NOTE_CLOSES = """
window.closes = [];
window.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener("close", ({ code }) => closes.push(code));
  }
};
"""


@pytest.fixture(autouse=True)
def willing(concierge: FakeConcierge) -> Iterator[None]:
    """Let the Concierge accept everything again after a test in which it did not."""
    yield
    concierge.answer = accept


def of(session: str, incoming: list[Incoming]) -> list[Incoming]:
    return [each for each in incoming if each.content["From"] == session]


def bodies(incoming: list[Incoming]) -> list[str]:
    return [each.content["Body"] for each in incoming]


def state(visitor: Visitor, words: str) -> Locator:
    """Return what stands beside a message about its delivery."""
    return visitor.from_user(words).locator("[part~=state]")


def retry(visitor: Visitor, words: str) -> Locator:
    return visitor.from_user(words).get_by_role("button", name="Retry", exact=True)


async def drawing(visitor: Visitor, words: str) -> str:
    """Return the lines of the icon beside a message, once it is in sight."""
    icon = state(visitor, words).locator("svg")
    await expect(icon).to_be_visible()
    return str(await icon.locator("path").get_attribute("d"))


async def cid(visitor: Visitor) -> str:
    """Return the client's name for the only message there is."""
    script = "Object.values(localStorage).flatMap((kept) => JSON.parse(kept).entries)[0].key"
    return str(await visitor.page.evaluate(script))


async def refuse(_incoming: Incoming) -> int:
    return 422


async def be_busy(_incoming: Incoming) -> int:
    return 503


async def test_each_state_has_a_word_and_an_icon_of_its_own(
    concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    released = concierge.hold()

    await visitor.say("first")
    await expect(state(visitor, "first")).to_have_text("Sending")
    sending = await drawing(visitor, "first")
    released.set()
    await expect(state(visitor, "first")).to_have_text("Sent")
    sent = await drawing(visitor, "first")
    concierge.answer = refuse
    await visitor.say("second")
    await expect(state(visitor, "second")).to_have_text("Not sent")
    failed = await drawing(visitor, "second")

    assert len({sending, sent, failed}) == 3
    await expect(retry(visitor, "second")).to_be_visible()
    await expect(retry(visitor, "first")).to_have_count(0)
    await visitor.page.reload()
    await visitor.open()
    await expect(state(visitor, "first")).to_have_text("Sent")
    await expect(state(visitor, "second")).to_have_text("Not sent")
    await expect(retry(visitor, "second")).to_be_visible()


async def test_retry_of_what_the_concierge_refused_keeps_the_cid_so_it_is_not_posted_twice(
    concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    session = await visitor.session()
    concierge.answer = refuse
    await visitor.say("please")
    await expect(state(visitor, "please")).to_have_text("Not sent")
    name = await cid(visitor)
    concierge.answer = accept

    await retry(visitor, "please").click()
    await visitor.say("the end")  # behind it, so that the retry has been answered by then

    await expect(state(visitor, "the end")).to_have_text("Sent")
    refused, *again = of(session, concierge.received)
    assert bodies(again) == ["the end"]
    assert refused.header("Idempotency-Key") == f"{session}:{name}"
    await expect(state(visitor, "please")).to_have_text("Not sent")


async def test_what_failed_while_the_concierge_was_down_goes_once_and_in_order_by_retry(
    site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    async with (
        FakeConcierge().serving() as concierge,
        switchboard(concierge.url, IMPATIENT) as board,
    ):
        site.under_policy(board.url)
        site.embed(board.url)
        await visitor.visit(site.url)
        await visitor.open()
        await concierge.stop()
        for words in ("one", "two", "three"):
            await visitor.say(words)
            await expect(state(visitor, words)).to_have_text("Not sent")

        await concierge.start()
        await retry(visitor, "two").click()

        for words in ("one", "two", "three"):
            await expect(state(visitor, words)).to_have_text("Sent")
        await visitor.say("the end")
        await expect(state(visitor, "the end")).to_have_text("Sent")
        await expect(visitor.button("Retry")).to_have_count(0)
        assert bodies(concierge.received) == ["one", "two", "three", "the end"]


async def test_what_failed_is_neither_forgotten_nor_sent_by_a_reload_and_retry_keeps_its_key(
    site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    async with (
        FakeConcierge().serving() as concierge,
        switchboard(concierge.url, IMPATIENT) as board,
    ):
        site.under_policy(board.url)
        site.embed(board.url)
        await visitor.visit(site.url)
        await visitor.open()
        concierge.answer = be_busy
        await visitor.say("one")
        await expect(state(visitor, "one")).to_have_text("Not sent")
        name = f"{await visitor.session()}:{await cid(visitor)}"

        await visitor.page.reload()
        await visitor.open()
        concierge.answer = accept
        await visitor.say("two")
        await expect(state(visitor, "two")).to_have_text("Sent")
        await expect(state(visitor, "one")).to_have_text("Not sent")
        await retry(visitor, "one").click()

        await expect(state(visitor, "one")).to_have_text("Sent")
        tries = [each for each in concierge.received if each.content["Body"] == "one"]
        assert {each.header("Idempotency-Key") for each in tries} == {name}
        assert bodies(concierge.accepted) == ["two", "one"]


async def test_what_is_being_sent_at_a_reload_is_sent_once(
    concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    session = await visitor.session()
    released = concierge.hold()
    await visitor.say("one")
    await eventually(lambda: bool(of(session, concierge.received)))

    await visitor.page.reload()
    await visitor.open()
    await expect(state(visitor, "one")).to_have_text("Sending")
    await visitor.say("two")
    released.set()

    await expect(state(visitor, "one")).to_have_text("Sent")
    await expect(state(visitor, "two")).to_have_text("Sent")
    assert bodies(of(session, concierge.received)) == ["one", "two"]


async def test_what_waits_when_the_server_shuts_down_goes_by_itself_to_the_next_one(
    site: Site, arrive: Arrive
) -> None:
    words = ["one", "two", "three"]
    limits = Limits(retry_window=300)
    visitor = await arrive()
    await visitor.page.add_init_script(NOTE_CLOSES)
    with kept_port() as port:
        async with FakeConcierge().serving() as concierge:
            concierge.answer = be_busy
            async with switchboard(concierge.url, limits, SWITCHBOARD_PORT=str(port)) as board:
                site.under_policy(board.url)
                site.embed(board.url)
                await visitor.visit(site.url)
                await visitor.open()
                session = await visitor.session()
                for each in words:
                    await visitor.say(each)
                await concierge.has_received(1)
                await expect(state(visitor, "three")).to_have_text("Sending")
            concierge.answer = accept
            async with switchboard(concierge.url, limits, SWITCHBOARD_PORT=str(port)):
                await concierge.has_accepted(3)
                for each in words:
                    await expect(state(visitor, each)).to_have_text("Sent")

                assert bodies(concierge.accepted) == words
                assert {each.content["From"] for each in concierge.accepted} == {session}
                assert 1012 in await visitor.page.evaluate("closes")
