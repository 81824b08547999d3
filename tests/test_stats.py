"""The statistics against scipy, against numbers from the papers, and by simulation."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats as scipy_stats

from configs.store import HOUSE
from eval.score import bits_per_byte, mean
from eval.stats import (
    Interval,
    bootstrap,
    detectable,
    generator,
    holm,
    mcnemar,
    paired_bootstrap,
    paired_score,
    swap_test,
    wilson,
)


def sums(values):
    return np.array([values, np.ones(len(values))], dtype=float).T


@pytest.mark.parametrize(("right", "n"), [(0, 10), (3, 10), (81, 263), (200, 200)])
def test_wilson_is_scipys_interval_without_correction(right, n):
    found = wilson(right, n)
    theirs = scipy_stats.binomtest(right, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_81_in_263_is_0_2553_to_0_3662():
    """Newcombe 1998, Statistics in Medicine 17:857, table I, method 3."""
    assert [round(x, 4) for x in wilson(81, 263)[1:]] == [0.2553, 0.3662]


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (5, 0), (10, 3), (7, 7), (120, 80), (900, 300)])
def test_mcnemar_is_the_exact_binomial_test_of_a_fair_coin(gained, lost):
    theirs = scipy_stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    assert mcnemar(gained, lost) == pytest.approx(theirs, rel=1e-9)


def test_mcnemar_of_5_gained_and_none_lost_is_one_sixteenth():
    """Two sides of (1/2) to the 5th: 2/32."""
    assert mcnemar(5, 0) == 0.0625


def test_holm_multiplies_the_smallest_p_by_3_the_next_by_2_the_last_by_1():
    assert holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_swap_test_agrees_with_all_sign_flips_of_8_differences():
    """2 to the 8th sign patterns are few enough to look at every one."""
    apart = np.array([0.3, 0.1, -0.2, 0.4, 0.25, 0.05, -0.1, 0.35])
    exact = scipy_stats.permutation_test((apart,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    found = swap_test(sums(np.zeros(8)), sums(apart), mean, 100_000, generator(0, "swap"))
    assert found == pytest.approx(exact, abs=0.005)


def test_the_bootstrap_agrees_with_scipys_percentile_interval():
    values = np.random.default_rng(3).normal(1.0, 2.0, 150)
    theirs = scipy_stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, rng=1)
    found = bootstrap(sums(values), mean, 20_000, generator(0, "mean"))
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.02)


def test_ten_copies_of_every_item_do_not_make_the_interval_narrower():
    """30 sentences under ten prompts are 30 observations: as clusters the interval stays, as items it shrinks."""
    values = np.random.default_rng(0).integers(0, 2, 30).astype(float)
    alone = bootstrap(sums(values), mean, 4000, generator(0, "a"))
    clusters = bootstrap(sums(values) * 10, mean, 4000, generator(0, "a"))
    items = bootstrap(sums(np.repeat(values, 10)), mean, 4000, generator(0, "a"))
    assert clusters == pytest.approx(alone)
    assert (items.high - items.low) < 0.5 * (alone.high - alone.low)


def test_a_paired_difference_is_certain_where_every_item_gains_the_same():
    """Items differ widely, the gain is 0.1 on each: the interval of the difference has no width."""
    base = np.random.default_rng(0).normal(0, 5, 50)
    found = paired_bootstrap(sums(base), sums(base + 0.1), mean, 1000, generator(0, "p"))
    assert found == pytest.approx((0.1, 0.1, 0.1))


def test_without_a_change_in_200_items_the_difference_may_still_be_1_9_points():
    """z^2 / (n + z^2) = 3.84 / 203.84; and where all 20 of 20 gained, (20 - 3.84) / (20 + 3.84) is the lower end."""
    assert paired_score(0, 0, 200) == pytest.approx((0.0, -0.018846, 0.018846), abs=1e-6)
    assert paired_score(20, 0, 20) == pytest.approx((1.0, 0.677750, 1.0), abs=1e-6)
    assert paired_score(0, 20, 20) == pytest.approx((-1.0, -1.0, -0.677750), abs=1e-6)


def test_the_score_interval_is_the_bootstraps_where_many_answers_changed():
    """60 gained and 30 lost of 400."""
    apart = np.repeat([1.0, -1.0, 0.0], [60, 30, 310])
    found = paired_bootstrap(sums(np.zeros(400)), sums(apart), mean, 20_000, generator(0, "score"))
    assert paired_score(60, 30, 400) == pytest.approx(found, abs=0.003)


@pytest.mark.parametrize(("gain", "loss", "n"), [(0.03, 0.0, 60), (0.02, 0.02, 100), (0.2, 0.1, 40)])
def test_the_score_interval_covers_the_truth_where_few_answers_change(gain, loss, n):
    """Of 4,000 simulations 94 % or more; the bootstrap's interval covers 82 % of the first kind."""
    draws = np.random.default_rng(5).multinomial(n, [gain, loss, 1 - gain - loss], 4000)
    kinds, counts = np.unique(draws[:, :2], axis=0, return_counts=True)
    found = [paired_score(gained, lost, n) for gained, lost in kinds.tolist()]
    covered = np.array([one.low <= gain - loss <= one.high for one in found])
    assert counts[covered].sum() / 4000 >= 0.94


def test_bits_per_byte_is_a_ratio_of_sums_not_a_mean_of_ratios():
    """ln 2 nats on 1 byte and 9 ln 2 nats on 3 bytes: 10 bits on 4 bytes, 2.5, not the mean of 1 and 3."""
    pair = np.array([[np.log(2), 1.0], [9 * np.log(2), 3.0]])
    assert bootstrap(pair, bits_per_byte, 1000, generator(0, "r")).value == pytest.approx(2.5)


def test_draws_depend_on_seed_and_purpose_alone():
    values = sums(np.arange(20.0))
    first, again, other = (bootstrap(values, mean, 1000, generator(*of)) for of in ((1, "a"), (1, "a"), (1, "b")))
    assert first == again != other


def test_what_could_be_seen_is_2_8_standard_errors():
    """An interval of plus or minus 1.96 has a standard error of 1; 1.960 + 0.842."""
    assert detectable(Interval(0.0, -1.959964, 1.959964)) == pytest.approx(2.8016, abs=1e-3)


def test_the_interval_of_a_paired_difference_covers_the_truth_in_94_to_96_percent_of_2000_simulations():
    """120 items, half of them changed by tuning; the binomial error of the coverage itself is half a point."""
    draw, hits = np.random.default_rng(7), 0
    for simulation in range(2000):
        base = draw.random(120) < 0.4
        tuned = np.where(draw.random(120) < 0.5, base, draw.random(120) < 0.6)
        found = paired_bootstrap(sums(base), sums(tuned), mean, 1000, generator(simulation, "coverage"))
        hits += found.low <= 0.1 <= found.high
    assert 0.94 <= hits / 2000 <= 0.96


def test_the_statistics_import_neither_torch_nor_scipy():
    code = "import sys; from eval.stats import holm; from eval.compare import compare; from eval.report import html; "
    code += "print([m for m in ('torch', 'scipy', 'transformers', 'datasets', 'sklearn') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], cwd=HOUSE, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
