"""A server under load: many people search, some ask, while files are ingested. Each figure is of the same minute.

Starts the `footnote` command on loopback, over a home of its own, and talks to it as any client does.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil

from eval.bench.texts import passages
from rag.embed import open_embedder
from rag.errors import BenchError
from rag.settings import Settings

BASE = 200
"""Documents in the index before the clock starts."""
TOKENS = 150
"""Of a document's passage; each document has a few."""
STARTING = 300.0
"""Seconds until the models must be loaded."""
LAST = 600.0
"""Seconds in which the files must be in the index, once the minute is over."""


class Asked(NamedTuple):
    """A request that was answered."""

    kind: str
    seconds: float
    status: int


def run(
    settings: Settings,
    seconds: float,
    searchers: int,
    askers: int,
    files: int,
    pause: float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Latencies of searches and answers, errors, lost jobs, and the server's memory over the time.

    Args:
        settings: where conversions are kept, and how many threads there are.
        seconds: how long.
        searchers: clients that search, one request after another.
        askers: clients that ask, without a pause.
        files: uploaded meanwhile.
        pause: seconds that a client looks at what a search found before its next one. Without a pause, clients that
            are answered sooner only ask more: by Little's law, their number over searches per second is the latency.
        progress: told what goes on.

    Raises:
        BenchError: the server does not start, or ingests nothing.
    """
    texts = passages((BASE + files) * 2, open_embedder(settings).count_tokens, TOKENS)
    documents = [f"# Document {n}\n\n{texts[2 * n]}\n\n{texts[2 * n + 1]}\n" for n in range(BASE + files)]
    with TemporaryDirectory(prefix="footnote-load-") as folder, _server(settings, Path(folder)) as (url, process):
        client = httpx.Client(base_url=url, timeout=300, trust_env=False)
        progress("loading the models")
        _until(lambda: client.get("/readyz").status_code == 200, STARTING, "the models were not loaded")
        progress(f"ingesting {BASE} documents")
        _ended(client, _upload(client, documents[:BASE]))
        client.post("/api/v1/ask", json={"question": texts[0][:200]})
        progress(f"{searchers} search and {askers} ask for {seconds:g} s, while {files} files are ingested")
        load = _Load(url, texts, pause)
        load.begin(searchers, askers)
        job, memory, began = _upload(client, documents[BASE:]), list[float](), time.monotonic()
        while time.monotonic() - began < seconds:
            memory.append(psutil.Process(process.pid).memory_info().rss / 2**20)
            time.sleep(1.0)
        asked = load.end()
        ended = _ended(client, job)
        passages_there = int(client.get("/healthz").json()["passages"])
    return {"pause_s": pause, **_record(asked, seconds, memory, ended, passages_there)}


class _Load:
    """Clients that ask one thing after another, until they are told to end."""

    def __init__(self, url: str, texts: list[str], pause: float) -> None:
        self._url, self._texts, self._pause = url, texts, pause
        self._over, self._number, self._lock = threading.Event(), count(), threading.Lock()
        self._asked: list[Asked] = []
        self._threads: list[threading.Thread] = []

    def begin(self, searchers: int, askers: int) -> None:
        # Those that pause begin one by one: else all of them would ask in the same moment, again and again.
        starts = [("search", self._pause * i / searchers) for i in range(searchers)] + [("ask", 0.0)] * askers
        self._threads = [threading.Thread(target=self._work, args=each, daemon=True) for each in starts]
        for thread in self._threads:
            thread.start()

    def end(self) -> list[Asked]:
        self._over.set()
        for thread in self._threads:
            thread.join()
        return self._asked

    def _work(self, kind: str, after: float) -> None:
        self._over.wait(after)
        with httpx.Client(base_url=self._url, timeout=300, trust_env=False) as client:
            while not self._over.is_set():
                words = self._texts[next(self._number) * 7 % len(self._texts)].split()
                body = {"question": " ".join(words[:8]), **({"k": 10} if kind == "search" else {})}
                began = time.perf_counter()
                try:
                    status = client.post(f"/api/v1/{kind}", json=body).status_code
                except httpx.TransportError:
                    status = 0
                with self._lock:
                    self._asked.append(Asked(kind, time.perf_counter() - began, status))
                if kind == "search":
                    self._over.wait(self._pause)


@contextmanager
def _server(settings: Settings, home: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = Path(sys.executable).with_name("footnote")
    (home / "footnote.toml").write_text(
        f"cache = {json.dumps(str(settings.cache_dir))}\nthreads = {settings.threads}\n"
    )
    with (home / "log").open("wb") as log:
        arguments = ["chat", "--home", str(home), "--port", str(port)]
        process = subprocess.Popen([command, *arguments], stdout=log, stderr=log)  # noqa: S603
        try:
            yield f"http://127.0.0.1:{port}", process
        finally:
            process.terminate()
            process.wait(60)


def _until(holds: Callable[[], bool], seconds: float, or_else: str) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return
        except httpx.TransportError:
            pass  # it is not up yet
        time.sleep(0.5)
    raise BenchError(f"{or_else} within {seconds:g} s; run `footnote doctor`")


def _upload(client: httpx.Client, documents: list[str]) -> str:
    files = [("files", (f"{hash(text) & 0xFFFFFFFF:08x}.md", text.encode())) for text in documents]
    answer = client.post("/api/v1/documents", files=files)
    if answer.status_code != httpx.codes.ACCEPTED:
        raise BenchError(f"the upload was answered with status {answer.status_code}: {answer.text[:200]}")
    return str(answer.json()["id"])


def _ended(client: httpx.Client, job: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def over() -> bool:
        found.update(client.get(f"/api/v1/jobs/{job}").json())
        return found["state"] in ("done", "failed", "stopped")

    _until(over, LAST, f"job {job} did not end")
    return found


def _record(
    asked: list[Asked], seconds: float, memory: list[float], job: dict[str, Any], passages_there: int
) -> dict[str, Any]:
    kinds = {kind: [each for each in asked if each.kind == kind] for kind in ("search", "ask")}
    quarter = max(1, len(memory) // 4)
    return {
        **{kind: _figures(found, seconds) for kind, found in kinds.items()},
        "errors": sum(each.status != httpx.codes.OK for each in asked),
        "job": {"state": job["state"], "files": (job.get("counts") or {}).get("files", {})},
        "passages": passages_there,
        "memory_mb": {"first quarter": _middle(memory[:quarter]), "last quarter": _middle(memory[-quarter:])},
    }


def _figures(found: list[Asked], seconds: float) -> dict[str, float]:
    took = [1000 * each.seconds for each in found] or [0.0]
    p50, p95 = np.percentile(took, [50, 95])
    return {
        "n": len(found),
        "per_second": round(len(found) / seconds, 2),
        "p50_ms": round(p50, 1),
        "p95_ms": round(p95, 1),
    }


def _middle(values: list[float]) -> float:
    return round(float(np.median(values)), 1) if values else 0.0
