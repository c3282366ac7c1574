"""What operators deploy and watch with, against the program that it is for."""

import asyncio
import fnmatch
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from switchboard_operator.demo.__main__ import DEFAULTS
from switchboard_operator.metrics import Metrics
from switchboard_operator.settings import Settings, variables
from tests.documents import valid
from tests.fakes import SECRET, FakeConcierge
from tests.switchboards import ROOT, switchboard_process

SCHEMA = json.loads((ROOT / "tests/app_json.schema.json").read_text())
APP = json.loads((ROOT / "app.json").read_text())
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
DASHBOARD = json.loads((ROOT / "deploy/grafana.json").read_text())
[GROUP] = yaml.safe_load((ROOT / "deploy/alerts.yaml").read_text())["groups"]
RULES = GROUP["rules"]


# app.json


def test_app_json_is_valid() -> None:
    valid(SCHEMA, APP)


@pytest.mark.parametrize(
    "change",
    [
        {"env": {"SECRET": {"generator": "secrets"}}},
        {"env": {"SECRET": {"generator": "secret", "value": "x"}}},
        {"env": {"LEVEL": {"value": 1}}},
        {"env": {"level": "info"}},
        {"addons": [{"as": "REDIS"}]},
        {"formation": {"web": {"size": "basic"}}},
        {"name": "A name of more than thirty letters"},
        {"addon": []},
    ],
    ids=str,
)
def test_the_schema_refuses_what_heroku_would(change: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        valid(SCHEMA, APP | change)


def configured() -> dict[str, str]:
    """Return the variables of an app made by app.json: what it has, makes or asks for."""
    asked = {
        "CONCIERGE_URL": "https://bot.example.com",
        "CONCIERGE_POSTBACK_SECRET_KEY": SECRET,
    }
    made = {
        name: secrets.token_hex(32)
        for name, variable in APP["env"].items()
        if variable.get("generator") == "secret"
    }
    given = {name: value["value"] for name, value in APP["env"].items() if "value" in value}
    assert asked.keys() == APP["env"].keys() - made.keys() - given.keys()
    return asked | made | given


def test_app_json_has_every_variable_that_is_required_and_none_that_is_unknown() -> None:
    required = {name for name, variable in variables().items() if variable.required}

    assert required <= APP["env"].keys() <= variables().keys()
    assert all(variable["description"] for variable in APP["env"].values())


def test_the_secrets_that_nobody_else_need_know_are_generated() -> None:
    generated = {name for name, value in APP["env"].items() if value.get("generator") == "secret"}

    assert generated == {"SWITCHBOARD_SECRET_KEY", "METRICS_TOKEN"}


def test_its_redis_names_its_address_as_we_read_it() -> None:
    [addon] = APP["addons"]

    assert addon.partition(":")[0].upper() + "_URL" == "REDISCLOUD_URL"
    assert "REDISCLOUD_URL" in variables()
    assert "REDISCLOUD_URL" not in APP["env"]  # it would hide the add-on's


def test_it_starts_the_process_type_of_the_procfile() -> None:
    types = [line.partition(":")[0] for line in (ROOT / "Procfile").read_text().splitlines()]

    assert list(APP["formation"]) == types


def test_what_it_configures_is_usable() -> None:
    assert Settings.read(configured()).metrics_token


@pytest.mark.slow
async def test_an_app_made_by_app_json_comes_alive() -> None:
    [command] = (ROOT / "Procfile").read_text().splitlines()
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PORT": "0"}

    async with switchboard_process(
        configured() | path, shlex.split(command.partition(":")[2])
    ) as board:
        assert (await board.get("/live"))[0] == 200


# Dockerfile


@dataclass(frozen=True)
class Instruction:
    """A line of a Dockerfile."""

    name: str
    text: str

    def command(self) -> list[str]:
        """Return the words of one in exec form."""
        words: list[str] = json.loads(self.text[self.text.index("[") :])
        return words


def stages() -> list[list[Instruction]]:
    """Return the instructions of each stage; the last one makes the image."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    found: list[list[Instruction]] = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.partition(" ")
            if name == "FROM":
                found.append([])
            found[-1].append(Instruction(name, " ".join(rest.split())))
    return found


def only(name: str, stage: list[Instruction]) -> Instruction:
    [found] = [instruction for instruction in stage if instruction.name == name]
    return found


def all_named(*names: str) -> Iterator[Instruction]:
    for stage in stages():
        yield from (instruction for instruction in stage if instruction.name in names)


def test_base_images_are_pinned_to_a_release_and_all_the_same() -> None:
    bases = {line.text.partition(" ")[0] for line in all_named("FROM")}

    [base] = bases
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+", base)


def test_the_image_has_the_python_that_other_platforms_get() -> None:
    base = only("FROM", stages()[-1]).text
    runtime = (ROOT / "runtime.txt").read_text().strip()

    assert base.startswith(runtime.replace("python-", "python:") + ".")


def test_the_image_is_made_in_two_stages_and_the_last_one_installs_nothing() -> None:
    *_, last = stages()

    runs = " ".join(instruction.text for instruction in last if instruction.name == "RUN")

    assert len(stages()) == 2
    assert not re.search(r"\b(install|apt|apt-get|gcc|make|curl|wget)\b", runs)
    assert "pip uninstall" in runs


def test_packages_come_as_they_are_pinned_and_none_is_built() -> None:
    [install] = [line.text for line in all_named("RUN") if " install " in line.text]

    assert "-r requirements.txt" in install
    assert "--only-binary :all:" in install
    assert "--no-cache-dir" in install


def test_wherever_apt_installs_its_lists_are_removed() -> None:
    for line in all_named("RUN"):
        if "apt-get install" in line.text:
            assert "--no-install-recommends" in line.text
            assert "rm -rf /var/lib/apt/lists/*" in line.text


def test_the_process_runs_as_nobody_in_particular_from_the_beginning() -> None:
    *_, last = stages()
    names = [instruction.name for instruction in last]

    user = only("USER", last).text

    assert int(user) >= 10_000
    assert names.index("USER") < names.index("ENTRYPOINT")
    assert "RUN" not in names[names.index("USER") :]


def test_what_the_process_runs_it_can_not_change() -> None:
    copied = [line.text for line in stages()[-1] if line.name == "COPY"]

    assert all(text.startswith(("--from=packages ", "--chown=root:root ")) for text in copied)
    assert not any(instruction.name == "ADD" for instruction in stages()[-1])


def test_the_commands_of_the_image_need_no_shell_which_would_swallow_sigterm() -> None:
    *_, last = stages()

    whole = only("ENTRYPOINT", last).command() + only("CMD", last).command()

    assert whole == ["python", "-m", "switchboard_operator", "run"]
    assert only("STOPSIGNAL", last).text == "SIGTERM"


def test_the_port_of_the_image_is_the_one_it_listens_on() -> None:
    assert int(only("EXPOSE", stages()[-1]).text) == variables()["SWITCHBOARD_PORT"].default


def ignored(path: str) -> bool:
    """Tell whether .dockerignore keeps *path* from the build; the last line that fits decides."""
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = path.split("/")
        fits = line.removeprefix("!").startswith("**/") and any(
            fnmatch.fnmatch(part, pattern) for part in parts
        )
        if fits or fnmatch.fnmatch(parts[0], pattern):
            verdict = not line.startswith("!")
    return verdict


@pytest.mark.parametrize(
    "path",
    [".env", ".git/config", "tests/test_main.py", ".venv/bin/python", "dump.rdb", "docs/x.md",
     "switchboard_operator/__pycache__/app.cpython-311.pyc"],
)  # fmt: skip
def test_the_build_does_not_see(path: str) -> None:
    assert ignored(path)


def copy_as_docker_would(folder: Path) -> None:
    """Make *folder* what WORKDIR is in the image."""
    for line in stages()[-1]:
        words = line.text.split()
        if line.name != "COPY" or words[0].startswith("--from"):
            continue
        source, target = words[1], folder / words[2]
        assert not ignored(source)
        if (ROOT / source).is_dir():
            junk = shutil.ignore_patterns("__pycache__", "*.pyc")
            shutil.copytree(ROOT / source, target, ignore=junk)
        else:
            shutil.copy(ROOT / source, target)


def health_check() -> list[str]:
    """Return the command that asks whether the container is alive."""
    command = only("HEALTHCHECK", stages()[-1]).command()
    assert command[0] == "python"
    return [sys.executable, *command[1:]]


@pytest.mark.slow
async def test_what_is_in_the_image_chats_and_says_whether_it_is_alive(
    tmp_path: Path, concierge: FakeConcierge
) -> None:
    copy_as_docker_would(tmp_path)
    command = only("ENTRYPOINT", stages()[-1]).command() + only("CMD", stages()[-1]).command()
    environment = {
        "PYTHONPATH": str(tmp_path),
        "CONCIERGE_URL": concierge.url,
        "CONCIERGE_POSTBACK_SECRET_KEY": SECRET,
        "SWITCHBOARD_SECRET_KEY": "x",
        "SWITCHBOARD_HOST": "127.0.0.1",
        "SWITCHBOARD_PORT": "0",
    }

    async with switchboard_process(environment, [sys.executable, *command[1:]], tmp_path) as board:
        port = board.url.rpartition(":")[2]
        assert (await board.get("/chat"))[0] == 200
        assert (await board.get("/widget/switchboard-chat.js"))[0] == 200
        alive = await asyncio.to_thread(is_healthy, {"SWITCHBOARD_PORT": port, "PORT": "1"})
        by_port = await asyncio.to_thread(is_healthy, {"PORT": port})
    gone = await asyncio.to_thread(is_healthy, {"SWITCHBOARD_PORT": port})

    assert (alive, by_port, gone) == (True, True, False)


def is_healthy(environment: dict[str, str]) -> bool:
    """Tell what the image's check says where these variables are set."""
    ended = subprocess.run(
        health_check(), env=environment, check=False, capture_output=True, timeout=30
    )
    return ended.returncode == 0


# compose.yaml


def services() -> dict[str, Any]:
    found: dict[str, Any] = COMPOSE["services"]
    return found


def test_compose_sets_only_variables_that_are_read() -> None:
    assert services()["switchboard"]["environment"].keys() <= variables().keys()
    assert services()["concierge"]["environment"].keys() <= DEFAULTS.keys()


def interpolated(value: str) -> str:
    """Return *value* as compose has it where no variable is set."""
    return re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value)


def test_without_any_variable_set_compose_is_a_usable_configuration() -> None:
    environment = services()["switchboard"]["environment"]

    settings = Settings.read({name: interpolated(value) for name, value in environment.items()})

    assert settings.concierge_url == "http://concierge:8080"
    assert settings.metrics_token == ""


def test_the_bot_and_the_switchboard_of_compose_know_each_other() -> None:
    board, bot = (services()[name]["environment"] for name in ("switchboard", "concierge"))
    shared = "CONCIERGE_POSTBACK_SECRET_KEY"

    assert board[shared] == bot[shared]
    assert board["CONCIERGE_URL"] == f"http://concierge:{bot['DEMO_PORT']}"
    assert bot["DEMO_SWITCHBOARD_URL"] == "http://switchboard:5555"
    assert services()["concierge"]["entrypoint"][1:] == ["-m", "switchboard_operator.demo"]


def test_every_variable_that_compose_takes_from_outside_is_one_of_ours() -> None:
    taken = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))

    assert taken
    assert taken <= variables().keys()


def test_compose_lets_a_switchboard_end_in_its_own_time() -> None:
    assert services()["switchboard"]["stop_grace_period"] == "25s"  # it takes up to 20


def test_with_keys_that_everybody_knows_compose_is_open_to_this_machine_only() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_of_compose_are_pinned_to_a_release() -> None:
    images = [service["image"] for service in services().values() if "image" in service]

    assert images
    assert all(re.search(r":\d+\.\d+\.\d+(-\w+)?$", image) for image in images)


# The dashboard and the rules


def kinds() -> dict[str, str]:
    """Return the type of each metric by its name."""
    shown = Metrics("test").exposition().decode()
    return dict(re.findall(r"^# TYPE (\w+) (\w+)$", shown, re.MULTILINE))


def samples() -> set[str]:
    """Return the names under which samples of our metrics can be asked for."""
    names = set()
    for name, kind in kinds().items():
        suffixes = ("_bucket", "_count", "_sum") if kind == "histogram" else ("",)
        names |= {name + suffix for suffix in suffixes}
    return names


def labels() -> set[str]:
    """Return the labels that samples can have; those of Prometheus's own are two."""
    ours = vars(Metrics("test")).values()
    named = {label for metric in ours for label in getattr(metric, "_labelnames", ())}
    return named | {"version", "job", "instance", "le"}


def asked() -> list[str]:
    """Return every expression of the dashboard and the rules."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    notes = [note["expr"] for note in DASHBOARD["annotations"]["list"]]
    return [*panels, *notes, *(rule["expr"] for rule in RULES)]


def test_every_metric_that_is_asked_for_exists() -> None:
    named = [name for expression in asked() for name in re.findall(r"switchboard_\w+", expression)]
    queries = [variable["query"] for variable in DASHBOARD["templating"]["list"]]
    named += re.findall(r"switchboard_\w+", json.dumps(queries))

    assert len(named) > 20
    assert set(named) <= samples()


def test_every_label_that_is_asked_for_exists() -> None:
    matched = [label for text in asked() for label in re.findall(r"[{,]\s*(\w+)[=!]~?", text)]
    grouped = [
        label.strip()
        for text in asked()
        for listed in re.findall(r"\bby \(([^)]*)\)", text)
        for label in listed.split(",")
    ]

    assert {"job", "outcome"} <= {*matched, *grouped} <= labels()


def labels_of(name: str) -> set[str]:
    """Return the labels that samples called *name* have besides those of Prometheus itself."""
    base = re.sub(r"_(bucket|count|sum|total)$", "", name)
    [metric] = [
        metric for metric in vars(Metrics("test")).values() if getattr(metric, "_name", "") == base
    ]
    return {*metric._labelnames, *(["le"] if name.endswith("_bucket") else [])}


def test_every_metric_has_the_labels_that_it_is_asked_by() -> None:
    found = 0
    for text in asked():
        by = [set(re.split(r",\s*", listed)) for listed in re.findall(r"\bby \(([^)]*)\)", text)]
        for name, matchers in re.findall(r"(switchboard_(?!build_info)\w+)(?:\{([^}]*)\})?", text):
            matched = set(re.findall(r"(\w+)[=!]~?\"", matchers))
            assert {*matched, *set().union(*by)} - {"job", "instance"} <= labels_of(name), text
            found += 1

    assert found > 30


def test_rates_are_of_what_only_grows_and_nothing_else_is_added_up_over_time() -> None:
    for text in asked():
        for name in re.findall(r"(?:rate|increase)\((switchboard_\w+)", text):
            base = re.sub(r"_(bucket|count|sum)$", "", name)
            assert kinds().get(name) == "counter" or kinds().get(base) == "histogram"


def test_a_dashboard_has_eight_panels_each_with_a_title_a_description_and_a_place_of_its_own() -> (
    None
):
    panels = DASHBOARD["panels"]

    assert len(panels) == 8
    assert all(panel["title"] and panel["description"] for panel in panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == 8
    assert len({panel["id"] for panel in panels}) == 8


def test_what_the_legend_shows_is_a_label_of_what_is_asked() -> None:
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert f"by ({label})" in target["expr"]


def test_there_are_five_rules_each_complete() -> None:
    assert len(RULES) == len({rule["alert"] for rule in RULES}) == 5
    for rule in RULES:
        assert re.fullmatch(r"Switchboard[A-Z]\w+", rule["alert"])
        assert re.fullmatch(r"\d+m", rule["for"])
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"].keys() == {"summary", "description"}


def test_a_rule_looks_at_whether_users_get_answers() -> None:
    [rule] = [rule for rule in RULES if "healthy" in rule["annotations"]["summary"]]

    assert "switchboard_unanswered_turns_total" in rule["expr"]
    assert "switchboard_first_reply_seconds_count" in rule["expr"]


def test_what_an_alert_says_of_labels_its_expression_keeps() -> None:
    for rule in RULES:
        for label in re.findall(r"\$labels\.(\w+)", rule["annotations"]["description"]):
            assert label == "instance"
            assert "sum by (job)" not in rule["expr"]
