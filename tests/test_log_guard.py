"""The guard of the log: it finds what is for no log, whoever logs it and however it is written."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest
from msgspec import json

from tests.log_guard import Passed, leaks, marks, of_body
from tests.switchboards import ROOT, SESSION


def passed(**noted: object) -> Passed:
    """Return what has passed: method and argument."""
    made = Passed()
    for name, what in noted.items():
        getattr(made, name)(what)
    return made


TOKEN = "gAAAAABk-of-a-user-who-resumes"
FRAMES = {
    "a message": ('{"message":"I am ill"}', "I am ill"),
    "a value in a payload": ('{"payload":{"a":[{"token":"hunter2"}]}}', "hunter2"),
    "a number in a payload": ('{"payload":{"card":4111111111111111}}', "4111111111111111"),
    "a session": (f'{{"to":"{SESSION}","body":"x"}}', SESSION),
    "a token in a hello": (f'{{"type":"hello","token":"{TOKEN}"}}', TOKEN),
    "what is no JSON": ('{"message":"I am very ill', "I am very ill"),
    "quotes": (r'{"message":"he said: \"I am ill\""}', json.encode('he said: "I am ill"').decode()),
    "letters": ('{"message":"été à Paris"}', "été à Paris"),
    "letters, escaped": ('{"message":"été à Paris, 6e"}', ascii("été à Paris, 6e")),
    "the beginning": ('{"message":"I am ill, and that is a secret"}', "I am ill, and that is a …"),
}


@pytest.mark.parametrize("name", FRAMES)
def test_what_was_said_is_found_in_a_line(name: str) -> None:
    frame, logged = FRAMES[name]

    [(_, line)] = leaks(["event=well", f"event=odd said={logged}"], of_body(frame))

    assert line == f"event=odd said={logged}"


HEADS = {
    "a query": ("/?session=my-name", "GET /?session=my-name"),
    "a session in a query": ("/?session=my%20name", "session=my name"),
    "a session in a path": ("/sessions/my%40name", "my@name"),
}


@pytest.mark.parametrize("name", HEADS)
def test_what_an_url_says_is_found_in_a_line(name: str) -> None:
    url, logged = HEADS[name]

    assert leaks([logged], passed(request=url).private())


CREDENTIALS = {
    "a bearer token": b"Authorization: Bearer hunter2",
    "a signature": b"Authorization: APIAuth-HMAC-SHA256 switchboard:hunter2==",
    "a cookie": b"Cookie: other=x; switchboard_session=hunter2",
    "a cookie that can't be read": b"Cookie: ;;hunter2",
}


@pytest.mark.parametrize("name", CREDENTIALS)
def test_credentials_of_a_request_by_hand_are_found_in_a_line(name: str) -> None:
    request = b"GET / HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % CREDENTIALS[name]

    assert leaks(["token=hunter2=="], passed(raw=request).private())


def test_a_cookie_that_is_set_is_found_in_a_line() -> None:
    answer = b"HTTP/1.1 101 Switching\r\nSet-Cookie: a=hunter2; Path=/\r\n\r\n"

    assert leaks(["hunter2"], passed(raw=answer).private())


SECRETS = {
    "SWITCHBOARD_SECRET_KEY": "the newest, hunter2",
    "METRICS_TOKEN": "hunter2",
    "REDISCLOUD_URL": "redis://somebody:hunter2@127.0.0.1:6379",
    "SENTRY_DSN": "https://hunter2@sentry.example/1",
}


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_that_was_configured_is_found_in_a_line(name: str) -> None:
    private = passed(variables={name: SECRETS[name]}).private()

    assert leaks(["key=hunter2"], private)
    assert not leaks(["listening on 127.0.0.1:6379 for sentry.example"], private)


@pytest.mark.parametrize(
    "data", [b"HTTP/1.1", b"HTTP/1.1 \r\n", b"GET HTTP/1.1", b"{HTTP/1.1", b""]
)
def test_what_only_looks_like_http_does_no_harm(data: bytes) -> None:
    assert passed(raw=data).private() == set()


def test_of_what_came_before_a_test_the_secrets_count_and_of_the_test_nothing_stays() -> None:
    noted = passed(variables=SECRETS)
    noted.begin()
    noted.variables({"METRICS_TOKEN": "of this test"})
    noted.body('{"body":"a body"}')
    noted.request("/?a=a-query")

    noted.clear()

    assert leaks(["hunter2"], noted.private())
    assert not leaks(["a body a=a-query of this test"], noted.private())


def test_what_lines_may_hold_is_not_taken_for_a_leak() -> None:
    private = of_body('{"type":"message","cid":"the-first","message":"hi","payload":1234}')
    private |= passed(request="/?session=a").private()

    lines = ["user message not delivered request_id=the-first session=abcdef n=1234 this"]
    assert private == set()
    assert leaks(lines, private) == []


def test_what_is_short_or_on_every_line_is_not_looked_for() -> None:
    assert list(marks("short")) == []
    assert list(marks("message")) == []
    assert list(marks("longer")) == ["longer"]


# In the harness: a server that logs what it gets, and a process that prints its key

PLANTED = """
import json, sys, aiohttp, pytest, structlog
from aiohttp import web
from tests.fakes import FakeConcierge
from tests.raw import TEXT, RawWebSocket
from tests.switchboards import Switchboard, client_session, switchboard_process, variables
from tests.v1_client import V1Client
import logging

@pytest.fixture
async def leaky(request, caplog):
    what = request.param
    caplog.set_level(logging.DEBUG)
    log = logging.getLogger("leaky")

    async def handle(request):
        body = await request.read()
        seen = {"query": request.path_qs, "body": body, "quiet": "", "trace": "",
                "auth": request.headers.get("Authorization"), "cookie": request.cookies}
        log.debug("got %s", seen.get(what))
        if what == "trace":
            try:
                raise ValueError(body)
            except ValueError:
                log.exception("bug")
        if request.headers.get("Upgrade") != "websocket":
            return web.Response()
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        await ws.send_str(json.dumps({"type": "hello", "token": "hunter2-token"}))
        async for message in ws:
            log.debug("said %s", message.data if what == "frame" else "")
        if what == "token":
            log.debug("issued %s", "hunter2-token")
        return ws

    app = web.Application()
    app.router.add_route("*", "/", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with client_session() as client:
        yield Switchboard("http://127.0.0.1:%d" % runner.addresses[0][1], client)
    await runner.cleanup()

WHAT = ["quiet", "query", "body", "trace", "auth", "cookie", "frame", "token"]

@pytest.mark.parametrize("leaky", WHAT, indirect=True)
async def test_http(leaky):
    await leaky.postback({"to": "a-session-id", "body": "hunter2"}, params={"a": "hunter2"},
                         headers={"Cookie": "a=hunter2"})

@pytest.mark.parametrize("leaky", WHAT, indirect=True)
async def test_socket(leaky):
    client = await V1Client.opened(leaky)
    await client.say("1", "hunter2")
    await client.close()

@pytest.mark.parametrize("leaky", WHAT, indirect=True)
async def test_raw(leaky):
    raw = await RawWebSocket.open(leaky.url, "/?session=hunter2", "Cookie: a=hunter2\\r\\n")
    await raw.send(TEXT, b'{"message":"hunter2"}')
    await raw.send(8)
    await raw.ended()
    raw.abort()

async def test_concierge(concierge, caplog):
    caplog.set_level(logging.DEBUG)
    async with aiohttp.ClientSession() as client:
        await client.post(concierge.url + "/incoming/postback", data=b'{"Body":"hunter2"}')
    logging.getLogger("x").debug(concierge.received)

@pytest.fixture
async def concierge():
    async with FakeConcierge().serving() as fake:
        yield fake

@pytest.mark.parametrize("told", ["METRICS_TOKEN", "LOG_LEVEL"])
async def test_process(told):
    code = "import os; print('at http://127.0.0.1:1/chat'); print(os.environ['%s'])" % told
    async with switchboard_process(variables("http://x"), (sys.executable, "-c", code)) as board:
        pass
    assert len(board.output) == 2
"""

FOUND = {
    *(f"test_http[{what}]" for what in ("query", "body", "trace", "auth", "cookie")),
    *(f"test_socket[{what}]" for what in ("frame", "token")),
    *(f"test_raw[{what}]" for what in ("query", "cookie", "frame", "token")),
    "test_concierge",
    "test_process[METRICS_TOKEN]",
}


@pytest.mark.slow
async def test_a_test_in_which_it_is_logged_fails(tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(PLANTED)
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")

    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-rE", "-p", "tests.log_guard",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    told = (await process.communicate())[0].decode()

    failed = set(re.findall(r"^ERROR test_planted\.py::(\S+)", told, re.MULTILINE))
    assert failed == FOUND, told
    assert re.search(rf"^27 passed, .*{len(FOUND)} errors in", told, re.MULTILINE), told
