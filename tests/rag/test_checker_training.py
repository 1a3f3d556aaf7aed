"""Training the checker, on a tiny encoder: it learns, a killed run goes on to the same end, regressions are fair."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from rag.align import pair, side, stacked
from rag.evidence import FIGURES
from rag.finetune import checker as training
from rag.finetune.blend import Evidence, evidence, fit
from rag.finetune.checker import train
from rag.finetune.records import Labelled, Material, Progress
from rag.finetune.verifier import altered
from rag.joint import Joint
from rag.windows import Passage, nearest, read
from tests.conftest import WordEncoder
from tests.rag.test_made_claims import TITANIC, WHALES
from tests.rag.test_verify import make_verifier

MATERIAL = Material((TITANIC, WHALES), ())


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder in the hub's layout with random weights, as wide as the words' vectors."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("encoder")
    config = BertConfig(
        vocab_size=50, hidden_size=WordEncoder.dim, num_hidden_layers=3, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks that take a second."""
    monkeypatch.setattr(training, "CHUNK", 96)


def run(tiny: Path, out: Path, chunks: int, die_after: int | None = None) -> tuple[Joint, list[Progress]]:
    told: list[Progress] = []

    def say(progress: Progress) -> None:
        told.append(progress)
        if len(told) == die_after:
            raise Killed

    out.mkdir(exist_ok=True)
    return train(MATERIAL, WordEncoder(), tiny, out, chunks * 96, 7, say), told


def test_a_training_that_was_killed_goes_on_and_ends_the_same(tiny: Path, small: None, tmp_path: Path) -> None:
    whole, told = run(tiny, tmp_path / "whole", 4)
    with pytest.raises(Killed):
        run(tiny, tmp_path / "cut", 4, die_after=3)  # the third chunk is lost: the second was kept
    resumed, rest = run(tiny, tmp_path / "cut", 4)
    assert [each.pairs for each in told] == [96, 192, 288, 384]
    assert [each.pairs for each in rest] == [288, 384]
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_it_learns(tiny: Path, small: None, tmp_path: Path) -> None:
    model, told = run(tiny, tmp_path / "run", 8)
    assert told[-1].loss < told[0].loss
    assert told[-1].token_loss < told[0].token_loss
    encoder = WordEncoder()
    (segments,) = read([Passage(TITANIC)], encoder)
    logits = []
    for claim in ("It sank in the Atlantic in April 1912.", "It juggled seven purple walruses in Ohio."):
        mine = side(claim, encoder.encode([claim])[0])
        batch = stacked([pair(mine, nearest(mine, segments, 1)[0].side)])
        with torch.no_grad():
            logits.append(float(model(**{name: torch.from_numpy(array) for name, array in batch.items()})[0]))
    assert logits[0] > logits[1]


def test_evidence_of_labelled_claims() -> None:
    claims = [
        Labelled("The Titanic sank in April 1912.", TITANIC, 1),
        Labelled("The Titanic was built by Harland. It sank in April 1912.", TITANIC, 1),
        Labelled("The Titanic sank. It was blue.", TITANIC, 0),  # which of the two is wrong, nobody said
        Labelled("Is that so?", TITANIC, 1),
        Labelled("A blue whale eats krill.", TITANIC, 0, "group"),
        Labelled("A blue whale eats krill.", WHALES, 1, "group"),
    ]
    found = evidence(make_verifier(), claims)
    assert found.values.shape == (4, len(FIGURES))
    assert found.labels.tolist() == [1, 1, 1, 1]


def test_altered_claims_are_the_same_in_every_run_and_of_both_labels() -> None:
    once, again, other = altered([TITANIC, WHALES], 0), altered([TITANIC, WHALES], 0), altered([TITANIC, WHALES], 1)
    assert once == again != other
    assert len(once) > 600
    assert 0.3 < sum(each.label for each in once) / len(once) < 0.7
    assert all(each.claim and each.context for each in once)


def test_a_regression_is_fair_to_small_sets_and_to_the_rarer_label() -> None:
    rng = np.random.default_rng(0)

    def drawn(n: int, share: float) -> Evidence:
        labels = (np.arange(n) < n * share).astype(float)
        return Evidence(rng.normal(labels[:, None] * 2 - 1, 1.0, (n, len(FIGURES))), labels)

    blend = fit({"large": drawn(4000, 0.05), "small": drawn(200, 0.5)})
    assert blend.trained_on == ("large", "small")
    assert blend.probability(np.zeros(len(FIGURES))) == pytest.approx(0.5, abs=0.1)
    chances = [blend.probability(np.full(len(FIGURES), x)) for x in (-1.0, -0.3, 0.3, 1.0)]
    assert all(a < b for a, b in pairwise(chances))
