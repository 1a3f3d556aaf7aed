"""Ingestion that is killed again and again, at any moment, ends as if nothing had happened."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import FileLock

from ingest import writer
from ingest.catalog import Catalog, Fingerprint
from ingest.pipeline import Ingestion
from ingest.sandbox import Event
from ingest.spool import leased
from ingest.stages import Task
from ingest.writer import is_there
from rag.errors import IngestError, StoreError
from rag.filter import Pairs
from rag.retrieve import Retriever
from rag.settings import Settings
from rag.store.opening import open_store
from tests.conftest import ROOT, WordCountEmbedder
from tests.ingest.inline import Bench, Inline
from tests.ingest.test_faults import Faulty
from tests.ingest.test_members import mail, packed

KILLS = 30
ROUNDS = 6
CHILD = """
    import sys
    from pathlib import Path
    from ingest import writer
    from ingest.catalog import Catalog
    from ingest.pipeline import Ingestion
    from rag.settings import Settings
    from rag.store.opening import open_store
    from tests.conftest import WordCountEmbedder

    writer.FLUSH_AT = 16
    settings = Settings.load(home=sys.argv[1], parse_workers=2)
    embedder = WordCountEmbedder()
    store = open_store(settings, embedder, create=True)
    catalog = Catalog.open(settings.home / "catalog.sqlite")
    print("ready", flush=True)
    for result in Ingestion(settings, embedder, store, catalog).run([Path(sys.argv[2])], prune=True):
        pass
    print("done", flush=True)
"""


def text(name: str, n: int, paragraphs: int) -> str:
    return "\n\n".join(f"Paragraph {p} of {name} in edition{n} of the matter. " * 8 for p in range(paragraphs))


def write(bench: Bench, n: int) -> None:
    """About 60 files, of which a part is new in every edition, and all in every tenth."""
    for number in range(20):
        if n % 10 == 0 or number % 5 == n % 5:
            bench.write(f"{number:02}.txt", text(f"text{number}", n, 2 + number * 3))
            bench.write(f"{number:02}.md", f"# Title {number}\n\n{text(f'page{number}', n, 3)}")
    for number in range(4):
        if n % 10 == 0 or number == n % 4:
            bench.write(f"{number}.html", f"<h1>Page {number}</h1><p>{text(f'html{number}', n, 4)}</p>")
            rows = "\n".join(f"{row},thing {row} of edition{n}" for row in range(100))
            bench.write(f"{number}.csv", f"number,what\n{rows}\n")
            bench.write(f"{number}.eml", mail(text(f"mail{number}", n, 3), note=text(f"note{number}", n, 6)))
            files: dict[str, str | bytes] = {f"{m}.txt": text(f"member{m}", n, 4) for m in range(n % 3, 6)}
            bench.write(f"{number}.zip", packed(files | {"in.zip": packed({"deep.txt": text("deep", n, 2)})}))
    bench.write(f"moved-{n}.txt", "This text never changes, but its name does. " * 30)
    (bench.folder / f"moved-{n - 1}.txt").unlink(missing_ok=True)
    bench.write("bad.txt", text("bad", n, 3) if n % 2 else " ")


def started(bench: Bench) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CHILD), str(bench.settings.home), str(bench.folder)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def killed(child: subprocess.Popen[str]) -> bool:
    """Kill the process and wait for its workers' end; False where it was done already."""
    workers = psutil.Process(child.pid).children(recursive=True)
    child.kill()
    assert child.stdout is not None
    done = "done" in child.stdout.read()
    child.stdout.close()
    child.wait()
    _, left = psutil.wait_procs(workers, timeout=20)
    assert not [worker for worker in left if worker.status() != psutil.STATUS_ZOMBIE], "workers end with their parent"
    return not done


def opened(settings: Settings, folder: Path) -> Bench:
    embedder = WordCountEmbedder()
    store = open_store(settings, embedder, create=True)
    return Bench(settings, embedder, store, Catalog.open(settings.home / "catalog.sqlite"), folder)


def close(bench: Bench) -> None:
    bench.store.close()
    bench.catalog.close()


def assert_usable(bench: Bench) -> None:
    """Searching works, nothing is seen twice, and what the catalog calls indexed is whole and visible."""
    retriever = Retriever(bench.store, bench.embedder, bench.settings)
    for question in ("Paragraph 1 of text7 in edition of the matter", "thing 42", "this text never changes"):
        revisions: dict[str, str] = {}
        for hit in retriever.search(question, 100):
            assert revisions.setdefault(hit.chunk.doc_id, hit.chunk.revision) == hit.chunk.revision
    visible: dict[str, Fingerprint] = {}
    for chunk, hidden in bench.chunks().values():
        if not hidden:
            visible.setdefault(chunk.doc, Fingerprint()).add(chunk.id)
    names = {row.doc for row in bench.rows().values()}
    assert set(visible) <= names, "nothing is in the index that the catalog does not name"
    for name, row in bench.rows().items():
        plain_file = not row.parent and name != "bad.txt" and is_there(row.doc)  # others may be on their way out
        if row.status == "indexed" and plain_file:
            assert str(visible.get(row.doc)) == row.fingerprint, name


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_killed_at_any_moment(settings: Settings, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    (tmp_path / "in").mkdir()
    bench = opened(settings, tmp_path / "in")
    close(bench)
    write(bench, 0)
    begun = time.monotonic()
    child = started(bench)
    child.wait()
    whole, hits = time.monotonic() - begun, 0
    for n in range(1, KILLS + 1):
        write(bench, n)
        child = started(bench)
        time.sleep(wait := chance.uniform(0, whole if n % 10 == 0 else whole / 2))
        if killed(child):
            hits += 1
        else:  # the first run had less of the machine
            whole = min(whole, wait)
        bench = opened(settings, bench.folder)
        assert_usable(bench)
        close(bench)
    assert hits > KILLS / 2, "most of them were killed before they were done"

    bench = opened(settings, bench.folder)
    list(Ingestion(settings, bench.embedder, bench.store, bench.catalog).run([bench.folder], prune=True))
    other = opened(settings.model_copy(update={"home": tmp_path / "other"}), bench.folder)
    list(Ingestion(other.settings, other.embedder, other.store, other.catalog).run([bench.folder]))
    assert_the_same(bench, other, sample=20)
    assert len(bench.rows()) > 60
    assert not list((settings.home / "spool").iterdir())
    close(bench)
    close(other)


def assert_the_same(bench: Bench, new: Bench, sample: int = 0) -> None:
    """What was cut short and went on ended as a new index does."""
    report = bench.audit(sample)
    assert report.holds, report.faults
    ours, theirs = bench.chunks(), new.chunks()
    differing = {id_ for id_ in ours.keys() | theirs.keys() if ours.get(id_) != theirs.get(id_)}
    named = [(ours.get(id_) or theirs[id_])[0] for id_ in differing]
    assert not named, sorted(
        (bench.name(chunk.doc), chunk.revision, chunk.metadata, chunk.text[:60]) for chunk in named
    )
    states = [{n: (r.status, r.reason, r.fingerprint, r.parent) for n, r in of.rows().items()} for of in (bench, new)]
    assert states[0] == states[1]


class Mixed(Inline):
    """Reads three documents side by side; whose next part comes, chance says."""

    def __init__(self, bench: Bench, chance: random.Random) -> None:
        super().__init__(bench.settings, bench.embedder)
        self._chance, self._parts = chance, list[Iterator[Event]]()

    @property
    def has_room(self) -> bool:
        return len(self._parts) < 3

    @property
    def is_idle(self) -> bool:
        return not self._parts

    def submit(self, task: Task) -> None:
        self._parts.append(self._events(task))

    def poll(self, timeout: float) -> list[Event]:
        parts = self._chance.choice(self._parts)
        event = next(parts, None)
        if event is None:
            self._parts.remove(parts)
        return [] if event is None else [event]


def edited(bench: Bench, n: int, chance: random.Random) -> None:
    """Some files of another edition, some that go, and some copies, above all of what is found in others."""
    for number in range(3):
        if chance.random() < 0.4 or not n:
            bench.write(f"{number}.txt", text(f"text{number}", n, 2 + number * 5))
            bench.write(f"{number}.eml", mail(text(f"mail{number}", n, 3), note=text(f"note{number % 2}", n, 6)))
            files: dict[str, str | bytes] = {f"{m}.txt": text(f"member{m}", n, 4) for m in range(n % 3, 5)}
            bench.write(f"{number}.zip", packed(files | {"in.zip": packed({"deep.txt": text("deep", n, 2)})}))
        elif chance.random() < 0.1:
            (bench.folder / f"{number}.zip").unlink(missing_ok=True)
    if chance.random() < 0.6 and (old := sorted(bench.folder.glob("moved-*"))):
        old[0].rename(bench.folder / f"moved-{n}.txt")
    elif chance.random() < 0.6:
        bench.write(f"moved-{n}.txt", (bench.folder / "2.txt").read_bytes())
    bench.write("bad.txt", text("bad", n, 3) if n % 2 else " ")


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_cut_short_at_any_write_again_and_again(
    settings: Settings, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Quicker than killing processes, so that more moments are met; files and metadata change between the runs."""
    monkeypatch.setattr(writer, "FLUSH_AT", 16)
    chance, edition = random.Random(seed), itertools.count()
    bench = opened(settings, tmp_path / "in")
    bench.folder.mkdir()

    def ran(bench: Bench, said: Pairs, store: Any = None, catalog: Any = None, stop: int = -1) -> None:
        parts = (bench.embedder, store or bench.store, catalog or bench.catalog)
        ingestion = Ingestion(bench.settings, *parts, readers=Mixed(bench, chance))
        for number, _ in enumerate(ingestion.run([bench.folder], prune=True, metadata=said)):
            if number == stop:
                ingestion.stop()

    for turn in range(ROUNDS):
        for _ in range(chance.randrange(1, 4)):
            edited(bench, next(edition), chance)
            n, after, stop = chance.randrange(60), chance.random() < 0.5, chance.choice([-1, chance.randrange(30)])
            store = Faulty(bench.store, ("upsert", "publish", "delete"), n, StoreError("full; make room"), after)
            catalog = Faulty(bench.catalog, ("put", "remove"), n + 20, IngestError("full; make room"), after)
            with suppress(StoreError, IngestError):
                ran(bench, said(chance) if chance.random() < 0.3 else (), store, catalog, stop)
            assert_usable(bench)
        last = said(chance)
        ran(bench, last)
        new = opened(settings.model_copy(update={"home": tmp_path / f"new{turn}"}), bench.folder)
        ran(new, last)
        assert_the_same(bench, new)
        close(new)
    close(bench)


def said(chance: random.Random) -> Pairs:
    return (("project", chance.choice(["Aurora", "Borealis"])),)


def test_what_a_killed_run_unpacked_is_removed_by_the_next(tmp_path: Path) -> None:
    left, held, mine = (tmp_path / "spool" / name for name in ("left", "held", "mine"))
    for folder in (left, held):
        (folder / "document").mkdir(parents=True)
        folder.with_suffix(".lock").touch()
    with FileLock(held.with_suffix(".lock")), leased(mine):
        mine.mkdir()
        assert {path.name for path in (tmp_path / "spool").iterdir()} == {"held", "held.lock", "mine", "mine.lock"}
        with leased(tmp_path / "spool" / "another"):
            assert mine.is_dir()
    assert not mine.exists()
    assert not mine.with_suffix(".lock").exists()
    assert held.is_dir()


def test_a_killed_process_holds_its_folder_no_more(tmp_path: Path) -> None:
    script = (
        "import os; from pathlib import Path; from ingest.spool import leased\n"
        f"folder = Path({str(tmp_path / 'spool' / 'its')!r})\n"
        "with leased(folder):\n    folder.mkdir(); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False)
    assert (tmp_path / "spool" / "its").is_dir()
    with leased(tmp_path / "spool" / "mine"):
        pass
    assert not list((tmp_path / "spool").iterdir())
