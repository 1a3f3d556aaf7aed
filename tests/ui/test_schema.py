"""The API against its own description: schemathesis asks every route of it, and checks what it is told.

The servers run on the fakes and without sockets. Half of the requests name what there really is: a document, a
conversation, a job that is done. They are the same in every run of this file.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as examined
from hypothesis import strategies as st
from schemathesis import BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.settings import Settings
from rag.store.opening import open_store
from tests.conftest import ParrotLLM, WordChecker, WordCountEmbedder
from tests.ingest.inline import Bench
from tests.ingest.test_parse import lines, pdf
from ui.api import create_app
from ui.server.users import Users
from ui.workplace import Here

CHANGING = [
    "POST /api/v1/search",
    "POST /api/v1/ask",
    "POST /v1/chat/completions",
    "DELETE /api/v1/conversations",
    "PATCH /api/v1/conversations/{conversation}",
    "DELETE /api/v1/conversations/{conversation}",
    "POST /api/v1/feedback",
    "POST /api/v1/documents",
    "DELETE /api/v1/documents/{doc_id}",
    "POST /api/v1/jobs",
    "POST /api/v1/jobs/{job_id}/stop",
    "POST /api/v1/jobs/{job_id}/retry",
    "POST /api/v1/collections",
    "DELETE /api/v1/collections/{name}",
    "POST /api/v1/evaluations",
    "POST /api/v1/evaluations/{evaluation}/stop",
]
"""Everything but reading: each on a server of its own."""
REMOVAL, STOP = "DELETE /api/v1/documents/{doc_id}", "POST /api/v1/jobs/{job_id}/stop"
DELETION = "DELETE /api/v1/collections/{name}"
OPEN = {"/healthz", "/readyz"}
"""What is told to everybody."""
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
]
HOST = "127.0.0.1:7860"
CONFIG = {
    "base-url": f"http://{HOST}",
    "analysis": {"constants": {"enabled": False}},  # else what is asked depends on our sources
}
RENT = "The monthly rent of the flat is 900 euros."
QUESTION = "What is the monthly rent of the flat?"
SET = "rent.jsonl"


class Local:
    """The application, asked by programs of its own machine. Who made it starts and ends what runs beside it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "nothing else is served"
        await self._app({**scope, "client": ("127.0.0.1", 50_000)}, receive, send)


@dataclass(frozen=True)
class House:
    """A server with two documents, asked by schemathesis."""

    app: FastAPI
    folder: Path

    @property
    def labels(self) -> list[str]:
        """Every operation of the description."""
        return [f"{method.upper()} {path}" for path, item in self.app.openapi()["paths"].items() for method in item]

    def described(self, key: str = "") -> BaseSchema:
        """The description, as it is told to whoever has this API key."""
        headers = {"Host": HOST, "Authorization": f"Bearer {key}"}
        config = schemathesis.Config.from_dict(CONFIG)
        return schemathesis.openapi.from_asgi("/api/openapi.json", Local(self.app), config=config, headers=headers)

    def known(self, label: str = "") -> dict[str, Any]:
        """What is really there, by the names that parameters and fields have."""
        api, writing = TestClient(self.app, f"http://{HOST}"), self.app.state.served.desk.writing
        done = self.uploaded(api, "rooms.md")
        asyncio.run(self.app.state.served.jobs.settled(done, 60))
        if label != REMOVAL:  # nothing more is carried out, so that no job runs into the next test
            assert writing.acquire(timeout=60)
        answer = api.post("/api/v1/ask", json={"question": QUESTION, "conversation": "new"}).json()
        note = answer["sentences"][0]["citations"][0]
        documents = {each["name"]: each["id"] for each in api.get("/api/v1/documents").json()["documents"]}
        return {
            "question": QUESTION,
            "messages": [{"role": "user", "content": QUESTION}],
            "filter": {"documents": ["lease.pdf"]},
            "conversation": answer["conversation"],
            "turn": answer["turn"],
            "doc_id": documents["lease.pdf"],
            "page": note["page"],
            "width": 400,
            "start": note["start"],
            "end": note["end"],
            "job_id": self.uploaded(api, "later.md") if label == STOP else done,
            "paths": [str(self.folder)],
            "files": [b"# Pool\n\nThe pool opens at nine.\n"],
            "metadata": ["project=Aurora"],
            "evaluation": self.evaluated(),
            "set": SET,
            "name": self.collection(api) if label == DELETION else "footnote",
        }

    def collection(self, api: TestClient) -> str:
        """Another collection."""
        return str(api.post("/api/v1/collections", json={"name": "spare"}).json()["name"])

    def evaluated(self) -> str:
        """An evaluation that is finished."""
        evaluations = self.app.state.served.evaluations
        *_, last = evaluations.watch(evaluations.start(SET).id)
        assert last.evaluation.state == "finished"
        return str(last.evaluation.id)

    def uploaded(self, api: TestClient, name: str) -> str:
        """A job that ingests a file."""
        answer = api.post("/api/v1/documents", files=[("files", (name, b"The flat has two rooms."))])
        return str(answer.json()["id"])


Serve = Callable[..., House]


@pytest.fixture
def serve(
    settings: Settings,
    embedder: WordCountEmbedder,
    catalog: Catalog,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Serve]:
    """Serves a collection with these settings; its jobs read documents in this process."""
    opened: list[tuple[FastAPI, Rag]] = []

    def serve_(**changes: object) -> House:
        chosen = settings.model_copy(update=changes)
        store = open_store(chosen, embedder, create=True)
        rag = Rag(chosen, embedder, store, ParrotLLM(RENT), WordChecker())
        bench = Bench(chosen, embedder, store, catalog, tmp_path / "documents")
        monkeypatch.setattr(Here, "begin", lambda _here: bench.begin())
        bench.write("lease.pdf", pdf(lines("The flat is let furnished.", RENT, "It is due on the first.")))
        bench.write("notes.md", "# House\n\nPets are welcome.\n")
        bench.run()
        sets = chosen.home / "sets"
        sets.mkdir()
        (sets / SET).write_text(json.dumps({"id": "1", "question": QUESTION, "answers": ["900 euros"]}) + "\n")
        app = create_app(rag, catalog)
        app.state.served.jobs.start()
        opened.append((app, rag))
        return House(app, bench.folder)

    yield serve_
    for app, rag in opened:
        asyncio.run(app.state.collections.leave())
        app.state.collections.close()
        rag.close()


def requests(schema: BaseSchema, label: str) -> st.SearchStrategy[Case[Any]]:
    """Those that fit the description of a route, and others that do not."""
    method, path = label.split()
    operation = schema[path][method]
    return operation.as_strategy() | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


def examples(most: int) -> examined:
    """So many; what fails first is told as it was asked, since the server has changed since."""
    return examined(
        max_examples=most,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )


def put_in(case: Case[Any], known: dict[str, Any]) -> None:
    """Give the parameters and fields of a request that are there the values that are known."""
    for part in ("path_parameters", "query", "body"):
        given_ = getattr(case, part)
        if isinstance(given_, dict):
            setattr(case, part, {name: known.get(name, value) for name, value in given_.items()})


def examine(schema: BaseSchema, label: str, known: dict[str, Any]) -> None:
    """Ask a route, with what is known in half of the requests, and check what it answers."""
    statuses = set()

    @examples(24)
    @given(requests(schema, label), st.booleans())
    def ask(case: Case[Any], real: bool) -> None:
        if real:
            put_in(case, known)
        statuses.add(case.call_and_validate(checks=CHECKS).status_code)

    ask()
    assert statuses - {400, 404, 422}, f"{label} never came to what there is, only {statuses}"


@pytest.mark.slow
def test_what_is_read_is_as_it_is_described(serve: Serve) -> None:
    house = serve()
    known, schema = house.known(), house.described()
    for label in house.labels:
        if label.startswith("GET "):
            examine(schema, label, known)


@pytest.mark.slow
@pytest.mark.parametrize("label", CHANGING)
def test_what_a_change_answers_is_as_it_is_described(serve: Serve, label: str) -> None:
    house = serve()
    examine(house.described(), label, house.known(label))


@pytest.mark.slow
def test_no_change_is_left_out(serve: Serve) -> None:
    changing = [label for label in serve().labels if not label.startswith("GET ")]
    assert sorted(changing) == sorted(CHANGING), "CHANGING has to list every route that is described"


@pytest.mark.slow
def test_who_is_not_signed_in_is_refused_as_it_is_described(serve: Serve, settings: Settings) -> None:
    house = serve(auth=True)
    schema = house.described(Users(settings.home).make_key("ana", "editor"))
    unknown = st.sampled_from([{}, {"Authorization": "Bearer fn_unknown"}, {"Cookie": "footnote=forged"}])
    for label in house.labels:

        @examples(10)
        @given(requests(schema, label), unknown)
        def ask(case: Case[Any], headers: dict[str, str]) -> None:
            status = case.call_and_validate(headers=headers, checks=CHECKS).status_code
            assert status in ({200} if case.path in OPEN else {401, 403})

        ask()
