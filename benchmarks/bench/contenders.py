"""The kinds of server that are compared: the gateway, and what most would write instead."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tests.switchboards import ROOT

PEERS = ROOT / "benchmarks" / "peers"


@dataclass(frozen=True)
class Contender:
    """A kind of server."""

    name: str
    command: Sequence[str]
    arrays: bool = False  # whether it takes several postbacks in one request
    variables: Mapping[str, str] = field(default_factory=dict)


OURS = Contender(
    "ours",
    (sys.executable, "-m", "switchboard_operator"),
    arrays=True,
    # The limiter is at work, but what it lets pass is not what is measured.
    variables={"RATE_LIMIT": "100000", "DRAIN_SECONDS": "1", "LOG_LEVEL": "info"},
)
NODE = Contender(
    "node",
    (shutil.which("node") or "node", str(PEERS / "node" / "server.js")),
    variables={"NODE_ENV": "production"},
)
PLAIN = Contender("plain", (sys.executable, str(PEERS / "plain_aiohttp.py")))
UNMEASURED = replace(
    OURS, name="ours-unmeasured", command=(sys.executable, str(PEERS / "ours_unmeasured.py"))
)
USUAL = (OURS, NODE, PLAIN)
CONTENDERS = {contender.name: contender for contender in (*USUAL, UNMEASURED)}
