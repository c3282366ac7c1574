"""The widget's modules without a page: runs the tests in tests/widget, which are in JavaScript."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.switchboards import ROOT

FILES = sorted((ROOT / "tests/widget").glob("*.test.*js"))

pytestmark = pytest.mark.slow


def test_there_are_files_of_tests() -> None:
    assert FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_all_tests_of_a_file_pass(path: Path) -> None:
    # Not `node --test`: its child would outlive it when the time is up.
    done = subprocess.run(
        ["node", "--test-reporter=spec", path],
        check=False, cwd=ROOT, timeout=100,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout
    assert re.search(r"^\S pass [1-9]", done.stdout, re.MULTILINE), done.stdout  # there were some
