"""Run -> Scorecards by lm-evaluation-harness: its prompts, its metrics, our scorer as its model.

`sectorlm evaluate RECIPE --engine lm-eval` asks the recipe's tasks there, with `--tasks` its own tasks by name or by file.
The scorecards lie beside those of `sectorlm evaluate`, have the same form, and can be compared with them. The version is
pinned: prompts and metrics change between versions.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, RecipeError, SectorLMError
from configs.load import load_task
from configs.progress import say
from configs.prompts import prompt_digest
from configs.records import Run, Scorecard, made_by
from configs.store import digest_file, staged, verify_files
from eval.answers import write_answers
from eval.ask import ask
from eval.pair import models_of, sessions
from eval.tally import tally
from eval.translate import gather, translate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lm_eval.api.model import LM

    from configs.job import Job
    from configs.records import Score
    from eval.answers import Line
    from eval.engine import Engine
    from eval.pair import Model
    from eval.translate import Gathered

VERSION = "0.4.13"
"""The version of lm-evaluation-harness that numbers are comparable with."""
ENGINE = f"lm-eval {VERSION}"
ALIKE = 1e-9
"""Largest difference between a metric of lm-eval's and our own on the same likelihoods."""

Tallied = tuple["Score", list["Line"]]
Way = Callable[[dict[str, Any], "Engine"], list[Tallied]]
"""Asks an engine one task, or several that lm-eval knows under one name, by the settings of a scorecard."""


def evaluate_by_lm_eval(job: Job, tasks: Sequence[str] = (), code: Sequence[str] = ()) -> list[Scorecard]:
    """Score base and tuned model by lm-eval: on the recipe's tasks, or on its own `tasks`, by name or by file.

    Tasks that run Python code of their own file are refused unless `code` names them.

    Raises:
        RecipeError: lm-eval is missing or has another version, or there is no such task.
        DataError: run, base, task or data are missing or damaged, or a data set cannot be downloaded.
        UnsafeArtefactError: a task would run code that was not allowed.
    """
    _refuse_other_version()
    run = Run.read(job.folder.run / "run.json")
    models = _models(job, run, tuple(tasks))
    wanted = [model for model in models if tasks or not model.kept()]
    if wanted:
        verify_files(job.folder.run, run.files)
        ways = _own_ways(job, tasks, code) if tasks else _our_ways(job)
        for session in sessions(job, run, wanted):
            from eval.weights import load_scorer

            engine = load_scorer(session.folder, session.adapter, seed=session.seed)
            for model in session.models:
                _scored(job.recipe.name, model, engine, ways)
    return [Scorecard.read(model.card) for model in models]


def _refuse_other_version() -> None:
    try:
        found = version("lm_eval")
    except PackageNotFoundError:
        found = ""
    if found != VERSION:
        raise RecipeError(
            f"lm_eval {found} is installed" if found else "lm-evaluation-harness is not installed",
            where="--engine lm-eval",
            hint=f"Numbers are comparable with version {VERSION}: pip install 'sectorlm[harness]'.",
        )


def _models(job: Job, run: Run, own: tuple[str, ...]) -> list[Model]:
    """Base and tuned as `sectorlm evaluate` knows them, with folders of their own; lm-eval's tasks are no inputs."""
    wish, found = job.recipe.evaluate, []
    ours = [load_task(name, job.roots)[0].task for name in (*wish.tasks, *wish.general)]
    labels = tuple(label for task in ours for label in (f"task {task}", f"rows of {task}", f"{task}: "))
    for model in models_of(job, run):
        settings, inputs = model.settings | {"engine": ENGINE}, model.inputs
        if own:
            settings |= {"evaluate.tasks": list(own), "evaluate.general": []}
            inputs = {label: digest for label, digest in inputs.items() if not label.startswith(labels)}
        folder = job.folder.root / folder_of(own) / model.which
        found.append(replace(model, folder=folder, settings=settings, inputs=inputs))
    return found


def folder_of(own: Sequence[str]) -> str:
    """Where the scorecards lie in a run folder: those of lm-eval's own tasks apart."""
    return "lm-eval-own" if own else "lm-eval"


def _our_ways(job: Job) -> list[Way]:
    wish, seed = job.recipe.evaluate, job.recipe.seed
    names = dict.fromkeys((*wish.tasks, *wish.general))
    return [partial(ask_ours, gather(name, ask(name, job.roots, wish, seed), job.roots)) for name in names]


def _own_ways(job: Job, tasks: Sequence[str], code: Sequence[str]) -> list[Way]:
    from eval.harness_own import ask_own, load_own

    return [partial(ask_own, loaded) for loaded in load_own(tasks, job.roots, code)]


def _scored(name: str, model: Model, engine: Engine, ways: Sequence[Way]) -> None:
    """Ask one model everything and write its scorecard, record last."""
    started, before = time.monotonic(), engine.tokens
    say(f"{ENGINE}: {model.which}")
    with engine.using(model.which):
        found = [pair for way in ways for pair in way(model.settings, engine)]
    with staged(model.folder) as staging:
        write_answers(staging / "answers.jsonl", [line for _, lines in found for line in lines])
        record = Scorecard(
            name=name,
            settings=model.settings,
            inputs=model.inputs,
            files={"answers.jsonl": digest_file(staging / "answers.jsonl")},
            made=made_by("eval", started),
            model=model.which,
            model_digest=model.digest,
            engine=f"{ENGINE}, {engine.engine}",
            scores=tuple(score for score, _ in found),
            tokens=engine.tokens - before,
            seconds=round(time.monotonic() - started, 3),
        )
        record.write(staging / "scorecard.json")


# ---------------------------------------------------------------- one task of ours


def ask_ours(gathered: Gathered, settings: dict[str, Any], engine: Engine) -> list[Tallied]:
    """One task of ours by lm-eval: its score, and a line for each item."""
    from eval.harness_model import OurModel
    from eval.harness_task import OurTask

    task, items = gathered.task, [item for item, _ in gathered.asked]
    ready = translate(task, gathered.asked, gathered.shown)
    if ready.finished:
        say(
            f"  {task.task}: {', '.join(ready.finished)} handed over as finished text, since lm-eval reads it otherwise"
        )
    chat = settings["chat"] and any(item.text for item in items)
    model, there = OurModel(engine, budget=settings["evaluate.batch_tokens"], chat=chat), OurTask(task, ready, items)
    results = run_there(model, {"tasks": {task.task: there}}, chat=chat)["results"][task.task]
    lines = []
    for place, (line, item) in enumerate(zip(there.lines, items, strict=True)):
        asked = model.asked[task.task, place]
        prompt = prompt_digest(item, asked.branches)
        lines.append(line | {"question": short(item.text), "truncated": asked.truncated, "prompt": prompt})
    score = tally(task, lines, gathered.baselines, seed=settings["seed"], resamples=settings["evaluate.resamples"])
    theirs: dict[str, float] = {ours: float(results[f"{native.metric},none"]) for ours, native in there.native.items()}
    theirs |= {ours: float(results[f"{ours},none"]) for ours in there.own}
    for metric, value in theirs.items():
        if abs(value - score.metrics[metric]) > ALIKE * max(1.0, abs(value)):
            say(f"  {task.task}: {metric} is {value:.6f} by lm-eval and {score.metrics[metric]:.6f} by us")
    metrics = {name: theirs[name] for name in score.metrics}
    return [(score.model_copy(update={"metrics": metrics, "value": metrics[score.metric]}), lines)]


def run_there(model: LM, tasks: dict[str, Any], *, chat: bool = False, limit: int | None = None) -> dict[str, Any]:
    """What `lm_eval.evaluator.evaluate` finds; its warnings about keys that are left out are not shown.

    Raises:
        DataError: it stopped, most often for a key whose value it does not know.
    """
    from lm_eval.evaluator import evaluate

    how = {"apply_chat_template": chat, "fewshot_as_multiturn": False}
    try:
        with _hushed():
            found: dict[str, Any] = evaluate(model, tasks, bootstrap_iters=0, limit=limit, log_samples=True, **how)
    except SectorLMError:
        raise
    except Exception as error:  # whatever a task of its own makes it stumble over
        told = (str(error).strip().splitlines() or [""])[0]
        raise DataError(
            f"lm-eval stopped ({type(error).__name__}: {told})",
            where=", ".join(tasks.get("tasks", tasks)),
            hint="Look at the task's metric_list and filter_list: this version may not know a name there.",
        ) from error
    return found


@contextmanager
def _hushed() -> Iterator[None]:
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def short(text: str, most: int = 2000) -> str:
    """The beginning and the end of a long question."""
    return text if len(text) <= most else f"{text[: most // 2]} […] {text[-most // 2 :]}"
