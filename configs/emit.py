"""Plain trees as strict YAML 1.2 text, with a remark behind a line: `rank: 16  # default`."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, TypeVar

from configs.load import read_recipe, validated
from configs.recipe import Recipe
from configs.store import HOUSE, write_atomic
from configs.yaml_nodes import KeyPath, scalar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from configs.job import Job

Kept = TypeVar("Kept")
PLAIN = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_./@+-]*( [A-Za-z0-9_./@+-]+)*")
"""Text that needs no quotes, if it does not read as a number or a word of YAML."""


def resolved_yaml(path: Path, overrides: Sequence[str] = ()) -> str:
    """The whole recipe as it will be used: defaults are marked, and so are values from another file or from `--set`.

    Raises:
        RecipeError: the recipe is wrong.
    """
    tree = read_recipe(path, overrides)
    recipe = validated(Recipe, tree)

    def remark(at: KeyPath) -> str:
        if at not in tree.places:
            return "default"
        place = tree.places[at]
        return "" if place.source == str(path) else str(place)

    return to_yaml(recipe.model_dump(mode="json"), remark)


def keep_recipe(job: Job, path: Path, overrides: Sequence[str] = ()) -> None:
    """Write the resolved recipe into the run folder; running that file repeats the run, and `show --trace` reads it.

    Raises:
        StorageError: the run folder cannot be written.
    """
    root = job.folder.root
    tree = read_recipe(path, overrides)
    value = job.recipe.model_dump(mode="json")
    value["data"] = [os.path.relpath(folder, root.resolve()) for folder in job.roots if folder != HOUSE]
    head = f"# The recipe as it was used, made from {path.name}. `sectorlm run` on this file repeats the run.\n"
    body = to_yaml(value, lambda at: "" if at in tree.places or at == ("data",) else "default")
    write_atomic(root / "recipe.yaml", head + body)


def keeping_recipe(
    work: Callable[[Job], Kept], path: Path, overrides: Sequence[str]
) -> Callable[[Job, list[str]], Kept]:
    """`work` on one of several jobs whose recipes differ from the file's by some `--set`; each folder gets its own first."""

    def kept(job: Job, differing: list[str]) -> Kept:
        keep_recipe(job, path, [*overrides, *differing])
        return work(job)

    return kept


def to_yaml(value: dict[str, Any], remark: Callable[[KeyPath], str] = lambda at: "") -> str:
    """A tree as block YAML; lists of scalars stand on one line. `remark` gives the comment behind a key's line."""
    return "\n".join(_block(value, (), remark)) + "\n"


def _block(value: dict[str, Any], at: KeyPath, remark: Callable[[KeyPath], str]) -> list[str]:
    lines = []
    for key, inner in value.items():
        path = (*at, key)
        if isinstance(inner, dict) and inner:
            lines += [f"{_flow(key)}:", *_indented(_block(inner, path, remark))]
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            lines.append(f"{_flow(key)}:")
            for position, member in enumerate(inner):
                first, *rest = _indented(_block(member, (*path, position), remark))
                lines += [f"  - {first.lstrip()}", *_indented(rest)]
        else:
            said = remark(path)
            lines.append(f"{_flow(key)}: {_flow(inner)}{f'  # {said}' if said else ''}")
    return lines


def _indented(lines: list[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def _flow(value: Any) -> str:
    """A value on one line: plain text where that is safe, JSON's quoting (which YAML 1.2 shares) elsewhere."""
    if isinstance(value, list):
        return f"[{', '.join(_flow(inner) for inner in value)}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_flow(key)}: {_flow(inner)}' for key, inner in value.items())}}}"
    if isinstance(value, str) and PLAIN.fullmatch(value) and scalar(value) == value:
        return value
    return json.dumps(value, ensure_ascii=isinstance(value, str) and not value.replace("\n", "").isprintable())
