"""The widget's words in the language of page and reader, and its shape in their direction."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Locator, expect

from tests.switchboards import Switchboard
from tests.widget.browser import Site
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

NAMES = {"en": "Open chat", "es": "Abrir el chat", "fr": "Ouvrir le chat"}

# Words that are the same as in English.
ALIKE = {("es", "title"), ("fr", "title"), ("fr", "log"), ("fr", "message"), ("fr", "image")}

READ_STRINGS = """async (url) => {
  const { english, stringsFor } = await import(`${url}/widget/strings.js`);
  return { en: english, es: await stringsFor(["es"]), fr: await stringsFor(["fr"]) };
}"""


@pytest_asyncio.fixture(loop_scope="session")
async def lax(board: Switchboard) -> AsyncIterator[Site]:
    """A site that allows scripts of its own."""
    async with Site().serving() as running:
        running.embed(board.url, title="Ask us")
        yield running


def page_in(site: Site, path: str, html: str, chat: str = "") -> str:
    """Give the site its first page once more, with attributes of <html> and of the element."""
    page = site.pages["/"].replace('<html lang="en">', f"<html {html}>")
    site.pages[path] = page.replace("<switchboard-chat ", f"<switchboard-chat {chat} ")
    return f"{site.url}{path}"


async def middle(of: Locator) -> float:
    box = await of.bounding_box()
    assert box
    return box["x"] + box["width"] / 2


def words(text: str) -> set[str]:
    return set(re.findall(r"\w{3,}", text.lower()))


async def test_every_word_is_translated(board: Switchboard, site: Site, arrive: Arrive) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)

    strings = await visitor.page.evaluate(READ_STRINGS, board.url)

    english = strings.pop("en")
    assert len(english) > 20
    for language, translated in strings.items():
        assert translated.keys() == english.keys()
        alike = {(language, key) for key, text in translated.items() if text == english[key]}
        assert alike == {pair for pair in ALIKE if pair[0] == language}
        for key, text in translated.items():
            assert text == text.strip() != ""
            assert text[-1:] in ".,:" or english[key][-1:] not in ".,:"


async def test_language_is_the_elements_or_the_pages_or_the_browsers(
    site: Site, arrive: Arrive
) -> None:
    expected: dict[tuple[str, str, str], str] = {}
    found, voices = {}, {}
    readers = {locale: await arrive(locale=locale) for locale in ["fr-CA", "de-DE"]}
    for locale, html, chat, language in [
        ("fr-CA", 'lang="en"', 'lang="es"', "es"),  # the element's own comes first
        ("fr-CA", 'lang="es-MX"', "", "es"),  # then the page's
        ("fr-CA", 'lang="en-GB"', "", "en"),
        ("fr-CA", "", "", "fr"),  # then the browser's
        ("fr-CA", 'lang="de"', "", "fr"),  # what isn't spoken is passed over
        ("de-DE", "", "", "en"),
    ]:
        visitor = readers[locale]
        key = (locale, html, chat)
        await visitor.visit(page_in(site, "/language", html, chat))
        expected[key] = language
        found[key] = await visitor.launcher.get_attribute("aria-label")
        # A screen reader takes its voice from the nearest `lang`.
        voice = await visitor.launcher.evaluate(
            "(each) => (each.closest('[lang]') ?? each.getRootNode().host.closest('[lang]'))?.lang"
        )
        voices[key] = (voice or "none")[:2]

    assert found == {key: NAMES[language] for key, language in expected.items()}
    assert voices == expected


async def test_language_changes_with_the_attribute_and_stays_whole(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    await visitor.say("Hola")
    await expect(visitor.from_user()).to_contain_text("Sent")
    strings = await visitor.page.evaluate(READ_STRINGS, board.url)
    english = words(" ".join(strings["en"].values())) - words(" ".join(strings["es"].values()))

    await visitor.chat.evaluate("(chat) => { chat.lang = 'es'; }")

    await expect(visitor.chat.locator("li.user")).to_contain_text("Enviado")
    box = visitor.panel.get_by_role("textbox", name="Mensaje")
    await expect(box).to_have_attribute("placeholder", "Mensaje")
    await expect(visitor.panel.get_by_role("log", name="Conversación")).to_be_visible()
    said: str = await visitor.chat.evaluate(
        "(chat) => [...chat.shadowRoot.querySelectorAll('*')].flatMap((each) =>"
        " [each.ariaLabel, each.placeholder, each.alt, ...[...each.childNodes]"
        ".filter((node) => node.nodeType === 3).map((node) => node.data)]).join(' ')"
    )
    assert "Enviado" in said
    assert not words(said) & (english - {"ask", "hola"})


async def test_words_are_the_pages_to_set(lax: Site, board: Switchboard, arrive: Arrive) -> None:
    visitor = await arrive()
    # Before the module is loaded, and where the rest stays as it is.
    script = (
        "<script>document.querySelector('switchboard-chat').strings"
        " = { open: 'Talk to us', empty: 'What can we do for you?' }</script>"
    )
    lax.embed(board.url, path="/early", after=script)
    await visitor.visit(f"{lax.url}/early")
    await expect(visitor.launcher).to_have_accessible_name("Talk to us")
    await visitor.open()
    await expect(visitor.panel).to_contain_text("What can we do for you?")
    await expect(visitor.button("Send")).to_be_visible()

    # By a script that makes the element, after the module.
    await visitor.page.evaluate(
        "() => { document.querySelector('switchboard-chat').remove();"
        " const made = document.createElement('switchboard-chat');"
        " made.strings = { open: 'Dites-nous', send: '<b>Allez</b>' };"
        f" made.src = ''; made.setAttribute('src', '{board.url}/'); made.lang = 'fr';"
        " document.body.append(made); }"
    )
    await expect(visitor.launcher).to_have_accessible_name("Dites-nous")
    await visitor.launcher.click()
    await expect(visitor.button("<b>Allez</b>")).to_be_visible()
    await expect(visitor.panel.get_by_role("textbox", name="Message")).to_be_visible()
    await expect(visitor.panel).to_contain_text("Dites bonjour")


async def test_each_message_has_its_own_direction(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    await visitor.say("שלום, world")
    await expect(visitor.from_user()).to_contain_text("Sent")
    session = await visitor.session()
    button: dict[str, Any] = {"text": "نعم", "payload": 1}
    asked = {"to": session, "type": "button", "body": "هل تريد الشاي؟", "buttons": [button]}
    await board.postback(asked)
    await board.postback({"to": session, "body": "Tea it is."})
    await expect(visitor.from_bot("Tea it is.")).to_be_visible()

    direction = "(each) => getComputedStyle(each).direction"
    given = {
        "rtl": [visitor.log.get_by_text("שלום"), visitor.log.get_by_text("هل تريد الشاي؟")],
        "ltr": [visitor.log.get_by_text("Tea it is."), visitor.log],
    }
    given["rtl"].append(visitor.button("نعم"))
    for expected, each in [(key, each) for key, found in given.items() for each in found]:
        assert await each.evaluate(direction) == expected
    await visitor.composer.fill("مرحبا")
    assert await visitor.composer.evaluate(direction) == "rtl"
    await visitor.composer.fill("Hello")
    assert await visitor.composer.evaluate(direction) == "ltr"


async def test_mirrored_where_one_reads_from_right_to_left(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive(viewport={"width": 900, "height": 700})
    await visitor.visit(page_in(site, "/rtl", 'lang="en" dir="rtl"'))
    await visitor.open()
    await visitor.say("שלום")
    await expect(visitor.from_user()).to_contain_text("Sent")
    await board.postback({"to": await visitor.session(), "body": "Hello"})
    await expect(visitor.from_bot("Hello")).to_be_visible()

    for page, element, mirrored in [("rtl", "", True), ("ltr", "", False), ("ltr", "rtl", True)]:
        await visitor.page.evaluate("(dir) => { document.dir = dir; }", page)
        await visitor.chat.evaluate("(chat, dir) => { chat.dir = dir; }", element)
        panel = await middle(visitor.panel)
        sides = {
            "panel": panel - 450,
            "launcher": await middle(visitor.launcher) - 450,
            "user": await middle(visitor.from_user().locator("[part~=bubble]")) - panel,
            "bot": panel - await middle(visitor.from_bot().locator("[part~=bubble]")),
            "send": await middle(visitor.button("Send")) - panel,
            "close": await middle(visitor.panel.get_by_role("button", name="Close chat")) - panel,
        }
        assert {name for name, offset in sides.items() if offset < 0} == (
            set(sides) if mirrored else set()
        )
