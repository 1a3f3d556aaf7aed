"""Tuning a tiny random model: it learns, a killed training ends the same, what is broken is named, it stops in time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rag.errors import FinetuneError
from rag.finetune.packing import Pack
from rag.finetune.plan import Method, Plan, Told
from rag.finetune.tuning import CHECKPOINT, Best, Trainer, likelihood, losses
from tests.rag.test_packing import ASKED, Words, packed, sheet, tiny

QUICK = Plan(rate=1e-2, epochs=8.0, measure_every=4, keep_every=3, tell_every=1, patience=100)
"""Sixteen steps."""


class Killed(Exception):
    pass


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads cost more than such a small model takes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def some() -> list[Pack]:
    words = Words()
    return [*packed(words, sheet(ASKED[:2])), *packed(words, sheet(ASKED[2:]))]


@pytest.fixture(scope="module")
def pairs() -> list[Pack]:
    return packed(Words(), sheet(rejected="It was the captain ."), pairs=True)


class Run(Trainer):
    """A training of a model that is the same for every run of a seed."""

    def __init__(
        self, folder: Path, plan: Plan, train: Sequence[Pack], held: Sequence[Pack] | None = None, seed: int = 0
    ) -> None:
        folder.mkdir(exist_ok=True)
        method = plan.method if plan.method in ("prompt-tuning", "prefix-tuning") else "lora"
        super().__init__(tiny(method, dropout=0.2, seed=seed), plan, train, train if held is None else held, folder)
        self.told: list[Told] = []

    def go(self, die_at: int | None = None) -> Best:
        def say(told: Told) -> None:
            self.told.append(told)
            if told.step == die_at:
                raise Killed

        return self.run(say)

    def adapter(self) -> dict[str, torch.Tensor]:
        return {name: value.detach() for name, value in self.model.named_parameters() if value.requires_grad}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def mean_loss(model: Any, packs: Sequence[Pack]) -> float:
    model.eval()
    with torch.no_grad():
        return float(torch.cat([losses(model, [pack], torch.device("cpu")) for pack in packs]).mean())


@pytest.mark.parametrize(("method", "share"), [("lora", 0.7), ("prompt-tuning", 0.98), ("prefix-tuning", 0.98)])
def test_it_learns(method: Method, share: float, some: list[Pack], tmp_path: Path) -> None:
    run = Run(tmp_path, Plan(method, rate=2e-2, epochs=15.0, measure_every=10, tell_every=1), some)
    before = mean_loss(run.model, some)
    frozen = {name: value.clone() for name, value in run.model.named_parameters() if not value.requires_grad}
    best = run.go()
    assert [told.step for told in run.told] == list(range(1, 31))
    assert mean_loss(run.model, some) < share * before
    assert best.loss == pytest.approx(mean_loss(run.model, some), abs=1e-5)
    after = dict(run.model.named_parameters())
    assert all(torch.equal(value, after[name]) for name, value in frozen.items())  # the adapter alone learns


def test_direct_preference_makes_the_rejected_answer_less_likely(pairs: list[Pack], tmp_path: Path) -> None:
    run = Run(tmp_path, Plan("dpo", rate=1e-2, epochs=20.0, measure_every=5), pairs)

    def lead() -> float:
        """How much likelier the right answers are than the rejected ones, in nats."""
        run.model.eval()
        with torch.no_grad():
            found = [likelihood([pack], losses(run.model, [pack], torch.device("cpu"))) for pack in pairs]
        return float(torch.cat([each[::2] - each[1::2] for each in found]).mean())

    before = lead()
    run.go()
    assert lead() > before + 1
    first = run.history[0].held
    assert first is not None
    assert first < 0.6932  # the logarithm of 2: what the loss is before anything is learned


@pytest.mark.parametrize("die_at", [1, 5, 16])
def test_a_training_that_was_killed_goes_on_and_ends_with_the_same_adapter(
    die_at: int, some: list[Pack], tmp_path: Path
) -> None:
    whole = Run(tmp_path / "whole", QUICK, some)
    best = whole.go()
    cut = Run(tmp_path / "cut", QUICK, some)
    with pytest.raises(Killed):
        cut.go(die_at)
    again = Run(tmp_path / "cut", QUICK, some)
    resumed = again.go()
    assert again.told[0].step == (die_at - 1) // 3 * 3 + 1  # what was learned since it was kept is learned anew
    assert same(whole.adapter(), again.adapter())
    assert (best.step, best.loss) == (resumed.step, resumed.loss)
    assert [told[:4] for told in again.history] == [told[:4] for told in whole.history]


def test_direct_preference_goes_on_from_what_was_likely_before_anything_was_learned(
    pairs: list[Pack], tmp_path: Path
) -> None:
    plan = Plan("dpo", rate=1e-2, epochs=10.0, measure_every=4, keep_every=2, tell_every=1)
    whole = Run(tmp_path / "whole", plan, pairs)
    whole.go()
    with pytest.raises(Killed):
        Run(tmp_path / "cut", plan, pairs).go(7)
    again = Run(tmp_path / "cut", plan, pairs)
    again.go()
    assert same(whole.adapter(), again.adapter())


def test_a_finished_training_is_not_done_again(some: list[Pack], tmp_path: Path) -> None:
    first = Run(tmp_path, QUICK, some)
    best = first.go()
    again = Run(tmp_path, QUICK, some)
    assert again.go().step == best.step
    assert again.told == []
    assert same(first.adapter(), again.adapter())


def test_every_epoch_takes_every_pack_in_an_order_of_its_own(some: list[Pack], tmp_path: Path) -> None:
    many = [Pack(pack.prefix, (branch,)) for pack in some for branch in pack.branches]
    seen: list[list[Pack]] = []

    class Watched(Run):
        def _learn(self, batch: Sequence[Pack]) -> float:
            seen.append(list(batch))
            return 0.0

    Watched(tmp_path, Plan(epochs=6.0, packs=2), many).go()
    flat = [pack for batch in seen for pack in batch]
    epochs = [tuple(flat[start : start + len(many)]) for start in range(0, len(flat), len(many))]
    assert len(epochs) == 6
    assert all(set(epoch) == set(many) for epoch in epochs)
    assert len(set(epochs)) > 1


@pytest.mark.parametrize("method", ["lora", "dpo"])
def test_packs_that_are_read_at_once_teach_the_same_as_one_after_the_other(method: Method, tmp_path: Path) -> None:
    class AtOnce(Trainer):
        def _together(self, packs: Sequence[Pack]) -> list[Sequence[Pack]]:
            return [packs]  # as on a GPU

    found = packed(Words(), sheet(rejected="It was the captain ."), longest=1, pairs=method == "dpo")
    plan = Plan(method, rate=1e-2, epochs=4.0, packs=3, measure_every=1, tell_every=1, patience=100)
    runs = []
    for kind in (Trainer, AtOnce):
        folder = tmp_path / kind.__name__
        folder.mkdir()
        runs.append(kind(tiny(), plan, found, found, folder))
        runs[-1].run(lambda told: None)
    apart, at_once = ([(told.loss, told.held) for told in run.history] for run in runs)
    assert len(apart) > 2
    assert apart[0] != apart[-1]
    torch.testing.assert_close(torch.tensor(at_once), torch.tensor(apart), atol=2e-3, rtol=0)


def test_it_stops_when_it_gets_no_better_and_keeps_the_best(some: list[Pack], tmp_path: Path) -> None:
    held = packed(Words(), sheet((("Was it blue ?", "No , it was another ship of the same name"),)))
    plan = Plan(rate=5e-2, epochs=100.0, measure_every=2, tell_every=1, patience=3)
    run = Run(tmp_path, plan, some, held)
    best = run.go()
    measured = [(told.held, told.step) for told in run.history if told.held is not None]
    assert run.history[-1].of == 200
    assert run.history[-1].step == best.step + 3 * plan.measure_every < 200
    assert best.step == min(measured)[1]
    assert mean_loss(run.model, held) == pytest.approx(best.loss, abs=1e-5)


def spoiled(path: Path, how: str) -> None:
    kept = torch.load(path, weights_only=True)
    if how == "cut":
        path.write_bytes(path.read_bytes()[:2000])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "text":
        path.write_text("no checkpoint\n")
    elif how == "other":
        torch.save([1, 2], path)
    else:
        torch.save({name: value for name, value in kept.items() if name != how}, path)


@pytest.mark.parametrize("how", ["cut", "empty", "text", "other", "adapter", "optimizer", "best", "step"])
def test_a_broken_checkpoint_is_named_in_one_line(how: str, some: list[Pack], tmp_path: Path) -> None:
    with pytest.raises(Killed):
        Run(tmp_path, QUICK, some).go(5)
    spoiled(tmp_path / CHECKPOINT, how)
    with pytest.raises(FinetuneError, match="begin anew with --fresh") as caught:
        Run(tmp_path, QUICK, some)
    assert str(tmp_path / CHECKPOINT) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_another_adapter_is_not_taken(some: list[Pack], tmp_path: Path) -> None:
    with pytest.raises(Killed):
        Run(tmp_path, QUICK, some).go(5)
    with pytest.raises(FinetuneError, match="begin anew with --fresh"):
        Run(tmp_path, Plan("prompt-tuning"), some)


def test_a_checkpoint_that_cannot_be_written_says_so_and_leaves_the_last_one(some: list[Pack], tmp_path: Path) -> None:
    run = Run(tmp_path, QUICK, some)
    with pytest.raises(Killed):
        run.go(5)
    kept = (tmp_path / CHECKPOINT).read_bytes()
    (tmp_path / CHECKPOINT).with_suffix(".part").mkdir()
    with pytest.raises((FinetuneError, OSError), match="checkpoint"):
        run.go()
    assert (tmp_path / CHECKPOINT).read_bytes() == kept


def test_a_loss_that_is_no_number_ends_the_training_with_what_to_do(some: list[Pack], tmp_path: Path) -> None:
    run = Run(tmp_path, QUICK, some)
    with torch.no_grad():
        next(iter(run.adapter().values())).fill_(float("nan"))
    with pytest.raises(FinetuneError, match=r"the loss is nan after step \d+; lower --rate"):
        run.go()
