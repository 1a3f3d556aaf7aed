"""Answers for many: the cache and what empties it, turns, time limits, and what is counted."""

from __future__ import annotations

import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ingest.catalog import Catalog
from ingest.pipeline import Ingestion
from rag.answer import Rag
from rag.errors import Busy, LLMError
from rag.types import Answer, Finished, Message
from tests.conftest import OpenRag, ParrotLLM
from ui.server.answers import Again, Answers, Asked, Waiting
from ui.server.metrics import Metrics
from ui.server.served import Served

RENT = "The monthly rent of the flat is 900 euros."
DOCUMENTS = {"lease.md": f"# Rent\n\n{RENT}\n"}
ASKED = Asked("monthly rent of the flat")


class SlowLLM(ParrotLLM):
    """Writes its next word only when it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go_on = threading.Semaphore(0), threading.Event()

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        self.begun.release()
        assert self.go_on.wait(30)
        yield from super().stream(messages)


def told(answers: Answers, asked: Asked = ASKED, client: str = "a") -> list[Any]:
    return list(answers.stream(asked, client))


def answer_of(events: list[Any]) -> Answer:
    assert isinstance(events[-1], Finished)
    return events[-1].answer


def counted(metrics: Metrics, line: str) -> float:
    (value,) = [row.split()[-1] for row in metrics.text().decode().splitlines() if row.startswith(line + " ")]
    return float(value)


def test_the_same_question_is_answered_from_the_cache(open_rag: OpenRag, catalog: Catalog) -> None:
    llm = ParrotLLM()
    served = Served.of(open_rag(DOCUMENTS, llm), catalog)
    first, again = told(served.answers), told(served.answers)
    assert len(llm.asked) == 1
    assert not any(isinstance(each, Again) for each in first)
    assert isinstance(again[0], Again)
    assert answer_of(again).sentences == answer_of(first).sentences
    assert answer_of(again).timings.total == 0.0
    assert counted(served.metrics, 'footnote_cache_lookups_total{found="yes"}') == 1


@pytest.mark.parametrize(
    "other",
    [
        Asked("monthly rent of this flat"),
        Asked(ASKED.question, strictness="drop"),
        Asked(ASKED.question, passages=1),
        Asked(ASKED.question, (Message("user", "What is the rent?"), Message("assistant", RENT))),
    ],
)
def test_another_question_is_answered_anew(open_rag: OpenRag, catalog: Catalog, other: Asked) -> None:
    served = Served.of(open_rag(DOCUMENTS), catalog)
    told(served.answers)
    assert not any(isinstance(each, Again) for each in told(served.answers, other))


def test_a_default_that_is_spelled_out_is_the_same_question(open_rag: OpenRag, catalog: Catalog) -> None:
    served = Served.of(open_rag(DOCUMENTS), catalog)
    told(served.answers)
    spelled = Asked(f" {ASKED.question} ", strictness="mark", passages=served.settings.passages)
    assert isinstance(told(served.answers, spelled)[0], Again)


def ingest(rag: Rag, catalog: Catalog, path: Path) -> None:
    list(Ingestion(rag.settings, rag.embedder, rag.store, catalog).run([path]))


def test_a_change_of_the_index_empties_the_cache(open_rag: OpenRag, catalog: Catalog, tmp_path: Path) -> None:
    rag = open_rag(DOCUMENTS)
    served = Served.of(rag, catalog)
    assert "900" in answer_of(told(served.answers)).text
    lease = tmp_path / "documents" / "lease.md"
    lease.write_text(DOCUMENTS["lease.md"].replace("900", "950"), encoding="utf-8")
    ingest(rag, catalog, lease)
    assert "950" in answer_of(told(served.answers)).text


def test_an_answer_that_was_begun_before_a_change_is_not_kept(open_rag: OpenRag, catalog: Catalog) -> None:
    rag = open_rag(DOCUMENTS)
    served = Served.of(rag, catalog)
    begun = served.answers.stream(ASKED, "a")
    next(begun)
    ingest(rag, catalog, rag.settings.home.parent / "documents" / "lease.md")  # unchanged, but who can tell
    catalog.put(rag.settings.collection, *catalog.rows(rag.settings.collection))
    assert isinstance(list(begun)[-1], Finished)
    assert not any(isinstance(each, Again) for each in told(served.answers))


def test_no_cache_where_none_is_wanted(open_rag: OpenRag, catalog: Catalog) -> None:
    llm = ParrotLLM()
    served = Served.of(open_rag(DOCUMENTS, llm, answer_cache=0), catalog)
    told(served.answers)
    told(served.answers)
    assert len(llm.asked) == 2


def test_who_comes_second_waits_and_is_told(open_rag: OpenRag, catalog: Catalog) -> None:
    llm = SlowLLM()
    answers = Served.of(open_rag(DOCUMENTS, llm), catalog).answers
    first = threading.Thread(target=told, args=(answers,))
    first.start()
    assert llm.begun.acquire(timeout=30)
    second = answers.stream(Asked("rent of the flat"), "b")
    waiting = next(each for each in second if isinstance(each, Waiting))
    assert waiting.ahead == 1
    llm.go_on.set()
    assert isinstance(list(second)[-1], Finished)
    first.join(30)


def test_who_goes_away_while_waiting_gives_up_the_place(open_rag: OpenRag, catalog: Catalog) -> None:
    llm = SlowLLM()
    served = Served.of(open_rag(DOCUMENTS, llm, waiting_questions=1), catalog)
    first = threading.Thread(target=told, args=(served.answers,))
    first.start()
    assert llm.begun.acquire(timeout=30)
    second = served.answers.stream(Asked("rent of the flat"), "b")
    next(each for each in second if isinstance(each, Waiting))
    with pytest.raises(Busy, match="1 questions are waiting"):
        told(served.answers, Asked("flat rent"), "c")
    second.close()
    assert counted(served.metrics, "footnote_waiting_questions") == 0
    assert counted(served.metrics, 'footnote_answers_total{outcome="stopped"}') == 1
    llm.go_on.set()
    first.join(30)
    assert isinstance(told(served.answers, Asked("flat rent"), "c")[-1], Finished)


def test_who_goes_away_stops_the_model_and_lets_the_next_one_in(open_rag: OpenRag, catalog: Catalog) -> None:
    llm = ParrotLLM("One two three four five six.")
    answers = Served.of(open_rag(DOCUMENTS, llm), catalog).answers
    gone = answers.stream(ASKED, "a")
    for _ in range(3):
        next(gone)
    gone.close()
    assert llm.stopped
    assert not any(isinstance(each, Waiting) for each in told(answers, Asked("flat rent"), "b"))


def test_writing_is_limited_in_time(open_rag: OpenRag, catalog: Catalog) -> None:
    served = Served.of(open_rag(DOCUMENTS, answer_seconds=1e-9), catalog)
    with pytest.raises(Busy, match="took longer than 1e-09 s"):
        told(served.answers)
    assert counted(served.metrics, 'footnote_answers_total{outcome="failed"}') == 1


def test_waiting_is_limited_in_time(open_rag: OpenRag, catalog: Catalog) -> None:
    served = Served.of(open_rag(DOCUMENTS, answer_seconds=0.3), catalog)
    held = served.answers.stream(ASKED, "a")
    next(held)
    next(held)  # it has its turn now
    with pytest.raises(Busy, match="no answer within"):
        told(served.answers, Asked("flat rent"), "b")


def test_what_became_of_answers_is_counted(open_rag: OpenRag, catalog: Catalog) -> None:
    llm = ParrotLLM(RENT)
    served = Served.of(open_rag(DOCUMENTS, llm), catalog)
    told(served.answers)
    told(served.answers, Asked("zebras juggling quartz"))
    llm.says = f"{RENT} Zebras juggle quartz vigorously."
    told(served.answers, Asked("rent of the flat"))
    llm.fails = "out of memory"
    with pytest.raises(LLMError):
        told(served.answers, Asked("flat rent"))
    for outcome in ("supported", "not asked", "marked", "failed"):
        assert counted(served.metrics, f'footnote_answers_total{{outcome="{outcome}"}}') == 1, outcome
    assert counted(served.metrics, 'footnote_stage_seconds_count{stage="retrieve"}') == 3
