"""The five stages in working order, and how a command takes hold of a run folder."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from configs.emit import keep_recipe
from configs.errors import DataError, RecipeError
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.records import Record, flat
from configs.spread import rank
from configs.store import RunFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

STAGES = {
    "prepare": "corpus/corpus.json",
    "train": "run/run.json",
    "evaluate": "scorecards/tuned/scorecard.json",
    "compare": "report/comparison.json",
    "publish": "release/release.json",
}
"""Stage to its record in a run folder, in working order."""
PAGES = {
    "prepare": "data_prep.prepare",
    "train": "training.train",
    "evaluate": "eval.evaluate",
    "compare": "eval.compare",
    "publish": "training.publish",
}
"""Stage to the page that has a function of its name, in working order."""


def load_page(module: str) -> ModuleType:
    """Import a stage's page, without looking for garbage in the meantime.

    torch and transformers make some million objects that live as long as the process. Looking through them again and again
    while they come took 0.8 of 3.9 CPU seconds until training could begin (torch 2.13, transformers 5.24); `gc.freeze`
    spares every later look the same.
    """
    looking = gc.isenabled()
    gc.disable()
    try:
        page = import_module(module)
    finally:
        gc.freeze()
        if looking:
            gc.enable()
    return page


def stage_of(stage: str) -> Callable[..., Any]:
    """The main function of a stage; imported only when the recipe is known to be right."""
    found: Callable[..., Any] = getattr(load_page(PAGES[stage]), stage)
    return found


def open_job(recipe: Path, overrides: Sequence[str], runs: Path) -> Job:
    """A recipe at work in its folder below `runs`.

    Raises:
        RecipeError: the recipe is wrong; the message has one line for every problem.
    """
    loaded = load_recipe(recipe, overrides)
    return Job(loaded, roots_of(loaded, recipe), RunFolder(runs / loaded.name))


@contextmanager
def working(job: Job, stage: str, recipe: Path, overrides: Sequence[str], *, shared: bool = False) -> Iterator[None]:
    """Hold the run folder, see that the stages before are complete, and keep the resolved recipe there.

    `shared`: the other parts of an array job hold it too. Of the processes that train together the main one holds it.

    Raises:
        LockedError: another process works there.
        DataError: a stage before this one is not complete.
        RecipeError: a stage before this one was done with another recipe.
        StorageError: the folder cannot be written.
    """
    if rank():
        yield
        return
    with job.folder.lock(shared=shared):
        for before in list(STAGES)[: list(STAGES).index(stage)]:
            if not (job.folder.root / STAGES[before]).is_file():
                raise DataError(
                    f"{stage} needs the stage {before}, which is not complete",
                    where=str(job.folder.root),
                    hint=f"Run `sectorlm {before} {recipe}` first, or `sectorlm run {recipe}` for all stages.",
                )
            _refuse_other_recipe(job, before)
        keep_recipe(job, recipe, overrides)
        yield


def _refuse_other_recipe(job: Job, before: str) -> None:
    """A stage alone builds on the records that are there: they must be those of its recipe."""
    settings = Record.settings_at(job.folder.root / STAGES[before])
    asked = flat(job.recipe, "")
    differing = [
        f"{key}: {settings[key]} -> {asked[key]}" for key in settings if settings[key] != asked.get(key, settings[key])
    ]
    if differing:
        raise RecipeError(
            f"{before} was done here with another recipe:\n    " + "\n    ".join(differing),
            where=str(job.folder.root),
            hint=f"`sectorlm {before}` with this recipe first, or `sectorlm run` for all stages, does it again.",
        )
