"""Rows of embedding and head that are trained beside the adapters: PEFT's trainable tokens."""

# V vocabulary, E width, R trained rows

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def trained_tables(causal: PreTrainedModel, rows: tuple[int, ...]) -> dict[str, list[int]]:
    """PEFT's `trainable_token_indices` for these rows: the embedding, and the head where it has a weight of its own.

    Raises:
        RecipeError: the head has a bias, which PEFT leaves out of a head with trained rows (0.21).
    """
    if not rows:
        return {}
    embedding, head = causal.get_input_embeddings(), causal.get_output_embeddings()
    names = {module: name for name, module in causal.named_modules()}
    if getattr(head, "bias", None) is not None:
        raise RecipeError(
            f"{type(causal).__name__} has a bias in its output head, with which single rows cannot be trained",
            where="train.new_tokens",
            hint="Use method: full, or another base.",
        )
    tied = head.weight is embedding.weight
    return {names[module]: list(rows) for module in ((embedding,) if tied else (embedding, head))}


def refuse_uneven(causal: PreTrainedModel, rows: tuple[int, ...]) -> None:
    """The trained rows must stand in the embedding and in the head alike.

    Raises:
        RecipeError: PEFT has wrapped only one of them, as where a family ties them without saying so in its config.
    """
    modules = (causal.get_input_embeddings(), causal.get_output_embeddings())
    if any(hasattr(module, "token_adapter") != bool(rows) for module in modules):
        raise RecipeError(f"PEFT cannot train single rows of {type(causal).__name__}", where="train.new_tokens")
