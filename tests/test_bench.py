"""The benchmark: its statistics, its load generator on servers with known faults, and all of it."""

import asyncio
import json
import re
import socket
import struct
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import islice
from math import isnan
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from benchmarks.bench.bot import addressees, write_requests
from benchmarks.bench.contenders import UNMEASURED
from benchmarks.bench.figures import Tally, median_of_ratios, percentile, share_of_ratios
from benchmarks.bench.load import Events, Plan, Received, Sent, build, load
from benchmarks.bench.rounds import latencies_of, tally_of
from tests.fakes import FakeConcierge
from tests.raw import hang_up
from tests.switchboards import ROOT, SESSION, switchboard_process, variables

Sockets = dict[str, web.WebSocketResponse]
Deliver = Callable[[Sockets, dict[str, Any]], Awaitable[None]]

SENT = [(0, 0), (1, 1), (2, 0), (3, 1)]  # (message, user)
TALKING = Plan(sockets=4, messages=40, window=3, seconds=5)
POSTING = Plan(sockets=6, posters=3, seconds=5, patience=0.2)


class TestTally:
    def test_all_that_came_once_and_in_order_is_good(self) -> None:
        tally = Tally.of(SENT, [(1, 1), (0, 0), (3, 1), (2, 0)])

        assert tally.good()

    def test_what_did_not_come_is_lost(self) -> None:
        tally = Tally.of(SENT, [(0, 0), (1, 1), (2, 0)])

        assert tally == Tally(lost=1)

    def test_what_came_twice_is_doubled(self) -> None:
        tally = Tally.of(SENT, [*SENT, (2, 0), (2, 0)])

        assert tally == Tally(doubled=2)

    def test_what_came_to_somebody_else_is_misrouted_and_lost(self) -> None:
        tally = Tally.of(SENT, [(0, 1), (1, 1), (2, 0), (3, 1)])

        assert tally == Tally(lost=1, misrouted=1)

    def test_what_nobody_sent_is_misrouted(self) -> None:
        tally = Tally.of(SENT, [*SENT, (4, 0)])

        assert tally == Tally(misrouted=1)

    def test_what_came_after_a_later_one_of_its_user_is_reordered(self) -> None:
        tally = Tally.of(SENT, [(2, 0), (0, 0), (3, 1), (1, 1)])

        assert tally == Tally(reordered=2)

    def test_rounds_add_up(self) -> None:
        total = sum([Tally(1, 2, 3, 4), Tally(10, 20, 30, 40)], Tally())

        assert total == Tally(11, 22, 33, 44)


class TestFigures:
    def test_a_percentile_is_a_value_that_so_many_do_not_exceed(self) -> None:
        values = [float(value) for value in range(100, 0, -1)]

        found = [percentile(values, share) for share in (0.5, 0.99, 1.0)]

        assert found == [50.0, 99.0, 100.0]

    def test_a_percentile_of_few_values_is_one_of_them(self) -> None:
        assert percentile([3.0], 0.99) == 3.0
        assert percentile([3.0, 1.0], 0.5) == 1.0
        assert percentile([3.0, 1.0], 0.0) == 1.0

    def test_a_percentile_of_nothing_is_no_number(self) -> None:
        assert isnan(percentile([], 0.5))

    def test_ratios_are_of_the_same_round(self) -> None:
        ratio = median_of_ratios([1.0, 2.0, 30.0], [1.0, 4.0, 10.0])

        assert ratio == 1.0

    def test_a_ratio_is_one_that_so_many_rounds_do_not_exceed(self) -> None:
        ours, theirs = [4.0, 1.0, 3.0, 2.0], [2.0, 1.0, 1.0, 1.0]

        found = [share_of_ratios(ours, theirs, share) for share in (0.25, 0.75)]

        assert found == [1.0, 2.0]

    def test_a_round_in_which_the_peer_did_nothing_has_no_ratio(self) -> None:
        assert median_of_ratios([1.0, 5.0], [0.0, 1.0]) == 5.0
        assert isnan(median_of_ratios([1.0], [0.0]))


class TestEvents:
    def test_the_generators_file_is_read(self, tmp_path: Path) -> None:
        path = tmp_path / "events"
        path.write_bytes(
            struct.pack("<qq", 2, 1)
            + struct.pack("<qqii", 1_000_000_000, 1_500_000_000, 204, 0)
            + struct.pack("<qqii", 2_000_000_000, 0, 0, 0)
            + struct.pack("<qii", 1_250_000_000, 0, 7)
        )

        events = Events.read(path)

        assert events.sent == [Sent(1.0, 1.5, 204), Sent(2.0, 0.0, 0)]
        assert events.received == [Received(1.25, 0, 7)]

    def test_messages_of_an_array_are_late_from_when_their_request_was_due(self) -> None:
        sent = [Sent(1.0, 1.5, 204), Sent(2.0, 2.5, 204)]
        events = Events(sent, [Received(1.25, 1, 0), Received(4.0, 2, 1)])

        latencies = list(latencies_of(replace(POSTING, batch=2), events))

        assert latencies == [0.25, 2.0]

    def test_what_the_server_refused_is_not_lost(self) -> None:
        events = Events([Sent(1.0, 1.5, 503), Sent(1.0, 1.5, 202), Sent(0.0, 0.0, 0)], [])

        tally = tally_of(POSTING, events)

        assert tally == Tally(lost=1)

    def test_what_users_have_not_said_is_not_lost(self) -> None:
        events = Events([Sent(1.0, 0.0, 0), Sent(0.0, 0.0, 0)], [])

        tally = tally_of(Plan(messages=2), events)

        assert tally == Tally(lost=1)


@pytest.mark.parametrize("batch", [1, 7])
def test_a_users_messages_go_out_by_one_poster(batch: int) -> None:
    plan = Plan(sockets=10, posters=4, batch=batch)
    posters: dict[int, set[int]] = defaultdict(set)

    for message, user in enumerate(islice(addressees(plan), 500)):
        posters[user].add(message // batch % plan.posters)

    assert sorted(posters) == list(range(10))
    assert all(len(of_user) == 1 for of_user in posters.values())


@asynccontextmanager
async def gateway(deliver: Deliver, **socket_options: Any) -> AsyncIterator[str]:
    """Serve users and a bot with as little as can be; return the port."""
    sockets: Sockets = {}

    async def chat(request: web.Request) -> web.WebSocketResponse:
        user = web.WebSocketResponse(**socket_options)
        await user.prepare(request)
        sockets[request.query["session"]] = user
        async for message in user:
            await deliver(sockets, {"said": message.json(), "from": request.query["session"]})
        return user

    async def post(request: web.Request) -> web.Response:
        postbacks = await request.json()
        for postback in postbacks if isinstance(postbacks, list) else [postbacks]:
            await deliver(sockets, postback)
        return web.Response(status=204)

    app = web.Application()
    app.add_routes([web.get("/", chat), web.post("/", post)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield str(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def run(
    folder: Path, plan: Plan, port: str, requests: int = 0, **more: Any
) -> tuple[dict[str, Any], Events]:
    """Put the load on; return the generator's counts, and what happened."""
    await asyncio.to_thread(build)
    if requests:
        write_requests(folder / "requests", plan, 1, requests)
        more["requests"] = str(folder / "requests")
    files = [more["concierge"]] if "concierge" in more else []
    options = {"run": 1, "ports": port, "events": str(folder / "events"), **more}
    async with load(plan, files, **options) as running:
        counts = await running.go()
    return counts, Events.read(folder / "events")


async def talk(folder: Path, again: Sequence[int] = ()) -> tuple[dict[str, Any], Events]:
    """Have users talk through a gateway that posts some numbers *again*."""
    with socket.create_server(("127.0.0.1", 0)) as concierge:
        url = f"http://127.0.0.1:{concierge.getsockname()[1]}/incoming/postback"

        async def tell(_sockets: Sockets, heard: dict[str, Any]) -> None:
            said = heard["said"]["payload"]
            body = json.dumps({"From": heard["from"], "Payload": said})
            async with aiohttp.ClientSession() as client:
                for _ in range(2 if said["n"] in again else 1):
                    async with client.post(url, data=body) as response:
                        assert response.status == 204

        async with gateway(tell) as port:
            return await run(folder, TALKING, port, concierge=concierge.fileno())


async def rightly(sockets: Sockets, postback: dict[str, Any]) -> None:
    await sockets[postback["to"]].send_json(postback)


async def twice(sockets: Sockets, postback: dict[str, Any]) -> None:
    await rightly(sockets, postback)
    if postback["n"] == 5:
        await rightly(sockets, postback)


async def not_always(sockets: Sockets, postback: dict[str, Any]) -> None:
    if postback["n"] != 5:
        await rightly(sockets, postback)


async def after(seconds: float, what: Awaitable[None]) -> None:
    await asyncio.sleep(seconds)
    await what


async def to_somebody_else(sockets: Sockets, postback: dict[str, Any]) -> None:
    others = [session for session in sockets if session != postback["to"]]
    await sockets[others[0] if postback["n"] == 5 else postback["to"]].send_json(postback)


def late() -> Deliver:
    held: list[dict[str, Any]] = []

    async def deliver(sockets: Sockets, postback: dict[str, Any]) -> None:
        if postback["n"] == 5:
            held.append(postback)
            return
        await rightly(sockets, postback)
        if held and held[0]["to"] == postback["to"]:
            await rightly(sockets, held.pop())

    return deliver


@pytest.mark.slow
class TestGenerator:
    @pytest.mark.parametrize(
        ("deliver", "found"),
        [
            (rightly, Tally()),
            (twice, Tally(doubled=1)),
            (not_always, Tally(lost=1)),
            (to_somebody_else, Tally(lost=1, misrouted=1)),
            (late(), Tally(reordered=1)),
        ],
        ids=["right", "doubled", "lost", "misrouted", "reordered"],
    )
    async def test_a_servers_fault_is_found(
        self, deliver: Deliver, found: Tally, tmp_path: Path
    ) -> None:
        async with gateway(deliver) as port:
            counts, events = await run(tmp_path, POSTING, port, requests=60)

        assert counts["statuses"] == {"204": 60}
        assert tally_of(POSTING, events) == found

    async def test_arrays_are_posted(self, tmp_path: Path) -> None:
        plan = replace(POSTING, batch=5)

        async with gateway(rightly) as port:
            counts, events = await run(tmp_path, plan, port, requests=12)

        assert (counts["posted"], counts["received"]) == (12, 60)
        assert tally_of(plan, events).good()

    async def test_what_comes_twice_in_the_end_is_found(self, tmp_path: Path) -> None:
        tasks = set()

        async def repeat_the_last(sockets: Sockets, postback: dict[str, Any]) -> None:
            await rightly(sockets, postback)
            if postback["n"] == 59:
                tasks.add(asyncio.create_task(after(0.1, rightly(sockets, postback))))

        async with gateway(repeat_the_last) as port:
            _, events = await run(tmp_path, POSTING, port, requests=60, aftermath=1000)

        assert tally_of(POSTING, events) == Tally(doubled=1)

    async def test_what_comes_twice_does_not_stand_for_what_is_late(self, tmp_path: Path) -> None:
        tasks = set()

        async def delay_the_last(sockets: Sockets, postback: dict[str, Any]) -> None:
            if postback["n"] == 59:
                tasks.add(asyncio.create_task(after(0.3, rightly(sockets, postback))))
            else:
                await twice(sockets, postback)

        plan = replace(POSTING, patience=5)

        async with gateway(delay_the_last) as port:
            _, events = await run(tmp_path, plan, port, requests=60)

        assert tally_of(plan, events) == Tally(doubled=1)

    async def test_what_waited_for_a_server_that_hung_is_late(self, tmp_path: Path) -> None:
        async def hang_once(sockets: Sockets, postback: dict[str, Any]) -> None:
            if postback["n"] == 0:
                await asyncio.sleep(0.5)
            await rightly(sockets, postback)

        plan = replace(POSTING, posters=1, rate=100)

        async with gateway(hang_once) as port:
            _, events = await run(tmp_path, plan, port, requests=50)

        latencies = list(latencies_of(plan, events))
        assert latencies[0] >= 0.5
        assert latencies[25] >= 0.2  # it was due in the midst of that

    async def test_users_answer_pings(self, tmp_path: Path) -> None:
        plan = Plan(sockets=3, seconds=4)

        async with gateway(rightly, heartbeat=1) as port:
            counts, _ = await run(tmp_path, plan, port)

        assert counts["pings"] >= 6
        assert counts["open"] == 3

    async def test_close_codes_are_counted(self, tmp_path: Path) -> None:
        async def close(sockets: Sockets, postback: dict[str, Any]) -> None:
            user = sockets.pop(postback["to"])
            if postback["n"] % 2:
                await user.close(code=1012)
            else:
                hang_up(user)

        plan = replace(POSTING, until_closed=True)

        async with gateway(close) as port:
            counts, _ = await run(tmp_path, plan, port, requests=6)

        assert counts["closes"] == {"1006": 3, "1012": 3}
        assert counts["open"] == 0

    @pytest.mark.parametrize(
        ("again", "found"), [((), Tally()), ((5,), Tally(doubled=1))], ids=["right", "doubled"]
    )
    async def test_what_users_say_reaches_the_concierge(
        self, again: Sequence[int], found: Tally, tmp_path: Path
    ) -> None:
        counts, events = await talk(tmp_path, again)

        assert counts["said"] == 40
        assert tally_of(TALKING, events) == found

    async def test_users_wait_for_the_concierge(self, tmp_path: Path) -> None:
        _, events = await talk(tmp_path)

        came = {receipt.message: receipt.at for receipt in events.received}
        behind = TALKING.window * TALKING.sockets
        for message in range(behind, TALKING.messages):
            assert events.sent[message].due >= came[message - behind]


@pytest.mark.slow
async def test_the_unmeasured_peer_is_the_gateway_without_a_metric(
    concierge: FakeConcierge,
) -> None:
    async with switchboard_process(variables(concierge.url), UNMEASURED.command) as board:
        user = await board.connect()
        await user.send_json({"message": "hello"})
        await concierge.has_accepted(1)
        answer = await board.postback({"to": SESSION, "body": "hello"})
        got = await user.receive_json()
        token = {"Authorization": "Bearer the scraper's token"}
        status, metrics = await board.get("/metrics", headers=token)

    assert answer.status == 204
    assert got["body"] == "hello"
    assert (status, metrics) == (200, "")


@pytest.mark.slow
async def test_what_metrics_cost_is_told_below_the_table() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bench", "--quick", "saturation",
        "--servers", "ours,ours-unmeasured",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip

    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    line = (
        r"^With metrics, of what it is without: messages/s \d\.\d{3} \(half of .*\), CPU \d\.\d{3} "
    )
    assert re.search(line, output.decode(), re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(900)  # as much as all of it may take on a machine that is busy
async def test_all_of_it_works(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks.bench", "--quick", "--json", figures,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip

    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    records = json.loads(figures.read_text())
    carried = [record for record in records if "rounds" in record]
    assert {record["server"] for record in carried} == {"ours", "node", "plain"}
    assert all(one["rate"] > 0 for record in carried for one in record["rounds"])
    assert all(one["lag"] >= 0 for record in carried for one in record["rounds"])  # no NaN
    shown = " ".join(record["title"] for record in records)
    for scenario in ("saturation", "at 200/s", "arrays", "upstream", "idle", "fleet", "SIGTERM"):
        assert scenario in shown
