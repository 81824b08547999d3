"""Packed rows as the model sees them: which tokens are supervised, and where one document ends and the next begins."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from configs.base import load_tokenizer, tokenizer_digest
from configs.errors import DataError, RecipeError
from configs.job import Job, roots_of
from configs.load import load_recipe
from configs.records import Corpus
from configs.store import RunFolder, verify_files
from configs.vocabulary import base_there

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from rich.text import Text
    from transformers import PreTrainedTokenizerBase


class Piece(NamedTuple):
    """A stretch of a packed row: tokens of one document that are all supervised, or all not."""

    source: str
    where: str
    """File and line of the document."""
    start: int
    """Position of its segment's first token in tokens.bin."""
    text: str
    supervised: bool
    tokens: int


@dataclass(frozen=True)
class OpenCorpus:
    """A corpus whose files are as its record vouches, with the tokenizer that made it."""

    folder: Path
    record: Corpus
    tokens: np.ndarray
    segments: np.ndarray
    """int64 [S, 4] = (row, start, length, source)."""
    tokenizer: PreTrainedTokenizerBase

    def text(self, start: int, length: int) -> str:
        """Tokens of tokens.bin as text, control tokens included."""
        return self.texts([(start, length)])[0]

    def texts(self, stretches: Sequence[tuple[int, int]]) -> list[str]:
        """The same for several stretches (start, length)."""
        ids = [self.tokens[start : start + length].tolist() for start, length in stretches]
        return [str(self.tokenizer.decode(it, clean_up_tokenization_spaces=False)) for it in ids]


def corpus_folder(target: Path) -> Path:
    """The folder of a corpus: `target` itself, the one in the run folder `target`, or that of the file `target`."""
    places = (target, target / "corpus", target.parent)
    return next((place for place in places if (place / "corpus.json").is_file()), target)


def open_corpus(target: Path) -> OpenCorpus:
    """The corpus at `target`, verified.

    Raises:
        DataError: there is none, its files were changed, or its tokenizer is not the one of the recipe's base.
    """
    import numpy as np

    folder = corpus_folder(target)
    record = Corpus.read(folder / "corpus.json")
    verify_files(folder, record.files)
    recipe_path = folder.parent / "recipe.yaml"
    recipe = load_recipe(recipe_path)
    base = base_there(Job(recipe, roots_of(recipe, recipe_path), RunFolder(folder.parent)))
    if tokenizer_digest(base) != record.tokenizer:
        raise DataError("the base's tokenizer is not the one that made this corpus", where=str(base))
    return OpenCorpus(
        folder,
        record,
        np.memmap(folder / "tokens.bin", dtype=record.token_dtype, mode="r"),
        np.load(folder / "segments.npy", mmap_mode="r"),
        load_tokenizer(base),
    )


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

    corpus = open_corpus(target)
    record, segments = corpus.record, corpus.segments
    supervised = np.memmap(corpus.folder / "supervised.bin", dtype=np.uint8, mode="r")
    shown = min(count, record.rows_train)
    there = record.rows_train + record.rows_validation
    if beyond := [row for row in rows if not 0 <= row < there]:
        raise RecipeError(f"no row {beyond[0]}: the corpus has rows 0 to {there - 1}", where="--rows")
    asked = rows or [place * record.rows_train // shown for place in range(shown)]
    places = _places(corpus, segments[np.isin(segments[:, 0], asked), 1])
    found: dict[int, list[Piece]] = {}
    for row in asked:
        found[row] = []
        for _, start, length, source in segments[segments[:, 0] == row].tolist():
            flags = supervised[start : start + length]
            edges = [0, *(np.flatnonzero(np.diff(flags)) + 1).tolist(), length]
            for left, right in pairwise(edges):
                text = corpus.text(start + left, right - left)
                piece = Piece(record.sources[source].name, places[start], start, text, bool(flags[left]), right - left)
                found[row].append(piece)
    return found


def _places(corpus: OpenCorpus, starts: np.ndarray) -> dict[int, str]:
    """File and line of the documents that hold these places of tokens.bin."""
    import numpy as np
    import pyarrow.parquet as pq

    wanted = np.unique(starts)
    found: dict[int, str] = {}
    for batch in pq.ParquetFile(corpus.folder / "documents.parquet").iter_batches(columns=["start", "tokens", "where"]):
        begin, length = (batch[name].to_numpy() for name in ("start", "tokens"))
        first, last = np.searchsorted(wanted, begin), np.searchsorted(wanted, begin + length)
        for number in np.flatnonzero(first < last).tolist():
            where = batch["where"][number].as_py()
            found |= dict.fromkeys(wanted[first[number] : last[number]].tolist(), where)
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
            shown.append(f"\n-- {piece.source}, {piece.where}, token {piece.start:,}\n", style="cyan")
            before = piece.start
        marked = piece.text if colour or not piece.supervised else f"«{piece.text}»"
        shown.append(marked, style="green" if piece.supervised else "dim")
    return shown
