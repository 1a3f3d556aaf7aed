"""`footnote finetune average` over the adapter that ships: what it leaves behind is used like any training."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rag.adapters import NOTE, SHIPPED_FOLDER, WEIGHTS
from rag.errors import FinetuneError
from rag.finetune.plan import Plan
from rag.finetune.runs import ADAPTER, begin, read_run, runs_folder
from rag.settings import Settings
from rag.weights import sha256_of
from ui import tuned
from ui.sheets import held_out
from ui.tuning import averaged


@pytest.fixture
def half(settings: Settings) -> str:
    """A training whose adapter changes half as much as the one that ships."""
    note = json.loads((SHIPPED_FOLDER / NOTE).read_text())
    made = {"base": note["base"], "prompt": note["prompt"], "data": {"card": note["data"]}}
    run = begin(runs_folder(settings) / "half", made, Plan(), fresh=False)
    shutil.copytree(SHIPPED_FOLDER, run.folder / ADAPTER)
    tensors = load_file(run.folder / ADAPTER / WEIGHTS)
    changed = {name: value / 2 if "lora_B" in name else value for name, value in tensors.items()}
    save_file({name: value.astype(np.float16) for name, value in changed.items()}, run.folder / ADAPTER / WEIGHTS)
    run.finish({"adapter": sha256_of(run.folder / ADAPTER / WEIGHTS)})
    return "half"


def test_a_version_and_a_training_become_a_run(settings: Settings, half: str) -> None:
    record = averaged(settings, ["shipped", half], "both")
    assert record["lost"] < 1e-3  # both change the weights in the same directions
    assert "the mean of shipped@" in tuned.averaged(record)
    run = read_run("both", settings)
    assert sha256_of(run.adapter / WEIGHTS) == record["sha256"]
    assert run.plan.method == "lora"
    shipped = json.loads((SHIPPED_FOLDER / NOTE).read_text())
    for name in ("qa-xquad-en", "qa-covid-qa"):
        assert held_out(run.header["data"]["card"], name) == held_out(shipped["data"], name) != ()
    with pytest.raises(FinetuneError, match="'both' is there already"):
        averaged(settings, ["shipped", half], "both")


def test_what_there_is_not_is_named(settings: Settings) -> None:
    with pytest.raises(FinetuneError, match="no training 'mine'"):
        averaged(settings, ["shipped", "mine"], "both")
    assert not (runs_folder(settings) / "both").exists()
