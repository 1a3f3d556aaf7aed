"""A conversation at the page: what the chat shows, and whose place the next answer takes."""

from __future__ import annotations

from rag.filter import Filter
from rag.types import Answer, Sentence, Timings
from ui.server.kept import Conversation, Turn
from ui.talk import Talk

ANSWER = Answer("When?", "On Monday.", False, (Sentence("On Monday.", 0.9),), (), Timings(1.0))
TURN = Turn("t1", ANSWER, "", Filter(), "2024-01-01")


def untold(_answer: Answer) -> None:
    """Nobody knows how fast it was written."""


def shown(talk: Talk) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in talk.messages]


def test_a_question_and_what_is_there_of_its_answer_are_shown() -> None:
    talk = Talk().asked("When?")
    assert [role for role, _ in shown(talk)] == ["user", "assistant"]
    assert "When?" in shown(talk)[0][1]
    talk = talk.writing("On Mon", (), False)
    assert "On Mon" in shown(talk)[1][1]
    assert talk.answer(0) is None
    assert "stopped" in shown(talk.stopped())[1][1]


def test_an_answer_that_is_kept_can_be_said_something_of_and_one_that_failed_cannot() -> None:
    talk = Talk().asked("When?").answered(ANSWER, "c1", "t1", untold).asked("Why?").showing("failed")
    assert talk.id == "c1"
    assert [talk.at(message).turn for message in range(4)] == ["t1", "t1", "", ""]  # type: ignore[union-attr]
    assert talk.at(4) is None
    assert talk.at(-2) is None
    assert [talk.answer(exchange) for exchange in range(-1, 3)] == [None, ANSWER, None, None]


def test_what_is_taken_back_is_replaced_where_it_was_kept() -> None:
    kept = Talk().asked("When?").answered(ANSWER, "c1", "t1", untold)
    before, question = kept.taken_back()
    assert (before.exchanges, question, before.again) == ((), "When?", True)
    assert not before.asked("When?").answered(ANSWER, "c1", "t2", untold).again
    failed = kept.asked("Why?").showing("failed")
    assert failed.taken_back()[0] == kept, "nothing of it was kept, so nothing is replaced"
    assert failed.taken_back()[0].taken_back()[0].again
    assert Talk().taken_back() == (Talk(), "")


def test_a_conversation_that_was_kept_is_shown_as_it_was() -> None:
    talk = Talk.of(Conversation("c1", "default", "When?", "", "", (TURN,)), untold)
    assert talk == Talk().asked("When?").answered(ANSWER, "c1", "t1", untold)


def test_the_speed_of_an_answer_stands_below_it_also_when_it_is_opened_again() -> None:
    answered = Talk().asked("When?").answered(ANSWER, "c1", "t1", lambda answer: 12.4 if answer is ANSWER else None)
    assert "about 12 tokens a second" in shown(answered)[1][1]
    kept = Conversation("c1", "default", "When?", "", "", (TURN,))
    assert "about 12 tokens a second" in shown(Talk.of(kept, lambda _: 12.4))[1][1]
