"""metrics.jsonl as columns: steps, looks at held-out text, and events, whatever a line lacks.

a step    {"step", "tokens", "loss", "learning_rate", "grad_norm", "tokens_per_second", "mfu", "phase",
         "preferred", "margin" ...}
a look    {"step", "tokens", "validation": {channel: loss}, "sources", "probes", "budget": {"limit", "spent"}, "best"}
an event  {"step", "event", "message", "rows"}
"""

# N steps

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from pathlib import Path

Line = dict[str, Any]
LOOKS = frozenset({"validation", "sources", "probes", "budget"})
"""A line that has one of these is a look."""


@dataclass(frozen=True)
class Curves:
    """What a run has told so far; of a step that was taken again after a rewind, what it told last."""

    steps: list[Line] = field(default_factory=list)
    looks: list[Line] = field(default_factory=list)
    events: list[Line] = field(default_factory=list)
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """Those that were asked for."""

    def column(self, key: str) -> np.ndarray:
        """One figure of all steps, float64 [N]; NaN where a line has no number."""
        if key not in self.columns:
            values = [line.get(key) for line in self.steps]
            try:
                self.columns[key] = np.array(values, float)  # None becomes NaN
            except (TypeError, ValueError):
                self.columns[key] = np.array([number(value) for value in values], float)
        return self.columns[key]

    def mean(self, key: str) -> np.ndarray:
        """The moving mean of a figure, float64 [N]; each phase has its own."""
        values = self.column(key)
        names = [line.get("phase") for line in self.steps]
        borders = [at for at in range(1, len(names)) if names[at] != names[at - 1]]
        return np.concatenate([smoothed(part) for part in np.split(values, borders)])

    def of_preference(self) -> np.ndarray:
        """Whether a step is one of a preference phase, whose loss is by pair, bool [N]."""
        return np.array(["preference" in str(line.get("phase")) for line in self.steps], bool)

    def held_out(self, part: str) -> dict[str, list[tuple[float, float]]]:
        """The points (step, value) of each name in a part of the looks: `validation`, `sources`, `probes`, `budget`."""
        found: dict[str, list[tuple[float, float]]] = {}
        for look in self.looks:
            inner = look.get(part)
            for name, value in inner.items() if isinstance(inner, dict) else ():
                if np.isfinite(at := number(value)):
                    found.setdefault(str(name), []).append((float(look["step"]), at))
        return found


def read_curves(path: Path) -> Curves:
    """The lines of a metrics.jsonl."""
    steps: dict[int, Line] = {}
    looks: dict[int, Line] = {}
    events: list[Line] = []
    for line in told_lines(path):
        step = line["step"]
        if "event" in line:
            events.append(line)
        elif LOOKS.isdisjoint(line):
            steps[step] = line
        else:
            looks[step] = looks.get(step, {}) | line
    return Curves([steps[step] for step in sorted(steps)], [looks[step] for step in sorted(looks)], events)


def number(value: Any) -> float:
    """A number, or NaN."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")


def smoothed(ys: np.ndarray) -> np.ndarray:
    """The mean of each value's neighbourhood, near ones counting more (a triangle that reaches over a 25th of all on
    either side, but at least two); what is not finite has no weight.

    >>> smoothed(np.array([1.0, 1.0, 4.0, np.nan, 1.0])).round(2).tolist()
    [1.6, 1.86, 2.29, 2.2, 2.0]
    """
    reach = max(1, len(ys) // 50)
    finite = np.isfinite(ys)
    sums, weights = np.where(finite, ys, 0.0), finite.astype(float)
    for _ in range(2):  # a window moved over itself is a triangle
        sums, weights = _windows(sums, reach), _windows(weights, reach)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / weights)


def _windows(values: np.ndarray, reach: int) -> np.ndarray:
    """The sum around each value, `reach` to either side; at the ends as far as there is something."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(len(values))
    return np.asarray(sums[np.minimum(places + reach + 1, len(values))] - sums[np.maximum(places - reach, 0)])


def told_lines(path: Path) -> list[Line]:
    """All lines that are JSON objects with a step: one that was cut by a stop, or that a power cut filled with NULs, is
    left out. They are read in one go, which is several times faster, unless one of them is damaged.
    """
    lines = path.read_text("utf-8", errors="replace").splitlines() if path.is_file() else []
    try:
        found = json.loads(f"[{','.join(lines)}]")
    except ValueError:
        found = []
        for line in lines:
            with suppress(ValueError):
                found.append(json.loads(line))
    return [line for line in found if isinstance(line, dict) and isinstance(line.get("step"), int)]
