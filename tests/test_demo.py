"""The demo: a bot that shows every frame, and the Concierge around it."""

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from xml.etree import ElementTree as ET

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client import ClientWebSocketResponse
from dotenv import dotenv_values
from msgspec import json
from structlog.testing import capture_logs

from switchboard_operator import __version__, signatures
from switchboard_operator.demo import DemoConcierge, demo_variables
from switchboard_operator.demo import __main__ as demo_command
from switchboard_operator.demo.bot import SLOW, Bot, Reply
from switchboard_operator.settings import Settings
from switchboard_operator.signatures import SignedRequest
from tests.fakes import SECRET
from tests.redis_server import free_port
from tests.switchboards import (
    ROOT,
    SESSION,
    Switchboard,
    client_session,
    eventually,
    switchboard,
)

pytestmark = pytest.mark.slow  # the bot takes its time

INCOMING = "/incoming/postback"
PICTURE = "http://127.0.0.1:1/picture.svg"

MENU: Final[list[dict[str, Any]]] = [
    {"type": "payload", "text": "Show an image", "payload": {"demo": "image"}},
    {"type": "payload", "text": "Send an event", "payload": {"demo": "event"}},
    {"type": "payload", "text": "Take your time", "payload": {"demo": "slow"}},
    {
        "type": "url",
        "text": "What is a switchboard?",
        "url": "https://en.wikipedia.org/wiki/Telephone_switchboard",
        "name": "switchboard",
    },
]
IMAGE = {"body": "A switchboard", "type": "image"}
EVENT = {"body": "The bell rang.", "type": "event", "name": "bell", "payload": '{"rings":3}'}
LATE = {"body": "That took a while, and here it is."}
ROLLBACK = {"type": "rollback", "rollback_count": 1}


# The bot


def contents(replies: list[Reply]) -> list[dict[str, Any]]:
    return [reply.content for reply in replies]


def test_the_bot_echoes_and_offers_a_menu() -> None:
    replies = Bot(PICTURE).replies("a", "hello", None)

    assert contents(replies) == [
        {"body": "You said: hello"},
        {"body": "What next?", "type": "button", "buttons": MENU},
    ]


@pytest.mark.parametrize(
    ("word", "content"),
    [
        pytest.param("image", {**IMAGE, "media_url": PICTURE}, id="image"),
        pytest.param("event", EVENT, id="event"),
        pytest.param("slow", LATE, id="slow"),
    ],
)
def test_the_bot_shows_the_same_for_a_button_and_for_its_word(
    word: str, content: dict[str, Any]
) -> None:
    bot = Bot(PICTURE)

    pressed = bot.replies("a", "whatever the button says", {"demo": word})
    typed = bot.replies("a", f" {word.upper()}\n", None)

    assert contents(pressed) == [content]
    assert typed == pressed


def test_only_the_slow_answer_is_slow() -> None:
    bot = Bot(PICTURE)

    slow = bot.replies("a", None, {"demo": "slow"})
    others = [bot.replies("a", text, None) for text in ("hello", "image", "event")]

    assert [reply.delay for reply in slow] == [SLOW]
    assert max(reply.delay for reply in itertools.chain(*others)) < SLOW / 4


def test_the_bot_takes_back_the_latest_words_of_the_same_user() -> None:
    bot = Bot(PICTURE)
    for session, words in [("a", "first"), ("a", "second"), ("b", "somebody else's")]:
        bot.replies(session, words, None)

    forgotten = [contents(bot.replies("a", "Rollback Request", ROLLBACK)) for _ in range(3)]

    assert forgotten == [
        [{"body": "Forgotten: second"}],
        [{"body": "Forgotten: first"}],
        [{"body": "There is nothing to take back."}],
    ]


@pytest.mark.parametrize(
    "payload",
    [None, 1, "text", [], {}, {"demo": "unknown"}, {"demo": 1}, {"type": "other"}],
    ids=json.encode,
)
def test_the_bot_falls_back_to_the_words_for_a_payload_it_does_not_know(payload: Any) -> None:
    replies = Bot(PICTURE).replies("a", "hello", payload)

    assert contents(replies)[0] == {"body": "You said: hello"}


def test_the_bot_answers_who_said_nothing() -> None:
    assert contents(Bot(PICTURE).replies("a", None, None))[0] == {"body": "You said: "}


# The Concierge around it, over HTTP


class Recorder:
    """A switchboard that only notes what a Concierge posts, in `posted`."""

    def __init__(self) -> None:
        self.url = ""
        self.posted: list[SignedRequest] = []
        self._changed = asyncio.Condition()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator["Recorder"]:
        app = web.Application()
        app.router.add_post("/", self._note)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            yield self
        finally:
            await runner.cleanup()

    async def bodies(self, count: int, session: str = SESSION) -> list[str]:
        """Wait for *count* postbacks to *session*; return their texts."""

        def found() -> list[str]:
            contents = [json.decode(request.body) for request in self.posted]
            return [content["body"] for content in contents if content["to"] == session]

        async with self._changed:
            await self._changed.wait_for(lambda: len(found()) >= count)
        return found()

    async def _note(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = tuple(request.headers.items())
        async with self._changed:
            self.posted.append(SignedRequest(request.method, request.raw_path, headers, body))
            self._changed.notify_all()
        return web.Response(status=204)


class Caller:
    """Calls a demo's Concierge as a switchboard does."""

    def __init__(self, demo: DemoConcierge, client: aiohttp.ClientSession) -> None:
        self._demo = demo
        self._client = client

    async def post(self, body: bytes, **headers: str) -> int:
        """Post *body* with just these headers; return the status."""
        async with self._client.post(
            f"{self._demo.url}{INCOMING}", data=body, headers=headers
        ) as response:
            return response.status

    async def post_signed(self, body: bytes, secret: str | None = None) -> int:
        return await self.post(body, **self.signed(body, secret))

    async def say(self, message: str, session: str = SESSION) -> int:
        return await self.post_signed(json.encode({"Body": message, "From": session}))

    async def get(self, path: str) -> tuple[int, str, bytes]:
        async with self._client.get(f"{self._demo.url}{path}") as response:
            return response.status, response.content_type, await response.read()

    def signed(
        self, body: bytes, secret: str | None = None, age: timedelta = timedelta()
    ) -> dict[str, str]:
        now = datetime.now(UTC) - age
        secret = secret or self._demo.secret
        return signatures.sign("POST", INCOMING, "application/json", body, secret, now)


@pytest.fixture
async def demo() -> AsyncIterator[DemoConcierge]:
    async with DemoConcierge().serving() as running:
        yield running


@pytest.fixture
async def recorder(demo: DemoConcierge) -> AsyncIterator[Recorder]:
    async with Recorder().serving() as running:
        demo.answer_to(running.url)
        yield running


@pytest.fixture
async def caller(demo: DemoConcierge) -> AsyncIterator[Caller]:
    async with client_session() as client:
        yield Caller(demo, client)


BODY = json.encode({"Body": "hello", "From": SESSION})


async def test_an_unsigned_post_is_refused(caller: Caller, recorder: Recorder) -> None:
    assert await caller.post(BODY, **{"Content-Type": "application/json"}) == 401


async def test_a_post_signed_with_another_secret_is_refused(
    caller: Caller, recorder: Recorder
) -> None:
    assert await caller.post_signed(BODY, secret="somebody else's") == 401


async def test_a_post_whose_body_is_not_the_signed_one_is_refused(
    caller: Caller, recorder: Recorder
) -> None:
    assert await caller.post(BODY + b" ", **caller.signed(BODY)) == 401


async def test_a_post_signed_long_ago_is_refused(caller: Caller, recorder: Recorder) -> None:
    assert await caller.post(BODY, **caller.signed(BODY, age=timedelta(hours=1))) == 401


async def test_refused_posts_are_not_answered(caller: Caller, recorder: Recorder) -> None:
    await caller.post_signed(json.encode({"Body": "forged", "From": SESSION}), secret="another")
    await caller.say("mine")

    assert await recorder.bodies(2) == ["You said: mine", "What next?"]


async def test_messages_are_answered_in_their_order_by_signed_postbacks(
    caller: Caller, demo: DemoConcierge, recorder: Recorder
) -> None:
    statuses = [await caller.say(words) for words in ("one", "two", "three")]
    answers = await recorder.bodies(6)

    assert statuses == [204] * 3
    assert answers[::2] == ["You said: one", "You said: two", "You said: three"]
    assert answers[1::2] == ["What next?"] * 3
    for request in recorder.posted:
        signatures.verify(request, [demo.secret], datetime.now(UTC))
        assert json.decode(request.body)["from"] == "demo"


async def test_a_slow_answer_to_one_user_makes_no_other_wait(
    caller: Caller, recorder: Recorder
) -> None:
    await caller.say("slow", session="patient")
    await caller.say("hello", session="hasty")

    assert await recorder.bodies(2, session="hasty") == ["You said: hello", "What next?"]
    assert {json.decode(request.body)["to"] for request in recorder.posted} == {"hasty"}


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"not JSON",
        b"\xff",
        b"null",
        b"[]",
        b"{}",
        b'{"Body": "hello"}',
        b'{"From": null}',
        b'{"From": [], "Body": "hello"}',
        b'{"From": "a", "Body": 1}',
        b"[" * 100_000,
    ],
    ids=lambda body: repr(body[:30]),
)
async def test_a_signed_post_of_junk_is_refused_and_the_next_message_answered(
    caller: Caller, recorder: Recorder, junk: bytes
) -> None:
    status = await caller.post_signed(junk)
    await caller.say("still there")

    assert status == 400
    assert (await recorder.bodies(1))[0] == "You said: still there"


async def test_answers_go_on_when_a_switchboard_comes_back(
    caller: Caller, demo: DemoConcierge, recorder: Recorder
) -> None:
    demo.answer_to("http://127.0.0.1:1")
    with capture_logs() as logged:
        await caller.say("into the void", session="first")
        await eventually(lambda: len(logged) == 2)
    assert {line["event"] for line in logged} == {"demo postback failed"}

    demo.answer_to(recorder.url)
    await caller.say("hello", session="second")

    assert await recorder.bodies(2, session="second") == ["You said: hello", "What next?"]


async def test_the_end_does_not_wait_for_answers() -> None:
    async with DemoConcierge().serving() as demo, client_session() as client:
        assert await Caller(demo, client).say("slow") == 204
        began = asyncio.get_running_loop().time()

    assert asyncio.get_running_loop().time() - began < SLOW - 0.5


async def test_the_version_is_ours(caller: Caller) -> None:
    assert await caller.get("/version") == (200, "text/plain", f"demo {__version__}".encode())


async def test_the_picture_is_one(caller: Caller) -> None:
    status, content_type, content = await caller.get("/switchboard.svg")

    assert (status, content_type) == (200, "image/svg+xml")
    assert ET.fromstring(content).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own file


async def test_each_demo_has_secrets_of_its_own_and_stays_on_loopback(demo: DemoConcierge) -> None:
    first, second = demo_variables(demo), demo_variables(DemoConcierge())

    for secret in ("CONCIERGE_POSTBACK_SECRET_KEY", "SWITCHBOARD_SECRET_KEY"):
        assert len(first[secret]) >= 32
        assert first[secret] != second[secret]
    settings = Settings.read(first)
    assert settings.switchboard_host == "127.0.0.1"
    assert settings.concierge_url == demo.url


# The whole of it, by sockets


@pytest.fixture
async def whole(demo: DemoConcierge) -> AsyncIterator[Switchboard]:
    """A switchboard and the demo's Concierge, talking to each other."""
    more = {name: text for name, text in demo_variables(demo).items() if name != "CONCIERGE_URL"}
    async with switchboard(demo.url, None, **more) as running:
        demo.answer_to(running.url)
        yield running


async def receive(socket: ClientWebSocketResponse) -> Any:
    """Return the next frame, without the keys that every frame of the demo has."""
    frame = json.decode(await socket.receive_str())
    assert (frame.pop("to"), frame.pop("from")) == (SESSION, "demo")
    return frame


async def test_words_are_echoed_with_a_menu(whole: Switchboard) -> None:
    socket = await whole.connect()

    await socket.send_json({"message": "Grüß Gott 🐶"})

    assert await receive(socket) == {"body": "You said: Grüß Gott 🐶"}
    assert await receive(socket) == {"body": "What next?", "type": "button", "buttons": MENU}


async def test_a_button_is_answered_by_an_image_that_can_be_loaded(whole: Switchboard) -> None:
    socket = await whole.connect()

    await socket.send_json({"message": "Show an image", "payload": MENU[0]["payload"]})
    frame = await receive(socket)
    async with whole.client.get(frame.pop("media_url")) as picture:
        content_type = picture.content_type

    assert frame == IMAGE
    assert content_type == "image/svg+xml"


async def test_a_button_is_answered_by_an_event(whole: Switchboard) -> None:
    socket = await whole.connect()

    await socket.send_json({"message": "Send an event", "payload": MENU[1]["payload"]})

    assert await receive(socket) == EVENT


@pytest.mark.slow
async def test_a_button_is_answered_slowly(whole: Switchboard) -> None:
    socket = await whole.connect()
    began = asyncio.get_running_loop().time()

    await socket.send_json({"message": "Take your time", "payload": MENU[2]["payload"]})

    assert await receive(socket) == LATE
    assert asyncio.get_running_loop().time() - began >= SLOW - 0.1


async def test_an_answer_is_taken_back(whole: Switchboard) -> None:
    socket = await whole.connect()
    await socket.send_json({"message": "a mistake"})
    for _ in range(2):
        await receive(socket)

    await socket.send_json({"message": "Rollback Request", "payload": ROLLBACK})

    assert await receive(socket) == {"body": "Forgotten: a mistake"}


# The Concierge on its own


async def run_alone(environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "switchboard_operator.demo",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT / "tests",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_the_concierge_on_its_own_answers_the_switchboard_that_shares_its_secret() -> None:
    port = free_port()
    async with switchboard(f"http://127.0.0.1:{port}") as board:
        alone = await run_alone(
            {
                "CONCIERGE_POSTBACK_SECRET_KEY": f"{SECRET}, an older one",
                "DEMO_PORT": str(port),
                "DEMO_SWITCHBOARD_URL": board.url,
                "DEMO_PUBLIC_URL": "https://pictures.example",
            }
        )
        assert alone.stdout is not None
        assert await alone.stdout.readline() == b"Demo Concierge at http://127.0.0.1:%d\n" % port
        user = await board.connect()

        await user.send_json({"message": "image"})

        picture = await user.receive_json()
        assert picture["media_url"] == "https://pictures.example/switchboard.svg"
        await user.close()
        alone.terminate()
        assert await alone.wait() == 0


def test_the_concierge_on_its_own_goes_with_the_example_file() -> None:
    example = dotenv_values(ROOT / ".env.example", interpolate=False)

    assert (
        demo_command.DEFAULTS["CONCIERGE_POSTBACK_SECRET_KEY"]
        == (example["CONCIERGE_POSTBACK_SECRET_KEY"])
    )
    address = f"http://{demo_command.DEFAULTS['DEMO_HOST']}:{demo_command.DEFAULTS['DEMO_PORT']}"
    assert address == example["CONCIERGE_URL"]


@pytest.mark.parametrize(
    ("variable", "value"),
    [("DEMO_PORT", "http"), ("CONCIERGE_POSTBACK_SECRET_KEY", ","), ("DEMO_HOST", "192.0.2.1")],
)
async def test_the_concierge_on_its_own_says_in_a_line_why_it_can_not_start(
    variable: str, value: str
) -> None:
    alone = await run_alone({"DEMO_PORT": "0", variable: value})

    _, errors = await alone.communicate()

    assert alone.returncode == 1
    assert errors.decode().startswith("The demo's Concierge can't start: ")
    assert errors.count(b"\n") == 1
