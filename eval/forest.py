"""A row of a forest plot as inline SVG; its colours come from the style sheet of the report."""

from __future__ import annotations

from markupsafe import Markup, escape

FOREST_WIDTH, FOREST_HEIGHT, FOREST_EDGE = 220, 26, 8


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
