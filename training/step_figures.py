"""The figures of the run page that have a point for every step: losses, what a preference phase learns, pace."""

# N steps

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from configs.figures import Frame, Mark, Series, drawn, thinned

if TYPE_CHECKING:
    from markupsafe import Markup

    from training.curves import Curves

SMALL = {"width": 430, "height": 200, "right": 16}
"""Size of the figures that stand two in a row."""
PEAK = 1.25
"""A loss may lie so far above the highest smoothed one, in parts of the curve's height, before it is drawn at the edge."""
PACE = (
    ("preferred", "Pairs preferred rightly", "share of a step's pairs"),
    ("margin", "Margin", "chosen over rejected, nats x beta"),
    ("learning_rate", "Learning rate", ""),
    ("grad_norm", "Gradient norm", ""),
    ("tokens_per_second", "Tokens per second", ""),
    ("mfu", "Model FLOPs utilisation", ""),
    ("memory_bytes", "Memory, bytes", ""),
)
"""Key in metrics.jsonl, title and unit."""


def losses(curves: Curves, marks: list[Mark]) -> list[dict[str, Any]]:
    """The training loss by token and, on axes of its own, that of preference phases by pair."""
    pairs_N = curves.of_preference()
    found = (
        _loss(curves, marks, ("Training loss", "nats per token"), ~pairs_N),
        _loss(curves, marks, ("Preference loss", "nats per pair"), pairs_N),
    )
    return [it for it in found if it]


def _loss(curves: Curves, marks: list[Mark], words: tuple[str, str], of_N: np.ndarray) -> dict[str, Any] | None:
    """The loss of these steps, and its moving mean; single peaks are drawn at the upper edge."""
    steps, values, mean = (it[of_N] for it in (curves.column("step"), curves.column("loss"), curves.mean("loss")))
    if not np.isfinite(values).any():
        return None
    low, high = np.nanmin(values), np.nanmax(mean)
    most = float(high + PEAK * (high - low)) if high > low else None
    series = [
        Series("loss", "training", thinned(steps, values), dots=False),
        Series("mean", "mean", thinned(steps, mean), dots=False),
    ]
    beyond = int((values > most).sum()) if most is not None else 0
    hint = f"Beyond the edge: {beyond:,} of {len(values):,} steps, up to {np.nanmax(values):.3g}." if beyond else ""
    gone = int((~np.isfinite(values)).sum())
    hint += f" Without a finite loss: {gone:,}." if gone else ""
    title, unit = words
    return figure(title, drawn(series, Frame("steps", unit, marks, most=most, live=True)), hint)


def pace(curves: Curves, marks: list[Mark]) -> list[dict[str, Any]]:
    """What preference learns, learning rate, size of the gradient, speed: small figures, two in a row."""
    steps, figures = curves.column("step"), []
    for key, title, unit in PACE:
        values = curves.column(key)
        if not np.isfinite(values).any():
            continue
        rate = key == "learning_rate"
        series = [Series(title.lower(), "mean" if rate else "training", thinned(steps, values), dots=False)]
        if not rate:
            series.append(Series("mean", "mean", thinned(steps, curves.mean(key)), dots=False))
        frame = Frame("steps", unit, marks, live=True, **SMALL)  # type: ignore[arg-type]
        figures.append({"title": title, "svg": drawn(series, frame), "hint": ""})
    return figures


def figure(title: str, svg: Markup, hint: str) -> dict[str, Any] | None:
    """A figure as the template takes it; none without points."""
    return {"title": title, "svg": svg, "hint": hint.strip()} if svg else None
