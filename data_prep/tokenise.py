"""The second pass, shard by shard: what was settled is carried out, and the documents that stay become tokens.

tokens.bin, supervised.bin    the documents side by side
documents.arrow               one line for each, with its place in tokens.bin
pieces.npy                    int64 [P, 4] = (document, start, length, supervised): runs that fit into a row
dropped.jsonl                 documents that were left out here or by the verdict
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from configs.store import digest_bytes
from data_prep.documents import Document
from data_prep.gigatokens import sampled
from data_prep.leaks import without
from data_prep.ledger import Account, write_lines
from data_prep.library import Library, text_batches, turns_of
from data_prep.pack import cut
from data_prep.passages import cut_passages
from data_prep.quality import statistics_of
from data_prep.shards import Shard, filled, is_complete, sign
from data_prep.tokens import Encoded, Encoder, fit
from data_prep.units import digests_of, texts_of, units_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from configs.recipe import Prepare, Source

ONLY_BOILERPLATE = "only boilerplate"
DOCUMENTS = pa.schema(
    [
        ("id", pa.large_string()),
        ("where", pa.large_string()),
        ("held", pa.bool_()),
        ("start", pa.int64()),
        ("tokens", pa.int64()),
        ("supervised", pa.int64()),
        ("characters", pa.int64()),
        ("digest", pa.large_string()),
        ("language", pa.int8()),
        ("personal", pa.int32()),
    ]
)


class Verdicts(NamedTuple):
    """What was settled for the documents of one shard."""

    reasons: list[str]
    reason_D: np.ndarray
    held_D: np.ndarray
    passages_P: np.ndarray
    """uint64 [P, 2] = (document, hash of a passage): what is cut out as boilerplate."""
    spans_S: np.ndarray
    """int32 [S, 3] = (document, first unit, units): what is cut out as leaks; empty where such documents go as a whole."""
    leak_D: np.ndarray
    """int16 [D], place of the reason to give where a cut of leaks leaves too little; 0 where nothing leaks."""

    def digest(self) -> str:
        """What this says, as a digest."""
        arrays = (self.reason_D, self.held_D, self.passages_P, self.spans_S, self.leak_D)
        return digest_bytes(b"\x1e".join([repr(self.reasons).encode(), *(array.tobytes() for array in arrays)]))


class TokenWork(NamedTuple):
    """Everything that the second pass of one shard depends on."""

    shard: Shard
    source: Source
    prepare: Prepare
    base: str
    tokenizer: Path
    read: Path
    """The folder of the first pass."""
    verdicts: Verdicts
    shards: int
    """How many shards there are."""
    target: Path
    key: str

    @property
    def size(self) -> int:
        """Bytes of its files."""
        return self.shard.size

    @property
    def name(self) -> str:
        """Shard and source."""
        return f"shard {self.shard.number} ({self.source.name})"

    def is_done(self) -> bool:
        """Whether it was completed from the same."""
        return is_complete(self.target, self.key)

    def do(self) -> None:
        """Write the shard's tokens.

        Raises:
            DataError: the chat template does not show where an assistant's turn begins and ends.
            StorageError: the disk is full.
        """
        account = Account(self.source.name)
        encoder = Encoder(self.tokenizer, self.base, self.prepare.form)
        slow = encoder.hasten(self._sample())
        with filled(self.target) as folder:
            with _Writer(folder, self.prepare.sequence_length) as writer:
                for kept, encoded in self._encoded(encoder, account):
                    fitting = fit(encoded, self.prepare.sequence_length, self.prepare.overlong)
                    account.lost += fitting.lost
                    if fitting.reason:
                        account.drop(fitting.reason, kept.document.where, kept.document.id)
                    else:
                        writer.write(kept, fitting)
                        _book(account, fitting)
                write_lines(folder / "dropped.jsonl", [account])
            sign(folder, self.key, {**account.counts(), "slow": slow, "vocabulary": encoder.vocabulary})

    def _sample(self) -> Iterator[Document]:
        """The documents on which a faster tokenizer must give the same tokens, with all that is cut out of them later."""
        alive = np.flatnonzero(self.verdicts.reason_D == 0)
        ids = [f"{number:016x}" for number in Library([self.read], [0]).columns("id")["id"][alive].tolist()]
        wanted = set(alive[sampled(ids, self.shards)].tolist())
        lines = (line for batch in text_batches(self.read) for line in zip(*batch.values(), strict=True))
        for number, (identity, where, group, text, turns, rejected) in enumerate(lines):
            if number in wanted:
                yield Document(identity, self.source.name, where, text, turns_of(turns), rejected, group)

    def _encoded(self, encoder: Encoder, account: Account) -> Iterator[tuple[Kept, Encoded]]:
        waiting: deque[Kept] = deque()

        def passed_on() -> Iterator[Document]:
            for kept in self.kept(account):
                waiting.append(kept)
                yield kept.document

        for encoded in encoder.encode(passed_on()):
            yield waiting.popleft(), encoded

    def kept(self, account: Account) -> Iterator[Kept]:
        """The documents that stay, without what is cut out of them."""
        library = Library([self.read], [0])
        columns = library.columns("digest", "digest2", "language", "personal") if library.count else {}
        cuts = _cuts(self.verdicts)
        number = -1
        for batch in text_batches(self.read):
            for identity, where, group, text, turns, rejected in zip(*batch.values(), strict=True):
                number += 1
                if reason := self.verdicts.reasons[self.verdicts.reason_D[number]]:
                    account.drop(reason, where, identity)
                    continue
                digest = f"{columns['digest'][number]:016x}{columns['digest2'][number]:016x}"
                document = Document(identity, self.source.name, where, text, turns_of(turns), rejected, group, digest)
                if number in cuts.passages or number in cuts.spans:
                    document, reason = self._cut(number, document, cuts, account)
                    if reason:
                        account.drop(reason, where, identity)
                        continue
                held, language, personal = (
                    self.verdicts.held_D[number],
                    columns["language"][number],
                    columns["personal"][number],
                )
                yield Kept(document, bool(held), int(language), int(personal))

    def _cut(self, number: int, document: Document, found: _Cuts, account: Account) -> tuple[Document, str]:
        """The document without leaking sentences and boilerplate; a reason where too little is left."""
        text, leak = document.text, self.verdicts.reasons[self.verdicts.leak_D[number]]
        if spans := found.spans.get(number):
            text = without(text, spans)
            account.mended[f"{leak} cut out"] += 1
            if self._is_short(text):
                return document, leak
        if hashes := found.passages.get(number):
            text, _ = cut_passages(text, frozenset(hashes))
            account.mended["repeated passages cut out"] += 1
            if self._is_short(text):
                return document, ONLY_BOILERPLATE
        return replace(document, text=text, digest=digests_of(texts_of([text]))[0]), ""

    def _is_short(self, text: str) -> bool:
        least = self.prepare.min_chars
        if sum(map(str.isalnum, text[: 10 * least])) >= least:  # statistics of a single text cost a millisecond
            return False
        texts = texts_of([text])
        return bool(statistics_of(texts, units_of(texts))["chars"][0] < self.prepare.min_chars)


class _Cuts(NamedTuple):
    """By document: hashes of boilerplate passages, and spans of units that leak."""

    passages: dict[int, set[int]]
    spans: dict[int, list[tuple[int, int]]]


class Kept(NamedTuple):
    """A document that stays, as it becomes tokens."""

    document: Document
    held: bool
    language: int
    personal: int


def _book(account: Account, encoded: Encoded) -> None:
    account.documents += 1
    account.characters += len(encoded.document.content)
    account.tokens += len(encoded.tokens_T)
    account.supervised += int(encoded.supervised_T.sum())
    account.truncated += encoded.truncated


def _cuts(verdicts: Verdicts) -> _Cuts:
    cuts = _Cuts({}, {})
    for document, passage in verdicts.passages_P.tolist():
        cuts.passages.setdefault(document, set()).add(passage)
    for document, first, units in verdicts.spans_S.tolist():
        cuts.spans.setdefault(document, []).append((first, units))
    return cuts


class _Writer:
    """The open files of a shard."""

    def __init__(self, folder: Path, row: int) -> None:
        self.folder, self.row = folder, row
        self.start = 0
        self.lines: list[tuple[Any, ...]] = []
        self.pieces: list[np.ndarray] = []

    def __enter__(self) -> _Writer:
        self.tokens = (self.folder / "tokens.bin").open("wb")
        self.supervised = (self.folder / "supervised.bin").open("wb")
        return self

    def __exit__(self, failure: type | None, *_: object) -> None:
        self.tokens.close()
        self.supervised.close()
        if failure is not None:
            return
        columns = [pa.array(values, field.type) for values, field in zip(self._columns(), DOCUMENTS, strict=True)]
        with pa.ipc.new_file(self.folder / "documents.arrow", DOCUMENTS) as file:
            file.write_batch(pa.record_batch(columns, schema=DOCUMENTS))
        np.save(self.folder / "pieces.npy", np.concatenate([np.empty((0, 4), np.int64), *self.pieces]))

    def _columns(self) -> list[tuple[Any, ...]]:
        return list(zip(*self.lines, strict=True)) or [() for _ in DOCUMENTS]

    def write(self, kept: Kept, encoded: Encoded) -> None:
        """One document: its tokens, its line, its pieces."""
        document, length = kept.document, len(encoded.tokens_T)
        self.tokens.write(encoded.tokens_T.tobytes())
        self.supervised.write(encoded.supervised_T.tobytes())
        starts_P, lengths_P = cut(length, self.row)
        learnt = np.concatenate([[0], np.cumsum(encoded.supervised_T, dtype=np.int64)])
        learnt_P = learnt[starts_P + lengths_P] - learnt[starts_P + 1]  # the first token of a piece is context only
        number_P = np.full(len(starts_P), len(self.lines))
        self.pieces.append(np.stack([number_P, self.start + starts_P, lengths_P, learnt_P], axis=1))
        self.lines.append(
            (
                document.id,
                document.where,
                kept.held,
                self.start,
                length,
                int(learnt[-1]),
                len(document.content),
                document.digest,
                kept.language,
                kept.personal,
            )
        )
        self.start += length
