"""Aliases: the same for the same, and of no use to who has no key."""

from switchboard_operator.aliases import Aliases
from switchboard_operator.marks import Mark
from tests.switchboards import SESSION


def test_a_session_has_the_same_alias_on_every_instance_and_across_a_rotation() -> None:
    here, there = Aliases(["a key"]), Aliases(["a key", "the old one"])

    assert here.of_session(SESSION) == there.of_session(SESSION)


def test_sessions_and_keys_have_aliases_of_their_own() -> None:
    names = {
        Aliases([key]).of_session(session)
        for key in ("a key", "another")
        for session in (SESSION, SESSION.upper(), "short", SESSION[:-1])
    }

    assert len(names) == 8


def test_an_alias_shows_nothing_of_the_session_and_is_short() -> None:
    alias = Aliases(["a key"]).of_session(SESSION)

    assert len(alias) == 16
    assert not set(SESSION.split("-")) & {alias[place : place + 4] for place in range(13)}
    assert SESSION[:8] not in alias


def test_who_has_no_session_yet_has_no_alias() -> None:
    assert Aliases(["a key"]).of_session("") == ""


def test_connections_that_live_at_once_are_told_apart() -> None:
    aliases, numbers = Aliases(["a key"]), [id(each) for each in [object() for _ in range(1000)]]

    names = [aliases.of_connection(each) for each in numbers]

    assert len(set(names)) == 1000
    assert names == [aliases.of_connection(each) for each in numbers]
    assert {len(name) for name in names} == {8}


def test_a_postback_is_called_the_same_on_every_instance_and_no_two_are() -> None:
    places = [
        (session, Mark(epoch, number))
        for session in (SESSION, SESSION[:-1])
        for epoch in ("a", "a1")
        for number in (1, 11, 2)
    ]

    names = [Aliases(["a key"]).of_postback(*place) for place in places]

    assert len(set(names)) == 12
    assert names == [Aliases(["a key", "the old one"]).of_postback(*place) for place in places]
    assert not set(names) & {Aliases(["another"]).of_postback(*place) for place in places}
    assert {len(name) for name in names} == {24}
