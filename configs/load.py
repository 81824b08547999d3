"""From YAML files to a Recipe or a Task: `extends`, `--set`, and every mistake at once, each with its line.

finance.yaml:14 train.learning_rat: unknown key (value 0.1). Did you mean learning_rate?
"""

from __future__ import annotations

import json
import math
import os
import re
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from configs.errors import RecipeError, UnsafeArtefactError, did_you_mean
from configs.part import Part
from configs.problems import at_place, explain, key_text
from configs.recipe import Recipe
from configs.store import HOUSE
from configs.task import Task, task_files
from configs.yaml_nodes import KeyPath, Place, Tree, parse_yaml, read_yaml

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEMPLATE = re.compile(r"\{[{%]|[^'\"\[{].*\{[{%]", re.DOTALL)
"""A value of `--set` that is a Jinja template, `{{ title }}: {{ body }}`, and so a text as it stands, without quotes."""
CODE = frozenset({"process_docs", "process_results", "custom_dataset", "class", "unsafe_code"})
"""Keys of lm-evaluation-harness that name a Python function."""
NO_CODE = (
    "SectorLM never runs a task's code. Say the same with templates, `filter_list` and `metric_list`, or run the task by "
    "name with lm-evaluation-harness: sectorlm evaluate --engine lm-eval."
)
AnyPart = TypeVar("AnyPart", bound=Part)


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in `path`, with what it extends and with `key.path=value` overrides applied.

    Raises:
        RecipeError: anything is wrong; the message has one line for every problem.
    """
    return validated(Recipe, read_recipe(path, overrides))


def load_task(name: str, roots: tuple[Path, ...]) -> tuple[Task, tuple[Path, ...]]:
    """A task by its name under configs/tasks or by the path of its file, and the roots its own files are looked for in.

    Raises:
        RecipeError: there is no such task, or its file is wrong; the message has one line for every problem.
        UnsafeArtefactError: the task is made of Python code.
    """
    shipped = task_files(HOUSE)
    path = shipped.get(name) or next((root / name for root in roots if (root / name).is_file()), None)
    if path is None:
        known = ", ".join(shipped)
        hint = f"{did_you_mean(name, shipped)} SectorLM ships: {known}. Or give the path of a task file.".strip()
        raise RecipeError("no such task", where=name, hint=hint)
    folder = path.resolve().parent
    return validated(Task, _task_tree(path)), (folder, *(root for root in roots if root != folder))


def _task_tree(path: Path) -> Tree:
    """The tree of a task file, unless it asks for code."""
    try:
        tree = read_yaml(path)
    except RecipeError as error:
        if "!function" in error.message:
            raise UnsafeArtefactError(
                "this task is Python code (!function)", where=error.where, hint=NO_CODE
            ) from error
        raise
    if code := sorted(CODE & tree.value.keys()):
        key = code[0]
        raise UnsafeArtefactError(f"this task is Python code ({key})", where=str(tree.places[(key,)]), hint=NO_CODE)
    return tree


def validated(model: type[AnyPart], tree: Tree) -> AnyPart:
    """The tree as a strict, frozen model.

    Raises:
        RecipeError: one line for every problem.
    """
    found = problems(model, tree)
    if found:
        raise RecipeError("\n".join(found))
    return model.model_validate_json(json.dumps(tree.value))


def problems(model: type[Part], tree: Tree) -> list[str]:
    """Every problem of the tree, in the order of its lines: `file:line key: what, value. What is allowed.`"""
    endless = [at for at, value in _leaves(tree.value, ()) if isinstance(value, float) and not math.isfinite(value)]
    if endless:
        return [at_place(tree, at, "is not a finite number") for at in endless]
    try:
        model.model_validate_json(json.dumps(tree.value))
    except ValidationError as error:
        return explain(model, tree, error)
    return []


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Tree:
    """The merged tree of a recipe before validation; every place names the file that the value came from.

    Raises:
        RecipeError: a file is not strict YAML, `extends` runs in a circle, or an override names nothing.
    """
    tree = _extended(path, ())
    for override in overrides:
        _override(tree, override)
    return tree


def _extended(path: Path, children: tuple[Path, ...]) -> Tree:
    """The file's tree laid over the one it extends."""
    if path.resolve() in children:
        circle = " -> ".join(child.name for child in (*children, path))
        raise RecipeError(f"extends runs in a circle: {circle}", where=str(path))
    tree = read_yaml(path)
    if "extends" not in tree.value:
        return tree
    parent = tree.value.pop("extends")
    where = str(tree.places.pop(("extends",)))
    if not isinstance(parent, str) or not parent.endswith((".yaml", ".yml")) or parent.startswith("/"):
        raise RecipeError(f"extends: expected the relative path of a .yaml file, got {parent!r}", where=where)
    found = next((root / parent for root in (path.parent, HOUSE) if (root / parent).is_file()), None)
    if found is None:
        hint = f"Looked beside {path.name} and in SectorLM itself."
        raise RecipeError(f"extends: no such file {parent}", where=where, hint=hint)
    below = _extended(found, (*children, path.resolve()))
    _see_from(below, found, path)
    _lay_over(below, tree.value, tree.places, ())
    return below


def _see_from(tree: Tree, file: Path, child: Path) -> None:
    """Paths of an extended recipe mean what they meant in its own folder: add it to `data`, seen from the child."""
    here, there = child.resolve().parent, file.resolve().parent
    folders = tree.value.get("data", [])
    if here == there or not isinstance(folders, list):
        return
    tree.value["data"] = [os.path.relpath(there / str(folder), here) for folder in (".", *folders)]
    tree.places.setdefault(("data",), Place(str(file), 1))


def _lay_over(below: Tree, value: dict[str, Any], places: dict[KeyPath, Place], at: KeyPath) -> None:
    """Deep merge of `value`, found at `at`, into `below`: mappings are merged, lists and scalars replaced."""
    target = below.value
    for key in at:
        target = target[key]
    for key, new in value.items():
        path = (*at, key)
        below.places[path] = places[path]
        if isinstance(new, dict) and isinstance(target.get(key), dict):
            _lay_over(below, new, places, path)
            continue
        for old in [old for old in below.places if old[: len(path)] == path]:
            del below.places[old]
        below.places.update({inner: place for inner, place in places.items() if inner[: len(path)] == path})
        target[key] = new


def _override(tree: Tree, override: str) -> None:
    """Set one `key.path=value`; the value is a template, a YAML scalar, a [list] or a {mapping}."""
    key, equals, text = override.partition("=")
    label = f"--set {override}"
    if not equals or not key.strip():
        raise RecipeError("expected KEY=VALUE", where=label, hint="For example: --set train.rank=8")
    parsed = Tree(text, {}) if TEMPLATE.match(text) else parse_yaml(text, label, lines=False)
    at: KeyPath = ()
    target: Any = tree.value
    steps = _steps(key.strip())
    while steps:
        if isinstance(target, list):
            index, steps = _member(target, steps, key_text(tree.value, at), label)
            step: str | int = index
        else:
            step, *steps = steps
        at = (*at, step)
        if not steps:
            target[step] = parsed.value
            break
        if isinstance(target, dict):
            target = target.setdefault(step, {})
            tree.places.setdefault(at, Place(label))
        else:
            target = target[step]
        if not isinstance(target, dict | list):
            raise RecipeError(f"{key_text(tree.value, at)} is a single value: it has no parts to set", where=label)
    for old in [old for old in tree.places if old[: len(at)] == at]:
        del tree.places[old]
    tree.places.update({(*at, *inner): Place(label) for inner in ((), *parsed.places)})


def _steps(key: str) -> list[str]:
    """`corpora.tenk.share`, `corpora[0].share` and `corpora[tenk].share` as their words."""
    return [word for word in re.split(r"[.\[\]]", key) if word]


def _member(members: list[Any], steps: list[str], where: str, label: str) -> tuple[int, list[str]]:
    """Which member of a list the next words mean, by position or by name (a name may hold dots), and the words left."""
    names = [member.get("name") if isinstance(member, dict) else None for member in members]
    for taken in range(len(steps), 0, -1):
        name = ".".join(steps[:taken])
        if name in names:
            return names.index(name), steps[taken:]
    if steps[0].isdigit() and int(steps[0]) < len(members):
        return int(steps[0]), steps[1:]
    there = ", ".join(str(name) for name in names if name is not None) or f"positions 0 to {len(members) - 1}"
    near = did_you_mean(steps[0], [name for name in names if isinstance(name, str)])
    raise RecipeError(f"{where} has no member {steps[0]}; there are: {there}", where=label, hint=near)


def _leaves(value: Any, at: KeyPath) -> list[tuple[KeyPath, Any]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, (*at, key))]
    if isinstance(value, list):
        return [leaf for position, inner in enumerate(value) for leaf in _leaves(inner, (*at, position))]
    return [(at, value)]
