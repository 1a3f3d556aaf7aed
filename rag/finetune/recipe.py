"""What the checker that ships has learned from: data sets and their part, all free to be passed on.

Knows nothing about where they are or how they are read.
"""

from __future__ import annotations

from typing import NamedTuple


class Texts(NamedTuple):
    """Documents of a set that claims are made of."""

    name: str
    times: int = 1
    """How often each counts: the sets are of very different sizes."""
    every: int = 1
    """Only every so many-th document."""
    longest: int | None = None
    """Characters of a document that are used."""
    others: bool = False
    """Instead, what all this leaves out: the other documents, and the rest of each."""


QUESTIONS = (Texts("qa-xquad-en", times=4), Texts("qa-covid-qa", longest=12_000), Texts("qa-pubmedqa", every=2))
"""Sets of questions: claims are made of their documents, and their questions and answers become statements."""
CLAIMS = (Texts("begin-cmu-dev", times=2), Texts("begin-tc-dev", times=2), Texts("fm2-dev"))
"""Sets of labelled claims: the model learns from the labels, and claims are made of their contexts."""
BLEND = ("factcheck-gpt", "fever-symmetric-dev", "wice-oracle-dev", "q2-wow")
"""Sets of labelled claims that the model never sees: the regression is fitted to them."""
ALTERED = (QUESTIONS[1]._replace(others=True), QUESTIONS[2]._replace(others=True))
"""Documents that the model never sees: the regression is fitted to claims made of them, too."""
MEASURED = (*BLEND, "lfqa-dev", "qags-xsum")
"""Sets that the checker is measured on; while it is, the regression is one that was fitted without the set."""
PAIRS, SEED = 46_000, 0


class Grounded(NamedTuple):
    """A set that the language model is tuned on, and how much of it."""

    name: str
    held_out: float = 0.0
    """Share of its documents that nothing is learned from; `footnote finetune evaluate` asks about those."""
    validation: int = 0
    """Documents (of a title together) that training is only measured on."""
    asked: int = 0
    """Sheets that begin with a person's question."""
    made: int = 0
    """Sheets that begin with a question made by rule."""
    by_rule: int = 14
    """Questions made by rule in a sheet, at most."""


GROUNDED = (
    Grounded("qa-xquad-en", held_out=0.5, validation=2, asked=576, made=40, by_rule=9),
    Grounded("qa-covid-qa", held_out=0.2, validation=6, asked=900, made=60),
    Grounded("qa-pubmedqa", validation=20, made=120),
    Grounded("wice-claim-dev", made=100),
    Grounded("factcheck-gpt", made=100),
)
"""What the adapter that ships has learned from: of sets of labelled claims, the contexts alone."""
TUNED_SEED = 0
