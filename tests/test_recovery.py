"""Short runs of `benchmarks.recovery`, and what they rest on: its verdicts and the fault proxy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest

from benchmarks.recovery import Scale, recovers
from benchmarks.verdict import Verdict
from tests.fault_proxy import FaultProxy, Faults, Kind
from tests.redis_server import free_port

pytestmark = pytest.mark.slow  # some wait to see that nothing comes

SEEDS = range(1, 4)
QUIET = 1.0  # seconds after which nothing more is expected
SMALL = Scale(messages=100, visit=20, away=0.1, silence=0.4, pause=0.01, restart=2.0)

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def linked(
    faults: Faults, *, calm: bool = False
) -> AsyncIterator[tuple[FaultProxy, Streams, Streams]]:
    """Link a client with a server by a proxy, which may be *calm*; yield all three."""
    arrived: asyncio.Queue[Streams] = asyncio.Queue()
    server = await asyncio.start_server(lambda *ends: arrived.put_nowait(ends), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with FaultProxy(lambda: port, faults, Random(1)).serving() as proxy:
        if calm:
            proxy.calm()
        client = await asyncio.open_connection("127.0.0.1", proxy.port)
        there = await arrived.get()
        try:
            yield proxy, client, there
        finally:
            for _, writer in (client, there):
                writer.transport.abort()
            server.close()


async def drained(reader: asyncio.StreamReader) -> bytes:
    """Return what is read until nothing more comes for a while."""
    got = b""
    try:
        async with asyncio.timeout(QUIET) as patience:
            while data := await reader.read(65536):
                got += data
                patience.reschedule(asyncio.get_running_loop().time() + QUIET)
    except TimeoutError:
        pass
    return got


@pytest.mark.slow
async def test_users_of_v1_resume_without_loss_or_doubles_though_instances_are_killed() -> None:
    assert await recovers("resume", SEEDS, SMALL)


@pytest.mark.slow
async def test_classic_users_who_leave_properly_get_all_once_though_instances_are_stopped() -> None:
    assert await recovers("classic", SEEDS, SMALL)


@pytest.mark.slow
async def test_classic_users_whose_links_break_miss_nothing() -> None:
    assert await recovers("classic-holes", SEEDS, SMALL)


@pytest.mark.slow
async def test_what_users_of_v1_say_again_reaches_the_concierge_once_and_in_order() -> None:
    assert await recovers("talk", SEEDS, SMALL)


@pytest.mark.parametrize(
    ("came", "lost", "doubled", "reordered"),
    [
        ([0, 1, 2], [], [], []),
        ([0, 2], [1], [], []),
        ([0, 1, 2, 1, 2], [], [1, 2], []),
        ([0, 2, 1], [], [], [1]),
        ([2, 2, 0], [1], [2], [0]),
    ],
)
def test_a_verdict_tells_what_was_lost_doubled_and_reordered(
    came: list[int], lost: list[int], doubled: list[int], reordered: list[int]
) -> None:
    verdict = Verdict.of(came, 3)

    assert (verdict.lost, verdict.doubled, verdict.reordered) == (lost, doubled, reordered)


def test_doubles_are_forgiven_only_where_they_may_be() -> None:
    verdict = Verdict.of([0, 1, 0, 1], 2)

    assert verdict.good(doubles=True)
    assert not verdict.good(doubles=False)


@pytest.mark.parametrize(
    "came", [pytest.param([0, 0], id="one lost"), pytest.param([1, 0], id="reordered")]
)
def test_losses_and_reorders_are_not_forgiven_where_doubles_are(came: list[int]) -> None:
    assert not Verdict.of(came, 2).good(doubles=True)


def test_a_trouble_spoils_a_verdict() -> None:
    assert not Verdict.of([0], 1, ["not resumed"]).good(doubles=True)


async def test_a_link_that_nothing_befalls_carries_all_and_then_the_end() -> None:
    async with linked(Faults(kinds=[Kind.NONE], within=10)) as (proxy, client, there):
        client[1].write(b"x" * 100_000)
        client[1].write_eof()
        there[1].write(b"y" * 100_000)

        assert len(await there[0].read()) == 100_000
        assert await client[0].readexactly(100_000)
        assert not proxy.met


async def test_a_link_is_cut_within_the_bytes_told_and_both_ends_see_a_reset() -> None:
    async with linked(Faults(kinds=[Kind.CUT], within=10)) as (proxy, client, there):
        client[1].write(b"x" * 20)

        for reader, _ in (client, there):
            with pytest.raises(ConnectionResetError):
                await reader.read()
        assert proxy.met == {Kind.CUT: 1}


async def test_a_deaf_client_hears_no_end_either_but_the_server_hears_on() -> None:
    async with linked(Faults(kinds=[Kind.DEAF], within=10)) as (proxy, client, there):
        there[1].write(b"y" * 20)
        heard = await drained(client[0])
        client[1].write(b"hello")
        hello = await there[0].readexactly(5)
        there[1].close()

        assert len(heard) <= 10
        assert hello == b"hello"
        assert not await drained(client[0])
        assert not client[0].at_eof()
        assert proxy.met == {Kind.DEAF: 1}


async def test_a_mute_client_is_not_heard_to_leave_either_but_hears_on() -> None:
    async with linked(Faults(kinds=[Kind.MUTE], within=10)) as (proxy, client, there):
        client[1].write(b"x" * 20)
        heard = await drained(there[0])
        there[1].write(b"hello")
        hello = await client[0].readexactly(5)
        client[1].close()

        assert len(heard) <= 10
        assert hello == b"hello"
        assert not await drained(there[0])
        assert not there[0].at_eof()
        assert proxy.met == {Kind.MUTE: 1}


async def test_nothing_befalls_links_that_come_after_a_proxy_has_been_calmed() -> None:
    async with linked(Faults(kinds=[Kind.CUT], within=10), calm=True) as (proxy, client, there):
        client[1].write(b"x" * 20)

        assert await there[0].readexactly(20)
        assert not proxy.met


async def test_a_server_that_is_not_there_resets_its_clients() -> None:
    async with FaultProxy(free_port, Faults(kinds=[Kind.NONE]), Random(1)).serving() as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)

        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.transport.abort()
