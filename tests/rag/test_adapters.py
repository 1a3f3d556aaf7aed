"""Which adapter answers: the shipped one, a promoted one, a named one or none; never one for other weights."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from rag import adapters
from rag.adapters import CONFIG, CURRENT, NOTE, WEIGHTS, current_version, find_adapter, models_folder, read_adapter
from rag.errors import SettingsError, WeightsError
from rag.prompt import PROMPT
from rag.settings import Settings
from rag.weights import Weights

BASE = Weights("small", Path("small.gguf"), "b" * 64)


def make_adapter(folder: Path, base: str = BASE.sha256, prompt: int = PROMPT, kind: str = "LORA") -> Path:
    folder.mkdir(parents=True)
    (folder / CONFIG).write_text(json.dumps({"peft_type": kind}))
    (folder / WEIGHTS).write_bytes(str(folder).encode())
    (folder / NOTE).write_text(json.dumps({"base": {"sha256": base}, "prompt": prompt}))
    return folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = make_adapter(tmp_path / "shipped")
    monkeypatch.setattr(adapters, "SHIPPED_FOLDER", folder)
    return folder


def choose(settings: Settings, version: str) -> None:
    models_folder(settings).mkdir(parents=True, exist_ok=True)
    (models_folder(settings) / CURRENT).write_text(json.dumps({"current": version, "before": []}))


def named(settings: Settings, adapter: str) -> Settings:
    return settings.model_copy(update={"llm_adapter": adapter})


def test_the_adapter_that_ships_answers_until_another_is_chosen(settings: Settings, shipped: Path) -> None:
    found = find_adapter(settings, BASE)
    assert found is not None
    assert (found.version, found.path, found.merges) == ("shipped", shipped, True)
    assert found.id == f"shipped@{found.sha256[:12]}"
    make_adapter(models_folder(settings) / "v1")
    choose(settings, "v1")
    chosen = find_adapter(settings, BASE)
    assert chosen is not None
    assert chosen.version == "v1"


@pytest.mark.parametrize("how", ["setting", "version"])
def test_the_model_can_answer_as_it_came(settings: Settings, shipped: Path, how: str) -> None:
    if how == "version":
        choose(settings, "none")
    assert find_adapter(named(settings, "none") if how == "setting" else settings, BASE) is None


def test_a_version_is_not_used_with_other_weights(settings: Settings, shipped: Path) -> None:
    assert find_adapter(settings, Weights("other", Path("other.gguf"), "c" * 64)) is None


def test_a_named_adapter_for_other_weights_is_refused(settings: Settings, shipped: Path, tmp_path: Path) -> None:
    other = make_adapter(tmp_path / "other", base="c" * 64)
    with pytest.raises(SettingsError, match=r"trained on weights cccccccccccc, llm_model has bbbbbbbbbbbb \(small\)"):
        find_adapter(named(settings, str(other)), BASE)


def test_a_named_adapter_that_does_not_say_what_it_is_for_is_taken(settings: Settings, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "mine", kind="PREFIX_TUNING")
    (folder / NOTE).unlink()
    found = find_adapter(named(settings, str(folder)), BASE)
    assert found is not None
    assert (found.version, found.merges) == ("mine", False)


def test_a_folder_without_an_adapter_is_named(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"llm_adapter: no {CONFIG} in {tmp_path}"):
        find_adapter(named(settings, str(tmp_path)), BASE)


def test_an_adapter_with_a_file_missing_or_broken_is_named(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "broken")
    (folder / NOTE).write_text("[]")
    with pytest.raises(WeightsError, match=NOTE):
        read_adapter(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(WeightsError, match=WEIGHTS):
        read_adapter(folder)


def test_a_choice_that_cannot_be_read_is_no_choice_for_the_shipped_one(settings: Settings, shipped: Path) -> None:
    models_folder(settings).mkdir(parents=True)
    (models_folder(settings) / CURRENT).write_text("{")
    with pytest.raises(SettingsError, match="footnote finetune use"):
        current_version(settings)


def test_an_adapter_that_was_tuned_to_another_prompt_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = make_adapter(tmp_path / "old", prompt=PROMPT - 1)
    with caplog.at_level(logging.WARNING):
        read_adapter(folder)
    assert f"prompts of version {PROMPT - 1}, this is version {PROMPT}" in caplog.text
