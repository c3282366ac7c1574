"""The rule for APIAuth signatures, against the real gem's vectors and against forgers."""

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator.errors import SignatureError
from switchboard_operator.signatures import (
    SignedRequest,
    canonical_string,
    request_key,
    sign,
    verify,
)
from tests.fakes import SECRET

VECTORS: Final[list[dict[str, Any]]] = json.loads(
    (Path(__file__).parent / "vectors" / "apiauth.json").read_text()
)["vectors"]
NOW = datetime(2026, 5, 5, 10, 11, 12, tzinfo=UTC)
BODY = '{"to":"alice","body":"Hi é🐶"}'.encode()
OTHER_BODY = b'{"to":"mallory"}'
HASH = "X-Authorization-Content-SHA256"
CAUSES = {
    "authorization_malformed",
    "authorization_missing",
    "authorization_repeated",
    "base64_malformed",
    "content_hash_mismatch",
    "content_hash_missing",
    "content_hash_repeated",
    "content_type_repeated",
    "date_malformed",
    "date_missing",
    "date_out_of_range",
    "date_repeated",
    "hmac_mismatch",
    "md5_not_accepted",
}

Forge = Callable[[SignedRequest], SignedRequest]


# Requests, and ways to spoil them


def hashed(body: bytes, digest: str = "sha256") -> str:
    return b64encode(hashlib.new(digest, body).digest()).decode()


def value_of(request: SignedRequest, name: str) -> str:
    values = [value for key, value in request.headers if key.lower() == name.lower()]
    return values[0] if values else ""


def resigned(request: SignedRequest, digest: str = "SHA256", secret: str = SECRET) -> SignedRequest:
    """Sign *request* as it is, like a sender who knows the secret."""
    fields = (
        request.method,
        value_of(request, "Content-Type"),
        value_of(request, HASH) or value_of(request, "Content-MD5"),
        request.target,
        value_of(request, "Date"),
    )
    signed = ",".join(fields).encode("utf-8", "surrogateescape")
    signature = b64encode(hmac.digest(secret.encode(), signed, digest.lower())).decode()
    scheme = "APIAuth" if digest == "SHA1" else f"APIAuth-HMAC-{digest}"
    return with_header("Authorization", f"{scheme} concierge-1:{signature}")(request)


def with_header(name: str, value: str) -> Forge:
    """Replace a header, or add it where it is missing."""

    def forge(request: SignedRequest) -> SignedRequest:
        kept = tuple((key, old) for key, old in request.headers if key.lower() != name.lower())
        return replace(request, headers=(*kept, (name, value)))

    return forge


def without_header(name: str) -> Forge:
    def forge(request: SignedRequest) -> SignedRequest:
        kept = tuple((key, old) for key, old in request.headers if key.lower() != name.lower())
        return replace(request, headers=kept)

    return forge


def repeating(name: str) -> Forge:
    def forge(request: SignedRequest) -> SignedRequest:
        again = (name.lower(), value_of(request, name))
        return replace(request, headers=(*request.headers, again))

    return forge


def changed(**fields: Any) -> Forge:
    return lambda request: replace(request, **fields)


def aged(seconds: float) -> Forge:
    """Move the Date so far into the past; negative is the future."""

    def forge(request: SignedRequest) -> SignedRequest:
        date = parsedate_to_datetime(value_of(request, "Date")) - timedelta(seconds=seconds)
        return with_header("Date", format_datetime(date, usegmt=True))(request)

    return forge


def authorization(rewrite: Callable[[str], str]) -> Forge:
    return lambda request: with_header(
        "Authorization", rewrite(value_of(request, "Authorization"))
    )(request)


def signature(rewrite: Callable[[bytes], bytes]) -> Forge:
    """Change the HMAC's bytes."""

    def rewritten(header: str) -> str:
        start, _, encoded = header.rpartition(":")
        return f"{start}:{b64encode(rewrite(b64decode(encoded))).decode()}"

    return authorization(rewritten)


def signed_by(digest: str) -> Forge:
    return lambda request: resigned(request, digest)


def signed_with(secret: str) -> Forge:
    return lambda request: resigned(request, secret=secret)


def steps(*forges: Forge) -> Forge:
    return lambda request: reduce(lambda spoiled, forge: forge(spoiled), forges, request)


def signed_request(
    method: str = "POST", target: str = "/", body: bytes = BODY, now: datetime = NOW
) -> SignedRequest:
    """Return a request that is signed as it should be."""
    headers = (
        ("Content-Type", "application/json"),
        ("Date", format_datetime(now, usegmt=True)),
        (HASH, hashed(body)),
    )
    return resigned(SignedRequest(method, target, headers, body))


_MD5_OF_BODY = with_header("Content-MD5", hashed(BODY, "md5"))

# Those that a client can put on the wire for POST /, then those that it can't.
FORGERIES: Final[dict[str, tuple[Forge, str]]] = {
    "wrong key": (signed_with("another key"), "hmac_mismatch"),
    "start of the key": (signed_with(SECRET[:-1]), "hmac_mismatch"),
    "empty key": (signed_with(""), "hmac_mismatch"),
    "another body": (changed(body=OTHER_BODY), "content_hash_mismatch"),
    "one byte more": (changed(body=BODY + b" "), "content_hash_mismatch"),
    "empty body": (changed(body=b""), "content_hash_mismatch"),
    "another body and its hash": (
        steps(changed(body=OTHER_BODY), with_header(HASH, hashed(OTHER_BODY))),
        "hmac_mismatch",
    ),
    "hash of another body": (
        steps(with_header(HASH, hashed(OTHER_BODY)), resigned),
        "content_hash_mismatch",
    ),
    "hash in hexadecimal": (
        steps(with_header(HASH, hashlib.sha256(BODY).hexdigest()), resigned),
        "content_hash_mismatch",
    ),
    "hash truncated": (
        steps(with_header(HASH, b64encode(hashlib.sha256(BODY).digest()[:16]).decode()), resigned),
        "content_hash_mismatch",
    ),
    "hash not base64": (steps(with_header(HASH, "?" * 44), resigned), "base64_malformed"),
    "hash without padding": (
        steps(with_header(HASH, hashed(BODY).rstrip("=")), resigned),
        "base64_malformed",
    ),
    "hash not ASCII": (steps(with_header(HASH, "é" * 22), resigned), "base64_malformed"),
    "hash missing": (steps(without_header(HASH), resigned), "content_hash_missing"),
    "hash empty": (steps(with_header(HASH, ""), resigned), "content_hash_missing"),
    "hash twice": (steps(repeating(HASH), resigned), "content_hash_repeated"),
    "hash of both kinds": (steps(_MD5_OF_BODY, resigned), "content_hash_repeated"),
    "hash of the old kind": (
        steps(without_header(HASH), _MD5_OF_BODY, resigned),
        "md5_not_accepted",
    ),
    "query added": (changed(target="/?x=1"), "hmac_mismatch"),
    "query that is empty": (changed(target="/?"), "hmac_mismatch"),
    "real target hidden in X-Original-URI": (
        steps(changed(target="/?x=1"), with_header("X-Original-URI", "/")),
        "hmac_mismatch",
    ),
    "another Content-Type": (with_header("Content-Type", "text/plain"), "hmac_mismatch"),
    "Content-Type with a charset": (
        with_header("Content-Type", "application/json; charset=utf-8"),
        "hmac_mismatch",
    ),
    "Content-Type missing": (without_header("Content-Type"), "hmac_mismatch"),
    "another Date": (aged(1), "hmac_mismatch"),
    "Date 900 s old": (steps(aged(900), resigned), "date_out_of_range"),
    "Date 901 s ahead": (steps(aged(-901), resigned), "date_out_of_range"),
    "Date of another year": (steps(aged(365 * 86400), resigned), "date_out_of_range"),
    "Date in ISO 8601": (
        steps(with_header("Date", "2026-05-05T10:11:12Z"), resigned),
        "date_malformed",
    ),
    "Date in seconds": (steps(with_header("Date", "1777975872"), resigned), "date_malformed"),
    "Date with an offset": (
        steps(with_header("Date", "Tue, 05 May 2026 10:11:12 +0000"), resigned),
        "date_malformed",
    ),
    "Date of the 31st of June": (
        steps(with_header("Date", "Tue, 31 Jun 2026 10:11:12 GMT"), resigned),
        "date_malformed",
    ),
    "Date of the year 0": (
        steps(with_header("Date", "Tue, 05 May 0000 10:11:12 GMT"), resigned),
        "date_malformed",
    ),
    "Date empty": (steps(with_header("Date", ""), resigned), "date_malformed"),
    "Date missing": (steps(without_header("Date"), resigned), "date_missing"),
    "Date twice": (steps(repeating("Date"), resigned), "date_repeated"),
    "Authorization missing": (without_header("Authorization"), "authorization_missing"),
    "Authorization twice": (repeating("Authorization"), "authorization_repeated"),
    "Authorization empty": (with_header("Authorization", ""), "authorization_malformed"),
    "Bearer": (authorization(lambda old: "Bearer " + old[-44:]), "authorization_malformed"),
    "scheme in lower case": (authorization(str.lower), "authorization_malformed"),
    "access id missing": (
        authorization(lambda old: old.replace("concierge-1", "")),
        "authorization_malformed",
    ),
    "colon missing": (
        authorization(lambda old: old.replace(":", "")),
        "authorization_malformed",
    ),
    "two signatures": (
        authorization(lambda old: f"{old}, {old}"),
        "authorization_malformed",
    ),
    "digest in lower case": (
        authorization(lambda old: old.replace("SHA256", "sha256")),
        "authorization_malformed",
    ),
    "digest MD5": (signed_by("MD5"), "authorization_malformed"),
    "digest SHA224": (signed_by("SHA224"), "authorization_malformed"),
    "digest relabelled": (
        authorization(lambda old: old.replace("SHA256", "SHA512")),
        "hmac_mismatch",
    ),
    "digest label dropped": (
        authorization(lambda old: old.replace("-HMAC-SHA256", "")),
        "hmac_mismatch",
    ),
    "HMAC truncated": (signature(lambda old: old[:-1]), "hmac_mismatch"),
    "HMAC with a byte more": (signature(lambda old: old + b"\0"), "hmac_mismatch"),
    "HMAC of zeros": (signature(lambda old: bytes(len(old))), "hmac_mismatch"),
    "HMAC not base64": (
        authorization(lambda old: old.rpartition(":")[0] + ":***"),
        "authorization_malformed",
    ),
    "HMAC badly padded": (authorization(lambda old: old.rstrip("=")), "base64_malformed"),
}
PURE_FORGERIES: Final[dict[str, tuple[Forge, str]]] = {
    "another method": (changed(method="PUT"), "hmac_mismatch"),
    "method in lower case": (changed(method="post"), "hmac_mismatch"),
    "another path": (changed(target="/sessions/alice"), "hmac_mismatch"),
    "path spelled otherwise": (changed(target="/%2e"), "hmac_mismatch"),
    "Content-Type twice": (steps(repeating("Content-Type"), resigned), "content_type_repeated"),
    "Date 900 s ahead": (steps(aged(-900), resigned), "date_out_of_range"),
    "GET with a body but no hash": (
        steps(changed(method="GET"), without_header(HASH), resigned),
        "content_hash_missing",
    ),
    "POST without body or hash": (
        steps(changed(body=b""), without_header(HASH), resigned),
        "content_hash_missing",
    ),
    "GET with an empty hash and a body": (
        steps(changed(method="GET"), with_header(HASH, ""), resigned),
        "content_hash_missing",
    ),
    "Date not ASCII": (steps(with_header("Date", "\udcff"), resigned), "date_malformed"),
    "HMAC not ASCII": (
        authorization(lambda old: old[:-4] + "\udcff==="),
        "authorization_malformed",
    ),
}


# The gem's vectors


def vector_request(vector: Mapping[str, Any]) -> SignedRequest:
    url = urlsplit(vector["url"])
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    headers = (*vector["headers"].items(), ("authorization", vector["authorization"]))
    return SignedRequest(vector["method"], target, headers, vector["body_utf8"].encode())


def is_taken(request: SignedRequest, accept_md5: bool, *, key: str, now: datetime) -> bool:
    try:
        verify(request, [key], now, accept_md5)
    except SignatureError:
        return False
    return True


vectors = pytest.mark.parametrize("vector", VECTORS, ids=lambda v: f"{v['gem']} {v['name']}")


@vectors
def test_the_canonical_string_is_the_gems(vector: dict[str, Any]) -> None:
    request = vector_request(vector)
    content_hash = value_of(request, HASH) or value_of(request, "Content-MD5")
    # The gem can sign further headers, which we don't know of and so refuse.
    further = ",t1" if "headers_to_sign" in vector["name"] else ""

    canonical = canonical_string(
        request.method,
        value_of(request, "Content-Type"),
        content_hash,
        request.target,
        value_of(request, "Date"),
    )

    assert canonical.decode() + further == vector["canonical"]


@vectors
def test_the_hmac_of_the_canonical_string_is_the_gems(vector: dict[str, Any]) -> None:
    scheme = vector["authorization"].partition(" ")[0]
    digest = scheme.rpartition("-HMAC-")[2].lower() if "-HMAC-" in scheme else "sha1"

    code = hmac.digest(vector["key"].encode(), vector["canonical"].encode(), digest)

    assert vector["authorization"] == f"{scheme} concierge-1:{b64encode(code).decode()}"


@vectors
def test_a_request_of_the_gem_is_taken_or_refused_as_it_should_be(vector: dict[str, Any]) -> None:
    request = vector_request(vector)
    now = parsedate_to_datetime(vector["headers"]["date"])

    taken = {
        accept_md5: is_taken(request, accept_md5, key=vector["key"], now=now)
        for accept_md5 in (False, True)
    }

    assert taken == {
        False: vector["expect"] == "accept",
        True: vector["expect"] in {"accept", "accept-md5"},
    }


def test_the_vectors_hold_every_verdict() -> None:
    verdicts = {vector["expect"] for vector in VECTORS}

    assert verdicts == {"accept", "accept-md5", "refuse"}


# Forgers


@pytest.mark.parametrize(
    ("forge", "cause"),
    [pytest.param(*row, id=name) for name, row in (FORGERIES | PURE_FORGERIES).items()],
)
def test_a_forged_or_broken_request_is_refused_for_its_cause(forge: Forge, cause: str) -> None:
    forged = forge(signed_request())

    with pytest.raises(SignatureError) as refused:
        verify(forged, [SECRET], NOW)

    assert refused.value.cause == cause
    assert str(refused.value)


def test_every_cause_is_shown_by_a_forgery() -> None:
    shown = {cause for _, cause in (FORGERIES | PURE_FORGERIES).values()}

    assert shown == CAUSES


def test_a_refusal_tells_the_operator_nothing_secret() -> None:
    details = []
    for forge, _ in (FORGERIES | PURE_FORGERIES).values():
        forged = forge(signed_request())
        with pytest.raises(SignatureError) as refused:
            verify(forged, [SECRET], NOW)
        details.append(str(refused.value))

    assert not [detail for detail in details if SECRET in detail or "alice" in detail]


def test_the_refusal_of_an_old_gem_names_the_switch() -> None:
    forge, _ = FORGERIES["hash of the old kind"]

    with pytest.raises(SignatureError, match="CONCIERGE_ACCEPT_MD5=1"):
        verify(forge(signed_request()), [SECRET], NOW)


@pytest.mark.parametrize(
    ("name", "accepted"),
    [("hash of the old kind", True), ("hash of both kinds", False), ("hash missing", False)],
)
def test_accepting_md5_takes_one_md5_and_nothing_looser(name: str, accepted: bool) -> None:
    forge, _ = FORGERIES[name]

    assert is_taken(forge(signed_request()), True, key=SECRET, now=NOW) is accepted


def test_a_wrong_md5_is_refused_where_md5_is_accepted() -> None:
    old = steps(without_header(HASH), _MD5_OF_BODY, resigned)(signed_request())
    forged = replace(old, body=OTHER_BODY)

    with pytest.raises(SignatureError) as refused:
        verify(forged, [SECRET], NOW, accept_md5=True)

    assert refused.value.cause == "content_hash_mismatch"


# What is taken


@pytest.mark.parametrize("seconds", [899, 0, -899])
def test_a_date_within_900_s_passes(seconds: int) -> None:
    request = resigned(aged(seconds)(signed_request()))

    verify(request, [SECRET], NOW)


def test_the_clock_may_be_in_any_time_zone() -> None:
    now = NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))

    verify(signed_request(), [SECRET], now)


@pytest.mark.parametrize("digest", ["SHA1", "SHA256", "SHA384", "SHA512"])
def test_every_digest_of_the_gem_is_known(digest: str) -> None:
    verify(resigned(signed_request(), digest), [SECRET], NOW)


@pytest.mark.parametrize(
    "date",
    [
        "Tue, 05 May 2026 10:11:12 GMT",
        "Tuesday, 05-May-26 10:11:12 GMT",
        "Tue May  5 10:11:12 2026",
    ],
    ids=["in use", "RFC 850", "asctime"],
)
def test_each_form_of_an_http_date_is_read(date: str) -> None:
    request = resigned(with_header("Date", date)(signed_request()))

    verify(request, [SECRET], NOW)


@pytest.mark.parametrize("signer", ["new", "old"])
def test_either_of_two_secrets_may_have_signed(signer: str) -> None:
    request = resigned(signed_request(), secret=signer)

    verify(request, ["new", "old"], NOW)


def test_no_secret_accepts_nothing() -> None:
    with pytest.raises(SignatureError) as refused:
        verify(signed_request(), [], NOW)

    assert refused.value.cause == "hmac_mismatch"


@pytest.mark.parametrize(
    ("target", "signed_target"),
    [
        ("http://op.example.com/a?b=c", "/a?b=c"),
        ("HTTPS://op.example.com:8443/", "/"),
        ("https://op.example.com", "/"),
        ("https://op.example.com?x=1", "?x=1"),
        ("/a?next=http://other.example.com/b", "/a?next=http://other.example.com/b"),
        ("//op.example.com/a", "//op.example.com/a"),
    ],
    ids=["absolute", "upper case and port", "no path", "query alone", "URL in query", "no scheme"],
)
def test_scheme_and_host_of_a_target_are_not_signed(target: str, signed_target: str) -> None:
    request = replace(signed_request(target=signed_target), target=target)

    verify(request, [SECRET], NOW)


@pytest.mark.parametrize(
    "rename", [str.lower, str.upper, str.title], ids=["lower", "upper", "title"]
)
def test_the_case_of_header_names_does_not_matter(rename: Callable[[str], str]) -> None:
    request = signed_request()
    renamed = tuple((rename(name), value) for name, value in request.headers)

    verify(replace(request, headers=renamed), [SECRET], NOW)


def test_the_signature_may_be_spelled_in_base64_with_other_spare_bits() -> None:
    request = signed_request()
    header = value_of(request, "Authorization")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    respelled = header[:-2] + dict(pairwise(alphabet))[header[-2]] + "="
    assert b64decode(respelled[-44:]) == b64decode(header[-44:])

    verify(with_header("Authorization", respelled)(request), [SECRET], NOW)


@pytest.mark.parametrize("digest", ["SHA1", "SHA512"])
def test_what_was_verified_is_the_hmac_however_it_is_spelled(digest: str) -> None:
    request = resigned(signed_request(), digest)
    encoded = value_of(request, "Authorization").rpartition(":")[2]

    verified = verify(request, ["another", SECRET], NOW)

    assert verified == b64decode(encoded)
    assert request_key(verified) == verified.hex()[:32]


@pytest.mark.parametrize(
    ("field", "forge"),
    [
        ("Content-Type", with_header("Content-Type", "text/\udce9\udcff")),
        ("target", changed(target="/caf\udce9?x=\udcff")),
        ("access id", authorization(lambda old: old.replace("concierge-1", "\udcff"))),
    ],
    ids=["Content-Type", "target", "access id"],
)
def test_bytes_that_are_not_utf8_are_signed_as_they_are(field: str, forge: Forge) -> None:
    request = forge(signed_request())
    signed = request if field == "access id" else resigned(request)

    verify(signed, [SECRET], NOW)


def test_a_request_without_content_type_signs_an_empty_field() -> None:
    verify(resigned(without_header("Content-Type")(signed_request())), [SECRET], NOW)


def test_an_empty_hash_header_beside_the_real_one_does_not_count() -> None:
    verify(with_header("Content-MD5", "")(signed_request()), [SECRET], NOW)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_a_request_without_body_needs_no_hash(method: str) -> None:
    request = without_header(HASH)(signed_request(method, "/sessions/alice", b""))

    verify(resigned(request), [SECRET], NOW)


@pytest.mark.parametrize(
    ("target", "body"),
    [("/", BODY), ("/a,b?c=d,e", b""), ("/incoming/postback", bytes(range(256)))],
    ids=["text", "commas", "any bytes"],
)
def test_what_we_sign_is_taken_by_the_same_rule(target: str, body: bytes) -> None:
    headers = sign("POST", target, "application/json", body, SECRET, NOW)

    verify(SignedRequest("POST", target, tuple(headers.items()), body), [SECRET], NOW)


def test_our_signature_dates_in_gmt_wherever_the_clock_is() -> None:
    now = NOW.astimezone(timezone(timedelta(hours=-9)))

    headers = sign("POST", "/", "application/json", BODY, SECRET, now)

    assert headers == {
        "Content-Type": "application/json",
        "Date": "Tue, 05 May 2026 10:11:12 GMT",
        HASH: hashed(BODY),
        "Authorization": headers["Authorization"],
    }
    assert headers["Authorization"].startswith("APIAuth-HMAC-SHA256 switchboard:")


# Any change, any header


def meaning(request: SignedRequest) -> object:
    """Return what of *request* is protected: all but names' case and the access id."""
    headers = sorted((name.lower(), value) for name, value in request.headers)
    return (
        request.method,
        request.target,
        request.body,
        [
            _authorized(value) if name == "authorization" else (name, value)
            for name, value in headers
        ],
    )


def _authorized(value: str) -> object:
    scheme, _, rest = value.partition(" ")
    access_id, _, encoded = rest.partition(":")
    if not access_id or any(character.isspace() for character in access_id):
        return value
    try:
        return scheme, b64decode(encoded, validate=True)
    except (Base64Error, ValueError):
        return value


def edited(data: st.DataObject, old: bytes) -> bytes:
    """Return *old* with one byte replaced, removed or added."""
    at = data.draw(st.integers(0, len(old) - 1), label="at")
    new = data.draw(st.binary(max_size=1), label="new")
    return old[:at] + new + old[at + data.draw(st.integers(0, 1), label="removed") :]


def edited_text(data: st.DataObject, old: str) -> str:
    return edited(data, old.encode("utf-8", "surrogateescape")).decode("utf-8", "surrogateescape")


def tampered(data: st.DataObject, request: SignedRequest) -> SignedRequest:
    part = data.draw(st.sampled_from(["method", "target", "body", "name", "value"]), label="part")
    if part == "body":
        return replace(request, body=edited(data, request.body))
    if part == "method":
        return replace(request, method=edited_text(data, request.method))
    if part == "target":
        return replace(request, target=edited_text(data, request.target))
    headers = [list(pair) for pair in request.headers]
    header = headers[data.draw(st.integers(0, len(headers) - 1), label="header")]
    place = ["name", "value"].index(part)
    header[place] = edited_text(data, header[place])
    return replace(request, headers=tuple((name, value) for name, value in headers))


@given(st.data())
def test_a_change_of_any_byte_that_can_matter_is_refused(data: st.DataObject) -> None:
    request = signed_request(target="/sessions/alice?x=1,2")

    forged = tampered(data, request)

    harmless = meaning(forged) == meaning(request)
    assert is_taken(forged, False, key=SECRET, now=NOW) is harmless


_wire_text = st.binary(max_size=60).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
_names = st.sampled_from(["Authorization", "Date", "Content-Type", "Content-MD5", HASH])
_values = st.sampled_from([value for _, value in signed_request().headers])
_header_lists = st.lists(st.tuples(_names | _wire_text, _values | _wire_text), max_size=8)


@given(_header_lists, _wire_text, _wire_text, st.binary(max_size=20), st.booleans())
def test_whatever_the_headers_are_nothing_but_a_signature_error_is_raised(
    headers: list[tuple[str, str]], method: str, target: str, body: bytes, accept_md5: bool
) -> None:
    request = SignedRequest(method, target, headers, body)

    with pytest.raises(SignatureError) as refused:
        verify(request, [SECRET], NOW, accept_md5)

    assert refused.value.cause in CAUSES
