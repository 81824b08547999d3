"""Whether a model can be trained on packed documents at all: asked of the model itself, before its first step.

A list of families would be out of date with the next release of transformers, so nothing is believed: the layers are
looked at, then two short documents, packed, must give what transformers gives for each of them alone.
"""

# T tokens of a packed row, S scored positions, E width

from __future__ import annotations

import inspect
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from configs.errors import DataError
from training.attention import calls, refused

if TYPE_CHECKING:
    from training.model import PackedModel

ATTENDING = {"full_attention", "sliding_attention"}
"""The kinds of layers, in transformers' `layer_types`, whose state is keys and values alone."""
LONGEST_PROBE = 512
"""Windows up to this length are crossed by the probe; a longer one costs more than it tells."""
TOLERANCE = {torch.float32: (1e-3, 1e-4), torch.bfloat16: (0.1, 0.03)}
"""Largest relative error of hidden states and of the loss.

Of the hidden states it is the worst position's in float32; in bfloat16 the median position's, since rounding sends single
tokens to other experts (0.14 over all, 0.01 at the median, tiny random Mixtral). A neighbour in sight moves them all.
"""


def prove(model: PackedModel) -> None:
    """Compare two packed documents with transformers' own attention on each alone; costs three short forward passes.

    Raises:
        RecipeError: the family has layers that packing does not isolate, or the results differ.
        DataError: the weights give NaN or infinity.
    """
    causal = model.causal
    look_at(causal)
    if any(parameter.is_meta for parameter in causal.parameters()):
        return  # weights that are not there yet: nothing to compare
    was_training, attention = causal.training, causal.config._attn_implementation
    causal.eval()
    try:
        with torch.no_grad():
            tokens, bounds = _documents(causal.config.get_text_config(), next(causal.parameters()).device)
            packed, loss = _packed(model, tokens, bounds)
            causal.set_attn_implementation("eager")
            alone, expected = _alone(model, tokens, bounds)
    finally:
        causal.set_attn_implementation(attention)
        causal.train(was_training)
    if not bool(alone.isfinite().all()):
        raise DataError(
            "the base's weights give numbers that are not finite",
            where=str(causal.name_or_path),
            hint="They are damaged: copy or download them again.",
        )
    most_hidden, most_loss = TOLERANCE.get(model.precision, TOLERANCE[torch.bfloat16])
    error_T = (packed - alone).norm(dim=1) / alone.norm(dim=1)
    error = float(error_T.max() if model.precision == torch.float32 else error_T.median())
    if not error <= most_hidden or not abs(loss - expected) <= most_loss * abs(expected):
        raise refused(
            type(causal).__name__,
            f"hidden states differ by {error:.2g} from those of its documents alone, the loss is {loss:.5g}, not {expected:.5g}",
        )


def look_at(causal: Any) -> None:
    """Refuse a family whose layers carry more than keys and values from token to token.

    Raises:
        RecipeError: recurrent, convolutional, linear-attention or chunked layers; positions that cannot be given.
    """
    family, config = type(causal).__name__, causal.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ()) - ATTENDING
    if kinds:
        raise refused(family, f"it has layers of the kind {', '.join(sorted(kinds))}")
    if getattr(causal, "_is_stateful", False) or any(isinstance(part, torch.nn.Conv1d) for part in causal.modules()):
        raise refused(family, "it carries a state from token to token")
    if "position_ids" not in inspect.signature(causal.base_model.forward).parameters:
        raise refused(family, "it takes no position_ids, so that a second document would not begin at 0")


def _documents(config: Any, device: torch.device) -> tuple[torch.Tensor, list[int]]:
    """Tokens of two documents and their bounds; the second is longer than the window, where that is short."""
    window = getattr(config, "sliding_window", None) or 0
    bounds = [0, 7, 7 + max(12, window + 5 if window <= LONGEST_PROBE else 0)]
    tokens_T = (
        torch.arange(bounds[-1], device=device) * 7919 % (config.vocab_size - 3) + 3
    )  # a prime: no two alike nearby
    return tokens_T, bounds


def _packed(model: PackedModel, tokens_T: torch.Tensor, bounds: list[int]) -> tuple[torch.Tensor, float]:
    """Hidden states [T, E] and summed loss as training computes them.

    Raises:
        RecipeError: not every layer attends through the registered attention.
    """
    from training.batches import Batch

    position_T = torch.arange(bounds[-1], device=tokens_T.device)
    inner_T = (position_T != 0) & (position_T != bounds[1])
    target = inner_T.nonzero()[:, 0]
    batch = Batch(
        tokens_T,
        torch.where(position_T < bounds[1], position_T, position_T - bounds[1]),
        torch.tensor(bounds, dtype=torch.int32, device=tokens_T.device),
        target - 1,
        tokens_T[target],
        rows=(),
    )
    with calls() as seen:
        hidden_TE = model.hidden(batch)
    layers = model.causal.config.get_text_config().num_hidden_layers
    if len(seen) != layers:
        raise refused(
            type(model.causal).__name__, f"{len(seen)} of its {layers} layers use the attention that they are given"
        )
    return hidden_TE.float(), float(model.losses(hidden_TE, batch).sum())


def _alone(model: PackedModel, tokens_T: torch.Tensor, bounds: list[int]) -> tuple[torch.Tensor, float]:
    """The same of each document by itself, through transformers' model and its logits."""
    hidden: list[torch.Tensor] = []
    loss = 0.0
    head = model.causal.get_output_embeddings()
    keep = head.register_forward_pre_hook(lambda _, given: hidden.append(given[0][0].float()))
    with keep, model.mixed():
        for start, stop in pairwise(bounds):
            ids = tokens_T[None, start:stop]
            logits = model.causal(input_ids=ids, use_cache=False).logits[0, :-1].float()
            loss += float(cross_entropy(logits, ids[0, 1:], reduction="sum"))
    return torch.cat(hidden), loss
