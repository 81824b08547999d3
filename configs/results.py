"""Results in the two forms that the Hugging Face hub reads: the model-index of a card, and `.eval_results/*.yaml`.

The card of a release and `sectorlm export` say the same thing in the same words, so the words stand here. Sources:
github.com/huggingface/hub-docs, modelcard.md (model-index) and eval_results.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from configs.errors import RecipeError
from configs.load import load_task
from configs.store import HOUSE
from configs.task import task_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from huggingface_hub import EvalResult, EvalResultEntry

    from configs.scores import Score
    from configs.task import Task

DIGITS = 4
"""Decimal places of a published value: items are at most some ten thousand."""


@dataclass(frozen=True)
class Result:
    """One number of one model: a metric of a task, with its interval where there is one."""

    task: str
    metric: str
    value: float
    n: int
    low: float | None = None
    high: float | None = None
    base: float | None = None
    """What the model had before it was tuned."""
    dataset: str | None = None
    """Id of the task's data set on the hub, where it has one."""
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    @property
    def task_id(self) -> str:
        """What the hub's `eval.yaml` of a data set calls the task: its configuration, or `default`."""
        return self.config or "default"

    def told(self) -> str:
        """The metric with what a reader needs to judge it.

        >>> Result("pubmedqa", "acc", 0.51, 500, low=0.466, high=0.554, base=0.5).told()
        'acc (95 % interval 0.4660 to 0.5540, n 500, base 0.5000)'
        """
        parts = [] if self.low is None else [f"95 % interval {self.low:.{DIGITS}f} to {self.high:.{DIGITS}f}"]
        parts += [f"n {self.n}", *([] if self.base is None else [f"base {self.base:.{DIGITS}f}"])]
        return f"{self.metric} ({', '.join(parts)})"


def results_of(scores: Iterable[Score], roots: tuple[Path, ...], base: Iterable[Score] = ()) -> list[Result]:
    """Every metric of every score; the first of each task has the interval, and the base's value where `base` has it."""
    before = {score.task: score.metrics for score in base}
    found = []
    for score in scores:
        about = _about(score.task, roots)
        for metric, value in ({score.metric: score.value} | score.metrics).items():
            first = metric == score.metric
            found.append(
                Result(
                    score.task,
                    metric,
                    value,
                    score.n,
                    score.low if first else None,
                    score.high if first else None,
                    before.get(score.task, {}).get(metric),
                    *about,
                )
            )
    return found


def _about(name: str, roots: tuple[Path, ...]) -> tuple[str | None, str | None, str | None, str | None]:
    """Data set, configuration, split and revision of a task that we ship, or of a task file found by its name."""
    task = known_task(name, roots)
    if task is None:
        return None, None, None, None
    if "/" not in task.dataset_path:
        return None, None, task.test_split, None
    config = task.dataset_name if isinstance(task.dataset_name, str) else None
    return task.dataset_path, config, task.test_split, task.revision


def known_task(name: str, roots: tuple[Path, ...]) -> Task | None:
    """The task of this name that SectorLM ships or that stands as NAME.yaml in one of the roots; None for others."""
    places = [path for root in roots if (path := root / f"{name}.yaml").is_file()]
    if name not in task_files(HOUSE) and not places:
        return None
    try:
        return load_task(name if not places else places[0].name, roots)[0]
    except RecipeError:
        return None  # a file of that name which is no task


def model_index(results: Sequence[Result]) -> list[EvalResult]:
    """The results for `ModelCardData(eval_results=...)`."""
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type="text-generation",
            task_name=it.task,
            dataset_type=it.dataset or it.task,
            dataset_name=it.task,
            dataset_config=it.config,
            dataset_split=it.split,
            dataset_revision=it.revision,
            metric_type=it.metric,
            metric_value=round(it.value, DIGITS),
            metric_name=it.told(),
        )
        for it in results
    ]


def hub_entries(results: Sequence[Result], date: str, told: str = "") -> dict[str, list[EvalResultEntry]]:
    """The entries of each file of `.eval_results`, by its name: first metrics of tasks whose data set is on the hub.

    The hub shows them on the data set's leaderboard, which wants one number per task; `date` is ISO 8601, and `told` is
    added to the notes.
    """
    from huggingface_hub import EvalResultEntry

    found: dict[str, list[EvalResultEntry]] = {}
    for it in results:
        if it.dataset is not None and it.task not in found:
            found[it.task] = [
                EvalResultEntry(
                    dataset_id=it.dataset,
                    task_id=it.task_id,
                    value=round(it.value, DIGITS),
                    dataset_revision=it.revision,
                    date=date,
                    notes=f"{it.told()}{f'; {told}' if told else ''}",
                )
            ]
    return found
