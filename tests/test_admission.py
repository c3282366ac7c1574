"""Who is let in, and as whom: upgrades over real sockets."""

import re
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Final

import pytest
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from switchboard_operator.sessions import COOKIE_KEY, COOKIE_LIFETIME, COOKIE_NAME
from tests.fakes import FakeConcierge
from tests.switchboards import SESSION, Switchboard, eventually, switchboard
from tests.test_postback import Answer, exchange, raw_link, read_answer
from tests.test_sessions import ABSURD_COOKIES, MINTED, OTHER, VALID

COOKIE_SECRET: Final = "encrypts the cookies of these tests"
OWN_ORIGIN: Final = "http://switchboard.example"
EVIL: Final = "https://evil.example"
MINTED_ID: Final = re.compile(r"s1\.[0-9a-f]{32}")
UPGRADE: Final = {
    "Host": "switchboard.example",
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}
HELLO: Final = b'{"message":"Hi"}'
HELLO_FRAME: Final = bytes([0x81, 0x80 | len(HELLO)]) + bytes(4) + HELLO  # masked with zeros


@dataclass(frozen=True)
class Visit:
    """What an upgrade was answered, and as whom the Concierge saw the user."""

    answer: Answer
    session: str | None

    @property
    def cookie(self) -> str | None:
        """The cookie that was set, in the form in which a browser sends it."""
        set_cookies = self.answer.all("Set-Cookie")
        return set_cookies[0].split(";")[0] if set_cookies else None


def upgrade(target: str = "/", /, **headers: str | None) -> bytes:
    """Return an upgrade; *headers* change it, with _ for -, and None leaves one out."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{name}: {value}" for name, value in (UPGRADE | named).items() if value is not None]
    request = "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""])
    return request.encode("utf-8", "surrogateescape")


@dataclass
class Door:
    """A switchboard and its Concierge."""

    board: Switchboard
    concierge: FakeConcierge

    async def visit(self, target: str = "/", /, **headers: str | None) -> Visit:
        """Ask for an upgrade; if it is granted, say something and see as whom."""
        async with raw_link(self.board) as (reader, writer):
            writer.write(upgrade(target, **headers))
            answer = await read_answer(reader)
            if answer.status != 101:
                return Visit(answer, None)
            seen = len(self.concierge.received)
            writer.write(HELLO_FRAME)
            incoming = (await self.concierge.has_received(seen + 1))[seen]
            return Visit(answer, incoming.content["From"])


@pytest.fixture
async def door(concierge: FakeConcierge) -> AsyncIterator[Door]:
    """A switchboard with default settings."""
    async with switchboard(concierge.url, SWITCHBOARD_SECRET_KEY=COOKIE_SECRET) as board:
        yield Door(board, concierge)


def fernet(secret: str = COOKIE_SECRET, purpose: bytes = COOKIE_KEY) -> Fernet:
    key = HKDF(SHA256(), length=32, salt=None, info=purpose).derive(secret.encode())
    return Fernet(urlsafe_b64encode(key))


def content(session: str = MINTED, created: float | None = None) -> str:
    """Return what is inside a cookie."""
    created = int(time.time()) if created is None else created
    return f'{{"created": {created}, "session": {{"id": "{session}"}}}}'


def cookie(text: str | None = None, key: Fernet | None = None, at: float | None = None) -> str:
    """Return a cookie that holds *text*, encrypted as the switchboard does it."""
    plain = (content() if text is None else text).encode("utf-8", "surrogatepass")
    token = (key or fernet()).encrypt_at_time(plain, int(time.time() if at is None else at))
    return f"{COOKIE_NAME}={token.decode()}"


def refused(visit: Visit, status: int, code: str) -> bool:
    """Tell whether *visit* ended with this refusal, in JSON and without a cookie."""
    answer = visit.answer
    shape = set(answer.content) == {"error", "detail"} and not answer.all("Set-Cookie")
    return shape and (answer.status, answer.content["error"]) == (status, code)


def is_new(visit: Visit) -> bool:
    """Tell whether *visit* was let in with a session that was minted for it, and its cookie."""
    fresh = visit.session is not None and MINTED_ID.fullmatch(visit.session) is not None
    return fresh and visit.session not in {MINTED, OTHER} and visit.cookie is not None


# The cookie


@pytest.mark.parametrize(
    ("forwarded", "secure"),
    [
        (None, ""),
        ("http", ""),
        ("https", True),
        ("https, http", True),
        ("http,https", ""),
        ("", ""),
    ],
    ids=["no router", "http", "https", "https first", "http first", "empty"],
)
async def test_a_user_without_session_gets_a_cookie_with_one(
    door: Door, forwarded: str | None, secure: object
) -> None:
    visit = await door.visit(X_Forwarded_Proto=forwarded)

    assert is_new(visit)
    [header] = visit.answer.all("Set-Cookie")
    [(name, morsel)] = SimpleCookie(header).items()
    attributes = {key: morsel[key] for key in ("httponly", "samesite", "max-age", "path", "domain")}
    assert name == "switchboard_session"
    assert attributes == {
        "httponly": True,
        "samesite": "Lax",
        "max-age": "2592000",
        "path": "/",
        "domain": "",
    }
    assert morsel["secure"] == secure


async def test_each_user_without_session_is_another_one(door: Door) -> None:
    visits = [await door.visit() for _ in range(3)]

    assert len({visit.session for visit in visits}) == 3


async def test_the_same_cookie_is_the_same_session_and_is_renewed(door: Door) -> None:
    first = await door.visit()

    again = await door.visit(Cookie=first.cookie)

    assert again.session == first.session
    assert again.cookie is not None
    third = await door.visit(Cookie=again.cookie)
    assert third.session == first.session


async def test_our_cookie_is_found_among_others(door: Door) -> None:
    visit = await door.visit(Cookie=f"a=1; {cookie()}; b=\udcff")

    assert visit.session == MINTED


async def test_the_session_in_a_cookie_cannot_be_read(door: Door) -> None:
    visit = await door.visit()

    assert visit.session is not None
    assert visit.cookie is not None
    assert visit.session not in visit.cookie
    sealed = visit.cookie.partition("=")[2]
    assert visit.session in fernet().decrypt(sealed).decode()


@pytest.mark.parametrize(
    "origin",
    [
        None,
        OWN_ORIGIN,
        "https://switchboard.example",
        "HTTP://Switchboard.Example",
    ],
    ids=["none", "own", "own behind TLS", "own in another case"],
)
async def test_a_cookie_counts_for_apps_and_our_own_pages(door: Door, origin: str | None) -> None:
    visit = await door.visit(Origin=origin, Cookie=cookie())

    assert visit.session == MINTED


@pytest.mark.parametrize(
    "origin",
    [
        EVIL,
        "null",
        "",
        "*",
        "http://switchboard.example:8080",
        "http://switchboard.example.evil.example",
        "http://evil.example/switchboard.example",
        "switchboard.example",
        "://",
        "\udcff",
    ],
    ids=[
        "another",
        "null",
        "empty",
        "star",
        "other port",
        "longer host",
        "own in path",
        "no scheme",
        "no host",
        "no text",
    ],
)
async def test_any_other_origin_is_let_in_by_default_but_never_with_a_cookie(
    door: Door, origin: str
) -> None:
    visit = await door.visit(Origin=origin, Cookie=cookie())

    assert visit.session is not None
    assert MINTED_ID.fullmatch(visit.session)
    assert visit.session != MINTED
    assert visit.cookie is None


@pytest.mark.parametrize("origin", ["null", "://", ""])
async def test_an_empty_host_makes_no_origin_ours(door: Door, origin: str) -> None:
    visit = await door.visit(Host="", Origin=origin, Cookie=cookie())

    assert visit.session is not None
    assert visit.session != MINTED


async def test_another_site_cannot_replace_a_users_cookie(door: Door) -> None:
    visit = await door.visit(Origin=EVIL)

    assert visit.session is not None
    assert visit.cookie is None


async def test_a_cookie_counts_for_a_listed_origin(concierge: FakeConcierge) -> None:
    async with switchboard(
        concierge.url, SWITCHBOARD_SECRET_KEY=COOKIE_SECRET, ALLOWED_ORIGINS="https://shop.example"
    ) as board:
        visit = await Door(board, concierge).visit(Origin="https://Shop.example", Cookie=cookie())

        assert visit.session == MINTED


GARBAGE: Final[dict[str, str]] = {
    "empty": "",
    "one character": "x",
    "no base64": "*" * 100,
    "quoted": '"' + "A" * 100 + '"',
    "open quote": '"AAAA',
    "base64 of nothing": "gAAAAA",
    "base64 of zeros": "A" * 120,
    "bad padding": "gAAAAA=",
    "our version, no more": urlsafe_b64encode(b"\x80" + bytes(72)).decode(),
    "cut short": cookie().partition("=")[2][:-10],
    "with something after": cookie().partition("=")[2] + "AAAA",
    "not ASCII": "é" * 20,
    "no UTF-8": "\udc80\udcff\udcfe",
    "no UTF-8 in a token": cookie().partition("=")[2][:-4] + "\udcff",
    "octal escapes": '"\\377\\000\\012"',
    "percent": "%00%ff",
    "plain": content(),
    "plain id": MINTED,
    "long": "A" * 6000,
    "equals signs": "=" * 50,
    "attributes": "$Version=1; Path=/; Secure",
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_a_cookie_of_any_bytes_gives_a_new_session(door: Door, name: str) -> None:
    visit = await door.visit(Cookie=f"{COOKIE_NAME}={GARBAGE[name]}")

    assert is_new(visit)


@pytest.mark.parametrize(
    "header",
    [
        "",
        ";",
        "=",
        "===;;;",
        "\udcff\udcfe",
        COOKIE_NAME,
        f"{COOKIE_NAME}=; {COOKIE_NAME}=",
        "a" * 7000,
    ],
    ids=["empty", "semicolon", "equals", "signs", "no text", "no value", "twice empty", "long"],
)
async def test_a_cookie_header_of_any_bytes_gives_a_new_session(door: Door, header: str) -> None:
    visit = await door.visit(Cookie=header)

    assert is_new(visit)


@pytest.mark.parametrize("name", [name for name in ABSURD_COOKIES if "deeply" not in name])
async def test_a_cookie_of_absurd_content_gives_a_new_session(door: Door, name: str) -> None:
    visit = await door.visit(Cookie=cookie(ABSURD_COOKIES[name]))

    assert is_new(visit)


@pytest.mark.parametrize(
    "plain",
    [b"", b"\xff\xfe", b"\x00" * 20, b"[" * 3000],
    ids=["nothing", "no UTF-8", "zeros", "nested deeply"],
)
async def test_a_cookie_of_absurd_bytes_gives_a_new_session(door: Door, plain: bytes) -> None:
    token = fernet().encrypt(plain).decode()

    visit = await door.visit(Cookie=f"{COOKIE_NAME}={token}")

    assert is_new(visit)


@pytest.mark.parametrize(
    "created",
    [10**18, 10**30, 10**400, -1, -(10**18), 0],
    ids=["far future", "beyond 64 bits", "beyond floats", "before 1970", "far past", "zero"],
)
async def test_whenever_a_cookie_says_it_was_created_the_user_is_let_in(
    door: Door, created: int
) -> None:
    visit = await door.visit(Cookie=cookie(content(created=created)))

    assert visit.session is not None
    assert MINTED_ID.fullmatch(visit.session)
    assert visit.cookie is not None
    again = await door.visit(Cookie=visit.cookie)
    assert again.session == visit.session


@pytest.mark.parametrize(
    "sealed",
    [
        lambda now: cookie(at=now - COOKIE_LIFETIME - 60),
        lambda now: cookie(content(created=int(now) - COOKIE_LIFETIME - 60)),
        lambda now: cookie(key=fernet("another secret")),
        lambda now: cookie(key=fernet(purpose=b"switchboard token")),
        lambda now: cookie(at=now + 3600),
    ],
    ids=["sealed too long ago", "created too long ago", "other secret", "other purpose", "future"],
)
async def test_a_cookie_that_is_too_old_or_not_ours_gives_a_new_session(
    door: Door, sealed: Callable[[float], str]
) -> None:
    visit = await door.visit(Cookie=sealed(time.time()))

    assert is_new(visit)


async def test_a_cookie_of_nearly_30_days_counts_and_is_renewed(door: Door) -> None:
    then = time.time() - COOKIE_LIFETIME + 600

    visit = await door.visit(Cookie=cookie(content(created=int(then)), at=then))

    assert visit.session == MINTED
    assert visit.cookie is not None
    sealed = visit.cookie.partition("=")[2].encode()
    assert fernet().extract_timestamp(sealed) > time.time() - 60
    assert f'"created": {int(then)}' not in fernet().decrypt(sealed).decode()


async def test_while_keys_rotate_old_cookies_count_and_new_ones_use_the_first(
    concierge: FakeConcierge,
) -> None:
    async with switchboard(concierge.url, SWITCHBOARD_SECRET_KEY="new,old") as board:
        visit = await Door(board, concierge).visit(Cookie=cookie(key=fernet("old")))

        assert visit.session == MINTED
        assert visit.cookie is not None
        assert MINTED in fernet("new").decrypt(visit.cookie.partition("=")[2]).decode()


# ?session=


@pytest.mark.parametrize("name", [name for name in VALID if name != "one of ours"])
async def test_a_client_may_choose_a_valid_session_and_gets_no_cookie(
    door: Door, name: str
) -> None:
    query = VALID[name].replace("+", "%2B")

    visit = await door.visit(f"/?session={query}&other=1")

    assert (visit.session, visit.cookie) == (VALID[name], None)


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("session=" + "a" * 129, id="129 characters"),
        "session=a%20b",
        "session=a+b",
        "session=alice%0A",
        "session=%00",
        "session=%ff",
        "session=%F0%9F%90%B6",
        "session=~probe.1",
        "session=%7Eprobe.1",
        "session=a%2Cb",
        "session=%ZZ",
        "session=alice&session=bob",
        "session=alice&session=alice",
        "session=&session=alice",
        "session&session",
        "sess%69on=alice&session=bob",
        "session=alice;session=bob",
    ],
)
async def test_a_malformed_session_gets_400(door: Door, query: str) -> None:
    visit = await door.visit(f"/?{query}")

    assert refused(visit, 400, "bad_session")
    assert await door.board.metric("switchboard_rejects_total", reason="bad_session") == 1


@pytest.mark.parametrize("query", ["", "?", "?session", "?session=", "?Session=alice", "?s=alice"])
async def test_no_session_is_a_new_one(door: Door, query: str) -> None:
    visit = await door.visit(f"/{query}")

    assert is_new(visit)


@pytest.mark.parametrize("query", ["", "?session="], ids=["absent", "empty"])
async def test_without_a_choice_the_cookie_decides(door: Door, query: str) -> None:
    visit = await door.visit(f"/{query}", Cookie=cookie())

    assert visit.session == MINTED


async def test_a_choice_comes_before_the_cookie_and_leaves_it_alone(door: Door) -> None:
    visit = await door.visit(f"/?session={SESSION}", Cookie=cookie())

    assert (visit.session, visit.cookie) == (SESSION, None)


async def test_one_of_our_sessions_is_had_with_its_cookie(door: Door) -> None:
    visit = await door.visit(f"/?session={MINTED}", Cookie=cookie())

    assert visit.session == MINTED
    assert visit.cookie is not None


@pytest.mark.parametrize(
    ("session", "headers"),
    [
        (MINTED, {}),
        (MINTED, {"Cookie": cookie(content(OTHER))}),
        (MINTED, {"Cookie": cookie(key=fernet("another secret"))}),
        (MINTED, {"Cookie": cookie(), "Origin": EVIL}),
        (MINTED, {"Cookie": cookie(content("alice"))}),
        ("s1.", {"Cookie": cookie()}),
        ("s1.alice", {"Cookie": cookie(content("s1.alice"))}),
        ("%73%31%2E" + MINTED[3:], {}),
    ],
    ids=[
        "no cookie",
        "cookie of another session",
        "forged cookie",
        "cookie through another site",
        "cookie of a chosen id",
        "prefix only",
        "not as we mint",
        "percent-encoded",
    ],
)
async def test_one_of_our_sessions_without_proof_gets_403(
    door: Door, session: str, headers: dict[str, str]
) -> None:
    visit = await door.visit(f"/?session={session}", **headers)

    assert refused(visit, 403, "session_not_yours")


async def test_clients_choose_no_session_where_they_may_not(concierge: FakeConcierge) -> None:
    async with switchboard(
        concierge.url, SWITCHBOARD_SECRET_KEY=COOKIE_SECRET, ALLOW_CLIENT_SESSIONS="0"
    ) as board:
        closed = Door(board, concierge)

        chosen = await closed.visit("/?session=alice")
        none = await closed.visit()
        proven = await closed.visit(f"/?session={MINTED}", Cookie=cookie())

        assert refused(chosen, 403, "session_not_allowed")
        assert is_new(none)
        assert proven.session == MINTED


# Origins


@pytest.fixture
async def picky(concierge: FakeConcierge) -> AsyncIterator[Door]:
    """A switchboard that lists origins."""
    listed = "https://www.example.com, http://localhost:8080, App://Mobile"
    async with switchboard(concierge.url, ALLOWED_ORIGINS=listed) as board:
        yield Door(board, concierge)


@pytest.mark.parametrize(
    "origin",
    [
        None,
        OWN_ORIGIN,
        "https://www.example.com",
        "HTTPS://WWW.example.COM",
        "http://localhost:8080",
        "app://mobile",
    ],
    ids=["none", "own", "listed", "listed in another case", "listed with port", "listed app"],
)
async def test_a_listed_origin_our_own_and_none_pass(picky: Door, origin: str | None) -> None:
    visit = await picky.visit("/?session=alice", Origin=origin)

    assert visit.session == "alice"


@pytest.mark.parametrize(
    "origin",
    [
        EVIL,
        "null",
        "",
        "*",
        "http://www.example.com",
        "https://www.example.com:8443",
        "https://www.example.com.evil.example",
        "https://www.example.com, https://evil.example",
        "https://example.com",
        "http://localhost",
        "https://www.example.com/",
        "file://",
        "\udcff",
    ],
)
async def test_any_other_origin_gets_403_before_the_upgrade(picky: Door, origin: str) -> None:
    visit = await picky.visit("/?session=alice", Origin=origin, Cookie=cookie())

    assert refused(visit, 403, "origin_not_allowed")
    assert await picky.board.metric("switchboard_opens_total") == 0
    assert await picky.board.metric("switchboard_rejects_total", reason="origin_not_allowed") == 1


# Room


async def test_beyond_max_connections_an_upgrade_gets_503(concierge: FakeConcierge) -> None:
    async with switchboard(concierge.url, MAX_CONNECTIONS="1") as board:
        first = await board.connect("alice")

        second = await Door(board, concierge).visit("/?session=bob")
        page = await board.get("/")
        answer = await board.postback({"to": "alice", "n": 1})

        assert refused(second, 503, "full")
        assert page[0] == 200
        assert answer.status == 204
        assert await first.receive_str() == '{"to":"alice","n":1}'


@pytest.mark.parametrize("target", ["/", "/?session=alice"], ids=["by cookie", "named"])
async def test_no_more_get_in_though_many_come_at_once_and_who_leaves_makes_room(
    concierge: FakeConcierge, target: str
) -> None:
    async with switchboard(concierge.url, MAX_CONNECTIONS="3") as board:
        async with AsyncExitStack() as stack:
            links = [await stack.enter_async_context(raw_link(board)) for _ in range(20)]
            for _, writer in links:
                writer.write(upgrade(target))
            answers = [await read_answer(reader) for reader, _ in links]

        assert sorted(answer.status for answer in answers) == [101] * 3 + [503] * 17
        await eventually(lambda: nobody_left(board))
        async with raw_link(board) as (reader, writer):
            writer.write(upgrade(target))
            assert (await read_answer(reader)).status == 101


async def nobody_left(board: Switchboard) -> bool:
    return await board.metric("switchboard_connections", wire="classic") == 0


# The upgrade itself


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; server_no_context_takeover, x-webkit-deflate-frame",
        "unknown; a=\udcff",
    ],
)
async def test_no_extension_is_selected(door: Door, offer: str) -> None:
    visit = await door.visit("/?session=alice", Sec_WebSocket_Extensions=offer)

    assert visit.session == "alice"
    assert visit.answer.all("Sec-WebSocket-Extensions") == []


@pytest.mark.parametrize("offer", ["graphql-ws", "chat, superchat", "", ",", "\udcff"])
async def test_an_unknown_subprotocol_is_not_selected_and_the_socket_works(
    door: Door, offer: str
) -> None:
    visit = await door.visit("/?session=alice", Sec_WebSocket_Protocol=offer)

    assert visit.session == "alice"
    assert visit.answer.all("Sec-WebSocket-Protocol") == []


@pytest.mark.parametrize("value", ["websocket", "WebSocket", "WEBSOCKET"])
async def test_the_case_of_upgrade_does_not_matter(door: Door, value: str) -> None:
    visit = await door.visit("/?session=alice", Upgrade=value, Connection="keep-alive, upgrade")

    assert visit.session == "alice"


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec_WebSocket_Key": None},
        {"Sec_WebSocket_Key": ""},
        {"Sec_WebSocket_Key": "too short"},
        {"Sec_WebSocket_Key": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="},
        {"Sec_WebSocket_Key": "\udcff"},
        {"Sec_WebSocket_Version": None},
        {"Sec_WebSocket_Version": "12"},
        {"Sec_WebSocket_Version": "thirteen"},
        {"Sec_WebSocket_Version": "\udcff"},
        {"Connection": None},
        {"Connection": "keep-alive"},
    ],
    ids=[
        "no key",
        "empty key",
        "key no base64",
        "key too long",
        "key no text",
        "no version",
        "old version",
        "version no number",
        "version no text",
        "no Connection",
        "Connection without upgrade",
    ],
)
async def test_a_broken_upgrade_gets_400_and_no_cookie(
    door: Door, headers: dict[str, str | None]
) -> None:
    visit = await door.visit(**headers)

    assert refused(visit, 400, "bad_request")
    assert await door.board.metric("switchboard_opens_total") == 0


async def test_only_get_opens_a_socket(door: Door) -> None:
    async with raw_link(door.board) as (reader, writer):
        writer.write(upgrade().replace(b"GET", b"HEAD", 1))
        head = await reader.readuntil(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert await door.board.metric("switchboard_opens_total") == 0


@pytest.mark.parametrize("value", ["h2c", "", "websocket2"])
async def test_another_upgrade_is_a_browser_that_looks_around(door: Door, value: str) -> None:
    answer = await exchange(door.board, upgrade(Upgrade=value))

    assert answer.status == 200
    assert answer.all("Content-Type") == ["text/html; charset=utf-8"]
