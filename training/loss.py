"""Cross-entropy without a logits tensor: chunk by chunk, on supervised positions only, with its gradient in the forward pass.

The gradient of cross-entropy with respect to the logits is softmax - onehot, so a chunk's gradient to the hidden states
(and to the head, where it is trained) is known as soon as its logits are; the logits can then be thrown away. Equal to
`torch.nn.functional.cross_entropy(..., reduction="none")` in float32 to 1e-5 (tests/test_loss.py).
"""

# S supervised positions, C positions of a chunk, V vocabulary, E width of the hidden states, R rows of the head trained alone

from __future__ import annotations

from typing import Any

import torch

CHUNK_ELEMENTS = 2**23
"""Logits kept at a time: 32 MB in float32, small beside the model and large enough to keep the cores busy."""


class _CrossEntropy(torch.autograd.Function):
    """For each position -log softmax(scale * hidden @ head.T)[target], soft-capped if the family does so."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden_SE: torch.Tensor,
        head_VE: torch.Tensor,
        target_S: torch.Tensor,
        values_RE: torch.Tensor | None,
        how: tuple[torch.Tensor | None, float, float | None],
    ) -> torch.Tensor:
        rows_R, scale, softcap = how
        chunk = max(1, CHUNK_ELEMENTS // head_VE.shape[0])
        loss_S = hidden_SE.new_empty(len(target_S), dtype=torch.float32)
        grad_hidden_SE = torch.empty_like(hidden_SE)
        grad_head_VE = torch.zeros_like(head_VE, dtype=torch.float32) if head_VE.requires_grad else None
        weight_VE = head_VE.to(hidden_SE.dtype)
        own_RE = None if values_RE is None else values_RE.to(hidden_SE.dtype)
        grad_SR = None if rows_R is None else hidden_SE.new_empty(len(target_S), len(rows_R))
        for start in range(0, hidden_SE.shape[0], chunk):
            hidden_CE, target_C = hidden_SE[start : start + chunk], target_S[start : start + chunk]
            logits_CV = hidden_CE @ weight_VE.T
            if own_RE is not None:  # in place, which is cheaper than a head of its own with these rows put in
                logits_CV[:, rows_R] = hidden_CE @ own_RE.T
            logits_CV = logits_CV.float() * scale
            if softcap is not None:
                logits_CV = softcap * torch.tanh(logits_CV / softcap)
            slope_CV = None if softcap is None else 1 - (logits_CV / softcap) ** 2
            log_p_CV = torch.log_softmax(logits_CV, dim=-1)
            loss_S[start : start + chunk] = -log_p_CV.gather(1, target_C[:, None])[:, 0]
            grad_CV = log_p_CV.exp_()
            grad_CV.scatter_add_(1, target_C[:, None], grad_CV.new_full((len(target_C), 1), -1.0))
            if slope_CV is not None:
                grad_CV *= slope_CV
            grad_CV = (grad_CV * scale).to(hidden_SE.dtype) if scale != 1 else grad_CV.to(hidden_SE.dtype)
            if own_RE is not None and grad_SR is not None:
                grad_SR[start : start + chunk] = grad_CR = grad_CV[:, rows_R]
                grad_CV[:, rows_R] = 0
                grad_hidden_SE[start : start + chunk] = torch.addmm(grad_CR @ own_RE, grad_CV, weight_VE)
            else:
                grad_hidden_SE[start : start + chunk] = grad_CV @ weight_VE
            if grad_head_VE is not None:
                grad_head_VE += (grad_CV.T @ hidden_CE).float()
        ctx.save_for_backward(grad_hidden_SE, grad_head_VE, *(() if grad_SR is None else (grad_SR, hidden_SE)))
        ctx.dtypes = head_VE.dtype, None if values_RE is None else values_RE.dtype
        return loss_S

    @staticmethod
    def backward(ctx: Any, grad_S: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        grad_hidden_SE, grad_head_VE, *trained = ctx.saved_tensors
        grad_head = grad_values_RE = None
        if grad_head_VE is not None:
            if len(grad_S) and bool((grad_S != grad_S[0]).any()):
                raise RuntimeError("a head that is trained needs the same weight on all positions")
            grad_head = (grad_head_VE * grad_S[:1].sum()).to(ctx.dtypes[0])
        if trained:
            grad_SR, hidden_SE = trained
            grad_values_RE = ((grad_SR * grad_S[:, None]).to(hidden_SE.dtype).T @ hidden_SE).to(ctx.dtypes[1])
        grad_hidden = (grad_hidden_SE * grad_S[:, None]).to(grad_hidden_SE.dtype)
        return grad_hidden, grad_head, None, grad_values_RE, None


def cross_entropies(
    hidden_SE: torch.Tensor,
    head_VE: torch.Tensor,
    target_S: torch.Tensor,
    *,
    trained: tuple[torch.Tensor, torch.Tensor] | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:
    """The cross-entropy, in nats, of each target token: float32 [S], with gradients to `hidden` and `head`.

    `trained` are rows [R] of a frozen head and their values [R, E], which stand in place of the head's own and get the
    gradient. Where the whole head is trained, the positions must have the same weight in what is made of them, as in a sum.
    `scale` multiplies the logits (Cohere, Granite), `softcap` bounds them by a tanh (Gemma Team 2024, section 2).
    """
    rows_R, values_RE = trained or (None, None)
    return _CrossEntropy.apply(hidden_SE, head_VE, target_S, values_RE, (rows_R, scale, softcap))  # type: ignore[no-untyped-call,no-any-return]


def cross_entropy_sum(
    hidden_SE: torch.Tensor,
    head_VE: torch.Tensor,
    target_S: torch.Tensor,
    *,
    scale: float = 1.0,
    softcap: float | None = None,
) -> torch.Tensor:
    """The sum of `cross_entropies`, a float32 scalar."""
    return cross_entropies(hidden_SE, head_VE, target_S, scale=scale, softcap=softcap).sum()


def logit_factors(config: Any) -> tuple[float, float | None]:
    """A family's factor on the logits and its soft cap, from the model's config."""
    scale = float(getattr(config, "logit_scale", None) or 1.0)
    if divisor := getattr(config, "logits_scaling", None):
        scale /= float(divisor)
    return scale, getattr(config, "final_logit_softcapping", None)
