"""Building the index anew beside the one in use: another embedder, another way of cutting, and every interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest import rebuild
from ingest.catalog import Catalog
from ingest.rebuild import KEPT, Rebuild
from rag.embed import Embedder
from rag.errors import StoreLocked
from rag.settings import Settings
from rag.store.opening import beside_label, index_directory, index_identity, open_store
from tests.conftest import ROOT, WordCountEmbedder
from tests.ingest.inline import Bench, CountingEmbedder

FILES = 6


class Narrow(CountingEmbedder):
    """Another embedder, with vectors of another width."""

    id = "narrow@1"
    dim = 32


class Short(Narrow):
    id = "short@1"
    window = 20


class Third(CountingEmbedder):
    id = "third@1"
    dim = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number in range(FILES):
        text = "\n\n".join(f"Paragraph {p} of document {number} with some words. " * 4 for p in range(4))
        (tmp_path / "in" / f"{number}.txt").write_text(text)
    with zipfile.ZipFile(tmp_path / "in" / "box.zip", "w") as archive:
        archive.writestr("member.txt", "A member of a box.")
    return tmp_path / "in"


@pytest.fixture
def indexed(settings: Settings, catalog: Catalog, folder: Path) -> Iterator[Bench]:
    """The folder, indexed by the first embedder; the store is closed."""
    embedder = WordCountEmbedder()
    with_store = opened(settings, embedder, catalog, folder)
    with_store.run()
    with_store.store.close()
    yield with_store
    catalog.close()


def opened(settings: Settings, embedder: Embedder, catalog: Catalog, folder: Path) -> Bench:
    return Bench(settings, embedder, open_store(settings, embedder, create=True), catalog, folder)


def rebuilt(bench: Bench, embedder: Embedder, settings: Settings | None = None, prune: bool = False) -> dict[str, str]:
    run = Rebuild(settings or bench.settings, embedder, bench.catalog)
    return {bench.name(result.doc): result.status for result in run.run([bench.folder], prune)}


def assert_holds(bench: Bench, embedder: Embedder, settings: Settings | None = None) -> dict[str, list[str]]:
    """The index in use is that of the embedder, and whole; what it holds."""
    chosen = settings or bench.settings
    assert rebuild.why(chosen, embedder, bench.catalog) == ""
    assert index_identity(chosen) == (embedder.dim, embedder.id)
    assert beside_label(chosen) == ""
    assert bench.catalog.rows(rebuild.next_ledger(chosen.collection)) == []
    now = opened(chosen, embedder, bench.catalog, bench.folder)
    try:
        report = now.audit()
        assert report.holds, report.faults
        return now.texts()
    finally:
        now.store.close()


def test_another_embedder_there_and_back(indexed: Bench) -> None:
    before = assert_holds(indexed, indexed.embedder)
    assert len(before) == FILES + 2
    for embedder in (Narrow(), WordCountEmbedder()):
        assert "the embedder changed from" in rebuild.why(indexed.settings, embedder, indexed.catalog)
        assert set(rebuilt(indexed, embedder).values()) == {"indexed"}
        assert assert_holds(indexed, embedder) == before


def test_another_way_of_cutting(indexed: Bench, embedder: WordCountEmbedder) -> None:
    finer = indexed.settings.model_copy(update={"chunk_tokens": 40, "chunk_overlap": 5})
    before = assert_holds(indexed, embedder)
    assert "cutting text into passages changed" in rebuild.why(finer, embedder, indexed.catalog)
    rebuilt(indexed, embedder, finer)
    after = assert_holds(indexed, embedder, finer)
    assert after.keys() == before.keys()
    assert sum(map(len, after.values())) > sum(map(len, before.values()))


def test_the_old_index_answers_until_the_new_one_is_complete(indexed: Bench) -> None:
    other = Narrow()
    before = assert_holds(indexed, indexed.embedder)
    run = Rebuild(indexed.settings, other, indexed.catalog)
    for _ in run.run([indexed.folder]):
        assert index_identity(indexed.settings) == (64, "word-counts@1")
        live = opened(indexed.settings, indexed.embedder, indexed.catalog, indexed.folder)
        assert live.texts() == before
        live.store.close()
    assert_holds(indexed, other)


def test_an_index_in_use_is_not_replaced_but_nothing_is_done_twice(indexed: Bench) -> None:
    other = Narrow()
    live = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), str(indexed.settings.home)], stdout=subprocess.PIPE, cwd=ROOT
    )
    assert live.stdout is not None
    live.stdout.readline()
    try:
        with pytest.raises(StoreLocked):
            rebuilt(indexed, other)
    finally:
        live.kill()
        live.wait()
        live.stdout.close()
    other.texts = []
    assert set(rebuilt(indexed, other).values()) == {"unchanged"}
    assert other.texts == []
    assert_holds(indexed, other)


def test_an_interrupted_one_goes_on_where_it_was(indexed: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.writer.FLUSH_AT", 1)
    other = Narrow()
    run = Rebuild(indexed.settings, other, indexed.catalog)
    done = []
    for result in run.run([indexed.folder]):
        done.append(result.doc)
        run.stop()
    assert run.summary.interrupted
    assert 0 < len(done) < FILES + 2
    assert index_identity(indexed.settings) == (64, "word-counts@1")
    other.texts = []
    results = rebuilt(indexed, other)
    assert all(results[indexed.name(doc)] == "unchanged" for doc in done)
    assert len(results) == FILES + 2
    texts = assert_holds(indexed, other)
    again = {text for doc in done for text in texts[indexed.name(doc)]}
    assert not again & set(other.texts)


def test_another_one_begun_in_the_middle(indexed: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingest.writer.FLUSH_AT", 1)
    before = assert_holds(indexed, indexed.embedder)
    run = Rebuild(indexed.settings, Narrow(), indexed.catalog)
    for _ in run.run([indexed.folder]):
        run.stop()
    third = Third()
    assert set(rebuilt(indexed, third).values()) == {"indexed"}
    assert assert_holds(indexed, third) == before


def test_documents_whose_files_have_gone_are_carried_over(indexed: Bench) -> None:
    before = assert_holds(indexed, indexed.embedder)
    (indexed.folder / "0.txt").unlink()
    (indexed.folder / "box.zip").unlink()
    other = Narrow()
    results = rebuilt(indexed, other)
    assert results.keys() == before.keys()
    assert assert_holds(indexed, other) == before
    assert {name for name, row in indexed.rows().items() if row.reason == KEPT} == {
        "0.txt",
        "box.zip",
        "box.zip/member.txt",
    }


def test_pruning_leaves_them_behind(indexed: Bench) -> None:
    (indexed.folder / "0.txt").unlink()
    (indexed.folder / "box.zip").unlink()
    other = Narrow()
    rebuilt(indexed, other, prune=True)
    left = {f"{number}.txt" for number in range(1, FILES)}
    assert set(assert_holds(indexed, other)) == set(indexed.rows()) == left


def test_what_is_no_longer_in_a_container_is_not_carried_over(indexed: Bench) -> None:
    with zipfile.ZipFile(indexed.folder / "box.zip", "w") as archive:
        archive.writestr("other.txt", "Another member.")
    (indexed.folder / "0.txt").write_text(" ")
    other = Narrow()
    assert rebuilt(indexed, other)["0.txt"] == "failed"
    assert set(assert_holds(indexed, other)) == {
        "box.zip",
        "box.zip/other.txt",
        *(f"{number}.txt" for number in range(1, FILES)),
    }


def test_passages_that_the_new_embedder_cannot_take(indexed: Bench) -> None:
    (indexed.folder / "0.txt").unlink()
    settings = indexed.settings.model_copy(update={"chunk_tokens": 16, "chunk_overlap": 2})
    short = Short()
    assert rebuilt(indexed, short, settings)["0.txt"] == "failed"
    assert "0.txt" not in assert_holds(indexed, short, settings)
    assert "its file has gone" in indexed.rows()["0.txt"].reason


def test_a_file_whose_name_is_not_utf8(indexed: Bench) -> None:
    Path(os.fsdecode(os.fsencode(indexed.folder) + b"/caf\xe9.txt")).write_text("The cafe opens at nine.")
    live = opened(indexed.settings, indexed.embedder, indexed.catalog, indexed.folder)
    live.run()
    live.store.close()
    other = Narrow()
    assert rebuilt(indexed, other)["caf\\udce9.txt"] == "indexed"
    assert indexed.rows()["caf\\udce9.txt"].reason == ""


HOLDER = """
    import sys, time
    from rag.settings import Settings
    from rag.store.opening import open_store
    from tests.conftest import WordCountEmbedder

    store = open_store(Settings.load(home=sys.argv[1]), WordCountEmbedder())
    print("open", flush=True)
    time.sleep(600)
"""
CHILD = """
    import os, sys
    from pathlib import Path
    from ingest import rebuild, writer
    from ingest.catalog import Catalog
    from rag.settings import Settings
    from rag.store import swap
    from tests.ingest.test_rebuild import Narrow

    home, folder, where = sys.argv[1:]
    writer.FLUSH_AT = 2

    def dies(part, name, after):
        method = getattr(part, name)

        def call(*arguments, **more):
            if after:
                method(*arguments, **more)
            os.kill(os.getpid(), 9)

        setattr(part, name, call)

    if where != "nowhere":
        when, name = where.split()
        part = {"put_in_place": rebuild, "move": Catalog, "replace": swap, "_finish": swap}[name]
        dies(part, name, when == "after")
    settings = Settings.load(home=home, parse_workers=1)
    catalog = Catalog.open(settings.home / "catalog.sqlite")
    rebuild.finish(settings, catalog)
    run = rebuild.Rebuild(settings, Narrow(), catalog)
    print("ready", flush=True)
    for result in run.run([Path(folder)]):
        pass
    print("done", flush=True)
"""


def child(bench: Bench, where: str) -> subprocess.Popen[bytes]:
    arguments = [str(bench.settings.home), str(bench.folder), where]
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), *arguments], stdout=subprocess.PIPE, cwd=ROOT
    )


def finished(bench: Bench, embedder: Embedder) -> int:
    """What the next start does; how many texts had to be embedded."""
    rebuild.finish(bench.settings, bench.catalog)
    if rebuild.why(bench.settings, embedder, bench.catalog):
        rebuilt(bench, embedder)
    return len(embedder.texts) if isinstance(embedder, CountingEmbedder) else 0


@pytest.mark.parametrize(
    "where", ["before put_in_place", "before replace", "after replace", "after put_in_place", "after move"]
)
def test_killed_when_the_new_index_takes_its_place(indexed: Bench, where: str) -> None:
    before = assert_holds(indexed, indexed.embedder)
    run = child(indexed, where)
    assert run.communicate(timeout=120)[0] == b"ready\n"
    assert run.returncode == -signal.SIGKILL
    other = Narrow()
    assert finished(indexed, other) == 0, "everything was embedded already"
    assert assert_holds(indexed, other) == before


@pytest.mark.slow
def test_killed_at_any_moment(indexed: Bench) -> None:
    before = assert_holds(indexed, indexed.embedder)
    for tenth in range(1, 13):
        run = child(indexed, "nowhere")
        assert run.stdout is not None
        run.stdout.readline()
        time.sleep(tenth / 4)
        run.kill()
        run.communicate()
        rebuild.finish(indexed.settings, indexed.catalog)
        identity = index_identity(indexed.settings)
        embedder = next(each for each in (WordCountEmbedder(), Narrow()) if (each.dim, each.id) == identity)
        live = opened(indexed.settings, embedder, indexed.catalog, indexed.folder)
        assert live.texts() == before
        assert live.audit().holds
        live.store.close()
    other = Narrow()
    finished(indexed, other)
    assert assert_holds(indexed, other) == before


def test_what_the_user_said_is_kept_and_said_about_the_given_paths_alone(indexed: Bench) -> None:
    live = opened(indexed.settings, indexed.embedder, indexed.catalog, indexed.folder)
    live.run(indexed.folder / "0.txt", indexed.folder / "1.txt", metadata=(("project", "Aurora"),))
    live.store.close()
    (indexed.folder / "0.txt").unlink()
    run = Rebuild(indexed.settings, Narrow(), indexed.catalog)
    assert all(result.status == "indexed" for result in run.run([indexed.folder / "2.txt"], metadata=(("a", "b"),)))
    assert_holds(indexed, Narrow())
    kept = {name: row.metadata for name, row in indexed.rows().items() if row.metadata}
    assert kept == {"0.txt": (("project", "Aurora"),), "1.txt": (("project", "Aurora"),), "2.txt": (("a", "b"),)}


def test_an_index_of_an_earlier_format_is_built_anew_with_what_only_it_still_has(indexed: Bench) -> None:
    meta = index_directory(indexed.settings) / "index" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": 2}))
    (indexed.folder / "0.txt").unlink()
    embedder = WordCountEmbedder()
    assert "format 2" in rebuild.why(indexed.settings, embedder, indexed.catalog)
    assert set(rebuilt(indexed, embedder).values()) == {"indexed"}
    assert "0.txt" in assert_holds(indexed, embedder)
    assert indexed.rows()["0.txt"].reason == KEPT
