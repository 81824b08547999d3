"""The figures of the report as inline SVG: no scripts, no network; colours come from the page's own style sheet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Place = Callable[[float, float], tuple[float, float]]

FOREST_WIDTH, FOREST_HEIGHT, FOREST_EDGE = 220, 26, 8
CURVE_WIDTH, CURVE_HEIGHT = 860, 300
CURVE_LEFT, CURVE_RIGHT, CURVE_TOP, CURVE_BOTTOM = 52, 108, 16, 40
POINTS = 240
"""Points of a drawn curve; more are averaged in bins."""


class Series(NamedTuple):
    """A curve: its name, its CSS class, and its points (x, y)."""

    name: str
    style: str
    points: list[tuple[float, float]]
    dots: bool


def forest(estimate: tuple[float, float, float], scale: float, verdict: str, label: str) -> Markup:
    """One row of a forest plot: the interval as a line, the estimate as a mark, right is better.

    `estimate` is value, low and high; `scale` is the value at the right edge. Better is a filled circle, worse a
    diamond, undecided a hollow circle: the shape tells it without the colour.
    """
    middle, (value, low, high) = FOREST_HEIGHT / 2, estimate

    def across(x: float) -> float:
        inside = max(-1.0, min(1.0, x / scale)) if scale else 0.0
        return FOREST_WIDTH / 2 + inside * (FOREST_WIDTH / 2 - FOREST_EDGE)

    at, style = across(value), escape(verdict.partition(" ")[0])
    marks = {
        "better": f'<circle cx="{at:.1f}" cy="{middle}" r="5"/>',
        "worse": f'<path d="M{at:.1f} {middle - 6}l6 6l-6 6l-6 -6z"/>',
    }
    mark = marks.get(verdict, f'<circle cx="{at:.1f}" cy="{middle}" r="4.5"/>')
    return Markup(
        f'<svg class="forest {style}" viewBox="0 0 {FOREST_WIDTH} {FOREST_HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">'
        f'<line class="zero" x1="{FOREST_WIDTH / 2}" x2="{FOREST_WIDTH / 2}" y1="0" y2="{FOREST_HEIGHT}"/>'
        f'<line class="interval" x1="{across(low):.1f}" x2="{across(high):.1f}" y1="{middle}" y2="{middle}"/>'
        f"{mark}</svg>"
    )


def curve(series: Sequence[Series], x_name: str, y_name: str) -> Markup:
    """Line charts over the same axes, each named at its end; nothing without points."""
    drawn = [one._replace(points=_binned(one.points)) for one in series if one.points]
    if not drawn:
        return Markup("")
    xs, ys = ([point[axis] for one in drawn for point in one.points] for axis in (0, 1))
    x_ticks, y_ticks = ticks(0, max(xs)), ticks(min(ys), max(ys))
    x_span, y_low, y_span = x_ticks[-1] or 1, y_ticks[0], (y_ticks[-1] - y_ticks[0]) or 1
    wide, high = CURVE_WIDTH - CURVE_LEFT - CURVE_RIGHT, CURVE_HEIGHT - CURVE_TOP - CURVE_BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        return CURVE_LEFT + wide * x / x_span, CURVE_TOP + high * (1 - (y - y_low) / y_span)

    parts = [_grid(x_ticks, y_ticks, place), _axis_names(x_name, y_name)]
    ends = _apart([place(*one.points[-1])[1] for one in drawn])
    for one, end in zip(drawn, ends, strict=True):
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in one.points))
        parts.append(f'<polyline class="{one.style}" points="{path}"/>')
        if one.dots:
            spots = (place(*point) for point in one.points)
            parts += [f'<circle class="{one.style}" cx="{x:.1f}" cy="{y:.1f}" r="3"/>' for x, y in spots]
        x = place(*one.points[-1])[0]
        parts.append(f'<text class="name {one.style}" x="{x + 10:.1f}" y="{end + 4:.1f}">{escape(one.name)}</text>')
    label = f"{y_name} over {x_name}: " + "; ".join(
        f"{one.name} from {one.points[0][1]:.2f} to {one.points[-1][1]:.2f}" for one in drawn
    )
    head = f'<svg class="curve" viewBox="0 0 {CURVE_WIDTH} {CURVE_HEIGHT}" role="img" aria-label="{escape(label)}">'
    return Markup(head + "".join(parts) + "</svg>")


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers that span low to high (Heckbert 1990, "Nice numbers for graph labels").

    >>> [float(tick) for tick in ticks(0, 9)]
    [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    """
    rough = (high - low) / about or 1.0
    power = 10 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in (1, 2, 5, 10) if nice * power >= rough - 1e-12)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(position * step, 10) for position in range(first, last + 1)]


def short(number: float) -> str:
    """A count in few characters.

    >>> short(1_250_000), short(40_000), short(12)
    ('1.25M', '40k', '12')
    """
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:.3g}"


def _grid(x_ticks: list[float], y_ticks: list[float], place: Place) -> str:
    """Horizontal lines with their values, and the values of the other axis."""
    right, lines = CURVE_WIDTH - CURVE_RIGHT, list[str]()
    decimals = max(len(f"{tick:g}".partition(".")[2]) for tick in y_ticks)
    for tick in y_ticks:
        x, y = place(0, tick)
        lines.append(f'<line class="grid" x1="{x:.1f}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        lines.append(f'<text class="tick end" x="{x - 8:.1f}" y="{y + 4:.1f}">{tick:.{decimals}f}</text>')
    for tick in x_ticks:
        x, y = place(tick, y_ticks[0])
        lines.append(f'<text class="tick middle" x="{x:.1f}" y="{y + 18:.1f}">{short(tick)}</text>')
    return "".join(lines)


def _axis_names(x_name: str, y_name: str) -> str:
    middle = (CURVE_LEFT + CURVE_WIDTH - CURVE_RIGHT) / 2
    return (
        f'<text class="tick middle" x="{middle}" y="{CURVE_HEIGHT - 4}">{escape(x_name)}</text>'
        f'<text class="tick middle" transform="translate(12 {CURVE_HEIGHT / 2}) rotate(-90)">{escape(y_name)}</text>'
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
