"""Exports of a tuned model: whole or not there, and saying the same as the model that answers here."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rag.aside import aside
from rag.convert import repack
from rag.errors import FinetuneError, SettingsError, WeightsError
from rag.finetune.export import export, modelfile
from rag.llm import EXACT
from rag.settings import Settings
from rag.weights import Weights, converted, find_llm, sha256_of
from tests.rag.test_convert import CHATML, MISFITS, small_adapter, small_llama, within_q8


@pytest.fixture
def base(tmp_path: Path) -> Weights:
    return Weights("small", small_llama(tmp_path / "small.gguf", "Q8_0"), "b" * 64)


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = small_adapter(tmp_path / "adapter")
    (folder / "README.md").write_text("peft's model card")
    (folder / "footnote.json").write_text("{}")
    return folder


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    folder = tmp_path / "exports"
    folder.mkdir()
    return folder


def test_an_adapter_is_copied_with_a_word_on_how_to_serve_it(base: Weights, adapter: Path, parent: Path) -> None:
    out = parent / "mine"
    record = export(base, adapter, "adapter", out, "mine")
    for name in ("adapter_config.json", "adapter_model.safetensors", "footnote.json"):
        assert (out / name).read_bytes() == (adapter / name).read_bytes()
    card = (out / "README.md").read_text()
    assert "FOOTNOTE_LLM_ADAPTER=DIR" in card
    assert "vllm serve BASE --enable-lora --lora-modules mine=DIR\n" in card
    assert f"python -m rag.convert llm-safetensors-1 {base.path} BASE" in card
    assert base.sha256 in card
    assert "peft's" not in card
    assert {each["name"] for each in record["files"]} == {path.name for path in out.iterdir()}


def test_the_card_names_a_base_that_vllm_can_load_and_a_rank_that_it_has_to_be_told(
    adapter: Path, parent: Path
) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "r": 8, "rank_pattern": {"q_proj": 48}}))
    export(Weights("hub", Path("/models/a hub"), "b" * 64), adapter, "adapter", parent / "mine", "mine")
    command = "vllm serve '/models/a hub' --enable-lora --lora-modules mine=DIR --max-lora-rank 64\n"
    assert command in (parent / "mine" / "README.md").read_text()


def test_an_adapter_that_is_no_lora_is_copied_only(base: Weights, tmp_path: Path, parent: Path) -> None:
    prompt = small_adapter(tmp_path / "prompt", peft_type="PROMPT_TUNING")
    export(base, prompt, "adapter", parent / "mine", "mine")
    assert "vllm" not in (parent / "mine" / "README.md").read_text()
    for format_ in ("safetensors", "gguf"):
        with pytest.raises(FinetuneError, match=r"PROMPT_TUNING adapter, which cannot be merged.*use --format adapter"):
            export(base, prompt, format_, parent / "other", "other")  # type: ignore[arg-type]
    assert [path.name for path in parent.iterdir()] == ["mine"]


def test_a_gguf_is_the_merged_model_with_a_file_for_ollama(base: Weights, adapter: Path, parent: Path) -> None:
    out = parent / "mine"
    record = export(base, adapter, "gguf", out, "my model/2")
    repack(base.path, parent / "merged.gguf", adapter)
    assert (out / "my-model-2.gguf").read_bytes() == (parent / "merged.gguf").read_bytes()
    assert (out / "Modelfile").read_text() == modelfile("my-model-2.gguf", CHATML)
    assert (record["format"], record["path"]) == ("gguf", str(out))
    assert record["files"] == [
        {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name in ("Modelfile", "my-model-2.gguf")
        for content in [(out / name).read_bytes()]
    ]


def test_a_gguf_keeps_its_template(base: Weights, adapter: Path, parent: Path) -> None:
    import gguf

    export(base, adapter, "gguf", parent / "mine", "mine")
    fields = gguf.GGUFReader(parent / "mine" / "mine.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == CHATML


def test_ollama_is_given_a_chatml_template_in_its_own_syntax() -> None:
    assert modelfile("mine.gguf", CHATML) == (
        "FROM ./mine.gguf\n"
        'TEMPLATE """{{ if not .System }}<|im_start|>system\nYou are small.<|im_end|>\n{{ end }}'
        "{{ range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
        '"""\n'
        "PARAMETER temperature 0\n"
        'PARAMETER stop "<|im_start|>"\n'
        'PARAMETER stop "<|im_end|>"\n'
    )


def test_a_template_without_a_system_message_of_its_own_gets_none() -> None:
    plain = (
        "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    assert 'TEMPLATE """{{ range .Messages }}<|im_start|>' in modelfile("mine.gguf", plain)


@pytest.mark.parametrize(
    "template",
    ["", "{% if %}", "{{ nothing.at.all }}", "{% for message in messages %}[{{ message.content }}]{% endfor %}"],
)
def test_another_template_is_left_to_ollama(template: str) -> None:
    assert modelfile("mine.gguf", template) == "FROM ./mine.gguf\nPARAMETER temperature 0\n"


def test_a_gguf_needs_a_base_that_is_one(adapter: Path, parent: Path) -> None:
    with pytest.raises(FinetuneError, match=r"found /models/hub.*--format safetensors.*convert_hf_to_gguf\.py"):
        export(Weights("hub", Path("/models/hub"), "b" * 64), adapter, "gguf", parent / "mine", "mine")
    assert list(parent.iterdir()) == []


def test_what_is_there_is_not_overwritten(base: Weights, adapter: Path, parent: Path) -> None:
    (parent / "mine").mkdir()
    (parent / "mine" / "thesis.md").write_text("years of work")
    (parent / "file").write_text("more of it")
    for name in ("mine", "file"):
        with pytest.raises(FinetuneError, match=f"{name} is there already; name another directory"):
            export(base, adapter, "gguf", parent / name, "mine")
    assert sorted(path.name for path in parent.iterdir()) == ["file", "mine"]
    assert [path.name for path in (parent / "mine").iterdir()] == ["thesis.md"]


def test_an_empty_directory_is_filled(base: Weights, adapter: Path, parent: Path) -> None:
    (parent / "mine").mkdir()
    export(base, adapter, "adapter", parent / "mine", "mine")
    assert (parent / "mine" / "README.md").is_file()
    assert [path.name for path in parent.iterdir()] == ["mine"]


def test_an_export_that_fails_leaves_nothing(base: Weights, tmp_path: Path, parent: Path) -> None:
    misfit = small_adapter(tmp_path / "misfit", MISFITS["more layers"][0])
    with pytest.raises(FinetuneError, match=r"small cannot be exported as gguf: .*layers\.2.*has no place") as error:
        export(base, misfit, "gguf", parent / "mine", "mine")
    assert "\n" not in str(error.value)
    assert list(parent.iterdir()) == []


def test_an_export_that_is_interrupted_half_way_leaves_nothing(
    base: Weights, adapter: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf

    def interrupt(*_: object) -> None:
        assert list(parent.glob(".mine.*/mine.gguf")), "nothing was written yet"
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(base, adapter, "gguf", parent / "mine", "mine")
    assert list(parent.iterdir()) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(
    base: Weights, adapter: Path, parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import gguf

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensors_to_file", full)
    with pytest.raises(FinetuneError, match="mine cannot be written: No space left on device"):
        export(base, adapter, "gguf", parent / "mine", "mine")
    assert list(parent.iterdir()) == []


def test_what_an_export_that_was_killed_left_behind_is_in_nobodys_way(
    base: Weights, adapter: Path, parent: Path
) -> None:
    # In a container every start has the same process number.
    left = parent / f".mine.{os.getpid()}"
    left.mkdir()
    (left / "half.gguf").write_text("half")
    export(base, adapter, "gguf", parent / "mine", "mine")
    assert [path.name for path in parent.iterdir()] == ["mine"]
    assert not (parent / "mine" / "half.gguf").exists()


def test_a_directory_without_an_adapter_is_named(base: Weights, adapter: Path, parent: Path) -> None:
    with pytest.raises(SettingsError, match=str(parent)):
        export(base, parent, "gguf", parent / "mine", "mine")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"no adapter_model\.safetensors"):
        export(base, adapter, "gguf", parent / "mine", "mine")


PROMPTS = ("The capital of France is", "Whales are mammals that live in the", "def fibonacci(n):\n    ")


@pytest.mark.slow
def test_the_exports_of_the_real_model_say_the_same(real_settings: Settings, tmp_path: Path) -> None:
    """Merged by peft in fp32, and by us into Q8_0: they differ by what Q8_0 changes, which is measured here too."""
    base, cache = find_llm("bundled"), real_settings.cache_dir
    hub = converted("llm-safetensors-1", base, cache, "")
    adapter = real_adapter(hub, tmp_path / "adapter")
    merged, file = tmp_path / "merged", tmp_path / "gguf" / "mine.gguf"
    export(base, adapter, "safetensors", merged, "mine")
    export(base, adapter, "gguf", file.parent, "mine")
    export(Weights("hub", hub, "b" * 64), adapter, "safetensors", tmp_path / "of-hub", "mine")
    assert sha256_of(tmp_path / "of-hub" / "model.safetensors") == sha256_of(merged / "model.safetensors")
    assert (merged / "chat_template.jinja").read_bytes() == (hub / "chat_template.jinja").read_bytes()

    tuned, exported = opened(merged), opened(file.parent, file.name)
    for name, values in tuned.state_dict().items():
        assert within_q8(exported.state_dict()[name].numpy(), values.numpy()).all(), name
    repack(base.path, tmp_path / "plain.gguf")
    plain = next_words(opened(hub), hub)
    error = distance(next_words(opened(tmp_path, "plain.gguf"), hub), plain)
    assert distance(next_words(tuned, hub), plain) > 20 * error, "the adapter changes too little to tell"
    assert distance(next_words(exported, hub), next_words(tuned, hub)) < 4 * error

    folder = converted("llm-q8-1", base, cache, "", adapter, sha256_of(adapter / "adapter_model.safetensors"))
    assert sha256_of(folder / "model.gguf") == sha256_of(file)
    written = [greedy(file), greedy(folder)]
    assert written[0] == written[1]
    assert any(written[0])


def real_adapter(hub: Path, folder: Path) -> Path:
    """A random adapter of the real model that changes what it says a lot more than Q8_0 does."""
    import peft
    import torch

    torch.manual_seed(0)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear")
    model = peft.get_peft_model(opened(hub), config)
    for name, value in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.2)
    model.half().save_pretrained(folder)
    return folder


def opened(folder: Path, gguf_file: str | None = None) -> Any:
    """A model in fp32, read by transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    kind = {"gguf_file": gguf_file} if gguf_file else {}
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32, **kind).eval()


def next_words(model: Any, hub: Path) -> np.ndarray[Any, Any]:
    """Log-probabilities of what comes after every token of the prompts."""
    import torch
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(hub, local_files_only=True)
    with torch.inference_mode():
        logits = [model(**tokenizer(prompt, return_tensors="pt")).logits[0] for prompt in PROMPTS]
    found: np.ndarray[Any, Any] = torch.cat(logits).log_softmax(-1).numpy()
    return found


def distance(found: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> float:
    """Mean divergence (Kullback-Leibler, in nats) of what is found from what is expected."""
    return float((np.exp(expected) * (expected - found)).sum(-1).mean())


def greedy(model: Path) -> list[str]:
    """What OpenVINO GenAI writes after the prompts."""
    import openvino_genai

    pipeline = aside(partial(openvino_genai.LLMPipeline, str(model), "CPU", **EXACT))
    config = pipeline.get_generation_config()
    config.max_new_tokens, config.do_sample, config.apply_chat_template = 24, False, False
    return [str(pipeline.generate(prompt, config)) for prompt in PROMPTS]
