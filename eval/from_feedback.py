"""What people said of answers -> questions with reference answers, for `footnote eval answers`.

Knows nothing about how feedback is collected, or how answers are measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.cases import CORPUS, QA, Entry, Question
from eval.run import write_whole
from eval.texts import contains, normalised
from rag.declines import declines
from rag.errors import EvalError
from rag.finetune.feedback import Feedback, read_lines

MADE = "from-feedback.json"
"""What the set was made of; marks a directory that may be written again."""
FEW = 5
"""Words of a reference that has to stand in an answer as it is; of a longer one, half of the words will do."""


@dataclass(frozen=True, slots=True)
class Cases:
    """Questions over the passages that people's answers were written from."""

    corpus: tuple[Entry, ...]
    questions: tuple[Question, ...]
    verdicts: int
    uncorrected: int
    """Answers that were not liked, without a word on what is right: they make no question."""
    overruled: int
    """Verdicts that a later one on the same question contradicts."""
    unplaced: int
    """Questions whose answer stands in none of the passages, as far as words tell."""


def cases(lines: Iterable[Feedback]) -> Cases:
    """Questions to ask again.

    What was liked, and what was given as a correction, becomes a reference; a refusal makes the question an
    unanswerable one. A question that was asked in a conversation is taken as it was made to stand alone. Verdicts on
    the same question make one case, of which those count that no later one contradicts.

    Args:
        lines: what was said last of each answer, oldest first.
    """
    given = list(lines)
    corpus = {entry.id: entry for line in given for entry in _entries(line)}
    asked: dict[str, list[Feedback]] = {}
    for line in given:
        if line.right:
            asked.setdefault(" ".join(_asked(line).casefold().split()), []).append(line)
    agreeing = {key: _agreeing(group) for key, group in asked.items()}
    questions = tuple(_question(key, group) for key, group in agreeing.items())
    kept = sum(map(len, agreeing.values()))
    return Cases(
        tuple(corpus.values()),
        questions,
        len(given),
        uncorrected=sum(not line.right for line in given),
        overruled=sum(map(len, asked.values())) - kept,
        unplaced=sum(each.answerable and not each.relevant for each in questions),
    )


def make(path: Path, out: Path, collection: str = "") -> dict[str, Any]:
    """Write a set that `eval.cases.read_qa` reads, and say what it is made of.

    Args:
        path: a feedback file; see `rag.finetune.feedback`.
        out: a new or empty directory, or one that was written so before, whose set is replaced.
        collection: take what was said of answers from this one only; from all of them without.

    Raises:
        FinetuneError: the file cannot be read, or a line is no feedback.
        EvalError: nothing came of it, other files are there, or the disk fails.
    """
    found = cases(line for line in read_lines(path, Feedback) if collection in ("", line.collection))
    if not found.questions or not found.corpus:
        raise EvalError(
            f"{path} makes no questions: of {found.verdicts} verdicts, {found.uncorrected} say that an answer is wrong "
            "and not what is right; like or correct answers whose sources are shown, and try again"
        )
    record = {
        "out": str(out),
        "feedback": str(path),
        "verdicts": found.verdicts,
        "questions": len(found.questions),
        "unanswerable": sum(not each.answerable for each in found.questions),
        "documents": len(found.corpus),
        "uncorrected": found.uncorrected,
        "overruled": found.overruled,
        "unplaced": found.unplaced,
    }
    try:
        _write(out, found, record)
    except OSError as error:
        raise EvalError(f"{out} cannot be written: {error.strerror or error}; check the disk") from error
    return record


def _write(out: Path, found: Cases, record: dict[str, Any]) -> None:
    if out.exists() and not (out / MADE).is_file() and any(out.iterdir()):
        raise EvalError(f"{out} holds other files; choose another directory with --out")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / MADE, json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    write_whole(out / CORPUS, _lines(entry.model_dump(by_alias=True) for entry in found.corpus))
    write_whole(out / QA, _lines(question.model_dump(exclude_defaults=True) for question in found.questions))


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _asked(line: Feedback) -> str:
    return line.searched.strip() or line.question


def _agreeing(group: Sequence[Feedback]) -> list[Feedback]:
    """Those that nobody contradicted later, by a correction of just that answer or on whether there is one at all."""
    kept: list[Feedback] = []
    for line in group:
        rejected = line.answer.strip() if line.verdict == "down" else ""
        declined = declines(line.right)
        kept = [each for each in kept if declines(each.right) == declined and each.right != rejected]
        kept.append(line)
    return kept


def _question(key: str, group: Sequence[Feedback]) -> Question:
    id_ = f"feedback-{_digest(key)}"
    if declines(group[-1].right):
        return Question(id=id_, question=_asked(group[-1]), answerable=False)
    references = tuple(dict.fromkeys(line.right for line in group))
    return Question(
        id=id_,
        question=_asked(group[-1]),
        answers=references,
        relevant=tuple(dict.fromkeys(place for line in group for place in _places(line))),
        long=any(len(normalised(reference)) > FEW for reference in references),
    )


def _places(line: Feedback) -> Iterator[str]:
    """The passages that hold what is right: those that a liked answer cites, or else those that have its words."""
    entries = list(_entries(line))
    cited = [entries[number].id for number in line.cited if number < len(entries)] if line.verdict == "up" else []
    yield from cited or [entry.id for entry in entries if contains(entry.text, line.right)]


def _entries(line: Feedback) -> Iterator[Entry]:
    """Its passages as documents; the same passage is the same document, whoever was shown it."""
    for each in line.passages:
        text = f"{each.header}\n{each.text}" if each.header else each.text
        title = " › ".join(dict.fromkeys(filter(None, (each.title, *each.headings))))
        yield Entry(_id=f"passage-{_digest(each.doc, title, text)}", title=title, text=text)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
