"""The statistics against scipy, against numbers from the papers, and by simulation."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import numpy as np
import pytest
from scipy import stats as scipy_stats

from configs.store import HOUSE
from eval.score import bits_per_byte, mean
from eval.stats import (
    Interval,
    bootstrap,
    detectable,
    flipped,
    foreseen,
    generator,
    holm,
    mcnemar,
    paired_bootstrap,
    paired_score,
    relative_bootstrap,
    swap_test,
    tail,
    together,
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


# Reference values of statsmodels 0.15.0, in a venv of its own:
#   from statsmodels.stats.contingency_tables import mcnemar; mcnemar([[0, 15], [5, 0]], exact=True).pvalue
#   from statsmodels.stats.multitest import multipletests; multipletests([...], method="holm")[1]
#   from statsmodels.stats.proportion import proportion_confint; proportion_confint(81, 263, method="wilson")


def test_mcnemar_holm_and_wilson_are_statsmodels():
    assert mcnemar(15, 5) == pytest.approx(0.04138946533203125, abs=1e-15)
    assert mcnemar(31, 17) == pytest.approx(0.05946337525377034, abs=1e-15)
    theirs = [0.008, 0.056, 0.234, 0.234, 0.234, 0.234, 0.234, 0.234]
    assert holm([0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205]) == pytest.approx(theirs)
    assert wilson(81, 263)[1:] == pytest.approx((0.2552885198782742, 0.36620957698280004), abs=1e-12)


def test_the_bootstrap_over_clusters_has_the_cluster_robust_standard_error():
    """230 answers in 60 passages of 1 to 6: sqrt(sum over passages of (sum of d - m mean)²) / n, Liang and Zeger 1986.

    statsmodels gives 0.03553: sm.OLS(d, np.ones(len(d))).fit(cov_type="cluster", cov_kwds={"groups": passage,
    "use_correction": False}).bse, and 0.03939 where each answer is taken as independent.
    """
    draw = np.random.default_rng(11)
    sizes = draw.integers(1, 7, 60)
    passage = np.repeat(np.arange(60), sizes)
    ease = draw.normal(0, 0.8, 60)[passage]
    base = ease + draw.normal(0, 1, len(passage)) > 0
    tuned = ease + 0.3 + draw.normal(0, 1, len(passage)) > 0
    apart = tuned.astype(float) - base
    summed = np.bincount(passage, apart)
    robust = math.sqrt(((summed - sizes * apart.mean()) ** 2).sum()) / len(apart)
    assert (len(apart), robust) == pytest.approx((230, 0.03553298), abs=1e-6)
    base_CD, tuned_CD = (np.stack([np.bincount(passage, side), sizes], axis=1) for side in (base, tuned))
    found = paired_bootstrap(base_CD, tuned_CD, mean, 20_000, generator(0, "robust"))
    expanded = scipy_stats.t.ppf(0.975, 59) * math.sqrt(60 / 59)
    assert (found.high - found.low) / (2 * expanded) == pytest.approx(robust, rel=0.03)


def test_the_interval_of_a_mean_is_students_also_for_8_values():
    """Plus or minus 2.365 standard errors, where plain percentiles give some 1.83."""
    values = np.array([0.3, 0.1, -0.2, 0.4, 0.25, 0.05, -0.1, 0.35])
    found = bootstrap(sums(values), mean, 50_000, generator(0, "eight"))
    theirs = scipy_stats.ttest_1samp(values, 0).confidence_interval()
    assert found.high - found.low == pytest.approx(theirs.high - theirs.low, rel=0.06)
    assert tail(8) == pytest.approx(scipy_stats.norm.cdf(-2.3646 * math.sqrt(8 / 7)), abs=1e-4)
    assert tail(100_000) == pytest.approx(0.025, abs=1e-5)


def test_drawing_kinds_is_drawing_clusters():
    """200 right or wrong answers are two kinds; 1e-9 more on each makes 200 kinds, drawn one by one."""
    right = np.repeat([1.0, 0.0], [80, 120])
    kinds = bootstrap(sums(right), mean, 50_000, generator(0, "kinds"))
    singly = bootstrap(sums(right + 1e-9 * np.arange(200)), mean, 50_000, generator(0, "singly"))
    assert kinds == pytest.approx(singly, abs=0.003)


def test_swapping_kinds_is_swapping_clusters():
    apart = np.repeat([1.0, -1.0, 0.0], [14, 6, 40])
    kinds = swap_test(sums(np.zeros(60)), sums(apart), mean, 50_000, generator(0, "kinds"))
    assert kinds == pytest.approx(mcnemar(14, 6), abs=0.006)
    jitter = 1e-9 * np.arange(60)
    singly = swap_test(sums(np.zeros(60)), sums(apart - jitter), mean, 50_000, generator(0, "singly"))
    assert singly == pytest.approx(kinds, abs=0.05)  # ties are broken, half of their weight at most


def test_a_relative_rise_counts_what_is_unsure_of_the_base_too():
    """Every passage 5 % up: the ratio is 1.05 whatever is drawn, though the difference in bits is not."""
    size = np.arange(50.0, 90.0)
    base = np.stack([size * np.linspace(0.5, 2, 40), size], axis=1)
    tuned = base * [1.05, 1.0]
    found = relative_bootstrap(base, tuned, bits_per_byte, 1000, generator(0, "rise"))
    assert found == pytest.approx((0.05, 0.05, 0.05))
    apart = paired_bootstrap(base, tuned, bits_per_byte, 1000, generator(0, "rise"))
    assert apart.high - apart.low > 0.005


def test_tasks_together_are_the_bootstraps_within_tasks():
    """Three tasks resampled each for itself, and their mean: Davison and Hinkley 1997, section 3.2."""
    tasks = [(60, 30, 400), (25, 25, 200), (90, 20, 600)]
    draw = np.random.default_rng(21)
    means = [draw.multinomial(n, [a / n, b / n, 1 - (a + b) / n], 50_000) @ [1 / n, -1 / n, 0] for a, b, n in tasks]
    low, high = np.quantile(np.mean(means, axis=0), [0.025, 0.975])
    found = together([paired_score(*task) for task in tasks])
    assert found == pytest.approx((np.mean([(a - b) / n for a, b, n in tasks]), low, high), abs=0.002)


def test_what_rounding_flips_is_a_walk_of_that_many_steps():
    """4 of 100 changed; of 400 some 16 would: a net sqrt(16) / 400 = 1 point, 1.96 of it at most in 95 %."""
    assert flipped(4, 100, 400) == pytest.approx(0.0196, abs=1e-4)
    assert flipped(0, 100, 400) == flipped(0, 0, 400) == 0.0


def test_what_is_foreseen_is_what_comes_out_where_a_quarter_of_the_answers_change():
    """50 gained and 50 lost of 400."""
    assert detectable(paired_score(50, 50, 400)) == pytest.approx(foreseen(np.full(400, 1 / 400)), rel=0.02)


def test_10_000_items_and_10_000_resamples_take_seconds():
    """Passages that all differ, the dearest case: each resample draws 10,000 of them."""
    draw = np.random.default_rng(0)
    base = np.stack([draw.gamma(20, 5.0, 10_000), draw.integers(50, 500, 10_000)], axis=1)
    tuned = base * np.stack([draw.normal(1.02, 0.1, 10_000), np.ones(10_000)], axis=1)
    started = time.process_time()
    paired_bootstrap(base, tuned, bits_per_byte, 10_000, generator(0, "quick"))
    swap_test(base, tuned, bits_per_byte, 10_000, generator(0, "quick"))
    assert time.process_time() - started < 10
