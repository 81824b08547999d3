"""Tasks of ours as files for stock lm-evaluation-harness: a YAML each, and its rows as JSON Lines.

Every text is finished, so that its Jinja and Arrow have nothing left to decide, and only metrics that it has itself are
named. Run them with `lm_eval --model hf --model_args pretrained=BASE --include_path OUT --tasks NAME`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import yaml

from configs.progress import say
from configs.store import write_atomic
from eval.ask import ask
from eval.native import NATIVE, NEAR
from eval.translate import gather, translate

if TYPE_CHECKING:
    from pathlib import Path

    from configs.job import Job
    from eval.translate import Gathered


def export_tasks(job: Job, out: Path) -> list[Path]:
    """Write the tasks of a recipe, as it asks them: its limit, its worked examples.

    Raises:
        RecipeError: there is no such task.
        DataError: its data are missing, damaged or without a single item.
        StorageError: the folder cannot be written.
    """
    wish = job.recipe.evaluate
    names = dict.fromkeys((*wish.tasks, *wish.general))
    written = []
    for name in names:
        written += write_task(gather(name, ask(name, job.roots, wish, job.recipe.seed), job.roots), out)
    return written


def write_task(gathered: Gathered, out: Path) -> list[Path]:
    """Write one task; its YAML comes last, so that one without rows is never found."""
    task = gathered.task
    ready = translate(task, gathered.asked, gathered.shown, templates=False)
    files = {"test": ready.asked} | ({"shown": ready.shown} if ready.shown else {})
    paths = {split: (out / f"{task.task}_{split}.jsonl").resolve() for split in files}
    for split, rows in files.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_atomic(paths[split], text)
    known = NATIVE.get(task.output_type, NEAR)
    metrics = [known[it.metric]._asdict() | it.options() for it in task.metric_list if it.metric in known]
    foreign = [it.metric for it in task.metric_list if it.metric not in known]
    if foreign:
        say(f"  {task.task}: lm-eval has no {', '.join(foreign)}; answers are written with `--log_samples`")
    config = ready.config | {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {split: str(path) for split, path in paths.items()}},
        "metric_list": metrics or [{"metric": "bypass"}],
    }
    if task.filter_list:
        config["filter_list"] = [it.model_dump(mode="json", exclude_unset=True) for it in task.filter_list]
    file = out / f"{task.task}.yaml"
    about = f"# {task.metadata.source}; licence {task.metadata.licence}\n"
    write_atomic(file, about + yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=120))
    return [*paths.values(), file]
