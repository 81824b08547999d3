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


def score(  # noqa: PLR0913 - every option of the verb is an argument of its function
    models: opt.Models,
    *,
    tasks: opt.Tasks,
    data: opt.DataFolders = opt.NO_FOLDERS,
    adapter: opt.WithAdapters = opt.NO_FOLDERS,
    limit: opt.Limit = None,
    shots: opt.Shots = None,
    out: opt.Cards = Path("scorecards"),
    chat: opt.Chat = False,
    seed: opt.Seed = 17,
    engine: opt.ScoreEngine = "here",
    tokenizer: opt.TokenizerOf = "",
) -> Answer:
    """Score any models on any tasks: folders, hub ids, bases with adapters, runs, servers; resumes where it was stopped.

    Example: sectorlm score assets/base runs/my-finance --tasks finance_topics,general_text
    """
    from configs.stages import load_page

    page = load_page("eval.scoring")
    given = {"shots": shots, "limit": limit}
    cards = page.score(page.Asked(models, tasks, out, data, adapter, chat, seed, engine, tokenizer, given))
    folders = " ".join(str(out / card.model) for card in cards)
    line = f"next: sectorlm compare {folders}" if len(cards) > 1 else f"scorecard: {folders}"
    return Answer([card.model_dump(mode="json") for card in cards], [page.score_table(cards), line])


def worth(target: opt.RecipeOrCorpus, sets: opt.Sets = opt.NO_SETS, runs: opt.Runs = opt.RUNS) -> Answer:
    """Say what a corpus is worth: train with it and with general text in its place, over several seeds, and compare.

    The same base and as many tokens each time; resumes where it was stopped.

    Example: sectorlm worth runs/my-finance/corpus --set worth.seeds=3
    """
    from configs.emit import keeping_recipe
    from configs.load import load_recipe
    from configs.stages import load_page, open_job
    from configs.view import table
    from eval.worth import Stages, recipe_at
    from eval.worth import worth as valued
    from eval.worth_page import told, worth_rows

    recipe, runs = recipe_at(target, runs)
    job = open_job(recipe, sets, runs)
    prepare, train = load_page("data_prep.prepare").prepare, load_page("training.train").train
    stages = Stages(
        lambda differing: load_recipe(recipe, [*sets, *differing]),
        keeping_recipe(prepare, recipe, sets),
        keeping_recipe(train, recipe, sets),
        load_page("eval.evaluate").evaluate,
    )
    with job.folder.lock():
        # The recipe in the run folder is that of its own run: settings of this command go into the folders of its runs.
        if (job.folder.root / "recipe.yaml").is_file():
            prepare(job)
        else:
            stages.prepare(job, [])
        found = valued(job, stages)
    rows = [*worth_rows(found.effects), *worth_rows(found.general)]
    page = job.folder.root / "worth" / "worth.md"
    shown = [table("with the corpus against general text in its place", rows, wide=True), told(found), *found.notes]
    return Answer(found.model_dump(mode="json"), [*shown, f"page: {page}"])


def report(
    targets: opt.Reported,
    *,
    out: opt.Page = opt.REPORT,
    lang: opt.Lang = "en",
    baseline: opt.Baseline = "",
    force: opt.Force = False,
) -> Answer:
    """Write one page to look at: a run's comparison with all its answers, or a leaderboard of many scorecards.

    Example: sectorlm report runs/finance --lang zh
    """
    from eval.render import render

    found = render(targets, out, lang=lang, baseline=baseline, force=force)
    told = f"{found.kind} of {', '.join(found.rows)}"
    return Answer({"file": str(found.path), "kind": found.kind, "rows": found.rows}, [told, f"wrote {found.path}"])


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


VERBS: tuple[Callable[..., object], ...] = (score, worth, report, export)


def of_evaluation(app: typer.Typer) -> None:
    """Add the verbs of evaluation."""
    for verb in VERBS:
        app.command()(verb)
