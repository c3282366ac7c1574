"""A link to something that talks like a Redis, byte by byte, and to a real one."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from redis.exceptions import BusyLoadingError, InvalidResponse, RedisError, ResponseError
from redis.exceptions import ConnectionError as LinkClosed

from switchboard_operator.broker.link import LINK_ERRORS, Link, Take
from switchboard_operator.broker.linker import linker
from switchboard_operator.limits import Limits
from tests.redis_server import free_port, redis_server
from tests.switchboards import eventually
from tests.test_redis_broker import self_signed_certificate

ANSWER = 2.0  # seconds, of which a busy machine may take some
BUFFER = 32 * 1024  # bytes that the kernel keeps at either end
LARGE = 1_000_000  # bytes, more than it takes
pytestmark = pytest.mark.slow  # a patience takes a while to be over

QUICK = Limits(redis_answer=ANSWER)
MESSAGE = b"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$%d\r\n%b\r\n"


def rest() -> float:
    """Nobody has anything to do then."""
    return 0.0


class Peer:
    """The other end of a link: it says what it is told to, and asks nothing itself."""

    def __init__(self) -> None:
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self._there = asyncio.Event()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._there.set()

    @asynccontextmanager
    async def linked(self) -> AsyncIterator[Link]:
        listening = socket.create_server(("127.0.0.1", 0))
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        server = await asyncio.start_server(self._take, sock=listening)
        port = listening.getsockname()[1]
        try:
            async with linker(f"redis://127.0.0.1:{port}", QUICK, verify=True)() as link:
                sending = link._transport.get_extra_info("socket")
                sending.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
                await self._there.wait()
                yield link
        finally:
            server.close()
            self.writer.transport.abort()

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hears(self, data: bytes) -> None:
        assert await self.reader.readexactly(len(data)) == data


@pytest.fixture
def peer() -> Peer:
    return Peer()


def calling(link: Link, *commands: tuple[str, ...]) -> "asyncio.Task[list[Any]]":
    return asyncio.create_task(link.pipeline(commands))


def collected(into: list[bytes]) -> Take:
    def take(_channel: bytes, data: bytes) -> bool:
        into.append(data)
        return False

    return take


# Calls


async def test_a_call_goes_out_as_it_is_and_its_reply_may_come_byte_by_byte(peer: Peer) -> None:
    async with peer.linked() as link:
        call = calling(link, ("GET", "é"), ("LRANGE", "x", "0", "1"))
        await peer.hears(b"*2\r\n$3\r\nGET\r\n$2\r\n\xc3\xa9\r\n*4\r\n$6\r\nLRANGE\r\n")

        for byte in b"$4\r\na\r\nb\r\n*2\r\n$-1\r\n:7\r\n":
            assert not call.done()
            peer.say(bytes([byte]))
            await asyncio.sleep(0.001)

        assert await call == [b"a\r\nb", [None, 7]]


async def test_commands_that_are_packed_already_go_out_beside_those_that_are_not(
    peer: Peer,
) -> None:
    async with peer.linked() as link:
        call = asyncio.create_task(link.pipeline([b"*1\r\n$4\r\nPING\r\n", ("ECHO", 7)]))

        await peer.hears(b"*1\r\n$4\r\nPING\r\n*2\r\n$4\r\nECHO\r\n$1\r\n7\r\n")
        peer.say(b"+PONG\r\n$1\r\n7\r\n")

        assert await call == [b"PONG", b"7"]


async def test_an_error_has_its_place_among_the_replies_and_is_raised_by_a_single_call(
    peer: Peer,
) -> None:
    async with peer.linked() as link:
        peer.say(b"+1\r\n-WRONGTYPE of another kind\r\n+3\r\n")
        first, refused, third = await link.pipeline([("A",), ("B",), ("C",)])
        peer.say(b"-ERR no such command\r\n")
        with pytest.raises(ResponseError, match="no such command"):
            await link.call("D")
        peer.say(b"+PONG\r\n")
        pong = await link.call("PING")

    assert (first, third, pong) == (b"1", b"3", b"PONG")
    assert isinstance(refused, ResponseError)
    assert str(refused) == "WRONGTYPE of another kind"


async def test_a_redis_that_is_loading_its_data_is_none(peer: Peer) -> None:
    async with peer.linked() as link:
        peer.say(b"+1\r\n-LOADING Redis is loading the dataset in memory\r\n")
        with pytest.raises(BusyLoadingError):
            await link.pipeline([("A",), ("B",)])


# Ends


@pytest.mark.parametrize("said", [b"", b"$10\r\nhalf"], ids=["before a reply", "within a reply"])
async def test_an_end_in_the_middle_of_a_call_ends_it_and_all_later_ones(
    peer: Peer, said: bytes
) -> None:
    async with peer.linked() as link:
        call = calling(link, ("PING",))
        await peer.hears(b"*1\r\n$4\r\nPING\r\n")
        peer.say(said)
        peer.writer.close()

        with pytest.raises(LinkClosed):
            await call
        with pytest.raises(LINK_ERRORS):
            await link.call("PING")
        with pytest.raises(LINK_ERRORS):
            await link.listen(collected([]), rest)


async def test_replies_that_came_before_the_end_are_there(peer: Peer) -> None:
    async with peer.linked() as link:
        call = calling(link, ("A",), ("B",))
        await peer.hears(b"*1\r\n$1\r\nA\r\n*1\r\n$1\r\nB\r\n")
        peer.say(b"+1\r\n+2\r\n")
        peer.writer.close()

        assert await call == [b"1", b"2"]


async def test_a_reset_ends_a_call(peer: Peer) -> None:
    async with peer.linked() as link:
        call = calling(link, ("PING",))
        await asyncio.sleep(0)
        peer.writer.transport.abort()

        with pytest.raises(LINK_ERRORS):
            await call


async def test_what_is_not_redis_ends_a_call(peer: Peer) -> None:
    async with peer.linked() as link:
        call = calling(link, ("PING",))
        peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        with pytest.raises(InvalidResponse):
            await call


async def test_a_reply_that_was_there_before_the_call_ends_the_link(peer: Peer) -> None:
    async with peer.linked() as link:
        peer.say(b"+OK\r\n")
        reader: Any = link._reader
        await eventually(lambda: reader.len() > 0)

        with pytest.raises(InvalidResponse):
            await link.call("PING")
        with pytest.raises(LINK_ERRORS):
            await link.call("PING")


async def test_a_call_that_is_cancelled_ends_the_link_since_its_reply_is_still_to_come(
    peer: Peer,
) -> None:
    async with peer.linked() as link:
        call = calling(link, ("GET", "secret"))
        await asyncio.sleep(0)

        call.cancel()
        await asyncio.wait({call})

        with pytest.raises(LINK_ERRORS):
            await link.call("PING")
        assert call.cancelled()
        await peer.reader.read()  # until its end


# Patience


async def test_a_call_that_nothing_answers_ends_in_time(peer: Peer) -> None:
    async with peer.linked() as link:
        loop = asyncio.get_running_loop()
        began = loop.time()

        with pytest.raises(TimeoutError):
            await link.call("PING")

        assert ANSWER <= loop.time() - began < 4 * ANSWER


async def test_a_reply_may_take_as_long_as_it_likes_while_some_of_it_comes(peer: Peer) -> None:
    async with peer.linked() as link:
        loop = asyncio.get_running_loop()
        began = loop.time()
        call = calling(link, ("GET", "x"))

        peer.say(b"$10\r\n")
        for _ in range(10):
            await asyncio.sleep(ANSWER / 5)  # less than it has
            peer.say(b"x")
        peer.say(b"\r\n")

        assert await call == [b"x" * 10]
        assert loop.time() - began > 1.5 * ANSWER


async def test_a_link_that_nobody_asks_anything_may_be_quiet(peer: Peer) -> None:
    async with peer.linked() as link:
        peer.say(b"+PONG\r\n")
        await link.call("PING")

        await asyncio.sleep(1.5 * ANSWER)  # which is what it may be
        peer.say(b"+PONG\r\n")

        assert await link.call("PING") == b"PONG"


async def test_a_peer_that_takes_nothing_of_what_is_sent_ends_a_call_in_time(peer: Peer) -> None:
    async with peer.linked() as link:
        with pytest.raises(TimeoutError):
            await link.call("SET", "x", "x" * LARGE)


async def test_a_peer_that_answers_slowly_what_it_takes_slowly_ends_no_call(peer: Peer) -> None:
    async with peer.linked() as link:
        loop = asyncio.get_running_loop()
        began = loop.time()
        call = calling(link, *[("SET", "x", "x" * LARGE)] * 4)

        for _ in range(4):
            await peer.reader.readexactly(LARGE)
            peer.say(b"+OK\r\n")
            await asyncio.sleep(ANSWER / 3)

        assert await call == [b"OK"] * 4
        assert loop.time() - began > ANSWER


async def test_a_peer_has_its_time_to_answer_once_it_has_taken_all(peer: Peer) -> None:
    async with peer.linked() as link:
        value = "x" * LARGE
        call = calling(link, ("SET", "x", value))

        await asyncio.sleep(0.6 * ANSWER)
        await peer.reader.readexactly(LARGE)
        await asyncio.sleep(0.6 * ANSWER)
        peer.say(b"+OK\r\n")

        assert await call == [b"OK"]


# Messages


async def test_messages_that_come_with_the_last_reply_are_taken_and_all_later_ones(
    peer: Peer,
) -> None:
    taken: list[bytes] = []
    async with peer.linked() as link:
        peer.say(b"+OK\r\n" + MESSAGE % (1, b"1") + MESSAGE % (1, b"2") + (MESSAGE % (1, b"3"))[:9])
        await link.call("SUBSCRIBE")
        listening = asyncio.create_task(link.listen(collected(taken), rest))
        await eventually(lambda: len(taken) == 2)
        peer.say((MESSAGE % (1, b"3"))[9:])
        await eventually(lambda: len(taken) == 3)
        await asyncio.sleep(1.5 * ANSWER)  # a subscription may be quiet
        peer.say(MESSAGE % (1_000_000, b"4" * 1_000_000))
        await eventually(lambda: len(taken) == 4)
        peer.writer.close()

        with pytest.raises(LinkClosed):
            await listening

    assert taken == [b"1", b"2", b"3", b"4" * 1_000_000]


async def test_who_takes_messages_may_let_others_have_a_turn_before_the_next_one(
    peer: Peer,
) -> None:
    events: list[bytes] = []

    def take(_channel: bytes, data: bytes) -> bool:
        events.append(data)
        asyncio.get_running_loop().call_soon(events.append, b"other")
        return True

    async with peer.linked() as link:
        peer.say(b"+OK\r\n" + b"".join(MESSAGE % (1, b"%d" % n) for n in range(3)))
        await link.call("SUBSCRIBE")
        listening = asyncio.create_task(link.listen(take, rest))
        await eventually(lambda: len(events) >= 6)
        peer.say(MESSAGE % (1, b"3"))
        await eventually(lambda: len(events) >= 8)
        listening.cancel()
        await asyncio.wait({listening})

    assert events == [b"0", b"other", b"1", b"other", b"2", b"other", b"3", b"other"]


async def test_while_messages_wait_their_turn_no_more_are_read(peer: Peer) -> None:
    """Else a flood would pile up in memory."""
    total = 20_000_000
    body = b"x" * 20_000
    taken = 0

    def take(_channel: bytes, data: bytes) -> bool:
        nonlocal taken
        taken += 1
        return True

    async with peer.linked() as link:
        peer.say(b"+OK\r\n")
        await link.call("SUBSCRIBE")
        listening = asyncio.create_task(link.listen(take, rest))
        reader: Any = link._reader
        most = 0
        for _ in range(total // len(body)):
            peer.say(MESSAGE % (len(body), body))
        while taken < total // len(body):
            await asyncio.sleep(0)
            most = max(most, reader.len())
        listening.cancel()
        await asyncio.wait({listening})

    assert most < 1_000_000


async def test_a_lull_puts_off_what_comes_next_and_loses_none_of_it(peer: Peer) -> None:
    lull, times = 0.5, dict[bytes, float]()
    loop = asyncio.get_running_loop()

    def take(_channel: bytes, data: bytes) -> bool:
        times[data] = loop.time()
        return False

    async with peer.linked() as link:
        peer.say(b"+OK\r\n")
        await link.call("SUBSCRIBE")
        listening = asyncio.create_task(link.listen(take, lambda: lull))
        for lot in ((b"0",), (b"1", b"2"), (b"3", b"4"), (b"5",)):
            peer.say(b"".join(MESSAGE % (1, data) for data in lot))
            await eventually(lambda: set(lot) <= set(times))  # noqa: B023 - waited for here
        listening.cancel()
        await asyncio.wait({listening})

    assert times[b"3"] - times[b"2"] > 0.9 * lull
    assert times[b"4"] - times[b"3"] < 0.5 * lull  # they had come together
    assert times[b"5"] - times[b"4"] > 0.9 * lull


async def test_a_bug_of_who_takes_messages_is_raised_and_ends_the_link(peer: Peer) -> None:
    taken: list[bytes] = []

    def take(_channel: bytes, data: bytes) -> bool:
        taken.append(data)
        raise ZeroDivisionError

    async with peer.linked() as link:
        peer.say(b"+OK\r\n" + MESSAGE % (1, b"1") + MESSAGE % (1, b"2"))
        await link.call("SUBSCRIBE")

        with pytest.raises(ZeroDivisionError):
            await link.listen(take, rest)

        assert taken == [b"1"]
        await peer.reader.read()  # until its end


async def test_an_error_in_place_of_a_message_ends_the_link(peer: Peer) -> None:
    async with peer.linked() as link:
        listening = asyncio.create_task(link.listen(collected([]), rest))
        peer.say(b"-ERR go away\r\n")

        with pytest.raises(RedisError, match="go away"):
            await listening


async def test_it_subscribes_to_several_channels_and_hears_what_comes_right_behind(
    peer: Peer,
) -> None:
    heard: list[bytes] = []
    async with peer.linked() as link:
        subscribing = asyncio.create_task(link.subscribe("a", "b"))
        await peer.hears(b"*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n")
        peer.say(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n")
        done, _ = await asyncio.wait({subscribing}, timeout=0.1)
        assert not done
        peer.say(b"*3\r\n$9\r\nsubscribe\r\n$1\r\nb\r\n:2\r\n" + MESSAGE % (1, b"1"))
        await subscribing
        listening = asyncio.create_task(link.listen(collected(heard), rest))
        peer.say(MESSAGE % (1, b"2"))

        await eventually(lambda: heard == [b"1", b"2"])
        listening.cancel()
        await asyncio.wait({listening})


async def test_both_confirmations_may_come_at_once(peer: Peer) -> None:
    async with peer.linked() as link:
        subscribing = asyncio.create_task(link.subscribe("a", "b"))
        await peer.hears(b"*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n")

        peer.say(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n" * 2)

        await asyncio.wait_for(subscribing, 5)


async def test_a_subscription_that_is_refused_leaves_the_link_as_it_was(peer: Peer) -> None:
    async with peer.linked() as link:
        subscribing = asyncio.create_task(link.subscribe("a", "b"))
        await peer.hears(b"*3\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n$1\r\nb\r\n")
        peer.say(b"-NOPERM No permissions to access a channel\r\n")
        with pytest.raises(ResponseError, match="NOPERM"):
            await subscribing
        again = asyncio.create_task(link.subscribe("a"))
        await peer.hears(b"*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\na\r\n")
        peer.say(b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n")

        await again


# A real Redis, by every way there is


async def talk(url: str) -> tuple[list[Any], list[bytes]]:
    """Call, call with much, and listen; return the replies and what was heard."""
    limits, heard = Limits(), list[bytes]()
    open_link = linker(url, limits, verify=False)
    async with open_link() as link, open_link() as ear:
        large = b"x" * 3_000_000
        replies = await link.pipeline([("SET", "k", large), ("GET", "k"), ("LPOP", "k")])
        await ear.call("SUBSCRIBE", "news")
        listening = asyncio.create_task(ear.listen(collected(heard), rest))
        for number in range(300):
            await link.call("PUBLISH", "news", str(number))
        await eventually(lambda: len(heard) == 300)
        listening.cancel()
        await asyncio.wait({listening})
    assert replies[1] == large
    return replies, heard


def on_uvloop(main: Coroutine[Any, Any, Any]) -> Any:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize("loop", [asyncio.run, on_uvloop], ids=["asyncio", "uvloop"])
def test_it_works_on_every_kind_of_transport(
    tmp_path: Path, loop: Callable[..., Any], *, tls: bool
) -> None:
    async def main() -> tuple[list[Any], list[bytes]]:
        self_signed_certificate(tmp_path)
        port = free_port()
        # fmt: off
        options = ["--tls-port", str(port), "--tls-cert-file", str(tmp_path / "cert.pem"),
                   "--tls-key-file", str(tmp_path / "key.pem"), "--tls-auth-clients", "no"]
        # fmt: on
        async with redis_server(options) as server:
            return await talk(f"rediss://127.0.0.1:{port}" if tls else server.url)

    replies, heard = loop(main())

    assert replies[0] == b"OK"
    assert isinstance(replies[2], ResponseError)
    assert heard == [b"%d" % number for number in range(300)]
