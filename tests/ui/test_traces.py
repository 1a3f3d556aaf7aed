"""Traces of the server: whose trace a request belongs to, and what becomes of questions that wait, stop or fail."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ingest.catalog import Catalog
from rag.errors import Busy
from rag.types import Piece
from tests.conftest import ROOT, OpenRag, ParrotLLM
from tests.traces import Spans, said
from ui.api import create_app
from ui.server.answers import Answers, Asked, Waiting
from ui.server.served import Served

RENT = "The monthly rent of the flat is 900 euros."
DOCUMENTS = {"lease.md": f"# Rent\n\n{RENT}\n"}
ASKED = Asked("monthly rent of the flat")
BODY = {"question": ASKED.question}
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
OFF_BY_DEFAULT = """
import sys
import ui.api, ui.serving
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
Open = Callable[..., TestClient]


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Spans:
    return Spans(monkeypatch)


@pytest.fixture
def client(open_rag: OpenRag, catalog: Catalog) -> Open:
    def open_(llm: ParrotLLM | None = None, **changes: object) -> TestClient:
        return TestClient(create_app(open_rag(DOCUMENTS, llm, **changes), catalog), base_url="http://127.0.0.1:7860")

    return open_


def parent(sampled: str = "01") -> dict[str, str]:
    return {"traceparent": f"00-{TRACE}-{CALLER}-{sampled}"}


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_is_a_part_of_the_trace_that_its_header_names(client: Open, spans: Spans, stream: bool) -> None:
    sent = parent() | {"x-request-id": "from-proxy.7"}
    assert client().post("/api/v1/ask", json={**BODY, "stream": stream}, headers=sent).status_code == 200
    request, ask = spans.named("POST /api/v1/ask"), spans.named("ask")
    assert request.parent is not None
    assert f"{request.context.trace_id:032x}" == f"{ask.context.trace_id:032x}" == TRACE
    assert f"{request.parent.span_id:016x}" == CALLER
    assert spans.below(request) == ["ask"]
    assert spans.below(ask) == ["retrieve", "wait", "generate", "check"]
    assert said(request) == {"request_id": "from-proxy.7"}
    assert dict(request.attributes or {}).items() >= {
        ("http.request.method", "POST"),
        ("http.route", "/api/v1/ask"),
        ("http.response.status_code", 200),
    }


def test_a_request_without_a_trace_begins_one(client: Open, spans: Spans) -> None:
    api = client()
    for headers in ({}, {"traceparent": "00-nonsense"}):
        api.post("/api/v1/ask", json=BODY, headers=headers)
    requests = [each for each in spans.all() if each.name == "POST /api/v1/ask"]
    assert [each.parent for each in requests] == [None, None]
    assert len({each.context.trace_id for each in requests}) == 2


def test_a_caller_that_records_nothing_is_not_recorded(client: Open, spans: Spans) -> None:
    client().post("/api/v1/ask", json=BODY, headers=parent(sampled="00"))
    assert not {each.name for each in spans.all()} & {"POST /api/v1/ask", "ask", "retrieve", "generate"}


def test_only_requests_of_the_api_have_spans(client: Open, spans: Spans) -> None:
    api = client()
    for path in ("/healthz", "/metrics", "/api/v1/documents"):
        api.get(path)
    assert [each.name for each in spans.all() if each.name.startswith("GET")] == ["GET /api/v1/documents"]


def test_a_question_of_a_later_request_is_not_below_an_earlier_one(
    open_rag: OpenRag, catalog: Catalog, spans: Spans
) -> None:
    rag = open_rag(DOCUMENTS)
    api = TestClient(create_app(rag, catalog), base_url="http://127.0.0.1:7860")
    api.post("/api/v1/ask", json=BODY, headers=parent())
    rag.answer("flat rent")
    first, second = [each for each in spans.all() if each.name == "ask"]
    assert (first.parent is None, second.parent is None) == (False, True)
    assert first.context.trace_id != second.context.trace_id


def test_a_bad_request_is_no_failure_and_a_failed_answer_is_one(client: Open, spans: Spans) -> None:
    api = client(ParrotLLM(fails="out of memory"))
    api.post("/api/v1/ask", json={"k": 0})
    api.post("/api/v1/ask", json=BODY)
    bad, failed = [each for each in spans.all() if each.name == "POST /api/v1/ask"]
    assert said(bad).get("outcome") is None
    assert said(failed)["outcome"] == "failed"
    assert said(spans.named("ask"))["outcome"] == "failed"
    assert "memory" not in spans.text()


def told(answers: Answers, asked: Asked = ASKED, client: str = "a") -> list[Any]:
    return list(answers.stream(asked, client))


def test_an_answer_from_the_cache_says_so(open_rag: OpenRag, catalog: Catalog, spans: Spans) -> None:
    answers = Served.of(open_rag(DOCUMENTS), catalog).answers
    told(answers)
    told(answers)
    first, again = [each for each in spans.all() if each.name == "ask"]
    assert said(first) == {"cached": False, "outcome": "answered", "model": "parrot", "passages": 1}
    assert said(again) == {**said(first), "cached": True}
    assert (spans.below(first), spans.below(again)) == (["retrieve", "wait", "generate", "check"], [])


def test_who_goes_away_while_waiting_stops_there(open_rag: OpenRag, catalog: Catalog, spans: Spans) -> None:
    answers = Served.of(open_rag(DOCUMENTS), catalog).answers
    held = answers.stream(ASKED, "a")
    next(each for each in held if isinstance(each, Piece))
    waits = answers.stream(Asked("rent of the flat"), "b")
    next(each for each in waits if isinstance(each, Waiting))
    waits.close()
    (ask,) = [each for each in spans.all() if each.name == "ask"]
    assert spans.below(ask) == ["retrieve", "wait"]
    assert said(ask)["outcome"] == "stopped"
    assert [said(each)["outcome"] for each in spans.all() if each.name == "wait" and "outcome" in said(each)] == [
        "stopped"
    ]
    closing = threading.Thread(target=held.close)
    closing.start()
    closing.join(30)
    assert [said(each)["outcome"] for each in spans.all() if each.name == "ask"] == ["stopped", "stopped"]
    assert said(spans.named("generate"))["outcome"] == "stopped"


def test_an_answer_that_takes_too_long_failed(open_rag: OpenRag, catalog: Catalog, spans: Spans) -> None:
    with pytest.raises(Busy):
        told(Served.of(open_rag(DOCUMENTS, answer_seconds=1e-9), catalog).answers)
    assert said(spans.named("ask"))["outcome"] == "failed"
    assert (spans.named("ask").attributes or {})["error.type"] == "Busy"


@pytest.mark.parametrize("wanted", [False, True])
def test_a_trace_of_the_server_holds_no_texts_unless_they_are_asked_for(
    client: Open, spans: Spans, wanted: bool
) -> None:
    api = client(log_texts=wanted)
    for _ in range(2):  # the second one from the cache
        api.post("/api/v1/ask", json=BODY)
    api.get("/api/v1/documents", params={"q": "flat"})
    assert [text in spans.text() for text in ("monthly", "euros", "lease", "q=flat")] == [wanted, wanted, False, False]
    asks = [each for each in spans.all() if each.name == "ask"]
    assert [said(each).get("question") for each in asks] == [ASKED.question if wanted else None] * 2


def test_a_server_without_a_collector_loads_nothing_for_it() -> None:
    done = subprocess.run([sys.executable, "-c", OFF_BY_DEFAULT], cwd=ROOT, capture_output=True, text=True)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr
