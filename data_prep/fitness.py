"""How well the base's tokenizer fits a sector: characters per token, pieces per term, and what new tokens would save.

A sample of the documents is looked at, the ones with the smallest hashes among the first rows of each source, so that the
answer comes in seconds and is the same each time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from heapq import heapify, heappop, heappush, nsmallest
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from configs.base import base_folder, load_tokenizer, public_name
from configs.chat import ChatTokenizer
from configs.job import roots_of
from configs.load import load_recipe
from configs.recipe import Source
from configs.sector import load_sector
from configs.store import hashed
from configs.vocabulary import Spelling, add_forms, new_tokens, read_terms, spellings
from data_prep.documents import documents_of, first_row_kinds
from data_prep.ledger import Account
from data_prep.preview import source_rows
from data_prep.read import care_of, mended
from data_prep.terms import HAN, find_terms

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

    from configs.recipe import Recipe

ROWS = 20_000
"""Rows of each source that the sample is drawn from: the first ones, since finding others means reading all."""
DOCUMENTS, CHARACTERS = 400, 2000
"""Documents of each source in the sample, and characters of each: its beginning."""
SPLIT = 3
"""Pieces from which on a term found by rule is worth a token: below, a token of its own saves one at the most."""
CHINESE = 0.3
"""Part of a document's letters that are Chinese characters, from which on it counts as Chinese."""
GENERAL = "assets/samples/general/text_replay.jsonl"
"""Stands in where a recipe's general sources lack a language of the sector's."""


@dataclass(frozen=True)
class Fit:
    """How a tokenizer spells some text."""

    channel: str
    language: str
    documents: int
    characters: int
    bytes: int
    tokens: int
    characters_per_token: float
    bytes_per_token: float
    broken: float
    """Part of the tokens that are pieces of a character, bytes for themselves."""
    unknown: float
    """Part of the tokens that stand for what the tokenizer cannot spell."""


@dataclass(frozen=True)
class Term:
    """A term, how it is spelled, and what a token of its own would save."""

    text: str
    origin: str
    """`recipe`, `file`, `pack`, or `found`: by rule (data_prep/terms.py)."""
    pieces: int
    """Tokens that it is split into; after a space, where words are parted by spaces."""
    count: int
    """Times that its token would be used in the sample of the sector."""
    saved: float
    """Part of the sector's tokens that it would save."""


@dataclass(frozen=True)
class Fitness:
    """The whole report."""

    base: str
    vocabulary: int
    sample: str
    fits: tuple[Fit, ...]
    terms: dict[str, int]
    """Terms of the sector that were looked at, and the pieces of each."""
    general_terms: dict[str, int]
    """The same of terms that general text has and the sector's has not."""
    suggested: tuple[Term, ...]
    saved: float
    """Part of the sector's tokens that all suggestions together save."""

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return asdict(self)


def fitness(path: Path, sets: Sequence[str] = (), terms: Path | None = None, count: int = 30) -> Fitness:
    """Look at a sample of a recipe's sources through the tokenizer of its base, as it is published.

    `terms` is a file with one term a line; at most `count` new tokens are suggested, and what they save is measured: the
    sample is tokenised with them.

    Raises:
        RecipeError: the recipe is wrong.
        DataError: a source, the base or the file of terms is missing or damaged.
    """
    recipe = load_recipe(path, sets)
    roots = roots_of(recipe, path)
    sector, general = _samples(recipe, roots)
    tokenizer = load_tokenizer(base_folder(recipe.base, roots, weights=False))
    chat = ChatTokenizer(tokenizer, recipe.base)
    ids = chat.ids(sector)
    fits = (*_fits(chat, "sector", sector, ids), *_fits(chat, "general", general, chat.ids(general)))
    origins = {it.text: "found" for it in find_terms(sector, general)}
    origins |= dict.fromkeys(load_sector(recipe.sector).glossary, "pack")
    origins |= dict.fromkeys(read_terms(terms, "--terms") if terms else (), "file")
    origins |= dict.fromkeys(new_tokens(recipe, roots), "recipe")
    pieces = _pieces(chat, origins)
    plain = _pieces(chat, [it.text for it in find_terms(general, sector)])
    chosen = _chosen(origins, pieces, "\n".join(sector), count)
    vocabulary, tokens = len(tokenizer), sum(map(len, ids))
    suggested, left = _measured(tokenizer, recipe.base, [(text, origins[text]) for text in chosen], sector, tokens)
    return Fitness(
        base=public_name(recipe.base),
        vocabulary=vocabulary,
        sample=f"{len(sector):,} sector and {len(general):,} general documents: of each source up to {DOCUMENTS} by hash "
        f"among its first {ROWS:,} rows, {CHARACTERS:,} characters of each",
        fits=fits,
        terms=pieces,
        general_terms=plain,
        suggested=suggested,
        saved=1 - left / max(1, tokens),
    )


# ---------------------------------------------------------------- the sample


def _samples(recipe: Recipe, roots: tuple[Path, ...]) -> tuple[list[str], list[str]]:
    """Texts of the sector, and general ones."""
    found: dict[str, list[str]] = {"sector": [], "general": []}
    for source in recipe.corpora:
        found[source.channel] += _sampled(source, recipe, roots)
    sector, general = found["sector"], found["general"]
    if not set(map(_language, sector)) <= set(map(_language, general)):
        shipped = Source(name="general", path=GENERAL, text="{{ text }}", licence="CC0-1.0", channel="general")
        general += _sampled(shipped, recipe, roots)
    return sector, general


def _sampled(source: Source, recipe: Recipe, roots: tuple[Path, ...]) -> list[str]:
    account = Account(source.name)
    rows = islice(source_rows(source, roots, account.reading)[0], ROWS)
    first = next(rows, None)
    if first is None:
        return []
    documents = documents_of(source, chain([first], rows), account, first_row_kinds(source, first))
    kept = nsmallest(DOCUMENTS, documents, key=lambda document: hashed(recipe.seed, "fitness", document.id))
    care = care_of(recipe.prepare, source)
    return [mended(document, care, account).content[:CHARACTERS] for document in kept]


# ---------------------------------------------------------------- figures


def _fits(chat: ChatTokenizer, channel: str, texts: list[str], ids: list[list[int]]) -> Iterator[Fit]:
    """The figures of a channel for each of its languages."""
    broken, unknown = _odd(chat.tokenizer, {token for own in ids for token in own})
    by_language: dict[str, list[int]] = {}
    for place, text in enumerate(texts):
        by_language.setdefault(_language(text), []).append(place)
    for language, places in sorted(by_language.items()):
        tokens = Counter[int](token for place in places for token in ids[place])
        characters = sum(len(texts[place]) for place in places)
        size = sum(len(texts[place].encode()) for place in places)
        total = max(1, tokens.total())
        yield Fit(
            channel=channel,
            language=language,
            documents=len(places),
            characters=characters,
            bytes=size,
            tokens=tokens.total(),
            characters_per_token=characters / total,
            bytes_per_token=size / total,
            broken=sum(count for token, count in tokens.items() if token in broken) / total,
            unknown=sum(count for token, count in tokens.items() if token in unknown) / total,
        )


def _odd(tokenizer: PreTrainedTokenizerBase, used: set[int]) -> tuple[set[int], set[int]]:
    """Of the tokens, those that are bytes of a character and no character, and the unknown one.

    A token that is no whole number of characters reads as U+FFFD (The Unicode Standard, section 3.9).
    """
    ordered = sorted(used)
    read = [tokenizer.decode([token], clean_up_tokenization_spaces=False) for token in ordered]
    broken = {token for token, text in zip(ordered, read, strict=True) if "\ufffd" in text}
    return broken, {token for token in used if token == tokenizer.unk_token_id}


def _language(text: str) -> str:
    """`zh` where Chinese characters are CHINESE of the letters or more, else `other`: what parts words by spaces."""
    letters = sum(map(str.isalpha, text))
    return "zh" if letters and sum(map(len, HAN.findall(text))) >= CHINESE * letters else "other"


# ---------------------------------------------------------------- suggestions


def _pieces(chat: ChatTokenizer, terms: Collection[str]) -> dict[str, int]:
    """The tokens of each term; after a space, where words are parted by spaces."""
    ids = chat.ids([spellings(text)[-1].text for text in terms])
    return {text: len(own) for text, own in zip(terms, ids, strict=True)}


def _chosen(origins: dict[str, str], pieces: dict[str, int], text: str, count: int) -> list[str]:
    """The terms that seem to save most, given ones before those found by rule, of which some are phrases: the times that
    they stand there, outside of a longer one that is chosen, by the pieces saved."""

    def saves(term: str, chosen: Sequence[str]) -> int:
        inside = sum(often[longer] for longer in chosen if term in longer)
        overlaps = any(shorter in term for shorter in chosen)
        return 0 if overlaps else (often[term] - inside) * (pieces[term] - 1)

    worth = [term for term, own in pieces.items() if own >= (SPLIT if origins[term] == "found" else 2)]
    often = {term: text.count(spellings(term)[-1].text) for term in worth}
    chosen: list[str] = []
    waiting = [(origins[term] == "found", -saves(term, ()), term) for term in worth]
    heapify(waiting)
    while waiting and len(chosen) < count:
        by_rule, before, term = heappop(waiting)
        now = saves(term, chosen)
        if now == -before and now > 0:
            chosen.append(term)
        elif now > 0:
            heappush(waiting, (by_rule, -now, term))
    return chosen


def _measured(
    tokenizer: PreTrainedTokenizerBase, name: str, chosen: list[tuple[str, str]], texts: list[str], tokens: int
) -> tuple[tuple[Term, ...], int]:
    """What each term saves once the tokenizer has them all, the most saving first; and the tokens that are left."""
    forms: dict[str, list[Spelling]] = {text: list(spellings(text)) for text, _ in chosen}
    texts_of_forms = [form.text for own in forms.values() for form in own]
    split = dict(zip(texts_of_forms, map(len, ChatTokenizer(tokenizer, name).ids(texts_of_forms)), strict=True))
    new = [form for own in forms.values() for form in own if split[form.text] > 1]
    numbers = add_forms(tokenizer, new)
    used = Counter[int](token for own in ChatTokenizer(tokenizer, name).ids(texts) for token in own)
    found = []
    for text, origin in chosen:
        own = [(used[numbers[form.text]], split[form.text]) for form in forms[text] if form.text in numbers]
        saved = sum(count * (size - 1) for count, size in own)
        found.append(
            Term(text, origin, own[-1][1] if own else 1, sum(count for count, _ in own), saved / max(1, tokens))
        )
    return tuple(sorted(found, key=lambda term: (-term.saved, term.text))), used.total()


# ---------------------------------------------------------------- for a person


def fitness_view(found: Fitness) -> list[Any]:
    """The report as lines and tables."""
    from configs.view import table

    fits = [
        {
            "text": f"{it.channel}, {it.language}",
            "documents": it.documents,
            "tokens": it.tokens,
            "characters per token": round(it.characters_per_token, 2),
            "bytes per token": round(it.bytes_per_token, 2),
            "pieces of a character %": round(100 * it.broken, 2),
            "unknown %": round(100 * it.unknown, 2),
        }
        for it in found.fits
    ]
    lines: list[Any] = [found.sample]
    lines += [table(f"{found.base}, {found.vocabulary:,} tokens", fits, wide=True)] if fits else []
    if not found.terms:
        return [*lines, "no terms were found"]
    told = [
        f"{len(own):,} terms of {whose}, {sum(own.values()) / len(own):.1f} pieces each"
        for whose, own in (("the sector", found.terms), ("general text", found.general_terms))
        if own
    ]
    lines.append("; ".join(told))
    if not found.suggested:
        return [*lines, "none of them is worth a token of its own"]
    terms = [
        {
            "term": it.text,
            "from": it.origin,
            "pieces": it.pieces,
            "times": it.count,
            "tokens saved %": round(100 * it.saved, 3),
        }
        for it in found.suggested
    ]
    lines.append(table("suggested for train.new_tokens", terms, wide=True))
    return [*lines, f"together they save {100 * found.saved:.2f} % of the sector's tokens"]
