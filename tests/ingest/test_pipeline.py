"""Ingestion as a whole: what is in the store and the catalog after each kind of run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ingest.catalog import Catalog
from ingest.pipeline import FileResult, Ingestion, remove
from rag.errors import IngestError, SettingsError
from rag.settings import Settings
from rag.store.opening import open_store
from rag.store.protocol import Store
from tests.conftest import WordCountEmbedder

Run = Callable[..., dict[str, FileResult]]


@pytest.fixture
def store(settings: Settings, embedder: WordCountEmbedder) -> Iterator[Store]:
    opened = open_store(settings, embedder, create=True)
    yield opened
    opened.close()


@pytest.fixture
def run(settings: Settings, embedder: WordCountEmbedder, store: Store, catalog: Catalog) -> Run:
    def run_(*paths: Path, **changes: object) -> dict[str, FileResult]:
        ingestion = Ingestion(settings.model_copy(update=changes), embedder, store, catalog)
        return {Path(result.doc).name: result for result in ingestion.run(paths)}

    return run_


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("# Rent\n\nThe rent is 900 euros a month.\n")
    (tmp_path / "in" / "b.txt").write_text("The lease ends on 31 May 2027.\n")
    return tmp_path / "in"


def texts(store: Store) -> list[str]:
    return sorted(chunk.text for chunk in store.fetch(sorted(store.ids())))


def test_what_was_indexed_can_be_fetched_with_its_place(run: Run, folder: Path, store: Store) -> None:
    results = run(folder)
    assert {result.status for result in results.values()} == {"indexed"}
    chunks = {Path(chunk.doc).name: chunk for chunk in store.fetch(list(store.ids()))}
    assert "900 euros" in chunks["a.md"].text
    assert chunks["a.md"].headings == ("Rent",)
    assert sum(result.chunks for result in results.values()) == store.count()


def test_a_second_run_is_a_no_op(run: Run, folder: Path, store: Store) -> None:
    run(folder)
    before = store.ids()
    assert {result.status for result in run(folder).values()} == {"unchanged"}
    assert store.ids() == before


def test_a_touched_file_with_the_same_content_is_unchanged(run: Run, folder: Path) -> None:
    run(folder)
    os.utime(folder / "a.md", (1, 1))
    assert run(folder)["a.md"].status == "unchanged"


def test_a_changed_file_replaces_its_chunks(run: Run, folder: Path, store: Store) -> None:
    run(folder)
    (folder / "a.md").write_text("# Rent\n\nThe rent is 950 euros a month.\n")
    results = run(folder)
    assert (results["a.md"].status, results["b.txt"].status) == ("indexed", "unchanged")
    assert not any("900" in text for text in texts(store))
    assert any("950" in text for text in texts(store))


def test_other_chunking_indexes_anew_without_leftovers(run: Run, folder: Path, store: Store) -> None:
    (folder / "a.md").write_text("One two three four five six seven eight. " * 30)
    run(folder)
    results = run(folder, chunk_tokens=32, chunk_overlap=4)
    assert {result.status for result in results.values()} == {"indexed"}
    assert store.count() == sum(result.chunks for result in results.values())


def test_a_lost_index_is_noticed_and_built_again(run: Run, folder: Path, store: Store, catalog: Catalog) -> None:
    run(folder)
    for document in catalog.documents("default"):
        store.delete(document.id)
    assert {result.status for result in run(folder).values()} == {"indexed"}
    assert store.count() == 2


def test_one_bad_file_costs_that_file(run: Run, folder: Path, catalog: Catalog, store: Store) -> None:
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 and nothing more")
    (folder / "empty.txt").write_bytes(b"")
    (folder / "sheet.xyz").write_bytes(b"\x00\x01")
    results = run(folder)
    assert [name for name, result in results.items() if result.status == "failed"] == [
        "broken.pdf",
        "empty.txt",
        "sheet.xyz",
    ]
    rows = {Path(document.doc).name: document for document in catalog.documents("default")}
    for name in ("broken.pdf", "empty.txt", "sheet.xyz"):
        assert rows[name].status == "failed"
        assert rows[name].stage == "parse"
        assert rows[name].reason
        assert not store.ids(rows[name].id)
    assert results["b.txt"].status == "indexed"


def test_an_unreadable_file_fails_at_read(run: Run, folder: Path) -> None:
    (folder / "gone.txt").symlink_to(folder / "nowhere.txt")
    result = run(folder)["gone.txt"]
    assert (result.status, result.stage) == ("failed", "read")


def test_a_file_that_turns_bad_leaves_the_index(run: Run, folder: Path, store: Store) -> None:
    run(folder)
    (folder / "a.md").write_text("   ")
    assert run(folder)["a.md"].status == "failed"
    assert texts(store) == ["The lease ends on 31 May 2027."]


def test_a_mistyped_path_is_refused_before_anything_is_written(run: Run, folder: Path, store: Store) -> None:
    with pytest.raises(IngestError, match=r"nowhere.*"):
        run(folder, folder / "nowhere")
    assert store.count() == 0


def test_names_that_are_not_utf8_are_indexed(run: Run, tmp_path: Path, catalog: Catalog, store: Store) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.txt"
    with open(name, "wb") as file:  # noqa: PTH123 - a name in bytes
        file.write(b"The cafe opens at nine.")
    results = run(Path(os.fsdecode(name)))
    assert [result.status for result in results.values()] == ["indexed"]
    assert len(catalog.documents("default")) == 1
    assert store.count() == 1


def test_removing_takes_chunks_and_row(
    run: Run, folder: Path, settings: Settings, store: Store, catalog: Catalog
) -> None:
    run(folder)
    (document,) = catalog.find("default", "a.md")
    remove(document, "default", store, catalog)
    assert texts(store) == ["The lease ends on 31 May 2027."]
    assert not catalog.find("default", "a.md")


def test_chunks_longer_than_the_window_are_refused_at_once(
    settings: Settings, embedder: WordCountEmbedder, store: Store, catalog: Catalog
) -> None:
    with pytest.raises(SettingsError, match="lower chunk_tokens"):
        Ingestion(settings.model_copy(update={"chunk_tokens": 255}), embedder, store, catalog)


CHILD = """
    import sys
    from pathlib import Path
    from ingest.catalog import Catalog
    from ingest.pipeline import Ingestion
    from rag.settings import Settings
    from rag.store.opening import open_store
    from tests.conftest import WordCountEmbedder

    settings = Settings.load(home=sys.argv[1])
    embedder = WordCountEmbedder()
    store = open_store(settings, embedder, create=True)
    catalog = Catalog.open(settings.home / "catalog.sqlite")
    for result in Ingestion(settings, embedder, store, catalog).run([Path(sys.argv[2])]):
        print(result.doc, flush=True)
"""


@pytest.mark.parametrize("after", [0.0, 0.1, 0.3])
def test_kill_9_loses_nothing(
    tmp_path: Path, settings: Settings, embedder: WordCountEmbedder, catalog: Catalog, after: float
) -> None:
    """A run that is killed and repeated ends with the same points as one that was never interrupted."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(60):
        (folder / f"{number:02}.txt").write_text(f"Document {number} speaks of subject {number}. " * 60)
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(settings.home), str(folder)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    child.wait()
    store = open_store(settings, embedder, create=True)
    results = list(Ingestion(settings, embedder, store, catalog).run([folder]))
    assert len(results) == 60
    assert store.count() == sum(result.chunks for result in results)
    rows = catalog.documents("default")
    assert all(store.ids(row.id) and len(store.ids(row.id)) == row.chunks for row in rows)
    other = settings.model_copy(update={"home": tmp_path / "other"})
    fresh = open_store(other, embedder, create=True)
    list(Ingestion(other, embedder, fresh, Catalog.open(other.home / "catalog.sqlite")).run([folder]))
    assert fresh.ids() == store.ids()
    store.close()
    fresh.close()
