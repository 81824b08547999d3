"""What a run would do, before any of it is done: data, steps, parameters, memory, hours, cost and disk.

From the recipe, the base's config and, where `prepare` has run, the corpus record. Numbers that rest on file sizes instead
of counted tokens are marked `estimated`. With `probe` the worst batch goes through the real model on this device first.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from configs.errors import DataError, RecipeError
from configs.records import Corpus
from training.advice import CONTEXT, HOLES, SLACK, Room, remedies, room_on_disk, warnings
from training.batches import Rows, Schedule, epochs_of
from training.checkpoint import KEPT
from training.memory import Load, Memory, memory_of
from training.model import precision_of
from training.probe import Probed, Worst, compared, held, probe
from training.rates import CPU_EFFICIENCY, EFFICIENCY, Machine, cost, gpu_named, matrix_rate
from training.shape import Shape

if TYPE_CHECKING:
    from configs.job import Job

BYTES_PER_TOKEN = 3.5
"""Bytes of text per token, English and Chinese about alike with vocabularies of 32k and more: the guess before counting."""


class Asked(NamedTuple):
    """What a plan is made for, and how: the machine, and whether the worst batch is tried on this one."""

    machine: Machine = Machine()
    probe: bool = False


def plan(job: Job, asked: Asked = Asked()) -> dict[str, Any]:  # noqa: B008 - a tuple never changes
    """The plan of a recipe, section by section, ready for a table or for JSON.

    Raises:
        DataError: a source or the base is missing, or there is no corpus to probe with.
        RecipeError: the recipe does not fit the base.
    """
    corpus = Corpus.read_if_there(job.folder.corpus / "corpus.json")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    machine = _here(asked, device)
    shape = Shape.of(job)
    data = _counted(corpus) if corpus else _guessed(job)
    schedule, steps = _steps(job, corpus, data["tokens"])
    _passes(data, steps["epochs"])
    worst, squares, scored = _batches(job, corpus, data["tokens"])
    load = _load(job, machine, worst, device)
    room = _room(machine, device)
    probed = _probed(job, corpus, schedule, device) if asked.probe else None
    load, memory = _checkpointed(job, shape, load, room)
    disk = _disk(job, shape, data["tokens"])
    flops = shape.flops(steps["tokens"], steps["tokens"] * scored, steps["tokens"] * squares)
    sections = {
        "data": data,
        "training": steps | _parameters(shape) | {"precision": str(load.precision).removeprefix("torch.")},
        "memory_gb": _gigabytes(memory, room) | {"basis": _basis(memory, load, worst)},
        "fits": _fits(shape, load, room, job.recipe.prepare.sequence_length, memory),
        "time": _time(job, machine, device, flops, steps["tokens"]),
        "disk_gb": disk,
    }
    if probed is not None and corpus is not None:
        sections["probe"] = compared(probed, memory, steps, sections["time"], (job, corpus))
    return sections | {"warnings": warnings(job, shape, steps, corpus, machine) + room_on_disk(job, disk)}


def _here(asked: Asked, device: torch.device) -> Machine:
    """The machine as asked for, or this one's card where it is known."""
    machine = asked.machine
    if asked.probe and machine.gpu is not None:
        raise RecipeError("--probe measures this machine, --gpu names another", where="plan", hint="Give one of them.")
    if machine.gpu is None and device.type == "cuda":
        return machine._replace(gpu=gpu_named(torch.cuda.get_device_name(device)))
    return machine


# ---------------------------------------------------------------- data and steps


def _counted(corpus: Corpus) -> dict[str, Any]:
    sources = {
        source.name: {
            "channel": source.channel,
            "documents": source.documents,
            "tokens": source.tokens,
            "repeats": source.repeats,
            "tokens_train": source.tokens_train,
        }
        for source in corpus.sources
    }
    return {"tokens": corpus.tokens_train, "documents": corpus.documents, "estimated": False, "sources": sources}


def _guessed(job: Job) -> dict[str, Any]:
    """Tokens from file sizes; compressed files count three times their size."""
    sources: dict[str, dict[str, Any]] = {}
    for source in job.recipe.corpora:
        size = 0.0
        for path in source.paths:
            if path.startswith("hf:"):
                continue
            packed = (".zip", ".gz", ".zst", ".tar", ".parquet", ".xlsx")
            size += sum(file.stat().st_size * (3 if file.suffix in packed else 1) for file in job.find(path))
        tokens = round(size / BYTES_PER_TOKEN)
        sources[source.name] = {
            "channel": source.channel,
            "documents": None,
            "tokens": tokens,
            "repeats": None,
            "tokens_train": tokens,
        }
    tokens = sum(entry["tokens"] for entry in sources.values())
    return {"tokens": tokens, "documents": None, "estimated": True, "sources": sources}


def _steps(job: Job, corpus: Corpus | None, tokens: int) -> tuple[Schedule, dict[str, Any]]:
    recipe = job.recipe
    length = corpus.sequence_length if corpus else recipe.prepare.sequence_length
    epochs = epochs_of(recipe.train, corpus) if corpus else recipe.train.epochs or 3.0
    rows = corpus.rows_train if corpus else max(1, tokens // length)
    if rows == 0:
        raise DataError("the corpus has no training rows", where=str(job.folder.corpus))
    schedule = Schedule(rows, max(1, recipe.train.batch_tokens // length), epochs, recipe.seed, recipe.train.max_steps)
    passes = schedule.seen(schedule.steps) / rows
    return schedule, {
        "rows": rows,
        "rows_per_step": schedule.rows_per_step,
        "steps": schedule.steps,
        "epochs": round(passes, 4),
        "tokens": round(tokens * passes),
    }


def _passes(data: dict[str, Any], epochs: float) -> None:
    """Add to each source how often it is passed over, and the tokens that the run sees of it."""
    for source in data["sources"].values():
        source["epochs"] = round((source["repeats"] or 1.0) * epochs, 2)
        source["tokens_seen"] = round(source.pop("tokens_train") * epochs)


def _batches(job: Job, corpus: Corpus | None, tokens: int) -> tuple[Worst, float, float]:
    """The worst micro-batch; squared lengths of documents per token, and the supervised part, of the training rows."""
    recipe = job.recipe
    if corpus is None:
        length = recipe.prepare.sequence_length
        whole = max(1, min(recipe.train.micro_batch_tokens, recipe.train.batch_tokens) // length) * length
        whole = min(whole, max(1, tokens))
        return Worst([], whole, whole, max(1, whole // length), min(length, whole)), float(length), 1.0
    rows = Rows(job.folder.corpus, corpus)
    lengths = rows.segments[: rows.first[rows.train], 2]
    most = min(recipe.train.micro_batch_tokens, recipe.train.batch_tokens)
    squares = float(np.square(lengths).sum() / max(1, lengths.sum()))
    return Worst.of(rows, most), squares, corpus.supervised_train / max(1, corpus.tokens_train)


# ---------------------------------------------------------------- memory


def _parameters(shape: Shape) -> dict[str, Any]:
    return {
        "total_parameters": shape.total,
        "trainable_parameters": shape.trainable,
        "layers": shape.layers,
        "width": shape.width,
        "vocabulary": shape.vocabulary,
    }


def _load(job: Job, machine: Machine, worst: Worst, device: torch.device) -> Load:
    train = job.recipe.train
    precision = precision_of(train, device)
    if machine.gpu is not None:  # a card that may not be here
        reduced = train.precision == "bfloat16" or (train.precision == "auto" and machine.gpu.bfloat16)
        precision = torch.bfloat16 if reduced else torch.float32
    return Load(
        tokens=worst.tokens,
        scored=max(1, worst.scored),
        precision=precision,
        device="cuda" if machine.gpu is not None else device.type,
        checkpointing=train.checkpoint_activations == "on",
        processes=machine.cards,
        sharded=train.parallel == "fsdp",
        four_bit=train.quantise == "nf4",
    )


def _room(machine: Machine, device: torch.device) -> Room:
    """What there is for one process; a CPU's memory is what the system says is available now."""
    if machine.gpu is not None:
        return Room(machine.gpu.memory, CONTEXT, SLACK)
    if device.type == "cuda":
        return Room(float(torch.cuda.mem_get_info(device)[1]), CONTEXT, SLACK)
    holes = SLACK if os.environ.get("MALLOC_TOP_PAD_") or os.environ.get("MALLOC_MMAP_THRESHOLD_") else HOLES
    own = float(held(device))
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Room(free + own, own, holes)


def _checkpointed(job: Job, shape: Shape, load: Load, room: Room) -> tuple[Load, Memory]:
    """Memory of the load; where the recipe leaves it open, activations are recomputed if they do not fit otherwise."""
    memory = memory_of(shape, load)
    if job.recipe.train.checkpoint_activations == "auto" and not room.holds(memory.total):
        load = replace(load, checkpointing=True)
        memory = memory_of(shape, load)
    return load, memory


def _gigabytes(memory: Memory, room: Room) -> dict[str, Any]:
    parts = memory.parts() | {
        "tensors": memory.total,
        "allocator": memory.total * room.slack,
        "framework": room.overhead,
        "total": room.needed(memory.total),
        "available": room.bytes,
    }
    return {name: round(value / 1e9, 3) for name, value in parts.items()}


def _basis(memory: Memory, load: Load, worst: Worst) -> str:
    how = "a step followed without values" if memory.followed else "a formula (this family's step cannot be followed)"
    again = ", activations recomputed" if load.checkpointing else ""
    shared = f", {'sharded over' if load.sharded else 'on each of'} {load.processes}" if load.processes > 1 else ""
    return f"{how}: {worst.tokens:,} tokens in the largest micro-batch{again}{shared}"


def _fits(shape: Shape, load: Load, room: Room, row: int, memory: Memory) -> dict[str, Any]:
    if room.holds(memory.total):
        return {"answer": "fits", "remedies": []}
    return {"answer": "does not fit", "remedies": remedies(shape, load, room, row)}


# ---------------------------------------------------------------- time, disk, probe


def _time(job: Job, machine: Machine, device: torch.device, flops: float, tokens: int) -> dict[str, Any]:
    """Hours from the useful FLOPs of training, a peak rate, and the part of it that is reached; and what they cost."""
    if machine.gpu is not None:
        name, peak, part = f"{machine.cards} x {machine.gpu.title}", machine.gpu.peak, EFFICIENCY
        basis = "assumed; --probe measures it on the device itself"
    else:
        name, part = f"this machine's {device}", CPU_EFFICIENCY
        peak = matrix_rate(device, precision_of(job.recipe.train, device))
        basis = "assumed, of a matrix product measured now; --probe measures it"
    seconds = flops / (peak * part * machine.cards)
    return {
        "device": name,
        "flops": float(f"{flops:.4g}"),
        "peak_tflops": round(peak / 1e12, 4),
        "efficiency": part,
        "efficiency_is": basis,
        "tokens_per_second": round(tokens / seconds, 1),
        "hours": float(f"{seconds / 3600:.4g}"),
    } | cost(machine, seconds)


def _disk(job: Job, shape: Shape, tokens: int) -> dict[str, float]:
    """Gigabytes that a run may take at its fullest: while a checkpoint is written there is one more than are kept."""
    trainable = shape.trainable * 4
    merged = shape.total * 4 if job.recipe.publish.merged else 0
    corpus = tokens * (3 if shape.vocabulary <= 2**16 else 5)
    parts = {
        "corpus": corpus,
        "shards": corpus
        + tokens * BYTES_PER_TOKEN,  # the same tokens, and texts that are compressed beside their columns
        "checkpoints": (KEPT + 1) * 3 * trainable,
        "weights": trainable,
        "release": trainable + merged,
    }
    return {name: round(size / 1e9, 3) for name, size in (parts | {"total": sum(parts.values())}).items()}


def _probed(job: Job, corpus: Corpus | None, schedule: Schedule, device: torch.device) -> Probed:
    if corpus is None:
        raise DataError(
            "nothing to probe with: the corpus is not prepared",
            where=str(job.folder.corpus),
            hint="`sectorlm prepare` with the same recipe first.",
        )
    return probe(job, corpus, schedule, device)
