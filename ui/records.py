"""Records -> plain dictionaries: the JSON of the command line and of the REST API, in one place.

Knows nothing about terminals, pages or requests.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from ingest.audit import Report
from ingest.results import Summary
from rag.types import Answer, Citation, Document, Hit, Sentence

UNSUPPORTED = "not found in your documents"


def hit(record: Hit) -> dict[str, Any]:
    """One retrieved passage; `via` maps each retriever that found it to its raw score."""
    chunk = record.chunk
    return {
        "doc": chunk.doc,
        "title": chunk.title,
        "page": chunk.page,
        "headings": list(chunk.headings),
        "start": chunk.start,
        "end": chunk.end,
        "score": round(record.score, 6),
        "text": chunk.text,
        "via": {via.system: round(via.score, 6) for via in record.via},
    }


def citation(record: Citation) -> dict[str, Any]:
    """One footnote."""
    return asdict(record)


def sentence(record: Sentence) -> dict[str, Any]:
    """One sentence of an answer with its footnotes."""
    return {
        "text": record.text,
        "support": record.support,
        "supported": record.supported,
        "checkable": record.checkable,
        "reasons": list(record.reasons),
        "citations": [citation(c) for c in record.citations],
    }


def answer(record: Answer) -> dict[str, Any]:
    """A whole answer."""
    return {
        "question": record.question,
        "answer": record.text,
        "abstained": record.abstained,
        "sentences": [sentence(s) for s in record.sentences],
        "dropped": [sentence(s) for s in record.dropped],
        "hits": [hit(h) for h in record.hits],
        "timings_ms": asdict(record.timings),
        "model": record.model,
        "searched": record.searched,
    }


def document(record: Document) -> dict[str, Any]:
    """One row of `footnote docs`."""
    values: dict[str, list[str]] = {}
    for key, value in record.metadata:
        values.setdefault(key, []).append(value)
    return {**asdict(record), "metadata": values}


def summary(record: Summary, quarantine: PurePath | None) -> dict[str, Any]:
    """What an ingestion run did; `quarantine` is the report of the documents that failed, in this run or before."""
    return {
        "files": {name: getattr(record, name) for name in ("seen", "indexed", "unchanged", "removed", "failed")},
        "chunks": record.chunks,
        "pages": record.pages,
        "seconds": round(record.seconds, 3),
        "chunks_per_second": round(record.chunks / record.seconds, 2) if record.seconds else 0.0,
        "peak_rss_mb": round(record.peak_bytes / (1 << 20), 1),
        "interrupted": record.interrupted,
        "failures": [{"path": f.doc, "stage": f.stage, "reason": f.reason} for f in record.failures],
        "quarantine": None if quarantine is None else str(quarantine),
    }


def audit(record: Report, repaired: int) -> dict[str, Any]:
    """What an audit found, after repairs where there were any."""
    return {
        "holds": record.holds,
        "documents": record.documents,
        "chunks": record.chunks,
        "points": record.points,
        "missing": record.missing,
        "orphans": record.orphans,
        "bad_vectors": record.bad_vectors,
        "bad_texts": record.bad_texts,
        "bad_metadata": record.bad_metadata,
        "sampled": record.sampled,
        "changed": record.changed,
        "repaired": repaired,
        "faults": [fault._asdict() for fault in record.faults],
    }


def counted(number: int, noun: str) -> str:
    """`1 page`, `2 pages`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def why(record: Sentence) -> str:
    """What the mark of an unsupported sentence says."""
    return f"{UNSUPPORTED}: {'; '.join(record.reasons)}" if record.reasons else UNSUPPORTED


def left_out(record: Answer) -> str:
    """What an answer leaves out of what the model wrote, in words; empty where that is nothing."""
    lost, all_ = sum(each.unsupported for each in record.dropped), len(record.dropped)
    if not all_:
        return ""
    if not record.abstained:
        return f"{counted(all_, 'sentence')} left out, not found in your documents"
    if lost == all_:
        return "What the model wrote was not found in your documents"
    if not lost:
        return "The model wrote nothing that could be checked"
    return f"The model wrote {counted(all_, 'sentence')}, {lost} not found in your documents"


def place(record: Citation | Hit) -> str:
    """Where something is, for people: file, page and section."""
    at = record.chunk if isinstance(record, Hit) else record
    parts = [PurePath(at.doc).name, *([f"page {at.page}"] if at.page is not None else []), *at.headings]
    return " › ".join(part for i, part in enumerate(parts) if part not in parts[:i])
