"""What a tuned model must show before it may answer, and what a person is told where it does not."""

from __future__ import annotations

import re
from typing import Any

import pytest

from eval.gains import ALONE, SHOWN
from rag.finetune.promote import MARGIN, verdict


def difference(value: float, width: float = 0.01, n: int = 200) -> dict[str, float]:
    return {"value": value, "low": value - width, "high": value + width, "p": 0.01, "n": n}


GOOD = {
    "faithfulness": difference(0.1),
    "correct": difference(0.0),
    "f1": difference(0.05),
    "declines": difference(0.4),
    "over_refusal": difference(0.1),
    "balanced_abstention": difference(0.3),
}
NOTHING = dict.fromkeys(GOOD, difference(0.0))


def evaluated(changes: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """An evaluation over one set, good but for the changes."""
    differences = {**GOOD, **(changes or {})}
    summary = {"n": 200, "failed": 0, "differences": {ALONE: differences, SHOWN: NOTHING}, **more}
    return {"adapter": "a" * 64, "sets": {"leases": summary}}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"faithfulness": difference(0.0), "correct": difference(0.1)},
        {"correct": difference(-MARGIN + 0.01)},
        {"declines": difference(0.0)},
        {"balanced_abstention": difference(0.0)},
    ],
)
def test_a_better_model_is_let_through(changes: dict[str, Any]) -> None:
    assert verdict(evaluated(changes)) == (True, ())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"correct": difference(-0.03)},
            r"leases: the share of correct answers may be worse: -0\.030 \[-0\.040, -0\.020\], .* below -0\.02; train",
        ),
        ({"correct": difference(0.0, width=0.05)}, r"share of correct answers may be worse: .*more questions"),
        ({"faithfulness": difference(-0.2), "correct": difference(0.2)}, r"faithfulness may be worse: -0\.200"),
        ({"f1": difference(-0.1)}, r"F1 of the answers may be worse: -0\.100"),
        (
            {"faithfulness": difference(0.005)},
            r"neither is significantly better: faithfulness \+0\.005 .* and share of correct answers \+0\.000",
        ),
        (
            {"declines": difference(0.0), "balanced_abstention": difference(-0.1)},
            r"not significantly better at declining: share of unanswerable questions declined \+0\.000 .*-0\.100",
        ),
        (
            {"faithfulness": {**difference(0.1), "low": float("nan")}, "correct": difference(0.1)},
            "faithfulness may be worse",
        ),
    ],
)
def test_one_that_is_not_better_is_refused_with_figures(changes: dict[str, Any], reason: str) -> None:
    found = verdict(evaluated(changes))
    assert not found.holds
    assert len(found.reasons) == 1
    assert re.search(reason, found.reasons[0]), found.reasons[0]


def test_f1_alone_makes_no_better_model() -> None:
    assert not verdict(evaluated({"faithfulness": difference(0.0), "f1": difference(0.3)})).holds


def test_every_fault_is_named_at_once() -> None:
    found = verdict(evaluated(dict.fromkeys(GOOD, difference(-0.1))))
    assert [reason.partition(":")[2].split()[0] for reason in found.reasons] == ["the", "the", "the", "neither", "it"]


@pytest.mark.parametrize(
    ("evaluation", "reason"),
    [
        ({}, "nothing was evaluated; run `footnote finetune evaluate RUN SET` first"),
        ({"sets": {}}, "nothing was evaluated"),
        (evaluated(n=29), "29 questions were asked, at least 30 are needed; raise --limit"),
        (evaluated(failed=2), "2 of 200 questions failed; mend what is listed"),
        (evaluated(differences={}), "the faithfulness of the two models can be compared on 0 questions"),
        (evaluated({"faithfulness": difference(0.1, n=12)}), "can be compared on 12 questions, at least 30 are needed"),
        (evaluated({"declines": {}}), "a larger set that names the documents which answer its questions"),
    ],
)
def test_an_evaluation_that_shows_nothing_is_refused(evaluation: dict[str, Any], reason: str) -> None:
    found = verdict(evaluation)
    assert not found.holds
    assert any(reason in each for each in found.reasons), found.reasons


def test_every_set_has_to_hold() -> None:
    good, bad = evaluated()["sets"]["leases"], evaluated({"f1": difference(-0.1)})["sets"]["leases"]
    assert verdict({"sets": {"leases": good, "ferries": good}}).holds
    found = verdict({"sets": {"leases": good, "ferries": bad}})
    assert [reason.partition(":")[0] for reason in found.reasons] == ["ferries"]


def test_another_adapter_than_the_evaluated_one_is_refused() -> None:
    assert verdict(evaluated(), "a" * 64).holds
    found = verdict(evaluated(), "b" * 64)
    assert found.reasons == (
        "adapter aaaaaaaaaaaa was evaluated, the training's is bbbbbbbbbbbb; "
        "run `footnote finetune evaluate RUN SET` again",
    )
    assert "adapter unknown was evaluated" in verdict({"sets": evaluated()["sets"]}, "b" * 64).reasons[0]


def test_what_is_shown_can_be_judged_instead() -> None:
    assert not verdict(evaluated(), by=SHOWN).holds
