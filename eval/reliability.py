"""How far confidence is accuracy: the reliability diagram of both models as inline SVG (Niculescu-Mizil and Caruana 2005,
"Predicting Good Probabilities with Supervised Learning", section 3)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.records import Bin, Calibration

SIDE, LEFT, BOTTOM, TOP = 240, 44, 40, 12
"""Width and height of the plot itself, and the room around it."""
LARGEST = 9
"""Radius of a bin that holds all answers."""


def reliability(sides: Sequence[tuple[str, Calibration | None]], names: tuple[str, str], label: str) -> Markup:
    """Confidence against the part that was right, a dot for each bin, as large as its answers are many.

    `sides` are CSS class and calibration of each model; `names` those of the axes. On the line both are equal.
    """
    width, height = LEFT + SIDE + TOP, TOP + SIDE + BOTTOM
    parts = [_grid(), f'<line class="equal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>']
    for style, calibration in sides:
        bins = [one for one in calibration.bins if one.n] if calibration else []
        path = " ".join(f"{_x(one.confidence):.1f},{_y(one.right):.1f}" for one in bins)
        parts.append(f'<polyline class="{style}" points="{path}"/>')
        total = sum(one.n for one in bins)
        parts += [_dot(one, style, total) for one in bins]
    x_name, y_name = map(escape, names)
    parts.append(f'<text class="middle" x="{LEFT + SIDE / 2}" y="{height - 4}">{x_name}</text>')
    parts.append(f'<text class="middle" transform="translate(12 {TOP + SIDE / 2}) rotate(-90)">{y_name}</text>')
    return Markup(
        f'<svg class="reliability" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _dot(one: Bin, style: str, total: int) -> str:
    radius = max(2.0, LARGEST * math.sqrt(one.n / total))
    told = f"{100 * one.confidence:.0f} % → {100 * one.right:.0f} % (n = {one.n:,})"
    return (
        f'<circle class="{style}" cx="{_x(one.confidence):.1f}" cy="{_y(one.right):.1f}" r="{radius:.1f}">'
        f"<title>{told}</title></circle>"
    )


def _grid() -> str:
    lines = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        x, y, told = _x(tick), _y(tick), f"{100 * tick:.0f}"
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{LEFT + SIDE}" y1="{y}" y2="{y}"/>')
        lines.append(f'<text class="end" x="{LEFT - 7}" y="{y + 4}">{told}</text>')
        lines.append(f'<text class="middle" x="{x}" y="{TOP + SIDE + 16}">{told}</text>')
    return "".join(lines)


def _x(part: float) -> float:
    return LEFT + SIDE * part


def _y(part: float) -> float:
    return TOP + SIDE * (1 - part)
