"""Which session a client may have, and the cookie that proves one of ours."""

import json
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Any, Final

import pytest
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator import sessions
from switchboard_operator.errors import UpgradeRefused
from switchboard_operator.sessions import COOKIE_KEY, Cipher

MINTED = "s1.0123456789abcdef0123456789abcdef"
OTHER = "s1.fedcba9876543210fedcba9876543210"

VALID: Final[dict[str, str]] = {
    "one character": "x",
    "128 characters": "a" * 128,
    "UUID": "7c1f1f0e-6d0f-4d5c-8a53-2f0c2f6b9a11",
    "every sign": "._:@+/=-",
    "letters and digits": "AZaz09",
    "e-mail address": "alice+1@example.com",
    "one of ours": MINTED,
}
INVALID: Final[dict[str, str]] = {
    "empty": "",
    "129 characters": "a" * 129,
    "blank": "a b",
    "line end": "alice\n",
    "NUL": "alice\0",
    "probe": "~probe.1",
    "not ASCII": "josé",
    "full-width letter": "\uff21",
    "Arabic digit": "\u0661",
    "lone surrogate": "\udcff",
    "comma": "a,b",
    "percent": "a%20b",
    "quote": 'a"b',
    "angle bracket": "<a>",
}


def named(rows: dict[str, Any]) -> list[Any]:
    """Return *rows* as parameters under their names."""
    return [
        pytest.param(*row, id=name) if isinstance(row, tuple) else pytest.param(row, id=name)
        for name, row in rows.items()
    ]


def test_minted_ids_are_ours_valid_and_each_another() -> None:
    minted = [sessions.mint() for _ in range(100)]

    assert len(set(minted)) == 100
    assert all(re.fullmatch(r"s1\.[0-9a-f]{32}", session) for session in minted)
    assert all(sessions.is_valid(session) for session in minted)


@pytest.mark.parametrize("session", named(VALID))
def test_a_valid_id_is_valid(session: str) -> None:
    assert sessions.is_valid(session)


@pytest.mark.parametrize("session", named(INVALID))
def test_an_invalid_id_is_not(session: str) -> None:
    assert not sessions.is_valid(session)


@given(st.text(st.characters(), max_size=140))
def test_a_valid_id_is_short_printable_ascii_without_blanks(session: str) -> None:
    allowed = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@+/=-")

    assert sessions.is_valid(session) == (1 <= len(session) <= 128 and set(session) <= allowed)


# Choosing


@pytest.mark.parametrize(
    ("asked", "proven", "chosen"),
    named(
        {
            "nothing": ([], None, None),
            "proof only": ([], MINTED, MINTED),
            "empty": ([""], None, None),
            "empty with proof": ([""], MINTED, MINTED),
            "own id": (["alice"], None, "alice"),
            "own id with proof of another": (["alice"], MINTED, "alice"),
            "one of ours with proof": ([MINTED], MINTED, MINTED),
            "alike, but not ours": (["S1." + "0" * 32], None, "S1." + "0" * 32),
        }
    ),
)
def test_a_client_gets_what_it_may_have(
    asked: Sequence[str], proven: str | None, chosen: str | None
) -> None:
    assert sessions.choose(asked, proven, clients_choose=True) == chosen


@pytest.mark.parametrize(
    ("asked", "proven", "status", "code"),
    named(
        {
            "twice": (["alice", "bob"], None, 400, "bad_session"),
            "twice the same": (["alice", "alice"], None, 400, "bad_session"),
            "twice, once empty": (["alice", ""], None, 400, "bad_session"),
            "twice empty": (["", ""], MINTED, 400, "bad_session"),
            "ours without proof": ([MINTED], None, 403, "session_not_yours"),
            "ours with proof of another": ([MINTED], OTHER, 403, "session_not_yours"),
            "ours cut short": (["s1."], None, 403, "session_not_yours"),
            "ours in upper case": (
                [MINTED.upper().replace("S", "s")],
                MINTED,
                403,
                "session_not_yours",
            ),
        }
        | {name: ([row], MINTED, 400, "bad_session") for name, row in INVALID.items() if row}
    ),
)
def test_a_client_is_refused_what_it_may_not_have(
    asked: Sequence[str], proven: str | None, status: int, code: str
) -> None:
    with pytest.raises(UpgradeRefused) as refused:
        sessions.choose(asked, proven, clients_choose=True)

    assert (refused.value.status, refused.value.code) == (status, code)
    assert not [value for value in asked if value and value in refused.value.detail]


@pytest.mark.parametrize(
    ("asked", "proven", "chosen"),
    [([], None, None), ([], MINTED, MINTED), ([""], MINTED, MINTED), ([MINTED], MINTED, MINTED)],
    ids=["nothing", "proof only", "empty", "ours with proof"],
)
def test_where_clients_may_not_choose_what_is_proven_still_counts(
    asked: Sequence[str], proven: str | None, chosen: str | None
) -> None:
    assert sessions.choose(asked, proven, clients_choose=False) == chosen


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        ("alice", 403, "session_not_allowed"),
        (MINTED, 403, "session_not_yours"),
        ("~", 400, "bad_session"),
    ],
    ids=["own id", "ours without proof", "malformed"],
)
def test_where_clients_may_not_choose_their_choice_is_refused(
    asked: str, status: int, code: str
) -> None:
    with pytest.raises(UpgradeRefused) as refused:
        sessions.choose([asked], None, clients_choose=False)

    assert (refused.value.status, refused.value.code) == (status, code)


# The cipher


def test_the_key_is_derived_from_the_secret_by_hkdf() -> None:
    derived = HKDF(SHA256(), length=32, salt=None, info=COOKIE_KEY).derive("sécret".encode())

    token = Cipher(["sécret"], COOKIE_KEY).encrypt(b"content")

    assert Fernet(urlsafe_b64encode(derived)).decrypt(token) == b"content"


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    rotating = Cipher(["new", "old"], COOKIE_KEY)

    token = rotating.encrypt(b"content")

    assert Cipher(["new"], COOKIE_KEY).decrypt(token) == b"content"
    assert rotating.decrypt(Cipher(["old"], COOKIE_KEY).encrypt(b"before")) == b"before"
    with pytest.raises(InvalidToken):
        Cipher(["old"], COOKIE_KEY).decrypt(token)


@pytest.mark.parametrize(
    "stranger",
    [Cipher(["other"], COOKIE_KEY), Cipher(["secret"], b"switchboard token")],
    ids=["another secret", "another purpose"],
)
def test_what_another_key_encrypted_is_not_decrypted(stranger: Cipher) -> None:
    token = stranger.encrypt(b"content")

    with pytest.raises(InvalidToken):
        Cipher(["secret"], COOKIE_KEY).decrypt(token)


def test_a_token_is_not_decrypted_beyond_its_age() -> None:
    derived = HKDF(SHA256(), length=32, salt=None, info=COOKIE_KEY).derive(b"secret")
    old = Fernet(urlsafe_b64encode(derived)).encrypt_at_time(b"content", int(time.time()) - 60)
    cipher = Cipher(["secret"], COOKIE_KEY)

    assert cipher.decrypt(old, ttl=120) == b"content"
    with pytest.raises(InvalidToken):
        cipher.decrypt(old, ttl=30)


@given(st.binary(max_size=200))
def test_garbage_is_an_invalid_token_and_nothing_worse(garbage: bytes) -> None:
    with pytest.raises(InvalidToken):
        Cipher(["secret", "older"], COOKIE_KEY).decrypt(garbage)


# What is inside a cookie


@pytest.mark.parametrize(
    "text",
    [
        f'{{"created":1700000000,"session":{{"id":"{MINTED}"}}}}',
        f'{{"x":1,"session":{{"id":"{MINTED}","y":[]}},"created":1700000000}}',
    ],
    ids=["as written", "with more than we know"],
)
def test_a_cookie_of_ours_is_read(text: str) -> None:
    assert sessions.decode_cookie(text) == {"created": 1700000000, "session": {"id": MINTED}}


ABSURD_COOKIES: Final[dict[str, str]] = {
    "empty": "",
    "no JSON": "session",
    "list": "[]",
    "null": "null",
    "number": "1",
    "string": f'"{MINTED}"',
    "no keys": "{}",
    "no session": '{"created":1}',
    "no created": f'{{"session":{{"id":"{MINTED}"}}}}',
    "created null": f'{{"created":null,"session":{{"id":"{MINTED}"}}}}',
    "created a string": f'{{"created":"1","session":{{"id":"{MINTED}"}}}}',
    "created a fraction": f'{{"created":1.5,"session":{{"id":"{MINTED}"}}}}',
    "created infinite": f'{{"created":1e999,"session":{{"id":"{MINTED}"}}}}',
    "session null": '{"created":1,"session":null}',
    "session a list": f'{{"created":1,"session":["{MINTED}"]}}',
    "session a string": f'{{"created":1,"session":"{MINTED}"}}',
    "session without id": '{"created":1,"session":{}}',
    "id null": '{"created":1,"session":{"id":null}}',
    "id a number": '{"created":1,"session":{"id":1}}',
    "id nested": f'{{"created":1,"session":{{"id":{{"id":"{MINTED}"}}}}}}',
    "id empty": '{"created":1,"session":{"id":""}}',
    "id of the client's choice": '{"created":1,"session":{"id":"alice"}}',
    "id too short": f'{{"created":1,"session":{{"id":"{MINTED[:-1]}"}}}}',
    "id too long": f'{{"created":1,"session":{{"id":"{MINTED}0"}}}}',
    "id in upper case": f'{{"created":1,"session":{{"id":"{MINTED.upper()}"}}}}',
    "id with a line end": f'{{"created":1,"session":{{"id":"{MINTED}\\n"}}}}',
    "id a lone surrogate": '{"created":1,"session":{"id":"\\ud800"}}',
    "nested deeply": "[" * 100_000,
    "nested deeply inside": '{"created":1,"x":' + "[" * 100_000,
}


@pytest.mark.parametrize("text", named(ABSURD_COOKIES))
def test_any_other_content_is_no_cookie(text: str) -> None:
    assert sessions.decode_cookie(text) == {}


@given(st.text(st.characters()))
def test_no_content_raises(text: str) -> None:
    assert sessions.decode_cookie(text) == {}


@given(st.integers())
def test_whenever_a_cookie_was_created_it_is_read_or_none(created: int) -> None:
    text = json.dumps({"created": created, "session": {"id": MINTED}})

    assert sessions.decode_cookie(text) in ({"created": created, "session": {"id": MINTED}}, {})
