"""A run on disk: what it was made with, a record for each case, and the summary. Knows nothing about what is measured.

    DIRECTORY/run.json        kind, what it was made with, host; `summary` is there once the run is finished
    DIRECTORY/records.jsonl   a record a line, in the order of the cases, the same in every run
    DIRECTORY/timings.jsonl   what differs from run to run, a line a record

A run that was cut short goes on after its last whole record.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rag.errors import EvalError
from rag.settings import Settings

RUN, RECORDS, TIMINGS = "run.json", "records.jsonl", "timings.jsonl"
PACKAGES = ("footnote", "qdrant-edge-py", "openvino", "numpy", "ir-measures")
PRIVATE = {
    "home", "cache", "collection", "host", "port", "threads", "parse_workers", "qdrant_url", "qdrant_api_key",
    "llm_api_key", "llm_base_url",
    "auth", "allowed_hosts", "max_upload_mb", "max_upload_files", "log_format", "log_requests", "log_texts",
    "requests_per_minute", "waiting_questions", "answer_seconds", "answer_cache", "otlp_endpoint",
}  # fmt: skip
"""Settings that say where things are or how they are served, or that are secret, and change no result."""

Record = Mapping[str, Any]


def made_with(settings: Settings, **more: Any) -> dict[str, Any]:
    """What two runs must have in common to be the same run: settings, versions, and what else the caller names."""
    return {
        **more,
        "settings": settings.model_dump(mode="json", exclude=PRIVATE),
        "versions": {name: version(name) for name in PACKAGES},
    }


@dataclass(frozen=True, slots=True)
class Finished:
    """A run that is complete."""

    directory: Path
    kind: str
    made_with: Mapping[str, Any]
    summary: Mapping[str, Any]
    records: tuple[Record, ...]

    @property
    def name(self) -> str:
        """Its directory's name."""
        return self.directory.resolve().name


class Run:
    """A run that is being made. Records that are there already are not made again."""

    def __init__(self, directory: Path, header: Mapping[str, Any], records: list[Record], timings: list[Any]) -> None:
        """Use `begin`."""
        self.directory, self._header, self.records, self.timings = directory, header, records, timings

    @classmethod
    def begin(
        cls, directory: Path, kind: str, made_with: Mapping[str, Any], fresh: bool = False, again: bool = False
    ) -> Run:
        """Begin a run, or go on with one that was cut short.

        Args:
            directory: where it is kept; made where missing.
            kind: what is measured, such as `retrieval`.
            made_with: see `made_with`.
            fresh: remove a run that is there.
            again: remove one that is there and is finished.

        Raises:
            EvalError: another run is there, a finished one or one made with other settings, or the disk fails.
        """
        header = {"kind": kind, "made_with": json.loads(json.dumps(made_with)), "host": _host()}
        try:
            if directory.exists() and not (directory / RUN).exists() and any(directory.iterdir()):
                raise EvalError(f"{directory} holds other files; choose another name with --run")
            if (directory / RUN).exists() and (fresh or (again and "summary" in _header(directory))):
                shutil.rmtree(directory)
            if not (directory / RUN).exists():
                directory.mkdir(parents=True, exist_ok=True)
                for name in (RECORDS, TIMINGS):
                    (directory / name).write_bytes(b"")
                _write(directory / RUN, header)
                return cls(directory, header, [], [])
            there = _header(directory)
            _same(directory, there, header)
            records, timings = _whole(directory / RECORDS), _whole(directory / TIMINGS)
            both = min(len(records), len(timings))
            for name, rows in ((RECORDS, records), (TIMINGS, timings)):
                (directory / name).write_text("".join(map(_line, rows[:both])), encoding="utf-8")
            return cls(directory, there, records[:both], timings[:both])
        except OSError as error:
            raise _unusable(directory, error) from error

    def add(self, record: Record, timing: Any) -> None:
        """Keep the next record; it survives whatever happens after the call. Raises EvalError."""
        try:
            for name, row in ((RECORDS, record), (TIMINGS, timing)):
                with (self.directory / name).open("a", encoding="utf-8") as file:
                    file.write(_line(row))
        except OSError as error:
            raise _unusable(self.directory, error) from error
        self.records.append(record)
        self.timings.append(timing)

    def finish(self, summary: Mapping[str, Any]) -> None:
        """Write the summary, which makes the run a finished one. Raises EvalError."""
        try:
            _write(self.directory / RUN, {**self._header, "summary": dict(summary)})
        except OSError as error:
            raise _unusable(self.directory, error) from error


def name_of(kind: str, made_with: Mapping[str, Any]) -> str:
    """The name of a run that was given none: runs made with something else have another."""
    digest = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()
    return f"{made_with['dataset']}-{kind}-{digest[:6]}"


def read_run(name: str, settings: Settings) -> Finished:
    """A finished run, by its directory or by its name under the home directory's `runs`.

    Raises:
        EvalError: there is none, it is not finished, or it is damaged.
    """
    directory = Path(name) if (Path(name) / RUN).exists() else settings.home / "runs" / name
    if not (directory / RUN).exists():
        known = sorted(path.parent.name for path in (settings.home / "runs").glob(f"*/{RUN}"))
        raise EvalError(f"no run {name!r}; give a run's directory, or one of: {', '.join(known) or 'none yet'}")
    header = _header(directory)
    if "summary" not in header:
        raise EvalError(f"run {name!r} is not finished; run the command that began it again to go on")
    records = _whole(directory / RECORDS)
    if len(records) != header["summary"].get("n"):
        raise EvalError(
            f"run {name!r} has {len(records)} records, its summary says {header['summary'].get('n')}; make it anew"
        )
    return Finished(directory, header["kind"], header["made_with"], header["summary"], tuple(records))


def _same(directory: Path, there: Mapping[str, Any], header: Mapping[str, Any]) -> None:
    """Raise EvalError where what is there is not this run, cut short."""
    remedy = "choose another name with --run, or begin anew with --fresh"
    if "summary" in there:
        raise EvalError(f"run {directory.name!r} is finished; {remedy}")
    old = dict(_flat({key: there[key] for key in ("kind", "made_with")}))
    new = dict(_flat({key: header[key] for key in ("kind", "made_with")}))
    changed = [
        f"{key} {old.get(key)!r}, now {new.get(key)!r}" for key in sorted(old | new) if old.get(key) != new.get(key)
    ]
    if changed:
        raise EvalError(f"run {directory.name!r} was begun with other settings ({'; '.join(changed[:3])}); {remedy}")


def _flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, part in value.items():
        name = f"{prefix}{key}"
        if isinstance(part, Mapping):
            yield from _flat(part, f"{name}.")
        else:
            yield name.removeprefix("made_with.").removeprefix("settings."), part


def _header(directory: Path) -> dict[str, Any]:
    try:
        header = json.loads((directory / RUN).read_text(encoding="utf-8"))
        return {"kind": header["kind"], "made_with": header["made_with"], **header}
    except (ValueError, KeyError, TypeError) as error:
        raise EvalError(f"{directory / RUN} is damaged ({error}); make the run anew with --fresh") from None


def _whole(path: Path) -> list[Any]:
    """The rows up to the first that is not whole: the rest of it was lost when the process was killed."""
    rows = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def _line(row: Any) -> str:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n"


def _write(path: Path, content: Mapping[str, Any]) -> None:
    """All of it or nothing."""
    write_whole(path, json.dumps(content, ensure_ascii=False, indent=1) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is never there by half. Raises OSError."""
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def _host() -> dict[str, Any]:
    return {"machine": platform.machine(), "system": platform.platform(), "python": platform.python_version()}


def _unusable(directory: Path, error: OSError) -> EvalError:
    return EvalError(f"the run in {directory} cannot be written: {error.strerror or error}; check the disk")
