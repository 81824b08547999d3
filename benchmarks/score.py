"""Scoring: SectorLM beside lm-evaluation-harness, on the same questions, the same YAML, the same weights.

    python -m benchmarks.score --lm-eval PYTHON [--shared DATA] [--questions 60] [--cases choices letters ...]

A Llama of 20 million random weights, float32 on one CPU thread. Each side is a process of its own, in the Python of an
environment of its own, and answers one case at a time. Counted from the moment when the weights are loaded until the
answers are there: tokens that go through the model's door, padding included, and CPU seconds (user and system). Ours
contain the second look at some items (noise floor) and the answers' way to the disk. The last table is ours alone: base
and adapter together, against each alone.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measure import measure
from benchmarks.peers.door import Door
from benchmarks.prepare import machine, versions
from benchmarks.score_cases import CASES, make
from benchmarks.train_base import make_base

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
SEED, RANK = 17, 16
TARGETS = {"choices": (0.12, 0.15), "letters": (0.2, 0.2), "writing": (0.25, 0.25), "passages": (0.1, 0.1)}
"""Tokens and CPU seconds as parts of the peer's; `rolling` has nothing to share, and no target."""
Found = dict[str, Any]


# ---------------------------------------------------------------- our side, in a process of its own


def ours(ask: Found) -> Found:
    """Answer one task as `which` models, and tell what it cost."""
    from configs.progress import be_quiet
    from configs.recipe import Evaluate
    from eval.answering import answer
    from eval.answers import read_answers
    from eval.ask import ask as read_task
    from eval.pair import Model
    from eval.weights import load_scorer

    be_quiet()
    task, work = Path(ask["task"]), Path(ask["work"])
    adapter = Path(ask["adapter"]) if ask["adapter"] else None
    scorer = load_scorer(Path(ask["base"]), adapter)
    door, wish = Door(), Evaluate(tasks=(task.name,), batch_tokens=ask["budget"])
    scorer.decoder.register_forward_pre_hook(door.enter, with_kwargs=True)
    scorer.decoder.register_forward_hook(door.leave)
    settings = {"evaluate.batch_tokens": wish.batch_tokens, "evaluate.resamples": 1000, "seed": 0, "chat": False}
    models = [Model(which, work / which, which, settings, {}) for which in ask["which"]]
    begin = time.process_time()
    asked = read_task(task.name, (task.parent,), wish, 0)
    read = time.process_time()
    asked.fit(scorer.tokenizer, scorer.room, chat=False, budget=wish.batch_tokens)
    prompts = time.process_time() - read
    answer("benchmark", models, scorer, [asked])
    seconds = time.process_time() - begin
    answers, cut = {}, []
    for line in read_answers(models[0].folder / "answers.jsonl")[task.stem]:
        likely = [-line["nats"]] if "nats" in line else line.get("loglikelihoods")
        answers[str(line["row"])] = line["text"] if likely is None else likely
        cut += [str(line["row"])] * line["truncated"]
    cost = {"tokens": door.tokens, "seconds": seconds, "forward": door.seconds, "prompts": prompts}
    return {**cost, "answers": answers, "cut": cut}


def make_adapter(base: Path, folder: Path) -> None:
    """A random LoRA adapter on all linear layers."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(SEED)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), config).save_pretrained(folder)


# ---------------------------------------------------------------- both sides


def environment(folder: Path, threads: int, *, own: bool) -> dict[str, str]:
    """So many threads, caches below `folder`, no network."""
    common = {
        "OMP_NUM_THREADS": str(threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "cache"),
    }
    rest = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return {**rest, **common} | ({"PYTHONPATH": str(HERE.parent)} if own else {})


def run_ours(keep: Path, given: argparse.Namespace, case: str, which: Sequence[str] = ("base",)) -> Found:
    """Our side in a process of its own; the adapter is loaded where `tuned` is asked."""
    with tempfile.TemporaryDirectory(dir=keep, prefix="side-") as work:
        adapter = str(keep / "adapter") if "tuned" in which else ""
        ask = {"task": str(keep / f"{case}.yaml"), "work": work, "adapter": adapter, "which": which}
        ask |= {"base": str(keep / "base"), "budget": given.budget}
        command = [sys.executable, "-m", "benchmarks.score", "ours", json.dumps(ask)]
        out = measure(command, environment(keep, given.threads, own=True), keep).out
    return dict(json.loads(out.strip().splitlines()[-1]))


def run_peer(keep: Path, given: argparse.Namespace, case: str) -> Found:
    """lm-evaluation-harness on the same file."""
    ask = {"task": str(keep / f"{case}.yaml"), "base": str(keep / "base"), "batch": given.batch}
    command = [given.lm_eval, str(HERE / "peers" / "lm_eval_steps.py"), json.dumps(ask)]
    with contextlib.chdir(keep):  # it looks for data files where it is started
        out = measure(command, environment(keep, given.threads, own=False), keep).out
    return dict(json.loads(out.strip().splitlines()[-1]))


def agreement(mine: Found, theirs: Found) -> tuple[float, int]:
    """The largest difference of a log-likelihood, and how many answers differ.

    Prompts longer than the context are left out: the two cut them differently (docs/comparable.md).
    """
    if mine["answers"].keys() != theirs["answers"].keys():
        raise SystemExit("the two sides answered different items")
    largest, changed = 0.0, 0
    for row, our in mine["answers"].items():
        if row in mine["cut"]:
            continue
        their = theirs["answers"][row]
        if isinstance(our, str):
            changed += our != their
            continue
        largest = max(largest, *(abs(one - other) for one, other in zip(our, their, strict=True)))
        changed += our.index(max(our)) != their.index(max(their))
    return largest, changed


HEAD = "| case | items | tokens | of lm-eval's | CPU s | of lm-eval's | target | largest difference, nats | answers changed |"


def row(case: str, mine: Found, theirs: Found) -> str:
    """The line of one case."""
    largest, changed = agreement(mine, theirs)
    cells = [
        f"{case}: {CASES[case]}",
        f"{len(mine['answers'])}",
        f"{mine['tokens']:,} / {theirs['tokens']:,}",
        f"{mine['tokens'] / theirs['tokens']:.3f}x",
        f"{mine['seconds']:.1f} / {theirs['seconds']:.1f}",
        f"{mine['seconds'] / theirs['seconds']:.3f}x",
        " / ".join(f"{part:.2f}x" for part in TARGETS[case]) if case in TARGETS else "",
        f"{largest:.1e}",
        f"{changed}" + (f" ({len(mine['cut'])} cut, not compared)" if mine["cut"] else ""),
    ]
    return f"| {' | '.join(cells)} |"


def together(keep: Path, given: argparse.Namespace, case: str) -> Iterator[str]:
    """Base and tuned in one process, against each alone with the adapter loaded."""
    sides = {"base": ("base",), "tuned": ("tuned",), "base and tuned": ("base", "tuned")}
    found = {}
    for name, which in sides.items():
        found[name] = run_ours(keep, given, case, which)
    yield "| models | tokens | forward CPU s | other CPU s | of it prompts and tokens |"
    yield "|---|---:|---:|---:|---:|"
    for name, one in found.items():
        rest = one["seconds"] - one["forward"]
        yield f"| {name} | {one['tokens']:,} | {one['forward']:.2f} | {rest:.2f} | {one['prompts']:.2f} |"
    both, alone = found["base and tuned"], [found["base"], found["tuned"]]
    forward = sum(one["forward"] for one in alone) / 2
    rest = sum(one["seconds"] - one["forward"] for one in alone) / 2
    host, prompts = (both["seconds"] - both["forward"]) / rest, both["prompts"] / alone[0]["prompts"]
    yield f"\nTogether {both['forward'] / forward:.2f}x the forward time of one (the mean of the two alone; target 2.05x),"
    yield f"{host:.2f}x its other time, {prompts:.2f}x that of prompts and tokens (target 1.0x)."


def main() -> None:
    """Measure, and print Markdown."""
    if sys.argv[1:2] == ["ours"]:
        print(json.dumps(ours(json.loads(sys.argv[2]))))
        return
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--lm-eval", required=True, help="a Python that has lm_eval[hf] 0.4.13")
    asked.add_argument("--shared", type=Path, help="the real sector data; left out: the embedded samples")
    asked.add_argument("--questions", type=int, default=60, help="of each case")
    asked.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    asked.add_argument("--batch", type=int, default=8, help="of lm-eval, in prompts")
    asked.add_argument("--budget", type=int, default=16384, help="of ours, in tokens: evaluate.batch_tokens")
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--work", type=Path, help="folder for what is being made")
    given = asked.parse_args()
    print(f"{machine()}\n\n    python -m benchmarks.score {' '.join(sys.argv[1:])}\n")
    with tempfile.TemporaryDirectory(dir=given.work, prefix="benchmark-") as folder:
        keep = Path(folder).resolve()
        parameters = make_base(keep / "base", SEED)
        make_adapter(keep / "base", keep / "adapter")
        make(keep, given.shared, given.questions)
        print(f"{parameters:,} parameters, {given.threads} thread(s); {versions(('torch', 'transformers'))}\n")
        print(f"{HEAD}\n|---|{'---:|' * 8}", flush=True)
        made_with = ""
        for case in given.cases:
            mine, theirs = run_ours(keep, given, case), run_peer(keep, given, case)
            print(row(case, mine, theirs), flush=True)
            made_with = theirs["versions"]
        print(f"\nBeside {made_with}.")
        print(f"\n{chr(10).join(together(keep, given, given.cases[0]))}")


if __name__ == "__main__":
    main()
