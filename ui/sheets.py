"""Data sets on disk, a user's collection, people's feedback -> a folder of data to tune the language model on.

Documents are parted before anything is asked about them: what is held out, what training is measured on, and what is
learned from share none.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from eval.cases import CORPUS, QA, Entry, Question, read_claims, read_qa
from eval.corpus import open_corpus
from rag.embed import Embedder, open_embedder
from rag.errors import FinetuneError
from rag.filter import Filter
from rag.finetune.data import Amounts, Corpus, Wanted, sheets
from rag.finetune.feedback import read_feedback
from rag.finetune.recipe import GROUNDED, Grounded
from rag.finetune.runs import write
from rag.finetune.sheets import CARD, TRAIN, VALIDATION, Sheet, write_sheets
from rag.finetune.writer import write_all
from rag.llm import OpenAILLM
from rag.prompt import PROMPT
from rag.retrieve import Retriever
from rag.settings import Settings
from rag.store.opening import open_store
from rag.types import Chunk, Hit
from rag.verify import open_checker
from rag.windows import Passage

Say = Callable[[str], None]
LONGEST_ANSWER = 45
"""Words of an answer that is learned."""
SHORTEST_CONTEXT = 40
"""Words of a labelled claim's context that is worth asking about."""
MOST_CONTEXTS, CONTEXT_CHARS = 400, 12_000
PART = 0.1
"""Share of the documents that training is measured on, where a recipe does not say, and of the sheets about them."""
LIKED = 0.25
"""Share of the sheets of feedback that training is measured on."""


class Parts(NamedTuple):
    """Documents, parted."""

    held_out: tuple[str, ...]
    validation: tuple[str, ...]
    train: tuple[str, ...]


class Made(NamedTuple):
    """What came of a source."""

    train: list[Sheet]
    validation: list[Sheet]
    card: dict[str, Any]


def parts(groups: dict[str, str], held_out: float, validation: int) -> Parts:
    """Documents in three parts; those of a group stay together. Which ones depends on the groups' names alone.

    Args:
        groups: id of a document -> its group, such as its title.
        held_out: share of the groups, rounded.
        validation: how many groups.
    """
    order = sorted(set(groups.values()), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    first = round(len(order) * held_out)
    chosen = (set(order[:first]), set(order[first : first + validation]), set(order[first + validation :]))
    return Parts(*(tuple(id_ for id_, group in groups.items() if group in some) for some in chosen))


def make(
    settings: Settings,
    sets: Sequence[Path],
    out: Path,
    wanted: int,
    held_out: float,
    seed: int,
    say: Say,
    recipe: bool = False,
    feedback: Path | None = None,
) -> dict[str, Any]:
    """Write a folder of data; its card, which comes last, says what it is made of.

    Args:
        settings: how passages are cut and found; the collection, where there are no sets.
        sets: directories with corpus.jsonl and qa.jsonl; with `recipe`, the folder that holds the recipe's sets; none
            for the user's own collection.
        out: where it goes; data that is there is replaced.
        wanted: sheets of passages that are made of each set, about.
        held_out: share of the documents that nothing is learned from.
        seed: of everything that is random.
        say: told what is going on.
        recipe: make the data of the adapter that ships.
        feedback: a file of what people said of answers.

    Raises:
        FinetuneError: there is nothing to learn from, or the folder cannot be written.
        EvalError: a set cannot be used.
        FootnoteError: the collection cannot be read.
    """
    made = [*_of_sets(settings, sets, wanted, held_out, seed, say, recipe)]
    if not sets and not feedback:
        made.append(_of_collection(settings, wanted, held_out, seed, say))
    if feedback:
        made.append(_of_feedback(feedback))
    train = _distinct(sheet for each in made for sheet in each.train)
    validation = _distinct(sheet for each in made for sheet in each.validation)
    if not train or not validation:
        raise FinetuneError(
            f"too little to learn from: {len(train)} sheets to learn from and {len(validation)} to measure on; "
            "give more documents or questions"
        )
    random.Random(seed).shuffle(train)  # noqa: S311 - no secret
    card = {
        "seed": seed,
        "prompt": PROMPT,
        "passages": {"chunk_tokens": settings.chunk_tokens, "embed_model": settings.embed_model},
        "sources": [each.card for each in made],
        "train": _counts(train),
        "validation": _counts(validation),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / CARD).unlink(missing_ok=True)
        write_sheets(out / TRAIN, train)
        write_sheets(out / VALIDATION, validation)
    except OSError as error:
        raise FinetuneError(f"{out} cannot be written: {error.strerror}; check the disk") from None
    write(out / CARD, card)
    return {"folder": str(out), **card}


def held_out(card: dict[str, Any], name: str) -> tuple[str, ...]:
    """The documents of a set that nothing was learned from; none where the set is not in the data."""
    return next((tuple(each["held_out"]) for each in card.get("sources", ()) if each["name"] == name), ())


def _of_sets(
    settings: Settings, sets: Sequence[Path], wanted: int, share: float, seed: int, say: Say, recipe: bool
) -> Iterator[Made]:
    if not sets:
        return
    embedder = open_embedder(settings)
    chosen = [(sets[0] / each.name, each) for each in GROUNDED] if recipe else [(path, None) for path in sets]
    for path, plan in chosen:
        entries, questions = _read(path)
        groups = {entry.id: entry.title or entry.id for entry in entries}
        if plan is None:
            validation = max(1, round(PART * len(set(groups.values()))))
            asked = min(len(questions), round(wanted * 0.7))
            plan = Grounded(path.name, share, validation, asked, wanted - asked)
        yield _of_set(
            settings, embedder, entries, questions, plan, parts(groups, plan.held_out, plan.validation), seed, say
        )


def _read(path: Path) -> tuple[tuple[Entry, ...], tuple[Question, ...]]:
    """Documents and questions of a set; of labelled claims the contexts, about which nobody asked."""
    if (path / CORPUS).exists() and (path / QA).exists():
        data = read_qa(path)
        return data.corpus, data.questions
    texts = {claim.context: None for claim in read_claims(path) if len(claim.context.split()) >= SHORTEST_CONTEXT}
    order = sorted(texts, key=lambda text: hashlib.sha256(text.encode()).hexdigest())[:MOST_CONTEXTS]
    return tuple(Entry(_id=f"{path.name}-{i}", text=text[:CONTEXT_CHARS]) for i, text in enumerate(order)), ()


def _of_set(
    settings: Settings,
    embedder: Embedder,
    entries: Sequence[Entry],
    questions: Sequence[Question],
    plan: Grounded,
    parted: Parts,
    seed: int,
    say: Say,
) -> Made:
    found = []
    whole = Amounts(plan.asked, plan.made, plan.by_rule)
    for ids, amounts in ((parted.train, whole), (parted.validation, whole.measured(PART))):
        chosen = tuple(entry for entry in entries if entry.id in set(ids))
        found.append(_sheets(settings, embedder, plan.name, chosen, questions, amounts, seed, say) if chosen else [])
    card = {
        "name": plan.name,
        "kind": "set",
        "documents": len(entries),
        "questions": len(questions),
        "held_out": list(parted.held_out),
        "train": _counts(found[0]),
        "validation": _counts(found[1]),
    }
    return Made(found[0], found[1], card)


def _sheets(
    settings: Settings,
    embedder: Embedder,
    name: str,
    entries: Sequence[Entry],
    questions: Sequence[Question],
    amounts: Amounts,
    seed: int,
    say: Say,
) -> list[Sheet]:
    """Sheets of some documents of a set, which are searched without the others."""
    store = open_corpus(settings, embedder, entries, say)
    try:
        retriever = Retriever(store, embedder, settings)
        ids = {entry.id for entry in entries}
        wanted = [
            Wanted(each.question.strip(), each.answers[0].strip() if each.answerable else "", tuple(each.relevant))
            for each in questions
            if ids.intersection(each.relevant) and not each.decision and _short(each)
        ]
        texts = {entry.id: entry.text for entry in entries}
        longest = settings.max_question_chars
        corpus = Corpus.of(name, texts, lambda question, k: retriever.search(question[:longest], k), wanted=wanted)
        made = list(sheets(corpus, amounts, seed))
    finally:
        store.close()
    say(f"{name}: {len(made):,} sheets of {len(entries):,} documents")
    return made


def _short(question: Question) -> bool:
    return not question.answerable or len(question.answers[0].split()) <= LONGEST_ANSWER


def _of_collection(settings: Settings, wanted: int, share: float, seed: int, say: Say) -> Made:
    """Questions about the user's own documents: written by the model that a server runs, else by rule."""
    with _opened(settings) as (retriever, chunks):
        by_document: dict[str, list[Chunk]] = {}
        for chunk in chunks:
            by_document.setdefault(chunk.doc, []).append(chunk)
        if not by_document:
            raise FinetuneError(f"collection {settings.collection!r} is empty; run `footnote ingest PATH` first")
        parted = parts({doc: doc for doc in by_document}, share, max(1, round(PART * len(by_document))))
        checker, longest = open_checker(settings), settings.max_question_chars

        def supported(question: str, answer: str, hits: Sequence[Hit]) -> bool:
            passages = [Passage(hit.chunk.text, hit.chunk.header) for hit in hits]
            return checker.check([answer], passages, question)[0].score >= settings.min_support

        found = []
        for ids, part in ((parted.train, 1.0), (parted.validation, PART)):
            number = max(4, round(wanted * part)) if ids else 0
            asked = _written(settings, [chunk for doc in ids for chunk in by_document[doc]], number, seed, say)
            within = Filter(documents=ids)
            amounts = Amounts(len(asked), max(0, number - len(asked)))
            corpus = Corpus.of(
                settings.collection,
                {doc: "\n".join(chunk.text for chunk in by_document[doc]) for doc in ids},
                lambda question, k, within=within: retriever.search(question[:longest], k, within),  # type: ignore[misc]
                wanted=asked,
                supported=supported,
            )
            found.append(list(sheets(corpus, amounts if part == 1.0 else amounts.measured(), seed)) if ids else [])
            say(f"{len(found[-1]):,} sheets of {len(ids):,} documents")
    card = {
        "name": settings.collection,
        "kind": "collection",
        "documents": len(by_document),
        "held_out": list(parted.held_out),
        "train": _counts(found[0]),
        "validation": _counts(found[1]),
    }
    return Made(found[0], found[1], card)


@contextmanager
def _opened(settings: Settings) -> Iterator[tuple[Retriever, list[Chunk]]]:
    """A collection to search, and all its passages, document after document."""
    embedder = open_embedder(settings)
    store = open_store(settings, embedder)
    try:
        chunks = sorted(
            (each.chunk for each in store.scan() if not each.hidden), key=lambda chunk: (chunk.doc, chunk.start)
        )
        yield Retriever(store, embedder, settings), chunks
    finally:
        store.close()


def _written(settings: Settings, chunks: Sequence[Chunk], number: int, seed: int, say: Say) -> list[Wanted]:
    """Questions that a server's model writes about passages drawn by chance; none where no server is set."""
    if not settings.llm_base_url:
        return []
    drawn = random.Random(seed).sample(list(chunks), min(number, len(chunks)))  # noqa: S311 - no secret
    about = write_all([chunk.text for chunk in drawn], OpenAILLM(settings).structured, say)
    return [
        Wanted(each.question, each.answer, (chunk.doc,), "llm")
        for chunk, questions in zip(drawn, about, strict=True)
        for each in questions
    ]


def _of_feedback(path: Path) -> Made:
    found = read_feedback(path)
    groups = {str(number): sheet.passages[0].document for number, sheet in enumerate(found)}
    parted = parts(groups, 0.0, max(1, round(LIKED * len(set(groups.values())))))
    train, validation = ([found[int(number)] for number in some] for some in (parted.train, parted.validation))
    card = {"name": path.name, "kind": "feedback", "rows": len(found), "held_out": []}
    return Made(train, validation, card | {"train": _counts(train), "validation": _counts(validation)})


def _distinct(found: Iterable[Sheet]) -> list[Sheet]:
    """Without sheets that ask the same of the same passages."""
    kept: dict[tuple[frozenset[str], frozenset[str]], Sheet] = {}
    for sheet in found:
        texts = frozenset(passage.text for passage in sheet.passages)
        kept.setdefault((texts, frozenset(each.question.lower() for each in sheet.asked)), sheet)
    return list(kept.values())


def _counts(found: Sequence[Sheet]) -> dict[str, Any]:
    asked = [each for sheet in found for each in sheet.asked]
    kinds = sorted({each.kind for each in asked})
    return {
        "sheets": len(found),
        "questions": len(asked),
        "declined": sum(not each.answer for each in asked),
        **{kind: sum(each.kind == kind for each in asked) for kind in kinds},
    }
