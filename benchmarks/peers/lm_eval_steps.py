"""lm-evaluation-harness as its users call it, with a counter at the model's door and a clock around the evaluation."""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lm_eval
import yaml
from door import Door
from lm_eval.models.huggingface import HFLM

OURS = ("columns", "records", "where", "keys", "cluster", "subject", "metadata", "until", "max_gen_toks")
"""Keys of a task that lm-evaluation-harness does not have."""


def task_of(path: Path) -> dict[str, Any]:
    """The task with the keys that lm-evaluation-harness knows."""
    task: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))
    if task["output_type"] == "generate_until":
        task["generation_kwargs"] = {
            "until": task["until"],
            "max_gen_toks": task["max_gen_toks"],
            "do_sample": False,
        }
    if not task["doc_to_target"]:
        task["doc_to_target"] = "{{text}}"
    return {key: value for key, value in task.items() if key not in OURS}


def answer(sample: dict[str, Any]) -> list[float] | str:
    """Log-likelihoods of the choices, that of the text, or the text written."""
    found = sample["filtered_resps"] if sample.get("filtered_resps") else sample["resps"]
    if isinstance(found[0], str):
        return found[0]
    return [float(one[0]) if isinstance(one, (list, tuple)) else float(one) for one in found]


def main(ask: dict[str, Any]) -> None:
    """Answer one task, and print tokens, CPU seconds and answers as JSON."""
    model = HFLM(pretrained=ask["base"], dtype="float32", device="cpu", batch_size=ask["batch"])
    door = Door()
    model.model.register_forward_pre_hook(door.enter, with_kwargs=True)
    model.model.register_forward_hook(door.leave)
    begin = time.process_time()
    found = lm_eval.simple_evaluate(model, tasks=[task_of(Path(ask["task"]))], bootstrap_iters=0, log_samples=True)
    seconds = time.process_time() - begin
    [samples] = found["samples"].values()
    answers = {sample["doc_id"]: answer(sample) for sample in samples}
    made_with = f"lm_eval {version('lm_eval')}, torch {version('torch')}, transformers {version('transformers')}"
    cost = {"tokens": door.tokens, "seconds": seconds, "forward": door.seconds, "versions": made_with}
    print(json.dumps(cost | {"answers": answers}))


if __name__ == "__main__" and sys.argv[1:] != ["warm"]:
    main(json.loads(sys.argv[1]))
