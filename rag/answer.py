"""A question -> a checked answer. `Rag.open` is where everything is wired together.

Knows nothing about files on their way in, or about how answers are shown.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import closing
from threading import Lock
from types import TracebackType
from typing import Self

from rag import sentences
from rag.embed import Embedder, open_embedder
from rag.filter import Filter
from rag.llm import LLM, open_llm
from rag.prompt import ABSTENTION, build
from rag.rerank import open_reranker
from rag.retrieve import Retriever
from rag.rewrite import Rewriter
from rag.settings import Settings
from rag.store.opening import open_store
from rag.store.protocol import DENSE, Store
from rag.types import Answer, Citation, Event, Finished, Hit, Message, Piece, Retrieved, Sentence, Timings
from rag.verify import Checker, Support, Verdict, open_checker
from rag.windows import Passage

MORE_CITATIONS = 0.05
"""A further passage is cited too where its support is this close to the best one's."""
MOST_CITATIONS = 3
COPIES = 5
"""How many times as many passages are looked at as an answer needs, to find so many that differ."""
Place = tuple[str, int, int]
"""A document's id with start and end of a span in it."""
LOOP = re.compile(r"(.{2,80}?)\1{2,}\s{0,2}$", re.DOTALL)
LOOP_LENGTH = 60
"""Characters that an end must repeat itself for: shorter repetitions occur in real text."""
LOOK_BACK = 400
MARKS = re.compile(r"[ \t]*\[\d{1,3}(?:\s*[,–-]\s*\d{1,3})*\]")


class Rag:
    """Answers questions from one collection. Safe to use from several threads; answers are written one at a time."""

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder,
        store: Store,
        llm: LLM | None = None,
        checker: Checker | None = None,
    ) -> None:
        self.settings, self.embedder, self.store = settings, embedder, store
        self._retriever = Retriever(store, embedder, settings, open_reranker(settings))
        self._llm, self._checker, self._loading = llm, checker, Lock()
        self._rewriter = Rewriter(settings, lambda: self.llm)

    @classmethod
    def open(cls, settings: Settings, create: bool = False, url: str = "", token: str = "") -> Self:
        """Everything the settings name; the language model is loaded when it is first needed.

        Args:
            settings: what to use.
            create: make the collection where it does not exist.
            url: where this process serves people, for the message that a second process gets.
            token: a secret with which a second process of the same user can hand its work to this one.

        Raises:
            FootnoteError: something is missing or cannot be reached; the message says how to mend it.
        """
        embedder = open_embedder(settings)
        return cls(settings, embedder, open_store(settings, embedder, create, url, token))

    @property
    def llm(self) -> LLM:
        """The language model, loaded on first use."""
        with self._loading:
            if self._llm is None:
                self._llm = open_llm(self.settings)
            return self._llm

    @property
    def checker(self) -> Checker:
        """What checks answers, loaded on first use."""
        with self._loading:
            if self._checker is None:
                self._checker = open_checker(self.settings)
            return self._checker

    def search(self, question: str, k: int, within: Filter | None = None) -> list[Hit]:
        """The `k` best passages, of documents that `within` matches. Raises QuestionError: it is empty or too long."""
        return self._retriever.search(question, k, within=within)

    def standalone(self, question: str, history: Sequence[Message]) -> str:
        """What is searched for beside the question in a conversation; empty where it is the question alone."""
        rewritten = self._rewriter.standalone(question, history)
        return rewritten if rewritten != question and len(rewritten) <= self.settings.max_question_chars else ""

    def answer(self, question: str, history: Sequence[Message] = (), within: Filter | None = None) -> Answer:
        """The finished answer, without the events on the way."""
        (last,) = deque(self.stream(question, history, within=within), maxlen=1)
        assert isinstance(last, Finished)
        return last.answer

    def stream(self, question: str, history: Sequence[Message] = (), within: Filter | None = None) -> Iterator[Event]:
        """The passages, the answer's text as it is written, and the answer with its citations.

        A question that depends on the history is searched for as it is and as it stands alone. Where no passage is
        close enough to either, the answer is the abstention and the language model is not asked to answer. Only
        documents that `within` matches are used; where none does, there are no passages either. Closing the iterator
        stops the generation.

        Raises:
            QuestionError: the question is empty or too long.
            LLMError: the language model failed.
        """
        clock = _Clock()
        question = self._retriever.checked(question)
        searched = self.standalone(question, history)
        hits = self._passages(question, searched, within)
        retrieve_ms = clock.lap()
        if not self._relevant(hits):
            yield Retrieved(tuple(hits), searched)
            yield Piece(ABSTENTION)
            yield Finished(_abstained(question, hits, Timings(retrieve_ms, total=clock.total()), searched))
            return
        llm = self.llm
        budget, decline = self.settings.prompt_tokens, not self.settings.bundled_llm
        messages, used = build(question, history, hits, budget, llm.count_tokens, decline)
        yield Retrieved(used, searched)
        clock.lap()
        first_ms, text = None, ""
        with closing(llm.stream(messages)) as pieces:
            for piece in pieces:
                first_ms = first_ms or clock.since_lap()
                text += piece
                yield Piece(piece)
                if _repetition(_unmarked(text)) is not None:
                    break
        text = _unmarked(text)
        text = text[: _repetition(text, ended=True)]
        generate_ms = clock.lap()
        checked = self._checked(question, text, used)
        timings = Timings(retrieve_ms, first_ms, generate_ms, clock.lap(), clock.total())
        abstained = _declines(text)
        yield Finished(
            _abstained(question, used, timings, searched, llm.name)
            if abstained
            else Answer(question, text.strip(), False, checked, used, timings, llm.name, searched)
        )

    def _passages(self, question: str, searched: str, within: Filter | None) -> list[Hit]:
        """What the answer is written from: a passage that is there in several copies, in copied files, counts once."""
        wanted, chosen = self.settings.passages, dict[str, Hit]()
        also = (searched,) if searched else ()
        for hit in self._retriever.search(question, COPIES * wanted, within, also):
            chosen.setdefault(" ".join(hit.chunk.with_header.casefold().split()), hit)
        return list(chosen.values())[:wanted]

    def _relevant(self, hits: Sequence[Hit]) -> bool:
        """True where some passage is close enough in meaning to the question."""
        return any((hit.score_of(DENSE) or -1.0) >= self.settings.min_relevance for hit in hits)

    def _checked(self, question: str, text: str, hits: Sequence[Hit]) -> tuple[Sentence, ...]:
        """The answer's sentences with their support and footnotes."""
        parts = [text[start:end] for start, end in sentences.split(text)]
        passages = [Passage(hit.chunk.text, hit.chunk.header) for hit in hits]
        numbers: dict[Place, int] = {}
        return tuple(
            self._cited(part, verdict, hits, numbers)
            for part, verdict in zip(parts, self.checker.check(parts, passages, question), strict=True)
        )

    def _cited(self, text: str, verdict: Verdict, hits: Sequence[Hit], numbers: dict[Place, int]) -> Sentence:
        supported = verdict.supports if verdict.score >= self.settings.min_support else ()
        enough = supported[0].score - MORE_CITATIONS if supported else 1.0
        # Neighbouring passages overlap, so two of them may hold the same place.
        good: dict[Place, Citation] = {}
        for support in supported:
            place = _place(support, hits)
            if support.score >= enough and place not in good and len(good) < MOST_CITATIONS:
                good[place] = _citation(support, hits, numbers)
        return Sentence(text, round(verdict.score, 4), tuple(good.values()), verdict.reasons)

    def close(self) -> None:
        """Let go of the index."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Clock:
    """Milliseconds since the start and since the last lap."""

    def __init__(self) -> None:
        self._start = self._last = time.perf_counter()

    def since_lap(self) -> float:
        return round((time.perf_counter() - self._last) * 1000, 1)

    def lap(self) -> float:
        lap = self.since_lap()
        self._last = time.perf_counter()
        return lap

    def total(self) -> float:
        return round((time.perf_counter() - self._start) * 1000, 1)


def _place(support: Support, hits: Sequence[Hit]) -> Place:
    chunk = hits[support.passage].chunk
    return chunk.doc_id, chunk.start + support.start, chunk.start + support.end


def _citation(support: Support, hits: Sequence[Hit], numbers: dict[Place, int]) -> Citation:
    """The footnote for a place; the same place keeps its number throughout an answer."""
    chunk, place = hits[support.passage].chunk, _place(support, hits)
    number = numbers.setdefault(place, len(numbers) + 1)
    _, start, end = place
    quote = chunk.text[support.start : support.end]
    return Citation(number, chunk.doc, chunk.title, chunk.page, chunk.headings, start, end, quote)


def _abstained(question: str, hits: Sequence[Hit], timings: Timings, searched: str, model: str = "") -> Answer:
    return Answer(question, ABSTENTION, True, (Sentence(ABSTENTION, 0.0),), tuple(hits), timings, model, searched)


def _declines(text: str) -> bool:
    """True where the model wrote the abstention, or nothing."""
    return not text.strip() or text.strip().startswith(ABSTENTION.removesuffix("."))


def _unmarked(text: str) -> str:
    """The text without `[1]` and the like: footnotes are computed, a model's own would pass for them."""
    return MARKS.sub("", text)


def _repetition(text: str, ended: bool = False) -> int | None:
    """Where a loop starts, which small models fall into; None without one.

    A loop is a sentence that says word for word what an earlier one said, or an end that repeats itself. While the
    text is still growing, its last sentence may be unfinished and is left out.
    """
    seen: set[str] = set()
    spans = sentences.split(text)
    for start, end in spans if ended else spans[:-1]:
        sentence = " ".join(text[start:end].lower().split())
        if sentence in seen:
            return start
        seen.add(sentence)
    tail = LOOP.search(text, max(0, len(text) - LOOK_BACK))
    return tail.end(1) if tail and len(tail.group()) >= LOOP_LENGTH else None
