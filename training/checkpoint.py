"""Checkpoints that are whole or not there: staged, hashed, verified on load, the newest good one used.

A checkpoint holds the trainable parameters, AdamW's two moments, and a small state. Data order, learning rate and dropout
are functions of (seed, step), so there is nothing else to remember.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file

from configs.errors import DataError, RecipeError
from configs.progress import say
from configs.records import packages
from configs.store import crash_point, files_of, remove_folder, staged, verify_files, write_atomic

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
    seconds: float = 0.0
    segments: int = 1
    loss_first: float | None = None
    loss_last: float = float("nan")
    curve: list[dict[str, Any]] = field(default_factory=list)


def save(
    folder: Path, model: PackedModel, optimizer: torch.optim.Optimizer, state: State, made_from: dict[str, Any]
) -> None:
    """Write `folder/step-NNNNNN` and prune older ones.

    Raises:
        StorageError: the disk is full; the checkpoints that were there are untouched.
    """
    target = folder / f"step-{state.step:06d}"
    with staged(target) as staging:
        trainable = model.trainable()
        save_file(
            {name: value.detach().cpu().contiguous() for name, value in trainable.items()},
            staging / "weights.safetensors",
        )
        save_file(_moments(trainable, optimizer), staging / "optimizer.safetensors")
        crash_point("train.checkpoint")
        content = {"state": vars(state), "made_from": made_from, "packages": packages(), "files": files_of(staging)}
        write_atomic(staging / "state.json", json.dumps(content, indent=1))
    for old in _by_step(folder)[:-KEPT]:
        remove_folder(old)


def load_newest(
    folder: Path, model: PackedModel, optimizer: torch.optim.Optimizer, made_from: dict[str, Any]
) -> State | None:
    """Bring model and optimiser to the newest checkpoint whose bytes are what its state says; None if there is none.

    A damaged one is moved aside as `damaged-step-NNNNNN` and named.

    Raises:
        RecipeError: the checkpoints were made from another recipe, corpus or base.
    """
    for path in reversed(_by_step(folder)):
        try:
            content = json.loads((path / "state.json").read_text("utf-8"))
            verify_files(path, content["files"])
        except (DataError, OSError, ValueError, KeyError) as error:
            aside = folder / f"damaged-{path.name}"
            remove_folder(aside)
            path.rename(aside)
            reason = str(error).splitlines()[0]
            say(f"  checkpoint {path.name} is damaged ({reason}); moved to {aside.name}, trying the one before")
            continue
        _refuse_other_recipe(content["made_from"], made_from, folder)
        _restore(path, model, optimizer)
        _tell_other_packages(content.get("packages", {}))
        return State(**content["state"])
    return None


def _by_step(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, oldest first."""
    return sorted(folder.glob("step-*"), key=lambda path: int(path.name.removeprefix("step-")))


def _tell_other_packages(before: dict[str, str]) -> None:
    now = packages()
    differing = [f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]]
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
        f"{name}:{key}": value.detach().cpu().contiguous()
        for name, parameter in trainable.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _restore(path: Path, model: PackedModel, optimizer: torch.optim.Optimizer) -> None:
    weights, moments = load_file(path / "weights.safetensors"), load_file(path / "optimizer.safetensors")
    trainable = model.trainable()
    if weights.keys() != trainable.keys():
        raise DataError("the checkpoint holds other parameters than this model trains", where=str(path))
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(weights[name])
    for full_name, value in moments.items():
        name, _, key = full_name.rpartition(":")
        parameter = trainable[name]
        # AdamW counts steps on the CPU; the moments live beside their parameter.
        optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)
