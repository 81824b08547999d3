"""Training: SectorLM beside transformers.Trainer with peft and TRL's SFTTrainer with packing, on the same documents.

    python -m benchmarks.train --trainer PYTHON --trl PYTHON
    python -m benchmarks.train --trainer PYTHON --trl PYTHON --precision bfloat16 float32 --rounds 3 --documents 96

A Llama of 20 million random weights, LoRA of rank 16 on all linear layers, documents of 30 to 2,000 tokens, one epoch; the
same optimiser, rate, documents and tokens of a step on every side. Each side is a process of its own, in the Python of an
environment of its own; sides take turns, and ratios are formed within a round, since the machine may do other work beside.
Steps are timed from outside, by the lines that a side appends after each of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from benchmarks.measure import Mark, Measured, measure
from benchmarks.prepare import machine, versions
from benchmarks.train_base import TRAIN, documents, flops_per_token, make_base, packed_documents

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

HERE = Path(__file__).resolve().parent
OURS = "SectorLM"
PEERS = {
    "Trainer + peft": ("trainer", {}),
    "Trainer by length": ("trainer", {"by_length": True}),
    "TRL packing": ("trl", {}),
    "TRL as it comes": ("trl", {"recompute": True}),
}
ROW, ROWS_PER_STEP = 2048, 2
"""Tokens of a packed row, and rows of a step; documents of a step are as many as give the same number of steps."""
RANK, ALPHA, SEED = 16, 32, 17
HELD_OUT = 24
"""Documents that the judge reads; none of their sentences is in the training documents."""


class Bench(NamedTuple):
    """What is measured."""

    base: Path
    parameters: int
    corpus: Path
    """A prepared run folder of SectorLM, copied for every run."""
    documents: Path
    lengths: tuple[int, ...]
    """Tokens of each training document."""
    per_step: int
    """Documents of a step, where it is counted in documents."""
    pythons: dict[str, str]
    peers: tuple[str, ...]
    threads: int
    learning_rate: float
    sets: tuple[str, ...]
    keep: Path


class Result(NamedTuple):
    """A side in one round."""

    cost: Measured
    steps: tuple[Mark, ...]
    loss: float
    """Of the adapter on held-out documents, nats per token."""
    versions: str
    share: float
    """Of the matrix-product rate that was measured just before."""

    @property
    def speed(self) -> float:
        """Tokens a second, from the end of the first step to the end of the last."""
        return self._tokens / (self.steps[-1].wall - self.steps[0].wall)

    @property
    def cpu(self) -> float:
        """CPU seconds of 1,000 tokens, over the same steps."""
        return 1000 * (self.steps[-1].cpu - self.steps[0].cpu) / self._tokens

    @property
    def _tokens(self) -> int:
        return int(self.steps[-1].line["tokens"] - self.steps[0].line["tokens"])


FIGURES: dict[str, tuple[Callable[[Result], float], str]] = {
    "tokens/s": (lambda it: it.speed, ",.0f"),
    "CPU s per 1,000 tokens": (lambda it: it.cpu, ".2f"),
    "s to first step": (lambda it: it.steps[0].wall, ".1f"),
    "CPU s to first step": (lambda it: it.steps[0].cpu, ".1f"),
    "peak RSS MB": (lambda it: it.cost.resident, ",.0f"),
    "held-out loss": (lambda it: it.loss, ".4f"),
    "% of matrix products": (lambda it: 100 * it.share, ".0f"),
}
RATIOS = ("tokens/s", "CPU s per 1,000 tokens", "s to first step", "CPU s to first step", "peak RSS MB")


# ---------------------------------------------------------------- what all sides get


def recipe(bench: Bench, precision: str) -> dict[str, Any]:
    """SectorLM's recipe: nothing is left out of the corpus, and nothing is looked at or kept between the steps."""
    source = {"name": "texts", "path": "texts.jsonl", "text": "{{ text }}", "licence": "CC0-1.0", "personal": "off"}
    keep_all = {"near_duplicates": None, "repeated_passages": None, "decontaminate": "off"}
    return {
        "name": "training",
        "sector": "finance",
        "base": str(bench.base),
        "seed": SEED,
        "data": [str(bench.keep)],
        "corpora": [source],
        "prepare": {"sequence_length": ROW, "form": "plain", **keep_all},
        "train": {
            "rank": RANK,
            "alpha": ALPHA,
            "learning_rate": bench.learning_rate,
            "warmup": 0.0,
            "epochs": 1,
            "batch_tokens": ROWS_PER_STEP * ROW,
            "precision": precision,
            "validate_every": 10**6,
            "checkpoint_every": 10**6,
        },
        "evaluate": {"tasks": ["finance_topics"]},
    }


def prepared(bench: Bench, count: int) -> Bench:
    """The documents as texts, as SectorLM's corpus, and as the peers' Parquet file with the same tokens."""
    lines = ({"text": text} for text in documents(count, TRAIN, SEED))
    (bench.keep / "texts.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines), "utf-8")
    path = bench.keep / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe(bench, "auto")))
    command = [sys.executable, "-m", "sectorlm", "prepare", str(path), "--runs", str(bench.keep), "--json"]
    measure(command, environment(bench, bench.keep), bench.keep)
    corpus, parquet = bench.keep / "training", bench.keep / "documents.parquet"
    packed_documents(corpus / "corpus", parquet)
    import pyarrow.parquet as pq

    lengths = tuple(len(ids) for ids in pq.read_table(parquet)["input_ids"].to_pylist())
    record = json.loads((corpus / "corpus" / "corpus.json").read_bytes())
    if record["documents"] != count:
        raise SystemExit(f"{record['documents']} of {count} documents were kept: all were meant to be")
    steps = -(-record["rows_train"] // ROWS_PER_STEP)
    return bench._replace(corpus=corpus, documents=parquet, lengths=lengths, per_step=-(-len(lengths) // steps))


def environment(bench: Bench, folder: Path) -> dict[str, str]:
    """So many threads, caches below `folder`, no network."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(bench.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(HERE.parent),
    }


def ask_base(bench: Bench, *words: object) -> float:
    """A number from `benchmarks.train_base`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.train_base", *map(str, words)]
    return float(measure(command, environment(bench, bench.keep), bench.keep).out)


# ---------------------------------------------------------------- sides


def ours(bench: Bench, precision: str, folder: Path) -> tuple[Measured, Path, str]:
    """`sectorlm train` on a copy of the prepared corpus."""
    shutil.copytree(bench.corpus, folder / "training")
    path, run = folder / "recipe.yaml", folder / "training" / "run"
    path.write_text(yaml.safe_dump(recipe(bench, precision)))
    command = [sys.executable, "-m", "sectorlm", "train", str(path), "--runs", str(folder), "--json"]
    command += [word for one in bench.sets for word in ("--set", one)]
    cost = measure(command, environment(bench, folder), folder, run / "metrics.jsonl")
    return cost, run / "adapter", versions(("torch", "transformers", "peft", "accelerate"))


def peer(bench: Bench, side: str, precision: str, folder: Path) -> tuple[Measured, Path, str]:
    """A peer's steps, over the same tokens."""
    name, own = PEERS[side]
    ask = {
        "base": str(bench.base),
        "documents": str(bench.documents),
        "work": str(folder),
        "precision": precision,
        "per_step": bench.per_step if name == "trainer" else ROWS_PER_STEP,
        "row": ROW,
        "learning_rate": bench.learning_rate,
        "rank": RANK,
        "alpha": ALPHA,
        "seed": SEED,
        **own,
    }
    command = [bench.pythons[name], str(HERE / "peers" / f"{name}_steps.py"), json.dumps(ask)]
    own_environment = {key: value for key, value in environment(bench, folder).items() if key != "PYTHONPATH"}
    cost = measure(command, own_environment, folder, folder / "steps.jsonl")
    return cost, folder / "adapter", cost.out.strip().splitlines()[-1]


def run(bench: Bench, side: str, precision: str) -> Result:
    """One side in a folder of its own, and what the judge says of its adapter."""
    rate = ask_base(bench, "matmul", precision)
    with tempfile.TemporaryDirectory(dir=bench.keep, prefix="side-") as name:
        folder = Path(name)
        cost, adapter, made_with = (
            ours(bench, precision, folder) if side == OURS else peer(bench, side, precision, folder)
        )
        steps = tuple(mark for mark in cost.marks if "loss" in mark.line)
        if len(steps) < 2 or steps[-1].line["tokens"] == steps[0].line["tokens"]:
            raise SystemExit(f"{side} made {len(steps)} steps: at least two are needed")
        loss = ask_base(bench, "loss", bench.base, adapter, HELD_OUT, SEED)
    result = Result(cost, steps, loss, made_with, 0.0)
    return result._replace(share=result.speed * flops_per_token(bench.lengths, RANK) / rate)


# ---------------------------------------------------------------- tables


def rows(rounds: Sequence[dict[str, Result]]) -> Iterator[str]:
    """Medians over the rounds by side, and how many times more a peer takes than ours, round by round."""
    yield f"| side | steps | {' | '.join(FIGURES)} |"
    yield f"|---|---:|{'---:|' * len(FIGURES)}"
    for side in rounds[0]:
        results = [one[side] for one in rounds]
        cells = (format(median(map(figure, results)), form) for figure, form in FIGURES.values())
        yield f"| {side} | {len(results[0].steps)} | {' | '.join(cells)} |"
    yield f"\n| {OURS} against | {' | '.join(RATIOS)} |"
    yield f"|---|{'---:|' * len(RATIOS)}"
    for side in list(rounds[0])[1:]:
        yield f"| {side} | {' | '.join(against(rounds, side, name) for name in RATIOS)} |"


def against(rounds: Sequence[dict[str, Result]], side: str, name: str) -> str:
    """How many times better ours is: the median of the rounds' ratios, and the least and the largest of them."""
    figure = FIGURES[name][0]
    ratios = [figure(one[side]) / figure(one[OURS]) for one in rounds]
    if name == "tokens/s":
        ratios = [1 / ratio for ratio in ratios]
    return f"{median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"


def compare(bench: Bench, precision: str, turns: int) -> None:
    """Print both tables, with what is outside of the mathematics of our steps."""
    sides = (OURS, *(side for side in bench.peers if PEERS[side][0] in bench.pythons))
    rounds: list[dict[str, Result]] = []
    for turn in range(turns):
        rounds.append({})
        for side in sides if turn % 2 == 0 else sides[::-1]:  # who comes first has the colder machine
            print(f"{precision}, round {turn + 1} of {turns}: {side}", file=sys.stderr, flush=True)
            rounds[-1][side] = run(bench, side, precision)
        rounds[-1] = {side: rounds[-1][side] for side in sides}
    rate = ask_base(bench, "matmul", precision)
    print(f"\n`{precision}`, {turns} rounds; matrix products reach {rate / 1e9:,.0f} GFLOP/s\n")
    print("\n".join(rows(rounds)), flush=True)
    print(f"\n{overhead(bench, precision)}\n")
    print("\n".join(f"- {side}: {result.versions}" for side, result in rounds[-1].items()), flush=True)


def overhead(bench: Bench, precision: str) -> str:
    """One more run of ours, with the clock at forward, backward, clipping and the optimiser."""
    with tempfile.TemporaryDirectory(dir=bench.keep, prefix="side-") as name:
        folder = Path(name)
        shutil.copytree(bench.corpus, folder / "training")
        path = folder / "recipe.yaml"
        path.write_text(yaml.safe_dump(recipe(bench, precision)))
        command = [sys.executable, "-m", "benchmarks.train_overhead", str(path), str(folder), *bench.sets]
        return measure(command, environment(bench, folder), folder).out.strip()


def main() -> None:
    """Measure, and print Markdown."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--trainer", help="a Python that has transformers, peft, accelerate and datasets")
    asked.add_argument("--trl", help="a Python that has these and trl")
    asked.add_argument("--peers", nargs="+", choices=list(PEERS), default=list(PEERS), help="rows beside ours")
    asked.add_argument("--threads", type=int, default=2)
    asked.add_argument("--precision", nargs="+", choices=("bfloat16", "float32"), default=["bfloat16"])
    asked.add_argument("--documents", type=int, default=50, help="8 or 9 of them make a step")
    asked.add_argument("--rounds", type=int, default=2)
    asked.add_argument("--learning-rate", type=float, default=2e-3, help="high, so that few steps show in the loss")
    asked.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for sectorlm train")
    asked.add_argument("--work", type=Path, help="folder for what is being made")
    given = asked.parse_args()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that the side at work is ended too, and its folder gone
    print(f"{machine()}\n\n    python -m benchmarks.train {' '.join(sys.argv[1:])}\n")
    pythons = {name: getattr(given, name) for name in ("trainer", "trl") if getattr(given, name)}
    with tempfile.TemporaryDirectory(dir=given.work, prefix="benchmark-") as folder:
        keep = Path(folder).resolve()
        base, sets = keep / "base", tuple(given.set)
        parameters = make_base(base, SEED)
        made = Bench(
            base,
            parameters,
            keep,
            keep,
            (),
            0,
            pythons,
            tuple(given.peers),
            given.threads,
            given.learning_rate,
            sets,
            keep,
        )
        bench = prepared(made, given.documents)
        for name, python in pythons.items():  # their bytecode and libraries lie in the page cache from here on
            subprocess.run([python, str(HERE / "peers" / f"{name}_steps.py"), "warm"], check=True, capture_output=True)
        tokens, flops = sum(bench.lengths), flops_per_token(bench.lengths, RANK) / 1e6
        print(
            f"{parameters:,} parameters; {len(bench.lengths)} documents of {min(bench.lengths)} to {max(bench.lengths)}"
        )
        print(f"tokens, {tokens:,} in all; {flops:.0f} MFLOP a token; held-out loss of the base", end=" ")
        print(f"{ask_base(bench, 'loss', base, '-', HELD_OUT, SEED):.4f}; {given.threads} threads", flush=True)
        for precision in given.precision:
            compare(bench, precision, given.rounds)


if __name__ == "__main__":
    main()
