"""Ingestion as a whole: what is in the store and the catalog after each kind of run."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from ingest import writer
from ingest.catalog import Catalog
from ingest.pipeline import Ingestion
from ingest.results import FileResult
from ingest.stages import Task
from ingest.writer import remove
from rag.errors import IngestError, SettingsError
from rag.retrieve import Retriever
from rag.settings import Settings
from rag.store.opening import open_store
from rag.store.protocol import Store
from tests.conftest import WordCountEmbedder
from tests.ingest.inline import Bench, CountingEmbedder, Inline

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


@pytest.fixture
def bench(settings: Settings, store: Store, catalog: Catalog, folder: Path) -> Bench:
    return Bench(settings, CountingEmbedder(), store, catalog, folder)


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
    (row,) = (row for row in catalog.rows("default") if row.doc.endswith("a.md"))
    remove(row, "default", store, catalog)
    assert texts(store) == ["The lease ends on 31 May 2027."]
    assert not catalog.find("default", "a.md")


def test_chunks_longer_than_the_window_are_refused_at_once(
    settings: Settings, embedder: WordCountEmbedder, store: Store, catalog: Catalog
) -> None:
    with pytest.raises(SettingsError, match="lower chunk_tokens"):
        Ingestion(settings.model_copy(update={"chunk_tokens": 255}), embedder, store, catalog)


def embedded(bench: Bench) -> list[str]:
    """What was embedded since the last time."""
    assert isinstance(bench.embedder, CountingEmbedder)
    texts, bench.embedder.texts = bench.embedder.texts, []
    return texts


def set_time(path: Path, seconds: float) -> None:
    os.utime(path, (seconds, seconds))


class TestWhatIsKnown:
    """Files whose content the index has already."""

    def test_a_rename_embeds_nothing_and_the_old_name_is_gone(self, bench: Bench) -> None:
        bench.run()
        embedded(bench)
        (bench.folder / "a.md").rename(bench.folder / "z.md")
        assert bench.statuses() == {"b.txt": "unchanged", "z.md": "indexed", "a.md": "removed"}
        assert embedded(bench) == bench.read == []
        assert list(bench.rows()) == list(bench.texts()) == ["b.txt", "z.md"]
        assert bench.audit(sample=9).holds
        assert bench.statuses() == {"b.txt": "unchanged", "z.md": "unchanged"}

    def test_a_copy_embeds_nothing(self, bench: Bench) -> None:
        bench.run()
        embedded(bench)
        bench.write("copy.txt", (bench.folder / "b.txt").read_bytes())
        assert bench.statuses()["copy.txt"] == "indexed"
        assert embedded(bench) == bench.read == []
        assert bench.texts()["copy.txt"] == bench.texts()["b.txt"]
        row = bench.rows()["copy.txt"]
        assert (row.title, row.status, row.chunks) == ("copy", "indexed", 1)
        assert bench.audit(sample=9).holds

    def test_a_file_that_becomes_a_copy_loses_what_it_held(self, bench: Bench) -> None:
        bench.run()
        bench.write("c.txt", "Something else entirely.")
        bench.run()
        bench.write("c.txt", (bench.folder / "b.txt").read_bytes())
        assert bench.statuses()["c.txt"] == "indexed"
        assert bench.texts()["c.txt"] == bench.texts()["b.txt"]
        assert bench.audit(sample=9).holds

    def test_files_that_change_places(self, bench: Bench) -> None:
        """What one is copied from is itself replaced in the same run."""
        bench.write("c.txt", "What was in c.")
        bench.run()
        one, other = (bench.folder / "b.txt").read_text(), (bench.folder / "c.txt").read_text()
        bench.write("b.txt", other)
        bench.write("c.txt", one)
        assert bench.statuses() == {"a.md": "unchanged", "b.txt": "indexed", "c.txt": "indexed"}
        assert bench.texts()["b.txt"] == [other.strip()]
        assert bench.texts()["c.txt"] == [one.strip()]
        assert bench.audit(sample=9).holds

    def test_one_file_that_became_three(self, bench: Bench) -> None:
        bench.run()
        content = (bench.folder / "b.txt").read_bytes()
        (bench.folder / "b.txt").unlink()
        for name in ("c.txt", "d.txt", "e.txt"):
            bench.write(name, content)
        assert bench.statuses() == dict.fromkeys(("a.md", "c.txt", "d.txt", "e.txt"), "indexed") | {
            "a.md": "unchanged",
            "b.txt": "removed",
        }
        assert all(bench.texts()[name] == [content.decode().strip()] for name in ("c.txt", "d.txt", "e.txt"))
        assert bench.audit(sample=9).holds

    def test_a_copy_of_a_file_whose_name_is_not_utf8_is_no_rename(self, bench: Bench) -> None:
        strange = Path(os.fsdecode(os.fsencode(bench.folder) + b"/caf\xe9.txt"))
        strange.write_text("The cafe opens at nine.")
        bench.run()
        bench.write("z.txt", "The cafe opens at nine.")
        assert set(bench.statuses().values()) == {"unchanged", "indexed"}
        assert "caf\\udce9.txt" in bench.rows()
        strange.rename(bench.folder / "cafe.txt")
        assert bench.statuses(prune=True)["caf\\udce9.txt"] == "removed"
        assert bench.audit().holds

    def test_equal_contents_of_other_kinds_are_not_taken_for_copies(self, bench: Bench) -> None:
        bench.write("a.txt", (bench.folder / "a.md").read_bytes())
        bench.run()
        titles = {name: row.title for name, row in bench.rows().items()}
        assert (titles["a.md"], titles["a.txt"]) == ("Rent", "a")

    def test_a_touched_file_is_read_once_to_see_and_then_no_more(self, bench: Bench) -> None:
        bench.run()
        set_time(bench.folder / "b.txt", time.time() - 1000)
        assert bench.statuses()["b.txt"] == "unchanged"
        assert bench.read == []
        row = bench.rows()["b.txt"]
        assert row.mtime_ns == (bench.folder / "b.txt").stat().st_mtime_ns
        bench.write("b.txt", "The lease ends on 31 May 2028.\n")
        set_time(bench.folder / "b.txt", row.mtime_ns / 1e9)
        assert bench.statuses()["b.txt"] == "unchanged"

    def test_size_and_time_are_believed(self, bench: Bench) -> None:
        """The price of not reading everything every time: who changes a file and sets its time back is not noticed."""
        old = time.time() - 1000
        set_time(bench.folder / "b.txt", old)
        bench.run()
        bench.write("b.txt", "The lease ends on 31 May 2028.\n")
        set_time(bench.folder / "b.txt", old)
        assert bench.statuses()["b.txt"] == "unchanged"
        set_time(bench.folder / "b.txt", old + 1)
        assert bench.statuses()["b.txt"] == "indexed"

    def test_a_file_changed_while_it_was_indexed_is_looked_at_again(self, bench: Bench) -> None:
        """Its time stamp may be the same, as coarse as some file systems' are."""
        set_time(bench.folder / "b.txt", time.time() + 1000)  # it is young however long this takes
        bench.run()
        stamp = (bench.folder / "b.txt").stat().st_mtime_ns
        bench.write("b.txt", "The lease ends on 31 May 2028.\n")
        os.utime(bench.folder / "b.txt", ns=(stamp, stamp))
        assert bench.statuses()["b.txt"] == "indexed"


class TestPrune:
    def test_only_what_has_gone_and_only_below_the_folders(self, bench: Bench, tmp_path: Path) -> None:
        bench.write("sub/c.txt", "In the folder below.")
        (tmp_path / "elsewhere").mkdir()
        other = tmp_path / "elsewhere" / "d.txt"
        other.write_text("In another folder.")
        bench.run(bench.folder, tmp_path / "elsewhere")
        for path in (bench.folder / "b.txt", bench.folder / "sub" / "c.txt", other):
            path.unlink()
        assert bench.statuses() == {"a.md": "unchanged"}
        assert bench.statuses(bench.folder / "sub", prune=True) == {"sub/c.txt": "removed"}
        assert bench.statuses(prune=True) == {"a.md": "unchanged", "b.txt": "removed"}
        assert bench.last.summary.removed == 1
        assert set(bench.rows()) == {"a.md", str(other)}
        assert bench.audit().holds

    def test_failed_documents_are_pruned_too(self, bench: Bench) -> None:
        bench.write("empty.txt", "")
        bench.run()
        (bench.folder / "empty.txt").unlink()
        assert bench.statuses(prune=True)["empty.txt"] == "removed"
        assert "empty.txt" not in bench.rows()

    def test_a_file_that_is_there_is_kept_even_if_the_walk_leaves_it_out(self, bench: Bench) -> None:
        hidden = bench.write(".notes.txt", "Hidden, but given by name.")
        bench.run(bench.folder, hidden)
        assert ".notes.txt" not in bench.statuses(prune=True)
        assert ".notes.txt" in bench.rows()


class Vanishing(Inline):
    """Deletes a file at the moment at which another one is given to be read."""

    def __init__(self, bench: Bench, when: str, what: str) -> None:
        super().__init__(bench.settings, bench.embedder)
        self._when, self._what = bench.folder / when, bench.folder / what

    def submit(self, task: Task) -> None:
        if task.path == self._when:
            self._what.unlink()
        super().submit(task)


class TestMishaps:
    @pytest.mark.parametrize(("when", "stage"), [("a.md", "read"), ("b.txt", "parse")])
    def test_a_file_that_goes_while_the_run_goes_on(self, bench: Bench, when: str, stage: str) -> None:
        readers = Vanishing(bench, when, "b.txt")
        ingestion = Ingestion(bench.settings, bench.embedder, bench.store, bench.catalog, readers=readers)
        results = {bench.name(result.doc): result for result in ingestion.run([bench.folder])}
        assert (results["b.txt"].status, results["b.txt"].stage) == ("failed", stage)
        assert "cannot be read" in results["b.txt"].reason
        assert results["a.md"].status == "indexed"
        assert bench.audit(sample=9).holds

    def test_a_stopped_run_ends_between_documents_and_the_next_completes_it(self, bench: Bench) -> None:
        bench.run()
        for number in range(30):
            text = "\n\n".join(f"Paragraph {n} of document {number}. " * 20 for n in range(30))
            bench.write(f"many/{number:02}.txt", text)
        bench.write("a.md", "# Rent\n\n" + "The rent is now 950 euros a month. " * 3000)
        ingestion = bench.begin()
        done = []
        for result in ingestion.run([bench.folder]):
            done.append(bench.name(result.doc))
            ingestion.stop()
        assert ingestion.summary.interrupted
        assert 0 < len(done) < 32
        assert bench.audit(sample=99).holds, "nothing half done is left, not even hidden"
        assert set(bench.texts()) == set(bench.rows())
        assert set(bench.run()) == {"a.md", "b.txt", *(f"many/{n:02}.txt" for n in range(30))}
        assert not bench.last.summary.interrupted
        assert bench.audit(sample=99).holds

    def test_a_stop_before_the_first_result(self, bench: Bench) -> None:
        ingestion = bench.begin()
        ingestion.stop()
        assert list(ingestion.run([bench.folder], prune=True)) == []
        assert ingestion.summary.interrupted
        assert bench.rows() == bench.texts() == {}

    def test_a_run_that_is_dropped_halfway_is_completed_by_the_next(self, bench: Bench) -> None:
        for number in range(20):
            bench.write(f"{number:02}.txt", f"Document {number} speaks of matter {number}. " * 200)
        results = bench.begin().run([bench.folder])
        next(results)
        results.close()  # type: ignore[attr-defined]
        assert len(bench.run()) == 22
        assert bench.audit(sample=99).holds
        assert not list((bench.settings.home / "spool").glob("*/*"))

    def test_a_hanging_file_holds_up_no_other(self, bench: Bench) -> None:
        settings = bench.settings.model_copy(update={"parse_workers": 2})
        bench.write("0.txt", "This one will HANG here.")
        ingestion = Ingestion(settings, Hanging(), bench.store, bench.catalog)
        done = []
        for result in ingestion.run([bench.folder]):
            done.append(bench.name(result.doc))
            if len(done) == 2:
                in_hand = [bench.name(each.doc) for each in ingestion.progress().in_hand]
                ingestion.stop()
        assert (sorted(done), in_hand) == (["a.md", "b.txt"], ["0.txt"])
        assert "0.txt" not in bench.rows()
        assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


def test_a_search_sees_a_document_in_one_edition_whenever_it_looks(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searching goes on without a pause while documents of all sizes are replaced again and again."""
    monkeypatch.setattr(writer, "FLUSH_AT", 8)
    names = ("alpha", "beta", "gamma")

    def write(n: int) -> None:
        for size, name in enumerate(names):
            # as many words as before, so that no vector tells the editions apart
            paragraph = f"The subject {name} is treated in edition {n:03} of it. " * 18
            bench.write(f"{name}.txt", "\n\n".join([paragraph] * (1 + 40 * size)))

    write(0)
    bench.run()
    retriever = Retriever(bench.store, bench.embedder, bench.settings)
    over, wrong, looked = Event(), list[str](), Counter[str]()

    def look() -> None:
        while not over.is_set():
            for name in names:
                hits = [hit for hit in retriever.search(f"subject {name}", 200) if f"{name}.txt" in hit.chunk.doc]
                editions = {found for hit in hits for found in re.findall(r"edition (\d+)", hit.chunk.text)}
                looked[f"{name} {len(editions)}"] += 1
                if len(editions) != 1:
                    wrong.append(f"{name}: {len(hits)} passages of editions {sorted(editions)}")

    searcher = Thread(target=look, daemon=True)
    searcher.start()
    try:
        for n in range(1, 16):
            write(n)
            bench.run()
    finally:
        over.set()
        searcher.join(60)
    assert not searcher.is_alive()
    assert not wrong, wrong[:5]
    assert sum(looked.values()) > 50
    assert bench.audit().holds


class Hanging(WordCountEmbedder):
    """Never comes back from counting the words of a text that says so; to be met in a worker."""

    def count_tokens(self, text: str) -> int:
        while "HANG" in text:
            time.sleep(1)
        return super().count_tokens(text)


class TestProgress:
    def test_documents_done_and_to_come(self, bench: Bench) -> None:
        for number in range(40):
            bench.write(f"{number:02}.txt", f"Document {number}. " * 300)
        ingestion = bench.begin()
        assert ingestion.progress()[:4] == (0, 0, 0, 0)
        seen = []
        for result in ingestion.run([bench.folder]):
            seen.append(ingestion.progress())
            assert seen[-1].files == len(seen)
            assert seen[-1].chunks >= result.chunks
        assert {progress.of for progress in seen} == {42}
        assert [p.chunks for p in seen] == sorted(p.chunks for p in seen)
        assert all(progress.eta is None or progress.eta >= 0 for progress in seen)
        assert (seen[-1].files, seen[-1].chunks) == (42, bench.store.count())
        assert ingestion.summary.seconds > 0

    def test_members_are_counted_when_they_are_known_of(self, bench: Bench) -> None:
        with zipfile.ZipFile(bench.folder / "c.zip", "w") as archive:
            for number in range(5):
                archive.writestr(f"{number}.txt", f"Member {number}.")
        for status in ("indexed", "unchanged"):
            ingestion = bench.begin()
            seen = [(r.status, ingestion.progress()) for r in ingestion.run([bench.folder])]
            assert [progress.files for _, progress in seen] == list(range(1, 9))
            assert all(progress.files < progress.of for _, progress in seen[2:-1])
            assert seen[-1] == (status, seen[-1][1])
            assert seen[-1][1].of == 8

    def test_two_runs_on_the_same_store(self, bench: Bench) -> None:
        bench.run()
        first = bench.last.summary
        bench.write("b.txt", "The lease was prolonged.")
        bench.run()
        assert (first.indexed, first.unchanged) == (2, 0)
        assert (bench.last.summary.indexed, bench.last.summary.unchanged) == (1, 1)
        assert bench.store.count() == 2


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


def test_what_was_left_out_for_want_of_a_program_is_read_again(
    run: Run, tmp_path: Path, store: Store, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unchanged document whose note names a missing program is tried again; one without such a note is not."""
    from tests.ingest.test_parse import lines, pdf

    folder, path = tmp_path / "in", os.environ["PATH"]
    folder.mkdir()
    (folder / "a.pdf").write_bytes(pdf(lines("A page with a text layer."), "10 10 200 200 re f"))
    monkeypatch.setenv("PATH", str(tmp_path))
    first = run(folder)["a.pdf"]
    assert first.status == "indexed"
    assert "apt-get install tesseract-ocr" in first.reason
    assert run(folder)["a.pdf"].status == "indexed", "it is tried again every time"
    assert store.count() == catalog.chunks("default") == 1
    if not shutil.which("tesseract", path=path):
        pytest.skip("tesseract is not installed")
    monkeypatch.setenv("PATH", path)
    second = run(folder)["a.pdf"]
    assert second.status == "indexed"
    assert "apt-get" not in second.reason
    assert run(folder)["a.pdf"].status == "unchanged"
    assert store.count() == catalog.chunks("default") == 1
