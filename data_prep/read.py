"""The first pass, shard by shard: rows to documents, mended, judged and sketched; everything later works on columns.

What a document is compared by (digest, units, signature, passages, leaks) and judged by (statistics, language) is
computed here once. Thresholds are applied later (settle.py), so that they can change without reading again. Beside the
files of columns.py a shard has

    dropped.jsonl     rows that became no document, and documents that cannot be used
    unusable.jsonl    the texts of the latter
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.hub import HUB, hub_rows
from configs.read import read_rows
from configs.store import crash_point, staged
from data_prep.clean import repair
from data_prep.columns import ColumnWriter, Entry
from data_prep.compose import compose
from data_prep.decontaminate import LeakIndex
from data_prep.documents import Document, documents_of, first_row_kinds, is_selected
from data_prep.exclude import TEXT, exclusion
from data_prep.guard import likely, needs_of
from data_prep.ledger import EXCLUDED, Account, line_with_text, write_lines
from data_prep.privacy import Found, find, mask
from data_prep.quality import repairs_off, unusable
from data_prep.shards import Shard, is_complete, sign
from data_prep.units import digests_of, texts_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import TextIO

    from configs.read import Row
    from configs.recipe import Prepare, Source

BATCH = 1 << 19
"""Characters that are worked on at once: their arrays fit into the processor's cache, and Python's share is small."""
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
    "consent",
    "generated",
    "rules",
    "path",
)
"""Keys of a source that this pass does not depend on; shards have its files, and `off` the repairs among its rules."""


class Care(NamedTuple):
    """What a source's texts are treated with."""

    off: frozenset[str]
    """Repairs that are not made."""
    personal: str
    """What happens to personal data."""
    protected: re.Pattern[str] | None = None
    """Terms that neither may touch."""


def care_of(prepare: Prepare, source: Source) -> Care:
    """How a recipe treats the texts of a source.

    Raises:
        RecipeError: a repair was given a number.
    """
    terms = "|".join(f"(?:{pattern})" for pattern in prepare.protect)
    return Care(repairs_off(prepare, source), source.personal, re.compile(terms) if terms else None)


class _Read(NamedTuple):
    """A document that waits for the others of its batch."""

    document: Document
    fields: Mapping[str, Any]
    """Of its row, where exercises are made from them."""
    noted: int
    """How many lines of dropped.jsonl come before it."""


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
        with staged(self.target) as folder:
            account.sink = folder / "dropped.jsonl"
            with (
                ColumnWriter(folder, index) as writer,
                (folder / "unusable.jsonl").open("w", encoding="utf-8") as aside,
            ):
                for batch in self._batches(account):
                    if entries := list(self._entries(batch, account, aside)):
                        writer.write(entries, self.seed, account)
            write_lines(account.sink, [account])
            crash_point("prepare.source")
            sign(folder, self.key, account.counts())

    def _batches(self, account: Account) -> Iterator[list[_Read]]:
        """The documents of the shard as they are read, in batches of about BATCH characters."""
        last: list[Row] = []
        rows = _last_kept(self.rows(account), last) if self.source.compose else self.rows(account)
        batch: list[_Read] = []
        size = 0
        for document in documents_of(self.source, rows, account, self.kinds):
            batch.append(_Read(document, last[0].fields if last else {}, account.noted))
            size += len(document.content)
            if size >= BATCH:
                yield batch
                batch, size = [], 0
        yield batch

    def _entries(self, batch: list[_Read], account: Account, aside: TextIO) -> Iterator[Entry]:
        """The documents that can be used and that nobody asked to remove; `aside` takes the unusable ones."""
        care, source = care_of(self.prepare, self.source), self.source
        patterns = [pattern for pattern in self.prepare.exclude if pattern.startswith(TEXT)]
        excluded = exclusion(patterns) if patterns else _nothing_excluded
        needs = needs_of(texts_of([_all_text(read.document) for read in batch]))
        flags = zip(needs.repairs_D.tolist(), needs.mask_D.tolist(), needs.lone_D.tolist(), strict=True)
        with account.read_ahead() as noted:
            for (read, fields, before), (repairs, masks, lone) in zip(batch, flags, strict=True):
                noted(before)
                document = mended(read, care, account, likely(repairs)) if repairs else read
                if (lone or document.messages) and (reason := unusable(document)):
                    self._put_aside(document, reason, account, aside)
                    continue
                unwanted = excluded(document.id, _all_text(document))
                holds = masks or document is not read or source.compose
                its = care if holds and not unwanted else care._replace(personal="off")
                for entry in family(document, fields, source, its, self.seed, account):
                    if unwanted or (patterns and excluded(entry.document.id, _all_text(entry.document))):
                        size = len(entry.document.content)
                        account.drop(EXCLUDED, entry.document.where, entry.document.id, characters=size)
                    else:
                        yield entry

    def _put_aside(self, document: Document, reason: str, account: Account, aside: TextIO) -> None:
        account.drop(reason, document.where, document.id, characters=len(document.content))
        if (safe := _private(document, care_of(self.prepare, self.source), Account(self.source.name))) is not None:
            aside.write(line_with_text(safe.document, reason))

    def rows(self, account: Account) -> Iterator[Row]:
        """The rows of the shard; what cannot be used is counted in the account."""
        if self.shard.path.startswith(HUB):
            return islice(hub_rows(self.shard.path.removeprefix(HUB), account.reading), self.source.max_rows)
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


def family(
    document: Document, fields: Mapping[str, Any], source: Source, care: Care, seed: int, account: Account
) -> Iterator[Entry]:
    """A document without personal data, and what is composed of it; nothing where `care` leaves it out."""
    entry = _private(document, care, account)
    if entry is None:
        return
    key = f"group {document.group}" if document.group else ""
    if not source.compose:
        yield entry._replace(key=key) if key else entry
        return
    made = compose(entry.document, fields, source, seed, account.composed, account.exercises)
    if made[0] is not entry.document and not key:  # the key that the same text has elsewhere, without exercises
        key = digests_of(texts_of([entry.document.content]))[0]
    yield Entry(made[0], key, document.id, entry.personal)
    for other in made[1:]:
        if (safe := _private(other, care, account)) is not None:
            yield safe._replace(key=key, parent=document.id)


def read_settings(source: Source, prepare: Prepare, seed: int) -> dict[str, Any]:
    """What the first pass of a source depends on, besides its files and the leak index."""
    kept = source.model_dump(mode="json", exclude=set(LATER))
    off = sorted(repairs_off(prepare, source))
    patterns = [pattern for pattern in prepare.exclude if pattern.startswith(TEXT)]
    kept |= {"protect": list(prepare.protect)} if prepare.protect else {}
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


def _nothing_excluded(_identity: str, _content: str) -> bool:
    return False


def _all_text(document: Document) -> str:
    """What a removal request looks at."""
    return f"{document.content}\n{document.rejected}" if document.rejected else document.content


def _last_kept(rows: Iterable[Row], last: list[Row]) -> Iterator[Row]:
    """The rows, the newest of them kept in `last`: exercises are made from its fields."""
    for row in rows:
        last[:] = [row]
        yield row


def mended(document: Document, care: Care, account: Account, likely: Sequence[str] | None = None) -> Document:
    """The document after all repairs that are not off; which ones changed it is counted. `likely` as for `repair`."""
    off, protected = care.off, care.protected
    text, names = repair(document.text, off, likely, protected)
    repairs = set(names)
    messages = []
    for message in document.messages:
        content, names = repair(message.content, off, likely, protected)
        messages.append(message._replace(content=content))
        repairs.update(names)
    rejected, names = repair(document.rejected, off, likely, protected)
    repairs.update(names)
    if not repairs:
        return document
    account.mended.update(repairs)
    return document._replace(text=text, messages=tuple(messages), rejected=rejected)


def _private(document: Document, care: Care, account: Account) -> Entry | None:
    """The document as the source's policy on personal data wants it; None if it is left out."""
    policy = care.personal
    if policy == "off":
        return Entry(document, "", document.id, 0)
    parts = [document.text, document.rejected, *(message.content for message in document.messages)]
    found = [_unprotected(part, find(part), care.protected) for part in parts]
    count = sum(map(len, found))
    account.personal.update(it.kind for part in found for it in part)
    if policy == "report" or not count:
        return Entry(document, "", document.id, count)
    if policy == "drop":
        account.drop("personal data", document.where, document.id, characters=len(document.content))
        return None
    account.mended["personal data masked"] += 1
    text, rejected, *contents = [mask(part, its) if its else part for part, its in zip(parts, found, strict=True)]
    messages = tuple(it._replace(content=content) for it, content in zip(document.messages, contents, strict=True))
    return Entry(document._replace(text=text, rejected=rejected, messages=messages), "", document.id, count)


def _unprotected(text: str, found: list[Found], protected: re.Pattern[str] | None) -> list[Found]:
    """The findings that share no character with a protected term."""
    if protected is None or not found:
        return found
    spans = [term.span() for term in protected.finditer(text)]
    return [it for it in found if not any(start < it.end and it.start < end for start, end in spans)]
