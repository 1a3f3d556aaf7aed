"""Several LoRA adapters of one model -> one: the mean of what they change, at the rank of the first.

Models that were tuned from the same weights in different ways are often better averaged than each by itself (Wortsman
et al. 2022, Model soups). A mean of low-rank changes has the sum of their ranks; what is kept of it is the best
approximation (Eckart and Young 1936). Knows nothing about how the adapters were trained.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from rag.adapters import CONFIG, NOTE, WEIGHTS, Adapter
from rag.errors import FinetuneError
from rag.finetune.runs import write
from rag.weights import sha256_of

Matrix = npt.NDArray[np.float32]
Tensors = dict[str, npt.NDArray[Any]]
DOWN, UP = "lora_A.weight", "lora_B.weight"
"""Ends of the names of a change's two factors: from the layer's input, shape (rank, in); to its output, (out, rank)."""


def average(adapters: Sequence[Adapter], folder: Path, version: str) -> dict[str, Any]:
    """Write the mean of adapters into a folder that is not there yet; nothing is left of it where that fails.

    Args:
        adapters: two or more, LoRA, of the same weights and layers.
        folder: becomes the directory of a PEFT adapter.
        version: what it calls itself.

    Returns:
        `sha256` of its weights, `averaged` (the version and hash of each adapter), `lost` (share of the mean's squared
        entries that the rank leaves out), and its `note`.

    Raises:
        FinetuneError: they do not go together, or the folder cannot be written.
    """
    notes = [_note(each) for each in adapters]
    _check(adapters, notes)
    config = json.loads((adapters[0].path / CONFIG).read_text(encoding="utf-8"))
    tensors, lost = _mean([_changes(each) for each in adapters], config)
    averaged = [{"version": each.version, "sha256": each.sha256} for each in adapters]
    note = {
        **{name: notes[0][name] for name in ("base", "prompt")},
        "version": version,
        "method": "lora",
        "averaged": averaged,
        "data": _card([note["data"] for note in notes]),
    }
    return {**_save(tensors, config, note, folder), "averaged": averaged, "lost": round(lost, 4)}


def _note(adapter: Adapter) -> dict[str, Any]:
    path = adapter.path / NOTE
    if not path.is_file():
        raise FinetuneError(f"{adapter.path} has no {NOTE}, so nobody knows what it learned from; train it anew")
    note: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return note


def _check(adapters: Sequence[Adapter], notes: Sequence[Mapping[str, Any]]) -> None:
    if len({each.sha256 for each in adapters}) < 2 or len({each.sha256 for each in adapters}) < len(adapters):
        raise FinetuneError("an average takes two different adapters or more; name each once")
    for adapter, note in zip(adapters, notes, strict=True):
        if not adapter.merges:
            raise FinetuneError(f"{adapter.version} is {adapter.kind}; only LoRA adapters can be averaged")
        for name in ("base", "prompt"):
            if note[name] != notes[0][name]:
                raise FinetuneError(f"{adapter.version} was trained on another {name} than {adapters[0].version}")


def _changes(adapter: Adapter) -> dict[str, tuple[Matrix, Matrix]]:
    """The two factors of what the adapter adds to each layer, scaled."""
    from safetensors.numpy import load_file

    config = json.loads((adapter.path / CONFIG).read_text(encoding="utf-8"))
    scale, tensors = config["lora_alpha"] / config["r"], load_file(adapter.path / WEIGHTS)
    layers = [name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)]
    return {
        layer: (tensors[layer + UP].astype(np.float32) * scale, tensors[layer + DOWN].astype(np.float32))
        for layer in layers
    }


def _mean(changes: Sequence[Mapping[str, tuple[Matrix, Matrix]]], config: Mapping[str, Any]) -> tuple[Tensors, float]:
    if any(each.keys() != changes[0].keys() for each in changes):
        raise FinetuneError("the adapters change different layers; train them with the same method")
    rank, scale = int(config["r"]), config["lora_alpha"] / config["r"]
    tensors, lost, whole = Tensors(), 0.0, 0.0
    for layer in changes[0]:
        ups = np.concatenate([each[layer][0] / len(changes) for each in changes], axis=1)
        downs = np.concatenate([each[layer][1] for each in changes], axis=0)
        # The product is never made: the singular values are those of a product of two small matrices.
        left, inner = np.linalg.qr(ups)
        right, outer = np.linalg.qr(downs.T)
        u, values, v = np.linalg.svd(inner @ outer.T)
        root = np.sqrt(values[:rank] / scale)
        tensors[layer + UP] = np.ascontiguousarray((left @ u[:, :rank]) * root).astype(np.float16)
        tensors[layer + DOWN] = np.ascontiguousarray((root[:, None] * v[:rank]) @ right.T).astype(np.float16)
        lost, whole = lost + float((values[rank:] ** 2).sum()), whole + float((values**2).sum())
    return tensors, lost / whole if whole else 0.0


def _card(cards: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What they learned from: held out is what none of them has seen."""
    sources: dict[str, dict[str, Any]] = {}
    for card in cards:
        for source in card.get("sources", ()):
            there = sources.setdefault(source["name"], dict(source))
            seen = frozenset(source.get("held_out", ()))
            there["held_out"] = [document for document in there.get("held_out", ()) if document in seen]
    return {"sources": list(sources.values()), "of": [dict(card) for card in cards]}


def _save(tensors: Tensors, config: Mapping[str, Any], note: dict[str, Any], folder: Path) -> dict[str, Any]:
    from safetensors.numpy import save_file

    part = folder.with_name(f".{folder.name}.part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        save_file(tensors, part / WEIGHTS, metadata={"format": "pt"})
        note["sha256"] = sha256_of(part / WEIGHTS)
        write(part / CONFIG, config)
        write(part / NOTE, note)
        part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise FinetuneError(
            f"{folder} cannot be written: {error.strerror}; choose another --run, or free some disk"
        ) from error
    return {"sha256": note["sha256"], "note": note}
