"""A row of a forest plot as inline SVG, and the axis below its rows; colours come from the style sheet of the page."""

from __future__ import annotations

from typing import NamedTuple

from markupsafe import Markup, escape

from configs.figures import ticks

FOREST_WIDTH, FOREST_HEIGHT, FOREST_EDGE = 220, 26, 8


class Beside(NamedTuple):
    """What an effect is looked at against, in the units of the figure: right is better."""

    noise: float | None = None
    """What rounding alone changes: a band on both sides of zero."""
    margin: float | None = None
    """The loss that is still accepted: a line on the left."""
    pooled: bool = False
    """Several tasks together: a lozenge as wide as the interval."""


ALONE = Beside()


def forest(
    estimate: tuple[float, float, float], scale: float, verdict: str, label: str, beside: Beside = ALONE
) -> Markup:
    """One row of a forest plot: the interval as a line, the estimate as a mark, right is better.

    `estimate` is value, low and high; `scale` is the value at the right edge. Better is a filled circle, worse a
    diamond, undecided a hollow circle: the shape tells it without the colour.
    """
    middle, (value, low, high) = FOREST_HEIGHT / 2, estimate
    at, style = _across(value, scale), escape(verdict.partition(" ")[0])
    ends = _across(low, scale), _across(high, scale)
    marks = {
        "better": f'<circle cx="{at:.1f}" cy="{middle}" r="5"/>',
        "worse": f'<path d="M{at:.1f} {middle - 6}l6 6l-6 6l-6 -6z"/>',
    }
    mark = marks.get(verdict, f'<circle cx="{at:.1f}" cy="{middle}" r="4.5"/>')
    line = f'<line class="interval" x1="{ends[0]:.1f}" x2="{ends[1]:.1f}" y1="{middle}" y2="{middle}"/>'
    if beside.pooled:
        line = ""
        mark = (
            f'<path d="M{ends[0]:.1f} {middle}L{at:.1f} {middle - 7}L{ends[1]:.1f} {middle}L{at:.1f} {middle + 7}z"/>'
        )
    return Markup(
        f'<svg class="forest {style}" viewBox="0 0 {FOREST_WIDTH} {FOREST_HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{_behind(scale, beside)}'
        f'<line class="zero" x1="{FOREST_WIDTH / 2}" x2="{FOREST_WIDTH / 2}" y1="0" y2="{FOREST_HEIGHT}"/>'
        f"{line}{mark}</svg>"
    )


def axis(scale: float, sign: int, digits: int, factor: float = 1.0) -> Markup:
    """The values along a forest plot; `sign` is -1 where less is better, `factor` 100 where they are read as points."""
    most = scale * factor
    inside = [tick for tick in ticks(-most, most, 6) if abs(tick) <= most] if most > 0 else [0.0]
    parts = []
    for tick in inside:
        at, value = _across(tick, most), sign * tick
        told = f"{abs(value):.{digits}f}"
        text = told if not float(told) else ("−" if value < 0 else "+") + told
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="4"/><text x="{at:.1f}" y="16">{text}</text>')
    return Markup(
        f'<svg class="axis" viewBox="0 0 {FOREST_WIDTH} 20" aria-hidden="true">'
        f'<line x1="{FOREST_EDGE}" x2="{FOREST_WIDTH - FOREST_EDGE}" y1="0" y2="0"/>{"".join(parts)}</svg>'
    )


def _behind(scale: float, beside: Beside) -> str:
    """The noise band and the margin, under the interval."""
    parts = ""
    if beside.noise:
        left, right = _across(-beside.noise, scale), _across(beside.noise, scale)
        parts += f'<rect class="noise" x="{left:.1f}" width="{right - left:.1f}" y="0" height="{FOREST_HEIGHT}"/>'
    if beside.margin is not None and beside.margin <= scale:
        at = _across(-beside.margin, scale)
        parts += f'<line class="margin" x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{FOREST_HEIGHT}"/>'
    return parts


def _across(x: float, scale: float) -> float:
    """Where a value lies; what is beyond the scale lies at the edge."""
    inside = max(-1.0, min(1.0, x / scale)) if scale else 0.0
    return FOREST_WIDTH / 2 + inside * (FOREST_WIDTH / 2 - FOREST_EDGE)
