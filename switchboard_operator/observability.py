"""Sentry and OpenTelemetry, if they are asked for: else neither is imported."""

import importlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from switchboard_operator import __version__
from switchboard_operator.errors import SettingsError
from switchboard_operator.otel import OpenTelemetry
from switchboard_operator.settings import Settings
from switchboard_operator.spans import Tracer

PACKAGES = "requirements-observability.txt"
FLUSH = 1.0  # seconds, after which what is not sent is lost: the process has 20 to end in

Report = Callable[[BaseException, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Observers:
    """Who is told of bugs and of spans, None if nobody is; `flush` sends what they have not."""

    report: Report | None
    tracer: Tracer | None
    flushes: tuple[Callable[[], Any], ...]

    def flush(self) -> None:
        """Send what is unsent, for a moment: whoever takes it may be away."""
        threads = [threading.Thread(target=each, daemon=True) for each in self.flushes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(FLUSH)


def switch_on(settings: Settings) -> Observers:
    """
    Import and set up what *settings* ask for.

    Raises:
        SettingsError: a package is missing.
    """
    sentry = _sentry(settings.sentry_dsn) if settings.sentry_dsn else None
    tracer = None
    if settings.otel_exporter_otlp_endpoint:
        tracer = OpenTelemetry(settings.otel_exporter_otlp_endpoint, _opentelemetry)
    flushes = [each.flush for each in (sentry, tracer) if each is not None]
    return Observers(sentry and _reporter(sentry), tracer, tuple(flushes))


def _sentry(dsn: str) -> Any:
    """Return Sentry's package, told to send nothing but what it is given."""
    sentry = _module("sentry_sdk", "SENTRY_DSN")
    sentry.init(
        dsn=dsn,
        release=f"switchboard-operator@{__version__}",
        # They would send queries, headers, and what is in the variables of each frame.
        default_integrations=False,
        auto_enabling_integrations=False,
        send_default_pii=False,
        include_local_variables=False,
        max_request_body_size="never",
    )
    return sentry


def _reporter(sentry: Any) -> Report:
    """Return what reports a bug to Sentry, with what the log line says beside it."""

    def report(bug: BaseException, line: Mapping[str, Any]) -> None:
        with sentry.new_scope() as scope:
            for name, value in line.items():
                scope.set_tag(name, str(value))
            scope.capture_exception(bug)

    return report


def _opentelemetry(name: str) -> Any:
    return _module(f"opentelemetry.{name}", "OTEL_EXPORTER_OTLP_ENDPOINT")


def _module(name: str, variable: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        fault = f"{variable}: needs what is in {PACKAGES} (pip install -r {PACKAGES})"
        raise SettingsError([fault]) from exc
