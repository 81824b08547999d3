"""The base model: where it lives, its fingerprint, and the only safe way to open it.

Safetensors only, never a pickle, never remote code. Importing this page is free; torch and transformers are imported by
the functions that need them.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, StorageError, UnsafeArtefactError
from configs.store import HOUSE, digest_file, digest_json, digest_once

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
"""Weight files that run code when opened: never touched."""
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""OpenAI's ChatML form, used where a tokenizer brings no chat template of its own."""


@lru_cache(maxsize=8)
def base_folder(base: str, roots: tuple[Path, ...] = (HOUSE,), weights: bool = True) -> Path:
    """The local folder of a base model: as given, below a root, or downloaded from the hub (`org/name@revision`).

    Raises:
        DataError: no such folder, no config.json in it, or the hub has no such model.
        UnsafeArtefactError: the weights are pickled, or the model wants to run its own code.
        StorageError: the hub cannot be reached and the model is not in the local cache, or its terms are not accepted.
    """
    if (folder := local_folder(base, roots)) is not None:
        return _checked(folder.resolve(), weights=weights)
    if base.count("/") != 1 or base.startswith((".", "/")):
        raise DataError(
            "no such base model",
            where=base,
            hint="Give a folder in Hugging Face format (config.json, tokenizer.json, *.safetensors) or a hub id ORG/NAME.",
        )
    return _checked(_download(base), weights=weights)


def local_folder(base: str, roots: tuple[Path, ...]) -> Path | None:
    """The folder that `base` names, from here or from a root; None where it must be a hub id."""
    places = (root / base for root in (Path.cwd(), *roots))
    return next((folder for folder in places if folder.is_dir()), None)


def public_name(base: str) -> str:
    """How records and cards that leave this machine name a base: a hub id or a relative path as it is, else its last part.

    >>> public_name("Qwen/Qwen3-0.6B-Base"), public_name("/models/tiny")
    ('Qwen/Qwen3-0.6B-Base', 'tiny')
    """
    return Path(base).name if Path(base).is_absolute() else base


def _checked(folder: Path, *, weights: bool) -> Path:
    config = read_config(folder)
    if "auto_map" in config:
        raise UnsafeArtefactError(
            "this model wants to run its own code (auto_map in config.json)",
            where=str(folder),
            hint="Choose a model of a family that transformers knows; remote code is never run.",
        )
    if weights and not list(folder.glob("*.safetensors")):
        pickled = [path.name for pattern in PICKLES for path in folder.glob(pattern)]
        if pickled:
            raise UnsafeArtefactError(
                f"weights are pickled ({pickled[0]}): opening them could run code",
                where=str(folder),
                hint="Convert them once, on a machine you trust: model.save_pretrained(FOLDER) writes safetensors.",
            )
        raise DataError("no *.safetensors in the base model's folder", where=str(folder))
    for path in folder.glob("*.safetensors") if weights else ():
        _check_header(path)
    return folder


def _check_header(path: Path) -> None:
    """Refuse a file that cannot be safetensors before hours of other work: 8 bytes of length, then that much JSON."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        whole = length + 8 <= path.stat().st_size
        try:
            header = json.loads(file.read(length)) if whole else None
        except ValueError:
            header = None
    if not isinstance(header, dict):
        raise DataError(
            "not a safetensors file, or cut off",
            where=str(path),
            hint="Copy or download it again, and compare its size with the source's.",
        )


def _download(base: str) -> Path:
    """The files of a base on the hub, in the cache: weights as safetensors, configuration and tokenizer; never a program."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    from configs.hub import refusal

    name, _, revision = base.partition("@")
    patterns = ["*.json", "*.jinja", "*.safetensors", "*.txt", "*.model", "README.md", "LICENSE*"]
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=patterns))
    except HFValidationError as error:
        raise DataError("neither a folder nor the id of a model on the hub", where=base) from error
    except Exception as error:  # httpx and huggingface_hub each raise their own kinds
        raise refusal(error, base, "the base model") from error


def read_config(folder: Path) -> dict[str, Any]:
    """The model's config.json.

    Raises:
        DataError: it is missing or not JSON.
    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise DataError("no config.json: not a model in Hugging Face format", where=str(folder)) from error
    except ValueError as error:
        raise DataError(f"config.json is not JSON ({error})", where=str(folder)) from error
    if not isinstance(config, dict):
        raise DataError("config.json is not an object", where=str(folder))
    return config


def base_digest(folder: Path) -> str:
    """Fingerprint of a model: config and weights, by content."""
    names = sorted(path.name for path in folder.glob("*.safetensors"))
    return digest_json({name: digest_once(folder / name) for name in ["config.json", *names]})


def tokenizer_digest(folder: Path) -> str:
    """Fingerprint of a tokenizer and its chat template, by content."""
    there = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return digest_json({path.name: digest_file(path) for path in there})


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a base model, with a chat template and an end mark for sure.

    Raises:
        DataError: there is none, or it has no end mark.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # tokenizers raises bare Exception on damaged files
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"its tokenizer cannot be read ({reason})", where=str(folder)) from error
    if tokenizer.eos_token_id is None:
        raise DataError("its tokenizer has no end mark (eos_token)", where=str(folder))
    if not tokenizer.chat_template:
        tokenizer.chat_template = CHATML
    return tokenizer


def one_of_many() -> None:
    """Make this process a light worker among others: transformers without torch, tokenizers on one core.

    For processes that only prepare data: torch cannot be imported in them any more. A tokenizer then costs 75 MB and
    1 s instead of 340 MB and 3 s (transformers 5.23, torch 2.13). `None` in `sys.modules` is Python's own way to say
    that a module is not there ("The import system", 5.3.1).
    """
    sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    os.environ["TRANSFORMERS_NO_ADVISORY_WARNINGS"] = "1"  # it warns that torch is not there


def load_weights(
    folder: Path, *, dtype: torch.dtype, attention: str = "sdpa", quantise: str = "none"
) -> PreTrainedModel:
    """The causal language model in `folder`, on the CPU, in `dtype`, in evaluation mode.

    With `nf4` its linear layers are held in four bits, and their constants in eight (Dettmers et al. 2023, QLoRA).

    Raises:
        DataError: the weights cannot be read, or some are missing.
        StorageError: bitsandbytes is not installed.
    """
    from transformers import AutoModelForCausalLM

    four_bits: dict[str, Any] = {}
    if quantise == "nf4":
        four_bits = {"quantization_config": _four_bits(dtype)}
    load: Any = AutoModelForCausalLM.from_pretrained  # its stub does not know output_loading_info
    try:
        model, report = load(
            folder,
            dtype=dtype,
            attn_implementation=attention,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            **four_bits,
        )
    except Exception as error:  # safetensors, transformers and torch each raise their own kinds
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(f"the base model cannot be read ({reason})", where=str(folder)) from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise DataError(f"weights are missing: {missing[0]} and {len(missing) - 1} more", where=str(folder))
    for module in model.modules() if four_bits else ():
        # On CPUs with AVX512-BF16 bitsandbytes 0.50 packs a layer anew when it is evaluated, and a layer packed so has no
        # gradient to its inputs ever after.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    loaded: PreTrainedModel = model.eval()
    return loaded


def _four_bits(dtype: torch.dtype) -> Any:
    from transformers import BitsAndBytesConfig

    loaded: dict[str, Any] = sys.modules  # type: ignore[assignment]
    kernels = loaded.get("kernels")
    loaded["kernels"] = None  # through that package bitsandbytes would fetch code from the hub and run it
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it would advise to install that package
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise StorageError(
            f"bitsandbytes cannot be used ({error})",
            where="train.quantise: nf4",
            hint="pip install -e '.[quantised]'",
        ) from error
    finally:
        loaded.pop("kernels")
        if kernels is not None:
            loaded["kernels"] = kernels
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
