"""A disposable process that reads documents for `ingest.sandbox`, and what it says on its pipe.

Knows nothing about other processes but its parent.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import tempfile
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from ingest.stages import Recipe, Task, prepare
from rag.errors import ParseError


class Beat(NamedTuple):
    """A sign that a document that takes long gets on: pages done and in all; 0 where it has none."""

    page: int = 0
    pages: int = 0


class Failure(NamedTuple):
    """Why a document could not be read; `lasting` where another try would end the same way."""

    reason: str
    lasting: bool


def work(connection: Connection, recipe: Recipe, memory: int, spool: Path, parent: int) -> None:
    """Read a document after the other until the connection closes.

    For each `Task` that comes: a `Beat`, so that starting this process is not the document's time; an `Outline` and
    batches of chunks, now and then a `Beat`; None at the end, or a `Failure`.
    """
    _settle(memory, recipe.max_unpacked, parent)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            _read(connection, recipe, connection.recv(), spool, memory)


def _read(connection: Connection, recipe: Recipe, task: Task, spool: Path, memory: int) -> None:
    folder = spool / task.doc_id
    message: Failure | None = None
    connection.send(Beat())
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(folder)
        for part in prepare(task, recipe, folder, lambda page, pages: connection.send(Beat(page, pages))):
            connection.send(part)
    except ParseError as error:
        message = Failure(str(error), lasting=True)
    except MemoryError:
        message = Failure(too_much(memory), lasting=False)
    except (BrokenPipeError, ConnectionResetError):
        raise
    except OSError as error:
        message = Failure(f"cannot be read: {error.strerror or error}; check the free disk space", lasting=True)
    except Exception as error:
        connection.send(Failure(f"a fault in Footnote, please report it: {error!r}", lasting=False))
        raise
    connection.send(message)


def too_much(memory: int) -> str:
    """The reason of a document that takes more than `memory` bytes."""
    return f"reading it takes more than {memory >> 20} MB of memory; split it, or raise parse_memory_mb"


def _settle(memory: int, largest: int, parent: int) -> None:
    """Make this process disposable: limits, a group of its own, silence, and an end with its parent's."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a file that grows too large is an error like any other
    silence = os.open(os.devnull, os.O_RDWR)  # libraries print what they think of a file; stdout is for results
    for descriptor in (0, 1, 2):
        os.dup2(silence, descriptor)
    for limit, value in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_FSIZE, largest),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # a lower limit is set already, or the system has none
            resource.setrlimit(limit, (value, value))
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG, see prctl(2)
    if os.getppid() != parent:
        os._exit(1)
