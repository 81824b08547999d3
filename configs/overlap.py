"""Whether a recipe trains on what it is scored on: the same file, unless both name rows that cannot be the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.errors import DataError, SectorLMError
from configs.hub import HUB
from configs.job import find_files
from configs.splits import files_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from configs.recipe import Source
    from configs.task import Task


def check_apart(task: Task, task_roots: tuple[Path, ...], source: Source, roots: tuple[Path, ...]) -> None:
    """No source trains on the file that a task is scored on, unless both name rows that cannot be the same.

    Raises:
        DataError: they share a file.
    """
    files = files_of(task, task_roots)
    if files is None or files.keys or _rows_apart(files.where_of(task.test_split), source):
        return
    trained = {
        (file, path.partition("!")[2])
        for path in source.paths
        if not path.startswith(HUB)
        for file in _there(path, roots)
    }
    for path in files.paths(task, task.test_split):
        for file in _there(path, task_roots):
            if (file, path.partition("!")[2]) in trained:
                raise DataError(
                    f"corpus {source.name} trains on {file.name}, which task {task.task} is scored on",
                    hint="Train on other files, or give both `where:` filters that share no row.",
                )


def _there(path: str, roots: tuple[Path, ...]) -> list[Path]:
    try:
        return [file.resolve() for file in find_files(path, roots)]
    except SectorLMError:
        return []  # already among the problems of its source or task


def _rows_apart(where: Mapping[str, tuple[str, ...]], source: Source) -> bool:
    """True when the filters of task and source can never both hold for one row."""
    for name, values in where.items():
        if name in source.where and not set(values) & set(source.where[name]):
            return True
        if set(values) <= set(source.where_not.get(name, ())):
            return True
    return False
