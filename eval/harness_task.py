"""A task of ours at work in lm-evaluation-harness: our rows, its prompts, its metrics where it has the same ones."""

from __future__ import annotations

from contextlib import redirect_stderr
from functools import partial
from io import StringIO
from typing import TYPE_CHECKING, Any

from lm_eval.api.task import ConfigurableTask

from eval.native import NATIVE
from eval.reading import answer_of, best_choice, sizes
from eval.score import LOWER_IS_BETTER, STATISTICS, classes_of, columns, sums_of
from eval.translate import ITEM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.items import Item
    from configs.task import Task
    from eval.answers import Line
    from eval.translate import Translated

UNASKED = float("-inf")
"""Stands for a choice that did not fit into the model's context."""


class Split(list[dict[str, Any]]):
    """Rows as lm-eval wants a split: a list that knows its columns. Arrow would force all rows into one shape."""

    @property
    def features(self) -> dict[str, None]:
        """The names of the columns that every row has."""
        return dict.fromkeys(name for name in self[0] if all(name in row for row in self))


class OurTask(ConfigurableTask):  # type: ignore[misc]
    """A task of ours at work there: our rows, its prompts, and its own metrics where it has the same ones."""

    def __init__(self, task: Task, translated: Translated, items: Sequence[Item]) -> None:
        self.ours, self.items = task, {item.digest: item for item in items}
        self.rows = {"test": Split(translated.asked), "shown": Split(translated.shown)}
        known = NATIVE.get(task.output_type, {})
        self.native = {it.metric: known[it.metric] for it in task.metric_list if it.metric in known}
        self.own = [it.metric for it in task.metric_list if it.metric not in known]
        self.lines: list[Line] = []
        metrics = [it._asdict() for it in self.native.values()]
        super().__init__(config=translated.config | {"dataset_path": "json", "metric_list": metrics})
        for metric in self.own:
            self._aggregation_list[metric] = partial(value_of, metric)
            self._higher_is_better[metric] = metric not in LOWER_IS_BETTER

    def download(self, *_: Any, **__: Any) -> None:
        """Our reader has read the rows already."""
        self.dataset = self.rows

    def build_all_requests(self, **asked: Any) -> None:
        """Build the prompts, without a bar of its own."""
        with redirect_stderr(StringIO()):
            super().build_all_requests(**asked)

    def process_results(self, doc: dict[str, Any], results: Sequence[Any]) -> dict[str, Any]:
        """Its own metrics by lm-eval, ours from a line like those of answers.jsonl."""
        item = self.items[doc[ITEM]]
        line = outcome(self.ours, item, results)
        self.lines.append(line)
        theirs = super().process_results(doc, results) if self.native else {}
        if line.get("loglikelihoods") == []:
            theirs = dict.fromkeys(theirs, 0.0)  # invalid, and never right; lm-eval would take the first choice
        return theirs | dict.fromkeys(self.own, line)


def outcome(task: Task, item: Item, results: Sequence[Any]) -> Line:
    """A line as in answers.jsonl, of what the model gave lm-eval."""
    about: Line = {
        "task": task.task,
        "row": item.row,
        "item": item.digest,
        "cluster": item.cluster,
        "subject": item.subject,
        "choices": list(item.choices),
        "target": item.target,
        **({"accepted": list(item.accepted)} if item.accepted else {}),
        **({"options": options} if (options := task.options()) else {}),
    }
    if task.output_type == "loglikelihood_rolling":
        return about | {"nats": round(-results[0], 6), **sizes(item.text)}
    if task.output_type == "generate_until":
        return about | {"answer": answer_of(task, results[0], item.choices), "text": results[0]}
    likely = [round(value, 6) for value, _ in results]
    found = [] if UNASKED in likely else likely
    best = {"answer": best_choice(found, item.choices), "norm": best_choice(found, item.choices, per_byte=True)}
    return about | best | {"loglikelihoods": found}


def value_of(metric: str, lines: Sequence[Line]) -> float:
    """A metric of ours over lines, as lm-eval asks for an aggregation."""
    sums_CD, _ = sums_of(metric, columns(lines), classes_of(lines))
    return float(STATISTICS[metric](sums_CD.sum(axis=0)))
