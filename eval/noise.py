"""The noise floor: what batches of another shape change in a model's answers, by rounding alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.scores import Noise
from eval.tally import tally

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.task import Task
    from eval.answers import Line

RESAMPLES = 100
"""Of an interval that nobody looks at."""


def noise(task: Task, lines: Sequence[Line], again: Sequence[Line]) -> Noise | None:
    """The second answers beside the first ones to the same items; None where nothing was asked again.

    Differences of the order of bits are no error of either: matrix products of another shape add in another order.
    """
    if not again:
        return None
    second = {line["item"]: line for line in again}
    first = [line for line in lines if line["item"] in second]
    pairs = [(line, second[line["item"]]) for line in first]
    values = [tally(task, side, {}, resamples=RESAMPLES).value for side in (first, [other for _, other in pairs])]
    moved = [abs(ours - theirs) for pair in pairs for ours, theirs in zip(*map(_likelihoods, pair), strict=True)]
    return Noise(
        items=len(pairs),
        changed=sum(_answer(one) != _answer(other) for one, other in pairs),
        difference=values[1] - values[0],
        largest=round(max(moved, default=0.0), 6),
    )


def _likelihoods(line: Line) -> list[float]:
    return [*line.get("loglikelihoods", ()), *([line["nats"]] if "nats" in line else [])]


def _answer(line: Line) -> tuple[object, ...]:
    return line.get("answer"), line.get("norm"), line.get("text")
