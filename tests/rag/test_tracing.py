"""Traces of answers: their spans, what these never tell, and that nothing is there where no collector is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import StatusCode

from rag import tracing
from rag.errors import LLMError, SettingsError
from rag.settings import Settings
from rag.tracing import span, start_tracing, stop_tracing
from rag.types import Finished, Message, Piece
from tests.conftest import ROOT, OpenRag, ParrotLLM
from tests.traces import Spans, said

RENT = "The monthly rent of the flat is 900 euros."
DOCUMENTS = {"lease.md": f"# Rent\n\n{RENT}\n"}
QUESTION = "monthly rent of the flat"
TEXTS = ("monthly", "euros", "lease")
OFF_BY_DEFAULT = """
import sys
import ingest.pipeline, rag.answer, ui.cli, ui.server.turns
from rag.settings import Settings
from rag.tracing import OFF, span, start_tracing
start_tracing(Settings.load())
with span("ask") as ask, span("retrieve", ask) as retrieve:
    retrieve.set(passages=3)
assert ask is retrieve is OFF
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return Spans(monkeypatch)


def test_every_stage_of_an_answer_is_a_part_of_its_span(open_rag: OpenRag, spans: Spans) -> None:
    rag = open_rag(DOCUMENTS, ParrotLLM(RENT))
    answer = rag.answer(QUESTION)
    ask, generate = spans.named("ask"), spans.named("generate")
    assert ask.parent is None
    assert spans.below(ask) == ["retrieve", "generate", "check"]
    assert said(ask) == {"outcome": "answered", "model": "parrot", "passages": len(answer.hits)}
    assert said(spans.named("retrieve")) == {"passages": 1}
    assert said(generate) == {"model": "parrot", "tokens": len(RENT.split())}
    assert [event.name for event in generate.events] == ["first token"]


def test_a_follow_up_is_rewritten_first(open_rag: OpenRag, spans: Spans) -> None:
    history = (Message("user", "What is the monthly rent of the flat?"), Message("assistant", RENT))
    open_rag(DOCUMENTS).answer("And when is it due?", history)
    assert spans.below(spans.named("ask"))[:2] == ["rewrite", "retrieve"]


def test_what_no_passage_is_close_to_asks_no_model(open_rag: OpenRag, spans: Spans) -> None:
    open_rag(DOCUMENTS).answer("zyzzyva quokka")
    ask = spans.named("ask")
    assert spans.below(ask) == ["retrieve"]
    assert said(ask)["outcome"] == "abstained"
    assert "model" not in said(ask)


def test_a_failure_is_told_by_its_kind_alone(open_rag: OpenRag, spans: Spans) -> None:
    rag = open_rag(DOCUMENTS, ParrotLLM(fails="the model stumbled over confidential words"))
    with pytest.raises(LLMError):
        rag.answer(QUESTION)
    for name in ("ask", "generate"):
        failed = spans.named(name)
        assert (said(failed)["outcome"], failed.attributes["error.type"]) == ("failed", "LLMError")
        assert failed.status.status_code is StatusCode.ERROR
    assert "confidential" not in spans.text()


def test_whoever_goes_away_stops_the_spans_in_whatever_thread(open_rag: OpenRag, spans: Spans) -> None:
    events = open_rag(DOCUMENTS, ParrotLLM(RENT)).stream(QUESTION)
    next(event for event in events if isinstance(event, Piece))
    closing = Thread(target=events.close)
    closing.start()
    closing.join(30)
    ask, generate = spans.named("ask"), spans.named("generate")
    assert spans.below(ask) == ["retrieve", "generate"]
    assert (said(ask)["outcome"], said(generate)["outcome"]) == ("stopped", "stopped")
    assert {ask.status.status_code, generate.status.status_code} == {StatusCode.UNSET}


def test_whoever_goes_away_after_the_answer_stops_nothing(open_rag: OpenRag, spans: Spans) -> None:
    events = open_rag(DOCUMENTS).stream(QUESTION)
    next(event for event in events if isinstance(event, Finished))
    events.close()
    assert said(spans.named("ask"))["outcome"] == "answered"


def test_answers_that_are_written_in_turns_do_not_mix(open_rag: OpenRag, spans: Spans) -> None:
    rag = open_rag(DOCUMENTS)
    for _ in zip(rag.stream(QUESTION), rag.stream(QUESTION), strict=True):
        pass
    asks = [each for each in spans.all() if each.name == "ask"]
    assert len({ask.context.trace_id for ask in asks}) == 2
    assert [spans.below(ask) for ask in asks] == [["retrieve", "generate", "check"]] * 2


@pytest.mark.parametrize("wanted", [False, True])
def test_a_trace_holds_no_texts_unless_they_are_asked_for(open_rag: OpenRag, spans: Spans, wanted: bool) -> None:
    open_rag(DOCUMENTS, log_texts=wanted).answer(QUESTION)
    assert [text in spans.text() for text in TEXTS] == [wanted, wanted, False]
    assert said(spans.named("ask")).get("question") == (QUESTION if wanted else None)


def test_without_a_collector_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard variable is there for other programs: Footnote sends nothing because of it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    done = subprocess.run([sys.executable, "-c", OFF_BY_DEFAULT], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_a_collector_without_what_sends_to_it_is_one_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"pip install 'footnote\[otel\]'") as raised:
        start_tracing(settings.model_copy(update={"otlp_endpoint": "http://127.0.0.1:4318"}))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", "http:// x"])
def test_an_endpoint_is_the_address_of_a_web_server(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="otlp_endpoint"):
        Settings.load(otlp_endpoint=endpoint)


Start = Callable[[str], None]


@pytest.fixture
def start(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    monkeypatch.setattr(tracing, "PATIENCE", 30.0)
    yield lambda endpoint: start_tracing(settings.model_copy(update={"otlp_endpoint": endpoint}))
    stop_tracing()


@contextmanager
def collector(status: int = 200) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """A collector's address, and what it got: paths and bodies."""
    got: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", got
        finally:
            server.shutdown()
            thread.join(30)


def test_a_collector_gets_the_spans(open_rag: OpenRag, start: Start) -> None:
    with collector() as (address, got):
        start(address)
        open_rag(DOCUMENTS).answer(QUESTION)
        stop_tracing()
    ((path, body),) = got
    assert path == "/v1/traces"
    (told,) = ExportTraceServiceRequest.FromString(body).resource_spans
    names = [each.name for scope in told.scope_spans for each in scope.spans]
    assert {"ask", "retrieve", "generate", "check"} <= {*names}
    assert {each.key: each.value.string_value for each in told.resource.attributes}["service.name"] == "footnote"
    assert not [text for text in TEXTS if text.encode() in body]


@pytest.mark.parametrize("end", ["/", "/v1/traces"])
def test_the_address_of_a_collector_may_be_its_whole_one(start: Start, end: str) -> None:
    with collector() as (address, got):
        start(address + end)
        with span("ask"):
            pass
        stop_tracing()
    assert [path for path, _ in got] == ["/v1/traces"]


def test_after_the_end_nothing_is_traced(start: Start) -> None:
    with collector() as (address, got):
        start(address)
        stop_tracing()
        with span("ask") as ask:
            assert not ask.on
    assert got == []


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name.startswith("opentelemetry")]


def test_a_collector_that_cannot_be_reached_costs_no_answer(
    open_rag: OpenRag, start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "PATIENCE", 0.2)
    with collector() as (address, _):
        pass
    start(address)  # where nobody listens any more
    assert RENT in open_rag(DOCUMENTS).answer(QUESTION).text
    stop_tracing()
    assert complaints(caplog)
    assert len(complaints(caplog)) == len({*complaints(caplog)})


def test_a_collector_that_refuses_is_complained_of_once(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    with collector(404) as (address, got):
        start(address)
        for _ in range(2):
            with span("ask"):
                pass
            tracing._started[0].tracer.span_processor.force_flush()
        stop_tracing()
    assert len(got) == 2
    assert ["404" in line for line in complaints(caplog)] == [True]
