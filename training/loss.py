"""Cross-entropy without a logits tensor: chunk by chunk, on supervised positions only, with its gradient in the forward pass.

The gradient of cross-entropy with respect to the logits is softmax - onehot, so a chunk's gradient to the hidden states
(and to the head, where it is trained) is known as soon as its logits are; the logits can then be thrown away. Equal to
`torch.nn.functional.cross_entropy(..., reduction="sum")` in float32 to 1e-5 (tests/test_loss.py).
"""

# S supervised positions, C positions of a chunk, V vocabulary, E width of the hidden states

from __future__ import annotations

from typing import Any

import torch

from configs.errors import RecipeError

CHUNK_ELEMENTS = 2**23
"""Logits kept at a time: 32 MB in float32, small beside the model and large enough to keep the cores busy."""


class _CrossEntropySum(torch.autograd.Function):
    """Sum over positions of -log softmax(logits)[target]."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_SE: torch.Tensor,
        head_VE: torch.Tensor,
        bias_V: torch.Tensor | None,
        target_S: torch.Tensor,
        factors: tuple[float, float | None],
    ) -> torch.Tensor:
        wanted = ctx.needs_input_grad
        chunk = max(1, CHUNK_ELEMENTS // head_VE.shape[0])
        total = hidden_SE.new_zeros((), dtype=torch.float32)
        grad_hidden_SE = torch.empty_like(hidden_SE) if wanted[0] else None
        grad_head_VE = torch.zeros_like(head_VE, dtype=torch.float32) if wanted[1] else None
        grad_bias_V = torch.zeros_like(bias_V, dtype=torch.float32) if wanted[2] and bias_V is not None else None
        weight_VE = head_VE.to(hidden_SE.dtype)
        for start in range(0, hidden_SE.shape[0], chunk):
            hidden_CE, target_C = hidden_SE[start : start + chunk], target_S[start : start + chunk]
            logits_CV = hidden_CE @ weight_VE.T
            if bias_V is not None:
                logits_CV = logits_CV + bias_V.to(logits_CV.dtype)
            loss, grad_CV = _value_and_gradient(logits_CV, target_C, factors, any(wanted))
            total += loss
            if grad_hidden_SE is not None:
                torch.mm(grad_CV, weight_VE, out=grad_hidden_SE[start : start + chunk])
            if grad_head_VE is not None:
                grad_head_VE += (grad_CV.T @ hidden_CE).float()
            if grad_bias_V is not None:
                grad_bias_V += grad_CV.sum(0, dtype=torch.float32)
        ctx.save_for_backward(grad_hidden_SE, grad_head_VE, grad_bias_V)
        ctx.formats = hidden_SE.dtype, head_VE.dtype, None if bias_V is None else bias_V.dtype
        return total

    @staticmethod
    def backward(ctx: Any, grad_total: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        found = zip(ctx.saved_tensors, ctx.formats, strict=True)
        return *(None if grad is None else (grad * grad_total).to(dtype) for grad, dtype in found), None, None


def _value_and_gradient(
    logits_CV: torch.Tensor, target_C: torch.Tensor, factors: tuple[float, float | None], wanted: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The chunk's summed loss in float32, and its gradient to the raw logits in their format (empty if not wanted)."""
    (scale, softcap), format_ = factors, logits_CV.dtype
    logits_CV = logits_CV.float() * scale if scale != 1 else logits_CV.float()
    slope_CV = None
    if softcap is not None:
        logits_CV = torch.tanh(logits_CV / softcap)
        slope_CV = 1 - logits_CV**2
        logits_CV = softcap * logits_CV
    log_p_CV = torch.log_softmax(logits_CV, dim=-1)
    loss = -log_p_CV.gather(1, target_C[:, None]).sum()
    if not wanted:
        return loss, log_p_CV.new_empty(0)
    grad_CV = log_p_CV.exp_()
    grad_CV.scatter_add_(1, target_C[:, None], grad_CV.new_full((len(target_C), 1), -1.0))
    if slope_CV is not None:
        grad_CV *= slope_CV
    if scale != 1:
        grad_CV *= scale
    return loss, grad_CV.to(format_)


def cross_entropy_sum(
    hidden_SE: torch.Tensor,
    head_VE: torch.Tensor,
    target_S: torch.Tensor,
    *,
    bias_V: torch.Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:
    """The summed cross-entropy, in nats, of the target tokens; a float32 scalar with gradients to `hidden` and the head.

    `scale` multiplies the logits (Cohere, Granite), `softcap` bounds them by a tanh (Gemma Team 2024, section 2).
    """
    return _CrossEntropySum.apply(hidden_SE, head_VE, bias_V, target_S, (scale, softcap))  # type: ignore[no-untyped-call,no-any-return]


def output_head(causal: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The weight [V, E] of the output head as it stands now, and its bias [V] where the family has one (Phi, GPT-J).

    Raises:
        RecipeError: there is none, or an adapter sits on it whose factors this loss would leave out.
    """
    module = causal.get_output_embeddings()
    if module is None or hasattr(module, "lora_A"):
        reason = "has no output head" if module is None else "has an adapter on its output head"
        raise RecipeError(f"{type(causal).__name__} {reason}, which this loss cannot train", where="base")
    # PEFT's wrapper around a head with single trained rows shows their weight, and hides the bias.
    rows = getattr(module, "token_adapter", None)
    return module.weight, getattr(module if rows is None else rows.base_layer, "bias", None)


def logit_factors(config: Any) -> tuple[float, float | None]:
    """A family's factor on the logits and its soft cap, from the model's config."""
    config = config.get_text_config()
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    if divisor := getattr(config, "logits_scaling", None):
        scale /= float(divisor)
    return scale, getattr(config, "final_logit_softcapping", None)
