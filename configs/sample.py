"""Packed rows as the model sees them: which tokens are supervised, and where one document ends and the next begins."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from configs.base import base_folder, load_tokenizer, tokenizer_digest
from configs.errors import DataError, RecipeError
from configs.job import roots_of
from configs.load import load_recipe
from configs.records import Corpus
from configs.store import verify_files

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.text import Text


class Piece(NamedTuple):
    """A stretch of a packed row: tokens of one document that are all supervised, or all not."""

    source: str
    start: int
    """Position of its segment's first token in tokens.bin."""
    text: str
    supervised: bool
    tokens: int


def row_numbers(text: str) -> list[int]:
    """The numbers in `3,17`.

    Raises:
        RecipeError: there is something else in it.
    """
    try:
        return [int(row) for row in text.split(",") if row.strip()]
    except ValueError as error:
        raise RecipeError(
            f"expected numbers and commas, got {text!r}", where="--rows", hint="For example: 3,17"
        ) from error


def packed_rows(target: Path, count: int, rows: Sequence[int] = ()) -> dict[int, list[Piece]]:
    """The given rows of a corpus, or `count` training rows evenly spread over it, as pieces of text.

    Raises:
        RecipeError: there is no such row.
        DataError: no corpus at `target`, its files were changed, or its tokenizer is not the one of the recipe's base.
    """
    import numpy as np

    folder = next(
        (place for place in (target, target / "corpus", target.parent) if (place / "corpus.json").is_file()), target
    )
    corpus = Corpus.read(folder / "corpus.json")
    verify_files(folder, corpus.files)
    recipe_path = folder.parent / "recipe.yaml"
    recipe = load_recipe(recipe_path)
    base = base_folder(recipe.base, roots_of(recipe, recipe_path), weights=False)
    if tokenizer_digest(base) != corpus.tokenizer:
        raise DataError("the base's tokenizer is not the one that made this corpus", where=str(base))
    tokenizer = load_tokenizer(base)
    tokens = np.memmap(folder / "tokens.bin", dtype=corpus.token_dtype, mode="r")
    supervised = np.memmap(folder / "supervised.bin", dtype=np.uint8, mode="r")
    segments = np.load(folder / "segments.npy", mmap_mode="r")
    shown = min(count, corpus.rows_train)
    there = corpus.rows_train + corpus.rows_validation
    if beyond := [row for row in rows if not 0 <= row < there]:
        raise RecipeError(f"no row {beyond[0]}: the corpus has rows 0 to {there - 1}", where="--rows")
    found: dict[int, list[Piece]] = {}
    for row in rows or [place * corpus.rows_train // shown for place in range(shown)]:
        found[row] = []
        for _, start, length, source in segments[segments[:, 0] == row].tolist():
            flags = supervised[start : start + length]
            edges = [0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), length]
            for left, right in pairwise(edges):
                text = str(tokenizer.decode(tokens[start + left : start + right].tolist()))
                found[row].append(Piece(corpus.sources[source].name, start, text, bool(flags[left]), right - left))
    return found


def row_view(row: int, pieces: Sequence[Piece], *, colour: bool) -> Text:
    """A packed row, a line before each document: supervised text green, or between guillemets without colour."""
    from rich.text import Text

    shown = Text(
        f"row {row}: {sum(piece.tokens for piece in pieces)} tokens", style="bold", no_wrap=True, overflow="ignore"
    )
    before = -1
    for piece in pieces:
        if piece.start != before:
            shown.append(f"\n-- {piece.source}, token {piece.start:,}\n", style="cyan")
            before = piece.start
        marked = piece.text if colour or not piece.supervised else f"«{piece.text}»"
        shown.append(marked, style="green" if piece.supervised else "dim")
    return shown
