"""The call of publish.lua as Redis reads it."""

import dataclasses
from typing import Any

import pytest

from switchboard_operator.broker import channels, keys, resp, scripts
from switchboard_operator.broker.publish_command import RENEWALS, PublishCommand
from switchboard_operator.messages import Postback
from tests.brokers import RULES
from tests.switchboards import SESSION

SIZES = [RULES.most_bytes, RULES.lifetime, RULES.state_lifetime, RULES.once_lifetime]
STEP = RULES.lifetime / RENEWALS  # seconds


def read(command: bytes) -> list[Any]:
    """Return the parts of *command*, numbers among them, and nothing else may be there."""
    reader = resp.reader()
    reader.feed(command)
    parts = reader.gets()
    assert reader.gets() is resp.NOTHING
    assert not reader.has_data()
    return [int(part) if part.isdigit() else part for part in parts]


def call(
    *postbacks: Postback, now: float = 0.0, load: bool = False, kept: bool = True
) -> list[Any]:
    command = PublishCommand(RULES)
    return read(command.call([command.part(each, kept=kept) for each in postbacks], now, load=load))


@pytest.mark.parametrize("body", [b'{"to":"a"}', b' \n{"a":"100 %s%%"}', '{"é":"🐶"}'.encode()])
@pytest.mark.parametrize("key", ["0123.0", "100 %d", "é"])
@pytest.mark.parametrize(
    ("session", "kept"), [(SESSION, RULES.size), ("short", 0)], ids=["mailbox", "none"]
)
def test_it_has_the_keys_the_body_and_the_rules(
    session: str, kept: int, key: str, body: bytes
) -> None:
    parts = call(Postback(session, body, key))

    [step, tag] = parts[12:14]
    del parts[12:14]
    assert parts == [
        b"EVALSHA", scripts.PUBLISH.sha.encode(), 3,
        keys.once(session, key).encode(), keys.state(session).encode(),
        keys.bodies(session).encode(), channels.ANYBODYS.encode(), channels.OWN.encode(), *SIZES,
        f" {session} {len(body)}".encode(), body, kept,
    ]  # fmt: skip
    assert step == b"%g:0" % STEP
    assert len(str(tag)) > 0


def test_many_are_one_call_with_all_keys_before_what_is_said_of_each() -> None:
    first, second = Postback(SESSION, b"{}", "1"), Postback("short", b"{ }", "2")

    parts = call(first, second)

    assert parts[2] == 6
    alone = call(first), call(second)
    assert parts[3:9] == alone[0][3:6] + alone[1][3:6]
    assert parts[-6:] == alone[0][-3:] + alone[1][-3:]


def test_what_is_not_to_be_kept_goes_into_no_mailbox() -> None:
    assert call(Postback(SESSION, b"{}", "1"), kept=False)[-1] == 0


def test_it_may_bring_the_script_along() -> None:
    postback = Postback(SESSION, b"{}", "1")

    assert call(postback, load=True)[:2] == [b"EVAL", scripts.PUBLISH.text.encode()]
    assert call(postback, load=True)[2:12] == call(postback)[2:12]


def test_a_lifetime_is_renewed_after_a_part_of_it_or_if_it_is_another() -> None:
    postback = Postback(SESSION, b"{}", "1")
    other = PublishCommand(dataclasses.replace(RULES, lifetime=RULES.lifetime + 64))

    steps = [call(postback, now=now)[12] for now in (7 * STEP, 7.9 * STEP, 8 * STEP)]

    assert steps[0] == steps[1] != steps[2]
    assert read(other.call([other.part(postback)], 7 * STEP, load=False))[12] != steps[0]
