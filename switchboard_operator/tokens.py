"""Tokens, by which a client of `switchboard.v1` proves that a session is its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
from cryptography.fernet import InvalidToken

from switchboard_operator import sessions
from switchboard_operator.errors import TokenRefused

TOKEN_KEY = b"switchboard token"  # HKDF info: a key for tokens and nothing else


@dataclass(frozen=True, slots=True)
class Proof:
    """What a token proves: a session id, and since when, in seconds of the epoch."""

    session: str
    issued: int


class _Content(msgspec.Struct):
    session: str
    issued: int


class Tokens:
    """Issues tokens and reads them; a token lives for *lifetime* seconds after its first issue."""

    def __init__(self, secrets: Sequence[str], lifetime: int) -> None:
        """Encrypt with a key of the first of *secrets*, decrypt with all of them."""
        self._cipher = sessions.Cipher(secrets, TOKEN_KEY)
        self._lifetime = lifetime

    def issue(self, proof: Proof) -> str:
        """Return a token for *proof*, whose time of first issue it keeps."""
        content = msgspec.json.encode(_Content(proof.session, proof.issued))
        return self._cipher.encrypt(content).decode()

    def read(self, token: str, now: float) -> Proof:
        """
        Return what *token* proves at the time *now*.

        Raises:
            TokenRefused: nothing.
        """
        try:
            content = msgspec.json.decode(self._cipher.decrypt(token), type=_Content)
            is_over = now - content.issued >= self._lifetime
        except (InvalidToken, ValueError, ArithmeticError, RecursionError) as exc:
            raise TokenRefused from exc
        if is_over or not sessions.is_valid(content.session):
            raise TokenRefused
        return Proof(content.session, content.issued)
