"""How well documents are found: each retriever alone, both together, and the baseline that people know.

The rankings are those of the product's own store and retriever; the metrics are ir-measures'. Knows nothing about
files or flags.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from eval.cases import RetrievalSet
from eval.corpus import Say, open_corpus
from eval.stats import Values, mean
from rag.embed import Embedder
from rag.errors import FootnoteError
from rag.retrieve import Retriever
from rag.settings import Settings
from rag.sparse import encode_query
from rag.store.protocol import Store

METRICS = {
    "ndcg@10": "nDCG@10",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "recall@100": "R@100",
    "mrr": "RR",
    "hit@1": "Success@1",
}
"""Our name -> ir-measures' (https://ir-measur.es)."""

Rank = Callable[[str], list[str]]
"""A question -> documents' ids, best first."""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one question."""

    id: str
    question: str
    rankings: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """System -> documents, best first."""
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """System -> metric -> value, 0 to 1; 0 for a system that failed."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """System -> why it failed."""
    search_ms: float | None = None
    """What the product's default search took."""


def evaluate(
    settings: Settings, embedder: Embedder, data: RetrievalSet, say: Say, limit: int | None = None
) -> dict[str, Any]:
    """The figures of every system over a data set; see `summary`.

    Args:
        settings: how passages are cut, searched and fused.
        embedder: of the passages and the questions.
        data: what to search and to ask.
        say: told how far it is.
        limit: ask the first so many questions only.

    Raises:
        StoreError: the corpus cannot be indexed.
    """
    questions = list(data.questions.items())[:limit]
    with closing(open_corpus(settings, embedder, data.corpus, say)) as store:
        systems = systems_over(settings, embedder, store)
        records = []
        for number, (id_, question) in enumerate(questions, start=1):
            records.append(_asked(systems, data, id_, question))
            if number % 50 == 0:
                say(f"asking: {number:,} of {len(questions):,} questions")
    return summary(data, records)


def systems_over(settings: Settings, embedder: Embedder, store: Store) -> dict[str, Rank]:
    """Every system by its name. All look at passages, and rank a document by its best one."""
    depth = settings.candidates

    def half(which: int) -> Rank:
        def rank(question: str) -> list[str]:
            found = store.candidates(embedder.embed_query(question), encode_query(question), depth)[which]
            return [chunk.doc for chunk in store.fetch([id_ for id_, _ in found])]

        return rank

    def search(**changes: Any) -> Rank:
        retriever = Retriever(store, embedder, settings.model_copy(update=changes))
        return lambda question: [hit.chunk.doc for hit in retriever.search(question, depth)]

    ranks = {
        "bm25": half(1),
        "dense": half(0),
        "hybrid": search(feedback=0.0),
        "hybrid+rerank": search(),
        "rank-bm25": _rank_bm25(store, depth),
    }
    return {name: _distinct(rank) for name, rank in ranks.items()}


def _distinct(rank: Rank) -> Rank:
    return lambda question: list(dict.fromkeys(rank(question)))


def _rank_bm25(store: Store, depth: int) -> Rank:
    """The package's BM25Okapi as its README shows it, over the same passages in lower case."""
    from rank_bm25 import BM25Okapi

    chunks = sorted((item.chunk for item in store.scan()), key=lambda chunk: chunk.id)
    index = BM25Okapi([chunk.searchable.lower().split() for chunk in chunks])

    def rank(question: str) -> list[str]:
        scores = index.get_scores(question.lower().split())
        best = np.argsort(-scores, kind="stable")[:depth]
        return [chunks[row].doc for row in best if scores[row] > 0]

    return rank


def _asked(systems: Mapping[str, Rank], data: RetrievalSet, id_: str, question: str) -> Record:
    rankings: dict[str, list[str]] = {}
    failures: dict[str, str] = {}
    search_ms = None
    for name, rank in systems.items():
        started = time.perf_counter()
        try:
            found = rank(question)
        except FootnoteError as error:
            failures[name] = str(error)
            continue
        if name == "hybrid+rerank":
            search_ms = (time.perf_counter() - started) * 1000
        left_out = data.left_out.get(id_, frozenset())
        rankings[name] = [document for document in found if document not in left_out]
    scores = {name: scored(rankings.get(name, ()), data.relevant[id_]) for name in systems}
    return Record(id_, question, rankings, scores, failures, search_ms)


def scored(ranking: Sequence[str], relevant: Mapping[str, int]) -> dict[str, float]:
    """Every metric of one ranking; grades are gains as they are, a missing document has none."""
    import ir_measures

    measures = {ir_measures.parse_measure(theirs): ours for ours, theirs in METRICS.items()}
    run = {"q": {document: float(-rank) for rank, document in enumerate(ranking)}}
    if not ranking:
        return dict.fromkeys(METRICS, 0.0)
    found = ir_measures.iter_calc(list(measures), {"q": dict(relevant)}, run)
    values = {measures[each.measure]: float(each.value) for each in found}
    return {name: values[name] for name in METRICS}


def summary(data: RetrievalSet, records: Sequence[Record]) -> dict[str, Any]:
    """Means with 95 % intervals, each over all questions: where a system failed, it scored 0."""
    systems = list(records[0].scores) if records else []
    times: Values = np.array([record.search_ms for record in records if record.search_ms is not None])
    return {
        "dataset": data.name,
        "documents": len(data.corpus),
        "n": len(records),
        "unjudged": data.unjudged,
        "failed": sum(bool(record.failures) for record in records),
        "failures": [
            {"id": record.id, "system": system, "reason": reason}
            for record in records
            for system, reason in record.failures.items()
        ],
        "systems": {
            system: {
                metric: mean([record.scores[system][metric] for record in records])._asdict() for metric in METRICS
            }
            for system in systems
        },
        "search_ms": {f"p{share}": round(float(np.percentile(times, share)), 1) for share in (50, 95) if len(times)},
    }
