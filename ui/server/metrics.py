"""What the server counts, for Prometheus. Knows nothing about how anything is done."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rag.types import Answer, Timings

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
"""Upper borders of the buckets."""
OUTCOMES = ("supported", "marked", "declined", "not asked", "stopped", "failed")
"""Of an answer: every sentence has its footnote; one at least has none; the model or the check declined; no passage was
close enough; the person went away; there was an error."""


class Metrics:
    """The counters of one server."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "footnote_requests", "Requests by route.", ("method", "route", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "footnote_request_seconds",
            "Until a request was done with, by route.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "footnote_stage_seconds", "Of each stage of an answer.", ("stage",), buckets=SECONDS, registry=registry
        )
        self.answers = Counter("footnote_answers", "Answers by what became of them.", ("outcome",), registry=registry)
        self.cache = Counter("footnote_cache_lookups", "Looks into the answer cache.", ("found",), registry=registry)
        self.jobs = Counter("footnote_jobs", "Ingest jobs that ended, by how.", ("state",), registry=registry)
        for outcome in OUTCOMES:
            self.answers.labels(outcome)
        for found in ("yes", "no"):
            self.cache.labels(found)

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A figure that is asked for when the counters are read."""
        Gauge(f"footnote_{name}", about, registry=self._registry).set_function(value)

    def finished(self, answer: Answer) -> None:
        """Count an answer and how long its stages took."""
        self.answers.labels(outcome(answer)).inc()
        for stage, milliseconds in _stages(answer.timings):
            self.stage_seconds.labels(stage).observe(milliseconds / 1000)

    def text(self) -> bytes:
        """All of it, in Prometheus' text format."""
        return generate_latest(self._registry)


def outcome(answer: Answer) -> str:
    """One of `OUTCOMES`."""
    if answer.abstained:
        return "declined" if answer.model else "not asked"
    return "marked" if any(sentence.unsupported for sentence in answer.sentences) else "supported"


def _stages(timings: Timings) -> list[tuple[str, float]]:
    named = {
        "retrieve": timings.retrieve,
        "first token": timings.first_token,
        "generate": timings.generate,
        "verify": timings.verify,
    }
    return [(stage, milliseconds) for stage, milliseconds in named.items() if milliseconds is not None]
