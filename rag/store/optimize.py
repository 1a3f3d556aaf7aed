"""A process of its own that optimizes a shard: `python -m rag.store.optimize SHARD DIM PARENT`.

Qdrant Edge's `optimize()` stops every thread of its process for minutes. Knows nothing about the store it is for;
the directory is a copy that nobody else has open.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

from rag.errors import StoreError

NICE = 10
PR_SET_PDEATHSIG = 1
"""From Linux's <linux/prctl.h>: which signal a process gets when its parent dies."""
LOOK_EVERY = 0.2
"""Seconds."""


def optimize(shard: Path, dim: int, unwanted: Callable[[], bool]) -> None:
    """Optimize the shard in a directory, in another process, and wait for it.

    Args:
        shard: its directory.
        dim: length of its vectors.
        unwanted: asked again and again; the process is stopped when it says True.

    Raises:
        StoreError: the process failed or was stopped; the directory is worth nothing then.
    """
    command = [sys.executable, "-m", __name__, str(shard.resolve()), str(dim), str(os.getpid())]
    process = subprocess.Popen(  # noqa: S603 - this module, run by this Python
        command,
        cwd=Path(__file__).parents[2],  # where `-m` looks for this package
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        said = _wait(process, unwanted)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0:
        raise StoreError(
            f"optimizing the index failed ({_last_line(said) or f'exit code {process.returncode}'}); "
            "it can be searched as before: check the free disk space and memory, then run `footnote ingest` again"
        )


def _wait(process: subprocess.Popen[str], unwanted: Callable[[], bool]) -> str:
    """What the process said on stderr."""
    while not unwanted():
        try:
            return process.communicate(timeout=LOOK_EVERY)[1]
        except subprocess.TimeoutExpired:
            continue
    return "the store was closed meanwhile"


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return textwrap.shorten(lines[-1], 300) if lines else ""


def _die_with(parent: int) -> None:
    """End when the parent ends, where the system can do that; elsewhere the work ends unused, in its own copy."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            sys.exit(1)


def main(shard: str, dim: str, parent: str) -> None:
    """Do the work, nicely, and end with the parent."""
    _die_with(int(parent))
    if hasattr(os, "nice"):
        os.nice(NICE)
    from rag.store.shard import optimize as optimize_shard

    optimize_shard(Path(shard), int(dim))


if __name__ == "__main__":
    main(*sys.argv[1:])
