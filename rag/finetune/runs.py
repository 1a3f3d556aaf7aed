"""A training on disk: what it is made with, how far it is, its adapter, and how that was judged.

Knows nothing about models.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rag.errors import FinetuneError
from rag.finetune.plan import Plan
from rag.settings import Settings

RUN, ADAPTER, EVALUATION = "run.json", "adapter", "evaluation.json"


@dataclass(frozen=True, slots=True)
class TuningRun:
    """A directory of a training."""

    folder: Path
    header: Mapping[str, Any]
    """What it is made with; once it is finished, also its history."""

    @property
    def adapter(self) -> Path:
        """Where its adapter is. Raises FinetuneError: it is not finished."""
        if "finished" not in self.header:
            raise FinetuneError(
                f"run {self.folder.name!r} is not finished; run `footnote finetune train` again to go on"
            )
        return self.folder / ADAPTER

    @property
    def plan(self) -> Plan:
        """How it was trained."""
        return Plan(**self.header["plan"])

    def finish(self, result: Mapping[str, Any]) -> TuningRun:
        """Mark it as finished. Raises FinetuneError."""
        header = {**self.header, "finished": dict(result)}
        write(self.folder / RUN, header)
        return TuningRun(self.folder, header)

    def evaluated(self, record: Mapping[str, Any]) -> None:
        """Keep how its adapter was judged. Raises FinetuneError."""
        write(self.folder / EVALUATION, record)

    def evaluation(self) -> dict[str, Any]:
        """How its adapter was judged. Raises FinetuneError: it was not."""
        path = self.folder / EVALUATION
        if not path.exists():
            raise FinetuneError(
                f"run {self.folder.name!r} was not evaluated; run `footnote finetune evaluate {self.folder.name} SET`"
            )
        return _read(path)


def runs_folder(settings: Settings) -> Path:
    """Where runs are kept."""
    return settings.home / "finetune"


def begin(folder: Path, made_with: Mapping[str, Any], plan: Plan, fresh: bool) -> TuningRun:
    """A new run, or one made with the same that was cut short.

    Raises:
        FinetuneError: another run is there, or a finished one, or the disk fails.
    """
    header = json.loads(json.dumps({**made_with, "plan": asdict(plan)}))
    if fresh and (folder / RUN).exists():
        shutil.rmtree(folder)
    if (folder / RUN).exists():
        there = _read(folder / RUN)
        if "finished" in there:
            raise FinetuneError(f"run {folder.name!r} is finished; choose another name with --run, or --fresh")
        changed = [name for name in header if there.get(name) != header[name]]
        if changed:
            raise FinetuneError(
                f"run {folder.name!r} was begun with other {', '.join(changed)}; choose another name with --run, "
                "or begin anew with --fresh"
            )
        return TuningRun(folder, there)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FinetuneError(f"{folder} cannot be written: {error.strerror}; check the disk") from None
    write(folder / RUN, header)
    return TuningRun(folder, header)


def read_run(name: str, settings: Settings) -> TuningRun:
    """A run by its directory or by its name under the home directory. Raises FinetuneError: there is none."""
    folder = Path(name) if (Path(name) / RUN).exists() else runs_folder(settings) / name
    if not (folder / RUN).exists():
        known = sorted(path.parent.name for path in runs_folder(settings).glob(f"*/{RUN}"))
        raise FinetuneError(f"no training {name!r}; there are: {', '.join(known) or 'none yet'}")
    return TuningRun(folder, _read(folder / RUN))


def write(path: Path, record: Mapping[str, Any]) -> None:
    """All of a JSON file or nothing. Raises FinetuneError."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FinetuneError(f"{path} cannot be written: {error.strerror}; check the disk") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise FinetuneError(f"{path} is damaged ({error}); make it anew") from None
    if not isinstance(found, dict):
        raise FinetuneError(f"{path} is damaged (no object); make it anew")
    return found
