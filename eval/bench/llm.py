"""Our language model runtime against llama.cpp on the same Q8_0 file, turn by turn in one run.

Every prompt is new to both, so that no prompt cache helps; both write the same number of tokens, greedily, on the
same number of threads.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.bench.texts import passages
from rag.errors import BenchError
from rag.llm import OpenVINOLLM
from rag.settings import Settings
from rag.types import Message
from rag.weights import find_llm

PROMPT_TOKENS = 460
NEW_TOKENS = 48
ROUNDS = 5


class Run(NamedTuple):
    """One generation: seconds to the first piece, and tokens a second after it."""

    first_token_s: float
    tokens_per_second: float
    prompt_tokens: int


def run(settings: Settings, progress: Callable[[str], None]) -> dict[str, Any]:
    """First token and tokens/s of both, with ratios (median of the rounds).

    Raises:
        BenchError: the peer is not installed, or the settings name no GGUF.
        WeightsError: the weights are not on this machine.
    """
    weights = find_llm(settings.llm_model)
    if weights.path.suffix != ".gguf":
        raise BenchError(f"{weights.path} is not a GGUF file, which both need; set llm_model to `bundled` or to one")
    progress("loading both")
    ours = OpenVINOLLM(weights, settings.model_copy(update={"max_new_tokens": NEW_TOKENS, "temperature": 0.0}))
    peer = _LlamaCpp(ours.folder / "model.gguf", settings.cores)
    found: dict[str, list[Run]] = {"ours": [], "peer": []}
    # One unmeasured round lets both allocate what they need.
    for turn, text in enumerate(passages(ROUNDS + 1, ours.count_tokens, PROMPT_TOKENS)):
        prompt = ours.prompt([Message("user", f"{text}\n\nWhat is this about? Answer at length.")])
        runs = {"ours": _timed(ours.generate(prompt), ours), "peer": peer.timed(prompt)}
        if turn:
            for name, result in runs.items():
                found[name].append(result)
            progress(f"round {turn}: first token ours {runs['ours'][0]:.2f} s, peer {runs['peer'][0]:.2f} s")
    return {
        "weights": weights.id,
        "prompt_tokens": round(statistics.mean(result.prompt_tokens for result in found["peer"])),
        "new_tokens": NEW_TOKENS,
        **{name: _medians(results) for name, results in found.items()},
        "first_token_ratio": _ratio([p.first_token_s / o.first_token_s for o, p in _pairs(found)]),
        "tokens_per_second_ratio": _ratio([o.tokens_per_second / p.tokens_per_second for o, p in _pairs(found)]),
    }


def _pairs(found: dict[str, list[Run]]) -> Iterator[tuple[Run, Run]]:
    return zip(found["ours"], found["peer"], strict=True)


def _ratio(ratios: Sequence[float]) -> float:
    return round(statistics.median(ratios), 2)


def _medians(results: Sequence[Run]) -> dict[str, float]:
    return {
        "first_token_s": round(statistics.median(result.first_token_s for result in results), 3),
        "tokens_per_second": round(statistics.median(result.tokens_per_second for result in results), 1),
    }


def _timed(pieces: Iterator[str], llm: OpenVINOLLM) -> Run:
    started = time.perf_counter()
    times, text = [], ""
    for piece in pieces:
        times.append(time.perf_counter())
        text += piece
    rate = (llm.count_tokens(text) - 1) / (times[-1] - times[0])
    return Run(times[0] - started, rate, 0)


class _LlamaCpp:
    """llama.cpp in this process, through the xllamacpp wheel."""

    def __init__(self, path: Path, threads: int) -> None:
        try:
            import xllamacpp
        except ImportError:
            raise BenchError("the peer is not installed; run `pip install xllamacpp`") from None
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.verbosity = 2048, 1, 0
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
        self._server = xllamacpp.Server(params)

    def timed(self, prompt: str) -> Run:
        """One generation, timed like ours: by when the pieces come."""
        times: list[float] = []
        last: dict[str, Any] = {}

        def receive(event: dict[str, Any]) -> bool:
            times.append(time.perf_counter())
            last.update(event)
            return False

        body = {"prompt": prompt, "n_predict": NEW_TOKENS, "temperature": 0, "stream": True, "cache_prompt": False}
        started = time.perf_counter()
        self._server.handle_completions(body, receive)
        usage = last.get("usage")
        if not usage:
            raise BenchError(f"llama.cpp failed: {str(last)[:200]}; report it with the output of `footnote doctor`")
        # The last event only says that it is done.
        rate = (usage["completion_tokens"] - 1) / (times[-1] - times[0])
        return Run(times[0] - started, rate, usage["prompt_tokens"])
