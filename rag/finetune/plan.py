"""How a model is tuned. Plain values; knows nothing about how that is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

Method = Literal["lora", "qlora", "prompt-tuning", "prefix-tuning", "dpo"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train. Steps are counted in updates of the weights."""

    method: Method = "lora"
    rank: int = 16
    """Of LoRA's matrices; alpha is twice that."""
    virtual: int = 16
    """Tokens that prompt and prefix tuning put before the prompt."""
    rate: float = 8e-4
    """Highest learning rate; after a warm-up it falls to a twentieth in half a cosine."""
    epochs: float = 1.0
    packs: int = 1
    """Packs that a step learns from."""
    warm: float = 0.04
    """Share of the steps until the rate is highest."""
    beta: float = 0.1
    """How closely DPO keeps to the model that it starts from (Rafailov et al. 2023, equation 7)."""
    patience: int = 6
    """Measurements without a better one until training stops."""
    measure_every: int = 50
    keep_every: int = 25
    tell_every: int = 5
    seed: int = 0

    def steps(self, packs: int) -> int:
        """How many there are, with so many packs."""
        return max(1, round(self.epochs * packs / self.packs))


class Told(NamedTuple):
    """How far a training is."""

    step: int
    of: int
    loss: float
    """Of a learned token in this step, in nats."""
    held: float | None
    """The same on the data that nothing is learned from; None where it was not measured."""
    tokens_per_second: float
    seconds_left: float
