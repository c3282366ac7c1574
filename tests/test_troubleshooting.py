"""What the program can say of trouble, against the document that explains it."""

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
import yaml

from switchboard_operator import frames, signatures
from switchboard_operator.uplink import Outcome
from tests.switchboards import ROOT

pytestmark = pytest.mark.slow  # reads all of the code

PACKAGE = ROOT / "switchboard_operator"
TEXT = (ROOT / "docs/troubleshooting.md").read_text()


def told(section: str = "") -> set[str]:
    """Return what stands between backquotes in a section of the document, or in all of it."""
    part = TEXT
    if section:
        level = re.search(rf"^(#+) {re.escape(section)}$", TEXT, re.MULTILINE)
        assert level is not None, section
        rest = TEXT[level.end() :]
        part = re.split(rf"^#{{1,{len(level[1])}}} ", rest, flags=re.MULTILINE)[0]
    return set(re.findall(r"`([^`\n]+)`", part))


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Go through the calls in a module, each with the name that is called."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def words(node: ast.expr) -> str:
    """Return what is always the same in a text: of one that is filled in, its longest part."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.strip()
    if isinstance(node, ast.JoinedStr):
        fixed = [str(part.value) for part in node.values if isinstance(part, ast.Constant)]
        return max(fixed, key=len, default="").strip(" :;({")
    return ""


def all_calls(pattern: str) -> Iterator[ast.Call]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield from (call for name, call in calls(path) if re.fullmatch(pattern, name))


def test_every_event_of_trouble_in_the_log_is_explained() -> None:
    events = {words(call.args[0]) for call in all_calls(r"log\.(warning|error|exception|critical)")}

    assert len(events) > 10
    assert "" not in events
    assert events <= told("The log")


def levels() -> dict[str, str]:
    rows = re.findall(r"^\| (warning|error) \| `([^`]+)` \|", TEXT, re.MULTILINE)
    return {event: level for level, event in rows}


def test_every_event_is_explained_under_its_level_and_none_is_made_up() -> None:
    logged: dict[str, str] = {}
    for level, method in (("warning", "warning"), ("error", "error|exception|critical")):
        logged |= {words(call.args[0]): level for call in all_calls(rf"log\.({method})")}

    assert levels() == logged


def refusals() -> set[str]:
    """Return the codes that refuse requests, in our words and in those of the HTTP library."""
    codes = {
        words(call.args[0]) for call in all_calls(r"(Upgrade|Postback|Request)Refused") if call.args
    }
    codes |= {words(call.args[1]) for call in all_calls("refusal") if len(call.args) > 2}
    codes |= {
        words(call.args[0]) for call in all_calls(r"super\(\).__init__") if len(call.args) > 1
    }
    statuses = (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus(413))
    return {code for code in codes if re.fullmatch(r"[a-z]+(_[a-z]+)*", code)} | {
        status.phrase.lower().replace(" ", "_") for status in statuses
    }


def test_every_code_of_a_refusal_is_explained() -> None:
    codes = refusals()

    assert {"overloaded", "full", "bad_session", "internal_error", "unauthorized"} <= codes
    assert codes <= told("Answers to HTTP requests")


def test_every_cause_of_a_refused_signature_is_explained() -> None:
    source = Path(signatures.__file__).read_text()
    fixed = set(re.findall(r'SignatureError\(\s*"(\w+)"', source))
    headers = re.findall(r'_only\(headers, "([\w-]+)"(, default)?', source)
    varied = {f"{name.replace('-', '_')}_repeated" for name, _ in headers}
    varied |= {f"{name.replace('-', '_')}_missing" for name, default in headers if not default}
    varied |= {"content_hash_missing", "content_hash_repeated"}

    assert len(fixed) > 5
    assert len(headers) == 3
    assert fixed | varied <= told("Causes of a refused signature")


def test_every_close_code_of_ours_is_explained() -> None:
    codes = {
        str(value) for name, value in vars(frames).items() if name.isupper() and type(value) is int
    }

    assert {"1012", "4101"} <= codes
    assert codes == told("Close codes") & codes


def test_every_outcome_of_a_message_is_explained() -> None:
    codes = {outcome.value for outcome in Outcome} - {"accepted"}

    assert codes <= told("Acks of `switchboard.v1`")
    assert {"too_large", "bad_frame"} <= told("Acks of `switchboard.v1`")


def test_every_fault_in_the_configuration_is_explained() -> None:
    faults = set()
    for name in ("variables.py", "settings.py", "__main__.py"):
        for called, call in calls(PACKAGE / name):
            if called == "ValueError":
                faults.add(words(call.args[0]))
            elif called == "SettingsError" and isinstance(call.args[0], ast.List):
                faults.add(words(call.args[0].elts[0]))
    faults -= {""}  # one that passes another's words on

    assert len(faults) > 9
    explained = "\n".join(told("It does not start"))
    assert [fault for fault in faults if fault not in explained] == []


def test_how_a_process_fails_to_start_is_explained() -> None:
    explained = "\n".join(told("It does not start"))
    [listening] = [words(call.args[0]) for call in all_calls("AddressUnavailable")]
    printed = [words(call.args[0]) for call in all_calls(r"print|sys\.exit") if words(call.args[0])]
    failures = [
        text
        for text in printed
        if text.endswith((":", "errors", "start")) and not text.startswith("ok ")
    ]

    assert listening in explained
    assert len(failures) == 2
    assert [text for text in failures if text not in explained] == []
    assert "seconds at most together" in explained


def test_every_remark_of_the_banner_is_explained() -> None:
    source = (PACKAGE / "banner.py").read_text()
    remarks = set(re.findall(r'told\["(?:note|warning)"\] = "(.*?)"', source))
    remarks |= set(re.findall(r'return "(memory: .*?)"', source))

    assert len(remarks) == 3
    assert remarks <= told("What it prints at the start")


def test_every_alert_is_explained() -> None:
    [group] = yaml.safe_load((ROOT / "deploy/alerts.yaml").read_text())["groups"]

    assert {rule["alert"] for rule in group["rules"]} <= told("Alerts")


def test_every_kind_of_failed_post_is_named() -> None:
    source = (PACKAGE / "concierge.py").read_text()
    kinds = set(re.findall(r'"(status_\w+|connect|timeout|link_\w+)"', source))

    assert len(kinds) > 5
    assert kinds <= told("Alerts")
