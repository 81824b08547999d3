"""Every error a person can meet, and the exit code that a script can branch on.

    SectorLMError              1   our bug: please report it
    ├── RecipeError            2   the recipe or the command line is wrong
    ├── DataError              3   a corpus, a task or a record is damaged, missing or empty
    ├── PolicyError            4   a licence or a grade forbids the stated use
    ├── StorageError           5   the disk or the machine cannot do it
    ├── UnsafeArtefactError    6   pickled weights, remote code, paths that leave their root
    ├── DivergedError          7   training lost its way and could not be brought back
    ├── MemoryExhaustedError   8   out of memory, and a smaller step does not help
    ├── LockedError            9   another process holds this run folder
    ├── GateError             10   a gate of the recipe was not met
    └── StoppedError     130/143   Ctrl-C or SIGTERM; the state on disk is complete

A message states the value received; a hint states what to do next.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class SectorLMError(Exception):
    """The root of the tree: `where` is a file, line or key, `hint` is the remedy."""

    code = 1

    def __init__(self, message: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message, self.where, self.hint = message, where, hint

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"\n  {self.hint}" if self.hint else ""
        return f"{place}{self.message}{remedy}"

    def as_json(self) -> dict[str, str | int]:
        """The form that `--json` prints: code, kind, message, where, hint."""
        return {
            "code": self.code,
            "kind": type(self).__name__,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
        }


class RecipeError(SectorLMError):
    """The recipe or the command line is wrong; nothing was started."""

    code = 2


class DataError(SectorLMError):
    """A corpus, a task or a record is damaged, missing, empty or not what was declared."""

    code = 3


class PolicyError(SectorLMError):
    """A licence or a grade of a source forbids the use that the recipe states."""

    code = 4


class StorageError(SectorLMError):
    """The disk is full or read-only, or the machine lacks what the work needs."""

    code = 5


class UnsafeArtefactError(SectorLMError):
    """Something that could run code or leave its folder: never opened."""

    code = 6


class DivergedError(SectorLMError):
    """The loss left the real numbers and rewinding did not help."""

    code = 7


class MemoryExhaustedError(SectorLMError):
    """The smallest step does not fit into memory."""

    code = 8


class LockedError(SectorLMError):
    """Another living process works in this run folder."""

    code = 9


class GateError(SectorLMError):
    """A gate of the recipe was not met: the release is refused with its reasons."""

    code = 10


class StoppedError(SectorLMError):
    """Asked to stop; what is on disk is complete and the same command resumes."""

    def __init__(self, message: str, *, signal_number: int = 2, where: str = "", hint: str = "") -> None:
        super().__init__(message, where=where, hint=hint)
        self.code = 128 + signal_number


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The sentence that names the nearest known word, or nothing.

    >>> did_you_mean("learning_rat", ["learning_rate", "rank"])
    'Did you mean learning_rate?'
    """
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"Did you mean {near[0]}?" if near else ""
