"""The command line, as real processes."""

import asyncio
import contextlib
import json
import os
import re
import resource
import shlex
import signal
import socket
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from dotenv import dotenv_values

from switchboard_operator import __version__
from switchboard_operator.settings import variables
from tests.command_line import COMMAND, NOWHERE, run
from tests.fakes import FakeConcierge
from tests.switchboards import ROOT, SESSION, eventually, switchboard_process
from tests.switchboards import variables as usable

pytestmark = pytest.mark.slow  # each starts processes

REQUIRED = [name for name, variable in variables().items() if variable.required]


def told(name: str, reason: str) -> str:
    """Return the line that tells of a fault."""
    return f"  {name}: {reason}; for example {name}={variables()[name].example}"


# Bad configuration


@pytest.mark.parametrize("arguments", [(), ("run",), ("check",)], ids=["bare", "run", "check"])
async def test_without_variables_all_faults_are_told_at_once_and_the_exit_code_is_2(
    tmp_path: Path, arguments: Sequence[str]
) -> None:
    ended = await run(*arguments, cwd=tmp_path)

    assert ended.code == 2
    assert ended.output == []
    assert ended.errors == [
        "The configuration has errors:",
        *(told(name, "is required") for name in REQUIRED),
    ]


async def test_faults_are_told_within_2_s(tmp_path: Path) -> None:
    began = cpu_seconds_of_children()

    assert (await run(cwd=tmp_path)).code == 2

    # Not those of a clock, which go by as well while other tests keep the machine busy.
    assert cpu_seconds_of_children() - began < 2


def cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


async def test_faults_of_every_kind_are_told_together_and_no_value_is_repeated(
    tmp_path: Path,
) -> None:
    faulty = {
        "CONCIERGE_URL": "ftp://hunter2",
        "CONCIERGE_POSTBACK_SECRET_KEY": "hunter2,,hunter2",
        "RATE_LIMIT": "hunter2",
        "LOG_LEVEL": "hunter2",
    }

    ended = await run("check", cwd=tmp_path, environment=faulty)

    named = [line.split(":")[0].strip() for line in ended.errors[1:]]
    assert ended.code == 2
    assert sorted(named) == sorted([*faulty, "SWITCHBOARD_SECRET_KEY"])
    assert all("; for example " in line for line in ended.errors[1:])
    assert "hunter2" not in "\n".join(ended.errors)


async def test_a_fault_in_port_is_told_under_its_name(tmp_path: Path) -> None:
    environment = usable(NOWHERE) | {"SWITCHBOARD_PORT": "", "PORT": "http"}

    ended = await run("check", cwd=tmp_path, environment=environment)

    assert ended.code == 2
    assert ended.errors[1].startswith("  PORT: must be a whole number from 0 to 65535;")


@pytest.mark.parametrize("name", ["SWITCHBOARD_SECRET_KEY", "CONCIERGE_URL", "METRICS_TOKEN"])
async def test_a_variable_that_is_not_utf8_is_a_fault_like_any_other(
    tmp_path: Path, name: str
) -> None:
    environment = usable(NOWHERE) | {name: b"http://\xff"}

    ended = await run("check", cwd=tmp_path, environment=environment)

    assert ended.code == 2
    assert [line.split(":")[0] for line in ended.errors[1:]] == [f"  {name}"]


async def test_a_dotenv_file_that_is_not_utf8_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"CONCIERGE_URL=http://caf\xe9\n")

    ended = await run("check", cwd=tmp_path)

    assert ended.code == 2
    assert ".env" in "\n".join(ended.errors)
    assert "Traceback" not in "\n".join(ended.errors)


async def test_a_dotenv_file_in_the_working_directory_is_read(
    tmp_path: Path, concierge: FakeConcierge
) -> None:
    lines = [f'{name}="{value}"' for name, value in usable(concierge.url).items()]
    (tmp_path / ".env").write_text("\n".join(lines))

    ended = await run("check", cwd=tmp_path)

    assert (ended.code, ended.errors) == (0, [])


async def test_real_variables_win_over_the_dotenv_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("SWITCHBOARD_PORT=from .env\nRATE_LIMIT=from .env\n")

    ended = await run("check", cwd=tmp_path, environment=usable(NOWHERE))

    assert ended.errors[1:] == [told("RATE_LIMIT", "must be a number from 0 to 100000")]


async def test_a_dollar_in_the_dotenv_file_is_a_dollar(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("LOG_LEVEL=${WORD}\n")
    environment = usable(NOWHERE) | {"WORD": "info"}

    ended = await run("check", cwd=tmp_path, environment=environment)

    assert [line.split(":")[0] for line in ended.errors[1:]] == ["  LOG_LEVEL"]


# What it says of itself


async def test_help_names_the_sub_commands(tmp_path: Path) -> None:
    ended = await run("--help", cwd=tmp_path)

    assert (ended.code, ended.errors) == (0, [])
    for command in ("run", "demo", "check", "send"):
        assert any(re.match(rf"\s+{command}\s+\w", line) for line in ended.output)


@pytest.mark.parametrize("command", [(), ("run",), ("demo",), ("check",), ("send",)], ids=str)
async def test_every_help_has_an_example_and_all_exit_codes(
    tmp_path: Path, command: Sequence[str]
) -> None:
    ended = await run(*command, "--help", cwd=tmp_path)

    assert (ended.code, ended.errors) == (0, [])
    assert any(re.match("examples?:$", line) for line in ended.output)
    codes = [
        line[2] for line in ended.output[ended.output.index("exit codes:") :] if line[2] != " "
    ]
    assert codes[1:] == ["0", "1", "2"]


async def examples(folder: Path, *command: str) -> list[str]:
    """Return the command lines that a help shows and that need nothing filled in."""
    shown = (await run(*command, "--help", cwd=folder)).output
    found = [re.match(r"  ((?:[A-Z_]+=\S+ )*python -m [^A-Z]*?)(?:  |$)", line) for line in shown]
    return [each[1].strip() for each in found if each is not None]


@pytest.mark.parametrize("command", [(), ("run",), ("demo",), ("check",)], ids=str)
async def test_the_examples_of_a_help_do_what_it_says(
    tmp_path: Path, concierge: FakeConcierge, command: Sequence[str]
) -> None:
    environment = usable(concierge.url) | on_a_platform()
    lines = [line for line in await examples(tmp_path, *command) if "send" not in line]

    assert lines
    for line in lines:
        # A free port, and no shell in between which would get the signal that is for us.
        last = re.sub("PORT=8000", "PORT=0", line).rpartition("&& ")
        script = f"{last[0]}{last[1]}exec env {last[2]}"
        if line.endswith("check"):
            shell = await asyncio.create_subprocess_exec(
                "sh", "-c", script, env=environment | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path
            )
            assert await shell.wait() == 0
            continue
        async with switchboard_process(environment, ("sh", "-c", script), tmp_path) as board:
            assert (await board.get("/live"))[0] == 200


async def test_what_the_banner_has_a_page_embed_is_there(tmp_path: Path) -> None:
    async with switchboard_process(usable(NOWHERE), COMMAND, tmp_path) as board:
        await eventually(lambda: any("</switchboard-chat>" in line for line in board.output))
        script, socket = re.findall(r'src="(.*?)"', "\n".join(board.output))

        async with board.client.get(script) as response, board.client.ws_connect(socket) as user:
            assert response.status == 200
            assert response.content_type == "text/javascript"
            assert not user.closed


async def test_where_lines_are_to_be_json_the_banner_is_one_too(tmp_path: Path) -> None:
    environment = usable(NOWHERE) | {"LOG_FORMAT": "json"}
    async with switchboard_process(environment, COMMAND, tmp_path) as board:
        assert (await board.get("/live"))[0] == 200

    lines = [json.loads(line) for line in board.output]
    [banner] = [line for line in lines if line["event"] == "serving"]
    assert banner["version"] == __version__
    assert banner["chat"] == f"{board.url}/chat"
    assert banner["concierge"] == f"{NOWHERE} (is not there yet)"
    assert "any web origin" in banner["note"]


@pytest.mark.parametrize("command", ["check", "send --to ID Hello --print"])
async def test_where_nobody_reads_what_it_prints_it_ends_without_a_word(
    tmp_path: Path, concierge: FakeConcierge, command: str
) -> None:
    unread, written = os.pipe()
    os.close(unread)

    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *command.split(),
        env=usable(concierge.url) | on_a_platform() | {"PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        stdout=written,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(written)
    _, errors = await process.communicate()

    assert (process.returncode, errors) == (1, b"")


async def test_version_is_the_packages(tmp_path: Path) -> None:
    ended = await run("--version", cwd=tmp_path)

    assert (ended.code, ended.output, ended.errors) == (0, [__version__], [])


async def test_an_unknown_sub_command_is_refused_with_the_usage(tmp_path: Path) -> None:
    ended = await run("serve", cwd=tmp_path, environment=usable(NOWHERE))

    assert ended.code == 2
    assert ended.errors[0].startswith("usage:")


@pytest.mark.parametrize("command", ["run", "demo"])
async def test_the_first_url_printed_is_the_chats_and_comes_at_once_through_a_pipe(
    tmp_path: Path, command: str
) -> None:
    async with switchboard_process(usable(NOWHERE), (*COMMAND, command), tmp_path) as board:
        # It is still running, so what came through the pipe was flushed.
        assert board.process is not None
        assert board.process.returncode is None
        urls = re.findall(r"http://\S+", "\n".join(board.output))
        status, text = await board.get("/chat")

    assert urls[0] == f"{board.url}/chat"
    assert status == 200
    assert "<title>Switchboard</title>" in text


async def test_the_output_holds_no_secret(tmp_path: Path) -> None:
    environment = usable(NOWHERE, LOG_LEVEL="debug")
    secrets = [value for name, value in environment.items() if re.search("SECRET|TOKEN", name)]
    assert len(secrets) == 3

    async with switchboard_process(environment, COMMAND, tmp_path) as board:
        await board.get("/metrics", headers={"Authorization": "Bearer the scraper's token"})
        await board.postback({"to": SESSION, "body": "hello"})

    for secret in secrets:
        assert secret not in "\n".join(board.output)


async def test_the_demo_listens_on_loopback_only_whatever_the_variables_say(
    tmp_path: Path,
) -> None:
    environment = {"SWITCHBOARD_HOST": "0.0.0.0", "SWITCHBOARD_PORT": "0"}  # noqa: S104 - not to be heeded

    async with switchboard_process(environment, (*COMMAND, "demo"), tmp_path) as board:
        port = int(board.url.rpartition(":")[2])
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.2", port)


async def test_the_demo_talks_to_nobody_that_the_variables_name(tmp_path: Path) -> None:
    environment = usable(NOWHERE) | {"REDISCLOUD_URL": "redis://127.0.0.1:1"}

    async with switchboard_process(environment, (*COMMAND, "demo"), tmp_path) as board:
        assert (await board.get("/ready"))[0] == 200
        user = await board.connect()
        await user.send_json({"message": "hello"})
        answer = await user.receive_json()
        await user.close()

    assert answer["body"] == "You said: hello"


async def test_signals_until_the_very_end_do_not_change_the_exit_code(tmp_path: Path) -> None:
    async with switchboard_process(usable(NOWHERE), COMMAND, tmp_path) as board:
        assert board.process is not None
        while board.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(board.process.pid, signal.SIGTERM)
            await asyncio.sleep(0.004)

        assert board.process.returncode == 0


# An address that can't be had


@pytest.mark.parametrize("command", ["run", "demo"])
async def test_a_port_in_use_is_told_in_one_line_and_the_exit_code_is_1(
    tmp_path: Path, command: str
) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        environment = usable(NOWHERE) | {"SWITCHBOARD_PORT": str(port)}

        ended = await run(command, cwd=tmp_path, environment=environment)

    assert ended.code == 1
    [line] = ended.errors
    assert line.startswith(f"can't listen on 127.0.0.1, port {port}: ")
    assert "address already in use" in line
    assert "Traceback" not in "\n".join(ended.output)


async def test_an_address_of_another_machine_is_told_in_one_line(tmp_path: Path) -> None:
    environment = usable(NOWHERE) | {"SWITCHBOARD_HOST": "192.0.2.1"}

    ended = await run(cwd=tmp_path, environment=environment)

    assert ended.code == 1
    [line] = ended.errors
    assert line.startswith("can't listen on 192.0.2.1, port 0: ")


# The end


@pytest.mark.parametrize("command", ["run", "demo"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_a_signal_to_stop_ends_it_with_exit_code_0(
    tmp_path: Path, command: str, number: signal.Signals
) -> None:
    async with switchboard_process(usable(NOWHERE), (*COMMAND, command), tmp_path) as board:
        assert board.process is not None

        board.process.send_signal(number)

        assert await board.process.wait() == 0
    assert "Traceback" not in "\n".join(board.output)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
async def test_three_signals_in_a_row_close_sockets_with_1012_and_end_it_with_exit_code_0(
    tmp_path: Path, concierge: FakeConcierge, number: signal.Signals
) -> None:
    async with switchboard_process(usable(concierge.url), COMMAND, tmp_path) as board:
        assert board.process is not None
        sockets = [await board.connect(f"a-session-of-user-{user}") for user in range(5)]

        for _ in range(3):
            board.process.send_signal(number)
        for user in sockets:
            await user.receive()

        assert [user.close_code for user in sockets] == [1012] * 5
        assert await board.process.wait() == 0
    assert "Traceback" not in "\n".join(board.output)


# As a platform starts it


def procfile() -> dict[str, list[str]]:
    """Return each process type's command."""
    lines = (ROOT / "Procfile").read_text().splitlines()
    return {kind: shlex.split(line) for kind, _, line in (line.partition(":") for line in lines)}


def on_a_platform() -> dict[str, str]:
    """Return the variables that a platform adds: this Python is the first on PATH."""
    return {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PORT": "0"}


async def test_the_procfiles_line_boots_with_the_values_of_the_example_file() -> None:
    values = dotenv_values(ROOT / ".env.example", interpolate=False)
    example = {name: value for name, value in values.items() if value is not None}

    async with switchboard_process(example | on_a_platform(), procfile()["web"]) as board:
        assert (await board.get("/live"))[0] == 200


async def test_the_example_file_copied_to_dotenv_boots_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text())

    async with switchboard_process(on_a_platform(), procfile()["web"], tmp_path) as board:
        assert (await board.get("/live"))[0] == 200


def test_the_runtime_is_one_that_the_project_admits() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    runtime = re.fullmatch(r"python-3\.(\d+)\n", (ROOT / "runtime.txt").read_text())
    lowest = re.fullmatch(r">=3\.(\d+)", project["requires-python"])

    assert runtime is not None
    assert lowest is not None
    assert int(runtime[1]) >= int(lowest[1]) >= 11
