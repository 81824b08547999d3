"""The processes of a run: one alone, or several that torchrun, Slurm or `sectorlm train --processes` started.

The trained parameters are the same in all of them, and after each step their gradients are summed over the processes in
one go: an adapter is small, so there is nothing to overlap, and the sum has the same order every time. With `fsdp` the
frozen and trained weights are parted among the processes instead (torch's `fully_shard`).
"""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from configs.errors import StorageError
from configs.spread import CALLED, processes

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from training.model import PackedModel

LOST = ("connection closed", "connection reset", "connection refused", "broken pipe", "nccl", "timed out")
"""How gloo's and NCCL's RuntimeErrors say that another process does not answer."""


@dataclass(frozen=True)
class World:
    """This process among those of its run."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    @property
    def device_name(self) -> str:
        """What this process computes on, as its maker calls it."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"

    @classmethod
    def here(cls) -> World:
        """Read the launcher's environment; several processes meet here (NCCL on GPUs, gloo on CPUs).

        Raises:
            StorageError: the launcher's processes do not find one another.
        """
        if processes() == 1:
            return cls(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        from accelerate import PartialState

        _speak_as_torchrun()
        if os.environ.get(CALLED):
            _stop_with_the_launcher()
        try:
            state = PartialState(cpu=not torch.cuda.is_available())
        except (RuntimeError, ValueError) as error:
            raise StorageError(
                f"the {processes()} processes of this run do not find one another ({error})",
                hint="Start them with `sectorlm train --processes N`, or with torchrun.",
            ) from error
        return cls(int(state.process_index), int(state.num_processes), state.device)

    def add_up(self, tensors: Iterable[torch.Tensor]) -> None:
        """Replace each tensor by its sum over the processes; all of one number format travel together."""
        if self.size == 1:
            return
        alike: dict[torch.dtype, list[torch.Tensor]] = {}
        for tensor in tensors:
            alike.setdefault(tensor.dtype, []).append(tensor)
        for group in alike.values():
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            torch.distributed.all_reduce(flat)
            pieces = flat.split([tensor.numel() for tensor in group])
            for tensor, piece in zip(group, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))

    def sums(self, *values: float) -> list[float]:
        """Each number summed over the processes, in float64."""
        if self.size == 1:
            return list(values)
        packed = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(packed)
        return [float(value) for value in packed]

    def most(self, value: int) -> int:
        """The largest of the processes' numbers."""
        if self.size == 1:
            return value
        packed = torch.tensor(value, device=self.device)
        torch.distributed.all_reduce(packed, torch.distributed.ReduceOp.MAX)
        return int(packed)

    def same(self, value: Any) -> Any:
        """What the main process has for `value`; everybody must ask."""
        if self.size == 1:
            return value
        told = [value]
        torch.distributed.broadcast_object_list(told, src=0)
        return told[0]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Say plainly that another process of the run is gone, in whichever call to it that shows.

        Raises:
            StorageError: the connection to another process broke.
        """
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not any(word in str(error).lower() for word in LOST):
                raise
            raise StorageError(
                "another process of this run has ended", hint="Its own message says why. The same command resumes."
            ) from error

    def wait(self) -> None:
        """Until everybody is here."""
        if self.size > 1:
            torch.distributed.barrier()


def _speak_as_torchrun() -> None:
    """Slurm's names for what torch reads; MASTER_ADDR and MASTER_PORT are the job's to set."""
    for ours, slurm in (("RANK", "SLURM_PROCID"), ("WORLD_SIZE", "SLURM_NTASKS"), ("LOCAL_RANK", "SLURM_LOCALID")):
        if ours not in os.environ and slurm in os.environ:
            os.environ[ours] = os.environ[slurm]


def _stop_with_the_launcher() -> None:
    """Be asked to stop when the process that started this one dies (prctl(2), PR_SET_PDEATHSIG; Linux only).

    Else those of a killed `sectorlm train --processes` would train on and hold the run folder.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)


def shard(model: PackedModel, world: World) -> None:
    """Part the weights among the processes, layer by layer (FSDP2: Zhao et al. 2023, and torch's `fully_shard`).

    Gradients come out averaged over the processes (gloo has no other way), so the loop multiplies its losses by their number.

    Raises:
        StorageError: there is one process only, or torch did not part the weights.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FSDPModule, fully_shard
    from torch.distributed.tensor import DTensor

    if world.size == 1:
        raise StorageError(
            "one process has nothing to part its weights with",
            where="train.parallel: fsdp",
            hint="Start several: `sectorlm train RECIPE --processes N`, or leave train.parallel out.",
        )
    mesh = init_device_mesh(world.device.type, (world.size,))
    kinds = model.causal._no_split_modules or ()
    layers = [module for module in model.causal.modules() if type(module).__name__ in kinds]
    for module in (*layers, model):  # the head is read in the loss, inside of the outermost forward pass
        # Parted again after every pass, also the outermost: else what is written to the parts between two passes, as a
        # preference phase does, would not reach the second.
        fully_shard(module, mesh=mesh, reshard_after_forward=True)
        if not isinstance(module, FSDPModule):
            raise StorageError(f"{type(module).__name__} was not parted among the processes", where="train.parallel")
    left = [name for name, value in model.named_parameters() if not isinstance(value, DTensor)]
    if left:
        raise StorageError(f"{left[0]} was not parted among the processes", where="train.parallel: fsdp")


def whole(value: torch.Tensor) -> torch.Tensor:
    """A tensor as one process would hold it, on the CPU; everybody must ask for a parted one."""
    gather = getattr(value, "full_tensor", None)
    return (gather() if gather is not None else value).detach().cpu().contiguous()


def gathered(values: Mapping[str, torch.Tensor], *, keep: bool) -> dict[str, torch.Tensor]:
    """`whole` of each; a process that does not write takes part and keeps nothing."""
    found = {}
    for name, value in values.items():
        there = whole(value)
        if keep:
            found[name] = there
    return found
