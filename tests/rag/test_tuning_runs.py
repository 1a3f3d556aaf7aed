"""A training on disk: begun, gone on with, finished; another one is never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest

from rag.errors import FinetuneError
from rag.finetune.plan import Plan
from rag.finetune.runs import RUN, begin, read_run, runs_folder
from rag.settings import Settings

MADE = {"base": {"name": "small", "sha256": "b"}, "prompt": 1}


def test_a_run_goes_on_only_with_what_it_was_begun_with(tmp_path: Path) -> None:
    begin(tmp_path / "run", MADE, Plan(), fresh=False)
    again = begin(tmp_path / "run", MADE, Plan(), fresh=False)
    assert again.plan == Plan()
    with pytest.raises(FinetuneError, match="begun with other plan; choose another name"):
        begin(tmp_path / "run", MADE, Plan(rank=4), fresh=False)
    assert begin(tmp_path / "run", MADE, Plan(rank=4), fresh=True).plan.rank == 4


def test_a_finished_run_is_not_overwritten(tmp_path: Path) -> None:
    begin(tmp_path / "run", MADE, Plan(), fresh=False).finish({"step": 3})
    with pytest.raises(FinetuneError, match="is finished"):
        begin(tmp_path / "run", MADE, Plan(), fresh=False)


def test_what_is_not_finished_or_not_evaluated_is_not_used(settings: Settings) -> None:
    run = begin(runs_folder(settings) / "mine", MADE, Plan(), fresh=False)
    with pytest.raises(FinetuneError, match="'mine' is not finished"):
        _ = read_run("mine", settings).adapter
    with pytest.raises(FinetuneError, match="footnote finetune evaluate mine SET"):
        run.evaluation()
    run.evaluated({"sets": {}})
    assert read_run("mine", settings).evaluation() == {"sets": {}}
    with pytest.raises(FinetuneError, match="no training 'other'; there are: mine"):
        read_run("other", settings)


def test_a_damaged_run_is_named(settings: Settings) -> None:
    run = begin(runs_folder(settings) / "mine", MADE, Plan(), fresh=False)
    (run.folder / RUN).write_text("[]")
    with pytest.raises(FinetuneError, match=r"run\.json is damaged"):
        read_run("mine", settings)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FinetuneError, match="cannot be written"):
        begin(tmp_path / "file" / "run", MADE, Plan(), fresh=False)
