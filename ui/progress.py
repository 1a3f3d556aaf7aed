"""Shows on stderr how far a run is, while it goes on: a line that moves in a terminal, else a line now and then.

Knows nothing about what a run does; it asks for its progress from a thread of its own, so that the display moves
while one slow file is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import PurePath
from threading import Event, Thread

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ingest.progress import InHand, Progress
from ui.records import counted
from ui.terminal import harmless

SLOW = 2.0
"""Seconds from which the document in hand is named."""
EVERY = 10.0
"""Seconds between two lines where stderr is no terminal."""
TICK = 0.25
BAR, ROOM_FOR_BAR = 24, 110
"""Columns."""
STOPPING = "stopping at the next document; press Ctrl-C again to quit at once"

Ask = Callable[[], Progress]


@contextmanager
def shown(ask: Ask, stopping: Event, console: Console) -> Iterator[None]:
    """Show what `ask` tells until the block ends, and that the run is `stopping`."""
    way = _moving if console.is_terminal else _now_and_then
    with way(ask, stopping, console):
        yield


def counts(progress: Progress) -> str:
    """How much is done: `12 of 120 files, 340 pages, 1,200 passages, 85 passages/s, about 3 min left`."""
    parts = [
        f"{progress.files:,} of {counted(progress.of, 'file')}",
        counted(progress.pages, "page"),
        counted(progress.chunks, "passage"),
        f"{progress.chunks_per_second:.0f} passages/s" if progress.chunks_per_second else "",
        left(progress.eta),
    ]
    return ", ".join(filter(None, parts))


def left(seconds: float | None) -> str:
    """How long it will go on, as well as anybody can tell; empty where nobody can."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"about {max(5, 5 * round(seconds / 5))} s left"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"about {minutes} min left"
    return f"about {minutes // 60} h {minutes % 60 // 10 * 10} min left".replace(" 0 min", "")


def in_hand(progress: Progress) -> str:
    """The document that takes longest, or what goes on where none does; empty where nothing is slow."""
    slowest = next(iter(progress.in_hand), None)
    if slowest is not None and slowest.seconds >= SLOW:
        return f"reading {harmless(PurePath(slowest.doc).name)}{_page(slowest)} ({slowest.seconds:.0f} s)"
    return progress.stage


def _page(document: InHand) -> str:
    return f", page {document.page} of {document.pages}" if document.pages else ""


@contextmanager
def _moving(ask: Ask, stopping: Event, console: Console) -> Iterator[None]:
    spinner = Spinner("dots")

    def view() -> RenderableType:
        progress = ask()
        row = Table.grid(padding=(0, 1))
        bar = [ProgressBar(max(progress.of, 1), progress.files, width=BAR)] if console.width >= ROOM_FOR_BAR else []
        row.add_row(spinner, *bar, _line(counts(progress)))
        more = [in_hand(progress), STOPPING if stopping.is_set() else ""]
        return Group(row, *(_line(f"  {text}") for text in more if text))

    with Live(console=console, get_renderable=view, refresh_per_second=1 / TICK, transient=True):
        yield


def _line(text: str) -> Text:
    """One line, however narrow the terminal is."""
    return Text(text, no_wrap=True, overflow="ellipsis")


@contextmanager
def _now_and_then(ask: Ask, stopping: Event, console: Console) -> Iterator[None]:
    over = Event()

    def tell() -> None:
        said, waited = False, 0.0
        while not over.wait(TICK):
            waited += TICK
            if stopping.is_set() and not said:
                said = True
                _print(console, STOPPING)
            if waited >= EVERY:
                waited, progress = 0.0, ask()
                _print(console, "; ".join(filter(None, (counts(progress), in_hand(progress)))))

    thread = Thread(target=tell, name="footnote-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _print(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
