"""What is needed of a WebSocket by whoever writes to it."""

from collections.abc import Sequence
from typing import Protocol


class Socket(Protocol):
    """A WebSocket, seen from the side that writes; nothing here waits."""

    @property
    def full(self) -> bool:
        """Tell whether nothing more should be sent until the peer has taken some."""

    def send(self, frames: Sequence[bytes]) -> None:
        """Send text frames."""

    def ping(self, payload: bytes) -> None:
        """Send a ping."""

    def pong(self, payload: bytes) -> None:
        """Send a pong."""

    def close(self, code: int) -> None:
        """Send a Close frame."""

    def release(self) -> None:
        """Let go of the link once what is unsent has been sent."""

    def abort(self) -> None:
        """Drop the link at once, whatever is unsent."""

    def unsent(self) -> int:
        """Return the number of bytes that the peer has not taken from us."""
