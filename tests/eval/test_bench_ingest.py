"""The ingestion benchmark: what it measures of a process, what it gives both sides, and the figures it promises."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from eval.bench import ingest, ingest_peer, measured, pages
from eval.bench.measured import Measured, Timing, measure
from ingest.chunk import Chunker
from ingest.parse.document import Context
from ingest.parse.table import parse
from rag.embed import TokenCounter
from rag.errors import BenchError
from rag.settings import Settings
from rag.types import Chunk
from rag.weights import find_embedder

MB = 1 << 20
SPIN = "import time\nwhile time.process_time() < 1: pass"
HOLD = "import time\nheld = bytearray(150 << 20)\ntime.sleep(2)"


def quiet(_: str) -> None:
    return None


# --- what a process costs


class Waits:
    """A second of nothing, after loading for half of one."""

    def __init__(self) -> None:
        time.sleep(0.5)

    worked = 0.0

    def work(self) -> None:
        begun = time.perf_counter()
        time.sleep(1)
        self.worked = time.perf_counter() - begun

    def facts(self) -> dict[str, Any]:
        time.sleep(0.5)
        return {"answer": 42, "worked": self.worked}


class Starts(Waits):
    """Has another process do the work."""

    def __init__(self, code: str) -> None:
        self._code = code

    def work(self) -> None:
        subprocess.run([sys.executable, "-c", self._code], check=True)


class Fails(Waits):
    def __init__(self, error: Exception) -> None:
        self._error = error

    def work(self) -> None:
        raise self._error


class Dies(Waits):
    def work(self) -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)


class Prints(Waits):
    def work(self) -> None:
        sys.stdout.write("noise\n")
        subprocess.run(["echo", "noise"], check=True)


def test_loading_and_counting_are_not_timed() -> None:
    found = measure("waits", Waits, tell=quiet)
    assert found.timing.seconds == pytest.approx(found.facts.pop("worked"), abs=0.4)
    assert found.timing.cpu_seconds < found.timing.seconds / 2
    assert found.facts == {"answer": 42}
    assert found.peak_rss > 5 * MB


def test_processor_time_of_processes_that_have_ended_counts() -> None:
    assert 1 <= measure("starts", Starts, SPIN, tell=quiet).timing.cpu_seconds < 2


def test_memory_of_processes_below_counts() -> None:
    alone, held = measure("waits", Waits, tell=quiet), measure("starts", Starts, HOLD, tell=quiet)
    assert held.peak_rss - alone.peak_rss > 120 * MB
    if held.peak_pss is not None:
        assert 150 * MB < held.peak_pss <= held.peak_rss


@pytest.mark.parametrize(
    ("error", "message"),
    [(BenchError("no peer; run `pip install peer`"), "no peer; run"), (KeyError("x"), "KeyError: 'x'")],
)
def test_an_error_of_a_side_arrives_in_a_line(error: Exception, message: str) -> None:
    with pytest.raises(BenchError, match=f"^fails: {message}"):
        measure("fails", Fails, error, tell=quiet)


def test_a_side_that_is_killed_says_so() -> None:
    with pytest.raises(BenchError, match="dies: its process was killed; free some memory"):
        measure("dies", Dies, tell=quiet)


def test_a_side_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    measure("prints", Prints, tell=quiet)
    assert capfd.readouterr().out == ""


def test_progress_says_how_long_and_how_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "TELL", 0.0)
    told: list[str] = []
    measure("waits", Waits, tell=told.append)
    assert told
    assert all(line.startswith("waits: ") and line.endswith(" MB") for line in told)


# --- the figures


def cost(seconds: float, cpu_seconds: float, rss_mb: int, **facts: int) -> Measured:
    return Measured(Timing(seconds, cpu_seconds), rss_mb * MB, None, facts)


def test_figures_are_what_was_measured(settings: Settings) -> None:
    one_core = settings.model_copy(update={"threads": 1})
    cores = one_core.model_copy(update={"threads": 0}).cores
    found = ingest._figures(cost(10, 5 * cores, 300, files=8, chunks=400, tokens=60_000), 10, one_core)
    assert (found["files"], found["failed"], found["chunks"]) == (8, 2, 400)
    assert (found["files_per_second"], found["chunks_per_second"], found["tokens_per_second"]) == (0.8, 40, 6000)
    assert (found["tokens_per_chunk"], found["peak_rss_mb"], found["peak_pss_mb"]) == (150, 300, None)
    assert found["cpu_busy"] == 0.5  # of all cores, whatever the setting


def test_ratios_say_how_many_times_better_we_are(settings: Settings) -> None:
    ours = ingest._figures(cost(10, 5, 500, files=10, chunks=400, tokens=60_000), 10, settings)
    peer = ingest._figures(cost(40, 5, 1000, files=10, chunks=800, tokens=80_000), 10, settings)
    assert ingest._ratios(ours, peer) == {
        "files_per_second_ratio": 4,
        "chunks_per_second_ratio": 2,
        "tokens_per_second_ratio": 3,
        "peak_memory_ratio": 2,
    }


def test_there_is_no_ratio_to_a_side_that_read_nothing(settings: Settings) -> None:
    ours = ingest._figures(cost(10, 5, 500, files=10, chunks=400, tokens=60_000), 10, settings)
    peer = ingest._figures(cost(1, 1, 500, files=0, chunks=0, tokens=0), 10, settings)
    assert (peer["failed"], peer["chunks_per_second"], peer["tokens_per_chunk"]) == (10, 0, 0)
    assert set(ingest._ratios(ours, peer).values()) == {None}
    assert set(ingest._ratios(peer, ours).values()) == {None}


def test_an_empty_folder_is_refused(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    with pytest.raises(BenchError, match="no files in"):
        ingest.run(settings, tmp_path / "none", None, quiet)


def test_both_sides_work_in_an_empty_home_with_the_weights_of_the_real_one(settings: Settings, tmp_path: Path) -> None:
    user = settings.model_copy(update={"qdrant_url": "http://localhost:1", "collection": "mine", "threads": 1})
    at = ingest._at(user, tmp_path / "elsewhere")
    assert (at.home, at.cache_dir) == (tmp_path / "elsewhere", user.cache_dir)
    assert (at.qdrant_url, at.collection, at.threads) == ("", "default", 0)
    assert at.chunk_tokens == user.chunk_tokens


# --- what the peer is given


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("a.html", b"<p>Text</p>", True),
        ("a.txt", "Grüße".encode("latin-1"), True),
        ("a.pdf", b"%PDF-1.7\n", False),
        ("a.docx", b"PK\x03\x04nothing more", False),
        ("a.bin", b"\x01\x00\x02", False),
        ("a.rtf", b"{\\rtf1 text}", False),
    ],
)
def test_the_peer_is_given_what_it_can_read(name: str, content: bytes, read: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    assert ingest_peer._is_read(tmp_path / name) is read


def test_the_peer_is_not_given_what_nobody_can_open(tmp_path: Path) -> None:
    assert not ingest_peer._is_read(tmp_path / "missing.txt")


# --- texts of a given size


def chunks_of(path: Path, count_tokens: TokenCounter) -> list[Chunk]:
    chunker = Chunker(count_tokens, ingest.SCALE_TOKENS, 0)
    return list(chunker.chunks(parse(path, Context(path.parent)), "id", path.name))


def test_texts_have_as_many_passages_as_asked_and_none_the_content_of_another(tmp_path: Path) -> None:
    ingest.write_texts(tmp_path / "texts", 950)
    files = sorted((tmp_path / "texts").iterdir())
    assert len(files) == 10
    assert len({path.read_bytes() for path in files}) == 10
    count_tokens = TokenCounter(find_embedder("bundled").path / "tokenizer.json")
    assert 0.95 < sum(len(chunks_of(path, count_tokens)) for path in files) / 950 < 1.05


def test_texts_differ_even_where_the_prose_starts_over(tmp_path: Path) -> None:
    ingest.write_texts(tmp_path / "texts", 20_000)
    contents = [path.read_bytes() for path in (tmp_path / "texts").iterdir()]
    assert len(set(contents)) == len(contents) == 200


@pytest.mark.parametrize("sizes", [(), (5000,), (5000, 5000), (10, 5000)])
def test_sizes_that_say_nothing_are_refused(sizes: tuple[int, ...], settings: Settings) -> None:
    with pytest.raises(BenchError, match="give two or more"):
        ingest.grow(settings, sizes, quiet)


# --- PDF pages


def test_pdf_pages_are_counted_on_both_sides_alike(shared: Path) -> None:
    names = ("layout-parser-paper-fast.pdf", "password.pdf", "multi-column-2p.pdf", "embedded-link.pdf")
    pdfs = [shared / "files" / "pdf" / name for name in names]
    found = pages.run(pdfs, quiet)
    assert found["files"] + found["left_out"] == 4
    assert found["left_out"] >= 1  # password.pdf
    assert found["ours"]["failed"] == found["peer"]["failed"] == 0
    assert found["ours"]["pages"] == found["peer"]["pages"] > 0
    assert found["ratio"] == pytest.approx(
        found["ours"]["pages_per_second"] / found["peer"]["pages_per_second"], abs=0.06
    )


def test_no_pdf_no_ratio(tmp_path: Path) -> None:
    assert pages.run([], quiet) == {"files": 0, "left_out": 0, "ratio": None}
    (tmp_path / "broken.pdf").write_bytes(b"%PDF-1.7 and no more")
    assert pages.run([tmp_path / "broken.pdf"], quiet) == {"files": 0, "left_out": 1, "ratio": None}


def test_the_peer_reads_the_text_of_the_pages(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unstructured.partition.pdf_image import pdfminer_utils

    read: list[str] = []
    extract = pdfminer_utils.get_text_with_deduplication

    def heard(item: object, threshold: float) -> str:
        read.append(extract(item, threshold))
        return read[-1]

    monkeypatch.setattr(pdfminer_utils, "get_text_with_deduplication", heard)
    side = pages.PeerPages([shared / "files" / "pdf" / "layout-parser-paper-fast.pdf"])
    side.work()
    assert side.facts() == {"pages": 2, "failed": 0}
    assert "LayoutParser" in "".join(read)


# --- the whole


@pytest.mark.slow
def test_the_ingestion_benchmark_prints_what_it_promises(real_settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.html").write_text(f"<html><h1>Ship {number}</h1>" + "<p>It sails at dawn.</p>" * 80)
    (folder / "z.pdf").write_bytes(b"%PDF-1.7 and no more")
    told: list[str] = []
    found = ingest.run(real_settings, folder, None, told.append)
    assert found["files"] == 5
    for side in (found["ours"], found["peer"]):
        assert (side["files"], side["failed"]) == (4, 1)
        assert side["chunks"] >= 8
        assert 20 < side["tokens_per_chunk"] <= 256
        assert side["peak_rss_mb"] > 200
        assert 0 < side["cpu_busy"] <= 1.1
        assert side["chunks_per_second"] == pytest.approx(
            side["chunks"] / side["seconds"], abs=0.01 + 0.006 * side["chunks"] / side["seconds"] ** 2
        )
    assert found["chunks_per_second_ratio"] == pytest.approx(
        found["ours"]["chunks_per_second"] / found["peer"]["chunks_per_second"], rel=0.01, abs=0.006
    )
    assert found["pdf_pages_ratio"] is None
    assert found["pdf"] == {"files": 0, "left_out": 1}
    assert found["versions"]["llama-index-core"]
    assert len(found["differs"]) == len(ingest_peer.DIFFERS)
    assert any(line.startswith("LlamaIndex: ") for line in told)
    assert not (real_settings.home / "collections").exists()


@pytest.mark.slow
def test_a_limit_takes_the_first_files(real_settings: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(f"The ship number {number} sails at dawn.")
    found = ingest.run(real_settings, folder, 2, quiet)
    assert (found["files"], found["ours"]["files"], found["peer"]["files"]) == (2, 2, 2)


@pytest.mark.slow
def test_the_cost_of_growth_is_told(real_settings: Settings) -> None:
    found = ingest.grow(real_settings, (1000, 2000), quiet)
    small, large = found["scale"]
    assert 900 <= small["chunks"] <= 1100
    assert 1800 <= large["chunks"] <= 2200
    for row in (small, large):
        assert 0 < row["start_s"] < row["seconds"]
        assert row["ms_per_chunk"] == pytest.approx(1000 * row["seconds"] / row["chunks"], rel=0.01)
        assert 1000 * (row["seconds"] - row["start_s"]) / row["chunks"] < row["ms_per_chunk_after_start"]
        assert row["peak_rss_mb"] > 200
    costs = [row["ms_per_chunk_after_start"] for row in (large, small)]
    assert found["cost_ratio_2k_to_1k"] == pytest.approx(costs[0] / costs[1], abs=0.01)
