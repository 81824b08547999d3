"""What the statistics promise, held by simulation: 2,000 comparisons whose truth is known.

The binomial error of a coverage or a rate over 2,000 simulations is itself half a point at 95 %, a third at 2.5 %.
"""

from __future__ import annotations

import numpy as np
import pytest

from eval.panel import judged
from eval.score import bits_per_byte, mean
from eval.stats import (
    Interval,
    foreseen,
    generator,
    mcnemar,
    paired_bootstrap,
    paired_score,
    relative_bootstrap,
    swap_test,
    together,
)

RUNS = 2000
slow = pytest.mark.slow


def sums(values, n=1.0):
    return np.stack([np.asarray(values, float), np.full(len(values), float(n))], axis=1)


def changes(gain: float, loss: float, n: int, seed: int) -> list[list[int]]:
    """How many of n items were gained and lost, once for each run."""
    return np.random.default_rng(seed).multinomial(n, [gain, loss, 1 - gain - loss], RUNS)[:, :2].tolist()


def passages(draw: np.random.Generator, number: int, rise: float) -> tuple[np.ndarray, np.ndarray]:
    """Sums of (nats, bytes) of both models on passages of 50 to 500 bytes; the tuned one needs `rise` more."""
    size = draw.integers(50, 500, number).astype(float)
    nats = draw.gamma(20, 0.05, number) * size
    return np.stack([nats, size], 1), np.stack([nats * (1 + rise + draw.normal(0, 0.15, number)), size], 1)


def share(hits: list[bool]) -> float:
    assert len(hits) == RUNS
    return sum(hits) / RUNS


def covers(it: Interval, truth: float) -> bool:
    return it.low <= truth <= it.high


@pytest.mark.parametrize(("gain", "loss", "n"), [(0.1, 0.05, 100), (0.3, 0.2, 60), (0.2, 0.1, 200)])
def test_tangos_interval_covers_the_truth_in_94_to_96_percent(gain, loss, n):
    found = share([covers(paired_score(*one, n), gain - loss) for one in changes(gain, loss, n, 5)])
    assert 0.94 <= found <= 0.96


@pytest.mark.parametrize("clusters", [20, pytest.param(40, marks=slow)])
def test_the_interval_over_clusters_covers_the_truth_in_94_to_96_percent(clusters):
    """Five questions to each passage; what makes a passage easy, and what tuning does to it, is shared by its five."""
    draw = np.random.default_rng(3)

    def answered(passages: int) -> tuple[np.ndarray, np.ndarray]:
        ease, gain = draw.normal(0, 1, (passages, 1)), 0.3 + draw.normal(0, 0.5, (passages, 1))
        base, tuned = (ease + more + draw.normal(0, 1, (passages, 5)) > 0 for more in (0, gain))
        return base.sum(axis=1), tuned.sum(axis=1)

    truth = np.subtract(*(side.mean() / 5 for side in reversed(answered(400_000))))
    hits = []
    for run in range(RUNS):
        base, tuned = (sums(side, 5) for side in answered(clusters))
        hits.append(covers(paired_bootstrap(base, tuned, mean, 1000, generator(run, "clusters")), truth))
    assert 0.94 <= share(hits) <= 0.96


def test_treating_the_five_questions_of_a_passage_as_independent_covers_the_truth_far_too_seldom():
    """Where all five always change together, the interval of n = 5 C is sqrt(5) times too narrow: about 62 %."""
    hits = [covers(paired_score(5 * a, 5 * b, 500), 0.1) for a, b in changes(0.3, 0.2, 100, 8)]
    assert share(hits) < 0.7


@pytest.mark.parametrize("clusters", [10, pytest.param(20, marks=slow)])
def test_the_interval_of_few_observations_is_expanded_enough(clusters):
    """A plain percentile interval covers 90 % with 10 observations and 93 % with 20."""
    draw, hits = np.random.default_rng(9), []
    for run in range(RUNS):
        tuned = sums(draw.normal(0, 1, clusters))
        hits.append(covers(paired_bootstrap(sums(np.zeros(clusters)), tuned, mean, 1000, generator(run, "few")), 0.0))
    assert 0.94 <= share(hits) <= 0.965


@pytest.mark.parametrize("number", [25, pytest.param(60, marks=slow)])
def test_the_interval_of_bits_per_byte_covers_the_truth_in_94_to_96_percent(number):
    """Passages differ in length; the truth is a rise of 5 % of one bit."""
    draw, hits = np.random.default_rng(4), []
    for run in range(RUNS):
        base, tuned = passages(draw, number, 0.05)
        found = paired_bootstrap(base, tuned, bits_per_byte, 1000, generator(run, "bits"))
        hits.append(covers(found, 0.05 / np.log(2)))
    assert 0.94 <= share(hits) <= 0.96


def test_tasks_taken_together_are_covered_in_94_to_96_percent_and_more_where_few_answers_change():
    """Three tasks of 150 to 400 items; and three of 30 to 60 of which 2 to 4 % change."""
    wide = [(0.2, 0.1, 150), (0.15, 0.15, 200), (0.1, 0.05, 400)]
    rare = [(0.02, 0.0, 30), (0.02, 0.02, 60), (0.03, 0.01, 40)]
    for tasks, least, most in ((wide, 0.94, 0.96), (rare, 0.94, 1.0)):
        drawn = zip(*(changes(*task, seed) for seed, task in enumerate(tasks)), strict=True)
        truth = np.mean([gain - loss for gain, loss, _ in tasks])
        sizes = [n for *_, n in tasks]
        hits = [
            covers(together([paired_score(*one, n) for one, n in zip(run, sizes, strict=True)]), truth) for run in drawn
        ]
        assert least <= share(hits) <= most


def test_mcnemar_finds_nothing_in_95_percent_where_nothing_is():
    """The exact test is discrete and so a little careful: 2.5 to 5 %."""
    found = share([mcnemar(*one) < 0.05 for one in changes(0.15, 0.15, 200, 12)])
    assert 0.025 <= found <= 0.055


def test_swapping_clusters_finds_nothing_in_95_percent_where_nothing_is():
    draw, hits = np.random.default_rng(13), []
    for run in range(RUNS):
        base, tuned = passages(draw, 40, 0.0)
        hits.append(swap_test(base, tuned, bits_per_byte, 999, generator(run, "swap")) < 0.05)
    assert 0.04 <= share(hits) <= 0.06


@pytest.mark.parametrize(("n", "gain", "loss"), [(1000, 0.04, 0.06), (300, 0.10, 0.12), (500, 0.0, 0.02)])
def test_a_model_that_loses_just_the_margin_is_called_not_inferior_in_2_5_percent(n, gain, loss):
    """At the boundary: 2 points are lost, 2 are accepted. With ten changes in 500 the exact rate is below 1 %."""
    verdicts = []
    for gained, lost in changes(gain, loss, n, 14):
        value, low, high = paired_score(gained, lost, n)
        verdicts.append(judged(Interval(-value, -high, -low), 0.02) == "not inferior")
    assert 0.005 <= share(verdicts) <= 0.035


def test_a_rise_of_bits_by_just_the_margin_is_called_not_inferior_in_2_5_percent():
    draw, verdicts = np.random.default_rng(15), []
    for run in range(RUNS):
        base, tuned = passages(draw, 50, 0.05)
        found = relative_bootstrap(base, tuned, bits_per_byte, 1000, generator(run, "relative"))
        verdicts.append(judged(found, 0.05) == "not inferior")
    assert 0.015 <= share(verdicts) <= 0.035


@pytest.mark.parametrize("n", [pytest.param(100, marks=slow), 400, pytest.param(1600, marks=slow)])
def test_the_difference_foreseen_is_found_in_80_percent(n):
    """A quarter of the items change, as is assumed; the exact test costs a little of the power where n is small."""
    least = foreseen(np.full(n, 1 / n))
    drawn = changes((0.25 + least) / 2, (0.25 - least) / 2, n, 16)
    assert 0.75 <= share([mcnemar(*one) < 0.05 for one in drawn]) <= 0.84
