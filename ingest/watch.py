"""Folders -> batches of paths where something changed; and which documents have gone from there.

A batch says where to look, not what happened: files are looked at when it is worked on, so it does not matter how an
editor saves, or in which order changes were seen. Knows nothing about the index or what is done with a batch.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from threading import Event

from ingest.catalog import Catalog, Row
from ingest.discover import absolute, is_left_out, plain
from ingest.writer import is_there
from rag.errors import IngestError

DEBOUNCE_MS = 1600
"""Changes that follow each other are gathered for as long as this..."""
STEP_MS = 200
"""... or until nothing more came for this long: an editor that saves by renaming needs a few milliseconds."""
TICK_MS = 200
"""How soon a watch sees that it shall stop."""
MANY = 4000
"""With so many changes at once the system may have dropped some (Linux queues 16,384): everything is looked at."""
UNNAMEABLE = "decode path"
"""Part of what watchfiles says of a file name that is no UTF-8; it ends there."""

Batch = tuple[Path, ...]
"""Absolute paths at or below which something changed; some of them may have gone."""
Change = tuple[int, str]


def watch(folders: Sequence[Path], stop: Event) -> Iterator[Batch]:
    """Yield the folders themselves, then a batch whenever something changed in them; ends when `stop` is set.

    The folders are watched from before the first batch on: what changes while a batch is worked on is in the next.
    Names that `discover` leaves out are left out.

    Raises:
        IngestError: they cannot be watched, or one of them has gone.
    """
    roots = tuple(absolute(folder) for folder in folders)
    known = False
    for found in _changes(roots, stop):
        _all_there(roots)
        batch = roots if found is None else _batch(found, roots)
        if batch and not (known and stop.is_set()):
            known = True
            yield batch


def _changes(roots: Sequence[Path], stop: Event) -> Iterator[set[Change] | None]:
    """Sets of changes; None where everything has to be looked at, first of all when the watch has begun."""
    from watchfiles import watch as changes_in

    while not stop.is_set():
        begun = False
        try:
            for found in changes_in(
                *roots,
                watch_filter=None,
                debounce=DEBOUNCE_MS,
                step=STEP_MS,
                stop_event=stop,
                rust_timeout=TICK_MS,
                yield_on_timeout=True,
                raise_interrupt=False,
                ignore_permission_denied=True,
            ):
                if not begun or found:
                    yield set(found) if begun else None
                begun = True
        except (OSError, RuntimeError) as error:
            if UNNAMEABLE in str(error):
                continue
            _all_there(roots)
            raise IngestError(
                f"the folders cannot be watched: {error}; watch fewer, or raise the system's limit "
                "(Linux: `sysctl fs.inotify.max_user_watches=1048576`)"
            ) from error


def missing(catalog: Catalog, ledger: str, paths: Sequence[Path], seen: Container[str] = ()) -> list[Row]:
    """Documents at or below the paths whose files have gone; what was found in them goes with them.

    `seen` names documents that were just met: a name that is no UTF-8 cannot be looked up by what it is called here.
    """
    roots = [Path(plain(str(absolute(path)))) for path in paths]
    return [
        row
        for row in catalog.rows(ledger)
        if not (row.parent or row.doc in seen or is_there(row.doc))
        and any(Path(row.doc).is_relative_to(root) for root in roots)
    ]


def _all_there(roots: Sequence[Path]) -> None:
    """A folder that vanishes as a whole was moved, or lies on a disk that was taken out: nobody deleted its files."""
    gone = [str(root) for root in roots if not root.is_dir()]
    if gone:
        raise IngestError(
            f"the watched folder {', '.join(gone)} has gone; its documents stay in the index: bring it back and watch "
            "it again, or take them out with `footnote remove`"
        )


def _batch(changes: Iterable[Change], roots: Sequence[Path]) -> Batch:
    """What to look at for some changes: each path once, and everything where they are many."""
    looked: dict[Path, None] = {}
    for count, (kind, name) in enumerate(sorted(changes, key=lambda change: change[1])):
        if count >= MANY:
            return tuple(roots)
        looked.update(dict.fromkeys(_looked_at(kind, Path(name), roots)))
    return tuple(looked)


def _looked_at(kind: int, path: Path, roots: Sequence[Path]) -> list[Path]:
    from watchfiles import Change as Kind

    root = next((root for root in roots if path.is_relative_to(root)), None)
    if root is None or any(is_left_out(name) for name in path.relative_to(root).parts):
        return []
    if kind == Kind.modified and path.is_dir() and not path.is_symlink():
        return []  # its rights or its time; files in it that changed are told by themselves
    inside = [part for part in (path, *path.parents) if part.is_relative_to(root) and part != root]
    if any(part.is_symlink() and part.is_dir() for part in inside):
        return [root]  # what is behind a link may go by another name: `discover` decides
    return [path]
