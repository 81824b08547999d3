"""The gradients of one step: micro-batch by micro-batch, added up over the processes, in smaller ones where memory runs out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from configs.errors import MemoryExhaustedError
from configs.exits import NO_MEMORY
from configs.progress import say
from training.batches import derived_seed

if TYPE_CHECKING:
    from training.batches import Batch
    from training.course import At
    from training.loop import Loop
    from training.meter import Meter


def gradients(loop: Loop, at: At, meter: Meter) -> tuple[float, int]:
    """Mean loss of the step, and its tokens; afterwards every trained parameter has the gradient of the whole step.

    Where memory runs out in one process, all try again with half the micro-batch, and so the same global batch.

    Raises:
        MemoryExhaustedError: a single row does not fit, or the weights are parted.
    """
    while True:
        lacking = ""
        try:
            loss, tokens = _own(loop, at)
        except (MemoryError, RuntimeError) as error:
            if not _is_for_memory(error):
                raise
            if loop.is_parted:  # the others wait for this one's part of a layer and cannot begin again
                raise _exhausted(loop.micro_batch_tokens) from error
            lacking = str(error)
        # Here the failed pass is forgotten, and with it what it held.
        if loop.is_parted or not loop.world.most(int(bool(lacking))):
            break
        loop.optimizer.zero_grad(set_to_none=True)
        _halve(loop, at, meter)
    if not loop.is_parted:
        loop.world.add_up(_filled(loop))
    total, tokens_all = loop.world.sums(float(loss), tokens)
    return total / _weight(at), int(tokens_all)


def _weight(at: At) -> int:
    """What the step's summed loss is divided by: the weight of the whole global batch."""
    return max(1, at.stretch.objective.weight(at.stretch.rows, at.rows))


def _own(loop: Loop, at: At) -> tuple[torch.Tensor, int]:
    """Add the gradients of this process' rows to the parameters; their summed loss, and their tokens."""
    model, objective, world = loop.model.train(), at.stretch.objective, loop.world
    torch.manual_seed(derived_seed(loop.job.recipe.seed, "dropout", (loop.state.step, world.rank)))
    weight = _weight(at)
    scale = world.size if loop.is_parted else 1  # parted gradients are averaged
    loss = torch.zeros((), device=world.device)
    tokens = 0
    objective.forget()
    for batch in _batches(loop, at):
        summed = objective.loss(model, batch)
        (summed * scale / weight).backward()
        if len(batch.target_S):
            loss += summed.detach().float()
            tokens += len(batch.tokens_T)
    return loss, tokens


def _batches(loop: Loop, at: At) -> list[Batch]:
    """This process' micro-batches of a step. Processes take the rows in turn.

    With parted weights all have as many, or they would wait for one another forever: the missing ones learn nothing.
    """
    world, rows = loop.world, at.stretch.rows
    shares = [rows.micro_batches(at.rows[rank :: world.size], loop.micro_batch_tokens) for rank in range(world.size)]
    own = [rows.batch(part).to(world.device) for part in shares[world.rank]]
    if loop.is_parted:
        spare = rows.batch(at.rows[:1]).unlearnt().to(world.device)
        own += [spare] * (max(map(len, shares)) - len(own))
    return own


def _filled(loop: Loop) -> list[torch.Tensor]:
    """The gradients of all trained parameters; a process without rows has zeros."""
    found = []
    for value in loop.model.trainable().values():
        if value.grad is None and loop.world.size > 1:
            value.grad = torch.zeros_like(value)
        if value.grad is not None:
            found.append(value.grad)
    return found


# ---------------------------------------------------------------- when memory runs out


def _is_for_memory(error: BaseException) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(word in str(error).lower() for word in NO_MEMORY)


def _exhausted(tokens: int) -> MemoryExhaustedError:
    return MemoryExhaustedError(
        f"a micro-batch of {tokens:,} tokens does not fit into memory",
        where="train.micro_batch_tokens",
        hint="Set train.checkpoint_activations: on, halve train.micro_batch_tokens or prepare.sequence_length, or take a "
        "smaller base (or train.quantise: nf4).",
    )


def _halve(loop: Loop, at: At, meter: Meter) -> None:
    """Go on with half the micro-batch and the same global batch.

    Raises:
        MemoryExhaustedError: it is a single row already.
    """
    longest, before = int(at.stretch.rows.length.max()), loop.micro_batch_tokens
    if before <= longest:
        raise _exhausted(longest)
    if loop.world.device.type == "cuda":
        torch.cuda.empty_cache()
    loop.state.micro_batch_tokens = max(longest, before // 2)
    told = f"out of memory: micro-batches of {loop.micro_batch_tokens:,} tokens instead of {before:,}, same step"
    say(f"  step {loop.state.step + 1}: {told}")
    meter.event(loop.state.step + 1, "micro-batch halved", message=told)
