"""Log lines: one per event, as logfmt, JSON or for a terminal, ours and the libraries' alike."""

import logging
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

# What of a line goes with a bug; a library's line may have anything.
_REPORTED: Final = frozenset(
    ("event", "request_id", "connection", "session", "method", "path", "task")
)


_FIRST: Final = ("timestamp", "level", "event")  # of every line, for who reads it as it is


class Occasions:
    """Tells when the same thing may be logged again, so that a fault or a peer can't flood logs."""

    def __init__(self, interval: float) -> None:
        """Allow each thing once in *interval* seconds."""
        self._interval = interval
        self._last: dict[str, float] = {}

    def due(self, thing: str, now: float) -> bool:
        """Return whether *thing*, one of a fixed set of names, may be logged *now* (seconds)."""
        if now - self._last.get(thing, float("-inf")) < self._interval:
            return False
        self._last[thing] = now
        return True


Report = Callable[[BaseException, Mapping[str, Any]], None]


def configure(
    level: str, form: str, stream: TextIO = sys.stdout, report: Report | None = None
) -> None:
    """
    Send every log line of the process to *stream*.

    *level* is a level's name in lower case, *form* one of logfmt, json, console, or auto: console
    if people read along, on a terminal, and logfmt if a collector does.

    If a line comes with an exception, that is a bug: *report* is told of it, and of what else the
    line says.
    """
    shared: list[Processor] = [
        *([_reporting(report)] if report is not None else []),
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,  # tests configure more than once
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *_renderer(form, stream),
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def debugging() -> bool:
    """Tell whether lines at level debug are wanted: to ask costs less than to make one in vain."""
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def _reporting(report: Report) -> Processor:
    def process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        told = event.get("exc_info")
        bug = (sys.exc_info() if told is True else told) or (None, None)
        bug = bug[1] if isinstance(bug, tuple) else bug
        if isinstance(bug, BaseException):
            report(bug, {name: what for name, what in event.items() if name in _REPORTED})
        return event

    return process


def _renderer(form: str, stream: TextIO) -> list[Processor]:
    if form == "json":
        return [_first_first, structlog.processors.JSONRenderer()]
    if form == "console" or (form == "auto" and stream.isatty()):
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), sort_keys=False)]
    logfmt = structlog.processors.LogfmtRenderer(key_order=_FIRST, bool_as_flag=False)
    return [_one_line, logfmt]


def _first_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    return {key: event[key] for key in _FIRST} | dict(event)


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Make logfmt take what it refuses: line ends of any kind, a key with a space."""
    return {
        key.replace(" ", "_"): "\n".join(value.splitlines()) if isinstance(value, str) else value
        for key, value in event.items()
    }


class _PeersFault(logging.Filter):
    """Log a request that aiohttp could not parse as what it is: the peer's fault, in a line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Drop the traceback, and the words of the peer that aiohttp quotes in it."""
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and type(error).__module__ == "aiohttp.http_exceptions":
            record.exc_info = None
            record.msg, record.args = "bad HTTP request (%s)", (type(error).__name__,)
            record.levelno, record.levelname = logging.DEBUG, "DEBUG"
        return record.levelno >= logging.getLogger().level


def tame_libraries() -> None:
    """Keep libraries from logging peers' words, and peers' faults as if they were ours."""
    server = logging.getLogger("aiohttp.server")
    if not any(isinstance(known, _PeersFault) for known in server.filters):
        server.addFilter(_PeersFault())
    # It warns of every unknown subprotocol, in the client's own words.
    logging.getLogger("aiohttp.websocket").setLevel(logging.ERROR)
    # It quotes cookies that it can't read.
    logging.getLogger("aiohttp.internal").setLevel(logging.ERROR)
    # It warns of every cookie that is not ours.
    logging.getLogger("aiohttp_session").setLevel(logging.ERROR)
