"""How far planted secrets stand out in a model: canaries after Carlini et al. 2019, "The Secret Sharer", section 4."""

# S positions scored, V vocabulary

from __future__ import annotations

import math
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from configs.base import load_tokenizer
from configs.canaries import candidates, is_secret
from configs.chat import ChatTokenizer
from configs.errors import RecipeError
from configs.memorisation import Exposure
from configs.progress import say
from configs.vocabulary import base_of
from training.attention import register
from training.batches import packed
from training.merge import MOST_ELEMENTS, log_probabilities

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from configs.job import Job
    from training.batches import Rows

BATCH_TOKENS = 16384
"""Tokens of one forward pass."""


class Document(NamedTuple):
    """A document of the corpus: where it stands in tokens.bin."""

    identity: str
    source: str
    start: int
    tokens: int


class Planted(NamedTuple):
    """A canary as it stands in the corpus."""

    prompt: str
    split: str
    learnt: list[int]
    """Its tokens up to the secret."""
    own: list[int]
    others: list[list[int]]
    """Tokens of the secret, and of random ones in its place."""


def planted_in(job: Job, rows: Rows, there: dict[str, list[Document]]) -> list[Planted]:
    """The canaries of the corpus, ready to be scored.

    Raises:
        RecipeError: the recipe names no such source, or it holds no canaries.
    """
    asked = job.recipe.publish.audit
    if not asked.canaries:
        return []
    names = [it.name for it in job.recipe.corpora]
    where = "publish.audit.canaries"
    if asked.canaries not in names:
        raise RecipeError(
            f"no source is called {asked.canaries!r}", where=where, hint=f"There are: {', '.join(names)}."
        )
    folder = base_of(job, weights=False)
    chat = ChatTokenizer(load_tokenizer(folder), folder.name)
    found = []
    for split, documents in there.items():
        for it in documents:
            if it.source == asked.canaries and (one := _one(job, chat, rows, it, split)):
                found.append(one)
    if not found:
        raise RecipeError(
            f"the source {asked.canaries} holds no canaries",
            where=where,
            hint="`sectorlm canaries FILE` writes some, and shows the source to add to the recipe.",
        )
    return found


def _one(job: Job, chat: ChatTokenizer, rows: Rows, it: Document, split: str) -> Planted | None:
    """A document as a canary: its answer, a random one in its place, and the tokens that come before."""
    ids = rows.tokens[it.start : it.start + it.tokens].tolist()
    answer = np.flatnonzero(rows.supervised[it.start : it.start + it.tokens])
    if not len(answer):
        return None
    first, last = int(answer[0]), int(answer[-1]) + 1
    secret = str(chat.tokenizer.decode(ids[first:last], skip_special_tokens=True)).strip()
    if not is_secret(secret):
        return None
    for space in (" ", ""):  # `prepare.form: plain` puts a space before an answer
        own = chat.ids_after([space + secret])[0]
        place = next((p for p in range(first, last) if ids[p : p + len(own)] == own), None)
        if place is not None:
            prompt = str(chat.tokenizer.decode(ids[:place], skip_special_tokens=True)).strip()
            texts = candidates(job.recipe.seed, it.identity, job.recipe.publish.audit.candidates)
            others = chat.ids_after([space + text for text in texts])
            return Planted(prompt, split, ids[:place], own, others)
    say(f"  a canary is not tokenised as it stands alone, and was left out: {secret[:20]}...")
    return None


def exposures(planted: list[Planted], tuned: list[float], base: list[float] | None) -> tuple[Exposure, ...]:
    """Each canary with its exposures; `base` is None where there is no base to ask."""
    rows = zip(planted, tuned, base or repeat(None), strict=False)  # without a base for every one None
    return tuple(Exposure(canary=it.prompt, split=it.split, tuned=own, base=before) for it, own, before in rows)


def exposure(causal: PreTrainedModel, it: Planted) -> float:
    """log2 of the candidates, the secret among them, less log2 of the secret's rank by its probability."""
    scores = _scores(causal, it.learnt, [it.own, *it.others])
    rank = 1 + int((scores[1:] > scores[0]).sum())
    return math.log2(len(scores)) - math.log2(rank)


def _scores(causal: PreTrainedModel, before: list[int], endings: list[list[int]]) -> np.ndarray:
    """Log-probability of each ending after the same beginning, in nats."""
    vocabulary = causal.get_output_embeddings().weight.shape[0]
    longest = len(before) + max(map(len, endings))
    at_once = max(1, min(BATCH_TOKENS // longest, MOST_ELEMENTS // vocabulary // longest))
    usual = causal.config._attn_implementation
    causal.set_attn_implementation(register())
    found: list[np.ndarray] = []
    try:
        for first in range(0, len(endings), at_once):
            part = endings[first : first + at_once]
            documents = [(np.array(before + own), np.array([False] * len(before) + [True] * len(own))) for own in part]
            batch = packed(documents)
            at_S = log_probabilities(causal, batch.to(causal.device)).gather(
                1, batch.target_S[:, None].to(causal.device)
            )
            sums = torch.zeros(len(part), dtype=torch.float64)
            sums.index_add_(0, batch.documents(), at_S[:, 0].double().cpu())
            found.append(sums.numpy())
    finally:
        causal.set_attn_implementation(usual)
    return np.concatenate(found)
