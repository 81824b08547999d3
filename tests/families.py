"""Tiny random models of many families: 2 to 4 layers, width 32, vocabulary 320, made from their configs alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
WHOLE = LLAMA | {"num_key_value_heads": 4}
HEADS = LLAMA | {"head_dim": 8}
WINDOW = 8
TURNS = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
"""A layer with a window, then one without."""
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", LLAMA),
    "llama-biased": ("llama", LLAMA | {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "qwen2": ("qwen2", LLAMA),
    "qwen2-window": ("qwen2", LLAMA | TURNS | {"use_sliding_window": True}),
    "qwen3": ("qwen3", HEADS),
    "mistral": ("mistral", HEADS | {"sliding_window": WINDOW}),
    "gemma": ("gemma", HEADS),
    "gemma2": (
        "gemma2",
        HEADS | TURNS | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 16},
    ),
    "gemma3": (
        "gemma3_text",
        HEADS | TURNS | {"query_pre_attn_scalar": 16, "attn_logit_softcapping": None, "num_key_value_heads": 1},
    ),
    "phi3": ("phi3", LLAMA | {"sliding_window": WINDOW}),
    "phi": ("phi", WHOLE | {"partial_rotary_factor": 0.5}),
    "smollm3": ("smollm3", LLAMA | {"no_rope_layers": [1, 0]}),
    "gpt2": ("gpt2", GPT2),
    "gpt2-inverse": ("gpt2", GPT2 | {"scale_attn_by_inverse_layer_idx": True}),
    "gpt2-upcast": ("gpt2", GPT2 | {"reorder_and_upcast_attn": True}),
    "gptj": ("gptj", GPT2 | {"rotary_dim": 4}),
    "gpt-neox": ("gpt_neox", WHOLE | {"rotary_pct": 0.5}),
    "opt": (
        "opt",
        {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "word_embed_proj_dim": 16},
    ),
    "gpt-bigcode": ("gpt_bigcode", GPT2),
    "granite": (
        "granite",
        LLAMA
        | {
            "logits_scaling": 8.0,
            "embedding_multiplier": 12.0,
            "attention_multiplier": 0.2,
            "residual_multiplier": 0.22,
        },
    ),
    "cohere": ("cohere", LLAMA | {"logit_scale": 0.25, "use_qk_norm": True}),
    "cohere2": ("cohere2", LLAMA | TURNS | {"logit_scale": 0.25}),
    "olmo2": ("olmo2", LLAMA),
    "olmo3": ("olmo3", LLAMA | TURNS),
    "stablelm": ("stablelm", WHOLE | {"partial_rotary_factor": 0.5}),
    "starcoder2": ("starcoder2", LLAMA | {"sliding_window": WINDOW}),
    "nemotron": ("nemotron", HEADS),
    "glm4": ("glm4", HEADS),
    "mixtral": ("mixtral", LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": WINDOW}),
    "qwen2-moe": (
        "qwen2_moe",
        LLAMA
        | EXPERTS
        | TURNS
        | {"shared_expert_intermediate_size": 24, "decoder_sparse_step": 1, "use_sliding_window": True},
    ),
    "qwen3-moe": ("qwen3_moe", HEADS | EXPERTS | {"decoder_sparse_step": 1}),
    "olmoe": ("olmoe", LLAMA | {"num_experts": 4, "num_experts_per_tok": 2}),
    "granite-moe": ("granitemoe", LLAMA | {"num_local_experts": 4, "num_experts_per_tok": 2, "logits_scaling": 4.0}),
}
"""Name of a case: transformers' model type and its config."""

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "gpt-oss": ("gpt_oss", HEADS | TURNS | {"num_local_experts": 4, "num_experts_per_tok": 2}, "s_aux"),
    "mamba": ("mamba", {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4}, "linear_attention"),
    "falcon-h1": (
        "falcon_h1",
        HEADS | {"mamba_d_ssm": 64, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8},
        "hybrid",
    ),
    "qwen3-next": (
        "qwen3_next",
        HEADS
        | EXPERTS
        | {"layer_types": ["linear_attention", "full_attention"], "shared_expert_intermediate_size": 24},
        "linear_attention",
    ),
    "lfm2": ("lfm2", LLAMA | {"layer_types": ["conv", "full_attention"]}, "conv"),
    "bloom": ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 4}, "position_ids"),
    "openai-gpt": ("openai-gpt", GPT2 | {"n_positions": 128}, "0 of its 2 layers"),
    "llama4": (
        "llama4_text",
        HEADS
        | {"num_local_experts": 2, "intermediate_size_mlp": 48, "layer_types": ["chunked_attention", "full_attention"]},
        "chunked_attention",
    ),
    "two-way": ("gemma3_text", HEADS | TURNS | {"use_bidirectional_attention": True}, "later ones"),
}
"""Families that packing would compute wrongly: model type, config, and a word of the reason."""


def tiny(model_type: str, settings: dict[str, Any], attention: str, seed: int = 0) -> PreTrainedModel:
    """A random model of a family; its weights are large enough that attention matters, and no bias is zero."""
    torch.manual_seed(seed)
    given = {"vocab_size": 320, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = AutoConfig.for_model(model_type, **(given | settings))
    model: PreTrainedModel = AutoModelForCausalLM.from_config(
        config, attn_implementation=attention, dtype=torch.float32
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif "embed" not in name and "wte" not in name:
                parameter.mul_(5)
    return model
