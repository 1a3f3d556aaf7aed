"""The mean of LoRA adapters: that it is one, and that what does not go together is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rag.adapters import CONFIG, NOTE, WEIGHTS, Adapter, read_adapter
from rag.errors import FinetuneError
from rag.finetune.average import average

LAYERS = {"model.a.q_proj": (24, 12), "model.a.down_proj": (12, 40)}
BASE = {"name": "m", "sha256": "b" * 64}


def made(
    folder: Path, seed: int, rank: int = 4, alpha: int = 8, held_out: list[str] | None = None, **note: Any
) -> Adapter:
    folder.mkdir()
    random = np.random.default_rng(seed)
    tensors = {}
    for layer, (out, into) in LAYERS.items():
        tensors[f"{layer}.lora_A.weight"] = random.normal(size=(rank, into)).astype(np.float16)
        tensors[f"{layer}.lora_B.weight"] = random.normal(size=(out, rank)).astype(np.float16)
    save_file(tensors, folder / WEIGHTS)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha}
    (folder / CONFIG).write_text(json.dumps(config))
    sources = [{"name": "s", "kind": "set", "held_out": held_out or []}]
    told = {"base": BASE, "prompt": 1, "version": folder.name, "data": {"sources": sources}, **note}
    (folder / NOTE).write_text(json.dumps(told))
    return read_adapter(folder)


def change(adapter: Adapter, layer: str) -> np.ndarray:
    """What an adapter adds to a layer's weights."""
    config, tensors = json.loads((adapter.path / CONFIG).read_text()), load_file(adapter.path / WEIGHTS)
    up, down = (tensors[f"{layer}.lora_{part}.weight"].astype(np.float32) for part in "BA")
    return config["lora_alpha"] / config["r"] * up @ down


def test_an_adapter_of_twice_the_rank_loses_nothing(tmp_path: Path) -> None:
    one, other = made(tmp_path / "one", 1, rank=8, alpha=8), made(tmp_path / "other", 2, rank=4, alpha=16)
    # The first one's rank counts; half of its directions are the other one's.
    tensors = load_file(one.path / WEIGHTS)
    for name in tensors:
        rows = tensors[name].T if name.endswith("lora_B.weight") else tensors[name]
        rows[4:] = 0
    save_file(tensors, one.path / WEIGHTS)
    one = read_adapter(one.path)
    done = average([one, other], tmp_path / "mean", "mean")
    mean = read_adapter(tmp_path / "mean")
    assert done["lost"] == 0
    assert mean.sha256 == done["sha256"]
    for layer in LAYERS:
        expected = (change(one, layer) + change(other, layer)) / 2
        np.testing.assert_allclose(change(mean, layer), expected, atol=0.02 * np.abs(expected).max())


@pytest.mark.parametrize("count", [2, 3])
def test_what_is_left_out_is_told_and_is_the_least_there_is(tmp_path: Path, count: int) -> None:
    adapters = [made(tmp_path / str(seed), seed) for seed in range(count)]
    done = average(adapters, tmp_path / "mean", "mean")
    mean, lost, whole = read_adapter(tmp_path / "mean"), 0.0, 0.0
    for layer in LAYERS:
        expected = sum(change(each, layer) for each in adapters) / count
        values = np.linalg.svd(expected, compute_uv=False)
        error = float(((expected - change(mean, layer)) ** 2).sum())
        assert error == pytest.approx(float((values[4:] ** 2).sum()), rel=0.02)
        lost, whole = lost + error, whole + float((expected**2).sum())
    assert done["lost"] == pytest.approx(lost / whole, rel=0.02)
    assert 0 < done["lost"] < 1


def test_held_out_is_what_none_of_them_has_seen(tmp_path: Path) -> None:
    adapters = [made(tmp_path / "a", 1, held_out=["x", "y"]), made(tmp_path / "b", 2, held_out=["y", "z"])]
    note = average(adapters, tmp_path / "mean", "mean")["note"]
    assert note["data"]["sources"][0]["held_out"] == ["y"]
    assert [each["version"] for each in note["averaged"]] == ["a", "b"]
    assert json.loads((tmp_path / "mean" / NOTE).read_text()) == note


def test_what_does_not_go_together_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    one = made(tmp_path / "one", 1)
    prompt = made(tmp_path / "prompt", 2, prompt=2)
    base = made(tmp_path / "base", 3, base={"name": "n", "sha256": "c" * 64})
    unknown = made(tmp_path / "unknown", 4)
    (unknown.path / NOTE).unlink()
    other = made(tmp_path / "layers", 5)
    tensors = load_file(other.path / WEIGHTS)
    save_file({name: value for name, value in tensors.items() if "q_proj" in name}, other.path / WEIGHTS)
    refused = {
        "two different adapters": [one],
        "name each once": [one, one],
        "another prompt": [one, prompt],
        "another base": [one, base],
        "nobody knows what it learned from": [one, unknown],
        "different layers": [one, read_adapter(other.path)],
    }
    for why, adapters in refused.items():
        with pytest.raises(FinetuneError, match=why):
            average(adapters, tmp_path / "mean", "mean")
    assert not (tmp_path / "mean").exists()
    assert not list(tmp_path.glob(".*"))
