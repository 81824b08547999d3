"""The phases of a run as one line of steps: which rows, which objective and which learning rate each step has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from configs.errors import DataError, RecipeError
from configs.tuning import Phase
from training.batches import Schedule, derived_seed, epochs_of
from training.objective import Objective, PairRows, Preference, Supervised
from training.optimizer import learning_rate

if TYPE_CHECKING:
    from configs.recipe import Recipe
    from configs.records import Corpus
    from training.batches import Rows


@dataclass(frozen=True)
class Stretch:
    """The steps of one phase."""

    number: int
    phase: Phase
    rows: Rows
    schedule: Schedule
    objective: Objective
    peak: float
    first: int
    """Steps of the phases before."""
    named: bool
    """Whether the recipe has phases, and metrics name this one."""

    @property
    def name(self) -> str:
        """How metrics and messages call it."""
        return f"{self.number + 1} ({self.phase.objective})"


class At(NamedTuple):
    """A step of a run, seen from its phase."""

    stretch: Stretch
    step: int
    """Steps of the phase before this one."""
    rows: list[int]

    @property
    def begins(self) -> bool:
        """Whether it is the first step of a phase."""
        return self.step == 0


class Course:
    """All steps of a run."""

    def __init__(self, recipe: Recipe, corpus: Corpus, rows: Rows) -> None:
        self.train = recipe.train
        self.stretches: list[Stretch] = []
        for number, phase in enumerate(self.train.phases or (Phase(),)):
            self.stretches.append(self._stretch(number, phase, recipe, corpus, rows))
        self.steps = sum(stretch.schedule.steps for stretch in self.stretches)

    def _stretch(self, number: int, phase: Phase, recipe: Recipe, corpus: Corpus, rows: Rows) -> Stretch:
        train = self.train
        own: Rows = rows
        objective: Objective = Supervised()
        if train.phases:
            own = rows.only(recipe.sources_of(phase))
        if train.part is not None and own.train:
            own = own.part(train.part, recipe.seed)
        if phase.objective == "preference":
            if train.method != "lora":  # the loss gives the gradient of a trained head for even weights only
                raise RecipeError(
                    f"a preference phase needs adapters, and the method is {train.method}",
                    where=f"train.phases[{number}]",
                    hint="Leave the phase out here, and train it as a run of its own (method: lora) on this run's model.",
                )
            own, objective = PairRows(own), Preference(train.beta)
        if own.train == 0:
            where = f"train.phases[{number}]" if train.phases else str(rows.folder)
            raise DataError("the corpus has no training rows", where=where)
        schedule = Schedule(
            own.train,
            max(1, train.batch_tokens // corpus.sequence_length),
            phase.epochs or epochs_of(train, corpus),
            recipe.seed if number == 0 else derived_seed(recipe.seed, "phase", number) % 2**31,
            phase.max_steps or train.max_steps,
        )
        first = sum(before.schedule.steps for before in self.stretches)
        peak = phase.learning_rate or train.learning_rate
        return Stretch(number, phase, own, schedule, objective, peak, first, named=bool(train.phases))

    def at(self, step: int) -> At:
        """A step, counted from 0 over all phases."""
        stretch = next(it for it in reversed(self.stretches) if step >= it.first)
        return At(stretch, step - stretch.first, stretch.schedule.at(step - stretch.first))

    def rate(self, at: At) -> float:
        """The learning rate of a step: each phase warms up and cools down."""
        train = self.train
        return learning_rate(at.step, at.stretch.schedule.steps, at.stretch.peak, train.warmup, train.final)

    def passes(self, step: int) -> float:
        """Passes over the rows before a step, the average over the phases that were begun."""
        seen = rows = 0
        for stretch in self.stretches:
            if step > stretch.first:
                seen += stretch.schedule.seen(min(step - stretch.first, stretch.schedule.steps))
                rows += stretch.schedule.rows
        return seen / rows if rows else 0.0
