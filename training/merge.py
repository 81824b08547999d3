"""Adapter and base in one set of weights, and the proof that nothing of the adapter was lost in storage."""

# T tokens of a packed row, S positions compared, V vocabulary

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from configs.base import load_weights, read_config
from configs.errors import DataError, GateError
from configs.progress import say
from configs.vocabulary import base_of
from training.attention import register
from training.loss import logit_factors

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from configs.job import Job
    from training.batches import Batch, Rows

MOST_TOKENS = 4096
"""Held-out tokens on which merged and unmerged are compared: enough for a mean to three digits, seconds on a CPU."""
MOST_ELEMENTS = 2**27
"""Log-probabilities kept of each side, 512 MB in float32: with a vocabulary of 150,000 that is 900 positions."""


@dataclass(frozen=True)
class Agreement:
    """How close the merged model stays to base + adapter on held-out text."""

    kl: float
    """Mean Kullback-Leibler divergence in nats per token, KL(base + adapter || merged)."""
    top1: float
    """Part of the positions where both rank the same token first."""
    positions: int
    dtype: str
    effect: float
    """What the adapter does at all: KL(base + adapter || base) on the same positions, in nats per token."""

    @property
    def lost(self) -> float:
        """Part of the adapter's effect that storage cost."""
        return self.kl / self.effect if self.effect > 0 else 0.0

    def told(self) -> str:
        """The same in a sentence."""
        return (
            f"KL {self.kl:.2e} nats per token, same first token at {100 * self.top1:.2f} % of {self.positions} "
            f"held-out positions, stored in {self.dtype}; the adapter moves the base by {self.effect:.2e} nats per token, "
            f"of which storage costs {100 * self.lost:.2g} %"
        )


def merge(job: Job, rows: Rows, target: Path) -> Agreement:
    """Write the merged weights into `target` and compare them with base + adapter on held-out rows.

    Weights are stored in the base's own number format if that keeps the adapter (KL within `publish.max_merge_kl` and
    first tokens within `publish.min_merge_top1`), in float32 otherwise: bfloat16 has 8 significant bits, and a small
    adapter's change can fall below the last of them.

    Raises:
        GateError: not even float32 agrees; the release would not be the model that was evaluated.
    """
    from peft import PeftModel

    folder, asked = base_of(job), job.recipe.publish
    causal = load_weights(folder, dtype=torch.float32, attention=register())
    wrapper = PeftModel.from_pretrained(causal, job.folder.run / "adapter")
    batch = held_out(rows)
    expected_SV = log_probabilities(causal, batch)
    with wrapper.disable_adapter():
        effect = _divergence(expected_SV, log_probabilities(causal, batch))
    merged = wrapper.merge_and_unload()
    stored = str(read_config(folder).get("dtype") or read_config(folder).get("torch_dtype") or "float32")
    for name in dict.fromkeys((stored, "float32")):
        _save_as(merged, getattr(torch, name), target)
        reloaded = load_weights(target, dtype=torch.float32, attention=register())
        found = _agreement(expected_SV, log_probabilities(reloaded, batch), name, effect)
        if found.kl <= asked.max_merge_kl and found.top1 >= asked.min_merge_top1:
            return found
        say(f"  merged weights in {name} are not base + adapter: {found.told()}")
        for path in target.glob("*.safetensors*"):
            path.unlink()
    raise GateError(
        f"merged weights differ from base + adapter by {found.kl:.4f} nats per token, and rank the same token first at "
        f"{100 * found.top1:.1f} % of the positions",
        where="publish.max_merge_kl" if found.kl > asked.max_merge_kl else "publish.min_merge_top1",
        hint="Publish the adapter alone: publish.merged: false.",
    )


def _save_as(model: PreTrainedModel, dtype: torch.dtype, target: Path) -> None:
    """Save a copy in a number format; the model itself stays as it is, and tied weights stay one tensor."""
    cast: dict[int, torch.Tensor] = {}
    state = {name: cast.setdefault(value.data_ptr(), value.to(dtype)) for name, value in model.state_dict().items()}
    before, model.config.dtype = model.config.dtype, dtype
    model.save_pretrained(target, state_dict=state, safe_serialization=True)
    model.config.dtype = before


def held_out(rows: Rows) -> Batch:
    """The first validation rows, up to MOST_TOKENS tokens.

    Raises:
        DataError: the corpus has no validation rows.
    """
    if not rows.validation:
        raise DataError("the corpus has no validation rows to compare merged weights on", where="publish.merged")
    return rows.batch(rows.micro_batches(list(rows.validation), MOST_TOKENS)[0])


def log_probabilities(causal: PreTrainedModel, batch: Batch) -> torch.Tensor:
    """Float32 log-probabilities at the batch's first supervised positions, [S, V], at most MOST_ELEMENTS: the model's own,
    with its family's factor on the logits and its soft cap.
    """
    with torch.inference_mode():
        hidden_1TE = causal.base_model(
            input_ids=batch.tokens_T[None],
            position_ids=batch.positions_T[None],
            use_cache=False,
            cu_seq_lens_q=batch.bounds,
        ).last_hidden_state
        head = causal.get_output_embeddings()
        scored_S = batch.scored_S[: max(1, MOST_ELEMENTS // head.weight.shape[0])]
        logits_SV = head(hidden_1TE[0, scored_S]).float()  # the module itself: its bias, and adapters on it, count
        scale, softcap = logit_factors(causal.config)
        logits_SV *= scale
        if softcap is not None:
            logits_SV = softcap * (logits_SV / softcap).tanh_()
        return torch.log_softmax(logits_SV, dim=-1)


def _agreement(expected_SV: torch.Tensor, found_SV: torch.Tensor, dtype: str, effect: float) -> Agreement:
    same_S = expected_SV.argmax(-1) == found_SV.argmax(-1)
    return Agreement(_divergence(expected_SV, found_SV), float(same_S.float().mean()), len(same_S), dtype, effect)


def _divergence(expected_SV: torch.Tensor, found_SV: torch.Tensor) -> float:
    """Mean Kullback-Leibler divergence in nats per token."""
    return float((expected_SV.exp() * (expected_SV - found_SV)).sum(-1).mean().clamp(min=0))
