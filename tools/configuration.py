"""Write what is known of the variables into the documents: `make docs`."""

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from switchboard_operator.settings import variables
from switchboard_operator.variables import Variable

ROOT = Path(__file__).parent.parent
WIDTH = 100  # columns
IN_README = (  # what a first deployment is about
    "CONCIERGE_URL",
    "CONCIERGE_POSTBACK_SECRET_KEY",
    "SWITCHBOARD_SECRET_KEY",
    "REDISCLOUD_URL",
    "SWITCHBOARD_PORT",
    "ALLOWED_ORIGINS",
    "MAILBOX_SIZE",
    "METRICS_TOKEN",
)
BEGIN, END = "<!-- variables: made by `make docs` -->\n", "<!-- end of variables -->\n"

_EXAMPLE_HEAD = """\
# Copy this file to .env. Real variables win over it, and one that is empty counts as unset.
# The first three are required; the others are shown with their default, or an example if unset.
# Made by `make docs`.
"""


def main() -> None:
    """Write each document anew."""
    for path, text in documents().items():
        path.write_text(text)


def documents() -> dict[Path, str]:
    """Return what each document about variables should be."""
    readme, full = ROOT / "README.md", ROOT / "docs/configuration.md"
    return {
        readme: _with_table(readme.read_text(), table(IN_README)),
        full: _with_table(full.read_text(), table((*variables(), *fallbacks()))),
        ROOT / ".env.example": example_file(),
    }


def table(names: tuple[str, ...]) -> str:
    """Return the table of the variables *names*."""
    rows = "".join(_row(name) for name in names)
    return f"| variable | default | meaning |\n|---|---|---|\n{rows}"


def fallbacks() -> dict[str, str]:
    """Return the variables that are read when another one is unset, and which that is."""
    return {each.fallback: name for name, each in variables().items() if each.fallback}


def example_file() -> str:
    """Return the file to copy to `.env`."""
    return "\n".join([_EXAMPLE_HEAD, *_paragraphs()])


def default(variable: Variable) -> str:
    """Return the default as it would be written into the environment, "" if that is unset."""
    value = variable.default
    if isinstance(value, frozenset):
        return ",".join(sorted(value))
    return (
        str(int(value))
        if isinstance(value, bool)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _row(name: str) -> str:
    if name in fallbacks():
        return (
            f"| `{name}` | unset | Read if `{fallbacks()[name]}` is unset, as platforms set it. |\n"
        )
    variable = variables()[name]
    shown = "required" if variable.required else default(variable)
    shown = shown if variable.required or not shown else f"`{shown}`"
    return f"| `{name}` | {shown or 'unset'} | {variable.meaning} |\n"


def _paragraphs() -> Iterator[str]:
    for name, variable in variables().items():
        mark = "" if variable.required else "# "
        value = variable.example if variable.required else default(variable) or variable.example
        yield f"{_comment(variable.meaning)}\n{mark}{name}={value}\n"
    for name, instead in fallbacks().items():
        yield f"{_comment(f'Read if {instead} is unset, as platforms set it.')}\n# {name}=5555\n"


def _comment(text: str) -> str:
    return "\n".join(
        textwrap.wrap(
            text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
        )
    )


def _with_table(document: str, made: str) -> str:
    between = re.compile(f"(?<={re.escape(BEGIN)}).*(?={re.escape(END)})", re.DOTALL)
    written, places = between.subn(lambda _: made, document)
    if places != 1:
        raise ValueError(f"a document has {places} places for the table, not one")
    return written


if __name__ == "__main__":
    main()
