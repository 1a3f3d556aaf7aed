"""Ingestion as a person at the command line sees it: messages, summaries, Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.errors import FootnoteError, IngestError
from rag.settings import Settings
from tests.ui.held import HeldEmbedder, open_held, opening_of
from ui.ingesting import ingest_with_progress
from ui.workplace import Here, Opening

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def embedder() -> HeldEmbedder:
    return HeldEmbedder()


@pytest.fixture
def rag(settings: Settings, embedder: HeldEmbedder) -> Iterator[Rag]:
    with open_held(settings, embedder) as opened:
        yield opened


@pytest.fixture
def opening(rag: Rag, catalog: Catalog) -> Opening:
    return opening_of(rag, catalog)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three documents, one of which cannot be read."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.md").write_text("# Rent\n\nThe rent is 900 euros a month.\n")
    (tmp_path / "in" / "b.txt").write_text("The lease ends on 31 May 2027.\n")
    (tmp_path / "in" / "empty.txt").write_text("")
    return tmp_path / "in"


def test_a_run_tells_what_failed_and_where_to_read_it(
    settings: Settings, catalog: Catalog, opening: Opening, folder: Path, capsys: Captured
) -> None:
    record, text = ingest_with_progress(settings, catalog, [folder], opening=opening)
    assert record["files"] == {"seen": 3, "indexed": 2, "unchanged": 0, "removed": 0, "failed": 1}
    assert not record["interrupted"]
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"failed   {folder / 'empty.txt'} (parse): the file is empty")
    report = settings.home / "quarantine" / "default.jsonl"
    assert record["quarantine"] == str(report)
    assert [json.loads(line)["path"] for line in report.read_text().splitlines()] == [str(folder / "empty.txt")]
    first, second = text.splitlines()
    assert first.startswith("3 files: 2 indexed, 1 failed; 2 passages from 2 pages in ")
    assert second.endswith(str(report))


def test_where_all_is_well_no_report_is_left(
    settings: Settings, catalog: Catalog, opening: Opening, folder: Path
) -> None:
    ingest_with_progress(settings, catalog, [folder], opening=opening)
    (folder / "empty.txt").write_text("Not empty any more.")
    record, text = ingest_with_progress(settings, catalog, [folder], opening=opening)
    assert record["quarantine"] is None
    assert len(text.splitlines()) == 1
    assert not list((settings.home / "quarantine").iterdir())


def test_what_has_gone_is_said_and_pruned(
    settings: Settings, catalog: Catalog, opening: Opening, folder: Path, capsys: Captured
) -> None:
    with open(os.fsencode(folder) + b"/caf\xe9.txt", "wb") as file:  # noqa: PTH123 - a name in bytes
        file.write(b"The cafe opens at nine.")
    ingest_with_progress(settings, catalog, [folder], opening=opening)
    for name in ("b.txt", "empty.txt"):
        (folder / name).unlink()
    capsys.readouterr()
    ingest_with_progress(settings, catalog, [folder], opening=opening)
    says = "2 documents of these folders without a file; add `--prune` to take what has gone out of the index\n"
    assert capsys.readouterr().err == says
    record, _ = ingest_with_progress(settings, catalog, [folder], prune=True, opening=opening)
    assert record["files"]["removed"] == 2
    assert capsys.readouterr().err == ""
    assert len(catalog.rows("default")) == 2


def test_a_renamed_file_has_not_gone(
    settings: Settings, catalog: Catalog, opening: Opening, folder: Path, capsys: Captured
) -> None:
    ingest_with_progress(settings, catalog, [folder], opening=opening)
    (folder / "a.md").rename(folder / "renamed.md")
    capsys.readouterr()
    record, _ = ingest_with_progress(settings, catalog, [folder], opening=opening)
    assert record["files"]["removed"] == 1
    assert "--prune" not in capsys.readouterr().err


def test_a_mistyped_path_is_refused_before_anything_is_opened(settings: Settings, catalog: Catalog) -> None:
    def never(_settings: Settings, _catalog: Catalog) -> None:
        raise AssertionError("opened")

    with pytest.raises(IngestError, match=r"nowhere; check the spelling"):
        ingest_with_progress(settings, catalog, [Path("nowhere")], opening=never)  # type: ignore[arg-type]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """More than the pipeline embeds at once."""
    (tmp_path / "many").mkdir()
    for number in range(12):
        (tmp_path / "many" / f"{number:02}.txt").write_text(f"Document {number} tells of subject {number}. " * 1000)
    return tmp_path / "many"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_in_order(
    settings: Settings,
    catalog: Catalog,
    opening: Opening,
    embedder: HeldEmbedder,
    many: Path,
    capsys: Captured,
    number: signal.Signals,
) -> None:
    before = signal.getsignal(number)
    embedder.does = lambda: None if catalog.rows("default") else os.kill(os.getpid(), number)
    record, _ = ingest_with_progress(settings, catalog, [many], opening=opening)
    assert record["interrupted"]
    assert signal.getsignal(number) == before
    done = record["files"]["seen"]
    assert done < 12
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == f"stopped: {done} of 12 files done; run the same command again to go on"
    assert {row.status for row in catalog.rows("default")} <= {"indexed"}

    embedder.does = lambda: None
    record, _ = ingest_with_progress(settings, catalog, [many], opening=opening)
    assert not record["interrupted"]
    assert record["files"] == {"seen": 12, "indexed": 12 - done, "unchanged": done, "removed": 0, "failed": 0}


def test_the_second_signal_ends_at_once(
    settings: Settings, catalog: Catalog, opening: Opening, embedder: HeldEmbedder, many: Path
) -> None:
    before = signal.getsignal(signal.SIGINT)

    def press_twice() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    embedder.does = press_twice
    with pytest.raises(KeyboardInterrupt):
        ingest_with_progress(settings, catalog, [many], opening=opening)
    assert signal.getsignal(signal.SIGINT) == before
    embedder.does = lambda: None
    record, _ = ingest_with_progress(settings, catalog, [many], opening=opening)
    assert record["files"]["failed"] == 0
    assert len(catalog.rows("default")) == 12


def test_an_error_in_the_middle_leaves_the_signals_as_they_were(
    settings: Settings, catalog: Catalog, opening: Opening, embedder: HeldEmbedder, folder: Path
) -> None:
    def fail() -> None:
        raise FootnoteError("the disk is full")

    before = signal.getsignal(signal.SIGINT)
    embedder.does = fail
    with pytest.raises(FootnoteError, match="the disk is full"):
        ingest_with_progress(settings, catalog, [folder], opening=opening)
    assert signal.getsignal(signal.SIGINT) == before


def test_here_removes_what_was_found_in_a_document_with_it(rag: Rag, catalog: Catalog, folder: Path) -> None:
    here = Here(rag, catalog)
    list(here.begin().run([folder]))
    doc = str(folder / "a.md")
    assert here.remove([doc, doc, "/no/such.txt"]) == [doc]
    assert here.remove([doc]) == []
