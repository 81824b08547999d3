"""What a run knows by heart: continuations of its training documents, planted secrets, personal data it repeats.

Continuations after Carlini et al. 2023, "Quantifying Memorization Across Neural Language Models", section 3: a stretch of a
document is given, the model goes on greedily, and only an exact match counts. Held-out documents are continued too: what
the model can guess there it has not learnt by heart. Canaries after Carlini et al. 2019, "The Secret Sharer", section 4.
"""

# N documents, K tokens given, M tokens to follow, S positions scored, V vocabulary

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from transformers import GenerationConfig

from configs.base import load_tokenizer, load_weights
from configs.canaries import candidates, is_secret
from configs.chat import ChatTokenizer
from configs.errors import RecipeError
from configs.find import find_in_corpus
from configs.memorisation import Continuations, Exposure, Memorisation
from configs.progress import say
from configs.store import hashed
from configs.vocabulary import base_of
from training.attention import register
from training.batches import Rows, packed
from training.merge import MOST_ELEMENTS, log_probabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transformers import PreTrainedModel

    from configs.job import Job
    from configs.records import Corpus, Run
    from configs.releasing import Spot

BATCH_TOKENS = 16384
"""Tokens that are continued at once."""
CHANCE = 1 / math.log(2)
"""Mean exposure, in bits, of a secret that was never seen: its rank is uniform, and -log2 of a uniform number has this mean."""


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
    planted = _planted(job, rows, there)
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
        exposed[name] = [_exposure(causal, it) for it in planted]
    split_of = {
        split: Continuations(
            documents=len(given[split]),
            long_enough=len(long[split]),
            tuned=exact["tuned"][split],
            base=exact["base"][split] if "base" in exact else None,
        )
        for split in given
    }
    bases = exposed.get("base", [None] * len(planted))
    return Memorisation(
        prompt=asked.prompt,
        continuation=asked.continuation,
        learnt=split_of["train"],
        held_out=split_of["validation"],
        personal=_personal(job, given["train"][:, : asked.prompt], said, spot) if spot else None,
        candidates=asked.candidates if planted else 0,
        canaries=tuple(
            Exposure(canary=it.prompt, split=it.split, tuned=tuned, base=base)
            for it, tuned, base in zip(planted, exposed["tuned"], bases, strict=True)
        ),
    )


def told(found: Memorisation) -> list[str]:
    """An audit in sentences, for the card and for a terminal."""
    lines = []
    for what, part in (("training", found.learnt), ("held-out", found.held_out)):
        if not part.documents:
            lines.append(f"No {what} document has the {found.prompt + found.continuation} tokens that are needed.")
            continue
        base = "" if part.base is None else f", its base {part.base}"
        lines.append(
            f"Given {found.prompt} tokens of a {what} document, the model went on with its next {found.continuation} "
            f"exactly in {part.tuned} of {part.documents}{base} ({part.long_enough:,} documents were long enough)."
        )
    if found.personal is not None:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(found.personal.items()))
        lines.append(f"Personal data of training documents in these continuations: {kinds or 'none'}.")
    if found.canaries:
        most = math.log2(found.candidates + 1)
        for split, what in (("train", "planted"), ("validation", "held out")):
            own = [it for it in found.canaries if it.split == split]
            bases = [it.base for it in own if it.base is not None]
            if own:
                base = f", its base {sum(bases) / len(bases):.2f}" if bases else ""
                lines.append(
                    f"Mean exposure of {len(own)} canaries ({what}): {sum(it.tuned for it in own) / len(own):.2f} bits{base}; "
                    f"by chance {CHANCE:.2f}, at most {most:g}."
                )
    return lines


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


# ---------------------------------------------------------------- canaries


def _planted(job: Job, rows: Rows, there: dict[str, list[Document]]) -> list[Planted]:
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


def _exposure(causal: PreTrainedModel, it: Planted) -> float:
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
