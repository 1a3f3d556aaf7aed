"""Turns weights from the form they come in into the form that runs fast here. Run as a child process by `rag.weights`.

    python -m rag.convert RECIPE SOURCE TARGET [ADAPTER]

Kept out of the serving process because it needs torch and nncf, which a server does not. Knows nothing about
the cache or about what is done with the result.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

CALIBRATION_TEXTS = 64
Q8_CHAIN = ("Convert", "Reshape", "Multiply", "Subtract", "Convert")
"""How GenAI's OpenVINO model turns stored Q8_0 weights into a matrix, seen from the multiplication."""
Q8_ZERO = 128


def embedder_fp32(source: Path, target: Path) -> None:
    """An encoder in the sentence-transformers layout -> OpenVINO, pooled and normalised in the graph."""
    import openvino as ov

    ov.save_model(_traced(source), target / "model.xml", compress_to_fp16=False)


def embedder_int8(source: Path, target: Path) -> None:
    """The same, quantised to int8 with nncf, calibrated on the texts of `rag/calibration.txt`."""
    import nncf
    import openvino as ov

    quantised = nncf.quantize(
        _traced(source),
        nncf.Dataset(list(_calibration_inputs(source))),
        subset_size=CALIBRATION_TEXTS,
        model_type=nncf.ModelType.TRANSFORMER,
        preset=nncf.QuantizationPreset.MIXED,
    )
    ov.save_model(quantised, target / "model.xml", compress_to_fp16=False)


def _traced(source: Path) -> Any:
    """OpenVINO model: input_ids, attention_mask (and token_type_ids where the model has them) -> (batch, dim)."""
    import openvino as ov
    import torch
    from transformers import AutoModel

    class Pooled(torch.nn.Module):
        def __init__(self, encoder: torch.nn.Module, cls: bool) -> None:
            super().__init__()
            self.encoder, self.cls = encoder, cls

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            pooled = hidden[:, 0] if self.cls else (hidden * mask).sum(1) / mask.sum(1)
            return torch.nn.functional.normalize(pooled, dim=-1)

    encoder = AutoModel.from_pretrained(source, local_files_only=True, attn_implementation="eager").eval()
    example = {name: torch.ones((2, 8), dtype=torch.int64) for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        model = ov.convert_model(Pooled(encoder, pooling(source) == "cls"), example_input=example)
    for port, name in zip(model.inputs, example, strict=True):
        port.get_tensor().set_names({name})
    model.reshape({name: [-1, -1] for name in example})
    return model


def pooling(source: Path) -> str:
    """`mean` or `cls`, as the model's own configuration says; mean where it says nothing."""
    config = source / "1_Pooling" / "config.json"
    modes = json.loads(config.read_text()) if config.exists() else {}
    named = {
        name.removeprefix("pooling_mode_") for name, on in modes.items() if name.startswith("pooling_mode_") and on
    }
    # Newer configurations have one entry, `pooling_mode`: a name, or a list of names whose vectors are joined.
    mode = modes.get("pooling_mode")
    named |= {mode} if isinstance(mode, str) else set(mode or ())
    found = {"cls" if name == "cls_token" else "mean" if name == "mean_tokens" else name for name in named} or {"mean"}
    if len(found) > 1 or not found <= {"mean", "cls"}:
        raise ValueError(
            f"pooling {', '.join(sorted(found))} of {source} is not supported: expected mean or cls; "
            "use sentence-transformers"
        )
    return found.pop()


def _calibration_inputs(source: Path) -> Iterator[dict[str, Any]]:
    import numpy as np
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    lines = files("rag").joinpath("calibration.txt").read_text(encoding="utf-8").splitlines()
    for text in [line for line in lines if line and not line.startswith("#")][:CALIBRATION_TEXTS]:
        ids = np.array([tokenizer.encode(text).ids], dtype=np.int64)
        yield {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def checker(source: Path, target: Path) -> None:
    """The checker's weights -> OpenVINO."""
    import openvino as ov
    import torch
    from safetensors.torch import load_file

    from rag.align import TOKEN_FEATURES
    from rag.joint import Joint
    from rag.weights import find_embedder

    model = Joint(find_embedder("bundled").path).eval()
    model.load_state_dict({name: value.float() for name, value in load_file(source / "model.safetensors").items()})
    dim, pairs, tokens = model.segment.embedding_dim, 2, 8
    example = {
        "states": torch.zeros((pairs, tokens, dim)),
        "segment": torch.zeros((pairs, tokens), dtype=torch.int64),
        "flag": torch.zeros((pairs, tokens), dtype=torch.int64),
        "mask": torch.ones((pairs, tokens)),
        "claim": torch.ones((pairs, tokens)),
        "features": torch.zeros((pairs, tokens, TOKEN_FEATURES)),
    }
    with torch.no_grad():
        converted = ov.convert_model(model, example_input=example)
    for port, name in zip(converted.inputs, example, strict=True):
        port.get_tensor().set_names({name})
    converted.reshape({name: [-1, -1, *value.shape[2:]] for name, value in example.items()})
    ov.save_model(converted, target / "model.xml", compress_to_fp16=False)


def llm_q8(source: Path, target: Path, adapter: Path | None = None) -> None:
    """A GGUF of any quantisation -> Q8_0 GGUF, and beside it the OpenVINO model that GenAI makes of it, rearranged.

    With an adapter, it is merged. OpenVINO GenAI mis-reads Q4_1 weights; Q8_0 is read right.
    """
    import openvino as ov
    import openvino_genai

    repack(source, target / "model.gguf", adapter)
    made = target / "made"
    made.mkdir()
    (made / "model.gguf").symlink_to(target / "model.gguf")
    openvino_genai.LLMPipeline(str(made / "model.gguf"), "CPU", enable_save_ov_model=True)
    ov.save_model(joined(made / "openvino_model.xml"), target / "openvino_model.xml", compress_to_fp16=False)
    for file in made.glob("openvino_*tokenizer.*"):
        file.rename(target / file.name)
    shutil.rmtree(made)


def joined(path: Path) -> Any:
    """The model with fewer, larger multiplications that give the same numbers, bit for bit.

    GenAI writes Q8_0 weights as unsigned with a zero point of 128, and a matrix each for query, key and value, and for
    gate and up. Here weights are signed, and matrices that are multiplied with the same input are one.
    """
    import numpy as np
    import openvino as ov
    from openvino import opset13 as op

    model = ov.Core().read_model(path)
    siblings: dict[tuple[str, int], list[tuple[Any, Any, Any]]] = {}
    for node in model.get_ordered_ops():
        if node.get_type_name() == "MatMul" and (weights := _q8_weights(node)) is not None:
            given = node.input_value(0)
            siblings.setdefault((given.get_node().get_friendly_name(), given.get_index()), []).append((node, *weights))
    for matrices in siblings.values():
        values = np.concatenate([values for _, values, _ in matrices])
        scales = np.concatenate([scales for _, _, scales in matrices])
        rows, groups, size = values.shape
        weights = op.multiply(op.convert(op.constant(values), "f16"), op.constant(scales))
        flat = op.reshape(weights, op.constant(np.array([rows, groups * size])), False)
        product = op.matmul(matrices[0][0].input_value(0), op.convert(flat, "f32"), False, True)
        lengths = op.constant(np.array([values.shape[0] for _, values, _ in matrices]))
        parts = op.variadic_split(product, op.constant(np.int64(-1)), lengths) if len(matrices) > 1 else product
        for i, (node, _, _) in enumerate(matrices):
            node.output(0).replace(parts.output(i))
    model.validate_nodes_and_infer_types()
    return model


def _q8_weights(matmul: Any) -> tuple[Any, Any] | None:
    """Signed values (rows, groups, 32) and scales (rows, groups, 1) of a multiplication with Q8_0 weights."""
    import numpy as np

    node, beside = matmul.input_value(1).get_node(), {}
    for name in Q8_CHAIN:
        if node.get_type_name() != name:
            return None
        if node.get_input_size() > 1:
            beside[name] = node.input_value(1).get_node()
        node = node.input_value(0).get_node()
    zero = beside["Subtract"].input_value(0).get_node()
    if node.get_type_name() != "Constant" or not (zero.data == Q8_ZERO).all():
        return None
    return (node.data.astype(np.int16) - Q8_ZERO).astype(np.int8), beside["Multiply"].data


def repack(source: Path, target: Path, adapter: Path | None = None) -> None:
    """Copy a GGUF with its metadata, every quantised matrix turned to Q8_0; vectors stay in fp32.

    Args:
        source: the GGUF.
        target: the file to write.
        adapter: directory of a PEFT LoRA adapter that is merged into the matrices on the way.

    Raises:
        ValueError: something of the adapter has no place in the GGUF.
    """
    import gguf

    from rag.lora import additions

    reader = gguf.GGUFReader(source)
    added = additions(adapter, reader) if adapter else {}
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        writer.add_key_value(
            name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        )
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    q8 = gguf.GGMLQuantizationType.Q8_0
    for tensor in reader.tensors:
        its = added.get(tensor.name)
        if its is None and tensor.tensor_type in (q8, gguf.GGMLQuantizationType.F32):
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        else:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            values = values + its.product() if its else values
            writer.add_tensor(tensor.name, gguf.quants.quantize(values, q8), raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llm_safetensors(source: Path, target: Path, adapter: Path | None = None) -> None:
    """A GGUF -> safetensors in fp32 with a right tokenizer, for transformers (which reads a GGUF in 20 s)."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name, dtype=torch.float32)
    # The weights are plain fp32 by now, but the model still counts as a GGUF one, which transformers refuses to save.
    model.hf_quantizer = None
    del model.config.quantization_config
    _merged(model, adapter).save_pretrained(target)
    tokenizer_of_gguf(source).save_pretrained(target)


def llm_merged(source: Path, target: Path, adapter: Path | None = None) -> None:
    """A model in the hub's layout -> the same with an adapter merged, in the precision that it has."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(source, local_files_only=True, dtype="auto")
    _merged(model, adapter).save_pretrained(target)
    AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(target)


def _merged(model: Any, adapter: Path | None) -> Any:
    if adapter is None:
        return model
    from peft import PeftModel

    return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()


def tokenizer_of_gguf(source: Path) -> Any:
    """A GPT-2-style GGUF's tokenizer, from its metadata (transformers' own reader loses the byte-level step)."""
    import gguf
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    fields = gguf.GGUFReader(source).fields

    def value(name: str) -> Any:
        return fields[f"tokenizer.{name}"].contents()

    if value("ggml.model") != "gpt2":
        raise ValueError(f"tokenizer {value('ggml.model')!r} of {source} is not supported: expected gpt2")
    words = value("ggml.tokens")
    merges = [tuple(merge.split(" ", 1)) for merge in value("ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocab={word: id_ for id_, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = gguf.TokenType.CONTROL
    special = [word for word, kind in zip(words, value("ggml.token_type"), strict=True) if kind == control]
    tokenizer.add_special_tokens([AddedToken(word, special=True, normalized=False) for word in special])
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=words[value("ggml.bos_token_id")],
        eos_token=words[value("ggml.eos_token_id")],
        pad_token=words[value("ggml.padding_token_id")],
        clean_up_tokenization_spaces=False,
    )
    wrapped.chat_template = value("chat_template")
    return wrapped


# A recipe's number goes up when its result changes, so that old conversions are made anew.
RECIPES: dict[str, Callable[..., None]] = {
    "embedder-fp32-1": embedder_fp32,
    "embedder-int8-1": embedder_int8,
    "checker-1": checker,
    "llm-q8-1": llm_q8,
    "llm-safetensors-1": llm_safetensors,
    "llm-merged-1": llm_merged,
}


def main(arguments: list[str]) -> None:
    """Run one recipe; the weights are local, so hubs and telemetry are switched off."""
    recipe, *paths = arguments
    os.environ.update(HF_HUB_OFFLINE="1", OPENVINO_TELEMETRY="0", NNCF_TELEMETRY="0", TOKENIZERS_PARALLELISM="false")
    RECIPES[recipe](*map(Path, paths))


if __name__ == "__main__":
    main(sys.argv[1:])
