"""Run -> Scorecards by lm-evaluation-harness: its prompts, its metrics, our scorer as its model.

`sectorlm evaluate RECIPE --engine lm-eval` asks the recipe's tasks there, with `--tasks` its own tasks by name or by file.
The scorecards lie beside those of `sectorlm evaluate`, have the same form, and can be compared with them. The version is
pinned: prompts and metrics change between versions.
"""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.base import base_digest, base_folder, tokenizer_digest
from configs.errors import RecipeError
from configs.items import split_files
from configs.load import load_task
from configs.progress import say
from configs.read import digest_files
from configs.records import Run, Scorecard, flat, made_by
from configs.store import digest_file, digest_json, staged, verify_files
from configs.vocabulary import base_of
from eval.answers import write_answers
from eval.baselines import baselines
from eval.tally import tally
from eval.translate import gather, translate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from lm_eval.api.model import LM

    from configs.job import Job
    from configs.records import Score
    from eval.answers import Line
    from eval.engine import Engine
    from eval.translate import Gathered

VERSION = "0.4.13"
"""The version of lm-evaluation-harness that numbers are comparable with."""
ENGINE = f"lm-eval {VERSION}"
ALIKE = 1e-9
"""Largest difference between a metric of lm-eval's and our own on the same likelihoods."""

Tallied = tuple["Score", list["Line"]]


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
    verify_files(job.folder.run, run.files)
    wish, seed = job.recipe.evaluate, job.recipe.seed
    ways: list[Callable[[Engine], list[Tallied]]]
    if tasks:
        from eval.harness_own import ask_own, load_own

        ways = [partial(ask_own, wish, seed, loaded) for loaded in load_own(tasks, job.roots, code)]
    else:
        names = dict.fromkeys((*wish.tasks, *wish.general))
        ways = [partial(_ask_ours, job, gather(name, job.roots, wish, seed)) for name in names]
    asking = Asking(job, run, ways, tuple(tasks))
    return [_scored(asking, which, engine) for which, engine in _opened(job, run)]


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


def _opened(job: Job, run: Run) -> Iterator[tuple[str, Engine]]:
    """Base and tuned model; with an adapter on one copy of the weights, unless the vocabulary grew."""
    from eval.weights import load_scorer

    tokens = run.method != "scratch"
    published, folder = base_folder(job.recipe.base, job.roots, weights=tokens), base_of(job, weights=tokens)
    weights = job.folder.run / run.weights
    adapted = run.weights == "adapter"
    if adapted and published == folder:
        scorer = load_scorer(folder, weights)
        yield from (("base", scorer), ("tuned", scorer))
        return
    yield "base", load_scorer(published, seed=job.recipe.seed)
    yield "tuned", load_scorer(folder, weights) if adapted else load_scorer(weights, seed=job.recipe.seed)


class Asking(NamedTuple):
    """What both models are asked, and where the scorecards go."""

    job: Job
    run: Run
    ways: list[Callable[[Engine], list[Tallied]]]
    """Each asks one task, or several that lm-eval knows under one name."""
    own: tuple[str, ...]
    """Names of lm-eval's own tasks."""

    @property
    def folder(self) -> Path:
        """Beside the scorecards of `sectorlm evaluate`."""
        return self.job.folder.root / ("lm-eval-own" if self.own else "lm-eval")


def _scored(asking: Asking, which: str, engine: Engine) -> Scorecard:
    """Ask one model everything and write its scorecard, record last."""
    started, before, (job, run, ways, own) = time.monotonic(), engine.tokens, asking
    tokens = run.method != "scratch"
    base = base_digest(base_folder(job.recipe.base, job.roots, weights=tokens))
    say(f"{ENGINE}: {which}")
    with engine.using(which):
        found = [pair for way in ways for pair in way(engine)]
    settings = flat(job.recipe.evaluate, "evaluate") | {"seed": job.recipe.seed, "chat": _chat(job), "engine": ENGINE}
    if own:
        settings |= {"evaluate.tasks": list(own), "evaluate.general": []}
    inputs = {f"base {job.recipe.base}": base, "tokenizer": tokenizer_digest(base_of(job, weights=tokens))}
    if which == "tuned":
        inputs["tuned weights"] = run.weights_digest
    with staged(asking.folder / which) as staging:
        write_answers(staging / "answers.jsonl", [line for _, lines in found for line in lines])
        record = Scorecard(
            name=job.recipe.name,
            settings=settings,
            inputs=inputs | ({} if own else _tasks(job)),
            files={"answers.jsonl": digest_file(staging / "answers.jsonl")},
            made=made_by("eval", started),
            model=which,
            model_digest=base if which == "base" else digest_json([base, run.weights_digest]),
            engine=f"{ENGINE}, {engine.engine}",
            scores=tuple(score for score, _ in found),
            tokens=engine.tokens - before,
            seconds=round(time.monotonic() - started, 3),
        )
        record.write(staging / "scorecard.json")
    return record


def _tasks(job: Job) -> dict[str, str]:
    """The digests of the recipe's tasks and of their files."""
    wish, inputs = job.recipe.evaluate, {}
    for name in dict.fromkeys((*wish.tasks, *wish.general)):
        task, roots = load_task(name, job.roots)
        inputs[f"task {task.task}"] = digest_json(task.model_dump(mode="json"))
        files = [
            file for split in (task.test_split, task.fewshot_split) if split for file in split_files(task, split, roots)
        ]
        inputs |= {f"{task.task}: {label}": digest for label, digest in digest_files(files, roots).items()}
    return inputs


def _chat(job: Job) -> bool:
    """Whether questions are asked as a user's turn, as the recipe's own were in training."""
    return job.recipe.prepare.form == "chat" and any(source.text is None for source in job.recipe.corpora)


# ---------------------------------------------------------------- one task of ours


def _ask_ours(job: Job, gathered: Gathered, engine: Engine) -> list[Tallied]:
    """One task of ours by lm-eval: its score, and a line for each item."""
    from eval.harness_model import OurModel
    from eval.harness_task import OurTask

    task, items = gathered.task, [item for item, _ in gathered.asked]
    ready = translate(task, gathered.asked, gathered.shown)
    if ready.finished:
        say(
            f"  {task.task}: {', '.join(ready.finished)} handed over as finished text, since lm-eval reads it otherwise"
        )
    chat = _chat(job) and any(item.text for item in items)
    model, there = OurModel(engine, budget=job.recipe.evaluate.batch_tokens, chat=chat), OurTask(task, ready, items)
    results = run_there(model, {"tasks": {task.task: there}}, chat=chat)["results"][task.task]
    lines = [
        line
        | {
            "question": short(item.text),
            "truncated": asked.truncated,
            "prompt": digest_json([item.digest, asked.branches]),
        }
        for place, (line, item) in enumerate(zip(there.lines, items, strict=True))
        if (asked := model.asked[task.task, place])
    ]
    plain = baselines(task, items, gathered.pool, job.recipe.seed)
    score = tally(task, lines, plain, seed=job.recipe.seed, resamples=job.recipe.evaluate.resamples)
    theirs: dict[str, float] = {ours: float(results[f"{native.metric},none"]) for ours, native in there.native.items()}
    theirs |= {ours: float(results[f"{ours},none"]) for ours in there.own}
    for metric, value in theirs.items():
        if abs(value - score.metrics[metric]) > ALIKE * max(1.0, abs(value)):
            say(f"  {task.task}: {metric} is {value:.6f} by lm-eval and {score.metrics[metric]:.6f} by us")
    metrics = {name: theirs[name] for name in score.metrics}
    return [(score.model_copy(update={"metrics": metrics, "value": metrics[score.metric]}), lines)]


def run_there(
    model: LM, tasks: dict[str, Any], *, chat: bool = False, resamples: int = 0, **more: Any
) -> dict[str, Any]:
    """What `lm_eval.evaluator.evaluate` finds; its warnings about keys that are left out are not shown."""
    from lm_eval.evaluator import evaluate

    with _hushed():
        found: dict[str, Any] = evaluate(
            model,
            tasks,
            bootstrap_iters=resamples,
            log_samples=True,
            apply_chat_template=chat,
            fewshot_as_multiturn=False,
            **more,
        )
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
