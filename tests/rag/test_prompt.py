"""What the language model is shown: the best passages and the newest turns within a budget, no control tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.errors import QuestionError
from rag.prompt import ABSTENTION, DECLINE, PER_MESSAGE, SYSTEM, build
from rag.types import Hit, Message
from tests.conftest import make_hit

CONTROL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|", "|>"]
WORDS = st.lists(st.sampled_from(["whale", "ship", "captain,", "sea.", "<|im_end|>", "\n\n", "x" * 30]), max_size=120)
TEXT = WORDS.map(" ".join)
HISTORY = st.lists(st.tuples(TEXT, TEXT), max_size=4).map(
    lambda pairs: [
        Message(role, text) for pair in pairs for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
)


def words(text: str) -> int:
    return len(text.split())


def characters(text: str) -> int:
    return len(text) // 4 + 1


def cost(messages: Sequence[Message], count_tokens: Callable[[str], int]) -> int:
    return sum(count_tokens(message.content) + PER_MESSAGE for message in messages)


def hits_of(texts: Sequence[str]) -> list[Hit]:
    return [make_hit(text, number, headings=("Part", "Chapter")) for number, text in enumerate(texts)]


def asked(messages: Sequence[Message]) -> str:
    assert messages[-1].role == "user"
    return messages[-1].content


def pairs(count: int) -> list[Message]:
    return [Message(role, f"{role} turn {number}") for number in range(count) for role in ("user", "assistant")]


def test_a_prompt_holds_the_rules_the_passages_with_their_places_and_the_question() -> None:
    hits = hits_of(["Whales are mammals.", "Ships sink."])
    messages, used = build("What are whales?", [], hits, 1000, words)
    assert [message.role for message in messages] == ["system", "user"]
    assert messages[0].content == SYSTEM + DECLINE
    assert asked(messages) == (
        "Passage 1 (Doc > Part > Chapter):\nWhales are mammals.\n\n"
        "Passage 2 (Doc > Part > Chapter):\nShips sink.\n\n"
        "Question: What are whales?"
    )
    assert used == tuple(hits)


def test_only_a_model_that_can_decline_is_asked_to() -> None:
    hits = hits_of(["Whales are mammals."])
    told, untold = (build("Why?", [], hits, 1000, words, decline)[0][0].content for decline in (True, False))
    assert told.startswith(untold)
    assert ABSTENTION in told
    assert ABSTENTION not in untold


@given(
    TEXT, HISTORY, st.lists(TEXT, min_size=1, max_size=6), st.integers(200, 900), st.sampled_from([words, characters])
)
def test_a_prompt_is_never_longer_than_its_budget(
    question: str, history: list[Message], texts: list[str], budget: int, count_tokens: Callable[[str], int]
) -> None:
    try:
        messages, used = build(question, history, hits_of(texts), budget, count_tokens)
    except QuestionError:
        assert count_tokens(question) > budget // 4
        return
    assert cost(messages, count_tokens) <= budget
    assert 1 <= len(used) <= len(texts)


@given(TEXT, HISTORY, st.lists(TEXT, min_size=1, max_size=6), st.integers(300, 900))
def test_the_best_passages_are_kept_whole_and_the_newest_turns(
    question: str, history: list[Message], texts: list[str], budget: int
) -> None:
    hits = hits_of(texts)
    try:
        messages, used = build(question, history, hits, budget, words)
    except QuestionError:
        return
    assert used == tuple(hits[: len(used)])
    turns = messages[1:-1]
    assert [turn.role for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
    kept = [turn.content.replace(" ", "") for turn in turns]
    assert kept == [turn.content.replace(" ", "") for turn in history[len(history) - len(turns) :]]
    if len(used) > 1:
        shown = asked(messages).replace(" ", "")
        assert all(hit.chunk.text.replace(" ", "") in shown for hit in used)


@given(
    st.lists(st.sampled_from([*CONTROL, "<", "|", ">", " ", "a"]), max_size=12).map("".join),
    st.lists(st.sampled_from([*CONTROL, "<", "|", ">", " ", "a"]), max_size=12).map("".join),
)
def test_no_text_from_outside_can_pass_for_a_control_token(one: str, other: str) -> None:
    hit = make_hit(f"before {one}{other} after", title=f"T {one}", headings=(other,))
    history = [Message("user", one), Message("assistant", other)]
    messages, _ = build(one + other, history, [hit], 2000, words)
    for message in messages:
        assert not [token for token in CONTROL if token in message.content]


def test_a_defused_token_can_still_be_read() -> None:
    messages, _ = build("What does <|im_end|> mean?", [], hits_of(["Use <|im_start|> first."]), 1000, words)
    assert "im_end" in asked(messages)
    assert "im_start" in asked(messages)


def test_passages_that_do_not_fit_are_left_out_whole() -> None:
    hits = hits_of(["one " * 60, "two " * 60, "three " * 60])
    messages, used = build("Why?", [], hits, words(SYSTEM) + 180, words)
    assert used == tuple(hits[:2])
    assert asked(messages).count("one") == asked(messages).count("two") == 60
    assert "three" not in asked(messages)


def test_a_short_passage_does_not_overtake_a_better_one_that_does_not_fit() -> None:
    hits = hits_of(["one " * 20, "two " * 500, "three"])
    messages, used = build("Why?", [], hits, 300, words)
    assert used == tuple(hits[:1])
    assert "three" not in asked(messages)


def test_a_first_passage_that_is_too_long_is_cut_and_not_dropped() -> None:
    hits = hits_of([" ".join(f"word{i}" for i in range(5000)), "two"])
    messages, used = build("Why?", [], hits, 400, words)
    assert used == tuple(hits[:1])
    assert "word0 word1 word2" in asked(messages)
    assert asked(messages).endswith("\n\nQuestion: Why?")
    assert 380 <= cost(messages, words) <= 400


def test_old_turns_go_first_and_passages_keep_most_of_the_room() -> None:
    history = pairs(200)
    messages, used = build("Why?", history, hits_of(["passage " * 100]), 600, words)
    turns = messages[1:-1]
    assert turns
    assert turns == history[-len(turns) :]
    assert len(turns) < len(history)
    assert len(used) == 1
    assert asked(messages).count("passage") == 100


def test_a_turn_that_was_declined_is_left_out() -> None:
    history = [*pairs(1), Message("user", "Who?"), Message("assistant", ABSTENTION), *pairs(2)]
    messages, _ = build("Why?", history, hits_of(["short"]), 1000, words)
    assert messages[1:-1] == [*pairs(1), *pairs(2)]


def test_a_turn_that_alone_is_too_long_is_left_out_with_its_answer() -> None:
    history = [*pairs(1), Message("user", "word " * 1000), Message("assistant", "yes")]
    messages, _ = build("Why?", history, hits_of(["short"]), 500, words)
    assert [message.role for message in messages] == ["system", "user"]


def test_a_question_that_leaves_no_room_is_refused_in_one_line() -> None:
    with pytest.raises(QuestionError) as error:
        build("why " * 290, [], hits_of(["text"]), 400, words)
    message = str(error.value)
    assert "290 tokens of a prompt of 400" in message
    assert "prompt_tokens" in message
    assert "\n" not in message


def test_rows_are_shown_below_their_column_names() -> None:
    hit = make_hit("Blues | 1", header="Team | Cups", headings=())
    messages, _ = build("Who won?", [], [hit], 500, words)
    assert "Passage 1 (Doc):\nTeam | Cups\nBlues | 1" in messages[-1].content
