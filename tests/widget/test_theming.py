"""How the widget looks: what a page may set or can't spoil, and what the reader's system sets."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import expect

from tests.switchboards import Switchboard
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

# What a page may set as --switchboard-NAME: to which value, and what becomes of that: the part, the
# property that is computed, its value.
VARIABLES = {
    "accent": ("rgb(1, 2, 3)", "header", "background-color", "rgb(1, 2, 3)"),
    "on-accent": ("rgb(1, 2, 4)", "header", "color", "rgb(1, 2, 4)"),
    "background": ("rgb(1, 2, 5)", "panel", "background-color", "rgb(1, 2, 5)"),
    "text": ("rgb(1, 2, 6)", "panel", "color", "rgb(1, 2, 6)"),
    "muted": ("rgb(1, 2, 7)", "state", "color", "rgb(1, 2, 7)"),
    "border": ("rgb(1, 2, 8)", "input", "border-top-color", "rgb(1, 2, 8)"),
    "bot-bubble": ("rgb(1, 2, 9)", "bot-bubble", "background-color", "rgb(1, 2, 9)"),
    "bot-text": ("rgb(1, 2, 10)", "bot-bubble", "color", "rgb(1, 2, 10)"),
    "user-bubble": ("rgb(1, 2, 11)", "user-bubble", "background-color", "rgb(1, 2, 11)"),
    "user-text": ("rgb(1, 2, 12)", "user-bubble", "color", "rgb(1, 2, 12)"),
    "danger": ("rgb(1, 2, 13)", "badge", "background-color", "rgb(1, 2, 13)"),
    "radius": ("3px", "panel", "border-top-left-radius", "3px"),
    "inset": ("31px", "launcher", "bottom", "31px"),
    "font": ("monospace", "log", "font-family", "monospace"),
    "font-size": ("19px", "log", "font-size", "19px"),
    "z-index": ("77", "launcher", "z-index", "77"),
    "width": ("333px", "panel", "width", "333px"),
    "height": ("444px", "panel", "height", "444px"),
}

PARTS = [
    *["root", "launcher", "badge", "panel", "header", "title", "close", "banner", "log"],
    *["bubble", "bot-bubble", "user-bubble", "state", "buttons", "button", "image", "typing"],
    *["undo", "composer", "input", "send", "empty"],
]

HOSTILE = """<style>
* {
  color: red !important; background: yellow !important; font: 40px/3 fantasy !important;
  display: inline !important; letter-spacing: 9px !important; text-transform: uppercase !important;
  text-align: end !important; text-decoration: underline !important; white-space: nowrap !important;
  border: 9px solid red !important; border-radius: 0 !important; box-shadow: none !important;
  margin: 30px !important; padding: 30px !important; width: 50px !important; height: 9px !important;
  min-width: 70px !important; max-width: 90px !important; opacity: .3 !important;
  visibility: hidden !important; pointer-events: none !important; cursor: help !important;
  float: left !important; position: static !important; overflow: hidden !important;
  box-sizing: content-box !important; transition: all 9s !important; animation: none !important;
  filter: blur(3px) !important; transform: scale(.5) !important; zoom: 2 !important;
  outline: 0 !important; list-style: square !important; user-select: none !important;
}
:root {
  --text: red; --accent: red; --background: red; --muted: red; --border: red; --danger: red;
  --on-accent: red; --radius: 99px; --inset: 99px; --view-height: 99px; --view-top: 99px;
}
switchboard-chat { color: red !important; font-size: 2px !important; display: none !important; }
button, textarea, li, p { all: unset !important; }
</style>"""
# The page around is not ours to save; the element's own ancestors stay as they are.
SPARED = "<style>html, body { all: revert !important }</style>"

# How every element in the widget is drawn, and where.
DRAWN = """(chat) => [...chat.shadowRoot.querySelectorAll("*")].map((each) => {
  const { x, y, width, height } = each.getBoundingClientRect();
  const style = getComputedStyle(each);
  const kept = ["color", "background-color", "font-size", "font-family", "line-height", "display",
    "visibility", "opacity", "letter-spacing", "text-transform", "text-align",
    "text-decoration-line",
    "white-space-collapse", "cursor", "pointer-events", "border-top-width", "border-top-color",
    "border-top-left-radius", "transition-duration", "filter", "zoom", "user-select"];
  const values = kept.map((name) => `${name}: ${style.getPropertyValue(name)}`);
  // Where the element itself is in the page's flow is the page's affair.
  const place = each.closest("[part~=panel], [part~=launcher]") ? [x, y, width, height] : [];
  return [each.outerHTML.slice(0, 60), place.map(Math.round).join(), ...values];
})"""


@pytest_asyncio.fixture(loop_scope="session")
async def lax(board: Switchboard) -> AsyncIterator[Site]:
    """A site that allows styles of its own."""
    async with Site().serving() as running:
        yield running


def styled(site: Site, board: Switchboard, style: str, path: str = "/", **attributes: str) -> None:
    site.embed(board.url, path=path, before=style, title="Ask us", **attributes)


async def talked(visitor: Visitor, board: Switchboard) -> None:
    """Have a conversation in which there is one of everything."""
    await visitor.open()
    await visitor.say("Hello")
    await expect(visitor.from_user()).to_contain_text("Sent")
    session = await visitor.session()
    buttons = [
        {"text": "Yes, please", "payload": 1},
        {"text": "Our teas", "type": "url", "url": "https://example.com/"},
    ]
    await board.postback({"to": session, "type": "button", "body": "Tea?", "buttons": buttons})
    image = {"type": "image", "media_url": "javascript:alert(1)", "body": "No picture"}
    await board.postback({"to": session, **image})
    await expect(visitor.from_bot()).to_have_count(2)


async def computed(visitor: Visitor, part: str, name: str) -> Any:
    """Return the value of a property at the first such part; None if there is no such part."""
    return await visitor.chat.evaluate(
        "(chat, [part, name]) => { const found = chat.shadowRoot.querySelector(`[part~=${part}]`);"
        " return found && getComputedStyle(found).getPropertyValue(name); }",
        [part, name],
    )


async def test_variables_and_parts_are_the_pages_to_set(
    board: Switchboard, lax: Site, arrive: Arrive
) -> None:
    variables = "".join(f"--switchboard-{name}: {to[0]};" for name, to in VARIABLES.items())
    parts = "".join(
        f"switchboard-chat::part({part}) {{ outline: 1px solid rgb(9, 9, {at});"
        f" text-indent: {at}px; }}"
        for at, part in enumerate(PARTS)
    )
    styled(lax, board, f"<style>switchboard-chat {{ {variables} }} {parts}</style>")
    visitor = await arrive(viewport={"width": 900, "height": 900})
    await visitor.visit(lax.url)
    await talked(visitor, board)

    found = {
        name: await computed(visitor, part, which)
        for name, (_, part, which, _) in VARIABLES.items()
    }
    assert found == {name: expected for name, (*_, expected) in VARIABLES.items()}
    assert len(found) >= 12

    # bubble is at the same element as bot-bubble and user-bubble, which come later.
    reached = {part: await computed(visitor, part, "outline-color") for part in PARTS}
    wanted = {part: f"rgb(9, 9, {at})" for at, part in enumerate(PARTS)}
    assert reached == wanted | {"bubble": wanted["user-bubble"]}
    assert len(reached) >= 8
    indent = await computed(visitor, "send", "text-indent")
    assert indent == f"{PARTS.index('send')}px"


async def test_hostile_stylesheet_changes_nothing(
    board: Switchboard, lax: Site, arrive: Arrive
) -> None:
    styled(lax, board, "", "/friend")
    styled(lax, board, HOSTILE + SPARED, "/foe")
    visitor = await arrive(viewport={"width": 900, "height": 700})
    await visitor.visit(f"{lax.url}/friend")
    await talked(visitor, board)
    drawn = {}
    for path in ["/friend", "/foe"]:
        for width in [900, 390]:
            await visitor.page.set_viewport_size({"width": width, "height": 700})
            await visitor.visit(f"{lax.url}{path}")
            await visitor.chat.evaluate("(chat) => chat.open()")
            await expect(visitor.composer).to_be_visible()
            await expect(visitor.from_bot()).to_have_count(2)
            await expect(visitor.live).to_be_empty()  # nothing is being read out any more
            drawn[path, width] = await visitor.chat.evaluate(DRAWN)

    for width in [900, 390]:
        friend, foe = drawn["/friend", width], drawn["/foe", width]
        assert len(friend) == len(foe) > 30
        changed = [
            (one[0], [pair for pair in zip(one[1:], other[1:], strict=True) if pair[0] != pair[1]])
            for one, other in zip(friend, foe, strict=True)
            if one[1:] != other[1:]
        ]
        assert not changed


async def test_hidden_hides_whatever_the_page_says(
    board: Switchboard, lax: Site, arrive: Arrive
) -> None:
    styled(lax, board, "<style>* { display: block !important }</style>")
    visitor = await arrive()
    await visitor.visit(lax.url)

    await expect(visitor.panel).to_be_hidden()
    await visitor.chat.evaluate("(chat) => { chat.hidden = true; }")
    await expect(visitor.launcher).to_be_hidden()


async def test_dark_follows_the_system_unless_the_theme_is_set(site: Site, arrive: Arrive) -> None:
    visitor = await arrive(color_scheme="light")
    await visitor.visit(site.url)
    await visitor.open()
    light, dark = "rgb(255, 255, 255)", "rgb(23, 26, 32)"
    # Scroll bars and the caret go by it, too.
    systems_own = {light: "rgb(255, 255, 255)", dark: "rgb(18, 18, 18)"}
    probe = (
        "(chat) => { const probe = document.createElement('i'); probe.style.background = 'Canvas';"
        " chat.shadowRoot.querySelector('[part~=panel]').append(probe);"
        " return getComputedStyle(probe).backgroundColor; }"
    )
    put = (
        "(chat, theme) => theme ? chat.setAttribute('theme', theme) : chat.removeAttribute('theme')"
    )

    for system, theme, background in [
        ("light", "", light),
        ("dark", "", dark),
        ("dark", "light", light),
        ("dark", "dark", dark),
        ("light", "dark", dark),
        ("light", "light", light),
    ]:
        await visitor.page.emulate_media(color_scheme=system)  # type: ignore[arg-type]
        await visitor.chat.evaluate(put, theme)
        assert await computed(visitor, "panel", "background-color") == background
        assert await visitor.chat.evaluate(probe) == systems_own[background]


async def test_nothing_moves_for_those_who_want_less_of_it(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive(reduced_motion="no-preference")
    await visitor.visit(site.url)
    await visitor.open()
    moving = (
        "(chat) => { chat.shadowRoot.querySelector('[part=typing]').hidden = false;"
        " return chat.shadowRoot.getAnimations().length; }"
    )
    assert await visitor.chat.evaluate(moving) > 0

    await visitor.page.emulate_media(reduced_motion="reduce")

    assert await visitor.chat.evaluate(moving) == 0
    still = (
        "(chat) => [...chat.shadowRoot.querySelectorAll('*')].map((each) => getComputedStyle(each))"
        ".every((style) => style.transitionDuration === '0s' && style.scrollBehavior === 'auto')"
    )
    assert await visitor.chat.evaluate(still)


async def test_forced_colours_leave_every_shape_visible(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive(forced_colors="active")
    await visitor.visit(site.url)
    await talked(visitor, board)

    # Backgrounds are all the same then: a border has to show where something begins and ends.
    bubbles = ["bot-bubble", "user-bubble", "image"]
    for part in [*bubbles, "panel", "launcher", "button", "input", "send", "banner", "composer"]:
        assert await computed(visitor, part, "border-top-style") == "solid", part
        width = await computed(visitor, part, "border-top-width")
        assert float(width.removesuffix("px")) >= 1, part
        edge = await computed(visitor, part, "border-top-color")
        assert edge != await computed(visitor, "panel", "background-color"), part
    dot = await visitor.chat.evaluate(
        "(chat) => getComputedStyle(chat.shadowRoot.querySelector('[part=typing] i'))"
        ".backgroundColor"
    )
    assert dot != await computed(visitor, "panel", "background-color")
