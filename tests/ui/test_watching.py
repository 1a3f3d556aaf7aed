"""The index follows a folder: real files, saved the ways editors save. Nothing depends on how long anything takes."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from ingest.catalog import Catalog
from rag.answer import Rag
from rag.errors import IngestError, StoreError
from rag.settings import Settings
from tests.ui.held import HeldEmbedder, open_held, opening_of
from ui import watching as module
from ui.ingesting import Outcome
from ui.watching import Watching
from ui.workplace import Here, Opening, Workplace

PATIENCE = 60.0


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


class Followed:
    """A watch on a thread of its own, and what can be found meanwhile."""

    def __init__(self, settings: Settings, catalog: Catalog, opening: Opening, rag: Rag, folder: Path) -> None:
        self.rag, self.catalog = rag, catalog
        self.watching = Watching(settings, catalog, opening)
        self.outcomes: Queue[Outcome | Exception | None] = Queue()
        self.thread = threading.Thread(target=self._work, args=(folder,))
        self.thread.start()

    def _work(self, folder: Path) -> None:
        try:
            for outcome in self.watching.steps([folder]):
                self.outcomes.put(outcome)
            self.outcomes.put(None)
        except (IngestError, StoreError) as error:
            self.outcomes.put(error)

    def next(self) -> Outcome:
        outcome = self.outcomes.get(timeout=PATIENCE)
        assert isinstance(outcome, Outcome), outcome
        return outcome

    def until(self, *texts: str) -> list[str]:
        """Outcomes until the index holds exactly these texts."""
        while self.texts() != sorted(texts):
            self.next()
        return self.texts()

    def texts(self) -> list[str]:
        return sorted(chunk.text for chunk in self.rag.store.fetch(sorted(self.rag.store.ids())))

    def end(self) -> None:
        self.watching.stop()
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("The rent is 900 euros.")
    (tmp_path / "in" / "sub" / "b.txt").write_text("The lease ends in May.")
    return tmp_path / "in"


@pytest.fixture
def followed(settings: Settings, catalog: Catalog, opening: Opening, rag: Rag, folder: Path) -> Iterator[Followed]:
    begun = Followed(settings, catalog, opening, rag, folder)
    assert begun.next().record["files"]["indexed"] == 2
    yield begun
    begun.end()


def truncate(path: Path, text: str) -> None:
    path.write_text(text)


def rename_over(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").replace(path)


def delete_and_create(path: Path, text: str) -> None:
    path.unlink()
    path.write_text(text)


def move_away_and_create(path: Path, text: str) -> None:
    path.rename(path.with_name(path.name + "~"))
    path.write_text(text)


def grow(path: Path, text: str) -> None:
    with path.open("w") as file:
        for letter in text:
            file.write(letter)
            file.flush()


@pytest.mark.parametrize("save", [truncate, rename_over, delete_and_create, move_away_and_create, grow])
def test_however_an_editor_saves_there_is_one_version(
    followed: Followed, folder: Path, save: Callable[[Path, str], None]
) -> None:
    save(folder / "a.txt", "The rent is 950 euros.")
    followed.until("The lease ends in May.", "The rent is 950 euros.")
    assert [Path(row.doc).name for row in followed.catalog.rows("default")] == ["a.txt", "b.txt"]


def test_what_has_gone_is_taken_out_with_what_was_in_it(followed: Followed, folder: Path) -> None:
    shutil.rmtree(folder / "sub")
    record = followed.next().record
    assert record["files"] == {"seen": 0, "indexed": 0, "unchanged": 0, "removed": 1, "failed": 0}
    assert followed.until("The rent is 900 euros.")


def test_a_renamed_folder_is_not_embedded_again(followed: Followed, folder: Path, embedder: HeldEmbedder) -> None:
    embedder.asked.clear()
    (folder / "sub").rename(folder / "moved")
    while [Path(row.doc).parent.name for row in followed.catalog.rows("default")] != ["in", "moved"]:
        followed.next()
    assert not embedder.asked.is_set()
    assert len(followed.texts()) == 2


def test_what_fails_is_reported_and_so_is_its_recovery(followed: Followed, folder: Path, settings: Settings) -> None:
    (folder / "c.txt").write_text("")
    record = followed.next().record
    assert record["files"]["failed"] == 1
    assert Path(record["quarantine"]) == settings.home / "quarantine" / "default.jsonl"
    (folder / "c.txt").write_text("Not empty any more.")
    while record["quarantine"]:
        record = followed.next().record
    assert "Not empty any more." in followed.texts()


def test_a_folder_that_vanishes_ends_the_watch_and_keeps_its_documents(followed: Followed, folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))
    error = followed.outcomes.get(timeout=PATIENCE)
    assert isinstance(error, IngestError)
    assert len(followed.texts()) == 2


def test_a_batch_that_fails_is_tried_again(
    settings: Settings,
    catalog: Catalog,
    rag: Rag,
    folder: Path,
    embedder: HeldEmbedder,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The process that owns the index may end: who owns it is found out anew."""
    monkeypatch.setattr(module, "PAUSES", (0.01,))
    opened = 0

    @contextmanager
    def opening(_settings: Settings, _catalog: Catalog) -> Iterator[Workplace]:
        nonlocal opened
        opened += 1
        yield Here(rag, catalog)

    def fail_once() -> None:
        embedder.does = lambda: None
        raise StoreError("the disk is full")

    open_: Callable[[Settings, Catalog], AbstractContextManager[Workplace]] = opening
    followed = Followed(settings, catalog, open_, rag, folder)
    followed.next()
    embedder.does = fail_once
    (folder / "a.txt").write_text("The rent is 950 euros.")
    followed.until("The lease ends in May.", "The rent is 950 euros.")
    followed.end()
    assert opened == 2
    assert "the disk is full; trying again in 0 s" in capsys.readouterr().err


def test_an_error_at_the_beginning_is_the_end(settings: Settings, catalog: Catalog, folder: Path) -> None:
    @contextmanager
    def opening(_settings: Settings, _catalog: Catalog) -> Iterator[Workplace]:
        raise StoreError("the disk is full")
        yield

    with pytest.raises(StoreError, match="the disk is full"):
        next(Watching(settings, catalog, opening).steps([folder]))


def test_a_signal_ends_it_and_the_rest_is_done_the_next_time(
    settings: Settings,
    catalog: Catalog,
    opening: Opening,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, say = signal.getsignal(signal.SIGINT), module.say

    def said(console: Any, line: str) -> None:
        say(console, line)
        if "watching for changes" in line:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(module, "say", said)
    outcomes = list(Watching(settings, catalog, opening).steps([folder]))
    assert len(outcomes) == 1
    assert not outcomes[0].record["interrupted"]
    assert signal.getsignal(signal.SIGINT) == before
    assert "watching for changes; press Ctrl-C to end" in capsys.readouterr().err


def test_a_signal_in_the_middle_of_a_document_stops_before_the_next(
    settings: Settings, catalog: Catalog, opening: Opening, folder: Path, embedder: HeldEmbedder
) -> None:
    embedder.does = lambda: os.kill(os.getpid(), signal.SIGTERM)
    for number in range(10):
        (folder / f"{number}.txt").write_text(f"Document {number} tells of subject {number}. " * 1000)
    (outcome,) = Watching(settings, catalog, opening).steps([folder])
    assert outcome.record["interrupted"]
    assert len(catalog.rows("default")) < 12
