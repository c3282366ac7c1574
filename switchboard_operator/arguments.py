"""What the command line takes, and how it explains itself."""

import argparse
import json
from collections.abc import Callable
from typing import Any

from switchboard_operator import __version__, send, variables

EXIT_CODES = """\
exit codes:
  0  all is well; run and demo: ended by SIGTERM or SIGINT
  1  run, demo: the address can't be listened on; check: something does not answer as it should;
     send: the postback was not taken
  2  the configuration or the command line has errors, which are told one a line
"""

_OVERVIEW = """\
examples:
  python -m switchboard_operator demo        a chat with a built-in bot, nothing to configure
  python -m switchboard_operator check       what of the configuration answers, before you run
  python -m switchboard_operator             the same as run
  python -m switchboard_operator send --to 7c1f1f0e-6d0f-4d5c-8a53-2f0c2f6b9a11 "Hello"

Variables are read from the environment and from .env, real ones win; docs/configuration.md has all.

"""

_RUN = """\
example:
  SWITCHBOARD_PORT=8000 LOG_FORMAT=console python -m switchboard_operator run

SIGTERM and SIGINT end it: sockets are closed, what was accepted is delivered, within 20 s.

"""

_DEMO = """\
example:
  SWITCHBOARD_PORT=8000 python -m switchboard_operator demo

It needs no variable, listens on this machine only and talks to nobody else. Its keys are made anew
each time, so that send can't reach it.

"""

_CHECK = """\
example:
  python -m switchboard_operator check && python -m switchboard_operator run

Tried are Redis (connecting, writing, a probe that has to come back), the Concierge (its version)
and each key. Nothing is said to any user.

"""

_SEND = """\
examples:
  send --to ID "Hello"
  send --to ID "Are you sure?" --button Yes='{"confirm": true}' --button No=no
  send --to ID "Read more" --link "Our terms=https://example.com/terms"
  send --to ID "A switchboard" --image https://example.com/switchboard.png
  send --to ID "Hello" --url https://chat.example.com
  send --to ID "Hello" --print | sh

It signs with the first key in CONCIERGE_POSTBACK_SECRET_KEY, and needs no other variable. The same
text to the same user within a second is one postback, as it is when --print's command runs twice.

"""

Commands = dict[str, tuple[Callable[..., int], str]]


def read(commands: Commands) -> argparse.Namespace:
    """
    Read the arguments of *commands*: the function of each name, and its purpose.

    A fault is told, and ends the process with 2.
    """
    made = _parser(commands)
    options = made.parse_args()
    if getattr(options, "image", None) and options.buttons:
        made.error("--image goes without --button and --link: a postback is of one type")
    return options


def _parser(commands: Commands) -> argparse.ArgumentParser:
    made = _Parser(
        prog="python -m switchboard_operator",
        description="A gateway between chat users on WebSockets and a bot backend.",
        epilog=_OVERVIEW + EXIT_CODES,
    )
    made.add_argument("--version", action="version", version=__version__)
    made.set_defaults(command=commands["run"][0])
    subparsers = made.add_subparsers(metavar=" | ".join(commands))
    epilogs = {"run": _RUN, "demo": _DEMO, "check": _CHECK, "send": _SEND}
    for name, (command, purpose) in commands.items():
        epilog = epilogs[name] + EXIT_CODES
        added = subparsers.add_parser(name, help=purpose, description=purpose, epilog=epilog)
        added.set_defaults(command=command)
        if name == "send":
            _add_postback(added)
    return made


class _Parser(argparse.ArgumentParser):
    """A parser that leaves the lines of its texts as they are."""

    def __init__(self, **options: Any) -> None:
        """Say what it is for."""
        super().__init__(
            formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **options
        )


def _add_postback(added: argparse.ArgumentParser) -> None:
    add = added.add_argument
    add("text", type=_text, help="what the user reads")
    add("--to", required=True, type=_text, metavar="ID", help="the user's session")
    add("--from", dest="sender", default="bot", type=_text, metavar="NAME", help="who says it")
    add("--image", type=_text, metavar="URL", help="a picture above the text")
    for name, parse, form, purpose in (
        ("--button", _payload_button, "LABEL=PAYLOAD", "says a payload: JSON, or else text"),
        ("--link", _link_button, "LABEL=URL", "opens a page"),
    ):
        text = f"a button that {purpose}; may be repeated, and mixed with the other kind"
        add(name, dest="buttons", action="append", default=[], type=parse, metavar=form, help=text)
    add("--url", type=_url, help="the switchboard; else this machine's, at SWITCHBOARD_PORT")
    text = "show the curl command that would send it, and send nothing"
    add("--print", dest="only_print", action="store_true", help=text)


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise argparse.ArgumentTypeError("is not UTF-8") from exc
    return value


def _url(value: str) -> str:
    try:
        return variables.http_url(value)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _payload_button(argument: str) -> dict[str, Any]:
    label, payload = _pair(argument)
    try:
        value = json.loads(payload)
        json.dumps(value, allow_nan=False)  # NaN and the like are no JSON, though Python reads them
    except (ValueError, RecursionError):
        value = payload
    return send.payload_button(label, value)


def _link_button(value: str) -> dict[str, Any]:
    return send.link_button(*_pair(value))


def _pair(value: str) -> tuple[str, str]:
    label, equals, rest = _text(value).partition("=")
    if not label or not equals:
        raise argparse.ArgumentTypeError(f"{value!r} is not LABEL=…")
    return label, rest
