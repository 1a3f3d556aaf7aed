"""Records of feedback -> text for a terminal. Knows nothing about flags or JSON."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ui.records import counted
from ui.terminal import harmless

LEFT_OUT = {
    "uncorrected": "that an answer is wrong, without what is right",
    "overruled": "that a later one on the same question contradicts",
}


def cases(record: Mapping[str, Any]) -> str:
    """What became of verdicts, and what to do next."""
    questions, unanswerable = counted(record["questions"], "question"), record["unanswerable"]
    lines = [
        f"{counted(record['verdicts'], 'verdict')}: {questions} over {counted(record['documents'], 'passage')}, "
        f"{unanswerable:,} without an answer",
        *(f"left out: {counted(record[name], 'verdict')} {why}" for name, why in LEFT_OUT.items() if record[name]),
    ]
    if record["unplaced"]:
        lines.append(
            f"{counted(record['unplaced'], 'question')} whose answer stands in none of the passages, word for word: "
            "look at them before you rely on them"
        )
    lines.append(f"wrote {record['out']}; measure with: footnote eval answers {shlex.quote(record['out'])}")
    return harmless("\n".join(lines))
