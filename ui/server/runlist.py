"""The runs of evaluations that the home directory holds, as a list: how far each is, and its main figures.

Knows nothing about how runs are made, or who made them: the command line, tests or the server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from eval import faithfulness
from eval.answers import ANSWERED, DECLINED, FAILED, PRODUCT, RIGHTLY_DECLINED
from eval.judge import share_of_all
from eval.run import RECORDS, RUN, Finished, read_run, write_whole
from eval.stats import mean
from rag.errors import EvalError
from rag.settings import Settings

RUNS, ORDER = "runs", "order.json"
FIGURES: Mapping[str, Sequence[str]] = {
    "faithfulness": ("faithfulness", "faithful_share"),
    "correctness": ("correct",),
    "contains": ("contains",),
    "abstention": ("abstention_rate",),
}
"""Figure that is told -> its names in summaries, which differ from kind to kind."""
ABSTAINED = (DECLINED, RIGHTLY_DECLINED)
FROM_FEEDBACK = "feedback-"
"""What the ids of questions begin with that `eval.from_feedback` makes of what people said."""


class NoSuchEvaluation(EvalError):
    """There is no evaluation by an id."""

    status = 404


class NotFinished(EvalError):
    """An evaluation that has no figures yet."""

    status = 409


class Figure(NamedTuple):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Order:
    """What the server was asked to measure; kept beside the run, so that it can go on after a restart."""

    set: str
    questions: int
    key: str
    """The same for the same questions, documents, settings and models."""
    who: str = ""
    started: str = ""
    """ISO 8601, UTC."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A run."""

    id: str
    """The name of its directory."""
    kind: str
    set: str
    finished: bool
    done: int
    """Cases that have a record."""
    failed: int
    changed: str
    """When it was last written. ISO 8601, UTC."""
    figures: Mapping[str, Figure]
    order: Order | None = None
    """None where the server did not make it."""
    error: str = ""
    """Why it cannot be read."""


class Runs:
    """The runs of a home directory. Safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self.folder = settings, settings.home / RUNS
        self._known: dict[Path, tuple[object, Listed]] = {}

    def listed(self) -> list[Listed]:
        """All of them, the one that was written last first."""
        found = [self._listed(path.parent) for path in self.folder.glob(f"*/{RUN}")]
        return sorted(found, key=lambda run: (run.changed, run.id), reverse=True)

    def get(self, id_: str) -> Listed:
        """One of them. Raises NoSuchEvaluation."""
        return self._listed(self._directory(id_))

    def read(self, id_: str) -> Finished:
        """All of a finished one.

        Raises:
            NoSuchEvaluation: there is none by this id.
            NotFinished: it is still to be finished.
            EvalError: it is damaged.
        """
        directory = self._directory(id_)
        if not self._listed(directory).finished:
            raise NotFinished(f"evaluation {id_!r} is not finished; wait until it is, or start it again to go on")
        return read_run(str(directory), self._settings)

    def resumable(self, key: str) -> Listed | None:
        """The unfinished run that was begun with the same; None where there is none."""
        return next((run for run in self.listed() if not run.finished and run.order and run.order.key == key), None)

    def order(self, id_: str, order: Order) -> None:
        """Write down what a run was begun for. Raises EvalError."""
        path = self.folder / id_ / ORDER
        try:
            write_whole(path, json.dumps(asdict(order), ensure_ascii=False) + "\n")
        except OSError as error:
            raise EvalError(f"{path} cannot be written: {error.strerror or error}; check the disk") from error

    def _directory(self, id_: str) -> Path:
        """A run's, by a name that is one of those there are: an id from outside is no part of a path."""
        found = {path.parent.name: path.parent for path in self.folder.glob(f"*/{RUN}")}
        if id_ not in found:
            raise NoSuchEvaluation(
                f"there is no evaluation {id_[:80]!r}; GET /api/v1/evaluations lists those there are"
            )
        return found[id_]

    def _listed(self, directory: Path) -> Listed:
        """A run as it is on the disk, read again only where it was written since."""
        written = [_written(directory / name) for name in (RUN, RECORDS, ORDER)]
        known = self._known.get(directory)
        if known is None or known[0] != written:
            known = self._known[directory] = (written, _listed(directory, max(at for at, _ in written)))
        return known[1]


def from_feedback(run: Finished) -> bool:
    """True where a run holds what other people asked, and said of answers."""
    return any(str(record["id"]).startswith(FROM_FEEDBACK) for record in run.records)


def _listed(directory: Path, written: int) -> Listed:
    changed = datetime.fromtimestamp(written / 1e9, UTC).isoformat(timespec="milliseconds")
    try:
        header = json.loads((directory / RUN).read_text(encoding="utf-8"))
        summary, order = header.get("summary"), _order(directory / ORDER)
        return Listed(
            directory.name,
            header["kind"],
            order.set if order else header["made_with"]["dataset"],
            summary is not None,
            summary["n"] if summary else _lines(directory / RECORDS),
            summary["failed"] if summary else 0,
            changed,
            _figures(header, directory) if summary else {},
            order,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = f"{directory / RUN} is damaged ({error!r}); remove the directory"
        return Listed(directory.name, "", "", False, 0, 0, changed, {}, None, why)


def _order(path: Path) -> Order | None:
    try:
        return Order(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None


def _figures(header: Mapping[str, Any], directory: Path) -> dict[str, Figure]:
    """The main figures of a finished run: those of `FIGURES` that it has, or else the one that a gate compares."""
    kind, summary = header["kind"], header["summary"]
    if kind == faithfulness.KIND:
        return _agreement(summary)
    main = summary["main"]
    metrics = (summary.get("metrics") or summary["systems"])[main["system"]]
    found = {
        name: _figure(metrics[of]) for name, names in FIGURES.items() for of in names if of in metrics
    }  # fmt: skip
    if kind == "answers":
        found |= _of_answers(header, directory)
    return found or {main["metric"]: _figure(metrics[main["metric"]])}


def _agreement(summary: Mapping[str, Any]) -> dict[str, Figure]:
    """Of a run over labelled claims: how well the checker orders them."""
    sets = list(summary["sets"].values())
    metrics = summary["mean"] or sets[0]["metrics"]
    return {"auroc": _figure(metrics["auroc"])} if "auroc" in metrics else {}


def _of_answers(header: Mapping[str, Any], directory: Path) -> dict[str, Figure]:
    """What a run of answers holds and its summary does not tell.

    Faithfulness is the share of sentences of given answers that the checker found supported; what failed is supported
    by nothing. It is no abstention, either.
    """
    threshold = header["made_with"]["settings"]["min_support"]
    with (directory / RECORDS).open(encoding="utf-8") as file:
        given = [json.loads(line)["answers"][PRODUCT] for line in file if line.strip()]
    tallies = []
    for answer in given:
        said = [each for each in answer.get("sentences", ()) if each["checkable"]]
        if answer["outcome"] == FAILED:
            tallies.append((0, 1))
        elif answer["outcome"] in ANSWERED and said:
            tallies.append((sum(each["support"] >= threshold for each in said), len(said)))
    found = {"abstention": Figure(*mean([float(answer["outcome"] in ABSTAINED) for answer in given]))}
    return found | ({"faithfulness": Figure(*share_of_all(tallies))} if tallies else {})


def _figure(found: Mapping[str, float]) -> Figure:
    return Figure(found["value"], found["low"], found["high"])


def _written(path: Path) -> tuple[int, int]:
    """When a file was written, in nanoseconds, and its size; zeros where it is not there."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(line.endswith(b"\n") for line in file)
