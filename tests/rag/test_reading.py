"""How the language model is given the passages: one after the other until one holds the answer, or all at once."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import pytest

from rag.prompt import ABSTENTION
from rag.types import Event, Finished, Message, Piece, Retrieved
from tests.conftest import OpenRag, ParrotLLM
from tests.rag.test_answer import DOCUMENTS, KRILL, QUESTION, TITANIC, citations


class ReaderLLM(ParrotLLM):
    """Says, as a tuned model, what it knows of the passages in a prompt; else it declines."""

    tuned = True

    def __init__(self, knows: dict[str, str], otherwise: str = ABSTENTION) -> None:
        super().__init__()
        self.knows, self.otherwise = knows, otherwise
        self.words: list[str] = []

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        passages, _ = messages[-1].content.split("\n\nQuestion: ")
        self.says = next((says for word, says in self.knows.items() if word in passages), self.otherwise)
        for word in super().stream(messages):
            self.words.append(word)
            yield word

    @property
    def read(self) -> list[int]:
        """How many passages each prompt had."""
        return [asked[-1].content.count("Passage ") for asked in self.asked]


def told(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Piece)).strip()


@pytest.mark.parametrize("otherwise", [ABSTENTION, "The passages do not say.", "Sorry, I don't know. I have no idea."])
def test_passages_are_read_one_after_the_other_until_one_answers(open_rag: OpenRag, otherwise: str) -> None:
    llm = ReaderLLM({"Titanic": f"{TITANIC} {KRILL}"}, otherwise)
    rag = open_rag(DOCUMENTS, llm, min_relevance=-1)
    events = list(rag.stream("When did the Titanic's whales eat krill and breathe air?"))
    retrieved, finished = events[0], events[-1]
    assert isinstance(retrieved, Retrieved)
    assert isinstance(finished, Finished)
    place = next(i for i, hit in enumerate(retrieved.hits) if "Titanic" in hit.chunk.text)
    assert place > 0
    assert llm.read == [1] * (place + 1)
    assert told(events) == finished.answer.text == f"{TITANIC} {KRILL}"
    # Sentences are checked against all passages, also those that were not read.
    assert [citation.quote for citation in citations(finished.answer)] == [TITANIC, KRILL]
    assert finished.answer.hits == retrieved.hits
    assert len(retrieved.hits) == len(DOCUMENTS)


def test_where_no_passage_answers_the_answer_is_declined_once(open_rag: OpenRag) -> None:
    llm = ReaderLLM({})
    events = list(open_rag(DOCUMENTS, llm, min_relevance=-1).stream(QUESTION))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert (finished.answer.abstained, finished.answer.model, told(events)) == (True, "parrot", ABSTENTION)
    assert llm.read == [1, 1]
    # Only the last reply is read to its end.
    assert len(llm.words) < 1.5 * len(ABSTENTION.split())


def test_an_answer_that_has_begun_is_told_also_where_it_ends_in_declining(open_rag: OpenRag) -> None:
    llm = ReaderLLM({}, "I'm sorry. I can't find the answer to that in your documents.")
    events = list(open_rag(DOCUMENTS, llm, min_relevance=-1).stream(QUESTION))
    finished = events[-1]
    assert isinstance(finished, Finished)
    assert finished.answer.abstained
    assert told(events) == llm.otherwise


@pytest.mark.parametrize(
    ("tuned", "changes", "read"),
    [
        (True, {}, [1, 1]),
        (True, {"passages": 1}, [1]),
        (True, {"passages": 2}, [1]),
        (True, {"reading": "together"}, [3]),
        (True, {"llm_model": "someone/bigger"}, [3]),
        (True, {"llm_model": "someone/bigger", "reading": "alone"}, [1, 1]),
        (False, {}, [3]),
    ],
)
def test_the_tuned_bundled_model_reads_the_better_half_one_by_one_and_others_read_all_at_once(
    open_rag: OpenRag, tuned: bool, changes: dict[str, object], read: list[int]
) -> None:
    llm = ReaderLLM({})
    llm.tuned = tuned
    rag = open_rag(DOCUMENTS, llm, min_relevance=-1, **changes)
    assert len(rag.answer(QUESTION).hits) == min(len(DOCUMENTS), rag.settings.passages)
    assert llm.read == read
