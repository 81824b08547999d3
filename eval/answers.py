"""Every answer on disk: appended batch by batch while working, so that a stop loses at most one batch.

A batch is known by a digest of the weights, the adapter, the engine, the task and the token ids of its prompts. So an
answer is taken again only where it would come out the same to the last bit, and an adapter never gets its base's.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from configs.store import crash_point, storage_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

Line = dict[str, Any]


class AnswerLog:
    """The append-only file of one model's answers, and what earlier files knew."""

    def __init__(self, path: Path, earlier: Sequence[Path]) -> None:
        self.path = path
        self.torn = path.is_file() and path.stat().st_size > 0 and not path.read_bytes().endswith(b"\n")
        self.known: dict[str, dict[str, Line]] = {}
        """Batch to prompt to line."""
        for file in (*earlier, path):
            for line in _whole_lines(file):
                self.known.setdefault(line["batch"], {})[line["prompt"]] = line

    def find(self, batch: str, prompts: Sequence[str]) -> list[Line] | None:
        """The lines of a batch, if all of its prompts were answered."""
        lines = self.known.get(batch, {})
        return [lines[prompt] for prompt in prompts] if lines.keys() >= set(prompts) else None

    def append(self, lines: Sequence[Line]) -> None:
        """Write a batch and wait until it is on disk.

        Raises:
            StorageError: the disk is full, read-only or not there.
        """
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write("\n" + text if self.torn else text)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(error, self.path) from error
        self.torn = False
        crash_point("evaluate.batch")


def _whole_lines(path: Path) -> Iterator[Line]:
    """The lines that were written whole; a torn one is the end of an interrupted batch."""
    if not path.is_file():
        return
    for text in path.read_text("utf-8", errors="replace").split("\n"):
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict) and "batch" in line and "prompt" in line:
            yield line


def write_answers(path: Path, lines: Sequence[Line]) -> None:
    """All answers of a scorecard, sorted by task and row."""
    ordered = sorted(lines, key=lambda line: (line["task"], line["row"]))
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in ordered), "utf-8")


def read_answers(path: Path) -> dict[str, list[Line]]:
    """The answers of a scorecard by task.

    Raises:
        DataError: the file is missing or damaged.
    """
    tasks: dict[str, list[Line]] = {}
    try:
        with path.open(encoding="utf-8") as file:
            for text in file:
                line = json.loads(text)
                tasks.setdefault(line["task"], []).append(line)
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"its answers cannot be read ({error})", where=str(path)) from error
    return tasks
