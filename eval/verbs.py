"""The verbs of evaluation beside its two stages: any model on any task, the report, what a corpus is worth.

The front door's own page is `sectorlm.py`; this one is a part of it, and as light: nothing is imported before a verb needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from configs import options as opt
from configs.answer import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import typer


def export(
    targets: opt.Scorecards,
    *,
    to: opt.ExportForm,
    out: opt.OutFolder = Path("exports"),
    sets: opt.Sets = opt.NO_SETS,
    runs: opt.Runs = opt.RUNS,
) -> Answer:
    """Write scorecards in the forms of others, or a recipe's tasks for stock lm-evaluation-harness.

    lm-eval: its results and samples files. model-index: what a model card and .eval_results hold on the Hugging Face hub.
    csv, parquet: tables of items, scores and differences. tasks: YAML and rows that `lm_eval --include_path` runs.

    Example: sectorlm export runs/my-finance --to parquet --out tables
    """
    if to == "tasks":
        from configs.stages import open_job
        from eval.exports_tasks import export_tasks

        written = [path for recipe in targets for path in export_tasks(open_job(recipe, sets, runs), out)]
    else:
        from eval.exports import export as exported

        written = exported(targets, to, out)
    return Answer({"files": [str(path) for path in written]}, [f"wrote {path}" for path in written])


def by_lm_eval(
    recipe: Path, sets: Sequence[str], runs: Path, engine: str, tasks: Sequence[str], code: Sequence[str]
) -> Answer:
    """Score base and tuned model through lm-evaluation-harness, into scorecards of their own.

    Raises:
        RecipeError: no such engine, or --tasks without lm-eval.
    """
    from configs.errors import RecipeError
    from configs.stages import load_page, open_job, working
    from configs.view import Found
    from eval.views import views

    if engine != "lm-eval":
        raise RecipeError(
            f"--tasks is for --engine lm-eval, got --engine {engine}" if tasks else f"no such engine: {engine}",
            where="evaluate",
            hint="There are sectorlm and lm-eval. The tasks of sectorlm stand in the recipe: --set evaluate.tasks=[NAME].",
        )
    job = open_job(recipe, sets, runs)
    with working(job, "evaluate", recipe, sets):
        made = load_page("eval.harness").evaluate_by_lm_eval(job, tasks, code)
        folder = job.folder.root / load_page("eval.harness").folder_of(tasks)
    found = [Found(folder / record.model / "scorecard.json", record) for record in made]
    return Answer([record.model_dump(mode="json") for record in made], views(found))


VERBS: tuple[Callable[..., object], ...] = (export,)


def of_evaluation(app: typer.Typer) -> None:
    """Add the verbs of evaluation."""
    for verb in VERBS:
        app.command()(verb)
