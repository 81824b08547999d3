"""Where our numbers differ from lm-evaluation-harness' on purpose, and by how much: the figures of docs/comparable.md.

    python -m benchmarks.comparable

The embedded base, embedded samples, a minute on two cores; needs the extra `harness`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from configs.prompts import Encoder
from configs.recipe import Evaluate
from configs.store import HOUSE
from eval.ask import ask
from eval.exports_tasks import write_task
from eval.harness import run_there
from eval.reading import best_choice
from eval.translate import gather
from eval.weights import load_scorer

BASE = HOUSE / "assets" / "base"


def main() -> None:
    """Print one line for each difference."""
    scorer = load_scorer(BASE)
    for name in ("general_pairs", "finance_topics", "healthcare_departments"):
        _bytes_or_characters(scorer, name)
    with TemporaryDirectory() as folder:
        for name in ("general_pairs", "finance_topics"):
            _bfloat16(name, Path(folder))
    _control_tokens(scorer)


def _bytes_or_characters(scorer: Any, name: str) -> None:
    """Likelihood per byte (ours, its acc_bytes) and per character (its acc_norm)."""
    asked = ask(name, (HOUSE,), Evaluate(tasks=(name,)), 0)
    asked.fit(scorer.tokenizer, scorer.room, chat=False, budget=16384)
    changed, right, n = 0, [0, 0], 0
    with scorer.using("base"):
        for batch in asked.batches:
            for prompt, values in zip(
                batch.prompts, scorer.loglikelihoods(batch.branches, 16384, batch.shared), strict=True
            ):
                choices = prompt.item.choices
                ours = best_choice(values, choices, per_byte=True)
                scores = [value / len(choice) for value, choice in zip(values, choices, strict=True)]
                theirs = choices[scores.index(max(scores))]
                changed, n = changed + (ours != theirs), n + 1
                right = [right[0] + (ours == prompt.item.target), right[1] + (theirs == prompt.item.target)]
    _tell(f"{name}: {changed} of {n} answers change; per byte {right[0] / n:.3f}, per character {right[1] / n:.3f}")


def _bfloat16(name: str, folder: Path) -> None:
    """Stock lm-eval on bfloat16 weights, with its default softmax and with one in float32."""
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(BASE, dtype=torch.bfloat16)
    tokenizer = AutoTokenizer.from_pretrained(BASE)
    wish = Evaluate(tasks=(name,), limit=100, shots=0)
    write_task(gather(name, ask(name, (HOUSE,), wish, 0), (HOUSE,)), folder / name)
    found = []
    for softmax in (None, "float32"):
        loaded = TaskManager(include_defaults=False, include_path=str(folder / name)).load([name])
        loaded["tasks"][name].set_fewshot_seed(seed=1234)
        stock = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, softmax_dtype=softmax)
        samples = run_there(stock, loaded)["samples"][name]
        found.append([[value for [[value, _]] in sample["resps"]] for sample in samples])
    rough, fine = found
    apart = max(abs(a - b) for one, two in zip(rough, fine, strict=True) for a, b in zip(one, two, strict=True))
    ties = sum(sorted(values)[-1] == sorted(values)[-2] for values in rough)
    changed = sum(a.index(max(a)) != b.index(max(b)) for a, b in zip(rough, fine, strict=True))
    _tell(f"{name}: up to {apart:.2f} nats apart, {ties} of {len(rough)} first places tied, {changed} answers changed")


def _control_tokens(scorer: Any) -> None:
    """A control token's name in a question: text for us, the token for lm-eval."""
    text = f"What does {scorer.tokenizer.eos_token} mean?"
    ours, theirs = Encoder(scorer.tokenizer).plain([text])[0], scorer.tokenizer.encode(text)
    ends = theirs.count(scorer.tokenizer.eos_token_id)
    _tell(f"{text!r}: {len(ours)} tokens by us, {len(theirs)} by lm-eval, {ends} of them an end mark")


def _tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
