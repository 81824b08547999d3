"""The same preparation by datatrove: read, mend, judge, near-duplicates; `whole` adds personal data, tokens and rows.

    PYTHON_WITH_DATATROVE datatrove_steps.py FOLDER_OF_JSONL WORK PROCESSES near|whole TOKENIZER THRESHOLDS

The order and the settings are those of FineWeb (Penedo et al. 2024), signatures made in the same pass as the filters.
THRESHOLDS `own` are datatrove's. Those are English and drop every Chinese text, which shortens all later work; `open`
ones let every document pass after everything has been computed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rows import tokenise_and_pack, versions

ALL = 1e9
OPEN_REPETITION: dict[str, Any] = {
    "dup_line_frac": ALL,
    "dup_para_frac": ALL,
    "dup_line_char_frac": ALL,
    "dup_para_char_frac": ALL,
    "top_n_grams": tuple((n, ALL) for n in (2, 3, 4)),
    "dup_n_grams": tuple((n, ALL) for n in range(5, 11)),
}
OPEN_QUALITY: dict[str, Any] = {
    "min_doc_words": 1,
    "max_doc_words": ALL,
    "min_avg_word_length": 1e-9,
    "max_avg_word_length": ALL,
    "max_symbol_word_ratio": ALL,
    "max_bullet_lines_ratio": ALL,
    "max_ellipsis_lines_ratio": ALL,
    "max_non_alpha_words_ratio": -ALL,
    "min_stop_words": -1,
}
OPEN_C4: dict[str, Any] = {
    "min_num_sentences": 0,
    "min_words_per_line": 0,
    "max_word_length": ALL,
    "filter_lorem_ipsum": False,
    "filter_javascript": False,
    "filter_curly_bracket": False,
    "filter_policy": False,
}


def judged(source: Path, work: Path, until: str, thresholds: str) -> list[Any]:
    """One pass: read, mend, judge, write, sketch."""
    from datatrove.pipeline.dedup import MinhashDedupSignature
    from datatrove.pipeline.filters import C4QualityFilter, GopherQualityFilter, GopherRepetitionFilter
    from datatrove.pipeline.formatters import FTFYFormatter, PIIFormatter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    wide = thresholds == "open"
    return [
        JsonlReader(str(source)),
        FTFYFormatter(),
        *([PIIFormatter()] if until == "whole" else []),
        GopherRepetitionFilter(**(OPEN_REPETITION if wide else {})),
        GopherQualityFilter(**(OPEN_QUALITY if wide else {})),
        C4QualityFilter(filter_no_terminal_punct=False, **(OPEN_C4 if wide else {})),
        JsonlWriter(str(work / "judged"), compression=None),
        MinhashDedupSignature(str(work / "signatures")),
    ]


def prepare(source: Path, work: Path, processes: int, until: str, thresholds: str) -> None:
    """All stages up to the texts that stay, in WORK/kept; 14 bands of 8 hashes of 5 words, datatrove's default."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupBuckets, MinhashDedupCluster, MinhashDedupFilter
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    stages = [
        (processes, judged(source, work, until, thresholds)),
        (14, [MinhashDedupBuckets(str(work / "signatures"), str(work / "buckets"))]),
        (1, [MinhashDedupCluster(str(work / "buckets"), str(work / "removed"))]),
        (
            processes,
            [
                JsonlReader(str(work / "judged")),
                MinhashDedupFilter(str(work / "removed")),
                JsonlWriter(str(work / "kept"), compression=None),
            ],
        ),
    ]
    for number, (tasks, steps) in enumerate(stages):
        LocalPipelineExecutor(steps, tasks, min(tasks, processes), str(work / "logs" / str(number))).run()


def main() -> None:
    """Do it, and say in WORK/made.json what came out."""
    source, work, processes, until = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    prepare(source, work, processes, until, sys.argv[6])
    kept = sorted((work / "kept").glob("*.jsonl"))
    tokens = tokenise_and_pack(kept, sys.argv[5], processes) if until == "whole" else 0
    documents = sum(sum(1 for _ in path.open("rb")) for path in kept)
    names = ("datatrove", "spacy", "ftfy", *(("datasets", "transformers") if tokens else ()))
    made = {"documents": documents, "tokens": tokens, "versions": versions(*names)}
    (work / "made.json").write_text(json.dumps(made))


if __name__ == "__main__":
    main()
