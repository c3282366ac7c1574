"""A memory for what matters only for a while: texts by session and key."""

import asyncio


class Recent:
    """Remembers each text for *lifetime* seconds, but never more than the latest *most*."""

    def __init__(self, lifetime: float, most: int) -> None:
        """Begin with nothing."""
        self._lifetime = lifetime
        self._most = most
        self._known: dict[tuple[str, str], tuple[str, float]] = {}  # the oldest first

    def get(self, session: str, key: str) -> str | None:
        """Return what was put under *key*, None if that is not known."""
        text, until = self._known.get((session, key), (None, 0.0))
        return text if until > self._now() else None

    def put(self, session: str, key: str, text: str) -> None:
        """Remember *text* under *key*."""
        self._known.pop((session, key), None)
        self._known[session, key] = (text, self._now() + self._lifetime)
        while self._is_over(oldest := next(iter(self._known))):
            del self._known[oldest]

    def _is_over(self, key: tuple[str, str]) -> bool:
        return self._known[key][1] <= self._now() or len(self._known) > self._most

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()
