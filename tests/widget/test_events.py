"""What a bot does besides talking, typing and events, and an answer that is taken back."""

import asyncio
import json
import time
from typing import Any

import pytest
from playwright.async_api import Locator, WebSocket, WebSocketRoute, expect

from tests.fakes import FakeConcierge
from tests.switchboards import Switchboard, eventually
from tests.widget.browser import Site, Visitor
from tests.widget.conftest import Arrive

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.browser, pytest.mark.slow]

UNDO = "Undo my last answer"


def typing(visitor: Visitor) -> Locator:
    return visitor.panel.locator("[part=typing]")


async def exchange(visitor: Visitor, board: Switchboard, words: str) -> None:
    """Say *words*, and get an answer to them."""
    await visitor.say(words)
    await expect(visitor.from_user(words)).to_contain_text("Sent")
    await board.postback({"to": await visitor.session(), "body": f"I heard: {words}"})
    await expect(visitor.from_bot(f"I heard: {words}")).to_be_visible()


async def struck(visitor: Visitor) -> list[str]:
    """Return the words of those bubbles that are struck through on the screen."""
    script = """(bubbles) => bubbles
      .filter((each) => getComputedStyle(each).textDecorationLine === "line-through")
      .map((each) => each.textContent)"""
    found: list[str] = await visitor.log.locator("[part~=bubble]").evaluate_all(script)
    return found


def said(concierge: FakeConcierge, session: str) -> list[str]:
    """Return the bodies of what the Concierge has got of *session*."""
    bodies = [each.body.decode() for each in concierge.received]
    return [body for body in bodies if f'"From":"{session}"' in body]


# Typing


async def test_typing_ends_with_the_next_message(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    await expect(typing(visitor)).to_be_hidden()

    await visitor.say("Are you there?")
    await expect(typing(visitor)).to_be_visible()
    await expect(typing(visitor)).to_have_text("Typing")
    await expect(typing(visitor).locator("i")).to_have_count(3)
    await board.postback({"to": await visitor.session(), "body": "I am"})

    await expect(visitor.from_bot("I am")).to_be_visible()
    await expect(typing(visitor)).to_be_hidden(timeout=5_000)  # far sooner than its own time


async def test_typing_ends_after_its_time(site: Site, arrive: Arrive) -> None:
    lines: list[WebSocketRoute] = []

    def tap(line: WebSocketRoute) -> None:
        line.connect_to_server()
        lines.append(line)

    visitor = await arrive()
    await visitor.page.route_web_socket("**", tap)
    await visitor.visit(site.url)
    await visitor.open()
    await eventually(lambda: len(lines) == 2)  # a new conversation greets twice

    began = time.monotonic()
    lines[1].send('{"type":"typing","ms":3000}')
    await expect(typing(visitor)).to_be_visible()
    await asyncio.sleep(1.5)  # the next one comes while the dots are there, and counts anew
    lines[1].send('{"type":"typing","ms":3000}')

    await expect(typing(visitor)).to_be_hidden()
    assert time.monotonic() - began >= 4.4


# Events


async def test_an_event_is_fired_on_the_element_and_shown_only_if_it_has_text(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.chat.evaluate(
        """(chat) => {
          window.fired = [];
          chat.addEventListener("switchboard:event", ({ target, detail }) => {
            fired.push([target === chat, detail]);
          });
        }"""
    )
    await visitor.open()
    session = await visitor.session()
    silent: dict[str, Any] = {"to": session, "from": "bot", "type": "event"}

    await board.postback({**silent, "name": "bell", "payload": '{"rings":3}'})
    await board.postback({**silent, "name": "door", "payload": {"open": [True, None]}})
    await board.postback({**silent, "name": "gong", "payload": "at noon", "body": "It is noon."})

    await expect(visitor.log.locator("[part=note]")).to_have_text("It is noon.")
    await expect(visitor.log.locator("li")).to_have_count(1)
    await expect(visitor.log.locator("[part~=bubble]")).to_have_count(0)
    assert await visitor.page.evaluate("fired") == [
        [True, {"name": "bell", "payload": {"rings": 3}}],
        [True, {"name": "door", "payload": {"open": [True, None]}}],
        [True, {"name": "gong", "payload": "at noon"}],
    ]


async def test_the_page_gets_the_numbers_of_an_event_as_numbers(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.chat.evaluate(
        """(chat) => {
          window.sums = [];
          chat.addEventListener("switchboard:event", ({ detail: { payload } }) => {
            sums.push(payload.price + 1);
          });
        }"""
    )
    await visitor.open()
    head = f'{{"to":"{await visitor.session()}","type":"event","name":"sale","payload":'

    await board.postback(f'{head}{{"price":1.0}}}}'.encode())
    await board.postback(f'{head}"{{\\"price\\":2.50}}"}}'.encode())
    await visitor.hears("event", 2)

    assert await visitor.page.evaluate("sums") == [2, 3.5]


async def test_an_event_is_not_fired_again_after_a_reload(
    board: Switchboard, site: Site, arrive: Arrive
) -> None:
    visitor = await arrive()
    await visitor.visit(site.url)
    await visitor.open()
    event = {"to": await visitor.session(), "type": "event"}
    await board.postback({**event, "name": "bell"})
    await board.postback({**event, "name": "gong", "body": "It is noon."})
    await visitor.hears("event", 2)

    await visitor.page.reload()
    await visitor.open()
    await board.postback({**event, "name": "whistle"})

    heard = await visitor.hears("event")
    assert [each["name"] for each in heard] == ["whistle"]
    await expect(visitor.log.locator("[part=note]")).to_have_text("It is noon.")


# Taking an answer back


async def test_undo_takes_back_the_last_answer_and_what_it_led_to(
    board: Switchboard, concierge: FakeConcierge, site: Site, arrive: Arrive
) -> None:
    sent: list[dict[str, Any]] = []

    def watch(socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: sent.append(json.loads(frame)))

    visitor = await arrive()
    visitor.page.on("websocket", watch)
    await visitor.visit(site.url)
    await visitor.open()
    await expect(visitor.button(UNDO)).to_be_hidden()
    session = await visitor.session()
    await exchange(visitor, board, "tea")
    await exchange(visitor, board, "milk")

    await visitor.button(UNDO).click()
    await expect(visitor.live).to_contain_text("Taken back")
    await eventually(lambda: sent[-1].get("message") == "Rollback Request")
    rollback = {key: value for key, value in sent[-1].items() if key not in {"type", "cid"}}

    assert json.dumps(rollback, separators=(",", ":")) == (
        '{"message":"Rollback Request","payload":{"type":"rollback","rollback_count":1}}'
    )
    await eventually(lambda: len(said(concierge, session)) == 3)
    assert said(concierge, session)[-1] == (
        '{"Body":"Rollback Request","From":"' + session + '",'
        '"Payload":{"type":"rollback","rollback_count":1}}'
    )
    assert await struck(visitor) == ["milk", "I heard: milk"]
    await expect(visitor.from_user("milk")).to_contain_text("Taken back")
    await expect(visitor.from_user("tea")).not_to_contain_text("Taken back")
    await expect(visitor.log.get_by_text("Rollback Request")).to_have_count(0)

    await visitor.page.reload()
    await visitor.open()
    assert await struck(visitor) == ["milk", "I heard: milk"]
    await visitor.button(UNDO).click()  # now it is the one before
    await eventually(lambda: len(said(concierge, session)) == 4)
    assert await struck(visitor) == ["tea", "I heard: tea", "milk", "I heard: milk"]
    await expect(visitor.button(UNDO)).to_be_hidden()
    await exchange(visitor, board, "coffee")
    assert await struck(visitor) == ["tea", "I heard: tea", "milk", "I heard: milk"]
