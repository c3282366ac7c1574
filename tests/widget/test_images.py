"""Images: their space is kept, they load late, have words, and come from the web alone."""

import asyncio
import struct
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Self

import pytest
import pytest_asyncio
from aiohttp import web
from playwright.async_api import Locator, expect

from tests.switchboards import Switchboard, eventually
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

BROKEN = "The image could not be loaded."


def png(width: int, height: int) -> bytes:
    """Return a grey image."""

    def chunk(name: bytes, content: bytes) -> bytes:
        sum_of_it = zlib.crc32(name + content)
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", sum_of_it)

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    lines = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


class Gallery:
    """A server of images, `/WIDTHxHEIGHT.png`, once `released` is set; the rest is no image."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: dict[str, Any] = {}  # headers by path
        self.released = asyncio.Event()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        app = web.Application()
        app.router.add_get("/{name:.*}", self._image)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = "http://{}:{}".format(*runner.addresses[0][:2])
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _image(self, request: web.Request) -> web.Response:
        self.asked[request.path] = request.headers
        await self.released.wait()
        name, _, kind = request.path.strip("/").partition(".")
        if kind != "png":
            return web.Response(text="no image", content_type="image/png")
        width, height = name.split("x")
        return web.Response(body=png(int(width), int(height)), content_type="image/png")


@pytest_asyncio.fixture(loop_scope="session")
async def gallery() -> AsyncIterator[Gallery]:
    async with Gallery().serving() as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def visitor(site: Site, arrive: Arrive) -> Visitor:
    """Somebody with the panel open in a conversation."""
    visitor = await arrive()
    await talk(visitor, site)
    return visitor


async def talk(visitor: Visitor, site: Site) -> None:
    await visitor.visit(site.url)
    await visitor.open()
    await visitor.say("Show me")
    await visitor.session()


async def show(board: Switchboard, visitor: Visitor, *postbacks: dict[str, Any]) -> None:
    to = {"to": await visitor.session(), "from": "bot"}
    await board.postback([to | postback for postback in postbacks])


def image(url: Any, body: str = "") -> dict[str, Any]:
    return {"type": "image", "media_url": url, "body": body}


async def is_loaded(picture: Locator) -> bool:
    loaded: bool = await picture.evaluate("(image) => image.complete && image.naturalWidth > 0")
    return loaded


async def test_nothing_moves_when_images_come(
    board: Switchboard, site: Site, gallery: Gallery, arrive: Arrive
) -> None:
    visitor = await arrive(viewport={"width": 800, "height": 1600})  # where they are all in sight
    await talk(visitor, site)
    taller = "({ style }) => style.setProperty('--switchboard-height', '1400px')"
    await visitor.chat.evaluate(taller)
    sizes = ["1200x900", "300x900", "1000x200", "20x20"]
    await show(board, visitor, *[image(f"{gallery.url}/{size}.png", size) for size in sizes])
    rows, frames = visitor.from_bot(), visitor.log.locator("[part=image]")
    pictures = [frames.nth(at).locator("img") for at in range(len(sizes))]
    await eventually(lambda: len(gallery.asked) == len(sizes))
    before = [await rows.nth(at).bounding_box() for at in range(len(sizes))]

    gallery.released.set()
    for picture in pictures:
        await eventually(partial(is_loaded, picture))

    assert [await rows.nth(at).bounding_box() for at in range(len(sizes))] == before
    for at, picture in enumerate(pictures):
        drawn, frame = await picture.bounding_box(), await frames.nth(at).bounding_box()
        assert drawn is not None
        assert frame is not None
        assert frame["height"] >= 100
        assert drawn["width"] <= frame["width"]
        assert drawn["height"] <= frame["height"]
        width, height = map(int, sizes[at].split("x"))
        fit = await picture.evaluate("(image) => getComputedStyle(image).objectFit")
        in_shape = drawn["width"] / drawn["height"] == pytest.approx(width / height, rel=0.1)
        assert in_shape or fit in {"contain", "cover", "scale-down"}, sizes[at]


async def test_an_image_out_of_sight_is_loaded_when_it_comes_into_sight(
    board: Switchboard, site: Site, visitor: Visitor, gallery: Gallery
) -> None:
    gallery.released.set()
    await visitor.panel.press("Escape")
    text = {"body": "A long story. " * 200}
    first, last = image(f"{gallery.url}/1x1.png"), image(f"{gallery.url}/2x2.png")

    await show(board, visitor, first, *[text] * 8, last)
    await expect(visitor.launcher).to_have_accessible_name("Open chat, 10 unread messages")
    assert not gallery.asked
    await visitor.open()
    await eventually(lambda: is_loaded(visitor.log.locator("img").last))
    assert list(gallery.asked) == ["/2x2.png"]

    await visitor.log.evaluate("(log) => { log.scrollTop = 0; }")
    await eventually(lambda: "/1x1.png" in gallery.asked)


async def test_an_image_has_words_and_its_server_learns_nothing_of_the_page(
    board: Switchboard, visitor: Visitor, gallery: Gallery
) -> None:
    gallery.released.set()

    with_words, without = image(f"{gallery.url}/1x1.png", "A map"), image(f"{gallery.url}/2x2.png")
    await show(board, visitor, with_words, without)

    await expect(visitor.log.get_by_role("img", name="A map", exact=True)).to_be_visible()
    await expect(visitor.log.get_by_role("img", name="Image", exact=True)).to_be_visible()
    await eventually(lambda: len(gallery.asked) == 2)
    for headers in gallery.asked.values():
        assert "Referer" not in headers
        assert "Cookie" not in headers


async def test_an_image_that_is_none_is_replaced_by_words(
    board: Switchboard, visitor: Visitor, gallery: Gallery
) -> None:
    gallery.released.set()

    await show(board, visitor, image(f"{gallery.url}/broken.jpg", "A map"))

    frame = visitor.log.locator("[part=image]")
    await expect(frame).to_contain_text(BROKEN)
    await expect(frame).to_contain_text("A map")
    await expect(frame.locator("img")).to_have_count(0)


async def test_images_come_from_the_web_alone(board: Switchboard, visitor: Visitor) -> None:
    pixel = "data:image/png;base64,iVBORw0KGgo="
    svg = "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"
    urls = ["javascript:alert(1)", pixel, svg, "file:///etc/passwd", "blob:x", "/map.png", ""]
    nonsense: list[Any] = [None, 7, {}]
    before = len(visitor.requests)

    await show(
        board, visitor, *[image(url) for url in [*urls, *nonsense]], {"body": "That was all"}
    )

    await expect(visitor.from_bot("That was all")).to_be_visible()
    await expect(visitor.log.get_by_text(BROKEN)).to_have_count(10)
    await expect(visitor.log.locator("img")).to_have_count(0)
    assert {url.split(":")[0] for url in visitor.requests[before:]} <= {"ws"}  # its own, if late
