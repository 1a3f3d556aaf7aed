"""Trains an adapter of a language model on packs of questions: step after step, each from its number alone.

Training is kept after every few steps: one that was killed goes on where it was and ends with the same adapter.
Knows nothing about documents, prompts or what becomes of the adapter.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch.nn.functional import cross_entropy, logsigmoid

from rag.errors import FinetuneError
from rag.finetune.packing import Laid, Pack, laid, padded
from rag.finetune.plan import Plan, Told

CHECKPOINT = "checkpoint.pt"


class Best(NamedTuple):
    """The adapter that did best on what it does not learn from."""

    step: int
    loss: float
    state: dict[str, torch.Tensor]


class _Loss(NamedTuple):
    """Of what a pack teaches: the sum, and of how much it is: tokens, or pairs of answers."""

    total: torch.Tensor
    of: int


class Trainer:
    """A model with an adapter on its way."""

    def __init__(self, model: Any, plan: Plan, train: Sequence[Pack], held: Sequence[Pack], folder: Path) -> None:
        """Of a peft model whose adapter alone learns.

        Args:
            model: see `rag.finetune.base.open_model`.
            plan: how to train.
            train: what is learned from.
            held: what progress is measured on.
            folder: where the checkpoint is kept; a training that was cut short there goes on.
        """
        self.model, self._plan, self._train, self._held = model, plan, train, held
        self._path = folder / CHECKPOINT
        self._parameters = [value for value in model.parameters() if value.requires_grad]
        self._steps = plan.steps(len(train))
        self._optimizer = torch.optim.AdamW(self._parameters, lr=plan.rate, weight_decay=0.0, betas=(0.9, 0.98))
        self._schedule = torch.optim.lr_scheduler.LambdaLR(self._optimizer, self._share_of_rate)
        self._step, self._stale, self._seconds, self._tokens = 0, 0, 0.0, 0
        self._device = next(model.parameters()).device
        self._best: Best | None = None
        self.history: list[Told] = []
        # How likely every answer is before anything is learned: DPO keeps close to that.
        self._before = self._likely() if plan.method == "dpo" else {}
        if self._path.exists():
            self._load()

    def run(self, say: Callable[[Told], None]) -> Best:
        """Train to the end, or until it gets no better; the best adapter is in the model when it is done."""
        while self._step < self._steps and self._stale < self._plan.patience:
            began, loss = time.monotonic(), self._learn(self._batch(self._step))
            self._step += 1
            self._seconds += time.monotonic() - began
            if self._step % self._plan.measure_every == 0 or self._step == self._steps:
                self._measure(loss)
            elif self._step % self._plan.tell_every == 0:
                self._tell(loss, None)
            if self._step % self._plan.tell_every == 0 or self._step == self._steps:
                say(self.history[-1])
            if self._step % self._plan.keep_every == 0 or self._step == self._steps:
                self._save()
        assert self._best is not None
        self._put(self._best.state)
        return self._best

    def _batch(self, step: int) -> list[Pack]:
        """The packs of a step: every epoch has an order of its own."""
        found, size = [], len(self._train)
        for number in range(step * self._plan.packs, (step + 1) * self._plan.packs):
            epoch, place = divmod(number, size)
            order = random.Random(f"{self._plan.seed}-{epoch}").sample(range(size), size)  # noqa: S311 - no secret
            found.append(self._train[order[place]])
        return found

    def _learn(self, batch: Sequence[Pack]) -> float:
        """Update the weights once; the mean loss of a learned token before that."""
        torch.manual_seed(self._plan.seed * 1_000_003 + self._step)
        self.model.train()
        total, count = 0.0, sum(map(self._count, batch))
        for packs in self._together(batch):
            loss = self._loss(packs).total / count
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
            self._tokens += sum(pack.tokens for pack in packs)
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return total

    def _together(self, packs: Sequence[Pack]) -> list[Sequence[Pack]]:
        """Packs that are read at once: those of a step on a GPU; one on a CPU, where padding would cost more."""
        size = self._plan.packs if self._device.type == "cuda" else 1
        return [packs[i : i + size] for i in range(0, len(packs), size)]

    def _count(self, pack: Pack) -> int:
        """How much a pack teaches; see `_Loss`."""
        whole = sum(len(branch.reply) for branch in pack.branches)
        return len(pack.branches) // 2 if self._plan.method == "dpo" else whole

    def _loss(self, packs: Sequence[Pack]) -> _Loss:
        found, count = losses(self.model, packs, self._device), sum(map(self._count, packs))
        if self._plan.method != "dpo":
            return _Loss(found.sum(), count)
        gained = likelihood(packs, found) - torch.cat([self._before[pack] for pack in packs])
        return _Loss(-logsigmoid(self._plan.beta * (gained[::2] - gained[1::2])).sum(), count)

    def _likely(self) -> dict[Pack, torch.Tensor]:
        self.model.eval()
        with torch.no_grad():
            packs = (*self._train, *self._held)
            return {pack: likelihood([pack], losses(self.model, [pack], self._device)) for pack in packs}

    def _measure(self, loss: float) -> None:
        self.model.eval()
        with torch.no_grad():
            found = [self._loss(packs) for packs in self._together(self._held)]
        held = sum(float(each.total) for each in found) / sum(each.of for each in found)
        if not math.isfinite(held):
            raise FinetuneError(
                f"the loss is {held} after step {self._step:,}; lower --rate ({self._plan.rate:g}) and begin anew with "
                "--fresh"
            )
        self._tell(loss, held)
        if self._best is None or held < self._best.loss:
            state = {name: value.detach().clone() for name, value in self._learning().items()}
            self._best, self._stale = Best(self._step, held, state), 0
        else:
            self._stale += 1

    def _tell(self, loss: float, held: float | None) -> None:
        left = (self._steps - self._step) * self._seconds / max(1, self._step)
        rate = self._tokens / max(1e-9, self._seconds)
        self.history.append(
            Told(self._step, self._steps, round(loss, 4), held and round(held, 4), round(rate, 1), left)
        )

    def _share_of_rate(self, step: int) -> float:
        warm = max(1, round(self._steps * self._plan.warm))
        share = (step - warm) / max(1, self._steps - warm)
        return (step + 1) / warm if step < warm else 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    def _learning(self) -> dict[str, torch.Tensor]:
        return {name: value for name, value in self.model.named_parameters() if value.requires_grad}

    def _put(self, state: dict[str, torch.Tensor]) -> None:
        with torch.no_grad():
            for name, value in self._learning().items():
                value.copy_(state[name])

    def _save(self) -> None:
        """Keep everything that the rest of the training depends on, all of it or nothing."""
        part = self._path.with_suffix(".part")
        kept = {
            "step": self._step,
            "stale": self._stale,
            "seconds": self._seconds,
            "tokens": self._tokens,
            "history": [tuple(told) for told in self.history],
            "adapter": self._learning(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "best": tuple(self._best) if self._best else None,
        }
        try:
            torch.save(kept, part)
            part.replace(self._path)
        except (OSError, RuntimeError) as error:
            part.unlink(missing_ok=True)
            raise FinetuneError(
                f"the checkpoint {self._path} cannot be written ({error}); check the disk and the folder"
            ) from None

    def _load(self) -> None:
        try:
            kept = torch.load(self._path, weights_only=True, map_location=self._device)
            self._put(kept["adapter"])
            self._optimizer.load_state_dict(kept["optimizer"])
            self._schedule.load_state_dict(kept["schedule"])
            self._best = Best(*kept["best"]) if kept["best"] else None
            self.history = [Told(*told) for told in kept["history"]]
            self._step, self._stale = kept["step"], kept["stale"]
            self._seconds, self._tokens = kept["seconds"], kept["tokens"]
        except Exception as error:
            raise FinetuneError(
                f"the checkpoint {self._path} cannot be used ({type(error).__name__}); begin anew with --fresh"
            ) from error


def losses(model: Any, packs: Sequence[Pack], device: torch.device) -> torch.Tensor:
    """Loss of every learned token of some packs under a peft model, shape (m,); logits are computed for those alone."""
    found = [laid(pack) for pack in packs]
    read = _hidden(model, found, device)
    hidden = torch.cat([row[torch.from_numpy(each.before).to(device)] for row, each in zip(read, found, strict=True)])
    targets = torch.from_numpy(np.concatenate([each.targets for each in found])).to(device)
    return cross_entropy(model.get_base_model().lm_head(hidden).float(), targets, reduction="none")


def likelihood(packs: Sequence[Pack], found: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of every reply of some packs, shape (branches,), of the losses of its tokens."""
    parts = torch.split(found, [len(branch.reply) for pack in packs for branch in pack.branches])
    return -torch.stack([part.sum() for part in parts])


def _hidden(model: Any, found: Sequence[Laid], device: torch.device) -> torch.Tensor:
    """What the last layer makes of every token of some packs, shape (packs, n, dim); n is the longest one's."""
    base, config = model.get_base_model(), model.active_peft_config
    ids, positions, seen = (torch.from_numpy(array).to(device) for array in padded(found))
    if not config.is_prompt_learning:
        outputs = base.model(input_ids=ids, position_ids=positions, attention_mask=seen[:, None], use_cache=False)
        return cast("torch.Tensor", outputs.last_hidden_state)
    # What is learned stands before everything else: as tokens' vectors, or as keys and values of every layer.
    count, virtual, learned = len(found), config.num_virtual_tokens, model.get_prompt(len(found))
    positions = positions + virtual
    seen = torch.nn.functional.pad(seen, (virtual, 0), value=True)
    if config.peft_type == "PREFIX_TUNING":
        outputs = base.model(
            input_ids=ids, position_ids=positions, attention_mask=seen[:, None], past_key_values=learned
        )
        return cast("torch.Tensor", outputs.last_hidden_state)
    before = torch.ones((virtual, seen.shape[-1]), dtype=torch.bool, device=device).tril().expand(count, -1, -1)
    vectors = torch.cat([learned, base.get_input_embeddings()(ids)], dim=1)
    positions = torch.cat([torch.arange(virtual, device=device).expand(count, -1), positions], dim=1)
    outputs = base.model(
        inputs_embeds=vectors,
        position_ids=positions,
        attention_mask=torch.cat([before, seen], dim=1)[:, None],
        use_cache=False,
    )
    return cast("torch.Tensor", outputs.last_hidden_state[:, virtual:])
