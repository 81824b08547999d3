"""What both peers are asked to do, and what they tell: the same adapters, optimiser, rate, documents and lines a step."""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

PEER = ("torch", "transformers", "peft", "accelerate", "datasets")


class Ask(NamedTuple):
    """One training, as `benchmarks.train` writes it on the command line."""

    base: str
    documents: str
    """Parquet file with the column `input_ids`: the end mark stands in it already."""
    work: str
    precision: str
    """`bfloat16` or `float32`: of the frozen weights and of the matrix products; the factors stay float32."""
    per_step: int
    """Documents of a step, or packed rows of it."""
    row: int
    """Tokens of a packed row."""
    learning_rate: float
    rank: int
    alpha: int
    seed: int
    by_length: bool = False
    """Batches of documents of about one length, in transformers' own way."""
    recompute: bool = False
    """Activations are computed again in the backward pass, as TRL does unless told not to."""


def asked() -> Ask | None:
    """The first argument as an Ask; None where it is `warm`: imports alone, so that they lie in the page cache."""
    return None if sys.argv[1] == "warm" else Ask(**json.loads(sys.argv[1]))


def lora(ask: Ask) -> Any:
    """Rank and scale of SectorLM's, on all linear layers."""
    from peft import LoraConfig

    return LoraConfig(
        task_type="CAUSAL_LM", r=ask.rank, lora_alpha=ask.alpha, lora_dropout=0.0, target_modules="all-linear"
    )


def settings(ask: Ask) -> dict[str, Any]:
    """Arguments of TrainingArguments and SFTConfig alike: AdamW as SectorLM sets it, one epoch, a line a step."""
    return {
        "output_dir": ask.work,
        "num_train_epochs": 1,
        "per_device_train_batch_size": ask.per_step,
        "learning_rate": ask.learning_rate,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.1},
        "warmup_steps": 0,
        "optim": "adamw_torch_fused",
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": ask.precision == "bfloat16",
        "gradient_checkpointing": ask.recompute,
        "use_cpu": True,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "seed": ask.seed,
    }


def telling(ask: Ask) -> Any:
    """A callback that appends step, tokens that are no padding, and loss to `steps.jsonl` after every step."""
    from transformers import TrainerCallback

    path = Path(ask.work) / "steps.jsonl"

    class Telling(TrainerCallback):  # type: ignore[misc]
        def on_log(self, _args: Any, state: Any, _control: Any, logs: dict[str, Any], **_: Any) -> None:
            if "loss" in logs:
                line = {"step": state.global_step, "tokens": int(state.num_input_tokens_seen), "loss": logs["loss"]}
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")

    return Telling()


def trained(ask: Ask, build: Callable[[Ask, Any, Any, Any], Any], names: tuple[str, ...] = PEER) -> None:
    """Load, train, save the adapter to `work/adapter`, and print the versions."""
    import torch
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer

    data = load_dataset("parquet", data_files=ask.documents, split="train")
    tokenizer = AutoTokenizer.from_pretrained(ask.base)
    model = AutoModelForCausalLM.from_pretrained(ask.base, dtype=getattr(torch, ask.precision))
    trainer = build(ask, model, tokenizer, data)
    trainer.train()
    trainer.model.save_pretrained(Path(ask.work) / "adapter")
    print(", ".join(f"{name} {version(name)}" for name in names))
