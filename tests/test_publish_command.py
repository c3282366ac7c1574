"""The call of publish.lua as Redis reads it."""

from typing import Any

import pytest

from switchboard_operator.broker import keys, resp, scripts
from switchboard_operator.broker.publish_command import PublishCommand
from switchboard_operator.messages import Postback
from tests.brokers import RULES
from tests.switchboards import SESSION

SIZES = [RULES.most_bytes, RULES.lifetime, RULES.state_lifetime]


def read(command: bytes) -> list[Any]:
    """Return the parts of *command*, numbers among them, and nothing else may be there."""
    reader = resp.reader()
    reader.feed(command)
    parts = reader.gets()
    assert reader.gets() is resp.NOTHING
    assert not reader.has_data()
    return [int(part) if part.isdigit() else part for part in parts]


@pytest.mark.parametrize(
    ("body", "cut"), [(b'{"to":"a"}', 1), (b' \n{"a":"100 %s%%"}', 3), ('{"é":"🐶"}'.encode(), 1)]
)
@pytest.mark.parametrize("key", ["0123.0", "100 %d", "é"])
@pytest.mark.parametrize(
    ("session", "kept"), [(SESSION, RULES.size), ("short", 0)], ids=["mailbox", "none"]
)
def test_it_has_the_keys_the_body_and_the_rules(
    session: str, kept: int, key: str, body: bytes, cut: int
) -> None:
    command = PublishCommand("100 %b", RULES).for_postback(Postback(session, body, key))

    parts = read(command)
    epoch = parts.pop(8)
    assert parts == [
        b"EVALSHA", scripts.PUBLISH.sha.encode(), 3,
        keys.once(session, key).encode(), keys.state(session).encode(),
        keys.bodies(session).encode(), body, cut, b"100 %b", kept, *SIZES, RULES.once_lifetime,
    ]  # fmt: skip
    assert len(str(epoch)) > 0


def test_a_probe_goes_into_no_mailbox_and_is_soon_forgotten() -> None:
    command = PublishCommand("channel", RULES).for_probe(Postback(SESSION, b"{}", "1"))

    assert read(command)[-6:] == [b"channel", 0, *SIZES, 60]
