"""Statistics that hold: intervals, paired differences by cluster, exact tests, and what could have been seen at all.

A metric is a function of sums over independent clusters (`Statistic`): a mean of (right, n), bits per byte of
(nats, bytes), macro-F1 of a confusion matrix. One bootstrap and one permutation test serve them all.

C clusters, D summed quantities per cluster, R resamples
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from hashlib import sha256
from math import comb, inf, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Sums [..., D] to the metric's value [...]."""

CHUNK = 4_000_000
"""Cluster draws held in memory at once: 32 MB."""


class Interval(NamedTuple):
    """An estimate and its 95 % interval."""

    value: float
    low: float
    high: float


def generator(seed: int, purpose: str) -> np.random.Generator:
    """The random generator that belongs to (seed, purpose) alone."""
    return np.random.default_rng(int.from_bytes(sha256(f"{seed}:{purpose}".encode()).digest()[:16]))


def wilson(right: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of a proportion; unlike the textbook one it never leaves 0..1 (Wilson 1927, JASA 22:209)."""
    if n == 0:
        return Interval(0.0, 0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half))


def paired_score(gained: int, lost: int, n: int, confidence: float = 0.95) -> Interval:
    """The score interval of the difference of two proportions on the same n items, `gained` and `lost` of them changed.

    What Wilson's is for one proportion: right for few changes too, where a bootstrap is too narrow and, with no change
    or the same change everywhere, has no width at all. Source: Tango 1998, Statistics in Medicine 17:891. Without any
    change it reaches z^2 / (n + z^2) to either side: 1.9 points for 200 items.
    """
    z, value = NormalDist().inv_cdf(0.5 + confidence / 2), (gained - lost) / n

    def surplus(true: float) -> float:
        """Standard errors by which the difference seen exceeds `true`; the share lost is estimated under `true`."""
        slope, constant = (2 * n - gained + lost) * true - gained - lost, -lost * true * (1 - true)
        share = (sqrt(slope * slope - 8 * n * constant) - slope) / (4 * n)
        variance = n * (2 * share + true * (1 - true))
        apart = gained - lost - n * true
        return apart / sqrt(variance) if variance > 0 else (inf if apart > 0 else -inf if apart < 0 else 0.0)

    def crossing(low: float, high: float, height: float) -> float:
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if surplus(middle) > height else (low, middle)
        return (low + high) / 2

    return Interval(value, crossing(-1.0, value, z), crossing(value, 1.0, -z))


def bootstrap(sums_CD: Floats, statistic: Statistic, resamples: int, draw: np.random.Generator) -> Interval:
    """Percentile interval of a statistic; whole clusters are drawn with replacement.

    Source: Efron and Tibshirani 1993, chapter 13; clusters: Davison and Hinkley 1997, section 3.8.
    With fewer than about 20 clusters such an interval is too narrow.
    """
    value = float(statistic(sums_CD.sum(axis=0)))
    values_R = np.concatenate([statistic(chunk @ sums_CD) for chunk in _draws(len(sums_CD), resamples, draw)])
    low, high = np.percentile(values_R, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def paired_bootstrap(
    base_CD: Floats, tuned_CD: Floats, statistic: Statistic, resamples: int, draw: np.random.Generator
) -> Interval:
    """Percentile interval of tuned minus base; both models share every resample, so what is hard for both cancels."""
    depth = base_CD.shape[1]

    def difference(sums: Floats) -> Floats:
        return statistic(sums[..., depth:]) - statistic(sums[..., :depth])

    return bootstrap(np.concatenate([base_CD, tuned_CD], axis=1), difference, resamples, draw)


def _draws(clusters: int, resamples: int, draw: np.random.Generator) -> Iterator[Floats]:
    """How often each cluster is drawn, [R, C] in chunks of R."""
    rows = max(1, CHUNK // clusters)
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        picked_RC = draw.integers(0, clusters, (size, clusters)) + clusters * np.arange(size)[:, None]
        counted = np.bincount(picked_RC.ravel(), minlength=size * clusters)
        yield counted.reshape(size, clusters).astype(np.float64)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p that gains and losses are equally likely: a fair coin tossed gained + lost times.

    Source: McNemar 1947, Psychometrika 12:153, in its exact binomial form. For independent items only.
    """
    n, fewer = gained + lost, min(gained, lost)
    if n == 0:
        return 1.0
    tail = sum(comb(n, k) for k in range(fewer + 1))
    return min(1.0, float(Fraction(2 * tail, 2**n)))


def swap_test(
    base_CD: Floats, tuned_CD: Floats, statistic: Statistic, resamples: int, draw: np.random.Generator
) -> float:
    """Two-sided p that base and tuned are exchangeable: the two models' answers are swapped, whole clusters at a time.

    For a mean it is the sign-flip test. Source: Good 2005, "Permutation, Parametric and Bootstrap Tests of Hypotheses",
    section 3.7; the one added above and below: Phipson and Smyth 2010, SAGMB 9:39.
    """
    base_D, tuned_D, apart_CD = base_CD.sum(axis=0), tuned_CD.sum(axis=0), tuned_CD - base_CD
    seen = abs(float(statistic(tuned_D) - statistic(base_D)))
    rows, extreme = max(1, CHUNK // len(base_CD)), 0
    for start in range(0, resamples, rows):
        swapped_RC = draw.integers(0, 2, (min(rows, resamples - start), len(base_CD))).astype(np.float64)
        moved_RD = swapped_RC @ apart_CD
        under_R = np.abs(statistic(tuned_D - moved_RD) - statistic(base_D + moved_RD))
        extreme += int((under_R >= seen - 1e-12).sum())
    return (1 + extreme) / (1 + resamples)


def holm(p_values: list[float]) -> list[float]:
    """Adjusted p-values: the chance of any false finding stays that of one test (Holm 1979, Scand. J. Stat. 6:65).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=lambda position: p_values[position])
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = highest
    return adjusted


def detectable(interval: Interval, power: float = 0.8) -> float:
    """The smallest true difference that a comparison as noisy as this one finds with `power` at the 5 % level.

    (z(0.975) + z(power)) standard errors, 2.80 for 80 %; the standard error is read off the 95 % interval.
    Source: Bloom 1995, Evaluation Review 19:547, "Minimum detectable effects".
    """
    normal = NormalDist()
    error = (interval.high - interval.low) / (2 * normal.inv_cdf(0.975))
    return (normal.inv_cdf(0.975) + normal.inv_cdf(power)) * error
