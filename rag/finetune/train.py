"""A folder of data -> a run with a trained adapter. Where model, packs and trainer are put together.

Knows nothing about where the data comes from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from rag.adapters import CONFIG, NOTE, WEIGHTS, find_adapter
from rag.errors import FinetuneError
from rag.finetune.base import Tokens, device_of, open_model, open_tokens
from rag.finetune.packing import Pack, packs
from rag.finetune.plan import Plan, Told
from rag.finetune.runs import ADAPTER, TuningRun, begin, write
from rag.finetune.sheets import CARD, TRAIN, VALIDATION, Sheet, read_card, read_sheets
from rag.prompt import PROMPT
from rag.settings import Settings
from rag.weights import find_llm, hub_folder, sha256_of


def train(
    settings: Settings,
    data: Path,
    folder: Path,
    plan: Plan,
    device: str,
    start: str,
    fresh: bool,
    say: Callable[[str], None],
    tell: Callable[[Told], None],
) -> TuningRun:
    """Train an adapter of the language model that the settings name; a run that was cut short goes on.

    Args:
        settings: the model, the length of a prompt, where conversions are kept.
        data: a folder that `footnote finetune data` made.
        folder: of the run.
        plan: how to train.
        device: `auto`, `cpu` or `cuda`.
        start: version or directory of the adapter to go on from; `none` begins with one that changes nothing.
        fresh: begin anew where a run is there.
        say: told what is going on.
        tell: told how far it is.

    Raises:
        FinetuneError: the data, the model, the method or the run cannot be used.
        WeightsError: the model's weights are not on this machine.
    """
    device, weights = device_of(device), find_llm(settings.llm_model)
    learned, held = _sheets(data / TRAIN, plan), read_sheets(data / VALIDATION)
    card = read_card(data)
    from_ = find_adapter(settings.model_copy(update={"llm_adapter": start}), weights)
    if from_ and (from_.kind != "LORA" or plan.method not in ("lora", "qlora", "dpo")):
        raise FinetuneError(f"--method {plan.method} cannot go on from {start} ({from_.kind}); use --start none")
    made_with = {
        "base": {"name": weights.name, "sha256": weights.sha256},
        "start": from_.id if from_ else "none",
        "prompt": PROMPT,
        "prompt_tokens": settings.prompt_tokens,
        "device": device,
        "data": {"folder": str(data), "sha256": _digest(data), "card": card},
    }
    run = begin(folder, made_with, plan, fresh)
    hub = hub_folder(weights, settings.cache_dir)
    tokens = open_tokens(hub)
    say("cutting the data into packs")
    pairs = plan.method == "dpo"
    to_learn = _packed(learned, tokens, settings, data / TRAIN, pairs)
    to_hold = _packed(held, tokens, settings, data / VALIDATION, pairs)
    say(f"{_counted(to_learn)} to learn from, {_counted(to_hold)} held out; loading {weights.name}")
    from rag.finetune.tuning import Trainer

    trainer = Trainer(open_model(hub, plan, device, from_.path if from_ else None), plan, to_learn, to_hold, folder)
    best = trainer.run(tell)
    digest = _save(trainer.model, folder, made_with, plan)
    history = [told._asdict() for told in trainer.history]
    return run.finish({"step": best.step, "held_loss": round(best.loss, 4), "adapter": digest, "history": history})


def _sheets(path: Path, plan: Plan) -> list[Sheet]:
    """What is learned from. Raises FinetuneError: there is nothing, or nothing that teaches to decline."""
    found = read_sheets(path)
    asked = [each for sheet in found for each in sheet.asked]
    if not asked:
        raise FinetuneError(f"{path} holds no questions; make more with `footnote finetune data`")
    if plan.method == "dpo":
        if not any(each.rejected for each in asked):
            raise FinetuneError(f"{path} holds no rejected answers, which dpo learns from; add --from-feedback FILE")
    elif all(each.answer for each in asked):
        raise FinetuneError(
            f"{path} holds no questions to decline: a model tuned on it would answer everything; "
            "make the data with `footnote finetune data`"
        )
    return found


def _packed(sheets: list[Sheet], tokens: Tokens, settings: Settings, path: Path, pairs: bool) -> list[Pack]:
    # Every question of a sheet comes with the same passages.
    count = lru_cache(maxsize=256)(tokens.count)
    found = packs(sheets, tokens.encode, count, settings.prompt_tokens, pairs=pairs)
    if not found:
        raise FinetuneError(
            f"no question of {path} fits a prompt of {settings.prompt_tokens} tokens with its passages; "
            "raise prompt_tokens"
        )
    return found


def _counted(found: list[Pack]) -> str:
    questions, tokens = sum(len(pack.branches) for pack in found), sum(pack.tokens for pack in found)
    return f"{questions:,} questions in {len(found):,} packs ({tokens:,} tokens)"


def _digest(data: Path) -> str:
    return hashlib.sha256("".join(sha256_of(data / name) for name in (TRAIN, VALIDATION, CARD)).encode()).hexdigest()


def _save(model: Any, folder: Path, made_with: dict[str, Any], plan: Plan) -> str:
    """Write the adapter in fp16 as peft has it, with a note of what it is; the hash of its weights."""
    import shutil

    part, target = folder / f".{ADAPTER}", folder / ADAPTER
    try:
        shutil.rmtree(part, ignore_errors=True)
        model.half().save_pretrained(part)
        digest = sha256_of(part / WEIGHTS)
        config = json.loads((part / CONFIG).read_text())
        # Where the weights were on this machine means nothing on another one.
        config["base_model_name_or_path"] = made_with["base"]["name"]
        write(part / CONFIG, config)
        note = {name: made_with[name] for name in ("base", "prompt", "start")}
        write(
            part / NOTE,
            {
                **note,
                "version": folder.name,
                "method": plan.method,
                "data": made_with["data"]["card"],
                "sha256": digest,
            },
        )
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise FinetuneError(
            f"{target} cannot be written: {error.strerror}; free some disk, run the command again"
        ) from None
    return digest
