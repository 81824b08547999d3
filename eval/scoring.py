"""Any model on any task, outside of a recipe: one scorecard folder for each model.

    OUT/NAME/scorecard.json    answers.jsonl

The loop is that of `sectorlm evaluate`: the same prompts, the same keeping and resuming, and a scorecard that compares with
those of runs.
"""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import RecipeError
from configs.load import load_task
from configs.progress import say
from configs.recipe import Evaluate
from configs.records import Scorecard, flat
from configs.store import HOUSE, RunFolder
from configs.view import table
from eval.answering import answer
from eval.ask import ask
from eval.models import given, refuse_same_names
from eval.pair import Model, task_inputs
from eval.words import NAMES, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rich.table import Table

    from configs.records import Score
    from configs.task import Task
    from eval.models import Given


NAME = "scorecards"
"""Of the recipe, in their records: they have none."""
ENGINES = ("here", "vllm")
"""What computes the answers of a local model: this process, or vLLM."""


class Asked(NamedTuple):
    """What the command line asks for."""

    words: Sequence[str]
    """The models."""
    tasks: str
    """Names of tasks or paths of task files, by commas."""
    out: Path
    data: Sequence[Path] = ()
    """Folders that the tasks' files are looked for in."""
    adapters: Sequence[Path] = ()
    chat: bool = False
    """Ask by the chat template."""
    seed: int = 17
    engine: str = "here"
    tokenizer: str = ""
    """Of the models behind servers."""
    settings: dict[str, Any] = {}  # noqa: RUF012 - it is read only
    """Settings of `evaluate` that differ from their defaults: shots, limit."""


def score(asked: Asked) -> list[Scorecard]:
    """Score every model on every task; a scorecard is kept if nothing that matters to it changed.

    Tasks whose sector is `general` are the panel, as in a recipe, unless there are no others.

    Raises:
        RecipeError: no task or no such task, two models of one name, or a model that cannot do what a task asks.
        DataError: a model, an adapter, a task or its data are missing, damaged, or do not belong together.
        UnsafeArtefactError: weights are not in safetensors.
        LockedError: another process works in the folder.
    """
    if asked.engine not in ENGINES:
        raise RecipeError(f"no engine {asked.engine!r}", where="--engine", hint=f"Known: {', '.join(ENGINES)}.")
    roots = (*(folder.resolve() for folder in (asked.out.cwd(), *asked.data)), HOUSE)
    tasks = _tasks(asked.tasks, roots)
    general = tuple(name for name, task in tasks.items() if task.metadata.sector == "general")
    sector = tuple(name for name in tasks if name not in general)
    wish = Evaluate(tasks=sector or general, general=general if sector else (), **asked.settings)
    found = _models(asked, roots)
    _refuse_what_cannot_be_asked(found, tasks)
    settings = flat(wish, "evaluate") | {"seed": asked.seed, "chat": asked.chat}
    with RunFolder(asked.out).lock():
        inputs = task_inputs(wish, roots)
        models = [Model(it.name, asked.out / it.name, it.digest, settings, it.inputs | inputs) for it in found]
        wanted = [place for place, model in enumerate(models) if not model.kept()]
        if wanted:
            questions = [ask(name, roots, wish, asked.seed) for name in dict.fromkeys((*wish.tasks, *wish.general))]
            for together in _together(found, wanted):
                say(f"asking {' and '.join(found[place].name for place in together)}")
                sided = [replace(models[place], side="tuned" if found[place].adapter else "base") for place in together]
                answer(NAME, sided, found[together[-1]].open(), questions)
                gc.collect()  # a model is a circle of references, and the next one needs its memory
        return [Scorecard.read(model.card) for model in models]


def _together(found: Sequence[Given], wanted: Sequence[int]) -> Iterator[list[int]]:
    """Places of models that share one copy of the weights: a base with the first of its adapters, all others alone."""
    left = list(wanted)
    while left:
        first = left.pop(0)
        base = found[first].base
        alike = [place for place in left if base is not None and found[place].base == base]
        other = next((it for it in alike if bool(found[it].adapter) != bool(found[first].adapter)), None)
        if other is None:
            yield [first]
            continue
        left.remove(other)
        yield sorted((first, other), key=lambda place: bool(found[place].adapter))  # what is opened has the adapter


def _tasks(names: str, roots: tuple[Path, ...]) -> dict[str, Task]:
    """The tasks by the names that they were given by.

    Raises:
        RecipeError: there are none, or no such task.
    """
    words = dict.fromkeys(filter(None, map(str.strip, names.split(","))))
    if not words:
        raise RecipeError("no task to score on", where="--tasks", hint="For example: --tasks fpb,cmmlu_finance")
    return {name: load_task(name, roots)[0] for name in words}


def score_table(cards: Sequence[Scorecard]) -> Table:
    """All values with their intervals: a row for each task, a column for each model."""
    rows = []
    for score in cards[0].scores:
        row: dict[str, Any] = {
            "task": score.task.replace("_", " "),
            "metric": NAMES.get(score.metric, score.metric),
            "n": score.n,
        }
        for card in cards:
            one = next(it for it in card.scores if it.task == score.task)
            row[card.model] = " ".join((shown(one.metric, one.value), _interval(one), *_counted(one)))
        rows.append(row)
    return table("scores with 95 % intervals", rows, wide=True)


def _interval(one: Score) -> str:
    return f"({shown(one.metric, one.low)} to {shown(one.metric, one.high)})"


def _counted(one: Score) -> Iterator[str]:
    """How many answers could not be read, and how many prompts lost their beginning, where there are some."""
    if one.invalid:
        yield f"{100 * one.invalid:.0f} % invalid"
    if one.truncated:
        yield f"{one.truncated:,} truncated"


def _models(asked: Asked, roots: tuple[Path, ...]) -> list[Given]:
    """The models in the order of the command line, behind servers and here."""
    far = [word for word in asked.words if word.startswith(("http://", "https://"))]
    if far:
        from eval.endpoint import endpoint

    here = [word for word in asked.words if word not in far]
    local = iter(given(here, asked.adapters, roots, asked.engine) if here or asked.adapters else ())
    found = [
        endpoint(word, roots, asked.tokenizer, chat=asked.chat) if word in far else next(local) for word in asked.words
    ]
    found += local  # the only model with each of its adapters
    refuse_same_names([one.name for one in found])
    return found


def _refuse_what_cannot_be_asked(found: Sequence[Given], tasks: dict[str, Task]) -> None:
    """Before anything is asked: a model that only writes has no answer to multiple choice and to passages."""
    chosen = [name for name, task in tasks.items() if task.output_type != "generate_until"]
    writers = [one.name for one in found if not one.likely]
    if chosen and writers:
        raise RecipeError(
            f"{writers[0]} gives no log-likelihoods of texts, which {', '.join(chosen)} are scored by",
            where="score",
            hint="Ask it tasks whose output_type is generate_until, or score the weights themselves.",
        )
