"""What an expert would say before a run: whether it fits and what would make it fit, and what looks odd about it."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from training.adapters import TAKES_FROM_BASE
from training.memory import Load, memory_by_tokens, memory_of

if TYPE_CHECKING:
    from configs.job import Job
    from configs.tuning import Train
    from training.rates import Machine
    from training.shape import Shape

MOST_PASSES = 4
"""Passes over a text beyond which repeating it is worth much less than new text (Muennighoff et al. 2023, section 5)."""
FEW_STEPS = 20
"""Steps below which a loss tells more about the warm-up than about the data."""
SERVED_RANKS = (16, 32, 64, 128, 256, 320, 512)
"""What vLLM's `--max-lora-rank` may be, the first of them unasked (0.22, vllm/config/lora.py); more costs memory for every
adapter."""
CONTEXT = 0.6e9
"""Bytes that CUDA's context and the matrix libraries take on a card beside the tensors: an assumption, 0.4 to 0.8 GB."""
SLACK = 0.05
"""Part of a GPU's tensors that caching and alignment cost on top: an assumption."""
HOLES = 1.0
"""Part of a CPU's tensors that glibc keeps as holes on top, for models whose tensors are mostly above 4 MB; measured 0.8 to
1.3 on 19M parameters, and 2 to 5 on 3M, whose total is small. 0.05 with MALLOC_TOP_PAD_=131072 in the environment, which costs
small models up to 40 % of their speed (docs/plan.md)."""


class Room(NamedTuple):
    """What a device has for the tensors of one process."""

    bytes: float
    overhead: float
    """Bytes that are gone before the first tensor."""
    slack: float
    """Part on top of what the tensors take."""

    def holds(self, tensors: float) -> bool:
        """Whether tensors of this size fit."""
        return self.needed(tensors) <= self.bytes

    def needed(self, tensors: float) -> float:
        """Bytes of the device that tensors of this size come to."""
        return tensors * (1 + self.slack) + self.overhead


def remedies(shape: Shape, load: Load, room: Room, row: int) -> list[str]:
    """What makes a load fit that does not, the cheapest first: smaller micro-batches, recomputation, 4 bits, sharding.

    `row` is the length of a packed row, below which a micro-batch cannot go.
    """
    found: list[str] = []
    cheap: list[tuple[str, Load]] = [
        ("", load),
        ("train.checkpoint_activations: on", replace(load, checkpointing=True)),
    ]
    if shape.linear:
        cheap.append(("the base in 4 bits", replace(load, four_bit=True)))
        cheap.append(
            ("the base in 4 bits and recomputed activations", replace(load, four_bit=True, checkpointing=True))
        )
    for name, other in cheap:
        tokens = largest(shape, other, room, row)
        if tokens is None or (name and tokens < load.tokens and found):
            continue
        smaller = f"train.micro_batch_tokens: {tokens}" if tokens < load.tokens else ""
        needed = room.needed(memory_by_tokens(shape, other)(min(tokens, load.tokens)))
        found.append(f"{' and '.join(filter(None, (name, smaller)))}: {needed / 1e9:.1f} GB")
    spread = replace(load, checkpointing=True, sharded=True)
    for processes in (2, 4, 8, 16, 32, 64):
        needed = room.needed(memory_of(shape, replace(spread, processes=processes)).total)
        if processes > load.processes * load.sharded and needed <= room.bytes:
            found.append(
                f"train.parallel: fsdp over {processes} GPUs, recomputed activations: {needed / 1e9:.1f} GB each"
            )
            break
    return found or ["shorten prepare.sequence_length, or take a smaller base: nothing else helps"]


def largest(shape: Shape, load: Load, room: Room, row: int) -> int | None:
    """The most tokens of a micro-batch, in whole rows, that fit; None where not even one row does."""
    by_tokens = memory_by_tokens(shape, load)
    rows = max(1, load.tokens // row)
    fitting = [count * row for count in range(rows, 0, -1) if room.holds(by_tokens(count * row))]
    return min(fitting[0], load.tokens) if fitting else None


def warnings(job: Job, shape: Shape, steps: dict[str, Any], data: dict[str, Any], machine: Machine) -> list[str]:
    """What an expert would ask about before starting."""
    return [
        *_of_learning(job, shape, steps, data),
        *_of_sources(job, data),
        *_of_serving(job.recipe.train, job.recipe.publish.merged),
        *_of_precision(job, machine),
    ]


def _of_learning(job: Job, shape: Shape, steps: dict[str, Any], data: dict[str, Any]) -> list[str]:
    train, found = job.recipe.train, []
    adapters = train.method not in ("full", "scratch")
    shapes = {source.name: source.shape for source in job.recipe.corpora}
    text = sum(it["tokens_seen"] for name, it in data["sources"].items() if shapes.get(name) == "text")
    if adapters and text > 2 * shape.trainable:
        found.append(
            f"{text:,} tokens of text for {shape.trainable:,} adapter parameters: above twice "
            "their number LoRA learns less than full tuning (Thinking Machines 2025); raise train.rank"
        )
    if adapters and train.learning_rate < 5e-5:
        found.append(
            f"learning rate {train.learning_rate:g} is one for full tuning; LoRA wants about ten times as much"
        )
    if train.method == "full" and train.learning_rate > 1e-4:
        found.append(f"learning rate {train.learning_rate:g} is one for LoRA; full tuning wants about a tenth of it")
    if steps["steps"] < FEW_STEPS:
        found.append(f"{steps['steps']} steps are few: {_more_steps(train, steps['steps'])}")
    return found


def _more_steps(train: Train, steps: int) -> str:
    """What gives a run more steps: smaller ones, or, where `max_steps` ends every phase, a higher limit."""
    limits = [phase.max_steps or train.max_steps for phase in train.phases] or [train.max_steps]
    if steps < sum(limit or FEW_STEPS for limit in limits):
        return "lower train.batch_tokens"
    own = any(phase.max_steps for phase in train.phases)
    return f"raise {'max_steps of train.phases' if own else 'train.max_steps'}"


def _of_sources(job: Job, data: dict[str, Any]) -> list[str]:
    passes = {} if data["estimated"] else {name: it["epochs"] for name, it in data["sources"].items()}
    found = [
        f"{name}: {count:.1f} passes over the same text; beyond {MOST_PASSES} they teach little "
        "(Muennighoff et al. 2023): fewer train.epochs, a smaller share, or more text"
        for name, count in passes.items()
        if count > MOST_PASSES
    ]
    hub = [it.name for it in job.recipe.corpora if any(path.startswith("hf:") for path in it.paths)]
    if hub and data["estimated"]:
        found.append(f"{', '.join(hub)}: read from the hub, not counted here; `sectorlm prepare` counts")
    return found


def saved_rank(train: Train) -> int:
    """Rank of the adapter as it is saved: factors that began with a part of the base stand beside that part."""
    return 2 * train.rank if train.init in TAKES_FROM_BASE else train.rank


def _of_serving(train: Train, merged: bool) -> list[str]:
    """What stands in the way of serving the adapter with vLLM; merged weights are served like any model."""
    if train.method != "lora":
        return []
    found, instead = [], "serve the merged weights" if merged else "set publish.merged: true"
    if train.dora:
        found.append(f"to serve with vLLM: it takes no DoRA adapters; {instead}")
    if train.new_tokens:
        found.append(f"to serve with vLLM: it takes no adapters with new tokens; {instead}")
    rank = saved_rank(train)
    twice = f" (twice train.rank: init is {train.init})" if rank != train.rank else ""
    needed = next((it for it in SERVED_RANKS if it >= rank), None)
    if needed is None:
        found.append(f"to serve with vLLM: it takes no adapters of rank {rank}{twice}; {instead}")
    elif needed != SERVED_RANKS[0]:
        found.append(
            f"to serve with vLLM: an adapter of rank {rank}{twice} needs --max-lora-rank {needed}, or {instead}"
        )
    return found


def _of_precision(job: Job, machine: Machine) -> list[str]:
    if machine.gpu is None:
        return []
    if not machine.gpu.bfloat16:
        return [f"{machine.gpu.title} has no bfloat16: train.precision: float32, and several times the hours told here"]
    if job.recipe.train.precision == "float32":
        return ["train.precision is float32: the hours told here are for 16 bits, a GPU takes several times as long"]
    return []


def room_on_disk(job: Job, disk: dict[str, float]) -> list[str]:
    """A warning where the run folder cannot be written, or has less room than the run may take."""
    root = job.folder.root.resolve()
    there = next(folder for folder in (root, *root.parents) if folder.is_dir())
    if not os.access(there, os.W_OK) or os.statvfs(there).f_flag & os.ST_RDONLY:
        return [f"{there} cannot be written: choose another place with --runs DIR"]
    free = shutil.disk_usage(there).free / 1e9
    return [f"{disk['total']:.2f} GB needed in {there}, {free:.2f} GB free"] if free < disk["total"] else []
