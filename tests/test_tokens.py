"""Tokens: what they prove, for how long, under which keys, and that nothing else passes for one."""

from typing import Final

import pytest
from cryptography.fernet import InvalidToken
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator import sessions
from switchboard_operator.errors import TokenRefused
from switchboard_operator.sessions import COOKIE_KEY, Cipher
from switchboard_operator.tokens import TOKEN_KEY, Proof, Tokens

DAY = 86400  # seconds
NOW = 1_700_000_000.5
ISSUED = 1_700_000_000
MINTED = "s1.0123456789abcdef0123456789abcdef"

TOKENS = Tokens(["secret"], DAY)
CIPHER = Cipher(["secret"], TOKEN_KEY)


def containing(content: bytes) -> str:
    """Return a token of ours that holds *content*, whatever that is."""
    return CIPHER.encrypt(content).decode()


@pytest.mark.parametrize("session", [MINTED, "alice", "x" * 128, "a.b_c:d@e+f/g=h-i"])
def test_a_token_proves_a_session_and_since_when(session: str) -> None:
    token = TOKENS.issue(Proof(session, ISSUED))

    assert TOKENS.read(token, NOW) == Proof(session, ISSUED)


def test_a_token_shows_nothing_of_what_it_proves() -> None:
    token = TOKENS.issue(Proof(MINTED, ISSUED))

    assert MINTED not in token
    assert token.isascii()
    assert token != TOKENS.issue(Proof(MINTED, ISSUED))


# How long


@pytest.mark.parametrize("age", [0, 1, DAY - 1, DAY - 0.5])
def test_a_token_is_good_all_its_life(age: float) -> None:
    token = TOKENS.issue(Proof("alice", ISSUED))

    assert TOKENS.read(token, ISSUED + age).session == "alice"


@pytest.mark.parametrize("age", [DAY, DAY + 0.5, 1000 * DAY])
def test_a_token_is_refused_when_its_life_is_over(age: float) -> None:
    token = TOKENS.issue(Proof("alice", ISSUED))

    with pytest.raises(TokenRefused):
        TOKENS.read(token, ISSUED + age)


def test_a_new_token_does_not_live_longer_than_the_first() -> None:
    token = TOKENS.issue(Proof("alice", ISSUED))

    for hour in range(24):
        token = TOKENS.issue(TOKENS.read(token, ISSUED + 3600 * hour))

    assert TOKENS.read(token, ISSUED + DAY - 1).issued == ISSUED
    with pytest.raises(TokenRefused):
        TOKENS.read(token, ISSUED + DAY)


def test_the_reader_says_how_long_a_token_lives() -> None:
    token = TOKENS.issue(Proof("alice", ISSUED))

    assert Tokens(["secret"], 2 * DAY).read(token, ISSUED + DAY).session == "alice"
    with pytest.raises(TokenRefused):
        Tokens(["secret"], 60).read(token, ISSUED + 60)


# Under which keys


def test_the_first_secret_encrypts_and_all_decrypt() -> None:
    old, new = Tokens(["old"], DAY), Tokens(["new"], DAY)
    rotating = Tokens(["new", "old"], DAY)

    before = old.issue(Proof("alice", ISSUED))
    since = rotating.issue(Proof("alice", ISSUED))

    assert rotating.read(before, NOW) == rotating.read(since, NOW) == Proof("alice", ISSUED)
    assert new.read(since, NOW) == Proof("alice", ISSUED)
    with pytest.raises(TokenRefused):
        old.read(since, NOW)


def test_without_its_secret_a_token_is_refused() -> None:
    token = Tokens(["old"], DAY).issue(Proof("alice", ISSUED))

    with pytest.raises(TokenRefused):
        Tokens(["new", "newer"], DAY).read(token, NOW)


def test_a_token_that_comes_back_is_renewed_under_the_first_secret() -> None:
    before = Tokens(["old"], DAY).issue(Proof("alice", ISSUED))
    rotating = Tokens(["new", "old"], DAY)

    renewed = rotating.issue(rotating.read(before, NOW))

    assert Tokens(["new"], DAY).read(renewed, NOW) == Proof("alice", ISSUED)


def test_a_cookie_is_not_taken_for_a_token() -> None:
    content = b'{"session":"%s","issued":%d}' % (MINTED.encode(), ISSUED)
    cookie = Cipher(["secret"], COOKIE_KEY).encrypt(content).decode()

    with pytest.raises(TokenRefused):
        TOKENS.read(cookie, NOW)


def test_a_token_is_not_taken_for_a_cookie() -> None:
    token = TOKENS.issue(Proof(MINTED, ISSUED))

    with pytest.raises(InvalidToken):
        Cipher(["secret"], COOKIE_KEY).decrypt(token)
    assert sessions.decode_cookie(CIPHER.decrypt(token).decode()) == {}


# What is refused


OTHER_SHAPES: Final[dict[str, bytes]] = {
    "empty": b"",
    "no JSON": b"alice",
    "not UTF-8": b'{"session":"\xff","issued":1700000000}',
    "null": b"null",
    "string": b'"alice"',
    "number": b"1700000000",
    "array": b'["alice",1700000000]',
    "no keys": b"{}",
    "no session": b'{"issued":1700000000}',
    "no time": b'{"session":"alice"}',
    "session null": b'{"session":null,"issued":1700000000}',
    "session a number": b'{"session":1,"issued":1700000000}',
    "session an object": b'{"session":{"id":"alice"},"issued":1700000000}',
    "a cookie's": b'{"created":1700000000,"session":{"id":"%s"}}' % MINTED.encode(),
    "session empty": b'{"session":"","issued":1700000000}',
    "session too long": b'{"session":"%s","issued":1700000000}' % (b"a" * 129),
    "session of a probe": b'{"session":"~probe.1","issued":1700000000}',
    "session not ASCII": '{"session":"josé","issued":1700000000}'.encode(),
    "session a lone surrogate": rb'{"session":"\ud800","issued":1700000000}',
    "time null": b'{"session":"alice","issued":null}',
    "time a string": b'{"session":"alice","issued":"1700000000"}',
    "time a fraction": b'{"session":"alice","issued":1700000000.5}',
    "time true": b'{"session":"alice","issued":true}',
    "time infinite": b'{"session":"alice","issued":1e999}',
    "time no number": b'{"session":"alice","issued":NaN}',
    "time long ago": b'{"session":"alice","issued":-1700000000}',
    "time beyond all floats": b'{"session":"alice","issued":1' + b"0" * 400 + b"}",
    "time before all floats": b'{"session":"alice","issued":-1' + b"0" * 400 + b"}",
    "something after": b'{"session":"alice","issued":1700000000}x',
    "nested deeply": b"[" * 100_000,
    "nested deeply inside": b'{"session":"alice","issued":1700000000,"x":' + b"[" * 100_000,
}


@pytest.mark.parametrize("content", OTHER_SHAPES.values(), ids=OTHER_SHAPES)
def test_a_token_of_ours_with_other_content_is_refused(content: bytes) -> None:
    token = containing(content)

    with pytest.raises(TokenRefused):
        TOKENS.read(token, NOW)


def test_content_with_more_than_we_know_is_read() -> None:
    token = containing(b'{"x":[1],"issued":1700000000,"session":"alice"}')

    assert TOKENS.read(token, NOW) == Proof("alice", ISSUED)


@given(st.binary(max_size=200))
def test_no_content_raises_anything_but_a_refusal(content: bytes) -> None:
    token = containing(content)

    with pytest.raises(TokenRefused):
        TOKENS.read(token, NOW)


BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_="


@given(
    st.text(st.characters())
    | st.binary().map(lambda data: data.decode("latin-1"))
    | st.text(BASE64, min_size=90).map(lambda text: f"gAAAAA{text}")
)
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.read(text, NOW)


@pytest.mark.parametrize("character", ["A", "=", "é", "\0", "\ud800"])
def test_a_token_of_any_length_is_refused(character: str) -> None:
    with pytest.raises(TokenRefused):
        TOKENS.read(character * 1_000_000, NOW)


@given(st.integers(0), st.sampled_from(BASE64[:64]))
def test_a_token_that_was_changed_is_refused(place: int, character: str) -> None:
    token = TOKENS.issue(Proof("alice", ISSUED)).rstrip("=")
    place %= len(token) - 1  # the last character may stand for fewer bits than it has
    changed = token[:place] + character + token[place + 1 :]

    if changed != token:
        with pytest.raises(TokenRefused):
            TOKENS.read(changed + "=" * (-len(changed) % 4), NOW)


@pytest.mark.parametrize("cut", [1, 20, 60])
def test_a_token_that_was_cut_off_is_refused(cut: int) -> None:
    token = TOKENS.issue(Proof("alice", ISSUED))

    with pytest.raises(TokenRefused):
        TOKENS.read(token[:-cut], NOW)
