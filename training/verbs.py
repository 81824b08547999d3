"""The verbs of training beside its stage: what a run would need, where it runs, and several runs beside one another.

The front door's own page is `sectorlm.py`; this one is a part of it, and as light: nothing is imported before a verb needs it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from configs import options as opt
from configs.answer import Answer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import typer


def before_a_run(app: typer.Typer) -> None:
    """Add the verbs that say what a run would need."""
    app.command()(plan)
    app.command()(launch)


def several_runs(app: typer.Typer) -> None:
    """Add the verbs about several runs."""
    for verb in (merge, sweep, pilot):
        app.command()(verb)


def plan(
    recipe: opt.RecipeFile,
    *,
    sets: opt.Sets = opt.NO_SETS,
    runs: opt.Runs = opt.RUNS,
    gpu: opt.Gpu = "",
    gpus: opt.Gpus = 1,
    price: opt.Price = None,
    probe: opt.Probe = False,
) -> Answer:
    """Say what a run would do: tokens, steps, memory and whether it fits, hours, cost, disk.

    Example: sectorlm plan finance.yaml --gpu h100 --gpus 8 --price 2.5
    """
    from configs.stages import open_job
    from configs.view import figures
    from training.plan import Asked, readable
    from training.plan import plan as planned
    from training.rates import machine_of

    sections = planned(open_job(recipe, sets, runs), Asked(machine_of(gpu, gpus, price), probe))
    return Answer(sections, [figures(readable(sections))])


def launch(  # noqa: PLR0913 - every option of the verb is an argument of its function
    recipe: opt.RecipeFile,
    *,
    to: opt.Target,
    nodes: opt.Nodes = 1,
    gpus: opt.GpusPerNode = 1,
    gpu: opt.AnyGpu = "",
    time: opt.TimeLimit = "24:00:00",
    image: opt.Image = "",
    volume: opt.Claim = "sectorlm",
    out: opt.OutFolder = Path(),
    force: opt.Force = False,
    sets: opt.Sets = opt.NO_SETS,
    runs: opt.Runs = opt.RUNS,
) -> Answer:
    """Write the files that start training on a cluster: a Slurm script, a Kubeflow TrainJob, a SkyPilot task.

    Example: sectorlm launch finance.yaml --to slurm --nodes 2 --gpus 8 --gpu h100
    """
    from configs.stages import open_job
    from training.launch import Asked, next_step, write
    from training.launch import launch as launched

    job = open_job(recipe, sets, runs)
    asked = Asked(to, nodes, gpus, gpu, time, image, volume, sets)
    written = [f"{path}" for path in write(launched(job.recipe, recipe, runs, asked), out, force=force)]
    lines = [f"wrote {path}" for path in written]
    return Answer({"files": written}, [*lines, next_step(recipe, runs, asked, written[0])])


def merge(adapters: opt.Adapters, out: opt.Out, rank: opt.Rank = 0, weights: opt.Weights = "tokens") -> Answer:
    """Combine the adapters of several sites, trained on the same base, into one; no data is needed.

    The weighted sum of their changes is kept exactly, as stacked factors. There is no switch that averages the factors
    instead: mean(B) mean(A) is not the mean of B A, and the answer says by how much it would be off.

    Example: sectorlm merge runs/north runs/south runs/west --out runs/all/run
    """
    from configs.view import Found, record_view
    from training.combine import combine, summary

    record = combine(adapters, out, rank or None, weights)
    told, lines = summary(out)
    return Answer(record.model_dump(mode="json") | told, [record_view(Found(out / "run.json", record)), *lines])


def sweep(recipe: opt.RecipeFile, sets: opt.Sets = opt.NO_SETS, runs: opt.Runs = opt.RUNS) -> Answer:
    """Train all combinations of the settings in `sweep:` on one corpus, and compare them; resumes where it was stopped.

    Example: sectorlm sweep finance.yaml --set 'sweep={train.learning_rate: [1e-4, 2e-4], train.rank: [8, 16]}'
    """
    return _several("sweep", recipe, sets, runs)


def pilot(recipe: opt.RecipeFile, sets: opt.Sets = opt.NO_SETS, runs: opt.Runs = opt.RUNS) -> Answer:
    """Train on small parts of the data, and predict what the whole run buys and how long it takes.

    Example: sectorlm pilot finance.yaml --set 'pilot.parts=[0.05, 0.1, 0.25]'
    """
    return _several("pilot", recipe, sets, runs)


def _several(kind: str, recipe: Path, sets: Sequence[str], runs: Path) -> Answer:
    """Several runs on one corpus; the folder of each gets the recipe that makes it."""
    from configs.emit import keeping_recipe
    from configs.stages import load_page, open_job, working

    job = open_job(recipe, sets, runs)
    with working(job, "train", recipe, sets):
        work = getattr(load_page(f"training.{kind}"), kind)
        found = work(job, keeping_recipe(load_page("training.train").train, recipe, sets))
    return Answer(found.as_json(), found.shown())
