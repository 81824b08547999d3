"""Cross-entropy without a logits tensor: chunk by chunk, on supervised positions only, with its gradient in the forward pass.

The gradient of cross-entropy with respect to the logits is softmax - onehot, so a chunk's gradient to the hidden states
(and to the head, where it is trained) is known as soon as its logits are; the logits can then be thrown away. Equal to
`torch.nn.functional.cross_entropy(..., reduction="none")` in float32 to 1e-5 (tests/test_loss.py).
"""

# S supervised positions, C positions of a chunk, V vocabulary, E width of the hidden states

from __future__ import annotations

from typing import Any

import torch

from configs.errors import RecipeError

CHUNK_BYTES = {"cpu": 2**25, "cuda": 2**28}
"""Logits kept at a time, in the products' format: small beside the model, enough rows to keep the cores busy."""
LEAST_ROWS = 256
"""Rows of a chunk however large the vocabulary: with fewer, reading the head's weights costs more than multiplying."""
SLICE_ELEMENTS = {"cpu": 2**17, "cuda": 2**25}
"""Of these, those in float32: on a CPU 512 kB, so that softmax and gradient stay in the second-level cache.

Measured on 4,096 positions, vocabulary 16,384, width 384, bfloat16, one thread: 0.22 s, 0.31 s without slices, of which
0.13 s are matrix products.
"""


class _CrossEntropy(torch.autograd.Function):
    """For each position -log softmax(logits)[target]."""

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
        loss_S = hidden_SE.new_empty(len(target_S), dtype=torch.float32)
        grad_hidden_SE = torch.empty_like(hidden_SE) if wanted[0] else None
        grad_head_VE = torch.zeros_like(head_VE, dtype=torch.float32) if wanted[1] else None
        grad_bias_V = torch.zeros_like(bias_V, dtype=torch.float32) if wanted[2] and bias_V is not None else None
        weight_VE = head_VE.to(hidden_SE.dtype)
        rows = _rows(hidden_SE, len(weight_VE))
        buffer_CV = hidden_SE.new_empty(min(rows, len(hidden_SE)), len(weight_VE))
        for start in range(0, len(hidden_SE), rows):
            hidden_CE, target_C = hidden_SE[start : start + rows], target_S[start : start + rows]
            logits_CV = torch.mm(hidden_CE, weight_VE.T, out=buffer_CV[: len(hidden_CE)])
            if bias_V is not None:
                logits_CV += bias_V
            _to_gradient(logits_CV, target_C, factors, loss_S[start : start + rows], any(wanted))
            if grad_hidden_SE is not None:
                torch.mm(logits_CV, weight_VE, out=grad_hidden_SE[start : start + rows])
            if grad_head_VE is not None:
                grad_head_VE += logits_CV.T @ hidden_CE
            if grad_bias_V is not None:
                grad_bias_V += logits_CV.sum(0, dtype=torch.float32)
        ctx.save_for_backward(grad_hidden_SE, grad_head_VE, grad_bias_V)
        ctx.formats = hidden_SE.dtype, head_VE.dtype, None if bias_V is None else bias_V.dtype
        return loss_S

    @staticmethod
    def backward(ctx: Any, grad_S: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        grad_hidden_SE, *head = ctx.saved_tensors
        dtype, *formats = ctx.formats
        found = [None if grad_hidden_SE is None else (grad_hidden_SE * grad_S[:, None]).to(dtype)]
        alike = grad_S[:1].sum()
        found += [None if it is None else (it * alike).to(form) for it, form in zip(head, formats, strict=True)]
        return *found, None, None


def _rows(hidden_SE: torch.Tensor, vocabulary: int) -> int:
    """Positions of a chunk."""
    most = CHUNK_BYTES.get(hidden_SE.device.type, CHUNK_BYTES["cpu"])
    return max(LEAST_ROWS, most // (vocabulary * hidden_SE.element_size()))


def _to_gradient(
    logits_CV: torch.Tensor,
    target_C: torch.Tensor,
    factors: tuple[float, float | None],
    loss_C: torch.Tensor,
    wanted: bool,
) -> None:
    """Write the chunk's losses into `loss_C`; if wanted, the raw logits are overwritten with the gradient to them."""
    scale, softcap = factors
    size = SLICE_ELEMENTS.get(logits_CV.device.type, SLICE_ELEMENTS["cpu"])
    rows = max(1, size // logits_CV.shape[1])
    parts = (part.split(rows) for part in (logits_CV, target_C, loss_C))
    for raw_RV, target_R, loss_R in zip(*parts, strict=True):
        shaped_RV, slope_RV = raw_RV, None
        if scale != 1 or softcap is not None:
            shaped_RV = raw_RV.float() * scale
        if softcap is not None:
            shaped_RV = (shaped_RV / softcap).tanh_()
            slope_RV = 1 - shaped_RV**2
            shaped_RV *= softcap
        log_p_RV = torch.log_softmax(shaped_RV, dim=-1, dtype=torch.float32)
        loss_R.copy_(-log_p_RV.gather(1, target_R[:, None])[:, 0])
        if not wanted:
            continue
        grad_RV = log_p_RV.exp_()
        grad_RV.scatter_add_(1, target_R[:, None], grad_RV.new_full((len(target_R), 1), -1.0))
        if slope_RV is not None:
            grad_RV *= slope_RV
        if scale != 1:
            grad_RV *= scale
        raw_RV.copy_(grad_RV)


def cross_entropies(
    hidden_SE: torch.Tensor,
    head_VE: torch.Tensor,
    target_S: torch.Tensor,
    *,
    bias_V: torch.Tensor | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:
    """The cross-entropy, in nats, of each target token: float32 [S], with gradients to `hidden` and the head.

    Where the head is trained too, the positions must have the same weight in what is made of them, as in a sum (recipes
    with a preference phase train adapters alone, so that they never do otherwise). `scale`
    multiplies the logits (Cohere, Granite), `softcap` bounds them by a tanh (Gemma Team 2024, section 2).
    """
    return _CrossEntropy.apply(hidden_SE, head_VE, bias_V, target_S, (scale, softcap))  # type: ignore[no-untyped-call,no-any-return]


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
