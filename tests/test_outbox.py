"""The queue of frames: order, and how much fits."""

import pytest

from switchboard_operator.marks import Mark
from switchboard_operator.outbox import Outbox


def holding(*frames: bytes, most: int = 3, most_bytes: int = 10) -> Outbox:
    outbox = Outbox(most, most_bytes)
    for frame in frames:
        outbox.put(frame)
    return outbox


def test_frames_come_out_in_their_order_each_with_its_id() -> None:
    outbox = Outbox(10, 100)
    outbox.put(b"1", Mark("a", 1))
    outbox.put(b"ack")
    outbox.put(b"2", Mark("a", 2))

    taken = [outbox.take(1) for _ in range(3)]

    assert taken == [([b"1"], Mark("a", 1)), ([b"ack"], None), ([b"2"], Mark("a", 2))]
    assert not outbox


@pytest.mark.parametrize(
    ("most", "frames", "mark"),
    [
        (0, [b"11"], Mark("a", 1)),
        (3, [b"11"], Mark("a", 1)),
        (4, [b"11", b"22"], Mark("a", 2)),
        (7, [b"11", b"22", b"ack"], Mark("a", 2)),
        (100, [b"11", b"22", b"ack", b"bye"], Mark("a", 2)),
    ],
)
def test_several_are_taken_with_the_last_id_among_them(
    most: int, frames: list[bytes], mark: Mark
) -> None:
    outbox = Outbox(10, 100)
    for frame, its_mark in (
        (b"11", Mark("a", 1)), (b"22", Mark("a", 2)), (b"ack", None), (b"bye", None)
    ):  # fmt: skip
        outbox.put(frame, its_mark)

    assert outbox.take(most) == (frames, mark)
    assert len(outbox) == 4 - len(frames)
    assert outbox.has_room(100 - 10 + sum(map(len, frames)))
    assert not outbox.has_room(100 - 10 + sum(map(len, frames)) + 1) or not outbox


@pytest.mark.parametrize(("count", "fits"), [(1, True), (2, True), (3, False)])
def test_a_number_of_frames_fits(count: int, fits: bool) -> None:
    outbox = holding(*[b"x"] * count)

    assert outbox.has_room(1) == fits


@pytest.mark.parametrize(("size", "fits"), [(0, True), (6, True), (7, False)])
def test_a_number_of_bytes_fits(size: int, fits: bool) -> None:
    outbox = holding(b"1234")

    assert outbox.has_room(size) == fits


def test_one_frame_always_fits_however_long() -> None:
    outbox = holding()

    assert outbox.has_room(1000)


@pytest.mark.parametrize(
    ("beside", "fits"),
    [((0, 0), True), ((1, 5), True), ((2, 0), False), ((1, 6), False), ((0, 6), False)],
    ids=["nothing", "just enough", "a frame too many", "a byte too many", "bytes alone"],
)
def test_what_is_kept_beside_counts_as_well(beside: tuple[int, int], fits: bool) -> None:
    outbox = holding(b"1234")

    assert outbox.has_room(1, beside=beside) == fits


def test_a_frame_that_is_too_long_does_not_fit_beside_others() -> None:
    outbox = holding()

    assert not outbox.has_room(1000, beside=(1, 1))


@pytest.mark.parametrize(
    ("frames", "fits"),
    [([b"x"] * 5, True), ([b"x"] * 6, False), ([b"x" * 19], True), ([b"x" * 20], False)],
    ids=["frames", "a frame too many", "bytes", "a byte too many"],
)
def test_the_bounds_can_be_stretched(frames: list[bytes], fits: bool) -> None:
    outbox = holding(*frames)

    assert outbox.has_room(1, times=2) == fits


def test_what_is_put_stays_though_there_is_no_room() -> None:
    outbox = holding(*[b"1234"] * 5)

    assert len(outbox) == 5
    assert outbox.take(4) == ([b"1234"], None)


def test_what_is_taken_out_leaves_room() -> None:
    outbox = holding(b"12345", b"12345", b"12345")

    rooms = [outbox.has_room(5)]
    for _ in range(3):
        outbox.take(1)
        rooms.append(outbox.has_room(5))

    assert rooms == [False, False, True, True]


def test_cleared_it_is_as_new() -> None:
    outbox = holding(b"12345", b"12345")

    outbox.clear()
    outbox.put(b"1234")

    assert len(outbox) == 1
    assert outbox.has_room(6)
    assert not outbox.has_room(7)
