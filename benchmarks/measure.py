"""Wall seconds, CPU seconds and peak memory of a command with all the processes it starts."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

EVERY = 0.2
"""Seconds between two looks at the memory."""
PR_SET_CHILD_SUBREAPER = 36


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


def measure(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> Measured:
    """Run a command to its end.

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
        watch = _Watch(process.pid)
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
    return Measured(wall, cpu, watch.peak, watch.resident, out)


def _reap() -> None:
    """Wait for the orphans."""
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


class _Watch(threading.Thread):
    """Looks at the memory of all processes of a session until it is over."""

    def __init__(self, session: int) -> None:
        super().__init__(daemon=True)
        self.session, self.over = session, threading.Event()
        self.peak = self.resident = 0.0

    def run(self) -> None:
        while not self.over.wait(EVERY):
            sizes = [_sizes(process) for process in _processes(self.session)]
            self.peak = max(self.peak, sum(size["Pss"] for size in sizes))
            self.resident = max(self.resident, sum(size["Rss"] for size in sizes))


def _processes(session: int) -> Iterator[Path]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            yield folder


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
