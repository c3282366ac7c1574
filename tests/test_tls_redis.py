"""A Redis behind TLS, whose certificate somebody must vouch for."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.certificates import lay_out, tls_options
from tests.fakes import FakeConcierge
from tests.redis_server import free_port, redis_server
from tests.switchboards import (
    SESSION,
    Switchboard,
    eventually,
    switchboard_process,
    variables,
)

pytestmark = pytest.mark.slow  # each starts a Redis and a gateway


@asynccontextmanager
async def board_on_tls(
    concierge: FakeConcierge, folder: Path, **more: str
) -> AsyncIterator[Switchboard]:
    """Run a switchboard on a Redis that has the certificates in *folder*."""
    port = str(free_port())
    environment = variables(concierge.url, REDISCLOUD_URL=f"rediss://127.0.0.1:{port}")
    async with (
        redis_server(tls_options(folder, port)),
        switchboard_process(environment | more) as board,
    ):
        yield board


async def refused(board: Switchboard) -> None:
    """Wait until the log tells that the certificate is refused; so /ready must, too."""
    told = "error=SSLCertVerificationError"
    await eventually(lambda: sum(told in line for line in board.output) == 3)

    lines = [line for line in board.output if told in line]
    assert all('level=warning event="redis is missed"' in line for line in lines)
    status, text = await board.get("/ready")
    assert (status, json.loads(text)["redis"]) == (503, False)


async def delivers(board: Switchboard) -> None:
    """Wait until the switchboard is ready, and see that it delivers."""

    async def is_ready() -> bool:
        return (await board.get("/ready"))[0] == 200

    await eventually(is_ready)
    user = await board.connect()

    answer = await board.postback({"to": SESSION, "body": "hello"})

    assert answer.status == 204
    assert (await user.receive_json())["body"] == "hello"
    await user.close()


async def test_an_authority_that_nobody_knows_is_not_believed(
    concierge: FakeConcierge, tmp_path: Path
) -> None:
    lay_out(tmp_path)

    async with board_on_tls(concierge, tmp_path) as board:
        await refused(board)

        assert "Traceback" not in "\n".join(board.output)


async def test_with_verification_off_postbacks_arrive_and_the_banner_warns(
    concierge: FakeConcierge, tmp_path: Path
) -> None:
    lay_out(tmp_path)

    async with board_on_tls(concierge, tmp_path, REDIS_TLS_VERIFY="0") as board:
        await delivers(board)

        assert "the certificate of Redis is not verified" in "\n".join(board.output)


async def test_an_authority_named_by_the_environment_is_believed(
    concierge: FakeConcierge, tmp_path: Path
) -> None:
    lay_out(tmp_path)
    trusted = str(tmp_path / "authority.pem")

    async with board_on_tls(concierge, tmp_path, SSL_CERT_FILE=trusted) as board:
        await delivers(board)

        assert "the certificate of Redis is not verified" not in "\n".join(board.output)


async def test_a_certificate_for_another_host_is_refused_whoever_vouches_for_it(
    concierge: FakeConcierge, tmp_path: Path
) -> None:
    lay_out(tmp_path, address="127.0.0.2")
    trusted = str(tmp_path / "authority.pem")

    async with board_on_tls(concierge, tmp_path, SSL_CERT_FILE=trusted) as board:
        await refused(board)
