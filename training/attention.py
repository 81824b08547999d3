"""Attention over packed documents: each sees itself and nothing of its neighbours, and no padding is ever computed.

Registered with transformers' own interface, so that no model code is patched. A micro-batch is one row of many
documents; `cu_seq_lens_q` holds their boundaries. What a model asks for and this page does not know is refused, never
left out: an attention sink, a position bias or a mask of the model's own would change the result without a sound.
"""

# T tokens of the packed row, H heads, K key-value heads, D head width

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface

from configs.errors import RecipeError
from training.kernels import all_at_once, capped, flash, fused, is_ampere, varlen_attn, windowed

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "sectorlm_packed"
HARMLESS = {
    "cache_position",
    "cu_seq_lens_k",
    "is_causal",
    "max_length_k",
    "max_length_q",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "position_ids",
    "return_dict",
    "use_cache",
}
"""Arguments that models hand to their attention and that do not change it, or that are looked at by name."""

_seen: ContextVar[list[torch.nn.Module] | None] = ContextVar("seen", default=None)


def register() -> str:
    """Make the packed attention known to transformers; returns the name to pass as `attn_implementation`."""
    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, packed_mask)
    return NAME


@contextmanager
def calls() -> Iterator[list[torch.nn.Module]]:
    """Collect the layers that attend through this page while the context is open."""
    seen: list[torch.nn.Module] = []
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def packed_mask(*, use_vmap: bool = False, local_size: int | None = None, **asked: Any) -> torch.Tensor:
    """What stands for a mask between a model and `packed_attention`: the window alone, int64 [1, 1, 1, 1]; 0 is none.

    Models that window their masks do not all tell their attention so (Qwen2-MoE, Phi-3.5-MoE).

    Raises:
        RecipeError: the model wants a mask that is more than causal within a window.
    """
    if use_vmap or "allow_is_bidirectional_skip" in asked:
        raise refused(type(asked.get("config")).__name__, "its mask lets tokens see later ones, or is its own")
    return torch.tensor(local_size or 0).view(1, 1, 1, 1)


def packed_attention(  # noqa: PLR0913 - the signature is that of transformers
    module: torch.nn.Module,
    query_1HTD: torch.Tensor,
    key_1KTD: torch.Tensor,
    value_1KTD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each document of a packed row; returns [1, T, H, D].

    Where a model builds masks, its window is the mask's: transformers' eager attention follows the mask alone.

    Raises:
        RecipeError: the model's attention needs something that this one does not have.
    """
    cu_seq_lens_q = _bounds(module, cu_seq_lens_q, others.get("position_ids"), query_1HTD.shape[2])
    _check(module, query_1HTD, key_1KTD, attention_mask, others)
    if (seen := _seen.get()) is not None:
        seen.append(module)
    if attention_mask is not None:
        sliding_window = int(attention_mask) or None
    query_1HTD, key_1KTD, value_1KTD = _same_format(query_1HTD, key_1KTD, value_1KTD)
    scale = query_1HTD.shape[-1] ** -0.5 if scaling is None else scaling
    device, widths = query_1HTD.device.type, (key_1KTD.shape[-1], value_1KTD.shape[-1])
    recent = device != "cuda" or is_ampere()
    path = path_of(device, query_1HTD.dtype, softcap, dropout, widths, recent=recent)
    if path == "varlen":
        longest = others.get("max_length_q") or int((cu_seq_lens_q[1:] - cu_seq_lens_q[:-1]).max())
        parts = (part[0].transpose(0, 1) for part in (query_1HTD, key_1KTD, value_1KTD))
        return all_at_once(*parts, bounds=cu_seq_lens_q, longest=longest, scale=scale, window=sliding_window)[
            None
        ], None
    lengths = [after - before for before, after in pairwise(cu_seq_lens_q.tolist())]
    longest = max(lengths)
    if path == "flash" and (sliding_window is None or sliding_window >= longest):
        return flash(query_1HTD, key_1KTD, value_1KTD, lengths, scale), None
    outs = []
    # Splitting, whose gradient is one concatenation, costs half of gathering documents of like length into batches.
    for query, key, value in zip(*(part.split(lengths, 2) for part in (query_1HTD, key_1KTD, value_1KTD)), strict=True):
        window = sliding_window if sliding_window and sliding_window < query.shape[2] else None
        if path == "scores":
            outs.append(capped(query, key, value, scale=scale, softcap=softcap, window=window, dropout=dropout))
        elif window:
            outs.append(windowed(query, key, value, scale=scale, window=window, dropout=dropout))
        else:
            outs.append(fused(query, key, value, scale=scale, dropout=dropout))
    return torch.cat(outs, 2).transpose(1, 2), None


def path_of(
    device: str,
    dtype: torch.dtype,
    softcap: float | None,
    dropout: float,
    widths: tuple[int, int],
    *,
    recent: bool = True,
) -> str:
    """Which attention computes.

    `scores` where there is a soft cap; `varlen`, one kernel for all documents, on CUDA; `flash`, a CPU's kernel with our
    choice of number format; `sdpa`, torch's choice for each document, everywhere else. `widths` are those of a key and of
    a value. The variable-length kernel is FlashAttention-2's: half precision, equal widths up to 256 that 8 divides, no
    dropout (torch.nn.attention.varlen), a `recent` GPU (`kernels.is_ampere`).

    >>> path_of("cpu", torch.float32, None, 0.0, (64, 64)), path_of("cuda", torch.bfloat16, 50.0, 0.0, (64, 64))
    ('sdpa', 'scores')
    """
    if softcap is not None:
        return "scores"
    half = dtype in (torch.bfloat16, torch.float16) and dropout == 0.0 and widths[0] == widths[1]
    if device == "cuda" and recent and half and widths[0] <= 256 and widths[0] % 8 == 0 and varlen_attn() is not None:
        return "varlen"
    return "flash" if device == "cpu" and half else "sdpa"


def refused(family: str, reason: str) -> RecipeError:
    """The error of a family that packing would compute wrongly."""
    return RecipeError(
        f"this model family cannot be trained on packed documents: {reason}",
        where=family,
        hint="Choose a base of another family; the README names those that are tested.",
    )


def _bounds(
    module: torch.nn.Module, given: torch.Tensor | None, positions: torch.Tensor | None, length: int
) -> torch.Tensor:
    """The documents' bounds, int32: as handed on, or where positions begin anew (StableLM hands on these alone).

    Raises:
        RecipeError: the model hands on neither.
    """
    if given is not None:
        return given
    if positions is None:
        raise refused(type(module).__name__, "it does not hand the documents' bounds to its attention")
    starts = (positions[0] == 0).nonzero()[:, 0]
    return torch.cat([starts, starts.new_tensor([length])]).int()


def _check(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, others: dict[str, Any]
) -> None:
    """Refuse what would be computed wrongly.

    Raises:
        RecipeError: an unknown argument, a mask of the model's own, two-way attention, or keys from elsewhere.
    """
    family = type(module).__name__
    unknown = [
        name for name in others if name not in HARMLESS and others[name] is not None and others[name] is not False
    ]
    if unknown:
        raise refused(family, f"its attention takes {', '.join(sorted(unknown))}, which this one lacks")
    if mask is not None and (mask.numel() != 1 or mask.dtype != torch.int64):
        raise refused(family, f"it brings a mask of its own, {tuple(mask.shape)}")
    if others.get("is_causal") is False or not getattr(module, "is_causal", True):
        raise refused(family, "its attention looks ahead")
    if query.shape[0] != 1 or query.shape[2] != key.shape[2]:
        raise refused(family, f"its queries {tuple(query.shape)} and keys {tuple(key.shape)} are not of one packed row")


def _same_format(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Cast to the products' format: norms and rotary embeddings may leave queries and keys in float32."""
    device = parts[0].device.type
    wanted = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else parts[-1].dtype
    return tuple(part.to(wanted) for part in parts)
