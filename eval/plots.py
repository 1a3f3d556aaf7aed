"""Figures -> SVG, by matplotlib. Knows nothing about runs; the same figures give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

COLOURS = ("#1d4ed8", "#c2410c", "#15803d", "#7e22ce", "#b91c1c", "#0e7490", "#4d7c0f", "#a21caf")
WIDTH = 6.2
"""Inches."""


def intervals(title: str, figures: Mapping[str, Mapping[str, float]]) -> str:
    """A row for each name: its value with its interval."""
    figure, axes = _canvas(0.9 + 0.34 * len(figures))
    names = list(figures)[::-1]
    for row, each in enumerate(figures[name] for name in names):
        error = [[each["value"] - each["low"]], [each["high"] - each["value"]]]
        axes.errorbar([each["value"]], [row], xerr=error, fmt="o", color=COLOURS[0], capsize=3)
        axes.annotate(f"{each['value']:.3f}", (each["value"], row), (0, 5), textcoords="offset points", ha="center")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(figures) - 0.3)
    axes.set_xlabel(f"{title}, with 95 % interval")
    return _svg(figure)


def risk_coverage(curves: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each name: what share of the answers is wrong, over the share of the questions answered."""
    figure, axes = _canvas(3.6)
    for colour, (name, curve) in zip(_colours(len(curves)), curves.items(), strict=True):
        label = f"{name} (area {curve['area']:.3f})"
        axes.plot(curve["coverage"], curve["risk"], drawstyle="steps-post", color=colour, label=label)
        axes.plot(curve["coverage"][-1:], curve["risk"][-1:], "o", color=colour)
    axes.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), xlabel="coverage: share of the questions answered, the surest first")
    axes.set_ylabel("risk: share of them wrong")
    axes.legend(loc="best", frameon=False)
    return _svg(figure)


def roc(curves: Mapping[str, Any]) -> str:
    """A line for each name: how many of the supported claims are recognised at the price of how many wrong ones."""
    figure, axes = _canvas(4.2)
    axes.plot([0, 1], [0, 1], "--", color="#9ca3af", label="by chance")
    for colour, (name, curve) in zip(_colours(len(curves)), curves.items(), strict=True):
        label = f"{name} ({curve.area:.3f})"
        axes.plot(curve.of_unsupported, curve.of_supported, color=colour, label=label, linewidth=1.2)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="share of the unsupported claims called supported")
    axes.set_ylabel("share of the supported ones called so")
    axes.legend(loc="lower right", frameon=False, fontsize="small")
    return _svg(figure)


def reliability(
    named: Mapping[str, Sequence[Mapping[str, float]]], sure: str = "confidence", right: str = "share correct"
) -> str:
    """A line for each name: accuracy over confidence, bin by bin; on the diagonal confidence is a probability.

    Args:
        named: bins with `confidence`, `accuracy` and `n`.
        sure: what the confidence is called.
        right: what the accuracy is called.
    """
    figure, axes = _canvas(3.6)
    axes.plot([0, 1], [0, 1], "--", color="#9ca3af", label="as sure as right")
    for colour, (name, bins) in zip(_colours(len(named)), named.items(), strict=True):
        most = max((each["n"] for each in bins), default=1)
        confidence, accuracy = ([each[key] for each in bins] for key in ("confidence", "accuracy"))
        axes.plot(confidence, accuracy, color=colour, label=name)
        axes.scatter(confidence, accuracy, s=[20 + 120 * each["n"] / most for each in bins], color=colour)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.05, 1.05), xlabel=sure, ylabel=right)
    axes.legend(loc="best", frameon=False)
    return _svg(figure)


def strictness(rows: Sequence[Mapping[str, Any]]) -> str:
    """Over the threshold: the share of the questions answered, and answered wrongly; a line for each strictness."""
    figure, axes = _canvas(3.8)
    modes = list(dict.fromkeys(row["strictness"] for row in rows))
    for colour, marker, mode in zip(_colours(len(modes)), "os^", modes, strict=False):
        chosen = [row for row in rows if row["strictness"] == mode]
        thresholds = [row["min_support"] for row in chosen]
        for name, label, line in (("answer_rate", "answered", "-"), ("wrong_answer_rate", "answered wrongly", "--")):
            shares = [row[name] for row in chosen]
            low, high = ([each[side] for each in shares] for side in ("low", "high"))
            axes.fill_between(thresholds, low, high, color=colour, alpha=0.08, linewidth=0)
            values = [each["value"] for each in shares]
            axes.plot(thresholds, values, line, marker=marker, color=colour, label=f"{mode}: {label}")
    axes.set(
        ylim=(-0.02, 1.02), xlabel="min_support: the support that a sentence needs", ylabel="share of the questions"
    )
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return _svg(figure)


def losses(history: Sequence[Mapping[str, Any]]) -> str:
    """Over the steps of a training: the loss on what it learned from, smoothed, and on what was held out."""
    figure, axes = _canvas(3.6)
    steps, values = [each["step"] for each in history], [each["loss"] for each in history]
    near = [values[max(0, i - 4) : i + 5] for i in range(len(values))]
    axes.plot(steps, values, ".", color=COLOURS[0], alpha=0.3, markersize=4)
    axes.plot(steps, [sum(each) / len(each) for each in near], color=COLOURS[0], label="learned from")
    held = [each for each in history if each["held"] is not None]
    at, left = [each["step"] for each in held], [each["held"] for each in held]
    axes.plot(at, left, "o-", color=COLOURS[1], label="held out")
    axes.set(xlabel="step", ylabel="loss, nats a token")
    axes.set_ylim(bottom=0)
    axes.legend(loc="best", frameon=False)
    return _svg(figure)


def _colours(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _canvas(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    axes.grid(True, color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    """The `<svg>` element alone, with its text as text."""
    import matplotlib

    written = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "footnote", "font.family": "sans-serif"}):
        figure.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    text = written.getvalue()
    return text[text.index("<svg") :]
