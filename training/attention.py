"""Attention over packed documents: each sees itself and nothing of its neighbours, and no padding is ever computed.

Registered with transformers' own interface, so that no model code is patched. A micro-batch is one row of many
documents; `cu_seq_lens_q` holds their boundaries. Documents of nearly the same length are attended together, the shorter
ones padded on the right, where causal attention never looks.
"""

# T tokens of the packed row, N documents of a bucket, L their longest length, H heads, K key-value heads, D head width

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

from configs.errors import RecipeError

NAME = "sectorlm_packed"
SLACK = 1.25
"""Longest over shortest document of a bucket: at most a quarter of its positions are padding, and buckets are few."""


def register() -> str:
    """Make the packed attention known to transformers; returns the name to pass as `attn_implementation`."""
    AttentionInterface.register(NAME, packed_attention)
    return NAME


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # kept across calls: an index first made while validating must serve training too
def buckets(lengths: tuple[int, ...]) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
    """Group documents by length: for each bucket (index_NL into the row, valid_NL), right-padded.

    >>> [tuple(index.shape) for index, _ in buckets((4, 100, 5))]
    [(2, 5), (1, 100)]
    """
    starts = [0]
    for length in lengths:
        starts.append(starts[-1] + length)
    by_length = sorted(range(len(lengths)), key=lengths.__getitem__)
    groups: list[list[int]] = []
    for document in by_length:
        if groups and lengths[document] <= SLACK * lengths[groups[-1][0]]:
            groups[-1].append(document)
        else:
            groups.append([document])
    made = []
    for group in groups:
        length_N1 = torch.tensor([[lengths[document]] for document in group])
        start_N1 = torch.tensor([[starts[document]] for document in group])
        offset_1L = torch.arange(int(length_N1.max()))[None]
        valid_NL = offset_1L < length_N1
        made.append((torch.where(valid_NL, start_N1 + offset_1L, start_N1), valid_NL))
    return tuple(made)


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
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each document of a packed row; returns [1, T, H, D].

    Raises:
        RecipeError: the model's attention has a window shorter than a document, or soft caps, which this one lacks.
    """
    if cu_seq_lens_q is None or softcap is not None:
        raise RecipeError(
            "this model family needs an attention that packing does not offer yet", where=type(module).__name__
        )
    bounds = cu_seq_lens_q.tolist()
    lengths = tuple(after - before for before, after in pairwise(bounds))
    if sliding_window is not None and max(lengths) > sliding_window:
        raise RecipeError(
            f"documents of up to {max(lengths)} tokens, but the model attends to {sliding_window} only",
            hint=f"Set prepare.sequence_length to {sliding_window} or less.",
        )
    query_THD, key_TKD, value_TKD = (part[0].transpose(0, 1) for part in (query_1HTD, key_1KTD, value_1KTD))
    out_THD: torch.Tensor | None = None
    for index_NL, valid_NL in buckets(lengths):
        index_NL, valid_NL = index_NL.to(query_THD.device), valid_NL.to(query_THD.device)  # noqa: PLW2901
        out_NHLD = scaled_dot_product_attention(
            query_THD[index_NL].transpose(1, 2),
            key_TKD[index_NL].transpose(1, 2),
            value_TKD[index_NL].transpose(1, 2),
            dropout_p=dropout,
            is_causal=True,
            scale=scaling,
            enable_gqa=key_TKD.shape[1] != query_THD.shape[1],
        )
        if out_THD is None:  # under autocast the products' format is known only now
            out_THD = out_NHLD.new_empty(query_THD.shape)
        out_THD[index_NL[valid_NL]] = out_NHLD.transpose(1, 2)[valid_NL]
    return out_THD[None] if out_THD is not None else query_1HTD, None
