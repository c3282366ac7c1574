"""A lost line is missed at once, and comes back by itself unless it is not wanted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
import pytest_asyncio
from playwright.async_api import WebSocket, expect

from switchboard_operator.connection import Connection
from switchboard_operator.limits import Limits
from switchboard_operator.web import keys
from tests.fakes import FakeConcierge
from tests.fault_proxy import NO_FAULTS, FaultProxy
from tests.proxy import Proxy
from tests.redis_server import free_port
from tests.switchboards import Switchboard, eventually, switchboard
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

HEARTBEAT = 4.0  # seconds, of which a busy machine may take some
SLACK = 10  # seconds that a busy machine may take for what is done at once
RESTARTING, ROUTER_RESTARTING = 1012, 1001

BANNER_SHOWN = """
() => !document.querySelector("switchboard-chat").shadowRoot.querySelector("[part=banner]").hidden
"""
VISIBILITY = """
(state) => {
  Object.defineProperty(document, "visibilityState", { value: state, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}
"""

Connected = Callable[..., Awaitable[Visitor]]


def now() -> float:
    return asyncio.get_running_loop().time()


def lines(visitor: Visitor) -> int:
    """Return how many sockets the page has opened so far."""
    return sum(url.startswith("ws") for url in visitor.requests)


def connections(board: Switchboard) -> list[Connection]:
    assert board.app is not None
    table = board.app[keys.CONNECTIONS]
    return list(table)


async def line_of(board: Switchboard) -> Connection:
    """Wait until there is one connection; return it."""
    await eventually(lambda: len(connections(board)) == 1)
    return connections(board)[0]


def port_of(board: Switchboard) -> int:
    return int(board.url.rpartition(":")[2])


@asynccontextmanager
async def site_of(board: Switchboard, by_way_of: int) -> AsyncIterator[Site]:
    """Run a site whose widget reaches *board* through another port."""
    async with Site().serving() as site:
        site.embed(board.url, src=f"ws://127.0.0.1:{by_way_of}/")
        yield site


@pytest_asyncio.fixture(loop_scope="session")
async def connected(site: Site, arrive: Arrive) -> Connected:
    """Bring visitors whose chat is open and connected, and to whom chance deals the same *luck*."""

    async def come(at: Site = site, luck: float | None = None) -> Visitor:
        visitor = await arrive()
        if luck is not None:
            await visitor.page.add_init_script(f"Math.random = () => {luck};")
        await visitor.visit(at.url)
        await visitor.open()
        await visitor.say("hello")
        await expect(visitor.from_user("hello")).to_contain_text("Sent")
        return visitor

    return come


@pytest.mark.parametrize("luck", [0.1, 0.45, 0.99])
async def test_a_lost_line_is_told_within_a_second_whenever_the_tries_to_come_back_fail(
    board: Switchboard, connected: Connected, luck: float
) -> None:
    target = port_of(board)
    async with (
        FaultProxy(lambda: target, NO_FAULTS, Random(1)).serving() as proxy,
        site_of(board, proxy.port) as site,
    ):
        visitor = await connected(site, luck)

        async def is_told_in_time() -> bool:
            nonlocal target
            line = await line_of(board)
            await expect(visitor.banner).to_be_hidden()

            target = free_port()
            lost = now()
            line.abort()
            await visitor.page.wait_for_function(BANNER_SHOWN)
            told = now()
            await expect(visitor.banner).to_contain_text("No connection.")
            await expect(visitor.live).to_contain_text("No connection.")
            target = port_of(board)
            await visitor.page.evaluate("dispatchEvent(new Event('online'))")

            await expect(visitor.banner).to_be_hidden()
            await expect(visitor.live).to_contain_text("Connected again.")
            return told - lost < 1.0

        await eventually(is_told_in_time)  # as often as it takes where others keep it from that
        await visitor.leave()


@pytest.mark.parametrize(
    ("code", "luck"),
    [
        pytest.param(RESTARTING, 0.9, id="1012"),
        pytest.param(ROUTER_RESTARTING, 0.6, id="1001"),
    ],
)
async def test_after_a_restart_it_comes_back_within_the_window_that_the_hello_gave(
    concierge: FakeConcierge, connected: Connected, code: int, luck: float
) -> None:
    window = 1.2
    limits = Limits(retry_window=round(window * 1000))
    async with (
        switchboard(concierge.url, limits) as board,
        site_of(board, port_of(board)) as site,
    ):
        visitor = await connected(site, luck)
        line = await line_of(board)
        before = lines(visitor)

        closed = now()
        line.close(code)
        await eventually(lambda: lines(visitor) > before)
        back = now()

        # A back-off would be over after half of that.
        assert luck * window <= back - closed < luck * window + SLACK
        await visitor.say("again")
        await expect(visitor.from_user("again")).to_contain_text("Sent")
        await visitor.leave()


async def test_it_comes_back_at_once_when_the_browser_is_online_or_its_tab_is_looked_at(
    concierge: FakeConcierge, connected: Connected
) -> None:
    async with (
        switchboard(concierge.url, Limits(retry_window=60_000)) as board,
        site_of(board, port_of(board)) as site,
    ):
        visitor = await connected(site, luck=0.9)
        first = await line_of(board)
        before = lines(visitor)
        await visitor.context.set_offline(True)
        first.close(RESTARTING)
        await eventually(lambda: not connections(board))

        online = now()
        await visitor.context.set_offline(False)
        await eventually(lambda: len(connections(board)) == 1)
        assert now() - online < SLACK

        second = await line_of(board)
        await visitor.page.evaluate(VISIBILITY, "hidden")
        await visitor.say("again")
        await expect(visitor.from_user("again")).to_contain_text("Sent")
        second.close(RESTARTING)
        await eventually(lambda: not connections(board))

        looked_at = now()
        await visitor.page.evaluate(VISIBILITY, "visible")
        await eventually(lambda: len(connections(board)) == 1)
        assert now() - looked_at < SLACK
        await eventually(lambda: lines(visitor) == before + 2)
        await visitor.leave()


async def test_a_line_on_which_heartbeats_stay_out_is_given_up_and_one_with_them_is_not(
    concierge: FakeConcierge, arrive: Arrive
) -> None:
    async with (
        switchboard(concierge.url, Limits(heartbeat=HEARTBEAT)) as board,
        Proxy(port_of(board)).serving() as proxy,
        site_of(board, proxy.port) as site,
    ):
        heartbeats = 0

        def note(frame: str | bytes) -> None:
            nonlocal heartbeats
            heartbeats += frame == '{"type":"heartbeat"}'

        def watch(line: WebSocket) -> None:
            line.on("framereceived", note)

        visitor = await arrive()
        visitor.page.on("websocket", watch)
        await visitor.context.add_init_script("Math.random = () => 0;")
        await visitor.visit(site.url)
        await visitor.open()
        session = await visitor.session()
        await visitor.say("hello")
        await expect(visitor.from_user("hello")).to_contain_text("Sent")
        before = lines(visitor)
        await eventually(lambda: heartbeats >= 2)
        assert lines(visitor) == before

        silent = now()
        proxy.silence()
        await board.postback({"to": session, "body": "Are you there?"})
        await visitor.say("Hello?")
        await eventually(lambda: lines(visitor) > before)
        given_up = now()
        proxy.restore()

        await expect(visitor.from_bot("Are you there?")).to_have_count(1)
        await expect(visitor.from_user("Hello?")).to_contain_text("Sent")
        assert given_up - silent < 1.4 * HEARTBEAT + SLACK
        said = [post.content["Body"] for post in concierge.received]
        assert said.count("Hello?") == 1
        await visitor.leave()


async def test_a_page_whose_place_another_one_took_says_so_and_stays_away(
    concierge: FakeConcierge, connected: Connected
) -> None:
    async with (
        switchboard(concierge.url, Limits(sockets_per_session=1)) as board,
        site_of(board, port_of(board)) as site,
    ):
        first = await connected(site, luck=0.0)  # it would come back at once
        before = lines(first)
        second = await Visitor.in_tab(first.context)

        await second.visit(site.url)
        await second.open()

        await expect(first.banner).to_contain_text("This chat goes on in another window.")
        await second.say("It goes on here.")
        await expect(second.from_user("It goes on here.")).to_contain_text("Sent")
        await expect(second.banner).to_be_hidden()
        assert (lines(first), lines(second)) == (before, 1)
        await first.say("Here again.")
        await expect(second.banner).to_contain_text("This chat goes on in another window.")
        await expect(first.banner).to_be_hidden()
        await expect(first.from_user("Here again.")).to_contain_text("Sent")
        assert (lines(first), lines(second)) == (before + 1, 1)
        await first.leave()
    assert not second.errors
