"""What a browser, a balancer and a scraper see."""

import asyncio
import gzip
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from msgspec import json

from switchboard_operator import __version__
from switchboard_operator.limits import Limits
from switchboard_operator.shutdown import drain
from switchboard_operator.web import keys
from switchboard_operator.web.assets import Asset
from tests.conftest import OpenRaw
from tests.fakes import SECRET, FakeConcierge
from tests.redis_server import redis_server
from tests.switchboards import (
    ROOT,
    SECRET_KEY,
    SESSION,
    Switchboard,
    eventually,
    switchboard,
)

WEB_CLIENT = ROOT / "web_client"
FILES = sorted(path.relative_to(WEB_CLIENT).as_posix() for path in WEB_CLIENT.rglob("*.*"))
PATHS = ["/chat", *(f"/widget/{name}" for name in FILES)]

TYPES = {
    ".css": {"text/css"},
    ".html": {"text/html"},
    ".js": {"text/javascript", "application/javascript"},  # the latter until Python 3.12
    ".svg": {"image/svg+xml"},
}

METRICS = {
    "switchboard_build_info",
    "switchboard_closes_total",
    "switchboard_concierge_errors_total",
    "switchboard_concierge_seconds",
    "switchboard_connections",
    "switchboard_deliveries_total",
    "switchboard_listener_up",
    "switchboard_opens_total",
    "switchboard_outbox_frames",
    "switchboard_postbacks_held",
    "switchboard_postbacks_total",
    "switchboard_probe_seconds",
    "switchboard_redis_up",
    "switchboard_rejects_total",
    "switchboard_script_errors_total",
    "switchboard_signature_failures_total",
    "switchboard_task_failures_total",
    "switchboard_uplink_queued",
    "switchboard_user_messages_total",
}


def file_of(path: str) -> Path:
    """Return the file that is served at *path*."""
    return WEB_CLIENT / ("chat.html" if path == "/chat" else path.removeprefix("/widget/"))


def content_of(path: str) -> bytes:
    """Return what is served of a file: scripts go without the lines that are for their readers."""
    return Asset.read(file_of(path)).content


# The index


Answer = Callable[[], Awaitable[web.Response]]


@asynccontextmanager
async def concierge_answering(answer: Answer) -> AsyncIterator[str]:
    """Serve a Concierge that has a version and nothing else; yield its URL."""

    async def version(_request: web.Request) -> web.Response:
        return await answer()

    app = web.Application()
    app.router.add_get("/version", version)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def shown(page: str, term: str) -> str:
    """Return what the index tells for *term*, still escaped."""
    found = re.search(rf"<dt>{term}</dt><dd>(.*?)</dd>", page, re.DOTALL)
    assert found is not None
    return found[1]


async def test_the_index_shows_name_versions_and_the_way_to_the_chat(board: Switchboard) -> None:
    status, page = await board.get("/")

    assert status == 200
    assert "<h1>Switchboard Operator</h1>" in page
    assert shown(page, "Version") == __version__
    assert shown(page, "Concierge") == "fake 1.0"
    assert '<a href="/chat">' in page


async def test_the_index_says_how_an_instance_is_that_is_on_its_own(board: Switchboard) -> None:
    _, page = await board.get("/")

    assert "<p>All is well.</p>" in page
    assert shown(page, "Up for") == "less than a minute"
    assert shown(page, "Broker") == "memory: this process is the only one"
    assert shown(page, "Listener") == "hears what is published"
    assert shown(page, "Sockets here") == "0"


async def test_the_index_counts_the_sockets_that_are_open(board: Switchboard) -> None:
    users = [await board.connect(f"a-session-of-user-{number}") for number in range(3)]
    _, with_three = await board.get("/")
    await users[0].close()

    async def is_gone() -> bool:
        return shown((await board.get("/"))[1], "Sockets here") == "2"

    assert shown(with_three, "Sockets here") == "3"
    await eventually(is_gone)


HEARS = "hears what is published"


@pytest.mark.slow
async def test_the_index_says_that_redis_is_missed_and_that_it_is_back(
    concierge: FakeConcierge,
) -> None:
    async with (
        redis_server() as server,
        switchboard(concierge.url, Limits(redis_settle=0.02), REDISCLOUD_URL=server.url) as board,
    ):

        async def says(summary: str, listener: str) -> str:
            async def said() -> bool:  # each link to Redis notices in its own time
                page = (await board.get("/"))[1]
                return f"<p>{summary}</p>" in page and shown(page, "Listener") == listener

            await eventually(said)
            return (await board.get("/"))[1]

        before = await says("All is well.", HEARS)
        await server.kill()
        away = await says(
            "Redis is missed. Postbacks are held until it is back.",
            "hears nothing of what is published",
        )
        await server.start()
        after = await says("All is well.", HEARS)

    assert shown(before, "Broker") == shown(after, "Broker") == "Redis"
    assert shown(away, "Broker") == "Redis, which does not answer"


@pytest.mark.slow
async def test_the_index_shows_no_secret_and_no_address(concierge: FakeConcierge) -> None:
    async with redis_server() as server:
        url = server.url.replace("//", "//:hunter2@")
        async with switchboard(concierge.url, REDISCLOUD_URL=url) as board:
            _, page = await board.get("/")

    told = [SECRET, SECRET_KEY, "the scraper", "hunter2", "127.0.0.1", str(concierge.port)]
    assert [secret for secret in told if secret in page] == []


async def test_the_index_asks_for_nothing_elsewhere_and_runs_no_script(board: Switchboard) -> None:
    _, page = await board.get("/")

    assert all(each.startswith("/") for each in References(page).found)
    assert "<script" not in page
    assert "url(" not in page
    assert "@import" not in page


async def test_the_concierges_version_is_shown_as_text(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    concierge.version = "<b>1</b> & \"2\" '3'"

    _, page = await board.get("/")

    assert "<b>" not in page
    assert unescape(shown(page, "Concierge")) == concierge.version


@pytest.mark.parametrize("status", [204, 302, 404, 500, 503])
async def test_a_concierge_that_does_not_tell_its_version_is_unavailable(status: int) -> None:
    async def fail() -> web.Response:
        return web.Response(status=status, headers={"Location": "/version?again"})

    async with concierge_answering(fail) as url, switchboard(url) as board:
        answered, page = await board.get("/")

    assert answered == 200
    assert shown(page, "Concierge") == "unavailable"


@pytest.mark.parametrize("version", ["", " \n\t"], ids=["empty", "white space"])
async def test_a_version_of_nothing_is_unavailable(
    board: Switchboard, concierge: FakeConcierge, version: str
) -> None:
    concierge.version = version

    _, page = await board.get("/")

    assert shown(page, "Concierge") == "unavailable"


async def test_a_concierge_that_is_down_is_unavailable(
    board: Switchboard, concierge: FakeConcierge
) -> None:
    await concierge.stop()

    status, page = await board.get("/")

    assert (status, shown(page, "Concierge")) == (200, "unavailable")
    assert "<p>The Concierge is missed." in page


async def test_a_concierge_that_is_slow_is_unavailable_and_the_index_is_not_slow() -> None:
    never = asyncio.Event()

    async def hang() -> web.Response:
        await never.wait()
        return web.Response(text="too late")

    limits = Limits(version_timeout=0.2)
    async with concierge_answering(hang) as url, switchboard(url, limits) as board:
        async with asyncio.timeout(60):
            status, page = await board.get("/")
        never.set()

    assert (status, shown(page, "Concierge")) == (200, "unavailable")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"v" * 100_000, id="long"),
        pytest.param(b"\xff\xfe\x00<", id="not text"),
        pytest.param(b"1\r\n2\r\n" * 1000, id="lines"),
    ],
)
async def test_a_version_of_any_bytes_is_cut_and_shown(content: bytes) -> None:
    async def tell() -> web.Response:
        return web.Response(body=content)

    async with concierge_answering(tell) as url, switchboard(url) as board:
        status, page = await board.get("/")

    assert status == 200
    assert 0 < len(unescape(shown(page, "Concierge"))) <= 100


class Versions:
    """Tells another version each time it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    async def tell(self) -> web.Response:
        self.asked += 1
        return web.Response(text=f"version {self.asked}")


async def test_the_concierge_is_asked_for_its_version_once_in_its_lifetime() -> None:
    versions = Versions()
    async with concierge_answering(versions.tell) as url, switchboard(url) as board:
        pages = [(await board.get("/"))[1] for _ in range(5)]

    assert {shown(page, "Concierge") for page in pages} == {"version 1"}
    assert versions.asked == 1


async def test_visitors_who_come_together_ask_for_the_version_once() -> None:
    versions = Versions()
    async with concierge_answering(versions.tell) as url, switchboard(url) as board:
        assert board.app is not None
        ask = board.app[keys.CONCIERGE].version
        told = await asyncio.gather(*(ask() for _ in range(10)))

    assert set(told) == {"version 1"}
    assert versions.asked == 1


async def test_a_version_that_is_old_is_asked_for_again() -> None:
    versions = Versions()
    limits = Limits(version_lifetime=0.05)

    async with concierge_answering(versions.tell) as url, switchboard(url, limits) as board:

        async def is_new() -> bool:
            return shown((await board.get("/"))[1], "Concierge") == "version 2"

        await eventually(is_new)

    assert versions.asked == 2


# For balancers and monitors


async def get_json(board: Switchboard, path: str) -> tuple[int, object]:
    async with board.client.get(f"{board.url}{path}") as response:
        assert response.content_type == "application/json"
        assert response.headers["Cache-Control"] == "no-store"
        return response.status, json.decode(await response.read())


async def test_a_switchboard_that_serves_is_live_and_ready(board: Switchboard) -> None:
    assert await get_json(board, "/live") == (200, {"live": True})
    assert await get_json(board, "/ready") == (
        200,
        {"ready": True, "redis": None, "listener": True, "draining": False},
    )


@pytest.mark.slow
async def test_a_switchboard_that_drains_is_neither_and_still_shows_its_pages(
    concierge: FakeConcierge, open_raw: OpenRaw
) -> None:
    async with switchboard(concierge.url, Limits(close=60)) as board:
        raw = await open_raw(board.url, f"/?session={SESSION}")  # does not answer the Close
        assert board.app is not None
        draining = asyncio.create_task(drain(board.app))
        assert await raw.close_code() == 1012

        live = await get_json(board, "/live")
        ready = await get_json(board, "/ready")
        pages = [(await board.get(path))[0] for path in ("/", "/chat")]
        index = (await board.get("/"))[1]

        assert not draining.done()
        raw.abort()
        await draining
    assert live == (503, {"live": False})
    assert ready == (503, {"ready": False, "redis": None, "listener": True, "draining": True})
    assert pages == [200, 200]
    assert "<p>This instance is shutting down.</p>" in index


# For scrapers


async def test_without_a_token_there_are_no_metrics(concierge: FakeConcierge) -> None:
    async with switchboard(concierge.url, METRICS_TOKEN="") as board:
        bare = await board.get("/metrics")
        empty = await board.get("/metrics", headers={"Authorization": "Bearer "})

    assert (bare[0], empty[0]) == (404, 404)
    assert "switchboard_" not in bare[1] + empty[1]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer another token",
        "Bearer the scraper's token, too",
        "Bearer the scraper's toke",
        "bearer the scraper's token",
        "Basic the scraper's token",
        "the scraper's token",
        "Bearer the scraper’s token",
    ],
)
async def test_without_the_right_token_metrics_are_refused(
    board: Switchboard, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}

    async with board.client.get(f"{board.url}/metrics", headers=headers) as response:
        text = await response.text()

    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert json.decode(text)["error"] == "unauthorized"
    assert "switchboard_" not in text


async def test_with_the_token_all_metrics_are_shown(board: Switchboard) -> None:
    headers = {"Authorization": "Bearer the scraper's token"}
    async with board.client.get(f"{board.url}/metrics", headers=headers) as response:
        text = await response.text()

    assert response.status == 200
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    names = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    assert names >= METRICS


# The chat page and its files


async def fetch(
    board: Switchboard, path: str, **headers: str
) -> tuple[aiohttp.ClientResponse, bytes]:
    """Get *path*; return the response with its body as it came."""
    async with (
        aiohttp.ClientSession(auto_decompress=False, skip_auto_headers=["Accept-Encoding"]) as raw,
        raw.get(f"{board.url}{path}", headers=headers) as response,
    ):
        return response, await response.read()


@pytest.mark.parametrize("path", PATHS)
async def test_a_file_is_served_as_it_is_with_its_type(board: Switchboard, path: str) -> None:
    response, body = await fetch(board, path)

    assert response.status == 200
    assert body == content_of(path)
    assert response.content_type in TYPES[file_of(path).suffix]
    if response.content_type.startswith("text/"):
        assert response.charset == "utf-8"
    assert "Content-Encoding" not in response.headers
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("path", PATHS)
async def test_a_file_that_the_browser_has_is_not_sent_again(board: Switchboard, path: str) -> None:
    tag = (await fetch(board, path))[0].headers["ETag"]

    for known in (tag, tag.removeprefix("W/"), f'"other", {tag}', "*"):
        response, body = await fetch(board, path, **{"If-None-Match": known})
        assert (response.status, body) == (304, b""), known
        assert response.headers["ETag"] == tag
    response, body = await fetch(board, path, **{"If-None-Match": '"other"'})
    assert (response.status, body) == (200, content_of(path))


async def test_each_file_has_a_tag_of_its_own_and_the_page_that_of_its_file(
    board: Switchboard,
) -> None:
    tags = {path: (await fetch(board, path))[0].headers["ETag"] for path in PATHS}

    assert tags.pop("/chat") == tags["/widget/chat.html"]
    assert len(set(tags.values())) == len(FILES)


async def test_a_304_varies_as_the_file_does(board: Switchboard) -> None:
    whole, _ = await fetch(board, "/chat")
    known, _ = await fetch(board, "/chat", **{"If-None-Match": whole.headers["ETag"]})

    # RFC 9110, section 15.4.5: a cache goes by the headers of the 304.
    assert whole.headers["Vary"] == known.headers.get("Vary") == "Accept-Encoding"


@pytest.mark.parametrize("path", PATHS)
async def test_a_file_is_gzipped_for_who_accepts_that(board: Switchboard, path: str) -> None:
    response, body = await fetch(board, path, **{"Accept-Encoding": "deflate, gzip;q=1.0, br"})

    assert response.status == 200
    assert response.headers["Content-Encoding"] == "gzip"
    assert response.headers["Vary"] == "Accept-Encoding"
    assert response.content_type in TYPES[file_of(path).suffix]
    assert gzip.decompress(body) == content_of(path)


@pytest.mark.parametrize("accepted", ["identity", "br", "gzip;q=0", "gzip; q=0.0, *"])
async def test_a_file_is_not_gzipped_for_who_does_not_accept_that(
    board: Switchboard, accepted: str
) -> None:
    response, body = await fetch(board, "/chat", **{"Accept-Encoding": accepted})

    assert "Content-Encoding" not in response.headers
    assert body == content_of("/chat")


@pytest.mark.parametrize("name", [name for name in FILES if not name.endswith(".js")])
def test_what_is_no_script_is_served_byte_for_byte(name: str) -> None:
    path = WEB_CLIENT / name

    assert Asset.read(path).content == path.read_bytes()


def test_a_script_goes_without_its_comment_lines_and_keeps_every_other(tmp_path: Path) -> None:
    path = tmp_path / "some.js"
    path.write_text(
        "// @ts-check\n/** What it is for. */\n\nconst URL = 'https://x/'; // why\n"
        "  /**\n   * @param {A*} a\n   ** / still *\n   */\n  f(`/** no */`, /a/**2);\n  // more\n"
    )

    assert Asset.read(path).content == (
        b"\nconst URL = 'https://x/'; // why\n  f(`/** no */`, /a/**2);\n"
    )


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
async def test_pages_of_any_origin_may_load_the_widget(board: Switchboard, name: str) -> None:
    response, _ = await fetch(board, f"/widget/{name}")

    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"


async def policy_of(board: Switchboard, path: str) -> dict[str, str]:
    """Return the content security policy of a page, by directive."""
    response, _ = await fetch(board, path)
    assert response.content_type == "text/html"
    directives = response.headers["Content-Security-Policy"].split(";")
    return dict(directive.strip().split(" ", 1) for directive in directives)


@pytest.mark.parametrize("path", ["/chat", "/widget/chat.html"])
async def test_the_chat_page_loads_and_runs_only_what_is_ours(
    board: Switchboard, path: str
) -> None:
    policy = await policy_of(board, path)

    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert policy["style-src"] == "'none'"
    assert policy["require-trusted-types-for"] == "'script'"


async def test_the_index_runs_no_script(board: Switchboard) -> None:
    policy = await policy_of(board, "/")

    assert policy["default-src"] == "'none'"
    assert not {"script-src", "connect-src"} & set(policy)


# None of these falls back to default-src (CSP level 3, section 6.1).
UNCOVERED = ("base-uri", "form-action", "frame-ancestors")


@pytest.mark.parametrize("path", ["/", "/chat"])
async def test_a_page_cannot_be_framed_nor_led_elsewhere(board: Switchboard, path: str) -> None:
    policy = await policy_of(board, path)

    assert [policy.get(directive) for directive in UNCOVERED] == ["'none'"] * 3


async def test_the_type_of_the_index_is_not_guessed(board: Switchboard) -> None:
    response, _ = await fetch(board, "/")

    assert response.headers.get("X-Content-Type-Options") == "nosniff"


@pytest.mark.parametrize("path", ["/", "/live", "/ready", *PATHS])
async def test_head_tells_the_same_without_a_body(board: Switchboard, path: str) -> None:
    whole, body = await fetch(board, path)

    async with board.client.head(
        f"{board.url}{path}", headers={"Accept-Encoding": "identity"}
    ) as head:
        sent = await head.read()

    assert (head.status, sent) == (200, b"")
    assert int(head.headers["Content-Length"]) == len(body)
    differing = {"Date"}
    assert {name: value for name, value in head.headers.items() if name not in differing} == {
        name: value for name, value in whole.headers.items() if name not in differing
    }


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_other_methods_are_refused_with_those_that_are_allowed(
    board: Switchboard, method: str
) -> None:
    async with board.client.request(method, f"{board.url}/chat") as response:
        content = json.decode(await response.read())

    assert response.status == 405
    assert content["error"] == "method_not_allowed"
    assert set(response.headers["Allow"].split(",")) == {"GET", "HEAD"}


TRAVERSALS = [
    "/widget/../settings.py",
    "/widget/../switchboard_operator/settings.py",
    "/widget/../pyproject.toml",
    "/widget/%2e%2e/pyproject.toml",
    "/widget/%2E%2E/pyproject.toml",
    "/widget/..%2fpyproject.toml",
    "/widget/..%2Fpyproject.toml",
    "/widget/%2e%2e%2fpyproject.toml",
    "/widget/%252e%252e/pyproject.toml",
    "/widget/./../pyproject.toml",
    "/widget/view.js/../../pyproject.toml",
    "/widget/....//pyproject.toml",
    "/widget/..;/pyproject.toml",
    "/widget/..\\pyproject.toml",
    "/widget/%2e%2e%5cpyproject.toml",
    f"/widget/{ROOT}/pyproject.toml",
    f"/widget/%2f{str(ROOT)[1:]}/pyproject.toml",
    f"/widget//{ROOT}/pyproject.toml",
    "/widget/%c0%ae%c0%ae/pyproject.toml",
    "/widget/../pyproject.toml\0.js",
    "/widget/../pyproject.toml%00.js",
    "/widget/view.js\0",
    "/widget/view.js%00",
    "/widget/view.js/",
    "/widget/VIEW.JS",
    "/widget/.",
    "/widget/",
    "/widget",
    "/chat/../pyproject.toml",
    "/../pyproject.toml",
    "http://127.0.0.1/widget/../pyproject.toml",
    f"file://{ROOT}/pyproject.toml",
]


@pytest.mark.parametrize("target", TRAVERSALS, ids=ascii)
async def test_no_path_leads_to_another_file(board: Switchboard, target: str) -> None:
    address = urlsplit(board.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)

    writer.write(
        f"GET {target} HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode()
    )
    response = await reader.read()
    writer.close()
    await writer.wait_closed()

    assert re.match(rb"HTTP/1\.[01] (400|404) ", response)
    for content in (b"requires-python", b"import ", b"dataclass"):
        assert content not in response


class References(HTMLParser):
    """Collects what a page loads or leads to, in `found`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if name in {"src", "href"} and value]


async def test_every_file_that_the_chat_page_loads_is_there(board: Switchboard) -> None:
    references = References((WEB_CLIENT / "chat.html").read_text()).found

    assert "/widget/switchboard-chat.js" in references
    for reference in references:
        assert (await fetch(board, reference))[0].status == 200, reference


async def test_every_module_that_a_script_imports_is_there(board: Switchboard) -> None:
    imported = {
        found
        for path in WEB_CLIENT.rglob("*.js")
        for found in re.findall(r'^import .* from "\./(.*)";$', path.read_text(), re.MULTILINE)
    }

    assert "conversation.js" in imported
    for name in imported:
        assert (await fetch(board, f"/widget/{name}"))[0].status == 200, name


async def test_every_file_that_the_index_loads_is_there(board: Switchboard) -> None:
    references = References((await board.get("/"))[1]).found

    assert "/chat" in references
    for reference in references:
        assert (await fetch(board, reference))[0].status == 200, reference
