"""Let a task sleep until there is something for it to do."""

import asyncio

from switchboard_operator.broker.patience import Patience


class Alarm:
    """Wakes the one task that sleeps, when it rings or after *longest* seconds."""

    def __init__(self, longest: float) -> None:
        """Begin with nobody asleep."""
        self._patience = Patience(longest, self.ring)
        self._asleep: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # looked up once

    def ring(self) -> None:
        """Wake who sleeps; this is not remembered for who sleeps later."""
        if self._asleep is not None and not self._asleep.done():
            self._asleep.set_result(None)

    async def sleep(self) -> None:
        """Sleep; look first whether there is something to do."""
        self._loop = self._loop or asyncio.get_running_loop()
        self._asleep = self._loop.create_future()
        self._patience.start()
        try:
            await self._asleep
        finally:
            self._patience.stop()
            self._asleep = None
