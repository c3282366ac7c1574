"""The widget's modules without a page: runs the tests in tests/widget, which are in JavaScript."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.switchboards import ROOT

FILES = sorted((ROOT / "tests/widget").glob("*.test.*js"))

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """
    Return where the widget and its tests lie beside a package.json that calls them modules.

    Old versions of node take them for something else without it, and browsers need none.
    """
    root = tmp_path_factory.mktemp("copy")
    for folder in ("web_client", "tests/widget"):
        (root / folder).mkdir(parents=True)
        for script in (ROOT / folder).glob("*.*js"):
            shutil.copy(script, root / folder)
    (root / "package.json").write_text('{"type": "module"}')
    return root


def test_there_are_files_of_tests() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_tests_of_a_file_pass(copy: Path, path: Path) -> None:
    # Not `node --test`: its child would outlive it when the time is up.
    done = subprocess.run(
        ["node", "--test-reporter=spec", f"tests/widget/{path.name}"],
        check=False, cwd=copy, timeout=250,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert re.search(r"^\S pass [1-9]", done.stdout, re.MULTILINE), done.stdout  # there were some
