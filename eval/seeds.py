"""Two ways of training, each under several seeds, on the same items: their difference over items and over seeds.

Every run answers the same items, so items and seeds are crossed. Both are a sample: other questions and other seeds would
give other numbers. The variance of the difference is taken as the sum of
    items   that of a paired bootstrap over clusters, the runs held fixed (Efron and Tibshirani 1993, chapter 13)
    seeds   s^2 / K of each way, s^2 the sample variance of its K values on all items
and the interval as Student's, with the degrees of freedom of Satterthwaite 1946, Biometrics Bulletin 2:110: of two or three
seeds the spread is hardly known, and the interval says so by its width; it is never narrower than over seeds alone. What
items and seeds do together (one training answers this question well, another that) stands in both terms, so the sum errs
to the wide side, as the bootstrap over rows and columns does (Owen 2007, "The pigeonhole bootstrap", Annals of Applied
Statistics 1:386).

C clusters, D summed quantities of one run
"""

from __future__ import annotations

import math
import statistics
from statistics import NormalDist
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from eval.score import STATISTICS, classes_of, columns, sums_of
from eval.stats import Interval, bootstrap, generator
from eval.student import student_p, student_quantile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eval.answers import Line
    from eval.stats import Floats


class TwoWays(NamedTuple):
    """One way of training minus the other."""

    difference: float
    both: Interval
    """Over items and seeds."""
    items: Interval
    seeds: Interval | None
    """None for one seed."""
    p: float
    ours: tuple[float, ...]
    """The metric of each run of the first way."""
    theirs: tuple[float, ...]


def two_ways(
    metric: str, ours: Sequence[Sequence[Line]], theirs: Sequence[Sequence[Line]], resamples: int, draw: tuple[int, str]
) -> TwoWays:
    """The difference of two ways of training by `metric`; each run is its answers, all runs in the same order of items.

    `draw` is (seed, purpose) of the bootstrap.
    """
    classes = classes_of(ours[0])
    runs = [sums_of(metric, columns(lines), classes)[0] for lines in (*ours, *theirs)]
    statistic, depth, mine = STATISTICS[metric], runs[0].shape[1], len(ours)

    def values(sums: Floats) -> list[Floats]:
        return [statistic(sums[..., at * depth : (at + 1) * depth]) for at in range(len(runs))]

    def difference(sums: Floats) -> Floats:
        each = values(sums)
        return np.asarray(sum(each[:mine]) / mine - sum(each[mine:]) / (len(runs) - mine))

    sums_CD = np.concatenate(runs, axis=1)
    items = bootstrap(sums_CD, difference, resamples, generator(*draw))
    each = [float(value) for value in values(sums_CD.sum(axis=0))]
    half = (items.high - items.low) / 2 / NormalDist().inv_cdf(0.975)
    parts = [(half * half, len(sums_CD) - 1.0)]
    spread = [
        (statistics.variance(some) / len(some), len(some) - 1.0) for some in (each[:mine], each[mine:]) if some[1:]
    ]
    both, p = student_interval(items.value, parts + spread)
    seeds = None
    if len(spread) == 2:
        seeds, p_seeds = student_interval(items.value, spread)
        if seeds.high > both.high:  # the degrees of freedom that the items add may outweigh their variance
            both, p = seeds, p_seeds
    return TwoWays(items.value, both, items, seeds, p, tuple(each[:mine]), tuple(each[mine:]))


def student_interval(value: float, parts: Sequence[tuple[float, float]]) -> tuple[Interval, float]:
    """The 95 % interval of a value, and the two-sided p that it is zero, from (variance, degrees of freedom) of its parts.

    Source: Satterthwaite 1946, Biometrics Bulletin 2:110, for the degrees of freedom of a sum.
    """
    variance = sum(part for part, _ in parts)
    if variance <= 0:
        return Interval(value, value, value), 1.0 if value == 0 else 0.0
    freedom = variance**2 / sum(part**2 / max(own, 1.0) for part, own in parts if part > 0)
    error = math.sqrt(variance)
    half = student_quantile(0.975, freedom) * error
    return Interval(value, value - half, value + half), student_p(value / error, freedom)
