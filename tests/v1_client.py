"""A client of `switchboard.v1` that reads in the background and waits for what is due to come."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Self

import aiohttp
from aiohttp.client import ClientWebSocketResponse

from tests.raw import hang_up
from tests.switchboards import Switchboard

Frame = dict[str, Any]


class V1Client:
    """
    One socket on the wire v1, whose frames are kept in `frames` (and as they came in `texts`).

    Pings are answered as they come, since it always reads. What never comes is bounded by the
    test's own time-out; waiting for it ends at once when the socket is closed.
    """

    def __init__(self, ws: ClientWebSocketResponse) -> None:
        self.ws = ws
        self.texts: list[str] = []
        self.frames: list[Frame] = []
        self.hello: Frame = {}
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(lambda _: self._changed.set())

    @classmethod
    async def connect(cls, board: Switchboard, session: str | None = None, **options: Any) -> Self:
        """Upgrade, and leave the first frame to the test; *session* goes into the URL."""
        options.setdefault("protocols", ("switchboard.v1",))
        return cls(await board.connect(session, **options))

    @classmethod
    async def opened(
        cls,
        board: Switchboard,
        token: str | None = None,
        last: str | None = None,
        *,
        session: str | None = None,
        **options: Any,
    ) -> Self:
        """Upgrade, open and wait for the hello."""
        client = await cls.connect(board, session, **options)
        await client.open(token, last)
        return client

    async def resumed(self, board: Switchboard) -> "V1Client":
        """Return another client, opened with this one's token and the last id this one got."""
        return await V1Client.opened(board, self.token, self.last)

    async def open(self, token: str | None = None, last: str | None = None) -> Frame:
        """Send `open`, leaving out what is None, and wait for the hello."""
        given = {"type": "open", "token": token, "last": last}
        await self.send({key: value for key, value in given.items() if value is not None})
        [self.hello] = await self.has("hello")
        return self.hello

    async def send(self, frame: Frame | str) -> None:
        """Send a frame, or any text."""
        await self.ws.send_str(frame if isinstance(frame, str) else json.dumps(frame))

    async def say(self, cid: str, message: str = "hi", **more: Any) -> None:
        """Send a message."""
        await self.send({"type": "message", "cid": cid, "message": message, **more})

    async def close(self) -> None:
        """Send a Close frame and wait for the answer to it."""
        await self.ws.close()
        await self._reader

    async def vanish(self) -> None:
        """End the link without a Close frame."""
        hang_up(self.ws)
        await self._reader

    @property
    def ended(self) -> bool:
        """Tell whether nothing more can come."""
        return self._reader.done()

    @property
    def session(self) -> str:
        """The session's id, out of the hello."""
        return str(self.hello["session"])

    @property
    def token(self) -> str:
        """The token, out of the hello."""
        return str(self.hello["token"])

    @property
    def last(self) -> str:
        """The id of the last message that had one; "" if none had."""
        return str(next((frame["id"] for frame in reversed(self.messages) if "id" in frame), ""))

    @property
    def messages(self) -> list[Frame]:
        """The postbacks that came, in their frames."""
        return self.of_type("message")

    @property
    def numbers(self) -> list[int]:
        """The `n` of each postback that came."""
        return [frame["data"]["n"] for frame in self.messages]

    @property
    def acks(self) -> list[Frame]:
        """The acks that came."""
        return self.of_type("ack")

    @property
    def others(self) -> list[Frame]:
        """The frames that are neither a message nor an ack nor the hello."""
        return [one for one in self.frames if one["type"] not in {"message", "ack", "hello"}]

    def of_type(self, name: str) -> list[Frame]:
        """Return the frames of one type."""
        return [frame for frame in self.frames if frame["type"] == name]

    async def has(self, name: str, count: int = 1) -> list[Frame]:
        """Wait for *count* frames of a type; return all of them."""
        await self.until(lambda: len(self.of_type(name)) >= count)
        return self.of_type(name)

    async def has_messages(self, count: int) -> list[Frame]:
        """Wait for *count* postbacks."""
        return await self.has("message", count)

    async def ack(self, cid: str, nth: int = 1) -> Frame:
        """Wait for the *nth* ack of *cid*."""

        def theirs() -> list[Frame]:
            return [ack for ack in self.acks if ack["cid"] == cid]

        await self.until(lambda: len(theirs()) >= nth)
        return theirs()[nth - 1]

    async def closed(self) -> int:
        """Wait for the end; return the code of the Close frame, 1006 if there was none."""
        await self._reader
        return self.ws.close_code or 1006

    async def until(self, there: Callable[[], bool]) -> None:
        """Wait until *there* is true of the frames that came."""
        while not there() and not self.ended:
            self._changed.clear()
            await self._changed.wait()
        assert there(), f"closed with {self.ws.close_code} before that came; what did: {self.texts}"

    async def _read(self) -> None:
        async for message in self.ws:
            assert message.type is aiohttp.WSMsgType.TEXT, message
            self.texts.append(message.data)
            self.frames.append(json.loads(message.data))
            self._changed.set()
