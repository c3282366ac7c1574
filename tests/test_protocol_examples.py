"""Every example in the documents of the protocol, against a switchboard."""

import ast
import asyncio
import json
import random
import re
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from openapi_spec_validator import OpenAPIV31SpecValidator
from redis.asyncio import Redis

from switchboard_operator import frames, signatures
from switchboard_operator.app import create_app, serving
from switchboard_operator.limits import Limits
from switchboard_operator.settings import Settings
from switchboard_operator.web import keys
from switchboard_operator.web.errors import Handler
from tests.documents import (
    ASYNCAPI,
    OPENAPI,
    PROTOCOL,
    Frame,
    Operation,
    Response,
    frames_of,
    inlined,
    json_lines,
    outline,
    parameters,
    pointed_at,
    python_block,
    references,
    responses,
    valid,
)
from tests.fakes import SECRET, FakeConcierge, Incoming
from tests.raw import RawWebSocket, hang_up
from tests.redis_server import RedisServer, free_port, redis_server
from tests.switchboards import (
    ROOT,
    SESSION,
    Switchboard,
    client_session,
    eventually,
    signed,
    switchboard,
    variables,
)
from tests.v1_client import V1Client

pytestmark = pytest.mark.slow  # each example is tried on a switchboard of its own

EXAMPLES = frames_of("classic", "v1", "broadcast")
CLIENTS = [each for each in frames_of("classic", "v1") if each.outcome is not None]
OURS = {each.name: each for each in frames_of("classic", "v1") if each.outcome is None}
RESPONSES = list(responses())
POSTBACKS = inlined(OPENAPI, OPENAPI["paths"]["/"]["post"]["requestBody"]["content"])
SAID = inlined(OPENAPI, OPENAPI["webhooks"]["said"]["post"])
USER_MESSAGES = SAID["requestBody"]["content"]
HELLO = {"to": SESSION, "from": "bot", "body": "Hello"}  # the postback of most examples
SESSION_PATH = f"/sessions/{SESSION}"


def bodies_of(content: Any) -> dict[str, Any]:
    """Return the examples of a request's body by name."""
    return {name: each["value"] for name, each in content["application/json"]["examples"].items()}


# The documents themselves


def test_openapi_is_an_openapi_document() -> None:
    OpenAPIV31SpecValidator(OPENAPI).validate()


@pytest.mark.parametrize("document", [ASYNCAPI, OPENAPI], ids=["asyncapi", "openapi"])
def test_each_reference_points_at_something_and_what_has_a_name_is_used(document: Any) -> None:
    used = set(references(document))
    named = {
        f"#/components/{kind}/{name}"
        for kind, things in document["components"].items()
        for name in things
        if kind != "securitySchemes"  # which need no reference
    }

    for reference in used:
        pointed_at(document, reference)

    assert named - used <= {
        "#/components/responses/MethodNotAllowed"
    }  # of paths that are not there


def test_asyncapi_joins_servers_channels_operations_and_messages() -> None:
    carried: dict[str, set[str]] = {f"#/channels/{name}": set() for name in ASYNCAPI["channels"]}

    for operation in ASYNCAPI["operations"].values():
        for part in [operation, *([operation["reply"]] if "reply" in operation else [])]:
            carried[part["channel"]["$ref"]] |= {each["$ref"] for each in part["messages"]}

    assert ASYNCAPI["asyncapi"] == "3.0.0"
    assert {operation["action"] for operation in ASYNCAPI["operations"].values()} == {
        "send",
        "receive",
    }
    for name, channel in ASYNCAPI["channels"].items():
        here = f"#/channels/{name}"
        assert {server["$ref"] for server in channel["servers"]} <= {
            f"#/servers/{server}" for server in ASYNCAPI["servers"]
        }
        assert carried[here] == {f"{here}/messages/{message}" for message in channel["messages"]}


def test_every_message_has_examples_each_with_a_name_of_its_own_and_if_a_clients_an_outcome() -> (
    None
):
    messages = ASYNCAPI["components"]["messages"]
    names = [example["name"] for each in messages.values() for example in each["examples"]]

    assert all(message["examples"] for message in messages.values())
    assert len(set(names)) == len(names)
    for message in messages.values():
        outcomes = message.get("x-outcomes", {})
        assert set(outcomes) in (set(), {example["name"] for example in message["examples"]})
        for outcome in outcomes.values():
            assert set(outcome["answers"]) <= set(OURS)


def test_each_example_fits_the_schema_next_to_it() -> None:
    for example in EXAMPLES:
        valid(example.schema, example.payload)
    for response in RESPONSES:
        if response.body is not None:
            valid(response.schema, response.body)
        for schema, value in response.headers.values():
            valid(schema, value)


def test_each_parameter_and_each_body_of_a_request_fits_its_schema() -> None:
    for parameter in parameters():
        for example in parameter["examples"].values():
            valid(parameter["schema"], example["value"])
    for content in (POSTBACKS, USER_MESSAGES):
        for body in bodies_of(content).values():
            valid(content["application/json"]["schema"], body)


def test_all_json_in_the_text_stands_in_the_documents_too() -> None:
    known = [
        *(each.payload for each in EXAMPLES),
        *(each.body for each in RESPONSES),
        *bodies_of(POSTBACKS).values(),
        *bodies_of(USER_MESSAGES).values(),
    ]

    written = json_lines()

    assert len(written) > 40
    for value in written:
        assert value in known, value


def test_the_text_shows_each_message() -> None:
    written = json_lines()

    shown = {each.message for each in EXAMPLES if each.payload in written}

    assert shown == set(ASYNCAPI["components"]["messages"])


def codes_in_the_code() -> set[str]:
    """Return the codes with which the package refuses requests, as far as they are spelled out."""
    found = {"bad_request", "not_found", "method_not_allowed"}  # made of aiohttp's own phrases
    refusing = {"PostbackRefused", "RequestRefused", "UpgradeRefused", "refusal", "__init__"}
    for path in (ROOT / "switchboard_operator").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            constants = [each.value for each in node.args if isinstance(each, ast.Constant)]
            texts = [each for each in constants if isinstance(each, str)]
            if name in refusing and len(texts) >= (2 if name == "__init__" else 1):
                found.add(texts[0])
    return found


def test_every_code_of_a_refusal_is_in_the_document_with_an_example() -> None:
    codes = codes_in_the_code()

    shown = {each.body["error"] for each in RESPONSES if "error" in (each.body or "")}

    assert {"session_not_yours", "overloaded", "redis_unavailable", "body_late"} <= codes
    assert shown == codes
    assert set(OPENAPI["components"]["schemas"]["Refusal"]["properties"]["error"]["enum"]) == codes


def test_the_text_names_every_code_of_a_refusal() -> None:
    assert [code for code in codes_in_the_code() if f"`{code}`" not in PROTOCOL] == []


def test_the_text_has_a_row_for_every_close_code_of_ours() -> None:
    ours = {value for value in vars(frames).values() if isinstance(value, int)}
    [table] = re.findall(r"^### Close codes\n(.*?)^#", PROTOCOL, re.MULTILINE | re.DOTALL)
    rows = re.findall(r"^\| ([0-9, ]+) \|", table, re.MULTILINE)

    assert 4102 in ours
    assert ours <= {int(code) for row in rows for code in row.split(",")}


# What a client says


@pytest.mark.parametrize(
    "example", [each for each in CLIENTS if each.message == "classicMessage"], ids=str
)
async def test_what_a_classic_client_says_is_posted_as_written(
    board: Switchboard, concierge: FakeConcierge, example: Frame
) -> None:
    socket = await board.connect()

    await socket.send_json(example.payload)
    [incoming] = await concierge.has_accepted(1)
    await board.postback(HELLO)

    assert outline(incoming.content) == outline(example.outcome["posted"])
    assert await socket.receive_json() == HELLO  # and nothing before it
    assert example.outcome["answers"] == []


@pytest.mark.parametrize("example", [each for each in CLIENTS if each.message == "say"], ids=str)
async def test_what_a_v1_client_says_is_posted_and_answered_as_written(
    board: Switchboard, concierge: FakeConcierge, example: Frame
) -> None:
    client = await V1Client.opened(board, session=SESSION)

    await client.send(example.payload)
    await client.until(lambda: len(client.frames) > len(example.outcome["answers"]))
    await board.postback(HELLO)
    await client.has_messages(1)

    assert outline(concierge.accepted[0].content) == outline(example.outcome["posted"])
    answers = [OURS[name].payload for name in example.outcome["answers"]]
    assert outline(client.frames[1:-1]) == outline(answers)


@pytest.mark.parametrize("example", [each for each in CLIENTS if each.message == "open"], ids=str)
async def test_what_a_v1_client_opens_with_is_answered_as_written(
    board: Switchboard, example: Frame
) -> None:
    before = await V1Client.opened(board, session=SESSION)
    if example.payload.get("last", "k3f9:41"):
        await board.postback(HELLO)
        await before.has_messages(1)
    await before.close()
    if "token" in example.payload:
        await board.postback([HELLO] * 3)
    real = {"token": before.token, "last": before.last}
    opening = {
        key: real[key] if key in real and value not in {"", "made up"} else value
        for key, value in example.payload.items()
    }

    client = await V1Client.connect(board)
    await client.send(opening)

    if "close" in example.outcome:
        assert await client.closed() == example.outcome["close"]
    else:
        await client.until(lambda: len(client.frames) >= len(example.outcome["answers"]))
        await client.send("what is no frame is answered after all that was before")
        await client.has("error")
        assert client.frames[-1]["type"] == "error"
    answers = [OURS[name].payload for name in example.outcome["answers"]]
    assert outline(client.frames[: len(answers)]) == outline(answers)
    assert [frame["type"] for frame in client.frames[len(answers) :]] in ([], ["error"])


# What we say

Scene = Callable[[FakeConcierge], Awaitable[str]]
SCENES: dict[str, Scene] = {}


def shows(*names: str) -> Callable[[Scene], Scene]:
    """Register a scene that ends with the frame that is called so."""

    def register(scene: Scene) -> Scene:
        SCENES.update(dict.fromkeys(names, scene))
        return scene

    return register


def classic_error(said: str) -> Scene:
    async def scene(concierge: FakeConcierge) -> str:
        async with switchboard(concierge.url) as board:
            socket = await board.connect()
            await socket.send_str(said)
            return await socket.receive_str()

    return scene


def v1_error(said: str) -> Scene:
    async def scene(concierge: FakeConcierge) -> str:
        async with switchboard(concierge.url) as board:
            client = await V1Client.opened(board)
            await client.send(said)
            await client.has("error")
            return client.texts[-1]

    return scene


def postback(name: str) -> Scene:
    async def scene(concierge: FakeConcierge) -> str:
        async with switchboard(concierge.url) as board:
            socket = await board.connect()
            await board.postback(bodies_of(POSTBACKS)[name])
            return await socket.receive_str()

    return scene


def answering(status: int) -> Callable[[Incoming], Awaitable[int]]:
    async def answer(_incoming: Incoming) -> int:
        return status

    return answer


def ack(status: int, message: Any = "hi", **more: str) -> Scene:
    async def scene(concierge: FakeConcierge) -> str:
        concierge.answer = answering(status)
        async with switchboard(concierge.url, Limits(retry_total=0.05), **more) as board:
            client = await V1Client.opened(board)
            await client.say("a1-7", message)
            await client.ack("a1-7")
            return client.texts[1]

    return scene


DEEP = '{"payload":' + "[" * 30_000 + "]" * 30_000 + "}"

SCENES |= {
    "text": postback("text"),
    "buttons": postback("buttons"),
    "image": postback("image"),
    "event": postback("event"),
    "classicNotJson": classic_error("hello"),
    "classicNotAnObject": classic_error('["hello"]'),
    "classicNothingSaid": classic_error("{}"),
    "classicTooDeep": classic_error(DEEP),
    "notJson": v1_error("hello"),
    "notAnObject": v1_error('["hello"]'),
    "unknownType": v1_error('{"type":"song"}'),
    "noCid": v1_error('{"type":"message","message":"hi"}'),
    "tooDeep": v1_error(DEEP),
    "accepted": ack(204),
    "unavailable": ack(503),
    "timeout": ack(500),
    "timeoutRepeatable": ack(500, CONCIERGE_IDEMPOTENT="1"),
    "rejected": ack(400),
    "tooLarge": ack(204, "x" * 70_000),
    "badFrame": ack(204, 1),
}


@shows("offlineReply")
async def offline(concierge: FakeConcierge) -> str:
    concierge.answer = answering(400)
    reply = OURS["offlineReply"].payload["body"]
    async with switchboard(concierge.url, OFFLINE_REPLY=reply) as board:
        socket = await board.connect()
        await socket.send_str('{"message":"hi"}')
        return await socket.receive_str()


@shows("helloNew")
async def new(concierge: FakeConcierge) -> str:
    async with switchboard(concierge.url) as board:
        return (await V1Client.opened(board)).texts[0]


@shows("helloNamed")
async def named(concierge: FakeConcierge) -> str:
    async with switchboard(concierge.url) as board:
        await board.postback([HELLO] * 3)
        return (await V1Client.opened(board, session=SESSION)).texts[0]


async def with_one(board: Switchboard) -> V1Client:
    """Return a client that is up to date, with one postback."""
    client = await V1Client.opened(board, session=SESSION)
    await board.postback(HELLO)
    await client.has_messages(1)
    await client.close()
    return client


@shows("helloResumed")
async def resumed(concierge: FakeConcierge) -> str:
    async with switchboard(concierge.url) as board:
        client = await with_one(board)
        await board.postback([HELLO] * 3)
        return (await client.resumed(board)).texts[0]


@shows("helloNothingMissed")
async def up_to_date(concierge: FakeConcierge) -> str:
    async with switchboard(concierge.url) as board:
        client = await with_one(board)
        return (await client.resumed(board)).texts[0]


@shows("helloEpoch")
async def erased(concierge: FakeConcierge) -> str:
    async with switchboard(concierge.url) as board:
        client = await with_one(board)
        await ask(board, "DELETE", SESSION_PATH, headers=unsealed("DELETE", SESSION_PATH))
        return (await client.resumed(board)).texts[0]


@shows("helloTrimmed")
async def trimmed(concierge: FakeConcierge) -> str:
    async with switchboard(concierge.url, MAILBOX_SIZE="2") as board:
        client = await with_one(board)
        await board.postback([HELLO] * 3)
        return (await client.resumed(board)).texts[0]


@shows("helloExpired")
async def expired(concierge: FakeConcierge) -> str:
    async with switchboard(concierge.url, MAILBOX_TTL="1") as board:
        client = await with_one(board)
        await board.postback([HELLO] * 3)
        texts: list[str] = []

        async def gone() -> bool:
            texts.append((await client.resumed(board)).texts[0])
            return '"why"' in texts[-1]

        await eventually(gone)
        return texts[-1]


@shows("numbered")
async def numbered(concierge: FakeConcierge) -> str:
    async with switchboard(concierge.url) as board:
        client = await with_one(board)
        return client.texts[-1]


@shows("unnumbered")
async def unnumbered(concierge: FakeConcierge) -> str:
    async with switchboard(concierge.url, MAILBOX_SIZE="0") as board:
        client = await with_one(board)
        return client.texts[-1]


@shows("typing")
async def typing(concierge: FakeConcierge) -> str:
    async with switchboard(concierge.url) as board:
        client = await V1Client.opened(board)
        await client.say("a1-7")
        await client.has("typing")
        return client.texts[-1]


@shows("heartbeat")
async def heartbeat(concierge: FakeConcierge) -> str:
    async with switchboard(concierge.url, Limits(heartbeat=0.1)) as board:
        client = await V1Client.opened(board)
        await client.has("heartbeat")
        return client.texts[-1]


@shows("inProgress")
async def in_progress(concierge: FakeConcierge) -> str:
    released = concierge.hold()
    async with redis_server() as redis, joined(concierge, redis) as here:
        client = await V1Client.opened(here, session=SESSION)
        await client.say("a1-6")
        await concierge.has_received(1)
        async with joined(concierge, redis) as there:
            again = await client.resumed(there)
            await again.say("a1-7")
            await again.ack("a1-7")
            released.set()
            return again.texts[-1]


SLOW = {"helloExpired", "inProgress"}


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(each, marks=pytest.mark.slow if each.name in SLOW else ())
        for each in OURS.values()
    ],
    ids=str,
)
async def test_what_we_say_looks_as_written(concierge: FakeConcierge, example: Frame) -> None:
    text = await SCENES[example.name](concierge)

    real = json.loads(text)
    valid(example.schema, real)
    assert outline(real) == outline(example.payload)


def test_there_is_no_scene_without_an_example() -> None:
    assert set(SCENES) == set(OURS)


# What the Concierge gets


@pytest.mark.parametrize("name", bodies_of(USER_MESSAGES))
def test_what_the_concierge_gets_is_what_comes_of_clients_frames(name: str) -> None:
    body = bodies_of(USER_MESSAGES)[name]

    assert body in [each.outcome.get("posted") for each in CLIENTS]


async def test_what_the_concierge_gets_has_the_headers_that_are_written(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    client = await V1Client.opened(board, session=SESSION)
    written = {each["name"]: each for each in SAID["parameters"]}

    await client.say("a1-7")
    [incoming] = await concierge.has_accepted(1)

    assert incoming.target == "/incoming/postback"
    for name, parameter in written.items():
        valid(parameter["schema"], incoming.header(name))
    for name in ("Idempotency-Key", "X-Request-ID"):
        assert incoming.header(name) == written[name]["examples"]["said"]["value"]


@pytest.mark.parametrize("status", SAID["responses"])
async def test_what_the_concierge_answers_means_what_is_written(
    concierge: FakeConcierge, status: str
) -> None:
    answer = int(status.replace("XX", "07"))  # one that has no meaning of its own
    example = OURS[SAID["responses"][status]["x-ack"]]

    text = await ack(answer)(concierge)

    assert outline(json.loads(text)) == outline(example.payload)


async def test_the_concierges_version_is_asked_for_as_written(concierge: FakeConcierge) -> None:
    content = OPENAPI["webhooks"]["version"]["get"]["responses"]["200"]["content"]
    concierge.version = content["text/plain"]["examples"]["version"]["value"]
    async with switchboard(concierge.url) as board:
        _, page = await board.get("/")

    assert f"<dd>{concierge.version}</dd>" in page


# What the Concierge sends


@pytest.mark.parametrize("name", bodies_of(POSTBACKS))
async def test_what_the_concierge_sends_is_taken_and_delivered(
    board: Switchboard, name: str
) -> None:
    body = bodies_of(POSTBACKS)[name]
    sent = body if isinstance(body, list) else [body]
    sockets = [await board.connect(each["to"]) for each in sent]

    answer = await board.postback(body)

    assert answer.status == 204
    assert [await socket.receive_json() for socket in sockets] == sent


# HTTP


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str


Asking = Callable[[FakeConcierge, Operation], Awaitable[Answer]]

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
QUICK = Limits(confirm=0.05, shutdown=0.1, redis_pause=0.05, redis_settle=0.1)


def unsealed(method: str, target: str) -> dict[str, str]:
    """Return the headers with which the Concierge asks for what has no body."""
    return signatures.sign(method, target, "application/json", b"", SECRET, datetime.now(UTC))


async def ask(board: Switchboard, method: str, path: str, **options: Any) -> Answer:
    """Ask, and return the answer."""
    async with board.client.request(method, f"{board.url}{path}", **options) as response:
        return Answer(response.status, response.headers, await response.text())


def asking(
    path: str | None = None,
    limits: Limits | None = None,
    *,
    sealed: bool = False,
    more: Mapping[str, str] | None = None,
    **options: Any,
) -> Asking:
    """Return a scene: the operation is asked for, perhaps with another *path*, *sealed* or not."""

    async def scene(concierge: FakeConcierge, operation: Operation) -> Answer:
        target = path or operation.path
        asked = dict(options)
        if sealed:
            asked["headers"] = unsealed(operation.method, target)
        async with switchboard(concierge.url, limits, **(more or {})) as board:
            return await ask(board, operation.method, target, **asked)

    return scene


def posting(body: bytes, limits: Limits | None = None, **more: str) -> Asking:
    """Return a scene in which the Concierge posts *body*."""

    async def scene(concierge: FakeConcierge, operation: Operation) -> Answer:
        async with switchboard(concierge.url, limits, **more) as board:
            return await ask(
                board, operation.method, operation.path, data=body, headers=signed(body)
            )

    return scene


def away() -> dict[str, str]:
    """Return the variable that names a Redis where there is none."""
    return {"REDISCLOUD_URL": f"redis://127.0.0.1:{free_port()}"}


@asynccontextmanager
async def joined(concierge: FakeConcierge, redis: RedisServer) -> AsyncIterator[Switchboard]:
    """Run a switchboard on *redis*, and wait until it is ready."""
    async with switchboard(concierge.url, QUICK, REDISCLOUD_URL=redis.url) as board:

        async def ready() -> bool:
            return (await board.get("/ready"))[0] == 200

        await eventually(ready)
        yield board


async def opened(board: Switchboard, target: str = "/", headers: str = "") -> Answer:
    """Open a socket, and return the head of the answer."""
    raw = await RawWebSocket.open(board.url, target, headers)
    raw.abort()
    start, *lines = raw.response.decode().strip().split("\r\n")
    named = dict(line.split(": ", 1) for line in lines)
    return Answer(int(start.split()[1]), named, "")


async def opens_v1(concierge: FakeConcierge, _operation: Operation) -> Answer:
    async with switchboard(concierge.url) as board:
        return await opened(
            board, f"/?session={SESSION}", "Sec-WebSocket-Protocol: chat, switchboard.v1\r\n"
        )


async def opens_unnamed(concierge: FakeConcierge, _operation: Operation) -> Answer:
    async with switchboard(concierge.url) as board:
        return await opened(board)


async def concierge_away(concierge: FakeConcierge, operation: Operation) -> Answer:
    async with switchboard(concierge.url) as board:
        await concierge.stop()
        return await ask(board, "GET", operation.path)


async def draining(concierge: FakeConcierge, operation: Operation) -> Answer:
    headers = UPGRADE if operation.name == "chat" else {}
    async with switchboard(concierge.url) as board:
        assert board.app is not None
        board.app[keys.DRAINING].set()
        return await ask(board, "GET", operation.path, headers=headers)


async def full(concierge: FakeConcierge, operation: Operation) -> Answer:
    async with switchboard(concierge.url, MAX_CONNECTIONS="1") as board, await board.connect():
        return await ask(board, "GET", operation.path, headers=UPGRADE)


async def repeated(concierge: FakeConcierge, _operation: Operation) -> Answer:
    body = json.dumps(HELLO).encode()
    headers = signed(body)
    async with switchboard(concierge.url) as board:
        first = await ask(board, "POST", "/", data=body, headers=headers)
        again = await ask(board, "POST", "/", data=body, headers=headers)
    assert first.headers["Switchboard-Message-Id"] == again.headers["Switchboard-Message-Id"]
    return again


async def body_late(concierge: FakeConcierge, operation: Operation) -> Answer:
    async with switchboard(concierge.url, Limits(body=0.1)) as board:
        address = urlsplit(board.url)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        start = f"{operation.method} {operation.path} HTTP/1.1\r\nHost: x\r\n"
        writer.write(f"{start}Content-Length: 2\r\n\r\n{{".encode())
        start, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
        named = dict(line.split(": ", 1) for line in lines)
        text = await reader.readexactly(int(named["Content-Length"]))
        writer.close()
    return Answer(int(start.split()[1]), named, text.decode())


async def bug(concierge: FakeConcierge, operation: Operation) -> Answer:
    @web.middleware
    async def stumble(request: web.Request, handler: Handler) -> NoReturn:
        raise ZeroDivisionError

    app = create_app(Settings.read(variables(concierge.url)))
    app.middlewares.append(stumble)
    async with serving(app, "127.0.0.1", 0) as url, client_session() as client:
        return await ask(Switchboard(url, client), operation.method, operation.path)


async def there(concierge: FakeConcierge, operation: Operation) -> Answer:
    async with switchboard(concierge.url) as board:
        await (await with_one(board)).resumed(board)
        headers = unsealed("GET", operation.path)
        return await ask(board, "GET", operation.path, headers=headers)


async def with_redis(concierge: FakeConcierge, operation: Operation) -> Answer:
    async with redis_server() as redis, joined(concierge, redis) as board:
        return await ask(board, "GET", operation.path)


async def known(concierge: FakeConcierge, operation: Operation) -> Answer:
    async with switchboard(concierge.url) as board:
        first = await ask(board, "GET", operation.path)
        headers = {"If-None-Match": first.headers["ETag"]}
        return await ask(board, "GET", operation.path, headers=headers)


# By status and example, with the operation's name before it where operations differ.
ASKINGS: dict[str, Asking] = {
    "chat 101 v1": opens_v1,
    "chat 101 unnamed": opens_unnamed,
    "chat 200 page": asking(),
    "chat 200 conciergeAway": concierge_away,
    "chat 400 malformedSession": asking("/?session=a%20b", headers=UPGRADE),
    "chat 400 sessionTwice": asking("/?session=a&session=b", headers=UPGRADE),
    "chat 400 notAnUpgrade": asking(headers={"Upgrade": "websocket"}),
    "chat 403 notYours": asking(f"/?session=s1.{'0' * 32}", headers=UPGRADE),
    "chat 403 notAllowed": asking(
        f"/?session={SESSION}", headers=UPGRADE, more={"ALLOW_CLIENT_SESSIONS": "0"}
    ),
    "chat 403 otherOrigin": asking(
        headers=UPGRADE | {"Origin": "https://shop.example.com"},
        more={"ALLOWED_ORIGINS": "https://chat.example.com"},
    ),
    "chat 503 full": full,
    "503 draining": draining,
    "postback 202 -": posting(b'{"to":"alice"}', QUICK, **away()),
    "postback 204 single": posting(json.dumps(HELLO).encode()),
    "postback 204 repeated": repeated,
    "postback 400 notJson": posting(b'{"to":"alice","n":NaN}'),
    "postback 400 noAddress": posting(b'{"body":"Hello"}'),
    "postback 400 badAddress": posting(b'{"to":"~alice"}'),
    "postback 400 emptyArray": posting(b"[]"),
    "postback 400 tooDeep": posting(b'{"to":"alice","n":' + b"[" * 30_000 + b"]" * 30_000 + b"}"),
    "postback 413 longPostback": posting(b'{"to":"alice","body":"%s"}' % (b"x" * 102_400)),
    "postback 503 overloaded": posting(
        b'{"to":"alice"}', Limits(held_postbacks=0, shutdown=0.1), **away()
    ),
    "session 200 there": there,
    "session 200 unknown": asking(sealed=True),
    "forget 204 -": asking(sealed=True),
    "live 200 live": asking(),
    "ready 200 withoutRedis": asking(),
    "ready 200 withRedis": with_redis,
    "ready 503 redisAway": asking(limits=QUICK, more=away()),
    "metrics 200 metrics": asking(headers={"Authorization": "Bearer the scraper's token"}),
    "metrics 401 noToken": asking(),
    "metrics 404 notFound": asking(more={"METRICS_TOKEN": ""}),
    "page 200 page": asking(),
    "widget 200 icon": asking(),
    "widget 404 notFound": asking("/widget/nothing.js"),
    "304 -": known,
    "400 badSession": asking("/sessions/~nobody", sealed=True),
    "401 unsigned": asking(data=b"{}", headers={"Authorization": "APIAuth me:bm9uc2Vuc2U="}),
    "405 otherMethod": asking(),
    "408 bodyLate": body_late,
    "413 longBody": asking(data=b"0123456789", limits=Limits(array_bytes=9)),
    "415 encoded": asking(data=b"{}", headers={"Content-Encoding": "gzip"}),
    "417 otherExpectation": asking(headers={"Expect": "nonsense"}),
    "500 bug": bug,
    "503 redisAway": asking(limits=QUICK, sealed=True, more=away()),
}
NUMBERS = re.compile(r"\d+(\.\d+)*")


def key_of(response: Response) -> str:
    """Return under which key of ASKINGS a response is."""
    alone = str(response)
    return alone if alone in ASKINGS else f"{response.status} {response.name}"


def marks_of(response: Response) -> tuple[pytest.MarkDecorator, ...]:
    if str(response) == "ready 200 withRedis":
        return (pytest.mark.slow,)
    return (pytest.mark.plants_a_bug,) if response.status == 500 else ()


@pytest.mark.parametrize(
    "response", [pytest.param(each, marks=marks_of(each)) for each in RESPONSES], ids=str
)
async def test_an_answer_is_as_written(concierge: FakeConcierge, response: Response) -> None:
    answer = await ASKINGS[key_of(response)](concierge, response.operation)

    assert answer.status == response.status
    for name, (schema, _) in response.headers.items():
        valid(schema, answer.headers[name])
    if response.schema is None:
        assert not answer.text
    elif isinstance(response.body, str):
        lines = {NUMBERS.sub("0", line) for line in answer.text.splitlines()}
        assert {NUMBERS.sub("0", line) for line in response.body.splitlines()} <= lines
    elif response.body is not None:
        assert answer.headers["Content-Type"] == "application/json"
        valid(response.schema, json.loads(answer.text))
        assert outline(json.loads(answer.text)) == outline(response.body)


def test_nothing_is_asked_for_without_an_example() -> None:
    assert set(ASKINGS) == {key_of(response) for response in RESPONSES}


# Redis


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@asynccontextmanager
async def overheard(redis: RedisServer) -> AsyncIterator[Callable[[str], Awaitable[Any]]]:
    """Listen to the channel within the context, for the first message that holds a text."""
    async with Redis(port=redis.port, host="127.0.0.1") as client, client.pubsub() as pubsub:
        await pubsub.subscribe("bot-message")

        async def first(part: str) -> Any:
            async for heard in pubsub.listen():
                if heard["type"] == "message" and part in heard["data"].decode():
                    return json.loads(heard["data"])
            raise AssertionError("the link was lost")

        yield first


BROADCAST = {each.name: each for each in frames_of("broadcast")}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "size"), [("tagged", "100"), ("bare", "0")])
async def test_a_postback_is_published_as_written(
    concierge: FakeConcierge, redis: RedisServer, name: str, size: str
) -> None:
    more = {"REDISCLOUD_URL": redis.url, "MAILBOX_SIZE": size}
    async with overheard(redis) as first, switchboard(concierge.url, QUICK, **more) as board:
        await board.postback(HELLO)
        published = await first("Hello")

    valid(BROADCAST[name].schema, published)
    assert outline(published) == outline(BROADCAST[name].payload)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bare", "emptyTag"])
async def test_what_anybody_publishes_as_written_is_delivered_without_an_id(
    concierge: FakeConcierge, redis: RedisServer, name: str
) -> None:
    async with joined(concierge, redis) as board:
        client = await V1Client.opened(board, session=SESSION)

        await redis.publish(json.dumps(BROADCAST[name].payload, separators=(",", ":")))
        [frame] = await client.has_messages(1)

    assert outline(frame) == outline(OURS["unnumbered"].payload)


@pytest.mark.slow
async def test_instances_ask_each_other_as_written(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with joined(concierge, redis) as board, overheard(redis) as first:
        await V1Client.opened(board, session=SESSION)
        asked = asyncio.create_task(
            ask(board, "GET", SESSION_PATH, headers=unsealed("GET", SESSION_PATH))
        )
        question, answer = await first('"session"'), await first('"count"')
        await asked

    for name, real in (("question", question), ("answer", answer)):
        valid(BROADCAST[name].schema, real)
        assert outline(real) == outline(BROADCAST[name].payload)


@pytest.mark.slow
async def test_instances_probe_as_written(concierge: FakeConcierge, redis: RedisServer) -> None:
    limits = Limits(redis_settle=0.1, probe_every=0.1)
    more = {"REDISCLOUD_URL": redis.url}
    async with overheard(redis) as first, switchboard(concierge.url, limits, **more):
        probe = await first("~probe")

    valid(BROADCAST["probe"].schema, probe)
    assert list(probe) == list(BROADCAST["probe"].payload)


@pytest.mark.slow
async def test_a_session_has_the_keys_that_are_written(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    rows = re.findall(
        r"^\| `switchboard:\{ID\}:(\w+)(?::\w+)?` \| (\w+) \|", PROTOCOL, re.MULTILINE
    )
    released = concierge.hold()
    async with joined(concierge, redis) as board:
        client = await V1Client.opened(board, session=SESSION)
        await board.postback(HELLO)
        await client.has_messages(1)
        await client.say("a1-7")
        await concierge.has_received(1)
        while_waiting = await redis.call("KEYS", f"switchboard:{{{SESSION}}}:*")
        released.set()
        await client.ack("a1-7")
        afterwards = await redis.call("KEYS", f"switchboard:{{{SESSION}}}:*")
        found = {
            key.decode().split(":")[2]: (await redis.call("TYPE", key)).decode()
            for key in {*while_waiting, *afterwards}
        }

    assert set(found) == {name for name, _ in rows}
    assert {name: kind for name, kind in rows if name != "lease"} == {
        name: kind for name, kind in found.items() if name != "lease"
    }


# The client of the text


class Closed(Exception):
    """What the client of the text is told of the end of a socket."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class TextSocket:
    """What the client of the text talks over."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws
        self._due: asyncio.Queue[str] = asyncio.Queue()
        self._writer = asyncio.create_task(self._write())

    async def _write(self) -> None:
        while True:
            text = await self._due.get()
            try:
                await self.ws.send_str(text)
            except ConnectionError:
                return

    def send(self, frame: Any) -> None:
        self._due.put_nowait(json.dumps(frame))

    def cut(self) -> None:
        hang_up(self.ws)

    async def receive(self, seconds: float) -> Any:
        message = await self.ws.receive(timeout=seconds)
        if message.type is aiohttp.WSMsgType.TEXT:
            return json.loads(message.data)
        self._writer.cancel()
        raise Closed(self.ws.close_code or 1006)


def text_client() -> Any:
    """Return the class in the text."""

    def later(seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_later(seconds / 10, call, *arguments)

    async def sleep(seconds: float) -> None:
        await asyncio.sleep(seconds / 100)

    known = {
        "uuid4": uuid.uuid4,
        "uniform": random.uniform,
        "sleep": sleep,
        "later": later,
        "Closed": Closed,
    }
    exec(python_block(), known)  # noqa: S102 - it is what a reader would try
    return known["Client"]


def test_the_client_of_the_text_is_short() -> None:
    assert len(python_block().splitlines()) <= 60


@pytest.mark.slow
async def test_the_client_of_the_text_loses_and_doubles_nothing(concierge: FakeConcierge) -> None:
    shown: list[int] = []
    marked: dict[str, str] = {}
    sockets: list[TextSocket] = []
    trouble = random.Random(7)

    async def moody(_incoming: Incoming) -> int:
        return trouble.choice([204, 204, 204, 503])

    concierge.answer = moody
    limits = Limits(retry_total=0, retry_window=100)
    async with switchboard(concierge.url, limits) as board:

        async def dial() -> TextSocket:
            protocols = ("switchboard.v1",)
            sockets.append(TextSocket(await board.connect(SESSION, protocols=protocols)))
            return sockets[-1]

        client = text_client()(dial, lambda data: shown.append(data["n"]), marked.__setitem__)
        running = asyncio.create_task(client.run())
        for number in range(60):
            client.say(str(number))
            await board.postback({"to": SESSION, "n": number})
            if number % 10 == 5:
                await eventually(lambda: bool(sockets))
                sockets[-1].cut()
            await asyncio.sleep(0.01)  # so that sockets break at different moments
        await eventually(lambda: not client.outbox and len(shown) >= 60)
        running.cancel()

    assert shown == list(range(60))
    assert [incoming.content["Body"] for incoming in concierge.accepted] == [
        str(number) for number in range(60)
    ]
    assert set(marked.values()) == {"sent"}
    assert len(sockets) > 5


@pytest.mark.parametrize(("code", "dials"), [(4003, 1), (4002, 1), (1012, 2), (1006, 2), (4001, 2)])
async def test_the_client_of_the_text_does_on_a_close_what_the_text_says(
    code: int, dials: int
) -> None:
    opened: list[Any] = []

    class Socket:
        def send(self, frame: Any) -> None:
            opened.append(frame)

        async def receive(self, _seconds: float) -> Any:
            if len(opened) == 1:
                raise Closed(code)
            await asyncio.Event().wait()

    async def dial() -> Socket:
        return Socket()

    client = text_client()(dial, print, print)
    client.token, client.last = "token", "k3f9:41"
    running = asyncio.create_task(client.run())
    if dials == 1:
        await running
    else:
        await eventually(lambda: len(opened) == dials)
        running.cancel()

    kept = None if code == 4001 else "token"
    assert [frame["token"] for frame in opened] == ["token", kept][:dials]
