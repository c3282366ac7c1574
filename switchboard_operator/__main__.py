"""The command line: `python -m switchboard_operator [run | demo | check]`."""

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from typing import Any, Never

import uvloop
from dotenv import dotenv_values

from switchboard_operator import __version__, banner, logs
from switchboard_operator.app import create_app, serving
from switchboard_operator.demo import PLAYGROUND, DemoConcierge, demo_variables
from switchboard_operator.errors import AddressUnavailable, SettingsError
from switchboard_operator.settings import Settings

EXIT_FAILED = 1  # the address can't be listened on
EXIT_BAD_SETTINGS = 2
COLLECT = (50_000, 10, 50)  # new objects until the young, the older, all are looked through


def main() -> int:
    """Run the sub-command; return the exit code."""
    options = _parser().parse_args()
    try:
        options.command({**_dotenv(), **os.environ})
    except SettingsError as exc:
        print("The configuration has errors:", *exc.problems, sep="\n  ", file=sys.stderr)
        return EXIT_BAD_SETTINGS
    except AddressUnavailable as exc:
        print(exc, file=sys.stderr)
        return EXIT_FAILED
    return 0


def run(environment: Mapping[str, str]) -> None:
    """Serve until SIGTERM or SIGINT."""
    settings = Settings.read(environment)
    logs.configure(settings.log_level, settings.log_format)
    _run(_serve(settings))


def demo(environment: Mapping[str, str]) -> None:
    """Serve a chat with a built-in Concierge, on loopback only, until SIGTERM or SIGINT."""
    _run(_demonstrate(environment))


def check(environment: Mapping[str, str]) -> None:
    """Tell whether the configuration can be used."""
    Settings.read(environment)
    print("The configuration is usable.")


def _run(main: Coroutine[Any, Any, None]) -> None:
    # What is loaded by now stays; each socket adds some thirty objects, and to look through all of
    # them as often as Python's defaults have it would be a fifth of what a new socket costs.
    gc.freeze()
    gc.set_threshold(*COLLECT)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)


async def _serve(settings: Settings) -> None:
    stop = _stop_signal()
    app = create_app(settings)
    async with serving(app, settings.switchboard_host, settings.switchboard_port) as url:
        print(banner.text(url, settings), flush=True)
        await stop.wait()
    _exit()


async def _demonstrate(environment: Mapping[str, str]) -> None:
    stop = _stop_signal()
    async with DemoConcierge().serving() as concierge:
        settings = Settings.read({**environment, **demo_variables(concierge)})
        logs.configure(settings.log_level, settings.log_format)
        app = create_app(settings, folder=PLAYGROUND)
        async with serving(app, settings.switchboard_host, settings.switchboard_port) as url:
            concierge.answer_to(url)
            print(banner.text(url, settings), flush=True)
            await stop.wait()
    _exit()


def _exit() -> Never:
    """
    End at once, with 0: everything is closed.

    An ordinary exit would wait for look-ups of names that hang in threads, and one more signal
    while the interpreter winds up would make the exit code another one.
    """
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def _stop_signal() -> asyncio.Event:
    """Return what SIGTERM and SIGINT set, however often they come."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _dotenv() -> dict[str, str]:
    try:
        values = dotenv_values(".env", interpolate=False)
    except UnicodeDecodeError as exc:
        raise SettingsError([".env: is not UTF-8"]) from exc
    except OSError as exc:
        raise SettingsError([f".env: can't be read ({exc.strerror})"]) from exc
    return {name: value for name, value in values.items() if value is not None}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m switchboard_operator",
        description="A gateway between chat users on WebSockets and a bot backend.",
        epilog="Variables are read from the environment and from .env; see README.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.set_defaults(command=run)
    commands = parser.add_subparsers(metavar="run | demo | check")
    for command in (run, demo, check):
        text = (command.__doc__ or "").strip()
        commands.add_parser(command.__name__, help=text, description=text).set_defaults(
            command=command
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
