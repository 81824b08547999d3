"""Which checkpoint a run goes on with: the newest whose bytes are what its state says, of the same recipe.

What is damaged is moved aside and named; what changed since the stop is refused where it decides what is learnt, else told.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, RecipeError
from configs.progress import say
from configs.records import packages
from configs.store import remove_folder, verify_files
from training.checkpoint import DAMAGED, State, best_name, best_steps, by_step, read_state

if TYPE_CHECKING:
    from pathlib import Path

    from training.checkpoint import Origin


def newest_good(folder: Path, origin: Origin, *, weights_only: bool = False, steady: bool = False) -> Path | None:
    """The newest checkpoint whose bytes are what its state says; None if there is none.

    A damaged one is moved aside as `damaged-step-NNNNNN` and named, so one process alone must ask; so are damaged best
    weights, which cost the run no checkpoint. With `weights_only` one
    whose optimiser state alone is lost will do, also if it was moved aside before. `steady`: for setting a run back, which
    only weights can serve that the last step had moved.

    Raises:
        RecipeError: the checkpoints were made from another recipe, corpus or base.
    """
    found = by_step(folder, damaged=weights_only)
    for path in reversed(found):
        try:
            content = _verified(path, weights_only=weights_only)
        except (DataError, OSError, ValueError, KeyError, TypeError) as error:
            _set_aside(path, error)
            continue
        _refuse_other_recipe(content["made_from"], origin.settled, folder)
        if steady and content["state"]["in_a_row"]:
            continue
        if not steady:
            _set_bad_best_aside(folder, State(**content["state"]))
            _tell_changes(content["free"], origin.free, State(**content["state"]))
        return path
    if found and not steady:
        say("  no good checkpoint is left: the run begins anew")
    return None


def _verified(path: Path, *, weights_only: bool) -> dict[str, Any]:
    """The content of the state of a checkpoint whose files are whole."""
    content = read_state(path)
    files = dict(content["files"])
    if weights_only:
        files.pop("optimizer.safetensors", None)
    verify_files(path, files)
    State(**content["state"])
    return content


def _set_bad_best_aside(folder: Path, state: State) -> None:
    """Move best weights that are damaged out of the way, and say which; the checkpoint itself is as good without them.

    The newest whole ones stay: `training/checkpoint.py` forgets what is not there.
    """
    marked = best_steps(state)
    for step in reversed(marked):
        kept = folder / best_name(step)
        try:
            verify_files(kept, read_state(kept)["files"])
        except (DataError, OSError, ValueError, KeyError, TypeError) as error:
            if kept.is_dir():
                aside = kept.with_name(f"{DAMAGED}{kept.name}")
                remove_folder(aside)
                kept.rename(aside)
            elif step != marked[-1]:
                continue  # it went when a better one came
            say(f"  best weights {kept.name} are damaged ({_reason(error)}): the run goes on without them")
        else:
            return
    if marked:
        say("  the best within the forgetting budget is now looked for among later looks")


def _set_aside(path: Path, error: Exception) -> None:
    """Move a damaged checkpoint out of the way, and say what is left of it."""
    if path.name.startswith(DAMAGED):
        return
    told = (
        f"  checkpoint {path.name} is damaged ({_reason(error)}); moved to {DAMAGED}{path.name}, trying the one before"
    )
    with suppress(DataError, OSError, ValueError, KeyError, TypeError):
        _verified(path, weights_only=True)
        told += "; its weights are whole: --weights-only would go on from them"
    aside = path.with_name(f"{DAMAGED}{path.name}")
    remove_folder(aside)
    path.rename(aside)
    say(told)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _tell_changes(before: dict[str, Any], now: dict[str, Any], state: State) -> None:
    """Say what differs from before the stop and may: settings that are free, and versions of packages."""
    changed = [f"{key} {before[key]} -> {now[key]}" for key in now if key in before and before[key] != now[key]]
    if changed:
        say(f"  changed since the stop, which may be: {', '.join(changed)}")
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
