"""The sandbox against documents that crash, hang, swell, or are simply fine.

Misbehaviour is triggered by words in a document, through the token counter that runs in the worker.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from ingest.discover import doc_id_of
from ingest.sandbox import Chunks, Event, Finished, Limits, Opened, Pool, Refused, Started
from ingest.stages import Recipe, Task

MB = 1 << 20
SECONDS = 15.0
"""Limit of a file that hangs; the others have all the time they need."""
SHORT = Limits(400 * MB, SECONDS)


def fault() -> None:
    raise ZeroDivisionError("a bug")


MISBEHAVIOUR: dict[str, Callable[[], object]] = {
    "KILLED": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SEGV": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "EXIT": lambda: os._exit(3),
    "HANG": lambda: time.sleep(600),
    "EAT": lambda: bytearray(600 * MB),
    "FAULT": fault,
}


def misbehaving(text: str) -> int:
    """Counts words, unless one of them says what else to do."""
    for word in text.split():
        MISBEHAVIOUR.get(word, int)()
    if text.startswith("HELPER"):
        with subprocess.Popen(["sleep", "600"]) as helper, Path(text.split()[1]).open("a") as told:
            print(helper.pid, file=told, flush=True)
    if text.startswith("ONCE"):
        marker = Path(text.split()[1])
        if not marker.exists():
            marker.touch()
            os._exit(1)
    return len(text.split())


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[Pool]:
    recipe = Recipe(misbehaving, 50, 5, "eng", 100 * MB)
    made = Pool(recipe, Limits(400 * MB, 600.0), 2, tmp_path / "spool")
    yield made
    made.close()


def task(folder: Path, name: str, text: str) -> Task:
    path = folder / name
    path.write_text(text)
    return Task(path, path.stem, str(path), doc_id_of(path), "0" * 16, 0)


def drained(pool: Pool) -> dict[str, list[Event]]:
    """All events, by file name."""
    events: dict[str, list[Event]] = {}
    while not pool.is_idle:
        for event in pool.poll(0.5):
            events.setdefault(Path(event.doc).name, []).append(event)
    return events


def kinds(events: list[Event]) -> list[type]:
    return [type(event) for event in events]


def test_a_document_comes_as_outline_chunks_and_end(pool: Pool, tmp_path: Path) -> None:
    pool.submit(task(tmp_path, "a.txt", "The rent is 900 euros.\n\nThe lease ends in May."))
    (events,) = drained(pool).values()
    assert kinds(events) == [Started, Opened, Chunks, Finished]
    opened, chunks = events[1:3]
    assert isinstance(opened, Opened)
    assert (opened.outline.title, opened.outline.pages) == ("a", 1)
    assert isinstance(chunks, Chunks)
    assert chunks.batch[0].chunk.text.startswith("The rent")
    assert chunks.batch[0].sparse.indices


def test_a_long_document_comes_in_several_batches(pool: Pool, tmp_path: Path) -> None:
    text = "\n\n".join(f"Paragraph {n} speaks of the matter {n} at some length." * 5 for n in range(200))
    pool.submit(task(tmp_path, "long.txt", text))
    (events,) = drained(pool).values()
    batches = [event for event in events if isinstance(event, Chunks)]
    assert len(batches) > 1
    ids = [item.chunk.id for batch in batches for item in batch.batch]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("KILLED", r"killed \(SIGKILL\)"),
        ("SEGV", r"killed \(SIGSEGV\)"),
        ("EXIT", r"exit code 3"),
        ("HANG", r"took longer than 15 s"),
        ("EAT", r"more than 400 MB"),
        ("FAULT", r"a fault in Footnote.*a bug"),
    ],
)
def test_a_bad_document_is_tried_twice_and_costs_only_itself(
    pool: Pool, tmp_path: Path, word: str, reason: str
) -> None:
    if word == "HANG":
        pool.limits = SHORT
    pool.submit(task(tmp_path, "bad.txt", f"{word} and more words."))
    for number in range(4):
        pool.submit(task(tmp_path, f"good{number}.txt", f"Good document number {number}."))
    events = drained(pool)
    bad = events.pop("bad.txt")
    assert kinds(bad).count(Started) == 2
    last = bad[-1]
    assert isinstance(last, Refused)
    assert last.stage == "chunk"

    assert re.search(reason, last.reason), last.reason
    assert ";" in last.reason or "report" in last.reason, "it says what to do"
    assert all(kinds(good) == [Started, Opened, Chunks, Finished] for good in events.values())
    assert len(events) == 4


def test_what_goes_wrong_once_is_read_the_second_time(pool: Pool, tmp_path: Path) -> None:
    pool.submit(task(tmp_path, "shaky.txt", f"ONCE {tmp_path / 'marker'} and then fine."))
    (events,) = drained(pool).values()
    assert kinds(events) == [Started, Opened, Started, Opened, Chunks, Finished]


def test_a_document_that_cannot_be_read_is_tried_once(pool: Pool, tmp_path: Path) -> None:
    pool.submit(task(tmp_path, "empty.txt", ""))
    (events,) = drained(pool).values()
    assert kinds(events) == [Started, Refused]
    last = events[-1]
    assert isinstance(last, Refused)
    assert last.stage == "parse"


def test_helpers_die_with_the_worker(pool: Pool, tmp_path: Path) -> None:
    pool.limits = SHORT
    pool.submit(task(tmp_path, "bad.txt", f"HELPER {tmp_path / 'helpers'}"))
    drained(pool)
    helpers = [int(pid) for pid in (tmp_path / "helpers").read_text().split()]
    assert len(helpers) == 2, "one a try"
    _, left = psutil.wait_procs([process for process in psutil.process_iter() if process.pid in helpers], 60)
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


def test_a_worker_killed_from_outside_is_replaced(pool: Pool, tmp_path: Path) -> None:
    pool.submit(task(tmp_path, "a.txt", "First."))
    drained(pool)
    for child in psutil.Process().children():
        if "spawn" in " ".join(child.cmdline()) and "tracker" not in " ".join(child.cmdline()):
            child.kill()
    pool.submit(task(tmp_path, "b.txt", "Second."))
    events = drained(pool)["b.txt"]
    assert kinds(events)[-3:] == [Opened, Chunks, Finished]


def test_the_callers_time_is_not_the_documents(pool: Pool, tmp_path: Path) -> None:
    """A worker that waits because nobody takes its chunks is not taken for one that hangs."""
    text = "\n\n".join(f"Paragraph {n} is about the matter {n}, and goes on for a while. " * 20 for n in range(500))
    pool.limits = SHORT
    pool.submit(task(tmp_path, "long.txt", text))
    events = list(pool.poll(5))
    time.sleep(SECONDS + 1)
    while not pool.is_idle:
        events += pool.poll(0.5)
    assert isinstance(events[-1], Finished), events[-1]


def test_the_parents_memory_stays_flat(tmp_path: Path) -> None:
    """What a worker takes to read a file is not taken here."""
    text = "\n\n".join(f"Paragraph {n} is about the matter {n}, and goes on for a while. " * 20 for n in range(8000))
    assert len(text) > 8 * MB
    recipe = Recipe(misbehaving, 200, 20, "eng", 100 * MB)
    pool = Pool(recipe, Limits(2000 * MB, 100.0), 1, tmp_path / "spool")
    pool.submit(task(tmp_path, "long.txt", text))
    del text
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while not pool.is_idle:
        pool.poll(0.5)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 20 * 1024
    assert pool.peak > 50 * MB
    pool.close()


PARENT = """
    import sys, time
    from pathlib import Path
    from ingest.sandbox import Limits, Pool
    from ingest.stages import Recipe
    from tests.ingest.test_sandbox import misbehaving, task

    pool = Pool(Recipe(misbehaving, 50, 5, "eng", 1 << 20), Limits(1 << 30, 600.0), 1, Path(sys.argv[1]) / "spool")
    pool.submit(task(Path(sys.argv[1]), "bad.txt", "HANG here"))
    while not pool.in_hand():
        pool.poll(0.1)
    time.sleep(3)
    pool.poll(0.1)
    import psutil
    print(*[child.pid for child in psutil.Process().children()], flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems cannot end a child with its parent")
def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PARENT), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert parent.stdout is not None
    workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
    parent.kill()
    parent.wait()
    _, left = psutil.wait_procs(workers, timeout=20)
    for process in left:
        process.kill()
    assert workers
    assert not [process for process in left if process.status() != psutil.STATUS_ZOMBIE]


def test_the_spool_is_emptied(pool: Pool, tmp_path: Path) -> None:
    one = task(tmp_path, "a.txt", "First.")
    pool.submit(one)
    drained(pool)
    pool.forget(one.doc_id)
    assert not list((tmp_path / "spool").iterdir())
    pool.close()
    assert not (tmp_path / "spool").exists()
