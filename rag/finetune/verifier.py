"""The whole recipe of the checker: model, regressions, and the directory that holds both.

Knows nothing about where labelled data comes from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rag.evidence import FIGURES, PLAIN, Blend
from rag.finetune.blend import evidence, fit
from rag.finetune.records import Labelled, Material, Progress
from rag.scorer import OpenVINOScorer
from rag.settings import Settings
from rag.tokens import TokenEncoder
from rag.verify import BLENDS, MODEL, Verifier
from rag.weights import find_checker, find_embedder


def train_checker(
    settings: Settings,
    material: Material,
    labelled: Mapping[str, Sequence[Labelled]],
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
        out: the directory.
        pairs: see `train`; 0 trains no model: the regressions then weigh plain evidence alone.
        seed: see `train`.
        say: see `train`.

    Returns:
        The directory, and how much was learned from.
    """
    from safetensors.torch import save_file

    from rag.finetune.checker import train

    out.mkdir(parents=True, exist_ok=True)
    encoder = TokenEncoder(settings.cache_dir, settings.cores)
    scorer = None
    if pairs:
        model = train(material, encoder, find_embedder("bundled").path, out, pairs, seed, say)
        save_file({name: value.half().contiguous() for name, value in model.state_dict().items()}, out / MODEL)
        scorer = OpenVINOScorer(find_checker(str(out)), settings.cache_dir, settings.cores)
    count = len(FIGURES if scorer else PLAIN)
    unweighted = Blend((0.0,) * count, (1.0,) * count, (0.0,) * count, 0.0, ())
    verifier = Verifier(encoder, scorer, unweighted, "unweighted")
    sets = {name: evidence(verifier, claims) for name, claims in labelled.items()}
    without = {name: fit({other: each for other, each in sets.items() if other != name}) for name in sets}
    blends = {"": fit(sets), **(without if len(sets) > 1 else {})}
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
