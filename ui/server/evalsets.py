"""What an evaluation can ask: sets of the home directory by their names, stored feedback, and sets of this machine.

Knows nothing about how a set is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from eval import from_feedback
from eval.cases import CORPUS, QA, QASet, read_qa
from rag.errors import EvalError, FinetuneError
from rag.settings import Settings
from ui.server.binding import LOOPBACK, NotHere, is_loopback
from ui.server.feedback import FILE

FEEDBACK = "feedback"
"""The name of what people said of answers; no set of the home directory is found by it."""
SETS = "sets"
"""The folder of sets in the home directory."""


class NoSuchSet(EvalError):
    """There is no set by a name."""

    status = 404


class SetRefused(EvalError):
    """A set that cannot be used; the message names the file, line and field."""

    status = 422


class Known(NamedTuple):
    """A set that can be chosen by its name."""

    name: str
    questions: int
    """How many there are, as far as that can be told without reading them all; of feedback, of verdicts."""


class Sets:
    """The sets that an evaluation of one collection can ask."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self.folder = settings, settings.home / SETS
        self._counted: dict[Path, tuple[tuple[int, int], int]] = {}

    def listed(self) -> list[Known]:
        """Those that have a name, feedback last where there is any."""
        found = [Known(name, self._count(path / QA if path.is_dir() else path)) for name, path in self._named()]
        given = self._count(self._settings.home / FILE)
        return [*found, *([Known(FEEDBACK, given)] if given else [])]

    def named(self, name: str) -> QASet:
        """The set by a name; of feedback, as it is now.

        Raises:
            NoSuchSet: there is none.
            SetRefused: it cannot be used.
        """
        if name == FEEDBACK:
            return self._feedback()
        path = dict(self._named()).get(name)  # a name is looked for among those there are, and no part of a path
        if path is None:
            known = ", ".join([*dict(self._named()), FEEDBACK])
            raise NoSuchSet(f"there is no set {name[:80]!r}; put it into {self.folder}, or choose one of: {known}")
        return self.at(path)

    @property
    def local(self) -> bool:
        """Whether programs of this machine alone can ask, so that places of it may be named."""
        return self._settings.host in LOOPBACK and not self._settings.auth

    def place(self, path: str, host: str) -> Path:
        """A place of this machine that somebody at an address names.

        Raises:
            NotHere: they may not name any.
            SetRefused: it means nothing here.
        """
        if not (self.local and is_loopback(host)):
            raise NotHere("paths are taken from programs of the server's own machine alone; name a set with `set`")
        if not Path(path).is_absolute() or "\x00" in path:
            raise SetRefused(f"the path must be absolute, found {path[:200]!r}")
        return Path(path)

    def at(self, path: Path) -> QASet:
        """The set in a place of this machine: a directory, or a file of questions about the collection's documents.

        Raises:
            SetRefused: it cannot be used.
        """
        try:
            return read_qa(path)
        except EvalError as error:
            raise SetRefused(str(error)) from error
        except OSError as error:  # before a file of it is opened, such as a name that is too long
            raise SetRefused(f"{path} cannot be read: {error.strerror or error}; check the path") from error

    def _count(self, path: Path) -> int:
        """How many lines a file has, read again only where it was written since; none where it is not there."""
        if not path.is_file():
            return 0
        stat = path.stat()
        written, known = (stat.st_mtime_ns, stat.st_size), self._counted.get(path)
        if known is None or known[0] != written:
            with path.open("rb") as file:
                known = self._counted[path] = (written, sum(bool(line.strip()) for line in file))
        return known[1]

    def _named(self) -> Iterator[tuple[str, Path]]:
        if not self.folder.is_dir():
            return
        for path in sorted(self.folder.iterdir()):
            usable = all((path / name).is_file() for name in (CORPUS, QA)) or path.suffix == ".jsonl"
            if usable and path.name != FEEDBACK:
                yield path.name, path

    def _feedback(self) -> QASet:
        settings = self._settings
        out = settings.cache_dir / SETS / settings.collection / FEEDBACK
        if not (settings.home / FILE).exists():
            raise NoSuchSet("nobody has said anything of an answer yet; like or correct some on the page first")
        try:
            from_feedback.make(settings.home / FILE, out, settings.collection)
        except (EvalError, FinetuneError) as error:
            raise SetRefused(str(error)) from error
        return self.at(out)
