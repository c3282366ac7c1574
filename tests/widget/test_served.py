"""What is served of the widget's scripts does the same as their sources."""

import subprocess
from pathlib import Path

import pytest

from switchboard_operator.web.assets import Asset
from tests.widget.size import ESBUILD, ROOT

SCRIPTS = sorted((ROOT / "web_client").glob("*.js"))


def minified(script: bytes) -> bytes:
    """Return a script as a bundler writes it: what is left is what it does."""
    options = ["--minify", "--format=esm", "--log-level=error"]
    return subprocess.run([ESBUILD, *options], input=script, check=True, capture_output=True).stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_that_is_served_does_what_its_source_does(path: Path) -> None:
    source, served = path.read_bytes(), Asset.read(path).content

    assert len(served) < len(source)
    assert minified(served) == minified(source)
