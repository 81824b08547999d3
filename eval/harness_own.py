"""Tasks of lm-evaluation-harness' own, by name or by a YAML file of its form, with our scorer as the model.

Prompts, filters and metrics are all its own. What it counts item by item becomes a line like those of answers.jsonl, so
that two models are compared item by item here too.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from configs.errors import DataError, RecipeError, UnsafeArtefactError, did_you_mean
from configs.progress import say
from configs.records import Score
from configs.store import digest_json
from eval.harness import run_there, short
from eval.harness_model import OurModel
from eval.stats import Interval, bootstrap, generator, wilson

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from configs.recipe import Evaluate
    from eval.answers import Line
    from eval.engine import Engine

FEWSHOT_SEED = 1234
"""The seed that draws worked examples where lm-eval's own command is given none (`lm_eval.defaults`)."""
NORMAL = 1.959964
"""Standard errors in half a 95 % interval of a normal distribution."""
ERRORS = 1000
"""Resamples of its own standard errors, where it has to draw them."""
LENGTHS = {"byte_perplexity": "bytes", "bits_per_byte": "bytes", "word_perplexity": "words"}
"""Its metrics of whole texts, and what they are counted by."""


def load_own(names: Sequence[str], roots: tuple[Path, ...], code: Sequence[str]) -> list[dict[str, Any]]:
    """The tasks and groups of each name, as lm-eval's own manager loads them.

    Raises:
        RecipeError: it has no such task, or the file is none.
        DataError: a task's data set cannot be downloaded or read.
        UnsafeArtefactError: a task would run code that was not allowed.
    """
    from lm_eval.tasks import TaskManager

    files = {name: found for name in names if (found := _file(name, roots)) is not None}
    for name, file in files.items():
        if name not in code and file.stem not in code and (line := _names_code(file)):
            raise UnsafeArtefactError(
                f"the task would run Python code ({line})",
                where=str(file),
                hint=f"Read the code. If it may run: --allow-code {file.stem}.",
            )
    by_name = [name for name in names if name not in files]
    manager = TaskManager(include_defaults=bool(by_name))
    for name in by_name:
        if name not in manager.all_tasks:
            near = did_you_mean(name, manager.all_tasks)
            raise RecipeError(
                "lm-eval has no such task", where=name, hint=f"{near} Or give the path of a YAML file of its form.".strip()
            )
    loaded = []
    for name in names:
        try:
            found = manager.load([str(files.get(name, name))])
        except Exception as error:  # datasets, huggingface_hub, yaml and its own code each raise their own kinds
            raise _unread(name, error) from error
        for task_name, task in found["tasks"].items():
            if getattr(task, "UNSAFE_CODE", False) and name not in code:
                raise UnsafeArtefactError(
                    "the task runs code that the model wrote", where=task_name, hint=f"If it may run: --allow-code {name}."
                )
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=FEWSHOT_SEED)
        loaded.append(dict(found))
    return loaded


def _file(name: str, roots: tuple[Path, ...]) -> Path | None:
    """The YAML file of this name, as it is given or below one of the roots."""
    if not name.endswith((".yaml", ".yml")):
        return None
    places = [place for place in (Path(name), *(root / name for root in roots)) if place.is_file()]
    if not places:
        raise RecipeError("no such file", where=name, hint="Give the path of a YAML file of lm-eval's form.")
    return places[0]


def _names_code(file: Path) -> str:
    """The first place of a task file, or of a file that it includes, that names Python code."""
    seen: set[Path] = set()
    waiting = [file.resolve()]
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        try:
            tree = yaml.compose(path.read_text("utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise RecipeError(f"not YAML ({error})", where=str(path)) from error
        for key, node in _nodes(tree):
            if node.tag == "!function" or key in ("class", "unsafe_code", "custom_dataset"):
                return f"{path.name}: {key} {node.value}"
            if key == "include":
                waiting.append((path.parent / str(node.value)).resolve())
    return ""


def _nodes(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a YAML tree with the key that it stands under."""
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            yield from _nodes(value, str(name.value))
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from _nodes(value, key)
    elif node is not None:
        yield key, node


def _unread(name: str, error: Exception) -> DataError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return DataError(
        f"lm-eval cannot load the task ({lines[0]})",
        where=name,
        hint="Its data set comes from the Hugging Face hub: check the network with `sectorlm doctor`, and HF_HUB_OFFLINE.",
    )


# ---------------------------------------------------------------- asking


def ask_own(wish: Evaluate, seed: int, loaded: dict[str, Any], engine: Engine) -> list[tuple[Score, list[Line]]]:
    """Every task below one name: its score, and a line for each item."""
    tasks = loaded["tasks"]
    for name, task in tasks.items():
        if wish.shots is not None:
            task.set_config(key="num_fewshot", value=wish.shots)
        if wish.limit is not None and wish.limit < len(task.eval_docs):
            say(f"  {name}: the first {wish.limit} of {len(task.eval_docs)} items")
    metrics = {metric for task in tasks.values() for metric in task.aggregation()}
    greedy = "exact_match" in metrics or any(task.OUTPUT_TYPE == "loglikelihood" for task in tasks.values())
    model = OurModel(engine, budget=wish.batch_tokens, greedy=greedy)
    found = run_there(model, loaded, resamples=ERRORS, limit=wish.limit)
    told = []
    for name, task in tasks.items():
        metric, filtered = next(iter(_metrics(found["results"][name])))
        samples = [sample for sample in found["samples"][name] if sample["filter"] == filtered]
        lines = [_line(name, sample, model) for sample in samples]
        low, high, how = _interval(found["results"][name], (metric, filtered), samples, seed, wish.resamples)
        told.append((_score(name, task, found["results"][name], (metric, filtered)), lines))
    return told
