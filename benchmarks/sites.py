"""Three sites with disjoint documents against one that has them all: what merging their adapters keeps of central training.

    python -m benchmarks.sites [RECIPE] [--by document|source] [--seeds same|own] [--rank 16] [--rounds N]
                               [--work FOLDER] [--set KEY=VALUE]

The recipe's corpus is prepared once. Its training documents are dealt to three sites, one by one by their hash or source
by source, and packed anew; the central side has all of them. Both train with the same recipe, so that the three sites
together see exactly the tokens that the central side sees, each document equally often. All adapters are then measured on
the held-out rows of the whole corpus, in float32. With `--rounds N` the sites also train the same number of tokens in N
rounds: after each the adapters are merged, cut back to the recipe's rank, and handed out as the start of the next
(`train.start`). Without a recipe it is that of the embedded finance sample.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from configs.base import base_folder, load_weights
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.records import Corpus, Run
from configs.store import HOUSE, RunFolder, files_of, hashed
from data_prep.pack import cut, pack
from data_prep.prepare import prepare
from training.attention import register
from training.batches import Rows
from training.combine import combine, summary
from training.model import PackedModel
from training.train import train

if TYPE_CHECKING:
    from collections.abc import Sequence

SITES = ("north", "south", "west")
TOKENS = 8192
"""Of one forward pass when measuring."""


class Measured(NamedTuple):
    """A row of the table."""

    name: str
    tokens: int
    rank: int
    losses: dict[str, float]


def main(words: Sequence[str]) -> None:
    """Prepare, deal, train, merge, measure, print."""
    asked = arguments(words)
    work = Path(asked.work or tempfile.mkdtemp())
    recipe = load_recipe(Path(asked.recipe), asked.sets)
    job = Job(recipe, roots_of(recipe, Path(asked.recipe)), RunFolder(work / "corpus"))
    prepare(job)
    whole = Corpus.read(job.folder.corpus / "corpus.json")
    parts = deal(job, whole, asked.by)
    everything = [document for part in parts for document in part]
    central = trained(job, whole, "central", everything)
    seeds = [recipe.seed + number * (asked.seeds == "own") for number in range(len(SITES))]
    sites = [
        trained(with_seed(job, seed), whole, name, part) for name, part, seed in zip(SITES, parts, seeds, strict=True)
    ]
    rows = Rows(work / "central" / "corpus", Corpus.read(work / "central" / "corpus" / "corpus.json"))
    table = [Measured("base", 0, 0, losses(job, rows, whole, None))]
    for name, run in zip(("central", *SITES), (central, *sites), strict=True):
        place = work / name / "run" / "adapter"
        table.append(Measured(name, run.tokens, recipe.train.rank, losses(job, rows, whole, place)))
    places, told = [work / name for name in SITES], {}
    for name, rank in (("merged", None), (f"merged, cut to {asked.rank}", asked.rank)):
        out = work / name.replace(", cut to ", "-") / "run"
        made = combine(places, out, rank)
        told[name] = summary(out)[1][-2:]
        kept = rank or sum(recipe.train.rank for _ in SITES)
        table.append(Measured(name, made.tokens, kept, losses(job, rows, whole, out / "adapter")))
    averaged = average(places, [run.tokens for run in sites], work / "averaged")
    tokens = sum(run.tokens for run in sites)
    table.append(Measured("factors averaged (refused)", tokens, recipe.train.rank, losses(job, rows, whole, averaged)))
    if asked.rounds:
        last = in_rounds(job, whole, parts, asked.rounds, central.epochs)
        found = losses(job, rows, whole, last)
        table.append(Measured(f"{asked.rounds} rounds, cut each time", tokens, recipe.train.rank, found))
    show(asked, job, table, told, [central, *sites])
    if not asked.work:
        shutil.rmtree(work)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.sites")
    parser.add_argument("recipe", nargs="?", default=str(HOUSE / "configs/recipes/quickstart-finance.yaml"))
    parser.add_argument("--by", choices=("document", "source"), default="document")
    parser.add_argument("--seeds", choices=("same", "own"), default="same")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--work", default="")
    parser.add_argument("--set", dest="sets", action="append", default=[])
    return parser.parse_args(words, argparse.Namespace(shown=words))


def deal(job: Job, whole: Corpus, by: str) -> list[list[tuple[int, int, int]]]:
    """The training documents of each site as (start, length, source): by the document's hash, or source by source.

    Of a source that the recipe's shares see less than once, those with the smallest hash, as much as they see.
    """
    parts: list[list[tuple[int, int, int]]] = [[] for _ in SITES]
    lines = pq.read_table(job.folder.corpus / "documents.parquet").to_pylist()
    for number, source in enumerate(whole.sources):
        own = [line for line in lines if line["source"] == source.name and line["split"] == "train"]
        own.sort(key=lambda line: hashed(job.recipe.seed, "site", line["id"]))
        wanted = min(source.repeats, 1.0) * sum(line["tokens"] for line in own)
        for line in own:
            if wanted > 0:
                site = number if by == "source" else hashed(job.recipe.seed, "site of", line["id"])
                parts[site % len(SITES)].append((line["start"], line["tokens"], number))
                wanted -= line["tokens"]
    return parts


def with_seed(job: Job, seed: int, **keys: object) -> Job:
    """The same job with another seed, and with other keys of training."""
    train_part = job.recipe.train.model_copy(update=keys)
    recipe = job.recipe.model_copy(update={"seed": seed, "train": train_part})
    return Job(recipe, job.roots, job.folder)


def trained(job: Job, whole: Corpus, name: str, documents: list[tuple[int, int, int]]) -> Run:
    """Train on these documents, packed as the preparation packs, with the held-out rows of the whole corpus."""
    folder = RunFolder(job.folder.root.parent / name)
    if not (folder.corpus / "corpus.json").is_file():
        shutil.copytree(job.folder.corpus, folder.corpus, ignore=shutil.ignore_patterns("corpus.json", "*.jsonl"))
        pieces = [
            (start + first, size, source)
            for start, length, source in documents
            for first, size in zip(*(part.tolist() for part in cut(length, whole.sequence_length)), strict=True)
        ]
        row_P = pack(np.array([size for _, size, _ in pieces]), whole.sequence_length)
        train_P4 = np.array([(row, *piece) for row, piece in zip(row_P, pieces, strict=True)], np.int64)
        train_P4 = train_P4[np.argsort(row_P, kind="stable")]
        held_P4 = np.load(folder.corpus / "segments.npy")
        held_P4 = held_P4[held_P4[:, 0] >= whole.rows_train]
        count = int(row_P.max()) + 1
        held_P4[:, 0] += count - whole.rows_train
        np.save(folder.corpus / "segments.npy", np.concatenate([train_P4, held_P4]))
        changed = {"name": name, "rows_train": count, "files": files_of(folder.corpus)}
        changed["tokens_train"] = sum(size for _, size, _ in pieces)
        whole.model_copy(update=changed).write(folder.corpus / "corpus.json")
    return train(Job(job.recipe.model_copy(update={"name": name}), job.roots, folder))


def in_rounds(job: Job, whole: Corpus, parts: Sequence[list[tuple[int, int, int]]], rounds: int, epochs: float) -> Path:
    """The adapter after so many rounds, each of an equal part of the epochs and from the merged adapter of the last."""
    work, rank = job.folder.root.parent, job.recipe.train.rank
    start: Path | None = None
    for turn in range(rounds):
        keys = {"epochs": epochs / rounds} | ({"start": str(start), "alpha": rank} if start else {})
        now = with_seed(job, job.recipe.seed + turn, **keys)  # each round in an order of its own
        names = [f"{name}-{turn}" for name in SITES]
        for name, part in zip(names, parts, strict=True):
            trained(now, whole, name, part)
        combine([work / name for name in names], work / f"round-{turn}" / "run", rank)
        start = work / f"round-{turn}" / "run" / "adapter"
    return Path(str(start))


def losses(job: Job, rows: Rows, whole: Corpus, adapter: Path | None) -> dict[str, float]:
    """Held-out loss of each channel in nats per supervised token, float32, of the base or of an adapter on it."""
    causal = load_weights(base_folder(job.recipe.base, job.roots), dtype=torch.float32, attention=register())
    if adapter is not None:
        PeftModel.from_pretrained(causal, adapter)
    model = PackedModel(causal, torch.float32).eval()
    found = {}
    for channel, members in rows.channels(whole).items():
        total, targets = 0.0, 0
        with torch.inference_mode():
            for part in rows.micro_batches(members, TOKENS):
                batch = rows.batch(part)
                total += float(model(batch))
                targets += len(batch.target_S)
        found[channel] = total / max(targets, 1)
    return found


def average(places: Sequence[Path], tokens: Sequence[int], target: Path) -> Path:
    """The adapter that the weighted means of the factors make: what `sectorlm merge` refuses to make."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(places[0] / "run" / "adapter", target)
    read = [load_file(place / "run" / "adapter" / "adapter_model.safetensors") for place in places]
    parts = [count / sum(tokens) for count in tokens]
    mean = {
        name: torch.stack([part * it[name] for part, it in zip(parts, read, strict=True)]).sum(0) for name in read[0]
    }
    save_file(mean, target / "adapter_model.safetensors", metadata={"format": "pt"})
    return target


def show(
    asked: argparse.Namespace, job: Job, table: Sequence[Measured], told: dict[str, list[str]], runs: Sequence[Run]
) -> None:
    """The table as Markdown, with how much of the central gain each adapter has."""
    channels = list(table[0].losses)
    train = job.recipe.train
    print(
        f"\n`python -m benchmarks.sites {' '.join(Path(word).name if '/' in word else word for word in asked.shown)}`\n"
    )
    print(
        f"LoRA rank {train.rank}, alpha {train.alpha}, peak learning rate {train.learning_rate:g}, {runs[0].epochs:g} "
        f"epochs; steps: central {runs[0].steps}, sites {', '.join(str(run.steps) for run in runs[1:])}\n"
    )
    print(f"| adapter | tokens | rank | {' | '.join(f'{name}, nats' for name in channels)} | of central's gain |")
    print(f"|---|---:|---:|{'---:|' * len(channels)}---:|")
    base, central = (table[place].losses[channels[0]] for place in (0, 1))
    for row in table:
        gain = (base - row.losses[channels[0]]) / (base - central)
        values = " | ".join(f"{row.losses[name]:.4f}" for name in channels)
        print(f"| {row.name} | {row.tokens:,} | {row.rank or ''} | {values} | {gain:.0%} |")
    print()
    for name, lines in told.items():
        print(*(f"- {name}: {line}" for line in lines), sep="\n")
    print(f"- torch {torch.__version__}, numpy {np.__version__}; {json.dumps(job.recipe.name)} on {runs[0].base}")


if __name__ == "__main__":
    main(sys.argv[1:])
