"""Hybrid retrieval, on the embedded store and an embedder whose vectors are word counts."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress

import numpy as np
import pytest

from rag.embed import open_embedder
from rag.errors import QuestionError
from rag.filter import Filter
from rag.fuse import RRF_K
from rag.retrieve import ALSO, Retriever
from rag.settings import Settings
from rag.sparse import encode_document, encode_query
from rag.store.opening import open_store
from rag.store.protocol import BM25, DENSE, Compared, Store
from rag.types import Chunk, Hit, IndexedChunk, SparseVector
from tests.conftest import OpenRag, WordCountEmbedder, make_chunk

DOCUMENTS = {
    "whales.txt": "Whales are mammals that breathe air through a blowhole.",
    "krill.txt": "Blue whales eat tonnes of krill each day in summer.",
    "ships.txt": "Iron ships float because they push water aside.",
    "titanic.txt": "The Titanic hit an iceberg and sank in April 1912.",
    "gravity.txt": "Gravity pulls every apple toward the ground.",
}


def texts(hits: list[Hit]) -> list[str]:
    return [hit.chunk.text for hit in hits]


def test_the_passage_that_answers_comes_first(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    assert texts(rag.search("What do blue whales eat?", 3))[0] == DOCUMENTS["krill.txt"]
    assert texts(rag.search("When was it that the Titanic sank?", 3))[0] == DOCUMENTS["titanic.txt"]


def test_k_is_how_many_come_back_and_scores_fall(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    everything = rag.search("Which whales and ships sank?", 50)
    assert sorted(texts(everything)) == sorted(DOCUMENTS.values())
    scores = [hit.score for hit in everything]
    assert scores == sorted(scores, reverse=True)
    for k in range(1, 6):
        assert rag.search("Which whales and ships sank?", k) == everything[:k]


def test_more_can_be_asked_for_than_there_are_candidates(open_rag: OpenRag) -> None:
    assert len(open_rag(DOCUMENTS, candidates=1).search("whales", 4)) == 4


class Longest:
    """Prefers long texts."""

    def __init__(self) -> None:
        self.read: list[int] = []

    def scores(self, question: str, texts: Sequence[str]) -> np.ndarray:
        assert question == "Which whales and ships sank?"
        self.read.append(len(texts))
        return np.array([len(text) for text in texts], dtype=np.float64)


def test_a_reranker_orders_the_best_passages_anew(open_rag: OpenRag) -> None:
    rag, longest = open_rag(DOCUMENTS), Longest()
    retriever = Retriever(rag.store, rag.embedder, rag.settings, longest)
    found = retriever.search("Which whales and ships sank?", 3)
    assert texts(found) == sorted(DOCUMENTS.values(), key=len, reverse=True)[:3]
    assert [hit.score for hit in found] == sorted((len(hit.chunk.searchable) for hit in found), reverse=True)
    assert longest.read == [5], "all candidates, not the three that are wanted"
    assert all(hit.via for hit in found)
    assert retriever.search("Which whales and ships sank?", 3, Filter(documents=("no.txt",))) == []


def test_every_hit_says_what_each_retriever_thought_of_it(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    question = "How do whales breathe air?"
    candidates = rag.store.candidates(rag.embedder.embed_query(question), encode_query(question), 100)
    hits = rag.search(question, 5)
    for hit in hits:
        expected = [
            (system, rank, score)
            for system, ranking in ((DENSE, candidates.dense), (BM25, candidates.bm25))
            for rank, (id_, score) in enumerate(ranking, start=1)
            if id_ == hit.chunk.id
        ]
        assert list(hit.via) == expected
    best = hits[0]
    assert best.chunk.text == DOCUMENTS["whales.txt"]
    assert [via.rank for via in best.via] == [1, 1]
    cosine = float(rag.embedder.embed_query(question) @ rag.embedder.embed([best.chunk.text])[0])
    assert best.score_of(DENSE) == pytest.approx(cosine, abs=1e-5)
    assert [system for system, _, _ in hits[-1].via] == [DENSE]
    assert hits[-1].score_of(BM25) is None


def test_the_fusion_is_a_setting(open_rag: OpenRag) -> None:
    rrf = open_rag(DOCUMENTS, fusion="rrf").search("How do whales breathe air?", 5)
    assert rrf[0].score == pytest.approx(2 / (RRF_K + 1))
    for hit in rrf:
        assert hit.score == pytest.approx(sum(1 / (RRF_K + via.rank) for via in hit.via))


@pytest.mark.parametrize(("weight", "system"), [(1.0, DENSE), (0.0, BM25)])
def test_the_weight_of_meaning_is_a_setting(open_rag: OpenRag, weight: float, system: str) -> None:
    hits = open_rag(DOCUMENTS, dense_weight=weight, feedback=0.0).search(
        "Do whales or iron ships eat krill in April?", 5
    )
    ranks = [via.rank for hit in hits for via in hit.via if via.system == system]
    assert len(ranks) > 1
    assert ranks == list(range(1, len(ranks) + 1))


def test_feedback_finds_what_speaks_of_the_same_as_the_first_passages(open_rag: OpenRag) -> None:
    first = {f"{n}.txt": f"Aurora is the ferry with engines from Turku, number {n}." for n in range(3)}
    related, other = "Engines from Turku burn methanol.", "Zebras graze on grassland."
    rag = open_rag(first | {"related.txt": related, "other.txt": other})

    def lead(feedback: float) -> float:
        settings = rag.settings.model_copy(update={"feedback": feedback})
        hits = Retriever(rag.store, rag.embedder, settings).search("Aurora ferry", 5)
        scores = {hit.chunk.text: hit.score for hit in hits}
        return scores[related] - scores[other]

    assert lead(0.5) > lead(0.2) > lead(0.0)


def test_only_documents_that_the_filter_matches_are_found(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    within = Filter(documents=("ships.txt", "gravity.txt"))
    assert sorted(texts(rag.search("What do blue whales eat?", 5, within=within))) == [
        DOCUMENTS["gravity.txt"],
        DOCUMENTS["ships.txt"],
    ]
    assert rag.search("What do blue whales eat?", 1, within=Filter()) == rag.search("What do blue whales eat?", 1)
    assert rag.search("What do blue whales eat?", 5, within=Filter(types=("pdf",))) == []


KRILL, TITANIC = "blue whales eat krill", "Titanic hit an iceberg"


@pytest.mark.parametrize("fusion", ["convex", "rrf"])
def test_two_wordings_make_one_ranking(open_rag: OpenRag, fusion: str) -> None:
    rag = open_rag(DOCUMENTS, fusion=fusion)
    retriever = Retriever(rag.store, rag.embedder, rag.settings)
    one, other = ({hit.chunk.id: hit.score for hit in retriever.search(text, 5)} for text in (KRILL, TITANIC))
    both = retriever.search(KRILL, 5, also=[TITANIC])
    for hit in both:
        expected = (1 - ALSO) * one[hit.chunk.id] + ALSO * other[hit.chunk.id]
        assert hit.score == pytest.approx(expected, abs=1e-5)
    assert [hit.score for hit in both] == sorted((hit.score for hit in both), reverse=True)
    assert both == retriever.search(KRILL, 5, also=[TITANIC])


def test_each_wording_finds_passages_that_the_other_does_not(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS, candidates=1)
    hits = Retriever(rag.store, rag.embedder, rag.settings).search(KRILL, 2, also=[TITANIC])
    assert set(texts(hits)) == {DOCUMENTS["krill.txt"], DOCUMENTS["titanic.txt"]}


def test_the_other_wording_counts_more(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    retriever = Retriever(rag.store, rag.embedder, rag.settings)
    assert texts(retriever.search(KRILL, 1, also=[TITANIC])) == [DOCUMENTS["titanic.txt"]]
    assert texts(retriever.search(TITANIC, 1, also=[KRILL])) == [DOCUMENTS["krill.txt"]]


def test_a_hit_says_what_the_wording_that_suits_it_better_thought(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    retriever = Retriever(rag.store, rag.embedder, rag.settings)
    alone = [{hit.chunk.id: hit for hit in retriever.search(question, 5)} for question in (KRILL, TITANIC)]
    for hit in retriever.search(KRILL, 5, also=[TITANIC]):
        for system in (DENSE, BM25):
            seen = [scores[hit.chunk.id].score_of(system) for scores in alone]
            assert hit.score_of(system) == max((score for score in seen if score is not None), default=None)


@pytest.mark.parametrize("also", [(), (KRILL,), (f" {KRILL}\n", KRILL)])
def test_the_same_wording_twice_is_searched_once(open_rag: OpenRag, also: Sequence[str]) -> None:
    class Counting(WordCountEmbedder):
        calls = 0

        def embed_query(self, text: str) -> np.ndarray:
            self.calls += 1
            return super().embed_query(text)

    rag, counting = open_rag(DOCUMENTS), Counting()
    assert Retriever(rag.store, counting, rag.settings).search(KRILL, 5, also=also) == rag.search(KRILL, 5)
    assert counting.calls == 1


def test_another_wording_is_checked_like_the_question(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    with pytest.raises(QuestionError, match="at most 8,000"):
        Retriever(rag.store, rag.embedder, rag.settings).search(KRILL, 3, also=["w" * 8001])


def test_the_same_question_gives_the_same_list(open_rag: OpenRag) -> None:
    # Ties everywhere: forty passages with the same words.
    rag = open_rag({f"{i}.txt": "The same words stand in every file." for i in range(40)}, candidates=10)
    first = rag.search("same words", 10)
    assert all(rag.search("same words", 10) == first for _ in range(5))
    assert [hit.chunk.id for hit in first] == sorted(hit.chunk.id for hit in first)


def test_a_question_of_words_that_no_document_has_still_finds_by_meaning(open_rag: OpenRag) -> None:
    hits = open_rag(DOCUMENTS).search("zyzzyva quokka", 3)
    assert len(hits) == 3
    assert {via.system for hit in hits for via in hit.via} == {DENSE}


@pytest.mark.parametrize("question", ["of the and", "???", "!", "…"])
def test_a_question_without_words_to_look_up_does_not_fail(open_rag: OpenRag, question: str) -> None:
    assert len(open_rag(DOCUMENTS).search(question, 2)) == 2


def test_a_collection_without_documents_finds_nothing(open_rag: OpenRag) -> None:
    assert open_rag({}).search("anything", 5) == []


def test_white_space_around_a_question_does_not_matter(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    assert rag.search("  whales\n", 3) == rag.search("whales", 3)


@pytest.mark.parametrize("question", ["", " ", "\n\t \u00a0"])
def test_an_empty_question_is_refused(open_rag: OpenRag, question: str) -> None:
    with pytest.raises(QuestionError, match=r"^the question is empty; [^\n]+$"):
        open_rag(DOCUMENTS).search(question, 3)


def test_a_question_that_is_too_long_is_refused_with_the_limit(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS)
    with pytest.raises(QuestionError, match=r"^the question has 100,000 characters, at most 8,000 are taken; [^\n]+$"):
        rag.search("w" * 100_000, 3)
    assert rag.search("w" * 8000, 3)


@pytest.mark.slow
def test_a_question_of_bytes_that_are_no_text_is_answered_or_refused(real_settings: Settings) -> None:
    # What a shell passes on from a terminal in another encoding, and what JSON can escape.
    embedder = open_embedder(real_settings)
    with closing(open_store(real_settings, embedder, create=True)) as store, suppress(QuestionError):
        assert Retriever(store, embedder, real_settings).search("wh\udcffales", 3) == []


# While documents are replaced.

NAMES = ("anchor", "beacon", "cutter", "dinghy")
PARTS = 6


def revision_of(name: str, revision: str, hidden: bool = True, parts: int = PARTS) -> list[IndexedChunk]:
    """A document whose passages all say its name."""
    embedder = WordCountEmbedder()
    made = []
    for part in range(parts):
        text = f"The {name} has part {part} in revision {revision}"
        id_ = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{name} {revision} {part}"))
        chunk = make_chunk(text, part, id=id_, doc_id=name, doc=name, revision=revision)
        made.append(IndexedChunk(chunk, embedder.embed([text])[0], encode_document(text), hidden))
    return made


@pytest.fixture
def store(settings: Settings, embedder: WordCountEmbedder) -> Iterator[Store]:
    with closing(open_store(settings, embedder, create=True)) as opened:
        for name in NAMES:
            opened.upsert(revision_of(name, "0", hidden=False))
        yield opened


def test_every_search_sees_one_revision_of_a_document_that_is_replaced_all_the_time(
    store: Store, settings: Settings, embedder: WordCountEmbedder
) -> None:
    retriever = Retriever(store, embedder, settings)
    done = threading.Event()
    wrong: list[str] = []
    searches = [0, 0]

    def search(thread: int) -> None:
        while not done.is_set() and not wrong:
            name = NAMES[searches[thread] % len(NAMES)]
            found = [hit.chunk for hit in retriever.search(f"{name} part", PARTS) if hit.chunk.doc_id == name]
            if len(found) != PARTS or len({chunk.revision for chunk in found}) != 1:
                wrong.append(f"{name}: {[chunk.text for chunk in found]}")
            searches[thread] += 1

    threads = [threading.Thread(target=search, args=(n,)) for n in range(len(searches))]
    for thread in threads:
        thread.start()
    patience, revision = time.monotonic() + 120, 0
    while (revision < 8 or min(searches) < 25) and not wrong and time.monotonic() < patience:
        revision += 1
        for name in NAMES:
            store.upsert(revision_of(name, str(revision)))
            store.publish(name, str(revision))
    done.set()
    for thread in threads:
        thread.join(30)
    assert wrong == []
    assert revision >= 8
    assert min(searches) >= 25
    assert store.count() == PARTS * len(NAMES)


class Slow:
    """A store in which something happens between the candidates and the passages, as often as it is told."""

    def __init__(self, store: Store, times: int) -> None:
        self._store, self._left = store, times
        self.candidates, self.compare = store.candidates, store.compare
        self.asked = 0

    def happen(self) -> None:
        raise NotImplementedError

    def fetch(self, ids: Sequence[str]) -> list[Chunk]:
        self.asked += 1
        if self._left:
            self._left -= 1
            self.happen()
        return self._store.fetch(ids)


class Replacing(Slow):
    def happen(self) -> None:
        revision = f"later {self._left}"
        self._store.upsert(revision_of("anchor", revision))
        self._store.publish("anchor", revision)


class Removing(Slow):
    def happen(self) -> None:
        self._store.delete("anchor")


def test_passages_that_vanish_under_a_search_are_searched_again(
    store: Store, settings: Settings, embedder: WordCountEmbedder
) -> None:
    replacing = Replacing(store, times=2)
    hits = Retriever(replacing, embedder, settings).search("anchor part", PARTS)  # type: ignore[arg-type]
    assert {(hit.chunk.doc_id, hit.chunk.revision) for hit in hits} == {("anchor", "later 0")}
    assert len(hits) == PARTS
    assert replacing.asked == 3


def test_passages_that_vanish_under_a_search_in_two_wordings_are_searched_again(
    store: Store, settings: Settings, embedder: WordCountEmbedder
) -> None:
    replacing = Replacing(store, times=2)
    retriever = Retriever(replacing, embedder, settings)  # type: ignore[arg-type]
    hits = retriever.search("anchor", PARTS, also=["anchor part"])
    assert {(hit.chunk.doc_id, hit.chunk.revision) for hit in hits} == {("anchor", "later 0")}
    assert len(hits) == PARTS
    assert replacing.asked == 3


def test_a_replacement_between_two_wordings_comparisons_is_noticed(
    store: Store, settings: Settings, embedder: WordCountEmbedder
) -> None:
    class Between(Replacing):
        def __init__(self, store: Store) -> None:
            super().__init__(store, times=0)
            self.compared = 0
            self.compare = self._compare

        def _compare(self, ids: Sequence[str], sparse: SparseVector) -> Compared:
            self.compared += 1
            if self.compared == 2:
                self.happen()
            return self._store.compare(ids, sparse)

    between = Between(store)
    hits = Retriever(between, embedder, settings).search("anchor", PARTS, also=["anchor part"])  # type: ignore[arg-type]
    assert {(hit.chunk.doc_id, hit.chunk.revision) for hit in hits} == {("anchor", "later 0")}
    assert len(hits) == PARTS
    assert between.compared == 4


def test_a_removed_document_makes_room_for_the_next_best(
    store: Store, settings: Settings, embedder: WordCountEmbedder
) -> None:
    hits = Retriever(Removing(store, 1), embedder, settings).search("anchor part", 5)  # type: ignore[arg-type]
    assert len(hits) == 5
    assert "anchor" not in {hit.chunk.doc_id for hit in hits}


def test_an_index_that_never_rests_still_answers_with_as_many_as_there_are(
    store: Store, settings: Settings, embedder: WordCountEmbedder
) -> None:
    replacing = Replacing(store, times=10**6)
    hits = Retriever(replacing, embedder, settings).search("anchor part", 8)  # type: ignore[arg-type]
    assert len(hits) == 8
    assert replacing.asked < 10


def test_a_replacement_that_was_cut_short_shows_the_better_of_both_revisions_and_as_many_passages(
    store: Store, settings: Settings, embedder: WordCountEmbedder
) -> None:
    store.upsert(revision_of("anchor", "1", hidden=False, parts=3))
    hits = Retriever(store, embedder, settings).search("The anchor has part 2 in revision 1", 12)
    assert len(hits) == 12
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    anchors = [hit.chunk for hit in hits if hit.chunk.doc_id == "anchor"]
    assert {chunk.revision for chunk in anchors} == {"1"}
    assert len(anchors) == 3
    assert hits[0].chunk.text == "The anchor has part 2 in revision 1"


def test_a_question_is_embedded_once_however_often_it_is_searched(store: Store, settings: Settings) -> None:
    class Counting(WordCountEmbedder):
        calls = 0

        def embed_query(self, text: str) -> np.ndarray:
            self.calls += 1
            return super().embed_query(text)

    counting = Counting()
    Retriever(Replacing(store, times=3), counting, settings).search("anchor part", 3)  # type: ignore[arg-type]
    assert counting.calls == 1
