"""Instances joined by a real Redis, and what they do when it is away."""

import asyncio
import contextlib
import dataclasses
import json
import os
import time
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp.client import ClientWebSocketResponse
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from redis.asyncio import Redis
from redis.exceptions import RedisError

from switchboard_operator.broker.redis import RedisBroker
from switchboard_operator.limits import Limits
from switchboard_operator.messages import Delivery, Postback
from switchboard_operator.metrics import Metrics
from tests.fakes import FakeConcierge
from tests.proxy import Proxy
from tests.redis_server import RedisServer, free_port, redis_server
from tests.switchboards import (
    SESSION,
    Switchboard,
    eventually,
    switchboard,
    switchboard_process,
    variables,
)
from tests.test_connections import RULES

pytestmark = pytest.mark.slow  # each waits for a Redis to be missed and found

SLACK = 5.0  # seconds that a busy machine may take for what is done at once
QUICK = Limits(
    redis_answer=1.0,
    redis_pause=0.1,
    redis_settle=0.15,
    confirm=0.3,
    probe_every=0.3,
    probe_answer=1.0,
    close=0.2,
)
# Where Redis is well, whatever a slow machine takes for it.
PATIENT = dataclasses.replace(QUICK, redis_answer=20, confirm=20, probe_answer=20)


@pytest.fixture
async def redis() -> AsyncIterator[RedisServer]:
    async with redis_server() as server:
        yield server


@pytest.fixture
async def first(concierge: FakeConcierge, redis: RedisServer) -> AsyncIterator[Switchboard]:
    async with switchboard(concierge.url, QUICK, REDISCLOUD_URL=redis.url) as board:
        await ready(board)
        yield board


@pytest.fixture
async def second(concierge: FakeConcierge, redis: RedisServer) -> AsyncIterator[Switchboard]:
    async with switchboard(concierge.url, QUICK, REDISCLOUD_URL=redis.url) as board:
        await ready(board)
        yield board


async def ready(board: Switchboard, status: int = 200) -> None:
    async def answers() -> bool:
        return (await board.get("/ready"))[0] == status

    await eventually(answers)


async def numbers(socket: ClientWebSocketResponse, count: int) -> list[int]:
    return [json.loads(await socket.receive_str())["n"] for _ in range(count)]


async def nothing_held(board: Switchboard) -> bool:
    return await board.metric("switchboard_postbacks_held") == 0


async def silent(socket: ClientWebSocketResponse, board: Switchboard) -> bool:
    """Tell whether nothing but a last postback, sent now, is still to come."""
    await board.postback({"to": SESSION, "n": -1})
    return await numbers(socket, 1) == [-1]


async def test_a_postback_to_one_instance_reaches_the_socket_on_another_once(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with (
        switchboard(concierge.url, PATIENT, REDISCLOUD_URL=redis.url) as first,
        switchboard(concierge.url, PATIENT, REDISCLOUD_URL=redis.url) as second,
    ):
        await ready(first)
        await ready(second)
        here, there = await first.connect(), await second.connect()
        body = b'{ "to": "%s",  "n": 1, "odd": "\\u00e9 12345678901234567890" }' % SESSION.encode()

        answer = await first.postback(body)

        assert answer.status == 204
        assert (await here.receive_str()).encode() == body
        assert (await there.receive_str()).encode() == body
        assert await silent(there, first)
        assert await silent(here, second)


async def test_what_anybody_publishes_is_delivered_and_junk_counted_and_dropped(
    first: Switchboard, redis: RedisServer
) -> None:
    socket = await first.connect()
    junk = [b"", b"hello", b"[]", b"{}", b'{"to":1}', b'{"to":"~"}', b"\xff\xfe", b'{"to":"a b"}',
            b"[" * 100_000, b'{"to":"x","n":NaN}']  # fmt: skip

    for message in junk:
        await redis.publish(message)
    await redis.publish(f'{{"n": 1, "to": "{SESSION}"}}')

    assert await socket.receive_str() == f'{{"n": 1, "to": "{SESSION}"}}'
    assert await first.metric("switchboard_rejects_total", reason="broadcast") == len(junk)


async def test_what_we_publish_is_what_an_original_instance_can_deliver(
    first: Switchboard, redis: RedisServer
) -> None:
    async with Redis(port=redis.port) as client, client.pubsub() as original:
        await original.subscribe("bot-message")
        while (await original.get_message(timeout=1)) is None:
            pass

        await first.postback({"to": SESSION, "body": "Hi"})

        while True:
            message = await original.get_message(ignore_subscribe_messages=True, timeout=1)
            if message is not None and b"probe" not in message["data"]:
                break
    content = json.loads(message["data"])
    assert next(iter(content)) == "switchboard"
    assert content == {"switchboard": content["switchboard"], "to": SESSION, "body": "Hi"}


async def test_postbacks_wait_out_a_redis_that_was_killed(
    first: Switchboard, redis: RedisServer
) -> None:
    socket = await first.connect()
    await redis.kill()
    await ready(first, 503)

    answers = [await first.postback({"to": SESSION, "n": number}) for number in range(5)]
    assert {answer.status for answer in answers} == {202}
    assert await first.metric("switchboard_postbacks_held") >= 5
    await redis.start()
    began = time.monotonic()
    await ready(first)

    assert time.monotonic() - began < 5 + SLACK
    assert await numbers(socket, 5) == [0, 1, 2, 3, 4]
    assert await silent(socket, first)


async def test_postbacks_wait_out_a_redis_that_is_frozen_and_none_is_doubled(
    first: Switchboard, second: Switchboard, redis: RedisServer
) -> None:
    here, there = await first.connect(), await second.connect()
    redis.freeze()

    answers = [await first.postback({"to": SESSION, "n": number}) for number in range(10)]
    await ready(first, 503)
    await ready(second, 503)
    redis.thaw()
    await ready(first)
    await ready(second)

    assert {answer.status for answer in answers} == {202}
    assert await numbers(here, 10) == list(range(10))
    assert await numbers(there, 10) == list(range(10))
    assert await silent(here, first)
    assert await silent(there, first)


async def test_a_subscription_that_redis_ends_is_made_anew(
    first: Switchboard,
    second: Switchboard,
    redis: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    socket = await second.connect()

    assert await redis.call("CLIENT", "KILL", "TYPE", "pubsub") == 2
    await eventually(lambda: caplog.text.count("redis is missed") >= 2)
    await ready(second)
    await ready(first)
    await first.postback({"to": SESSION, "n": 1})

    assert await numbers(socket, 1) == [1]


async def test_a_subscription_that_has_gone_deaf_is_found_out_and_made_anew(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with Proxy(redis.port).serving() as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with switchboard(concierge.url, QUICK, REDISCLOUD_URL=url) as board:
            await ready(board)
            socket = await board.connect()

            proxy.silence_subscribers()
            await ready(board, 503)
            await ready(board)
            await board.postback({"to": SESSION, "n": 1})

            assert await numbers(socket, 1) == [1]


async def test_a_link_that_goes_quiet_is_found_out_and_nothing_is_lost_or_doubled(
    concierge: FakeConcierge, first: Switchboard, redis: RedisServer
) -> None:
    """What is published arrives at Redis, but the confirmation gets lost: it is sent again."""
    elsewhere = await first.connect()
    async with Proxy(redis.port).serving() as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with switchboard(concierge.url, QUICK, REDISCLOUD_URL=url) as board:
            await ready(board)

            proxy.silence()
            for number in range(5):
                assert (await board.postback({"to": SESSION, "n": number})).status == 202
            await ready(board, 503)
            proxy.restore()
            await ready(board)
            await board.postback({"to": SESSION, "n": 5})

            assert await numbers(elsewhere, 6) == [0, 1, 2, 3, 4, 5]
            assert await silent(elsewhere, board)


async def test_a_switchboard_boots_without_its_redis_and_holds_until_that_comes(
    concierge: FakeConcierge,
) -> None:
    redis = RedisServer()
    async with switchboard(concierge.url, QUICK, REDISCLOUD_URL=redis.url) as board:
        socket = await board.connect()
        assert (await board.get("/live"))[0] == 200
        assert (await board.get("/ready"))[0] == 503
        assert (await board.postback([{"to": SESSION, "n": n} for n in range(3)])).status == 202

        await redis.start()
        try:
            await ready(board)
            assert await numbers(socket, 3) == [0, 1, 2]
        finally:
            await redis.kill()


async def test_more_than_can_be_held_is_refused_and_what_was_held_is_kept(
    concierge: FakeConcierge,
) -> None:
    redis = RedisServer()
    limits = dataclasses.replace(QUICK, held_postbacks=3, confirm=0.05)
    async with switchboard(concierge.url, limits, REDISCLOUD_URL=redis.url) as board:
        socket = await board.connect()
        answers = [await board.postback({"to": SESSION, "n": number}) for number in range(3)]

        refused = await board.postback({"to": SESSION, "n": 3})
        await redis.start()
        try:
            await ready(board)

            assert {answer.status for answer in answers} == {202}
            assert refused.status == 503
            assert int(refused.headers["Retry-After"]) > 0
            assert await numbers(socket, 3) == [0, 1, 2]
            await eventually(lambda: nothing_held(board))  # the confirmation is behind them
            assert await silent(socket, board)
        finally:
            await redis.kill()


async def test_what_is_held_is_published_before_the_end(
    concierge: FakeConcierge, second: Switchboard, redis: RedisServer
) -> None:
    socket = await second.connect()
    async with Proxy(redis.port).serving() as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        async with switchboard(concierge.url, QUICK, REDISCLOUD_URL=url) as board:
            await ready(board)
            proxy.silence()
            proxy.cut()
            await ready(board, 503)
            answer = await board.postback({"to": SESSION, "n": 1})
            proxy.restore()

    assert answer.status == 202
    assert await numbers(socket, 1) == [1]


async def test_what_cannot_be_published_before_the_end_is_counted_in_the_log(
    concierge: FakeConcierge, caplog: pytest.LogCaptureFixture
) -> None:
    limits = dataclasses.replace(QUICK, shutdown=0.3)
    redis = RedisServer()
    async with switchboard(concierge.url, limits, REDISCLOUD_URL=redis.url) as board:
        await board.postback([{"to": SESSION, "n": n} for n in range(7)])

    assert "postbacks=7" in caplog.text


@pytest.mark.plants_a_bug
async def test_a_bug_in_delivery_does_not_leave_an_instance_deaf(redis: RedisServer) -> None:
    metrics = Metrics("test")
    broker = RedisBroker(redis.url, RULES, QUICK, metrics, verify=True)
    got: list[bytes] = []

    class Subscriber:
        def deliver(self, delivery: Delivery) -> None:
            got.append(delivery.body)
            if len(got) == 1:
                raise ZeroDivisionError

        def resync(self) -> None:
            """Nothing to look for."""

        def write(self) -> None:
            """Nothing waits."""

        def has(self, _session: str) -> bool:
            return True

        def has_any(self, _sessions: Iterable[str]) -> bool:
            return True

        def sockets_of(self, _session: str) -> int:
            return 0

    async with broker.listen(Subscriber()):
        await eventually(lambda: broker.health().listening)
        await broker.publish([Postback(SESSION, b'{"to":"x","n":1}', "first")])
        await eventually(lambda: len(got) == 1)
        await eventually(lambda: not broker.health().listening)

        await eventually(lambda: broker.health().listening)
        await broker.publish([Postback(SESSION, b'{"to":"x","n":2}', "second")])
        await eventually(lambda: len(got) == 2)

    assert metrics.task_failures._value.get() == 1


async def test_a_redis_out_of_memory_still_carries_postbacks(concierge: FakeConcierge) -> None:
    async with (
        redis_server(["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"]) as redis,
        switchboard(concierge.url, PATIENT, REDISCLOUD_URL=redis.url) as board,
    ):
        await ready(board)
        socket = await board.connect()
        with contextlib.suppress(RedisError):
            for number in range(2000):
                await redis.call("SET", f"fill:{number}", "x" * 10_000)

        for number in range(5):
            assert (await board.postback({"to": SESSION, "n": number})).status == 204

        assert await numbers(socket, 5) == [0, 1, 2, 3, 4]
        assert await board.metric("switchboard_script_errors_total") >= 1


async def test_a_redis_that_refuses_to_publish_holds_and_confirms_nothing(
    concierge: FakeConcierge,
) -> None:
    async with redis_server() as redis:
        await redis.call("ACL", "SETUSER", "mute", "on", ">word", "~*", "&*", "+@all", "-publish")
        url = f"redis://mute:word@127.0.0.1:{redis.port}"
        async with switchboard(concierge.url, QUICK, REDISCLOUD_URL=url) as board:
            socket = await board.connect()
            answers = [await board.postback({"to": SESSION, "n": number}) for number in range(3)]

            await redis.call("ACL", "SETUSER", "mute", "+publish")

            assert await numbers(socket, 3) == [0, 1, 2]
            assert await silent(socket, board)
    assert {answer.status for answer in answers} == {202}


async def test_probes_of_a_frozen_redis_are_not_held_and_do_not_delay_the_end(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with switchboard(concierge.url, QUICK, REDISCLOUD_URL=redis.url) as board:
        await ready(board)
        redis.freeze()
        await ready(board, 503)
        assert await board.metric("switchboard_postbacks_held") == 0
        began = time.monotonic()

    assert time.monotonic() - began < 5 + SLACK
    redis.thaw()


async def test_user_password_and_database_are_those_of_the_url(concierge: FakeConcierge) -> None:
    acl = ["--user", "operator", "on", ">p@ss:word", "~switchboard:*", "&bot-message", "+@all"]
    async with redis_server(acl) as redis:
        url = f"redis://operator:p%40ss%3Aword@127.0.0.1:{redis.port}/7"
        async with switchboard(concierge.url, QUICK, REDISCLOUD_URL=url) as board:
            await ready(board)
            await eventually(lambda: has_clients(redis, 3, "user=operator", "db=7"))


async def has_clients(redis: RedisServer, count: int, *words: str) -> bool:
    """Tell whether so many clients of Redis are listed with each of *words*."""
    listed = (await redis.call("CLIENT", "LIST")).decode()
    return all(listed.count(word) == count for word in words)


async def test_a_wrong_password_is_told_once_and_never_shown(
    concierge: FakeConcierge, caplog: pytest.LogCaptureFixture
) -> None:
    async with redis_server(["--requirepass", "right"]) as redis:
        url = f"redis://:not-the-word@127.0.0.1:{redis.port}"
        async with switchboard(concierge.url, QUICK, REDISCLOUD_URL=url) as board:
            await eventually(lambda: caplog.text.count("redis is missed") == 3)
            await asyncio.sleep(0.5)  # several attempts more

            assert (await board.get("/ready"))[0] == 503
            assert caplog.text.count("redis is missed") == 3
            assert "not-the-word" not in caplog.text


@pytest.mark.parametrize("verify", ["1", "0"])
async def test_a_tls_redis_is_verified_unless_that_is_switched_off(
    concierge: FakeConcierge, tmp_path: Path, caplog: pytest.LogCaptureFixture, verify: str
) -> None:
    self_signed_certificate(tmp_path)
    tls = ["--tls-port", str(free_port()), "--tls-cert-file", str(tmp_path / "cert.pem"),
           "--tls-key-file", str(tmp_path / "key.pem"), "--tls-auth-clients", "no"]  # fmt: skip
    async with redis_server(tls):
        url = f"rediss://127.0.0.1:{tls[1]}"
        async with switchboard(
            concierge.url, QUICK, REDISCLOUD_URL=url, REDIS_TLS_VERIFY=verify
        ) as board:
            if verify == "0":
                await ready(board)
            else:
                await eventually(lambda: caplog.text.count("redis is missed") == 3)
                assert (await board.get("/ready"))[0] == 503


def self_signed_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "redis.test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)


async def test_an_outage_costs_less_than_a_tenth_of_a_core(concierge: FakeConcierge) -> None:
    nowhere = f"redis://127.0.0.1:{free_port()}"
    async with switchboard_process(variables(concierge.url, REDISCLOUD_URL=nowhere)) as board:
        assert board.process is not None
        before = cpu_seconds(board.process.pid)
        await asyncio.sleep(10)  # the length of the measurement

        assert cpu_seconds(board.process.pid) - before < 1.0


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def test_with_real_defaults_a_frozen_redis_is_missed_and_found_again_in_time(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with switchboard(concierge.url, REDISCLOUD_URL=redis.url) as board:
        await ready(board)
        socket = await board.connect()

        redis.freeze()
        frozen = time.monotonic()
        answer = await board.postback({"to": SESSION, "n": 1})
        held = time.monotonic() - frozen
        await ready(board, 503)
        missed = time.monotonic() - frozen
        redis.thaw()
        thawed = time.monotonic()
        await ready(board)
        found = time.monotonic() - thawed

        assert answer.status == 202
        assert 0.9 < held < 1 + SLACK
        assert missed < 10 + SLACK
        assert found < 5 + SLACK
        assert await numbers(socket, 1) == [1]


async def test_with_real_defaults_a_killed_redis_is_missed_and_found_again_in_time(
    concierge: FakeConcierge, redis: RedisServer
) -> None:
    async with switchboard(concierge.url, REDISCLOUD_URL=redis.url) as board:
        await ready(board)
        socket = await board.connect()

        await redis.kill()
        killed = time.monotonic()
        await ready(board, 503)
        missed = time.monotonic() - killed
        answers = [await board.postback({"to": SESSION, "n": number}) for number in range(3)]
        await redis.start()
        started = time.monotonic()

        assert await numbers(socket, 3) == [0, 1, 2]
        assert time.monotonic() - started < 5 + SLACK
        await ready(board)
        assert missed < 10 + SLACK
        assert {answer.status for answer in answers} == {202}
