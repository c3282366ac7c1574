"""How long postbacks take from the Concierge's door to a user's line."""

from dataclasses import dataclass

import pytest

from switchboard_operator.delivery_sample import DeliverySample
from switchboard_operator.limits import Limits
from switchboard_operator.messages import Delivery, Postback
from switchboard_operator.metrics import Metrics
from tests.conftest import Run
from tests.switchboards import SESSION, Switchboard, eventually


async def seen(board: Switchboard) -> float:
    return await board.metric("switchboard_delivery_seconds_count")


@pytest.mark.parametrize("doorstep", [64 * 1024, 0], ids=["fast lane", "aiohttp"])
async def test_the_time_of_a_postback_whose_user_is_here_is_shown(run: Run, doorstep: int) -> None:
    async with run(Limits(doorstep_bytes=doorstep)) as board:
        user = await board.connect()
        await board.postback({"to": "somebody-who-is-not-here"})

        await board.postback({"to": SESSION, "body": "hello"})
        await user.receive()

        async def is_shown() -> bool:
            return await seen(board) == 1

        await eventually(is_shown)
        assert 0 < await board.metric("switchboard_delivery_seconds_sum") < 5


@dataclass
class Sampling:
    """A sample of what goes to the user of SESSION, who is here, and what it shows."""

    sample: DeliverySample
    metrics: Metrics

    def accept(self, body: bytes) -> None:
        self.sample.accepted(Postback(SESSION, body, body.decode()))

    def deliver(self, body: bytes) -> None:
        if self.sample.session == SESSION:
            self.sample.delivered(Delivery(SESSION, body, None))

    def seen(self) -> int:
        [line] = [
            line
            for line in self.metrics.exposition().decode().splitlines()
            if line.startswith("switchboard_delivery_seconds_count")
        ]
        return int(float(line.rpartition(" ")[2]))


def sampling_for(longest: float) -> Sampling:
    metrics = Metrics("test")
    sample = DeliverySample(metrics, longest)
    sample.is_here = SESSION.__eq__
    return Sampling(sample, metrics)


@pytest.fixture
def sampling() -> Sampling:
    return sampling_for(longest=60)


def test_one_is_followed_and_the_others_meanwhile_are_not(sampling: Sampling) -> None:
    for body in (b"1", b"2", b"3"):
        sampling.accept(body)

    sampling.deliver(b"2")
    assert sampling.seen() == 0
    sampling.deliver(b"1")
    sampling.deliver(b"3")

    assert sampling.seen() == 1


def test_once_it_was_delivered_the_next_is_followed(sampling: Sampling) -> None:
    for body in (b"1", b"2"):
        sampling.accept(body)
        sampling.deliver(body)

    assert sampling.seen() == 2


def test_it_counts_once_for_several_sockets(sampling: Sampling) -> None:
    sampling.accept(b"1")

    sampling.deliver(b"1")
    sampling.deliver(b"1")

    assert sampling.seen() == 1


def test_one_that_does_not_come_is_given_up() -> None:
    sampling = sampling_for(longest=0)
    sampling.accept(b"lost")

    sampling.accept(b"2")
    sampling.deliver(b"2")

    assert sampling.seen() == 1


def test_one_whose_user_is_elsewhere_is_not_followed(sampling: Sampling) -> None:
    sampling.sample.accepted(Postback("somebody-elsewhere", b"1", "key"))

    assert sampling.sample.session == ""
