"""Low-rank layers in one step of autograd: y = x W' + s (x A') B', where PEFT takes nine.

Under autocast PEFT casts the inputs of every layer up and down again and keeps each copy for the backward pass. Here x
and x A' are kept, nothing else, and B' is added into the product that is already there. Layers stay PEFT's: names,
saving, merging and switching off are as before, and whatever is not plain LoRA takes PEFT's own way.
"""

# T tokens, I input and O output width, R rank

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from peft.tuners.lora.layer import Linear


def quicken(model: torch.nn.Module) -> int:
    """Give PEFT's plain LoRA layers the forward of this page; returns how many.

    Plain is LoRA (Hu et al. 2021) or rsLoRA on a frozen `torch.nn.Linear`, without dropout and without a bias of its own.
    DoRA and other variants, quantised layers and convolutions keep PEFT's forward.
    """
    found: list[Any] = [part for part in model.modules() if type(part) is Linear and _adapter(part) is not None]
    for layer in found:
        layer.forward = partial(_forward, layer)
    return len(found)


def _adapter(layer: Any) -> str | None:
    """The name of the one active adapter, if the layer is plain at this moment."""
    active = [name for name in layer.active_adapters if name in layer.lora_A]
    if len(active) != 1 or layer.disable_adapters or layer.merged or layer.fan_in_fan_out:
        return None
    name, base = active[0], layer.base_layer
    plain = (
        type(base) is torch.nn.Linear
        and not base.weight.requires_grad
        and (base.bias is None or not base.bias.requires_grad)
        and name not in layer.lora_variant
        and isinstance(layer.lora_dropout[name], torch.nn.Identity)
        and layer.lora_B[name].bias is None
    )
    return name if plain else None


def _forward(layer: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    """[..., I] to [..., O]: this page's way where the layer is plain, PEFT's where it is not, or is asked for more."""
    name = None if args or kwargs else _adapter(layer)
    if name is None:
        way: Any = type(layer).forward
        out: torch.Tensor = way(layer, x, *args, **kwargs)
        return out
    a_RI, b_OR = layer.lora_A[name].weight, layer.lora_B[name].weight
    return _LowRank.apply(x, layer.base_layer, a_RI, b_OR, layer.scaling[name])  # type: ignore[no-untyped-call,no-any-return]


class _LowRank(torch.autograd.Function):
    """x W' + bias + s (x A') B', in autocast's format; gradients to x, A and B."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        base: torch.nn.Linear,
        a_RI: torch.Tensor,
        b_OR: torch.Tensor,
        scaling: float,
    ) -> torch.Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        ctx.formats, ctx.scaling = (x.dtype, a_RI.dtype, b_OR.dtype), scaling
        x_TI = x.reshape(-1, x.shape[-1]).to(dtype)
        weight_OI, a_RI, b_OR = base.weight.to(dtype), a_RI.to(dtype), b_OR.to(dtype)
        low_TR = x_TI @ a_RI.T
        out_TO = x_TI @ weight_OI.T if base.bias is None else torch.addmm(base.bias.to(dtype), x_TI, weight_OI.T)
        out_TO.addmm_(low_TR, b_OR.T, alpha=scaling)
        ctx.save_for_backward(x_TI, low_TR, weight_OI, a_RI, b_OR)
        return out_TO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        x_TI, low_TR, weight_OI, a_RI, b_OR = ctx.saved_tensors
        format_x, format_a, format_b = ctx.formats
        grad_TO = grad.reshape(-1, grad.shape[-1]).to(x_TI.dtype)
        grad_low_TR = (grad_TO @ b_OR).mul_(ctx.scaling)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad_TO @ weight_OI).addmm_(grad_low_TR, a_RI).view(*grad.shape[:-1], -1).to(format_x)
        grad_b = (grad_TO.T @ low_TR).to(format_b).mul_(ctx.scaling) if ctx.needs_input_grad[3] else None
        grad_a = (grad_low_TR.T @ x_TI).to(format_a) if ctx.needs_input_grad[2] else None
        return grad_x, None, grad_a, grad_b, None
