"""The ids of postbacks: how they are written and read, and which follows which."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from switchboard_operator import marks
from switchboard_operator.marks import ELSEWHERE, NOWHERE, Mark

epochs = st.from_regex(r"[0-9a-z]{1,16}", fullmatch=True)
numbers = st.integers(1, 10**15 - 1)


@given(epochs, numbers)
def test_what_is_written_is_read_again(epoch: str, number: int) -> None:
    mark = Mark(epoch, number)

    assert str(mark) == f"{epoch}:{number}"
    assert marks.parse(str(mark)) == mark
    assert marks.ours(str(mark)) == mark


@pytest.mark.parametrize("text", ["", "k3f9", "k3f9:", "k3f9:x", "k3f9:4:1", ":"])
def test_what_redis_has_from_somebody_else_is_no_mark_of_ours(text: str) -> None:
    assert marks.ours(text) is None


@pytest.mark.parametrize("mark", [NOWHERE, ELSEWHERE, Mark("k3f9", 0)])
def test_a_place_before_the_first_postback_is_written_as_nothing(mark: Mark) -> None:
    assert str(mark) == ""


NOT_MARKS: Final[dict[str, str]] = {
    "empty": "",
    "colon alone": ":",
    "no number": "k3f9:",
    "no epoch": ":41",
    "no colon": "k3f941",
    "two colons": "k3f9:4:1",
    "negative": "k3f9:-1",
    "signed": "k3f9:+1",
    "fraction": "k3f9:1.0",
    "hexadecimal": "k3f9:0x1",
    "grouped digits": "k3f9:1_000",
    "upper case": "K3F9:41",
    "white space before": " k3f9:41",
    "white space after": "k3f9:41 ",
    "line end": "k3f9:41\n",
    "NUL": "k3f9:41\0",
    "epoch of nobody": "?:0",
    "epoch too long": f"{'a' * 17}:1",
    "number too long": f"a:1{'0' * 15}",
    "Arabic digit": "k3f9:\u0661",
    "full-width letter": "\uff41:1",
    "lone surrogate": "\ud800:1",
}


@pytest.mark.parametrize("text", NOT_MARKS.values(), ids=NOT_MARKS)
def test_what_is_no_mark_is_none(text: str) -> None:
    assert marks.parse(text) is None


@given(st.text(st.characters(), max_size=20))
def test_no_text_raises(text: str) -> None:
    assert marks.parse(text) is None or ":" in text


@given(epochs, numbers)
def test_a_mark_precedes_the_next_of_its_epoch_alone(epoch: str, number: int) -> None:
    mark = Mark(epoch, number)

    assert mark.precedes(Mark(epoch, number + 1))
    assert not mark.precedes(mark)
    assert not mark.precedes(Mark(epoch, number - 1))
    assert not mark.precedes(Mark(epoch, number + 2))
    assert not mark.precedes(Mark(f"{epoch}0", number + 1))


@given(epochs)
def test_nowhere_precedes_the_first_of_any_epoch(epoch: str) -> None:
    assert NOWHERE.precedes(Mark(epoch, 1))
    assert not NOWHERE.precedes(Mark(epoch, 2))


@given(epochs, numbers)
def test_elsewhere_precedes_nothing(epoch: str, number: int) -> None:
    assert not ELSEWHERE.precedes(Mark(epoch, number))


def test_each_new_epoch_is_another_and_can_stand_in_a_mark() -> None:
    tags = [marks.new_epoch() for _ in range(100)]

    assert len(set(tags)) == 100
    assert all(marks.parse(f"{tag}:1") == Mark(tag, 1) for tag in tags)
