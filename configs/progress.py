"""What a person sees while work goes on: a bar with ETA on a terminal, plain lines elsewhere, nothing with `--json`.

Everything here goes to stderr, so that stdout stays what a script asked for. A closed or odd stderr never stops a run.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_quiet = False
PLAIN_SECONDS = 10.0
"""Seconds between plain lines where there is no terminal."""


def be_quiet() -> None:
    """Print no progress from here on (`--json`, `--quiet`)."""
    global _quiet
    _quiet = True


def say(text: str) -> None:
    """Print one plain line on stderr."""
    if not _quiet:
        with suppress(OSError, ValueError):
            print(text, file=sys.stderr, flush=True)


def put(text: str) -> None:
    """Print on stdout; where the reader of our pipe has left there is nothing more to say, and nothing to flush."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def as_json(data: Any) -> str:
    """JSON on one line; where stdout cannot show every character, escapes stand for them instead of `?`.

    What JSON has no form for, dates and bytes of a data file and NaN, is text.
    """
    data = json.loads(json.dumps(data, default=str), parse_constant=str)
    return json.dumps(data, ensure_ascii=not (sys.stdout.encoding or "").lower().startswith("utf"))


@dataclass
class Track:
    """A running piece of work: call `advance` as it goes on."""

    what: str
    total: float
    unit: str
    done: float = 0.0
    before: float = 0.0
    """What an earlier process had done."""
    started: float = field(default_factory=time.monotonic)
    bar: Any = None
    task: Any = None
    last_line: float = field(default_factory=time.monotonic)

    def resume(self, done: float) -> None:
        """Start from what an earlier process had done; it says nothing about the speed of this one."""
        self.done = self.before = done
        if self.bar is not None:
            self.bar.reset(self.task, completed=done, figures="")

    def advance(self, amount: float = 1, **figures: object) -> None:
        """Move on by `amount`; `figures` are shown beside the bar (`loss="2.31"`)."""
        self.done += amount
        shown = "  ".join(f"{name} {value}" for name, value in figures.items())
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, figures=shown)
            return
        now = time.monotonic()
        if now - self.last_line >= PLAIN_SECONDS:
            self.last_line = now
            left = (now - self.started) * (self.total - self.done) / max(self.done - self.before, 1e-9)
            share = f"{100 * self.done / max(self.total, 1e-9):3.0f} %"
            say(
                f"  {self.what}: {self.done:,.0f}/{self.total:,.0f} {self.unit} ({share}), {_clock(left)} left  {shown}"
            )


@contextmanager
def track(what: str, total: float, unit: str = "") -> Iterator[Track]:
    """Show progress of `total` units of work called `what`."""
    running = Track(what, total, unit)
    if _quiet or not sys.stderr.isatty():
        yield running
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("  {task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        running.bar = bar
        running.task = bar.add_task(what, total=total, figures="")
        yield running


def _clock(seconds: float) -> str:
    whole = int(max(seconds, 0))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}"
