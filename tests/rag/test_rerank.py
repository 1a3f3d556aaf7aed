"""The cross-encoder that a setting names: what it is given, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rag.errors import WeightsError
from rag.rerank import open_reranker
from rag.settings import Settings

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rent", "euros", "ferry", "how", "much"]


def made(folder: Path, outputs: int) -> Path:
    """A tiny BERT with random weights and so many outputs."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(5)
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(vocab_size=len(VOCABULARY), num_labels=outputs, initializer_range=1.0, **size)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_there_is_none_by_default(settings: Settings) -> None:
    assert open_reranker(settings) is None


def test_weights_that_are_not_there_are_named_at_once(settings: Settings, tmp_path: Path) -> None:
    for name, message in ((str(tmp_path / "none"), "no weights at"), ("some/reranker", "run `hf download")):
        with pytest.raises(WeightsError, match=rf"{message}.*|.*setting rerank_model.*"):
            open_reranker(settings.model_copy(update={"rerank_model": name}))


@pytest.mark.slow
def test_a_cross_encoder_scores_each_text(settings: Settings, tmp_path: Path) -> None:
    found = open_reranker(settings.model_copy(update={"rerank_model": str(made(tmp_path / "one", 1))}))
    assert found is not None
    texts = ["rent euros", "ferry", "rent", *["euros ferry"] * 30]
    scores = found.scores("how much rent", texts)
    assert scores.shape == (33,)
    assert len(set(np.round(scores[:4], 5))) == 4
    assert scores[4:] == pytest.approx([scores[3]] * 29, abs=1e-5)
    assert found.scores("how much rent", texts).tolist() == scores.tolist()
    assert found.scores("how much rent", []).shape == (0,)


@pytest.mark.slow
def test_what_is_no_cross_encoder_is_refused(settings: Settings, tmp_path: Path) -> None:
    two = open_reranker(settings.model_copy(update={"rerank_model": str(made(tmp_path / "two", 2))}))
    with pytest.raises(WeightsError, match="has 2 outputs; give a cross-encoder"):
        two.scores("how much", ["rent"])  # type: ignore[union-attr]
    (tmp_path / "two" / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="cannot be loaded"):
        open_reranker(settings.model_copy(update={"rerank_model": str(tmp_path / "two")})).scores("a", ["b"])  # type: ignore[union-attr]
