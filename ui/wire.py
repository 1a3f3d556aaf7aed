"""What goes between a process that hands its work over and the one that does it: JSON, an object a line.

Pure. File names may hold bytes that are no UTF-8; they travel as JSON's escapes. Knows nothing about HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ingest.discover import absolute
from ingest.progress import InHand, Progress
from ingest.results import FileResult, Summary
from rag.filter import Pairs

TOKEN = "X-Footnote-Token"  # noqa: S105 - the header's name
INGEST, STOP, REMOVE = "/api/v1/ingest", "/api/v1/ingest/stop", "/api/v1/remove"

HTTP_ERROR = "HTTPError"
"""The kind of a refusal that is no error of ours."""


def packed(value: Any) -> bytes:
    """A value as one line of ASCII."""
    return json.dumps(value).encode("ascii") + b"\n"


def order(paths: Sequence[Path], prune: bool, metadata: Pairs = ()) -> bytes:
    """The body of a request to ingest."""
    return packed({"paths": [str(absolute(path)) for path in paths], "prune": prune, "metadata": metadata})


def result(record: FileResult) -> bytes:
    """What became of one document."""
    return packed({"result": asdict(record)})


def result_of(value: dict[str, Any]) -> FileResult:
    """The record that `result` packed."""
    return FileResult(**value)


def progress(record: Progress) -> bytes:
    """How far the run is."""
    return packed({"progress": {**record._asdict(), "in_hand": [item._asdict() for item in record.in_hand]}})


def progress_of(value: dict[str, Any]) -> Progress:
    """The record that `progress` packed."""
    return Progress(**{**value, "in_hand": tuple(InHand(**item) for item in value["in_hand"])})


def summary(record: Summary) -> bytes:
    """The counts of a run that is over; its failures went before, as results."""
    counts = asdict(record)
    del counts["failures"]
    return packed({"summary": counts})


def summary_of(value: dict[str, Any], failures: list[FileResult]) -> Summary:
    """The record that `summary` packed, with the failures that went before."""
    return Summary(**value, failures=failures)


def error(message: str, kind: str) -> bytes:
    """Why a run ended before its time; `kind` is the name of an error in `rag.errors`."""
    return packed({"error": " ".join(message.split()), "kind": kind})
