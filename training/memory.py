"""What training will hold in memory, from the model's config alone: no formula is fitted, the step itself is followed.

The model is laid out with shapes but without values (torch's meta device), its parameters are replaced by fakes that know
their device and number format, and one micro-batch goes forward and backward through them. Nothing is computed, every
operation still says which tensors it makes, and each is counted by its storage from its birth to the moment when the last
user lets go of it: the most that lived at once is the peak. So attention, norms, PEFT's casts, the loss in chunks and
activation checkpointing are counted as they are written, in every family. It takes seconds for 8 billion parameters.

What it leaves out: alignment and caching of the allocator, workspaces of matrix libraries, the padding of attention buckets
on a CPU. A base in 4 bits and sharded weights are arithmetic on top (`Shape.weights`, `shared`).
"""

# T tokens of a micro-batch, S supervised positions, E width, H heads, K key-value heads, D head width

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from training.batches import Batch
from training.model import PackedModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from training.shape import Shape

NAME = "sectorlm_planned"
FOUR_BIT = 0.5 + 0.05
"""Bytes of a parameter in 4 bits: half a byte, and the scales of its blocks, 0.016 with double quantisation and 0.06
without (Dettmers et al. 2023, "QLoRA", section 3)."""
FORMULA_BYTES = 34
"""Bytes per token, layer and unit of width in 16 bits where a step cannot be followed: Korthikanti et al. 2022,
"Reducing Activation Recomputation", equation 1 without the scores of attention, which are not kept."""


@dataclass(frozen=True)
class Load:
    """What one process has to hold: a micro-batch, how it is computed, and over how many processes weights are shared."""

    tokens: int
    """T of the largest micro-batch."""
    scored: int
    """S, the positions among them that are supervised."""
    precision: torch.dtype
    device: str = "cuda"
    """`cpu` copies the outputs of attention back into the row; varlen attention on a GPU writes them there."""
    checkpointing: bool = False
    """Activations of a layer are computed again in the backward pass instead of being kept."""
    four_bit: bool = False
    """Frozen linear layers are kept in 4 bits."""
    processes: int = 1
    sharded: bool = False
    """Weights, gradients and moments are spread over the processes (FSDP); otherwise each holds all."""
    pairs: bool = False
    """A phase learns preferences: a copy of the trained weights is its reference, and another stands by in the loss."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one process at the fullest moment of a step; `total` is what the device must have beside its own needs."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    """Kept by the layers for the backward pass, when the forward pass ends."""
    loss: float
    """Logits of a chunk and gradients of the hidden states, on top."""
    workspace: float
    """What the backward pass needs beyond that."""
    communication: float = 0.0
    """The flat copy of the gradients that is summed over the processes (training/world.py), or the layers that FSDP
    gathers: this one and the next."""
    reference: float = 0.0
    """The trained weights as a preference phase began with them."""
    followed: bool = True
    """Whether a step could be followed; else activations are a formula's."""

    @property
    def total(self) -> float:
        """Their sum."""
        return sum(self.parts().values())

    def parts(self) -> dict[str, float]:
        """Bytes by what they are for."""
        return {name: value for name, value in vars(self).items() if name != "followed"}


def memory_of(shape: Shape, load: Load) -> Memory:
    """The memory of one process that trains a model of this shape with this load."""
    key = (load.tokens, load.scored, load.precision, load.device, load.checkpointing)
    if key not in shape.followed:
        shape.followed[key] = _followed(shape, load)
    step: Step = shape.followed[key]
    trainable, share = shape.trainable, load.processes if load.sharded else 1
    copy = 4 * trainable / share if load.pairs else 0.0
    weights = shape.weights(load.precision.itemsize, FOUR_BIT if load.four_bit else None)
    communication = 0.0
    if load.sharded and load.processes > 1:
        communication = 2 * shape.largest_layer * load.precision.itemsize
    elif load.processes > 1:
        communication = 4 * trainable
    return Memory(
        weights=weights / share,
        gradients=4 * trainable / share,
        optimizer=8 * trainable / share,
        activations=step.kept,
        loss=max(0.0, step.loss_peak - step.kept),
        workspace=max(0.0, max(step.peak, step.loss_peak + copy) - max(step.loss_peak, step.kept)),
        communication=communication,
        reference=copy,
        followed=step.followed,
    )


def memory_by_tokens(shape: Shape, load: Load) -> Callable[[int], float]:
    """Total bytes as a function of T: a straight line through two followed steps (all that depends on T is linear in it,
    where no scores of attention are kept; only the loss stops growing once a chunk is full)."""
    less = replace(load, tokens=max(1, load.tokens // 2), scored=max(1, load.scored // 2))
    whole, half = memory_of(shape, load).total, memory_of(shape, less).total
    slope = (whole - half) / max(1, load.tokens - less.tokens)
    return lambda tokens: whole + slope * (tokens - load.tokens)


# ---------------------------------------------------------------- following a step


@dataclass(frozen=True)
class Step:
    """Bytes beyond weights and gradients: kept when the layers are done, at most up to the loss, at most over all."""

    kept: float
    loss_peak: float
    peak: float
    followed: bool = True


class Living(TorchDispatchMode):
    """Counts the bytes of all storages that operations make while it is active, and the most there were at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and note what it made; what was there before counts as nothing, and so do views of it."""
        self._note(args, there=True)
        made = func(*args, **(kwargs or {}))
        self._note(made)
        return made

    def _note(self, values: Any, *, there: bool = False) -> None:
        for value in tree_leaves(values):
            if isinstance(value, torch.Tensor) and value.untyped_storage()._cdata not in self._sizes:
                self._add(value.untyped_storage(), 0 if there else value.untyped_storage().nbytes())

    def _add(self, storage: torch.UntypedStorage, size: int) -> None:
        key = storage._cdata
        self._sizes[key] = size
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


def _followed(shape: Shape, load: Load) -> Step:
    """One micro-batch forward and backward through fakes; where a family's code looks at values, a formula instead."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    register()
    causal = shape.laid_out(NAME)
    try:
        with FakeTensorMode(), Living() as living:
            return _step(causal, load, living)
    except RuntimeError:  # the kind of fakes that were asked for their values, or for a shape that depends on them
        layer = formula_bytes(load.tokens, shape.width, load.precision)
        kept = (layer * 2 / FORMULA_BYTES if load.checkpointing else layer) * shape.layers
        logits = 3 * 4 * min(2**23, load.scored * shape.vocabulary)
        again = layer if load.checkpointing else 0.0
        return Step(kept, kept + logits, kept + logits + again, False)


def formula_bytes(tokens: int, width: int, precision: torch.dtype) -> float:
    """Bytes of the activations that a layer keeps, by the published formula."""
    return tokens * width * FORMULA_BYTES * precision.itemsize / 2


def _step(causal: Any, load: Load, living: Living) -> Step:
    """A micro-batch of one document through the model that is trained, forward and backward."""
    _give_bodies(causal, load.precision)
    model = PackedModel(causal, load.precision)
    causal.config.sectorlm_copies = load.device == "cpu" and load.precision == torch.float32
    if load.checkpointing:
        causal.gradient_checkpointing_enable({"use_reentrant": False})
    causal.train()
    weights = living.now
    for parameter in causal.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.empty_like(parameter)  # of the micro-batch before
    start = living.peak = living.now
    place_T = torch.zeros(load.tokens, dtype=torch.long)
    scored_S = torch.zeros(load.scored, dtype=torch.long)
    bounds = torch.zeros(2, dtype=torch.int32)
    batch = Batch(place_T, place_T, bounds, scored_S, scored_S, longest=load.tokens)
    hidden_TE = model.hidden(batch)
    kept = living.now - start
    loss = model.losses(hidden_TE, batch).sum()
    del hidden_TE
    loss_peak = living.peak - start
    loss.backward()  # type: ignore[no-untyped-call]
    if weights > start:
        raise RuntimeError("weights were freed while the step was followed")
    return Step(kept, loss_peak, living.peak - start)


def _give_bodies(causal: Any, precision: torch.dtype) -> None:
    """Replace what lies on the meta device by fakes on the CPU in the format that training keeps it in; ties stay ties."""
    made: dict[int, torch.nn.Parameter] = {}
    for module in causal.modules():
        for name, value in module._parameters.items():
            if value is None:
                continue
            if id(value) not in made:
                kind = torch.float32 if value.requires_grad else precision
                made[id(value)] = torch.nn.Parameter(torch.empty(value.shape, dtype=kind), value.requires_grad)
            module._parameters[name] = made[id(value)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = torch.empty(buffer.shape, dtype=buffer.dtype)


def register() -> None:
    """Make the attention that a followed step uses known to transformers."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, planned_attention)


def planned_attention(
    module: torch.nn.Module,
    query_1HTD: torch.Tensor,
    key_1KTD: torch.Tensor,
    value_1KTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention that keeps what the packed one keeps: queries, keys and values, outputs, a sum per position.

    Where documents begin and end changes none of these, so the row is one document here.
    """
    out_1HTD = torch.nn.functional.scaled_dot_product_attention(
        query_1HTD,
        key_1KTD,
        value_1KTD,
        is_causal=True,
        enable_gqa=key_1KTD.shape[1] != query_1HTD.shape[1],
    )
    out_1THD = out_1HTD.transpose(1, 2)
    copied = module.config.sectorlm_copies  # type: ignore[union-attr]
    return out_1THD.clone() if copied else out_1THD.contiguous(), None
