"""What a client of switchboard.v1 keeps of its conversation, to miss nothing and say all once."""

import asyncio
from collections import Counter
from typing import Any

from benchmarks.lines import AGAIN, Line


class Heard:
    """What a user of switchboard.v1 has got, and what they open a socket with to get the rest."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.open = {"type": "open", "last": ""}
        self.came: list[int] = []
        self.troubles: list[str] = []

    def take(self, frame: dict[str, Any]) -> None:
        """Take a frame that is no answer to what was said."""
        match frame:
            case {"type": "message", "id": str(last), "data": {"n": int(number)}}:
                self.open["last"] = last
                self.came.append(number)
            case {"type": "hello", "token": str(token), "resumed": resumed}:
                if "token" in self.open and not resumed:
                    self.troubles.append(f"not resumed: {frame['why']}")
                self.open["token"] = token
            case {"type": "heartbeat"}:
                pass
            case _:
                self.troubles.append(f"unexpected: {frame}")


class Said:
    """What a user of switchboard.v1 has said, and says again in order until it is acknowledged."""

    def __init__(self, counts: Counter[str]) -> None:
        """Count in *counts* what is said again."""
        self.count = 0
        self.unacknowledged: dict[int, None] = {}  # in order
        self.troubles: list[str] = []
        self._counts = counts

    def say(self, line: Line | None) -> None:
        """Say one thing more, now or, without a *line*, when there is one again."""
        self.unacknowledged[self.count] = None
        if line is not None:
            self._put(line, self.count)
        self.count += 1

    def say_again(self, line: Line) -> None:
        """Say all that was not acknowledged."""
        for number in self.unacknowledged:
            self._counts["messages said again"] += 1
            self._put(line, number)

    async def take(self, line: Line, ack: dict[str, Any]) -> None:
        """Learn what became of something, which may be that it has to be said again."""
        match ack:
            case {"cid": str(cid), "ok": True}:
                self.unacknowledged.pop(int(cid), None)
            case {"cid": str(cid), "retry": True}:
                # What is behind the first one is refused for its sake.
                if int(cid) == next(iter(self.unacknowledged), None):
                    await asyncio.sleep(AGAIN)
                    self.say_again(line)
            case _:
                self.troubles.append(f"unexpected: {ack}")

    @staticmethod
    def _put(line: Line, number: int) -> None:
        line.say({"type": "message", "cid": str(number), "message": f"number {number}"})
