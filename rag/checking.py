"""The sentences of an answer are checked one by one, beside the language model that goes on writing.

Knows nothing about how sentences are scored, and nothing about prompts or models.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from rag.settings import Strictness
from rag.types import Checked, Citation, Hit, Sentence
from rag.verify import Checker, Support, Verdict
from rag.windows import Passage

MORE_CITATIONS = 0.05
"""A further passage is cited too where its support is this close to the best one's."""
MOST_CITATIONS = 3
Place = tuple[str, int, int]
"""A document's id with start and end of a span in it."""


class Checking:
    """The check of one answer, in a thread of its own.

    Each sentence is checked alone, so that its verdict does not depend on how fast the answer is written.
    """

    def __init__(self, checker: Checker, question: str, hits: Sequence[Hit], min_support: float) -> None:
        self._checker, self._question, self._hits, self._min_support = checker, question, hits, min_support
        self._passages = [Passage(hit.chunk.text, hit.chunk.header) for hit in hits]
        self._thread = ThreadPoolExecutor(1, "footnote-check")
        self._texts: list[str] = []
        self._verdicts: list[Future[Verdict]] = []
        self._told = 0

    @property
    def begun(self) -> int:
        """How many sentences are being checked or were."""
        return len(self._texts)

    def begin(self, texts: Sequence[str]) -> None:
        """Begin to check those of an answer's sentences that are new; `texts` are all that are complete so far."""
        for text in texts[len(self._texts) :]:
            self._texts.append(text)
            self._verdicts.append(self._thread.submit(self._verdict, text))

    def ready(self, wait: bool = False) -> Iterator[Checked]:
        """The sentences that were checked since the last call, in order; with `wait`, all that were begun.

        Raises:
            FootnoteError: the checker failed.
        """
        while self._told < len(self._verdicts) and (wait or self._verdicts[self._told].done()):
            self._told += 1
            yield Checked(self._told - 1, self.sentences()[-1])

    def finish(self, texts: Sequence[str]) -> Iterator[Checked]:
        """What is still to be told of the finished answer's sentences. Those that were cut since count no more."""
        pairs = zip(self._texts, texts, strict=False)
        same = next((i for i, (old, new) in enumerate(pairs) if old != new), min(len(self._texts), len(texts)))
        for verdict in self._verdicts[same:]:
            verdict.cancel()
        del self._texts[same:], self._verdicts[same:]
        self._told = min(self._told, same)
        self.begin(texts)
        yield from self.ready(wait=True)

    def sentences(self) -> tuple[Sentence, ...]:
        """The sentences told so far, with support and footnotes."""
        numbers: dict[Place, int] = {}
        done = list(zip(self._texts, self._verdicts, strict=True))[: self._told]
        return tuple(_cited(text, verdict.result(), self._hits, numbers, self._min_support) for text, verdict in done)

    def close(self) -> None:
        """Give up what was not begun, and wait for the sentence that is being checked."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _verdict(self, text: str) -> Verdict:
        (verdict,) = self._checker.check([text], self._passages, self._question)
        return verdict


def kept(supported: Sequence[bool | None], strictness: Strictness) -> tuple[bool, ...]:
    """Which of an answer's sentences remain; none where the answer is to be declined.

    Args:
        supported: of each sentence whether it is; None where it claims nothing that could be.
        strictness: see the setting.
    """
    declined = True not in supported or (strictness == "refuse" and False in supported)
    return tuple(not declined and (strictness == "mark" or each is not False) for each in supported)


def _cited(text: str, verdict: Verdict, hits: Sequence[Hit], numbers: dict[Place, int], min_support: float) -> Sentence:
    supported = verdict.supports if verdict.checkable and verdict.score >= min_support else ()
    enough = supported[0].score - MORE_CITATIONS if supported else 1.0
    # Neighbouring passages overlap, so two of them may hold the same place.
    good: dict[Place, Citation] = {}
    for support in supported:
        place = _place(support, hits)
        if support.score >= enough and place not in good and len(good) < MOST_CITATIONS:
            good[place] = _citation(support, hits, numbers)
    return Sentence(text, round(verdict.score, 4), tuple(good.values()), verdict.reasons, verdict.checkable)


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
