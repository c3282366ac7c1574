"""Remake the pictures of the widget in docs/screenshots: for people, no test compares them."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, expect

from tests.fakes import FakeConcierge
from tests.switchboards import ROOT, Switchboard, switchboard
from tests.widget.browser import Site, Visitor, chromium

FOLDER = ROOT / "docs/screenshots"
DESKTOP = {"width": 1000, "height": 720}
PHONE = {"width": 390, "height": 844}
PICTURE = ROOT / "switchboard_operator/demo/switchboard.svg"

# A page that means no widget well: each of these would reach it if its shadow tree let it.
HOSTILE = """<style>
  * { color: red !important; font: 8px/1 cursive !important; letter-spacing: 4px !important;
      background: yellow !important; text-transform: uppercase !important; direction: ltr; }
  button, textarea, div, section { display: inline !important; border: 5px dotted lime !important; }
</style>"""

WORDS = {
    "en": ("Do you have Assam?", "We do. Loose or in bags?", ("Loose", "In bags"), "Our shelf"),
    "ar": ("هل لديكم شاي أسام؟", "نعم. سائب أم في أكياس؟", ("سائب", "في أكياس"), "رفّنا"),
}
ARABIC = """<script>
  addEventListener("DOMContentLoaded", () => {
    document.querySelector("switchboard-chat").strings = {
      message: "رسالة", send: "إرسال", sent: "أُرسلت",
      undo: "تراجع عن إجابتي الأخيرة", close: "إغلاق",
    };
  });
</script>"""


@dataclass(frozen=True)
class Picture:
    """A picture to take: of which page, in which words, on which screen."""

    name: str
    words: str = "en"
    screen: dict[str, int] = field(default_factory=lambda: DESKTOP)
    colours: str = "light"
    before: str = ""
    direction: str = "ltr"


PICTURES = [
    Picture("desktop-light"),
    Picture("desktop-dark", colours="dark"),
    Picture("phone-light", screen=PHONE),
    Picture("phone-dark", screen=PHONE, colours="dark"),
    Picture("hostile-light", before=HOSTILE),
    Picture("hostile-dark", before=HOSTILE, colours="dark"),
    Picture("arabic", words="ar", before=ARABIC, direction="rtl"),
    Picture("arabic-phone", words="ar", before=ARABIC, direction="rtl", screen=PHONE),
]


async def take(picture: Picture, browser: Browser, site: Site, board: Switchboard) -> None:
    """Have a short conversation, and take the picture."""
    question, answer, choices, caption = WORDS[picture.words]
    site.embed(board.url, title="Tea", before=picture.before, dir=picture.direction)
    page = site.pages["/"]
    site.pages["/"] = page.replace("<html", f'<html dir="{picture.direction}"')
    options: dict[str, Any] = {"viewport": picture.screen, "color_scheme": picture.colours}
    visitor = await Visitor.arrive(browser, **options)
    await visitor.visit(site.url)
    await visitor.launcher.click()
    composer = visitor.panel.get_by_role("textbox")
    await composer.fill(question)
    await composer.press("Enter")
    session = await visitor.session()
    image = {"to": session, "body": caption, "type": "image", "media_url": f"{site.url}/shelf.svg"}
    buttons = [{"type": "payload", "text": text, "payload": text} for text in choices]
    await board.postback(image)
    await board.postback({"to": session, "body": answer, "type": "button", "buttons": buttons})
    await expect(visitor.from_bot(answer)).to_be_visible()
    await expect(visitor.from_user()).to_contain_text({"en": "Sent", "ar": "أُرسلت"}[picture.words])
    await visitor.page.evaluate("document.fonts.ready")
    await visitor.log.locator("img").evaluate("image => image.decode()")
    await visitor.page.screenshot(path=FOLDER / f"{picture.name}.png")
    await visitor.leave()


async def main() -> None:
    """Take all pictures, one after the other."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    async with (
        FakeConcierge().serving() as concierge,
        switchboard(concierge.url) as board,
        Site().serving() as site,
        chromium() as browser,
    ):
        site.files["/shelf.svg"] = (PICTURE.read_bytes(), "image/svg+xml")
        for picture in PICTURES:
            await take(picture, browser, site, board)
            print(FOLDER.relative_to(ROOT) / f"{picture.name}.png")


if __name__ == "__main__":
    asyncio.run(main())
