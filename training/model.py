"""The model that is trained: base weights, low-rank factors on all linear layers, and a forward pass that returns a loss."""

# T tokens of a packed row, S supervised positions, E width, V vocabulary

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import torch

from configs.base import load_weights, public_name, read_config
from configs.errors import DataError, RecipeError
from configs.spread import processes
from configs.vocabulary import base_of, rows_of
from training.adapters import start_folder, with_adapters
from training.attention import register
from training.batches import Batch, derived_seed
from training.families import prove
from training.kernels import is_ampere
from training.lora import quicken
from training.loss import cross_entropies, logit_factors, output_head

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedModel

    from configs.job import Job
    from configs.tuning import Train


class PackedModel(torch.nn.Module):
    """A causal language model over packed rows; `forward` gives the summed loss of a batch, in nats.

    `causal` is transformers' model, with PEFT's layers injected where the method is LoRA.
    """

    def __init__(self, causal: PreTrainedModel, precision: torch.dtype) -> None:
        super().__init__()
        self.causal = causal
        self.precision = precision
        self.scale, self.softcap = logit_factors(causal.config)
        quicken(causal)

    def forward(self, batch: Batch, *, each: bool = False) -> torch.Tensor:
        """The cross-entropy of the batch's supervised positions: summed, a float32 scalar, or with `each` float32 [S].

        A mixture of experts' auxiliary loss is not added: it balances a router in training, and differs by micro-batch.
        """
        loss_S = self.losses(self.hidden(batch), batch)
        return loss_S if each else loss_S.sum()

    def hidden(self, batch: Batch) -> torch.Tensor:
        """The last hidden states [T, E], before the output head."""
        longest = batch.longest or int((batch.bounds[1:] - batch.bounds[:-1]).max())
        with self.mixed():
            hidden_1TE: torch.Tensor = self.causal.base_model(
                input_ids=batch.tokens_T[None],
                position_ids=batch.positions_T[None],
                use_cache=False,
                cu_seq_lens_q=batch.bounds,
                cu_seq_lens_k=batch.bounds,
                max_length_q=longest,
                max_length_k=longest,
            ).last_hidden_state
        return hidden_1TE[0]

    def losses(self, hidden_TE: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The cross-entropy of hidden states at each of the batch's supervised positions, float32 [S]."""
        hidden_SE = hidden_TE.index_select(0, batch.scored_S)
        if self.precision != torch.float32:
            hidden_SE = hidden_SE.to(self.precision)
        head = output_head(self.causal)
        factors: dict[str, Any] = {"scale": self.scale, "softcap": self.softcap}
        return cross_entropies(
            hidden_SE, head.weight_VE, batch.target_S, bias_V=head.bias_V, trained=head.trained, **factors
        )

    def mixed(self) -> Any:
        """The context in which matrix products have the model's precision."""
        if self.precision == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.causal.device.type, self.precision)

    @property
    def size(self) -> int:
        """The number of parameters; of weights in four bits, two of which are a byte, the numbers that they stand for."""
        shapes = (getattr(getattr(value, "quant_state", None), "shape", value.shape) for value in self.parameters())
        return sum(math.prod(shape) for shape in shapes)

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """The parameters that the optimiser moves, by name."""
        return {name: parameter for name, parameter in self.causal.named_parameters() if parameter.requires_grad}


def build(job: Job, device: torch.device) -> tuple[PackedModel, Any]:
    """The model of a recipe, ready to train, and PEFT's wrapper around it (None where there are no adapters).

    Raises:
        DataError: the base, or the adapter to start from, cannot be read.
        RecipeError: the method does not fit the base, or packing does not fit its family.
        StorageError: the base is to be quantised, and what that needs is not installed.
    """
    from training.fit import recomputed, room_of  # here, since a plan follows a step of this page's model

    train, seed = job.recipe.train, job.recipe.seed
    precision, room = precision_of(train, device), room_of(device, processes())
    folder = base_of(job, weights=train.method != "scratch")
    torch.manual_seed(derived_seed(seed, "weights", train.method))
    if train.method == "scratch":
        causal = _from_config(folder)
    else:
        # Factors that are made from the base's weights, and weights that are trained, are made from all of their digits.
        whole = train.method == "full" or train.init not in ("zero", "gaussian")
        dtype = torch.float32 if whole and train.quantise == "none" else precision
        causal = load_weights(folder, dtype=dtype, attention=register(), quantise=train.quantise)
    wrapper = None
    if train.method == "lora":
        wrapper = with_adapters(causal, train, public_name(job.recipe.base), start_folder(job), rows_of(folder))
    else:
        causal.requires_grad_(True)
    for parameter in causal.parameters():
        # Frozen weights are kept in the format of the products; trained ones stay float32 (master weights).
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
        elif parameter.dtype.is_floating_point:  # those in four bits are bytes
            parameter.data = parameter.data.to(precision)
    # Weights that are to be parted go to their devices in parts: no card need hold them all.
    model = PackedModel(causal, precision).to("cpu" if train.parallel == "fsdp" else device)
    prove(model)
    if recomputed(job, causal, precision, room):
        causal.gradient_checkpointing_enable({"use_reentrant": False})
    return model, wrapper


def precision_of(train: Train, device: torch.device) -> torch.dtype:
    """The number format of the matrix products: as asked for, or bfloat16 where the device multiplies it natively.

    GPUs before Ampere (V100, T4) do not: there float32 is the faster one.
    Measured on a processor with AVX512-BF16, 4M parameters, 2 threads: 4,200 tokens/s against 2,100 in float32.
    """
    if train.precision == "auto":
        if device.type == "cuda":
            native = is_ampere()
        else:
            names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
            native = any(getattr(torch.cpu, name, lambda: False)() for name in names)
        return torch.bfloat16 if native else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16}[train.precision]


def _from_config(folder: Path) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    causal: PreTrainedModel = AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=register(), trust_remote_code=False
    )
    return causal


def check_fits(job: Job, sequence_length: int) -> None:
    """Refuse rows longer than the model's positions reach.

    Raises:
        RecipeError: `prepare.sequence_length` is above the base's max_position_embeddings.
    """
    folder = base_of(job, weights=job.recipe.train.method != "scratch")
    reach = read_config(folder).get("max_position_embeddings")
    if reach is not None and not isinstance(reach, int):
        raise DataError(f"max_position_embeddings is {reach!r}, not a number", where=str(folder / "config.json"))
    if reach and sequence_length > reach:
        raise RecipeError(
            f"prepare.sequence_length is {sequence_length}, but the base reaches {reach} positions only",
            hint=f"Set prepare.sequence_length to {reach} or less.",
        )
