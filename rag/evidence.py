"""What speaks for and against a claim beside a passage, as figures that a regression weighs. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rag.align import NUMBERS, STOP, WORD, Side, key, weights, words
from rag.errors import WeightsError
from rag.scorer import Scored
from rag.windows import Segment, Window, similarity

FIGURES = (
    "near", "near_anywhere", "worst", "worst_anywhere", "words", "words_anywhere", "numbers_missing", "names_missing",
    "logit", "nearest_logit", "faults", "worst_fault",
)  # fmt: skip
"""Weighted mean over the claim's tokens of the nearest token's cosine, in the window and in the whole passage; the same
for the three worst tokens; the share of words found; numbers and names that stand nowhere in the passage. Then the
model's verdict on the best window and on the nearest; mean and highest fault of the claim's tokens."""
WORST = 3
NAME = re.compile(r"\b[A-Z][\w'’-]*\w")
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Blend:
    """A logistic regression over `FIGURES`: evidence -> probability."""

    mean: tuple[float, ...]
    scale: tuple[float, ...]
    weight: tuple[float, ...]
    bias: float
    trained_on: tuple[str, ...]
    """Names of the labelled sets that it was fitted to."""

    def probability(self, values: Values) -> float:
        """That a careful reader would call the claim supported."""
        logit = self.bias + float((values - self.mean) / self.scale @ np.array(self.weight))
        return 1 / (1 + math.exp(-max(-30.0, min(30.0, logit))))


def read_blends(path: Path) -> dict[str, Blend]:
    """The regressions of a file: the one that ships under "", others under the set that they did not see.

    Raises:
        WeightsError: the file is missing or was made by another version of Footnote.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        count = len(held[""]["weight"])
        if count != len(FIGURES):
            raise ValueError(f"{count} weights where {len(FIGURES)} are expected")
        return _blends(held)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path} cannot be used ({error}); make the checker anew with `footnote finetune verifier`"
        ) from None


def _blends(held: Mapping[str, Any]) -> dict[str, Blend]:
    return {
        name: Blend(
            tuple(each["mean"]),
            tuple(each["scale"]),
            tuple(each["weight"]),
            each["bias"],
            tuple(each["trained_on"]),
        )
        for name, each in held.items()
    }


def figures(
    text: str,
    claim: Side,
    passage: str,
    segments: Sequence[Segment],
    windows: Sequence[Window],
    scored: Sequence[Scored],
) -> Values:
    """The evidence of one passage: `FIGURES`.

    Args:
        text: the claim.
        claim: its tokens.
        passage: what is read of the passage.
        segments: the passage's.
        windows: those of its windows that come nearest to the claim, best first; at least one.
        scored: what the model says of each.
    """
    best = strongest(scored)
    window = windows[best].side
    heavy = weights(claim)
    counted = heavy / heavy.sum()
    telling = heavy > 0.1 if (heavy > 0.1).any() else np.ones(len(heavy), dtype=bool)
    inside = (claim.last @ window.last.T).max(1)
    anywhere = np.max([similarity(claim, segment).max(1) for segment in segments], axis=0)
    stems = {stem for word, stem in zip(claim.keys, claim.stems, strict=True) if word not in STOP}
    faults = scored[best].faults
    found = [
        float(inside @ counted),
        float(anywhere @ counted),
        float(np.sort(inside[telling])[:WORST].mean()),
        float(np.sort(anywhere[telling])[:WORST].mean()),
        _share(stems, set(window.stems)),
        _share(stems, {stem for segment in segments for stem in segment.side.stems}),
        min(3, len(missing_numbers(text, passage))),
        min(3, len(missing_names(text, passage))),
        scored[best].logit,
        scored[0].logit,
        float(faults @ counted),
        float(faults[telling].max()),
    ]
    return np.array(found)


def strongest(scored: Sequence[Scored]) -> int:
    """The window that the model likes best; the nearest of several."""
    return max(range(len(scored)), key=lambda i: (scored[i].logit, -i))


def missing_numbers(claim: str, passage: str) -> list[str]:
    """The claim's numbers that the passage lacks, as they are compared. "One" counts as a word, 1 as a number."""
    there = set(words(passage))
    said = [(match.group(), key(match.group())) for match in WORD.finditer(claim)]
    numbers = dict.fromkeys(
        number for word, number in said if number[0].isdigit() and (word[0].isdigit() or number not in ("0", "1"))
    )
    return [number for number in numbers if number not in there]


def missing_names(claim: str, passage: str) -> list[str]:
    """Words in capitals, the first one left out, that stand nowhere in the passage."""
    low = passage.lower()
    found = [match.group() for match in NAME.finditer(claim) if match.start() and key(match.group()) not in STOP]
    return [name for name in dict.fromkeys(found) if name.lower() not in low and name.lower() not in NUMBERS]


def verbatim(claim: str, passage: str) -> bool:
    """True where the claim's words stand in the passage one behind the other."""
    return f" {' '.join(words(claim))} " in f" {' '.join(words(passage))} "


def _share(wanted: set[str], found: set[str]) -> float:
    return len(wanted & found) / len(wanted) if wanted else 0.5
