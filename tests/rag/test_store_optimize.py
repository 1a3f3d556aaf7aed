"""Optimizing the embedded index: in another process, while it is searched and written, killed on the way, failing."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from rag.errors import StoreError
from rag.filter import Filter
from rag.store import shard as edge
from rag.store import swap
from rag.store.edge import EdgeStore
from rag.types import IndexedChunk, SparseVector
from tests.conftest import make_chunk

ROOT = Path(__file__).parents[2]
DIM = 384
POINTS = 1500
CENTRES = np.random.default_rng(1).normal(size=(30, DIM)).astype(np.float32)


def vectors(seed: int, count: int) -> np.ndarray:
    """Points around thirty centres."""
    rng = np.random.default_rng(seed)
    found = CENTRES[rng.integers(0, 30, count)] + 0.9 * rng.normal(size=(count, DIM))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def items(first: int, count: int, revision: str = "", hidden: bool = False) -> list[IndexedChunk]:
    """Chunks in documents of ten."""
    made = []
    for number, dense in zip(range(first, first + count), vectors(first, count), strict=True):
        id_ = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{number} {revision}"))
        chunk = make_chunk(f"words {number}", number, id=id_, doc_id=f"doc {number // 10}", revision=revision)
        chunk = replace(chunk, metadata=tuple((f"of {n}", str(number % n)) for n in (2, 10, 50)))
        made.append(IndexedChunk(chunk, dense, SparseVector((number % 7, 100), (1.0, 0.5)), hidden))
    return made


def ids_of(chunks: Sequence[IndexedChunk]) -> set[str]:
    return {one.chunk.id for one in chunks}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EdgeStore]:
    with closing(EdgeStore.open(tmp_path / "c", DIM, "e")) as opened:
        opened.upsert(items(0, POINTS))
        yield opened


def test_nothing_is_done_where_it_does_not_pay(store: EdgeStore, tmp_path: Path) -> None:
    assert store.optimize() is False
    assert store.optimize(POINTS + 1) is False
    with closing(EdgeStore.open(tmp_path / "empty", DIM, "e")) as empty:
        assert empty.optimize(0) is False


def test_an_optimized_index_finds_the_same_and_is_optimized_once(store: EdgeStore, tmp_path: Path) -> None:
    store.upsert(items(5000, 20, "later", hidden=True))
    questions = [(vector, SparseVector((3, 100), (1.0, 1.0)), 10) for vector in vectors(77, 50)]
    before = [store.candidates(*question) for question in questions]
    chunks = {one.chunk.id: one for one in store.scan()}
    assert store.optimize(POINTS) is True
    assert store.optimize(POINTS) is False
    after = [store.candidates(*question) for question in questions]
    assert [one.bm25 for one in after] == [one.bm25 for one in before]
    shared = [len(dict(a.dense).keys() & dict(b.dense).keys()) for a, b in zip(after, before, strict=True)]
    assert sum(shared) >= 0.99 * 10 * len(questions)
    assert [store.candidates(*question) for question in questions] == after
    found = {one.chunk.id: one for one in store.scan()}
    assert {id_: (one.chunk, one.sparse, one.hidden) for id_, one in found.items()} == {
        id_: (one.chunk, one.sparse, one.hidden) for id_, one in chunks.items()
    }
    store.close()
    assert {path.name for path in (tmp_path / "c").iterdir()} - {"lock"} == {"index"}
    with closing(EdgeStore.open(tmp_path / "c", DIM, "e")) as again:
        assert [again.candidates(*question) for question in questions] == after
        assert again.optimize(POINTS) is False


@pytest.mark.parametrize("share", [2, 10, 50])
def test_the_graph_finds_as_many_as_a_filter_matches(store: EdgeStore, share: int) -> None:
    store.optimize(1)
    within, limit = Filter(metadata=((f"of {share}", "1"),)), min(100, POINTS // share)
    matched = [one for one in items(0, POINTS) if within.matches(one.chunk)]
    dense = np.array([one.dense for one in matched])
    shared = 0
    for question in vectors(77, 20):
        found = {id_ for id_, _ in store.candidates(question, SparseVector((), ()), limit, within).dense}
        assert len(found) == limit
        shared += len(found & {matched[row].chunk.id for row in np.argsort(-dense @ question)[:limit]})
    assert shared >= 0.97 * 20 * limit


def test_the_graph_is_really_built(store: EdgeStore, tmp_path: Path) -> None:
    def graphs() -> list[Path]:
        return list((tmp_path / "c" / "index").rglob("vector_index-dense/graph.bin"))

    assert graphs() == []
    store.optimize(1)
    assert len(graphs()) >= 1


def test_what_is_written_after_optimizing_is_found_and_counts_for_the_next_time(store: EdgeStore) -> None:
    store.optimize(1)
    store.upsert(items(0, 200, "new", hidden=True))
    for number in range(20):
        store.publish(f"doc {number}", "new")
    later = items(0, 200, "new")[3]
    found = store.candidates(later.dense, later.sparse, 5)
    assert found.dense[0][0] == later.chunk.id
    assert store.count() == POINTS
    assert store.optimize(201) is False
    assert store.optimize(200) is True
    assert store.optimize(1) is False
    assert store.candidates(later.dense, later.sparse, 5) == found


class Traffic:
    """One thread that searches and one that writes, for as long as something else takes."""

    def __init__(self, store: EdgeStore) -> None:
        self._store = store
        self._done = threading.Event()
        self.failures: list[BaseException] = []
        self.longest = 0.0
        self.written: dict[str, set[str]] = {}

    def during(self, work: Callable[[], object]) -> object:
        threads = [threading.Thread(target=self._again, args=(each,)) for each in (self.search, self.write)]
        for thread in threads:
            thread.start()
        try:
            return work()
        finally:
            self._done.set()
            for thread in threads:
                thread.join(60)

    def search(self, _: int) -> None:
        started = time.perf_counter()
        found = self._store.candidates(vectors(5, 1)[0], SparseVector((100,), (1.0,)), 20)
        self.longest = max(self.longest, time.perf_counter() - started)
        assert (len(found.dense), len(found.bm25)) == (20, 20)

    def write(self, turn: int) -> None:
        """Replace a document, remove it, or add a hidden revision to it."""
        doc_id, first = f"doc {turn % 40}", 10 * (turn % 40)
        new = items(first, 10 if turn % 4 != 3 else 0, str(turn), hidden=True)
        self._store.upsert(new)
        if turn % 4 == 2:
            self.written[doc_id] = self.written.get(doc_id, ids_of(items(first, 10))) | ids_of(new)
            return
        self._store.publish(doc_id, str(turn))
        self.written[doc_id] = ids_of(new)

    def _again(self, work: Callable[[int], None]) -> None:
        try:
            for turn in itertools.count(1):
                if self._done.is_set():
                    return
                work(turn)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            self.failures.append(error)


def test_searches_and_writes_go_on_and_nothing_is_lost(store: EdgeStore) -> None:
    traffic = Traffic(store)
    assert traffic.during(lambda: store.optimize(100)) is True
    assert traffic.failures == []
    assert len(traffic.written) >= 5
    untouched = {one.chunk.id for one in items(0, POINTS) if one.chunk.doc_id not in traffic.written}
    assert store.ids() == untouched.union(*traffic.written.values())


# Killed on the way.

KILLED = """
import os, signal, sys
from pathlib import Path
from rag.store.edge import EdgeStore
from tests.rag.test_store_optimize import DIM, items

store = EdgeStore.open(Path(sys.argv[1]), DIM, "e")
store.upsert(items(0, 300))
left = int(sys.argv[2])

def kill(event, arguments):
    global left
    copying = event == "shutil.copytree" and str(arguments[1]).endswith("index.optimizing")
    if copying or event in ("os.rename", "shutil.rmtree", "subprocess.Popen"):
        left -= 1
        if left == 0:
            print(event, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
assert store.optimize(1)
store.close()
"""


def test_killed_at_any_step_all_that_was_there_is_there(tmp_path: Path) -> None:
    expected = ids_of(items(0, 300))
    killed_at = []
    for step in range(1, 200):
        directory = tmp_path / str(step)
        command = [sys.executable, "-c", KILLED, str(directory), str(step)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        with closing(EdgeStore.open(directory, DIM, "e")) as store:
            assert store.ids() == expected
            assert len(store.candidates(items(0, 1)[0].dense, SparseVector((3,), (1.0,)), 10).dense) == 10
        assert {path.name for path in directory.iterdir()} - {"lock"} == {"index"}
        if run.returncode == 0:
            break
        assert run.returncode == -signal.SIGKILL, run.stderr
        killed_at.append(run.stdout.strip())
    assert {"shutil.copytree", "subprocess.Popen", "os.rename", "shutil.rmtree"} <= set(killed_at)
    assert killed_at.count("os.rename") == 3


RUN = """
import sys
from pathlib import Path
from rag.store.edge import EdgeStore
from tests.rag.test_store_optimize import DIM, items

store = EdgeStore.open(Path(sys.argv[1]), DIM, "e")
store.upsert(items(0, 4000))
print("written", flush=True)
store.optimize(1)
"""


def child_of(process: int) -> psutil.Process:
    """The process that optimizes, once it is there."""
    for _ in range(3000):
        for child in psutil.Process(process).children():
            with contextlib.suppress(psutil.Error):
                if "rag.store.optimize" in child.cmdline():
                    return child
        time.sleep(0.02)
    raise AssertionError("no child was started")


@pytest.mark.skipif(sys.platform != "linux", reason="the system cannot do that")
def test_the_other_process_dies_with_the_one_that_started_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", RUN, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "written\n"
        child = child_of(parent.pid)
        time.sleep(0.3)
        assert child.is_running()
        parent.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs([child], timeout=60)
    assert alive == []
    with closing(EdgeStore.open(tmp_path, DIM, "e")) as store:
        assert store.count() == 4000


def test_a_killed_child_is_an_error_and_the_store_goes_on(store: EdgeStore, tmp_path: Path) -> None:
    def kill() -> None:
        child_of(os.getpid()).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(StoreError, match="optimizing the index failed") as caught:
        store.optimize(1)
    killer.join()
    assert "\n" not in str(caught.value)
    store.upsert(items(9000, 10))
    assert store.count() == POINTS + 10
    assert not swap.optimizing(tmp_path / "c").exists()
    assert store.optimize(1) is True
    assert store.count() == POINTS + 10


def test_what_the_child_says_is_told_in_one_line(store: EdgeStore, tmp_path: Path) -> None:
    config = tmp_path / "c" / "index" / "shard" / "edge_config.json"
    kept = config.read_text()
    config.write_text("{half")
    with pytest.raises(StoreError, match=r"optimizing the index failed \(.+\); it can be searched as before") as caught:
        store.optimize(1)
    assert "\n" not in str(caught.value)
    config.write_text(kept)
    assert store.count() == POINTS
    assert store.optimize(1) is True


def test_a_copy_that_cannot_be_written_is_an_error_and_the_store_goes_on(store: EdgeStore, tmp_path: Path) -> None:
    (tmp_path / "c" / "index.optimizing").write_text("in the way")
    with pytest.raises(StoreError, match="check its permissions and the free disk space"):
        store.optimize(1)
    (tmp_path / "c" / "index.optimizing").unlink(missing_ok=True)
    store.upsert(items(9000, 10))
    assert store.optimize(1) is True


def test_closing_stops_it(tmp_path: Path) -> None:
    store = EdgeStore.open(tmp_path, DIM, "e")
    store.upsert(items(0, 4000))
    caught: list[StoreError] = []

    def run() -> None:
        with pytest.raises(StoreError) as error:
            store.optimize(1)
        caught.append(error.value)

    running = threading.Thread(target=run)
    running.start()
    child = child_of(os.getpid())
    store.close()
    running.join(30)
    assert len(caught) == 1
    assert not child.is_running()
    with closing(EdgeStore.open(tmp_path, DIM, "e")) as again:
        assert again.count() == 4000


def test_only_one_at_a_time(tmp_path: Path) -> None:
    with closing(EdgeStore.open(tmp_path, DIM, "e")) as store:
        store.upsert(items(0, 3000))
        first = threading.Thread(target=store.optimize, args=(1,))
        first.start()
        child_of(os.getpid())
        assert store.optimize(1) is False
        first.join()
        assert store.count() == 3000


def test_numbers_tell_points_apart(store: EdgeStore, tmp_path: Path) -> None:
    chunks = [replace(one, chunk=replace(one.chunk, id=str(uuid.uuid4()))) for one in items(0, 1000)]
    store.upsert(chunks)
    store.close()
    shard = edge.load(tmp_path / "c" / "index" / "shard")
    assert len(np.unique(edge.numbers(shard))) == POINTS + 1000
    shard.close()
