"""The embedders on the real weights: alike, exact where they should be, and never cutting a text silently."""

from __future__ import annotations

import json
import random
import string
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from eval.bench.texts import passages
from rag.convert import pooling
from rag.embed import Embedder, OpenVINOEmbedder, TransformersEmbedder, open_embedder
from rag.errors import EmbedError, TextTooLong
from rag.settings import Settings
from rag.types import Vectors
from rag.weights import find_embedder

BACKENDS = ["openvino-int8", "openvino", "sentence-transformers"]
PASSAGES = 8
"""Of each length."""
OTHERS = [
    "Short.",
    "Whale",
    "",
    "Größe, naïve café — 你好世界, здравствуйте 🎉",
    "def f(x: int) -> int:\n    return x ** 2  # squares",
    "3.14159 2,000,000 1912-04-15",
]


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [
        *(text for length in (8, 40, 150) for text in passages(PASSAGES, lambda text: len(text.split()), length)),
        *OTHERS,
    ]


@pytest.fixture(scope="module")
def embedders() -> dict[str, Embedder]:
    """Opened once for the module, on the first test's settings."""
    return {}


@pytest.fixture
def of(real_settings: Settings, embedders: dict[str, Embedder]) -> dict[str, Embedder]:
    for backend in set(BACKENDS) - embedders.keys():
        embedders[backend] = open_embedder(real_settings.model_copy(update={"embed_backend": backend}))
    return embedders


def cosines(one: Vectors, other: Vectors) -> Vectors:
    return np.sum(one * other, axis=1)


@pytest.mark.slow
def test_fp32_is_exact_and_int8_is_close(of: dict[str, Embedder], texts: list[str]) -> None:
    reference = of["sentence-transformers"].embed(texts)
    exact = cosines(of["openvino"].embed(texts), reference)
    quantised = cosines(of["openvino-int8"].embed(texts), reference)
    assert exact.min() > 0.9999
    assert quantised[: -len(OTHERS)].mean() >= 0.995
    assert quantised.min() >= 0.9


@pytest.mark.slow
def test_int8_ranks_like_fp32(of: dict[str, Embedder], texts: list[str]) -> None:
    question = "How are exceptions handled in a try statement?"
    ours, exact = (
        of[backend].embed(texts) @ of[backend].embed_query(question) for backend in ("openvino-int8", "openvino")
    )
    assert np.corrcoef(ours, exact)[0, 1] > 0.99
    assert set(np.argsort(-ours)[:3]) & set(np.argsort(-exact)[:3])


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_vectors_have_length_1_one_row_a_text(of: dict[str, Embedder], texts: list[str], backend: str) -> None:
    vectors = of[backend].embed(texts)
    assert vectors.shape == (len(texts), 384) == (len(texts), of[backend].dim)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_text_gets_its_own_vector_whatever_its_length_and_neighbours(
    of: dict[str, Embedder], texts: list[str], backend: str
) -> None:
    mixed = texts[::-1]
    together = of[backend].embed(mixed)
    for row in (0, 3, 7, len(mixed) - 1):
        alone = of[backend].embed([mixed[row]])[0]
        assert together[row] @ alone > 0.999


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_same_texts_give_the_same_bytes(of: dict[str, Embedder], texts: list[str], backend: str) -> None:
    embedder = of[backend]
    assert embedder.embed(texts).tobytes() == embedder.embed(texts).tobytes()
    assert embedder.embed_query("whales").tobytes() == embedder.embed_query("whales").tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_no_texts_and_empty_texts(of: dict[str, Embedder], backend: str) -> None:
    assert of[backend].embed([]).shape == (0, 384)
    vectors = of[backend].embed(["", " "])
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_text_fills_the_window_but_a_longer_one_is_refused(of: dict[str, Embedder], backend: str) -> None:
    embedder = of[backend]
    assert embedder.window == 256
    assert embedder.count_tokens("whale " * 254) == 254
    assert embedder.embed(["whale " * 254]).shape == (1, 384)
    with pytest.raises(TextTooLong) as error:
        embedder.embed(["short", "whale " * 255, "short"])
    message = str(error.value)
    assert "257 tokens" in message
    assert "window of 256" in message
    assert "lower chunk_tokens to 254" in message
    assert "\n" not in message


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_refused_text_does_not_break_the_embedder(of: dict[str, Embedder], backend: str) -> None:
    before = of[backend].embed(["whales"])
    with pytest.raises(TextTooLong):
        of[backend].embed(["whale " * 300])
    assert of[backend].embed(["whales"]).tobytes() == before.tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_question_longer_than_the_window_is_embedded_whole(of: dict[str, Embedder], backend: str) -> None:
    embedder = of[backend]
    long = "The whale dived under the ship. " * 60 + "Gravity pulls every apple toward the ground. " * 60
    vector = embedder.embed_query(long)
    assert vector.shape == (384,)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    whale, apple, other = embedder.embed(
        ["The whale dived under the ship.", "Gravity pulls every apple toward the ground.", "Tax forms are due in May."]
    )
    assert min(vector @ whale, vector @ apple) > vector @ other + 0.15


def random_words(seed: int) -> str:
    chosen = random.Random(seed)
    return " ".join("".join(chosen.choices(string.ascii_lowercase, k=chosen.randint(3, 20))) for _ in range(600))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_long_question_of_rare_words_is_embedded_too(of: dict[str, Embedder], seed: int) -> None:
    # A cut inside a word: its rest, read as a word of its own, may take more tokens than it did before.
    vector = of["openvino-int8"].embed_query(random_words(seed))
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_short_question_is_embedded_like_a_passage(of: dict[str, Embedder]) -> None:
    embedder = of["openvino"]
    assert embedder.embed_query("Do whales eat krill?") @ embedder.embed(["Do whales eat krill?"])[0] > 0.99999


@pytest.mark.slow
def test_questions_that_come_at_once_are_embedded_like_one_alone(of: dict[str, Embedder]) -> None:
    questions = [f"how many whales {'did they really see ' * (n % 5)}in {1900 + n}" for n in range(40)]
    alone = np.stack([of["openvino-int8"].embed_query(question) for question in questions])
    with ThreadPoolExecutor(20) as pool:
        together = np.stack(list(pool.map(of["openvino-int8"].embed_query, questions)))
    assert np.allclose(alone, together, atol=1e-6)


@pytest.mark.slow
def test_a_question_does_not_wait_for_passages(of: dict[str, Embedder]) -> None:
    embedder = of["openvino-int8"]
    assert isinstance(embedder, OpenVINOEmbedder)
    with embedder._one_at_a_time, ThreadPoolExecutor(1) as pool:  # as where batches of passages take all streams
        assert pool.submit(embedder.embed_query, "whales").result(60).shape == (embedder.dim,)


@pytest.mark.slow
def test_backends_of_the_same_weights_share_an_id(of: dict[str, Embedder], real_settings: Settings) -> None:
    assert {embedder.id for embedder in of.values()} == {find_embedder("bundled").id}


def bundled_copy(folder: Path, **changes: object) -> Path:
    """The bundled embedder's directory with other small files; the weights are linked."""
    source = find_embedder("bundled").path
    folder.mkdir()
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        (folder / name).symlink_to(source / name)
    for name, content in changes.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_the_window_is_what_the_model_says(tmp_path: Path) -> None:
    narrow = bundled_copy(tmp_path / "narrow", sentence_bert_config={"max_seq_length": 64})
    silent = bundled_copy(tmp_path / "silent")
    assert TransformersEmbedder(find_embedder(str(narrow))).window == 64
    assert TransformersEmbedder(find_embedder(str(silent))).window == 512


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["openvino", "sentence-transformers"])
def test_questions_and_passages_have_the_prompts_that_the_model_names(
    of: dict[str, Embedder], real_settings: Settings, tmp_path: Path, backend: str
) -> None:
    prompts = {"query": "query: ", "document": "passage: "}
    folder = bundled_copy(tmp_path / "prompted", config_sentence_transformers={"prompts": prompts})
    changes = {"embed_model": str(folder), "embed_backend": backend}
    prompted = open_embedder(real_settings.model_copy(update=changes))
    plain = of[backend].embed(["query: whales", "passage: whales"])
    assert np.allclose(prompted.embed_query("whales"), plain[0], atol=1e-5)
    assert np.allclose(prompted.embed(["whales"])[0], plain[1], atol=1e-5)


def test_a_directory_in_another_layout_is_named(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EmbedError) as error:
        OpenVINOEmbedder(find_embedder(str(tmp_path)), tmp_path / "cache", cores=1)
    assert "tokenizer.json" in str(error.value)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, "mean"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
    ],
)
def test_pooling_is_what_the_model_says(tmp_path: Path, config: dict[str, object] | None, expected: str) -> None:
    if config is not None:
        (tmp_path / "1_Pooling").mkdir()
        (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(config))
    assert pooling(tmp_path) == expected


@pytest.mark.parametrize(
    "config",
    [
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_mean_tokens": True, "pooling_mode_lasttoken": True},
        {"pooling_mode": "max"},
        {"pooling_mode": "lasttoken"},
        {"pooling_mode": ["mean", "max"]},
    ],
)
def test_a_pooling_that_openvino_does_not_do_here_is_refused(tmp_path: Path, config: dict[str, object]) -> None:
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="use sentence-transformers"):
        pooling(tmp_path)
