"""Evaluation in one's own tests: the fixture and marker `footnote_eval`, there wherever Footnote is installed.

    def test_answers_are_no_worse(footnote_eval):
        run = footnote_eval.answers("tests/leases", limit=50)
        footnote_eval.gate(run, baseline="tests/runs/main", max_drop=0.01)

Tests that use the fixture carry the marker: `pytest -m "not footnote_eval"` leaves them out. Loads nothing of Footnote
before a test asks for it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from eval.run import Finished
    from rag.settings import Settings

MARKER = "footnote_eval"


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line("markers", f"{MARKER}(**settings): measures Footnote, with these settings changed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use the fixture."""
    for item in items:
        if MARKER in getattr(item, "fixturenames", ()) and item.get_closest_marker(MARKER) is None:
            item.add_marker(MARKER)


@pytest.fixture
def footnote_eval(request: pytest.FixtureRequest) -> Evaluation:
    """Measures Footnote; the marker `footnote_eval(passages=3)` changes settings."""
    from rag.settings import Settings

    marker = request.node.get_closest_marker(MARKER)
    return Evaluation(Settings.load(**(marker.kwargs if marker else {})))


class Evaluation:
    """What a test can measure, and hold it to. Relative paths begin where pytest was started."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def retrieval(self, directory: str | Path, **options: Any) -> Finished:
        """See `eval.measure.measure_retrieval`, whose options it takes: `qrels`, `limit`, `name`, `fresh`."""
        from eval.measure import measure_retrieval

        return measure_retrieval(self.settings, Path(directory), _say, **options)

    def answers(self, path: str | Path, **options: Any) -> Finished:
        """See `eval.measure.measure_answers`, whose options it takes: `unanswerable`, `limit`, `name`, and so on."""
        from eval.measure import measure_answers

        return measure_answers(self.settings, Path(path), _say, **options)

    def judge(self, path: str | Path, **options: Any) -> Finished:
        """See `eval.measure.measure_judge`, whose options it takes: `judge`, `format`, `system`, `limit`, and so on."""
        from eval.measure import measure_judge

        return measure_judge(self.settings, Path(path), _say, **options)

    def gate(self, run: Finished, baseline: str | Path, max_drop: float = 0.01, **options: Any) -> dict[str, Any]:
        """Fail the test where a run is worse than its baseline; else give the comparison. See `eval.gate.gate`.

        Args:
            run: what `retrieval`, `answers` or `judge` gave.
            baseline: name or directory of an earlier run.
            max_drop: how much worse the mean may be.
            options: `min_coverage`, `system` and `metric`.
        """
        from eval.gate import gate
        from eval.run import read_run

        found = gate(run, read_run(str(baseline), self.settings), max_drop, **options)
        if not found["holds"]:
            pytest.fail(f"{run.name} against {baseline}: {'; '.join(found['reasons'])}", pytrace=False)
        return found


def _say(message: str) -> None:
    """Progress; pytest shows it where a test fails."""
    sys.stderr.write(message + "\n")
