"""The phases of a run as a plan sees them: counted over the corpus by the course itself, or guessed from file sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from configs.tuning import Phase
from training.batches import Rows, Schedule
from training.course import Course

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.job import Job
    from configs.recipe import Recipe
    from configs.records import Corpus
    from configs.tuning import Train
    from training.course import Stretch
    from training.shape import Shape

GUESSED_EPOCHS = 3.0
"""Passes before anything is counted: what `epochs_of` says below 10,000 documents."""


@dataclass(frozen=True)
class Worst:
    """The micro-batch that needs most: its rows and their sizes."""

    rows: list[int]
    tokens: int
    scored: int
    documents: int
    longest: int

    @classmethod
    def of(cls, rows: Rows, most_tokens: int) -> Worst:
        """The rows with most tokens, and of these the ones with the longest documents, that fit into a micro-batch."""
        squares = np.add.reduceat(rows.segments[:, 2] ** 2, rows.first[:-1])
        order = np.lexsort((-squares[: rows.train], -rows.length[: rows.train]))
        part: list[int] = []
        for row in order:
            if not part or sum(int(rows.length[it]) for it in part) + int(rows.length[row]) <= most_tokens:
                part.append(int(row))
            elif rows.length[row] == rows.length[order[0]]:
                break
        batch = rows.batch(part)  # pairs have two documents for each segment
        return cls(part, len(batch.tokens_T), len(batch.scored_S), len(batch.bounds) - 1, batch.longest)


@dataclass(frozen=True)
class Leg:
    """A phase in figures. Tokens, supervised ones and squares are those of one pass; of pairs, of both answers."""

    pairs: bool
    """Whether each batch also goes forward through the reference, without a gradient."""
    schedule: Schedule
    tokens: float
    scored: float
    squares: float
    """Squared lengths of the documents, added up."""
    shares: dict[str, float]
    """Tokens of each source."""
    worst: Worst

    @property
    def passes(self) -> float:
        """Passes over its rows."""
        return self.schedule.seen(self.schedule.steps) / self.schedule.rows

    @property
    def seen(self) -> float:
        """Tokens that it trains on."""
        return self.tokens * self.passes


def most_tokens(train: Train, row: int, processes: int) -> int:
    """Tokens of a process' largest micro-batch: it has its part of the rows of a step, in turn with the others.

    >>> from configs.tuning import Train
    >>> most_tokens(Train(batch_tokens=4096, micro_batch_tokens=8192), 1024, 3)
    2048
    """
    rows = -(-max(1, train.batch_tokens // row) // processes)
    return min(train.micro_batch_tokens, rows * row)


# ---------------------------------------------------------------- counted


def counted(job: Job, corpus: Corpus, processes: int) -> tuple[Course, list[Leg]]:
    """The course of a run over its corpus, and its phases in figures.

    Raises:
        DataError: a phase has no rows, or the corpus is damaged.
        RecipeError: a phase does not fit the method.
    """
    course = Course(job.recipe, corpus, Rows(job.folder.corpus, corpus))
    most = most_tokens(job.recipe.train, corpus.sequence_length, processes)
    return course, [_counted(stretch, corpus, most) for stretch in course.stretches]


def _counted(stretch: Stretch, corpus: Corpus, most: int) -> Leg:
    rows, pairs = stretch.rows, stretch.phase.objective == "preference"
    inside = rows.segments[: rows.first[rows.train]]
    lengths = inside[:, 2].astype(float)
    chosen = np.bincount(inside[:, 0], weights=lengths, minlength=rows.train)
    # The rejected answers of a row are spread over its pairs: 0 where there are none.
    rejected = lengths * (rows.length[: rows.train] / chosen - 1)[inside[:, 0]]
    tokens = np.bincount(inside[:, 3], weights=lengths + rejected, minlength=len(corpus.sources))
    own = np.bincount(inside[:, 3], weights=lengths, minlength=len(corpus.sources))
    learnt = np.array([it.supervised / it.tokens if it.tokens else 1.0 for it in corpus.sources])
    prompts = own * (1 - learnt)  # of a pair both documents begin with it
    shares = {it.name: float(tokens[place]) for place, it in enumerate(corpus.sources) if tokens[place]}
    return Leg(
        pairs=pairs,
        schedule=stretch.schedule,
        tokens=float(tokens.sum()),
        scored=float((tokens - (2 if pairs else 1) * prompts).sum()),
        squares=float(np.square(lengths).sum() + np.square(rejected).sum()),
        shares=shares,
        worst=Worst.of(rows, most),
    )


# ---------------------------------------------------------------- guessed


def guessed(recipe: Recipe, tokens: dict[str, int], processes: int) -> list[Leg]:
    """The phases from the tokens of each source: rows are full, documents as long as a row, every token supervised."""
    return [_guessed(recipe, phase, tokens, processes) for phase in recipe.train.phases or (Phase(),)]


def _guessed(recipe: Recipe, phase: Phase, tokens: dict[str, int], processes: int) -> Leg:
    train, length, pairs = recipe.train, recipe.prepare.sequence_length, phase.objective == "preference"
    places = recipe.sources_of(phase) if train.phases else range(len(recipe.corpora))
    part = train.part or 1.0
    own = {recipe.corpora[place].name: part * tokens[recipe.corpora[place].name] for place in places}
    rows = max(1, int(sum(own.values())) // length)
    twice = 2 if pairs else 1  # the prompt stands before both answers
    whole = twice * sum(own.values())
    schedule = Schedule(
        rows,
        max(1, train.batch_tokens // length),
        phase.epochs or train.epochs or GUESSED_EPOCHS,
        recipe.seed,
        phase.max_steps or train.max_steps,
    )
    row = twice * length
    largest = min(max(1, most_tokens(train, length, processes) // row) * row, max(1, int(whole)))
    return Leg(
        pairs=pairs,
        schedule=schedule,
        tokens=whole,
        scored=whole,
        squares=whole * length,
        shares={name: twice * size for name, size in own.items()},
        worst=Worst([], largest, largest, max(1, largest // length), min(length, largest)),
    )


# ---------------------------------------------------------------- both


def useful_flops(shape: Shape, leg: Leg) -> float:
    """FLOPs of training through a phase; a preference phase asks its reference as well, forward only."""
    sizes = (leg.tokens, leg.scored, leg.squares)
    once = shape.flops(*sizes) + (shape.forward_flops(*sizes) if leg.pairs else 0.0)
    return leg.passes * once


def passed(legs: Sequence[Leg], sources: dict[str, dict[str, Any]]) -> None:
    """Add to each source how often it is passed over, and the tokens that the run sees of it."""
    for name, source in sources.items():
        own = [leg for leg in legs if name in leg.shares]
        source["epochs"] = round(sum(leg.passes for leg in own) * (source["repeats"] or 1.0), 2)
        source["tokens_seen"] = round(sum(leg.shares[name] * leg.passes for leg in own))
