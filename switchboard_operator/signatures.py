"""
APIAuth, the signature on requests between the Concierge and us (the Ruby gem api-auth).

Signed is the canonical string ``METHOD,content-type,content-hash,request-uri,date``, each field as
sent. The content hash is the body's SHA-256 in ``X-Authorization-Content-SHA256`` (gem 2.5 and
newer) or its MD5 in ``Content-MD5`` (gem 2.4 and older).
"""

import binascii
import hashlib
import hmac
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from switchboard_operator.errors import SignatureError

MAX_AGE = 900.0  # seconds a Date may differ from our clock (api-auth's own bound)
ACCESS_ID = "switchboard"

_AUTHORIZATION = re.compile(
    r"APIAuth(?:-HMAC-(?P<digest>SHA1|SHA256|SHA384|SHA512))?"
    r" [^:\s]+:(?P<hmac>[A-Za-z0-9+/=]+)"
)
_SCHEME_AND_HOST = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")
_SHA256 = "x-authorization-content-sha256"
_MD5 = "content-md5"
_KEY_BYTES = 16  # of an HMAC: nobody can make another one that begins so
_LOOKED_AT = frozenset(("authorization", "date", "content-type", _SHA256, _MD5))
_HTTP_DATES = (  # RFC 9110, section 5.6.7: the one in use and the two that are obsolete
    "%a, %d %b %Y %H:%M:%S GMT",
    "%A, %d-%b-%y %H:%M:%S GMT",
    "%a %b %d %H:%M:%S %Y",
)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """
    What of an HTTP request the signature covers.

    `target` is the raw path with its query, as on the request line; `headers` are (name, value)
    pairs as received, repeated ones repeated.
    """

    method: str
    target: str
    headers: Sequence[tuple[str, str]]
    body: bytes


def verify(
    request: SignedRequest, secrets: Sequence[str], now: datetime, accept_md5: bool = False
) -> bytes:
    """
    Check that the Concierge signed *request* and that its body is the one it signed.

    Returns the HMAC, decoded, since base64 has several spellings of one.
    *secrets* are the shared keys of which any may have signed; *now* is an aware datetime;
    *accept_md5* also takes the body hash of api-auth 2.4 and older.

    Raises:
        SignatureError: which check failed, in words fit for a log.
    """
    headers = _grouped(request.headers)
    authorization = _only(headers, "authorization")
    date = _only(headers, "date")
    content_type = _only(headers, "content-type", default="")
    content_hash = _verified_content_hash(request, headers, accept_md5)
    _check_age(date, now.timestamp())
    return _verified_signature(
        authorization,
        (request.method, content_type, content_hash, request.target, date),
        secrets,
    )


def verify_usual(
    target: str, headers: Mapping[str, str], body: bytes, secrets: Sequence[str], now: float
) -> bytes | None:
    """
    Check a POST as `verify` does, but the usual one only: a body and its SHA-256.

    *headers* have their names in lower case, none of them twice; *now* is in seconds. Returns the
    decoded HMAC; None of an unusual request, of which `verify` knows more.

    Raises:
        SignatureError: it is not valid.
    """
    authorization, date = headers.get("authorization", ""), headers.get("date", "")
    content_hash = headers.get(_SHA256, "")
    if _MD5 in headers or not (authorization and date and content_hash):
        return None
    _check_content_hash(content_hash, hashlib.sha256(body).digest())
    _check_age(date, now)
    fields = ("POST", headers.get("content-type", ""), content_hash, target, date)
    return _verified_signature(authorization, fields, secrets)


def request_key(verified: bytes) -> str:
    """Return what identifies a request, whose HMAC was *verified*: the same means the same."""
    return verified[:_KEY_BYTES].hex()


def sign(
    method: str, target: str, content_type: str, body: bytes, secret: str, now: datetime
) -> dict[str, str]:
    """Return the headers that sign a request of ours, in the way api-auth 2.5 checks (SHA-256)."""
    date = format_datetime(now.astimezone(UTC), usegmt=True)
    content_hash = b64encode(hashlib.sha256(body).digest()).decode()
    signed = canonical_string(method, content_type, content_hash, target, date)
    signature = b64encode(hmac.digest(secret.encode(), signed, "sha256")).decode()
    return {
        "Content-Type": content_type,
        "Date": date,
        "X-Authorization-Content-SHA256": content_hash,
        "Authorization": f"APIAuth-HMAC-SHA256 {ACCESS_ID}:{signature}",
    }


def canonical_string(
    method: str, content_type: str, content_hash: str, target: str, date: str
) -> bytes:
    """Return what is signed: five fields joined by commas, the target without scheme and host."""
    path = _SCHEME_AND_HOST.sub("", target, count=1) if target[:1] != "/" else target
    text = ",".join((method, content_type, content_hash, path or "/", date))
    # surrogateescape gives back the very bytes that the HTTP parser could not decode.
    return text.encode("utf-8", "surrogateescape")


def _grouped(headers: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    grouped: dict[str, list[str]] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in _LOOKED_AT:
            grouped.setdefault(lower, []).append(value)
    return grouped


def _only(headers: dict[str, list[str]], name: str, default: str | None = None) -> str:
    values = headers.get(name)
    if values is None and default is not None:
        return default
    if values is None or len(values) != 1:
        problem = "missing" if values is None else "repeated"
        raise SignatureError(f"{name.replace('-', '_')}_{problem}", f"{name} is {problem}")
    return values[0]


def _verified_content_hash(
    request: SignedRequest, headers: dict[str, list[str]], accept_md5: bool
) -> str:
    sent = [(name, value) for name in (_SHA256, _MD5) for value in headers.get(name, ()) if value]
    if not sent and not request.body and request.method in {"GET", "HEAD", "DELETE"}:
        return ""
    if len(sent) != 1:
        problem = "repeated" if sent else "missing"
        raise SignatureError(f"content_hash_{problem}", f"the body's hash is {problem}")
    [(name, value)] = sent
    if name == _MD5 and not accept_md5:
        raise SignatureError(
            "md5_not_accepted",
            "the body's hash is Content-MD5 (api-auth 2.4 or older);"
            " CONCIERGE_ACCEPT_MD5=1 accepts it",
        )
    # MD5 is what old gems send; a switch that is off by default stands before it.
    digest = hashlib.sha256 if name == _SHA256 else hashlib.md5
    _check_content_hash(value, digest(request.body).digest())
    return value


def _check_content_hash(sent: str, digest: bytes) -> None:
    if not hmac.compare_digest(_decoded(sent), digest):
        raise SignatureError("content_hash_mismatch", "the body is not the one that was signed")


def _check_age(date: str, now: float) -> None:
    age = abs(now - _http_date(date))
    if age >= MAX_AGE:
        raise SignatureError("date_out_of_range", f"Date differs by {age:.0f} s from our clock")


@lru_cache(maxsize=64)  # Date has a resolution of 1 s, so under load each is parsed once
def _http_date(text: str) -> float:
    for form in _HTTP_DATES:
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC).timestamp()
        except ValueError:
            continue
    raise SignatureError("date_malformed", "Date is not an HTTP date")


def _verified_signature(
    authorization: str, fields: tuple[str, str, str, str, str], secrets: Sequence[str]
) -> bytes:
    """Return the HMAC in *authorization*, decoded, if it is that of *fields*."""
    match = _AUTHORIZATION.fullmatch(authorization)
    if match is None:
        raise SignatureError("authorization_malformed", "Authorization is not an APIAuth header")
    algorithm, sent = match.groups("SHA1")
    signature, digest = _decoded(sent), algorithm.lower()
    signed = canonical_string(*fields)
    for secret in secrets:
        if hmac.compare_digest(signature, hmac.digest(secret.encode(), signed, digest)):
            return signature
    raise SignatureError("hmac_mismatch", "no configured secret gives this signature")


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError) as exc:
        raise SignatureError("base64_malformed", "a hash or signature is not base64") from exc
