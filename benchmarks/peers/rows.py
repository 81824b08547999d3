"""Tokens and rows by `datasets.map`, as the language modelling examples of transformers make them."""

from __future__ import annotations

from importlib.metadata import version
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROW = 2048


def tokenise_and_pack(files: Sequence[Path], tokenizer: str, processes: int) -> int:
    """Texts of JSON Lines to rows of ROW tokens in Arrow files; the number of tokens in them.

    `group_texts` is that of run_clm.py: texts of a batch end to end, the rest below a row is thrown away.
    """
    from datasets import load_dataset
    from transformers import PreTrainedTokenizerFast

    made = PreTrainedTokenizerFast.from_pretrained(tokenizer)

    def tokenise(batch: dict[str, list[str]]) -> dict[str, Any]:
        found = made(batch["text"], add_special_tokens=False)
        return {
            name: [[*ids, made.eos_token_id if name == "input_ids" else 1] for ids in found[name]] for name in found
        }

    def group_texts(batch: dict[str, list[list[int]]]) -> dict[str, Any]:
        joined = {name: list(chain(*batch[name])) for name in batch}
        end = len(joined["input_ids"]) // ROW * ROW
        rows = {name: [ids[at : at + ROW] for at in range(0, end, ROW)] for name, ids in joined.items()}
        return {**rows, "labels": rows["input_ids"].copy()}

    workers = processes if processes > 1 else None
    texts = load_dataset("json", data_files=[str(file) for file in files], split="train")
    tokens = texts.map(tokenise, batched=True, num_proc=workers, remove_columns=texts.column_names)
    rows = tokens.map(group_texts, batched=True, num_proc=workers)
    return len(rows) * ROW


def versions(*names: str) -> str:
    """What is installed, as a text."""
    return ", ".join(f"{name} {version(name)}" for name in names)
