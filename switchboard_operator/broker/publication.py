"""What becomes of messages that were put together."""

import asyncio
from collections.abc import Callable, Generator
from typing import Any

import msgspec

from switchboard_operator.broker.base import Published, Receipt


def future_of(published: Published) -> asyncio.Future[Receipt]:
    """Return a future of its own for *published*, from which who waits may leave."""
    future: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()

    def tell(done: Published) -> None:
        if not future.done():
            future.set_result(done.result())

    published.add_done_callback(tell)
    return future


def _tell_nobody(_done: "Publication") -> None:
    """Let it be known to who looks."""


class Publication(msgspec.Struct, eq=False):  # made for each postback: a class takes longer
    """
    Messages that were put together, and what has become of those at their head.

    Who waits is told at once. A future would tell in another turn of the loop, which takes a
    twentieth of all that a postback does at saturation.
    """

    waiting: int  # messages that are not confirmed yet
    is_probe: bool = False  # which is nothing to lose
    _ids: list[str] = []
    _repeated: bool = True  # until one was not
    _receipt: Receipt | None = None
    _tell: "Callable[[Publication], object]" = _tell_nobody

    def done(self) -> bool:
        """Tell whether all are confirmed."""
        return self._receipt is not None

    def result(self) -> Receipt:
        """Return what became of them. Raises InvalidStateError before they are done."""
        if self._receipt is None:
            raise asyncio.InvalidStateError
        return self._receipt

    def add_done_callback(self, tell: "Callable[[Publication], object]") -> None:
        """Have *tell* called with this once all are confirmed, and nobody who asked before."""
        self._tell = tell
        if self._receipt is not None:
            self._told()

    def __await__(self) -> Generator[Any, None, Receipt]:
        """Wait until all are confirmed."""
        return future_of(self).__await__()

    def confirm(self, id_: str, *, repeated: bool) -> None:
        """Note that the next one was published with the id *id_*, "" for none, now or before."""
        self._ids.append(id_)
        self._repeated = self._repeated and repeated
        self.waiting -= 1
        if not self.waiting:
            self._receipt = Receipt(True, tuple(self._ids), self._repeated)
            self._told()

    def _told(self) -> None:
        try:
            self._tell(self)
        except Exception as exc:  # a bug of who is told, not for who confirms: as with a future
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a publication's callback failed", "exception": exc}
            )
