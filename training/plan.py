"""What a run would do, before any of it is done: data, steps, parameters, memory, disk and time.

From the recipe, the base's config and, where `prepare` has run, the corpus record. Numbers that rest on file sizes instead
of counted tokens are marked `estimated`.
"""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import torch

from configs.base import base_folder
from configs.records import Corpus
from training.batches import Schedule, epochs_of
from training.checkpoint import KEPT
from training.model import precision_of

if TYPE_CHECKING:
    from configs.job import Job
    from configs.recipe import Source

BYTES_PER_TOKEN = 3.5
"""Bytes of text per token, English and Chinese about alike with vocabularies of 32k and more: the guess before counting."""
USED = 0.4
"""Part of the measured matrix-product rate that training reaches; the rest goes to attention, norms and the optimiser."""


def plan(job: Job) -> dict[str, Any]:
    """The plan of a recipe, section by section, ready for a table or for JSON.

    Raises:
        DataError: a source or the base is missing.
    """
    corpus = Corpus.read_if_there(job.folder.corpus / "corpus.json")
    data = _counted(corpus) if corpus else _guessed(job)
    parameters = _parameters(job)
    steps = _steps(job, corpus, data["tokens"])
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    precision = precision_of(job.recipe.train, device)
    disk = _disk(job, parameters, data["tokens"])
    return {
        "data": data,
        "training": steps | parameters | {"device": str(device), "precision": str(precision).removeprefix("torch.")},
        "memory_gb": _memory(job, parameters, device),
        "disk_gb": disk,
        "time": _time(parameters, steps["tokens"], device, precision),
        "warnings": _warnings(job, parameters, steps, estimated=corpus is None) + _room(job, disk),
    }


def _counted(corpus: Corpus) -> dict[str, Any]:
    sources = {
        source.name: {"documents": source.documents, "tokens": source.tokens, "repeats": source.repeats}
        for source in corpus.sources
    }
    return {"tokens": corpus.tokens_train, "documents": corpus.documents, "estimated": False, "sources": sources}


def _guessed(job: Job) -> dict[str, Any]:
    """Tokens from file sizes; compressed files count three times their size."""
    sources: dict[str, dict[str, Any]] = {}
    for source in job.recipe.corpora:
        size = 0.0
        for path in _paths(source):
            if path.startswith("hf:"):
                continue
            packed = (".zip", ".gz", ".zst", ".tar", ".parquet", ".xlsx")
            size += sum(file.stat().st_size * (3 if file.suffix in packed else 1) for file in job.find(path))
        sources[source.name] = {"documents": None, "tokens": round(size / BYTES_PER_TOKEN), "repeats": None}
    tokens = sum(entry["tokens"] for entry in sources.values())
    return {"tokens": tokens, "documents": None, "estimated": True, "sources": sources}


def _paths(source: Source) -> tuple[str, ...]:
    return (source.path,) if isinstance(source.path, str) else source.path


def _parameters(job: Job) -> dict[str, Any]:
    """Trainable and total parameters, counted on a model without memory (torch's meta device)."""
    from transformers import AutoConfig, AutoModelForCausalLM

    train = job.recipe.train
    folder = base_folder(job.recipe.base, job.roots, weights=train.method != "scratch")
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        total: int = sum(value.numel() for value in model.parameters())
        trainable: int = total
        if train.method == "lora":
            from peft import LoraConfig, get_peft_model

            lora = LoraConfig(task_type="CAUSAL_LM", r=train.rank, lora_alpha=train.alpha, target_modules="all-linear")
            tuned = get_peft_model(model, lora)
            trainable = sum(value.numel() for value in tuned.parameters() if value.requires_grad)
    text: Any = config.get_text_config()
    shape = {"layers": text.num_hidden_layers, "width": text.hidden_size, "vocabulary": text.vocab_size}
    return {"total_parameters": total, "trainable_parameters": trainable, **shape}


def _steps(job: Job, corpus: Corpus | None, tokens: int) -> dict[str, Any]:
    recipe = job.recipe
    length = recipe.prepare.sequence_length
    epochs = epochs_of(recipe.train, corpus) if corpus else recipe.train.epochs or 3.0
    rows = corpus.rows_train if corpus else max(1, tokens // length)
    schedule = Schedule(rows, max(1, recipe.train.batch_tokens // length), epochs, recipe.seed, recipe.train.max_steps)
    seen = min(tokens * epochs, schedule.steps * schedule.rows_per_step * length)
    return {
        "rows": rows,
        "rows_per_step": schedule.rows_per_step,
        "steps": schedule.steps,
        "epochs": epochs,
        "tokens": round(seen),
    }


def _memory(job: Job, parameters: dict[str, Any], device: torch.device) -> dict[str, float]:
    """Gigabytes while training.

    Activations: about 34 bytes per token, layer and unit of width in 16 bits without recomputation, attention scores not
    kept (Korthikanti et al. 2022, "Reducing Activation Recomputation", equation 1 without its second term).
    """
    train = job.recipe.train
    width = 2 if precision_of(train, device) == torch.bfloat16 else 4
    trainable, total = parameters["trainable_parameters"], parameters["total_parameters"]
    activations = train.micro_batch_tokens * parameters["layers"] * parameters["width"] * 34 * width / 2
    parts = {
        "weights": (total - trainable) * width + trainable * 4,
        "gradients": trainable * 4,
        "optimizer": trainable * 8,
        "activations": activations,
        "loss": 3 * 4 * 2**23,
    }
    gigabytes = {name: round(size / 1e9, 3) for name, size in parts.items()}
    return gigabytes | {"total": round(sum(parts.values()) / 1e9, 3)}


def _disk(job: Job, parameters: dict[str, Any], tokens: int) -> dict[str, float]:
    """Gigabytes that a run may take at its fullest: while a checkpoint is written there is one more than are kept."""
    trainable = parameters["trainable_parameters"] * 4
    merged = parameters["total_parameters"] * 4 if job.recipe.publish.merged else 0
    corpus = tokens * (3 if parameters["vocabulary"] <= 2**16 else 5)
    parts = {
        "corpus": corpus,
        "shards": corpus
        + tokens * BYTES_PER_TOKEN,  # the same tokens, and texts that are compressed beside their columns
        "checkpoints": (KEPT + 1) * 3 * trainable,
        "weights": trainable,
        "release": trainable + merged,
    }
    return {name: round(size / 1e9, 3) for name, size in (parts | {"total": sum(parts.values())}).items()}


def _room(job: Job, disk: dict[str, float]) -> list[str]:
    """A warning where the run folder cannot be written, or has less room than the run may take."""
    root = job.folder.root.resolve()
    there = next(folder for folder in (root, *root.parents) if folder.is_dir())
    if not os.access(there, os.W_OK) or os.statvfs(there).f_flag & os.ST_RDONLY:
        return [f"{there} cannot be written: choose another place with --runs DIR"]
    free = shutil.disk_usage(there).free / 1e9
    return [f"{disk['total']:.2f} GB needed in {there}, {free:.2f} GB free"] if free < disk["total"] else []


def _time(parameters: dict[str, Any], tokens: int, device: torch.device, precision: torch.dtype) -> dict[str, Any]:
    """Minutes from FLOPs and a matrix product measured now.

    FLOPs per token: 2 N forward, 2 N for the gradients of activations, 2 per trained parameter (Kaplan et al. 2020, 2.1).
    """
    flops = tokens * (4 * parameters["total_parameters"] + 2 * parameters["trainable_parameters"])
    rate = _matrix_rate(device, precision)
    return {
        "flops": float(f"{flops:.3g}"),
        "matrix_products_gflops": round(rate / 1e9, 1),
        "minutes": round(flops / (rate * USED) / 60, 2),
    }


def _matrix_rate(device: torch.device, precision: torch.dtype) -> float:
    """FLOP/s of a 1024 x 1024 product in the run's number format on this device, over at least 0.2 seconds."""
    left = torch.ones(1024, 1024, device=device, dtype=precision)
    (left @ left).sum().item()
    started, products = time.perf_counter(), 0
    while time.perf_counter() - started < 0.2:
        (left @ left).sum().item()
        products += 1
    return products * 2 * 1024**3 / (time.perf_counter() - started)


def _warnings(job: Job, parameters: dict[str, Any], steps: dict[str, Any], *, estimated: bool) -> list[str]:
    """What an expert would ask about before starting."""
    train, found = job.recipe.train, []
    text = any(source.text is not None for source in job.recipe.corpora)
    if train.method == "lora" and text and steps["tokens"] > 2 * parameters["trainable_parameters"]:
        found.append(
            f"{steps['tokens']:,} tokens of text for {parameters['trainable_parameters']:,} adapter parameters: above twice "
            "their number LoRA learns less than full tuning (Thinking Machines 2025); raise train.rank"
        )
    if train.method == "lora" and train.learning_rate < 5e-5:
        found.append(
            f"learning rate {train.learning_rate:g} is one for full tuning; LoRA wants about ten times as much"
        )
    if train.method == "full" and train.learning_rate > 1e-4:
        found.append(f"learning rate {train.learning_rate:g} is one for LoRA; full tuning wants about a tenth of it")
    hub = [source.name for source in job.recipe.corpora if any(path.startswith("hf:") for path in _paths(source))]
    if hub and estimated:
        found.append(f"{', '.join(hub)}: read from the hub, not counted here; `sectorlm prepare` counts")
    if steps["steps"] < 20:
        found.append(f"{steps['steps']} steps are few: lower train.batch_tokens")
    return found
