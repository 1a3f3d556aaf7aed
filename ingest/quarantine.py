"""The report of what could not be read: one JSON object a failed document, in a file under the home directory.

It says what the catalog says, so it is written anew after every run. Knows nothing about how results are shown.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from ingest.catalog import Catalog, Row
from rag.errors import IngestError
from rag.settings import Settings

FIELDS = ("stage", "reason", "sha256", "size", "parent", "first_seen", "updated_at")
"""What a line has of a document's row, beside its `path`."""


def write(settings: Settings, catalog: Catalog) -> Path | None:
    """Write the report of the settings' collection; None, and no file, where nothing failed.

    Raises:
        IngestError: it cannot be written.
    """
    path = settings.home / "quarantine" / f"{settings.collection}.jsonl"
    failed = [row for row in catalog.rows(settings.collection) if row.status == "failed"]
    try:
        if not failed:
            path.unlink(missing_ok=True)
            return None
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, (_line(row) for row in failed))
    except OSError as error:
        raise IngestError(
            f"the report of failed documents {path} cannot be written: {error.strerror or error}; "
            "check the disk and the folder's rights"
        ) from error
    return path


def _line(row: Row) -> str:
    record = {"path": row.doc, **{name: getattr(row, name) for name in FIELDS}}
    return json.dumps(record, ensure_ascii=False) + "\n"


def _replace(path: Path, lines: Iterable[str]) -> None:
    """Write under a name that no other process uses, then rename: a reader sees the old report or the new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
