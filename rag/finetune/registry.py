"""The versions of the tuned model that were promoted, and which one answers.

    <home>/models/v1/            the adapter as peft has it, with `footnote.json`: what it is, and how it was judged
    <home>/models/current.json   the version in use, and those before it, oldest first

A version is there as a whole or not at all, and nothing of it changes afterwards. Knows nothing about how a model is
trained, judged or run.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from rag.adapters import CONFIG, CURRENT, NONE, NOTE, SHIPPED, SHIPPED_FOLDER, WEIGHTS, models_folder
from rag.errors import FinetuneError
from rag.finetune.runs import write
from rag.settings import Settings
from rag.weights import sha256_of

NUMBERED = re.compile(r"v([1-9]\d*)")
LOCK, WAIT = "lock", 10.0
"""The file that only one process holds, and the seconds to wait for it."""


class Version(NamedTuple):
    """A model that can answer."""

    version: str
    current: bool
    """True for the one that answers now."""
    created: str = ""
    """When it was promoted, UTC."""
    method: str = ""
    base: str = ""
    """The name of the model that it was made from."""
    sha256: str = ""
    """Of the adapter's weights."""
    folder: str = ""


class _Chosen(NamedTuple):
    current: str
    before: tuple[str, ...]


def add(settings: Settings, adapter: Path, entry: Mapping[str, Any]) -> str:
    """Keep an adapter as the next version; which version answers does not change.

    Args:
        settings: under whose home directory.
        adapter: the directory of a PEFT adapter.
        entry: what is known of it: `created` (UTC, ISO), `base` (`name` and `sha256`), `prompt` (its version),
            `method`, `sha256` (of the adapter's weights), `data` (its card), `figures` (of the evaluation).

    Returns:
        The version.

    Raises:
        FinetuneError: it is no adapter, or not the one that the entry is about, or it cannot be written.
    """
    for name in (CONFIG, WEIGHTS):
        if not (adapter / name).is_file():
            raise FinetuneError(f"{adapter} has no {name}; give the directory of a PEFT adapter")
    with _held(settings) as folder:
        version = f"v{max(map(_number, _folders(folder)), default=0) + 1}"
        part = folder / f".{version}.part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            _copy(adapter, part, {"version": version, **entry})
            part.rename(folder / version)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
    return version


def use(settings: Settings, version: str) -> None:
    """Let a version answer from now on: a promoted one, `shipped`, or `none` for the base model as it is.

    Raises:
        FinetuneError: there is no such version, or the choice cannot be written.
    """
    with _held(settings) as folder:
        _check_known(folder, version)
        try:
            chosen = _chosen(folder)
        except FinetuneError:
            # A person who names a version mends what can no longer be read.
            _choose(folder, _Chosen(version, ()))
            return
        if version != chosen.current:
            _choose(folder, _Chosen(version, (*chosen.before, chosen.current)))


def rollback(settings: Settings) -> str:
    """Let the version answer that did before the last change; again and again, back to the first one.

    Returns:
        The version that answers now.

    Raises:
        FinetuneError: there is none before, or it is gone, or the choice cannot be read or written.
    """
    with _held(settings) as folder:
        chosen = _chosen(folder)
        if not chosen.before:
            raise FinetuneError(
                f"no version answered before {chosen.current!r}; choose one with `footnote finetune use VERSION`"
            )
        *before, last = chosen.before
        _check_known(folder, last)
        _choose(folder, _Chosen(last, tuple(before)))
    return last


def current(settings: Settings) -> str:
    """The version that answers; `shipped` until one is chosen. Raises FinetuneError: the choice cannot be read."""
    return _chosen(models_folder(settings)).current


def versions(settings: Settings) -> list[Version]:
    """Every version that can be used: `none`, `shipped`, and the promoted ones, oldest first.

    Raises:
        FinetuneError: the choice, or what is known of a version, cannot be read.
    """
    folder, now = models_folder(settings), current(settings)
    rows = [Version(NONE, now == NONE), _version(SHIPPED, SHIPPED_FOLDER, now)]
    return rows + [_version(name, folder / name, now) for name in _promoted(folder)]


def _version(name: str, folder: Path, now: str) -> Version:
    note = _read(folder / NOTE) if (folder / NOTE).exists() else {}
    base = note.get("base")
    return Version(
        name,
        name == now,
        created=str(note.get("created", "")),
        method=str(note.get("method", "")),
        base=str(base.get("name", "")) if isinstance(base, dict) else "",
        sha256=str(note.get("sha256", "")),
        folder=str(folder) if note else "",
    )


def _copy(adapter: Path, part: Path, entry: Mapping[str, Any]) -> None:
    """An adapter with its note. Raises OSError, and FinetuneError: its weights are not those that the entry names."""
    part.mkdir()
    for name in (CONFIG, WEIGHTS):
        shutil.copyfile(adapter / name, part / name)
    found = sha256_of(part / WEIGHTS)
    expected = entry.get("sha256", found)
    if found != expected:
        raise FinetuneError(
            f"the adapter {adapter} has the hash {found[:12]}, {expected[:12]} was judged; evaluate it anew"
        )
    write(part / NOTE, {**entry, "sha256": found})


def _check_known(folder: Path, version: str) -> None:
    known = (NONE, SHIPPED, *_promoted(folder))
    if version not in known:
        raise FinetuneError(f"there is no version {version!r}; choose one of: {', '.join(known)}")


def _chosen(folder: Path) -> _Chosen:
    path = folder / CURRENT
    if not path.exists():
        return _Chosen(SHIPPED, ())
    found = _read(path)
    now, before = found.get("current"), found.get("before")
    if not (isinstance(now, str) and isinstance(before, list) and all(isinstance(each, str) for each in before)):
        raise _damaged(path, "no version is named")
    return _Chosen(now, tuple(before))


def _choose(folder: Path, chosen: _Chosen) -> None:
    write(folder / CURRENT, {"current": chosen.current, "before": list(chosen.before)})


def _folders(folder: Path) -> Sequence[str]:
    """The directories that have a version's name, in the order of their numbers."""
    found = [path.name for path in folder.glob("v*") if NUMBERED.fullmatch(path.name)]
    return sorted(found, key=_number)


def _promoted(folder: Path) -> Sequence[str]:
    return [name for name in _folders(folder) if (folder / name / NOTE).is_file()]


def _number(version: str) -> int:
    return int(version[1:])


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, str(error)) from None
    if not isinstance(found, dict):
        raise _damaged(path, "no object")
    return found


def _damaged(path: Path, why: str) -> FinetuneError:
    remedy = "choose a version with `footnote finetune use VERSION`" if path.name == CURRENT else "remove its directory"
    return FinetuneError(f"{path} is damaged ({' '.join(why.split())}); {remedy}")


@contextmanager
def _held(settings: Settings) -> Iterator[Path]:
    """The directory of the versions, while no other process changes it."""
    folder = models_folder(settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / LOCK, timeout=WAIT):
            yield folder
    except Timeout:
        raise FinetuneError(f"another process is changing {folder}; try again when it is done") from None
    except OSError as error:
        why = error.strerror or error
        raise FinetuneError(f"{folder} cannot be written: {why}; free some disk, or check its permissions") from None
