"""The lines for nginx in docs/deploy.md, as they stand there, in front of two switchboards."""

import asyncio
import io
import json
import os
import shutil
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from tests.fakes import FakeConcierge
from tests.redis_server import free_port, redis_server
from tests.session_api import ready
from tests.switchboards import (
    SESSION,
    Switchboard,
    client_session,
    eventually,
    signed,
    switchboard,
)
from tests.test_newcomer import block, replaced

pytestmark = pytest.mark.slow  # it starts processes

AROUND = """
daemon off;
user root;
pid {folder}/pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 256; }}
http {{
client_body_temp_path {folder}/body;
proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi;
uwsgi_temp_path {folder}/uwsgi;
scgi_temp_path {folder}/scgi;
{documented}
}}
"""
UPSTREAM = "    server 127.0.0.1:5555"  # and what is said of it


def configuration(folder: Path, port: int, boards: list[str]) -> str:
    """Return what is documented, for *boards*, with nothing changed but ports and paths."""
    documented = block("docs/deploy.md", "nginx", "upstream")
    [line] = [line for line in documented.splitlines() if line.startswith(UPSTREAM)]
    servers = [line.replace("127.0.0.1:5555", board.partition("://")[2]) for board in boards]
    documented = replaced(documented, line, "\n".join(servers))
    documented = replaced(documented, "listen 80;", f"listen 127.0.0.1:{port};")
    documented = replaced(documented, "/var/log/nginx", str(folder))
    return AROUND.format(folder=folder, documented=documented)


@asynccontextmanager
async def nginx(folder: Path, boards: list[str]) -> AsyncIterator[Switchboard]:
    """Run nginx in front of *boards*; what it leads to is like one of them."""
    port = free_port()
    (folder / "nginx.conf").write_text(configuration(folder, port, boards))
    program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    assert program, "nginx is not there: `make test` installs it"
    process = await asyncio.create_subprocess_exec(
        program, "-e", folder / "error.log", "-p", folder, "-c", folder / "nginx.conf"
    )
    try:
        async with client_session() as client:
            front = Switchboard(f"http://127.0.0.1:{port}", client)

            async def answers() -> bool:
                assert process.returncode is None, (folder / "error.log").read_text()
                try:
                    return (await front.get("/live"))[0] == 200
                except aiohttp.ClientConnectionError:
                    return False

            await eventually(answers)
            yield front
    finally:
        process.terminate()
        await process.wait()


def user(number: int) -> str:
    return f"{SESSION}.{number}"


async def test_users_and_concierge_get_through_it_and_metrics_do_not(
    concierge: FakeConcierge, tmp_path: Path
) -> None:
    async with switchboard(concierge.url) as board, nginx(tmp_path, [board.url]) as front:
        socket = await front.connect(headers={"Origin": front.url})
        await socket.send_json({"message": "hello"})
        await concierge.has_accepted(1)
        answer = await front.postback({"to": SESSION, "n": 1})
        frame = await socket.receive_json(timeout=10)
        array = json.dumps([{"to": user(n), "body": 3_500 * "x"} for n in range(1000)]).encode()
        async with front.client.post(
            f"{front.url}/", data=io.BytesIO(array), headers=signed(array)
        ) as response:
            taken = response.status
        metrics, _ = await front.get("/metrics")
        log = await asyncio.to_thread((tmp_path / "access.log").read_text)

    assert (answer.status, frame) == (204, {"to": SESSION, "n": 1})
    assert taken == 204
    assert metrics == 403
    assert '"POST /" 204' in log
    assert SESSION not in log


async def test_a_listed_origin_keeps_the_cookie_which_is_of_the_host_that_it_asked_for(
    concierge: FakeConcierge, tmp_path: Path
) -> None:
    only_ours = {"ALLOWED_ORIGINS": "https://www.example.com"}
    async with (
        switchboard(concierge.url, None, **only_ours) as board,
        nginx(tmp_path, [board.url]) as front,
    ):
        own = await front.connect(headers={"Origin": front.url})  # its Host has the port
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await front.connect(headers={"Origin": "http://127.0.0.1"})
        await own.close()

    assert refused.value.status == 403


async def test_while_one_of_two_ends_nobody_is_refused(
    concierge: FakeConcierge, tmp_path: Path
) -> None:
    outcomes: Counter[int] = Counter()
    async with redis_server() as redis, AsyncExitStack() as ending:
        shared = {"REDISCLOUD_URL": redis.url, "PRE_DRAIN_SECONDS": "1"}
        one = await ending.enter_async_context(switchboard(concierge.url, None, **shared))
        async with (
            switchboard(concierge.url, REDISCLOUD_URL=redis.url) as other,
            nginx(tmp_path, [one.url, other.url]) as front,
        ):
            await ready(one)
            await ready(other)
            users = [await front.connect(user(number)) for number in range(4)]
            heard = [asyncio.create_task(each.receive()) for each in users]
            end = asyncio.create_task(ending.aclose())
            while not end.done() or outcomes[204] < 100:
                for _ in range(2):  # and a POST: so that each instance gets some of both
                    socket = await front.connect()  # raises if it is refused
                    await socket.close()
                outcomes[(await front.postback({"to": SESSION})).status] += 1
            closed = [task.result().data for task in heard if task.done()]
            await asyncio.gather(*(each.close() for each in users))
            await asyncio.wait(heard)

    assert outcomes.keys() == {204}
    assert closed == [1012, 1012]  # those of the one that ended


async def test_a_monitor_that_is_told_of_an_outage_of_redis_shuts_nobody_out(
    concierge: FakeConcierge, tmp_path: Path
) -> None:
    async with (
        redis_server() as redis,
        switchboard(concierge.url, REDISCLOUD_URL=redis.url) as one,
        switchboard(concierge.url, REDISCLOUD_URL=redis.url) as other,
        nginx(tmp_path, [one.url, other.url]) as front,
    ):
        await ready(one)
        await ready(other)
        await redis.kill()

        async def is_told() -> bool:
            return all([(await board.get("/ready"))[0] == 503 for board in (one, other)])

        await eventually(is_told)
        told = [(await front.get("/ready"))[0] for _ in range(4)]
        sockets = [await front.connect() for _ in range(4)]
        answer = await front.postback({"to": SESSION})
        await redis.start()  # so that what is held need not be lost
        frames = [await socket.receive_json(timeout=20) for socket in sockets]

    assert told == [503] * 4
    assert answer.status == 202
    assert frames == [{"to": SESSION}] * 4
