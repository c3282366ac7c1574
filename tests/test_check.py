"""The check: what answers, what does not, and what is told of either."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiohttp import web
from redis.exceptions import ConnectionError as BrokenLink

from switchboard_operator.broker import trial
from switchboard_operator.broker.linker import linker
from switchboard_operator.check import Finding, findings
from switchboard_operator.limits import Limits
from switchboard_operator.settings import Settings
from tests.certificates import lay_out, tls_context, tls_options
from tests.command_line import NOWHERE, Ended, run
from tests.fakes import FakeConcierge
from tests.proxy import Proxy
from tests.redis_server import RedisServer, free_port, redis_server
from tests.switchboards import ROOT, eventually, switchboard, variables

pytestmark = pytest.mark.slow  # they start processes

NO_REQUEST = b"HTTP/1.1 400 Bad Request\r\n\r\n"  # what an HTTP server says to anything else

HURRIED = Limits(redis_connect=2, redis_answer=2, probe_answer=2, version_timeout=2)


async def found(concierge_url: str, limits: Limits = HURRIED, **more: str) -> dict[str, Finding]:
    """Return what is found out about each thing."""
    settings = Settings.read(variables(concierge_url, **more))
    return {finding.what: finding for finding in await findings(settings, limits)}


async def about_redis(concierge: FakeConcierge, url: str) -> Finding:
    every = await found(concierge.url, REDISCLOUD_URL=url)
    assert every["Concierge"].well  # whatever becomes of the other one
    return every["Redis"]


async def about_concierge(url: str) -> Finding:
    return (await found(url))["Concierge"]


@asynccontextmanager
async def saying(words: bytes) -> AsyncIterator[int]:
    """Serve something that says *words* to whatever comes, and hangs up; yield its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(words)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


# As a process


async def test_where_all_is_well_each_thing_has_a_line_and_the_exit_code_is_0(
    tmp_path: Path, concierge: FakeConcierge, redis: RedisServer
) -> None:
    environment = variables(concierge.url, REDISCLOUD_URL=redis.url)

    ended = await run("check", cwd=tmp_path, environment=environment)

    assert (ended.code, ended.errors) == (0, [])
    version = (await redis.call("INFO", "server"))["redis_version"]
    assert [re.sub(r"\d+\.\d ms", "N ms", line) for line in ended.output] == [
        "ok    Configuration  has no errors",
        f"ok    Redis          Redis at 127.0.0.1:{redis.port} is {version};"
        " a probe came back in N ms",
        f"ok    Concierge      {concierge.url} is 'fake 1.0'; it answered in N ms",
        "ok    Signing key    1 of 1 signed a postback that we would take",
    ]


async def test_what_fails_has_its_line_the_rest_is_tried_and_the_exit_code_is_1(
    tmp_path: Path, concierge: FakeConcierge
) -> None:
    environment = variables(concierge.url, REDISCLOUD_URL="redis://u:hunter2@127.0.0.1:1/3")

    ended = await run("check", cwd=tmp_path, environment=environment)

    assert (ended.code, ended.errors) == (1, [])
    [line] = [line for line in ended.output if line.startswith("FAIL")]
    assert line == (
        "FAIL  Redis          Redis at 127.0.0.1:1 refuses connections; start it, or mend"
        " REDISCLOUD_URL"
    )
    assert [line.split()[0] for line in ended.output] == ["ok", "FAIL", "ok", "ok"]
    for secret in ("hunter2", *(environment[n] for n in environment if "SECRET" in n)):
        assert secret not in "\n".join(ended.output)


async def test_without_redis_it_says_that_the_process_is_the_only_one(
    tmp_path: Path, concierge: FakeConcierge
) -> None:
    ended = await run("check", cwd=tmp_path, environment=variables(concierge.url))

    assert ended.code == 0
    assert ended.output[1].startswith("ok    Redis          not used; memory: this process is the")


async def test_a_concierge_that_is_down_is_exit_code_1(tmp_path: Path) -> None:
    ended = await run("check", cwd=tmp_path, environment=variables(NOWHERE))

    assert (ended.code, ended.errors) == (1, [])
    assert f"FAIL  Concierge      {NOWHERE} refuses connections; start it, or" in ended.output[2]


# Redis


async def test_a_check_is_nothing_to_instances_that_run(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with switchboard(concierge.url, REDISCLOUD_URL=redis.url) as board:
        assert (await about_redis(concierge, redis.url)).well
        await redis.publish("junk, behind the probe")

        async def junk_heard() -> float:
            return await board.metric("switchboard_rejects_total", reason="broadcast")

        async def any_junk_heard() -> bool:
            return await junk_heard() > 0

        await eventually(any_junk_heard)
        assert await junk_heard() == 1


async def test_a_check_leaves_nothing_for_long_in_redis(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    await redis.call("FLUSHALL")

    assert (await about_redis(concierge, redis.url)).well

    keys = await redis.call("KEYS", "*")
    assert [0 < await redis.call("TTL", key) <= 60 for key in keys] == [True]


@pytest.mark.parametrize(
    ("user", "told"),
    [
        pytest.param(":hunter2@", "refuses user and password; ", id="password"),
        pytest.param("somebody:hunter2@", "refuses user and password; ", id="user"),
        pytest.param("", "lets us do too little (NOAUTH); ", id="none"),
        pytest.param("reader:pw@", "lets us do too little (NOPERM); ", id="no right to publish"),
        pytest.param("deaf:pw@", "lets us do too little (NOPERM); ", id="no right to the channel"),
        pytest.param("default:pw@", "", id="right"),
    ],
)
async def test_of_user_and_password_it_tells_what_is_wrong_and_not_what_they_are(
    concierge: FakeConcierge, user: str, told: str
) -> None:
    async with redis_server() as server:
        for name, *rules in (
            ("reader", "on", ">pw", "~*", "&*", "+@all", "-publish"),
            ("deaf", "on", ">pw", "~*", "resetchannels", "+@all"),
            ("default", "resetpass", ">pw"),
        ):
            await server.call("ACL", "SETUSER", name, *rules)
        finding = await about_redis(concierge, f"redis://{user}127.0.0.1:{server.port}")

    assert finding.well is (told == "")
    assert f"Redis at 127.0.0.1:{server.port} {told}" in finding.told
    assert "hunter2" not in finding.told


async def test_a_replica_is_told_from_a_master(concierge: FakeConcierge) -> None:
    async with redis_server(["--replicaof", "127.0.0.1 1"]) as server:
        finding = await about_redis(concierge, server.url)

    assert not finding.well
    assert "is a replica (READONLY); name the master" in finding.told


async def test_a_redis_with_no_memory_left_is_not_well(concierge: FakeConcierge) -> None:
    async with redis_server(["--maxmemory", "1"]) as server:
        finding = await about_redis(concierge, server.url)

    assert not finding.well
    assert "has no memory left (OOM); give it more" in finding.told


async def test_a_database_that_is_not_there_is_told(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    finding = await about_redis(concierge, f"{redis.url}/9999")

    assert not finding.well
    assert "the database's number in REDISCLOUD_URL" in finding.told


async def test_a_redis_that_is_frozen_is_told_in_time(concierge: FakeConcierge) -> None:
    async with redis_server() as server:
        server.freeze()
        async with asyncio.timeout(60):
            finding = await about_redis(concierge, server.url)
        server.thaw()

    assert not finding.well
    assert "does not answer in time" in finding.told


async def test_a_name_that_nobody_has_is_told(concierge: FakeConcierge) -> None:
    finding = await found(
        concierge.url, Limits(redis_connect=10), REDISCLOUD_URL="redis://nobody.invalid"
    )

    assert "has a name that can't be looked up" in finding["Redis"].told


@pytest.mark.parametrize(
    ("says", "told"),
    [
        pytest.param(NO_REQUEST, "talks otherwise; ", id="HTTP"),
        pytest.param(
            b"-LOADING Redis is loading the dataset in memory\r\n",
            "is still loading its data; ",
            id="loading",
        ),
        pytest.param(b"", "breaks links off; ", id="nothing"),
    ],
)
async def test_what_is_no_redis_or_not_yet_is_told(
    concierge: FakeConcierge, says: bytes, told: str
) -> None:
    async with saying(says) as port:
        finding = await about_redis(concierge, f"redis://127.0.0.1:{port}")

    assert not finding.well
    assert told in finding.told


async def test_a_user_who_may_not_choose_the_database_is_told(concierge: FakeConcierge) -> None:
    async with redis_server() as server:
        await server.call("ACL", "SETUSER", "one", "on", ">pw", "~*", "&*", "+@all", "-select")
        finding = await about_redis(concierge, f"redis://one:pw@127.0.0.1:{server.port}/1")

    assert not finding.well
    assert "lets us do too little (NOPERM); " in finding.told


# Redis with TLS


@dataclass(frozen=True)
class Ports:
    """A Redis that talks TLS at one port, and does not at the other."""

    tls: int
    plain: RedisServer


@asynccontextmanager
async def redis_with_tls(folder: Path, *, ask_clients: bool = False) -> AsyncIterator[Ports]:
    port = free_port()
    async with redis_server(tls_options(folder, port, ask_clients=ask_clients)) as server:
        yield Ports(port, server)


async def check(concierge_url: str, folder: Path, **more: str) -> Ended:
    """Check as a process: which certificates it trusts, it finds out when it starts."""
    async with asyncio.timeout(15):
        ended = await run("check", cwd=folder, environment=variables(concierge_url, **more))
    assert ended.errors == []
    assert "hunter2" not in "\n".join(ended.output)
    return ended


def fault(ended: Ended) -> str:
    """Return the only line that tells of one."""
    [line] = [line for line in ended.output if not line.startswith("ok ")]
    assert ended.code == 1
    assert line.startswith("FAIL  ")
    return line


@pytest.mark.parametrize("trust", ["no verification", "the authority is named"])
async def test_a_certificate_that_is_trusted_or_not_verified_is_well(
    concierge: FakeConcierge, tmp_path: Path, trust: str
) -> None:
    lay_out(tmp_path)
    more = (
        {"REDIS_TLS_VERIFY": "0"}
        if trust == "no verification"
        else {"SSL_CERT_FILE": str(tmp_path / "authority.pem")}
    )

    async with redis_with_tls(tmp_path) as ports:
        url = f"rediss://127.0.0.1:{ports.tls}"
        ended = await check(concierge.url, tmp_path, REDISCLOUD_URL=url, **more)

    assert ended.code == 0


@pytest.mark.parametrize(
    ("address", "days", "trusted", "told"),
    [
        pytest.param(
            "127.0.0.1",
            1,
            False,
            "shows a certificate that is not trusted; name its issuer in SSL_CERT_FILE, or set"
            " REDIS_TLS_VERIFY=0",
            id="nobody vouches for it",
        ),
        pytest.param(
            "127.0.0.2",
            1,
            True,
            "shows a certificate for another host; name that host in REDISCLOUD_URL, or set"
            " REDIS_TLS_VERIFY=0",
            id="another host's",
        ),
        pytest.param(
            "127.0.0.1",
            -0.5,
            True,
            "shows a certificate that is not valid today; renew it, or set the clock, or set"
            " REDIS_TLS_VERIFY=0",
            id="expired",
        ),
    ],
)
async def test_of_a_certificate_it_tells_why_it_is_refused_and_what_to_mend(
    concierge: FakeConcierge, tmp_path: Path, address: str, days: float, trusted: bool, told: str
) -> None:
    lay_out(tmp_path, address, days=days)
    more = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")} if trusted else {}

    async with redis_with_tls(tmp_path) as ports:
        url = f"rediss://:hunter2@127.0.0.1:{ports.tls}"
        ended = await check(concierge.url, tmp_path, REDISCLOUD_URL=url, **more)

    assert fault(ended).endswith(f"Redis at 127.0.0.1:{ports.tls} {told}")


async def test_behind_tls_a_wrong_password_is_told(
    concierge: FakeConcierge, tmp_path: Path
) -> None:
    lay_out(tmp_path)

    async with redis_with_tls(tmp_path) as ports:
        url = f"rediss://somebody:hunter2@127.0.0.1:{ports.tls}"
        ended = await check(concierge.url, tmp_path, REDISCLOUD_URL=url, REDIS_TLS_VERIFY="0")

    assert "refuses user and password; mend them in REDISCLOUD_URL" in fault(ended)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_url_of_the_other_kind_is_told(
    concierge: FakeConcierge, tmp_path: Path, scheme: str
) -> None:
    lay_out(tmp_path)

    async with redis_with_tls(tmp_path) as ports:
        port = ports.tls if scheme == "redis" else ports.plain.port
        url = f"{scheme}://:hunter2@127.0.0.1:{port}"
        ended = await check(concierge.url, tmp_path, REDISCLOUD_URL=url, REDIS_TLS_VERIFY="0")

    assert "rediss://" in fault(ended)


async def test_a_redis_that_asks_for_a_certificate_of_ours_is_told(
    concierge: FakeConcierge, tmp_path: Path
) -> None:
    lay_out(tmp_path)

    async with redis_with_tls(tmp_path, ask_clients=True) as ports:
        url = f"rediss://127.0.0.1:{ports.tls}"
        ended = await check(concierge.url, tmp_path, REDISCLOUD_URL=url, REDIS_TLS_VERIFY="0")

    assert "let it ask for none (tls-auth-clients no)" in fault(ended)


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_as_a_process_too_it_ends_in_time_if_redis_is_frozen(
    concierge: FakeConcierge, tmp_path: Path, scheme: str
) -> None:
    lay_out(tmp_path)

    async with redis_with_tls(tmp_path) as ports:
        port = ports.tls if scheme == "rediss" else ports.plain.port
        ports.plain.freeze()
        url = f"{scheme}://:hunter2@127.0.0.1:{port}"
        ended = await check(concierge.url, tmp_path, REDISCLOUD_URL=url, REDIS_TLS_VERIFY="0")
        ports.plain.thaw()

    assert "does not answer in time" in fault(ended)


class Deafening(Proxy):
    """Carries the answer to a subscription, and nothing of what is heard on it."""

    async def _back(self, server: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await server.read(65536):
            if back not in self._deafened:
                back.write(data)
            if b"subscribe" in data:
                self._deafened.add(back)


async def test_a_redis_on_which_nothing_is_heard_is_not_well(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with Deafening(redis.port).serving() as proxy:
        finding = await about_redis(concierge, f"redis://127.0.0.1:{proxy.port}")

    assert not finding.well
    assert "does not answer in time" in finding.told


async def test_a_link_that_breaks_while_a_probe_is_waited_for_is_not_waited_for(
    redis: RedisServer,
) -> None:
    async with Deafening(redis.port).serving() as proxy:
        open_link = linker(f"redis://127.0.0.1:{proxy.port}", HURRIED, verify=True)
        asking = asyncio.create_task(trial.ask(open_link, patience=1000))
        await eventually(lambda: bool(proxy._deafened))
        proxy.cut()

        with pytest.raises(BrokenLink):
            await asking


# The Concierge


@asynccontextmanager
async def answering(
    status: int, body: bytes = b"", *, late: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Serve something that answers every request alike, or too *late*; yield its URL."""
    over = asyncio.Event()

    async def answer(_request: web.BaseRequest) -> web.Response:
        if late:
            await over.wait()
        return web.Response(status=status, body=body, headers={"Location": "/elsewhere"})

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        over.set()
        await runner.cleanup()


@pytest.mark.parametrize("status", [204, 302, 404, 500, 503])
async def test_a_concierge_without_a_version_is_told_with_its_status(status: int) -> None:
    async with answering(status) as url:
        finding = await about_concierge(url)

    assert not finding.well
    assert finding.told == (
        f"{url} answers status {status} to GET /version; is CONCIERGE_URL its address?"
    )


async def test_look_ups_of_names_that_hang_do_not_hold_it_up(tmp_path: Path) -> None:
    hang = "import socket, time\nsocket.getaddrinfo = lambda *_, **__: time.sleep(60)\n"
    (tmp_path / "sitecustomize.py").write_text(hang)  # as a name server that is away
    environment = variables("http://c.example", REDISCLOUD_URL="redis://r.example")
    environment["PYTHONPATH"] = f"{tmp_path}:{ROOT}"

    async with asyncio.timeout(18):
        ended = await run("check", cwd=tmp_path, environment=environment)

    assert (ended.code, ended.errors) == (1, [])
    assert [line.split()[0] for line in ended.output] == ["ok", "FAIL", "FAIL", "ok"]
    assert all("does not answer in time" in line for line in ended.output if line[0] == "F")


@pytest.mark.parametrize("status", [401, 403])
async def test_a_concierge_that_wants_its_version_asked_with_a_signature_is_told(
    status: int,
) -> None:
    async with answering(status) as url:
        finding = await about_concierge(url)

    assert not finding.well
    assert finding.told == (
        f"{url} answers status {status} to GET /version; let that be asked without a signature"
    )


async def test_a_concierge_that_refuses_connections_is_told() -> None:
    finding = await about_concierge(NOWHERE)

    assert finding.told == f"{NOWHERE} refuses connections; start it, or mend CONCIERGE_URL"


async def test_a_concierge_whose_name_nobody_has_is_told() -> None:
    every = await found("http://nobody.invalid", Limits(version_timeout=10))

    assert every["Concierge"].told == (
        "http://nobody.invalid has a name that can't be looked up; mend CONCIERGE_URL"
    )


@pytest.mark.parametrize(
    ("address", "trusted", "told"),
    [
        pytest.param(
            "127.0.0.1",
            False,
            "shows a certificate that is not trusted; name its issuer in SSL_CERT_FILE",
            id="nobody vouches for it",
        ),
        pytest.param(
            "127.0.0.2",
            True,
            "shows a certificate for another host; name that host in CONCIERGE_URL",
            id="another host's",
        ),
        pytest.param("127.0.0.1", True, "", id="right"),
    ],
)
async def test_of_the_certificate_of_a_concierge_it_tells_why_it_is_refused(
    tmp_path: Path, address: str, trusted: bool, told: str
) -> None:
    lay_out(tmp_path, address)
    more = {"SSL_CERT_FILE": str(tmp_path / "authority.pem")} if trusted else {}

    async with answering(200, b"1.0", tls=tls_context(tmp_path)) as url:
        ended = await check(url, tmp_path, **more)

    if told:
        assert fault(ended).endswith(f"{url} {told}")
    else:
        assert ended.code == 0


async def test_a_concierge_that_talks_tls_where_the_url_does_not_is_told(tmp_path: Path) -> None:
    lay_out(tmp_path)

    async with answering(200, b"1.0", tls=tls_context(tmp_path)) as url:
        finding = await about_concierge(url.replace("https:", "http:"))

    assert finding.told.endswith(
        "does not answer in HTTP; is CONCIERGE_URL its address, or should it be https://?"
    )


async def test_a_concierge_that_talks_no_tls_where_the_url_does_is_told() -> None:
    async with saying(NO_REQUEST) as port:
        finding = (await found(f"https://127.0.0.1:{port}", Limits(version_timeout=10)))[
            "Concierge"
        ]

    assert finding.told.endswith(
        "does not talk TLS as we do; should CONCIERGE_URL begin with http://?"
    )


async def test_a_concierge_whose_version_is_empty_is_not_well() -> None:
    async with answering(200, b" \n") as url:
        finding = await about_concierge(url)

    assert not finding.well
    assert "answers, but with no version" in finding.told


async def test_a_concierge_that_is_slow_is_told_in_time() -> None:
    async with answering(200, b"1.0", late=True) as url, asyncio.timeout(60):
        finding = await about_concierge(url)

    assert not finding.well
    assert "does not answer in time" in finding.told


async def test_what_does_not_talk_http_is_no_concierge(redis: RedisServer) -> None:
    finding = await about_concierge(f"http://127.0.0.1:{redis.port}")

    assert not finding.well
    assert "does not answer in HTTP" in finding.told


async def test_a_version_is_shown_in_one_line() -> None:
    async with answering(200, b"1.0\nok    Redis  forged\x1b[31m") as url:
        finding = await about_concierge(url)

    assert len(str(finding).splitlines()) == 1
    assert "\x1b" not in str(finding)


# Keys


async def test_each_of_several_keys_is_tried(concierge: FakeConcierge) -> None:
    every = await found(concierge.url, CONCIERGE_POSTBACK_SECRET_KEY="old, new, é🐶")

    assert every["Signing key"].well
    assert every["Signing key"].told.startswith("3 of 3 ")


async def test_the_examples_key_is_not_taken_for_one(concierge: FakeConcierge) -> None:
    key = "mine,change-me-shared-with-the-concierge"

    finding = (await found(concierge.url, CONCIERGE_POSTBACK_SECRET_KEY=key))["Signing key"]

    assert not finding.well
    assert finding.told == "it is still the example's; choose one of your own"
