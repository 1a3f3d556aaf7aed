"""Conversions of the real language model: the repacked GGUF says what its source says, and tokens are the same."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag.aside import aside
from rag.convert import repack, tokenizer_of_gguf
from rag.settings import Settings
from rag.weights import converted, find_llm

TEXTS = [
    "The whale dived under the ship.",
    " leading and trailing  spaces ",
    "tabs\tand\nnew\n\nlines\r\n",
    "Größe, naïve café, Ærøskøbing, Łódź",
    "你好，世界。こんにちは。 안녕하세요",
    "здравствуйте مرحبا שלום हिन्दी ไทย",
    "emoji 🎉👩‍👩‍👧 and e\u0301 combining \u200b zero \u202e width",
    "3.14159 2,000,000 1912-04-15 007 1e-9 12345678901234567890",
    "def f(x: int) -> int:\n    return {'a': [x ** 2, None]}  # squares\n",
    "https://example.org/a_b?c=d&e=%20 <b>html</b> `code` $x^2$",
    "don't I'm we'll they've SHOUTING CamelCase snake_case",
    "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
    "<|endoftext|><|im_end|>",
    "",
]

pytestmark = pytest.mark.slow


@pytest.fixture
def source() -> Path:
    return find_llm("bundled").path


@pytest.fixture
def q8(real_settings: Settings) -> Path:
    """The Q8_0 conversion in the cache, as the product makes it."""
    return converted("llm-q8-1", find_llm("bundled"), real_settings.cache_dir, "") / "model.gguf"


def fields(reader: Any) -> dict[str, object]:
    """A GGUF's metadata but for what the file itself and its quantisation say of themselves."""
    return {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.") and name not in ("general.file_type", "general.quantization_version")
    }


def test_the_repacked_gguf_has_the_same_metadata_and_tensors(source: Path, q8: Path) -> None:
    import gguf

    old, new = gguf.GGUFReader(source), gguf.GGUFReader(q8)
    assert fields(new) == fields(old)
    assert [(t.name, t.shape.tolist()) for t in new.tensors] == [(t.name, t.shape.tolist()) for t in old.tensors]
    kinds = {tensor.tensor_type for tensor in new.tensors}
    assert kinds == {gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F32}
    assert new.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q8_0


def test_values_are_the_sources_within_the_error_of_q8_0(source: Path, q8: Path) -> None:
    import gguf

    old, new = gguf.GGUFReader(source), gguf.GGUFReader(q8)
    for before, after in zip(old.tensors, new.tensors, strict=True):
        values = gguf.quants.dequantize(before.data, before.tensor_type)
        found = gguf.quants.dequantize(after.data, after.tensor_type)
        if after.tensor_type == gguf.GGMLQuantizationType.F32:
            assert np.array_equal(found, values), before.name
            continue
        # A block of 32 shares a scale of max / 127, kept in half precision: half a step of rounding, and 127 steps
        # whose scale is off by 2^-11.
        blocks, error = values.reshape(-1, 32), np.abs(found - values).reshape(-1, 32)
        step = np.abs(blocks).max(axis=1, keepdims=True) / 127
        assert (error <= step * (0.5 + 127 * 2**-11) + 1e-7).all(), before.name


def test_repacking_twice_gives_the_same_bytes(source: Path, q8: Path, tmp_path: Path) -> None:
    repack(source, tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == q8.read_bytes()


def test_the_conversion_holds_the_openvino_model_too(q8: Path) -> None:
    assert (q8.parent / "openvino_model.xml").is_file()
    assert (q8.parent / "openvino_model.bin").stat().st_size > 10**8


@pytest.mark.parametrize("text", TEXTS)
def test_our_tokenizer_of_a_gguf_gives_the_ids_that_openvino_gives(
    source: Path, q8: Path, text: str, tokenizers: dict[str, Any]
) -> None:
    import openvino_genai

    if not tokenizers:
        tokenizers["openvino"] = aside(lambda: openvino_genai.Tokenizer(str(q8.parent)))
        tokenizers["ours"] = tokenizer_of_gguf(source)
    theirs = tokenizers["openvino"].encode(text, add_special_tokens=False).input_ids.data
    ids = tokenizers["ours"].encode(text, add_special_tokens=False)
    assert ids == np.asarray(theirs).reshape(-1).tolist()
    assert tokenizers["ours"].decode(ids) == text


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    """Both tokenizers, made by the first test."""
    return {}


def test_the_chat_template_of_a_gguf_is_the_one_that_openvino_applies(source: Path, q8: Path) -> None:
    import openvino_genai

    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "And?"},
    ]
    ours = tokenizer_of_gguf(source).apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
    tokenizer = aside(lambda: openvino_genai.Tokenizer(str(q8.parent)))
    theirs = tokenizer.apply_chat_template(turns, add_generation_prompt=True)
    assert ours == theirs


@pytest.mark.slow
def test_the_rearranged_model_writes_what_genais_own_does(converted_cache: Path, tmp_path: Path) -> None:
    """Joining and signing the weights changes no word of what the model writes."""
    import openvino_genai

    ours = converted("llm-q8-1", find_llm("bundled"), converted_cache, "converting")
    (tmp_path / "model.gguf").symlink_to(ours / "model.gguf")
    prompts = ["The capital of France is", "def fibonacci(n):", "Größe, 你好 and 1,234.5:"]
    written = []
    for model in (tmp_path / "model.gguf", ours):
        pipeline = aside(partial(openvino_genai.LLMPipeline, str(model), "CPU"))
        config = pipeline.get_generation_config()
        config.max_new_tokens, config.do_sample, config.apply_chat_template = 32, False, False
        written.append([pipeline.generate(prompt, config) for prompt in prompts])
    assert written[0] == written[1]
    assert all(written[0])
