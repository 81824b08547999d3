"""Checkpoints that are whole or not there: staged, hashed, verified on load, the newest good one used.

A checkpoint holds the trainable parameters, AdamW's two moments, what a phase must remember, and a small state. Data order,
learning rate and dropout are functions of (seed, step), so there is nothing else. Parted weights (fsdp) are put together
first, so that a run may go on with another number of processes.

    checkpoints/step-000200/    weights.safetensors optimizer.safetensors [reference.safetensors] state.json
    checkpoints/best-000150/    weights.safetensors state.json: the best look within the forgetting budget
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from configs.errors import DataError, RecipeError, StorageError
from configs.progress import say
from configs.records import packages
from configs.store import crash_point, files_of, remove_folder, staged, verify_files, write_atomic
from training.world import whole

if TYPE_CHECKING:
    from pathlib import Path

    from training.model import PackedModel

KEPT = 2
"""Checkpoints on disk: the newest, and one before it in case the newest is damaged."""


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
    """The last losses that were applied."""
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
    trainable = {name: whole(value) for name, value in model.trainable().items()}
    moments = _moments(model.trainable(), optimizer)
    before = {name: whole(value) for name, value in (reference or {}).items()}
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
    for old in _by_step(folder)[:-KEPT]:
        remove_folder(old)
    best = best_of(state)
    for old in folder.glob("best-*"):
        if best is not None and old.name != f"best-{best:06d}":
            remove_folder(old)


def best_of(state: State) -> int | None:
    """The step of the best look so far, as the curve marks it."""
    return next((int(point["step"]) for point in reversed(state.curve) if point.get("best")), None)


def save_best(folder: Path, model: PackedModel, state: State, *, writes: bool = True) -> None:
    """Keep the weights of this look as the best so far. Earlier ones go when a checkpoint knows of this one."""
    trainable = {name: whole(value) for name, value in model.trainable().items()}
    if not writes:
        return
    _refuse_full_disk(folder, list(trainable.values()))
    with staged(folder / f"best-{state.step:06d}") as staging:
        save_file(trainable, staging / "weights.safetensors")
        _sign(staging, {"step": state.step})


def _sign(staging: Path, content: dict[str, Any]) -> None:
    write_atomic(staging / "state.json", json.dumps(content | {"files": files_of(staging)}, indent=1))


def _refuse_full_disk(folder: Path, tensors: list[torch.Tensor]) -> None:
    """Know before writing that there is no room."""
    needed = sum(value.numel() * value.element_size() for value in tensors)
    there = next(place for place in (folder, *folder.parents) if place.is_dir())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise StorageError(
            f"a checkpoint needs {(needed - free) / 1e9:.2g} GB more than the {free / 1e9:.2g} GB that are free",
            where=str(folder),
            hint="Free some space there and run the same command again: the last checkpoint is intact.",
        )


def load_best(folder: Path, model: PackedModel, step: int) -> None:
    """Bring the model to the weights of the best look.

    Raises:
        DataError: they are damaged.
    """
    path = folder / f"best-{step:06d}"
    try:
        verify_files(path, json.loads((path / "state.json").read_text("utf-8"))["files"])
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            "the best weights are damaged", where=str(path), hint=f"Delete {folder}: train again."
        ) from error
    _put(load_file(path / "weights.safetensors"), model, path)


def load_newest(
    folder: Path,
    model: PackedModel,
    optimizer: torch.optim.Optimizer,
    origin: Origin,
    *,
    weights_only: bool = False,
) -> tuple[State, dict[str, torch.Tensor] | None] | None:
    """Bring model and optimiser to the newest checkpoint whose bytes are what its state says; None if there is none.

    Returns the state and, in a preference phase, the reference. A damaged checkpoint is moved aside as
    `damaged-step-NNNNNN` and named. With `weights_only` one whose optimiser state alone is lost will do: the moments begin
    anew, so the run no longer ends like an unbroken one.

    Raises:
        RecipeError: the checkpoints were made from another recipe, corpus or base.
    """
    for path in reversed(_by_step(folder)):
        try:
            content = json.loads((path / "state.json").read_text("utf-8"))
            files = dict(content["files"])
            if weights_only:
                files.pop("optimizer.safetensors", None)
            verify_files(path, files)
            state = State(**content["state"])
        except (DataError, OSError, ValueError, KeyError, TypeError) as error:
            _set_aside(path, error)
            continue
        _refuse_other_recipe(content["made_from"], origin.settled, folder)
        _tell_changes(content.get("free", {}), origin.free, state)
        _put(load_file(path / "weights.safetensors"), model, path)
        if weights_only:
            say(f"  going on from the weights of {path.name} alone: the optimiser begins anew")
        else:
            _put_moments(load_file(path / "optimizer.safetensors"), model, optimizer)
        kept = path / "reference.safetensors"
        return state, load_file(kept) if kept.is_file() else None
    return None


def _set_aside(path: Path, error: Exception) -> None:
    aside = path.with_name(f"damaged-{path.name}")
    if path.exists():  # several processes may find the same damage
        remove_folder(aside)
        path.rename(aside)
    reason = str(error).splitlines()[0]
    say(f"  checkpoint {path.name} is damaged ({reason}); moved to {aside.name}, trying the one before")


def _by_step(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def _tell_changes(before: dict[str, Any], now: dict[str, Any], state: State) -> None:
    """What differs from before the stop and may: settings that change what is seen, and versions of packages."""
    changed = [f"{key} {before[key]} -> {now[key]}" for key in now if key in before and before[key] != now[key]]
    if changed:
        say(f"  changed since the stop, without effect on what is learnt: {', '.join(changed)}")
    old, new = (state.made[-1]["packages"] if state.made else {}), packages()
    differing = [f"{name} {old.get(name)} -> {new[name]}" for name in new if old and old.get(name) != new[name]]
    if differing:
        say(f"  other packages than before the stop, so numbers may differ: {', '.join(differing)}")


def _refuse_other_recipe(old: dict[str, Any], new: dict[str, Any], folder: Path) -> None:
    differing = [
        f"{key}: {old.get(key, 'unset')} -> {new.get(key, 'unset')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differing:
        raise RecipeError(
            "this unfinished run was started from something else:\n    " + "\n    ".join(differing),
            where=str(folder),
            hint=f"Undo the change to resume, give the run another name, or delete {folder} to start afresh.",
        )


def _moments(trainable: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """AdamW's state by parameter name: `NAME:exp_avg`, `NAME:exp_avg_sq`, `NAME:step`."""
    return {
        f"{name}:{key}": whole(value)
        for name, parameter in trainable.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _put(values: dict[str, torch.Tensor], model: PackedModel, path: Path) -> None:
    trainable = model.trainable()
    if values.keys() != trainable.keys():
        raise DataError("the checkpoint holds other parameters than this model trains", where=str(path))
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(like(values[name], parameter))


def _put_moments(values: dict[str, torch.Tensor], model: PackedModel, optimizer: torch.optim.Optimizer) -> None:
    optimizer.state.clear()
    trainable = model.trainable()
    for full_name, value in values.items():
        name, _, key = full_name.rpartition(":")
        parameter = trainable[name]
        # AdamW counts steps on the CPU; the moments live beside their parameter.
        optimizer.state[parameter][key] = value if key == "step" else like(value, parameter)


def like(value: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """A whole tensor where, and in the parts in which, its parameter is."""
    placed = value.to(parameter.device)
    mesh: Any = getattr(parameter, "device_mesh", None)
    if mesh is None:
        return placed
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(placed, mesh, parameter.placements)  # type: ignore[attr-defined]
