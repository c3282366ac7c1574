"""What a socket says: taken in turns, in order, to the last word, and as much as there is room."""

import asyncio
import socket as sockets
from dataclasses import dataclass, field
from struct import pack

import pytest

from switchboard_operator import frames
from switchboard_operator.connection import Connection
from switchboard_operator.limits import Limits
from switchboard_operator.messages import UserMessage
from switchboard_operator.web import keys
from switchboard_operator.web.classic import ClassicTalk
from switchboard_operator.web.conversation import Conversation, Talk
from switchboard_operator.web.websocket import WebSocket
from tests.conftest import OpenRaw
from tests.fakes import FakeConcierge
from tests.raw import BINARY, CLOSE, PING, PONG, TEXT, RawWebSocket, frame
from tests.switchboards import SESSION, Switchboard, eventually, switchboard
from tests.test_handshake import link, upgrade
from tests.test_websocket import FakeTransport

pytestmark = pytest.mark.slow  # each runs a switchboard

TARGET = f"/?session={SESSION}"
TURN = Limits().frames_in_turn
NOT_UTF8 = frame(TEXT, b"\xff")
MUCH = 50_000_000  # bytes
NO_FRAME = b"\x83\x80aaaa"  # of an opcode that is none


class RecordingTalk:
    """Records what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.stopped = False

    def take(self, text: str) -> int | None:
        self.said.append(text)
        return None

    def take_too_long(self, _text: str) -> int | None:
        return frames.TOO_BIG

    def stop(self) -> None:
        self.stopped = True


class BuggyTalk(RecordingTalk):
    """Can't bear to hear a certain word."""

    def take(self, text: str) -> int | None:
        if text == "bug":
            raise ZeroDivisionError
        return super().take(text)


@dataclass
class Party:
    """A socket on a transport that only records, and who listens to it."""

    board: Switchboard
    talk: RecordingTalk = field(default_factory=RecordingTalk)
    over: int = 0
    bugs: list[Exception] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.board.app is not None
        app = self.board.app
        self.transport = FakeTransport()
        self.socket = WebSocket(self.transport, app[keys.FRAME_READERS])
        self.connection = Connection(
            self.socket, frames.CLASSIC, app[keys.BROKER].mailbox, app[keys.LIMITS]
        )
        self.connection.failed = lambda _, bug: self.bugs.append(bug)
        self.connection.join(SESSION, after=None)
        talk: Talk = self.talk
        self.socket.start(Conversation(app, self.connection, self.socket, talk, self._end))

    def _end(self) -> None:
        self.over += 1

    def say(self, *texts: str) -> None:
        """Say all at once."""
        self.socket.data_received(b"".join(frame(TEXT, text.encode()) for text in texts))

    @property
    def closes(self) -> bytes:
        """The Close frames that were sent, and what came after them."""
        return self.transport.written.partition(b"\x88\x02")[2]


def numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def fill(board: Switchboard) -> None:
    """Have SESSION say as much as may wait."""
    assert board.app is not None
    uplink = board.app[keys.UPLINK]
    while not uplink.is_full(SESSION):
        uplink.put(UserMessage(SESSION, str(uplink.queued), b"{}", 0.0))


async def test_a_flood_is_taken_in_turns_and_meanwhile_not_read(board: Switchboard) -> None:
    party = Party(board)

    party.say(*numbers(2 * TURN + 1))
    taken, reading = [len(party.talk.said)], [party.transport.is_reading()]
    for _ in range(2):
        await asyncio.sleep(0)
        taken.append(len(party.talk.said))
        reading.append(party.transport.is_reading())

    assert taken == [TURN, 2 * TURN, 2 * TURN + 1]
    assert reading == [False, False, True]
    assert party.talk.said == numbers(2 * TURN + 1)


async def test_a_few_messages_need_no_pause(board: Switchboard) -> None:
    party = Party(board)

    party.say(*numbers(TURN - 1))

    assert party.talk.said == numbers(TURN - 1)
    assert "pause" not in party.transport.calls


async def test_what_is_read_while_others_have_their_turn_comes_after_what_waits(
    board: Switchboard,
) -> None:
    party = Party(board)
    texts = numbers(5 * TURN)

    party.say(*texts[: 4 * TURN])
    party.say(*texts[4 * TURN :])
    await eventually(lambda: len(party.talk.said) == len(texts))

    assert party.talk.said == texts


async def test_of_a_session_that_may_say_no_more_nothing_is_read_until_it_may(
    concierge: FakeConcierge,
) -> None:
    released = concierge.hold()
    async with switchboard(concierge.url, RATE_LIMIT="0") as board:
        party = Party(board)
        fill(board)

        party.say("first", "second")
        party.say("third")
        waited = (list(party.talk.said), party.transport.is_reading())
        released.set()
        await eventually(lambda: len(party.talk.said) == 3)

    assert waited == ([], False)
    assert party.talk.said == ["first", "second", "third"]
    assert party.transport.is_reading()


async def test_what_was_said_is_handed_on_though_the_link_is_lost_meanwhile(
    board: Switchboard,
) -> None:
    party = Party(board)

    party.say(*numbers(2 * TURN))
    party.socket.connection_lost(ConnectionResetError())
    over = [party.over]
    await eventually(lambda: bool(party.over))

    assert over == [0]
    assert party.talk.said == numbers(2 * TURN)
    assert party.talk.stopped
    await asyncio.sleep(0)
    assert party.over == 1


async def test_it_is_over_at_once_if_nothing_waits(board: Switchboard) -> None:
    party = Party(board)
    party.say("all")

    party.socket.connection_lost(None)

    assert party.over == 1


async def test_room_is_waited_for_though_the_link_is_lost(concierge: FakeConcierge) -> None:
    released = concierge.hold()
    async with switchboard(concierge.url, RATE_LIMIT="0") as board:
        party = Party(board)
        fill(board)
        party.say("the last words")

        party.socket.connection_lost(None)
        waited = party.over
        released.set()
        await eventually(lambda: bool(party.over))

    assert waited == 0
    assert party.talk.said == ["the last words"]


async def test_a_bug_in_a_talk_ends_this_socket_and_is_told_and_the_rest_is_handed_on(
    board: Switchboard,
) -> None:
    party = Party(board, BuggyTalk())

    party.say("before", "bug", "after")

    assert "abort" in party.transport.calls
    assert [type(bug) for bug in party.bugs] == [ZeroDivisionError]
    assert party.talk.said == ["before", "after"]


@pytest.mark.plants_a_bug
async def test_a_bug_ends_one_socket_of_several_and_is_counted(
    board: Switchboard, open_raw: OpenRaw, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlucky, other = await open_raw(board.url, TARGET), await open_raw(board.url, TARGET)

    def fail(_talk: ClassicTalk, _text: str) -> int | None:
        raise ZeroDivisionError

    with monkeypatch.context() as planting:
        planting.setattr(ClassicTalk, "take", fail)
        await unlucky.send(TEXT, b"{}")
        await unlucky.ended()

    await other.send(PING, b"p")
    assert await other.receive() == (PONG, b"p")
    assert await board.metric("switchboard_task_failures_total") == 1
    assert await board.metric("switchboard_closes_total", code="1006") == 1


@pytest.mark.parametrize(
    "breach", [NO_FRAME, NOT_UTF8, frame(BINARY)], ids=["no frame", "not UTF-8", "binary"]
)
async def test_what_was_said_before_a_breach_of_the_rules_counts_and_what_comes_after_does_not(
    board: Switchboard, breach: bytes
) -> None:
    party = Party(board)
    before = b"".join(frame(TEXT, b"%d" % number) for number in range(2 * TURN))

    party.socket.data_received(before + breach + frame(TEXT, b"after"))
    await eventually(lambda: bool(party.closes))
    party.say("and later")

    assert party.talk.said == numbers(2 * TURN)


async def test_a_breach_is_counted_once_and_a_close_frame_after_it_still_counts(
    board: Switchboard,
) -> None:
    party = Party(board)

    party.socket.data_received(frame(BINARY) * 3 + NOT_UTF8 + frame(CLOSE, b"\x03\xeb"))

    assert party.closes == b"\x03\xeb"
    assert "close" in party.transport.calls
    assert await board.metric("switchboard_rejects_total", reason="close_1003") == 1
    assert await board.metric("switchboard_rejects_total", reason="close_1007") == 0


async def test_nothing_counts_after_a_close_frame(board: Switchboard) -> None:
    party = Party(board)

    party.socket.data_received(
        frame(CLOSE, b"\x03\xe8") + frame(TEXT, b"late") + frame(BINARY) + NO_FRAME
    )

    assert party.talk.said == []
    assert party.closes == b"\x03\xe8"
    assert await board.metric("switchboard_rejects_total", reason="close_1003") == 0


# Bad clients, on real sockets


async def test_what_comes_with_an_upgrade_is_bounded_like_what_comes_later(
    concierge: FakeConcierge,
) -> None:
    released = concierge.hold()
    said = frame(TEXT, b'{"message": "%s"}' % (b"x" * 10_000))
    async with switchboard(concierge.url, RATE_LIMIT="0") as board, link(board) as raw:
        fill(board)
        raw.writer.write(upgrade() + said)
        size = 0
        while not unsent(raw) and size < MUCH:
            raw.writer.write(said)
            size += len(said)
            await asyncio.sleep(0)

        assert size < MUCH  # the kernel takes no more for somebody who is not read
        raw.abort()
        released.set()


def unsent(raw: RawWebSocket) -> int:
    """Return the number of bytes that the kernel has not taken from a client."""
    return raw.writer.transport.get_write_buffer_size()


def reset(raw: RawWebSocket) -> None:
    """Have the kernel reset the link."""
    link = raw.writer.get_extra_info("socket")
    link.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, pack("ii", 1, 0))
    raw.abort()


@pytest.mark.parametrize("how", ["reset", "end"])
@pytest.mark.parametrize("cut", [1, 3, 7, 500])
async def test_a_link_that_ends_in_the_middle_of_a_frame_delivers_all_before_and_nothing_of_it(
    board: Switchboard, concierge: FakeConcierge, open_raw: OpenRaw, how: str, cut: int
) -> None:
    raw = await open_raw(board.url, TARGET)
    raw.write(TEXT, b'{"message": "whole"}')
    await raw.send(PING)
    assert await raw.receive() == (PONG, b"")
    raw.writer.write(frame(TEXT, b'{"message": "%s"}' % (b"x" * 1000))[:cut])

    if how == "reset":
        reset(raw)
    else:
        raw.writer.write_eof()
        await raw.ended()
    await eventually(lambda: is_closed(board))

    [accepted] = await concierge.has_accepted(1)
    assert accepted.content["Body"] == "whole"
    assert await board.metric("switchboard_closes_total", code="1006") == 1


async def is_closed(board: Switchboard) -> bool:
    return await board.metric("switchboard_connections", wire="classic") == 0


async def test_a_client_that_closes_its_side_right_after_a_flood_has_all_of_it_delivered(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard(concierge.url, RATE_LIMIT="0") as board:
        raw = await open_raw(board.url, TARGET)
        for number in range(1000):
            raw.write(TEXT, b'{"message": "%d"}' % number)
        raw.writer.write_eof()

        accepted = await concierge.has_accepted(1000)

        await eventually(lambda: is_closed(board))
    assert [one.content["Body"] for one in accepted] == numbers(1000)


async def test_a_client_that_pings_on_and_on_and_reads_nothing_is_cut_off(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard(concierge.url, Limits(stall=0.3, send_buffer=4096)) as board:
        raw = await open_raw(board.url, TARGET, receive_buffer=4096)
        ping = frame(PING, b"x" * 125) * 100

        async def flood() -> None:
            while not raw.writer.is_closing():
                raw.writer.write(ping)
                await eventually(lambda: unsent(raw) < 1_000_000, pause=0.001)

        flooding = asyncio.create_task(flood())
        await eventually(lambda: is_closed(board))
        flooding.cancel()

        assert await board.metric("switchboard_closes_total", code="4101") == 1


async def test_pongs_that_nobody_asked_for_do_no_harm(
    board: Switchboard, open_raw: OpenRaw
) -> None:
    raw = await open_raw(board.url, TARGET)

    for number in range(20_000):
        raw.write(PONG, b"e:%d" % number)
    await raw.send(PING, b"still here")

    assert await raw.receive() == (PONG, b"still here")
