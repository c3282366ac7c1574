"""What a request is called in the log."""

import re

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from switchboard_operator.web import request_id

OURS = re.compile("[0-9a-f]{32}")


@pytest.mark.parametrize(
    "sent",
    ["a", "7c1f1f0e-6d0f-4d5c-8a53-2f0c2f6b9a11", "Root=1-67891233-abc/def+x:y_z.=", "a" * 128],
)
def test_an_id_that_was_sent_is_taken(sent: str) -> None:
    assert request_id.chosen(sent) == sent


@pytest.mark.parametrize(
    "sent", [None, "", " ", "a b", "a\nlevel=error", 'a"', "é", "\udcff", "a" * 129, "{}", "a;b"]
)
def test_what_could_harm_a_log_is_replaced_by_one_of_ours(sent: str | None) -> None:
    first, second = request_id.chosen(sent), request_id.chosen(sent)

    assert OURS.fullmatch(first)
    assert first != second


def test_a_request_has_the_same_id_each_time() -> None:
    request = make_mocked_request("GET", "/")

    assert OURS.fullmatch(request_id.of(request))
    assert request_id.of(request) == request_id.of(request)


def test_a_request_that_has_two_gets_one_of_ours() -> None:
    headers = CIMultiDict([("X-Request-ID", "one"), ("x-request-id", "two")])

    assert OURS.fullmatch(request_id.of(make_mocked_request("GET", "/", headers=headers)))
