"""What a run tells: one JSON line a step in metrics.jsonl (the truth), a progress bar, a page, and trackers.

{"step": 5, "tokens": 40960, "loss": 3.2, "learning_rate": 1e-4, ...}      a step
    in a preference phase also "preferred" (share of its pairs) and "margin"; with phases, "phase": "3 (preference)"
{"step": 0, "tokens": 0, "validation": {"sector": 3.1}, "sources": ...}    a look at the held-out rows
{"step": 7, "event": "not finite", "rows": [3, 8], "message": "..."}       what was out of the ordinary
"""

from __future__ import annotations

import json
import math
import resource
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from configs.store import storage_error, write_atomic
from training.curves import told_lines
from training.page import refresh_page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from configs.progress import Track
    from training.budget import Budget
    from training.checkpoint import State
    from training.course import Stretch
    from training.rates import Useful
    from training.trackers import Trackers


class Taken(NamedTuple):
    """The figures of a step: mean loss, learning rate, gradient norm before clipping, tokens, seconds, the objective's own."""

    loss: float
    rate: float
    norm: float
    tokens: int
    seconds: float
    more: Mapping[str, float] = MappingProxyType({})


class Meter:
    """Appends to metrics.jsonl; after a stop, lines that are damaged or that the resumed state does not know are left out."""

    useful: Useful | None = None
    """What the utilisation of the GPUs is reckoned with, where it is known."""

    def __init__(self, path: Path, title: str, state: State, bar: Track, trackers: Trackers | None = None) -> None:
        self.path, self.title, self.bar, self.trackers = path, title, bar, trackers
        looked = {point["step"] for point in state.curve}
        lines = told_lines(path) if state.step else []
        kept = [it for it in lines if (it["step"] in looked if "validation" in it else it["step"] <= state.step)]
        self.events = {(it["step"], it["event"]) for it in kept if "event" in it}
        write_atomic(path, "".join(f"{json.dumps(it)}\n" for it in kept))

    def write(self, **figures: Any) -> None:
        """Append one line; a number that is not finite becomes null, which JSON has a word for.

        Raises:
            StorageError: the disk is full.
        """
        figures = {name: _finite(value) for name, value in figures.items()}
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(figures) + "\n")
        except OSError as error:
            raise storage_error(error, self.path) from error
        if self.trackers is not None:
            self.trackers.log(figures)

    def step(self, state: State, stretch: Stretch, taken: Taken) -> None:
        """The line of a step, and the bar one step further."""
        loss, rate, norm, tokens, seconds, more = taken
        speed = tokens / max(seconds, 1e-9)
        figures: dict[str, Any] = {"loss": round(loss, 6), "learning_rate": rate, "grad_norm": round(norm, 6)}
        figures |= {"tokens_per_second": round(speed, 1), "seconds": round(seconds, 4)}
        figures["memory_bytes"] = peak_memory_bytes()
        if self.useful is not None:
            figures["mfu"] = round(self.useful.part(stretch.number, speed), 4)
        figures |= {name: round(value, 6) for name, value in more.items()}
        if stretch.named:
            figures["phase"] = stretch.name
        self.write(step=state.step, tokens=state.tokens, **figures)
        shown = {
            "loss": f"{loss:.3f}",
            "tokens/s": f"{speed:,.0f}",
            "memory": f"{figures['memory_bytes'] / 1e9:.1f} GB",
        }
        if "mfu" in figures:
            shown["MFU"] = f"{100 * figures['mfu']:.0f} %"
        self.bar.advance(1, **shown)

    def look(self, point: Mapping[str, Any], budget: Budget, curve: Sequence[Mapping[str, Any]]) -> None:
        """The line of a look at the held-out rows."""
        figures: dict[str, Any] = {"validation": point["losses"], "sources": point["sources"]}
        if point["probes"]:
            figures["probes"] = point["probes"]
        if budget.limit is not None:
            spent = budget.spent(point["losses"], curve)
            figures["budget"] = {"limit": budget.limit, "spent": round(spent, 6)}
        if point.get("best"):
            figures["best"] = True
        self.write(step=point["step"], tokens=point["tokens"], **figures)
        refresh_page(self.path.parent, self.title)

    def event(self, step: int, event: str, **more: Any) -> None:
        """The line of something out of the ordinary; told once, however often a stopped run comes by."""
        if (step, event) not in self.events:
            self.events.add((step, event))
            self.write(step=step, event=event, **more)


class Silent(Meter):
    """The meter of a process that is not the main one."""

    def __init__(self, bar: Track) -> None:
        self.bar, self.events, self.trackers = bar, set(), None

    def write(self, **figures: Any) -> None:
        """Nothing: the main process writes."""

    def look(self, point: Mapping[str, Any], budget: Budget, curve: Sequence[Mapping[str, Any]]) -> None:
        """Nothing: the main process draws."""


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def peak_memory_bytes() -> int:
    """The most memory this process held: the GPU's where there is one, else the resident set (getrusage)."""
    if torch.cuda.is_initialized():
        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts KiB, macOS bytes
