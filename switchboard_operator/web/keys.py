"""Where handlers find what the application is composed of."""

import asyncio

from aiohttp import web

from switchboard_operator import replay
from switchboard_operator.aliases import Aliases
from switchboard_operator.broker.base import Broker
from switchboard_operator.concierge import Concierge
from switchboard_operator.connections import Connections
from switchboard_operator.delivery_sample import DeliverySample
from switchboard_operator.limits import Limits
from switchboard_operator.logs import Occasions
from switchboard_operator.metrics import Metrics
from switchboard_operator.settings import Settings
from switchboard_operator.spans import Tracer
from switchboard_operator.tokens import Tokens
from switchboard_operator.uplink import Uplink
from switchboard_operator.web.admission import Admission
from switchboard_operator.web.assets import Assets
from switchboard_operator.web.websocket import FrameReaders

SETTINGS = web.AppKey("settings", Settings)
LIMITS = web.AppKey("limits", Limits)
METRICS = web.AppKey("metrics", Metrics)
BROKER: web.AppKey[Broker] = web.AppKey("broker", Broker)
MAILBOX: web.AppKey[replay.Mailbox] = web.AppKey("mailbox", replay.Mailbox)  # for connections
CONCIERGE = web.AppKey("concierge", Concierge)
CONNECTIONS = web.AppKey("connections", Connections)
DELIVERY_SAMPLE = web.AppKey("delivery_sample", DeliverySample)
TRACER: web.AppKey[Tracer] = web.AppKey("tracer", Tracer)
UPLINK = web.AppKey("uplink", Uplink)
ALIASES = web.AppKey("aliases", Aliases)
TOKENS = web.AppKey("tokens", Tokens)
ADMISSION = web.AppKey("admission", Admission)
ASSETS = web.AppKey("assets", Assets)
OCCASIONS = web.AppKey("occasions", Occasions)
FRAME_READERS = web.AppKey("frame_readers", FrameReaders)
DRAINING = web.AppKey("draining", asyncio.Event)
STARTED = web.AppKey("started", float)  # time.monotonic()
