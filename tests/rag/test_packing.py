"""Packs of questions: every question's own prompt and reply, token by token; a model cannot tell the difference.

The tokenizer splits at spaces; the model is a random one of two layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from rag.finetune.packing import Branch, Pack, laid, packs
from rag.finetune.sheets import Asked, Sheet, Shown
from rag.finetune.tuning import losses
from rag.prompt import ABSTENTION, build
from rag.types import Message

END = 0
BUDGET = 200
TEXTS = (
    "The Titanic was built by Harland and Wolff in Belfast .",
    "The wreck was found by Robert Ballard in 1985 .",
    "The Carpathia rescued 705 survivors of the Titanic .",
)
ASKED = (
    ("Who built the Titanic ?", "Harland and Wolff"),
    ("When was the wreck found ?", "1985"),
    ("Who was the captain of the Carpathia ?", ""),
    ("Who built the Carpathia ?", ""),
)


class Words:
    """A token a word."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}

    def count(self, text: str) -> int:
        return len(text.split())

    def encode(self, messages: Sequence[Message], reply: str) -> tuple[list[int], list[int]]:
        said = " ".join(f"<{message.role}> {message.content}" for message in messages)
        return self._ids(f"{said} <assistant>"), [*self._ids(reply), END]

    def _ids(self, text: str) -> list[int]:
        return [self.ids.setdefault(word, len(self.ids) + 1) for word in text.split()]


def sheet(asked: Sequence[tuple[str, str]] = ASKED, texts: Sequence[str] = TEXTS, rejected: str = "") -> Sheet:
    return Sheet(
        tuple(Shown("Ships", (), "", text, "ships") for text in texts),
        tuple(Asked(question, answer, "person", "set", "ships", rejected) for question, answer in asked),
    )


def whole(words: Words, question: str, answer: str, texts: Sequence[str] = TEXTS) -> tuple[list[int], list[int]]:
    """Prompt and reply as a question alone has them."""
    hits = [passage.hit for passage in sheet(texts=texts).passages]
    messages, _ = build(question, (), hits, BUDGET, words.count)
    return words.encode(messages, answer or ABSTENTION)


def packed(words: Words, what: Sheet, budget: int = BUDGET, longest: int = 1000, pairs: bool = False) -> list[Pack]:
    return packs([what], words.encode, words.count, budget, longest, pairs)


def test_prefix_and_branch_are_the_prompt_of_the_question_alone_and_the_reply_is_what_is_learned() -> None:
    words = Words()
    (pack,) = packed(words, sheet())
    assert len(pack.branches) == len(ASKED)
    for branch, (question, answer) in zip(pack.branches, ASKED, strict=True):
        prompt, reply = whole(words, question, answer)
        assert [*pack.prefix, *branch.ids] == prompt
        assert list(branch.reply) == reply
    assert len(pack.prefix) > sum(len(text.split()) for text in TEXTS)  # the passages are read once
    assert all(branch.ids for branch in pack.branches)


def test_a_sheet_with_one_question_is_a_pack_too() -> None:
    words = Words()
    (pack,) = packed(words, sheet(ASKED[:1]))
    (branch,) = pack.branches
    assert ([*pack.prefix, *branch.ids], list(branch.reply)) == whole(words, *ASKED[0])
    assert len(branch.ids) == 1  # the place whose output says the reply's first token


def test_a_branch_sees_the_prefix_and_itself_at_the_positions_that_it_would_have_alone() -> None:
    (pack,) = packed(Words(), sheet())
    found, shared = laid(pack), len(pack.prefix)
    assert found.ids.shape == found.positions.shape == (pack.tokens,)
    assert found.seen.shape == (pack.tokens, pack.tokens)
    spans, start = [(0, shared)], shared
    for branch in pack.branches:
        spans.append((start, start + len(branch.read)))
        start += len(branch.read)
    assert start == pack.tokens
    for first, last in spans:
        begins = 0 if first == 0 else shared
        assert found.positions[first:last].tolist() == list(range(begins, begins + last - first))
        for row in range(first, last):
            expected = {*range(shared if first else 0), *range(first, row + 1)}
            assert {int(column) for column in found.seen[row].nonzero()[0]} == expected


def test_what_is_learned_is_every_token_of_every_reply_at_the_place_before_it() -> None:
    (pack,) = packed(Words(), sheet())
    found = laid(pack)
    assert found.targets.tolist() == [token for branch in pack.branches for token in branch.reply]
    assert found.before.shape == found.targets.shape
    start, place = len(pack.prefix), 0
    for branch in pack.branches:
        for number in range(len(branch.reply)):
            at = found.before[place]
            assert at == start + len(branch.ids) - 1 + number
            assert found.ids[at] == (branch.ids[-1] if number == 0 else branch.reply[number - 1])
            place += 1
        start += len(branch.read)


def test_long_packs_are_split_and_nothing_is_lost() -> None:
    words = Words()
    (one,) = packed(words, sheet())
    longest = len(one.prefix) + max(len(a.read) + len(b.read) for a, b in pairwise(one.branches))
    found = packed(words, sheet(), longest=longest)
    assert len(found) == 2
    assert all(pack.tokens <= longest for pack in found)
    assert {pack.prefix for pack in found} == {one.prefix}
    assert [branch for pack in found for branch in pack.branches] == list(one.branches)
    alone = packed(words, sheet(), longest=1)  # one question alone may take more
    assert [pack.branches for pack in alone] == [(branch,) for branch in one.branches]


def test_an_answer_whose_passages_have_no_room_is_left_out_and_a_refusal_is_kept() -> None:
    words = Words()
    texts = [*TEXTS, " ".join(["The iceberg was white ."] * 12)]
    (pack,) = packed(words, sheet(texts=texts), BUDGET - 55)
    refused = [reply for _, reply in (whole(words, question, "") for question, answer in ASKED if not answer)]
    assert [list(branch.reply) for branch in pack.branches] == refused


def test_an_answer_from_a_passage_that_is_cut_is_left_out() -> None:
    text = " ".join(["The iceberg was white ."] * 50 + ["The captain was Edward Smith ."])
    asked = (("Who was the captain ?", "Edward Smith"), ("Who was the cook ?", ""))
    (pack,) = packed(Words(), sheet(asked, [text]))
    assert len(pack.branches) == 1
    assert packed(Words(), sheet(asked[:1], [text])) == []


def test_a_question_that_leaves_no_room_at_all_is_left_out() -> None:
    endless = (" ".join(["and then ?"] * BUDGET), "1985")
    (pack,) = packed(Words(), sheet((endless, *ASKED)))
    assert len(pack.branches) == len(ASKED)
    assert packed(Words(), sheet([endless])) == []
    assert packed(Words(), sheet(())) == []


def test_pairs_hold_the_right_answer_and_behind_it_the_rejected_one() -> None:
    words = Words()
    (pack,) = packed(words, sheet(rejected="The captain ."), pairs=True)
    assert len(pack.branches) == 2 * len(ASKED)
    right, wrong = pack.branches[::2], pack.branches[1::2]
    assert [branch.ids for branch in right] == [branch.ids for branch in wrong]
    assert [list(branch.reply) for branch in right] == [whole(words, *each)[1] for each in ASKED]
    assert {branch.reply for branch in wrong} == {tuple(words.encode((), "The captain .")[1])}
    assert packed(words, sheet(), pairs=True) == []
    split = packed(words, sheet(rejected="The captain ."), longest=1, pairs=True)
    assert [len(pack.branches) for pack in split] == [2] * len(ASKED)  # a pair stays together


def tiny(method: str = "lora", dropout: float = 0.0, seed: int = 0) -> Any:
    """A random model of two layers with an adapter, as peft wraps it."""
    from peft import LoraConfig, PrefixTuningConfig, PromptTuningConfig, TaskType, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=100,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
    )
    adapters = {
        "lora": LoraConfig(
            task_type=TaskType.CAUSAL_LM,
            r=4,
            lora_alpha=8,
            lora_dropout=dropout,
            target_modules=["q_proj", "v_proj", "down_proj"],
            init_lora_weights=False,
        ),
        "prompt-tuning": PromptTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=5),
        "prefix-tuning": PrefixTuningConfig(task_type=TaskType.CAUSAL_LM, num_virtual_tokens=5),
    }
    return get_peft_model(LlamaForCausalLM(config), adapters[method])


def alone(model: Any, pack: Pack, branch: Branch) -> torch.Tensor:
    """Losses of a branch's reply, computed as anybody would: its own tokens, one after the other."""
    ids = [*pack.prefix, *branch.ids, *branch.reply]
    logits = model(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long)).logits[0]
    said = logits[-len(branch.reply) - 1 : -1]  # what is put before the prompt may have logits, too
    return cross_entropy(said, torch.tensor(branch.reply), reduction="none")


@pytest.mark.parametrize("method", ["lora", "prompt-tuning", "prefix-tuning"])
def test_a_model_computes_for_a_pack_what_it_computes_for_each_question_alone(method: str) -> None:
    words = Words()
    found = packed(words, sheet())
    several = [*found, *(Pack(found[0].prefix[:-3], pack.branches[:1]) for pack in found)]
    assert len(words.ids) < 100
    model = tiny(method).eval()
    with torch.no_grad():
        for pack in found:
            together = losses(model, [pack], torch.device("cpu"))
            expected = torch.cat([alone(model, pack, branch) for branch in pack.branches])
            torch.testing.assert_close(together, expected, atol=1e-4, rtol=0)
        expected = torch.cat([losses(model, [pack], torch.device("cpu")) for pack in several])
        torch.testing.assert_close(losses(model, several, torch.device("cpu")), expected, atol=1e-4, rtol=0)
    assert len({round(float(loss), 3) for loss in expected}) > len(ASKED)
