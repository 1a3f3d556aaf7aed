"""Data sets on disk -> what a training learns from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from eval.cases import QASet, read_claims, read_qa
from rag.finetune import recipe
from rag.finetune.records import Example, Labelled, Made, Material
from rag.finetune.statements import Asked, decided, stated


def material(folder: Path) -> Material:
    """What the checker's model learns from. Raises EvalError: a set of the recipe is not in the folder."""
    documents: list[str] = []
    examples: list[Example] = []
    for texts in recipe.QUESTIONS:
        data = read_qa(folder / texts.name)
        documents += _used(texts, (entry.text for entry in data.corpus))
        examples += _statements(data)
    for texts in recipe.CLAIMS:
        claims = read_claims(folder / texts.name)
        documents += _used(texts, sorted({each.context for each in claims}))
        examples += (Example(each.context, (Made(each.claim, each.label, whole=False),)) for each in claims)
    return Material(tuple(documents), tuple(examples))


def labelled(folder: Path) -> Mapping[str, list[Labelled]]:
    """What the regression is fitted to. Raises EvalError: a set of the recipe is not in the folder."""
    return {
        name: [Labelled(each.claim, each.context, each.label, each.group or "") for each in read_claims(folder / name)]
        for name in recipe.BLEND
    }


def unseen(folder: Path) -> list[str]:
    """Documents that the model does not learn from. Raises EvalError as `material` does."""
    return [
        document
        for texts in recipe.ALTERED
        for document in _used(texts, (entry.text for entry in read_qa(folder / texts.name).corpus))
    ]


def _used(texts: recipe.Texts, found: Iterable[str]) -> list[str]:
    everything = list(found)
    if not texts.others:
        return [text[: texts.longest] for text in everything[:: texts.every]] * texts.times
    left = [text for number, text in enumerate(everything) if number % texts.every]
    return left + [rest for text in everything[:: texts.every] if texts.longest and (rest := text[texts.longest :])]


def _statements(data: QASet) -> list[Example]:
    """Questions with short answers as statements; yes-or-no questions with what decided them."""
    text = {entry.id: entry.text for entry in data.corpus}
    decisions = [
        (each, decided(each.question, each.decision == "yes", each.answers[0]))
        for each in data.questions
        if each.decision
    ]
    if decisions:
        return [example for each, example in decisions if example and each.decision != "maybe"]
    return stated([Asked(each.question, each.answers[0], text[each.relevant[0]]) for each in data.questions], 0)
