"""The whole recipe of the checker: model, regressions, and the directory that holds both.

Knows nothing about where labelled data comes from.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from rag.evidence import FIGURES, Blend
from rag.finetune.blend import evidence, fit
from rag.finetune.claims import Maker
from rag.finetune.records import Labelled, Material, Progress
from rag.scorer import OpenVINOScorer
from rag.settings import Settings
from rag.tokens import TokenEncoder
from rag.verify import BLENDS, MODEL, Verifier
from rag.weights import find_checker, find_embedder

ALTERED = "altered"
"""Name of the set of made claims."""
CLAIMS, ABOUT = 1200, 6
"""How many claims it has, and how many of them are about the same passage."""


def train_checker(
    settings: Settings,
    material: Material,
    labelled: Mapping[str, Sequence[Labelled]],
    unseen: Sequence[str],
    out: Path,
    pairs: int,
    seed: int,
    say: Callable[[Progress], None],
) -> dict[str, Any]:
    """Train a checker into a directory; with a model, the setting `checker_model` can name it.

    One regression is fitted to all labelled sets, and one to all but each, so that each can be measured on.

    Args:
        settings: where conversions are kept, and how many threads there are.
        material: what the model learns from.
        labelled: what the regressions are fitted to: name of the set -> its claims.
        unseen: documents that the model does not learn from; claims made of them are another set for the regressions.
        out: the directory.
        pairs: see `train`.
        seed: see `train`.
        say: see `train`.

    Returns:
        The directory, and how much was learned from.
    """
    from safetensors.torch import save_file

    from rag.finetune.checker import train

    out.mkdir(parents=True, exist_ok=True)
    encoder = TokenEncoder(settings.cache_dir, settings.cores)
    model = train(material, encoder, find_embedder("bundled").path, out, pairs, seed, say)
    save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, out / MODEL)
    scorer = OpenVINOScorer(find_checker(str(out)), settings.cache_dir, settings.cores)
    count = len(FIGURES)
    verifier = Verifier(encoder, scorer, Blend((0.0,) * count, (1.0,) * count, (0.0,) * count, 0.0, ()), "unweighted")
    sets = {name: evidence(verifier, claims) for name, claims in labelled.items()}
    sets[ALTERED] = evidence(verifier, altered(unseen, seed))
    without = {name: fit({other: each for other, each in sets.items() if other != name}) for name in labelled}
    blends = {"": fit(sets), **without}
    part = out / f"{BLENDS}.part"
    part.write_text(json.dumps({name: asdict(blend) for name, blend in blends.items()}, indent=1) + "\n")
    part.replace(out / BLENDS)
    return {
        "checker": str(out),
        "pairs": pairs,
        "seed": seed,
        "documents": len(material.documents),
        "labelled": sum(len(claims) for claims in labelled.values()),
    }


def altered(documents: Sequence[str], seed: int) -> list[Labelled]:
    """Claims made of documents: people's sets hold few of those that differ from the truth in a word."""
    rng = random.Random(f"{seed}-altered")  # noqa: S311 - no secret
    examples = islice(Maker(documents).examples(rng, ABOUT), CLAIMS // ABOUT)
    return [Labelled(made.claim, each.passage, made.label) for each in examples for made in each.claims]
