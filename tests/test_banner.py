"""The banner: what somebody who has just started it wants to know."""

import asyncio
import re
import socket

import pytest

from switchboard_operator import __version__, banner
from switchboard_operator.first_look import FirstLook, first_look
from switchboard_operator.limits import Limits
from switchboard_operator.settings import Settings
from tests.fakes import FakeConcierge
from tests.redis_server import free_port, redis_server
from tests.switchboards import switchboard, variables

URL = "http://127.0.0.1:5555"


def shown(**more: str) -> str:
    return after(FirstLook(), **more)


def after(look: FirstLook, **more: str) -> str:
    return banner.text(URL, Settings.read(variables("http://concierge.example:8080", **more)), look)


def test_it_shows_version_concierge_and_what_joins_instances() -> None:
    text = shown(REDISCLOUD_URL="redis://redis.example")

    assert text.startswith(f"Switchboard Operator {__version__}\n")
    assert "\n  Concierge  http://concierge.example:8080 (" in text
    assert "\n  Broker     Redis at redis.example:6379 (" in text


@pytest.mark.parametrize(
    ("look", "concierge", "redis"),
    [
        (FirstLook(concierge=True, redis=True), "is there", "is there"),
        (FirstLook(), "is not there yet", "is not there yet"),
    ],
)
def test_it_says_who_answers(look: FirstLook, concierge: str, redis: str) -> None:
    text = after(look, REDISCLOUD_URL="redis://redis.example")

    assert f":8080 ({concierge})\n" in text
    assert f":6379 ({redis})\n" in text


def test_its_first_url_is_the_chats_and_another_one_tells_how_it_is() -> None:
    urls = re.findall(r"https?://[^\s\"]+", shown())

    assert urls[:2] == [f"{URL}/chat", f"{URL}/"]


def test_it_shows_the_two_tags_that_put_the_chat_on_a_page() -> None:
    lines = [line[13:] for line in shown().splitlines() if "<" in line]

    assert lines == [
        f'<script type="module" src="{URL}/widget/switchboard-chat.js"></script>',
        '<switchboard-chat src="ws://127.0.0.1:5555/"></switchboard-chat>',
    ]


def test_without_redis_it_says_that_the_process_is_the_only_one() -> None:
    assert "memory: this process is the only one (REDISCLOUD_URL)" in shown()


@pytest.mark.parametrize(
    ("origins", "noted"), [("*", True), ("https://a.example", False)], ids=["any", "listed"]
)
def test_it_notes_that_any_origin_may_connect(origins: str, noted: bool) -> None:
    text = shown(ALLOWED_ORIGINS=origins)

    assert ("any web origin may connect (ALLOWED_ORIGINS)" in text) is noted


@pytest.mark.parametrize(
    ("url", "verify", "warned"),
    [
        ("rediss://redis.example", "0", True),
        ("rediss://redis.example", "1", False),
        ("redis://redis.example", "0", False),  # there is nothing to verify
    ],
)
def test_it_warns_of_a_certificate_that_is_not_verified(
    url: str, verify: str, warned: bool
) -> None:
    text = shown(REDISCLOUD_URL=url, REDIS_TLS_VERIFY=verify)

    assert ("the certificate of Redis is not verified (REDIS_TLS_VERIFY=0)" in text) is warned


def test_it_shows_no_secret() -> None:
    more = {"REDISCLOUD_URL": "redis://somebody:hunter2@redis.example:1/3"}
    environment = variables("http://concierge.example", **more)
    secrets = [value for name, value in environment.items() if re.search("SECRET|TOKEN", name)]

    text = shown(**more)

    for secret in ("hunter2", "somebody", *secrets):
        assert secret not in text


async def test_a_first_look_finds_out_who_answers(concierge: FakeConcierge) -> None:
    async with (
        redis_server() as redis,
        switchboard(concierge.url, REDISCLOUD_URL=redis.url) as board,
    ):
        assert board.app is not None
        assert await first_look(board.app) == FirstLook(concierge=True, redis=True)
        assert concierge.received == []


async def test_a_first_look_does_not_wait_for_who_says_nothing() -> None:
    deaf = socket.create_server(("127.0.0.1", 0))  # it takes connections and answers nothing
    with deaf:
        redis_url, limits = f"redis://127.0.0.1:{deaf.getsockname()[1]}", Limits(first_look=0.2)
        nobody = f"http://127.0.0.1:{free_port()}"
        async with switchboard(nobody, limits, REDISCLOUD_URL=redis_url) as board:
            assert board.app is not None

            look = await asyncio.wait_for(first_look(board.app), 30)

    assert look == FirstLook(concierge=False, redis=False)
