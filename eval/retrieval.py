"""How well documents are found: each retriever alone, both together, and the baseline that people know.

The rankings are those of the product's own store and retriever; the metrics are ir-measures'. Knows nothing about
files or flags.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import Any

import numpy as np

from eval.cases import RetrievalSet, spread
from eval.corpus import Say, key_of, open_corpus
from eval.run import Record, Run, made_with
from eval.stats import SEED, mean
from ingest.stages import Recipe
from rag.embed import Embedder
from rag.errors import FootnoteError
from rag.rerank import open_reranker
from rag.retrieve import Retriever
from rag.settings import Settings
from rag.sparse import encode_query
from rag.store.protocol import Store
from rag.types import Chunk

METRICS = {
    "ndcg@10": "nDCG@10",
    "recall@5": "R@5",
    "recall@10": "R@10",
    "recall@100": "R@100",
    "mrr": "RR",
    "hit@1": "Success@1",
}
"""Our name -> ir-measures' (https://ir-measur.es)."""

Rank = Callable[[str], list[Chunk]]
"""A question -> the best passage of each document found, best first."""


PRODUCT = "hybrid+rerank"
"""What `footnote search` does."""
KEPT, SHOWN, EXCERPT = 10, 5, 500
"""What a record keeps: documents of a ranking; passages of the product's own, and characters of each."""


def evaluate(
    settings: Settings, embedder: Embedder, data: RetrievalSet, run: Run, say: Say, limit: int | None = None
) -> dict[str, Any]:
    """The figures of every system over a data set; see `summary`.

    Args:
        settings: how passages are cut, searched and fused.
        embedder: of the passages and the questions.
        data: what to search and to ask.
        run: keeps the records; questions that it has are not asked again.
        say: told how far it is.
        limit: ask so many questions only, evenly spread.

    Raises:
        StoreError: the corpus cannot be indexed.
        EvalError: the run cannot be written.
    """
    questions = spread(list(data.questions.items()), limit)
    with closing(open_corpus(settings, embedder, data.corpus, say)) as store:
        systems = systems_over(settings, embedder, store)
        if run.records:
            say(f"going on after {len(run.records):,} of {len(questions):,} questions")
        for id_, question in questions[len(run.records) :]:
            run.add(*_asked(systems, data, id_, question))
            if len(run.records) % 50 == 0:
                say(f"asked {len(run.records):,} of {len(questions):,} questions")
    figures = summary(data, run.records, run.timings)
    run.finish(figures)
    return figures


def made_of(settings: Settings, embedder: Embedder, data: RetrievalSet, limit: int | None) -> dict[str, Any]:
    """What such a run is made with; see `eval.run.made_with`."""
    digest = hashlib.sha256(json.dumps([data.questions, data.relevant], sort_keys=True).encode())
    digest.update(json.dumps({id_: sorted(each) for id_, each in data.left_out.items()}, sort_keys=True).encode())
    return made_with(
        settings,
        dataset=data.name,
        corpus=key_of(data.corpus, embedder, Recipe.of(settings, embedder)),
        cases=digest.hexdigest()[:16],
        limit=limit,
        embedder=embedder.id,
        backend=embedder.backend,
        seed=SEED,
    )


def systems_over(settings: Settings, embedder: Embedder, store: Store) -> dict[str, Rank]:
    """Every system by its name. All look at passages, and rank a document by its best one."""
    depth = settings.candidates

    def half(which: int) -> Rank:
        def rank(question: str) -> list[Chunk]:
            found = store.candidates(embedder.embed_query(question), encode_query(question), depth)[which]
            return store.fetch([id_ for id_, _ in found])

        return rank

    def search(**changes: Any) -> Rank:
        chosen = settings.model_copy(update=changes)
        retriever = Retriever(store, embedder, chosen, open_reranker(chosen))
        return lambda question: [hit.chunk for hit in retriever.search(question, depth)]

    ranks = {
        "bm25": half(1),
        "dense": half(0),
        "hybrid": search(feedback=0.0, rerank_model=""),
        PRODUCT: search(),
        "rank-bm25": _rank_bm25(store, depth),
    }
    return {name: _distinct(rank) for name, rank in ranks.items()}


def _distinct(rank: Rank) -> Rank:
    def of_documents(question: str) -> list[Chunk]:
        best: dict[str, Chunk] = {}
        for chunk in rank(question):
            best.setdefault(chunk.doc, chunk)
        return list(best.values())

    return of_documents


def _rank_bm25(store: Store, depth: int) -> Rank:
    """The package's BM25Okapi as its README shows it, over the same passages in lower case."""
    from rank_bm25 import BM25Okapi

    chunks = sorted((item.chunk for item in store.scan()), key=lambda chunk: chunk.id)
    index = BM25Okapi([chunk.searchable.lower().split() for chunk in chunks])

    def rank(question: str) -> list[Chunk]:
        scores = index.get_scores(question.lower().split())
        best = np.argsort(-scores, kind="stable")[:depth]
        return [chunks[row] for row in best if scores[row] > 0]

    return rank


def _asked(systems: Mapping[str, Rank], data: RetrievalSet, id_: str, question: str) -> tuple[Record, Any]:
    """The record of a question, and how long each system took."""
    rankings: dict[str, list[str]] = {}
    failures: dict[str, str] = {}
    took: dict[str, float] = {}
    hits: list[Chunk] = []
    left_out = data.left_out.get(id_, frozenset())
    for name, rank in systems.items():
        started = time.perf_counter()
        try:
            found = [chunk for chunk in rank(question) if chunk.doc not in left_out]
            rankings[name] = [chunk.doc for chunk in found]
            if name == PRODUCT:
                hits = found[:SHOWN]
        except FootnoteError as error:
            failures[name] = str(error)
        took[name] = round((time.perf_counter() - started) * 1000, 2)
    return {
        "id": id_,
        "question": question,
        "relevant": data.relevant[id_],
        "hits": [{"doc": hit.doc, "title": hit.title, "text": hit.with_header[:EXCERPT]} for hit in hits],
        "rankings": {name: ranking[:KEPT] for name, ranking in rankings.items()},
        "scores": {name: scored(rankings.get(name, ()), data.relevant[id_]) for name in systems},
        "failures": failures,
        "covered": bool(rankings.get(PRODUCT)),
    }, took


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


def summary(data: RetrievalSet, records: Sequence[Record], timings: Sequence[Mapping[str, float]]) -> dict[str, Any]:
    """Means with 95 % intervals, each over all questions: where a system failed, it scored 0."""
    asked = list(zip(records, timings, strict=True))
    times = [took[PRODUCT] for record, took in asked if PRODUCT not in record["failures"]]
    return {
        "dataset": data.name,
        "main": {"system": PRODUCT, "metric": "ndcg@10"},
        "documents": len(data.corpus),
        "n": len(records),
        "unjudged": data.unjudged,
        "failed": sum(bool(record["failures"]) for record in records),
        "failures": [
            {"id": record["id"], "system": system, "reason": reason}
            for record in records
            for system, reason in record["failures"].items()
        ],
        "systems": {
            system: {
                metric: mean([record["scores"][system][metric] for record in records])._asdict() for metric in METRICS
            }
            for system in records[0]["scores"]
        },
        "search_ms": {f"p{share}": round(float(np.percentile(times, share)), 1) for share in (50, 95) if times},
    }
