"""A question -> a checked answer. `Rag.open` is where everything is wired together.

Knows nothing about files on their way in, or about how answers are shown.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Generator, Sequence
from contextlib import closing
from itertools import compress
from operator import not_
from types import TracebackType
from typing import NamedTuple, Self

from rag import sentences
from rag.checking import Checking, kept
from rag.declines import declines
from rag.embed import Embedder, open_embedder
from rag.filter import Filter
from rag.llm import LLM
from rag.models import Models
from rag.prompt import ABSTENTION, build
from rag.retrieve import Retriever
from rag.rewrite import Rewriter
from rag.settings import Settings, Strictness
from rag.store.opening import open_store
from rag.store.protocol import DENSE, Store
from rag.tracing import OFF, Span, Value, span
from rag.types import Answer, Event, Finished, Hit, Message, Piece, Retrieved, Sentence, Timings
from rag.verify import Checker

COPIES = 5
"""How many times as many passages are looked at as an answer needs, to find so many that differ."""
LOOP = re.compile(r"(.{2,80}?)\1{2,}\s{0,2}$", re.DOTALL)
LOOP_LENGTH = 60
"""Characters that an end must repeat itself for: shorter repetitions occur in real text."""
LOOK_BACK = 400
MARKS = re.compile(r"[ \t]*\[\d{1,3}(?:\s*[,–-]\s*\d{1,3})*\]")
HALF_A_MARK = re.compile(r"\[[\d\s,–-]*")


class Rag:
    """Answers questions from one collection. Safe to use from several threads; answers are written one at a time."""

    def __init__(
        self,
        settings: Settings,
        embedder: Embedder,
        store: Store,
        llm: LLM | None = None,
        checker: Checker | None = None,
        models: Models | None = None,
    ) -> None:
        """`models` are those of another collection; else what is not given is loaded on first use."""
        self.settings, self.embedder, self.store = settings, embedder, store
        self.models = models or Models(settings, llm, checker)
        self._retriever = Retriever(store, embedder, settings, self.models.reranker)
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

    def beside(self, settings: Settings, create: bool = False, url: str = "", token: str = "") -> Self:
        """Another collection of the same models, which `settings` name; see `open` for the rest."""
        store = open_store(settings, self.embedder, create, url, token)
        return type(self)(settings, self.embedder, store, models=self.models)

    @property
    def llm(self) -> LLM:
        """The language model, loaded on first use."""
        return self.models.llm

    @property
    def checker(self) -> Checker:
        """What checks answers, loaded on first use."""
        return self.models.checker

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not loaded yet."""
        return self.models.missing

    def search(self, question: str, k: int, within: Filter | None = None) -> list[Hit]:
        """The `k` best passages, of documents that `within` matches. Raises QuestionError: it is empty or too long."""
        return self._retriever.search(question, k, within=within)

    def standalone(self, question: str, history: Sequence[Message]) -> str:
        """What is searched for beside the question in a conversation; empty where it is the question alone."""
        rewritten = self._rewriter.standalone(question, history)
        return rewritten if rewritten != question and len(rewritten) <= self.settings.max_question_chars else ""

    def answer(
        self,
        question: str,
        history: Sequence[Message] = (),
        within: Filter | None = None,
        strictness: Strictness | None = None,
        passages: int | None = None,
    ) -> Answer:
        """The finished answer, without the events on the way."""
        (last,) = deque(self.stream(question, history, within, strictness, passages), maxlen=1)
        assert isinstance(last, Finished)
        return last.answer

    def stream(
        self,
        question: str,
        history: Sequence[Message] = (),
        within: Filter | None = None,
        strictness: Strictness | None = None,
        passages: int | None = None,
    ) -> Generator[Event]:
        """The passages, the answer's text as it is written, its sentences as they are checked, and the answer.

        A question that depends on the history is searched for as it is and as it stands alone. Where no passage is
        close enough to either, the answer is the abstention and the language model is not asked to answer. Only
        documents that `within` matches are used; where none does, there are no passages either. Sentences are checked
        while the next ones are written; what becomes of those without support is up to `strictness`, and how many
        passages are read up to `passages`: the settings where they are None. Closing the generator stops the language
        model and the check.

        Raises:
            QuestionError: the question is empty or too long.
            LLMError: the language model failed.
            FootnoteError: the checker failed.
        """
        with span("ask") as ask:
            yield from self.stages(ask, question, history, within, strictness, passages)

    def stages(
        self,
        ask: Span,
        question: str,
        history: Sequence[Message],
        within: Filter | None,
        strictness: Strictness | None,
        passages: int | None,
    ) -> Generator[Event]:
        """As `stream`, for whoever has begun the question's span: `ask`."""
        clock = _Clock()
        question = self._retriever.checked(question)
        with span("rewrite", ask) if history else OFF:
            searched = self.standalone(question, history)
        with span("retrieve", ask) as retrieving:
            hits = self._passages(question, searched, within, passages or self.settings.passages)
            retrieving.set(passages=len(hits))
        retrieve_ms = clock.lap()
        if not self._relevant(hits):
            yield Retrieved(tuple(hits), searched, close=False)
            yield Piece(ABSTENTION)
            timings = Timings(retrieve_ms, total=clock.total())
            yield self._ended(ask, _abstained(question, hits, timings, searched))
            return
        llm, checker = self.llm, self.checker
        prompts, used = self._prompts(question, history, hits)
        yield Retrieved(used, searched)
        clock.lap()
        with closing(Checking(checker, question, used, self.settings.min_support)) as checking:
            with span("generate", ask, model=llm.name) as writing:
                text, first_ms, _ = yield from _written(llm, prompts, checking, clock, writing)
                writing.set(tokens=llm.count_tokens(text) if writing.on else None)
            generate_ms = clock.lap()
            with span("check", ask):
                yield from checking.finish(() if _no_answer(text) else _cut(text, sentences.split(text)))
                checked = checking.sentences()
        timings = Timings(retrieve_ms, first_ms, generate_ms, clock.lap(), clock.total())
        keep = kept(
            [each.supported if each.checkable else None for each in checked], strictness or self.settings.strictness
        )
        if not any(keep):
            yield self._ended(ask, _abstained(question, used, timings, searched, llm.name, checked))
            return
        remaining = "".join(compress(sentences.pieces(text), keep)).strip()
        left, dropped = tuple(compress(checked, keep)), tuple(compress(checked, map(not_, keep)))
        answer = Answer(question, remaining, False, left, used, timings, llm.name, searched, dropped)
        yield self._ended(ask, answer)

    def _ended(self, ask: Span, answer: Answer) -> Finished:
        ask.set(**traced(answer, self.settings.log_texts))
        return Finished(answer)

    def _passages(self, question: str, searched: str, within: Filter | None, wanted: int) -> list[Hit]:
        """What the answer is written from: a passage that is there in several copies, in copied files, counts once."""
        chosen = dict[str, Hit]()
        also = (searched,) if searched else ()
        for hit in self._retriever.search(question, COPIES * wanted, within, also):
            chosen.setdefault(" ".join(hit.chunk.with_header.casefold().split()), hit)
        return list(chosen.values())[:wanted]

    def _prompts(
        self, question: str, history: Sequence[Message], hits: Sequence[Hit]
    ) -> tuple[list[list[Message]], tuple[Hit, ...]]:
        """Prompts to try one after the other until one is answered, and the hits that the answer is checked against.

        Passages that are not read count there, too; one that has no room in the only prompt does not.
        """
        bundled, llm = self.settings.bundled_llm, self.llm
        budget, decline = self.settings.prompt_tokens, llm.tuned or not bundled
        alone = bundled and llm.tuned if self.settings.reading == "auto" else self.settings.reading == "alone"
        read = [[hit] for hit in hits[: (len(hits) + 1) // 2]] if alone else [hits]
        built = [build(question, history, group, budget, llm.count_tokens, decline) for group in read]
        return [messages for messages, _ in built], tuple(hits) if alone else built[0][1]

    def _relevant(self, hits: Sequence[Hit]) -> bool:
        """True where some passage is close enough in meaning to the question."""
        return any((hit.score_of(DENSE) or -1.0) >= self.settings.min_relevance for hit in hits)

    def close(self) -> None:
        """Let go of the index."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def traced(answer: Answer, texts: bool) -> dict[str, Value | None]:
    """What a trace tells of an answer; what was asked and answered only where `texts` says so."""
    told: dict[str, Value | None] = {
        "outcome": "abstained" if answer.abstained else "answered",
        "model": answer.model,
        "passages": len(answer.hits),
    }
    return {**told, "question": answer.question, "answer": answer.text} if texts else told


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


class _Reply(NamedTuple):
    text: str
    """Without a loop at its end."""
    first_ms: float | None
    """Until its first piece; None where it has none."""
    declines: bool
    """Whether it declines and nothing of it was told."""


def _written(
    llm: LLM, prompts: Sequence[Sequence[Message]], checking: Checking, clock: _Clock, writing: Span
) -> Generator[Event, None, _Reply]:
    """The first reply that does not decline, or the last one, as it is written, and what of it is checked meanwhile."""
    for messages in prompts[:-1]:
        reply = yield from _reply(llm.stream(messages), checking, clock, writing, hold=True)
        if not reply.declines:
            return reply
    return (yield from _reply(llm.stream(prompts[-1]), checking, clock, writing, hold=False))


def _reply(
    stream: Generator[str], checking: Checking, clock: _Clock, writing: Span, hold: bool
) -> Generator[Event, None, _Reply]:
    """A reply as it is written. With `hold`, nothing is told until a whole sentence does not decline."""
    text, shown, first_ms = "", 0, None
    with closing(stream) as pieces:
        for piece in pieces:
            if first_ms is None:
                first_ms = clock.since_lap()
                writing.event("first token")
            text += piece
            clean = _unmarked(_without_half_a_mark(text))
            settled = sentences.settled(clean)
            answers = bool(settled) and not _no_answer(clean[: settled[-1][1]])
            hold = hold and not answers
            if hold and ABSTENTION.startswith(clean) and declines(clean):
                break  # the rest of it is known
            if clean[shown:] and not hold:
                yield Piece(clean[shown:])
                shown = len(clean)
            if len(settled) > checking.begun and answers:
                checking.begin(_cut(clean, settled))
            yield from checking.ready()
            if _repetition(_unmarked(text)) is not None:
                break
    text = _unmarked(text)
    declined = hold and _no_answer(text)
    if text[shown:].strip() and not declined:
        yield Piece(text[shown:])
    return _Reply(text[: _repetition(text, ended=True)], first_ms, declined)


def _cut(text: str, spans: Sequence[tuple[int, int]]) -> list[str]:
    return [text[start:end] for start, end in spans]


def _abstained(
    question: str,
    hits: Sequence[Hit],
    timings: Timings,
    searched: str,
    model: str = "",
    dropped: tuple[Sentence, ...] = (),
) -> Answer:
    said = (Sentence(ABSTENTION, 0.0, checkable=False),)
    return Answer(question, ABSTENTION, True, said, tuple(hits), timings, model, searched, dropped)


def _no_answer(text: str) -> bool:
    """True where the model declined, in whatever words, or wrote nothing."""
    return not text.strip() or declines(text)


def _unmarked(text: str) -> str:
    """The text without `[1]` and the like: footnotes are computed, a model's own would pass for them."""
    return MARKS.sub("", text)


def _without_half_a_mark(text: str) -> str:
    """The text up to where a mark may have begun: what it is without marks does not change as more is written."""
    start = text.rfind("[")
    half = start >= 0 and HALF_A_MARK.fullmatch(text, start)
    return (text[:start] if half else text).rstrip(" \t")


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
