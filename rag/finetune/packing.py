"""Sheets -> packs of tokens: a sheet's prompt is read once, and every question about it branches off its end.

A pack is one sequence. A branch sees the shared prefix and itself, at the positions it would have alone, so that a
model computes for each question what it computes for the question's own prompt, at a fraction of the cost.
Knows nothing about models, but for their tokenizer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rag.errors import QuestionError
from rag.finetune.sheets import Asked, Sheet
from rag.prompt import ABSTENTION, build, plain
from rag.types import Message

LONGEST = 1536
"""Tokens of a pack: longer ones are cut into several."""
Encode = Callable[[Sequence[Message], str], tuple[list[int], list[int]]]
"""Messages and a reply -> tokens of the prompt in the model's template, and of the reply with what ends it."""


class Branch(NamedTuple):
    """A question: the tokens of its prompt behind the shared prefix, and of the reply that is learned."""

    ids: tuple[int, ...]
    reply: tuple[int, ...]

    @property
    def read(self) -> tuple[int, ...]:
        """What a model is given: the reply's last token is only said."""
        return self.ids + self.reply[:-1]


class Pack(NamedTuple):
    """A prefix and the questions that branch off it."""

    prefix: tuple[int, ...]
    branches: tuple[Branch, ...]

    @property
    def tokens(self) -> int:
        """How many there are."""
        return len(self.prefix) + sum(len(branch.read) for branch in self.branches)


class Laid(NamedTuple):
    """A pack as arrays for a model; n tokens, m of them learned."""

    ids: npt.NDArray[np.int64]
    """Shape (n,)."""
    positions: npt.NDArray[np.int64]
    """Shape (n,)."""
    seen: npt.NDArray[np.bool_]
    """Shape (n, n): whether a token (row) sees another (column)."""
    before: npt.NDArray[np.int64]
    """Shape (m,): the place whose output says the next token."""
    targets: npt.NDArray[np.int64]
    """Shape (m,): that next token."""


def packs(
    sheets: Sequence[Sheet],
    encode: Encode,
    count: Callable[[str], int],
    budget: int,
    longest: int = LONGEST,
    pairs: bool = False,
) -> list[Pack]:
    """The packs of sheets, in their order; questions whose prompt has no room are left out.

    Args:
        sheets: what to learn from.
        encode: the model's tokenizer and template.
        count: how many tokens a text has.
        budget: tokens of a prompt at most, see `rag.prompt.build`.
        longest: tokens of a pack at most; one question alone may take more.
        pairs: take the questions that have a rejected answer only; behind each branch comes one with that answer.
    """
    return [pack for sheet in sheets for pack in _packs(sheet, encode, count, budget, longest, pairs)]


def _packs(
    sheet: Sheet, encode: Encode, count: Callable[[str], int], budget: int, longest: int, pairs: bool
) -> list[Pack]:
    chosen = [asked for asked in sheet.asked if asked.rejected or not pairs]
    each = (_encoded(sheet, asked, encode, count, budget, pairs) for asked in chosen)
    whole = [replies for replies in each if replies]
    if not whole:
        return []
    prompts = [prompt for replies in whole for prompt, _ in replies]
    shared = min(_common(prompts), *(len(prompt) - 1 for prompt in prompts))
    prefix = tuple(prompts[0][:shared])
    found: list[Pack] = []
    branches: list[Branch] = []
    room = longest - shared
    for replies in whole:
        made = [Branch(tuple(prompt[shared:]), tuple(reply)) for prompt, reply in replies]
        size = sum(len(branch.read) for branch in made)
        if branches and size > room:
            found.append(Pack(prefix, tuple(branches)))
            branches, room = [], longest - shared
        branches += made
        room -= size
    return [*found, Pack(prefix, tuple(branches))]


def _encoded(
    sheet: Sheet, asked: Asked, encode: Encode, count: Callable[[str], int], budget: int, pairs: bool
) -> list[tuple[list[int], list[int]]]:
    """Prompt and reply of a question, with `pairs` a second time with the rejected one; none where it has no room."""
    hits = [passage.hit for passage in sheet.passages]
    try:
        messages, _ = build(asked.question, (), hits, budget, count)
    except QuestionError:
        return []
    # An answer from a passage that was left out, or cut, would teach to invent.
    if asked.answer and not all(plain(hit.chunk.with_header) in messages[-1].content for hit in hits):
        return []
    replies = (asked.answer or ABSTENTION, *((asked.rejected,) if pairs else ()))
    return [encode(messages, reply) for reply in replies]


def _common(sequences: Sequence[Sequence[int]]) -> int:
    """How many first tokens all have in common."""
    first = sequences[0]
    return next(
        (i for i, token in enumerate(first) if any(i >= len(other) or other[i] != token for other in sequences)),
        len(first),
    )


def laid(pack: Pack) -> Laid:
    """The pack as arrays."""
    shared = len(pack.prefix)
    ids, positions, segment = list(pack.prefix), list(range(shared)), [0] * shared
    before: list[int] = []
    for number, branch in enumerate(pack.branches, 1):
        ids += branch.read
        positions += range(shared, shared + len(branch.read))
        segment += [number] * len(branch.read)
        before += range(len(ids) - len(branch.reply), len(ids))
    at = np.array(segment)
    seen = np.tril(np.ones((len(ids), len(ids)), dtype=bool)) & ((at[None, :] == 0) | (at[None, :] == at[:, None]))
    targets = [token for branch in pack.branches for token in branch.reply]
    return Laid(np.array(ids), np.array(positions), seen, np.array(before), np.array(targets))


class Padded(NamedTuple):
    """Packs under one another; n is the longest one's length."""

    ids: npt.NDArray[np.int64]
    """Shape (packs, n)."""
    positions: npt.NDArray[np.int64]
    """Shape (packs, n)."""
    seen: npt.NDArray[np.bool_]
    """Shape (packs, n, n)."""


def padded(found: Sequence[Laid]) -> Padded:
    """Packs at one length. What fills the others up sees itself alone, and nothing sees it."""
    longest = max(len(each.ids) for each in found)
    ids, positions = np.zeros((2, len(found), longest), dtype=np.int64)
    seen = np.repeat(np.eye(longest, dtype=bool)[None], len(found), axis=0)
    for row, each in enumerate(found):
        size = len(each.ids)
        ids[row, :size], positions[row, :size] = each.ids, each.positions
        seen[row, :size, :size] = each.seen
    return Padded(ids, positions, seen)
