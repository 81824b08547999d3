"""Two ways of training over items and seeds: intervals by hand, against scipy, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from eval.seeds import student_interval, two_ways
from eval.student import student_p, student_quantile


def answered(right: list[bool]) -> list[dict]:
    """Lines of one run: item n is right or wrong."""
    return [
        {"choices": ["a", "b"], "target": "a", "cluster": str(n), "answer": "a" if good else "b"}
        for n, good in enumerate(right)
    ]


@pytest.mark.parametrize("freedom", [1, 1.3, 2, 4.7, 30, 999, 20_000])
def test_students_distribution_is_scipys_to_four_digits(freedom):
    assert student_quantile(0.975, freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=2e-4)
    assert student_p(2.5, freedom) == pytest.approx(2 * stats.t.sf(2.5, freedom), abs=1e-4)


def test_two_parts_of_variance_4_and_1_with_2_and_8_degrees_of_freedom_have_25_over_8_and_an_eighth():
    """(4 + 1)^2 / (16 / 2 + 1 / 8) = 3.077 degrees of freedom; the half-width is t(3.077) sqrt(5)."""
    interval, p = student_interval(3.0, [(4.0, 2.0), (1.0, 8.0)])
    half = stats.t.ppf(0.975, 25 / (8 + 1 / 8)) * math.sqrt(5)
    assert (interval.low, interval.high) == pytest.approx((3 - half, 3 + half), rel=1e-3)
    assert p == pytest.approx(2 * stats.t.sf(3 / math.sqrt(5), 25 / 8.125), rel=1e-3)


def test_with_three_seeds_60_70_80_against_50_50_50_of_100_items_the_seeds_alone_give_plus_20_and_a_wide_interval():
    """The sides' variances are 0.01 and 0; 0.01 / 3 with 2 degrees of freedom: 0.2 +- 4.303 * 0.0577."""
    ours = [answered([n < right for n in range(100)]) for right in (60, 70, 80)]
    theirs = [answered([n < 50 for n in range(100)])] * 3
    found = two_ways("acc", ours, theirs, 2000, (1, "test"))
    assert found.difference == pytest.approx(0.2)
    assert (found.ours, found.theirs) == (pytest.approx((0.6, 0.7, 0.8)), pytest.approx((0.5, 0.5, 0.5)))
    half = 4.303 * 0.1 / math.sqrt(3)
    assert (found.seeds.low, found.seeds.high) == pytest.approx((0.2 - half, 0.2 + half), abs=1e-3)
    assert found.items.low > 0.1  # these trainings differ for sure
    assert found.both == found.seeds  # whether training does, three seeds cannot say; items can only add to that
    assert found.p > 0.05


def test_one_seed_has_an_interval_over_items_alone():
    found = two_ways(
        "acc", [answered([True] * 30 + [False] * 10)], [answered([True] * 20 + [False] * 20)], 2000, (1, "")
    )
    assert found.seeds is None
    assert found.both.low == pytest.approx(found.items.low, abs=0.02)


def test_the_same_answers_everywhere_are_no_difference_and_p_is_1():
    run = answered([True, False] * 10)
    found = two_ways("acc", [run, run], [run, run], 1000, (1, ""))
    assert (found.both.low, found.both.high, found.p) == (0.0, 0.0, 1.0)


def test_of_400_made_up_valuations_at_least_94_percent_of_the_intervals_hold_the_true_difference():
    """60 items and 3 seeds, both drawn: a side's chance of an item depends on the item, on the seed and on chance."""
    draw = np.random.default_rng(3)
    held = items_only = 0
    for _ in range(400):
        item = draw.normal(0, 1, 60)
        means = np.array([[0.4], [0.0]]) + draw.normal(0, 0.25, (2, 3))  # logits of both sides' seeds
        own = draw.normal(0, 0.5, (2, 1, 60))  # how each side of training does on each question
        right = draw.random((2, 3, 60)) < 1 / (1 + np.exp(-(means[..., None] + item + own)))
        found = two_ways("acc", *[[answered(list(run)) for run in side] for side in right], 200, (1, ""))
        held += found.both.low <= TRUE <= found.both.high
        items_only += found.items.low <= TRUE <= found.items.high
    assert held >= 376  # 94 %
    assert items_only < held


def _true() -> float:
    """The expected difference of the simulation above, by a large sample."""
    draw = np.random.default_rng(0)
    noise = draw.normal(0, math.sqrt(1 + 0.25**2 + 0.5**2), 400_000)
    return float((1 / (1 + np.exp(-(0.4 + noise))) - 1 / (1 + np.exp(-noise))).mean())


TRUE = _true()
