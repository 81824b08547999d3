"""Metrics of ours that lm-evaluation-harness has too, under its own names."""

from __future__ import annotations

from typing import NamedTuple


class Native(NamedTuple):
    """A metric as an entry of its `metric_list`."""

    metric: str
    aggregation: str = "mean"
    higher_is_better: bool = True


NATIVE: dict[str, dict[str, Native]] = {
    "multiple_choice": {"acc": Native("acc"), "acc_norm": Native("acc_bytes")},
    "loglikelihood_rolling": {
        "bits_per_byte": Native("bits_per_byte", "bits_per_byte", higher_is_better=False),
        "byte_perplexity": Native("byte_perplexity", "weighted_perplexity", higher_is_better=False),
        "word_perplexity": Native("word_perplexity", "weighted_perplexity", higher_is_better=False),
    },
}
"""By output type. Its `acc_norm` divides by characters; ours divides by bytes, which it calls `acc_bytes`. Its texts are
compared as they are; ours are read first, so no metric of generated texts is the same."""
NEAR: dict[str, Native] = {"exact_match": Native("exact_match"), "chrf": Native("chrf", "chrf")}
"""Metrics of generated texts for stock lm-eval: the nearest that it has. Its chrF is a hundred times ours."""
