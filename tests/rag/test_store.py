"""One contract for every store: embedded, `qdrant-client` in memory, and a real server where QDRANT_URL is set."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from rag.errors import CollectionMissing, StoreError, StoreLocked, StoreMismatch
from rag.filter import Filter
from rag.store.edge import EdgeStore
from rag.store.protocol import Store
from rag.store.server import ServerStore, collections
from rag.types import Chunk, IndexedChunk, SparseVector

ROOT = Path(__file__).parents[2]
QDRANT_URL = os.environ.get("QDRANT_URL", "")
QDRANT_API_KEY = os.environ.get("QDRANT_API_KEY", "")
DIM = 8
NOTHING = SparseVector((), ())

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect in the local Qdrant")


def chunk(number: int, doc_id: str = "d", **fields: object) -> Chunk:
    plain = Chunk(
        id=str(uuid.UUID(int=number)),
        doc_id=doc_id,
        doc=f"notes/{doc_id}.md",
        title="Notes",
        page=1,
        headings=("One", "Two"),
        start=10 * number,
        end=10 * number + 5,
        text=f"words {number}",
    )
    return replace(plain, **fields)


def item(number: int, doc_id: str = "d", terms: dict[int, float] | None = None, **fields: object) -> IndexedChunk:
    rng = np.random.default_rng(number)
    dense = rng.normal(size=DIM).astype(np.float32)
    weights = sorted((terms if terms is not None else {1: 1.0}).items())
    sparse = SparseVector(tuple(term for term, _ in weights), tuple(weight for _, weight in weights))
    return IndexedChunk(chunk(number, doc_id, **fields), dense / np.linalg.norm(dense), sparse)


def hidden(one: IndexedChunk) -> IndexedChunk:
    return replace(one, hidden=True)


def ids_of(items: list[IndexedChunk]) -> set[str]:
    return {one.chunk.id for one in items}


@dataclass
class Backend:
    """A kind of store: how to open it, and whether what it holds outlives `close`."""

    open: Callable[..., Store]
    lasting: bool
    threads: bool


def edge_backend(directory: Path) -> Backend:
    def open_edge(dim: int = DIM, embedder: str = "embedder") -> Store:
        return EdgeStore.open(directory, dim, embedder)

    return Backend(open_edge, lasting=True, threads=True)


def memory_backend() -> Backend:
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")

    def open_memory(dim: int = DIM, embedder: str = "embedder", create: bool = True) -> Store:
        return ServerStore.connect(":memory:", "", 5, "contract", dim, embedder, create, client)

    return Backend(open_memory, lasting=False, threads=False)


def server_backend(collection: str) -> Backend:
    def open_server(dim: int = DIM, embedder: str = "embedder", create: bool = True) -> Store:
        return ServerStore.connect(QDRANT_URL, QDRANT_API_KEY, 30, collection, dim, embedder, create)

    return Backend(open_server, lasting=True, threads=True)


@pytest.fixture(params=["edge", "memory", "server"] if QDRANT_URL else ["edge", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    if request.param == "edge":
        yield edge_backend(tmp_path / "collection")
    elif request.param == "memory":
        yield memory_backend()
    else:
        from qdrant_client import QdrantClient

        collection = f"test-{uuid.uuid4()}"
        yield server_backend(collection)
        client = QdrantClient(QDRANT_URL, api_key=QDRANT_API_KEY or None, check_compatibility=False)
        with collections(QDRANT_URL, QDRANT_API_KEY, 30, collection, client) as found:
            live = found.live()
            found.discard_beside()
        if live:
            client.delete_collection(live)
        client.close()


@pytest.fixture
def store(backend: Backend) -> Iterator[Store]:
    opened = backend.open()
    yield opened
    opened.close()


# What is written stays, once.


def test_writing_twice_is_writing_once(store: Store) -> None:
    items = [item(n) for n in range(30)]
    store.upsert(items)
    before = store.candidates(items[0].dense, items[0].sparse, 10)
    store.upsert(items)
    assert store.count() == 30
    assert store.ids() == ids_of(items)
    after = store.candidates(items[0].dense, items[0].sparse, 10)
    assert_ranking(after.dense, dict(before.dense), 10)
    assert_ranking(after.bm25, dict(before.bm25), 10)


def test_a_chunk_with_a_known_id_is_replaced(store: Store) -> None:
    store.upsert([item(1, terms={1: 1.0}), item(2)])
    store.upsert([item(1, terms={7: 1.0}, text="new text")])
    assert store.count() == 2
    assert [found.text for found in store.fetch([chunk(1).id])] == ["new text"]
    of_old_term = store.candidates(item(1).dense, SparseVector((1,), (1.0,)), 10).bm25
    assert [id_ for id_, _ in of_old_term] == [chunk(2).id]


def test_more_chunks_than_fit_one_request_are_all_written(store: Store) -> None:
    items = [item(n) for n in range(1203)]
    store.upsert(items)
    assert store.count() == 1203
    assert store.ids() == ids_of(items)


def test_upserting_nothing_is_fine(store: Store) -> None:
    store.upsert([])
    assert store.count() == 0


def test_delete_takes_one_document_with_its_hidden_chunks(store: Store) -> None:
    store.upsert([item(n, doc_id="a") for n in range(5)] + [item(n, doc_id="b") for n in range(5, 8)])
    store.upsert([hidden(item(n, doc_id="a")) for n in range(8, 11)])
    assert store.count() == 11
    store.delete("a")
    store.delete("never seen")
    assert store.ids("a") == set()
    assert store.ids("b") == {chunk(n).id for n in (5, 6, 7)}
    assert store.ids() == store.ids("b")


def test_what_was_written_is_there_after_reopening(backend: Backend) -> None:
    if not backend.lasting:
        pytest.skip("in memory")
    first = backend.open()
    items = [item(n, doc_id="ab"[n % 2], terms={n % 5: 1.0 + n}) for n in range(40)]
    first.upsert(items)
    first.delete("b")
    first.upsert([hidden(item(90, doc_id="b"))])
    question = (items[2].dense, SparseVector((0, 2), (1.0, 1.0)), 7)
    before = first.candidates(*question)
    first.close()
    second = backend.open()
    assert second.ids("b") == {chunk(90).id}
    assert second.count() == 21
    assert second.candidates(*question) == before
    assert second.fetch([chunk(4).id]) == [items[4].chunk]
    second.close()


def test_closing_twice_is_fine_and_a_closed_store_says_so(backend: Backend) -> None:
    store = backend.open()
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed") as caught:
        store.count()
    assert "\n" not in str(caught.value)


# What is read back is what was written.


@pytest.mark.parametrize(
    "fields",
    [
        {"page": None, "headings": ()},
        {"kind": "table", "page": 107, "headings": ("Überschrift", "日本語", "a > b", "")},
        {"text": "null \x00, emoji 🦀, clef 𝄞, combining é, right-to-left ‏שלום, quotes \"'\\, <b>", "title": ""},
        {"text": "line\r\nline\ttab\u2028separator", "doc": "C:\\docs\\ü b#1?.md", "start": 0, "end": 2**40},
        {"date": "2024-02-29", "metadata": (("author", "Ana Lund"), ("to", "é\n=🦀"), ("to", ""))},
        {"doc_id": 'odd id: "é" / \\ 🦀', "title": "x" * 20_000},
    ],
)
def test_every_field_survives(store: Store, fields: dict[str, object]) -> None:
    written = item(1, **fields)
    store.upsert([written])
    assert store.fetch([written.chunk.id]) == [written.chunk]
    assert store.ids(written.chunk.doc_id) == {written.chunk.id}


def test_fetch_keeps_the_order_and_leaves_out_what_is_not_there(store: Store) -> None:
    store.upsert([item(n) for n in range(10)])
    wanted = [chunk(n).id for n in (7, 99, 2, 5)]
    assert [found.id for found in store.fetch(wanted)] == [chunk(n).id for n in (7, 2, 5)]
    assert store.fetch([]) == []


# Rankings.


def corpus(count: int) -> list[IndexedChunk]:
    """Chunks with 1 to 6 of 40 terms each."""
    rng = np.random.default_rng(5)
    made = []
    for n in range(count):
        terms = rng.choice(40, size=rng.integers(1, 7), replace=False)
        made.append(item(n, f"doc {n % 4}", {int(term): float(rng.uniform(0.2, 2.2)) for term in terms}))
    return made


def by_hand(items: list[IndexedChunk], dense: np.ndarray, sparse: SparseVector) -> tuple[dict, dict]:
    """Cosines, and BM25 with IDF ln(1 + (N - n + 0.5) / (n + 0.5)) over `items`, by id."""
    weights = dict(zip(*sparse, strict=True))
    containing = {term: sum(term in one.sparse.indices for one in items) for term in weights}
    idf = {term: math.log(1 + (len(items) - n + 0.5) / (n + 0.5)) for term, n in containing.items()}
    cosine, bm25 = {}, {}
    for one in items:
        cosine[one.chunk.id] = float(np.dot(one.dense, dense) / np.linalg.norm(one.dense) / np.linalg.norm(dense))
        shared = [(term, value) for term, value in zip(*one.sparse, strict=True) if term in weights]
        if shared:
            bm25[one.chunk.id] = sum(value * weights[term] * idf[term] for term, value in shared)
    return cosine, bm25


def assert_ranking(ranking: list[tuple[str, float]], scores: dict[str, float], limit: int) -> None:
    expected = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    assert [id_ for id_, _ in ranking] == [id_ for id_, _ in expected]
    assert [score for _, score in ranking] == pytest.approx([score for _, score in expected], rel=1e-5, abs=1e-6)


QUESTION = (np.random.default_rng(9).normal(size=DIM).astype(np.float32), SparseVector((3, 8, 21, 77), (1, 1, 2, 1)))


def test_rankings_are_cosine_and_bm25_with_idf(store: Store) -> None:
    items = corpus(300)
    store.upsert(items)
    found = store.candidates(*QUESTION, 20)
    cosine, bm25 = by_hand(items, *QUESTION)
    assert_ranking(found.dense, cosine, 20)
    assert_ranking(found.bm25, bm25, 20)


def test_any_chunks_can_be_compared_with_the_question(store: Store) -> None:
    items = corpus(300)
    store.upsert(items)
    store.delete("doc 1")
    left = {one.chunk.id: one for one in items if one.chunk.doc_id != "doc 1"}
    wanted = [one.chunk.id for one in items[7:60]]
    found = store.compare(wanted, QUESTION[1])
    assert found.ids == [id_ for id_ in wanted if id_ in left]
    _, bm25 = by_hand(list(left.values()), *QUESTION)
    assert found.bm25 == pytest.approx([bm25.get(id_, 0.0) for id_ in found.ids], rel=1e-5)
    lengths = [np.linalg.norm(left[id_].dense) for id_ in found.ids]
    assert found.vectors * np.array(lengths)[:, None] == pytest.approx(
        np.array([left[id_].dense for id_ in found.ids]), abs=1e-5
    )


def test_comparing_without_terms_or_without_chunks(store: Store) -> None:
    store.upsert(corpus(3))
    found = store.compare([chunk(1).id, chunk(99).id], SparseVector((), ()))
    assert (found.ids, found.bm25.tolist(), found.vectors.shape) == ([chunk(1).id], [0.0], (1, DIM))
    assert store.compare([], QUESTION[1]).vectors.shape == (0, DIM)
    assert store.compare([chunk(99).id], QUESTION[1]).vectors.shape == (0, DIM)


def test_only_chunks_that_share_a_term_are_in_the_bm25_ranking(store: Store) -> None:
    items = corpus(300)
    store.upsert(items)
    found = store.candidates(*QUESTION, 300)
    cosine, bm25 = by_hand(items, *QUESTION)
    assert 0 < len(bm25) < 300
    assert_ranking(found.bm25, bm25, 300)
    assert_ranking(found.dense, cosine, 300)


def test_idf_forgets_what_was_deleted_or_replaced(store: Store) -> None:
    items = corpus(300)
    store.upsert(items)
    store.delete("doc 1")
    left = [one for one in items if one.chunk.doc_id != "doc 1"]
    changed = [item(n, "doc 0", {3: 1.5, 21: 0.5}) for n in range(0, 80, 4)]
    store.upsert(changed)
    now = {one.chunk.id: one for one in [*left, *changed]}
    cosine, bm25 = by_hand(list(now.values()), *QUESTION)
    found = store.candidates(*QUESTION, 50)
    assert_ranking(found.dense, cosine, 50)
    assert_ranking(found.bm25, bm25, 50)


@pytest.mark.parametrize("limit", [1, 5, 40])
def test_equal_scores_are_ordered_by_id_also_at_the_cut(store: Store, limit: int) -> None:
    same = item(0, terms={4: 1.0})
    copies = [replace(same, chunk=chunk(n)) for n in np.random.default_rng(1).permutation(200).tolist()]
    store.upsert(copies)
    expected = [chunk(n).id for n in range(limit)]
    for _ in range(3):
        found = store.candidates(same.dense, same.sparse, limit)
        assert [id_ for id_, _ in found.dense] == expected
        assert [id_ for id_, _ in found.bm25] == expected


def test_a_question_without_terms_has_an_empty_bm25_ranking(store: Store) -> None:
    store.upsert([item(n) for n in range(5)])
    found = store.candidates(item(2).dense, NOTHING, 3)
    assert found.bm25 == []
    assert len(found.dense) == 3
    assert found.dense[0][0] == chunk(2).id


def test_a_chunk_without_terms_is_found_by_its_dense_vector(store: Store) -> None:
    store.upsert([item(1, terms={}), item(2, terms={5: 1.0})])
    found = store.candidates(item(1).dense, SparseVector((5,), (1.0,)), 5)
    assert found.dense[0][0] == chunk(1).id
    assert [id_ for id_, _ in found.bm25] == [chunk(2).id]


def test_an_empty_collection_finds_nothing(store: Store) -> None:
    found = store.candidates(*QUESTION, 10)
    assert (found.dense, found.bm25) == ([], [])
    assert store.count() == 0
    assert store.ids() == set()
    assert store.fetch([chunk(1).id]) == []


# Filters.


def described(count: int) -> list[IndexedChunk]:
    """The corpus, in documents of all kinds of places, types, days and metadata."""
    rng = np.random.default_rng(3)
    places = ("/a", "/a/b", "/a/b.zip", "/c d/é", "notes", "")
    names = ("x.pdf", "X.PDF", "x.tar.gz", "README", "letter.eml", "letter.eml/x.pdf", ".hidden")
    days = ("", "0001-01-01", "2023-12-31", "2024-01-01", "2024-02-29", "9999-12-31")
    said = (("author", "Ana Lund"), ("Author", "bo"), ("to", "Ana  Lund"), ("to", ""), ("k=e y", "v=1\nx"), ("ß", "İ"))
    made = []
    for one in corpus(count):
        doc = str(rng.choice(places)) + "/" + str(rng.choice(names))
        metadata = tuple(said[n] for n in sorted(rng.choice(6, size=rng.integers(0, 4), replace=False).tolist()))
        fields = {"doc": doc, "doc_id": doc, "date": str(rng.choice(days)), "metadata": metadata}
        made.append(replace(one, chunk=replace(one.chunk, **fields)))  # type: ignore[arg-type]
    return made


def any_filter(rng: np.random.Generator, items: list[IndexedChunk]) -> Filter:
    """Fields filled at random, mostly with what there is."""

    def some(values: list[str]) -> tuple[str, ...]:
        wanted = rng.random() < 0.35
        return tuple(str(each) for each in rng.choice(values, size=rng.integers(1, 3))) if wanted else ()

    docs = [one.chunk.doc for one in items]
    pairs = [pair for one in items for pair in one.chunk.metadata] + [("no such", "key"), ("AUTHOR", " ana lund ")]
    picked = [pairs[n] for n in rng.integers(len(pairs), size=rng.integers(0, 3))] if rng.random() < 0.35 else []
    first, last = (
        date.fromordinal(738_880 + int(n)) if rng.random() < 0.25 else None for n in rng.integers(200, size=2)
    )
    return Filter(
        some([*docs, "x.pdf", "README", "/a/letter.eml", "nothing"]),
        some([*(str(Path(doc).parent) for doc in docs), "/", "/a", "/a/", "/nowhere"]),
        some(["pdf", ".PDF", "gz", "eml", "", "zip"]),
        first,
        last,
        tuple(picked),
    )


def test_only_what_a_filter_matches_is_ranked_and_the_idf_is_that_of_all(store: Store) -> None:
    items = described(300)
    store.upsert(items)
    store.upsert(
        [hidden(replace(one, chunk=replace(one.chunk, id=chunk(10_000 + n).id))) for n, one in enumerate(items[:20])]
    )
    cosine, bm25 = by_hand(items, *QUESTION)
    rng, sizes = np.random.default_rng(4), set()
    for _ in range(60):
        within = any_filter(rng, items)
        matched = {one.chunk.id for one in items if within.matches(one.chunk)}
        sizes.add(len(matched))
        found = store.candidates(*QUESTION, 15, within)
        assert_ranking(found.dense, {id_: score for id_, score in cosine.items() if id_ in matched}, 15)
        assert_ranking(found.bm25, {id_: score for id_, score in bm25.items() if id_ in matched}, 15)
    assert {0, 300} < sizes
    assert len(sizes) > 20


def test_a_filter_that_nothing_matches_finds_nothing(store: Store) -> None:
    store.upsert(described(10))
    assert store.candidates(*QUESTION, 10, Filter(folders=("/nowhere",))) == ([], [])
    assert len(store.candidates(*QUESTION, 10, Filter()).dense) == 10


# Hidden chunks.


@pytest.mark.parametrize("leftover", [True, False], ids=["something else hidden", "nothing else hidden"])
def test_hidden_chunks_are_in_no_ranking_and_no_idf_until_they_are_published(store: Store, leftover: bool) -> None:
    items = corpus(200)
    store.upsert(items)
    cosine, bm25 = by_hand(items, *QUESTION)
    news = [item(n, "doc 1", {3: 2.0, n % 40: 1.0}, revision="new") for n in range(1000, 1050)]
    store.upsert([hidden(one) for one in news])
    others = [hidden(item(n, "doc 9", {3: 2.0})) for n in range(2000, 2000 + 7 * leftover)]
    store.upsert(others)
    found = store.candidates(*QUESTION, 300)
    assert_ranking(found.dense, cosine, 300)
    assert_ranking(found.bm25, bm25, 300)
    assert store.ids() == ids_of([*items, *news, *others])
    assert store.count() == 250 + len(others)
    store.publish("doc 1", "new")
    now = [one for one in items if one.chunk.doc_id != "doc 1"] + news
    cosine, bm25 = by_hand(now, *QUESTION)
    found = store.candidates(*QUESTION, 300)
    assert_ranking(found.dense, cosine, 300)
    assert_ranking(found.bm25, bm25, 300)
    assert store.ids() == ids_of([*now, *others])


def test_hidden_chunks_stay_hidden_when_the_store_is_opened_again(backend: Backend) -> None:
    store = backend.open()
    store.upsert([item(1)])
    store.upsert([hidden(item(2, revision="new"))])
    if backend.lasting:
        store.close()
    again = backend.open()
    assert [id_ for id_, _ in again.candidates(item(2).dense, item(2).sparse, 9).dense] == [chunk(1).id]
    again.publish("d", "new")
    assert [id_ for id_, _ in again.candidates(item(2).dense, item(2).sparse, 9).dense] == [chunk(2).id]
    assert again.ids() == {chunk(2).id}
    again.close()


def test_publishing_removes_older_revisions_hidden_or_not_and_touches_no_other_document(store: Store) -> None:
    store.upsert([item(1, "a", revision="1"), item(2, "b", revision="1"), hidden(item(3, "b", revision="2"))])
    store.upsert([hidden(item(4, "a", revision="2")), hidden(item(5, "a", revision="3"))])
    store.publish("a", "3")
    assert store.ids("a") == {chunk(5).id}
    assert {one.chunk.id: one.hidden for one in store.scan()} == {
        chunk(2).id: False,
        chunk(3).id: True,
        chunk(5).id: False,
    }
    store.publish("a", "3")
    store.publish("nobody", "1")
    assert store.count() == 3


def test_a_chunk_that_is_written_again_without_being_hidden_is_found(store: Store) -> None:
    store.upsert([hidden(item(1))])
    assert store.candidates(item(1).dense, item(1).sparse, 3) == ([], [])
    store.upsert([item(1)])
    found = store.candidates(item(1).dense, item(1).sparse, 3)
    assert [id_ for id_, _ in found.dense] == [id_ for id_, _ in found.bm25] == [chunk(1).id]


# Reading it all.


def test_scan_gives_back_what_was_written(store: Store) -> None:
    items = [
        item(1, "a", {7: 0.5, 9: 1.25}, header="name | age", revision="r1", kind="table"),
        item(2, "a", {}, page=None, headings=()),
        hidden(item(3, "b", revision="r2")),
    ]
    store.upsert(items)
    found = {one.chunk.id: one for one in store.scan()}
    assert set(found) == ids_of(items)
    for one in items:
        same = found[one.chunk.id]
        assert (same.chunk, same.sparse, same.hidden) == (one.chunk, one.sparse, one.hidden)
        assert isinstance(same.dense, np.ndarray)
        assert same.dense.dtype == np.float32
        assert same.dense == pytest.approx(one.dense, abs=1e-6)
    assert {one.chunk.id for one in store.scan("a")} == {chunk(1).id, chunk(2).id}
    assert list(store.scan("nobody")) == []


def test_scan_reads_more_than_a_page_once_each_and_may_be_left_early(store: Store) -> None:
    store.upsert([item(n) for n in range(2203)])
    assert sorted(one.chunk.id for one in store.scan()) == [chunk(n).id for n in range(2203)]
    assert next(iter(store.scan())).chunk.doc_id == "d"


def test_what_was_scanned_can_be_written_and_the_store_used_between_pages(store: Store) -> None:
    store.upsert([item(n, terms={n % 9: 1.0}) for n in range(1500)])
    question = (item(3).dense, SparseVector((3,), (1.0,)), 20)
    before = store.candidates(*question)
    for one in store.scan():
        store.upsert([one]) if one.chunk.start % 1000 == 0 else None
    assert store.count() == 1500
    after = store.candidates(*question)
    assert_ranking(after.dense, dict(before.dense), 20)
    assert_ranking(after.bm25, dict(before.bm25), 20)


# What does not fit is refused.


@pytest.mark.parametrize(
    ("dim", "embedder", "named"), [(DIM, "another", "'embedder', not 'another'"), (DIM + 1, "embedder", "dim 8, not 9")]
)
def test_another_embedder_is_refused_with_the_remedy(backend: Backend, dim: int, embedder: str, named: str) -> None:
    first = backend.open()
    first.upsert([item(1)])
    if backend.lasting:
        first.close()
    with pytest.raises(StoreMismatch, match="run `footnote ingest` to build it anew") as caught:
        backend.open(dim, embedder)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert backend.open().count() == 1


@pytest.mark.parametrize("dense", [[1.0] * (DIM - 1), [float("nan")] * DIM])
def test_a_vector_that_does_not_fit_is_refused(store: Store, dense: list[float]) -> None:
    with pytest.raises(StoreError, match="the vector of") as caught:
        store.upsert([replace(item(1), dense=dense)])
    assert "\n" not in str(caught.value)
    with pytest.raises(StoreError, match="the vector of"):
        store.candidates(np.array(dense, dtype=np.float32), NOTHING, 3)
    assert store.count() == 0


def test_text_that_is_not_unicode_is_refused_in_one_line(store: Store, backend: Backend) -> None:
    if not backend.lasting:
        pytest.skip("in memory nothing is encoded")
    with pytest.raises(StoreError) as caught:
        store.upsert([item(1, text="half a surrogate \ud800")])
    assert "\n" not in str(caught.value)
    store.upsert([item(2)])
    assert store.ids() == {chunk(2).id}


# Several threads.


def in_threads(works: list[Callable[[], None]]) -> list[BaseException]:
    failures: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return failures


def test_threads_may_write_and_search_at_once(store: Store, backend: Backend) -> None:
    if not backend.threads:
        pytest.skip("qdrant-client's memory mode is for one thread")
    base = [item(n, "base") for n in range(100)]
    store.upsert(base)

    def write(first: int) -> Callable[[], None]:
        def work() -> None:
            for start in range(first, first + 100, 20):
                store.upsert([item(n, f"doc {first}", terms={first: 1.0}) for n in range(start, start + 20)])
            store.upsert([hidden(item(first + 500, f"doc {first}", revision="2"))])
            store.publish(f"doc {first}", "2")

        return work

    def search() -> None:
        for _ in range(30):
            found = store.candidates(base[0].dense, SparseVector((1,), (1.0,)), 100)
            assert {id_ for id_, _ in found.bm25} == ids_of(base)
            assert len(store.fetch([id_ for id_, _ in found.bm25])) == 100

    assert in_threads([write(1000), write(2000), write(3000), search, search]) == []
    assert store.ids() == ids_of(base) | {chunk(n).id for n in (1500, 2500, 3500)}


def test_closing_waits_for_searches_in_other_threads(tmp_path: Path) -> None:
    store = EdgeStore.open(tmp_path, DIM, "embedder")
    store.upsert([item(n) for n in range(500)])
    searched = threading.Event()

    def search_on() -> None:
        while True:
            assert len(store.candidates(item(0).dense, item(0).sparse, 100).dense) == 100
            searched.set()

    def search() -> None:
        with pytest.raises(StoreError, match="closed"):
            search_on()

    def close() -> None:
        searched.wait(30)
        store.close()

    assert in_threads([search, search, search, close]) == []
    again = EdgeStore.open(tmp_path, DIM, "embedder")
    assert again.count() == 500
    again.close()


# The server's collections.


def test_reading_a_collection_that_is_not_on_the_server_creates_nothing() -> None:
    from qdrant_client import QdrantClient

    client = QdrantClient(":memory:")
    with pytest.raises(CollectionMissing, match="footnote ingest PATH --collection papers"):
        ServerStore.connect(":memory:", "", 5, "papers", DIM, "embedder", False, client)
    assert client.get_collections().collections == []


def test_a_foreign_collection_on_the_server_is_refused() -> None:
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    client.create_collection("footnote-papers", models.VectorParams(size=DIM, distance=models.Distance.DOT))
    with pytest.raises(StoreMismatch, match="does not say which embedder"):
        ServerStore.connect(":memory:", "", 5, "papers", DIM, "embedder", True, client)


# The embedded store's directory.


def test_exists_tells_without_touching(tmp_path: Path) -> None:
    directory = tmp_path / "collection"
    assert not EdgeStore.exists(directory)
    assert not directory.exists()
    EdgeStore.open(directory, DIM, "embedder").close()
    assert EdgeStore.exists(directory)


def test_a_creation_that_was_cut_short_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "index.new" / "shard" / "segments").mkdir(parents=True)
    (tmp_path / "index.new" / "shard" / "edge_config.json").write_text("{half")
    assert not EdgeStore.exists(tmp_path)
    store = EdgeStore.open(tmp_path, DIM, "embedder")
    store.upsert([item(1)])
    store.close()
    assert not (tmp_path / "index.new").exists()


@pytest.mark.parametrize("content", ["", "{half", "[1]", "null"])
def test_a_damaged_index_is_named_and_left_alone(tmp_path: Path, content: str) -> None:
    EdgeStore.open(tmp_path, DIM, "embedder").close()
    (tmp_path / "index" / "meta.json").write_text(content)
    with pytest.raises(StoreError, match="is damaged") as caught:
        EdgeStore.open(tmp_path, DIM, "embedder")
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "index" / "shard").is_dir()


def test_an_index_of_a_later_format_is_refused(tmp_path: Path) -> None:
    EdgeStore.open(tmp_path, DIM, "embedder").close()
    meta = tmp_path / "index" / "meta.json"
    meta.write_text(json.dumps(json.loads(meta.read_text()) | {"format": 99}))
    with pytest.raises(StoreMismatch, match="format 99"):
        EdgeStore.open(tmp_path, DIM, "embedder")


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot use the index directory") as caught:
        EdgeStore.open(tmp_path / "file" / "collection", DIM, "embedder")
    assert "\n" not in str(caught.value)


def test_a_disk_that_is_nearly_full_is_refused_before_the_system_kills_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = EdgeStore.open(tmp_path, DIM, "embedder")
    store.upsert([item(1), item(2, "other")])
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 10**6, 10**6))
        with pytest.raises(StoreError, match="1 MB of disk space are free, 150 MB are needed") as caught:
            store.upsert([item(3)])
        store.delete("other")  # what makes room is not refused
    assert "\n" not in str(caught.value)
    assert store.ids() == {chunk(1).id}
    store.upsert([item(3)])
    assert store.count() == 2
    store.close()


def child(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


HOLD = """
import sys
from pathlib import Path
from rag.store.edge import EdgeStore
store = EdgeStore.open(Path(sys.argv[1]), 8, "embedder", sys.argv[2])
print("open", flush=True)
sys.stdin.read()
store.close()
"""


@pytest.mark.parametrize("url", ["http://127.0.0.1:7860", ""])
def test_a_second_process_is_told_who_has_the_index(tmp_path: Path, url: str) -> None:
    with child(HOLD, tmp_path, url) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreLocked, match=f"process {holder.pid} ") as caught:
            EdgeStore.open(tmp_path, DIM, "embedder")
        owner = EdgeStore.owner(tmp_path)
        holder.communicate()
    assert url in str(caught.value)
    assert "try again" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert owner is not None
    assert (owner.pid, owner.url) == (holder.pid, url)
    assert EdgeStore.owner(tmp_path) is None
    EdgeStore.open(tmp_path, DIM, "embedder").close()


def test_the_owners_token_is_told_to_the_same_user_alone(tmp_path: Path) -> None:
    (tmp_path / "owner.json.tmp").write_text("left by a killed process, readable by everybody")
    store = EdgeStore.open(tmp_path, DIM, "embedder", "http://127.0.0.1:7860", "secret")
    note = tmp_path / "owner.json"
    if os.name == "posix":
        assert note.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StoreLocked) as caught:
        EdgeStore.open(tmp_path, DIM, "embedder")
    assert (caught.value.owner.pid, caught.value.owner.url) == (os.getpid(), "http://127.0.0.1:7860")
    assert caught.value.owner.token == "secret"
    assert "secret" not in f"{caught.value} {caught.value!r} {caught.value.owner!r}"
    store.close()
    assert not note.exists()


def test_the_same_process_cannot_open_an_index_twice(tmp_path: Path) -> None:
    first = EdgeStore.open(tmp_path, DIM, "embedder")
    with pytest.raises(StoreLocked, match=f"process {os.getpid()} "):
        EdgeStore.open(tmp_path, DIM, "embedder")
    first.upsert([item(1)])
    first.close()


def test_the_note_of_a_killed_owner_is_in_nobodys_way(tmp_path: Path) -> None:
    with child(HOLD, tmp_path, "http://127.0.0.1:7860") as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        holder.send_signal(signal.SIGKILL)
    assert (tmp_path / "owner.json").exists()
    assert EdgeStore.owner(tmp_path) is None
    EdgeStore.open(tmp_path, DIM, "embedder").close()


def test_a_log_that_is_still_held_without_the_lock_is_in_use_and_not_damaged(tmp_path: Path) -> None:
    """As when a killed process left a child behind that inherited its open files."""
    from qdrant_edge import EdgeShard

    EdgeStore.open(tmp_path, DIM, "embedder").close()
    left_behind = EdgeShard.load(str(tmp_path / "index" / "shard"))
    with pytest.raises(StoreLocked, match="in use by another process"):
        EdgeStore.open(tmp_path, DIM, "embedder")
    left_behind.close()
    EdgeStore.open(tmp_path, DIM, "embedder").close()


WRITE = """
import sys, uuid
from pathlib import Path
import numpy as np
from rag.store.edge import EdgeStore
from rag.types import Chunk, IndexedChunk, SparseVector

def item(n):
    dense = np.random.default_rng(n).normal(size=8).astype(np.float32)
    chunk = Chunk(str(uuid.UUID(int=n)), f"doc {n // 20}", "a", "a", None, (), 0, 1, f"words {n}")
    return IndexedChunk(chunk, dense / np.linalg.norm(dense), SparseVector((n % 7,), (1.0,)))

store = EdgeStore.open(Path(sys.argv[1]), 8, "embedder")
for batch in range(100_000):
    store.upsert([item(n) for n in range(20 * batch, 20 * batch + 20)])
    if batch % 5 == 4:
        store.delete(f"doc {batch - 2}")
    print(batch, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 13, 37])
def test_a_killed_writer_loses_nothing_that_was_acknowledged(tmp_path: Path, acknowledged: int) -> None:
    with child(WRITE, tmp_path) as writer:
        assert writer.stdout is not None
        last = [int(writer.stdout.readline()) for _ in range(acknowledged)][-1]
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        last = int(rest[-1]) if rest else last
    store = EdgeStore.open(tmp_path, DIM, "embedder")
    found = store.ids()
    for batch in range(last + 1):
        written = {chunk(n).id for n in range(20 * batch, 20 * batch + 20)}
        deleted = batch % 5 == 2 and batch + 2 <= last
        assert found & written == (set() if deleted else written) or (batch % 5 == 2 and batch + 2 == last + 1)
    store.upsert([item(10**6)])
    assert store.fetch([chunk(10**6).id])[0].text == f"words {10**6}"
    store.close()
