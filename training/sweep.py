"""A sweep: the same corpus and base under several settings, one run each, told in one table and one page.

runs/NAME/sweep/sweep.json    every run with its settings and its losses
runs/NAME/sweep/sweep.html    their curves laid over one another
"""

from __future__ import annotations

import json
import math
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import RecipeError
from configs.store import write_atomic
from configs.trials import shown
from configs.view import table
from training.members import Member, Outcome, member, outcome, prepared, train_all
from training.sweep_page import write_page

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job
    from configs.records import Corpus
    from training.members import Trained


class Swept(NamedTuple):
    """What came of a sweep: its runs, the best first, and how many supervised tokens were held out for the sector."""

    outcomes: list[Outcome]
    sets: list[str]
    """The settings of the best run, as `--set` takes them; empty where none finished."""
    limit: float | None
    """The recipe's forgetting budget."""
    page: Path

    @property
    def best(self) -> Outcome | None:
        """The run with the lowest held-out sector loss among those that finished, each within its own budget."""
        return self.outcomes[0] if self.outcomes and self.outcomes[0].state == "finished" else None

    @property
    def told(self) -> str:
        """The best run in words: how to make it the recipe's own, and why it looks a little better than it is."""
        best = self.best
        if best is None:
            return "no run finished"
        words = " ".join(f"--set {shlex.quote(it)}" for it in self.sets)
        return f"best: {best.name}; in a recipe of its own: {words}\n{caution(self.outcomes)}".rstrip()

    def shown(self) -> list[Any]:
        """What a person sees: the table, the best run, and where the page is."""
        return [table("sweep", table_rows(self), wide=True), self.told, f"page: {self.page}"]

    def as_json(self) -> dict[str, Any]:
        """Everything, as plain data."""
        best = self.best
        return {
            "runs": [one._asdict() for one in self.outcomes],
            "best": best.name if best else None,
            "sets": self.sets,
            "max_general_loss_increase": self.limit,
            "caution": caution(self.outcomes),
            "page": str(self.page),
        }


def sweep(job: Job, train: Trained) -> Swept:
    """Train every combination of `sweep:` on the one prepared corpus; what is finished is kept, what was stopped goes on.

    Raises:
        RecipeError: the recipe has no `sweep:`.
        DataError: nothing of the sector is held out.
        SectorLMError: see `train_all`.
    """
    if job.recipe.sweep is None:
        raise RecipeError(
            "the recipe has no sweep",
            where="sweep",
            hint="Name settings and their values: `sweep: {train.learning_rate: [1e-4, 2e-4], train.rank: [8, 16]}`.",
        )
    corpus = prepared(job)
    members = [member(job, "sweep", settings) for settings in job.recipe.sweep.combinations(job.recipe.seed)]
    train_all(job, members, train, lambda: _tell(job, members, corpus))
    return _tell(job, members, corpus)


def _tell(job: Job, members: list[Member], corpus: Corpus) -> Swept:
    """Write table and page as things stand."""
    folder = job.folder.root / "sweep"
    outcomes = ordered([outcome(one) for one in members])
    best = outcomes[0].name if outcomes[0].state == "finished" else None
    sets = next((one.sets for one in members if one.name == best), [])
    found = Swept(outcomes, sets, job.recipe.train.max_general_loss_increase, folder / "sweep.html")
    folders = {one.name: one.job.folder.run for one in members}
    write_page(found.page, job.recipe.name, outcomes, folders, caution(outcomes), corpus)
    write_atomic(folder / "sweep.json", json.dumps(found.as_json(), indent=1, ensure_ascii=False) + "\n")
    return found


def ordered(outcomes: list[Outcome]) -> list[Outcome]:
    """Finished runs by their sector loss, then the others."""
    states = ("finished", "unfinished", "failed", "not begun")
    return sorted(outcomes, key=lambda it: (states.index(it.state), math.inf if it.sector is None else it.sector))


def caution(outcomes: list[Outcome]) -> str:
    """Why the best of many runs is a little worse than it looks, with the number of runs; empty for fewer than two."""
    finished = [it for it in outcomes if it.state == "finished" and it.sector is not None]
    if len(finished) < 2:
        return ""
    first, second = (it.sector for it in ordered(finished)[:2])
    return (
        f"The first is the best of {len(finished)} runs on the same held-out rows, so its loss is optimistic: some of its "
        f"lead ({(second or 0) - (first or 0):.4f} nats per token on the second) is chance. No item of a task was looked "
        "at: the tasks of the recipe, and runs with other seeds, will say how good it is."
    )


def table_rows(swept: Swept) -> list[dict[str, Any]]:
    """One row for each run, for a terminal."""
    rows = []
    for number, one in enumerate(swept.outcomes, 1):
        row: dict[str, Any] = {"": number}
        row |= {key.removeprefix("train."): shown(value) for key, value in one.settings.items()}
        row |= {
            "steps": one.steps or "-",
            "sector loss": _four(one.sector),
            "general loss": _four(one.general),
            "its rise": "-" if one.rise is None else f"{100 * one.rise:+.1f} %",
            "kept": one.best_step or "last" if one.state == "finished" else "-",
            "seconds": round(one.seconds, 1),
            "tokens/s": round(one.tokens_per_second),
            "state": "stopped early" if one.state == "finished" and one.stopped_early else one.state,
            "why": one.reason,
        }
        rows.append(row)
    return rows


def _four(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
