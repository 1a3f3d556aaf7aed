"""Fakes and the clean environment that every test gets.

The fakes are hand-written and obvious: an embedder whose vector is word counts, a language model that repeats the
first passage.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest

from ingest.catalog import Catalog
from ingest.pipeline import Ingestion
from rag.align import MISSING, NUMBER_MISSING, SAME, STEM, Pair
from rag.answer import Rag
from rag.errors import LLMError, TextTooLong
from rag.scorer import Scored
from rag.sentences import split
from rag.settings import Settings
from rag.store.opening import open_store
from rag.tokens import LONGEST, Encoded
from rag.types import Chunk, Hit, Message, Vectors, Via
from rag.verify import Support, Verdict
from rag.windows import Passage

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
CACHE_FROM_OUTSIDE = os.environ.get("FOOTNOTE_CACHE")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
).split()
OWN_PROCESS = "PYTEST_IN_OWN_PROCESS"
"""Set in the process that a test marked `own_process` runs in."""

# Generated examples are the same ones every time, and may take as long as they take; --hypothesis-profile=default looks
# for others.
hypothesis.settings.load_profile("ci")

# Threads of native libraries read the environment at any time, without Python's lock, and crash where it grows or
# shrinks meanwhile (setenv(3) is not thread-safe). What every test changes is therefore always there: it changes its
# value only, and an empty one counts as not set.
for _name in [name for name in os.environ if name.startswith(("FOOTNOTE_", "QDRANT__"))]:
    del os.environ[_name]
os.environ |= {"FOOTNOTE_HOME": "", "FOOTNOTE_CACHE": "", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


class WordCountEmbedder:
    """Counts words into 64 buckets by the sum of their letters; texts with the same words have cosine 1."""

    id = "word-counts@1"
    backend = "word-counts"
    dim = 64
    window = 256

    def count_tokens(self, text: str) -> int:
        return len(words(text))

    def embed(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dim), dtype=np.float32)
        for row, text in enumerate(texts):
            found = words(text)
            if len(found) > self.window:
                raise TextTooLong(f"{len(found)} words, window {self.window}; lower chunk_tokens")
            for word in found or ["nothing"]:
                vectors[row, sum(map(ord, word)) % self.dim] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def embed_query(self, text: str) -> np.ndarray:
        return self.embed([" ".join(words(text)[: self.window])])[0]


class WordChecker:
    """Support is the share of the claim's words that the best sentence of a passage has."""

    id = "word-shares@1"
    trained_on = ()

    def check(self, claims: Sequence[str], passages: Sequence[Passage], question: str = "") -> list[Verdict]:
        return [self._verdict(set(words(claim)), passages) for claim in claims]

    def _verdict(self, wanted: set[str], passages: Sequence[Passage]) -> Verdict:
        if not wanted:
            return Verdict(0.0, (), ("there are no words to look for",), checkable=False)
        supports = sorted(
            (
                max(
                    Support(len(wanted & set(words(text[a:b]))) / len(wanted), i, a, b)
                    for a, b in split(text) or [(0, 0)]
                )
                for i, (text, _) in enumerate(passages)
            ),
            key=lambda support: -support.score,
        )
        score = supports[0].score if supports else 0.0
        return Verdict(score, tuple(supports), () if score == 1 else ("some words are missing",))


class WordEncoder:
    """A token a word, a direction a word: the same words have cosine 1, other ones 0."""

    id = "words@1"
    dim = 514

    def count(self, texts: Sequence[str]) -> list[int]:
        return [len(words(text)) for text in texts]

    def encode(self, texts: Sequence[str]) -> list[Encoded]:
        return [self._encoded(text) for text in texts]

    def _encoded(self, text: str) -> Encoded:
        found = list(re.finditer(r"\w+", text))[: LONGEST - 2]
        offsets = ((0, 0), *(match.span() for match in found), (0, 0))
        ids = (101, *(5000 + sum(map(ord, match.group().lower())) % 20000 for match in found), 102)
        vectors = np.zeros((len(ids), self.dim), dtype=np.float32)
        places = [number % (self.dim - 2) for number in ids]
        places[0], places[-1] = self.dim - 2, self.dim - 1
        vectors[np.arange(len(ids)), places] = 1
        return Encoded(ids, offsets, vectors, vectors)


class FlagScorer:
    """Believes a claim where few of its words are missing; a missing word is at fault."""

    id = "flags@1"

    def score(self, pairs: Sequence[Pair]) -> list[Scored]:
        found = []
        for each in pairs:
            flag = each.flag[each.segment == 0]
            missing = np.isin(flag, (MISSING, NUMBER_MISSING)).astype(np.float32)
            judged = max(1, int(np.isin(flag, (SAME, STEM, MISSING, NUMBER_MISSING)).sum()))
            found.append(Scored(4 - 16 * float(missing.sum()) / judged, missing))
        return found


class ParrotLLM:
    """Says the first passage's first sentence, word by word, or what it is told to say. Remembers what it was asked."""

    name = "parrot"
    tuned = False

    def __init__(self, says: str = "", fails: str = "") -> None:
        self.says, self.fails = says, fails
        self.asked: list[list[Message]] = []
        self.stopped = False

    def count_tokens(self, text: str) -> int:
        return len(text.split())

    def stream(self, messages: Sequence[Message]) -> Generator[str]:
        self.asked.append(list(messages))
        if self.fails:
            raise LLMError(self.fails)
        passage = messages[-1].content.split(":\n", 1)[-1]
        try:
            for word in (self.says or passage.split(". ")[0] + ".").split(" "):
                yield word + " "
        finally:
            self.stopped = True


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home for every test; no settings from outside and no hub, which is seen to above."""
    monkeypatch.setenv("FOOTNOTE_HOME", str(tmp_path / "home"))


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is marked `own_process` in one: what it loads crashes now and then, long after it is done."""
    if OWN_PROCESS in os.environ or pyfuncitem.get_closest_marker("own_process") is None:
        return None
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", pyfuncitem.nodeid]
    done = subprocess.run(
        [*command, f"--basetemp={pyfuncitem.funcargs['tmp_path']}/own"],
        cwd=ROOT,
        env=os.environ | {OWN_PROCESS: "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.fail(f"in a process of its own (exit code {done.returncode}):\n{done.stdout}{done.stderr}", False)
    return True


@pytest.fixture(scope="session")
def converted_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted weights, made once for all slow tests; `FOOTNOTE_CACHE` names a directory that outlives the run."""
    if CACHE_FROM_OUTSIDE:
        return Path(CACHE_FROM_OUTSIDE)
    ours = tmp_path_factory.getbasetemp()
    cache = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / "cache"  # one for all workers
    cache.mkdir(exist_ok=True)
    return cache


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings over an empty home."""
    return Settings.load(home=tmp_path / "home", parse_workers=1)


@pytest.fixture
def real_settings(tmp_path: Path, converted_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings for slow tests: the bundled weights, converted once for all of them."""
    monkeypatch.setenv("FOOTNOTE_CACHE", str(converted_cache))
    return Settings.load(home=tmp_path / "home", cache=converted_cache)


@pytest.fixture
def shared() -> Path:
    """The folder of real files and labelled sets; the test skips where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("../shared is not there")
    return SHARED


@pytest.fixture
def embedder() -> WordCountEmbedder:
    return WordCountEmbedder()


@pytest.fixture
def catalog(settings: Settings) -> Catalog:
    return Catalog.open(settings.home / "catalog.sqlite")


OpenRag = Callable[..., Rag]


@pytest.fixture
def open_rag(settings: Settings, embedder: WordCountEmbedder, catalog: Catalog) -> Iterator[OpenRag]:
    """Opens a `Rag` on the fakes, over documents given as name -> Markdown text."""
    from tests.ingest.inline import Inline

    opened: list[Rag] = []

    def open_(documents: dict[str, str], llm: ParrotLLM | None = None, **changes: object) -> Rag:
        chosen = settings.model_copy(update=changes)
        folder = settings.home.parent / "documents"
        folder.mkdir(exist_ok=True)
        for name, text in documents.items():
            (folder / name).write_text(text, encoding="utf-8")
        store = open_store(chosen, embedder, create=True)
        list(Ingestion(chosen, embedder, store, catalog, readers=Inline(chosen, embedder)).run([folder]))
        rag = Rag(chosen, embedder, store, llm or ParrotLLM(), WordChecker())
        opened.append(rag)
        return rag

    yield open_
    for rag in opened:
        rag.close()


def make_chunk(text: str, number: int = 0, **changes: object) -> Chunk:
    """A chunk of a document named `doc.md`, beginning at offset 100 * number."""
    fields: dict[str, object] = {
        "id": f"00000000-0000-0000-0000-{number:012d}",
        "doc_id": "00000000-0000-0000-0000-00000000d0c0",
        "doc": "/documents/doc.md",
        "title": "Doc",
        "page": None,
        "headings": (),
        "start": 100 * number,
        "end": 100 * number + len(text),
        "text": text,
    }
    return Chunk(**{**fields, **changes})  # type: ignore[arg-type]


def make_hit(text: str, number: int = 0, cosine: float = 0.9, **changes: object) -> Hit:
    """A hit on `make_chunk`, found by the dense retriever."""
    return Hit(make_chunk(text, number, **changes), 1.0, (Via("dense", number + 1, cosine),))


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds; it comes from another thread or process."""
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed (apt install chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def browser(chromium: Any) -> Iterator[Any]:
    """Without what other tests have open: their pages would go on asking servers that have gone."""
    yield chromium
    for context in chromium.contexts:
        context.close()
