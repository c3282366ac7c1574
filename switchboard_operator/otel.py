"""Spans as OpenTelemetry has them."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from switchboard_operator import __version__

_TRACE_BYTES, _SPAN_BYTES = 16, 8


class OpenTelemetry:
    """Records spans in OpenTelemetry, which sends them in a thread of its own."""

    def __init__(self, endpoint: str, module: Callable[[str], Any]) -> None:
        """Send spans to *endpoint*; *module* imports what OpenTelemetry has under a name."""
        exporter = module("exporter.otlp.proto.http.trace_exporter").OTLPSpanExporter
        about = {"service.name": "switchboard-operator", "service.version": __version__}
        resource = module("sdk.resources").Resource.create(about)
        self._ids = _Ids()
        self._provider = module("sdk.trace").TracerProvider(
            resource=resource, id_generator=self._ids
        )
        batches = module("sdk.trace.export").BatchSpanProcessor
        self._provider.add_span_processor(batches(exporter(endpoint=f"{endpoint}/v1/traces")))
        self._tracer = self._provider.get_tracer("switchboard_operator", __version__)
        self._trace = module("trace")

    def span(
        self,
        name: str,
        start: int,
        end: int,
        attributes: Mapping[str, str],
        *,
        itself: bytes | None = None,
        within: bytes | None = None,
    ) -> None:
        """Record a span."""
        self._ids.next = itself
        parent = None if within is None else self._around(within)
        span = self._tracer.start_span(
            name, context=parent, attributes=attributes, start_time=start
        )
        span.end(end_time=end)

    def _around(self, identity: bytes) -> Any:
        """Return a context in which spans are within the one of that *identity*."""
        trace_id, span_id = _numbers(identity)
        flags = self._trace.TraceFlags(self._trace.TraceFlags.SAMPLED)
        context = self._trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=flags)
        return self._trace.set_span_in_context(self._trace.NonRecordingSpan(context))

    def flush(self) -> None:
        """Send what is unsent."""
        self._provider.force_flush()


class _Ids:
    """Gives spans their identity: the `next` one that of its bytes, any other a random one."""

    next: bytes | None = None

    def generate_trace_id(self) -> int:
        """Return the trace of a span that is in no other."""
        return _numbers(self.next or os.urandom(_TRACE_BYTES))[0]

    def generate_span_id(self) -> int:
        """Return what a span is called within its trace."""
        identity, self.next = self.next or os.urandom(_TRACE_BYTES + _SPAN_BYTES), None
        return _numbers(identity)[1]

    def is_trace_id_random(self) -> bool:
        """Tell samplers that they may draw lots by it: a keyed hash is as good as random."""
        return True


def _numbers(identity: bytes) -> tuple[int, int]:
    return int.from_bytes(identity[:_TRACE_BYTES]), int.from_bytes(identity[_TRACE_BYTES:])
