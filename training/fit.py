"""What one process has to hold, what there is for it, and whether activations are recomputed: plan and training ask here."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from configs.progress import say
from configs.records import Corpus
from configs.spread import processes
from training.advice import CONTEXT, HOLES, SLACK, Room
from training.legs import counted, most_tokens, useful_flops
from training.memory import Load, formula_bytes, memory_of
from training.meter import peak_memory_bytes
from training.rates import Useful, gpu_named
from training.shape import Shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from configs.job import Job
    from configs.tuning import Train
    from training.legs import Leg
    from training.memory import Memory

GENEROUS = 4
"""Times the formula's activations that no family keeps: gated layers and norms in float32 come to twice to three times."""
LOGITS = 2**30
"""Bytes that the logits of a chunk and their gradients stay below on a GPU (training/loss.py)."""
STATUS = Path("/proc/self/status")


def load_of(train: Train, legs: Sequence[Leg], precision: torch.dtype, device: str, count: int) -> Load:
    """What each of `count` processes holds at the fullest of the phases; `auto` counts as activations that are kept."""
    worst = max((leg.worst for leg in legs), key=lambda it: it.tokens)
    load = _as_asked(train, (worst.tokens, worst.scored), precision, device, count)
    return replace(load, pairs=any(leg.pairs for leg in legs))


def _as_asked(train: Train, sizes: tuple[int, int], precision: torch.dtype, device: str, count: int) -> Load:
    return Load(
        tokens=sizes[0],
        scored=max(1, sizes[1]),
        precision=precision,
        device=device,
        checkpointing=train.checkpoint_activations == "on",
        processes=count,
        sharded=train.parallel == "fsdp",
        four_bit=train.quantise == "nf4",
    )


def room_of(device: torch.device, count: int = 1) -> Room:
    """What there is for one process; a CPU's memory is what the system says is available now, shared by `count`."""
    if device.type == "cuda":
        return Room(float(torch.cuda.mem_get_info(device)[1]), CONTEXT, SLACK)
    holes = SLACK if os.environ.get("MALLOC_TOP_PAD_") or os.environ.get("MALLOC_MMAP_THRESHOLD_") else HOLES
    own = float(held(device))
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Room(free / count + own, own, holes)


def settled(train: Train, shape: Shape, load: Load, room: Room) -> tuple[Load, Memory]:
    """The load and its memory; where the recipe leaves it open, activations are recomputed if they do not fit otherwise."""
    memory = memory_of(shape, load)
    if train.checkpoint_activations == "auto" and not room.holds(memory.total):
        load = replace(load, checkpointing=True)
        memory = memory_of(shape, load)
    return load, memory


def recomputed(job: Job, causal: Any, precision: torch.dtype, room: Room) -> bool:
    """Whether a run computes activations again (Chen et al. 2016): as asked for, or by the same check as the plan's.

    The check follows a step, which costs seconds; it is left out where a generous formula fits. `room` is that of before
    the weights were there. Processes of a run do alike, since parted weights are gathered for it.
    """
    train = job.recipe.train
    if train.checkpoint_activations != "auto":
        return train.checkpoint_activations == "on"
    device = causal.device
    needed = 0.0 if room.holds(_at_most(job, causal, precision)) else _needed(job, device, precision, room)
    lacking = torch.tensor(float(needed), device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(lacking, torch.distributed.ReduceOp.MAX)
    if not float(lacking):
        return False
    say(f"  activations are recomputed: {float(lacking) / 1e9:.1f} GB needed, {room.bytes / 1e9:.1f} GB there")
    return True


def _at_most(job: Job, causal: Any, precision: torch.dtype) -> float:
    """Bytes that a step stays below, from the model as it is and the recipe alone."""
    train, text = job.recipe.train, causal.config.get_text_config()
    values = list(causal.parameters())
    trained = sum(value.numel() for value in values if value.requires_grad)
    weights = sum(value.numel() * value.element_size() for value in values)
    tokens = 2 * max(train.micro_batch_tokens, job.recipe.prepare.sequence_length)  # a pair is longer than a row
    kept = formula_bytes(tokens, text.hidden_size, precision) * text.num_hidden_layers
    # gradient, moments, a flat copy, a reference, and the head's gradient where it is trained: 4 bytes each
    return float(weights + 4 * 6 * trained + GENEROUS * kept + LOGITS)


def _needed(job: Job, device: torch.device, precision: torch.dtype, room: Room) -> float:
    """Bytes that the run needs with its activations kept where they do not fit; 0 where they do."""
    train, count = job.recipe.train, processes()
    corpus = Corpus.read_if_there(job.folder.corpus / "corpus.json")
    if corpus is not None:
        load = load_of(train, counted(job, corpus, count)[1], precision, device.type, count)
    else:  # nothing prepared: as many tokens as the recipe allows
        tokens = most_tokens(train, job.recipe.prepare.sequence_length, count)
        load = _as_asked(train, (tokens, tokens), precision, device.type, count)
    shape = Shape.of(job)
    if not settled(train, shape, load, room)[0].checkpointing:
        return 0.0
    return room.needed(memory_of(shape, load).total)


def useful_of(job: Job, corpus: Corpus, device: torch.device, count: int) -> Useful | None:
    """What a run's utilisation is reckoned with; None on a CPU, and on a card whose peak is not in the table."""
    gpu = gpu_named(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
    if gpu is None:
        return None
    shape, (_, legs) = Shape.of(job), counted(job, corpus, count)
    return Useful(tuple(useful_flops(shape, leg) / leg.seen for leg in legs), gpu.peak * count)


def held(device: torch.device) -> int:
    """Bytes that this process holds now: tensors on a GPU, the resident set elsewhere."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return status("VmRSS") or peak_memory_bytes()


def status(name: str) -> int | None:
    """A figure of /proc/self/status in bytes; None where the system has no such file."""
    with suppress(OSError):
        for line in STATUS.read_text("ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return None
