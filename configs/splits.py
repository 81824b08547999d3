"""The rows of a task's splits: from its own files, from local files in place of the hub's data set, or from the hub.

Every row has the field `_file` beside its own: the name of its file without endings, or the configuration on the hub.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, SectorLMError, did_you_mean
from configs.job import COMPRESSED, find_files
from configs.store import digest_file
from configs.task import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from configs.task import Task

__all__ = ["LOCAL", "Files", "files_of", "origin", "rows_of", "split_files"]

SEEN = 8
"""Values of a field that are named where none of its rows was wanted."""


@dataclass(frozen=True)
class Files:
    """Local files of a task and how they are read."""

    data_files: Mapping[str, str | tuple[str, ...]]
    columns: tuple[str, ...] | None
    records: str
    where: Mapping[str, tuple[str, ...]]
    keys: Mapping[str, str]
    rename: Mapping[str, str]
    key: str
    """The key of the task file that they are named under."""
    split_column: str | None = None

    def where_of(self, split: str) -> Mapping[str, tuple[str, ...]]:
        """Field to its values in the rows of a split."""
        return self.where if self.split_column is None else {**self.where, self.split_column: (split,)}

    def paths(self, task: Task, split: str) -> tuple[str, ...]:
        """What a split is made of.

        Raises:
            DataError: there is no such split.
        """
        if split not in self.data_files:
            raise DataError(
                f"task {task.task} has no split {split}",
                where=f"{task.task}: {self.key}.data_files",
                hint=did_you_mean(split, self.data_files) or f"It has: {', '.join(self.data_files) or 'none'}.",
            )
        paths = self.data_files[split]
        return (paths,) if isinstance(paths, str) else paths


def files_of(task: Task, roots: tuple[Path, ...]) -> Files | None:
    """The local files that a task is read from, or None for the hub: its own, or those of `local` if they are there.

    Raises:
        DataError: some files of `local` are there and some are not.
    """
    if task.dataset_path in LOCAL:
        how = (task.columns, task.records, task.where, task.keys)
        return Files(task.dataset_kwargs.data_files, *how, {}, "dataset_kwargs", task.split_column)
    if (local := task.local) is None:
        return None
    files = Files(local.data_files, local.columns, local.records, local.where, local.keys, local.rename, "local")
    splits = [split for split in (task.test_split, task.fewshot_split) if split is not None]
    asked = [path for split in splits for path in files.paths(task, split)]
    asked += [files.keys[split] for split in splits if split in files.keys]
    missing = [path for path in asked if not _there(path, roots)]
    if missing and len(missing) < len(asked):
        raise DataError(
            f"some local files of task {task.task} are there, but {missing[0]} is not",
            where=f"{task.task}: local.data_files",
            hint="Get all of them, or move them away to read the data set from the hub.",
        )
    return None if missing else files


def _there(path: str, roots: tuple[Path, ...]) -> bool:
    try:
        return bool(find_files(path, roots))
    except DataError:
        return False


def split_files(task: Task, split: str, roots: tuple[Path, ...]) -> list[Path]:
    """The local files that a split is made of; none for a data set of the hub.

    Raises:
        DataError: no such split or file.
    """
    files = files_of(task, roots)
    if files is None:
        return []
    keys = (files.keys[split],) if split in files.keys else ()
    return [file for path in (*files.paths(task, split), *keys) for file in find_files(path, roots)]


def origin(task: Task, roots: tuple[Path, ...]) -> str:
    """Where the rows of a task of the hub come from, in words, for people and a scorecard's inputs; empty for others.

    Raises:
        DataError: some files of `local` are there and some are not.
    """
    if task.dataset_path in LOCAL:
        return ""
    names = (task.dataset_name,) if isinstance(task.dataset_name, str) else task.dataset_name or ()
    there = f"{task.dataset_path}{':' if names else ''}{'+'.join(names)}@{task.revision or 'newest'}"
    return f"the hub's {there}" if files_of(task, roots) is None else f"local files in place of the hub's {there}"


def rows_of(task: Task, split: str, roots: tuple[Path, ...], refused: Counter[str]) -> Iterator[Mapping[str, Any]]:
    """The rows of a split that the task selects, as fields; what is left out is counted in `refused`.

    Raises:
        DataError: no such split or file, a field of `where` or `rename` that a row lacks, a file that differs from its
            sha256, a sha256 of no file, or a data set of the hub that cannot be read.
    """
    files = files_of(task, roots)
    allowed = None if files is None else _keys(task, files, split, roots)
    where = task.where if files is None else files.where_of(split)
    found = _hub_rows(task, split) if files is None else _local_rows(task, files, split, roots, refused)
    seen: dict[str, Counter[str]] = {name: Counter() for name in where}
    chosen = 0
    for fields in found:
        for name in where:
            _has(task, fields, name, "where")
            seen[name][str(fields[name])] += 1
        if all(str(fields[name]) in values for name, values in where.items()) and (
            allowed is None or str(fields.get("_key")) in allowed
        ):
            chosen += 1
            yield fields if files is None else _renamed(task, fields, files.rename)
        else:
            refused["not selected"] += 1
    for name, values in where.items():
        if not chosen and seen[name] and not set(values) & seen[name].keys():
            there = ", ".join(value for value, _ in seen[name].most_common(SEEN))
            raise DataError(
                f"no row of task {task.task} has {name} {' or '.join(values)}",
                where=f"{task.task}: where",
                hint=f"{did_you_mean(values[0], seen[name])} The rows have: {there}.".strip(),
            )


def _has(task: Task, fields: Mapping[str, Any], name: str, key: str) -> None:
    if name not in fields:
        hint = did_you_mean(name, fields) or f"It has: {', '.join(map(str, fields))}."
        raise DataError(f"no column {name} in the rows of {task.task}", where=f"{task.task}: {key}", hint=hint)


def _renamed(task: Task, fields: Mapping[str, Any], rename: Mapping[str, str]) -> Mapping[str, Any]:
    if not rename:
        return fields
    for name in rename:
        _has(task, fields, name, "local.rename")
    return {**fields, **{column: fields[name] for name, column in rename.items()}}


def _keys(task: Task, files: Files, split: str, roots: tuple[Path, ...]) -> frozenset[str] | None:
    """The keys that belong to a split, or None for all rows."""
    if split not in files.keys:
        return None
    file = find_files(files.keys[split], roots)[0]
    _check_digest(task, file)
    try:
        return frozenset(map(str, json.loads(file.read_text("utf-8"))))
    except (ValueError, TypeError) as error:
        raise DataError("not a JSON list or object of row keys", where=str(file)) from error


def _local_rows(
    task: Task, files: Files, split: str, roots: tuple[Path, ...], refused: Counter[str]
) -> Iterator[Mapping[str, Any]]:
    from configs.read import Reading, read_rows

    reading = Reading()
    _refuse_empty_pins(task, files, roots)
    for path in files.paths(task, split):
        found = find_files(path, roots)
        for file in found:
            _check_digest(task, file)
        rows = read_rows(found, path.partition("!")[2], columns=files.columns, records=files.records, reading=reading)
        for row in rows:
            yield {"_file": _stem(row.where), **row.fields}
    refused.update(reading.refused)


def _stem(where: str) -> str:
    """The name of a row's file without folders, line and endings.

    >>> _stem("a.zip!test/virology_test.csv.gz:12#3")
    'virology_test'
    """
    name = re.sub(r"(:\d+)?(#\d+)?$", "", where).rpartition("!")[2].rpartition("/")[2]
    return re.sub(r"\.[A-Za-z]\w*$", "", re.sub(r"\.(gz|zst|xz|bz2)$", "", name))


def _hub_rows(task: Task, split: str) -> Iterator[Mapping[str, Any]]:
    """Rows of a Hugging Face data set: plain data only, never its code."""
    from configs.hub import HubPath, hub_split

    names = task.dataset_name if isinstance(task.dataset_name, tuple) else (task.dataset_name,)
    for name in names:
        try:
            for fields in hub_split(HubPath(task.dataset_path, name, task.revision), split):
                yield {"_file": name or "default", **fields}
        except SectorLMError as error:
            hint = f"{error.hint} Local files do as well: `local` in a task file of your own."
            raise type(error)(f"task {task.task}: {error.message}", where=error.where, hint=hint) from error


def _refuse_empty_pins(task: Task, files: Files, roots: tuple[Path, ...]) -> None:
    """A sha256 under a name with a slip would never be compared with anything.

    Where some of the task's files are not there, a name may be theirs.

    Raises:
        DataError: a name is that of none of the task's files.
    """
    named = [*files.keys.values()]
    named += [path for paths in files.data_files.values() for path in ((paths,) if isinstance(paths, str) else paths)]
    if not task.metadata.sha256 or not all(_there(path, roots) for path in named):
        return
    there = [file for path in named for file in find_files(path, roots)]
    asked = [Path(path.partition("!")[0]) for path in named]  # an archive may lie there as a folder
    for name in task.metadata.sha256:
        if not any(_is_called(_unpacked(file), _unpacked(Path(name)).as_posix()) for file in (*there, *asked)):
            names = sorted({file.name for file in there})
            raise DataError(
                f"no file of task {task.task} is called {name}, which has a sha256 there",
                where=f"{task.task}: metadata.sha256",
                hint=did_you_mean(name, names) or f"Its files are: {', '.join(names[:SEEN])}.",
            )


def _is_called(file: Path, name: str) -> bool:
    """Whether a name of `metadata.sha256` is a file's: the end of its path."""
    return f"/{file.as_posix()}".endswith(f"/{name}")


def _unpacked(file: Path) -> Path:
    """A file's name without its packing: a task may pin both forms, whichever of them lies there."""
    return file.with_suffix("") if file.suffix in COMPRESSED else file


def _check_digest(task: Task, file: Path) -> None:
    """Compare a file with the sha256 that the task's metadata gives for its name."""
    for name, expected in task.metadata.sha256.items():
        if _is_called(file, name) and digest_file(file) != expected:
            raise DataError(
                f"bytes differ from the sha256 in task {task.task}",
                where=str(file),
                hint="Get the file again from its source, or correct metadata.sha256 if the change is meant.",
            )
