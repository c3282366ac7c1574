"""A WebSocket after its upgrade, on a transport that only records: frames out, messages in."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import WSMsgType

from switchboard_operator.web.websocket import (
    PORTION,
    READ_AHEAD,
    FrameReaders,
    Messages,
    WebSocket,
)
from tests.raw import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame

LONGEST = 1000  # bytes that a message may have


class FakeTransport(asyncio.Transport):
    """Records what is asked of it; nothing is ever unsent unless told."""

    def __init__(self, *, reading: bool = True) -> None:
        super().__init__()
        self.written = b""
        self.calls: list[str] = []
        self.unsent = 0
        self._reading = reading
        self._closing = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.calls.append("set_protocol")

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return self._reading

    def pause_reading(self) -> None:
        self.calls.append("pause")
        self._reading = False

    def resume_reading(self) -> None:
        self.calls.append("resume")
        self._reading = True

    def write(self, data: Any) -> None:
        self.written += data

    def write_eof(self) -> None:
        self.calls.append("eof")

    def close(self) -> None:
        self.calls.append("close")
        self._closing = True

    def abort(self) -> None:
        self.calls.append("abort")

    def get_write_buffer_size(self) -> int:
        return self.unsent


class Recorder:
    """Records what it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, Any]] = []
        self.events: list[Any] = []
        self.most_at_once = 0

    def hear(self, messages: Messages) -> None:
        assert messages, "told of nothing"
        self.most_at_once = max(self.most_at_once, len(messages))
        self.heard += [(message.type, message.data) for message in messages]

    def filled(self) -> None:
        self.events.append("filled")

    def drained(self) -> None:
        self.events.append("drained")

    def ended(self) -> None:
        self.events.append("ended")

    def lost(self) -> None:
        self.events.append(("lost", len(self.heard)))


class Pausing(Recorder):
    """Wants a pause whenever it has heard something."""

    socket: WebSocket

    def hear(self, messages: Messages) -> None:
        super().hear(messages)
        self.socket.pause_reading()


def opened(
    transport: FakeTransport, listener: Recorder | None = None, early: bytes = b""
) -> tuple[WebSocket, Recorder]:
    """Return a socket that has started, and who listens to it."""
    listener = listener or Recorder()
    socket = WebSocket(transport, FrameReaders(LONGEST))
    if isinstance(listener, Pausing):
        listener.socket = socket
    socket.start(listener)
    socket.read(early)
    return socket, listener


@pytest.mark.parametrize(
    ("size", "head"),
    [
        (0, b"\x81\x00"),
        (1, b"\x81\x01"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00"),
    ],
)
async def test_a_frame_tells_its_length_in_as_few_bytes_as_can_be(size: int, head: bytes) -> None:
    transport = FakeTransport()
    socket, _ = opened(transport)

    socket.send([b"x" * size])

    assert transport.written == head + b"x" * size


async def test_control_frames_have_their_opcodes() -> None:
    transport = FakeTransport()
    socket, _ = opened(transport)

    socket.ping(b"e:1")
    socket.pong(b"")
    socket.close(1012)

    assert transport.written == b"\x89\x03e:1\x8a\x00\x88\x02\x03\xf4"
    assert "eof" not in transport.calls  # the client's Close is still to come


SAID = [
    (TEXT, b"hello"),
    (TEXT, b""),
    (PING, b"p"),
    (TEXT, "ü".encode() * 100),
    (PONG, b"e:1"),
    (BINARY, bytes(130)),
    (CLOSE, b"\x03\xe8bye"),
]
HEARD = [
    (WSMsgType.TEXT, b"hello"),
    (WSMsgType.TEXT, b""),
    (WSMsgType.PING, b"p"),
    (WSMsgType.TEXT, "ü".encode() * 100),
    (WSMsgType.PONG, b"e:1"),
    (WSMsgType.BINARY, bytes(130)),
    (WSMsgType.CLOSE, 1000),
]


def frames(said: Sequence[tuple[int, bytes]]) -> bytes:
    return b"".join(frame(opcode, payload) for opcode, payload in said)


async def test_messages_in_one_read_are_heard_at_once_and_in_order() -> None:
    socket, listener = opened(FakeTransport())

    socket.data_received(frames(SAID))

    assert listener.heard == HEARD
    assert listener.most_at_once == len(SAID)


async def test_messages_may_be_split_at_every_byte() -> None:
    data = frames(SAID)
    for cut in range(1, len(data)):
        socket, listener = opened(FakeTransport())

        socket.data_received(data[:cut])
        socket.data_received(data[cut:])

        assert listener.heard == HEARD


async def test_messages_may_come_byte_by_byte() -> None:
    socket, listener = opened(FakeTransport())

    for byte in frames(SAID):
        socket.data_received(bytes([byte]))

    assert listener.heard == HEARD


async def test_fragments_are_one_message_and_control_frames_may_come_between() -> None:
    socket, listener = opened(FakeTransport())

    socket.data_received(frame(TEXT, b"a", final=False) + frame(PING, b"p"))
    socket.data_received(frame(CONTINUATION, b"b", final=False) + frame(CONTINUATION, b"c"))

    assert listener.heard == [(WSMsgType.PING, b"p"), (WSMsgType.TEXT, b"abc")]


async def test_sockets_with_one_reader_maker_do_not_hear_each_other() -> None:
    readers = FrameReaders(LONGEST)
    listeners = [Recorder() for _ in range(20)]
    sockets = [WebSocket(FakeTransport(), readers) for _ in listeners]
    said = [frame(TEXT, b"%d" % number * 50) for number in range(20)]
    for socket, listener in zip(sockets, listeners, strict=True):
        socket.start(listener)

    turns = [number for number, data in enumerate(said) for _ in range(0, len(data), 7)]
    random.Random(1).shuffle(turns)
    for number in turns:
        sockets[number].data_received(said[number][:7])
        said[number] = said[number][7:]

    assert [listener.heard for listener in listeners] == [
        [(WSMsgType.TEXT, b"%d" % number * 50)] for number in range(20)
    ]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\x83\x80aaaa", 1002, id="an opcode that is none"),
        pytest.param(b"\xc1\x80aaaa", 1002, id="compressed, which was not agreed on"),
        pytest.param(b"\x89\xfe\x00\x7eaaaa", 1002, id="a ping that is too long"),
        pytest.param(b"\x80\x80aaaa", 1002, id="more of nothing"),
        pytest.param(frame(CLOSE, b"\x00"), 1002, id="half a code"),
        pytest.param(frame(CLOSE, b"\x00\x05"), 1002, id="a code that is none"),
        pytest.param(b"\x81\xff\x00\x00\x00\x01\x00\x00\x00\x00aaaa", 1009, id="far too long"),
    ],
)
async def test_an_error_comes_after_what_was_said_before_and_drops_what_is_said_after(
    data: bytes, code: int
) -> None:
    socket, listener = opened(FakeTransport())

    socket.data_received(frame(TEXT, b"before") + data)
    socket.data_received(frame(TEXT, b"after" * 100))

    assert listener.heard == [(WSMsgType.TEXT, b"before"), (WSMsgType.ERROR, code)]


async def test_a_message_is_read_to_its_end_though_it_is_longer_than_allowed() -> None:
    socket, listener = opened(FakeTransport())
    text = b"x" * (READ_AHEAD * LONGEST - 1)

    socket.data_received(frame(TEXT, text))

    assert listener.heard == [(WSMsgType.TEXT, text)]


async def test_whoever_can_not_be_read_any_more_is_sent_a_close_and_the_end() -> None:
    transport = FakeTransport()
    socket, _ = opened(transport)
    socket.data_received(b"\x83\x80aaaa")

    socket.close(1002)

    assert transport.written == b"\x88\x02\x03\xea"
    assert transport.calls[-1] == "eof"


async def test_what_came_with_the_upgrade_is_heard_first() -> None:
    data = frames(SAID)
    for cut in (1, 3, 20, len(data)):
        socket, listener = opened(FakeTransport(), early=data[:cut])
        if data[cut:]:
            socket.data_received(data[cut:])

        assert listener.heard == HEARD


async def test_a_transport_that_was_paused_before_reads_on() -> None:
    transport = FakeTransport(reading=False)

    opened(transport)

    assert transport.calls == ["set_protocol", "resume"]
    assert transport.is_reading()


async def test_a_pause_for_what_came_with_the_upgrade_lasts() -> None:
    transport = FakeTransport()

    opened(transport, Pausing(), early=frame(TEXT, b"hello"))

    assert not transport.is_reading()


async def test_reading_is_paused_and_resumed_only_when_it_is_not_so_already() -> None:
    transport = FakeTransport()
    socket, _ = opened(transport)
    transport.calls.clear()

    socket.resume_reading()
    socket.pause_reading()
    socket.pause_reading()
    socket.resume_reading()
    socket.resume_reading()

    assert transport.calls == ["pause", "resume"]


async def test_of_a_large_read_no_more_is_parsed_than_a_portion_before_a_pause() -> None:
    transport = FakeTransport()
    socket, listener = opened(transport, Pausing())
    count = 3 * PORTION // len(frame(TEXT))

    socket.data_received(frame(TEXT) * count)
    at_first = len(listener.heard)
    while not transport.is_reading():
        socket.resume_reading()

    assert at_first == PORTION // len(frame(TEXT))
    assert len(listener.heard) == count
    assert listener.most_at_once <= at_first + 1


async def test_a_large_read_is_heard_at_once_if_nobody_wants_a_pause() -> None:
    transport = FakeTransport()
    socket, listener = opened(transport)
    said = [(TEXT, b"%d" % number * 200) for number in range(300)]

    socket.data_received(frames(said))

    assert listener.heard == [(WSMsgType.TEXT, text) for _, text in said]
    assert "pause" not in transport.calls


async def test_what_comes_in_spite_of_a_pause_waits_in_its_place() -> None:
    socket, listener = opened(FakeTransport(), Pausing())
    said = [b"%05d" % number for number in range(2 * PORTION // 10)]
    data = b"".join(frame(TEXT, text) for text in said)

    socket.data_received(data[:-500])
    socket.data_received(data[-500:])
    for _ in range(len(data) // PORTION + 2):
        socket.resume_reading()

    assert listener.heard == [(WSMsgType.TEXT, text) for text in said]


async def test_what_had_come_before_the_link_was_lost_can_be_heard_after_that() -> None:
    socket, listener = opened(FakeTransport(), Pausing())
    count = 3 * PORTION // len(frame(TEXT))
    socket.data_received(frame(TEXT) * count)

    socket.eof_received()
    socket.connection_lost(None)
    unread = [socket.unread]
    while socket.unread:
        socket.resume_reading()
        unread.append(socket.unread)

    assert listener.events == ["ended", ("lost", PORTION // len(frame(TEXT)))]
    assert unread == [True, True, False]
    assert len(listener.heard) == count


async def test_it_is_full_between_the_transports_words() -> None:
    socket, listener = opened(FakeTransport())

    socket.pause_writing()
    full = socket.full
    socket.resume_writing()

    assert (full, socket.full) == (True, False)
    assert listener.events == ["filled", "drained"]


async def test_the_transport_is_asked_for_what_is_unsent_let_go_of_and_dropped() -> None:
    transport = FakeTransport()
    socket, _ = opened(transport)
    transport.unsent = 7

    assert socket.unsent() == 7
    socket.release()
    socket.abort()
    assert transport.calls[-2:] == ["close", "abort"]
