"""What a corpus is worth: the record of the same base trained with it, and with general text in its place.

Indicator 0305 (model fitness, 模型适配性) of TC609-5-2025-04 is read off this record (configs/indicators.py).

    runs/NAME/worth/worth.json      worth.md
    runs/NAME/worth/general/        the corpus of general text alone
    runs/NAME/worth/{with,without},seed=1/    corpus -> the one it learnt, run/, scorecards/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.base import public_name
from configs.part import Part
from configs.record import Record

if TYPE_CHECKING:
    from pathlib import Path

    from configs.records import Corpus

__all__ = ["Arm", "Effect", "Valuation", "gain", "valuation_beside", "valuation_told"]


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


def valuation_beside(corpus: Corpus, folder: Path) -> tuple[Valuation | None, str]:
    """What the corpus in `folder` was found to be worth, or why that is not known.

    Raises:
        DataError: the record is damaged.
    """
    found = Valuation.read_if_there(folder.resolve().parent / "worth" / "worth.json")
    if found is None:
        return None, "train with the corpus and without it: `sectorlm worth CORPUS`"
    if found.corpus != corpus.content():
        return None, "it was measured on another corpus that stood here: `sectorlm worth CORPUS` again"
    return found, ""


def gain(found: Valuation) -> tuple[float | None, str]:
    """The one number of a valuation, and what it is: the mean gain on the sector's tasks, more being better.

    Tasks whose metric is a part of a whole (accuracy, F1) are averaged as they are; where there is none, the bits per byte
    that are saved are, as a part of those without the corpus.
    """
    parts = [one.difference for one in found.effects if one.higher_is_better]
    if parts:
        return sum(parts) / len(parts), "mean gain on the sector's tasks, as a part of the whole score"
    saved = [-one.difference / one.without_corpus for one in found.effects if one.without_corpus]
    return (sum(saved) / len(saved) if saved else None), "bits per byte saved on the sector's text, as a part of them"


def valuation_told(found: Valuation) -> str:
    """A valuation in a sentence: every task with its difference and interval, sector first."""

    def task(one: Effect) -> str:
        return f"{one.task} {one.metric} {one.difference:+.3f} ({one.low:+.3f} to {one.high:+.3f}, {one.verdict})"

    seeds = len(found.arms_with)
    general = "; ".join(map(task, found.general)) or "not measured"
    return (
        f"{found.arms_with[0].tokens:,} tokens of this corpus against as many of general text, {seeds} "
        f"training{'s' if seeds > 1 else ''} each of {public_name(found.base)}: {'; '.join(map(task, found.effects))}. "
        f"General ability: {general}"
    )
