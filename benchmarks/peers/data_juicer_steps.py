"""The same preparation by Data-Juicer: read, mend, judge, near-duplicates; `whole` adds personal data, tokens and rows.

    PYTHON_WITH_DATA_JUICER data_juicer_steps.py FOLDER_OF_JSONL WORK PROCESSES near|whole TOKENIZER THRESHOLDS

The operators that stand for Gopher's rules, with Data-Juicer's thresholds (`own`) or such that let every document pass
(`open`); fused, which is faster. Near-duplicates on five-character shingles and 112 permutations, the setting it
recommends for Chinese: by words it would take every Chinese text for a copy of the others.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from rows import tokenise_and_pack, versions

JUDGES = (
    "alphanumeric_filter",
    "average_line_length_filter",
    "character_repetition_filter",
    "maximum_line_length_filter",
    "special_characters_filter",
    "text_length_filter",
    "word_repetition_filter",
    "words_num_filter",
)
LIMITS = {"ratio": 1e9, "len": 10**12, "num": 10**12}


def wide(name: str) -> dict[str, Any]:
    """Limits of a filter between which every document lies."""
    unit = {
        "average_line_length_filter": "len",
        "maximum_line_length_filter": "len",
        "text_length_filter": "len",
        "words_num_filter": "num",
    }.get(name, "ratio")
    return {f"min_{unit}": 0, f"max_{unit}": LIMITS[unit]}


def operators(until: str, thresholds: str) -> list[dict[str, Any]]:
    """The list `process` of a Data-Juicer recipe."""
    near = {"tokenization": "character", "window_size": 5, "num_permutations": 112, "jaccard_threshold": 0.8}
    return [
        {"fix_unicode_mapper": {}},
        {"whitespace_normalization_mapper": {}},
        *([{"clean_email_mapper": {}}, {"clean_ip_mapper": {}}] if until == "whole" else []),
        *({name: wide(name) if thresholds == "open" else {}} for name in JUDGES),
        {"document_minhash_deduplicator": near},
    ]


def main() -> None:
    """Do it, and say in WORK/made.json what came out."""
    source, work, processes, until = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    recipe = {
        "project_name": "benchmark",
        "dataset_path": str(source),
        "export_path": str(work / "kept.jsonl"),
        "work_dir": str(work),
        "np": processes,
        "op_fusion": True,
        "use_cache": False,
        "open_tracer": False,
        "process": operators(until, sys.argv[6]),
    }
    (work / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    os.environ["DATA_JUICER_CACHE_HOME"] = str(work / "cache")
    from data_juicer.config import init_configs
    from data_juicer.core import DefaultExecutor

    DefaultExecutor(init_configs(["--config", str(work / "recipe.yaml")])).run()
    kept = work / "kept.jsonl"
    tokens = tokenise_and_pack([kept], sys.argv[5], processes) if until == "whole" else 0
    documents = sum(1 for _ in kept.open("rb"))
    names = ("py-data-juicer", "datasets", *(("transformers",) if tokens else ()))
    made = {"documents": documents, "tokens": tokens, "versions": versions(*names)}
    (work / "made.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main()
