"""Traces for an OpenTelemetry collector, where the settings name one; without one nothing is loaded and nothing done.

A span is given the one above it by hand: answers are generators, each step of which may run in another thread.
Knows nothing about what is traced.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from contextvars import ContextVar
from importlib.metadata import version
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple, Self

from rag.errors import SettingsError
from rag.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span as Recorded
    from opentelemetry.trace import Tracer

Value = str | bool | int | float
PATIENCE = 2.0
"""Seconds that sending may take; a command waits no longer at its end for a collector that does not answer."""
MOST = 2048
"""Spans that wait to be sent. They go in one piece, since each piece may take as long as `PATIENCE`."""
PATH = "/v1/traces"
"""Below the endpoint; see the OTLP specification."""
PROPAGATED = (b"traceparent", b"tracestate")
"""Headers of the W3C's trace context."""
_INSTALL = "otlp_endpoint is set, but the packages that send traces are not installed: pip install 'footnote[otel]'"


class Span:
    """Something that takes time. It ends where its block is left, and says how; does nothing where tracing is off."""

    def __init__(self, recorded: Recorded | None = None) -> None:
        self._recorded, self._settled = recorded, False

    @property
    def on(self) -> bool:
        """True where what is said of it reaches someone."""
        return self._recorded is not None and self._recorded.is_recording()

    def set(self, **attributes: Value | None) -> None:
        """Say something of it; what is None or empty is left out.

        Names get the prefix `footnote.`, unless they have a dot: those belong to OpenTelemetry's conventions.
        """
        if self._recorded is not None:
            said = {name: value for name, value in attributes.items() if value not in (None, "")}
            self._settled |= "outcome" in said
            for name, value in said.items():
                self._recorded.set_attribute(name if "." in name else f"footnote.{name}", value)

    def rename(self, name: str) -> None:
        """Give it the name that it should have had."""
        if self._recorded is not None:
            self._recorded.update_name(name)

    def event(self, name: str) -> None:
        """Something happens in it now."""
        if self._recorded is not None:
            self._recorded.add_event(name)

    def fail(self, kind: str) -> None:
        """It failed. `kind` names the error; messages may hold texts, and are not told."""
        if self._recorded is not None:
            from opentelemetry.trace import StatusCode

            self.set(outcome="failed", **{"error.type": kind})
            self._recorded.set_status(StatusCode.ERROR)

    def context(self) -> Context:
        """What a span below it needs to know of it."""
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        return Context() if self._recorded is None else set_span_in_context(self._recorded, Context())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._recorded is None:
            return
        if kind is not None and issubclass(kind, Exception):
            self.fail(kind.__name__)
        elif kind is not None and not self._settled:  # a generator was closed, a task cancelled, Ctrl-C pressed
            self.set(outcome="stopped")
        self._recorded.end()


class _Started(NamedTuple):
    tracer: Tracer
    stop: Callable[[], None]


OFF = Span()
in_hand: ContextVar[Span] = ContextVar("in_hand", default=OFF)
"""The request that is being answered; nothing else is passed on in this way."""
_started: list[_Started] = []
"""Where spans go; empty where tracing is off."""


def span(name: str, above: Span | None = None, **attributes: Value | None) -> Span:
    """A span that begins now, and ends with its block.

    Args:
        name: what is done, in a word: names are few.
        above: what it is a part of. Without one it is a part of the request in hand, else a trace of its own.
        attributes: see `Span.set`.
    """
    started = next(iter(_started), None)
    if started is None:
        return OFF
    above = in_hand.get() if above is None else above
    begun = Span(started.tracer.start_span(name, above.context()))
    begun.set(**attributes)
    return begun


def request_span(name: str, headers: Iterable[tuple[bytes, bytes]], **attributes: Value | None) -> Span:
    """As `span`, for a request that may be a part of a trace of whoever sent it, as its headers say."""
    started = next(iter(_started), None)
    if started is None:
        return OFF
    from opentelemetry.context import Context
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    told = {key.decode(): value.decode("latin-1") for key, value in headers if key in PROPAGATED}
    above = TraceContextTextMapPropagator().extract(told, Context())
    begun = Span(started.tracer.start_span(name, above, SpanKind.SERVER))
    begun.set(**attributes)
    return begun


def start_tracing(settings: Settings) -> None:
    """Send spans from now on, if the settings say where to; a thread of its own does it.

    Spans that cannot be sent are dropped, and the log says so. What is left is sent when the process ends.

    Raises:
        SettingsError: what sends them is not installed.
    """
    if settings.otlp_endpoint and not _started:
        _started.append(_sending_to(settings.otlp_endpoint))


def stop_tracing() -> None:
    """Send what is left, and nothing more."""
    while _started:
        _started.pop().stop()


def _sending_to(endpoint: str) -> _Started:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        raise SettingsError(_INSTALL) from None
    # Not made the process's own provider: libraries that find one tell of requests with their whole addresses.
    about = Resource.create({"service.name": "footnote", "service.version": version("footnote")})
    provider = TracerProvider(resource=about)
    exporter = OTLPSpanExporter(endpoint.rstrip("/").removesuffix(PATH) + PATH, timeout=PATIENCE)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=MOST, max_export_batch_size=MOST))
    complaints, once, stop = logging.getLogger(OTLPSpanExporter.__module__), _Once(), ExitStack()
    complaints.addFilter(once)
    stop.callback(complaints.removeFilter, once)
    stop.callback(provider.shutdown)
    return _Started(provider.get_tracer("footnote"), stop.close)


class _Once(logging.Filter):
    """Lets each kind of complaint through once: the library complains of every batch that it cannot send."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """See `logging.Filter`."""
        kind = record.getMessage() if record.levelno >= logging.ERROR else record.msg
        new = kind not in self._told
        self._told.add(kind)
        return new
