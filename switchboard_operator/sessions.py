"""
Who a user is: the rules for session ids, and the encrypted cookie that proves one of ours.

A session id is an identifier (the `From` that the Concierge sees), not a credential. Ids that
clients choose are honoured as they are; ids minted here only with proof.
"""

import re
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

import msgspec
from cryptography.fernet import Fernet, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from switchboard_operator.errors import UpgradeRefused

COOKIE_NAME = "switchboard_session"
COOKIE_LIFETIME = 30 * 24 * 3600  # seconds
COOKIE_KEY = b"switchboard cookie"  # HKDF info: a key for cookies and nothing else

_MINTED_PREFIX = "s1."
_MINTED = re.compile(r"s1\.[0-9a-f]{32}")
_VALID = re.compile(r"[A-Za-z0-9._:@+/=-]{1,128}")


def mint() -> str:
    """Return a fresh session id of ours: `s1.` and 32 hexadecimal digits."""
    return _MINTED_PREFIX + uuid.uuid4().hex


def is_valid(session: str) -> bool:
    """Tell whether *session* can be the id of a session at all."""
    return _VALID.fullmatch(session) is not None


def choose(asked: Sequence[str], proven: str | None, *, clients_choose: bool) -> str | None:
    """
    Return the session of a client that *asked* for it by `?session=`, or the *proven* one.

    *asked* holds every value of the parameter, *proven* the id inside a cookie that we take, if
    any. None means that the client has none: mint one.

    Raises:
        UpgradeRefused: the id is malformed, or the client may not have it.
    """
    if len(asked) > 1:
        raise UpgradeRefused("bad_session", "session is given more than once", status=400)
    if not asked or not asked[0]:
        return proven
    _check_choice(asked[0], proven, clients_choose)
    return asked[0]


def _check_choice(session: str, proven: str | None, clients_choose: bool) -> None:
    if not is_valid(session):
        raise UpgradeRefused(
            "bad_session", "session must be 1 to 128 of A-Z a-z 0-9 . _ : @ + / = -", status=400
        )
    if session.startswith(_MINTED_PREFIX):
        if session != proven:
            raise UpgradeRefused("session_not_yours", "this session needs proof", status=403)
    elif not clients_choose:
        raise UpgradeRefused("session_not_allowed", "clients may not choose a session", status=403)


class Cipher(Fernet):
    """A Fernet of several keys, of which the first encrypts and all decrypt (rotation)."""

    def __init__(self, secrets: Sequence[str], purpose: bytes) -> None:
        """Derive a key from each of *secrets* by HKDF-SHA256, bound to *purpose*."""
        self._keys = MultiFernet([Fernet(derive(secret, purpose)) for secret in secrets])

    def encrypt(self, data: bytes) -> bytes:
        """Encrypt with the first key."""
        return self._keys.encrypt(data)

    def decrypt(self, token: bytes | str, ttl: int | None = None) -> bytes:
        """Decrypt with whichever key fits; raises InvalidToken."""
        return self._keys.decrypt(token, ttl)


class _CookieSession(msgspec.Struct):
    id: str


class _Cookie(msgspec.Struct):
    created: int
    session: _CookieSession


def decode_cookie(text: str) -> dict[str, Any]:
    """
    Return a decrypted cookie's content for aiohttp-session; an empty one if it isn't one of ours.

    Decrypting proves that we encrypted it, not that this version did, so its shape is checked.
    """
    try:
        cookie = msgspec.json.decode(text, type=_Cookie)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return {}
    if not _MINTED.fullmatch(cookie.session.id):
        return {}
    return {"created": cookie.created, "session": {"id": cookie.session.id}}


def derive(secret: str, purpose: bytes) -> bytes:
    """Return a key of 32 bytes, in base64, that *secret* gives for *purpose* and no other."""
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(secret.encode())
    return urlsafe_b64encode(key)
