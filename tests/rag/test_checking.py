"""Sentences are checked while the next ones are written, and those without support are dealt with as wished."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from rag.answer import Rag
from rag.checking import Checking, kept
from rag.errors import LLMError
from rag.llm import LLM
from rag.prompt import ABSTENTION
from rag.settings import Strictness
from rag.types import Answer, Checked, Event, Finished, Message, Piece
from rag.verify import Checker, Verdict
from rag.windows import Passage
from tests.conftest import OpenRag, ParrotLLM, WordChecker, make_hit

MAMMALS, KRILL = "Whales are mammals that breathe air.", "A blue whale eats 4 tonnes of krill a day."
DOCUMENTS = {"whales.txt": f"{MAMMALS} {KRILL}"}
QUESTION = "What do whales breathe?"
INVENTED, MADE_UP = "Penguins juggle flaming torches nightly.", "Zebras whistle quietly under bridges."


class HeldChecker(WordChecker):
    """Begins no check before it is let go; remembers what it checked."""

    def __init__(self) -> None:
        self.begun, self.go_on = threading.Event(), threading.Event()
        self.checked: list[str] = []

    def check(self, claims: Sequence[str], passages: Sequence[Passage], question: str = "") -> list[Verdict]:
        self.begun.set()
        assert self.go_on.wait(60)
        self.checked += claims
        return super().check(claims, passages, question)


class Broken(WordChecker):
    def check(self, claims: Sequence[str], passages: Sequence[Passage], question: str = "") -> list[Verdict]:
        raise LLMError("the checker is on fire")


class Chatty(WordChecker):
    """Takes questions for sentences that claim nothing, and says what is missing."""

    def check(self, claims: Sequence[str], passages: Sequence[Passage], question: str = "") -> list[Verdict]:
        found = super().check(claims, passages, question)
        return [
            Verdict(0.0, found[n].supports, ("it is a question",), checkable=False) if claim.endswith("?") else found[n]
            for n, claim in enumerate(claims)
        ]


class PiecesLLM(ParrotLLM):
    """Says the pieces that it is given."""

    pieces: Sequence[str] = ()

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        yield from self.pieces


@pytest.fixture
def rag(open_rag: OpenRag) -> Rag:
    return open_rag(DOCUMENTS)


def changed(rag: Rag, llm: LLM, checker: Checker) -> Rag:
    """The same collection, answered and checked by others."""
    return Rag(rag.settings, rag.embedder, rag.store, llm, checker)


def texts(answer: Answer) -> list[str]:
    return [sentence.text for sentence in answer.sentences]


def left_out(answer: Answer) -> list[str]:
    return [sentence.text for sentence in answer.dropped]


def test_a_sentence_is_told_while_the_next_one_is_written(open_rag: OpenRag) -> None:
    class UntilHeard(ParrotLLM):
        heard = threading.Event()

        def stream(self, messages: Sequence[Message]) -> Generator[str]:
            yield f"{MAMMALS} And"
            deadline = time.monotonic() + 60
            while not self.heard.is_set() and time.monotonic() < deadline:
                yield f" word{time.monotonic_ns()}"
                time.sleep(0.001)
            yield "."

    llm = UntilHeard()
    seen: list[Event] = []
    for event in open_rag(DOCUMENTS, llm).stream(QUESTION):
        seen.append(event)
        if isinstance(event, Checked) and not llm.heard.is_set():
            assert event.index == 0
            assert event.sentence.text == MAMMALS
            assert event.sentence.citations[0].quote == MAMMALS
            llm.heard.set()
    told = next(number for number, event in enumerate(seen) if isinstance(event, Checked))
    assert any(isinstance(event, Piece) for event in seen[told:])
    assert isinstance(seen[-1], Finished)
    assert seen[-1].answer.sentences[0] == seen[told].sentence  # type: ignore[union-attr]


def test_writing_does_not_wait_for_the_check(rag: Rag) -> None:
    checker = HeldChecker()
    written, told = "", []
    for event in changed(rag, ParrotLLM(f"{MAMMALS} {KRILL} {INVENTED}"), checker).stream(QUESTION):
        if isinstance(event, Piece):
            written += event.text
            if written.endswith(INVENTED):
                assert checker.begun.wait(60)
                assert not checker.checked
                checker.go_on.set()
        elif isinstance(event, Checked):
            told.append(event.index)
    assert told == [0, 1, 2]
    assert checker.checked == [MAMMALS, KRILL, INVENTED]


def test_closing_the_stream_ends_the_writing_and_then_the_check(rag: Rag, monkeypatch: pytest.MonkeyPatch) -> None:
    given_up, shutdown = threading.Event(), ThreadPoolExecutor.shutdown

    def shut(thread: ThreadPoolExecutor, **how: bool) -> None:
        shutdown(thread, **how | {"wait": False})
        given_up.set()
        shutdown(thread, **how)

    monkeypatch.setattr(ThreadPoolExecutor, "shutdown", shut)
    llm, checker = ParrotLLM(f"{MAMMALS} {KRILL} {INVENTED} " + "word " * 50), HeldChecker()
    stream = changed(rag, llm, checker).stream(QUESTION)
    written = ""
    while INVENTED not in written:
        event = next(stream)
        written += event.text if isinstance(event, Piece) else ""
    assert checker.begun.wait(60)
    closing = threading.Thread(target=stream.close)  # type: ignore[attr-defined]
    closing.start()
    assert given_up.wait(60)
    assert llm.stopped
    checker.go_on.set()
    closing.join(60)
    assert not closing.is_alive()
    assert checker.checked == [MAMMALS], "what was not begun is given up"
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("footnote-check")]


def test_an_error_of_the_checker_is_passed_on_and_stops_the_model(rag: Rag) -> None:
    llm = ParrotLLM(f"{MAMMALS} {KRILL} " + "word " * 50)
    with pytest.raises(LLMError, match="the checker is on fire"):
        changed(rag, llm, Broken()).answer(QUESTION)
    assert llm.stopped


TOKENS = st.sampled_from(
    [*'aB1.!?…"”)([],- \n', "\n\n", " ", "etc.", "[1]", " [2, 3]", "[12", f"{MAMMALS} ", f" {KRILL}", "Nobody knows. "]
)


@examples(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(st.lists(st.lists(TOKENS, min_size=1, max_size=3).map("".join), max_size=30))
def test_what_was_told_on_the_way_is_what_the_answer_ends_with(rag: Rag, said: list[str]) -> None:
    llm = PiecesLLM()
    llm.pieces = said
    *events, finished = changed(rag, llm, WordChecker()).stream(QUESTION)
    assert isinstance(finished, Finished)
    told: dict[int, object] = {}
    for event in events:
        if isinstance(event, Checked):
            told = {number: sentence for number, sentence in told.items() if number < event.index}
            told[event.index] = event.sentence
    answer = finished.answer
    end = answer.dropped if answer.abstained else answer.sentences
    assert [told[number] for number in range(len(end))] == list(end)
    written = "".join(event.text for event in events if isinstance(event, Piece))
    assert answer.abstained or written.strip().startswith(answer.text)


def test_a_sentence_that_was_cut_meanwhile_counts_no_more() -> None:
    hits = [make_hit(MAMMALS), make_hit(KRILL, 1)]
    checking = Checking(WordChecker(), QUESTION, hits, 0.6)
    checking.begin([MAMMALS, KRILL])
    assert [event.index for event in checking.ready(wait=True)] == [0, 1]
    assert [(event.index, event.sentence.text) for event in checking.finish([MAMMALS, "A blue whale"])] == [
        (1, "A blue whale")
    ]
    checking.close()
    assert [sentence.text for sentence in checking.sentences()] == [MAMMALS, "A blue whale"]
    assert [note.number for sentence in checking.sentences() for note in sentence.citations] == [1, 2]


def test_a_model_that_declines_is_not_checked(open_rag: OpenRag) -> None:
    events = list(open_rag(DOCUMENTS, ParrotLLM(f"{ABSTENTION} Sorry. The passages do not say.")).stream(QUESTION))
    assert not [event for event in events if isinstance(event, Checked)]
    assert isinstance(events[-1], Finished)
    assert (events[-1].answer.abstained, events[-1].answer.dropped) == (True, ())


def test_a_refusal_that_goes_on_to_answer_is_checked_like_an_answer(open_rag: OpenRag) -> None:
    answer = open_rag(DOCUMENTS, ParrotLLM(f"I don't know. {KRILL} {MAMMALS}")).answer(QUESTION)
    assert texts(answer) == ["I don't know.", KRILL, MAMMALS]
    assert [sentence.supported for sentence in answer.sentences] == [False, True, True]


@pytest.mark.parametrize(
    ("strictness", "says", "remain", "dropped"),
    [
        ("mark", (MAMMALS, INVENTED, KRILL), (MAMMALS, INVENTED, KRILL), ()),
        ("drop", (MAMMALS, INVENTED, KRILL), (MAMMALS, KRILL), (INVENTED,)),
        ("drop", (MAMMALS, KRILL), (MAMMALS, KRILL), ()),
        ("refuse", (MAMMALS, INVENTED, KRILL), (ABSTENTION,), (MAMMALS, INVENTED, KRILL)),
        ("refuse", (MAMMALS, KRILL), (MAMMALS, KRILL), ()),
        ("mark", (INVENTED, MADE_UP), (ABSTENTION,), (INVENTED, MADE_UP)),
        ("drop", (INVENTED, MADE_UP), (ABSTENTION,), (INVENTED, MADE_UP)),
        ("refuse", (INVENTED, MADE_UP), (ABSTENTION,), (INVENTED, MADE_UP)),
    ],
)
def test_what_becomes_of_sentences_without_support(
    open_rag: OpenRag, strictness: Strictness, says: tuple[str, ...], remain: tuple[str, ...], dropped: tuple[str, ...]
) -> None:
    rag = open_rag(DOCUMENTS, ParrotLLM(" ".join(says)))
    answer = rag.answer(QUESTION, strictness=strictness)
    assert tuple(texts(answer)) == remain
    assert tuple(left_out(answer)) == dropped
    assert answer.text == " ".join(remain)
    assert answer.abstained is (remain == (ABSTENTION,))
    assert answer.hits, "the closest passages are shown"
    numbers = [note.number for sentence in answer.sentences for note in sentence.citations]
    assert numbers == sorted(numbers)


def test_strictness_is_a_setting_and_a_question_may_say_otherwise(open_rag: OpenRag) -> None:
    rag = open_rag(DOCUMENTS, ParrotLLM(f"{MAMMALS}\n\n{INVENTED}\n\n{KRILL}"), strictness="drop")
    assert rag.answer(QUESTION).text == f"{MAMMALS}\n\n{KRILL}"
    assert rag.answer(QUESTION, strictness="mark").text == f"{MAMMALS}\n\n{INVENTED}\n\n{KRILL}"


def test_a_sentence_that_claims_nothing_gets_neither_mark_nor_footnote_and_is_never_left_out(rag: Rag) -> None:
    asks = "Whales are mammals that breathe what?"
    says = ParrotLLM(f"{asks} {MAMMALS} {INVENTED}")
    answer = changed(rag, says, Chatty()).answer(QUESTION, strictness="drop")
    assert texts(answer) == [asks, MAMMALS]
    first = answer.sentences[0]
    assert (first.checkable, first.supported, first.unsupported) == (False, False, False)
    assert first.reasons == ("it is a question",)
    says.says = asks
    alone = changed(rag, says, Chatty()).answer(QUESTION)
    assert (alone.abstained, left_out(alone)) == (True, [asks]), "nothing in it is known to stand in the documents"


@given(st.lists(st.sampled_from([True, False, None]), max_size=6))
def test_what_remains_is_less_the_stricter_it_is(supported: list[bool | None]) -> None:
    mark, drop, refuse = (kept(supported, strictness) for strictness in ("mark", "drop", "refuse"))
    for milder, stricter in ((mark, drop), (drop, refuse)):
        assert all(before or not after for before, after in zip(milder, stricter, strict=True))
    assert any(mark) == any(drop) == (True in supported)
    assert any(refuse) == (True in supported and False not in supported)
    assert not [each for each, stays in zip(supported, drop, strict=True) if stays and each is False]
