"""What is written down about the variables, against the code that reads them."""

import ast
import re
from pathlib import Path

import pytest
from dotenv import dotenv_values

from switchboard_operator.settings import Settings, variables
from tests.switchboards import ROOT
from tools import configuration

NAMES = [*variables(), "PORT"]
REQUIRED = [name for name, variable in variables().items() if variable.required]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
OPTIONAL = [name for name in variables() if name not in REQUIRED]


def example() -> dict[str, tuple[str, str, bool]]:
    """Return what .env.example says of each variable: its comment, its value, whether it is set."""
    found = {}
    for paragraph in (ROOT / ".env.example").read_text().strip().split("\n\n")[1:]:
        *comment, assignment = paragraph.splitlines()
        name, _, value = assignment.removeprefix("# ").partition("=")
        assert name not in found
        meaning = " ".join(line.removeprefix("# ") for line in comment)
        found[name] = (meaning, value, not assignment.startswith("#"))
    return found


def rows(document: str) -> dict[str, list[str]]:
    """Return the rows of a document's table by variable, the other cells as they are."""
    found = re.findall(
        r"^\| `([A-Z0-9_]+)` \| (.*) \|$", (ROOT / document).read_text(), re.MULTILINE
    )
    assert len({name for name, _ in found}) == len(found), "a variable has two rows"
    return {name: rest.split(" | ") for name, rest in found}


def reads_environment(path: Path) -> bool:
    names = {"environ", "environb", "getenv", "getenvb"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in names:
            return True
        if isinstance(node, ast.ImportFrom) and names & {alias.name for alias in node.names}:
            return True
    return False


def test_the_example_file_names_every_variable_in_order() -> None:
    assert list(example()) == NAMES


@pytest.mark.parametrize("path", configuration.documents(), ids=lambda path: path.name)
def test_what_make_docs_makes_is_what_the_code_says(path: Path) -> None:
    assert path.read_text() == configuration.documents()[path], "run `make docs`"


def test_the_configuration_document_names_every_variable_in_order() -> None:
    assert list(rows("docs/configuration.md")) == NAMES


def test_readme_names_what_is_required_and_nothing_that_is_not_there() -> None:
    assert set(REQUIRED) < set(rows("README.md")) < set(NAMES)


def test_readme_can_be_read_in_one_go() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_links_to_is_there(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)|<img src=\"([^\"]+)\"", text)
    targets = [one or other for one, other in links]

    here = [target for target in targets if "://" not in target]

    assert [target for target in here if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("name", variables())
def test_the_example_file_says_what_a_variable_means(name: str) -> None:
    assert example()[name][0] == variables()[name].meaning


def test_the_example_file_sets_what_is_required_and_nothing_else() -> None:
    assert [name for name, (_, _, is_set) in example().items() if is_set] == REQUIRED


@pytest.mark.parametrize("name", OPTIONAL)
def test_the_example_file_shows_the_default_or_an_example(name: str) -> None:
    variable = variables()[name]

    shown = variable.parse(example()[name][1])

    assert shown == (variable.default or variable.parse(variable.example))


def test_the_example_file_is_a_usable_configuration() -> None:
    values = dotenv_values(ROOT / ".env.example", interpolate=False)

    settings = Settings.read({name: value or "" for name, value in values.items()})

    assert settings.concierge_url == "http://127.0.0.1:8080"


@pytest.mark.parametrize("name", variables())
def test_the_configuration_document_shows_the_default(name: str) -> None:
    variable = variables()[name]

    shown = rows("docs/configuration.md")[name][0].strip("`")

    if variable.required:
        assert shown == "required"
    elif variable.default == "":
        assert shown == "unset"
    else:
        assert variable.parse(shown) == variable.default


def test_only_the_command_line_reads_the_environment() -> None:
    package = ROOT / "switchboard_operator"

    readers = [path for path in package.rglob("*.py") if reads_environment(path)]

    assert sorted(readers) == [package / "__main__.py", package / "demo/__main__.py"]


DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def anchors(document: Path) -> set[str]:
    """Return the names by which a document's headings can be linked to."""
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", document.read_text()):
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


# Names in capitals that are no variables of ours.
OTHERS = {"INFO", "HTTP", "DELETE", "SSL_CERT_FILE", "DEMO_SWITCHBOARD_URL"}


@pytest.mark.parametrize("name", ["deploy", "migration", "security", "troubleshooting"])
def test_a_variable_that_operators_are_told_of_exists(name: str) -> None:
    text = (ROOT / f"docs/{name}.md").read_text()

    told = set(re.findall(r"`([A-Z][A-Z0-9_]{2,})(?:=[^`]*)?`", text))

    assert told
    assert told <= {*NAMES, *OTHERS}
