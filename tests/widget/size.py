"""Hold the widget to its weight: what a page loads for it, as served and as bundled."""

import gzip
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from switchboard_operator.web.assets import Asset

ROOT = Path(__file__).parent.parent.parent
ENTRY = "web_client/switchboard-chat.js"
ESBUILD = ROOT / "tests/widget/node_modules/.bin/esbuild"
SERVED_LIMIT = 16_000  # bytes, each file gzipped by itself
BUNDLED_LIMIT = 10_000  # bytes


def bundle() -> tuple[bytes, list[str]]:
    """Return the widget in one minified file, and the names of the files in it."""
    with tempfile.TemporaryDirectory() as folder:
        made, facts = Path(folder, "widget.js"), Path(folder, "facts.json")
        options = ["--bundle", "--minify", "--format=esm", "--log-level=error"]
        subprocess.run(
            [ESBUILD, ENTRY, *options, f"--outfile={made}", f"--metafile={facts}"],
            cwd=ROOT,
            check=True,
        )
        return made.read_bytes(), list(json.loads(facts.read_text())["inputs"])


def report(what: str, size: int, limit: int) -> bool:
    """Print a size; return whether it is within its limit."""
    print(f"widget {what}: {size} bytes, at most {limit}", "" if size <= limit else "TOO MUCH")
    return size <= limit


def main() -> int:
    """Print both sizes; return 1 if one is too large."""
    bundled, names = bundle()
    served = sum(len(Asset.read(ROOT / name).gzipped) for name in names)
    languages = [Asset.read(path) for path in (ROOT / "web_client").glob("strings_*.js")]
    largest = max(len(language.gzipped) for language in languages)
    fits = [
        report(f"as served, gzip, {len(names)} files", served, SERVED_LIMIT),
        report("bundled, minified, gzip", len(gzip.compress(bundled, mtime=0)), BUNDLED_LIMIT),
    ]
    print(f"widget in another language: {largest} bytes more at most, loaded where it is spoken")
    return 0 if all(fits) else 1


if __name__ == "__main__":
    sys.exit(main())
