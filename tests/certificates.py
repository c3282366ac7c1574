"""Certificates of servers of ours, from an authority that nobody knows."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey


def certificate(
    name: str, key: Key, issuer: str, issuer_key: Key, address: str | None, until: datetime
) -> x509.Certificate:
    """Return a certificate for the server at *address*, or with None that of an authority."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(until - timedelta(days=2))
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=address is None, path_length=None), critical=True)
    )
    if address is not None:
        names = [x509.IPAddress(ipaddress.ip_address(address))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def lay_out(folder: Path, address: str = "127.0.0.1", *, days: float = 1) -> None:
    """
    Write the chain of a server at *address*, as hosts of Redis have it, which nobody knows.

    The server's certificate ends in so many *days*, which may be over.
    """
    now = datetime.now(UTC)
    soon = now + timedelta(days=1)
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = certificate(
        "An authority", authority_key, "An authority", authority_key, None, soon
    )
    server = certificate(
        "A Redis", key, "An authority", authority_key, address, now + timedelta(days=days)
    )
    chain = [one.public_bytes(Encoding.PEM) for one in (server, authority)]
    (folder / "chain.pem").write_bytes(b"".join(chain))
    (folder / "authority.pem").write_bytes(chain[1])
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(private)


def tls_options(folder: Path, port: int | str, *, ask_clients: bool = False) -> list[str]:
    """Return with which options a Redis talks TLS at *port*, too, with what is in *folder*."""
    return [
        *("--tls-port", str(port)),
        *("--tls-cert-file", str(folder / "chain.pem")),
        *("--tls-key-file", str(folder / "key.pem")),
        *("--tls-ca-cert-file", str(folder / "authority.pem")),
        *("--tls-auth-clients", "yes" if ask_clients else "no"),
    ]


def tls_context(folder: Path) -> ssl.SSLContext:
    """Return what a server in this process needs to talk TLS with what is in *folder*."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "chain.pem", folder / "key.pem")
    return context
