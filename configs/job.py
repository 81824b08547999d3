"""A job is one recipe at work: the recipe, the folders its paths are looked for in, and the folder its records go to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import DataError, UnsafeArtefactError
from configs.store import HOUSE, RunFolder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from configs.recipe import Recipe

MAGIC = frozenset("*?[")
COMPRESSED = (".gz", ".zst")
"""Endings of single files that are packed."""


@dataclass(frozen=True)
class Job:
    """What every stage receives."""

    recipe: Recipe
    roots: tuple[Path, ...]
    folder: RunFolder

    @property
    def runs(self) -> Path:
        """The folder of all runs. A run of a sweep, a pilot or a valuation lies two levels deeper than others."""
        root = self.folder.root.absolute()
        is_member = root.parent.name in ("sweep", "pilot", "worth") and self.folder.corpus.is_symlink()
        return root.parents[2] if is_member else root.parent

    def find(self, path: str) -> list[Path]:
        """The files that a path of the recipe means; see `find_files`."""
        return find_files(path, self.roots)


def roots_of(recipe: Recipe, recipe_path: Path) -> tuple[Path, ...]:
    """Where a recipe's paths are looked for: beside it, in its `data` folders, in SectorLM itself."""
    beside = recipe_path.resolve().parent
    return (beside, *((beside / folder).resolve() for folder in recipe.data), HOUSE)


def find_files(path: str, roots: tuple[Path, ...]) -> list[Path]:
    """The files that `path` means (a file, a folder or a glob; `archive!inside` gives the archive), sorted as
    people count: `2.txt` before `10.txt`. Where a packed file is not there, what was in it may be: `a.json` for
    `a.json.gz`, and the files `inside` of an archive's folder for the archive.

    Raises:
        UnsafeArtefactError: the path, or a link below it, leads out of every root.
        DataError: nothing is there; the message names the places that were looked at.
    """
    outer, _, inside = path.partition("!")
    for root in roots:
        found = _below(root, outer) or _unpacked(root, outer, inside)
        if not found:
            continue
        for file in found:
            if not any(file.resolve().is_relative_to(allowed.resolve()) for allowed in roots):
                raise UnsafeArtefactError(
                    f"{file} lies outside of the folders that this recipe may read",
                    where=path,
                    hint="Add its folder to `data:` in the recipe if it is meant.",
                )
            if not file.as_posix().isprintable() and not _encodes(file):
                raise DataError(f"the name of a file is not UTF-8: {file.as_posix()!a}", where=path, hint="Rename it.")
        return found
    looked = ", ".join(dict.fromkeys(str(root) for root in roots))
    raise DataError("no such file", where=path, hint=f"Looked in: {looked}. Add a folder with `data: [FOLDER]`.")


def _unpacked(root: Path, path: str, inside: str) -> list[Path]:
    """What lies in place of a packed file that is not there."""
    if not MAGIC.isdisjoint(path):
        return []
    if inside and (root / path).parent.is_dir():
        folder = (root / path).parent
        return [file for file in _below(root, folder.as_posix()) if _matches(file.relative_to(folder), inside)]
    return _below(root, path.rpartition(".")[0]) if path.endswith(COMPRESSED) else []


def _matches(file: Path, inside: str) -> bool:
    """The same as inside of an archive: `*` stands for anything, `/` included."""
    return fnmatchcase(file.as_posix(), inside) or fnmatchcase(file.as_posix(), f"*/{inside}")


def _encodes(file: Path) -> bool:
    try:
        file.as_posix().encode()
    except UnicodeEncodeError:
        return False
    return True


def _below(root: Path, path: str) -> list[Path]:
    """Files that `path` means below `root`; hidden files and SOURCE.md-like notes are the reader's business."""
    if MAGIC.isdisjoint(path):
        target = root / path
        if target.is_dir():
            return _sorted(file for file in target.rglob("*") if file.is_file() and not _hidden(file, target))
        return [target] if target.is_file() else []
    if Path(path).is_absolute():
        return _sorted(file for file in Path(path).parent.glob(Path(path).name) if file.is_file())
    return _sorted(file for file in root.glob(path) if file.is_file() and not _hidden(file, root))


def natural(name: str) -> tuple[list[list[str | int]], str]:
    """A key to sort paths by, folder by folder: figures compare as numbers, and what is equal then as text.

    >>> sorted(["10.txt", "2.txt", "b/1.txt", "02.txt"], key=natural)
    ['02.txt', '2.txt', '10.txt', 'b/1.txt']
    """
    pieces = (re.split(r"(\d+)", part) for part in name.split("/"))
    return [[int(piece) if place % 2 else piece for place, piece in enumerate(part)] for part in pieces], name


def _sorted(files: Iterable[Path]) -> list[Path]:
    return sorted(files, key=lambda file: natural(file.as_posix()))


def _hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)
