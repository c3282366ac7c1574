"""A Redis behind TLS, whose certificate somebody must vouch for."""

import ipaddress
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

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

Key = ec.EllipticCurvePrivateKey


def certificate(
    name: str, key: Key, issuer: str, issuer_key: Key, address: str | None
) -> x509.Certificate:
    """Return a certificate for the server at *address*, or with None that of an authority."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=address is None, path_length=None), critical=True)
    )
    if address is not None:
        names = [x509.IPAddress(ipaddress.ip_address(address))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def lay_out(folder: Path, address: str = "127.0.0.1") -> None:
    """Write the chain of a server at *address*, as hosts of Redis have it, which nobody knows."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = certificate("An authority", authority_key, "An authority", authority_key, None)
    server = certificate("A Redis", key, "An authority", authority_key, address)
    chain = [one.public_bytes(Encoding.PEM) for one in (server, authority)]
    (folder / "chain.pem").write_bytes(b"".join(chain))
    (folder / "authority.pem").write_bytes(chain[1])
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)


@asynccontextmanager
async def board_on_tls(
    concierge: FakeConcierge, folder: Path, **more: str
) -> AsyncIterator[Switchboard]:
    """Run a switchboard on a Redis that has the certificates in *folder*."""
    port = str(free_port())
    tls = ["--tls-port", port, "--tls-cert-file", str(folder / "chain.pem"),
           "--tls-key-file", str(folder / "key.pem"), "--tls-auth-clients", "no"]  # fmt: skip
    environment = variables(concierge.url, REDISCLOUD_URL=f"rediss://127.0.0.1:{port}")
    async with redis_server(tls), switchboard_process(environment | more) as board:
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
    assert (await user.receive_json(timeout=10))["body"] == "hello"
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
