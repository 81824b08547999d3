"""Attention of rows that begin alike: the beginning's keys are kept once, and every query of every row looks at them.

What a row holds of its own and what it shares are attended to apart, each by a fused kernel, and joined by their
log-sum-exps: the shared part is one product of all queries with one set of keys, and nothing is copied for each row.
Source: Juravsky et al. 2024, "Hydragen: High-Throughput LLM Inference with Shared Prefixes", section 3. Registered with
transformers' own interface, so that no model code is patched; what a model asks for and this page does not know is
refused, and the model then reads whole prompts by its own attention.
"""

# B rows, T tokens, H heads, K key-value heads, G heads of each, D head width, P tokens of the kept beginning, W columns

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch
from transformers import AttentionInterface
from transformers.utils import logging

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel

NAME = "sectorlm_branches"
HARMLESS = frozenset(
    {
        *("cache_position", "is_causal", "output_attentions", "output_hidden_states", "output_router_logits"),
        *("position_ids", "return_dict", "sliding_window", "use_cache"),
    }
)
"""Arguments that do not change this attention. A window is no matter where all that is read fits into it: the scorer sees
to that."""

Layers = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values by layer, [B, K, W, D]."""
_pass: ContextVar[Pass | None] = ContextVar("pass", default=None)


class Pass:
    """One forward pass as its layers see it, in the order in which they come."""

    def __init__(
        self,
        kept: Layers | None = None,
        mask: torch.Tensor | None = None,
        grown: Layers | None = None,
        at_B: torch.Tensor | None = None,
        *,
        fused: bool = True,
    ) -> None:
        self.kept = kept
        """Keys and values of the beginning, [1, K, P, D]."""
        self.mask = mask
        """Added to the scores of a row's own tokens, [B, 1, T, W]; None is causal."""
        self.grown, self.at_B = grown, at_B
        """Room for the keys and values of texts that grow, and the column that each row's next token goes to."""
        self.fused = fused
        """By fused kernels where there are any for this device and format."""
        self.read: Layers = []
        """What this pass has computed."""

    def attend(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, softcap: float | None
    ) -> torch.Tensor:
        """What one layer attends to, [B, H, T, D]; `key` and `value` are those of the row's own new tokens."""
        turn = len(self.read)
        self.read.append((key, value))
        if self.grown is not None and self.mask is not None:
            keys, values = self.grown[turn]
            rows_B = torch.arange(len(key), device=key.device)
            keys[rows_B, :, self.at_B], values[rows_B, :, self.at_B] = key[:, :, 0], value[:, :, 0]
            key, value = (part[:, :, : self.mask.shape[-1]] for part in (keys, values))
        own, own_sum = self._kernel(*_same_heads(query, key, value), self.mask, scale, softcap)
        if self.kept is None:
            return own
        keys, values = self.kept[turn]
        (rows, heads, tokens, width), shared = query.shape, keys.shape[1]
        by_head = query.view(rows, shared, heads // shared, tokens, width).transpose(0, 1)
        far, far_sum = self._kernel(
            by_head.reshape(1, shared, -1, width), keys, values, None, scale, softcap, causal=False
        )
        far = far.reshape(*by_head.shape[:-1], -1).transpose(0, 1).reshape(rows, heads, tokens, -1)
        far_sum = far_sum.reshape(by_head.shape[:-1]).transpose(0, 1).reshape(rows, heads, tokens)
        return torch.lerp(own, far, torch.sigmoid(far_sum - own_sum)[..., None].to(own.dtype))

    def _kernel(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        mask: torch.Tensor | None,
        scale: float,
        softcap: float | None,
        *,
        causal: bool = True,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention and its log-sum-exp in float32, [B, H, T, D] and [B, H, T]; without mask causal or of all to all."""
        causal = causal and mask is None
        fits = softcap is None and self.fused and key.shape[-1] == value.shape[-1]
        if fits and query.device.type == "cpu":
            flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
            out, sums = flash(query, key, value, 0.0, causal, attn_mask=mask, scale=scale)
            return out, sums
        if fits and query.device.type == "cuda":
            bias = None if mask is None else mask.expand(-1, query.shape[1], -1, -1)
            efficient = torch.ops.aten._scaled_dot_product_efficient_attention
            out, sums, _, _ = efficient(query, key, value, bias, True, 0.0, causal, scale=scale)
            return out, sums[..., : query.shape[2]]
        return _plainly(query, key, value, mask, scale, softcap, causal=causal)


def _plainly(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float,
    softcap: float | None,
    *,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same with all scores at once: for soft caps (Gemma 2), values of another width, and other devices."""
    scores = (query @ key.mT).float() * scale
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if causal:
        mask = torch.full(scores.shape[-2:], -torch.inf, device=scores.device).triu(1)
    if mask is not None:
        scores = scores + mask
    sums = scores.logsumexp(dim=-1)
    return torch.exp(scores - sums[..., None]).to(value.dtype) @ value, sums


def _same_heads(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Keys and values for each head; they are the row's own, and few."""
    groups = query.shape[1] // key.shape[1]
    if groups == 1:
        return query, key, value
    return query, key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)


def branched(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """One layer's attention in the pass that is open; returns [B, T, H, D].

    Raises:
        NotImplementedError: the model's attention needs something that this one does not have.
    """
    current = _pass.get()
    strange = [
        name for name, given in others.items() if name not in HARMLESS and given is not None and given is not False
    ]
    looks_ahead = others.get("is_causal") is False or not getattr(module, "is_causal", True)
    if current is None or strange or looks_ahead or attention_mask is not None or dropout:
        raise NotImplementedError(f"attention of {type(module).__name__}: {', '.join(strange) or 'a mask of its own'}")
    kind = value.dtype  # norms and rotary embeddings may leave queries and keys in float32
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    out = current.attend(query.to(kind), key.to(kind), value, scale, softcap)
    return out.transpose(1, 2).contiguous(), None


@contextmanager
def attending(model: PreTrainedModel) -> Iterator[None]:
    """The model's layers attend through this page while the context is open.

    Raises:
        NotImplementedError: the model has attention of its own that cannot be replaced.
    """
    AttentionInterface.register(NAME, branched)
    before = model.config._attn_implementation
    _set(model, NAME)
    if model.config._attn_implementation != NAME:
        raise NotImplementedError(f"{type(model).__name__} does not let its attention be replaced")
    try:
        yield
    finally:
        _set(model, before)


def _set(model: PreTrainedModel, name: str) -> None:
    """Choose the attention; families that refuse would say so each time."""
    loud = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model.set_attn_implementation(name)
    finally:
        logging.set_verbosity(loud)


@contextmanager
def opened(current: Pass) -> Iterator[Pass]:
    """Forward passes of the model are this one while the context is open."""
    token = _pass.set(current)
    try:
        yield current
    finally:
        _pass.reset(token)
