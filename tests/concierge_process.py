"""A Concierge to be ended: takes POSTs, writes each new one to a file before it answers."""

import asyncio
import signal
import sys
from pathlib import Path

from aiohttp import web
from msgspec import json


async def main(port: int, record: Path) -> None:
    """Serve on *port*; a line of *record* is `key<TAB>session<TAB>text`, each key once."""
    seen = {line.split("\t")[0] for line in record.read_text().splitlines()}

    async def incoming(request: web.Request) -> web.Response:
        said = json.decode(await request.read())
        key = request.headers["Idempotency-Key"]
        if key not in seen:
            seen.add(key)
            with record.open("a") as lines:
                lines.write(f"{key}\t{said['From']}\t{said['Body']}\n")
        await asyncio.sleep(0.002)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/incoming/postback", incoming)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("listening", flush=True)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), Path(sys.argv[2])))
