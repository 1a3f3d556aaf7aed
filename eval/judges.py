"""Who says whether passages support sentences: the local checker, a cross-encoder, or a language model.

Knows nothing about files of answers, or about how verdicts are summed up.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from eval.llm_judge import LLMJudge
from rag import sentences
from rag.embed import cuda
from rag.errors import SettingsError, WeightsError
from rag.llm import OpenAILLM
from rag.settings import Settings
from rag.verify import Checker, Support, Verdict
from rag.weights import Weights, find_judge
from rag.windows import Passage

LOCAL, CROSS_ENCODER, LLM = "local", "cross-encoder", "llm"
EVEN = 0.5
"""Probability from which a judge other than the local one says yes: what such models are trained for."""
SUPPORTED = ("entailment", "entailed", "supported", "supports", "consistent", "label_1")
"""Labels of the output that means support, in lower case; the last one is the second of two that nobody named."""
BATCH = 16
UNBOUNDED = 512
"""Tokens that a model reads whose files do not say how many."""
MARGIN = 8
"""Tokens around sentence and passage, rounded up."""


class Judge(NamedTuple):
    """A checker under the name that its figures have."""

    name: str
    """`local`, `cross-encoder` or `llm`."""
    checker: Checker
    threshold: float
    """Score from which a sentence counts as supported."""


def open_judges(spec: str, settings: Settings, checker: Checker) -> tuple[Judge, ...]:
    """The judge that is asked for, first; behind another one the local checker, which it is compared with.

    Args:
        spec: `local`, `llm`, or the path or hub id of a cross-encoder.
        settings: the support that a sentence needs, and the language model's server.
        checker: the local one.

    Raises:
        WeightsError: the cross-encoder is not on this machine, or is none.
        SettingsError: `llm` without a server.
    """
    local = Judge(LOCAL, checker, settings.min_support)
    if spec == LOCAL:
        return (local,)
    if spec == LLM:
        if not settings.llm_base_url:
            raise SettingsError(
                "--judge llm needs a language model on a server; set FOOTNOTE_LLM_BASE_URL, such as "
                "http://localhost:8000/v1, or judge with `local`"
            )
        return Judge(LLM, LLMJudge(OpenAILLM(settings), settings.cache_dir / "judge"), EVEN), local
    return Judge(CROSS_ENCODER, CrossEncoderJudge(find_judge(spec)), EVEN), local


class CrossEncoderJudge:
    """A model that reads passage and sentence at once: NLI, or one trained on support such as HHEM and MiniCheck.

    The passage is the premise, the sentence the hypothesis. A passage that is longer than what the model reads is cut
    into windows of whole sentences; the best one counts.
    """

    def __init__(self, weights: Weights) -> None:
        """Load it. Raises WeightsError where it is no cross-encoder that says what is supported."""
        self._weights, self._one_at_a_time = weights, threading.Lock()
        self.id = f"cross-encoder-1+{weights.id}"
        self._output = self._supported_output()

    @cached_property
    def _model(self) -> Any:
        from sentence_transformers import CrossEncoder

        folder = str(self._weights.path)
        try:
            return CrossEncoder(folder, device="cuda" if cuda() else "cpu", local_files_only=True)
        except (OSError, ValueError, KeyError, ImportError) as error:
            said = " ".join(str(error).split())[:300]
            raise WeightsError(
                f"{folder} (option --judge) cannot be loaded: {said}; give a sequence classifier that needs no code of "
                "its own"
            ) from error

    def _supported_output(self) -> int | None:
        """Which output means support; None where there is one alone."""
        if self._model.num_labels == 1:
            return None
        labels = {int(i): str(label).lower() for i, label in self._model.config.id2label.items()}
        named = [i for i, label in labels.items() if label in SUPPORTED and (label != "label_1" or len(labels) == 2)]
        if len(named) != 1:
            raise WeightsError(
                f"{self._weights.path} (option --judge) has the outputs {', '.join(labels.values())}; expected one "
                f"output, or one of several named {', '.join(SUPPORTED[:-1])}; set id2label in its config.json"
            )
        return named[0]

    def check(self, claims: Sequence[str], passages: Sequence[Passage], question: str = "") -> list[Verdict]:
        """See `Checker.check`."""
        with self._one_at_a_time:
            return [self._verdict(claim, passages) for claim in claims]

    def _verdict(self, claim: str, passages: Sequence[Passage]) -> Verdict:
        longest = min(self._model.max_seq_length or UNBOUNDED, 10**6)
        claim, cut = self._short(claim, longest // 2)
        room = longest - self._tokens(claim) - MARGIN
        windows = [(i, *span) for i, passage in enumerate(passages) for span in self._windows(passage, room)]
        if not windows:
            return Verdict(0.0)
        scores = self._scores([(_read(passages[i], start, end), claim) for i, start, end in windows])
        best: dict[int, Support] = {}
        for (i, start, end), score in zip(windows, scores, strict=True):
            if i not in best or score > best[i].score:
                best[i] = Support(float(score), i, start, end)
        supports = tuple(sorted(best.values(), key=lambda support: -support.score))
        reasons = (f"only its beginning was read: this judge reads {longest} tokens",) if cut else ()
        return Verdict(supports[0].score, supports, reasons)

    def _windows(self, passage: Passage, room: int) -> list[tuple[int, int]]:
        """Spans of as many whole sentences as fit; a sentence that does not fit alone is cut where words end."""
        room -= self._tokens(passage.about) + 1 if passage.about else 0
        pieces = [piece for span in sentences.split(passage.text) for piece in self._pieces(passage.text, *span, room)]
        spans: list[tuple[int, int]] = []
        left = 0
        for start, end in pieces:
            tokens = self._tokens(passage.text[start:end])
            if spans and tokens <= left:
                spans[-1], left = (spans[-1][0], end), left - tokens
            else:
                spans, left = [*spans, (start, end)], room - tokens
        return spans

    def _pieces(self, text: str, start: int, end: int, room: int) -> list[tuple[int, int]]:
        if end - start < 2 or self._tokens(text[start:end]) <= room:
            return [(start, end)]
        middle = text.rfind(" ", start + 1, (start + end) // 2 + 1)
        middle = (start + end) // 2 if middle < 0 else middle
        return [*self._pieces(text, start, middle, room), *self._pieces(text, middle, end, room)]

    def _short(self, text: str, room: int) -> tuple[str, bool]:
        """The text, cut by halves until it fits, and whether it was."""
        whole = text
        while len(text) > 1 and self._tokens(text) > room:
            text = text[: len(text) // 2]
        return text, text != whole

    def _tokens(self, text: str) -> int:
        return len(self._model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _scores(self, pairs: list[tuple[str, str]]) -> npt.NDArray[np.float64]:
        """Probability of support of each pair, shape (len(pairs),)."""
        found = self._model.predict(pairs, batch_size=BATCH, show_progress_bar=False, activation_fn=lambda raw: raw)
        logits = np.asarray(found, dtype=np.float64).reshape(len(pairs), -1)
        if self._output is None:
            return np.asarray(1 / (1 + np.exp(-logits[:, 0])))
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(odds[:, self._output] / odds.sum(axis=1))


def _read(passage: Passage, start: int, end: int) -> str:
    text = passage.text[start:end]
    return f"{passage.about}\n{text}" if passage.about else text
