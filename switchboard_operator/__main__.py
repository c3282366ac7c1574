"""The command line: `python -m switchboard_operator [run | demo | check | send]`."""

import asyncio
import gc
import os
import sys
from argparse import Namespace
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime
from typing import Any, Never

import uvloop
from dotenv import dotenv_values

from switchboard_operator import arguments, banner, logs
from switchboard_operator.app import create_app, serving
from switchboard_operator.check import findings
from switchboard_operator.demo import PLAYGROUND, DemoConcierge, demo_variables
from switchboard_operator.demo.concierge import LOOPBACK
from switchboard_operator.errors import AddressUnavailable, SettingsError, Unreachable
from switchboard_operator.first_look import first_look
from switchboard_operator.limits import Limits
from switchboard_operator.observability import Observers, switch_on
from switchboard_operator.process import end, let_nobody_read, stop_signal
from switchboard_operator.send import as_curl, content, post, prepare
from switchboard_operator.settings import Settings, read_some

EXIT_FAILED = 1
EXIT_BAD_SETTINGS = 2
COLLECT = (50_000, 10, 50)  # new objects until the young, the older, all are looked through

Environment = Mapping[str, str]


def main() -> int:
    """Run the sub-command; return the exit code."""
    commands = (run, demo, check, send)
    options = arguments.read({each.__name__: (each, each.__doc__ or "") for each in commands})
    try:
        code: int = options.command({**_dotenv(), **os.environ}, options)
    except SettingsError as exc:
        print("The configuration has errors:", *exc.problems, sep="\n  ", file=sys.stderr)
        return EXIT_BAD_SETTINGS
    except (AddressUnavailable, Unreachable) as exc:
        print(exc, file=sys.stderr)
        return EXIT_FAILED
    except BrokenPipeError:
        let_nobody_read()
        return EXIT_FAILED
    return code


def run(environment: Environment, _options: Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    settings = Settings.read(environment)
    observers = switch_on(settings)
    logs.configure(settings.log_level, settings.log_format, report=observers.report)
    return _run(_serve(settings, observers))


def demo(environment: Environment, _options: Namespace) -> int:
    """Serve a chat with a built-in Concierge, on loopback only, until SIGTERM or SIGINT."""
    return _run(_demonstrate(environment))


def check(environment: Environment, _options: Namespace) -> int:
    """Tell whether the configuration can be used, and whether what it names answers."""
    settings = Settings.read(environment)
    switch_on(settings)
    print("ok    Configuration  has no errors", flush=True)
    return asyncio.run(_check(settings))


def send(environment: Environment, options: Namespace) -> int:
    """Send a postback to a user, signed as the Concierge's are, and tell what became of it."""
    values = read_some(environment, "CONCIERGE_POSTBACK_SECRET_KEY", "SWITCHBOARD_PORT")
    url = options.url or f"http://{LOOPBACK}:{values['switchboard_port']}"
    said = content(options.to, options.text, options.sender, options.image, options.buttons)
    secret = values["concierge_postback_secret_key"][0]
    prepared = prepare(said, url, secret, datetime.now(UTC))
    if options.only_print:
        print(as_curl(prepared), flush=True)
        return 0
    answer = asyncio.run(post(prepared))
    print(answer.told, flush=True)
    return 0 if answer.taken else EXIT_FAILED


def _run(main: Coroutine[Any, Any, int]) -> int:
    # What is loaded by now stays; each socket adds some thirty objects, and to look through all of
    # them as often as Python's defaults have it would be a fifth of what a new socket costs.
    gc.freeze()
    gc.set_threshold(*COLLECT)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


async def _serve(settings: Settings, observers: Observers) -> Never:
    stop = stop_signal()
    app = create_app(settings, tracer=observers.tracer)
    async with serving(app, settings.switchboard_host, settings.switchboard_port) as url:
        banner.show(url, settings, await first_look(app))
        await stop.wait()
    observers.flush()
    end()


async def _demonstrate(environment: Environment) -> Never:
    stop = stop_signal()
    async with DemoConcierge().serving() as concierge:
        settings = Settings.read({**environment, **demo_variables(concierge)})
        logs.configure(settings.log_level, settings.log_format)
        app = create_app(settings, folder=PLAYGROUND)
        async with serving(app, settings.switchboard_host, settings.switchboard_port) as url:
            concierge.answer_to(url)
            banner.show(url, settings, await first_look(app))
            await stop.wait()
    end()


async def _check(settings: Settings) -> Never:
    found = await findings(settings, Limits())
    print(*found, sep="\n")
    end(0 if all(finding.well for finding in found) else EXIT_FAILED)


def _dotenv() -> dict[str, str]:
    try:
        values = dotenv_values(".env", interpolate=False)
    except UnicodeDecodeError as exc:
        raise SettingsError([".env: is not UTF-8"]) from exc
    except OSError as exc:
        raise SettingsError([f".env: can't be read ({exc.strerror})"]) from exc
    return {name: value for name, value in values.items() if value is not None}


if __name__ == "__main__":
    sys.exit(main())
