"""Sentry and OpenTelemetry: off means not imported; on, they are told of bugs and of messages."""

import asyncio
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from tests.command_line import COMMAND, NOWHERE, run
from tests.fakes import FakeConcierge
from tests.switchboards import ROOT, SESSION, switchboard_process, variables

pytestmark = pytest.mark.slow  # they start processes

DSN, ENDPOINT = "https://hunter2@sentry.example.com/1", "http://127.0.0.1:1"

# As much of the two packages as is used; what they are told goes to the file `told`, a line each.
TELL = """
    import json, pathlib
    def tell(*what):
        with pathlib.Path({told!r}).open("a") as lines:
            lines.write(json.dumps(what, default=repr) + "\\n")
"""
SENTRY = """
    import contextlib, time
    from tell import tell
    tell("imported", "sentry_sdk")
    class Scope:
        def __init__(self): self.tags = {}
        def set_tag(self, name, value): self.tags[name] = value
        def capture_exception(self, bug): tell("bug", type(bug).__name__, self.tags)
    @contextlib.contextmanager
    def new_scope(): yield Scope()
    def init(**options): tell("init", options)
    def flush(): tell("flush", "sentry"); time.sleep({hangs})
"""
TRACE = """
    from tell import tell
    tell("imported", "opentelemetry")
    class TraceFlags(int): SAMPLED = 1
    class SpanContext:
        def __init__(self, trace_id, span_id, is_remote, trace_flags):
            self.ids = [hex(trace_id), hex(span_id)]
            assert is_remote and trace_flags == TraceFlags.SAMPLED
    def NonRecordingSpan(context): return context
    def set_span_in_context(span): return {"span": span}
"""
SDK = """
    from tell import tell
    class Span:
        def __init__(self, *what): self.what = what
        def end(self, end_time): tell("span", *self.what)
    class TracerProvider:
        def __init__(self, resource, id_generator): self.ids = id_generator
        def add_span_processor(self, processor): tell("processor", processor)
        def get_tracer(self, name, version): return self
        def start_span(self, name, context, attributes, start_time):
            parent = context and context["span"].ids
            trace_id = parent[0] if parent else hex(self.ids.generate_trace_id())
            ids = [trace_id, hex(self.ids.generate_span_id())]
            return Span(name, dict(attributes), ids, parent)
        def force_flush(self): tell("flush", "opentelemetry")
"""
RESOURCES = """
    class Resource:
        @staticmethod
        def create(about): return about
"""
EXPORT = """
    def BatchSpanProcessor(exporter): return ["batches", exporter]
"""
EXPORTER = """
    def OTLPSpanExporter(endpoint): return endpoint
"""
MODULES = {
    "tell": TELL,
    "sentry_sdk": SENTRY,
    "opentelemetry/trace": TRACE,
    "opentelemetry/sdk/trace/__init__": SDK,
    "opentelemetry/sdk/trace/export": EXPORT,
    "opentelemetry/sdk/resources": RESOURCES,
    "opentelemetry/exporter/otlp/proto/http/trace_exporter": EXPORTER,
}
MISSING = dict.fromkeys(("sentry_sdk", "opentelemetry"), "raise ImportError")

# A gateway with a page that has a bug, and one that shows what is imported.
OBSERVED = """
import sys
from aiohttp import web
from switchboard_operator import __main__, app

async def stumble(request):
    hidden = "hunter2"
    raise ZeroDivisionError("planted")

async def modules(request):
    return web.Response(text=" ".join(sys.modules))

app.ROUTES.extend([web.get("/bug", stumble), web.get("/modules", modules)])
sys.exit(__main__.main())
"""


class Packages:
    """Packages that are found before any that is installed."""

    def __init__(self, folder: Path, modules: Mapping[str, str], hangs: int = 0) -> None:
        self._told = folder / "told"
        self.environment = {"PYTHONPATH": f"{folder}:{ROOT}"}
        for name, source in modules.items():
            path = folder / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            filled = source.replace("{told!r}", repr(str(self._told)))
            path.write_text(textwrap.dedent(filled.replace("{hangs}", str(hangs))))

    def told(self) -> list[list[Any]]:
        """Return what they were told so far."""
        return (
            list(map(json.decode, self._told.read_text().splitlines()))
            if (self._told.exists())
            else []
        )

    def about(self, what: str) -> list[list[Any]]:
        return [rest for first, *rest in self.told() if first == what]


async def imported(packages: Packages) -> set[str]:
    """Return the modules of a gateway with nothing switched on, once it has done something."""
    command = (sys.executable, "-c", OBSERVED)
    async with switchboard_process(variables(NOWHERE) | packages.environment, command) as board:
        assert (await board.postback({"to": SESSION})).status == 204
        _, text = await board.get("/modules")
    assert packages.told() == []
    names = set(text.split())
    assert "switchboard_operator.observability" in names
    return names


async def test_off_means_that_we_import_neither_package_though_it_is_there(tmp_path: Path) -> None:
    names = await imported(Packages(tmp_path, MODULES))

    # (redis-py looks for opentelemetry.sdk.metrics by itself, and keeps what it finds on the way.)
    ours = ("sentry", "opentelemetry.trace", "opentelemetry.sdk.trace", "opentelemetry.exporter")
    assert [name for name in names if name.startswith(ours)] == []


async def test_where_neither_package_is_installed_nothing_of_it_is_there(tmp_path: Path) -> None:
    names = await imported(Packages(tmp_path, MISSING))

    assert [name for name in names if name.startswith(("sentry", "opentelemetry"))] == []


async def test_the_demo_tells_nobody_whatever_the_variables_say(tmp_path: Path) -> None:
    packages = Packages(tmp_path, MODULES)
    on = {"SENTRY_DSN": DSN, "OTEL_EXPORTER_OTLP_ENDPOINT": ENDPOINT, "SWITCHBOARD_PORT": "0"}

    async with switchboard_process(on | packages.environment, (*COMMAND, "demo")) as board:
        await board.get("/live")

    assert packages.told() == []


async def test_a_bug_is_reported_with_what_its_line_says_and_no_more(tmp_path: Path) -> None:
    packages = Packages(tmp_path, MODULES)
    environment = variables(NOWHERE, SENTRY_DSN=DSN) | packages.environment

    async with switchboard_process(environment, (sys.executable, "-c", OBSERVED)) as board:
        status, _ = await board.get("/bug?hunter2", headers={"X-Request-ID": "the-request"})

    assert status == 500
    assert packages.about("bug") == [
        ["ZeroDivisionError", {
            "event": "request failed", "request_id": "the-request", "method": "GET", "path": "/bug",
        }]
    ]  # fmt: skip
    [[options]] = packages.about("init")
    assert options["dsn"] == DSN
    for switch in ("send_default_pii", "include_local_variables", "default_integrations"):
        assert options[switch] is False
    assert packages.about("flush") == [["sentry"]]
    assert packages.about("imported") == [["sentry_sdk"]]
    assert "hunter2" not in "\n".join(board.output)


async def test_a_span_for_each_message_is_sent(tmp_path: Path, concierge: FakeConcierge) -> None:
    packages = Packages(tmp_path, MODULES)
    more = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{ENDPOINT}/"} | packages.environment

    async with switchboard_process(variables(concierge.url) | more) as board:
        user = await board.connect()
        await user.send_json({"message": "hunter2"})
        await concierge.has_accepted(1)
        await board.postback({"to": SESSION, "body": "hunter2"})
        await user.receive_json()

    spans = {name: rest for name, *rest in packages.about("span")}
    assert set(spans) == {"user message", "postback", "delivery"}
    attributes, postback, parent = spans["postback"]
    assert (attributes["outcome"], parent) == ("confirmed", None)
    assert spans["delivery"][2] == postback
    assert spans["user message"][2] is None
    ids = [tuple(rest[1]) for rest in spans.values()]
    assert len(set(ids)) == 3
    assert len({trace_id for trace_id, _ in ids}) == 2
    assert packages.about("processor") == [[["batches", f"{ENDPOINT}/v1/traces"]]]
    assert packages.about("flush") == [["opentelemetry"]]
    assert packages.about("imported") == [["opentelemetry"]]
    assert "hunter2" not in str(packages.told())
    assert SESSION not in str(packages.told())


async def test_the_end_does_not_wait_long_for_who_takes_no_reports(tmp_path: Path) -> None:
    packages = Packages(tmp_path, MODULES, hangs=1000)
    environment = variables(NOWHERE, SENTRY_DSN=DSN) | packages.environment

    async with switchboard_process(environment) as board:
        assert board.process is not None
        board.process.terminate()
        async with asyncio.timeout(60):
            assert await board.process.wait() == 0

    assert packages.about("flush") == [["sentry"]]


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("name", "value"), [("SENTRY_DSN", DSN), ("OTEL_EXPORTER_OTLP_ENDPOINT", ENDPOINT)]
)
async def test_a_package_that_is_missing_is_told_like_any_fault(
    tmp_path: Path, concierge: FakeConcierge, command: str, name: str, value: str
) -> None:
    packages = Packages(tmp_path, MISSING)
    environment = variables(concierge.url) | {name: value} | packages.environment

    ended = await run(command, cwd=tmp_path, environment=environment)

    assert (ended.code, ended.output) == (2, [])
    assert ended.errors[1:] == [
        f"  {name}: needs what is in requirements-observability.txt"
        " (pip install -r requirements-observability.txt)"
    ]


def test_the_requirements_are_pinned_and_begin_with_those_of_the_gateway() -> None:
    lines = (ROOT / "requirements-observability.txt").read_text().splitlines()
    asked = [line.partition("  #")[0] for line in lines if line and not line.startswith("#")]

    assert asked.pop(0) == "-r requirements.txt"
    assert all(line.count("==") == 1 for line in asked)
    assert {"sentry-sdk", "opentelemetry-sdk"} < {line.partition("==")[0] for line in asked}
