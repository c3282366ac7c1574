"""A postback from the command line: what the user gets, and what is told of it."""

import asyncio
import json
import os
import re
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from switchboard_operator import send
from switchboard_operator.errors import Unreachable
from switchboard_operator.limits import Limits
from tests.command_line import Ended, run
from tests.fakes import SECRET, FakeConcierge
from tests.redis_server import redis_server
from tests.session_api import running
from tests.switchboards import ROOT, SESSION, Switchboard, eventually

pytestmark = pytest.mark.slow  # each starts a process

NASTY = """It's "so" $HOME `x` \\ é🐶\n@ !! %s {} ' --url"""


def port_of(url: str) -> str:
    return url.rpartition(":")[2]


async def sent(url: str, folder: Path, *arguments: str, secret: str = SECRET) -> Ended:
    """Send to *url* from a process that knows the key and the port, and nothing else."""
    environment = {"CONCIERGE_POSTBACK_SECRET_KEY": secret, "SWITCHBOARD_PORT": port_of(url)}
    ended = await run("send", *arguments, cwd=folder, environment=environment)
    assert secret not in "\n".join(ended.output + ended.errors)
    return ended


async def received(board: Switchboard, folder: Path, *arguments: str) -> Any:
    """Send to a user who is there; return what they get."""
    user = await board.connect()
    ended = await sent(board.url, folder, "--to", SESSION, *arguments)
    assert (ended.code, ended.errors) == (0, [])
    return await user.receive_json()


@asynccontextmanager
async def without_redis(concierge: FakeConcierge, limits: Limits) -> AsyncIterator[Switchboard]:
    """Run a switchboard whose Redis has just gone away."""
    async with redis_server() as server, running(concierge, server.url, limits) as board:
        await server.kill()

        async def is_missed() -> bool:
            return (await board.get("/ready"))[0] == 503

        await eventually(is_missed)
        yield board


# What the user gets


every_kind = pytest.mark.parametrize(
    ("arguments", "more"),
    [
        pytest.param(["Hello"], {"body": "Hello"}, id="text"),
        pytest.param([NASTY, "--from", "é"], {"body": NASTY, "from": "é"}, id="any text"),
        pytest.param(
            ["A cat", "--image", "https://example.com/cat.png"],
            {"body": "A cat", "type": "image", "media_url": "https://example.com/cat.png"},
            id="image",
        ),
        pytest.param(
            [NASTY, "--image", NASTY],
            {"body": NASTY, "type": "image", "media_url": NASTY},
            id="any image",
        ),
        pytest.param(
            [NASTY, "--button", f"{NASTY}={NASTY}"],
            {
                "body": NASTY,
                "type": "button",
                "buttons": [{"type": "payload", "text": NASTY, "payload": NASTY}],
            },
            id="any button",
        ),
        pytest.param(
            ["Sure?", "--button", 'Yes={"a": [1, 2.5, "=é"]}', "--link", "Why=https://x.y/?a=b",
             "--button", "No=no = never", "--button", "None=", "--button", "One=1",
             "--button", "Odd=NaN", "--button", "Vast=1e999"],
            {
                "body": "Sure?",
                "type": "button",
                "buttons": [
                    {"type": "payload", "text": "Yes", "payload": {"a": [1, 2.5, "=é"]}},
                    {"type": "url", "text": "Why", "url": "https://x.y/?a=b", "name": "Why"},
                    {"type": "payload", "text": "No", "payload": "no = never"},
                    {"type": "payload", "text": "None", "payload": ""},
                    {"type": "payload", "text": "One", "payload": 1},
                    {"type": "payload", "text": "Odd", "payload": "NaN"},
                    {"type": "payload", "text": "Vast", "payload": "1e999"},
                ],
            },
            id="buttons",
        ),
    ],
)  # fmt: skip


@every_kind
async def test_the_user_gets_what_was_asked_for(
    board: Switchboard, tmp_path: Path, arguments: list[str], more: dict[str, Any]
) -> None:
    got = await received(board, tmp_path, *arguments)

    assert got == {"to": SESSION, "from": "bot", **more}


async def test_another_switchboard_is_named_by_its_url(board: Switchboard, tmp_path: Path) -> None:
    user = await board.connect()
    environment = {"CONCIERGE_POSTBACK_SECRET_KEY": SECRET, "SWITCHBOARD_PORT": "1"}

    ended = await run(
        "send",
        "--to",
        SESSION,
        "Hi",
        "--url",
        f"{board.url}/",
        cwd=tmp_path,
        environment=environment,
    )

    assert ended.code == 0
    assert (await user.receive_json())["body"] == "Hi"


async def test_of_several_keys_the_first_signs(board: Switchboard, tmp_path: Path) -> None:
    ended = await sent(board.url, tmp_path, "--to", SESSION, "Hi", secret=f"{SECRET}, another one")

    assert ended.code == 0


# What is told of the answer


async def test_a_postback_that_is_published_is_told_with_its_id(
    board: Switchboard, tmp_path: Path
) -> None:
    ended = await sent(board.url, tmp_path, "--to", SESSION, "Hi")

    assert ended.code == 0
    [line] = ended.output
    assert line.startswith("204: published with the id ")
    assert line.endswith(":1")


async def test_a_session_without_a_mailbox_has_no_id(board: Switchboard, tmp_path: Path) -> None:
    ended = await sent(board.url, tmp_path, "--to", "short", "Hi")

    assert ended.code == 0
    assert ended.output == ["204: published without an id, since it is kept in no mailbox"]


async def test_what_was_sent_before_is_told_from_what_is_new(board: Switchboard) -> None:
    prepared = send.prepare({"to": SESSION, "body": "Hi"}, board.url, SECRET, datetime.now(UTC))

    first, second = [await send.post(prepared) for _ in range(2)]

    assert first.taken
    assert second.taken
    mark = first.told.rpartition(" ")[2]
    assert second.told == (
        f"204: the same was sent before, with the id {mark}; it is not delivered again"
    )


async def test_a_postback_that_is_held_is_told_and_is_taken(
    concierge: FakeConcierge, tmp_path: Path
) -> None:
    async with without_redis(concierge, Limits(confirm=0.2)) as board:
        ended = await sent(board.url, tmp_path, "--to", SESSION, "Hi")

    assert ended.code == 0
    assert ended.output == [
        "202: taken, but Redis does not answer: it is held, and delivered later"
    ]


async def test_too_much_that_is_held_is_told(concierge: FakeConcierge, tmp_path: Path) -> None:
    async with without_redis(concierge, Limits(held_postbacks=0)) as board:
        ended = await sent(board.url, tmp_path, "--to", SESSION, "Hi")

    assert ended.code == 1
    assert ended.output == ["503: too much waits for Redis already: try again later"]


async def test_another_key_is_told_with_what_to_look_at(board: Switchboard, tmp_path: Path) -> None:
    ended = await sent(board.url, tmp_path, "--to", SESSION, "Hi", secret="hunter2")

    assert ended.code == 1
    [line] = ended.output
    assert line.startswith("401: the signature is not taken: is CONCIERGE_POSTBACK_SECRET_KEY the")


async def test_a_refusal_is_told_in_the_switchboards_words(
    board: Switchboard, tmp_path: Path
) -> None:
    ended = await sent(board.url, tmp_path, "--to", "no session", "Hi")

    assert ended.code == 1
    [line] = ended.output
    assert line.startswith("400: ")
    assert "session" in line


async def test_what_is_no_switchboard_is_told(concierge: FakeConcierge, tmp_path: Path) -> None:
    ended = await sent(concierge.url, tmp_path, "--to", "a", "b")

    assert ended.code == 1
    assert ended.output == ["404: that is no answer of a switchboard; is the URL its address?"]


async def test_where_nobody_listens_that_is_told_in_one_line(tmp_path: Path) -> None:
    environment = {"CONCIERGE_POSTBACK_SECRET_KEY": SECRET, "SWITCHBOARD_PORT": "1"}

    ended = await run("send", "--to", SESSION, "Hi", cwd=tmp_path, environment=environment)

    assert (ended.code, ended.output) == (1, [])
    [line] = ended.errors
    assert line.startswith("http://127.0.0.1:1/ can't be reached: ")


async def test_what_does_not_talk_http_is_told() -> None:
    async def chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello\r\n")
        writer.close()

    async with await asyncio.start_server(chat, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        prepared = send.prepare({}, f"http://127.0.0.1:{port}", SECRET, datetime.now(UTC))

        with pytest.raises(Unreachable, match="it does not talk HTTP as we do"):
            await send.post(prepared)


# The command that it prints


def in_pieces(command: str) -> tuple[str, dict[str, str], str]:
    """Return the URL, the headers and the body of a curl command, as a shell reads them."""
    curl, *words = shlex.split(command.replace(" \\\n", " "))
    assert (curl, words.pop(0)) == ("curl", "-i")
    url, headers, body = words.pop(), {}, ""
    for option, value in zip(words[::2], words[1::2], strict=True):
        if option == "-H":
            name, _, headers[name] = value.partition(": ")
        else:
            assert option == "--data-raw"
            body = value
    return url, headers, body


async def test_print_sends_nothing(board: Switchboard, tmp_path: Path) -> None:
    ended = await sent(board.url, tmp_path, "--to", SESSION, "Hi", "--print")

    assert (ended.code, ended.errors) == (0, [])
    assert await board.metric("switchboard_postbacks_total", outcome="confirmed") == 0


@pytest.mark.parametrize("text", ["Hello", NASTY], ids=["plain", "nasty"])
async def test_what_it_prints_sends_the_same(board: Switchboard, tmp_path: Path, text: str) -> None:
    user = await board.connect()
    ended = await sent(
        board.url, tmp_path, "--to", SESSION, text, "--button", "It's=it's", "--print"
    )
    url, headers, body = in_pieces("\n".join(ended.output))

    async with board.client.post(url, headers=headers, data=body) as response:
        assert response.status == 204

    assert url == f"{board.url}/"
    assert json.loads(body)["body"] == text
    assert (await user.receive_str()) == body


@every_kind
async def test_a_shell_runs_what_it_prints(
    board: Switchboard, tmp_path: Path, arguments: list[str], more: dict[str, Any]
) -> None:
    user = await board.connect()
    ended = await sent(board.url, tmp_path, "--to", SESSION, *arguments, "--print")

    code, output = await in_a_shell("\n".join(ended.output), tmp_path)

    assert code == 0
    assert output.startswith("HTTP/1.1 204 ")
    assert await user.receive_json() == {"to": SESSION, "from": "bot", **more}


async def in_a_shell(script: str, folder: Path, **environment: str) -> tuple[int | None, str]:
    """Have a shell run *script*; return its exit code and what it printed."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = await asyncio.create_subprocess_exec(
        "sh",
        "-c",
        script,
        cwd=folder,
        env={"PATH": path, "PYTHONPATH": str(ROOT), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await shell.communicate()
    return shell.returncode, output.decode()


# The command line


async def test_without_the_key_that_is_told_and_nothing_else_is_needed(tmp_path: Path) -> None:
    ended = await run("send", "--to", SESSION, "Hi", cwd=tmp_path)

    assert (ended.code, ended.output) == (2, [])
    [_, line] = ended.errors
    assert line.startswith("  CONCIERGE_POSTBACK_SECRET_KEY: is required; for example ")


async def test_the_examples_of_its_help_send_what_they_say(
    board: Switchboard, tmp_path: Path
) -> None:
    shown = (await run("send", "--help", cwd=tmp_path)).output
    examples = [line.strip() for line in shown if line.startswith("  send --to ID ")]
    environment = {"CONCIERGE_POSTBACK_SECRET_KEY": SECRET, "SWITCHBOARD_PORT": port_of(board.url)}

    assert len(examples) >= 6
    for number, example in enumerate(examples):
        session = f"{SESSION}.{number}"  # not one, to whom the same within a second is sent once
        user = await board.connect(session)
        line = example.replace(" ID ", f" {session} ").replace(
            "https://chat.example.com", board.url
        )
        script = f"python -m switchboard_operator {line}"
        code, output = await in_a_shell(script, tmp_path, **environment)
        assert (code, "204" in output) == (0, True), example
        said = await user.receive_json()
        assert f'"{said["body"]}"' in example
        assert said.get("media_url", "") in example
        labels = [button["text"] for button in said.get("buttons", [])]
        assert labels == re.findall(r"--(?:button|link) \"?(.*?)=", example)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        pytest.param(["Hi"], "required: --to", id="to nobody"),
        pytest.param(["--to", SESSION], "required: text", id="nothing"),
        pytest.param(["--to", "a", "b", "--button", "Yes"], "'Yes' is not LABEL=…", id="button"),
        pytest.param(["--to", "a", "b", "--link", "=x"], "'=x' is not LABEL=…", id="link"),
        pytest.param(["--to", "a", "b", "--url", "ftp://x"], "must be an http:// or", id="url"),
        pytest.param(
            ["--to", "a", "b", "--image", "x", "--button", "c=d"], "of one type", id="two types"
        ),
        pytest.param(["--to", "a", "\udcff"], "is not UTF-8", id="bytes"),
    ],
)
async def test_what_is_wrong_with_the_arguments_is_told_and_the_exit_code_is_2(
    tmp_path: Path, arguments: list[str], told: str
) -> None:
    environment = {"CONCIERGE_POSTBACK_SECRET_KEY": SECRET}

    ended = await run("send", *arguments, cwd=tmp_path, environment=environment)

    assert (ended.code, ended.output) == (2, [])
    assert told in ended.errors[-1]
