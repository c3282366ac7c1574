"""Whatever is said is text: no markup in it is parsed, and only safe addresses are links."""

import re
from typing import Any

import pytest
from playwright.async_api import Locator, expect

from tests.fakes import FakeConcierge
from tests.switchboards import Switchboard
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

MARKUP = [
    '<img src="/stolen" onerror="alert(1)">',
    "<script>alert(2)</script>",
    "</li></ol><svg onload=alert(3)><style>* { display: none }</style>",
    "\"' onmouseover=alert(4) x='\" &lt;b&gt; &amp; <!-- ${alert(5)} {{6*7}}",
]
UNSAFE = [
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "  javascript:alert(1)",
    "\x01javascript:alert(1)",
    "java\nscript:alert(1)",
    "javascript://example.com/%0Aalert(1)",
    "data:text/html,<script>alert(1)</script>",
    "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==",
    "vbscript:msgbox(1)",
    "file:///etc/passwd",
    "blob:null/1",
    "//example.com/",
    "not an address",
    "",
]


async def begun(visitor: Visitor, site: Site, concierge: FakeConcierge) -> str:
    """Open the chat and say hello; return the session."""
    await visitor.visit(site.url)
    await visitor.open()
    await visitor.say("hello")
    session = await visitor.session()
    await expect(visitor.from_user("hello")).to_contain_text("Sent")
    return session


async def addresses(within: Locator) -> list[str]:
    """Return where the links lead, as it is written in the page."""
    found: list[str] = await within.locator("a").evaluate_all(
        "links => links.map((link) => link.getAttribute('href'))"
    )
    return found


def button(kind: str, text: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "text": text, **more}


@pytest.mark.parametrize(
    "policy",
    [
        pytest.param(True, id="a strict policy, which it does not need"),
        pytest.param(False, id="no policy, which could save it"),
    ],
)
async def test_markup_is_shown_as_text_wherever_it_comes_from(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive, policy: bool
) -> None:
    markup = " ".join(MARKUP)
    escaped = markup.replace("&", "&amp;").replace('"', "&quot;")
    if not policy:
        site.headers.clear()
    site.embed(board.url, title=escaped)
    visitor = await arrive()
    session = await begun(visitor, site, concierge)
    image = {"type": "image", "media_url": f"{site.url}/missing.png", "body": markup}
    buttons = [
        button("payload", markup, payload=markup),
        button("url", markup, url="https://example.com/", name=markup),
    ]

    await visitor.say(markup)
    await board.postback(
        [
            {"to": session, "from": markup, "body": markup},
            {"to": session, "body": "Which?", "type": "button", "buttons": buttons},
            {"to": session, **image},
            {"to": session, "type": "event", "name": markup, "body": markup, "payload": markup},
            {"to": session, "type": markup, "body": {"html": markup}},
            {"to": session, "body": "the end"},
        ]
    )

    await expect(visitor.from_bot("the end")).to_be_visible()
    await expect(visitor.from_user().nth(1).locator("[part~=bubble]")).to_have_text(markup)
    await expect(visitor.from_bot().first.locator("[part~=bubble]")).to_have_text(markup)
    await expect(visitor.button(markup)).to_have_text(markup)
    await expect(visitor.from_bot("Which?").get_by_role("link")).to_contain_text(markup)
    await expect(visitor.chat.locator("[part=title]")).to_have_text(markup)
    await expect(visitor.log.locator("[part=note]")).to_have_text(markup)
    assert await visitor.panel.get_attribute("aria-label") == markup
    # Of all that was said, only the image is more than text; it can't be loaded, which says so.
    await expect(visitor.from_bot("The image could not be loaded.")).to_contain_text(markup)
    await expect(visitor.log.locator("img, script, style, svg:not([aria-hidden])")).to_have_count(0)
    assert "/stolen" not in site.loaded
    visitor.errors[:] = [error for error in visitor.errors if "404" not in error]  # of the image


async def test_an_images_words_are_its_alternative_text_whatever_they_hold(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    markup = " ".join(MARKUP)
    visitor = await arrive()
    session = await begun(visitor, site, concierge)
    media_url = f"{board.url}/widget/favicon.svg?a=1&b=2"

    await board.postback({"to": session, "type": "image", "media_url": media_url, "body": markup})

    image = visitor.log.locator("img")
    await expect(image).to_have_attribute("alt", markup)
    await expect(image).to_have_attribute("src", media_url)
    await expect(visitor.log.locator("script, style")).to_have_count(0)


async def test_addresses_in_what_is_said_are_links_to_just_these(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    said = {
        "See https://example.com/a.": ["https://example.com/a"],
        "(http://example.com/b), or “https://example.com/c”!": [
            "http://example.com/b",
            "https://example.com/c",
        ],
        "HTTPS://Example.com/D?": ["https://example.com/D"],
        "Ask mailto:tea@example.com?subject=Tea%20please; now": [
            "mailto:tea@example.com?subject=Tea%20please"
        ],
        "https://example.com/?a=1&b=2&amp=3&c[]=4;5,6#e=f&g": [
            "https://example.com/?a=1&b=2&amp=3&c[]=4;5,6#e=f&g"
        ],
        "https://example.com/first\nhttps://example.com/second": [
            "https://example.com/first",
            "https://example.com/second",
        ],
        '<https://example.com/h> and "https://example.com/i"': [
            "https://example.com/h",
            "https://example.com/i",
        ],
        "https:// http://, mailto: xhttps://example.com www.example.com a@example.com": [],
    }
    visitor = await arrive()
    session = await begun(visitor, site, concierge)

    await visitor.say(next(iter(said)))
    await board.postback([{"to": session, "body": text} for text in said])

    await expect(visitor.from_bot()).to_have_count(len(said))
    for number, (text, expected) in enumerate(said.items()):
        bubble = visitor.from_bot().nth(number).locator("[part~=bubble]")
        assert await bubble.evaluate("node => node.textContent") == text
        assert await addresses(bubble) == expected
    assert await addresses(visitor.from_user().nth(1)) == ["https://example.com/a"]
    for link in await visitor.log.locator("a").all():
        assert await link.get_attribute("rel") == "noopener noreferrer"
        assert await link.get_attribute("target") == "_blank"


async def test_a_link_opens_a_page_that_knows_nothing_of_this_one(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    site.pages["/tea"] = "<!doctype html><title>Tea</title>"
    visitor = await arrive()
    session = await begun(visitor, site, concierge)
    await board.postback({"to": session, "body": f"Look at {site.url}/tea?kind=Assam&cups=2."})

    async with visitor.context.expect_page() as opening:
        await visitor.from_bot().get_by_role("link").click()
    opened = await opening.value
    await opened.wait_for_load_state()

    assert opened.url == f"{site.url}/tea?kind=Assam&cups=2"
    assert await opened.evaluate("[opener, document.referrer]") == [None, ""]


async def test_an_unsafe_address_is_never_a_link_nor_an_image(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    session = await begun(visitor, site, concierge)
    buttons = [button("url", f"Read on {number}", url=url) for number, url in enumerate(UNSAFE)]
    no_text: list[Any] = [None, 1, {}, []]
    odd = [button("url", "Odd", url=url) for url in no_text]

    for url in UNSAFE:
        await visitor.page.evaluate(
            "text => document.querySelector('switchboard-chat').send(text)", f"Go to {url}"
        )
    await board.postback(
        [
            *({"to": session, "body": f"Go to {url} now"} for url in UNSAFE),
            *({"to": session, "type": "image", "media_url": url} for url in [*UNSAFE, *no_text]),
            {"to": session, "type": "button", "body": "Which?", "buttons": buttons},
            {"to": session, "type": "button", "body": "Odd?", "buttons": odd},
            {"to": session, "body": "the end"},
        ]
    )

    await expect(visitor.from_bot("the end")).to_be_visible()
    await expect(visitor.log.locator("img, [src]")).to_have_count(0)
    await expect(visitor.from_bot("The image could not be loaded.")).to_have_count(len(UNSAFE) + 4)
    await expect(visitor.log.locator("a")).to_have_count(0)
    await expect(visitor.from_bot("Which?").locator("[part~=button]")).to_have_text(
        [f"Read on {number}" for number in range(len(UNSAFE))]
    )
    for each in await visitor.from_bot(re.compile("Which")).locator("[part~=button]").all():
        await each.click()
    assert visitor.page.url == f"{site.url}/"
    assert len(visitor.context.pages) == 1
