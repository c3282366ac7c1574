"""How fast a session may send: a rate with a burst, as one number per active session (GCRA)."""

from itertools import islice


class RateLimiter:
    """
    Tell each session how long to wait before its next message.

    A session's number is the time at which its allowance is whole again; one that lies in the past
    is forgotten, so memory follows the sessions of the last `burst / rate` seconds.
    """

    def __init__(self, rate: float, burst: int) -> None:
        """Allow *rate* messages a second (0: any) and *burst* at once."""
        self._interval = 1 / rate if rate else 0.0  # seconds
        self._tolerance = (burst - 1) * self._interval  # seconds
        self._whole_at: dict[str, float] = {}  # the longest untouched first

    def delay(self, session: str, now: float) -> float:
        """Return the seconds until *session* may send; 0 at once."""
        whole_at = self._whole_at.get(session, now)
        return max(0.0, whole_at - now - self._tolerance)

    def spend(self, session: str, now: float) -> None:
        """Count a message of *session* against its allowance."""
        if not self._interval:
            return
        self._forget(now)
        whole_at = self._whole_at.pop(session, now)
        self._whole_at[session] = max(whole_at, now) + self._interval

    def _forget(self, now: float) -> None:
        # Two go for each one that comes, so the table shrinks again after a rush.
        for session, whole_at in list(islice(self._whole_at.items(), 2)):
            if whole_at <= now:
                del self._whole_at[session]
