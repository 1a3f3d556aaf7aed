"""A LoRA adapter, as peft writes it -> what it adds to the matrices of a GGUF file. Needs numpy alone.

Knows nothing about how the matrices are stored, or about how the adapter came to be.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rag.adapters import CONFIG, WEIGHTS

Matrix = npt.NDArray[np.float32]

FACTOR = re.compile(r"base_model\.model\.model\.layers\.(\d+)\.(\w+\.\w+)\.lora_([AB])\.weight")
"""How peft names a factor of what it adds to a matrix."""
MATRICES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""A layer's matrix in transformers -> the same one in a GGUF."""
REORDERED: dict[str, dict[str, str]] = {
    "llama": {"attn_q": "head_count", "attn_k": "head_count_kv"},
    "qwen2": {},
    "qwen3": {},
}
"""Architecture -> the matrices whose rows llama.cpp reorders, and the field that says how many heads they have."""
NOT_PLAIN = ("alpha_pattern", "alora_invocation_tokens", "fan_in_fan_out", "use_dora")
"""Options of an adapter that make it add something else than B @ A times one number."""


class Addition(NamedTuple):
    """What is added to a matrix, as two factors: small, where their product is as large as the matrix."""

    b: Matrix
    """Shape (rows, rank), in the GGUF's order of rows, and scaled."""
    a: Matrix
    """Shape (rank, columns)."""

    def product(self) -> Matrix:
        """What is added, shape (rows, columns)."""
        found: Matrix = self.b @ self.a
        return found


def additions(adapter: Path, reader: Any) -> dict[str, Addition]:
    """Name of a tensor -> what the adapter adds to it.

    Args:
        adapter: its directory.
        reader: the `gguf.GGUFReader` of the file that it is merged into.

    Raises:
        ValueError: something of the adapter has no place in the GGUF, or it is no plain LoRA adapter.
    """
    shapes = {tensor.name: tuple(map(int, tensor.shape[::-1])) for tensor in reader.tensors}
    config, heads = _config(adapter), _heads(adapter, reader)
    found = {}
    for name, pair in _pairs(adapter, shapes).items():
        if set(pair) != {"A", "B"}:
            raise _misfit(adapter, f"it has only one factor of what it adds to {name}")
        b, a = pair["B"], pair["A"]
        if (len(b), *a.shape[1:]) != shapes[name] or b.shape[1:] != a.shape[:1]:
            raise _misfit(adapter, f"{b.shape} @ {a.shape} does not have the shape {shapes[name]} of {name}")
        scale = config["lora_alpha"] / (len(a) ** 0.5 if config.get("use_rslora") else len(a))
        found[name] = Addition(_reordered(b, heads.get(name.split(".")[2])) * np.float32(scale), a)
    return found


def _pairs(adapter: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, dict[str, Matrix]]:
    """Name of a tensor -> its factors, "A" and "B"."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        loaded = load_file(adapter / WEIGHTS)
    except (SafetensorError, TypeError) as error:
        # numpy has no bfloat16.
        raise ValueError(f"{adapter / WEIGHTS} cannot be read ({error}); save it anew, in fp16 or fp32") from None
    pairs: dict[str, dict[str, Matrix]] = {}
    for key, value in sorted(loaded.items()):
        match = FACTOR.fullmatch(key)
        name = f"blk.{match[1]}.{MATRICES.get(match[2])}.weight" if match else ""
        if match is None or name not in shapes:
            raise _misfit(adapter, f"{key} has no place in the GGUF file")
        pairs.setdefault(name, {})[match[3]] = value.astype(np.float32)
    return pairs


def _config(adapter: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    odd = [name for name in NOT_PLAIN if config.get(name)]
    if config.get("peft_type") != "LORA" or odd:
        raise ValueError(
            f"the adapter {adapter} is of kind {config.get('peft_type')}{''.join(f', {name}' for name in odd)}: "
            "expected plain LORA; use it with peft"
        )
    return config


def _heads(adapter: Path, reader: Any) -> dict[str, int]:
    """Matrix whose rows are reordered -> how many heads it has."""
    architecture = reader.fields["general.architecture"].contents()
    if architecture not in REORDERED:
        raise _misfit(adapter, f"the GGUF file is of architecture {architecture}, expected {', '.join(REORDERED)}")
    every = f"{architecture}.attention.head_count"
    # A model whose queries share no keys need not say how many heads its keys have.
    return {
        name: int(reader.fields.get(f"{architecture}.attention.{field}", reader.fields[every]).contents())
        for name, field in REORDERED[architecture].items()
    }


def _reordered(rows: Matrix, heads: int | None) -> Matrix:
    """Rows as llama.cpp's convert_hf_to_gguf.py orders them: of each head, its two halves alternate."""
    return rows.reshape(heads, 2, -1, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape) if heads else rows


def _misfit(adapter: Path, found: str) -> ValueError:
    return ValueError(f"the adapter {adapter} does not fit the model: {found}; take one that was tuned on this model")
