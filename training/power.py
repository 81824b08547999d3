"""What more data buys: a power law through the losses of small runs, and how sure it is at a larger one.

    L(D) = E + (L0 - E) * (1 + D / D0) ** -b

D is tokens trained on, L0 the base's own loss at D = 0, which is measured and not fitted; E is where the loss would end. What
the base learnt before counts like D0 tokens of this kind (Hernandez et al. 2021, "Scaling Laws for Transfer", effective
data); with D0 taken out it is the law of Hoffmann et al. 2022, section 3.3. E may lie above L0: so does the loss of general
text, when it is forgotten.

Three losses do not settle three unknowns, so no single curve is taken. All curves of a grid over (b, D0) are weighed by how
well they pass through the losses, given the noise between runs that differ in their seed only; the prediction is their median,
the interval holds 90 % of their weight. Where the losses leave the end open, the interval is wide, and says so.
"""

# P points, G curves of the grid

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.batches import derived_seed

if TYPE_CHECKING:
    from collections.abc import Sequence

EXPONENTS = np.geomspace(0.1, 2.0, 32)
"""b: below 0.1 nothing is learnt that a run could show; losses over data have been fitted by 0.05 to 0.5 (Hoffmann et al.
2022: 0.28), and short runs, whose steps are still too few, fall faster."""
SCALES = np.geomspace(1e-2, 1e2, 48)
"""D0 as a multiple of the largest D that was measured."""
HIGHEST = 3.0
"""E lies between 0 and this multiple of the base's loss."""
DRAWS = 20_000
LEAST = 1e-3
"""Noise that is assumed at least, as a part of the loss: two or three runs may agree by chance."""


class Prediction(NamedTuple):
    """A loss that was not measured: the median of what fits, and 90 % of it."""

    value: float
    low: float
    high: float


def predicted(
    base: float, points: Sequence[tuple[float, float]], repeats: Sequence[float], at: Sequence[float], seed: int = 0
) -> list[Prediction]:
    """The loss after each number of tokens in `at`, from points (tokens, loss).

    `repeats` are losses of runs on the smallest part that differ in their seed only; their variance is the noise there, and it
    falls with 1 / D: a larger part is less a matter of chance. Randomness is derived from `seed`.

    Losses that fall by (1 + D / 1000) ** -0.5 from 4 to a floor of 2 are found again:

    >>> law = lambda d: 2 + 2 * (1 + d / 1000) ** -0.5
    >>> [one] = predicted(4.0, [(d, law(d)) for d in (500, 1000, 2500)], [law(500)] * 3, [10_000])
    >>> abs(one.value - law(10_000)) < 0.03, one.low < law(10_000) < one.high
    (True, True)
    """
    d_P, loss_P = (np.array(column, float) for column in zip(*points, strict=True))
    freedom = len(repeats) - 1
    spread = float(np.var(repeats, ddof=1)) if freedom > 0 else 0.0
    freedom, spread = max(freedom, 1), max(spread, (LEAST * base) ** 2)
    exponent_G, scale_G = (it.ravel() for it in np.meshgrid(EXPONENTS, SCALES * d_P.max(), indexing="ij"))
    # Given b and D0 the law is linear in E: loss - base * g = E * (1 - g).
    g_GP = (1 + d_P / scale_G[:, None]) ** -exponent_G[:, None]
    weight_P = d_P / d_P.min()
    sums_G = (weight_P * (1 - g_GP) ** 2).sum(1)
    end_G = (weight_P * (loss_P - base * g_GP) * (1 - g_GP)).sum(1) / sums_G
    end_G = np.clip(end_G, 0.0, HIGHEST * base)
    missed_G = (weight_P * (base * g_GP + end_G[:, None] * (1 - g_GP) - loss_P) ** 2).sum(1)
    # Gelman et al. 2013, "Bayesian Data Analysis", section 3.2: the noise is known as well as its repeats allow.
    log_G = -0.5 * (freedom + len(points) - 1) * np.log(freedom * spread + missed_G) - 0.5 * np.log(sums_G)
    weight_G = np.exp(log_G - log_G.max())
    random = np.random.default_rng(derived_seed(seed, "pilot", "draws"))
    drawn = random.choice(len(weight_G), DRAWS, p=weight_G / weight_G.sum())
    noise = np.sqrt((freedom * spread + missed_G[drawn]) / random.chisquare(freedom + len(points) - 1, DRAWS))
    end = np.clip(end_G[drawn] + noise * random.standard_normal(DRAWS) / np.sqrt(sums_G[drawn]), 0.0, HIGHEST * base)
    found = []
    for tokens in at:
        g = (1 + tokens / scale_G[drawn]) ** -exponent_G[drawn]
        own = noise * np.sqrt(d_P.min() / tokens)
        losses = base * g + end * (1 - g) + own * random.standard_normal(DRAWS)
        low, value, high = np.quantile(losses, [0.05, 0.5, 0.95])
        found.append(Prediction(float(value), float(low), float(high)))
    return found
