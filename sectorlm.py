"""The front door: one verb, one function; errors become exit codes (configs/errors.py has the table).

Nothing heavy is imported before a verb needs it: `sectorlm --help` is typer alone. A verb returns an Answer, what it
found and how a person sees it; configs/answer.py prints it, and turns an error into words or into JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs import options as opt
from configs.answer import GLOBAL, Answer
from eval.verbs import of_evaluation
from training import release_verbs, verbs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.records import Record
    from configs.releasing import Wishes
    from configs.view import Found

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode="rich")
NO_SETS, RUNS = opt.NO_SETS, opt.RUNS


def _views(found: list[Found]) -> list[Any]:
    """Records as a person sees them."""
    from eval.views import views

    return views(found)


# ---------------------------------------------------------------- before a run


@app.command()
def init(
    sector: opt.SectorName,
    folder: Annotated[Path, typer.Option("--in", help="Folder to write into.")] = Path(),
    lang: Annotated[
        str, typer.Option("--lang", metavar="en|zh", help="Language of the comments and of the report.")
    ] = "en",
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> Answer:
    """Write a commented starter recipe for a sector.

    Example: sectorlm init finance
    """
    from configs.starter import write_starter

    written = [str(path) for path in write_starter(sector, folder, lang=lang, force=force)]
    lines = [*(f"wrote {path}" for path in written), f"next: sectorlm check {written[0]}"]
    return Answer({"files": written}, lines)


@app.command()
def check(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE | CORPUS", help="A recipe, or a corpus folder.")],
    sets: opt.Sets = NO_SETS,
) -> Answer:
    """Validate a recipe without computing anything, or print the quality indicators of a corpus (TC609-5-2025-04).

    Example: sectorlm check finance.yaml
    """
    if recipe.is_dir() or recipe.suffix == ".json":
        from configs.indicators import indicator_table, indicators_at

        found_there = indicators_at(recipe)
        return Answer([it._asdict() for it in found_there], [indicator_table(found_there)])
    from configs.check import check_recipe
    from data_prep.exclude import exclusion
    from data_prep.quality import check_rules
    from eval.paired import foreseen_note

    found = check_recipe(recipe, sets, rules=check_rules, requests=exclusion, foresee=foreseen_note)
    found.tell_notes()
    found.refuse()
    return Answer({"problems": [], "notes": found.notes}, [f"{recipe}: no problems found"])


verbs.before_a_run(app)


@app.command()
def fitness(recipe: opt.RecipeFile, terms: opt.Terms = None, count: opt.Count = 30, sets: opt.Sets = NO_SETS) -> Answer:
    """Say how the base's tokenizer spells the sector, and which new tokens would save most.

    Example: sectorlm fitness finance.yaml --terms glossary.txt
    """
    from data_prep.fitness import fitness as looked_at
    from data_prep.fitness import fitness_view

    found = looked_at(recipe, sets, terms, count)
    return Answer(found.as_json(), fitness_view(found))


# ---------------------------------------------------------------- the stages


def _stage(stage: str, recipe: Path, sets: Sequence[str], runs: Path, **options: Any) -> Answer | None:
    """One stage alone; the stages before it must be complete. Nothing is told by a process that works for another."""
    from configs.spread import is_called
    from configs.stages import STAGES, open_job, stage_of, working

    job = open_job(recipe, sets, runs)
    part = stage == "prepare" and options["how"].part is not None
    with working(job, stage, recipe, sets, shared=part):
        made = stage_of(stage)(job, **options)
    if is_called():
        return None
    if made is None:
        return Answer({"complete": False}, ["this part is done; the corpus is not complete yet"])
    return _told(job.folder.root / STAGES[stage], made if isinstance(made, list) else [made])


def _told(path: Path, records: Sequence[Record]) -> Answer:
    from configs.view import Found

    found = [Found(path, record) for record in records]
    return Answer([it.record.model_dump(mode="json") for it in found], _views(found))


@app.command()
def run(
    recipe: opt.RecipeFile, sets: opt.Sets = NO_SETS, runs: opt.Runs = RUNS, processes: opt.Processes = 1
) -> Answer:
    """Do everything: prepare, train, evaluate, compare, publish; what is unchanged is kept.

    Example: sectorlm run finance.yaml
    """
    from configs.base import base_folder
    from configs.progress import say
    from configs.stages import STAGES, open_job, stage_of, working
    from configs.view import Found

    job = open_job(recipe, sets, runs)
    # A base that cannot be read is known now, not after the corpus is made.
    base_folder(job.recipe.base, job.roots, weights=job.recipe.train.method != "scratch")
    report = job.folder.report / "report.html"
    made: dict[str, Any] = {}
    if processes > 1:
        with working(job, "prepare", recipe, sets):
            made["prepare"] = stage_of("prepare")(job)
        _train_in(processes, recipe, sets, runs)
    with working(job, "prepare", recipe, sets):
        made |= {stage: stage_of(stage)(job) for stage in list(STAGES)[:-1] if stage not in made}
        say(f"report: {report}")  # before the gates of the release, which may refuse it
        stage_of("publish")(job, _wishes())
    comparison = Found(job.folder.root / STAGES["compare"], made["compare"])
    paths = {"report": str(report), "release": str(job.folder.release)}
    views = [*_views([comparison]), *(f"{name}: {path}" for name, path in paths.items())]
    return Answer(comparison.record.model_dump(mode="json") | paths, views)


@app.command()
def prepare(
    recipe: opt.RecipeFile,
    *,
    sets: opt.Sets = NO_SETS,
    runs: opt.Runs = RUNS,
    workers: opt.Workers = 0,
    engine: opt.Engine = "processes",
    part: opt.PartOf = "",
    keep_dropped: opt.KeepDropped = False,
    standard: opt.Standard = "",
) -> Answer | None:
    """Turn the raw files of a recipe into a tokenized corpus with its ledger.

    Example: sectorlm prepare finance.yaml --workers 2 --keep-dropped
    """
    from configs.spread import how_to_spread

    how = how_to_spread(workers, engine, part)
    return _stage("prepare", recipe, sets, runs, how=how, keep_dropped=keep_dropped, standard=standard)


@app.command()
def train(
    recipe: opt.RecipeFile,
    *,
    sets: opt.Sets = NO_SETS,
    runs: opt.Runs = RUNS,
    processes: opt.Processes = 1,
    weights_only: opt.WeightsOnly = False,
) -> Answer | None:
    """Tune the base model on the prepared corpus; resumes where it was stopped.

    With several GPUs: --processes 8, or torchrun --nproc-per-node 8 -m sectorlm train RECIPE.

    Example: sectorlm train finance.yaml --set train.rank=8
    """
    if processes == 1:
        return _stage("train", recipe, sets, runs, weights_only=weights_only)
    from configs.records import Run
    from configs.stages import open_job

    _train_in(processes, recipe, sets, runs, weights_only=weights_only)
    made = open_job(recipe, sets, runs).folder.run / "run.json"
    return _told(made, [Run.read(made)])


def _train_in(processes: int, recipe: Path, sets: Sequence[str], runs: Path, *, weights_only: bool = False) -> None:
    """Train in several processes; what they made is there afterwards."""
    from training.processes import in_processes

    settings = [word for it in sets for word in ("--set", it)]
    switches = ["--weights-only"] if weights_only else []
    switches += [word for word in GLOBAL if word in sys.argv]
    code = in_processes(processes, ["train", str(recipe), "--runs", str(runs), *settings, *switches])
    if code:
        raise SystemExit(code)


@app.command()
def evaluate(
    recipe: opt.RecipeFile,
    *,
    sets: opt.Sets = NO_SETS,
    runs: opt.Runs = RUNS,
    engine: opt.Judge = "sectorlm",
    tasks: opt.OwnTasks = NO_SETS,
    code: opt.AllowedCode = NO_SETS,
) -> Answer | None:
    """Score base and tuned model on the tasks of the recipe; resumes where it was stopped.

    With --engine lm-eval the same tasks go through lm-evaluation-harness, or any of its own (--tasks hellaswag).

    Example: sectorlm evaluate finance.yaml --set evaluate.limit=100
    """
    if engine == "sectorlm" and not tasks:
        return _stage("evaluate", recipe, sets, runs)
    from eval.verbs import by_lm_eval

    return by_lm_eval(recipe, sets, runs, engine, tasks, code)


@app.command()
def compare(targets: opt.Targets, sets: opt.Sets = NO_SETS, runs: opt.Runs = RUNS) -> Answer | None:
    """Compare base and tuned model item by item, and write the report; or scorecards, each with the first of them.

    Example: sectorlm compare runs/a/scorecards/tuned runs/b/scorecards/tuned
    """
    from configs.errors import RecipeError

    if len(targets) == 1 and not (targets[0] / "scorecard.json").is_file():
        return _stage("compare", targets[0], sets, runs)
    if len(targets) < 2:
        given = f"one scorecard, {targets[0]}" if targets else "no target"
        raise RecipeError(f"got {given}: give one recipe, or two scorecard folders or more", where="compare")
    from eval.compare import compare_several
    from eval.report import difference_table
    from eval.sentences import general, pooled

    shown, data = [], []
    for other, found in zip(targets[1:], compare_several(targets[0], targets[1:]), strict=True):
        rows = [*found.differences, *found.general]
        table = difference_table(rows)
        names = [it.resolve().name for it in (other, targets[0])]
        ours, theirs = names if len(set(names)) > 1 else map(str, (other, targets[0]))
        table.title = f"{ours} (tuned) against {theirs} (base)"
        shown += [table, *map(pooled, found.pooled), *([general(found.panel)] if found.panel else [])]
        data.append({"model": str(other), "differences": [row.model_dump(mode="json") for row in rows]})
    return Answer(data[0]["differences"] if len(data) == 1 else data, shown)


@app.command()
def publish(
    recipe: opt.RecipeFile,
    *,
    push: opt.Push = False,
    accept: opt.Accept = NO_SETS,
    key: opt.PrivateKey = None,
    sets: opt.Sets = NO_SETS,
    runs: opt.Runs = RUNS,
) -> Answer | None:
    """Make the release folder: weights, model card, and the hashes that lead back.

    Example: sectorlm publish finance.yaml --key release.key --push
    """
    return _stage("publish", recipe, sets, runs, wishes=_wishes(push, accept, key))


def _wishes(push: bool = False, accept: Sequence[str] = (), key: Path | None = None) -> Wishes:
    """What is asked of a release; stages do not import one another, so what finds personal data is handed over here."""
    from configs.releasing import Wishes
    from data_prep.privacy import find

    return Wishes(push, accept, key, find)


of_evaluation(app)
verbs.several_runs(app)
release_verbs.of_releases(app)

# ---------------------------------------------------------------- after a run


@app.command()
def show(
    target: Annotated[Path, typer.Argument(help="A recipe, a data file, a record, a stage folder or a run folder.")],
    *,
    sets: opt.Sets = NO_SETS,
    trace: opt.Trace = False,
    sample: opt.Sample = 0,
    rows: opt.Rows = "",
    find: opt.Find = "",
    source: opt.SourceName = "",
) -> Answer:
    """Show a recipe with its defaults marked, a source, a record, or the packed rows of a corpus.

    Example: sectorlm show runs/my-finance --trace
    """
    from configs.show import Asked, is_data
    from configs.show import show as shown

    if source or is_data(target):
        from data_prep.preview import look

        return Answer(*look(target, source, sets, sample or 3))
    return Answer(*shown(target, Asked(trace, sample, rows, find), sets, _views))


@app.command(name="runs")
def list_runs(runs: opt.Runs = RUNS) -> Answer:
    """List run folders: sector, stage reached, what tuning changed.

    Example: sectorlm runs
    """
    from configs.view import run_rows, table

    rows = run_rows(runs)
    return Answer(rows, [table(str(runs), rows) if rows else f"no runs in {runs}"])


@app.command()
def doctor(runs: opt.Runs = RUNS) -> Answer:
    """Say what this machine has, and how to get what it lacks.

    Example: sectorlm doctor
    """
    from configs.doctor import examine
    from configs.view import table

    found = [finding._asdict() for finding in examine(runs)]
    columns = ("what", "found", "remedy")
    shown = [{"": "ok" if it["well"] else "!!", **{name: it[name] for name in columns}} for it in found]
    return Answer(found, [table("this machine", shown)])


@app.command()
def schema(task: Annotated[bool, typer.Option("--task", help="The schema of task files.")] = False) -> Answer:
    """Print the JSON Schema that gives editors completion and help.

    Example: sectorlm schema > recipe.schema.json
    """
    from configs.docs import json_schema
    from configs.recipe import Recipe
    from configs.task import Task

    found = json_schema(Task if task else Recipe)
    return Answer(found, [json.dumps(found, indent=1, ensure_ascii=False)])


# ---------------------------------------------------------------- the way in and the way out


@app.callback()
def options(
    as_json: opt.AsJson = False,
    quiet: opt.Quiet = False,
    version: opt.Version = False,
) -> None:
    """Turn a sector's documents into a domain language model, with proof."""
    if as_json or quiet:
        from configs.progress import be_quiet

        be_quiet()


def main() -> None:
    """Run the command line and leave with the exit code of what happened."""
    from configs.answer import lead

    sys.exit(lead(app, sys.argv[1:]))


if __name__ == "__main__":
    main()
