"""Whether tuning left general ability as good as it was, by a margin stated beforehand; and tasks taken together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from configs.records import Panel, Pooled
from eval.score import RIGHT_OR_WRONG
from eval.stats import Interval, together
from eval.words import FEW, NAMES, signed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from configs.records import Difference
    from eval.paired import Paired

Verdict = Literal["not inferior", "inferior", "undecided"]

MARGIN_TEXT = 0.05
"""Rise of bits per byte that is accepted where the recipe says nothing: 5 %, docs/statistics.md says why."""


class Margins(NamedTuple):
    """The loss that is still accepted."""

    points: float
    """As part of a metric's scale: 0.02 is 2 points."""
    text: float
    """As a relative rise of bits per byte."""


def judged(loss: Interval, margin: float) -> Verdict:
    """The verdict on one loss: not inferior if its upper end is below the margin, inferior if its lower end is above.

    Source: Piaggio et al. 2012, JAMA 308:2594, the CONSORT extension on non-inferiority, figure 1. With a two-sided
    95 % interval, a model that loses just the margin is called not inferior in 2.5 % of cases.
    """
    return "not inferior" if loss.high < margin else "inferior" if loss.low > margin else "undecided"


def panel(rows: Sequence[Difference], pairs: Mapping[str, Paired], margins: Margins) -> Panel | None:
    """The verdict on the general panel: not inferior if it is so on every task, inferior if it is on any.

    Requiring all of them needs no correction for several tests: Berger 1982, Technometrics 24:295, intersection-union.
    What the tasks say taken together stands beside it; a mean may hide the one ability that was lost.
    """
    if not rows:
        return None
    found = [_on_task(row, pairs[row.task], margins) for row in rows]
    verdicts = {verdict for verdict, _ in found}
    overall: Verdict = "undecided"
    if "inferior" in verdicts:
        overall = "inferior"
    elif verdicts == {"not inferior"}:
        overall = "not inferior"
    reasons = (*(reason for _, reason in found), *_taken_together(rows, margins))
    return Panel(verdict=overall, margin=margins.points, margin_text=margins.text, reasons=reasons)


def _on_task(row: Difference, pair: Paired, margins: Margins) -> tuple[Verdict, str]:
    """The verdict on one task, and the sentence that says why."""
    name = row.task.replace("_", " ")
    if row.higher_is_better:
        margin, loss = margins.points, Interval(-row.difference, -row.high, -row.low)
        worst, allowed = f"{signed(row.metric, row.low)} at worst", f"{signed(row.metric, -margin)} accepted"
    else:
        margin, loss = margins.text, pair.relative()
        worst, allowed = f"{100 * loss.high:+.1f} % bits at worst", f"{100 * margin:+.1f} % accepted"
    if row.clusters < FEW:
        return "undecided", f"{name}: undecided, {row.clusters} independent items are too few"
    verdict = judged(loss, margin)
    told = f"{name}: {verdict}, {worst.replace('-', '−')}, {allowed.replace('-', '−')}"
    if verdict == "undecided":
        needed = row.clusters * ((loss.high - loss.low) / 2 / margin) ** 2
        enough = needed <= row.clusters
        told += "" if enough else f"; with nothing lost, about {_rounded(needed):,} independent items would decide it"
    return verdict, told


def _taken_together(rows: Sequence[Difference], margins: Margins) -> list[str]:
    """Sentences on the tasks of one kind, where none of them is too small to tell."""
    told = []
    for it in pooled("general", [row for row in rows if row.higher_is_better and row.clusters >= FEW]):
        verdict = judged(Interval(-it.difference, -it.high, -it.low), margins.points)
        kind, worst = NAMES.get(it.metric, it.metric), signed(it.metric, it.low)
        told.append(f"{it.tasks} tasks by {kind} taken together: {verdict}, {worst} at worst")
    return told


def _rounded(number: float) -> int:
    """Up to two digits."""
    step = 10 ** max(len(str(int(number))) - 2, 0)
    return int(-(-number // step) * step)


def pooled(name: str, rows: Sequence[Difference]) -> tuple[Pooled, ...]:
    """Tasks of one kind of metric taken together, each weighing the same; what stands alone is left out.

    The mean over tasks (macro), its interval from the tasks' own (`stats.together`): items of different tasks are
    independent. Metrics that say right or wrong are of one kind, every other is its own.
    """
    kinds: dict[str, list[Difference]] = {}
    for row in rows:
        kinds.setdefault("right or wrong" if row.metric in RIGHT_OR_WRONG else row.metric, []).append(row)
    return tuple(_pool(name, alike) for alike in kinds.values() if len(alike) > 1)


def _pool(name: str, rows: Sequence[Difference]) -> Pooled:
    metrics = {row.metric for row in rows}
    value, low, high = together([Interval(row.difference, row.low, row.high) for row in rows])
    return Pooled(
        name=name,
        metric=metrics.pop() if len(metrics) == 1 else "acc",
        tasks=len(rows),
        n=sum(row.n for row in rows),
        base=sum(row.base for row in rows) / len(rows),
        tuned=sum(row.tuned for row in rows) / len(rows),
        difference=value,
        low=low,
        high=high,
    )
