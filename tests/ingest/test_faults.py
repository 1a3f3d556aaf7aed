"""Whatever fails while a run goes on: nothing is lost or doubled after the next one that does not fail.

Stores and catalogs that fail are the real ones with a fault put before or after one of their calls.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from ingest import writer
from ingest.catalog import Catalog
from ingest.pipeline import Ingestion
from ingest.results import FileResult
from ingest.writer import remove
from rag.errors import EmbedError, FootnoteError, IngestError, StoreError
from rag.settings import Settings
from rag.store.opening import open_store
from rag.types import Vectors
from tests.conftest import WordCountEmbedder
from tests.ingest.inline import Bench, Inline
from tests.ingest.test_members import packed

PATIENCE = 120.0
"""Seconds after which something is said to hang."""


@pytest.fixture
def bench(settings: Settings, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(writer, "FLUSH_AT", 4)  # so that a document needs several calls of everything
    embedder = WordCountEmbedder()
    chosen = settings.model_copy(update={"chunk_tokens": 40, "chunk_overlap": 5})
    store = open_store(chosen, embedder, create=True)
    (tmp_path / "in").mkdir()
    yield Bench(chosen, embedder, store, catalog, tmp_path / "in")
    store.close()


class Faulty:
    """Passes everything on, but raises at the n-th of the calls named, instead of it or after it was done."""

    def __init__(self, inner: Any, names: Sequence[str], n: int, error: Exception, after: bool = False) -> None:
        self._inner, self._names, self._left, self._error, self._after = inner, names, n, error, after

    @property
    def has_failed(self) -> bool:
        return self._left < 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        return self._counted(method) if name in self._names else method

    def _counted(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            fails, self._left = self._left == 0, self._left - 1
            if fails and not self._after:
                raise self._error
            result = method(*arguments, **more)
            if fails:
                raise self._error
            return result

        return call


class Failing(WordCountEmbedder):
    """Raises at the n-th call, or on every text that holds a word."""

    def __init__(self, error: Exception, n: int = -1, word: str = "") -> None:
        self._error, self._left, self._word = error, n, word

    def embed(self, texts: Sequence[str]) -> Vectors:
        self._left -= 1
        if self._left == -1 or (self._word and any(self._word in text for text in texts)):
            raise self._error
        return super().embed(texts)


def ran(bench: Bench, store: Any = None, catalog: Any = None, embedder: Any = None) -> list[FileResult] | Exception:
    """A run's results, or what it raised; fails where it hangs or leaves a thread."""
    ended: list[list[FileResult] | Exception] = []
    embedder = embedder or bench.embedder

    def go() -> None:
        try:
            readers = Inline(bench.settings, embedder)
            parts = (embedder, store or bench.store, catalog or bench.catalog)
            ended.append(list(Ingestion(bench.settings, *parts, readers=readers).run([bench.folder], prune=True)))
        except Exception as error:  # noqa: BLE001 - handed to the test
            ended.append(error)

    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "it hangs"
    assert not [each for each in threading.enumerate() if each.name == "footnote-feed"]
    told = [result.doc for result in ended[0]] if isinstance(ended[0], list) else []
    assert len(told) == len(set(told)), "one result a document"
    return ended[0]


def version(bench: Bench, n: int) -> None:
    """Everything that can happen to documents: changed ones of all sizes, new, renamed, copied, gone, bad, members."""
    bench.write("a.txt", f"A short text, edition{n} of it.")
    bench.write("b.txt", "\n\n".join(f"Paragraph {p} of a long text, edition{n} of it. " * 3 for p in range(70)))
    bench.write(f"new-{n}.txt", f"A new text, edition{n} of it.")
    bench.write(f"moved-{n}.txt", "This text never changes.")
    bench.write(f"copied-{n}.txt", "This text never changes.")
    bench.write("bad.txt", f"Once a good text, edition{n} of it." if n % 2 else "")
    members: dict[str, str | bytes] = {"m.txt": f"A member, edition{n} of it.", f"{n}.txt": f"Only in edition{n}."}
    bench.write("box.zip", packed(members))
    same: dict[str, str | bytes] = {"m.txt": f"Of the same name, edition{n} of it."}
    bench.write("crate.zip", packed(same | {"in.zip": packed({"deep.txt": f"Deep down, edition{n} of it."})}))
    for gone in (f"new-{n - 1}.txt", f"moved-{n - 1}.txt", f"copied-{n - 1}.txt"):
        (bench.folder / gone).unlink(missing_ok=True)


def assert_whole(bench: Bench, n: int) -> None:
    """Everything of one version is there once, and nothing else."""
    report = bench.audit()
    assert report.holds, report.faults
    texts = bench.texts()
    expected = {"a.txt", "b.txt", f"new-{n}.txt", f"moved-{n}.txt", f"copied-{n}.txt"}
    expected |= {"box.zip", "box.zip/m.txt", f"box.zip/{n}.txt"} | ({"bad.txt"} if n % 2 else set())
    expected |= {"crate.zip", "crate.zip/m.txt", "crate.zip/in.zip", "crate.zip/in.zip/deep.txt"}
    assert set(texts) == expected
    assert set(bench.rows()) == expected | {"bad.txt"}
    changing = ("a.txt", "b.txt", f"new-{n}.txt", "box.zip/m.txt", "crate.zip/m.txt", "crate.zip/in.zip/deep.txt")
    for name in changing:
        assert all(f"edition{n} " in text for text in texts[name]), name
    assert len(bench.chunks()) == bench.store.count()


def assert_never_two(bench: Bench) -> None:
    """No document shows passages of two revisions."""
    seen: dict[str, str] = {}
    for chunk, hidden in bench.chunks().values():
        assert hidden or seen.setdefault(chunk.doc_id, chunk.revision) == chunk.revision


@pytest.mark.parametrize("after", [False, True], ids=["instead", "after"])
@pytest.mark.parametrize(
    ("part", "names", "error"),
    [
        ("store", ("upsert", "publish", "delete"), StoreError("the disk is full; make room")),
        ("catalog", ("put", "remove"), IngestError("the catalog cannot be written; make room")),
    ],
    ids=["store", "catalog"],
)
def test_a_write_that_fails_whichever_it_is(
    bench: Bench, part: str, names: Sequence[str], error: Exception, after: bool
) -> None:
    version(bench, 0)
    ran(bench)
    for n in range(100):
        version(bench, n + 1)
        faulty = Faulty(getattr(bench, part), names, n, error, after)
        outcome = ran(bench, **{part: faulty})
        if not faulty.has_failed:
            break
        assert outcome is error
        assert_never_two(bench)
        assert isinstance(ran(bench), list)
        assert_whole(bench, n + 1)
    assert 10 < n < 99, "every write of a run failed once"


def test_a_file_that_is_as_before_again_after_a_run_that_was_cut_short(bench: Bench) -> None:
    """What the index holds then has as many chunks as the catalog says, but others."""
    for n in range(4):
        bench.write("a.txt", "The rent is 900 euros.")
        assert isinstance(ran(bench), list)
        bench.write("a.txt", "The rent is 950 euros.")
        faulty = Faulty(bench.catalog, ("put",), n, IngestError("full; make room"))
        ran(bench, catalog=faulty)
        bench.write("a.txt", "The rent is 900 euros.")
        assert isinstance(ran(bench), list)
        assert bench.texts()["a.txt"] == ["The rent is 900 euros."]
        assert bench.audit().holds
    assert not faulty.has_failed


def test_a_new_file_that_goes_after_a_run_that_was_cut_short(bench: Bench) -> None:
    """Nothing is in the index that the catalog does not name, so that it can be removed."""
    for n in range(3):
        path = bench.write("a.txt", "\n\n".join(f"A new text, paragraph {p}. " * 6 for p in range(70)))
        faulty = Faulty(bench.store, ("upsert", "publish"), n, StoreError("full; make room"), after=True)
        assert isinstance(ran(bench, store=faulty), StoreError)
        path.unlink()
        assert {result.status for result in ran(bench)} == {"removed"}  # type: ignore[union-attr]
        assert bench.store.count() == 0
        assert bench.rows() == {}


def test_a_member_that_goes_after_a_run_that_was_cut_short(bench: Bench) -> None:
    """It is a copy, so that it is in the index before its container, which waits to be embedded."""
    for n in range(8):
        bench.write("a.txt", f"Known text {n}.")
        assert isinstance(ran(bench), list)
        bench.write("box.zip", packed({"in.zip": packed({"m.txt": f"Known text {n}."})}))
        faulty = Faulty(bench.catalog, ("put",), n, IngestError("full; make room"))
        ran(bench, catalog=faulty)
        bench.write("box.zip", packed({"in.zip": packed({"other.txt": "Another text."})}))
        assert isinstance(ran(bench), list)
        assert set(bench.texts()) == {"a.txt", "box.zip", "box.zip/in.zip", "box.zip/in.zip/other.txt"}
        (bench.folder / "box.zip").unlink()
        assert isinstance(ran(bench), list)
        assert set(bench.rows()) == {"a.txt"}
    assert not faulty.has_failed


def test_what_is_missing_is_not_made_up_for_by_what_is_too_much(bench: Bench) -> None:
    """The index has as many passages as the catalog says, since one run left one too many and a removal took one."""
    full = IngestError("full; make room")
    bench.write("a.txt", "The rent is 900 euros.")
    ran(bench)
    bench.write("b.txt", "A new text.")
    assert ran(bench, catalog=Faulty(bench.catalog, ("put",), 1, full)) is full
    with suppress(IngestError):
        forgetful = Faulty(bench.catalog, ("remove",), 0, full)
        remove(bench.rows()["a.txt"], bench.settings.collection, bench.store, forgetful)
    assert bench.store.count() == 1
    assert bench.rows()["a.txt"].status == "failed"
    ran(bench)
    assert bench.texts() == {"a.txt": ["The rent is 900 euros."], "b.txt": ["A new text."]}
    assert bench.audit().holds


def test_documents_that_are_indexed_again_do_not_stay_hidden(bench: Bench) -> None:
    """Chunks that are lost are written again, and the run that does it is cut short."""
    bench.write("a.txt", "The rent is 900 euros.")
    ran(bench)
    bench.store.delete(bench.rows()["a.txt"].doc_id)
    ran(bench, store=Faulty(bench.store, ("publish",), 0, StoreError("full; make room")))
    ran(bench)
    assert bench.texts() == {"a.txt": ["The rent is 900 euros."]}


class TestEmbedder:
    def test_a_text_that_cannot_be_embedded_costs_its_document(self, bench: Bench) -> None:
        version(bench, 1)
        bench.write("poison.txt", "\n\n".join(f"Paragraph {n}. " * 20 for n in range(8)) + "\n\nPOISON.")
        outcome = ran(bench, embedder=Failing(EmbedError("a text that is too long"), word="POISON"))
        assert isinstance(outcome, list)
        (bad,) = [result for result in outcome if result.status == "failed"]
        assert (bench.name(bad.doc), bad.stage, bad.reason) == ("poison.txt", "embed", "a text that is too long")
        assert "poison.txt" not in bench.texts()
        assert bench.audit().holds
        ran(bench)
        assert "poison.txt" in bench.texts()

    @pytest.mark.parametrize("error", [EmbedError("out of memory; lower something"), RuntimeError("a bug")])
    def test_one_call_that_fails_whichever_it_is(self, bench: Bench, error: Exception) -> None:
        for n in range(100):
            version(bench, n + 1)
            embedder = Failing(error, n)
            outcome = ran(bench, embedder=embedder)
            assert (
                isinstance(outcome, list) if isinstance(error, EmbedError) or embedder._left >= 0 else outcome is error
            )
            assert_never_two(bench)
            assert isinstance(ran(bench), list)
            assert_whole(bench, n + 1)
            if embedder._left >= 0:
                break
        assert 2 < n < 99

    def test_an_embedder_that_always_fails(self, bench: Bench) -> None:
        version(bench, 1)
        outcome = ran(bench, embedder=Failing(EmbedError("out of memory; lower something"), word="e"))
        assert isinstance(outcome, list)
        version(bench, 2)
        outcome = ran(bench, embedder=Failing(EmbedError("out of memory; lower something"), word="e"))
        assert {r.stage for r in outcome if r.status == "failed"} == {"embed", "parse"}  # type: ignore[union-attr]
        assert bench.audit().holds
        ran(bench)
        assert_whole(bench, 2)


def test_a_catalog_that_another_process_writes_to(bench: Bench) -> None:
    version(bench, 1)
    path = bench.settings.home / "catalog.sqlite"
    hurried, other = Catalog.open(path, wait=0.2), sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    outcome = ran(bench, catalog=hurried)
    assert isinstance(outcome, IngestError)
    assert "another process is writing to it, try again" in str(outcome)
    assert "\n" not in str(outcome)
    other.execute("ROLLBACK")
    other.close()
    assert isinstance(ran(bench, catalog=hurried), list)
    hurried.close()
    assert_whole(bench, 1)


@pytest.mark.parametrize("failing", ["store", "embedder", "catalog"])
def test_no_process_outlives_a_run_that_fails(bench: Bench, failing: str) -> None:
    """With the real sandbox, while a worker is busy."""
    version(bench, 1)
    parts: dict[str, Any] = {"embedder": bench.embedder, "store": bench.store, "catalog": bench.catalog}
    parts |= {
        "store": {"store": Faulty(bench.store, ("upsert",), 0, StoreError("full; make room"))},
        "embedder": {"embedder": Failing(RuntimeError("a bug"), 0)},
        "catalog": {"catalog": Faulty(bench.catalog, ("put",), 0, IngestError("full; make room"))},
    }[failing]
    with pytest.raises((FootnoteError, RuntimeError), match=r"full; make room|a bug"):
        list(Ingestion(bench.settings, **parts).run([bench.folder]))
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]
    assert not [thread for thread in threading.enumerate() if thread.name == "footnote-feed"]
    assert not list((bench.settings.home / "spool").glob("*"))


def filled(disk: Path) -> Path:
    """A file that takes all the room that is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    return ballast


class TestFullDisk:
    @pytest.fixture
    def small(self, tmp_path: Path) -> Iterator[Path]:
        """A small disk of its own."""
        path = tmp_path / "small"
        path.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(path)]
        if (
            sys.platform != "linux"
            or os.geteuid()
            or subprocess.run(mount, capture_output=True, check=False).returncode
        ):
            pytest.skip("no disk can be made here")
        yield path
        subprocess.run(["umount", "--lazy", str(path)], check=True)

    def test_the_index_has_no_room(self, bench: Bench, small: Path) -> None:
        settings = bench.settings.model_copy(update={"home": small / "home"})
        store, catalog = open_store(settings, bench.embedder, create=True), Catalog.open(small / "home/catalog.sqlite")
        other = Bench(settings, bench.embedder, store, catalog, bench.folder)
        version(other, 1)
        outcome = ran(other)
        assert isinstance(outcome, StoreError)
        assert "disk space" in str(outcome)
        assert "\n" not in str(outcome)
        subprocess.run(["mount", "-o", "remount,size=1g", str(small)], check=True)
        assert isinstance(ran(other), list)
        assert_whole(other, 1)
        store.close()
        catalog.close()

    def test_the_catalog_has_no_room(self, bench: Bench, small: Path) -> None:
        version(bench, 1)
        bench.catalog = Catalog.open(small / "catalog.sqlite")
        ballast = filled(small)
        outcome = ran(bench)
        assert isinstance(outcome, IngestError)
        assert "check the disk" in str(outcome)
        ballast.unlink()
        assert isinstance(ran(bench), list)
        assert_whole(bench, 1)
        bench.catalog.close()

    def test_members_have_no_room(self, bench: Bench, small: Path) -> None:
        shutil.rmtree(bench.folder)
        bench.write("big.zip", packed({"big.txt": "Many words. " * 8_000_000, "small.txt": "Few words."}))
        bench.write("z.txt", "Another document.")
        settings = bench.settings.model_copy(update={"home": small, "chunk_tokens": 200})
        results = list(Ingestion(settings, bench.embedder, bench.store, bench.catalog).run([bench.folder]))
        assert [(bench.name(r.doc), r.status) for r in results] == [("big.zip", "failed"), ("z.txt", "indexed")]
        assert "No space left" in results[0].reason
        assert "\n" not in results[0].reason
        assert not list((small / "spool").glob("*"))
        assert bench.audit().holds
