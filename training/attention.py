"""Attention over packed documents: each sees itself and nothing of its neighbours, and no padding is ever computed.

Registered with transformers' own interface, so that no model code is patched. A micro-batch is one row of many
documents; `cu_seq_lens_q` holds their boundaries. What a model asks for and this page does not know is refused, never
left out: an attention sink, a position bias or a mask of the model's own would change the result without a sound.
"""

# T tokens of the packed row, L tokens of a document, C queries and J keys of a block, H heads, K key-value heads,
# G = H / K heads that share a key, D head width

from __future__ import annotations

import inspect
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import dropout as dropped
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers import AttentionInterface, AttentionMaskInterface

from configs.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAME = "sectorlm_packed"
BLOCK = 512
"""Fewest queries of a block under a window: below this the calls cost more than the products."""
WIDE = 384
"""Documents up to this length have the kernel's backward pass in float32 on a CPU.

Milliseconds in bfloat16 and in float32, casts included, 6 heads of 64, one thread with AMX: 1.1 and 0.2 for 64 tokens,
3.2 and 2.6 for 256, 8.8 and 10.1 for 512 (torch 2.13).
"""
SCORE_ELEMENTS = 2**23
"""Scores that exist at a time where a soft cap rules out the fused kernels: 32 MB in float32."""
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
    path = path_of(
        query_1HTD.device.type, query_1HTD.dtype, softcap, dropout, (key_1KTD.shape[-1], value_1KTD.shape[-1])
    )
    if path == "varlen":
        longest = others.get("max_length_q") or int((cu_seq_lens_q[1:] - cu_seq_lens_q[:-1]).max())
        parts = (part[0].transpose(0, 1) for part in (query_1HTD, key_1KTD, value_1KTD))
        return _varlen(*parts, bounds=cu_seq_lens_q, longest=longest, scale=scale, window=sliding_window)[None], None
    lengths = [after - before for before, after in pairwise(cu_seq_lens_q.tolist())]
    longest = max(lengths)
    if path == "flash" and (sliding_window is None or sliding_window >= longest):
        return _Flash.apply(query_1HTD, key_1KTD, value_1KTD, lengths, scale), None  # type: ignore[no-untyped-call]
    outs = []
    # Splitting, whose gradient is one concatenation, costs half of gathering documents of like length into batches.
    for query, key, value in zip(*(part.split(lengths, 2) for part in (query_1HTD, key_1KTD, value_1KTD)), strict=True):
        window = sliding_window if sliding_window and sliding_window < query.shape[2] else None
        if path == "scores":
            outs.append(_capped(query, key, value, scale=scale, softcap=softcap, window=window, dropout=dropout))
        elif window:
            outs.append(_windowed(query, key, value, scale=scale, window=window, dropout=dropout))
        else:
            outs.append(_fused(query, key, value, scale=scale, dropout=dropout))
    return torch.cat(outs, 2).transpose(1, 2), None


def path_of(device: str, dtype: torch.dtype, softcap: float | None, dropout: float, widths: tuple[int, int]) -> str:
    """Which attention computes.

    `scores` where there is a soft cap; `varlen`, one kernel for all documents, on CUDA; `flash`, a CPU's kernel with our
    choice of number format; `sdpa`, torch's choice for each document, everywhere else. `widths` are those of a key and of
    a value. The variable-length kernel is FlashAttention-2's: half precision, equal widths up to 256 that 8 divides, no
    dropout (torch.nn.attention.varlen).

    >>> path_of("cpu", torch.float32, None, 0.0, (64, 64)), path_of("cuda", torch.bfloat16, 50.0, 0.0, (64, 64))
    ('sdpa', 'scores')
    """
    if softcap is not None:
        return "scores"
    half = dtype in (torch.bfloat16, torch.float16) and dropout == 0.0 and widths[0] == widths[1]
    if device == "cuda" and half and widths[0] <= 256 and widths[0] % 8 == 0 and _varlen_attn() is not None:
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


@lru_cache(maxsize=1)
def _varlen_attn() -> Callable[..., Any] | None:
    """torch's attention over documents of different length; None before the version that knows windows and shared keys."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = {"window_size", "enable_gqa", "scale"} <= set(inspect.signature(varlen_attn).parameters)
    return varlen_attn if known else None


def _varlen(
    query_THD: torch.Tensor,
    key_TKD: torch.Tensor,
    value_TKD: torch.Tensor,
    *,
    bounds: torch.Tensor,
    longest: int,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """All documents in one kernel, [T, H, D]; FlashAttention counts the keys to the left, transformers the token too."""
    attend = _varlen_attn()
    if attend is None:
        raise refused("torch", "this version has no varlen_attn")
    out_THD: torch.Tensor = attend(
        query_THD,
        key_TKD,
        value_TKD,
        bounds,
        bounds,
        longest,
        longest,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query_THD.shape[1] != key_TKD.shape[1],
    )
    return out_THD


class _Flash(torch.autograd.Function):
    """Each document through the CPU kernel behind scaled_dot_product_attention, written where it belongs: [1, T, H, D].

    The kernel's backward pass in bfloat16 is slow on short documents; those are cast for it, which is also more exact.
    """

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int], scale: float
    ) -> torch.Tensor:
        out_1THD = torch.empty_like(query.transpose(1, 2), memory_format=torch.contiguous_format)
        weights = []
        parts = (part.split(lengths, 2) for part in (query, key, value))
        for into, *pieces in zip(out_1THD.split(lengths, 1), *parts, strict=True):
            out, weight = _FORWARD(*pieces, 0.0, True, scale=scale)
            into.copy_(out.transpose(1, 2))
            weights.append(weight)
        ctx.save_for_backward(query, key, value, out_1THD, *weights)
        ctx.lengths, ctx.scale = lengths, scale
        return out_1THD

    @staticmethod
    def backward(ctx: Any, grad_1THD: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        query, key, value, out_1THD, *weights = ctx.saved_tensors
        inputs = grad_1THD.transpose(1, 2), query, key, value, out_1THD.transpose(1, 2)
        # Laid out by position, as the products that take them up expect.
        grads = [torch.empty_like(part.transpose(1, 2), memory_format=torch.contiguous_format) for part in inputs[1:4]]
        split = [part.split(ctx.lengths, 2) for part in inputs] + [part.split(ctx.lengths, 1) for part in grads]
        for *pieces, into_q, into_k, into_v, weight in zip(*split, weights, strict=True):
            if pieces[0].shape[2] <= WIDE:
                pieces = [piece.float() for piece in pieces]  # noqa: PLW2901
            found = _BACKWARD(*pieces, weight, 0.0, True, scale=ctx.scale)
            for into, part in zip((into_q, into_k, into_v), found, strict=True):
                into.copy_(part.transpose(1, 2))
        return *(part.transpose(1, 2) for part in grads), None, None


_FORWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _fused(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float,
    dropout: float,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """One document, or the block of it that `mask` cuts out, by torch's own kernel: [1, H, C, D]."""
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        dropout_p=dropout,
        is_causal=mask is None,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # kept across calls: a mask first made while validating must serve training too
def visible(queries: int, keys: int, window: int | None, device: torch.device) -> torch.Tensor:
    """Which of the last `keys` keys each of the last `queries` tokens sees: bool [C, J].

    >>> visible(2, 4, 3, torch.device("cpu")).int().tolist()
    [[1, 1, 1, 0], [0, 1, 1, 1]]
    """
    query_C1 = torch.arange(keys - queries, keys, device=device)[:, None]
    key_1J = torch.arange(keys, device=device)[None]
    causal_CJ = key_1J <= query_C1
    return causal_CJ if window is None else causal_CJ & (key_1J > query_C1 - window)


def blocks(length: int, size: int, window: int | None) -> Iterator[tuple[int, int, int]]:
    """Blocks of queries and the first key that they see: (first key, first query, last query + 1).

    >>> list(blocks(10, 4, 3))
    [(0, 0, 4), (2, 4, 8), (6, 8, 10)]
    """
    for start in range(0, length, size):
        yield max(0, start - window + 1) if window else 0, start, min(start + size, length)


def _windowed(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float, window: int, dropout: float
) -> torch.Tensor:
    """A document longer than the window, block by block: time and memory grow with its length, not with the square."""
    outs = []
    for low, start, stop in blocks(query.shape[2], max(BLOCK, window), window):
        mask = visible(stop - start, stop - low, window, query.device)
        part = query[:, :, start:stop], key[:, :, low:stop], value[:, :, low:stop]
        outs.append(_fused(*part, scale=scale, dropout=dropout, mask=mask))
    return torch.cat(outs, 2)


def _capped(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    scale: float,
    softcap: float | None,
    window: int | None,
    dropout: float,
) -> torch.Tensor:
    """Attention with soft-capped scores (Gemma Team 2024, section 2), at most SCORE_ELEMENTS of them at a time.

    The backward pass computes each block's scores again rather than keep them.
    """
    length, heads, shared = query.shape[2], query.shape[1], query.shape[1] // key.shape[1]

    def block(query_1HCD: torch.Tensor, key_1KJD: torch.Tensor, value_1KJD: torch.Tensor) -> torch.Tensor:
        queries, keys = query_1HCD.shape[2], key_1KJD.shape[2]
        mask_CJ = visible(queries, keys, window, query_1HCD.device)
        # The heads that share a key stand below one another, so that no key is copied.
        score_1KRJ = query_1HCD.reshape(1, heads // shared, shared * queries, -1) @ key_1KJD.transpose(2, 3)
        score_1KRJ = score_1KRJ.float() * scale
        if softcap is not None:
            score_1KRJ = softcap * torch.tanh(score_1KRJ / softcap)
        score_1KRJ = score_1KRJ.masked_fill(~mask_CJ.repeat(shared, 1), -torch.inf)
        weight_1KRJ = dropped(torch.softmax(score_1KRJ, -1), dropout, training=dropout > 0)
        return (weight_1KRJ.to(value_1KJD.dtype) @ value_1KJD).reshape(1, heads, queries, -1)

    outs = []
    for low, start, stop in blocks(length, max(1, min(length, SCORE_ELEMENTS // (heads * length))), window):
        part = query[:, :, start:stop], key[:, :, low:stop], value[:, :, low:stop]
        out: Any = checkpoint(block, *part, use_reentrant=False) if torch.is_grad_enabled() else block(*part)
        outs.append(out)
    return torch.cat(outs, 2)
