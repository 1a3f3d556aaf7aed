"""Several collections in one server: each below its own address, with its own documents, and one model for all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from threading import Event as Flag
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from ingest.catalog import Catalog
from rag.errors import IngestError
from rag.settings import Settings
from rag.store.opening import indexes
from tests.conftest import OpenRag, ParrotLLM, WordCountEmbedder, until
from ui import wire
from ui.api import create_app
from ui.desk import Desk
from ui.server.joblist import Job, JobList, now
from ui.server.queued import Queued
from ui.server.turns import Turns
from ui.server.uploads import Uploads
from ui.server.users import Users

HOST = "http://127.0.0.1:7860"
Json = dict[str, Any]


@pytest.fixture
def llm() -> ParrotLLM:
    return ParrotLLM()


@pytest.fixture
def api(open_rag: OpenRag, catalog: Catalog, llm: ParrotLLM) -> Iterator[TestClient]:
    """A server whose first collection holds one document."""
    app = create_app(open_rag({"a.md": "# Rent\n\nThe monthly rent is 900 euros.\n"}, llm), catalog)
    with TestClient(app, base_url=HOST) as client:
        yield client
    app.state.collections.close()


def make(api: TestClient, name: str) -> Json:
    response = api.post("/api/v1/collections", json={"name": name})
    assert response.status_code == 201, response.text
    return dict(response.json())


def bring(api: TestClient, at: str, name: str, text: str) -> None:
    """Upload a document, and wait until it is indexed."""
    sent = api.post(f"{at}/api/v1/documents", files={"files": (name, text.encode())})
    assert sent.status_code == 202, sent.text
    job = sent.json()["id"]
    until(lambda: api.get(f"{at}/api/v1/jobs/{job}").json()["state"] == "done")


def found(api: TestClient, at: str, question: str) -> list[str]:
    response = api.post(f"{at}/api/v1/search", json={"question": question})
    assert response.status_code == 200, response.text
    return [hit["text"] for hit in response.json()["hits"]]


def test_a_collection_is_made_filled_and_asked_behind_its_address(api: TestClient) -> None:
    made = make(api, "contracts")
    assert made == {"name": "contracts", "documents": 0, "passages": 0, "address": "/c/contracts"}
    bring(api, made["address"], "b.md", "# Deposit\n\nThe deposit is 1800 euros.\n")
    assert any("1800" in text for text in found(api, "/c/contracts", "deposit euros"))
    assert not any("900" in text for text in found(api, "/c/contracts", "monthly rent euros"))
    assert not any("1800" in text for text in found(api, "", "deposit euros"))
    listed = {row["name"]: row for row in api.get("/api/v1/collections").json()["collections"]}
    assert {name: (row["documents"], row["address"]) for name, row in listed.items()} == {
        "contracts": (1, "/c/contracts"),
        "default": (1, ""),
    }
    assert api.get("/c/contracts/api/v1/collections").json() == api.get("/api/v1/collections").json()


def test_one_model_answers_for_all_of_them(api: TestClient, llm: ParrotLLM) -> None:
    make(api, "contracts")
    bring(api, "/c/contracts", "b.md", "# Deposit\n\nThe deposit is 1800 euros.\n")
    answer = api.post("/c/contracts/api/v1/ask", json={"question": "How high is the deposit in euros?"}).json()
    assert "1800" in answer["answer"]
    assert answer["model"] == llm.name
    served = api.app.state.collections.served  # type: ignore[attr-defined]
    assert served[0].answers.turns is served[1].answers.turns  # one question at a time, whichever is asked


def test_one_reranker_orders_passages_for_all_of_them_and_for_evaluations(
    open_rag: OpenRag, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Backwards:
        """Likes shorter passages better."""

        def scores(self, question: str, texts: list[str]) -> Any:
            return np.array([-float(len(text)) for text in texts])

    opened: list[Backwards] = []
    monkeypatch.setattr("rag.models.open_reranker", lambda settings: opened.append(Backwards()) or opened[-1])
    rag = open_rag({"a.md": "# Rent\n\nThe monthly rent of the flat is 900 euros.\n", "b.md": "# R\n\nRent.\n"})
    assert rag.search("monthly rent of the flat", 2)[0].chunk.text.endswith("Rent.")
    measured = Queued(rag, rag.store, Turns(5), Flag())
    assert measured.search("monthly rent of the flat", 2) == rag.search("monthly rent of the flat", 2)
    rag.beside(rag.settings.model_copy(update={"collection": "contracts"}), create=True).close()
    assert len(opened) == 1


def test_conversations_belong_to_their_collection(api: TestClient) -> None:
    make(api, "contracts")
    bring(api, "/c/contracts", "b.md", "# Deposit\n\nThe deposit is 1800 euros.\n")
    api.post("/c/contracts/api/v1/ask", json={"question": "How high is the deposit?", "conversation": "new"})
    assert len(api.get("/c/contracts/api/v1/conversations").json()["conversations"]) == 1
    assert api.get("/api/v1/conversations").json()["conversations"] == []


def test_what_there_is_not_is_not_made_by_asking_for_it(api: TestClient, settings: Settings) -> None:
    for path in ("/c/nothing/api/v1/documents", "/c/nothing/", "/c/..%2f..%2fhome/api/v1/documents", "/c/-/x"):
        response = api.get(path)
        assert response.status_code == 404, path
        assert "\n" not in response.json()["error"]
    assert "there are: default" in api.get("/c/nothing/api/v1/documents").json()["error"]
    assert indexes(settings) == ["default"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "-x", "a b", "x" * 65, "ä"])
def test_bad_names_are_refused(api: TestClient, name: str) -> None:
    response = api.post("/api/v1/collections", json={"name": name})
    assert response.status_code == 422
    assert "name" in response.json()["error"]


def test_a_name_is_taken_once(api: TestClient) -> None:
    make(api, "contracts")
    for name in ("contracts", "default"):
        response = api.post("/api/v1/collections", json={"name": name})
        assert response.status_code == 409
        assert name in response.json()["error"]


def test_a_deleted_one_leaves_nothing_and_can_be_made_again(
    api: TestClient, catalog: Catalog, settings: Settings
) -> None:
    make(api, "contracts")
    make(api, "contracts-2")
    for at, text in (("/c/contracts", "The deposit is 1800 euros."), ("/c/contracts-2", "The fee is 70 euros.")):
        bring(api, at, "b.md", f"# Money\n\n{text}\n")
        api.post(f"{at}/api/v1/ask", json={"question": "How many euros?", "conversation": "new"})
    bring(api, "/c/contracts", "broken.pdf", "%PDF-1.7 no more than this")
    assert (settings.home / "quarantine" / "contracts.jsonl").is_file()

    assert api.delete("/api/v1/collections/contracts").status_code == 204
    assert indexes(settings) == ["contracts-2", "default"]
    assert [row["name"] for row in api.get("/api/v1/collections").json()["collections"]] == ["contracts-2", "default"]
    assert api.get("/c/contracts/api/v1/documents").status_code == 404
    assert catalog.rows("contracts") == []
    assert not (settings.home / "uploads" / "contracts").exists()
    assert not (settings.home / "quarantine" / "contracts.jsonl").exists()
    assert [path for path in settings.home.rglob("*") if path.is_file() and b"1800 euros" in path.read_bytes()] == []

    make(api, "contracts")
    assert api.get("/c/contracts/api/v1/jobs").json()["jobs"] == []
    assert api.get("/c/contracts/api/v1/conversations").json()["conversations"] == []
    assert found(api, "/c/contracts", "deposit euros") == []
    assert any("70" in text for text in found(api, "/c/contracts-2", "fee euros"))
    assert len(api.get("/c/contracts-2/api/v1/conversations").json()["conversations"]) == 1


def test_a_deletion_that_failed_on_the_way_can_be_asked_for_again(
    api: TestClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(api, "contracts")
    bring(api, "/c/contracts", "b.md", "# Deposit\n\nThe deposit is 1800 euros.\n")

    def refuse(self: Uploads) -> None:
        raise IngestError("the uploads cannot be changed")

    with monkeypatch.context() as patch:
        patch.setattr(Uploads, "clear", refuse)
        assert api.delete("/api/v1/collections/contracts").status_code >= 400
    assert "contracts" in [row["name"] for row in api.get("/api/v1/collections").json()["collections"]]
    assert api.delete("/api/v1/collections/contracts").status_code == 204
    assert not (settings.home / "uploads" / "contracts").exists()
    assert [row["name"] for row in api.get("/api/v1/collections").json()["collections"]] == ["default"]


def test_what_goes_on_in_one_is_stopped_when_it_is_deleted(api: TestClient) -> None:
    make(api, "contracts")
    many = [("files", (f"{number}.md", f"# {number}\n\nText number {number}.\n".encode())) for number in range(300)]
    api.post("/c/contracts/api/v1/documents", files=many).raise_for_status()
    until(lambda: api.get("/c/contracts/healthz").json()["passages"] > 0)
    assert api.delete("/c/contracts/api/v1/collections/contracts").status_code == 204
    assert [row["name"] for row in api.get("/api/v1/collections").json()["collections"]] == ["default"]


def test_what_cannot_be_deleted_is_as_it_was(
    api: TestClient, settings: Settings, catalog: Catalog, embedder: WordCountEmbedder
) -> None:
    from rag.store.opening import open_store

    for name, status in (("default", 409), ("nothing", 404), ("-x", 404)):
        assert api.delete(f"/api/v1/collections/{name}").status_code == status, name
    other = settings.model_copy(update={"collection": "taken"})
    with closing(open_store(other, embedder, create=True)):
        response = api.delete("/api/v1/collections/taken")
        assert response.status_code == 503
        assert "is in use by" in response.json()["error"]
    assert indexes(settings) == ["default", "taken"]
    assert len(catalog.rows("default")) == 1
    assert api.delete("/api/v1/collections/taken").status_code == 204  # though this server never opened it


def test_the_first_one_has_one_address(api: TestClient) -> None:
    response = api.post("/c/default/api/v1/search?x=1", json={"question": "rent"}, follow_redirects=False)
    assert response.status_code == 307
    assert response.headers["location"] == "/api/v1/search?x=1"
    assert api.get("/c/contracts", follow_redirects=False).headers["location"] == "/c/contracts/"


def test_one_that_another_process_has_open_is_named(
    api: TestClient, settings: Settings, embedder: WordCountEmbedder
) -> None:
    from rag.store.opening import open_store

    other = settings.model_copy(update={"collection": "taken"})
    store = open_store(other, embedder, create=True)
    response = api.get("/c/taken/api/v1/documents")
    assert response.status_code == 503
    assert "is in use by" in response.json()["error"]
    store.close()
    assert api.get("/c/taken/api/v1/documents").status_code == 200  # it is tried again


def test_jobs_that_a_restart_cut_short_go_on_in_every_collection(
    open_rag: OpenRag, catalog: Catalog, tmp_path: Path
) -> None:
    rag = open_rag({"a.md": "# A\n\nText.\n"})
    (tmp_path / "b.md").write_text("# B\n\nThe fee is 7 euros.\n")
    rag.beside(rag.settings.model_copy(update={"collection": "contracts"}), create=True).close()
    jobs = JobList.open(rag.settings.home / "jobs.db")
    jobs.add(Job("f00", "contracts", "ingest", (str(tmp_path / "b.md"),), False, (), "", created=now()))
    jobs.close()
    app = create_app(rag, catalog)
    with TestClient(app, base_url=HOST):
        until(lambda: [document.status for document in catalog.documents("contracts")] == ["indexed"])
    app.state.collections.close()


def test_roles_hold_below_every_address(open_rag: OpenRag, catalog: Catalog) -> None:
    rag = open_rag({"a.md": "# A\n\nText.\n"}, auth=True)
    users = Users(rag.settings.home)
    key = users.make_key("script", "reader")
    app = create_app(rag, catalog)
    reader = {"Authorization": f"Bearer {key}"}
    with TestClient(app, base_url=HOST) as client:
        assert client.get("/c/default/api/v1/documents").status_code == 401
        assert client.get("/c/other/healthz", follow_redirects=False).status_code == 303  # nothing opened for strangers
        assert client.post("/api/v1/collections", json={"name": "x"}, headers=reader).status_code == 403
        assert client.delete("/api/v1/collections/x", headers=reader).status_code == 403
        for at in ("", "/c/other"):
            assert client.get(f"{at}/metrics", headers=reader).status_code == 403
            refused = client.post(f"{at}/api/v1/documents", files={"files": ("b.md", b"x")}, headers=reader)
            assert refused.status_code == 403
        searched = client.post("/c/other/api/v1/search", json={"question": "x"}, headers=reader)
        assert searched.status_code == 404  # allowed, but there is none
    app.state.collections.close()


def test_work_for_another_collection_is_handed_in_behind_its_address(
    open_rag: OpenRag, catalog: Catalog, settings: Settings
) -> None:
    from rag.store.edge import EdgeStore
    from rag.store.opening import index_directory

    rag = open_rag({"a.md": "# A\n\nText.\n"})
    app = create_app(rag, catalog, Desk(rag, catalog, "secret"), url=HOST)
    with TestClient(app, base_url=HOST) as client:
        make(client, "contracts")
        owner = EdgeStore.owner(index_directory(settings.model_copy(update={"collection": "contracts"})))
        assert owner is not None
        assert (owner.url, owner.token) == (f"{HOST}/c/contracts", "secret")
        path = f"/c/contracts{wire.REMOVE}"
        answer = client.post(path, json={"docs": []}, headers={wire.TOKEN: "secret"})
        assert answer.json() == {"removed": []}
        assert client.post(path, json={"docs": []}).status_code == 403
    app.state.collections.close()
