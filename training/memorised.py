"""What a run knows by heart: continuations of its training documents, planted secrets, personal data it repeats.

Continuations after Carlini et al. 2023, "Quantifying Memorization Across Neural Language Models", section 3: a stretch of a
document is given, the model goes on greedily, and only an exact match counts. Held-out documents are continued too: what
the model can guess there it has not learnt by heart. Canaries: training/exposure.py.
"""

# N documents, K tokens given, M tokens to follow, S positions scored, V vocabulary

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import GenerationConfig

from configs.base import load_tokenizer, load_weights
from configs.find import find_in_corpus
from configs.memorisation import Continuations, Memorisation
from configs.store import hashed
from configs.vocabulary import base_of
from training.batches import Rows
from training.exposure import Document, exposure, exposures, planted_in

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel

    from configs.job import Job
    from configs.records import Corpus, Run
    from configs.releasing import Spot

BATCH_TOKENS = 16384
"""Tokens that are continued at once."""


def audit(job: Job, corpus: Corpus, run: Run, spot: Spot | None) -> Memorisation:
    """Measure what the tuned model and its base know by heart; nothing of it is written down but counts.

    Raises:
        RecipeError: `publish.audit.canaries` names no source, or one without canaries.
        DataError: the weights or the corpus cannot be read.
    """
    asked = job.recipe.publish.audit
    rows, length = Rows(job.folder.corpus, corpus), asked.prompt + asked.continuation
    there = {split: _documents(job, split) for split in ("train", "validation")}
    pieces = _pieces(rows, length)
    # Canaries are asked for in another way.
    long = {
        split: {it: own for it in found if it.source != asked.canaries and len(own := _within(pieces, it))}
        for split, found in there.items()
    }
    given = {split: _stretches(job, rows, found) for split, found in long.items()}
    planted = planted_in(job, rows, there)
    exact: dict[str, dict[str, int]] = {}
    exposed: dict[str, list[float]] = {}
    said: list[np.ndarray] = []
    for name, causal in _models(job, run):
        exact[name] = {}
        for split, stretches_NT in given.items():
            found_NM = continued(causal, stretches_NT[:, : asked.prompt], asked.continuation)
            exact[name][split] = int((found_NM == stretches_NT[:, asked.prompt :]).all(1).sum())
            if (name, split) == ("tuned", "train"):
                said = list(found_NM)
        exposed[name] = [exposure(causal, it) for it in planted]
    learnt, held_out = (
        Continuations(
            documents=len(given[split]),
            long_enough=len(long[split]),
            tuned=exact["tuned"][split],
            base=exact["base"][split] if "base" in exact else None,
        )
        for split in ("train", "validation")
    )
    return Memorisation(
        prompt=asked.prompt,
        continuation=asked.continuation,
        learnt=learnt,
        held_out=held_out,
        personal=_personal(job, given["train"][:, : asked.prompt], said, spot) if spot else None,
        candidates=asked.candidates if planted else 0,
        canaries=exposures(planted, exposed["tuned"], exposed.get("base")),
    )


# ---------------------------------------------------------------- which documents


def _documents(job: Job, split: str) -> list[Document]:
    import pyarrow.parquet as pq

    columns = ["id", "source", "split", "start", "tokens"]
    table = pq.read_table(job.folder.corpus / "documents.parquet", columns=columns).to_pylist()
    return [Document(it["id"], it["source"], it["start"], it["tokens"]) for it in table if it["split"] == split]


def _pieces(rows: Rows, length: int) -> np.ndarray:
    """Where the pieces of documents begin, as training saw them, that have `length` tokens or more, ascending."""
    return np.unique(rows.segments[rows.segments[:, 2] >= length, 1])


def _within(pieces: np.ndarray, it: Document) -> np.ndarray:
    return pieces[slice(*np.searchsorted(pieces, [it.start, it.start + it.tokens]))]


def _stretches(job: Job, rows: Rows, long: dict[Document, np.ndarray]) -> np.ndarray:
    """The beginning of a piece of each of some documents, those with the smallest hashes, int64 [N, K + M].

    A piece begins where training began to read: from the middle of one, a model that knows it by heart may not go on.
    """
    seed, asked = job.recipe.seed, job.recipe.publish.audit
    length = asked.prompt + asked.continuation
    chosen = sorted(long, key=lambda it: hashed(seed, "memorised", it.identity))[: asked.documents]
    starts = [long[it][hashed(seed, "memorised at", it.identity) % len(long[it])] for it in chosen]
    return np.array([rows.tokens[start : start + length] for start in starts], np.int64).reshape(-1, length)


# ---------------------------------------------------------------- the models


def _models(job: Job, run: Run) -> Iterator[tuple[str, PreTrainedModel]]:
    """The tuned model and then its base, one at a time, in float32 on the device that is there."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folder = base_of(job, weights=run.weights == "adapter")
    if run.weights == "adapter":
        from peft import PeftModel

        causal = load_weights(folder, dtype=torch.float32)
        wrapper = PeftModel.from_pretrained(causal, job.folder.run / "adapter").to(device).eval()
        yield "tuned", causal
        with wrapper.disable_adapter():
            yield "base", causal
        return
    places = {"tuned": job.folder.run / run.weights}
    if run.method != "scratch":
        places["base"] = base_of(job)
    for name, place in places.items():
        causal = load_weights(place, dtype=torch.float32)
        torch.nn.Module.to(causal, device)
        yield name, causal


def continued(causal: PreTrainedModel, given_NK: np.ndarray, tokens: int) -> np.ndarray:
    """What the model says after each row of tokens, greedily, int64 [N, `tokens`]; -1 after it has stopped."""
    stop = causal.config.eos_token_id
    stops = set(stop if isinstance(stop, list) else [] if stop is None else [stop])
    # A base's own generation config may ask for sampling or punish repetition.
    plain = GenerationConfig(max_new_tokens=tokens, do_sample=False, pad_token_id=0, eos_token_id=sorted(stops) or None)
    before, causal.generation_config = causal.generation_config, plain
    found = np.full((len(given_NK), tokens), -1, np.int64)
    at_once = max(1, BATCH_TOKENS // (given_NK.shape[1] + tokens))
    try:
        for first in range(0, len(given_NK), at_once):
            ids_BK = torch.from_numpy(given_NK[first : first + at_once]).to(causal.device)
            generate: Any = causal.generate  # typed as a tensor in its class
            out_BT = generate(ids_BK, attention_mask=torch.ones_like(ids_BK), generation_config=plain)
            new_BM = out_BT[:, ids_BK.shape[1] :].cpu().numpy()
            found[first : first + len(new_BM), : new_BM.shape[1]] = new_BM
    finally:
        causal.generation_config = before
    for row in found:
        ends = np.flatnonzero(np.isin(row, list(stops)))
        row[ends[0] + 1 if len(ends) else len(row) :] = -1
    return found


# ---------------------------------------------------------------- personal data


def _personal(job: Job, given_NK: np.ndarray, said: list[np.ndarray], spot: Spot) -> dict[str, int]:
    """Pieces by kind that the model said, that were not in what it was given, and that stand in a training document."""
    tokenizer = load_tokenizer(base_of(job, weights=False))
    counts: dict[str, int] = {}
    for given_K, said_M in zip(given_NK, said, strict=True):
        before = str(tokenizer.decode(given_K.tolist()))
        text = before + str(tokenizer.decode(said_M[said_M >= 0].tolist()))
        for kind, start, end in spot(text):
            value = text[start:end]
            if end > len(before) and value not in before and _stands_in_training(job, value):
                counts[kind] = counts.get(kind, 0) + 1
    return counts


def _stands_in_training(job: Job, value: str) -> bool:
    return any(hit.split == "train" for hit in find_in_corpus(job.folder.corpus, value))
