"""Several processes of one machine for one command, by torch's own launcher, with the exit code of the one that failed."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from configs.errors import StorageError
from configs.progress import say
from configs.spread import CALLED
from configs.store import HOUSE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
"""What torch's launcher hands on to its processes."""
PATIENCE = 600
"""Seconds in which processes that were asked to stop may finish their step and write a checkpoint, before they are killed."""


def in_processes(count: int, words: Sequence[str]) -> int:
    """Run `sectorlm WORDS` in `count` processes that find one another; returns the exit code.

    One that dies takes the others with it, and the same command resumes. What went wrong they say themselves.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in [name for name in logging.root.manager.loggerDict if name.startswith("torch.distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL)  # its tables repeat what the processes said
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"sectorlm-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        shutdown_timeout=PATIENCE,
    )
    with _as_it_was(), _told(count):
        try:
            elastic_launch(config, sys.executable)("-m", "sectorlm", *words)
        except ChildFailedError as error:
            number, failure = _cause(error.failures)
            if failure.exitcode < 0:
                say(f"process {number} was ended by signal {-failure.exitcode}; the same command resumes")
                return 128 - failure.exitcode
            return failure.exitcode
        except SignalException as error:
            return 128 + int(error.sigval)
    return 0


def _cause(failures: Mapping[int, ProcessFailure]) -> tuple[int, ProcessFailure]:
    """The process that failed of itself; one that only lost another ends with StorageError's code.

    Several may have ended between two looks of the launcher, so the first that it saw need not be the cause.
    """

    def order(number: int) -> tuple[bool, bool, int]:
        code = failures[number].exitcode
        return code >= 0 or code == -signal.SIGTERM, code == StorageError.code, failures[number].timestamp

    number = min(failures, key=order)
    return number, failures[number]


@contextmanager
def _told(count: int) -> Iterator[None]:
    """The environment that the processes inherit: who calls, where our packages are, and a fair share of the cores."""
    before = dict(os.environ)
    os.environ[CALLED] = shlex.join(sys.argv[1:])
    os.environ["PYTHONSAFEPATH"] = "1"  # not from the folder where the command stands
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HOUSE), os.environ.get("PYTHONPATH"))))
    if not torch.cuda.is_available():
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _as_it_was() -> Iterator[None]:
    """Have our own handlers of signals back afterwards."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
