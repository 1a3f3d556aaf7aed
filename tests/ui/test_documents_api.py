"""Documents and jobs over HTTP: what is listed, uploaded, removed and told."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.types import ASGIApp, Receive, Scope, Send

from ingest.catalog import Catalog, Row
from ingest.discover import discover, doc_id_of
from ingest.progress import Progress
from ingest.results import FileResult, Summary
from rag.filter import Pairs
from rag.settings import Settings
from ui.server import document_models as models
from ui.server import documents
from ui.server.access import IDENTITY, Identity
from ui.server.documents import router, sent
from ui.server.jobs import Jobs
from ui.server.jobwatch import Event
from ui.server.problems import tell_problems
from ui.server.uploads import Uploads

DOCUMENTS, JOBS = "/api/v1/documents", "/api/v1/jobs"
Json = dict[str, Any]


class QuickPlace:
    """Enters files into the catalog without reading them, one by one, and waits before each until it is let go.

    One whose name begins with `bad` fails.
    """

    note = ""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog, self.asked, self.go_on = catalog, threading.Event(), threading.Event()
        self.go_on.set()

    def begin(self) -> QuickRun:
        return QuickRun(self)

    def remove(self, docs: Sequence[str]) -> list[str]:
        found = [doc for doc in docs if self.catalog.get("default", doc)]
        for doc in found:
            self.catalog.remove("default", doc)
        return found


class QuickRun:
    def __init__(self, place: QuickPlace) -> None:
        self.place, self.summary, self.stopped = place, Summary(), False

    def run(self, paths: Sequence[Path], _prune: bool = False, metadata: Pairs = ()) -> Iterator[FileResult]:
        for found in discover(paths):
            self.place.asked.set()
            assert self.place.go_on.wait(60)
            if self.stopped:
                self.summary.interrupted = True
                return
            status = "failed" if found.path.name.startswith("bad") else "indexed"
            given = json.dumps(metadata)
            row = row_of(str(found.path), status=status, size=found.size, given=given)
            self.place.catalog.put("default", row)
            result = FileResult(row.doc, status, row.pages, row.chunks, row.stage, row.reason)
            self.summary.add(result)
            yield result

    def stop(self) -> None:
        self.stopped = True

    def progress(self) -> Progress:
        return Progress(self.summary.seen, 3, 0, 0, 0.0, None, ())


def row_of(doc: str, **changes: Any) -> Row:
    failed = changes.get("status") == "failed"
    fields: Json = {
        "doc_id": doc_id_of(Path(doc)),
        "title": Path(doc).stem,
        "sha256": "0" * 64,
        "size": 10,
        "mtime_ns": 0,
        "status": "indexed",
        "pages": 0 if failed else 1,
        "chunks": 0 if failed else 2,
        "stage": "parse" if failed else "",
        "reason": "the file is empty" if failed else "",
    }
    return Row(doc, **{**fields, **changes})


@pytest.fixture
def place(catalog: Catalog) -> Iterator[QuickPlace]:
    found = QuickPlace(catalog)
    yield found
    found.go_on.set()


@pytest.fixture
def uploads(settings: Settings) -> Uploads:
    return Uploads(settings.home, "default", max_mb=1, max_files=3)


@pytest.fixture
def jobs(settings: Settings, catalog: Catalog, place: QuickPlace, uploads: Uploads) -> Iterator[Jobs]:
    found = Jobs(settings, catalog, place, Lock(), uploads.discard)
    found.start()
    yield found
    place.go_on.set()
    found.close()


Open = Callable[..., TestClient]


class SignedIn:
    """Says who asks, as the server's access check does."""

    def __init__(self, app: ASGIApp, who: str) -> None:
        self.app, self.who = app, who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, IDENTITY: Identity(self.who, "editor")}, receive, send)


@pytest.fixture
def opened(jobs: Jobs, uploads: Uploads, catalog: Catalog) -> Open:
    """Opens the API for someone at an address."""

    def open_(local: bool = True, host: str = "127.0.0.1", who: str = "ana") -> TestClient:
        app = FastAPI()

        app.add_middleware(SignedIn, who=who)
        tell_problems(app)
        app.include_router(router(jobs, uploads, catalog, local))
        return TestClient(app, base_url="http://127.0.0.1:7860", client=(host, 50_000))

    return open_


@pytest.fixture
def api(opened: Open) -> TestClient:
    return opened()


def files(*names: str, content: bytes = b"The rent is 900 euros.") -> list[tuple[str, tuple[str, bytes]]]:
    return [("files", (name, content)) for name in names]


def over(api: TestClient, jobs: Jobs, job: Json) -> Json:
    asyncio.run(jobs.settled(job["id"], 60))
    found: Json = api.get(f"{JOBS}/{job['id']}").json()
    assert found["state"] in ("done", "failed", "stopped")
    return found


def uploaded(api: TestClient, jobs: Jobs, *names: str) -> Json:
    answer = api.post(DOCUMENTS, files=files(*names))
    assert answer.status_code == 202, answer.text
    return over(api, jobs, answer.json())


def events_of(text: str) -> list[Json]:
    """The events of a stream, parsed as a browser does."""
    found = []
    for block in text.split("\n\n"):
        lines = [line.partition(": ") for line in block.splitlines() if not line.startswith(":")]
        event = {name: value for name, _, value in lines}
        if "event" in event:
            found.append({**event, "data": json.loads(event["data"])})
    return found


def problem(answer: Any, status: int, kind: str) -> str:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error", "kind"}
    assert answer.json()["kind"] == kind
    error: str = answer.json()["error"]
    assert "\n" not in error
    return error


def test_an_upload_is_ingested(api: TestClient, jobs: Jobs, uploads: Uploads) -> None:
    sent_files = files("flat/lease.md", "bad.txt")
    answer = api.post(DOCUMENTS, files=sent_files, data={"metadata": ["project=Aurora", "project=Borealis"]})
    assert answer.status_code == 202
    assert (answer.json()["kind"], answer.json()["who"]) == ("ingest", "ana")
    job = over(api, jobs, answer.json())
    assert job["names"] == [str(uploads.root / "flat" / "lease.md"), str(uploads.root / "bad.txt")]
    assert job["counts"]["files"] == {"seen": 2, "indexed": 1, "unchanged": 0, "removed": 0, "failed": 1}
    assert job["progress"]["files"] == 2
    assert [result["status"] for result in job["results"]] == ["indexed", "failed"]
    bad, lease = api.get(DOCUMENTS).json()["documents"]
    assert (lease["name"], lease["uploaded"], lease["status"]) == ("flat/lease.md", True, "indexed")
    assert lease["metadata"] == {"project": ["Aurora", "Borealis"]}
    assert (bad["name"], bad["status"], bad["reason"]) == ("bad.txt", "failed", "the file is empty")


def test_documents_are_found_sorted_and_counted(api: TestClient, catalog: Catalog) -> None:
    mail = row_of("/own/mail.eml", size=500, members=1, chunks=3, updated_at="1999-01-01T00:00:00+00:00")
    inside = row_of("/own/mail.eml/Report 7.pdf", size=400, parent=mail.doc, pages=9)
    catalog.put("default", mail, inside, row_of("/own/Lease.md", title="Rental  Agreement"))
    catalog.put("default", row_of("/own/bad.txt", status="failed"))
    catalog.put("letters", row_of("/own/letter.txt"))
    found = api.get(DOCUMENTS).json()
    assert [Path(d["doc"]).name for d in found["documents"]] == ["bad.txt", "Lease.md", "mail.eml", "Report 7.pdf"]
    assert found["totals"] == {"documents": 4, "chunks": 7, "bytes": 520, "failed": 1}
    assert found["documents"][3]["parent"] == mail.doc

    def names(**query: Any) -> list[str]:
        return [Path(d["doc"]).name for d in api.get(DOCUMENTS, params=query).json()["documents"]]

    assert names(status="failed") == ["bad.txt"]
    assert names(search="rental agreement") == ["Lease.md"]
    assert names(search="REPORT") == ["Report 7.pdf"]
    assert names(sort="size", descending=True, limit=2) == ["mail.eml", "Report 7.pdf"]
    assert names(sort="pages", descending=True, offset=1, limit=1) == ["Lease.md"]
    assert names(sort="updated")[0] == "mail.eml"
    assert names(sort="chunks")[0] == "bad.txt"
    assert api.get(DOCUMENTS, params={"search": "own", "limit": 1}).json()["found"] == 4
    one = api.get(f"{DOCUMENTS}/{mail.doc_id}").json()
    assert (one["doc"], one["uploaded"], [d["doc"] for d in one["inside"]]) == (mail.doc, False, [inside.doc])
    problem(api.get(f"{DOCUMENTS}/unknown"), 404, "NoSuchDocument")
    for query in ({"limit": 1001}, {"limit": 0}, {"offset": -1}, {"sort": "title"}, {"status": "odd"}):
        assert api.get(DOCUMENTS, params=query).status_code == 422


@pytest.fixture
def patient(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Waits for a removal however long it takes."""
    monkeypatch.setattr(documents, "AT_ONCE", 60.0)
    return api


def test_a_removed_upload_is_deleted(patient: TestClient, jobs: Jobs, uploads: Uploads) -> None:
    uploaded(patient, jobs, "flat/lease.md")
    (document,) = patient.get(DOCUMENTS).json()["documents"]
    answer = patient.delete(f"{DOCUMENTS}/{document['id']}")
    assert answer.status_code == 200
    assert answer.json()["removed"] == [document["doc"]]
    assert answer.json()["job"]["state"] == "done"
    assert patient.get(DOCUMENTS).json()["documents"] == []
    assert list(uploads.root.iterdir()) == []
    problem(patient.delete(f"{DOCUMENTS}/{document['id']}"), 404, "NoSuchDocument")


def test_a_users_own_file_stays(patient: TestClient, jobs: Jobs, tmp_path: Path) -> None:
    own = tmp_path / "own.md"
    own.write_text("mine")
    over(patient, jobs, patient.post(JOBS, json={"paths": [str(own)]}).json())
    (document,) = patient.get(DOCUMENTS).json()["documents"]
    assert patient.delete(f"{DOCUMENTS}/{document['id']}").status_code == 200
    assert own.read_text() == "mine"


def test_what_was_found_in_a_document_is_not_removed_alone(api: TestClient, catalog: Catalog) -> None:
    inside = row_of("/own/mail.eml/a.pdf", parent="/own/mail.eml")
    catalog.put("default", row_of("/own/mail.eml", members=1), inside)
    assert "/own/mail.eml; remove that" in problem(api.delete(f"{DOCUMENTS}/{inside.doc_id}"), 409, "JobConflict")


def test_a_removal_waits_for_other_work_and_spares_what_came_later(
    api: TestClient, jobs: Jobs, place: QuickPlace, uploads: Uploads
) -> None:
    uploaded(api, jobs, "a.md")
    (document,) = api.get(DOCUMENTS).json()["documents"]
    place.asked.clear()
    place.go_on.clear()
    api.post(DOCUMENTS, files=files("b.md"))
    assert place.asked.wait(60)
    answer = api.delete(f"{DOCUMENTS}/{document['id']}")
    assert (answer.status_code, answer.json()["removed"], answer.json()["job"]["state"]) == (202, [], "waiting")
    last = api.post(DOCUMENTS, files=files("a.md", content=b"new")).json()
    assert api.get(JOBS).json()["waiting"] == 2
    place.go_on.set()
    assert over(api, jobs, last)["state"] == "done"
    assert (uploads.root / "a.md").read_bytes() == b"new"
    assert [d["name"] for d in api.get(DOCUMENTS).json()["documents"]] == ["a.md", "b.md"]


@pytest.mark.parametrize(
    ("parts", "status", "kind"),
    [
        (files("a.txt", content=b"x" * ((1 << 20) + 1)), 413, "UploadTooLarge"),
        (files("1", "2", "3", "4"), 413, "UploadTooLarge"),
        (files("../.."), 422, "UploadRefused"),
    ],
)
def test_a_refused_upload_is_told_in_one_line(
    api: TestClient, uploads: Uploads, parts: Any, status: int, kind: str
) -> None:
    problem(api.post(DOCUMENTS, files=parts), status, kind)
    assert not uploads.root.exists()
    assert api.get(JOBS).json()["jobs"] == []


def test_a_body_that_is_no_upload(api: TestClient) -> None:
    assert "multipart/form-data" in problem(api.post(DOCUMENTS, json={"files": []}), 422, "UploadRefused")
    assert "multipart/form-data" in problem(api.post(DOCUMENTS), 422, "UploadRefused")


def test_an_upload_that_breaks_off_leaves_nothing(api: TestClient, uploads: Uploads) -> None:
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.txt"\r\n\r\nThe rent'
    coming = iter([{"type": "http.request", "body": head, "more_body": True}, {"type": "http.disconnect"}])
    answered = []

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        answered.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "method": "POST",
        "path": DOCUMENTS,
        "query_string": b"",
        "headers": [(b"content-type", b"multipart/form-data; boundary=b")],
    }
    asyncio.run(api.app(scope, receive, send))  # type: ignore[arg-type]
    assert answered[0]["status"] == 422
    assert [path for path in uploads.root.parent.rglob("*") if path.is_file() and path.suffix != ".lock"] == []
    assert api.get(JOBS).json()["jobs"] == []


def test_a_full_disk(jobs: Jobs, catalog: Catalog, settings: Settings) -> None:
    app = FastAPI()
    tell_problems(app)
    full = Uploads(settings.home, "default", free=lambda _path: 0)
    app.include_router(router(jobs, full, catalog, local=False))
    api = TestClient(app)
    assert "free some space" in problem(api.post(DOCUMENTS, files=files("a.txt")), 507, "DiskFull")


def test_paths_are_taken_from_this_machine_alone(opened: Open, jobs: Jobs, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("x")
    order = {"paths": [str(tmp_path / "in")], "prune": True, "metadata": {"tag": ["a", "b"], "project": "Aurora"}}
    api = opened()
    answer = api.post(JOBS, json=order)
    assert answer.status_code == 202
    job = over(api, jobs, answer.json())
    assert (job["state"], job["prune"], job["who"]) == ("done", True, "ana")
    assert job["metadata"] == {"tag": ["a", "b"], "project": ["Aurora"]}
    problem(opened(host="192.0.2.7").post(JOBS, json=order), 403, "NotHere")
    assert opened(host="::ffff:127.0.0.1").post(JOBS, json=order).status_code == 202
    assert opened(local=False).post(JOBS, json=order).status_code == 405
    for paths in (["etc"], [str(tmp_path / "nowhere")], ["/\x00"]):
        problem(api.post(JOBS, json={"paths": paths}), 422, "NotUnderstood")
    assert api.post(JOBS, json={"paths": []}).status_code == 422


def test_jobs_are_listed_stopped_and_tried_again(api: TestClient, jobs: Jobs, place: QuickPlace) -> None:
    first = uploaded(api, jobs, "bad.md", "a.md")
    place.asked.clear()
    place.go_on.clear()
    second = api.post(DOCUMENTS, files=files("b.md", "c.md")).json()
    assert place.asked.wait(60)
    problem(api.post(f"{JOBS}/{second['id']}/retry"), 409, "JobConflict")
    third = api.post(DOCUMENTS, files=files("d.md")).json()
    listed = api.get(JOBS).json()
    assert [job["id"] for job in listed["jobs"]] == [third["id"], second["id"], first["id"]]
    assert (listed["waiting"], listed["running"]) == (1, 1)
    assert [job["id"] for job in api.get(JOBS, params={"state": "running"}).json()["jobs"]] == [second["id"]]
    assert api.post(f"{JOBS}/{third['id']}/stop").json()["state"] == "stopped"
    assert api.post(f"{JOBS}/{second['id']}/stop").status_code == 202
    place.go_on.set()
    assert over(api, jobs, second)["state"] == "stopped"
    problem(api.post(f"{JOBS}/{second['id']}/stop"), 409, "JobConflict")
    again = over(api, jobs, api.post(f"{JOBS}/{second['id']}/retry").json())
    assert (again["state"], again["counts"]["files"]["indexed"]) == ("done", 2)
    failed = api.post(f"{JOBS}/{first['id']}/retry", params={"failed_only": True})
    assert failed.status_code == 202
    assert [Path(name).name for name in failed.json()["names"]] == ["bad.md"]
    problem(api.post(f"{JOBS}/{again['id']}/retry", params={"failed_only": True}), 409, "JobConflict")
    for path in (f"{JOBS}/unknown", f"{JOBS}/unknown/events"):
        problem(api.get(path), 404, "NoSuchJob")


def test_a_long_job_is_listed_with_its_first_names(api: TestClient, jobs: Jobs, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.md" for number in range(30)]
    for path in paths:
        path.write_text("x")
    job = over(api, jobs, api.post(JOBS, json={"paths": [str(path) for path in paths]}).json())
    assert (len(job["names"]), job["names_in_all"]) == (30, 30)
    (listed,) = api.get(JOBS).json()["jobs"]
    assert (len(listed["names"]), listed["names_in_all"]) == (20, 30)


def test_events_tell_what_happened(api: TestClient, jobs: Jobs) -> None:
    job = uploaded(api, jobs, "a.md", "bad \u2028é\u0085.md")
    answer = api.get(f"{JOBS}/{job['id']}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.text.startswith("retry: 2000\n\n")
    events = events_of(answer.text)
    assert [event["event"] for event in events] == ["result", "result", "progress", "end"]
    assert [Path(event["data"]["doc"]).name for event in events[:2]] == ["a.md", "bad é.md"]
    assert events[-1]["data"]["state"] == "done"
    shapes: dict[str, type[BaseModel]] = {"result": models.Result, "progress": models.Progress, "end": models.Job}
    for event in events:
        assert shapes[event["event"]](**event["data"]).model_dump() == event["data"]
    for after, left in ((events[0]["id"], 1), (events[1]["id"], 0), ("", 2), ("other-7", 2)):
        resumed = events_of(api.get(f"{JOBS}/{job['id']}/events", headers={"Last-Event-ID": after}).text)
        assert [event["event"] for event in resumed] == ["result"] * left + ["progress", "end"]
    assert api.get(f"{JOBS}/{job['id']}/events", headers={"Last-Event-ID": events[-1]["id"]}).status_code == 204


def test_events_are_lines_that_a_browser_understands() -> None:
    async def happens() -> AsyncGenerator[Event]:
        yield Event("x-1", "result", {"doc": "a\nb\r\ndata: c\n\nevent: end"})
        yield Event("", "beat", {})
        yield Event("", "progress", {"state": "waiting"})

    async def read() -> list[bytes]:
        return [piece async for piece in sent(happens())]

    start, result, beat, progress = asyncio.run(read())
    assert start == b"retry: 2000\n\n"
    assert result == b'id: x-1\nevent: result\ndata: {"doc": "a\\nb\\r\\ndata: c\\n\\nevent: end"}\n\n'
    assert beat.startswith(b":")
    assert beat.endswith(b"\n\n")
    assert progress == b'event: progress\ndata: {"state": "waiting"}\n\n'


def test_the_api_describes_itself(api: TestClient) -> None:
    described = api.get("/openapi.json").json()
    paths, shapes = described["paths"], described["components"]["schemas"]
    assert set(paths) == {
        *(DOCUMENTS, f"{DOCUMENTS}/{{doc_id}}", JOBS, f"{JOBS}/{{job_id}}"),
        *(f"{JOBS}/{{job_id}}/{what}" for what in ("stop", "retry", "events")),
    }
    for operations in paths.values():
        for operation in operations.values():
            assert operation["summary"]
            assert operation["description"]
            for status, response in operation["responses"].items():
                assert response["description"]
                content = response.get("content", {})
                if status[0] in "45":
                    shape = content["application/json"]["schema"]["$ref"]
                    assert shape.endswith("/Problem")
                elif "application/json" in content:
                    assert shapes[content["application/json"]["schema"]["$ref"].rpartition("/")[2]]["examples"]
    assert set(paths[DOCUMENTS]["post"]["responses"]) >= {"202", "413", "422", "507"}
    assert "multipart/form-data" in paths[DOCUMENTS]["post"]["requestBody"]["content"]
    streamed = paths[f"{JOBS}/{{job_id}}/events"]["get"]["responses"]["200"]["content"]
    event = streamed["text/event-stream"]["itemSchema"]["properties"]["event"]
    assert ([*streamed], event["enum"]) == (["text/event-stream"], ["progress", "result", "end"])


@pytest.mark.parametrize(
    "shape",
    [
        models.Document,
        models.DocumentWithMembers,
        models.Documents,
        models.Job,
        models.JobWithResults,
        models.JobsList,
        models.Removed,
        models.Progress,
        models.Result,
        models.PathOrder,
    ],
)
def test_the_examples_are_of_their_shape(shape: type[BaseModel]) -> None:
    for example in shape.model_json_schema()["examples"]:
        assert shape(**example).model_dump(exclude_unset=True) == example
