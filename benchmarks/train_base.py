"""What the benchmark of training is about: a base with random weights, documents of mixed length, one judge of adapters.

Everything is a function of the seed. Texts are sentences of the embedded samples (assets/samples, CC0) in an order of
each document's own.
"""

from __future__ import annotations

import json
import math
import random
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

HOUSE = Path(__file__).resolve().parent.parent
SAMPLES = HOUSE / "assets" / "samples"
TRAIN = ("finance/articles_train", "healthcare/articles_train", "general/text_replay")
TEST = ("finance/articles_test", "healthcare/articles_test", "general/text_test")
SHAPE = {
    "hidden_size": 384,
    "intermediate_size": 1408,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 6,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
}
"""With the 6,144 pieces of the embedded tokenizer: 20,060,544 parameters."""
MEDIAN, SPREAD = 320.0, 0.95
"""Of the lognormal that lengths in tokens are drawn from; about that of web pages, mean 500."""
SHORTEST, LONGEST = 30, 2000
TOKENS_PER_WORD = 1.75
"""Of the samples' English, with the embedded tokenizer: lengths are aimed at in words."""


def make_base(folder: Path, seed: int) -> int:
    """A Llama of SHAPE with random weights and the embedded tokenizer; returns its number of parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    shutil.copytree(HOUSE / "assets" / "base", folder, ignore=shutil.ignore_patterns("*.safetensors", "*.md", "*.yaml"))
    known = json.loads((folder / "config.json").read_bytes())
    marks = {name: known[name] for name in ("vocab_size", "bos_token_id", "eos_token_id", "pad_token_id")}
    torch.manual_seed(seed)
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, **marks, dtype="float32"))
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def sentences(names: Sequence[str]) -> list[str]:
    """The English sentences of sample files."""
    found = []
    for name in names:
        for line in (SAMPLES / f"{name}.jsonl").read_text("utf-8").splitlines():
            text = json.loads(line)["text"]
            if text.isascii():
                parts = [part.strip(" .") for part in text.replace("\n", " ").split(". ")]
                found += [f"{part}." for part in parts if len(part.split()) > 3]
    return found


def documents(count: int, names: Sequence[str], seed: int) -> Iterator[str]:
    """So many texts of mixed length: the quantiles of the lognormal, so that few documents have its shape too, in an
    order drawn from the seed."""
    from statistics import NormalDist

    pool, drawn = sentences(names), random.Random(seed)
    places = [(place + 0.5) / count for place in range(count)]
    lengths = [MEDIAN * math.exp(SPREAD * NormalDist().inv_cdf(place)) for place in places]
    drawn.shuffle(lengths)
    for length in lengths:
        words = max(SHORTEST, min(LONGEST, length)) / TOKENS_PER_WORD
        chosen: list[str] = []
        for sentence in (one for _ in range(99) for one in drawn.sample(pool, len(pool))):
            chosen += sentence.split()
            if len(chosen) >= words:
                break
        yield f"{' '.join(chosen[: round(words)]).rstrip('.,;:')}."


def packed_documents(corpus: Path, path: Path) -> None:
    """The training documents of a prepared corpus as a Parquet column `input_ids`.

    So every side has the same documents, tokenised the same, and the peers need not do it.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    record = json.loads((corpus / "corpus.json").read_bytes())
    tokens = np.memmap(corpus / "tokens.bin", dtype=record["token_dtype"], mode="r")
    segments = np.load(corpus / "segments.npy")
    segments = segments[segments[:, 0] < record["rows_train"]]
    ids = [tokens[start : start + length].tolist() for _, start, length, _ in segments]
    random.Random(0).shuffle(ids)  # packing has put the long ones first
    pq.write_table(pa.table({"input_ids": pa.array(ids, pa.list_(pa.int64()))}), path)


def held_out_loss(base: Path, adapter: Path | None, count: int, seed: int) -> float:
    """Mean loss in nats per token of documents that no side has trained on, by plain transformers and peft: float32, one
    document at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model: Any = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    if adapter is not None:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
    total, targets = 0.0, 0
    with torch.inference_mode():
        for text in documents(count, TEST, seed + 1):
            ids = torch.tensor([[*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]])
            total += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
            targets += ids.shape[1] - 1
    return total / targets


def matmul_rate(precision: str) -> float:
    """Floating-point operations a second of matrix products in this process: the best of twenty of 2048 by 2048."""
    import torch

    left, right = torch.randn(2, 2048, 2048, dtype=getattr(torch, precision)).unbind()
    spent = []
    for _ in range(20):
        begin = time.perf_counter()
        left @ right
        spent.append(time.perf_counter() - begin)
    return float(2 * 2048**3 / min(spent))


def flops_per_token(lengths: Sequence[int], rank: int) -> float:
    """Of LoRA's step: 4 for each frozen weight (forward, and backward to the inputs), 6 for each trained one, and causal
    attention forward and backward, half of the square."""
    width, inner, layers = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["num_hidden_layers"]
    frozen = layers * (4 * width * width + 3 * width * inner) + 6144 * width
    trained = layers * rank * (4 * 2 * width + 3 * (width + inner))
    attended = sum(length * length / 2 for length in lengths) / sum(lengths)
    return float(4 * frozen + 6 * trained + 12 * layers * width * attended)


if __name__ == "__main__":  # in a process of its own: `matmul PRECISION`, or `loss BASE ADAPTER COUNT SEED`
    what, *rest = sys.argv[1:]
    if what == "matmul":
        print(matmul_rate(rest[0]))
    else:
        there = None if rest[1] == "-" else Path(rest[1])
        print(held_out_loss(Path(rest[0]), there, int(rest[2]), int(rest[3])))
