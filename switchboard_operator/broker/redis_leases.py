"""Leases and outcomes in Redis, so that instances agree who posts a session's messages."""

import asyncio
import uuid
from typing import Never

from redis.exceptions import ResponseError

from switchboard_operator.broker import keys, scripts
from switchboard_operator.broker.base import Claim
from switchboard_operator.broker.calls import Calls
from switchboard_operator.broker.recent import Recent
from switchboard_operator.broker.resp import Command
from switchboard_operator.errors import BrokerUnavailable
from switchboard_operator.limits import Limits


class RedisLeases:
    """
    Implements `base.Leases`.

    While Redis is away every claim is granted and outcomes are known here alone: then a message
    that is sent again to another instance may be posted twice.
    """

    def __init__(self, calls: Calls, limits: Limits) -> None:
        """Make *calls* to agree with others."""
        self._calls = calls
        self._limits = limits
        self._me = uuid.uuid4().hex
        self._outcomes = Recent(limits.outcome, limits.outcomes)
        self._held: set[str] = set()  # sessions

    async def claim(self, session: str, cid: str) -> Claim:
        """Take or renew the lease, and look *cid* up."""
        known = self._outcomes.get(session, cid)
        if known is not None:
            return Claim(granted=True, outcome=known)
        reply = self._calls.put(self._claiming(session, keys.outcome(session, cid)))
        done, _ = await asyncio.wait({reply}, timeout=self._limits.confirm)
        if not done or isinstance(reply.exception(), (BrokerUnavailable, ResponseError)):
            self._held.add(session)  # the lease may be ours: it must be given up, and not forgotten
            return Claim(granted=True)
        granted, outcome = reply.result()
        # Not before: a renewal must not take what the claim was refused.
        (self._held.add if granted else self._held.discard)(session)
        return Claim(bool(granted), outcome.decode() or None)

    def hold(self, session: str) -> None:
        """Take the lease if nobody has it."""
        if session not in self._held:
            self._held.add(session)
            self._calls.tell(self._claiming(session, keys.lease(session)))

    def settle(self, session: str, cid: str, outcome: str) -> None:
        """Keep what became of *cid*, here and in Redis."""
        self._outcomes.put(session, cid, outcome)
        lifetime = round(1000 * self._limits.outcome)
        self._calls.tell(("SET", keys.outcome(session, cid), outcome, "PX", lifetime))

    def release(self, session: str) -> None:
        """Give the lease up; calls keep their order, so what was settled comes first."""
        if session in self._held:
            self._held.discard(session)
            self._calls.tell(scripts.RELEASE.call((keys.lease(session),), self._me))

    async def renew(self) -> Never:
        """Renew all leases that are held, for ever."""
        while True:
            await asyncio.sleep(self._limits.lease_renewal)
            for session in self._held:
                self._calls.tell(self._claiming(session, keys.lease(session)))

    def _claiming(self, session: str, looked_up: str) -> Command:
        lease = round(1000 * self._limits.lease)
        return scripts.CLAIM.call((keys.lease(session), looked_up), self._me, lease)
