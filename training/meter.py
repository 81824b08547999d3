"""What a run tells: one JSON line a step in metrics.jsonl (the truth), and a progress bar."""

from __future__ import annotations

import json
import math
import resource
import sys
from typing import TYPE_CHECKING, Any

import torch

from configs.store import storage_error, write_atomic

if TYPE_CHECKING:
    from pathlib import Path

    from configs.progress import Track
    from training.checkpoint import State


class Meter:
    """Appends to metrics.jsonl; after a stop, lines that the resumed state does not know are left out."""

    def __init__(self, path: Path, state: State, bar: Track) -> None:
        self.path, self.bar = path, bar
        looked = {point["step"] for point in state.curve}
        lines = [(line, json.loads(line)) for line in _lines(path)] if state.step else []
        kept = [line for line, it in lines if (it["step"] <= state.step if "loss" in it else it["step"] in looked)]
        write_atomic(path, "".join(f"{line}\n" for line in kept))

    def write(self, **figures: Any) -> None:
        """Append one line; a number that is not finite becomes null, which JSON has a word for.

        Raises:
            StorageError: the disk is full.
        """
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({name: _finite(value) for name, value in figures.items()}) + "\n")
        except OSError as error:
            raise storage_error(error, self.path) from error

    def show(self, **figures: object) -> None:
        """Move the bar by one step."""
        self.bar.advance(1, **figures)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _lines(path: Path) -> list[str]:
    """Whole lines only: the last one may have been cut by a stop."""
    if not path.is_file():
        return []
    text = path.read_text("utf-8")
    return text[: text.rfind("\n") + 1].splitlines()


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory this process held: the GPU's where there is one, else the resident set (getrusage)."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts KiB, macOS bytes
