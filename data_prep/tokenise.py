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
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa

from configs.base import tokenizer_digest
from configs.speed import fast_wanted
from configs.store import digest_bytes, staged
from data_prep.documents import Document, content_of
from data_prep.gigatokens import sampled
from data_prep.leaks import passage_of, without
from data_prep.ledger import Account, write_lines
from data_prep.library import Library, lines_of, text_batches, turns_of
from data_prep.pack import cut
from data_prep.passages import cut_passages
from data_prep.quality import statistics_of
from data_prep.shards import Shard, is_complete, sign
from data_prep.tokens import Encoded, Encoder, fit
from data_prep.units import digests_of, texts_of, units_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from configs.recipe import Prepare, Source

ONLY_BOILERPLATE = "only boilerplate"
_KEPT: dict[tuple[str, Path, str, str], Encoder] = {}
"""The encoder of the shard before; it takes half a second to make one."""
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
        encoder, slow = self._encoder()
        with staged(self.target) as folder:
            with _Writer(folder, self.prepare.sequence_length) as writer:
                for kept, encoded in self._encoded(encoder, account):
                    fitting = fit(encoded, self.prepare.sequence_length, self.prepare.overlong)
                    account.lost += fitting.lost
                    if fitting.reason:
                        size = len(kept.document.content)
                        account.drop(fitting.reason, kept.document.where, kept.document.id, characters=size)
                    else:
                        _book(account, fitting, writer.write(kept, fitting))
                    if len(account.lines) >= LINES:
                        write_lines(folder / "dropped.jsonl", [account])
                write_lines(folder / "dropped.jsonl", [account])
            sign(folder, self.key, {**account.counts(), "slow": slow, "vocabulary": encoder.vocabulary})

    def _encoder(self) -> tuple[Encoder, str]:
        """The encoder of the shard before in this process, if it goes on with gigatoken; or a new one. And why it is slow."""
        which = (tokenizer_digest(self.tokenizer), self.tokenizer, self.base, self.prepare.form)
        used = _KEPT.pop(which, None)
        encoder = used or Encoder(*which[1:])
        slow = encoder.hasten(self._sample())
        if slow and used is not None:  # its `tokenizers` have met text, and work at half their speed
            encoder = Encoder(*which[1:])
        _KEPT.clear()
        if not slow:
            _KEPT[which] = encoder
        return encoder, slow

    def _sample(self) -> Iterator[Document]:
        """The documents on which a faster tokenizer must give the same tokens, with all that is cut out of them later."""
        if not fast_wanted():
            return
        alive = np.flatnonzero(self.verdicts.reason_D == 0)
        ids = [f"{number:016x}" for number in Library([self.read], [0]).columns("id")["id"][alive].tolist()]
        for line in lines_of(self.read, alive[sampled(ids, self.shards)]):
            turns = turns_of(line["turns"])
            yield Document(line["id"], self.source.name, line["where"], line["text"], turns, line["rejected"])

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
        names = ("digest", "digest2", "parent", "language", "personal")
        found = library.columns(*names) if library.count else {}
        columns = zip(
            self.verdicts.reason_D.tolist(),
            self.verdicts.held_D.tolist(),
            *(column.tolist() for column in found.values()),
            strict=True,
        )
        cuts, number = _cuts(self.verdicts), -1
        for batch in text_batches(self.read):
            left = self._left(number + 1, batch["text"], cuts, account)
            for identity, where, group, text, turns, rejected in zip(*batch.values(), strict=True):
                number += 1
                code, held, first, second, parent, language, personal = next(columns)
                own = left.get(number) or _Left(text, f"{first:016x}{second:016x}", self.verdicts.reasons[code])
                messages = turns_of(turns) if turns else ()
                if own.reason:
                    content, spans = content_of(text, messages), cuts.spans.get(number, [])
                    passage = passage_of(content, *spans[0]) if spans and own.reason.startswith("leak:") else ""
                    account.drop(own.reason, where, identity, characters=len(content), detail=passage)
                    continue
                source = self.source.name
                document = Document(identity, source, where, own.text, messages, rejected, group, own.digest)
                yield Kept(document, f"{parent:016x}", held, language, personal)

    def _left(self, first: int, texts: Sequence[str], found: _Cuts, account: Account) -> dict[int, _Left]:
        """By number, what leaking sentences and boilerplate leave of those texts from document `first` on that have some."""
        alive = (np.flatnonzero(self.verdicts.reason_D[first : first + len(texts)] == 0) + first).tolist()
        left = {number: texts[number - first] for number in alive if number in found.passages or number in found.spans}
        reasons: dict[int, str] = {}
        for number in left if self.prepare.decontaminate == "cut" else ():
            if spans := found.spans.get(number):
                leak = self.verdicts.reasons[self.verdicts.leak_D[number]]
                text = without(left[number], spans)
                if self._is_enough(left[number], text, f"{leak} cut out", account):
                    left[number] = text
                else:
                    reasons[number] = leak
        marked = [number for number in left if number in found.passages and number not in reasons]
        cut = cut_passages([left[number] for number in marked], [found.passages[number] for number in marked])
        for number, text in zip(marked, cut, strict=True):
            if self._is_enough(left[number], text, "repeated passages cut out", account):
                left[number] = text
            else:
                reasons[number] = ONLY_BOILERPLATE
        changed = [number for number, text in left.items() if number in reasons or text != texts[number - first]]
        digests = digests_of(texts_of([left[number] for number in changed]))
        return {
            number: _Left(left[number], digest, reasons.get(number, ""))
            for number, digest in zip(changed, digests, strict=True)
        }

    def _is_enough(self, before: str, after: str, what: str, account: Account) -> bool:
        """Whether a text is long enough after a cut; what was cut out is booked then."""
        if self._is_short(after):
            return False
        account.mended[what] += 1
        account.left_out[what] += len(before) - len(after)
        return True

    def _is_short(self, text: str) -> bool:
        least = self.prepare.min_chars
        if sum(map(str.isalnum, text[: 10 * least])) >= least:  # statistics of a single text cost a millisecond
            return False
        texts = texts_of([text])
        return bool(statistics_of(texts, units_of(texts))["chars"][0] < self.prepare.min_chars)


class _Left(NamedTuple):
    """What becomes of a document: its text and that text's digest, or the reason why it goes."""

    text: str
    digest: str
    reason: str


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


def _book(account: Account, encoded: Encoded, supervised: int) -> None:
    account.documents += 1
    account.characters += len(encoded.document.content)
    account.tokens += len(encoded.tokens_T)
    account.supervised += supervised
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
        self.parts: list[tuple[int, int, int, int]] = []

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
        self.pieces.write(np.array(self.parts, np.int64).tobytes())
        self.lines.clear()
        self.parts.clear()

    def write(self, kept: Kept, encoded: Encoded) -> int:
        """One document: its tokens, its line, its pieces. Returns how many tokens are learnt, of which none is the first."""
        document, length = kept.document, len(encoded.tokens_T)
        self.tokens.write(encoded.tokens_T.data)
        self.supervised.write(encoded.supervised_T.data)
        learnt = int(np.count_nonzero(encoded.supervised_T))
        if length <= self.row:
            self.parts.append((self.documents, self.start, length, learnt))
        else:
            self.parts += self._pieces(encoded)
        if encoded.rejected_T is not None:
            size = len(encoded.rejected_T)
            self.rejected.write(encoded.rejected_T.data)
            self.pairs.write(np.array([self.documents, self.answers, size], np.int64).tobytes())
            self.answers += size
        self.lines.append(
            (
                document.id,
                document.where,
                kept.held,
                self.start,
                length,
                learnt,
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
        return learnt

    def _pieces(self, encoded: Encoded) -> list[tuple[int, int, int, int]]:
        """The pieces of a document that is longer than a row."""
        starts_P, lengths_P = cut(len(encoded.tokens_T), self.row)
        learnt = np.concatenate([[0], np.cumsum(encoded.supervised_T, dtype=np.int64)])
        learnt_P = learnt[starts_P + lengths_P] - learnt[starts_P + 1]  # the first token of a piece is context only
        columns = (starts_P + self.start, lengths_P, learnt_P)
        return [(self.documents, *piece) for piece in zip(*(column.tolist() for column in columns), strict=True)]
