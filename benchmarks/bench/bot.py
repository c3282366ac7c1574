"""What the bot posts: signed requests, made before the clock runs, since signing takes a while."""

import struct
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

from benchmarks.bench.load import Plan
from tests.switchboards import signed

TEXT = (
    "The next train to the coast leaves at 10:42 from platform 7; a ticket is 12.50,"
    " children ride for half of that."
)


def addressees(plan: Plan) -> Iterator[int]:
    """
    Yield the user of each message.

    A user's messages all go out by the same poster, so that each is answered before the next.
    """
    served = [range(poster, plan.sockets, plan.posters) for poster in range(plan.posters)]
    for request in count():
        users = served[request % plan.posters]
        first = request // plan.posters * plan.batch
        for place in range(first, first + plan.batch):
            yield users[place % len(users)]


def write_requests(path: Path, plan: Plan, run: int, requests: int) -> None:
    """Write so many *requests* to the file that the generator reads."""
    users = addressees(plan)
    with path.open("wb") as file:
        for number in range(requests):
            messages = [
                f'{{"to":"bench-{run:06}-{user:06}","from":"bot","body":"{TEXT}","n":{message}}}'
                for message, user in enumerate(islice(users, plan.batch), number * plan.batch)
            ]
            body = messages[0] if plan.batch == 1 else f"[{','.join(messages)}]"
            request = _request(body.encode())
            file.write(struct.pack("<I", len(request)) + request)


def _request(body: bytes) -> bytes:
    headers = {"Host": "127.0.0.1", **signed(body), "Content-Length": str(len(body))}
    lines = [f"{name}: {value}\r\n" for name, value in headers.items()]
    return f"POST / HTTP/1.1\r\n{''.join(lines)}\r\n".encode() + body
