"""From answers to a score: the value of every metric, and the interval of the first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.records import Score
from eval.score import LOWER_IS_BETTER, RIGHT_OR_WRONG, STATISTICS, classes_of, columns, item_values, sums_of
from eval.stats import Interval, bootstrap, generator, wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.task import Task
    from eval.answers import Line


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
    if first in RIGHT_OR_WRONG and len(names) == len(lines):
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
        invalid=0.0 if rolling else sum(given is None for given in answers.answer) / len(lines),
        truncated=sum(line["truncated"] for line in lines),
        metrics=metrics,
        baselines=plain,
        sector=task.metadata.sector,
        higher_is_better=first not in LOWER_IS_BETTER,
    )
