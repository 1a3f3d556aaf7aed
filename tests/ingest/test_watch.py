"""Real folders, watched while real files in them change. Nothing here depends on how long anything takes."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue

import pytest

from ingest.catalog import Catalog, Row
from ingest.watch import Batch, missing, watch
from rag.errors import IngestError

PATIENCE = 30.0
"""Seconds after which a test gives up; it goes on as soon as what it waits for has come."""


class Watch:
    """A watch on a thread of its own."""

    def __init__(self, *folders: Path) -> None:
        self.stop = threading.Event()
        self.batches: Queue[Batch | Exception | None] = Queue()
        self.thread = threading.Thread(target=self._work, args=(folders,))
        self.thread.start()

    def _work(self, folders: tuple[Path, ...]) -> None:
        try:
            for batch in watch(folders, self.stop):
                self.batches.put(batch)
            self.batches.put(None)
        except IngestError as error:
            self.batches.put(error)

    def next(self) -> Batch | Exception | None:
        return self.batches.get(timeout=PATIENCE)

    def until(self, path: Path) -> set[Path]:
        """Everything that was told until `path` was among it."""
        told: set[Path] = set()
        while path not in told:
            batch = self.next()
            assert isinstance(batch, tuple), batch
            told.update(batch)
        return told

    def after(self, change: Callable[[], object], marker: Path) -> set[Path]:
        """What is told of a change: everything up to the news of a file that is made after it."""
        change()
        marker.write_text("now")
        return self.until(marker) - {marker}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("one")
    (tmp_path / "in" / "sub" / "b.txt").write_text("two")
    return tmp_path / "in"


@pytest.fixture
def watching(folder: Path) -> Iterator[Watch]:
    begun = Watch(folder)
    assert begun.next() == (folder,)
    yield begun
    begun.stop.set()
    begun.thread.join(PATIENCE)
    assert not begun.thread.is_alive()


def test_the_folders_come_first_and_stop_ends_it(watching: Watch) -> None:
    watching.stop.set()
    assert watching.next() is None


def test_what_changes_while_a_batch_is_worked_on_is_in_the_next(folder: Path) -> None:
    stop = threading.Event()
    batches = watch([folder], stop)
    assert next(batches) == (folder,)
    (folder / "a.txt").write_text("while the folders are ingested")
    assert folder / "a.txt" in next(batches)
    batches.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda d: (d / "new.txt").write_text("new"), "new.txt"),
        (lambda d: (d / "a.txt").write_text("changed"), "a.txt"),
        (lambda d: (d / "a.txt").unlink(), "a.txt"),
        (lambda d: shutil.rmtree(d / "sub"), "sub"),
        (lambda d: (d / "sub").rename(d / "moved"), "moved"),
        (lambda d: (d / "sub").rename(d / "moved"), "sub"),
    ],
)
def test_changes_are_told(watching: Watch, folder: Path, change: Callable[[Path], object], told: str) -> None:
    assert folder / told in watching.after(lambda: change(folder), folder / "marker.txt")


def test_an_editor_that_renames_over_is_seen(watching: Watch, folder: Path) -> None:
    def save() -> None:
        (folder / "a.txt.new").write_text("changed")
        (folder / "a.txt.new").replace(folder / "a.txt")

    assert folder / "a.txt" in watching.after(save, folder / "marker.txt")


def test_what_discover_leaves_out_is_left_out(watching: Watch, folder: Path) -> None:
    def clutter() -> None:
        for name in (".hidden", "a.txt~", ".a.txt.swp", "b.swo", "~$letter.docx"):
            (folder / name).write_text("clutter")
        (folder / ".git").mkdir()
        (folder / ".git" / "HEAD").write_text("clutter")

    assert watching.after(clutter, folder / "marker.txt") == set()


def test_folders_that_are_hidden_above_the_watched_one_do_not_matter(tmp_path: Path) -> None:
    inner = tmp_path / ".notes" / "node_modules"
    inner.mkdir(parents=True)
    begun = Watch(inner)
    try:
        assert begun.next() == (inner,)
        (inner / "a.txt").write_text("one")
        assert begun.until(inner / "a.txt") == {inner / "a.txt"}
    finally:
        begun.stop.set()
        begun.thread.join(PATIENCE)


def test_behind_a_link_the_whole_folder_is_looked_at(folder: Path, tmp_path: Path) -> None:
    """The file may have its document under another name."""
    (tmp_path / "real").mkdir()
    (folder / "link").symlink_to(tmp_path / "real")
    begun = Watch(folder)
    try:
        assert begun.next() == (folder,)
        (tmp_path / "real" / "c.txt").write_text("three")
        assert begun.next() == (folder,)
    finally:
        begun.stop.set()
        begun.thread.join(PATIENCE)


def test_a_name_that_is_no_utf8_costs_a_look_at_everything(watching: Watch, folder: Path) -> None:
    with open(os.fsencode(folder) + b"/caf\xe9.txt", "wb") as file:  # noqa: PTH123 - a name in bytes
        file.write(b"The cafe opens at nine.")
    assert watching.next() == (folder,)
    assert folder / "after.txt" in watching.after(lambda: (folder / "after.txt").write_text("x"), folder / "marker.txt")


def test_after_very_many_changes_everything_is_looked_at(
    watching: Watch, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ingest.watch.MANY", 20)
    for number in range(21):
        (folder / f"{number}.txt").touch()
    assert folder in watching.until(folder)


def test_a_watched_folder_that_vanishes_is_an_error(watching: Watch, folder: Path, tmp_path: Path) -> None:
    folder.rename(tmp_path / "elsewhere")
    error = watching.next()
    assert isinstance(error, IngestError)
    assert f"{folder} has gone; its documents stay" in str(error)


def test_a_folder_that_is_not_there_cannot_be_watched(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="nowhere has gone"):
        next(watch([tmp_path / "nowhere"], threading.Event()))


def test_documents_that_have_gone(catalog: Catalog, folder: Path, tmp_path: Path) -> None:
    def put(path: Path, parent: str = "") -> str:
        doc = str(path)
        catalog.put("default", Row(doc, doc, path.stem, "00", 1, 1, "indexed", parent=parent))
        return doc

    put(folder / "a.txt")
    mail = put(folder / "gone" / "mail.eml")
    put(folder / "gone" / "mail.eml" / "inside.pdf", parent=mail)
    odd = put(folder / "caf\\udce9.txt")
    put(tmp_path / "gone.txt")
    assert [row.doc for row in missing(catalog, "default", [folder], seen={odd})] == [mail]
    assert [row.doc for row in missing(catalog, "default", [folder / "gone"])] == [mail]
    assert missing(catalog, "default", [folder / "gon"]) == []
    assert missing(catalog, "other", [folder]) == []
