"""Trainings and versions of the model, put together: comparing, promoting, listing, exporting.

Knows nothing about how results are shown.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from eval.measure import measure_tuned
from rag.adapters import NOTE, Adapter, read_adapter
from rag.errors import FinetuneError
from rag.finetune.average import average
from rag.finetune.export import Format, export
from rag.finetune.plan import Plan
from rag.finetune.promote import verdict
from rag.finetune.registry import add, use, versions
from rag.finetune.runs import ADAPTER, RUN, TuningRun, read_run, runs_folder, write
from rag.llm import open_llm
from rag.settings import Settings
from rag.weights import find_llm
from ui.sheets import held_out

Say = Callable[[str], None]


class Tuned(NamedTuple):
    """A tuned model: of a training, or a version."""

    name: str
    adapter: Adapter
    note: Mapping[str, Any]
    """See `rag.adapters.NOTE`: what it was trained on."""
    run: TuningRun | None


def compare(
    settings: Settings,
    name: str,
    sets: Sequence[Path],
    limit: int | None,
    against: str,
    oracle: bool,
    everything: bool,
    fresh: bool,
    say: Say,
) -> dict[str, Any]:
    """Ask what answers now and the tuned model the same, set after set; the record of a training is kept with it.

    Args:
        settings: how answers are made.
        name: of a training, or a version.
        sets: questions with answers.
        limit: questions of each set at most, evenly spread.
        against: version that the tuned model is compared with; empty for the one in use.
        oracle: search the right documents alone, too.
        everything: ask also about documents that the training has seen.
        fresh: ask anew what was asked.
        say: told what is going on.

    Raises:
        FinetuneError: the model cannot be used, or was made from another one than the settings name.
        EvalError: a set cannot be used.
    """
    model = _found(settings, name)
    base = open_llm(settings.model_copy(update={"llm_adapter": against}))
    named = str(model.adapter.path) if model.run else name
    tuned = open_llm(settings.model_copy(update={"llm_adapter": named}))
    record: dict[str, Any] = {"run": model.name, "adapter": model.adapter.sha256, "sets": {}}
    for path in sets:
        kept = () if everything else held_out(model.note.get("data", {}), path.resolve().name)
        what = f"questions about {len(kept):,} documents that were held out" if kept else "all questions"
        say(f"{path.name}: {what}")
        done = measure_tuned(settings, base, tuned, path, say, kept, limit, fresh=fresh, oracle=oracle)
        record["sets"][path.name] = dict(done.summary)
    if model.run:
        model.run.evaluated(record)
    return record


def averaged(settings: Settings, names: Sequence[str], name: str) -> dict[str, Any]:
    """Make a training's result of the mean of others. Raises FinetuneError."""
    models = [_found(settings, each) for each in names]
    folder = runs_folder(settings) / name
    if (folder / RUN).exists():
        raise FinetuneError(f"run {name!r} is there already; choose another name with --run")
    shutil.rmtree(folder / ADAPTER, ignore_errors=True)  # of an average that was cut short
    done = average([each.adapter for each in models], folder / ADAPTER, name)
    note = done.pop("note")
    plan = next((each.run.header["plan"] for each in models if each.run), asdict(Plan()))
    made = {
        "base": note["base"],
        "start": "none",
        "prompt": note["prompt"],
        "data": {"card": note["data"]},
        "plan": plan,
    }
    write(folder / RUN, {**made, "finished": {"adapter": done["sha256"], "averaged": done["averaged"]}})
    return {"run": name, "adapter": str(folder / ADAPTER), **done}


def promoted(settings: Settings, name: str) -> dict[str, Any]:
    """Judge a run by its evaluation, and let its model answer where it is better. Raises FinetuneError."""
    if any(each.version == name for each in versions(settings)):
        raise FinetuneError(f"{name} is a version already; let it answer with `footnote finetune use {name}`")
    run = read_run(name, settings)
    adapter, evaluation = read_adapter(run.adapter), run.evaluation()
    judged = verdict(evaluation, adapter.sha256)
    record: dict[str, Any] = {"run": run.folder.name, "holds": judged.holds, "reasons": list(judged.reasons)}
    if not judged.holds:
        return record
    entry = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "base": run.header["base"],
        "prompt": run.header["prompt"],
        "method": run.plan.method,
        "sha256": adapter.sha256,
        "data": run.header["data"]["card"],
        "figures": {set_: each["metrics"] for set_, each in evaluation["sets"].items()},
    }
    version = add(settings, run.adapter, entry)
    use(settings, version)
    return {**record, "version": version}


def listed(settings: Settings) -> dict[str, Any]:
    """Every version, and which one answers. Raises FinetuneError."""
    return {"versions": [each._asdict() for each in versions(settings)]}


def exported(settings: Settings, name: str, format_: Format, out: Path | None) -> dict[str, Any]:
    """Write a tuned model for other programs. Raises FinetuneError."""
    model = _found(settings, name)
    folder = out or runs_folder(settings) / model.name / f"export-{format_}"
    return export(find_llm(settings.llm_model), model.adapter.path, format_, folder, model.name)


def _found(settings: Settings, name: str) -> Tuned:
    """A version by its name, or a training by its name or directory. Raises FinetuneError."""
    version = next((each for each in versions(settings) if each.version == name and each.folder), None)
    run = None if version else read_run(name, settings)
    adapter = read_adapter(Path(version.folder), name) if version else read_adapter(run.adapter) if run else None
    assert adapter is not None
    note: dict[str, Any] = json.loads((adapter.path / NOTE).read_text(encoding="utf-8"))
    weights, wanted = find_llm(settings.llm_model), note["base"]
    if weights.sha256 != wanted["sha256"]:
        raise FinetuneError(
            f"{name!r} was trained on {wanted['name']} ({wanted['sha256'][:12]}), llm_model is {weights.id}; "
            "set FOOTNOTE_LLM_MODEL to the model that it was trained on"
        )
    return Tuned(run.folder.name if run else name, adapter, note, run)
