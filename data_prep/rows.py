"""Kept documents to the files of a corpus: tokens.bin, supervised.bin, segments.npy, documents.parquet, dropped.jsonl."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from configs.errors import DataError
from configs.progress import track
from data_prep.mix import repeat, repeats_for
from data_prep.pack import Piece, cut, pack
from data_prep.split import key_of
from data_prep.tokens import Encoded, Encoder, fit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from configs.recipe import Recipe
    from data_prep.documents import Document
    from data_prep.ledger import Ledger


class Stored(NamedTuple):
    """A document in tokens.bin."""

    document: Document
    start: int
    tokens: int
    supervised: int


class Layout(NamedTuple):
    """The figures of a corpus, as its record names them."""

    documents: int
    tokens: int
    rows_train: int
    rows_validation: int
    tokens_train: int
    supervised_train: int
    padding_train: float


def write_tokens(
    folder: Path, documents: Sequence[Document], encoder: Encoder, recipe: Recipe, ledger: Ledger
) -> list[Stored]:
    """Write tokens.bin and supervised.bin; what cannot become tokens is booked in the ledger."""
    stored: list[Stored] = []
    position = 0
    with (
        (folder / "tokens.bin").open("wb") as tokens,
        (folder / "supervised.bin").open("wb") as supervised,
        track("tokens", sum(len(document.content) for document in documents), "characters") as bar,
    ):
        for encoded in _fitting(encoder.encode(documents), recipe, ledger):
            document, account = encoded.document, ledger.accounts[encoded.document.source]
            learnt = int(encoded.supervised_T.sum())
            tokens.write(encoded.tokens_T.tobytes())
            supervised.write(encoded.supervised_T.tobytes())
            stored.append(Stored(document, position, len(encoded.tokens_T), learnt))
            position += len(encoded.tokens_T)
            account.documents += 1
            account.characters += len(document.content)
            account.tokens += len(encoded.tokens_T)
            account.supervised += learnt
            account.truncated += encoded.truncated
            bar.advance(len(document.content))
    return stored


def _fitting(encoded: Iterator[Encoded], recipe: Recipe, ledger: Ledger) -> Iterator[Encoded]:
    for found in encoded:
        fitting = fit(found, recipe.prepare.sequence_length, recipe.prepare.overlong)
        if fitting.reason:
            document = fitting.document
            ledger.accounts[document.source].drop(fitting.reason, document.where, document.id)
        else:
            yield fitting


def write_rows(folder: Path, stored: Sequence[Stored], held: set[str], recipe: Recipe, ledger: Ledger) -> Layout:
    """Cut, mix, pack and write segments.npy: training rows first, then validation rows, which hold one channel each.

    Raises:
        DataError: there is nothing to train on.
    """
    row = recipe.prepare.sequence_length
    train: dict[str, list[Piece]] = {source.name: [] for source in recipe.corpora}
    validation: dict[str, list[Piece]] = {source.name: [] for source in recipe.corpora}
    for position, kept in enumerate(stored):
        side = validation if key_of(kept.document) in held else train
        side[kept.document.source] += cut(position, kept.start, kept.tokens, row)
    repeats = repeats_for(recipe.corpora, {name: _size(pieces) for name, pieces in train.items()})
    names = [kept.document.id for kept in stored]
    mixed = {name: repeat(pieces, names, repeats[name], recipe.seed) for name, pieces in train.items()}
    for name, account in ledger.accounts.items():
        account.repeats = repeats[name]
        account.tokens_train, account.tokens_validation = _size(mixed[name]), _size(validation[name])
    parts: dict[str, list[Piece]] = {}
    for source in recipe.corpora:
        parts.setdefault("", []).extend(mixed[source.name])
        parts.setdefault(source.channel, []).extend(validation[source.name])
    number = {source.name: position for position, source in enumerate(recipe.corpora)}
    sources = [number[kept.document.source] for kept in stored]
    tables = _placed([parts.pop(""), *parts.values()], sources, row)
    np.save(folder / "segments.npy", np.concatenate(tables))
    layout = _measured(folder, stored, tables, row)
    if not layout.supervised_train:
        raise DataError(f"nothing is left to train on ({ledger.reasons() or 'all is held out'})", where=recipe.name)
    return layout


def _placed(parts: Sequence[Sequence[Piece]], sources: Sequence[int], row: int) -> list[np.ndarray]:
    """Each part packed by itself into the next rows: int64 [S, 4] = (row, start, length, source)."""
    tables, rows = [], 0
    for pieces in parts:
        packed = pack([piece.length for piece in pieces], row)
        chosen = [(rows + place, pieces[position]) for place, members in enumerate(packed) for position in members]
        lines = [(place, piece.start, piece.length, sources[piece.document]) for place, piece in chosen]
        tables.append(np.array(lines, np.int64).reshape(-1, 4))
        rows += len(packed)
    return tables


def _measured(folder: Path, stored: Sequence[Stored], tables: Sequence[np.ndarray], row: int) -> Layout:
    train, *validation = tables
    rows_train = len(np.unique(train[:, 0]))
    learnt = np.cumsum(np.fromfile(folder / "supervised.bin", np.uint8), dtype=np.int64)
    start, length = train[:, 1], train[:, 2]
    tokens = int(length.sum())
    return Layout(
        documents=len(stored),
        tokens=sum(kept.tokens for kept in stored),
        rows_train=rows_train,
        rows_validation=sum(len(np.unique(table[:, 0])) for table in validation),
        tokens_train=tokens,
        supervised_train=int((learnt[start + length - 1] - learnt[start]).sum()),
        padding_train=round(1 - tokens / (rows_train * row), 6) if rows_train else 0.0,
    )


def _size(pieces: Sequence[Piece]) -> int:
    return sum(piece.length for piece in pieces)


def write_documents(folder: Path, stored: Sequence[Stored], held: set[str]) -> None:
    """Write documents.parquet: one line per kept document, from which every token leads back to its source."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    documents = [kept.document for kept in stored]
    table = pa.table(
        {
            "id": [document.id for document in documents],
            "source": [document.source for document in documents],
            "split": ["validation" if key_of(document) in held else "train" for document in documents],
            "where": [document.where for document in documents],
            "start": pa.array([kept.start for kept in stored], pa.int64()),
            "tokens": pa.array([kept.tokens for kept in stored], pa.int64()),
            "supervised": pa.array([kept.supervised for kept in stored], pa.int64()),
            "characters": pa.array([len(document.content) for document in documents], pa.int64()),
            "digest": [document.digest for document in documents],
        }
    )
    pq.write_table(table, folder / "documents.parquet", compression="zstd")


def write_dropped(folder: Path, ledger: Ledger) -> None:
    """Write dropped.jsonl: id, source, where and reason of every document that was left out."""
    lines = (line for account in ledger.accounts.values() for line in account.lines)
    with (folder / "dropped.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
