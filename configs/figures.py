"""The figures of our pages as inline SVG: no network; colours come from `frame.css` and the page's own style sheet.

A figure is whole without any script. It carries the values of its points as JSON, so that a page may show those at the
pointer.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Sequence

CURVE_WIDTH, CURVE_HEIGHT = 860, 300
CURVE_LEFT, CURVE_RIGHT, CURVE_TOP, CURVE_BOTTOM = 52, 108, 16, 40
POINTS = 240
"""Points of a drawn curve of the report; more are averaged in bins."""
COLUMNS = 640
"""Columns of which the least and the greatest value are drawn: about one for each pixel."""
SMALL = 240
"""Height below which an axis has few values."""
NAMED = 60
"""Room on the right from which curves are named there."""
LONGEST = 32
"""Characters of a curve's name that are written beside it."""
MOST_SIGNS = 40
"""Marks that have a sign; more are lines only, at most one for each unit of width."""


class Series(NamedTuple):
    """A curve: its name, its CSS class, and its points (x, y)."""

    name: str
    style: str
    points: list[tuple[float, float]]
    dots: bool


class Mark(NamedTuple):
    """Something that happened at x: a line across the figure with a sign on top."""

    x: float
    sign: str
    style: str
    told: str


class Level(NamedTuple):
    """A value to compare a curve with: a line along the figure, shaded above where nothing should go."""

    y: float
    style: str
    told: str
    shaded: bool = False


class Frame(NamedTuple):
    """What a figure is besides its curves: axes, marks, levels, size in units of its own."""

    x_name: str
    y_name: str
    marks: Sequence[Mark] = ()
    levels: Sequence[Level] = ()
    most: float | None = None
    """What is above is drawn at the upper edge."""
    width: int = CURVE_WIDTH
    height: int = CURVE_HEIGHT
    right: int = CURVE_RIGHT
    """Room for the names of the curves; they are left out where it is small."""
    live: bool = False
    """Whether the page has a script that reads the values."""


class Plane:
    """Where a value lies in a figure: x up to the last point, y up to the uppermost tick."""

    def __init__(self, xs: list[float], y_ticks: list[float], frame: Frame) -> None:
        self.low, self.high = min(0.0, *xs), max(xs)
        self.x_ticks = [tick for tick in ticks(self.low, self.high) if self.low <= tick <= self.high]
        self.y_ticks, self.frame = y_ticks, frame
        self.right, self.bottom = frame.width - frame.right, frame.height - CURVE_BOTTOM

    def place(self, x: float, y: float) -> tuple[float, float]:
        """The point of a value; what is beyond the uppermost tick lies at the edge."""
        y_low = self.y_ticks[0]
        x_span, y_span = (self.high - self.low) or 1, (self.y_ticks[-1] - y_low) or 1
        up = min(1.0, (y - y_low) / y_span)
        return (
            CURVE_LEFT + (self.right - CURVE_LEFT) * (x - self.low) / x_span,
            CURVE_TOP + (self.bottom - CURVE_TOP) * (1 - up),
        )


def curve(series: Sequence[Series], x_name: str, y_name: str) -> Markup:
    """Line charts over the same axes, each named at its end, long ones as means of neighbours; nothing without points."""
    return drawn([one._replace(points=_binned(one.points)) for one in series if one.points], Frame(x_name, y_name))


def drawn(series: Sequence[Series], frame: Frame) -> Markup:
    """Curves, levels and marks over the same axes; nothing without points."""
    series = [one for one in series if one.points]
    if not series:
        return Markup("")
    if frame.right >= NAMED:
        frame = frame._replace(right=max(frame.right, *(16 + _width(one.name) for one in series)))
    plane = _plane(series, frame)
    parts = [_grid(plane), _axis_names(frame), *_levels(plane), *_marks(plane)]
    ends = _apart([plane.place(*one.points[-1])[1] for one in series])
    for one, end in zip(series, ends, strict=True):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (plane.place(*point) for point in one.points))
        parts.append(f'<polyline class="{one.style}" points="{path}"/>')
        if one.dots:
            spots = (plane.place(*point) for point in one.points)
            parts += [f'<circle class="{one.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in spots]
        if one.name and frame.right >= NAMED:
            x = plane.place(*one.points[-1])[0]
            parts.append(
                f'<text class="name {one.style}" x="{x + 10:.1f}" y="{end + 4:.1f}">{escape(one.name[:LONGEST])}</text>'
            )
    label = f"{frame.y_name} over {frame.x_name}: " + "; ".join(
        f"{one.name} from {short(one.points[0][1])} to {short(one.points[-1][1])}" for one in series if one.name
    )
    head = (
        f'<svg class="curve" viewBox="0 0 {frame.width} {frame.height}" role="img" aria-label="{escape(label)}"'
        f"{_values(series, plane) if frame.live else ''}>"
    )
    return Markup(head + "".join(parts) + "</svg>")


def thinned(xs: np.ndarray, ys: np.ndarray, columns: int = COLUMNS) -> list[tuple[float, float]]:
    """The least and the greatest value in each of `columns` equal parts of a rising x, so that no peak is lost.

    What is not finite is left out. Few points stay as they are.

    >>> thinned(np.arange(8), np.array([3, 1, 2, 9, 5, 5, 4, 6]), columns=2)
    [(1.0, 1.0), (3.0, 9.0), (6.0, 4.0), (7.0, 6.0)]
    """
    finite = np.isfinite(ys)
    xs, ys = xs[finite], ys[finite]
    chosen = np.arange(len(xs))
    if len(xs) > 2 * columns:
        edges = np.searchsorted(xs, np.linspace(xs[0], xs[-1], columns + 1)[1:-1], side="right")
        parts = [part for part in np.split(chosen, edges) if len(part)]
        chosen = np.array(sorted({int(part[at]) for part in parts for at in (ys[part].argmin(), ys[part].argmax())}))
    return list(zip(xs[chosen].astype(float).tolist(), ys[chosen].astype(float).tolist(), strict=True))


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that span low to high (Heckbert 1990, "Nice numbers for graph labels").

    >>> [float(tick) for tick in ticks(0, 9)]
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    rough = (high - low) / about or 1.0
    power = 10 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough * (1 - 1e-12))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = max(10, 3 - math.floor(math.log10(step)))
    return [round(position * step, digits) for position in range(first, last + 1)]


def short(number: float) -> str:
    """A count in few characters.

    >>> short(1_250_000), short(40_000), short(12)
    ('1.25M', '40k', '12')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _width(name: str) -> int:
    """About the room that a curve's name takes at 12 units a line: Chinese characters are as wide as high."""
    return sum(12 if ord(letter) >= 0x2E80 else 7 for letter in name[:LONGEST])


def _plane(series: Sequence[Series], frame: Frame) -> Plane:
    """Axes around all points and levels; x begins at zero."""
    xs, ys = ([point[axis] for one in series for point in one.points] for axis in (0, 1))
    ys += [level.y for level in frame.levels]
    most = max(ys) if frame.most is None else min(max(ys), frame.most)
    low = min(*ys, most)
    few = 3 if frame.height < SMALL else 5
    return Plane(xs, ticks(low, most, few), frame)


def _values(series: Sequence[Series], plane: Plane) -> str:
    """The attributes that a script reads: the plot's place, its values of x, and all points with 5 digits."""
    points = [[one.name, one.style, [[x, float(f"{y:.5g}")] for x, y in one.points]] for one in series if one.name]
    axis = [CURVE_LEFT, plane.right, plane.low, plane.high, CURVE_TOP, plane.bottom]
    return f' data-axis="{json.dumps(axis)}" data-curves="{escape(json.dumps(points, separators=(",", ":")))}"'


def _levels(plane: Plane) -> list[str]:
    parts = []
    for level in plane.frame.levels:
        y = plane.place(0, level.y)[1]
        if level.shaded:
            size = f'x="{CURVE_LEFT}" y="{CURVE_TOP}" width="{plane.right - CURVE_LEFT}" height="{y - CURVE_TOP:.1f}"'
            parts.append(f'<rect class="beyond" {size}/>')
        ends = f'x1="{CURVE_LEFT}" x2="{plane.right}" y1="{y:.1f}" y2="{y:.1f}"'
        parts.append(f'<line class="level {level.style}" {ends}><title>{escape(level.told)}</title></line>')
    return parts


def _marks(plane: Plane) -> list[str]:
    marks, parts = plane.frame.marks, []
    if len(marks) > MOST_SIGNS:
        marks = list({(round(plane.place(mark.x, 0)[0]), mark.style): mark for mark in marks}.values())
    for mark in marks:
        x = plane.place(mark.x, 0)[0]
        sign = f'<text x="{x:.1f}" y="{CURVE_TOP - 4}">{escape(mark.sign)}</text>' if len(marks) <= MOST_SIGNS else ""
        parts.append(
            f'<g class="mark {mark.style}"><line x1="{x:.1f}" x2="{x:.1f}" y1="{CURVE_TOP}" y2="{plane.bottom}"/>'
            f"{sign}<title>{escape(mark.told)}</title></g>"
        )
    return parts


def _grid(plane: Plane) -> str:
    """Horizontal lines with their values, and the values of the other axis."""
    lines = list[str]()
    for tick, told in zip(plane.y_ticks, _alike(plane.y_ticks), strict=True):
        x, y = plane.place(plane.low, tick)
        lines.append(f'<line class="grid" x1="{x:.1f}" x2="{plane.right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="tick end" x="{x - 8:.1f}" y="{y + 4:.1f}">{told}</text>')
    for tick in plane.x_ticks:
        x, y = plane.place(tick, plane.y_ticks[0])
        lines.append(f'<text class="tick middle" x="{x:.1f}" y="{y + 18:.1f}">{short(tick)}</text>')
    return "".join(lines)


def _alike(values: list[float]) -> list[str]:
    """The values of an axis with equally many decimals; very small and large ones in few characters.

    >>> _alike([1.5, 2.0]), _alike([0.0, 0.0001, 0.0002]), _alike([0.0, 20000.0])
    (['1.5', '2.0'], ['0', '1e-4', '2e-4'], ['0', '20k'])
    """
    greatest = max(abs(value) for value in values)
    if greatest >= 1e4:
        return [short(value) for value in values]
    if 0 < greatest < 1e-2:
        parts = [f"{value:.2e}".partition("e") for value in values]
        return [f"{float(head):g}e{int(power)}" if float(head) else "0" for head, _, power in parts]
    decimals = max(len(f"{value:g}".partition(".")[2]) for value in values)
    return [f"{value:.{decimals}f}" for value in values]


def _axis_names(frame: Frame) -> str:
    middle = (CURVE_LEFT + frame.width - frame.right) / 2
    return (
        f'<text class="tick middle" x="{middle}" y="{frame.height - 4}">{escape(frame.x_name)}</text>'
        f'<text class="tick middle" transform="translate(12 {frame.height / 2}) rotate(-90)">{escape(frame.y_name)}</text>'
    )


def _binned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most POINTS points: means of equal numbers of neighbours."""
    size = math.ceil(len(points) / POINTS)
    bins = [points[start : start + size] for start in range(0, len(points), size)]
    return [(sum(x for x, _ in some) / len(some), sum(y for _, y in some) / len(some)) for some in bins]


def _apart(heights: list[float], least: float = 15) -> list[float]:
    """Heights of labels moved down where they would lie on one another."""
    placed = dict[int, float]()
    for position in sorted(range(len(heights)), key=lambda position: heights[position]):
        lowest = max(placed.values(), default=-math.inf) + least
        placed[position] = max(heights[position], lowest)
    return [placed[position] for position in range(len(heights))]
