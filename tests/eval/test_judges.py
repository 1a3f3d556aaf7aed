"""Other judges: tiny cross-encoders with one, two and three outputs, and a language model on a small server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eval.judges import CrossEncoderJudge, open_judges
from eval.llm_judge import SCHEMA, LLMJudge
from rag.errors import EvalError, LLMError, LLMUnreachable, WeightsError
from rag.llm import OpenAILLM
from rag.settings import Settings
from rag.verify import Passage
from rag.weights import find_judge
from tests.conftest import WordChecker
from tests.rag.test_llm import Handler, Reply, Serve, serve, status
from ui.cli import main

__all__ = ["serve"]

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "rent", "euros", "ferry", "noon", "the", "is", ".", "at"]
PASSAGES = [Passage("The rent is euros."), Passage("The ferry sails at noon.", "Timetable")]
CLAIMS = ["The rent is euros.", "The ferry is at noon."]


# --- cross-encoders


def made(folder: Path, labels: list[str], longest: int = 48) -> Path:
    """A tiny BERT with random weights and these outputs."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    torch.manual_seed(5)
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    BertTokenizerFast(str(folder / "vocab.txt"), model_max_length=longest).save_pretrained(folder)
    size = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(
        vocab_size=len(VOCABULARY),
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        max_position_embeddings=longest,
        initializer_range=1.0,
        **size,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def opened(folder: Path) -> CrossEncoderJudge:
    return CrossEncoderJudge(find_judge(str(folder)))


def logits(folder: Path, passage: str, claim: str) -> np.ndarray:
    """What the model's outputs are, asked past the judge."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(folder)(passage, claim, return_tensors="pt")
    with torch.inference_mode():
        return AutoModelForSequenceClassification.from_pretrained(folder)(**inputs).logits[0].numpy().astype(float)


def softmax(values: np.ndarray) -> np.ndarray:
    return np.exp(values) / np.exp(values).sum()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("labels", "supported"),
    [
        (["score"], None),
        (["LABEL_0", "LABEL_1"], 1),
        (["consistent", "hallucinated"], 0),
        (["contradiction", "entailment", "neutral"], 1),
        (["ENTAILMENT", "NEUTRAL", "CONTRADICTION"], 0),
        (["entailment", "not_entailment"], 0),
    ],
)
def test_the_output_that_means_support_is_read(tmp_path: Path, labels: list[str], supported: int | None) -> None:
    folder = made(tmp_path / "judge", labels)
    judge = opened(folder)
    one, two = judge.check(CLAIMS, PASSAGES[:1])
    for verdict, claim in ((one, CLAIMS[0]), (two, CLAIMS[1])):
        raw = logits(folder, PASSAGES[0].text, claim)
        expected = 1 / (1 + np.exp(-raw[0])) if supported is None else softmax(raw)[supported]
        assert verdict.score == pytest.approx(expected, abs=1e-5)
        assert verdict.supports[0][1:] == (0, 0, len(PASSAGES[0].text))
    assert one.score != two.score


@pytest.mark.slow
def test_the_best_passage_comes_first_and_what_it_is_about_is_read(tmp_path: Path) -> None:
    folder = made(tmp_path / "judge", ["score"])
    (verdict,) = opened(folder).check(CLAIMS[:1], PASSAGES)
    assert [support.score for support in verdict.supports] == sorted(
        (support.score for support in verdict.supports), reverse=True
    )
    by_passage = {support.passage: support.score for support in verdict.supports}
    raw = logits(folder, "Timetable\nThe ferry sails at noon.", CLAIMS[0])
    assert by_passage[1] == pytest.approx(1 / (1 + np.exp(-raw[0])), abs=1e-5)
    assert opened(folder).check(CLAIMS[:1], [])[0].score == 0
    assert opened(folder).check([], PASSAGES) == []
    assert opened(folder).check(CLAIMS, PASSAGES) == opened(folder).check(CLAIMS, PASSAGES)


@pytest.mark.slow
def test_long_passages_are_read_in_windows_of_whole_sentences(tmp_path: Path) -> None:
    folder = made(tmp_path / "judge", ["score"], longest=40)
    text = " ".join(f"The {word} is at noon." for word in ("rent", "ferry", "euros", "rent", "ferry") * 4)
    (verdict,) = opened(folder).check(["The rent is euros."], [Passage(text)])
    (best,) = verdict.supports
    assert best.end - best.start < len(text) / 2
    assert text[best.start :].startswith("The ")
    assert text[best.end - 1] == "."
    raw = logits(folder, text[best.start : best.end], "The rent is euros.")
    assert verdict.score == pytest.approx(1 / (1 + np.exp(-raw[0])), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", " ", "rent " * 400, "rent" * 400, "\n\n", "日本語。" * 50, "rent;" * 200])
def test_no_text_raises(tmp_path: Path, text: str) -> None:
    judge = opened(made(tmp_path / "judge", ["score"], longest=40))
    for claims, passages in (([text], PASSAGES), (CLAIMS, [Passage(text)]), ([text], [Passage(text)])):
        for verdict in judge.check(claims, passages):
            assert 0 <= verdict.score <= 1
    if len(text.split()) > 100:
        assert judge.check([text], PASSAGES)[0].reasons == ("only its beginning was read: this judge reads 40 tokens",)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [["a", "b"], ["yes", "no", "LABEL_1"], ["entailment", "supported"]])
def test_outputs_that_nobody_named_are_refused(tmp_path: Path, labels: list[str]) -> None:
    with pytest.raises(WeightsError, match=r"has the outputs .*; expected one output, or one of several named entail"):
        opened(made(tmp_path / "judge", labels))


def test_weights_that_are_not_there_or_no_classifier(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"some/judge \(option --judge\) are not on this machine; run `hf download"):
        open_judges("some/judge", settings, WordChecker())
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"cannot be loaded: .*; give a sequence classifier"):
        open_judges(str(tmp_path), settings, WordChecker())


@pytest.mark.slow
def test_behind_another_judge_comes_the_local_one(settings: Settings, tmp_path: Path) -> None:
    judges = open_judges(str(made(tmp_path / "judge", ["score"])), settings, WordChecker())
    assert [(judge.name, judge.threshold) for judge in judges] == [("cross-encoder", 0.5), ("local", 0.5)]
    assert judges[0].checker.id.startswith("cross-encoder-1+judge@")


# --- a language model


def says(content: str) -> Reply:
    message = {"role": "assistant", "content": content}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    return lambda handler: handler.whole(200, "application/json", json.dumps(body))


def verdicts(*rows: tuple[int, bool, int | None, str]) -> str:
    keys = ("n", "supported", "passage", "reason")
    return json.dumps({"sentences": [dict(zip(keys, row, strict=True)) for row in rows]})


GOOD = verdicts((2, False, None, "no place is named"), (1, True, 1, "word for word"))


@pytest.fixture
def llm_judge(settings: Settings, tmp_path: Path) -> Callable[..., LLMJudge]:
    def open_(url: str, **changes: Any) -> LLMJudge:
        flags = {"llm_model": "served", "llm_retries": 0, "llm_timeout": 20, **changes}
        return LLMJudge(OpenAILLM(Settings.load(home=settings.home, llm_base_url=url, **flags)), tmp_path / "verdicts")

    return open_


Open = Callable[..., LLMJudge]


def test_one_request_an_answer_with_numbers_schema_and_no_temperature(serve: Serve, llm_judge: Open) -> None:
    server = serve(says(GOOD))
    one, two = llm_judge(server.url, temperature=0.9).check(CLAIMS, PASSAGES, "How much is the rent?")
    assert (one.score, one.supports[0][1:], one.reasons) == (1.0, (0, 0, 18), ("word for word",))
    assert (two.score, two.supports, two.reasons) == (0.0, (), ("no place is named",))
    (request,) = server.requests
    assert (request.body["temperature"], request.body["model"]) == (0, "served")
    assert request.body["response_format"]["json_schema"]["schema"] == SCHEMA
    asked = request.body["messages"][1]["content"]
    for part in (
        "Question: How much is the rent?",
        "[2] Timetable\nThe ferry",
        "1. The rent is euros.",
        "2. The ferry is",
    ):
        assert part in asked


def test_verdicts_are_kept_and_not_asked_for_again(serve: Serve, llm_judge: Open, tmp_path: Path) -> None:
    server = serve(says(GOOD))
    first = llm_judge(server.url).check(CLAIMS, PASSAGES)
    assert llm_judge(server.url).check(CLAIMS, PASSAGES) == first
    assert len(server.requests) == 1
    llm_judge(server.url, llm_model="another").check(CLAIMS, PASSAGES)
    llm_judge(server.url).check(CLAIMS, PASSAGES[::-1])
    assert len(server.requests) == 3
    for kept in (tmp_path / "verdicts").iterdir():
        kept.write_text("{")
    assert llm_judge(server.url).check(CLAIMS, PASSAGES) == first
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        ("", "Invalid JSON"),
        ("I think that both are supported.", "Invalid JSON"),
        (verdicts((1, True, 1, "")), r"verdicts of the sentences \[1\], expected one of each from 1 to 2"),
        (verdicts((1, True, 1, ""), (1, True, 1, "")), r"\[1\], expected one of each"),
        (verdicts((1, True, 3, ""), (2, True, 1, "")), "sentence 1 names passage 3, there are 2"),
        (GOOD.replace("true", '"yes"'), "Input should be a valid boolean"),
        (GOOD[: len(GOOD) // 2], "Invalid JSON"),
    ],
)
def test_a_reply_that_cannot_be_used_is_asked_for_once_more(serve: Serve, llm_judge: Open, bad: str, why: str) -> None:
    server = serve(says(bad), says(GOOD))
    assert [verdict.score for verdict in llm_judge(server.url).check(CLAIMS, PASSAGES)] == [1, 0]
    assert len(server.requests) == 2
    assert "Your reply could not be used" in server.requests[1].body["messages"][-1]["content"]
    hopeless = serve(says(bad))
    with pytest.raises(LLMError, match=rf"served gave no verdict that could be used, asked twice: .*{why}"):
        llm_judge(hopeless.url).check(CLAIMS, PASSAGES[:2], "another")
    assert len(hopeless.requests) == 2


def test_a_fence_around_the_reply_does_no_harm(serve: Serve, llm_judge: Open) -> None:
    server = serve(says(f"Here you are:\n```json\n{GOOD}\n```"))
    assert len(llm_judge(server.url).check(CLAIMS, PASSAGES)) == 2
    assert len(server.requests) == 1


def test_nothing_to_judge_asks_nobody(serve: Serve, llm_judge: Open) -> None:
    server = serve(says(GOOD))
    assert llm_judge(server.url).check([], PASSAGES) == []
    assert [verdict.score for verdict in llm_judge(server.url).check(CLAIMS, [])] == [0, 0]
    assert server.requests == []


def test_a_server_that_fails_is_asked_as_often_as_the_settings_say(serve: Serve, llm_judge: Open) -> None:
    server = serve(status(503), says(GOOD))
    assert len(llm_judge(server.url, llm_retries=1).check(CLAIMS, PASSAGES)) == 2
    with pytest.raises(LLMError, match=r"answered 400: .*no schemas here"):
        llm_judge(serve(status(400, "no schemas here")).url).check(CLAIMS, PASSAGES, "a")
    with pytest.raises(LLMUnreachable):
        llm_judge("http://127.0.0.1:9/v1").check(CLAIMS, PASSAGES, "b")


@pytest.mark.parametrize("body", ["<html>Welcome</html>", '{"choices": []}', "{}"])
def test_what_is_no_completion_is_named(serve: Serve, llm_judge: Open, body: str) -> None:
    def reply(handler: Handler) -> None:
        handler.whole(200, "text/html" if body.startswith("<") else "application/json", body)

    with pytest.raises(LLMError, match="sent something unexpected"):
        llm_judge(serve(reply).url).check(CLAIMS, PASSAGES)


def test_verdicts_that_cannot_be_kept_end_the_run(serve: Serve, llm_judge: Open, tmp_path: Path) -> None:
    (tmp_path / "verdicts").write_text("a file")
    with pytest.raises(EvalError, match="verdicts cannot be kept"):
        llm_judge(serve(says(GOOD)).url).check(CLAIMS, PASSAGES)


def test_control_tokens_in_passages_are_broken(serve: Serve, llm_judge: Open) -> None:
    server = serve(says(GOOD))
    llm_judge(server.url).check(["<|im_end|> is due.", "b"], [Passage("</s>"), Passage("b")])
    asked = server.requests[0].body["messages"][1]["content"]
    assert "<|im_end|>" not in asked
    assert "</s>" not in asked


@pytest.mark.slow
def test_the_command_asks_the_server_once(
    serve: Serve, real_settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    server = serve(says(GOOD))
    monkeypatch.setenv("FOOTNOTE_LLM_BASE_URL", server.url)
    monkeypatch.setenv("FOOTNOTE_LLM_MODEL", "served")
    monkeypatch.setenv("FOOTNOTE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    for folder in real_settings.cache_dir.iterdir():
        (tmp_path / "cache" / folder.name).symlink_to(folder)
    row = {"question": "What is the rent?", "answer": " ".join(CLAIMS), "contexts": [each.text for each in PASSAGES]}
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    for extra in ([], ["--json"]):
        with pytest.raises(SystemExit) as ended:
            main(["eval", "judge", str(tmp_path / "a.jsonl"), "--judge", "llm", *extra])
        assert ended.value.code == 0
        out = capsys.readouterr().out
    found = json.loads(out)
    assert found["metrics"]["llm"]["faithful_share"]["value"] == 0.5
    assert set(found["metrics"]) == {"llm", "local"}
    assert len(server.requests) == 1
