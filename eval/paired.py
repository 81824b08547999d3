"""Two models' answers to the same items of a task: their difference on all of them, or on a part.

N items, C clusters, D summed quantities
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from configs.records import Apart
from eval.score import BY_CLASS, LOWER_IS_BETTER, RIGHT_OR_WRONG, STATISTICS, classes_of, columns, right, sums_of
from eval.sentences import beforehand
from eval.stats import (
    Interval,
    foreseen,
    generator,
    mcnemar,
    paired_bootstrap,
    paired_score,
    relative_bootstrap,
    swap_test,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from configs.items import Item
    from configs.task import Task
    from eval.answers import Line
    from eval.stats import Floats

    Rows = NDArray[np.intp]

CLASSWISE = "macro_f1"
"""The metric that every class has an equal part in."""


class Measured(NamedTuple):
    """The difference on some items."""

    interval: Interval
    method: Literal["score", "bootstrap"]
    """Tango's score interval, or a paired bootstrap over clusters."""
    base: float
    tuned: float
    clusters: int
    gained: int
    lost: int


class Paired:
    """The answers of base and tuned, joined item by item, as sums of the metric by item."""

    def __init__(
        self, task: str, metric: str, pair: tuple[Sequence[Line], Sequence[Line]], draws: tuple[int, int]
    ) -> None:
        """Take the lines of both in the same order; `draws` are seed and resamples."""
        self.task, self.metric, self.statistic = task, metric, STATISTICS[metric]
        self.seed, self.resamples = draws
        self.lines = pair[1]
        classes = classes_of(pair[1])
        single = tuple(f"{row:09d}" for row in range(len(pair[1])))  # each item by itself; clusters are summed below
        both = [sums_of(metric, columns(side)._replace(clusters=single), classes)[0] for side in pair]
        self.base_ND, self.tuned_ND = both
        self.was_N, self.now_N = (self._right(side, sums_ND) for side, sums_ND in zip(pair, both, strict=True))
        self.cluster_N = np.unique([line["cluster"] for line in pair[1]], return_inverse=True)[1]

    def measured(self, part: str = "", rows: Rows | None = None) -> Measured:
        """Tuned minus base with its 95 % interval, on all items or on those at `rows`; `part` names its random draws.

        Tango's score interval where items are right or wrong and independent, or where no answer changed at all; else
        a paired bootstrap over clusters.
        """
        base_CD, tuned_CD = self._by_cluster(rows)
        was_N, now_N = (self.was_N, self.now_N) if rows is None else (self.was_N[rows], self.now_N[rows])
        gained, lost = int((now_N & ~was_N).sum()), int((was_N & ~now_N).sum())
        values = [float(self.statistic(side.sum(axis=0))) for side in (base_CD, tuned_CD)]
        independent = len(base_CD) == len(was_N)
        method: Literal["score", "bootstrap"]
        if self.metric in RIGHT_OR_WRONG and (independent or not gained + lost):
            method, interval = "score", paired_score(gained, lost, len(base_CD))
        else:
            method, draw = "bootstrap", generator(self.seed, f"difference {self.task}{part and ' '}{part}")
            interval = paired_bootstrap(base_CD, tuned_CD, self.statistic, self.resamples, draw)
        return Measured(interval, method, values[0], values[1], len(base_CD), gained, lost)

    def p(self) -> float:
        """Exact McNemar where items are right or wrong and independent, else whole clusters are swapped."""
        base_CD, tuned_CD = self._by_cluster(None)
        if self.metric in RIGHT_OR_WRONG and len(base_CD) == len(self.was_N):
            return mcnemar(int((self.now_N & ~self.was_N).sum()), int((self.was_N & ~self.now_N).sum()))
        draw = generator(self.seed, f"test {self.task}")
        return swap_test(base_CD, tuned_CD, self.statistic, self.resamples, draw)

    def relative(self) -> Interval:
        """Tuned over base minus 1, in bits, with its 95 % interval; a perplexity is 2 to the power of bits."""
        base_CD, tuned_CD = self._by_cluster(None)

        def bits(sums: Floats) -> Floats:
            return np.log2(self.statistic(sums)) if self.metric.endswith("perplexity") else self.statistic(sums)

        draw = generator(self.seed, f"relative {self.task}")
        return relative_bootstrap(base_CD, tuned_CD, bits, self.resamples, draw)

    def part(self, name: str, rows: Rows) -> Apart:
        """The difference on the items at `rows`."""
        found = self.measured(name, rows)
        value, low, high = found.interval
        return Apart(
            name=name, n=len(rows), base=found.base, tuned=found.tuned, difference=value, low=low, high=high
        )  # fmt: skip

    def subjects(self) -> tuple[Apart, ...]:
        """The difference by subject, in the order of their names; none where there are not two."""
        names = [line.get("subject") or "" for line in self.lines]
        known = sorted({name for name in names if name})
        if len(known) < 2:
            return ()
        place = {name: number for number, name in enumerate(known)}
        of_N = np.array([place.get(name, -1) for name in names])
        return tuple(self.part(name, np.flatnonzero(of_N == number)) for name, number in place.items())

    def parts(self, touched: frozenset[str] | None) -> tuple[Apart, ...]:
        """The difference on the items that no training document touches, and on the others; none where one is empty."""
        if touched is None:
            return ()
        hit_N = np.array([line["item"] in touched for line in self.lines])
        if hit_N.all() or not hit_N.any():
            return ()
        return self.part("clean", np.flatnonzero(~hit_N)), self.part("touched", np.flatnonzero(hit_N))

    def _right(self, lines: Sequence[Line], sums_ND: Floats) -> NDArray[np.bool_]:
        """Which items a model has right; read off the sums where these say it, since texts are dear to compare."""
        if self.metric in BY_CLASS or self.metric in LOWER_IS_BETTER:
            return np.array(right(self.metric, lines), dtype=bool)
        return np.asarray(self.statistic(sums_ND) == 1)

    def _by_cluster(self, rows: Rows | None) -> tuple[Floats, Floats]:
        """The sums of both models by cluster [C, D]."""
        codes = self.cluster_N if rows is None else np.unique(self.cluster_N[rows], return_inverse=True)[1]
        found = []
        for sums_ND in (self.base_ND, self.tuned_ND):
            sums_CD = np.zeros((int(codes.max()) + 1, sums_ND.shape[1]))
            np.add.at(sums_CD, codes, sums_ND if rows is None else sums_ND[rows])
            found.append(sums_CD)
        return found[0], found[1]


def foreseen_of(metric: str, clusters: Sequence[str], gold: Sequence[str]) -> float | None:
    """The smallest true difference that these items could show with 80 % power, known before any model answers.

    Only for metrics of 0 to 1 by item, and for macro-F1, taken as the mean recall of the classes, so that an item of a
    rare class weighs more. None for perplexities and correlations: their spread is known only from answers.
    """
    if metric == CLASSWISE:
        counts = Counter(gold)
        weights = [1 / (len(counts) * counts[name]) for name in gold]
    elif STATISTICS[metric] is STATISTICS["acc"]:
        weights = [1 / len(gold)] * len(gold)
    else:
        return None
    codes = np.unique(list(clusters), return_inverse=True)[1]
    return foreseen(np.asarray(np.bincount(codes, weights=weights), dtype=np.float64))


def foreseen_note(task: Task, items: Sequence[Item]) -> str | None:
    """What the items of a task can show, in words; None where that is known only from answers."""
    clusters = [item.cluster for item in items]
    found = foreseen_of(task.metric_list[0].metric, clusters, [item.target for item in items])
    return None if found is None else beforehand(task.task, len(items), len(set(clusters)), found)
