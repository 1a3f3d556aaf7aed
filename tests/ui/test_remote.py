"""The client of the REST API over a real server on loopback: what it gives is what `Rag` gives."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.errors import FilterError, FootnoteError, LLMError, QuestionError, StoreUnreachable
from rag.filter import Filter
from rag.types import Answer, Finished, Message, Timings
from tests.conftest import OpenRag, ParrotLLM
from ui import terminal
from ui.api import create_app
from ui.desk import Desk
from ui.remote import Remote

RENT = "The monthly rent of the flat is 900 euros."
QUESTION = "monthly rent of the flat"


@pytest.fixture
def rag(open_rag: OpenRag) -> Rag:
    return open_rag({"lease.md": f"# Rent\n\n{RENT}\n", "pool.md": "# Pool\n\nThe pool opens at nine.\n"}, LLM)


LLM = ParrotLLM(f"{RENT} Zebras juggle quartz vigorously.")


@pytest.fixture
def remote(rag: Rag, catalog: Catalog) -> Iterator[Remote]:
    LLM.fails = ""
    with serving(create_app(rag, catalog)) as url:
        yield Remote(url)


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    app.state.collections.close()


def comparable(answer: Answer) -> Any:
    """Without the times, and what no JSON holds: ids, and the rank in each retriever's list."""
    hits = tuple((hit.chunk.doc, hit.chunk.start, hit.chunk.text, round(hit.score, 5)) for hit in answer.hits)
    return replace(answer, timings=Timings(0.0), hits=()), hits


def test_an_answer_is_the_same_as_the_packages(remote: Remote, rag: Rag) -> None:
    assert comparable(remote.answer(QUESTION)) == comparable(rag.answer(QUESTION))
    history = (Message("user", "What is the monthly rent of the flat?"), Message("assistant", RENT))
    within = Filter(types=("md",), until=date(2999, 1, 1), documents=("lease.md",))
    asked: Any = ("And when is it due?", history, within, "drop")
    full = replace(within, documents=tuple(doc.doc for doc in catalog_documents(rag) if doc.doc.endswith("lease.md")))
    assert comparable(remote.answer(*asked)) == comparable(rag.answer(asked[0], history, full, "drop"))


def catalog_documents(rag: Rag) -> Any:
    return Catalog.open(rag.settings.home / "catalog.sqlite").documents(rag.settings.collection)


def test_commands_beside_a_server_with_a_sign_in_are_answered(open_rag: OpenRag, catalog: Catalog) -> None:
    rag = open_rag({"lease.md": f"# Rent\n\n{RENT}\n"}, LLM, auth=True)
    with serving(create_app(rag, catalog, Desk(rag, catalog, "secret"))) as url:
        assert Remote(url, token="secret").search("rent", 1)[0].chunk.text.endswith(RENT)
        for stranger in (Remote(url), Remote(url, token="guessed"), Remote(url, "fn_unknown")):
            with pytest.raises(FootnoteError, match=r"sign in|API key"):
                stranger.search("rent", 1)


def test_a_collection_is_asked_behind_its_address(rag: Rag, catalog: Catalog) -> None:
    rag.beside(rag.settings.model_copy(update={"collection": "empty"}), create=True).close()
    with serving(create_app(rag, catalog)) as url:
        assert Remote(url).search("rent", 1)
        assert Remote(f"{url}/c/empty").search("rent", 1) == []


def test_events_come_in_the_order_of_the_packages(remote: Remote) -> None:
    kinds = [type(event).__name__ for event in remote.stream(QUESTION)]
    assert (kinds[0], kinds[-1]) == ("Retrieved", "Finished")
    assert {"Piece", "Checked"} <= set(kinds)


def test_passages_are_the_same_as_the_packages(remote: Remote, rag: Rag) -> None:
    found = [(hit.chunk.doc, hit.chunk.text, round(hit.score, 5)) for hit in remote.search(QUESTION, 2)]
    assert found == [(hit.chunk.doc, hit.chunk.text, round(hit.score, 5)) for hit in rag.search(QUESTION, 2)]
    assert "#0" not in terminal.hits(remote.search(QUESTION, 2)), "the API tells no ranks"


def test_who_stops_reading_stops_the_answer(remote: Remote) -> None:
    LLM.stopped = False
    events = remote.stream("rent of the flat")
    next(event for event in events if type(event).__name__ == "Piece")
    events.close()  # type: ignore[attr-defined]
    assert isinstance(list(remote.stream(QUESTION))[-1], Finished), "the next one has its turn"
    assert LLM.stopped


def test_errors_are_those_of_the_package(remote: Remote) -> None:
    with pytest.raises(QuestionError, match="empty"):
        remote.answer(" ")
    with pytest.raises(FilterError, match="the type 'pdf'"):
        remote.search("rent", 1, Filter(types=("pdf",)))
    LLM.fails = "out of memory"
    with pytest.raises(LLMError, match="out of memory"):
        remote.answer("flat rent")


def test_no_server_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with pytest.raises(StoreUnreachable, match="is it running"):
        Remote(url).answer("rent")
