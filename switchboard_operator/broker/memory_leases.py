"""Outcomes of user messages where a single instance runs, which needs no lease from anybody."""

from switchboard_operator.broker.base import Claim
from switchboard_operator.broker.recent import Recent
from switchboard_operator.limits import Limits


class MemoryLeases:
    """Implements `base.Leases`."""

    def __init__(self, limits: Limits) -> None:
        """Begin with no outcome known."""
        self._outcomes = Recent(limits.outcome, limits.outcomes)

    async def claim(self, session: str, cid: str) -> Claim:
        """Grant it, and look *cid* up."""
        return Claim(granted=True, outcome=self._outcomes.get(session, cid))

    def hold(self, session: str) -> None:
        """Do nothing: there is nobody else."""

    def settle(self, session: str, cid: str, outcome: str) -> None:
        """Keep what became of *cid*."""
        self._outcomes.put(session, cid, outcome)

    def release(self, session: str) -> None:
        """Do nothing: there is nobody else."""
