"""Frames that wait for their socket, and how much of that there may be."""

from itertools import accumulate

from switchboard_operator.marks import Mark


class Outbox:
    """A queue of frames, each with the id of the postback in it if it has one."""

    __slots__ = ("_bytes", "_frames", "_most", "_most_bytes")

    def __init__(self, most: int, most_bytes: int) -> None:
        """Be full with *most* frames, or *most_bytes* of them."""
        self._most = most
        self._most_bytes = most_bytes
        self._frames: list[tuple[bytes, Mark | None]] = []  # a tenth of an empty deque's size
        self._bytes = 0

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._frames)

    def has_room(self, size: int, *, beside: tuple[int, int] = (0, 0), times: int = 1) -> bool:
        """
        Tell whether a frame of *size* bytes fits, as one always does where none is.

        *beside* it a number of frames and of bytes count as well; the bounds hold *times* as much.
        """
        frames, content = len(self._frames) + beside[0], self._bytes + beside[1]
        fits = frames < times * self._most and content + size <= times * self._most_bytes
        return fits or not frames

    def put(self, frame: bytes, mark: Mark | None = None) -> None:
        """Append *frame*, whether there is room or not."""
        self._frames.append((frame, mark))
        self._bytes += len(frame)

    def take(self, most_bytes: int) -> tuple[list[bytes], Mark | None]:
        """Take the oldest frames, of *most_bytes* if there are more, and the last id in them."""
        taken, self._frames = self._frames, []
        if self._bytes > most_bytes:
            sizes = accumulate(len(frame) for frame, _ in taken)
            count = max(1, sum(size <= most_bytes for size in sizes))
            taken, self._frames = taken[:count], taken[count:]
        frames = [frame for frame, _ in taken]
        self._bytes -= sum(map(len, frames))
        mark = taken[-1][1]
        if mark is None and len(taken) > 1:
            mark = next((mark for _, mark in reversed(taken) if mark is not None), None)
        return frames, mark

    def clear(self) -> None:
        """Drop all."""
        self._frames.clear()
        self._bytes = 0
