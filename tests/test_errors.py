"""A bug of ours behind a request: what the peer gets, what the log says, and who goes on."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from switchboard_operator.app import create_app, serving
from switchboard_operator.settings import Settings
from tests.fakes import FakeConcierge
from tests.switchboards import SESSION, Switchboard, client_session, variables

pytestmark = pytest.mark.plants_a_bug


async def stumble(request: web.Request) -> web.Response:
    raise ZeroDivisionError


async def stumble_late(request: web.Request) -> web.Response:
    await request.read()
    await asyncio.sleep(0)
    raise ZeroDivisionError


@pytest.fixture
async def buggy(concierge: FakeConcierge) -> AsyncIterator[Switchboard]:
    """A switchboard with bugs at `/bug` and `/late-bug`."""
    app = create_app(Settings.read(variables(concierge.url)))
    app.router.add_get("/bug", stumble)
    app.router.add_post("/late-bug", stumble_late)
    async with serving(app, "127.0.0.1", 0) as url, client_session() as client:
        yield Switchboard(url, client, app)


def errors_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(("method", "path"), [("GET", "/bug"), ("POST", "/late-bug")])
async def test_a_bug_answers_500_in_the_same_json_as_every_refusal(
    buggy: Switchboard, method: str, path: str
) -> None:
    async with buggy.client.request(method, f"{buggy.url}{path}", data=b"{}") as answer:
        text = await answer.text()

    assert answer.status == 500
    assert answer.content_type == "application/json"
    assert json.loads(text) == {
        "error": "internal_error",
        "detail": "something went wrong here",
    }


async def test_a_bug_is_logged_once_as_an_error_with_its_traceback(
    buggy: Switchboard, caplog: pytest.LogCaptureFixture
) -> None:
    await buggy.get("/bug?token=secret")

    [logged] = errors_in(caplog)
    assert "request failed" in logged
    assert "method=GET" in logged
    assert "path=/bug" in logged
    assert "Traceback" in logged
    assert "in stumble" in logged
    assert "ZeroDivisionError" in logged
    assert "secret" not in caplog.text


async def test_a_bug_costs_one_request_and_its_connection_serves_the_next(
    buggy: Switchboard, caplog: pytest.LogCaptureFixture
) -> None:
    socket = await buggy.connect()
    with_bugs = [await buggy.get("/bug") for _ in range(5)]

    alive = await buggy.get("/live")
    posted = await buggy.postback({"to": SESSION, "body": "after the bugs"})

    assert [status for status, _ in with_bugs] == [500] * 5
    assert alive[0] == 200
    assert posted.status == 204
    assert (await socket.receive_json())["body"] == "after the bugs"
    assert len(errors_in(caplog)) == 5
