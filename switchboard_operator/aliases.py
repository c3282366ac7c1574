"""What log lines call a session and a connection, so that nobody learns from a log who it is."""

import hmac
from collections.abc import Sequence

from switchboard_operator import sessions

LOG_KEY = b"switchboard log"  # HKDF info: a key for aliases and nothing else


class Aliases:
    """
    Makes aliases, only when a line is really logged: nothing is kept of any.

    A session's is the same on every instance, as long as the first of *secrets* is.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        """Derive the key from the first of *secrets*."""
        self._key = sessions.derive(secrets[0], LOG_KEY)

    def of_session(self, session: str) -> str:
        """Return the alias of a session, "" of none: who has no key can't tell whose it is."""
        return self._of(session.encode())[:16] if session else ""

    def of_connection(self, connection: object) -> str:
        """Return the alias of *connection*, which nothing else has on this instance meanwhile."""
        return self._of(b"%d" % id(connection))[:8]

    def _of(self, name: bytes) -> str:
        return hmac.digest(self._key, name, "sha256").hex()
