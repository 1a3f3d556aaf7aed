"""Our bulk ingestion against LlamaIndex's own stack over the same files, and how its cost grows with the index.

Each side works once, in a fresh process and an empty home. Models are loaded and warm before the clock starts;
everything else is inside: finding the files, starting the processes that read them, the store on disk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from eval.bench import ingest_peer, pages
from eval.bench.ingest_peer import WARM_UP, Peer
from eval.bench.measured import Measured, measure
from eval.bench.texts import passages
from ingest.catalog import Catalog
from ingest.discover import discover, plain
from ingest.pipeline import Ingestion
from rag.embed import open_embedder
from rag.errors import BenchError
from rag.settings import Settings
from rag.store.opening import open_store
from rag.weights import find_embedder

SIZES = (5_000, 20_000, 50_000)
"""Passages in the index, for how the cost grows."""
SCALE_TOKENS, SCALE_WORDS, SCALE_PER_FILE = 32, 16, 100
"""Short passages, so that the largest index takes minutes: their limit, their words, and how many a file holds."""
SMALLEST = 1_000
"""A smaller index is all start."""
PACKAGES = (*ingest_peer.PACKAGES, "qdrant-client", "sentence-transformers", "torch", "openvino", "qdrant-edge-py")
_MB = 1 << 20

Tell = Callable[[str], None]


def run(settings: Settings, directory: Path, limit: int | None, progress: Tell) -> dict[str, Any]:
    """Files and passages a second, peak memory and how busy the cores are, for both, with ratios.

    Args:
        settings: how documents are cut and embedded; the index of their home is not touched.
        directory: what to ingest.
        limit: take the first so many files only.
        progress: told what goes on.

    Raises:
        BenchError: there are no files, or the peer is not installed.
        WeightsError: the embedder's weights are not on this machine.
    """
    files = [found.path for found in islice(discover([directory]), limit)]
    size = _bytes_of(files)
    if not size:
        raise BenchError(f"no files in {directory}, or all are empty; name a folder with documents")
    with TemporaryDirectory(prefix="footnote-bench-") as folder:
        ours = measure("Footnote", Ours, _at(settings, Path(folder, "ours")), files, tell=progress)
        progress(_told("Footnote", ours))
        weights = find_embedder(settings.embed_model).path
        cutting = (settings.chunk_tokens, settings.chunk_overlap)
        peer = measure("LlamaIndex", Peer, files, Path(folder, "peer"), weights, *cutting, tell=progress)
        progress(_told("LlamaIndex", peer))
    pdf = pages.run([path for path in files if path.suffix.lower() == ".pdf"], progress)
    figures = {"ours": _figures(ours, len(files), settings), "peer": _figures(peer, len(files), settings)}
    return {
        "files": len(files),
        "mb": round(size / 1e6, 1),
        **figures,
        **_ratios(figures["ours"], figures["peer"]),
        "pdf_pages_ratio": pdf.pop("ratio"),
        "pdf": pdf,
        "differs": [*ingest_peer.DIFFERS, *(pages.DIFFERS if pdf["files"] else ())],
        "versions": {name: version(name) for name in (*PACKAGES, *(pages.PACKAGES if pdf["files"] else ()))},
    }


def grow(settings: Settings, sizes: Sequence[int], progress: Tell) -> dict[str, Any]:
    """The cost of a passage in indexes of growing size, each made in one run from nothing, embedding included.

    The ratio is that of the largest to the smallest, the start left out, which would flatter the largest: 1 where
    cost grows in step with size. The start ends with the first file that is in the index.

    Raises:
        BenchError: fewer than two sizes, or one so small that nothing can be told from it.
        WeightsError: the embedder's weights are not on this machine.
    """
    sizes = sorted(set(sizes))
    if len(sizes) < 2 or sizes[0] < SMALLEST:
        raise BenchError(f"sizes are {sizes}; give two or more, none below {SMALLEST}")
    rows = [_grown(settings, size, progress) for size in sizes]
    ratio = rows[-1]["ms_per_chunk_after_start"] / rows[0]["ms_per_chunk_after_start"]
    return {"scale": rows, f"cost_ratio_{_short(sizes[-1])}_to_{_short(sizes[0])}": round(ratio, 2)}


def _grown(settings: Settings, size: int, progress: Tell) -> dict[str, Any]:
    with TemporaryDirectory(prefix="footnote-bench-") as folder:
        texts = Path(folder, "texts")
        write_texts(texts, size)
        at = _at(settings, Path(folder, "home")).model_copy(update={"chunk_tokens": SCALE_TOKENS, "chunk_overlap": 0})
        found = measure(f"{size:,} passages", Ours, at, [texts], tell=progress)
    progress(_told(f"{size:,} passages", found))
    seconds, chunks = found.timing.seconds, found.facts["chunks"]
    start_s, at_start = found.facts["start"]
    return {
        "chunks": chunks,
        "seconds": round(seconds, 2),
        "start_s": round(start_s, 2),
        "ms_per_chunk": round(1000 * seconds / chunks, 3),
        "ms_per_chunk_after_start": round(1000 * (seconds - start_s) / (chunks - at_start), 3),
        "peak_rss_mb": round(found.peak_rss / _MB),
    }


def write_texts(folder: Path, count: int) -> None:
    """Files of prose with about `count` passages; none has the content of another."""
    folder.mkdir()
    found = passages(count, lambda text: text.count(" ") + bool(text), SCALE_WORDS)
    # A sentence fills more than half of a passage, so that each has one.
    sentences = [f"{text.translate(str.maketrans('.!?:;', '     '))}." for text in found]
    for number, start in enumerate(range(0, count, SCALE_PER_FILE), start=1):
        text = " ".join(sentences[start : start + SCALE_PER_FILE])
        (folder / f"part-{number:05}.txt").write_text(f"{number} {text}\n", encoding="utf-8")


class Ours:
    """The ingestion of `footnote ingest`. See `eval.bench.measured.Side`."""

    def __init__(self, settings: Settings, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._embedder = open_embedder(settings)
        self._embedder.embed(passages(WARM_UP, self._embedder.count_tokens, settings.chunk_tokens))
        self._store = open_store(settings, self._embedder, create=True)
        catalog = Catalog.open(settings.home / "catalog.sqlite")
        self._run = Ingestion(settings, self._embedder, self._store, catalog)
        self._indexed: set[str] = set()
        self._start = (0.0, 0)
        """Seconds to the first result, and passages stored by then."""

    def work(self) -> None:
        """Ingest everything."""
        started = time.perf_counter()
        for result in self._run.run(self._paths):
            if not self._start[0]:
                self._start = time.perf_counter() - started, self._run.progress().chunks
            if result.status == "indexed":
                self._indexed.add(result.doc)

    def facts(self) -> dict[str, Any]:
        """Files that are in the index, what was found in them left out; passages, and the tokens that were embedded."""
        chunks = [item.chunk for item in self._store.scan()]
        return {
            "files": sum(plain(str(found.path)) in self._indexed for found in discover(self._paths)),
            "chunks": len(chunks),
            "tokens": sum(self._embedder.count_tokens(chunk.with_header) for chunk in chunks),
            "start": self._start,
        }


def _at(settings: Settings, home: Path) -> Settings:
    """The same settings over an empty home: the embedded store, all cores, and the weights converted already."""
    changes = {"home": home, "cache": settings.cache_dir, "collection": "default", "qdrant_url": "", "threads": 0}
    return settings.model_copy(update=changes)


def _bytes_of(files: Sequence[Path]) -> int:
    """All files' size in bytes. Reads them, so that the side that comes first does not wait for the disk alone."""
    total = 0
    for path in files:
        try:
            with path.open("rb") as file:
                while block := file.read(_MB):
                    total += len(block)
        except OSError:  # both sides will count it as failed
            continue
    return total


def _figures(found: Measured, files: int, settings: Settings) -> dict[str, Any]:
    facts, (seconds, cpu_seconds) = found.facts, found.timing
    cores = settings.model_copy(update={"threads": 0}).cores
    return {
        "files": facts["files"],
        "failed": files - facts["files"],
        "chunks": facts["chunks"],
        "tokens_per_chunk": round(facts["tokens"] / max(facts["chunks"], 1), 1),
        "seconds": round(seconds, 2),
        "files_per_second": round(facts["files"] / seconds, 2),
        "chunks_per_second": round(facts["chunks"] / seconds, 2),
        "tokens_per_second": round(facts["tokens"] / seconds),
        "peak_rss_mb": round(found.peak_rss / _MB),
        "peak_pss_mb": None if found.peak_pss is None else round(found.peak_pss / _MB),
        "cpu_busy": round(cpu_seconds / (seconds * cores), 3),
    }


def _ratios(ours: dict[str, Any], peer: dict[str, Any]) -> dict[str, float | None]:
    """How many times better we are; None where a side read nothing."""
    faster = ("files_per_second", "chunks_per_second", "tokens_per_second")
    pairs = {f"{name}_ratio": (ours[name], peer[name]) for name in faster}
    pairs["peak_memory_ratio"] = peer["peak_rss_mb"], ours["peak_rss_mb"]
    comparable = ours["chunks"] and peer["chunks"]
    return {name: round(high / low, 2) if comparable else None for name, (high, low) in pairs.items()}


def _told(name: str, found: Measured) -> str:
    chunks, seconds = found.facts["chunks"], found.timing.seconds
    return f"{name}: {chunks:,} passages in {seconds:.1f} s, {chunks / seconds:.1f}/s, {found.peak_rss >> 20} MB"


def _short(count: int) -> str:
    return f"{count // 1000}k" if count % 1000 == 0 else str(count)
