"""Trains the checker's model: chunk after chunk of pairs, each judged as a whole and token by token.

A chunk depends on the material, the seed and its number alone, and training is kept after every few of them: one that
was killed goes on where it was and ends with the same weights. Knows nothing about files of labelled data.
"""

from __future__ import annotations

import ctypes
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from rag.align import Pair, pair, side, stacked
from rag.finetune.claims import Maker
from rag.finetune.records import Example, Made, Material, Progress
from rag.joint import Joint
from rag.tokens import Encoded, Encoder
from rag.windows import Passage, nearest, read

BATCH = 32
CHUNK = 1536
"""Pairs that are made, encoded and sorted by length together."""
CLAIMS = 6
"""Claims about one passage."""
KEEP_EVERY = 2
"""Chunks between two checkpoints."""
RATE, HEADS = 1.5e-4, 5.0
"""Highest learning rate of the encoder's layers, and how many times as high that of the new parts is."""
WARM = 100
"""Steps until the learning rate is highest; from there it falls to 0 in a line."""
FAULT = 3.0
"""Weight of a token at fault: there are about as many times fewer of them."""
FALSE_WINDOW = 0.25
"""How often a person's claim without support is shown beside its second-best window."""


M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
"""Names of options in malloc.h."""


def train(
    material: Material,
    encoder: Encoder,
    start: Path,
    out: Path,
    pairs: int,
    seed: int,
    say: Callable[[Progress], None],
) -> Joint:
    """A trained model.

    Args:
        material: what to learn from.
        encoder: gives the token vectors that the model reads.
        start: the encoder's weights in the hub's layout, whose upper layers the model starts from.
        out: directory of the checkpoint; a training that was cut short there goes on.
        pairs: how many pairs of claim and window to learn from.
        seed: of everything that is random.
        say: told how far it is.
    """
    torch.manual_seed(seed)
    _keep_memory()
    model = Joint(start)
    state = _State(model, steps=max(1, pairs // BATCH))
    checkpoint = out / "checkpoint.pt"
    done = state.load(checkpoint) if checkpoint.exists() else 0
    maker = Maker(material.documents)
    clock, first, chunks = time.monotonic(), done, -(-pairs // CHUNK)
    for number in range(done, chunks):
        rng = random.Random(f"{seed}-{number}")  # noqa: S311 - no secret
        torch.manual_seed(seed + number)
        for batch in _batches(_chunk(material, maker, rng), encoder, rng):
            state.step(batch)
        finished = number + 1 - first
        rate = finished * CHUNK / (time.monotonic() - clock)
        say(Progress((number + 1) * CHUNK, chunks * CHUNK, *state.means, rate))
        if (number + 1) % KEEP_EVERY == 0 or number + 1 == chunks:
            state.save(checkpoint, number + 1)
    return model.eval()


def _keep_memory() -> None:
    """Tell glibc to keep what is freed: returning and mapping it anew takes half of the time on some kernels."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1)):
            libc.mallopt(option, value)


def _chunk(material: Material, maker: Maker, rng: random.Random) -> list[Example]:
    """Passages with about as many claims as a chunk holds."""
    found, count = [], 0
    for made in maker.examples(rng, CLAIMS):
        people = material.examples and rng.random() < material.share / (1 - material.share)
        for example in (made, *rng.choices(material.examples, k=CLAIMS // 2)) if people else (made,):
            found.append(example)
            count += len(example.claims)
        if count >= CHUNK:
            return found
    raise AssertionError("examples never end")


def _batches(examples: Sequence[Example], encoder: Encoder, rng: random.Random) -> Iterator[dict[str, torch.Tensor]]:
    """Pairs of about the same length, in an order of chance, with their labels."""
    pairs = list(_pairs(examples, encoder, rng))
    rng.shuffle(pairs)
    pairs.sort(key=lambda each: len(each[0].flag) // 12)
    batches = [pairs[start : start + BATCH] for start in range(0, len(pairs), BATCH)]
    rng.shuffle(batches)
    for batch in batches:
        arrays: dict[str, npt.NDArray[Any]] = dict(stacked([each for each, _, _ in batch]))
        faults = np.full(arrays["flag"].shape, -1.0, dtype=np.float32)
        for row, (_, _, known) in enumerate(batch):
            faults[row, : len(known)] = known
        arrays["faults"] = np.where(arrays["claim"] > 0, faults, -1)
        arrays["label"] = np.array([label for _, label, _ in batch], dtype=np.float32)
        yield {name: torch.from_numpy(array) for name, array in arrays.items()}


def _pairs(
    examples: Sequence[Example], encoder: Encoder, rng: random.Random
) -> Iterator[tuple[Pair, int, npt.NDArray[np.float32]]]:
    """Each claim beside the window that comes nearest to it, its label, and which of its tokens are at fault."""
    passages = read([Passage(example.passage) for example in examples], encoder)
    claims = [made for example in examples for made in example.claims]
    encoded = iter(zip(claims, encoder.encode([made.claim for made in claims]), strict=True))
    for example, segments in zip(examples, passages, strict=True):
        for _ in example.claims:
            made, its = next(encoded)
            claim = side(made.claim, its)
            best = nearest(claim, segments, 2)
            window = best[-1] if not made.label and rng.random() < FALSE_WINDOW else best[0]
            yield pair(claim, window.side), made.label, _faults(made, its)


def _faults(made: Made, encoded: Encoded) -> npt.NDArray[np.float32]:
    """1 for a token at fault, 0 for one that is not, -1 where nobody knows."""
    known = 0.0 if made.whole or made.label else -1.0
    return np.array(
        [
            1.0 if end > start and any(start < b and end > a for a, b in made.faults) else known
            for start, end in encoded.offsets
        ],
        dtype=np.float32,
    )


class _State:
    """A model on its way."""

    def __init__(self, model: Joint, steps: int) -> None:
        self._model, self._parameters = model, list(model.parameters())
        new = [value for name, value in model.named_parameters() if not name.startswith("layers.")]
        groups = [{"params": model.layers.parameters(), "lr": RATE}, {"params": new, "lr": RATE * HEADS}]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
        self._schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: min(1.0, (step + 1) / WARM) * max(0.0, 1 - step / (steps * 1.05))
        )
        self.means: tuple[float, float, float] = (0.0, 0.0, 0.0)
        """Running means: loss of verdicts, loss of tokens, share of right verdicts."""

    def step(self, batch: dict[str, torch.Tensor]) -> None:
        """Learn from a batch."""
        faults, label = batch.pop("faults"), batch.pop("label")
        self._model.train()
        verdicts, tokens = self._model(**batch)
        loss = cross_entropy(verdicts, label)
        known = faults >= 0
        weight = torch.where(faults > 0, FAULT, 1.0)[known]
        token_loss = cross_entropy(tokens[known], faults[known], weight=weight) if known.any() else torch.zeros(())
        (loss + token_loss).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        right = float(((verdicts > 0).float() == label).float().mean())
        now = (loss.item(), token_loss.item(), right)
        old = self.means if any(self.means) else now
        self.means = tuple(0.98 * a + 0.02 * b for a, b in zip(old, now, strict=True))  # type: ignore[assignment]

    def save(self, path: Path, chunks: int) -> None:
        """Keep everything that the rest of the training depends on."""
        part = path.with_suffix(".part")
        torch.save(
            {
                "chunks": chunks,
                "means": self.means,
                "model": self._model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
            },
            part,
        )
        part.replace(path)

    def load(self, path: Path) -> int:
        """Go on from a checkpoint; the number of chunks that are done."""
        kept = torch.load(path, weights_only=True)
        self._model.load_state_dict(kept["model"])
        self._optimizer.load_state_dict(kept["optimizer"])
        self._schedule.load_state_dict(kept["schedule"])
        self.means = tuple(kept["means"])
        return int(kept["chunks"])
