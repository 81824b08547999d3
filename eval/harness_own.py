"""Tasks of lm-evaluation-harness' own, by name or by a YAML file of its form, with our scorer as the model.

Prompts, filters and metrics are all its own. What it counts item by item becomes a line like those of answers.jsonl, so
that two models are compared item by item here too.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from configs.errors import DataError, RecipeError, UnsafeArtefactError, did_you_mean
from configs.progress import say
from configs.records import Score
from configs.store import digest_json
from eval.harness import run_there, short
from eval.harness_model import OurModel
from eval.score import STATISTICS, columns, sums_of
from eval.stats import Interval, bootstrap, generator, wilson

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eval.answers import Line
    from eval.engine import Engine

FEWSHOT_SEED = 1234
"""The seed that draws worked examples where lm-eval's own command is given none (`lm_eval.defaults`)."""
DRAWS = 1000
"""Resamples where one of lm-eval's own ways to sum up gives the value: it is asked anew for each."""
LENGTHS = {"byte_perplexity": "bytes", "bits_per_byte": "bytes", "word_perplexity": "words"}
"""Its metrics of whole texts, and what they are counted by."""


SAME = frozenset({"mcc", *LENGTHS})
"""Its metrics over all items that are ours to the last digit. Another of one name is not: its chrF goes from 0 to 100."""


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
                "lm-eval has no such task",
                where=name,
                hint=f"{near} Or give the path of a YAML file of its form.".strip(),
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
                    "the task runs code that the model wrote",
                    where=task_name,
                    hint=f"If it may run: --allow-code {name}.",
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


def ask_own(loaded: dict[str, Any], settings: dict[str, Any], engine: Engine) -> list[tuple[Score, list[Line]]]:
    """Every task below one name: its score, and a line for each item."""
    tasks, limit, shots = loaded["tasks"], settings["evaluate.limit"], settings["evaluate.shots"]
    for name, task in tasks.items():
        if shots is not None:
            task.set_config(key="num_fewshot", value=shots)
        if limit is not None and limit < len(task.eval_docs):
            say(f"  {name}: the first {limit} of {len(task.eval_docs)} items")
    metrics = {metric for task in tasks.values() for metric in task.aggregation()}
    greedy = "exact_match" in metrics or any(task.OUTPUT_TYPE == "loglikelihood" for task in tasks.values())
    model = OurModel(engine, budget=settings["evaluate.batch_tokens"], greedy=greedy)
    found = run_there(model, loaded, limit=limit)
    for name, group in found.get("groups", {}).items():
        say(f"  {name}: {', '.join(f'{key} {value:.4f}' for key, value in group.items() if _is_value(key, value))}")
    return [
        _told(name, task, found, model, (settings["evaluate.resamples"], settings["seed"]))
        for name, task in tasks.items()
    ]


def _told(
    name: str, task: Any, found: dict[str, Any], model: OurModel, draws: tuple[int, int]
) -> tuple[Score, list[Line]]:
    """One task: its first metric that is counted item by item, by its first filter; `draws` are resamples and seed."""
    results = found["results"][name]
    keys = [key for key, value in results.items() if _is_value(key, value)]
    filtered = keys[0].partition(",")[2]
    samples = [sample for sample in found["samples"][name] if sample["filter"] == filtered]
    metrics = {
        metric if way == filtered else key: float(results[key])
        for key in keys
        for metric, _, way in [key.partition(",")]
    }
    by_item = [metric for metric in metrics if _counted(metric, metrics[metric], samples)]
    first = next(iter([*by_item, *(metric for metric in metrics if metric in LENGTHS), *metrics]))
    lines = [
        _line(task, name, sample, model) | {"values": {it: float(sample[it]) for it in by_item}} for sample in samples
    ]
    if first in by_item or first in LENGTHS:
        interval, alone = _interval(first, lines, draws)
    else:
        summed = partial(_summed, task.aggregation()[first], [sample[first] for sample in samples])
        interval, alone = _drawn(metrics[first], summed, len(samples), draws[1]), False
    score = Score(
        task=name,
        metric=first if first in by_item or first not in STATISTICS or first in SAME else f"{first} of lm-eval",
        value=metrics[first],
        low=interval.low,
        high=interval.high,
        n=len(lines),
        clusters=len({line["cluster"] for line in lines}),
        truncated=sum(line["truncated"] for line in lines),
        metrics=metrics,
        higher_is_better=bool(task.higher_is_better().get(first, True)),
        interval="wilson" if alone else "bootstrap",
    )
    return score, lines


def _is_value(key: str, value: Any) -> bool:
    """Whether an entry of its results is a metric's value."""
    return "," in key and "_stderr," not in key and isinstance(value, int | float)


def _counted(metric: str, value: float, samples: Sequence[dict[str, Any]]) -> bool:
    """Whether a metric is the mean of one number for each item."""
    own = [sample.get(metric) for sample in samples]
    numbers = [float(it) for it in own if isinstance(it, bool | int | float)]
    return len(numbers) == len(own) and math.isclose(sum(numbers) / len(own), value, abs_tol=1e-9)


def _interval(metric: str, lines: Sequence[Line], draws: tuple[int, int]) -> tuple[Interval, bool]:
    """The interval of what is counted item by item, and whether it is Wilson's."""
    counted = [line["values"][metric] for line in lines if metric in line["values"]]
    alone = len({line["cluster"] for line in lines}) == len(lines)
    if counted and alone and set(counted) <= {0.0, 1.0}:
        return wilson(int(sum(counted)), len(counted)), True
    sums_CD, _ = sums_of(metric, columns(lines), ())
    resamples, seed = draws
    return bootstrap(sums_CD, STATISTICS[metric], resamples, generator(seed, f"interval {metric}")), False


def _summed(way: Callable[[list[Any]], float], counted: Sequence[Any], rows: Sequence[int]) -> float:
    return float(way([counted[row] for row in rows]))


def _drawn(value: float, summed: Callable[[Sequence[int]], float], n: int, seed: int) -> Interval:
    """The percentile interval of a value over items drawn again (Efron and Tibshirani 1993, chapter 13)."""
    rows_RN = generator(seed, "interval of another's value").integers(0, n, (DRAWS, n))
    low, high = np.quantile([summed(rows_N.tolist()) for rows_N in rows_RN], [0.025, 0.975])
    return Interval(value, float(low), float(high))


def _line(task: Any, name: str, sample: dict[str, Any], model: OurModel) -> Line:
    """A line like those of answers.jsonl."""
    asked = model.asked[name, int(sample["doc_id"])]
    arguments, results = sample["arguments"], [responses[0] for responses in sample["resps"]]
    target = sample["target"]
    line: Line = {
        "task": name,
        "row": int(sample["doc_id"]),
        "item": digest_json([int(sample["doc_id"]), sample["doc_hash"], sample["target_hash"]]),
        "cluster": sample["doc_hash"],
        "subject": "",
        "question": short(str(arguments[0][0])),
        "choices": [],
        "target": str(target),
        "truncated": asked.truncated,
        "prompt": digest_json([sample["doc_hash"], asked.branches]),
    }
    if task.OUTPUT_TYPE == "loglikelihood_rolling":
        units = {unit: int(sample[metric][1]) for metric, unit in LENGTHS.items() if metric in sample}
        return line | {"nats": round(-results[0], 6)} | units
    if task.OUTPUT_TYPE == "generate_until":
        given = sample["filtered_resps"][0]
        return line | {"answer": str(given[0] if isinstance(given, list) and given else given), "text": str(results[0])}
    choices = [str(argument[1]).strip() for argument in arguments]
    likely = [round(float(value), 6) for value, _ in results]
    if isinstance(target, int) and 0 <= target < len(choices):
        line["target"] = choices[target]
    best = choices[likely.index(max(likely))]
    return line | {"choices": choices, "answer": best, "loglikelihoods": likely}
