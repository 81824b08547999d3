"""AdamW over the trained parameters, and its learning rate as a function of the step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from configs.tuning import Train
    from training.model import PackedModel

BETAS = (0.9, 0.95)
"""AdamW's decay rates of language-model training (Brown et al. 2020, appendix B)."""


def optimizer_of(model: PackedModel, train: Train, *, fused: bool = True) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) with decay on matrices only.

    Factors B learn `lora_plus` times as fast as A (Hayou et al. 2024, LoRA+). Each group has its `ratio` to the rate.
    """
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
    for name, value in model.trainable().items():
        ratio = train.lora_plus if ".lora_B." in name else 1.0
        decay = train.weight_decay if value.ndim >= 2 else 0.0
        groups.setdefault((ratio, decay), []).append(value)
    parts = [{"params": own, "weight_decay": decay, "ratio": ratio} for (ratio, decay), own in groups.items()]
    return torch.optim.AdamW(parts, lr=train.learning_rate, betas=BETAS, fused=fused)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step; each group has its own ratio to it."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["ratio"]


def learning_rate(step: int, steps: int, peak: float, warmup: float, final: float) -> float:
    """Linear warm-up, then a cosine to `final * peak` (Loshchilov and Hutter 2017, SGDR, equation 5, one cycle).

    >>> [round(learning_rate(step, 100, 1.0, 0.1, 0.1), 2) for step in (0, 9, 10, 55, 99)]
    [0.1, 1.0, 1.0, 0.55, 0.1]
    """
    rising = max(1, round(warmup * steps))
    if step < rising:
        return peak * (step + 1) / rising
    progress = (step - rising) / max(1, steps - rising)
    return peak * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))
