"""Question, history and passages -> messages for a language model, within a token budget.

Pure; knows nothing about models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from rag.errors import QuestionError
from rag.types import Hit, Message

PROMPT = 1
"""Goes up when the messages that `build` makes change: a model is tuned to one form of them."""
ABSTENTION = "I can't find the answer to that in your documents."
SYSTEM = "Use only the passages to answer the question. Reply with one or two short sentences and nothing else."
DECLINE = f" If the passages do not hold the answer, reply: {ABSTENTION}"
"""Left out for the bundled model as it came, which never declines and answers worse with it (docs/experiments.md)."""
HISTORY_SHARE = 4
"""At most a quarter of the budget goes to earlier turns: the passages matter more."""
PER_MESSAGE = 8
"""Tokens that a chat template spends around one message, rounded up."""


_CONTROL = re.compile(r"(?<=<)(?=\||/?s>|(?:start|end)_of_turn>)|(?<=\|)(?=>)|(?<=\[)(?=/?INST\])")
"""The places inside control tokens of the common chat templates where a space breaks them."""


def build(
    question: str,
    history: Sequence[Message],
    hits: Sequence[Hit],
    budget: int,
    count_tokens: Callable[[str], int],
    decline: bool = True,
) -> tuple[list[Message], tuple[Hit, ...]]:
    """Messages of at most `budget` tokens, and the hits whose passages went in (a prefix of `hits`, at least one).

    The best passages are kept and the newest turns; what does not fit is left out whole, but for a first passage
    that alone is too long, which is cut. With `decline`, the model is asked to say so where they hold no answer.

    Raises:
        QuestionError: the question alone leaves no room for a passage.
    """
    question, system = plain(question), SYSTEM + DECLINE * decline
    fixed = count_tokens(system) + count_tokens(_ask("", question)) + 2 * PER_MESSAGE
    room = budget - fixed
    if room < budget // HISTORY_SHARE:
        raise QuestionError(
            f"the question takes {count_tokens(question)} tokens of a prompt of {budget}, "
            "which leaves no room for passages; shorten it or raise prompt_tokens"
        )
    turns = _newest(history, room // HISTORY_SHARE, count_tokens)
    room -= sum(count_tokens(turn.content) + PER_MESSAGE for turn in turns)
    passages: list[str] = []
    for number, hit in enumerate(hits, start=1):
        passage = _passage(number, hit)
        cost = count_tokens(passage) + 2
        if cost > room:
            if not passages:
                passages.append(_cut(passage, room - 2, count_tokens))
            break
        passages.append(passage)
        room -= cost
    messages = [Message("system", system), *turns, Message("user", _ask("\n\n".join(passages), question))]
    return messages, tuple(hits[: len(passages)])


def plain(text: str) -> str:
    """Text that no chat template can take for one of its control tokens, such as `<|im_start|>`, `</s>` or `[INST]`."""
    return _CONTROL.sub(" ", text)


def _passage(number: int, hit: Hit) -> str:
    heading = " > ".join((hit.chunk.title, *hit.chunk.headings))
    return plain(f"Passage {number} ({heading}):\n{hit.chunk.with_header}")


def _ask(passages: str, question: str) -> str:
    return f"{passages}\n\nQuestion: {question}"


def _newest(history: Sequence[Message], room: int, count_tokens: Callable[[str], int]) -> list[Message]:
    """The newest whole question-and-answer pairs that fit; a model that is shown an abstention repeats it."""
    kept: list[Message] = []
    for i in range(len(history) - 2, -1, -2):
        pair = [Message(turn.role, plain(turn.content)) for turn in history[i : i + 2]]
        if pair[-1].content == ABSTENTION:
            continue
        room -= sum(count_tokens(turn.content) + PER_MESSAGE for turn in pair)
        if room < 0:
            break
        kept = pair + kept
    return kept


def _cut(text: str, room: int, count_tokens: Callable[[str], int]) -> str:
    """The longest beginning of the text, to a few characters, that has at most `room` tokens."""
    low, high = 0, len(text)
    while high - low > 8:
        middle = (low + high) // 2
        low, high = (middle, high) if count_tokens(text[:middle]) <= room else (low, middle)
    return text[:low]
