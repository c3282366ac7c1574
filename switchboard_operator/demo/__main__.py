"""The demo's Concierge on its own, for a switchboard elsewhere."""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping

from switchboard_operator import logs, variables
from switchboard_operator.demo.concierge import LOOPBACK, DemoConcierge

# The first is the switchboard's, too; the defaults are those that .env.example goes with.
DEFAULTS = {
    "CONCIERGE_POSTBACK_SECRET_KEY": "change-me-shared-with-the-concierge",
    "DEMO_HOST": LOOPBACK,
    "DEMO_PORT": "8080",
    "DEMO_SWITCHBOARD_URL": "http://127.0.0.1:5555",  # where it posts what the bot says
    "DEMO_PUBLIC_URL": "",  # where browsers find its picture, if that is another address
}


def main(environment: Mapping[str, str]) -> None:
    """Answer a switchboard until SIGTERM or SIGINT. Raises ValueError and OSError."""
    values = {name: environment.get(name) or default for name, default in DEFAULTS.items()}
    logs.configure("info", "logfmt")
    asyncio.run(_serve(values))


async def _serve(values: Mapping[str, str]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keys = variables.secrets(values["CONCIERGE_POSTBACK_SECRET_KEY"])
    host, port = values["DEMO_HOST"], variables.integer(0, 65535)(values["DEMO_PORT"])
    concierge = DemoConcierge(keys[0])
    concierge.answer_to(values["DEMO_SWITCHBOARD_URL"])
    async with concierge.serving(host, port, values["DEMO_PUBLIC_URL"]):
        print(f"Demo Concierge at {concierge.url}", flush=True)
        await stop.wait()


if __name__ == "__main__":
    try:
        main(os.environ)
    except (ValueError, OSError) as exc:
        sys.exit(f"The demo's Concierge can't start: {exc}")
