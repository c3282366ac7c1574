"""What logs and spans call a session, so that nobody learns from them who it is."""

import hmac
from collections.abc import Sequence

from switchboard_operator import sessions
from switchboard_operator.marks import Mark

LOG_KEY = b"switchboard log"  # HKDF info: a key for aliases and nothing else


class Aliases:
    """
    Makes aliases, only when a line is really logged: nothing is kept of any.

    Those of sessions and postbacks are the same on every instance, as long as the first of
    *secrets* is.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        """Derive the key from the first of *secrets*."""
        self._key = sessions.derive(secrets[0], LOG_KEY)

    def of_session(self, session: str) -> str:
        """Return the alias of a session, "" of none: who has no key can't tell whose it is."""
        return self._of(session.encode()).hex()[:16] if session else ""

    def of_connection(self, number: int) -> str:
        """
        Return the alias of the connection whose `id()` is *number*, "" if that is 0.

        Nothing else has it on this instance as long as the connection is there.
        """
        return self._of(b"%d" % number).hex()[:8] if number else ""

    def of_postback(self, session: str, mark: Mark) -> bytes:
        """Return 24 bytes for the postback with the id *mark*, which no other one has."""
        return self._of(f"{session} {mark}".encode())[:24]  # no session has a space in it

    def _of(self, name: bytes) -> bytes:
        return hmac.digest(self._key, name, "sha256")
