"""The shape of the model that a recipe trains: laid out without values, counted, and the arithmetic of a step over it.

FLOPs are those of the model, not of the machine: recomputation is not counted. A multiplication with its addition is two.

    linear layers   per token: 2 forward and 2 for the gradient of the input for each weight; 2 more for its own gradient
                    where it is trained (Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1)
    the head        the same, for supervised positions only: the loss looks at no others
    attention       per document of L tokens, layer and head width: 2 L^2 forward and twice that backward, the causal half
                    (Chowdhery et al. 2022, "PaLM", appendix B: 12 L per token without the half)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from configs.base import base_folder
from configs.vocabulary import foreseen
from training.adapters import adapter_config
from training.tokens import trained_tables

if TYPE_CHECKING:
    from configs.job import Job
    from configs.tuning import Train

TABLES = ("embed", "wpe", "trainable_tokens")
"""Parts of the names of tables, from which rows are taken: no token is multiplied with them."""


@dataclass(frozen=True)
class Shape:
    """A model of the recipe's base with its adapters, on the meta device."""

    config: Any
    train: Train
    rows: tuple[int, ...] = ()
    """Rows of the embedding, and of a head of its own, that are trained beside the adapters (`train.new_tokens`)."""

    @classmethod
    def of(cls, job: Job) -> Shape:
        """The shape of what a recipe trains.

        Raises:
            DataError: the base cannot be found, or its config cannot be read.
            RecipeError: the base has one of the new tokens already.
        """
        from transformers import AutoConfig

        train = job.recipe.train
        folder = base_folder(job.recipe.base, job.roots, weights=train.method != "scratch")
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        rows, vocabulary = foreseen(job)
        if rows:
            config.get_text_config().vocab_size = vocabulary
        return cls(config, train, rows if train.method == "lora" else ())

    def laid_out(self, attention: str | None = None) -> Any:
        """A fresh causal model without values, adapters injected where the method has them."""
        from transformers import AutoModelForCausalLM

        config = copy.deepcopy(self.config)
        with torch.device("meta"):
            causal = AutoModelForCausalLM.from_config(config, attn_implementation=attention, trust_remote_code=False)
            if self.train.method in ("full", "scratch"):
                causal.requires_grad_(True)
            else:
                self._adapt(causal)
        return causal

    def _adapt(self, causal: Any) -> None:
        from peft import get_peft_model

        # How factors begin changes no size, and some ways need weights to begin with.
        plain = self.train.model_copy(update={"init": "zero"})
        get_peft_model(causal, adapter_config(plain, tokens=trained_tables(causal, self.rows)))

    @cached_property
    def causal(self) -> Any:
        """The model that everything below is counted on."""
        return self.laid_out()

    @cached_property
    def followed(self) -> dict[Any, Any]:
        """Steps that were followed over this shape (training.memory), by what they depend on."""
        return {}

    @cached_property
    def total(self) -> int:
        """Parameters of the base."""
        added = (".lora_", "trainable_tokens")
        named = self.causal.named_parameters()
        return sum(value.numel() for name, value in named if not any(part in name for part in added))

    @cached_property
    def trainable(self) -> int:
        """Parameters that the optimiser moves."""
        return sum(value.numel() for value in self.causal.parameters() if value.requires_grad)

    @cached_property
    def factors(self) -> int:
        """Parameters of the low-rank factors, which are saved beside those they began as where `train.init` says so."""
        return sum(value.numel() for name, value in self.causal.named_parameters() if ".lora_" in name)

    @property
    def stored(self) -> float:
        """Bytes of the base's weights in the number format of its files."""
        kind = getattr(self.config, "dtype", None)
        return float(self.total * (kind.itemsize if isinstance(kind, torch.dtype) else 4))

    @cached_property
    def text(self) -> Any:
        """The part of the config that speaks of text."""
        return self.config.get_text_config()

    @property
    def layers(self) -> int:
        """Number of layers."""
        return int(self.text.num_hidden_layers)

    @property
    def width(self) -> int:
        """Width of the hidden states."""
        return int(self.text.hidden_size)

    @property
    def vocabulary(self) -> int:
        """Number of logits."""
        return int(self.text.vocab_size)

    @property
    def heads_width(self) -> int:
        """Width of all heads of a layer's attention together, H x D."""
        heads = int(self.text.num_attention_heads)
        return heads * int(getattr(self.text, "head_dim", None) or self.width // heads)

    @cached_property
    def largest_layer(self) -> int:
        """Parameters of the largest layer: what FSDP gathers at a time."""
        sizes: dict[str, int] = {}
        for name, value in self.causal.named_parameters():
            parts = name.split(".")
            place = next((index for index, part in enumerate(parts) if part.isdigit()), None)
            if place is not None:
                layer = ".".join(parts[: place + 1])
                sizes[layer] = sizes.get(layer, 0) + value.numel()
        return max(sizes.values(), default=self.total)

    @cached_property
    def _tables(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The weights of the embedding and of the head, which are one where they are tied; PEFT wraps them for new rows."""
        modules = self.causal.get_input_embeddings(), self.causal.get_output_embeddings()
        inputs, head = (getattr(getattr(it, "token_adapter", it), "base_layer", it).weight for it in modules)
        return inputs, head

    @cached_property
    def _matrices(self) -> tuple[float, float, float]:
        """Weights that a token is multiplied with: (frozen, trained, the head's); of experts only those that it meets."""
        part = self._experts_met()
        inputs, head = self._tables
        frozen = trained = 0.0
        for name, value in self.causal.named_parameters():
            if value.ndim < 2 or value is head or value is inputs or any(part in name for part in TABLES):
                continue
            met = value.numel() * (part if value.ndim == 3 or ".experts." in name else 1.0)
            frozen, trained = (frozen, trained + met) if value.requires_grad else (frozen + met, trained)
        return frozen, trained, float(head.numel())

    def _experts_met(self) -> float:
        experts = next((getattr(self.text, name, None) for name in ("num_local_experts", "num_experts")), None)
        experts = experts or getattr(self.text, "num_experts", None) or getattr(self.text, "n_routed_experts", None)
        return int(getattr(self.text, "num_experts_per_tok", 1) or 1) / int(experts) if experts else 1.0

    @property
    def linear(self) -> float:
        """Frozen weights of linear layers, which 4 bits are for; embeddings and the head are not among them."""
        inputs, head = self._tables
        frozen = [
            value
            for name, value in self.causal.named_parameters()
            if not value.requires_grad and value.ndim == 2 and value is not head and value is not inputs
            if not any(part in name for part in TABLES)
        ]
        return float(sum(value.numel() for value in frozen))

    def weights(self, width: int, linear_bytes: float | None = None) -> float:
        """Bytes of all weights: trained ones in float32, frozen ones in `width` bytes, or linear ones in `linear_bytes`."""
        frozen = sum(value.numel() for value in self.causal.parameters() if not value.requires_grad)
        linear = self.linear if linear_bytes is not None else 0.0
        return float(4 * self.trainable + width * (frozen - linear) + (linear_bytes or 0.0) * linear)

    def flops(self, tokens: float, scored: float, squares: float) -> float:
        """FLOPs of training on `tokens`, `scored` of them supervised, in documents whose squared lengths add up to `squares`."""
        frozen, trained, head = self._matrices
        head_flops = (6 if self._tables[1].requires_grad else 4) * head
        return tokens * (4 * frozen + 6 * trained) + scored * head_flops + 6 * squares * self.heads_width * self.layers

    def forward_flops(self, tokens: float, scored: float, squares: float) -> float:
        """FLOPs of a pass over the same without a gradient, such as the reference's in a preference phase."""
        frozen, trained, head = self._matrices
        return 2 * (tokens * (frozen + trained) + scored * head + squares * self.heads_width * self.layers)
