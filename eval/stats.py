"""Statistics that hold: intervals, paired differences by cluster, exact tests, and what could have been seen at all.

A metric is a function of sums over independent clusters (`Statistic`): a mean of (right, n), bits per byte of
(nats, bytes), macro-F1 of a confusion matrix. One bootstrap and one permutation test serve them all.

C clusters, D summed quantities per cluster, K kinds of clusters with the same sums, R resamples
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from hashlib import sha256
from math import comb, inf, sqrt
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from eval.student import student_quantile

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Sums [..., D] to the metric's value [...]."""

CHUNK = 4_000_000
"""Cluster draws held in memory at once: 32 MB."""
CHANGED = 0.25
"""Part of the items on which two models are assumed to differ before any has answered: 2 p (1 - p) (1 - r), at its worst
accuracy p of one half, with a correlation r of one half. Pairs of models have 0.3 to 0.7 on common benchmarks: Miller
2024, "Adding Error Bars to Evals" (arXiv 2411.00640), section 4.2."""


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
    """Expanded percentile interval of a statistic; whole clusters are drawn with replacement.

    Source: Efron and Tibshirani 1993, chapter 13; clusters: Davison and Hinkley 1997, section 3.8; expanded: see
    `tail`. With fewer than about 20 clusters it may still be too narrow, with a single one it has no width.
    """
    value = float(statistic(sums_CD.sum(axis=0)))
    values_R = np.concatenate([statistic(sums_RD) for sums_RD in _resampled(sums_CD, resamples, draw)])
    outside = tail(len(sums_CD))
    low, high = np.quantile(values_R, [outside, 1 - outside])
    return Interval(value, float(low), float(high))


def tail(clusters: int) -> float:
    """The part of the resamples that lies outside of the interval on each side: 2.5 %, and less where clusters are few.

    Resamples of C clusters spread by sqrt((C - 1) / C) too little, and the normal's quantile stands where Student's
    belongs: with 20 clusters a plain percentile interval is 9 % too narrow. Source: Hesterberg 2015, "What Teachers
    Should Know About the Bootstrap", American Statistician 69:371, section 5.3 (expanded percentile interval).
    """
    if clusters < 2:
        return 0.025
    return NormalDist().cdf(-student_quantile(0.975, clusters - 1) * sqrt(clusters / (clusters - 1)))


def paired_bootstrap(
    base_CD: Floats, tuned_CD: Floats, statistic: Statistic, resamples: int, draw: np.random.Generator
) -> Interval:
    """Percentile interval of tuned minus base; both models share every resample, so what is hard for both cancels."""
    depth = base_CD.shape[1]

    def difference(sums: Floats) -> Floats:
        return statistic(sums[..., depth:]) - statistic(sums[..., :depth])

    return bootstrap(np.concatenate([base_CD, tuned_CD], axis=1), difference, resamples, draw)


def relative_bootstrap(
    base_CD: Floats, tuned_CD: Floats, statistic: Statistic, resamples: int, draw: np.random.Generator
) -> Interval:
    """The same of tuned over base minus 1, so that the base's own uncertainty counts."""
    depth = base_CD.shape[1]

    def rise(sums: Floats) -> Floats:
        return np.asarray(statistic(sums[..., depth:]) / statistic(sums[..., :depth]) - 1)

    return bootstrap(np.concatenate([base_CD, tuned_CD], axis=1), rise, resamples, draw)


def _resampled(sums_CD: Floats, resamples: int, draw: np.random.Generator) -> Iterator[Floats]:
    """The sums of each resample, [R, D] in chunks of R.

    Where many clusters are alike, as right or wrong answers are, how often each kind is drawn is multinomial: the same
    distribution without 10,000 draws for every resample.
    """
    clusters = len(sums_CD)
    kinds_KD, counts_K = np.unique(sums_CD, axis=0, return_counts=True)
    alike = 2 * len(kinds_KD) <= clusters
    rows = max(1, CHUNK // (len(kinds_KD) if alike else clusters))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        if alike:
            yield draw.multinomial(clusters, counts_K / clusters, size).astype(np.float64) @ kinds_KD
            continue
        picked_RC = draw.integers(0, clusters, (size, clusters)) + clusters * np.arange(size)[:, None]
        counted = np.bincount(picked_RC.ravel(), minlength=size * clusters)
        yield counted.reshape(size, clusters).astype(np.float64) @ sums_CD


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
    base_D, tuned_D = base_CD.sum(axis=0), tuned_CD.sum(axis=0)
    seen = abs(float(statistic(tuned_D) - statistic(base_D)))
    apart_KD, counts_K = np.unique(tuned_CD - base_CD, axis=0, return_counts=True)  # of alike ones, a binomial number
    rows, extreme = max(1, CHUNK // len(apart_KD)), 0
    for start in range(0, resamples, rows):
        size = (min(rows, resamples - start), len(apart_KD))
        single = counts_K.max() == 1
        swapped_RK = draw.integers(0, 2, size) if single else draw.binomial(counts_K, 0.5, size)
        moved_RD = swapped_RK.astype(np.float64) @ apart_KD
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


def together(intervals: Sequence[Interval]) -> Interval:
    """The mean of independent estimates with its interval, made from the ends of theirs.

    It keeps what each end says: a task of which no answer changed still adds its width, where resampling would add none.
    Source: Zou and Donner 2008, Statistics in Medicine 27:1693 ("MOVER", method of variance estimates recovery).

    >>> round(together([Interval(0.5, 0.2, 0.7), Interval(0.1, -0.3, 0.4)]).low, 6)  # 0.3 - sqrt(0.3² + 0.4²) / 2
    0.05
    """
    number = len(intervals)
    value = sum(it.value for it in intervals) / number
    below = sqrt(sum((it.value - it.low) ** 2 for it in intervals)) / number
    above = sqrt(sum((it.high - it.value) ** 2 for it in intervals)) / number
    return Interval(value, value - below, value + above)


def flipped(changed: int, items: int, n: int) -> float:
    """The net change of a mean over n items that rounding makes, where it changed `changed` of `items` answers.

    Each of the changes / items * n to be expected gains or loses 1 / n, either way alike: 1.96 standard deviations.

    >>> round(flipped(1, 64, 400), 4)  # 1.96 sqrt(1 / (64 * 400))
    0.0122
    """
    return NormalDist().inv_cdf(0.975) * sqrt(changed / (items * n)) if items and n else 0.0


def found_with(power: float) -> float:
    """How many standard errors a true difference needs to be found at the 5 % level with `power`: 2.80 for 80 %.

    Source: Bloom 1995, Evaluation Review 19:547, "Minimum detectable effects".
    """
    return NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(power)


def detectable(interval: Interval, power: float = 0.8) -> float:
    """The smallest true difference that a comparison as noisy as this one finds with `power` at the 5 % level.

    The standard error is read off the 95 % interval.
    """
    return found_with(power) * (interval.high - interval.low) / (2 * NormalDist().inv_cdf(0.975))


def foreseen(weights_C: Floats, changed: float = CHANGED, power: float = 0.8) -> float:
    """The same before any model has answered, from the clusters alone, where a part `changed` of the items will differ.

    `weights_C` is the part of the metric that each cluster makes up, 1 / n for n single items. Items of one cluster are
    taken as one observation (their worst case, correlation 1), so that n counts as (sum m)² / sum m² for clusters of m
    items. Sources: the variance of a paired difference of proportions, Miettinen 1968, Biometrics 24:339; unequal
    weights, Kish 1965, "Survey Sampling", section 11.2.

    >>> round(foreseen(np.full(97, 1 / 97)), 3)  # 2.80 sqrt(0.25 / 97)
    0.142
    """
    return found_with(power) * sqrt(changed * float((weights_C**2).sum()))
