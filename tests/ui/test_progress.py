"""What a person sees of a run that goes on."""

from __future__ import annotations

import io
import re
import threading
from pathlib import Path

import pytest
from rich.console import Console

from ingest.progress import InHand, Progress
from tests.conftest import until
from ui import progress as module
from ui.progress import STOPPING, counts, in_hand, left, shown

HALF = Progress(12, 120, 340, 1200, 84.6, 170.0, (InHand("/d/a.pdf", 1.0), InHand("/d/b.pdf", 0.5)))


def test_counts() -> None:
    assert counts(HALF) == "12 of 120 files, 340 pages, 1,200 passages, 85 passages/s, about 3 min left"
    assert counts(Progress(0, 1, 0, 0, 0.0, None, ())) == "0 of 1 file, 0 pages, 0 passages"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0.0, "about 5 s left"),
        (31.0, "about 30 s left"),
        (60.0, "about 1 min left"),
        (170.0, "about 3 min left"),
        (3599.0, "about 1 h left"),
        (4000.0, "about 1 h left"),
        (4500.0, "about 1 h 10 min left"),
        (86400.0, "about 24 h left"),
    ],
)
def test_time_left_in_words(seconds: float | None, words: str) -> None:
    assert left(seconds) == words


def test_the_slowest_document_is_named_when_it_is_slow() -> None:
    slow = HALF._replace(in_hand=(InHand("/d/scan\x1b[31m.pdf", 14.2, 12, 340), InHand("/d/b.pdf", 3.0)))
    assert in_hand(slow) == "reading scan\N{REPLACEMENT CHARACTER}[31m.pdf, page 12 of 340 (14 s)"
    assert in_hand(slow._replace(in_hand=(InHand("/d/b.pdf", 3.0),))) == "reading b.pdf (3 s)"
    assert in_hand(HALF) == ""
    assert in_hand(HALF._replace(in_hand=(), stage="looking for files")) == "looking for files"


def test_a_terminal_moves_while_nothing_is_done(tmp_path: Path) -> None:
    """One slow file: no result comes, and still the person sees that something goes on."""
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, color_system=None, legacy_windows=False)
    pages = iter(range(1, 10_000))

    def ask() -> Progress:
        return Progress(0, 1, 0, 0, 0.0, None, (InHand("/d/slow.pdf", 5.0, next(pages), 340),))

    stopping = threading.Event()
    with shown(ask, stopping, console):
        until(lambda: len(set(re.findall(r"page \d+ of 340", out.getvalue()))) >= 3)
        console.print("failed   /d/x.pdf")
        assert STOPPING not in out.getvalue()
        stopping.set()
        until(lambda: STOPPING in out.getvalue())
    assert "failed   /d/x.pdf" in out.getvalue()


def test_a_narrow_terminal_gets_short_lines() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=40, color_system=None, legacy_windows=False)
    slow = HALF._replace(in_hand=(InHand(f"/d/{'long' * 30}.pdf", 5.0),))
    with shown(lambda: slow, threading.Event(), console):
        until(lambda: "reading" in out.getvalue())
    shown_lines = re.split(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]", out.getvalue())
    assert max(len(line) for line in shown_lines) <= 40


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY", 0.3)
    out, stopping = io.StringIO(), threading.Event()
    slow = HALF._replace(in_hand=(InHand("/d/slow.pdf", 5.0),))
    with shown(lambda: slow, stopping, Console(file=out)):
        until(lambda: out.getvalue().count(f"{counts(HALF)}; reading slow.pdf (5 s)\n") >= 2)
        stopping.set()
        until(lambda: STOPPING in out.getvalue())
    assert out.getvalue().count(STOPPING) == 1
    assert "\x1b" not in out.getvalue()


def test_a_short_run_without_a_terminal_says_nothing() -> None:
    out = io.StringIO()
    with shown(lambda: HALF, threading.Event(), Console(file=out)):
        pass
    assert out.getvalue() == ""
