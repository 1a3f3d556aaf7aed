"""Work handed to the process that serves the index, over a real connection on this machine."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.errors import FootnoteError, IngestError, StoreError, StoreLocked
from rag.settings import Settings
from tests.conftest import until
from tests.ui.held import HeldEmbedder, open_held
from ui import wire
from ui.api import create_app
from ui.client import HandedOver, There
from ui.desk import Desk
from ui.ingesting import ingest_with_progress
from ui.workplace import Here, workplace

SECRET = "a-token-that-nobody-can-guess"
LOCKED = StoreLocked("the index is in use by process 1, which serves http://127.0.0.1:1")


@pytest.fixture
def embedder() -> HeldEmbedder:
    return HeldEmbedder()


@pytest.fixture
def rag(settings: Settings, embedder: HeldEmbedder) -> Iterator[Rag]:
    with open_held(settings, embedder) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three documents, one of which cannot be read."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("# Rent\n\nThe rent is 900 euros a month.\n")
    (tmp_path / "in" / "b.txt").write_text("The lease ends on 31 May 2027.\n")
    (tmp_path / "in" / "empty.txt").write_text("")
    return tmp_path / "in"


@pytest.fixture
def desk(rag: Rag, catalog: Catalog) -> Iterator[Desk]:
    opened = Desk(rag, catalog, SECRET)
    yield opened
    opened.close()


@pytest.fixture
def url(rag: Rag, catalog: Catalog, desk: Desk, embedder: HeldEmbedder) -> Iterator[str]:
    import uvicorn

    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(rag, catalog, desk), log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    embedder.go_on.set()
    server.should_exit = True
    thread.join(timeout=30)


@pytest.fixture
def there(url: str) -> There:
    return There(url, SECRET, LOCKED)


def many(folder: Path) -> Path:
    """Adds more than the pipeline embeds at once."""
    for number in range(12):
        (folder / f"{number:02}.txt").write_text(f"Document {number} tells of subject {number}. " * 1000)
    return folder


def test_the_results_are_those_of_a_run_in_this_process(there: There, rag: Rag, catalog: Catalog, folder: Path) -> None:
    with open(os.fsencode(folder) + b"/caf\xe9.txt", "wb") as file:  # noqa: PTH123 - a name in bytes
        file.write(b"The cafe opens at nine.")
    paths = [folder, Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.txt"))]
    run = there.begin()
    results = list(run.run(paths))
    assert {(Path(r.doc).name, r.status) for r in results} == {
        ("a.md", "indexed"),
        ("b.txt", "indexed"),
        ("caf\\udce9.txt", "indexed"),
        ("empty.txt", "failed"),
    }
    assert rag.store.count() == 3
    summary = run.summary
    assert (summary.seen, summary.indexed, summary.failed, summary.chunks, summary.interrupted) == (4, 3, 1, 3, False)
    assert [(f.doc, f.stage) for f in summary.failures] == [(str(folder / "empty.txt"), "parse")]
    assert summary.seconds > 0
    assert summary.peak_bytes > 1 << 20
    assert run.progress().files == 4
    again = there.begin()
    assert [result.status for result in again.run(paths)].count("unchanged") == 3
    here = Here(rag, catalog).begin()
    assert [result.status for result in here.run(paths)].count("unchanged") == 3


def test_what_is_said_about_documents_goes_along(there: There, catalog: Catalog, folder: Path) -> None:
    assert list(there.begin().run([folder / "a.md"], metadata=(("project", "Aurora"), ("tag", "é=x"))))
    (document,) = catalog.documents("default")
    assert document.metadata == (("project", "Aurora"), ("tag", "é=x"))


def test_prune_and_remove(there: There, rag: Rag, folder: Path, settings: Settings) -> None:
    list(there.begin().run([folder]))
    report = settings.home / "quarantine" / "default.jsonl"
    assert report.exists()
    (folder / "empty.txt").unlink()
    (folder / "b.txt").unlink()
    statuses = {Path(r.doc).name: r.status for r in there.begin().run([folder], prune=True)}
    assert statuses == {"a.md": "unchanged", "b.txt": "removed", "empty.txt": "removed"}
    assert not report.exists()
    doc = str(folder / "a.md")
    assert there.remove([doc, "/no/such.txt"]) == [doc]
    assert rag.store.count() == 0


def test_the_command_shows_it_as_its_own(
    there: There, settings: Settings, catalog: Catalog, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from contextlib import nullcontext

    record, text = ingest_with_progress(settings, catalog, [folder], opening=lambda _s, _c: nullcontext(there))
    assert record["files"] == {"seen": 3, "indexed": 2, "unchanged": 0, "removed": 0, "failed": 1}
    assert record["failures"][0]["path"] == str(folder / "empty.txt")
    assert record["quarantine"] == str(settings.home / "quarantine" / "default.jsonl")
    assert text.startswith("3 files: 2 indexed, 1 failed; 2 passages")
    first, second = capsys.readouterr().err.splitlines()[:2]
    assert first.startswith("handed over to http://127.0.0.1:")
    assert second.startswith("failed   ")


def test_questions_are_answered_meanwhile_and_a_second_run_is_not_begun(
    there: There, url: str, embedder: HeldEmbedder, folder: Path
) -> None:
    embedder.go_on.clear()
    run, results = there.begin(), []
    thread = threading.Thread(target=lambda: results.extend(run.run([folder])))
    thread.start()
    assert embedder.asked.wait(60)
    until(lambda: run.progress().of == 3)
    assert httpx.get(f"{url}/healthz", timeout=60).json()["status"] == "ok"
    assert httpx.post(f"{url}/api/v1/search", json={"question": "rent"}, timeout=60).json() == {"hits": []}
    with pytest.raises(IngestError, match="being written already; wait"):
        list(there.begin().run([folder]))
    with pytest.raises(IngestError, match="being written already; wait"):
        there.remove([str(folder / "a.md")])
    embedder.go_on.set()
    thread.join(60)
    assert len(results) == 3
    assert len(list(there.begin().run([folder]))) == 3


@pytest.mark.parametrize("headers", [{}, {wire.TOKEN: ""}, {wire.TOKEN: "wrong"}, {wire.TOKEN: "wröng".encode()}])
@pytest.mark.parametrize("path", [wire.INGEST, wire.STOP, wire.REMOVE])
def test_nobody_else_can_make_the_server_read_files(
    url: str, catalog: Catalog, folder: Path, path: str, headers: dict[str, Any]
) -> None:
    body = {"paths": [str(folder)], "docs": []}
    assert httpx.post(f"{url}{path}", json=body, headers=headers, timeout=60).status_code == 403
    assert not catalog.rows("default")


def test_a_server_without_a_token_takes_nothing(rag: Rag, catalog: Catalog, folder: Path) -> None:
    from fastapi.testclient import TestClient

    client = TestClient(create_app(rag, catalog), base_url="http://127.0.0.1:7860")
    for token in ("", "x"):
        answer = client.post(wire.INGEST, json={"paths": [str(folder)]}, headers={wire.TOKEN: token})
        assert answer.status_code == 403


def test_relative_paths_mean_something_else_there(url: str) -> None:
    answer = httpx.post(f"{url}{wire.INGEST}", json={"paths": ["etc"]}, headers={wire.TOKEN: SECRET}, timeout=60)
    assert answer.status_code == 422
    assert "etc" in answer.json()["error"]


def test_an_error_there_is_an_error_here(there: There, tmp_path: Path, folder: Path) -> None:
    with pytest.raises(IngestError, match=r"no such file or folder: .*nowhere"):
        list(there.begin().run([tmp_path / "nowhere"]))
    assert len(list(there.begin().run([folder]))) == 3


def test_a_fault_there_is_told_and_logged(
    there: There, embedder: HeldEmbedder, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ZeroDivisionError("by accident")

    embedder.does = fail
    with pytest.raises(IngestError, match="the process that serves failed: ZeroDivisionError"):
        list(there.begin().run([folder]))
    assert "by accident" in caplog.text
    embedder.does = lambda: None
    assert len(list(there.begin().run([folder]))) == 3


def has_heard_of_the_stop(desk: Desk) -> bool:
    return desk._job is not None and desk._job._run._feed.stopped.is_set()  # type: ignore[attr-defined]


def test_stop_ends_it_in_order(
    there: There, desk: Desk, embedder: HeldEmbedder, catalog: Catalog, folder: Path
) -> None:
    embedder.go_on.clear()
    run, results = there.begin(), []
    thread = threading.Thread(target=lambda: results.extend(run.run([many(folder)])))
    thread.start()
    assert embedder.asked.wait(60)
    run.stop()
    until(lambda: has_heard_of_the_stop(desk))
    embedder.go_on.set()
    thread.join(60)
    assert not thread.is_alive()
    assert run.summary.interrupted
    assert run.summary.seen == len(results) < 15
    assert len(catalog.rows("default")) == len(results)


def test_stop_before_anything_began_there(there: There, desk: Desk, embedder: HeldEmbedder, folder: Path) -> None:
    """The signal comes while the request is on its way: it must not get lost."""
    embedder.go_on.clear()
    run = HandedOver(there)
    run.stop()
    thread = threading.Thread(target=lambda: list(run.run([many(folder)])))
    thread.start()
    until(lambda: has_heard_of_the_stop(desk))
    embedder.go_on.set()
    thread.join(60)
    assert run.summary.interrupted


def test_a_closed_connection_stops_it(
    there: There, desk: Desk, embedder: HeldEmbedder, catalog: Catalog, folder: Path
) -> None:
    (folder / "empty.txt").rename(folder / "00-first.txt")
    embedder.go_on.clear()
    results = there.begin().run([many(folder)])
    assert next(results).status == "failed"
    results.close()  # type: ignore[attr-defined]
    until(lambda: has_heard_of_the_stop(desk))
    embedder.go_on.set()
    until(lambda: desk.writing.acquire(blocking=False))
    desk.writing.release()
    assert len(catalog.rows("default")) < 15


def test_a_server_that_ends_tells_how_far_it_came(
    there: There, desk: Desk, embedder: HeldEmbedder, folder: Path
) -> None:
    embedder.go_on.clear()
    run = there.begin()
    thread = threading.Thread(target=lambda: list(run.run([many(folder)])))
    thread.start()
    assert embedder.asked.wait(60)
    desk.stop()
    embedder.go_on.set()
    thread.join(60)
    assert run.summary.interrupted


def test_nobody_answers(folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(StoreLocked) as caught:
        list(There(f"http://127.0.0.1:{port}", SECRET, LOCKED).begin().run([folder]))
    assert caught.value is LOCKED


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n" + b'{"progress": ', "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n" + b'{"new": "kind"}', "same version of Footnote"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n<html>hi\n", "same version of Footnote"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nNot Found", "HTTP status 404"),
        (b'HTTP/1.1 404 Not Found\r\nContent-Length: 22\r\n\r\n{"detail":"Not Found"}', "Not Found"),
    ],
)
def test_something_else_answers(folder: Path, answer: bytes, says: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                while b"prune" not in connection.recv(65536):
                    pass
                connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        with pytest.raises(FootnoteError, match=says):
            list(There(f"http://127.0.0.1:{listening.getsockname()[1]}", SECRET, LOCKED).begin().run([folder]))
        thread.join(30)


def test_the_owners_note_leads_there(settings: Settings, catalog: Catalog, url: str, folder: Path) -> None:
    """The whole way, as another process of this user goes it: from the lock to the server's results."""
    import json
    import subprocess
    import sys

    from rag.store.lock import DirectoryLock

    home = settings.model_copy(update={"home": settings.home / "elsewhere"})
    lock = DirectoryLock.take(home.home / "collections" / "default", url, SECRET)
    code = (
        "import sys\nfrom pathlib import Path\nfrom ingest.catalog import Catalog\nfrom rag.settings import Settings\n"
        "from ui.ingesting import ingest_with_progress\nimport json\nsettings = Settings.load(home=sys.argv[1])\n"
        "catalog = Catalog.open(settings.home / 'catalog.sqlite')\n"
        "print(json.dumps(ingest_with_progress(settings, catalog, [Path(sys.argv[2])]).record))\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, str(home.home), str(folder)],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[2],
            check=False,
        )
    finally:
        lock.release()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["files"] == {"seen": 3, "indexed": 2, "unchanged": 0, "removed": 0, "failed": 1}
    assert len(catalog.rows("default")) == 3


def test_an_owner_that_takes_no_work_is_named(settings: Settings, catalog: Catalog, rag: Rag) -> None:
    """A second object in this process cannot have the lock either."""
    with pytest.raises(StoreError) as caught, workplace(settings, catalog):
        raise AssertionError("opened twice")
    assert isinstance(caught.value, StoreLocked)
    assert str(os.getpid()) in str(caught.value)
