"""The index in a browser without scripts, on a phone and on a desk, and by ear."""

import pytest
from playwright.async_api import ViewportSize, expect

from tests.redis_server import free_port
from tests.switchboards import Switchboard, switchboard
from tests.widget.conftest import Arrive
from tests.widget.test_accessibility import AXE, RUN_AXE, TAGS

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

SCREENS = {
    "phone": ViewportSize(width=320, height=568),
    "desk": ViewportSize(width=1280, height=800),
}
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.mark.parametrize("screen", SCREENS)
async def test_the_index_can_be_read_without_scripts(
    board: Switchboard, arrive: Arrive, screen: str
) -> None:
    visitor = await arrive(viewport=SCREENS[screen], java_script_enabled=False)

    await visitor.page.goto(board.url)

    await expect(visitor.page.get_by_text("All is well.")).to_be_in_viewport()
    await expect(visitor.page.get_by_role("link", name="Open the chat")).to_be_in_viewport()
    assert await visitor.page.evaluate(OVERFLOW) == 0
    style = "getComputedStyle(document.querySelector('dl')).display"
    assert await visitor.page.evaluate(style) == "grid"  # the policy lets its own style in


async def test_the_index_fits_a_phone_also_when_neither_redis_nor_concierge_is_there(
    arrive: Arrive,
) -> None:
    visitor = await arrive(viewport=SCREENS["phone"], color_scheme="dark")
    nobody = f"127.0.0.1:{free_port()}"

    async with switchboard(f"http://{nobody}", None, REDISCLOUD_URL=f"redis://{nobody}") as amiss:
        await visitor.page.goto(amiss.url)

        await expect(visitor.page.get_by_text("Redis is missed.")).to_be_in_viewport()
        await expect(visitor.page.get_by_text("unavailable")).to_be_in_viewport()
        await expect(visitor.page.get_by_role("link", name="Open the chat")).to_be_in_viewport()
        assert await visitor.page.evaluate(OVERFLOW) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_wrong_with_the_index(
    board: Switchboard, arrive: Arrive, scheme: str
) -> None:
    visitor = await arrive(color_scheme=scheme)
    await visitor.page.goto(board.url)
    await visitor.page.evaluate(AXE.read_text())

    results = await visitor.page.evaluate(RUN_AXE, TAGS)

    assert results["wrong"] == []
    assert results["passes"] > 10
