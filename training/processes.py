"""Several processes of one machine for one command, by torch's own launcher, with the exit code of the one that failed."""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import torch

from configs.progress import say
from configs.spread import CALLED
from configs.store import HOUSE

if TYPE_CHECKING:
    from collections.abc import Sequence


def in_processes(count: int, words: Sequence[str]) -> int:
    """Run `sectorlm WORDS` in `count` processes that find one another; returns the exit code.

    One that dies takes the others with it, and the same command resumes. What went wrong they say themselves.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ[CALLED] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(HOUSE), os.environ.get("PYTHONPATH"))))
    if not torch.cuda.is_available():
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, len(os.sched_getaffinity(0)) // count)))
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # its tables repeat what the processes said
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=f"sectorlm-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "sectorlm", *words)
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode < 0:
            say(f"process {number} was ended by signal {-failure.exitcode}; the same command resumes")
            return 128 - failure.exitcode
        return failure.exitcode
    except SignalException as error:
        return 128 + int(error.sigval)
    finally:
        del os.environ[CALLED]
    return 0
