"""What a model's config and tokenizer say of it: how much it reads, how its logits are shaped, what ends its texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROOM = 2048
"""Tokens of context where neither config nor tokenizer says."""


def room_of(config: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that a model can read at once; `config` is that of its texts."""
    named = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions", "n_ctx")]
    stated = next((int(value) for value in named if value), None)
    if stated is None and tokenizer.model_max_length < 10**9:
        stated = int(tokenizer.model_max_length)
    return stated or ROOM


def window_of(config: Any) -> int:
    """Tokens that every layer sees: the smallest window or chunk among the layers, or more than any model reads."""
    kinds = getattr(config, "layer_types", None)
    windows = []
    for name, kind in (("sliding_window", "sliding_attention"), ("attention_chunk_size", "chunked_attention")):
        size = getattr(config, name, None)
        if size and (kind in kinds if kinds else getattr(config, "use_sliding_window", True) is not False):
            windows.append(int(size))
    return min(windows, default=10**9)


def logit_shape(config: Any) -> tuple[float, float | None]:
    """Factor and soft cap of the logits, in families that have them (Cohere, Granite, Gemma 2)."""
    scale = float(getattr(config, "logit_scale", None) or 1) / float(getattr(config, "logits_scaling", 0) or 1)
    return scale, getattr(config, "final_logit_softcapping", None)


def stops_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The token ids that end a text: the tokenizer's and the model's own."""
    own = model.generation_config.eos_token_id if model.generation_config is not None else None
    several = own if isinstance(own, list) else [own]
    return frozenset(int(stop) for stop in (*several, tokenizer.eos_token_id) if stop is not None)
