"""The second pass, shard by shard: what was settled is carried out, and the documents that stay become tokens.

tokens.bin, supervised.bin    the documents side by side
documents.arrow               one line for each, with its place in tokens.bin
pieces.bin                    int64 [P, 4] = (document, start, length, supervised): runs that fit into a row
rejected.bin                  rejected answers side by side, as tokens
pairs.bin                     int64 [A, 3] = (document, start in rejected.bin, length)
dropped.jsonl                 documents that were left out here or by the verdict
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from configs.store import digest_bytes, staged
from data_prep.documents import Document
from data_prep.gigatokens import sampled
from data_prep.leaks import passage_of, without
from data_prep.ledger import Account, write_lines
from data_prep.library import Library, text_batches, turns_of
from data_prep.pack import cut
from data_prep.passages import cut_passages
from data_prep.quality import statistics_of
from data_prep.shards import Shard, is_complete, sign
from data_prep.tokens import Encoded, Encoder, fit
from data_prep.units import digests_of, texts_of, units_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from configs.recipe import Prepare, Source

ONLY_BOILERPLATE = "only boilerplate"
LINES = 1 << 13
"""Documents whose lines are written at once: a shard that is one archive may have millions."""
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
    """int32 [S, 3] = (document, first unit, units): what documents share with test items."""
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
        with staged(self.target) as folder:
            with _Writer(folder, self.prepare.sequence_length) as writer:
                for kept, encoded in self._encoded(encoder, account):
                    fitting = fit(encoded, self.prepare.sequence_length, self.prepare.overlong)
                    account.lost += fitting.lost
                    if fitting.reason:
                        size = len(kept.document.content)
                        account.drop(fitting.reason, kept.document.where, kept.document.id, characters=size)
                    else:
                        writer.write(kept, fitting)
                        _book(account, fitting)
                    if len(account.lines) >= LINES:
                        write_lines(folder / "dropped.jsonl", [account])
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
        columns = library.columns("digest", "digest2", "parent", "language", "personal") if library.count else {}
        cuts = _cuts(self.verdicts)
        number = -1
        for batch in text_batches(self.read):
            for identity, where, group, text, turns, rejected in zip(*batch.values(), strict=True):
                number += 1
                reason = self.verdicts.reasons[self.verdicts.reason_D[number]]
                digest = f"{columns['digest'][number]:016x}{columns['digest2'][number]:016x}"
                document = Document(identity, self.source.name, where, text, turns_of(turns), rejected, group, digest)
                spans = cuts.spans.get(number, [])
                if not reason and (number in cuts.passages or spans):
                    document, reason = self._cut(number, document, cuts, account)
                if reason:
                    passage = passage_of(document.content, *spans[0]) if spans and reason.startswith("leak:") else ""
                    size = len(document.content)
                    account.drop(reason, where, identity, characters=size, detail=passage)
                    continue
                parent = f"{columns['parent'][number]:016x}"
                held, language, personal = self.verdicts.held_D, columns["language"], columns["personal"]
                yield Kept(document, parent, bool(held[number]), int(language[number]), int(personal[number]))

    def _cut(self, number: int, document: Document, found: _Cuts, account: Account) -> tuple[Document, str]:
        """The document without leaking sentences and boilerplate; a reason where too little is left."""
        text, leak = document.text, self.verdicts.reasons[self.verdicts.leak_D[number]]
        if (spans := found.spans.get(number)) and self.prepare.decontaminate == "cut":
            text = without(text, spans)
            if self._is_short(text):
                return document, leak
            account.mended[f"{leak} cut out"] += 1
            account.left_out[f"{leak} cut out"] += len(document.text) - len(text)
        if hashes := found.passages.get(number):
            before = len(text)
            text, _ = cut_passages(text, frozenset(hashes))
            if self._is_short(text):
                return document, ONLY_BOILERPLATE
            account.mended["repeated passages cut out"] += 1
            account.left_out["repeated passages cut out"] += before - len(text)
        if text == document.text:
            return document, ""
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
    parent: str
    """Id of the document that it was made from; its own otherwise."""
    held: bool
    language: int
    personal: int


def _book(account: Account, encoded: Encoded) -> None:
    account.documents += 1
    account.characters += len(encoded.document.content)
    account.tokens += len(encoded.tokens_T)
    account.supervised += int(encoded.supervised_T.sum())
    account.truncated += encoded.truncated
    account.rejected += 0 if encoded.rejected_T is None else len(encoded.rejected_T)


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
        self.start = self.documents = self.answers = 0
        self.lines: list[tuple[Any, ...]] = []

    def __enter__(self) -> _Writer:
        self.tokens = (self.folder / "tokens.bin").open("wb")
        self.supervised = (self.folder / "supervised.bin").open("wb")
        self.pieces = (self.folder / "pieces.bin").open("wb")
        self.rejected = (self.folder / "rejected.bin").open("wb")
        self.pairs = (self.folder / "pairs.bin").open("wb")
        self.table = pa.ipc.new_file(self.folder / "documents.arrow", DOCUMENTS)
        return self

    def __exit__(self, failure: type | None, *_: object) -> None:
        if failure is None:
            self._flush()
        for file in (self.tokens, self.supervised, self.pieces, self.rejected, self.pairs, self.table):
            file.close()

    def _flush(self) -> None:
        columns = list(zip(*self.lines, strict=True)) or [() for _ in DOCUMENTS]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, DOCUMENTS, strict=True)]
        self.table.write_batch(pa.record_batch(arrays, schema=DOCUMENTS))
        self.lines.clear()

    def write(self, kept: Kept, encoded: Encoded) -> None:
        """One document: its tokens, its line, its pieces."""
        document, length = kept.document, len(encoded.tokens_T)
        self.tokens.write(encoded.tokens_T.tobytes())
        self.supervised.write(encoded.supervised_T.tobytes())
        starts_P, lengths_P = cut(length, self.row)
        learnt = np.concatenate([[0], np.cumsum(encoded.supervised_T, dtype=np.int64)])
        learnt_P = learnt[starts_P + lengths_P] - learnt[starts_P + 1]  # the first token of a piece is context only
        number_P = np.full(len(starts_P), self.documents)
        pieces_P = np.stack([number_P, self.start + starts_P, lengths_P, learnt_P], axis=1)
        self.pieces.write(pieces_P.astype(np.int64).tobytes())
        if encoded.rejected_T is not None:
            size = len(encoded.rejected_T)
            self.rejected.write(encoded.rejected_T.tobytes())
            self.pairs.write(np.array([self.documents, self.answers, size], np.int64).tobytes())
            self.answers += size
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
        self.documents += 1
        if len(self.lines) == LINES:
            self._flush()
