"""The shards' tokens side by side, mixed and packed: the files of a corpus.

K kept documents, P pieces of them
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from configs.errors import DataError, SectorLMError
from configs.progress import track
from data_prep.language import LANGUAGES
from data_prep.ledger import Account, write_lines
from data_prep.library import column_of, table_at
from data_prep.mix import repeat, repeats_for
from data_prep.pack import pack
from data_prep.shards import page_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from configs.recipe import Recipe
    from data_prep.ledger import Ledger
    from data_prep.library import Library

LATE = "duplicate after cutting"
COPY = 1 << 22
"""Bytes that are copied at once."""


class Layout(NamedTuple):
    """The figures of a corpus, as its record names them."""

    documents: int
    tokens: int
    rows_train: int
    rows_validation: int
    tokens_train: int
    supervised_train: int
    padding_train: float


class Pieces(NamedTuple):
    """Runs of tokens that fit into a row."""

    table_P: np.ndarray
    """int64 [P, 4] = (source, start in tokens.bin, length, supervised)."""
    held_P: np.ndarray
    """bool [P]."""
    id_P: np.ndarray
    """Ids of the documents, as text."""
    place_P: np.ndarray
    """int64 [P], where in its document the piece begins."""

    def names(self, own: np.ndarray) -> Iterator[str]:
        """What the random numbers of some pieces are called: the same in every run."""
        return (f"{name}+{place}" for name, place in zip(self.id_P[own].astype(str), self.place_P[own], strict=True))


class _Part(NamedTuple):
    """The tokens of one shard."""

    folder: Path
    source: int
    documents: pa.Table
    keep_K: np.ndarray

    def column(self, name: str) -> np.ndarray:
        return column_of(self.documents, name)

    def pairs(self, *, kept: bool) -> np.ndarray:
        """int64 [A, 3] = (document, start in rejected.bin, length) of the documents that stay, or of the others."""
        own: np.ndarray = np.fromfile(self.folder / "pairs.bin", np.int64).reshape(-1, 3)
        return np.asarray(own[self.keep_K[own[:, 0]] == kept])


def merge(target: Path, folders: Sequence[Path], library: Library, recipe: Recipe, ledger: Ledger) -> Layout:
    """Write tokens.bin, supervised.bin, segments.npy, documents.parquet and dropped.jsonl from the shards of both passes.

    Raises:
        DataError: there is nothing to train on.
        SectorLMError: a text stands on both sides of the validation split, which is a fault of ours.
    """
    accounts = list(ledger.accounts.values())
    ledger.add(library.sources, map(page_of, folders))
    parts = _without_late_copies([_part(*found) for found in zip(folders, library.sources, strict=True)])
    for folder in (*library.folders, *folders):
        if (folder / "dropped.jsonl").is_file():
            _append(folder / "dropped.jsonl", target / "dropped.jsonl")
    for part in parts:
        _book_late_copies(part, accounts[part.source])
    write_lines(target / "dropped.jsonl", accounts)
    _refuse_overlap(parts)
    with track("tokens", sum(_tokens_of(part) for part in parts), "tokens") as bar:
        for part in parts:
            _copy_tokens(target, part, recipe)
            bar.advance(_tokens_of(part))
    _write_pairs(target, parts)
    _write_documents(target, parts, recipe)
    return _write_rows(target, _pieces(parts), recipe, ledger)


def _part(folder: Path, source: int) -> _Part:
    documents = table_at(folder, "documents")
    return _Part(folder, source, documents, np.ones(documents.num_rows, bool))


def _without_late_copies(parts: Sequence[_Part]) -> list[_Part]:
    """Texts that became equal when something was cut out of them: the first stays."""
    digests = np.concatenate([np.empty(0, "S32"), *(part.column("digest").astype("S32") for part in parts)])
    _, first = np.unique(digests, return_index=True)
    keep = np.zeros(len(digests), bool)
    keep[first] = True
    ends = np.cumsum([len(part.keep_K) for part in parts])[:-1]
    return [part._replace(keep_K=own) for part, own in zip(parts, np.split(keep, ends), strict=True)]


def _book_late_copies(part: _Part, account: Account) -> None:
    gone = np.flatnonzero(~part.keep_K)
    if not len(gone):
        return
    wheres, ids, sizes = part.column("where"), part.column("id"), part.column("characters")
    for number in gone.tolist():
        account.drop(LATE, str(wheres[number]), str(ids[number]), characters=int(sizes[number]))
    account.documents -= len(gone)
    account.rejected -= int(part.pairs(kept=False)[:, 2].sum())
    for name in ("characters", "tokens", "supervised"):
        setattr(account, name, getattr(account, name) - int(part.column(name)[gone].sum()))


def _refuse_overlap(parts: Sequence[_Part]) -> None:
    sides = []
    for wanted in (True, False):
        found = [part.column("digest")[part.keep_K & (part.column("held") == wanted)].astype("S32") for part in parts]
        sides.append(np.concatenate([np.empty(0, "S32"), *found]))
    if both := len(np.intersect1d(sides[0], sides[1])):
        raise SectorLMError(
            f"{both} texts stand in training and in validation",
            hint="This is a fault of SectorLM: please report it with the recipe.",
        )


def _tokens_of(part: _Part) -> int:
    return int(part.column("tokens")[part.keep_K].sum())


def _append(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("ab") as new:
        shutil.copyfileobj(old, new, COPY)


def _copy_tokens(target: Path, part: _Part, recipe: Recipe) -> None:
    for name in ("tokens.bin", "supervised.bin"):
        source = part.folder / name
        if part.keep_K.all():
            _append(source, target / name)
            continue
        total = int(part.column("tokens").sum())
        width = source.stat().st_size // max(total, 1)
        data = np.memmap(source, np.dtype(f"V{width}"), mode="r") if total else np.empty(0, "V1")
        with (target / name).open("ab") as file:
            places = zip(part.column("start")[part.keep_K], part.column("tokens")[part.keep_K], strict=True)
            for start, length in places:
                file.write(data[start : start + length].tobytes())


def _write_pairs(target: Path, parts: Sequence[_Part]) -> None:
    """rejected.bin and rejected.npy, where there are pairs."""
    found, position = [np.empty((0, 3), np.int64)], 0
    for part, start_K in _moved(parts):
        own = part.pairs(kept=True)
        if not len(own):
            continue
        width = (part.folder / "tokens.bin").stat().st_size // int(part.column("tokens").sum())
        data = np.memmap(part.folder / "rejected.bin", np.dtype(f"V{width}"), mode="r")
        with (target / "rejected.bin").open("ab") as file:
            for _, start, length in own.tolist():
                file.write(data[start : start + length].tobytes())
        ends = position + np.cumsum(own[:, 2])
        found.append(np.stack([start_K[own[:, 0]], ends - own[:, 2], own[:, 2]], axis=1))
        position = int(ends[-1])
    if position:
        np.save(target / "rejected.npy", np.concatenate(found))


def _moved(parts: Sequence[_Part]) -> Iterator[tuple[_Part, np.ndarray]]:
    """Each shard, and where its documents begin in tokens.bin: int64 [K]; those that went have no place there."""
    position = 0
    for part in parts:
        tokens = np.where(part.keep_K, part.column("tokens"), 0)
        yield part, position + np.cumsum(tokens) - tokens
        position += int(tokens.sum())


def _write_documents(target: Path, parts: Sequence[_Part], recipe: Recipe) -> None:
    """documents.parquet: one line per kept document, from which every token leads back to its source."""
    writer: Any = None
    for part, start_K in _moved(parts):
        columns = {name: part.column(name)[part.keep_K] for name in part.documents.column_names}
        table = pa.table(
            {
                "id": pa.array(columns["id"], pa.string()),
                "source": pa.array([recipe.corpora[part.source].name] * int(part.keep_K.sum()), pa.string()),
                "split": pa.array(np.where(columns["held"], "validation", "train"), pa.string()),
                "where": pa.array(columns["where"], pa.string()),
                "start": start_K[part.keep_K],
                **{name: columns[name] for name in ("tokens", "supervised", "characters")},
                "digest": pa.array(columns["digest"], pa.string()),
                "language": pa.array([LANGUAGES[code] for code in columns["language"].tolist()], pa.string()),
                "personal": columns["personal"],
            }
        )
        writer = writer or pq.ParquetWriter(target / "documents.parquet", table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()


def _pieces(parts: Sequence[_Part]) -> Pieces:
    tables, helds = [np.empty((0, 4), np.int64)], [np.empty(0, bool)]
    ids, places = [np.empty(0, "S16")], [np.empty(0, np.int64)]
    for part, start_K in _moved(parts):
        own = np.fromfile(part.folder / "pieces.bin", np.int64).reshape(-1, 4)
        own = own[part.keep_K[own[:, 0]]]
        number = own[:, 0]
        offset = own[:, 1] - part.column("start")[number]
        table = np.stack([np.full(len(own), part.source), start_K[number] + offset, own[:, 2], own[:, 3]], axis=1)
        tables.append(table)
        helds.append(part.column("held")[number])
        ids.append(part.column("id").astype("S16")[number])
        places.append(offset)
    return Pieces(*(np.concatenate(found) for found in (tables, helds, ids, places)))


def _write_rows(target: Path, pieces: Pieces, recipe: Recipe, ledger: Ledger) -> Layout:
    """Mix, pack and write segments.npy: training rows first, then validation rows, which hold one channel each."""
    row = recipe.prepare.sequence_length
    train, validation = _by_source(pieces, recipe, held=False), _by_source(pieces, recipe, held=True)
    repeats = repeats_for(recipe.corpora, {name: int(own[:, 2].sum()) for name, (own, _) in train.items()})
    mixed = {name: repeat(own, names, repeats[name], recipe.seed) for name, (own, names) in train.items()}
    channels: dict[str, list[np.ndarray]] = {}
    for source in recipe.corpora:
        account = ledger.accounts[source.name]
        account.repeats = repeats[source.name]
        account.tokens_train = int(mixed[source.name][:, 2].sum())
        account.tokens_validation = int(validation[source.name][0][:, 2].sum())
        channels.setdefault(source.channel, []).append(validation[source.name][0])
    everything = np.concatenate(list(mixed.values()))
    segments = [_placed(everything, row)]
    rows_train = int(segments[0][-1, 0]) + 1 if len(segments[0]) else 0
    rows = rows_train
    for parts in channels.values():
        table = _placed(np.concatenate(parts), row)
        table[:, 0] += rows
        rows = int(table[-1, 0]) + 1 if len(table) else rows
        segments.append(table)
    np.save(target / "segments.npy", np.concatenate(segments))
    tokens, supervised = int(everything[:, 2].sum()), int(everything[:, 3].sum())
    if not supervised:
        raise DataError(f"nothing is left to train on ({ledger.reasons() or 'all is held out'})", where=recipe.name)
    return Layout(
        documents=sum(account.documents for account in ledger.accounts.values()),
        tokens=sum(account.tokens for account in ledger.accounts.values()),
        rows_train=rows_train,
        rows_validation=rows - rows_train,
        tokens_train=tokens,
        supervised_train=supervised,
        padding_train=round(1 - tokens / (rows_train * row), 6),
    )


def _by_source(pieces: Pieces, recipe: Recipe, *, held: bool) -> dict[str, tuple[np.ndarray, Iterator[str]]]:
    found = {}
    for place, source in enumerate(recipe.corpora):
        own = np.flatnonzero((pieces.table_P[:, 0] == place) & (pieces.held_P == held))
        found[source.name] = (pieces.table_P[own], pieces.names(own))
    return found


def _placed(pieces: np.ndarray, row: int) -> np.ndarray:
    """Pieces packed by themselves: int64 [S, 4] = (row, start, length, source), rows from 0."""
    rows = pack(pieces[:, 2], row)
    order = np.lexsort((np.arange(len(rows)), -pieces[:, 2], rows))
    return np.stack([rows, pieces[:, 1], pieces[:, 2], pieces[:, 0]], axis=1)[order]
