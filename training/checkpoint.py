"""Checkpoints that are whole or not there: staged, hashed, verified on load, the newest good one used.

A checkpoint holds the trainable parameters, AdamW's two moments, what a phase must remember, and a small state. Data order,
learning rate and dropout are functions of (seed, step), so there is nothing else. Parted weights (fsdp) are put together
first, so that a run may go on with another number of processes.

    checkpoints/step-000200/    weights.safetensors optimizer.safetensors [reference.safetensors] state.json
    checkpoints/best-000150/    weights.safetensors state.json: the best look within the forgetting budget

Which of them a run goes on with is decided in training/resume.py.
"""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from configs.errors import DataError, StorageError
from configs.progress import say
from configs.store import crash_point, digest_json, files_of, remove_folder, staged, verify_files, write_atomic
from training.world import gathered

if TYPE_CHECKING:
    from pathlib import Path

    from training.model import PackedModel

KEPT = 2
"""Checkpoints on disk: the newest, and one before it in case the newest is damaged."""
DAMAGED = "damaged-"
"""Stands before the name of a checkpoint that was found damaged."""


@dataclass
class State:
    """Where a run stands; everything here survives a stop."""

    step: int = 0
    """Optimiser steps taken, applied or skipped."""
    tokens: int = 0
    skipped: int = 0
    """Steps that were not applied."""
    in_a_row: int = 0
    """Steps up to now whose loss or gradient was not finite."""
    rewinds: int = 0
    spikes: int = 0
    seconds: float = 0.0
    segments: int = 1
    """Processes that worked on the run, one after another."""
    micro_batch_tokens: int | None = None
    """Where memory ran out, the size that fits."""
    loss_first: float | None = None
    loss_last: float = float("nan")
    recent: list[float] = field(default_factory=list)
    """The last finite losses of this phase."""
    curve: list[dict[str, Any]] = field(default_factory=list)
    made: list[dict[str, Any]] = field(default_factory=list)
    """For each segment the step it began at and the packages it had."""


@dataclass(frozen=True)
class Origin:
    """What a run is made from."""

    settled: dict[str, Any]
    """Settings and inputs that decide what is learnt: a run does not go on with others."""
    free: dict[str, Any]
    """Settings that may change at a stop."""


def save(
    folder: Path,
    model: PackedModel,
    optimizer: torch.optim.Optimizer,
    state: State,
    origin: Origin,
    *,
    reference: dict[str, torch.Tensor] | None = None,
    writes: bool = True,
) -> None:
    """Write `folder/step-NNNNNN` and prune older ones; with parted weights every process must call it, and one `writes`.

    Raises:
        StorageError: the disk is full; the checkpoints that were there are untouched.
    """
    trainable = gathered(model.trainable(), keep=writes)
    moments = gathered(_moments(model.trainable(), optimizer), keep=writes)
    before = gathered(reference or {}, keep=writes)
    if not writes:
        return
    target = folder / f"step-{state.step:06d}"
    _refuse_full_disk(folder, [*trainable.values(), *moments.values(), *before.values()])
    with staged(target) as staging:
        save_file(trainable, staging / "weights.safetensors")
        save_file(moments, staging / "optimizer.safetensors")
        if before:
            save_file(before, staging / "reference.safetensors")
        crash_point("train.checkpoint")
        _sign(staging, {"state": vars(state), "made_from": origin.settled, "free": origin.free})
    _prune(folder)


def _prune(folder: Path) -> None:
    """Remove all but the last checkpoints, and the best weights that none of them would go on with."""
    for old in by_step(folder)[:-KEPT]:
        remove_folder(old)
    wanted = set()
    for path in by_step(folder):
        with suppress(OSError, ValueError, KeyError, TypeError):
            wanted.add(best_of(State(**read_state(path)["state"])))
    for old in folder.glob("best-*"):
        if old.name not in {best_name(step) for step in wanted if step is not None}:
            remove_folder(old)


def best_of(state: State) -> int | None:
    """The step of the best look so far, as the curve marks it."""
    return next(reversed(best_steps(state)), None)


def best_steps(state: State) -> list[int]:
    """The steps of the looks that were the best when they were taken."""
    return [int(point["step"]) for point in state.curve if point.get("best")]


def best_name(step: int) -> str:
    """The folder of the best weights of a step."""
    return f"best-{step:06d}"


def save_best(folder: Path, model: PackedModel, state: State, *, writes: bool = True) -> None:
    """Keep the weights of this look as the best so far. Earlier ones go when a checkpoint knows of this one."""
    trainable = gathered(model.trainable(), keep=writes)
    if not writes:
        return
    _refuse_full_disk(folder, list(trainable.values()))
    with staged(folder / best_name(state.step)) as staging:
        save_file(trainable, staging / "weights.safetensors")
        _sign(staging, {"step": state.step})


def _sign(staging: Path, content: dict[str, Any]) -> None:
    """Write state.json: `content`, the sha256 of each file beside it, and that of all this."""
    content = content | {"files": files_of(staging)}
    write_atomic(staging / "state.json", json.dumps(content | {"sha256": digest_json(content)}, indent=1))


def read_state(path: Path) -> dict[str, Any]:
    """The content of state.json.

    Raises:
        DataError: it is not what was signed.
    """
    content: dict[str, Any] = json.loads((path / "state.json").read_text("utf-8"))
    if content.pop("sha256", None) != digest_json(content):
        raise DataError("bytes differ from its own sha256", where=str(path / "state.json"))
    return content


def _refuse_full_disk(folder: Path, tensors: list[torch.Tensor]) -> None:
    """Know before writing that there is no room."""
    needed = sum(value.numel() * value.element_size() for value in tensors)
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise StorageError(
            f"a checkpoint of {_size(needed)} needs {_size(needed - free)} more than the {_size(free)} that are free",
            where=str(folder),
            hint="Free some space there and run the same command again: the last checkpoint is intact.",
        )


def _size(count: float) -> str:
    """Bytes as a person reads them.

    >>> _size(81_234), _size(1_240_000_000)
    ('0.081 MB', '1.2 GB')
    """
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:.2g} MB"


def load_best(folder: Path, model: PackedModel, step: int) -> None:
    """Bring the model to the weights of the best look.

    Raises:
        DataError: they were damaged since the run was begun or resumed, which looks at them.
    """
    path = folder / best_name(step)
    try:
        verify_files(path, read_state(path)["files"])
    except (OSError, ValueError, KeyError, DataError) as error:
        raise DataError(
            f"the best weights are damaged ({str(error).splitlines()[0]})",
            where=str(path),
            hint=f"Delete {folder} and run the same command again: it trains anew.",
        ) from error
    _put(load_file(path / "weights.safetensors"), model, path)


def load(
    path: Path, model: PackedModel, optimizer: torch.optim.Optimizer, *, weights_only: bool = False
) -> tuple[State, dict[str, torch.Tensor]]:
    """Bring model and optimiser to a checkpoint that `newest_good` found.

    Returns the state and, in a preference phase, the reference, else nothing. With `weights_only` the moments begin anew,
    so the run no longer ends like an unbroken one.
    """
    _put(load_file(path / "weights.safetensors"), model, path)
    if weights_only:
        say(f"  going on from the weights of {path.name} alone: the optimiser begins anew")
        optimizer.state.clear()
    else:
        _put_moments(load_file(path / "optimizer.safetensors"), model, optimizer)
    kept, state = path / "reference.safetensors", State(**read_state(path)["state"])
    _forget_lost(path.parent, state)
    return state, load_file(kept) if kept.is_file() else {}


def _forget_lost(folder: Path, state: State) -> None:
    """Where the best weights are gone, count on the newest earlier ones that are there, and on no other look: the weights
    of those were never kept.
    """
    marked = best_steps(state)
    if not marked or (folder / best_name(marked[-1])).is_dir():
        return
    there = [step for step in marked if (folder / best_name(step)).is_dir()][-1:]
    for point in state.curve[1:]:
        if point["step"] not in there:
            point.pop("best", None)
            point["lost"] = True


def by_step(folder: Path, *, damaged: bool = False) -> list[Path]:
    """The checkpoints in `folder`, oldest first; with those that were moved aside if `damaged`."""
    steps = {}
    for prefix in (DAMAGED, "") if damaged else ("",):
        for path in folder.glob(f"{prefix}step-*"):
            number = path.name.removeprefix(f"{prefix}step-")
            if number.isdecimal():  # a copy that a person made is none of ours
                steps[path] = int(number)
    return sorted(steps, key=steps.__getitem__)


def _moments(trainable: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's state by parameter name: `NAME:exp_avg`, `NAME:exp_avg_sq`, `NAME:step`."""
    return {
        f"{name}:{key}": value
        for name, parameter in trainable.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _put(values: dict[str, torch.Tensor], model: PackedModel, path: Path) -> None:
    trainable = model.trainable()
    if values.keys() != trainable.keys():
        raise DataError(
            "the checkpoint holds other parameters than this model trains",
            where=str(path),
            hint=f"Other packages name them otherwise: go back to those, or delete {path.parent} to start afresh.",
        )
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(like(values[name], parameter))


def _put_moments(values: dict[str, torch.Tensor], model: PackedModel, optimizer: torch.optim.Optimizer) -> None:
    optimizer.state.clear()
    trainable = model.trainable()
    # AdamW counts its steps on the CPU, but where it is fused beside the parameters, as its moments always are.
    fused = any(group.get("fused") for group in optimizer.param_groups)
    for full_name, value in values.items():
        name, _, key = full_name.rpartition(":")
        parameter = trainable[name]
        optimizer.state[parameter][key] = value if key == "step" and not fused else like(value, parameter)


def like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole tensor where, and in the parts in which, its parameter is."""
    placed = value.to(parameter.device)
    mesh: Any = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return placed
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(placed, mesh, parameter.placements)  # type: ignore[attr-defined]
