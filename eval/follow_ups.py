"""How well passages are found in a conversation: by the bare question, and by one that was made to stand alone.

The rankings are those of the product's own retriever and rewriter. A passage counts as found where it holds the words
that the turn is labelled with. Knows nothing about files or flags.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from eval.cases import Asked, ConversationSet
from eval.corpus import Say, open_corpus
from eval.stats import mean, paired
from rag.embed import Embedder
from rag.errors import EvalError, FootnoteError
from rag.llm import LLM
from rag.rerank import open_reranker
from rag.retrieve import Retriever
from rag.rewrite import by_llm, by_rules
from rag.settings import Settings
from rag.store.protocol import Store
from rag.types import Hit, Message

BARE = "question"
"""The system that the others are compared with: it searches for the question as it was typed."""
ALONE = ("first", "switch")
"""Kinds of turns that can be understood by themselves: they must not be hurt."""
DEPTH = 5

Search = Callable[[str, Sequence[Message]], list[Hit]]
"""A question and what was said before -> passages, best first."""
Rewrite = Callable[[str, Sequence[Message]], str]
"""A question and what was said before -> a question that stands alone."""


@dataclass(frozen=True, slots=True)
class Record:
    """What became of one turn."""

    conversation: str
    number: int
    """Of the turn, counted from 1."""
    asked: Asked
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """System -> metric -> 0 or 1; 0 for a system that failed."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """System -> why it failed."""

    @property
    def group(self) -> str:
        """`alone` for a turn that can be understood by itself, else `follow-up`."""
        return "alone" if self.asked.kind in ALONE else "follow-up"


def evaluate(
    settings: Settings,
    embedder: Embedder,
    data: ConversationSet,
    say: Say,
    llm: LLM | None = None,
    split: str | None = None,
) -> dict[str, Any]:
    """The figures of every system over a set of conversations; see `summary`.

    Args:
        settings: how passages are cut, searched and fused.
        embedder: of the passages and the questions.
        data: what to search, and what is asked.
        say: told how far it is.
        llm: rewrites questions too, beside the rules.
        split: only conversations that are marked so; all of them without it.

    Raises:
        StoreError: the corpus cannot be indexed.
        EvalError: no conversation has this split.
    """
    known = sorted({conversation.split for conversation in data.conversations})
    if split not in (None, *known):
        raise EvalError(f"no conversation has the split {split!r}; there are: {', '.join(map(repr, known))}")
    with closing(open_corpus(settings, embedder, data.corpus, say)) as store:
        systems = systems_over(settings, embedder, store, llm)
        records = list(_records(systems, data, split))
    return summary(data, records)


def systems_over(settings: Settings, embedder: Embedder, store: Store, llm: LLM | None = None) -> dict[str, Search]:
    """Every way of searching in a conversation by its name; `+` names what is searched for beside the rewritten one."""
    retriever = Retriever(store, embedder, settings, open_reranker(settings))

    def asked(question: str, history: Sequence[Message]) -> str:
        assert llm is not None
        return (history and by_llm(question, history, llm)) or by_rules(question, history)

    def alone(rewrite: Rewrite) -> Search:
        return lambda question, history: retriever.search(rewrite(question, history), DEPTH)

    def both(rewrite: Rewrite) -> Search:
        return lambda question, history: retriever.search(question, DEPTH, also=[rewrite(question, history)])

    rewriters: dict[str, Rewrite] = {"rules": by_rules} if llm is None else {"rules": by_rules, "llm": asked}
    systems: dict[str, Search] = {BARE: lambda question, _: retriever.search(question, DEPTH)}
    for name, rewrite in rewriters.items():
        systems |= {name: alone(rewrite), f"{name}+{BARE}": both(rewrite)}
    return systems


def _records(systems: Mapping[str, Search], data: ConversationSet, split: str | None) -> Iterator[Record]:
    for conversation in data.conversations:
        if split not in (None, conversation.split):
            continue
        history: list[Message] = []
        for number, asked in enumerate(conversation.turns, start=1):
            yield _asked(systems, conversation.id, number, asked, history)
            history += [Message("user", asked.question), Message("assistant", asked.answer)]


def _asked(
    systems: Mapping[str, Search], conversation: str, number: int, asked: Asked, history: Sequence[Message]
) -> Record:
    scores: dict[str, Mapping[str, float]] = {}
    failures: dict[str, str] = {}
    for name, search in systems.items():
        hits: list[Hit] = []
        try:
            hits = search(asked.question, history)
        except FootnoteError as error:
            failures[name] = str(error)
        scores[name] = scored(hits, asked)
    return Record(conversation, number, asked, scores, failures)


def scored(hits: Sequence[Hit], asked: Asked) -> dict[str, float]:
    """Whether the right passage is the first, is among five, and whether the first is of the right document."""
    right = [hit.chunk.doc == asked.document and asked.quote in hit.chunk.text for hit in hits]
    return {
        "recall@1": float(any(right[:1])),
        "recall@5": float(any(right[:5])),
        "document@1": float(any(hit.chunk.doc == asked.document for hit in hits[:1])),
    }


def summary(data: ConversationSet, records: Sequence[Record]) -> dict[str, Any]:
    """Means with 95 % intervals, apart for turns that depend on what was said before and for those that stand alone.

    `gain` is what a system has more than the bare question on the same turns, with its interval and p.
    """
    groups = {name: [record for record in records if record.group == name] for name in ("follow-up", "alone")}
    return {
        "dataset": data.name,
        "documents": len(data.corpus),
        "conversations": len({record.conversation for record in records}),
        "n": len(records),
        "failed": sum(bool(record.failures) for record in records),
        "failures": [
            {"conversation": record.conversation, "turn": record.number, "system": system, "reason": reason}
            for record in records
            for system, reason in record.failures.items()
        ],
        "groups": {name: {"n": len(group), "systems": _figures(group)} for name, group in groups.items() if group},
    }


def _figures(records: Sequence[Record]) -> dict[str, Any]:
    systems = records[0].scores

    def values(system: str, metric: str) -> list[float]:
        return [record.scores[system][metric] for record in records]

    def figures(system: str, metric: str) -> dict[str, Any]:
        own = values(system, metric)
        return {**mean(own)._asdict(), "gain": paired(own, values(BARE, metric))._asdict()}

    return {system: {metric: figures(system, metric) for metric in systems[system]} for system in systems}
