"""BM25: the weights a chunk gets, and the scores Qdrant makes of them, against `rank-bm25` as oracle."""

from __future__ import annotations

import math
import re
import threading
import unicodedata
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import Stemmer
from hypothesis import given
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from eval.bench.texts import passages
from rag.sparse import AVGDL, K1, STOP_WORDS, B, encode_document, encode_query, term_id, tokens
from rag.store.edge import EdgeStore
from rag.types import IndexedChunk
from tests.conftest import make_chunk

DIM = 4
PASSAGES = 220
QUESTIONS = [
    "garbage collection",
    "How does a try statement handle exceptions?",
    "What is the value of a conditional expression, if any?",
    "class class class attribute",
    "yield yield expression expression generator",
    "import the module package path",
    "zyzzyva string formatting",
    "THE OF AND with operator",
]


class Oracle(BM25Okapi):
    """rank-bm25's Okapi with Lucene's IDF and our fixed average length in the place of its own."""

    def __init__(self, corpus: Sequence[Sequence[str]]) -> None:
        super().__init__(corpus, k1=K1, b=B)
        containing = Counter(term for document in corpus for term in set(document))
        self.idf = {term: math.log(1 + (len(corpus) - n + 0.5) / (n + 0.5)) for term, n in containing.items()}
        self.avgdl = AVGDL


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    # Lengths differ, so that the length norm matters.
    return [
        text for length in (12, 60, 140) for text in passages(PASSAGES // 3 + 1, lambda text: len(text.split()), length)
    ][:PASSAGES]


def chunk_id(number: int) -> str:
    return str(uuid.UUID(int=number))


def indexed(texts: Sequence[str], start: int = 0) -> list[IndexedChunk]:
    dense = np.full(DIM, 0.5, dtype=np.float32)
    return [
        IndexedChunk(make_chunk(text, number, id=chunk_id(number)), dense, encode_document(text))
        for number, text in enumerate(texts, start=start)
    ]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, corpus: list[str]) -> Iterator[EdgeStore]:
    opened = EdgeStore.open(tmp_path_factory.mktemp("index"), DIM, "none")
    opened.upsert(indexed(corpus))
    yield opened
    opened.close()


def found(store: EdgeStore, question: str, limit: int = PASSAGES) -> list[tuple[str, float]]:
    return store.candidates(np.full(DIM, 0.5, dtype=np.float32), encode_query(question), limit).bm25


@pytest.mark.parametrize("question", QUESTIONS)
def test_scores_and_ranking_are_those_of_rank_bm25(store: EdgeStore, corpus: list[str], question: str) -> None:
    oracle = Oracle([tokens(text) for text in corpus]).get_scores(tokens(question))
    expected = {chunk_id(number): score for number, score in enumerate(oracle) if score > 0}
    ours = found(store, question)
    assert len(expected) > 1
    assert {id_ for id_, _ in ours} == set(expected)
    for id_, score in ours:
        assert score == pytest.approx(expected[id_], rel=1e-5)
    # The same order: what the oracle tells apart beyond rounding comes in its order.
    in_our_order = [expected[id_] for id_, _ in ours]
    assert all(better >= worse * (1 - 1e-5) for better, worse in pairwise(in_our_order))


def test_a_word_asked_twice_counts_twice(store: EdgeStore) -> None:
    once, twice = dict(found(store, "generator")), dict(found(store, "generator generator"))
    assert once
    assert {id_: pytest.approx(2 * score, rel=1e-5) for id_, score in once.items()} == twice


def test_a_question_of_unknown_or_stop_words_finds_nothing(store: EdgeStore) -> None:
    assert found(store, "zyzzyva") == []
    assert found(store, "of the and") == []


def test_idf_stays_exact_when_passages_come_and_go(tmp_path: Path, corpus: list[str]) -> None:
    kept, gone = corpus[:40], corpus[40:80]
    with_deletes = EdgeStore.open(tmp_path / "a", DIM, "none")
    with_deletes.upsert(indexed(kept))
    doomed = [
        IndexedChunk(make_chunk(text, number, id=chunk_id(number), doc_id="gone"), item.dense, item.sparse)
        for number, (text, item) in enumerate(zip(gone, indexed(gone), strict=True), start=500)
    ]
    with_deletes.upsert(doomed)
    with_deletes.delete("gone")
    fresh = EdgeStore.open(tmp_path / "b", DIM, "none")
    fresh.upsert(indexed(kept))
    for question in QUESTIONS[:3]:
        assert dict(found(with_deletes, question)) == pytest.approx(dict(found(fresh, question)), rel=1e-5)
    with_deletes.close()
    fresh.close()


def test_hand_computed_weights() -> None:
    # Four words: length norm 1.2 * (1 - 0.75 + 0.75 * 4 / 80) = 0.345.
    vector = dict(zip(*encode_document("Cats like cats, mostly"), strict=True))
    assert vector[term_id("cat")] == pytest.approx(2 * 2.2 / (2 + 0.345))
    assert vector[term_id("like")] == pytest.approx(1 * 2.2 / (1 + 0.345))
    assert len(vector) == 3


def test_no_words_no_vector() -> None:
    for text in ("", " \n", "the of and", "— … !"):
        assert encode_document(text) == encode_query(text) == ((), ())


def test_stop_words_are_left_out_and_the_rest_is_stemmed_in_order() -> None:
    assert tokens("The cats are running with the dogs' friends") == ["cat", "run", "dog", "friend"]
    assert not STOP_WORDS & set(tokens("To be or not to be, that is the question"))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("café", "cafe\u0301"),
        ("Straße", "STRAßE"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full width"),
        ("ﬁnal ofﬁce", "final office"),
        ("x² + y²", "X2 + Y2"),
        ("Été À NOËL", "été à noël"),
    ],
)
def test_how_a_word_is_encoded_or_cased_does_not_matter(one: str, other: str) -> None:
    assert tokens(one) == tokens(other)
    assert encode_document(one) == encode_document(other)


@given(st.text(max_size=300))
def test_words_are_the_same_in_every_unicode_form(text: str) -> None:
    expected = tokens(text)
    assert all(tokens(unicodedata.normalize(form, text)) == expected for form in ("NFKC", "NFKD"))


@given(st.text(st.characters(max_codepoint=127), max_size=300))
def test_case_does_not_matter(text: str) -> None:
    assert tokens(text.upper()) == tokens(text.lower()) == tokens(text)


@given(st.text(max_size=400) | st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta"])).map(" ".join))
def test_a_chunks_vector_is_well_formed(text: str) -> None:
    found, asked = encode_document(text), encode_query(text)
    for vector in (found, asked):
        assert all(a < b for a, b in pairwise(vector.indices))
        assert all(0 <= index < 2**32 for index in vector.indices)
        assert len(vector.indices) == len(vector.values)
        assert all(value > 0 for value in vector.values)
    assert found.indices == asked.indices
    assert sum(asked.values) == len(tokens(text))
    # A term alone cannot reach k1 + 1, however often it occurs; terms that share an id are added.
    terms = Counter(term_id(term) for term in set(tokens(text)))
    assert all(value < (K1 + 1) * terms[id_] for id_, value in zip(*found, strict=True))


@given(st.integers(1, 60), st.integers(0, 60))
def test_more_mentions_weigh_more_and_longer_texts_less(mentions: int, others: int) -> None:
    def weight(count: int, rest: int) -> float:
        text = " ".join(["whale"] * count + [f"word{i}" for i in range(rest)])
        return dict(zip(*encode_document(text), strict=True))[term_id("whale")]

    assert weight(mentions + 1, others) > weight(mentions, others + 1)
    assert weight(mentions, others + 1) < weight(mentions, others)


def test_ids_are_the_same_in_every_process() -> None:
    # Stored vectors outlive the process, so ids may not depend on Python's seeded hash.
    assert encode_document("Footnotes, footnote!").indices == (0xED87DDAC,)


def _with_parts(words: list[str]) -> list[str]:
    return [each for word in words for each in (word, *re.findall(r"[a-z]+|\d+", word))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CD4", ["cd4", "cd", "4"]),
        ("ISO 9001", ["iso", "9001"]),
        ("ISO9001:2015", ["iso9001", "iso", "9001", "2015"]),
        ("x86_64", ["x86_64", "x", "86", "64"]),
        ("snake_case 2027", ["snake_cas", "snake", "case", "2027"]),
        ("v", ["v"]),
    ],
)
def test_words_of_letters_and_digits_are_found_by_their_parts_too(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected


def test_threads_get_the_same_stems(corpus: list[str]) -> None:
    # New words for every thread at once, so that no cache hides a stemmer that is shared.
    texts = [" ".join(f"{word}{i}ing" for word in re.findall(r"[a-z]+", text.lower())) for i, text in enumerate(corpus)]
    barrier = threading.Barrier(8)

    def stems(mine: list[str]) -> list[list[str]]:
        barrier.wait()
        return [tokens(text) for text in mine]

    with ThreadPoolExecutor(8) as pool:
        threaded = list(pool.map(stems, [texts[i:] + texts[:i] for i in range(8)]))
    stemmer = Stemmer.Stemmer("english")
    expected = [stemmer.stemWords(_with_parts(text.split())) for text in texts]
    assert all(each == expected[i:] + expected[:i] for i, each in enumerate(threaded))
