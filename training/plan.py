"""What a run would do, before any of it is done: data, steps, parameters, memory, hours, cost and disk.

From the recipe, the base's config and, where `prepare` has run, the corpus record. Numbers that rest on file sizes instead
of counted tokens are marked `estimated`. With `probe` the worst batch goes through the real model on this device first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from configs.errors import DataError, RecipeError
from configs.records import Corpus
from training.advice import CONTEXT, SLACK, Room, remedies, room_on_disk, saved_rank, warnings
from training.checkpoint import KEPT
from training.fit import load_of, room_of, settled
from training.legs import counted, guessed, passed, useful_flops
from training.model import precision_of
from training.probe import compared, probe
from training.rates import CPU_EFFICIENCY, EFFICIENCY, Machine, cost, gpu_named, matrix_rate
from training.shape import Shape

if TYPE_CHECKING:
    from configs.job import Job
    from configs.tuning import Train
    from training.course import Course
    from training.legs import Leg
    from training.memory import Load, Memory

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
    machine, train = _here(asked, device), job.recipe.train
    if asked.probe and corpus is None:
        raise DataError(
            "nothing to probe with: the corpus is not prepared",
            where=str(job.folder.corpus),
            hint="`sectorlm prepare` with the same recipe first.",
        )
    shape = Shape.of(job)
    data = _counted(corpus) if corpus else _guessed(job)
    course, legs = _legs(job, corpus, data, machine.cards)
    steps = _steps(legs)
    passed(legs, data["sources"])
    load = load_of(train, legs, _precision(train, machine, device), _kind(machine, device), machine.cards)
    named = asked.machine.gpu  # of the card that is here, training asks the driver, and so does its plan
    room = Room(named.memory, CONTEXT, SLACK) if named else room_of(device, machine.cards)
    probed = probe(job, corpus, (course, legs), device) if asked.probe and corpus and course else None
    load, memory = settled(train, shape, load, room)
    disk = _disk(job, shape, data["tokens"])
    sections = {
        "data": data,
        "training": steps | _parameters(shape) | {"precision": str(load.precision).removeprefix("torch.")},
        "memory_gb": _gigabytes(memory, room) | {"basis": _basis(memory, load)},
        "fits": _fits(shape, load, room, job.recipe.prepare.sequence_length, memory),
        "time": _time(job, machine, device, sum(useful_flops(shape, leg) for leg in legs), steps["tokens"]),
        "disk_gb": disk,
    }
    if probed is not None and corpus is not None:
        sections["probe"] = compared(probed, memory, steps, sections["time"], (job, corpus))
    return sections | {"warnings": warnings(job, shape, steps, data, machine) + room_on_disk(job, disk)}


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
        }
    tokens = sum(entry["tokens"] for entry in sources.values())
    return {"tokens": tokens, "documents": None, "estimated": True, "sources": sources}


def _legs(job: Job, corpus: Corpus | None, data: dict[str, Any], processes: int) -> tuple[Course | None, list[Leg]]:
    """The phases: over the corpus by the course that training takes, before that from the sources' guessed tokens."""
    if corpus is not None:
        return counted(job, corpus, processes)
    tokens = {name: source["tokens"] for name, source in data["sources"].items()}
    return None, guessed(job.recipe, tokens, processes)


def _steps(legs: list[Leg]) -> dict[str, Any]:
    rows, seen = sum(leg.schedule.rows for leg in legs), sum(leg.schedule.seen(leg.schedule.steps) for leg in legs)
    return {
        "rows": rows,
        "rows_per_step": legs[0].schedule.rows_per_step,
        "steps": sum(leg.schedule.steps for leg in legs),
        "epochs": round(seen / rows, 4),
        "tokens": round(sum(leg.seen for leg in legs)),
    }


# ---------------------------------------------------------------- memory


def _parameters(shape: Shape) -> dict[str, Any]:
    return {
        "total_parameters": shape.total,
        "trainable_parameters": shape.trainable,
        "layers": shape.layers,
        "width": shape.width,
        "vocabulary": shape.vocabulary,
    }


def _kind(machine: Machine, device: torch.device) -> str:
    return "cuda" if machine.gpu is not None else device.type


def _precision(train: Train, machine: Machine, device: torch.device) -> torch.dtype:
    """The number format, also on a card that is not here."""
    if machine.gpu is None or train.precision != "auto":
        return precision_of(train, device)
    return torch.bfloat16 if machine.gpu.bfloat16 else torch.float32


def _gigabytes(memory: Memory, room: Room) -> dict[str, Any]:
    parts = memory.parts() | {
        "tensors": memory.total,
        "allocator": memory.total * room.slack,
        "framework": room.overhead,
        "total": room.needed(memory.total),
        "available": room.bytes,
    }
    return {name: round(value / 1e9, 3) for name, value in parts.items()}


def _basis(memory: Memory, load: Load) -> str:
    how = "a step followed without values" if memory.followed else "a formula (this family's step cannot be followed)"
    again = ", activations recomputed" if load.checkpointing else ""
    shared = f", {'sharded over' if load.sharded else 'on each of'} {load.processes}" if load.processes > 1 else ""
    return f"{how}: {load.tokens:,} tokens in the largest micro-batch{again}{shared}"


def _fits(shape: Shape, load: Load, room: Room, row: int, memory: Memory) -> dict[str, Any]:
    if room.holds(memory.total):
        return {"answer": "fits", "remedies": []}
    return {"answer": "does not fit", "remedies": remedies(shape, load, room, row)}


# ---------------------------------------------------------------- time, disk, probe


def readable(sections: dict[str, Any]) -> dict[str, Any]:
    """The sections as a terminal shows them: times below a minute in seconds, sums below a cent as that.

    >>> readable({"time": {"hours": 0.001, "usd_per_gpu_hour": 2.0, "usd": 0.0}})["time"]
    {'seconds': 3.6, 'usd_per_gpu_hour': 2.0, 'usd': 'less than 0.01'}
    """
    shown: dict[str, Any] = {}
    for key, value in sections.items():
        hours = value if isinstance(value, int | float) else value.get("measured") if isinstance(value, dict) else None
        if "hours" in key and hours is not None and hours < 1 / 60:
            shown[key.replace("hours", "seconds")] = _seconds(value)
        elif key == "usd" and value == 0 < sections.get("usd_per_gpu_hour", 0):
            shown[key] = "less than 0.01"
        else:
            shown[key] = readable(value) if isinstance(value, dict) else value
    return shown


def _seconds(hours: Any) -> Any:
    """Hours as seconds, also in a row of `compared`; a ratio stays."""
    if isinstance(hours, dict):
        return {name: it if name == "ratio" else _seconds(it) for name, it in hours.items()}
    return float(f"{3600 * hours:.4g}")


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
    train, trainable = job.recipe.train, shape.trainable * 4
    twice = saved_rank(train) // train.rank if train.method == "lora" else 1
    saved = trainable + (twice - 1) * shape.factors * 4
    pairs = any(phase.objective == "preference" for phase in train.phases)
    corpus = tokens * (3 if shape.vocabulary <= 2**16 else 5)
    parts = {
        "base": shape.stored if train.new_tokens else 0.0,
        "corpus": corpus,
        "shards": corpus
        + tokens * BYTES_PER_TOKEN,  # the same tokens, and texts that are compressed beside their columns
        "checkpoints": (KEPT + 1) * (3 + pairs) * trainable,
        "best": (KEPT + 1) * trainable if train.max_general_loss_increase is not None else 0.0,
        "weights": saved,
        "release": saved + (shape.total * 4 if job.recipe.publish.merged else 0),
    }
    return {name: round(size / 1e9, 3) for name, size in (parts | {"total": sum(parts.values())}).items()}
