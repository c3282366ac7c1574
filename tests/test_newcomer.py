"""What the documents have a newcomer copy, done."""

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.fakes import SECRET
from tests.redis_server import free_port
from tests.switchboards import ROOT, SESSION, Switchboard, eventually, switchboard

pytestmark = pytest.mark.slow  # they start processes


def block(document: str, language: str, word: str) -> str:
    """Return the block of *document* that has *word* in it."""
    text = (ROOT / document).read_text()
    blocks = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    [found] = [each for each in blocks if word in each]
    return str(found)


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


async def test_the_newcomers_bot_answers(tmp_path: Path) -> None:
    port = free_port()
    async with switchboard(f"http://127.0.0.1:{port}") as board:
        source = replaced(block("docs/newcomer.md", "python", "run_app"), "8080", str(port))
        (tmp_path / "bot.py").write_text(replaced(source, "http://127.0.0.1:5555", board.url))
        (tmp_path / ".env").write_text(f"CONCIERGE_POSTBACK_SECRET_KEY={SECRET}\n")
        bot = await asyncio.create_subprocess_exec(
            sys.executable,
            "bot.py",
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:

            async def is_there() -> bool:
                return "<dd>my bot 1</dd>" in (await board.get("/"))[1]

            await eventually(is_there)
            user = await board.connect()
            await user.send_json({"message": "hello"})

            answer = await user.receive_json()
        finally:
            bot.terminate()
            await bot.wait()

    assert answer == {"to": SESSION, "from": "bot", "body": "You said: hello"}


@pytest.mark.parametrize(
    ("language", "word", "command"),
    [
        ("sh", "openssl", ("sh", "-euc")),
        ("python", "hmac.digest", (sys.executable, "-c")),
        ("ruby", "OpenSSL", ("ruby", "-we")),
    ],
    ids=["curl", "python", "ruby"],
)
async def test_the_signature_by_hand_is_taken(
    board: Switchboard, tmp_path: Path, language: str, word: str, command: tuple[str, str]
) -> None:
    user = await board.connect()
    by_hand = block("docs/protocol.md", language, word)
    commands = replaced(by_hand, "http://127.0.0.1:5555", board.url)
    (tmp_path / ".env").write_text(f"CONCIERGE_POSTBACK_SECRET_KEY='{SECRET}'\n")

    process = await asyncio.create_subprocess_exec(
        *command,
        replaced(commands, "SESSION", SESSION),
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "CONCIERGE_POSTBACK_SECRET_KEY": SECRET},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output, _ = await process.communicate()

    assert re.match(rb"(HTTP/1.1 )?204\s", output)
    assert (await user.receive_json())["body"] == "Hello"
