"""What is under way to a classic client while its Close frame is under way to us."""

import asyncio
from random import Random

import pytest
from aiohttp import web
from yarl import URL

from switchboard_operator.connection import Connection
from switchboard_operator.limits import Limits
from switchboard_operator.receipts import SAMPLES
from switchboard_operator.web import keys
from tests.fakes import FakeConcierge
from tests.fault_proxy import FaultProxy, Faults, Kind
from tests.switchboards import SESSION, client_session, eventually, switchboard

PINGS_OFTEN = Limits(receipt_delay=0.0, receipt_every=0.0)
DELAY = 0.1  # seconds, each way


async def joined(app: web.Application) -> tuple[Connection, ...]:
    """Return the connections of SESSION, once there is one."""
    connections = app[keys.CONNECTIONS]
    await eventually(lambda: bool(connections.of(SESSION)))
    return connections.of(SESSION)


class AlwaysMost(Random):
    """Chance that takes every link to be as slow as may be."""

    def uniform(self, _a: float, b: float) -> float:
        return b


@pytest.mark.slow
async def test_a_postback_that_crosses_with_a_close_frame_comes_again(
    concierge: FakeConcierge,
) -> None:
    slow = Faults(kinds=[Kind.NONE], delay=DELAY)
    async with (
        switchboard(concierge.url, limits=PINGS_OFTEN) as board,
        FaultProxy(lambda: URL(board.url).port or 0, slow, AlwaysMost()).serving() as proxy,
        client_session() as session,
    ):
        url = f"http://127.0.0.1:{proxy.port}/?session={SESSION}"
        client = await session.ws_connect(url)
        assert board.app is not None
        [connection] = await joined(board.app)
        for number in range(SAMPLES):
            await board.postback({"to": SESSION, "n": number})
            assert (await client.receive_json())["n"] == number
            answering = asyncio.create_task(client.receive())  # which answers pings, too
            await eventually(lambda: connection.receipts.complete)
            answering.cancel()
            await asyncio.wait({answering})
        await board.postback({"to": SESSION, "n": "crossed"})

        await client.close()
        again = await session.ws_connect(url)

        await board.postback({"to": SESSION, "n": "later"})
        assert [(await again.receive_json())["n"] for _ in range(2)] == [
            "crossed",
            "later",
        ]
