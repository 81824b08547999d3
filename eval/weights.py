"""Opening a model to be scored: safetensors only, base and adapter on one copy of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from configs.base import load_tokenizer, load_weights
from configs.errors import DataError, UnsafeArtefactError
from eval.family import room_of
from eval.scorer import Scorer

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_scorer(folder: Path, adapter: Path | None = None, *, seed: int = 0) -> Scorer:
    """Open a model, and beside it the adapter that makes it the tuned one: bfloat16 on a GPU, float32 on a CPU.

    A folder without weights (the start of training from scratch) gives random ones by `seed`.

    Raises:
        DataError: the weights cannot be read, the adapter does not fit the base, or cannot be switched off.
        UnsafeArtefactError: the adapter is not in safetensors.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    there = any(folder.glob("*.safetensors"))
    model = load_weights(folder, dtype=dtype) if there else _random(folder, dtype, seed)
    model.to(device)  # type: ignore[arg-type]
    tokenizer = load_tokenizer(folder)
    if adapter is None:
        return Scorer(model, tokenizer)
    fresh = _few(model.eval())
    scorer = Scorer(model, tokenizer, _adapted(model, adapter))
    with scorer.using("base"):
        same = torch.equal(_few(model), fresh)
    if not same:
        raise DataError(
            "the adapter changes the base even where it is switched off, so that the two cannot share their weights",
            where=str(adapter),
            hint="Train an adapter whose parts can be switched off: LoRA without a bias of the base (bias: none).",
        )
    return scorer


def _few(model: PreTrainedModel) -> Tensor:
    """Logits of a handful of tokens."""
    ids_1T = torch.arange(8, device=model.device)[None] % int(model.config.get_text_config().vocab_size)
    with torch.inference_mode():
        logits: Tensor = model(input_ids=ids_1T, use_cache=False).logits
    return logits


def reading(folder: Path) -> tuple[PreTrainedTokenizerBase, int]:
    """The tokenizer of a model, and how many tokens the model reads: known before its weights are."""
    from transformers import AutoConfig

    tokenizer = load_tokenizer(folder)
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return tokenizer, room_of(config.get_text_config(), tokenizer)


def _random(folder: Path, dtype: torch.dtype, seed: int) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False)
    return model


def _adapted(model: PreTrainedModel, adapter: Path) -> Any:
    from peft import PeftModel

    if not (adapter / "adapter_model.safetensors").is_file():
        raise UnsafeArtefactError(
            "no adapter_model.safetensors: other formats could run code and are never opened",
            where=str(adapter),
            hint="Train again, or save the adapter with safe_serialization=True.",
        )
    try:
        return PeftModel.from_pretrained(model, adapter).eval()
    except Exception as error:  # peft, safetensors and torch each raise their own kinds
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(
            f"the adapter does not fit this base ({lines[0]})",
            where=str(adapter),
            hint="Run `sectorlm train` again: the base was changed after training.",
        ) from error
