"""Wall seconds, CPU seconds and peak memory of a command with all the processes it starts."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

EVERY = 0.2
"""Seconds between two looks at the memory."""
EVERY_MARK = 0.02
"""Seconds between two looks at a file of lines."""
TICK = os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36


class Mark(NamedTuple):
    """A line that a command has written, and when."""

    wall: float
    """Seconds since the command began."""
    cpu: float
    """User and system seconds of its processes until then, in steps of a hundredth."""
    line: dict[str, Any]


class Measured(NamedTuple):
    """What a command cost."""

    wall: float
    cpu: float
    """User and system seconds of all its processes."""
    peak: float
    """Megabytes: the largest sum over its processes of proportional set size (PSS: a page that n processes share counts
    1/n in each)."""
    resident: float
    """Megabytes: the largest sum of resident set sizes, in which shared pages count once for every process."""
    out: str
    marks: tuple[Mark, ...] = ()


def measure(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, lines: Path | None = None
) -> Measured:
    """Run a command to its end; where it appends JSON to the file `lines`, note when each line came.

    CPU seconds are the kernel's own, handed up by each process that is waited for. Orphans (a fork server outlives its
    parent) become children of this process (prctl(2), PR_SET_CHILD_SUBREAPER), which waits for them too.

    Raises:
        SystemExit: the command failed; the message has the end of what it said.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    log = folder / "stderr.txt"
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with log.open("wb") as errors:
        process = subprocess.Popen(
            command, env=dict(environment), stdout=subprocess.PIPE, stderr=errors, start_new_session=True, text=True
        )
        watch = _Watch(process.pid, begin, lines)
        watch.start()
        try:
            out, _ = process.communicate()
            wall = time.monotonic() - begin
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        finally:
            _reap()
            watch.over.set()
            watch.join()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(wall, cpu, watch.peak, watch.resident, out, tuple(watch.marks))


def _reap() -> None:
    """Wait for the orphans."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


class _Watch(threading.Thread):
    """Looks at the memory of all processes of a session, and at a file of lines, until it is over."""

    def __init__(self, session: int, begin: float, lines: Path | None) -> None:
        super().__init__(daemon=True)
        self.session, self.begin, self.lines, self.over = session, begin, lines, threading.Event()
        self.peak = self.resident = 0.0
        self.marks: list[Mark] = []
        self.read = 0

    def run(self) -> None:
        looks, every = 0.0, EVERY if self.lines is None else EVERY_MARK
        while not self.over.wait(every):
            if self.lines is not None:
                self.mark(self.lines)
            if time.monotonic() - looks < EVERY:
                continue
            looks = time.monotonic()
            sizes = [_sizes(process) for process, _ in _processes(self.session)]
            self.peak = max(self.peak, sum(size["Pss"] for size in sizes))
            self.resident = max(self.resident, sum(size["Rss"] for size in sizes))

    def mark(self, lines: Path) -> None:
        """Note the whole lines that were not there before."""
        try:
            whole = lines.read_bytes()
        except OSError:
            return
        whole = whole[: whole.rfind(b"\n") + 1]
        new, self.read = whole[self.read :].splitlines(), max(self.read, len(whole))
        if new:
            wall, cpu = time.monotonic() - self.begin, sum(spent for _, spent in _processes(self.session))
            self.marks += [Mark(wall, cpu, json.loads(line)) for line in new]


def _processes(session: int) -> Iterator[tuple[Path, float]]:
    """The processes of a session, and the CPU seconds of each and its ended children (proc(5), stat)."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            yield folder, sum(map(int, fields[11:15])) / TICK


def _sizes(process: Path) -> dict[str, float]:
    """Pss and Rss in megabytes, 0 for a process that has just ended (proc(5), smaps_rollup)."""
    found = {"Pss": 0.0, "Rss": 0.0}
    try:
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return found
    for line in lines:
        name = line.partition(":")[0]
        if name in found:
            found[name] = int(line.split()[1]) * 1024 / 1e6
    return found
