"""How an instance is, in words for people."""

from dataclasses import dataclass

from switchboard_operator.broker.base import Health

_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60))  # seconds in each


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """
    What an instance knows of itself, without asking anybody but the Concierge.

    `concierge` is what that calls its version, None if it does not say; `uptime` is in seconds.
    """

    version: str
    uptime: float
    concierge: str | None
    health: Health
    draining: bool
    sockets: int

    def in_words(self) -> dict[str, str]:
        """Return each fact as a text, not escaped for anything."""
        return {
            "summary": self._summary(),
            "version": self.version,
            "uptime": duration(self.uptime),
            "concierge": self.concierge or "unavailable",
            "broker": _broker(self.health.redis),
            "listener": "hears what is published"
            if self.health.listening
            else "hears nothing of what is published",
            "sockets": str(self.sockets),
        }

    def _summary(self) -> str:
        if self.draining:
            return "This instance is shutting down."
        if self.health.redis is False or not self.health.listening:
            return "Redis is missed. Postbacks are held until it is back."
        if self.concierge is None:
            return "The Concierge is missed. What users say is tried again for a while."
        return "All is well."


def duration(seconds: float) -> str:
    """Return *seconds* in the two largest units that it has, whole ones."""
    left, parts = int(seconds), []
    for unit, size in _UNITS:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {unit}{'s' if count > 1 else ''}")
    return " ".join(parts[:2]) or "less than a minute"


def _broker(redis: bool | None) -> str:
    if redis is None:
        return "memory: this process is the only one"
    return "Redis" if redis else "Redis, which does not answer"
