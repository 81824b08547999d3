"""What the first pass writes of a shard's documents: their texts, and the columns of numbers that later steps work on.

texts.arrow       id, where, group, text, turns, rejected: what becomes tokens, in batches that are compressed
columns.arrow     one line of numbers for each document
signatures.bin    uint32 [D, PERMUTATIONS]
passages.bin      uint64, the hashes of each document's paragraphs; the column `passages` has their number
leaks.bin         int32 [H, 4], runs shared with test items
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import xxhash

from configs.store import hashed
from data_prep.decontaminate import find_leaks
from data_prep.documents import Document
from data_prep.language import LANGUAGES, languages_of, word_counts
from data_prep.passages import passages_of
from data_prep.quality import statistics_of
from data_prep.sketch import signatures_of
from data_prep.units import digests_in, spelt, texts_of, units_in

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from data_prep.decontaminate import LeakIndex
    from data_prep.ledger import Account

PACKED = 1 << 17
"""Characters of texts that are compressed together: few enough that a single document is looked up quickly."""
PACKING = "lz4"
"""Half the time of zstd to write and a third to read, for files that are a third larger and only used until training."""
STORED = [Document._fields.index(name) for name in ("id", "where", "group", "text", "messages", "rejected")]
MESSAGES = Document._fields.index("messages")
TEXTS = pa.schema([(name, pa.large_string()) for name in ("id", "where", "group", "text", "turns", "rejected")])


class Entry(NamedTuple):
    """A document, and the key of what must stay on its side of the validation split; empty: the digest of its content."""

    document: Document
    key: str
    parent: str
    """Id of the document that it was made from; its own otherwise."""
    personal: int
    """Pieces of personal data that were found in it."""


class ColumnWriter:
    """The open files of a shard."""

    def __init__(self, folder: Path, index: LeakIndex | None) -> None:
        self.folder, self.index, self.documents = folder, index, 0

    def __enter__(self) -> Self:
        packed = pa.ipc.IpcWriteOptions(compression=PACKING, use_threads=False)  # threads cost more than so little work
        self.texts = pa.ipc.new_file(self.folder / "texts.arrow", TEXTS, options=packed)
        self.columns: Any = None
        self.flat = {name: (self.folder / f"{name}.bin").open("wb") for name in ("signatures", "passages", "leaks")}
        return self

    def __exit__(self, *_: object) -> None:
        self.texts.close()
        if self.columns is not None:
            self.columns.close()
        for file in self.flat.values():
            file.close()

    def write(self, entries: list[Entry], seed: int, account: Account) -> None:
        """One batch of documents."""
        documents = [entry.document for entry in entries]
        contents = [document.content for document in documents]
        texts = texts_of(contents)
        plain = spelt(texts)
        units, digests = units_in(plain), digests_in(plain)
        whole = _with_rejected(documents, digests)
        words_DS = word_counts(units)
        languages = languages_of(texts, units, words_DS)
        account.languages.update(LANGUAGES[code] for code in languages.tolist())
        prose = texts if all(not it.messages for it in documents) else texts_of([it.text for it in documents])
        passages = passages_of(prose)
        columns = {
            "id": _numbers([document.id for document in documents])[:, 0],
            "parent": _numbers([entry.parent for entry in entries])[:, 0],
            "digest": _numbers(whole)[:, 0],
            "digest2": _numbers(whole)[:, 1],
            **_split_columns(entries, digests, seed),
            "characters": np.diff(texts.starts),
            "is_text": np.array([not document.messages for document in documents]),
            "language": languages,
            "personal": np.array([entry.personal for entry in entries], np.int32),
            "passages": passages.counts,
            **statistics_of(texts, units, words_DS),
        }
        batch = pa.record_batch({name: pa.array(values) for name, values in columns.items()})
        if self.columns is None:
            self.columns = pa.ipc.new_file(self.folder / "columns.arrow", batch.schema)
        self.columns.write_batch(batch)
        for some in _packs(documents):
            self.texts.write_batch(_texts_batch(some))
        self.flat["signatures"].write(signatures_of(units).tobytes())
        self.flat["passages"].write(passages.hashes_P.tobytes())
        if self.index is not None:
            hits = find_leaks(units, self.index)
            hits[:, 0] += self.documents
            self.flat["leaks"].write(hits.tobytes())
        self.documents += len(documents)


def _with_rejected(documents: list[Document], digests: list[str]) -> list[str]:
    """Digests by which documents count as the same: two answers that one was preferred to make two pairs, and a pair is more
    than the answer that it grew from. They all stay on one side of the split, which goes by the content alone."""
    if not any(document.rejected for document in documents):
        return digests
    pairs = digests_in(spelt(texts_of([f"{document.content}\n{document.rejected}" for document in documents])))
    found = zip(documents, digests, pairs, strict=True)
    return [pair if document.rejected else digest for document, digest, pair in found]


def _numbers(digests: list[str]) -> np.ndarray:
    """Hexadecimal digests as uint64 [D, words]."""
    words = np.frombuffer(bytes.fromhex("".join(digests)), ">u8").astype(np.uint64)
    return words.reshape(len(digests), -1)


def _split_columns(entries: list[Entry], digests: list[str], seed: int) -> dict[str, np.ndarray]:
    """The key that stays on one side of the split, and its random place."""
    keys = [entry.key or digest for entry, digest in zip(entries, digests, strict=True)]
    return {
        "key": np.array([xxhash.xxh3_64_intdigest(key.encode()) for key in keys], np.uint64),
        "place": np.array([hashed(seed, "validation", key) for key in keys], np.uint64),
    }


def _packs(documents: list[Document]) -> Iterator[list[Document]]:
    begin = size = 0
    for end, document in enumerate(documents, 1):
        size += len(document.content)
        if size >= PACKED or end == len(documents):
            yield documents[begin:end]
            begin, size = end, 0


def _texts_batch(documents: list[Document]) -> pa.RecordBatch:
    columns = list(zip(*documents, strict=True))
    if any(messages := columns[MESSAGES]):
        columns[MESSAGES] = tuple(json.dumps(it, ensure_ascii=False) if it else "" for it in messages)
    else:
        columns[MESSAGES] = ("",) * len(documents)
    return pa.record_batch([pa.array(columns[place], pa.large_string()) for place in STORED], schema=TEXTS)
