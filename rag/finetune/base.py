"""The language model that is tuned, with its tokenizer and with an adapter that is still empty.

Knows nothing about data or about how the adapter is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rag.embed import cuda
from rag.errors import FinetuneError
from rag.finetune.plan import Plan
from rag.types import Message


@dataclass(frozen=True, slots=True)
class Tokens:
    """A tokenizer with its chat template."""

    tokenizer: Any

    def count(self, text: str) -> int:
        """How many tokens a text has."""
        return len(self.tokenizer.encode(text, add_special_tokens=False))

    def encode(self, messages: Sequence[Message], reply: str) -> tuple[list[int], list[int]]:
        """Tokens of the prompt in the model's template, and of the reply with the token that ends it."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        prompt = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        found = self.tokenizer([prompt, reply], add_special_tokens=False).input_ids
        return found[0], [*found[1], self.tokenizer.eos_token_id]


def open_tokens(folder: Path) -> Tokens:
    """The tokenizer of a model. Raises FinetuneError: there is none, or it has no chat template."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise FinetuneError(f"{folder} has no tokenizer that can be used: {' '.join(str(error).split())}") from None
    if not tokenizer.chat_template or tokenizer.eos_token_id is None:
        raise FinetuneError(f"the tokenizer in {folder} has no chat template; take a model that was made for chats")
    return Tokens(tokenizer)


def device_of(wanted: str) -> str:
    """`cpu` or `cuda`. Raises FinetuneError: CUDA is asked for where there is none."""
    if wanted == "cuda" and not cuda():
        raise FinetuneError("--device cuda: torch sees no CUDA GPU on this machine; use --device cpu")
    return ("cuda" if cuda() else "cpu") if wanted == "auto" else wanted


def open_model(folder: Path, plan: Plan, device: str, start: Path | None = None) -> Any:
    """The model with an adapter that learns, as peft has it; fp32 on a CPU, bf16 on CUDA.

    Args:
        folder: of the model, in the hub's layout.
        plan: how it is trained.
        device: `cpu` or `cuda`.
        start: an adapter to go on from; without one, the adapter changes nothing yet.

    Raises:
        FinetuneError: the model cannot be loaded, or the method cannot run here.
    """
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(plan.seed)
    # What a token of a pack sees is a mask of booleans, which attention of other kinds takes for numbers.
    more: dict[str, Any] = {
        "dtype": torch.bfloat16 if device == "cuda" else torch.float32,
        "attn_implementation": "sdpa",
    }
    if plan.method == "qlora":
        more |= _four_bits(device)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, **more)
    except (OSError, ValueError) as error:
        raise FinetuneError(f"the model in {folder} cannot be loaded: {' '.join(str(error).split())[:200]}") from None
    if plan.method == "qlora":
        model = peft.prepare_model_for_kbit_training(model)
    try:
        adapted = (
            peft.PeftModel.from_pretrained(model, str(start), is_trainable=True)
            if start
            else peft.get_peft_model(model, _config(plan))
        )
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise FinetuneError(
            f"the adapter {start} does not fit the model: {' '.join(str(error).split())[:200]}"
        ) from None
    return adapted if plan.method == "qlora" else adapted.to(device)


def _four_bits(device: str) -> dict[str, Any]:
    """How the frozen weights are kept in 4 bits (Dettmers et al. 2023, QLoRA)."""
    import importlib.util

    import torch
    from transformers import BitsAndBytesConfig

    if device != "cuda":
        raise FinetuneError("--method qlora needs a CUDA GPU; use --method lora")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise FinetuneError("--method qlora needs bitsandbytes; run `pip install bitsandbytes`")
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        ),
        "device_map": {"": 0},
    }


def _config(plan: Plan) -> Any:
    import peft

    task = "CAUSAL_LM"
    if plan.method == "prompt-tuning":
        return peft.PromptTuningConfig(task_type=task, num_virtual_tokens=plan.virtual)
    if plan.method == "prefix-tuning":
        return peft.PrefixTuningConfig(task_type=task, num_virtual_tokens=plan.virtual)
    return peft.LoraConfig(task_type=task, r=plan.rank, lora_alpha=2 * plan.rank, target_modules="all-linear")
