"""The first pass, shard by shard: rows to documents, mended, judged and sketched; everything later works on columns.

What a document is compared by (digest, units, signature, passages, leaks) and judged by (statistics, language) is
computed here once. Thresholds are applied later (settle.py), so that they can change without reading again.

    texts.arrow       id, where, group, text, turns, rejected: what becomes tokens, in batches that are compressed
    columns.arrow     one line of numbers for each document
    signatures.bin    uint32 [D, PERMUTATIONS]
    passages.bin      uint64, the hashes of each document's paragraphs; the column `passages` has their number
    leaks.bin         int32 [H, 4], runs shared with test items
    dropped.jsonl     rows that became no document
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import pyarrow as pa
import xxhash

from configs.hub import hub_rows
from configs.read import read_rows
from configs.store import crash_point, hashed
from data_prep.clean import repair
from data_prep.compose import compose
from data_prep.decontaminate import LeakIndex, find_leaks
from data_prep.documents import Document, documents_of, first_row_kinds, is_selected
from data_prep.exclude import exclusion
from data_prep.language import LANGUAGES, languages_of
from data_prep.ledger import EXCLUDED, Account, write_lines
from data_prep.passages import passages_of
from data_prep.privacy import find, mask
from data_prep.quality import repairs_off, statistics_of, unusable
from data_prep.shards import HUB, Shard, filled, is_complete, sign
from data_prep.sketch import signatures_of
from data_prep.units import digests_of, texts_of, units_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from configs.read import Row
    from configs.recipe import Prepare, Source

BATCH = 1 << 19
"""Characters that are worked on at once: their arrays fit into the processor's cache, and Python's share is small."""
PACKED = 1 << 15
"""Characters of texts that are compressed together: few enough that a single document is looked up quickly."""
LATER = (
    "licence",
    "channel",
    "share",
    "max_repeats",
    "max_documents",
    "origin",
    "language",
    "grade",
    "time",
    "purpose",
)
"""Keys of a source that this pass does not depend on; `consent`, `generated` and thresholds are the others."""
TEXTS = pa.schema([(name, pa.large_string()) for name in ("id", "where", "group", "text", "turns", "rejected")])


class Entry(NamedTuple):
    """A document, and what must stay on one side of the validation split with it: a group, or its content if empty."""

    document: Document
    key: str
    parent: str
    """Id of the document that it was made from; its own otherwise."""
    personal: int
    """Pieces of personal data that were found in it."""


class ReadWork(NamedTuple):
    """Everything that the first pass of one shard depends on."""

    shard: Shard
    source: Source
    prepare: Prepare
    seed: int
    kinds: Mapping[str, bool]
    """Column to whether it holds a list or an object, as the source's first row has it."""
    leaks: Path | None
    """Where the index of the tasks' items is."""
    target: Path
    key: str

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return self.shard.size

    @property
    def name(self) -> str:
        """Shard and source."""
        return f"shard {self.shard.number} ({self.source.name}: {', '.join(self.shard.labels) or self.shard.path})"

    def is_done(self) -> bool:
        """Whether it was completed from the same."""
        return is_complete(self.target, self.key)

    def do(self) -> None:
        """Read the shard and write its folder.

        Raises:
            DataError: a file is damaged or not as declared.
            UnsafeArtefactError: an archive or a file that is not safe to open.
            StorageError: the disk is full.
        """
        account = Account(self.source.name)
        index = LeakIndex.load(self.leaks) if self.leaks else None
        with filled(self.target) as folder:
            with _Writer(folder, index) as writer:
                for entries in _batches(self._entries(account)):
                    writer.write(entries, self.source, self.seed, account)
                    write_lines(folder / "dropped.jsonl", [account])
            write_lines(folder / "dropped.jsonl", [account])
            crash_point("prepare.source")
            sign(folder, self.key, account.counts())

    def _entries(self, account: Account) -> Iterator[Entry]:
        """The documents of the shard, mended and without personal data, each followed by what is composed of it."""
        off = repairs_off(self.prepare, self.source)
        excluded = exclusion([pattern for pattern in self.prepare.exclude if pattern.startswith("text:")])
        last: list[Row] = []
        for read in documents_of(self.source, _last_kept(self.rows(account), last), account, self.kinds):
            document = _mended(read, off, account)
            if reason := unusable(document):
                account.drop(reason, document.where, document.id)
            elif excluded(document.id, document.content):
                account.drop(EXCLUDED, document.where, document.id)
            elif (entry := _private(document, self.source.personal, account)) is not None:
                made = compose(
                    entry.document, last[0].fields, self.source, self.seed, account.composed, account.exercises
                )
                yield Entry(made[0], made[0].group, entry.document.id, entry.personal)
                for other in made[1:]:
                    if (safe := _private(other, self.source.personal, account)) is not None:
                        yield safe._replace(key=made[0].group, parent=entry.document.id)

    def rows(self, account: Account) -> Iterator[Row]:
        """The rows of the shard; what cannot be used is counted in the account."""
        if self.shard.path.startswith(HUB):
            return hub_rows(self.shard.path.removeprefix(HUB), account.reading)
        return read_rows(
            self.shard.spans,
            self.shard.path.partition("!")[2],
            format=self.source.format,
            encoding=self.source.encoding,
            columns=self.source.columns,
            records=self.source.records,
            max_record_bytes=self.prepare.max_record_bytes,
            reading=account.reading,
            labels={span.path: label for span, label in zip(self.shard.spans, self.shard.labels, strict=True)},
        )


def read_settings(source: Source, prepare: Prepare, seed: int) -> dict[str, Any]:
    """What the first pass of a source depends on, besides its files and the leak index."""
    kept = source.model_dump(mode="json", exclude={*LATER, "consent", "generated", "rules", "path"})
    off = sorted(repairs_off(prepare, source))
    patterns = [pattern for pattern in prepare.exclude if pattern.startswith("text:")]
    return {"source": kept, "off": off, "exclude": patterns, "max_record_bytes": prepare.max_record_bytes, "seed": seed}


def first_kinds(source: Source, shards: Sequence[Shard], prepare: Prepare) -> dict[str, bool]:
    """What kind of value each column holds, from the first row of a source: no shard decides for itself.

    Raises:
        DataError: there is no such column, or the first row cannot be read.
    """
    if shards[0].path.startswith(HUB):
        return {}
    for shard in shards:
        work = ReadWork(shard, source, prepare, 0, {}, None, Path(), "")
        for row in work.rows(Account(source.name)):
            if is_selected(source, row):
                return first_row_kinds(source, row)
    return {}


def _last_kept(rows: Iterable[Row], last: list[Row]) -> Iterator[Row]:
    """The rows, the newest of them kept in `last`: exercises are made from its fields."""
    for row in rows:
        last[:] = [row]
        yield row


def _mended(document: Document, off: frozenset[str], account: Account) -> Document:
    text, names = repair(document.text, off)
    repairs = set(names)
    messages = []
    for message in document.messages:
        content, names = repair(message.content, off)
        messages.append(message._replace(content=content))
        repairs.update(names)
    rejected, names = repair(document.rejected, off)
    repairs.update(names)
    if not repairs:
        return document
    account.mended.update(repairs)
    return replace(document, text=text, messages=tuple(messages), rejected=rejected)


def _private(document: Document, policy: str, account: Account) -> Entry | None:
    """The document as the source's policy on personal data wants it; None if it is left out."""
    if policy == "off":
        return Entry(document, "", document.id, 0)
    parts = [document.text, document.rejected, *(message.content for message in document.messages)]
    found = [find(part) for part in parts]
    count = sum(map(len, found))
    account.personal.update(it.kind for part in found for it in part)
    if policy == "report" or not count:
        return Entry(document, "", document.id, count)
    if policy == "drop":
        account.drop("personal data", document.where, document.id)
        return None
    account.mended["personal data masked"] += 1
    text, rejected, *contents = [mask(part, its) if its else part for part, its in zip(parts, found, strict=True)]
    messages = tuple(it._replace(content=content) for it, content in zip(document.messages, contents, strict=True))
    return Entry(replace(document, text=text, rejected=rejected, messages=messages), "", document.id, count)


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    size = 0
    for entry in entries:
        batch.append(entry)
        size += len(entry.document.content)
        if size >= BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class _Writer:
    """The open files of a shard."""

    def __init__(self, folder: Path, index: LeakIndex | None) -> None:
        self.folder, self.index, self.documents = folder, index, 0

    def __enter__(self) -> Self:
        packed = pa.ipc.IpcWriteOptions(compression="zstd")
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

    def write(self, entries: list[Entry], source: Source, seed: int, account: Account) -> None:
        """One batch of documents."""
        documents = [entry.document for entry in entries]
        contents = [document.content for document in documents]
        texts = texts_of(contents)
        units = units_of(texts)
        digests = digests_of(texts)
        languages = languages_of(texts, units)
        account.languages.update(LANGUAGES[code] for code in languages.tolist())
        prose = texts if all(not it.messages for it in documents) else texts_of([it.text for it in documents])
        passages = passages_of(prose)
        columns = {
            "id": np.array([int(document.id, 16) for document in documents], np.uint64),
            "parent": np.array([int(entry.parent, 16) for entry in entries], np.uint64),
            "digest": np.array([int(digest[:16], 16) for digest in digests], np.uint64),
            "digest2": np.array([int(digest[16:], 16) for digest in digests], np.uint64),
            **_split_columns(entries, digests, source, seed),
            "characters": np.array([len(content) for content in contents], np.int64),
            "is_text": np.array([not document.messages for document in documents]),
            "language": languages.astype(np.int8),
            "personal": np.array([entry.personal for entry in entries], np.int32),
            "passages": passages.counts,
            **statistics_of(texts, units),
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


def _split_columns(entries: list[Entry], digests: list[str], source: Source, seed: int) -> dict[str, np.ndarray]:
    """The key that stays on one side of the split, its random place, and the document's for `max_documents`."""
    keys = [f"group {entry.key}" if entry.key else digest for entry, digest in zip(entries, digests, strict=True)]
    numbers = [entry.document.id for entry in entries]
    return {
        "key": np.array([xxhash.xxh3_64_intdigest(key.encode()) for key in keys], np.uint64),
        "place": np.array([hashed(seed, "validation", key) for key in keys], np.uint64),
        "draw": np.array([hashed(seed, f"limit {source.name}", number) for number in numbers], np.uint64),
    }


def _packs(documents: list[Document]) -> Iterator[list[Document]]:
    begin = size = 0
    for end, document in enumerate(documents, 1):
        size += len(document.content)
        if size >= PACKED or end == len(documents):
            yield documents[begin:end]
            begin, size = end, 0


def _texts_batch(documents: list[Document]) -> pa.RecordBatch:
    turns = [json.dumps(it.messages, ensure_ascii=False) if it.messages else "" for it in documents]
    values = [
        [document.id for document in documents],
        [document.where for document in documents],
        [document.group for document in documents],
        [document.text for document in documents],
        turns,
        [document.rejected for document in documents],
    ]
    return pa.record_batch([pa.array(value, pa.large_string()) for value in values], schema=TEXTS)
