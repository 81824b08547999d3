"""The kernels of the packed attention: all documents at once, or one document, whole or block by block.

Which of them computes is decided in `training/attention.py`.
"""

# T tokens of the packed row, L tokens of a document, C queries and J keys of a block, H heads, K key-value heads,
# R rows of the heads that share a key, below one another, D head width

from __future__ import annotations

import inspect
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import dropout as dropped
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from configs.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK = 512
"""Fewest queries of a block under a window: below this the calls cost more than the products."""
WIDE = 384
"""Documents up to this length have the kernel's backward pass in float32 on a CPU.

Milliseconds in bfloat16 and in float32, casts included, 6 heads of 64, one thread with AMX: 1.1 and 0.2 for 64 tokens,
3.2 and 2.6 for 256, 8.8 and 10.1 for 512 (torch 2.13).
"""
MASK_ELEMENTS = 2**27
"""Elements of the masks that are kept, 128 MB: one block under a window of 4,096 has 2**25."""
SCORE_ELEMENTS = 2**23
"""Scores that exist at a time where a soft cap rules out the fused kernels: 32 MB in float32."""


@lru_cache(maxsize=1)
def varlen_attn() -> Callable[..., Any] | None:
    """Look up torch's attention over documents of different length; None where it knows no windows or shared keys yet."""
    try:
        from torch.nn.attention import varlen
    except ImportError:
        return None
    known: Callable[..., Any] = varlen.varlen_attn
    return known if {"window_size", "enable_gqa", "scale"} <= set(inspect.signature(known).parameters) else None


@lru_cache(maxsize=1)
def is_ampere() -> bool:
    """Whether the GPU multiplies bfloat16 and runs FlashAttention-2: compute capability 8.0, Ampere, and later."""
    return torch.cuda.get_device_capability() >= (8, 0)


def all_at_once(
    query_THD: torch.Tensor,
    key_TKD: torch.Tensor,
    value_TKD: torch.Tensor,
    *,
    bounds: torch.Tensor,
    longest: int,
    scale: float,
    window: int | None,
) -> torch.Tensor:
    """All documents in one kernel, [T, H, D]; FlashAttention counts the keys to the left, transformers the token too.

    Raises:
        StorageError: this torch has no such kernel; `path_of` does not choose it then.
    """
    attend = varlen_attn()
    if attend is None:
        raise StorageError("this torch has no varlen_attn", hint="Install torch 2.13.")
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


def flash(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int], scale: float
) -> torch.Tensor:
    """All documents of a row on a CPU in half precision, each by itself: [1, H, T, D] to [1, T, H, D]."""
    out_1THD: torch.Tensor = _Flash.apply(query, key, value, lengths, scale)  # type: ignore[no-untyped-call]
    return out_1THD


def fused(
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


def visible(queries: int, keys: int, window: int | None, device: torch.device) -> torch.Tensor:
    """Which of the last `keys` keys each of the last `queries` tokens sees: bool [C, J].

    >>> visible(2, 4, 3, torch.device("cpu")).int().tolist()
    [[1, 1, 1, 0], [0, 1, 1, 1]]
    """
    key = (queries, keys, window, device)
    mask_CJ = _masks.pop(key, None)
    if mask_CJ is None:
        mask_CJ = _visible(*key)
    _masks[key] = mask_CJ  # the youngest, at the end
    while sum(it.numel() for it in _masks.values()) > MASK_ELEMENTS:
        del _masks[next(iter(_masks))]
    return mask_CJ


_masks: dict[tuple[int, int, int | None, torch.device], torch.Tensor] = {}
"""Masks that were made already: those of the documents of one length, or of the blocks of a long one, are the same."""


@torch.inference_mode(False)  # kept across calls: a mask first made while validating must serve training too
def _visible(queries: int, keys: int, window: int | None, device: torch.device) -> torch.Tensor:
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


def windowed(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, scale: float, window: int, dropout: float
) -> torch.Tensor:
    """A document longer than the window, block by block: time and memory grow with its length, not with the square."""
    outs = []
    for low, start, stop in blocks(query.shape[2], max(BLOCK, window), window):
        mask = visible(stop - start, stop - low, window, query.device)
        part = query[:, :, start:stop], key[:, :, low:stop], value[:, :, low:stop]
        outs.append(fused(*part, scale=scale, dropout=dropout, mask=mask))
    return torch.cat(outs, 2)


def capped(
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
