"""What a corpus is worth: the record of the same base trained with it, and with general text in its place.

Indicator 0305 (model fitness, 模型适配性) of TC609-5-2025-04 is read off this record (configs/indicators.py).

    runs/NAME/worth/worth.json      worth.md
    runs/NAME/worth/general/        the corpus of general text alone
    runs/NAME/worth/{with,without},seed=1/    corpus -> the one it learnt, run/, scorecards/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.part import Part
from configs.record import Record

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Arm", "Effect", "Valuation", "valuation_beside"]


class Arm(Part):
    """One training: with the corpus or with general text in its place, under one seed."""

    name: str
    seed: int
    steps: int
    tokens: int
    """Non-padding tokens that it was trained on."""
    passes: float
    """Passes over its training rows."""


class Effect(Part):
    """One task: what the models score that learnt the corpus, minus those that learnt general text in its place."""

    task: str
    metric: str
    sector: str
    higher_is_better: bool
    n: int
    clusters: int
    base: float
    """The base before any training."""
    without_corpus: float
    """Mean over the seeds."""
    with_corpus: float
    """Mean over the seeds."""
    difference: float
    low: float
    """Of the 95 % interval over items and seeds together."""
    high: float
    low_items: float
    """Of the 95 % interval over items alone: what other questions would change, these trainings given."""
    high_items: float
    low_seeds: float | None = None
    """Of the 95 % interval over seeds alone: what other trainings would change, these items given; None for one seed."""
    high_seeds: float | None = None
    p: float
    p_holm: float
    """The same after Holm's correction, over the sector's tasks or over the general ones."""
    seeds_without: tuple[float, ...]
    """The metric under each seed."""
    seeds_with: tuple[float, ...]

    @property
    def verdict(self) -> str:
        """`better`, `worse` or `not distinguishable`, by the corrected test and the interval together."""
        if self.p_holm >= 0.05 or self.low <= 0 <= self.high:
            return "not distinguishable"
        return "better" if (self.difference > 0) == self.higher_is_better else "worse"


class Valuation(Record):
    """What a corpus is worth to a base: with minus without, on the sector's tasks and on the general panel."""

    sector: str
    base: str
    """The base as the recipe names it."""
    corpus: str
    """Content of the corpus' record: the valuation holds for no other."""
    arms_with: tuple[Arm, ...]
    arms_without: tuple[Arm, ...]
    effects: tuple[Effect, ...]
    general: tuple[Effect, ...]
    notes: tuple[str, ...] = ()
    """What limits the comparison."""


def valuation_beside(corpus_folder: Path) -> Valuation | None:
    """The valuation of the corpus in a run folder, of whatever state of it; None where there is none.

    Raises:
        DataError: it is damaged.
    """
    return Valuation.read_if_there(corpus_folder.resolve().parent / "worth" / "worth.json")
