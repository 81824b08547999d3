"""From answers to a score: the value of every metric, the interval of the first, and how far confidence is accuracy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from configs.scores import Bin, Calibration, Score
from eval.score import (
    LOWER_IS_BETTER,
    RIGHT_OR_WRONG,
    STATISTICS,
    classes_of,
    columns,
    item_values,
    sums_of,
    unreadable,
)
from eval.stats import Interval, bootstrap, generator, wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.task import Task
    from eval.answers import Line

BINS = 10
"""Equal-width bins of confidence, (0, 0.1] to (0.9, 1] (Guo et al. 2017, section 2, use 15; Naeini et al. 2015 10)."""


def tally(
    task: Task, lines: Sequence[Line], plain: dict[str, float], *, seed: int = 0, resamples: int = 10_000
) -> Score:
    """The score of one model on one task.

    The interval is Wilson's where every item is right or wrong and independent, else a bootstrap over clusters.
    """
    answers, classes = columns(lines), classes_of(lines)
    metrics: dict[str, float] = {}
    for entry in task.metric_list:
        sums_CD, names = sums_of(entry.metric, answers, classes)
        metrics[entry.metric] = float(STATISTICS[entry.metric](sums_CD.sum(axis=0)))
    first = task.metric_list[0].metric
    sums_CD, names = sums_of(first, answers, classes)
    alone = first in RIGHT_OR_WRONG and len(names) == len(lines)
    if alone:
        interval: Interval = wilson(int(sum(item_values(first, answers))), len(lines))
    else:
        interval = bootstrap(sums_CD, STATISTICS[first], resamples, generator(seed, f"interval {task.task}"))
    rolling = task.output_type == "loglikelihood_rolling"
    return Score(
        task=task.task,
        metric=first,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=len(lines),
        clusters=len(names),
        invalid=0.0 if rolling else sum(unreadable(first, answers)) / len(lines),
        truncated=sum(line["truncated"] for line in lines),
        metrics=metrics,
        baselines=plain,
        sector=task.metadata.sector,
        higher_is_better=first not in LOWER_IS_BETTER,
        interval="wilson" if alone else "bootstrap",
        calibration=calibration(lines) if task.output_type == "multiple_choice" else None,
    )


def calibration(lines: Sequence[Line]) -> Calibration | None:
    """Confidence against accuracy of multiple-choice answers; None where no item was answered.

    The probability of a choice is its likelihood's part of the sum over the item's choices, the confidence that of the
    likeliest one. ECE: Naeini et al. 2015 and Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3,
    over bins of equal width; bins without items are left out. Brier: 1950, Monthly Weather Review 78:1, in his form
    for several classes, 0 to 2. Invalid items have no probabilities and are not in it.
    """
    confident, right, distances = list[float](), list[bool](), list[float]()
    for line in lines:
        if not (likely := line.get("loglikelihoods")):
            continue
        highest = max(likely)
        parts = [math.exp(value - highest) for value in likely]
        probabilities = [part / sum(parts) for part in parts]
        truth = [float(choice == line["target"]) for choice in line["choices"]]
        confident.append(max(probabilities))
        right.append(bool(truth[likely.index(highest)]))
        distances.append(sum((p - true) ** 2 for p, true in zip(probabilities, truth, strict=True)))
    if not confident:
        return None
    sure_N, right_N = np.array(confident), np.array(right, np.float64)
    bin_N = np.ceil(sure_N * BINS).astype(int)
    bins = [
        Bin(n=int(mine.sum()), confidence=float(sure_N[mine].mean()), right=float(right_N[mine].mean()))
        for mine in (bin_N == number for number in np.unique(bin_N))
    ]
    ece = sum(each.n * abs(each.confidence - each.right) for each in bins) / len(confident)
    return Calibration(ece=ece, brier=sum(distances) / len(distances), bins=tuple(bins))
