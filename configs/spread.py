"""How the work of a stage is spread over processes and machines; nothing of it changes a byte of what comes out."""

from __future__ import annotations

import os
from typing import NamedTuple

from configs.errors import RecipeError

ENGINES = ("processes", "ray")
CALLED = "SECTORLM_CALLED"
"""The environment variable by which a process knows that it works for another, whose command it holds."""


class How(NamedTuple):
    """How work is spread."""

    workers: int = 0
    """Processes; 0 is one for each core that this process may use."""
    engine: str = "processes"
    """`processes` of this machine, or `ray`: the cluster that RAY_ADDRESS names, or a local one."""
    part: tuple[int, int] | None = None
    """(number, of how many): this process is one of an array job and does its share of a pass."""

    @property
    def processes(self) -> int:
        """How many processes to use."""
        if hasattr(os, "sched_getaffinity"):  # a batch system's share of the machine
            return self.workers or len(os.sched_getaffinity(0))
        return self.workers or os.cpu_count() or 1


def how_to_spread(workers: int, engine: str, part: str) -> How:
    """The options of a command line as one value; `part` is `3/16`, the fourth of sixteen, as array jobs count.

    >>> how_to_spread(2, "processes", "3/16")
    How(workers=2, engine='processes', part=(3, 16))

    Raises:
        RecipeError: there is no such engine, or `part` is not of this form.
    """
    if engine not in ENGINES:
        raise RecipeError(f"no engine {engine!r}", where="--engine", hint=f"Known: {', '.join(ENGINES)}.")
    if not part:
        return How(workers, engine)
    number, _, of = part.partition("/")
    if not (number.isdecimal() and of.isdecimal() and int(number) < int(of)):
        raise RecipeError(f"expected NUMBER/OF, counted from 0, got {part!r}", where="--part", hint="For example: 3/16")
    return How(workers, engine, (int(number), int(of)))


def rank() -> int:
    """Number of this process among those that torchrun or Slurm started together; 0 where it is alone."""
    return _told("RANK", "SLURM_PROCID", 0) if processes() > 1 else 0


def processes() -> int:
    """How many processes torchrun or Slurm (`srun`, with MASTER_ADDR set) started together."""
    slurm = "SLURM_NTASKS" if "MASTER_ADDR" in os.environ else ""
    return _told("WORLD_SIZE", slurm, 1)


def is_called() -> bool:
    """Whether this process works for a `sectorlm` that tells what came of it, or beside a main one that does."""
    return bool(rank() or os.environ.get(CALLED))


def _told(torchrun: str, slurm: str, else_: int) -> int:
    return int(os.environ.get(torchrun) or os.environ.get(slurm) or else_)
