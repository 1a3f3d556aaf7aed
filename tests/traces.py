"""Spans as a collector would get them, without one. Knows nothing about what they tell."""

from __future__ import annotations

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rag import tracing


class Spans:
    """Every span that ended, from now to the end of the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        started = tracing._Started(provider.get_tracer("footnote"), provider.shutdown)
        monkeypatch.setattr(tracing, "_started", [started])

    def all(self) -> list[ReadableSpan]:
        """In the order in which they began."""
        return sorted(self._exporter.get_finished_spans(), key=lambda span: span.start_time or 0)

    def named(self, name: str) -> ReadableSpan:
        """The only one with this name."""
        (found,) = [span for span in self.all() if span.name == name]
        return found

    def below(self, above: ReadableSpan) -> list[str]:
        """Names of those that are a part of one."""
        return [span.name for span in self.all() if span.parent and span.parent.span_id == above.context.span_id]

    def text(self) -> str:
        """All that is told."""
        return "\n".join(span.to_json() for span in self.all())


def said(span: ReadableSpan) -> dict[str, object]:
    """Footnote's own attributes, without their prefix."""
    attributes = dict(span.attributes or {})
    return {name.removeprefix("footnote."): value for name, value in attributes.items() if name.startswith("footnote.")}
