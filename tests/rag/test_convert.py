"""Conversions of language models: a repacked GGUF says what its source says, or what an adapter makes of it.

The fast tests are on a small random llama, the slow ones on the real model.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag.aside import aside
from rag.convert import repack, tokenizer_of_gguf
from rag.errors import WeightsError
from rag.llm import EXACT
from rag.settings import Settings
from rag.weights import Weights, converted, find_llm

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

DIM, HEADS, KV_HEADS, HEAD, WIDE, LAYERS, RANK = 64, 4, 2, 16, 96, 2, 4
"""Of the small model; of its adapters."""
SHAPES = {
    "attn_q": ("self_attn.q_proj", HEADS * HEAD, DIM),
    "attn_k": ("self_attn.k_proj", KV_HEADS * HEAD, DIM),
    "attn_v": ("self_attn.v_proj", KV_HEADS * HEAD, DIM),
    "attn_output": ("self_attn.o_proj", DIM, HEADS * HEAD),
    "ffn_gate": ("mlp.gate_proj", WIDE, DIM),
    "ffn_up": ("mlp.up_proj", WIDE, DIM),
    "ffn_down": ("mlp.down_proj", DIM, WIDE),
}
"""Matrix of a layer -> its name in transformers, rows and columns."""
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are small.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def small_llama(path: Path, kind: str = "F16", architecture: str = "llama", template: str = CHATML) -> Path:
    """A random model; it has a tokenizer's metadata but no words."""
    import gguf

    rng, type_ = np.random.default_rng(0), gguf.GGMLQuantizationType[kind]
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(DIM)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_chat_template(template)
    for layer in range(LAYERS):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", rng.standard_normal(DIM, dtype=np.float32))
        for name, (_, rows, columns) in SHAPES.items():
            values = gguf.quants.quantize(rng.standard_normal((rows, columns), dtype=np.float32), type_)
            writer.add_tensor(f"blk.{layer}.{name}.weight", values, raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


Factors = dict[str, np.ndarray]


def factors(layers: int = LAYERS) -> Factors:
    """Of a random adapter of the small model, as peft names and shapes them."""
    rng, found = np.random.default_rng(1), {}
    for layer in range(layers):
        for theirs, rows, columns in SHAPES.values():
            name = f"base_model.model.model.layers.{layer}.{theirs}.lora_"
            found[f"{name}A.weight"] = rng.standard_normal((RANK, columns)).astype(np.float16)
            found[f"{name}B.weight"] = rng.standard_normal((rows, RANK)).astype(np.float16)
    return found


def small_adapter(folder: Path, values: Factors | None = None, **changes: object) -> Path:
    from safetensors.numpy import save_file

    folder.mkdir()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK, "use_rslora": False, **changes}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(factors() if values is None else values, folder / "adapter_model.safetensors")
    return folder


def read(path: Path) -> dict[str, np.ndarray]:
    """Name -> values of every tensor."""
    import gguf

    return {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in gguf.GGUFReader(path).tensors}


def rotary(matrix: np.ndarray) -> np.ndarray:
    """Rows as llama.cpp has them: a head's number 2 i + j is number i of its half j."""
    heads = len(matrix) // HEAD
    rows = [head * HEAD + half * HEAD // 2 + i for head in range(heads) for i in range(HEAD // 2) for half in (0, 1)]
    return matrix[rows]


def within_q8(found: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Where values are as near as Q8_0 can bring them.

    A block of 32 shares a scale of max / 127, kept in half precision: half a step of rounding, and 127 steps whose
    scale is off by 2^-11.
    """
    blocks, error = values.reshape(-1, 32), np.abs(found - values).reshape(-1, 32)
    step = np.abs(blocks).max(axis=1, keepdims=True) / 127
    return error <= step * (0.5 + 127 * 2**-11) + 1e-7


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_1"])
@pytest.mark.parametrize(("architecture", "reordered"), [("llama", {"attn_q", "attn_k"}), ("qwen2", set())])
def test_an_adapter_is_merged_into_every_matrix(
    tmp_path: Path, kind: str, architecture: str, reordered: set[str]
) -> None:
    source = small_llama(tmp_path / "small.gguf", kind, architecture)
    repack(source, tmp_path / "merged.gguf", small_adapter(tmp_path / "adapter"))
    before, after, added = read(source), read(tmp_path / "merged.gguf"), factors()
    assert list(after) == list(before)
    for layer in range(LAYERS):
        assert np.array_equal(after[f"blk.{layer}.attn_norm.weight"], before[f"blk.{layer}.attn_norm.weight"])
        for name, (theirs, *_) in SHAPES.items():
            key, matrix = f"base_model.model.model.layers.{layer}.{theirs}.lora_", f"blk.{layer}.{name}.weight"
            delta = 2.0 * added[f"{key}B.weight"].astype(float) @ added[f"{key}A.weight"].astype(float)
            expected = before[matrix] + (rotary(delta) if name in reordered else delta)
            assert within_q8(after[matrix], expected).all(), matrix
            assert not np.allclose(after[matrix], before[matrix], atol=0.5)


def test_a_matrix_that_the_adapter_leaves_alone_is_repacked_as_ever(tmp_path: Path) -> None:
    source = small_llama(tmp_path / "small.gguf", "Q4_1")
    only = {key: value for key, value in factors().items() if ".0.self_attn.q_proj." in key}
    repack(source, tmp_path / "merged.gguf", small_adapter(tmp_path / "adapter", only))
    repack(source, tmp_path / "plain.gguf")
    merged, plain = read(tmp_path / "merged.gguf"), read(tmp_path / "plain.gguf")
    assert [name for name in plain if not np.array_equal(merged[name], plain[name])] == ["blk.0.attn_q.weight"]


def test_a_rank_stabilised_adapter_is_scaled_by_the_root_of_its_rank(tmp_path: Path) -> None:
    source = small_llama(tmp_path / "small.gguf")
    repack(source, tmp_path / "plain.gguf", small_adapter(tmp_path / "one", lora_alpha=4 * RANK))
    root = small_adapter(tmp_path / "two", lora_alpha=4 * RANK**0.5, use_rslora=True)
    repack(source, tmp_path / "root.gguf", root)
    assert (tmp_path / "root.gguf").read_bytes() == (tmp_path / "plain.gguf").read_bytes()


FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_"
MISFITS: dict[str, tuple[Factors, str]] = {
    "another module": (
        {"base_model.model.lm_head.lora_A.weight": np.ones((RANK, DIM))},
        "lm_head.lora_A.weight has no place",
    ),
    "a bias": ({"base_model.model.model.layers.0.self_attn.q_proj.bias": np.ones(DIM)}, "q_proj.bias has no place"),
    "another matrix of a layer": (
        {"base_model.model.model.layers.0.mlp.router.lora_A.weight": np.ones((RANK, DIM))},
        "mlp.router.lora_A.weight has no place",
    ),
    "more layers": (factors(LAYERS + 1), r"layers\.2\.mlp\.down_proj\.lora_A\.weight has no place"),
    "another width": (
        {f"{FIRST}A.weight": np.ones((RANK, DIM + 32)), f"{FIRST}B.weight": np.ones((DIM, RANK))},
        r"\(64, 4\) @ \(4, 96\) does not have the shape \(64, 64\) of blk\.0\.attn_q\.weight",
    ),
    "another height": (
        {f"{FIRST}A.weight": np.ones((RANK, DIM)), f"{FIRST}B.weight": np.ones((1, RANK))},
        r"\(1, 4\) @ \(4, 64\) does not have the shape",
    ),
    "two ranks": (
        {f"{FIRST}A.weight": np.ones((RANK, DIM)), f"{FIRST}B.weight": np.ones((DIM, 1))},
        r"\(64, 1\) @ \(4, 64\) does not have the shape",
    ),
    "half a pair": ({f"{FIRST}A.weight": np.ones((RANK, DIM))}, "only one factor of what it adds to blk.0.attn_q"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_what_has_no_place_in_the_gguf_is_named(tmp_path: Path, what: str) -> None:
    values, message = MISFITS[what]
    source, adapter = small_llama(tmp_path / "small.gguf"), small_adapter(tmp_path / "adapter", values)
    with pytest.raises(ValueError, match=message) as error:
        repack(source, tmp_path / "merged.gguf", adapter)
    assert str(adapter) in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "merged.gguf").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"peft_type": "PROMPT_TUNING"}, "is of kind PROMPT_TUNING: expected plain LORA"),
        ({"use_dora": True}, "LORA, use_dora: expected plain LORA"),
        ({"alpha_pattern": {"q_proj": 1}}, "LORA, alpha_pattern: expected plain LORA"),
    ],
)
def test_an_adapter_of_another_kind_is_not_merged(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    source, adapter = small_llama(tmp_path / "small.gguf"), small_adapter(tmp_path / "adapter", **changes)
    with pytest.raises(ValueError, match=message):
        repack(source, tmp_path / "merged.gguf", adapter)


def test_an_architecture_whose_rows_nobody_knows_takes_no_adapter(tmp_path: Path) -> None:
    source = small_llama(tmp_path / "small.gguf", architecture="gemma2")
    with pytest.raises(ValueError, match="architecture gemma2, expected llama, qwen2, qwen3"):
        repack(source, tmp_path / "merged.gguf", small_adapter(tmp_path / "adapter"))


HEADER = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'


@pytest.mark.parametrize(
    ("content", "found"), [(b"none", "header"), (len(HEADER).to_bytes(8, "little") + HEADER + bytes(4), "bfloat16")]
)
def test_an_adapter_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, found: str) -> None:
    source, adapter = small_llama(tmp_path / "small.gguf"), small_adapter(tmp_path / "adapter")
    (adapter / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=rf"adapter_model\.safetensors cannot be read \(.*{found}.*in fp16 or fp32"):
        repack(source, tmp_path / "merged.gguf", adapter)


SMALL = Weights("small", Path("/no/such/small.gguf"), "0123456789abcdef" * 4)


def test_conversions_with_different_adapters_have_different_places(tmp_path: Path) -> None:
    for digest in ("a" * 64, "b" * 64):
        place = tmp_path / f"llm-q8-1-small-{SMALL.sha256[:16]}-{digest[:12]}"
        place.mkdir()
        assert converted("llm-q8-1", SMALL, tmp_path, "", tmp_path / "adapter", digest) == place


def test_the_child_is_given_the_adapter_and_says_what_does_not_fit(tmp_path: Path) -> None:
    source = small_llama(tmp_path / "small.gguf")
    adapter = small_adapter(tmp_path / "adapter", MISFITS["another module"][0])
    with pytest.raises(WeightsError, match=r"converting small \(llm-q8-1\) failed: ValueError: .*lm_head"):
        converted("llm-q8-1", Weights("small", source, "0" * 64), tmp_path / "cache", "", adapter, "1" * 64)
    assert list((tmp_path / "cache").iterdir()) == []


def test_only_recipes_of_language_models_take_an_adapter(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="takes 2 positional arguments but 3 were given"):
        converted("checker-1", SMALL, tmp_path, "", tmp_path / "adapter", "1" * 64)


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


@pytest.mark.slow
def test_the_repacked_gguf_has_the_same_metadata_and_tensors(source: Path, q8: Path) -> None:
    import gguf

    old, new = gguf.GGUFReader(source), gguf.GGUFReader(q8)
    assert fields(new) == fields(old)
    assert [(t.name, t.shape.tolist()) for t in new.tensors] == [(t.name, t.shape.tolist()) for t in old.tensors]
    kinds = {tensor.tensor_type for tensor in new.tensors}
    assert kinds == {gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.F32}
    assert new.fields["general.file_type"].contents() == gguf.LlamaFileType.MOSTLY_Q8_0


@pytest.mark.slow
def test_values_are_the_sources_within_the_error_of_q8_0(source: Path, q8: Path) -> None:
    import gguf

    old, new = gguf.GGUFReader(source), gguf.GGUFReader(q8)
    for before, after in zip(old.tensors, new.tensors, strict=True):
        values = gguf.quants.dequantize(before.data, before.tensor_type)
        found = gguf.quants.dequantize(after.data, after.tensor_type)
        if after.tensor_type == gguf.GGMLQuantizationType.F32:
            assert np.array_equal(found, values), before.name
            continue
        assert within_q8(found, values).all(), before.name


@pytest.mark.slow
def test_repacking_twice_gives_the_same_bytes(source: Path, q8: Path, tmp_path: Path) -> None:
    repack(source, tmp_path / "again.gguf")
    assert (tmp_path / "again.gguf").read_bytes() == q8.read_bytes()


@pytest.mark.slow
def test_the_conversion_holds_the_openvino_model_too(q8: Path) -> None:
    assert (q8.parent / "openvino_model.xml").is_file()
    assert (q8.parent / "openvino_model.bin").stat().st_size > 10**8


@pytest.mark.slow
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


@pytest.mark.slow
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
        pipeline = aside(partial(openvino_genai.LLMPipeline, str(model), "CPU", **EXACT))
        config = pipeline.get_generation_config()
        config.max_new_tokens, config.do_sample, config.apply_chat_template = 32, False, False
        written.append([pipeline.generate(prompt, config) for prompt in prompts])
    assert written[0] == written[1]
    assert all(written[0])
