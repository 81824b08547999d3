"""A scorecard as lm-evaluation-harness' own files: `results_DATE.json` and `samples_TASK_DATE.jsonl` below the model's name.

The layout is that of its `EvaluationTracker` (0.4.13), so that its tables, its hub viewers and scripts made for it read
ours. Two things it holds are not in a scorecard and stay empty: the prompt with its worked examples (`arg_0` is the
question as answers.jsonl keeps it), and whether an answer is the greedy one.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

from configs.results import known_task
from configs.store import HOUSE
from eval.score import LOWER_IS_BETTER, STATISTICS, columns, item_values, mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from configs.records import Scorecard
    from configs.scores import Score
    from eval.answers import Line

THEIRS = {"acc_norm": "acc_bytes"}
"""Metrics that it has under another name."""
UNITS = {"bits_per_byte": "bytes", "byte_perplexity": "bytes", "word_perplexity": "words"}
"""Metrics of likelihoods, and what they are counted by."""
NORMAL = 1.959964
"""Standard errors in half a 95 % interval of a normal distribution."""


def results_file(name: str, record: Scorecard, answers: dict[str, list[Line]]) -> tuple[str, bytes]:
    """The scores: its name below the folder of exports, and what stands in it."""
    finished = datetime.fromisoformat(record.made.finished)
    tasks = {score.task: known_task(score.task, (HOUSE,)) for score in record.scores}
    shots = record.settings.get("evaluate.shots")
    shown = {task: it.num_fewshot if shots is None else shots for task, it in tasks.items() if it is not None}
    metrics = {score.task: list(_metrics(score)) for score in record.scores}
    samples = {task: [_sample(line, metrics[task]) for line in lines] for task, lines in answers.items()}
    found = {
        "results": {score.task: _values(score, answers[score.task]) for score in record.scores},
        "group_subtasks": {},
        "configs": {
            task: {"task": task} | ({} if it is None else it.model_dump(mode="json", exclude_defaults=True))
            for task, it in sorted(tasks.items())
        },
        "versions": dict.fromkeys(sorted(tasks), 1.0),
        "n-shot": dict(sorted(shown.items())),
        "higher_is_better": {
            score.task: {_named(metric): metric not in LOWER_IS_BETTER for metric in _metrics(score)}
            for score in sorted(record.scores, key=lambda score: score.task)
        },
        "n-samples": {score.task: {"original": score.n, "effective": score.n} for score in record.scores},
        "config": {
            "model": "sectorlm",
            "model_args": f"pretrained={name}",
            "model_sha": record.model_digest,
            "model_dtype": record.engine,
            "limit": record.settings.get("evaluate.limit"),
            "bootstrap_iters": record.settings.get("evaluate.resamples"),
            "random_seed": record.settings.get("seed"),
            "fewshot_seed": record.settings.get("seed"),
        },
        "git_hash": None,
        "date": finished.timestamp() - record.made.seconds,
        "transformers_version": record.made.packages.get("transformers"),
        "lm_eval_version": None,
        "sectorlm_version": record.made.sectorlm,
        "task_hashes": {task: _hash("".join(_hashes(it) for it in lines)) for task, lines in samples.items()},
        "model_source": "sectorlm",
        "model_name": name,
        "model_name_sanitized": _folder(name),
        "total_evaluation_time_seconds": str(record.made.seconds),
    }
    text = json.dumps(found, indent=2, ensure_ascii=False)
    return f"{_folder(name)}/results_{_stamp(record)}.json", text.encode()


def samples_files(name: str, record: Scorecard, answers: dict[str, list[Line]]) -> Iterable[tuple[str, bytes]]:
    """The answers of each task."""
    for score in record.scores:
        task, metrics = score.task, list(_metrics(score))
        lines = [_sample(line, metrics) for line in answers[task]]
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        yield f"{_folder(name)}/samples_{task}_{_stamp(record)}.jsonl", text.encode()


def _values(score: Score, lines: Sequence[Line]) -> dict[str, Any]:
    """Each metric and its standard error, as its results have them."""
    found: dict[str, Any] = {"name": score.task, "alias": score.task, "sample_len": score.n}
    for metric, value in _metrics(score).items():
        error: float | str = "N/A"
        if STATISTICS.get(metric) is mean and score.clusters == len(lines) > 1:
            values = item_values(metric, columns(lines))
            middle = sum(values) / len(values)
            error = math.sqrt(sum((it - middle) ** 2 for it in values) / (len(values) - 1) / len(values))
        elif metric == score.metric:
            error = (score.high - score.low) / 2 / NORMAL
        found |= {f"{_named(metric)},none": value, f"{_named(metric)}_stderr,none": error}
    return found


def _metrics(score: Score) -> dict[str, float]:
    return {score.metric: score.value} | score.metrics


def _sample(line: Line, metrics: Sequence[str]) -> dict[str, Any]:
    """A line of answers.jsonl as a sample, with those of the metrics that one item has."""
    doc = {key: line.get(key, "") for key in ("question", "choices", "subject", "cluster", "item")}
    if "nats" in line:
        asked: dict[str, Any] = {"gen_args_0": {"arg_0": line["question"]}}
        answered: list[Any] = [str(-line["nats"])]
    elif "text" in line:
        asked = {"gen_args_0": {"arg_0": line["question"], "arg_1": {}}}
        answered = [line["text"]]
    else:
        choices = enumerate(line["choices"])
        asked = {f"gen_args_{at}": {"arg_0": line["question"], "arg_1": choice} for at, choice in choices}
        answered = [[str(likely), "None"] for likely in line["loglikelihoods"]]
    values: dict[str, Any] = {metric: [-line["nats"], line[UNITS[metric]]] for metric in metrics if metric in UNITS}
    for metric in metrics:
        if STATISTICS.get(metric) is mean:
            values[_named(metric)] = item_values(metric, columns([line]))[0]
    found: dict[str, Any] = {
        "doc_id": line["row"],
        "doc": doc,
        "target": line["target"],
        "arguments": asked,
        "resps": [[it] for it in answered],
        "filtered_resps": [line.get("answer") or "" for _ in answered] if "text" in line else answered,
        "filter": "none",
        "metrics": list(values),
        "doc_hash": line["item"],
        "prompt_hash": line["prompt"],
        "target_hash": _hash(line["target"]),
    }
    return found | values


def _hashes(sample: dict[str, Any]) -> str:
    return str(sample["doc_hash"] + sample["prompt_hash"] + sample["target_hash"])


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _named(metric: str) -> str:
    return THEIRS.get(metric, metric)


def _folder(name: str) -> str:
    """The name as a folder's, as its `sanitize_model_name` makes it."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", name)


def _stamp(record: Scorecard) -> str:
    """When the scorecard was finished, as its file names have it."""
    return record.made.finished.removesuffix("Z").replace(":", "-")
