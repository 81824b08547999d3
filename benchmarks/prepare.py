"""The whole preparation: SectorLM beside datatrove and Data-Juicer, on one corpus, the same cores.

    python -m benchmarks.corpus SHARED_DATA corpus.jsonl
    python -m benchmarks.prepare corpus.jsonl SHARED_DATA/general/gpt2-tokenizer --datatrove PYTHON --data-juicer PYTHON
    python -m benchmarks.prepare corpus.jsonl SHARED_DATA/general/gpt2-tokenizer --sizes 50 100 200 400

Two tables: `near`, the steps that all have (read, mend, statistics, sketch, near-duplicates), and `whole`, everything
to packed rows. A peer runs in the Python of an environment of its own, see README.md. Each side is a process of its own
with an empty working folder; the clock and the CPU seconds cover it from its first to its last instruction, imports
included, with all worker processes. Memory is looked at five times a second.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import yaml

from benchmarks.measure import Measured, measure
from benchmarks.tokens import with_marks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HERE = Path(__file__).resolve().parent
OURS = ("SectorLM", "SectorLM, SECTORLM_FAST=off")
NO_PERSONAL_DATA = {"personal": "off"}
NEAR_ALONE = {"decontaminate": "off", "repeated_passages": None}


class Bench(NamedTuple):
    """What is measured."""

    corpus: Path
    size: float
    """Megabytes of the corpus file."""
    tokenizer: Path
    workers: int
    pythons: dict[str, str]
    """Peer to the Python that has it."""
    thresholds: str
    keep: Path
    """Folder for what is being made."""


class Result(NamedTuple):
    """A side, what it cost, and what it made."""

    side: str
    cost: Measured
    documents: int
    tokens: int
    versions: str


# ---------------------------------------------------------------- ours


def our_recipe(bench: Bench, folder: Path, until: str) -> Path:
    """Defaults but for the base; for `near` what the peers do not do in it is switched off."""
    near = until == "near"
    source = {"name": "corpus", "path": bench.corpus.name, "text": "{{ text }}", "licence": "CC0-1.0"}
    recipe = {
        "name": "benchmark",
        "sector": "finance",
        "base": str(bench.tokenizer),
        "data": [str(bench.corpus.parent)],
        "corpora": [source | (NO_PERSONAL_DATA if near else {})],
        "prepare": {"sequence_length": 2048, **(NEAR_ALONE if near else {})},
        "evaluate": {"tasks": ["finance_topics"]},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    return path


def ours(bench: Bench, side: str, until: str, folder: Path) -> Result:
    """`sectorlm prepare`, or its part up to the settled near-duplicates."""
    recipe, runs, workers = str(our_recipe(bench, folder, until)), str(folder / "runs"), str(bench.workers)
    command = [sys.executable, "-m", "sectorlm", "prepare", recipe, "--runs", runs, "--workers", workers, "--json"]
    if until == "near":
        command = [sys.executable, "-m", "benchmarks.until_settled", recipe, runs, workers]
    fast = "off" if side == OURS[1] else "auto"
    cost = measure(command, environment(folder) | {"SECTORLM_FAST": fast}, folder)
    made = json.loads(cost.out)
    made = made[0] if isinstance(made, list) else made
    names = ("numpy", "pyarrow", "tokenizers", *(() if fast == "off" else ("numba", "gigatoken")))
    return Result(side, cost, made["documents"], made["tokens"], versions(names))


def versions(names: Sequence[str]) -> str:
    """What is installed here, as a text."""
    return ", ".join(f"{name} {version(name)}" for name in names)


def environment(folder: Path) -> dict[str, str]:
    """One thread for each process, caches below `folder`, no network."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "RAYON_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(folder / "cache"),
        "PYTHONPATH": str(HERE.parent),
    }


# ---------------------------------------------------------------- peers


def peer(bench: Bench, side: str, until: str, folder: Path) -> Result:
    """A peer's steps; the corpus is dealt out to as many files as there are processes before the clock starts."""
    dealt, work = folder / "corpus", folder / "work"
    deal(bench, dealt)
    work.mkdir()
    script = HERE / "peers" / f"{side.lower().replace('-', '_')}_steps.py"
    arguments = (dealt, work, bench.workers, until, bench.tokenizer, bench.thresholds)
    own = {name: value for name, value in environment(folder).items() if name != "PYTHONPATH"}
    cost = measure([bench.pythons[side], str(script), *map(str, arguments)], own, folder)
    made = json.loads((work / "made.json").read_bytes())
    return Result(side, cost, made["documents"], made["tokens"], made["versions"])


def deal(bench: Bench, folder: Path) -> None:
    """Every n-th line to the n-th file: datatrove shares work out by files."""
    folder.mkdir()
    for part in range(bench.workers):
        with bench.corpus.open("rb") as lines, (folder / f"{part}.jsonl").open("wb") as file:
            file.writelines(islice(lines, part, None, bench.workers))


# ---------------------------------------------------------------- tables


def run(bench: Bench, side: str, until: str) -> Result:
    """One side in a folder of its own, which is gone afterwards."""
    with tempfile.TemporaryDirectory(dir=bench.keep, prefix="side-") as folder:
        return (ours if side in OURS else peer)(bench, side, until, Path(folder))


def rows(results: Sequence[Result], size: float) -> Iterator[str]:
    """A Markdown table; the last two columns say how many times more CPU and wall seconds a peer takes than each of ours."""
    first = results[: len(OURS)]
    costs = "wall s | CPU s | MB per CPU s | peak PSS MB | peak RSS MB"
    yield f"| side | {costs} | documents | tokens | CPU, wall to ours | to `off` |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for it in results:
        cost = it.cost
        ratios = (f"{cost.cpu / our.cost.cpu:.1f}x, {cost.wall / our.cost.wall:.1f}x" for our in first)
        cells = (
            it.side,
            f"{cost.wall:.1f}",
            f"{cost.cpu:.1f}",
            f"{size / cost.cpu:.2f}",
            f"{cost.peak:,.0f}",
            f"{cost.resident:,.0f}",
            f"{it.documents:,}",
            f"{it.tokens:,}" if it.tokens else "",
            *ratios,
        )
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield from (f"- {it.side}: {it.versions}" for it in results)


def compare(bench: Bench, untils: Sequence[str]) -> None:
    """Print a table of all sides for each stretch of the way."""
    for until in untils:
        results = [run(bench, side, until) for side in (*OURS, *bench.pythons)]
        print(f"\n`{until}`, {bench.size:.0f} MB, {bench.workers} processes\n")
        print("\n".join(rows(results, bench.size)), flush=True)


def scale(bench: Bench, sizes: Sequence[float]) -> None:
    """Print time and memory of the whole preparation by size, and how they grow from each size to the next."""
    print("| side | MB | wall s | CPU s | peak PSS MB | peak RSS MB | growth of size, wall, CPU, PSS |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for side in OURS:
        last: tuple[float, Measured] | None = None
        for size in sizes:
            part = cut(bench, size)
            cost = run(part, side, "whole").cost
            grown = ""
            if last is not None:
                before, old = last
                growth = (part.size / before, cost.wall / old.wall, cost.cpu / old.cpu, cost.peak / old.peak)
                grown = ", ".join(f"{ratio:.2f}x" for ratio in growth)
            cells = (part.size, cost.wall, cost.cpu, cost.peak, cost.resident)
            print(f"| {side} | {' | '.join(f'{cell:,.1f}' for cell in cells)} | {grown} |", flush=True)
            last = part.size, cost


def cut(bench: Bench, megabytes: float) -> Bench:
    """The first so many megabytes of the corpus, whole lines."""
    path = bench.keep / f"{megabytes:g}.jsonl"
    size = 0
    with bench.corpus.open("rb") as lines, path.open("wb") as file:
        for line in lines:
            if size >= megabytes * 1e6:
                break
            size += file.write(line)
    if size < megabytes * 1e6:
        raise SystemExit(
            f"{bench.corpus} has {size / 1e6:.1f} MB, not {megabytes:g}: python -m benchmarks.corpus makes more"
        )
    return bench._replace(corpus=path, size=size / 1e6)


def machine() -> str:
    """What this runs on, as far as the kernel says."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return f"{names[0] if names else platform.machine()}, {cores} cores, load {load:.1f}, Python {platform.python_version()}"


def main() -> None:
    """Measure, and print Markdown."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("corpus", type=Path)
    asked.add_argument("tokenizer", type=Path, help="folder in Hugging Face format, or with gpt2-vocab.json")
    asked.add_argument("--megabytes", type=float, help="only the beginning of the corpus")
    asked.add_argument("--workers", type=int, default=2)
    asked.add_argument("--datatrove", help="a Python that has datatrove, datasets and transformers")
    asked.add_argument("--data-juicer", help="a Python that has py-data-juicer, datasets and transformers")
    asked.add_argument("--thresholds", choices=("open", "own"), default="open", help="of the peers' filters")
    asked.add_argument("--until", nargs="+", choices=("near", "whole"), default=("near", "whole"))
    asked.add_argument("--sizes", nargs="+", type=float, help="measure growth with size instead, ours alone")
    asked.add_argument("--work", type=Path, help="folder for what is being made: some ten times the corpus")
    given = asked.parse_args()
    print(f"{machine()}\n\n    python -m benchmarks.prepare {' '.join(sys.argv[1:])}\n")
    with tempfile.TemporaryDirectory(dir=given.work, prefix="benchmark-") as folder:
        keep = Path(folder)
        pythons = {"datatrove": given.datatrove, "Data-Juicer": given.data_juicer}
        tokenizer = with_marks(given.tokenizer.resolve(), keep)
        there = {side: python for side, python in pythons.items() if python}
        bench = Bench(given.corpus.resolve(), 0, tokenizer, given.workers, there, given.thresholds, keep)
        warm = cut(bench, 0.5)
        for side in OURS:  # bytecode and compiled loops are kept from here on, as in any second run
            run(warm, side, "whole")
        if given.sizes:
            scale(bench, given.sizes)
        else:
            size = given.megabytes or given.corpus.stat().st_size / 1e6
            compare(cut(bench, size), given.until)


if __name__ == "__main__":
    main()
