"""The ledger: every row of every source is kept, dropped or refused, and each for a reason that is counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from configs.errors import SectorLMError
from configs.progress import say
from configs.reading import Reading
from configs.records import SourceLedger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from configs.recipe import Source
    from configs.records import Corpus
    from data_prep.documents import Document


class Verdict(NamedTuple):
    """A document and why it is left out; no reason keeps it."""

    document: Document
    reason: str = ""


@dataclass
class Account:
    """The running account of one source."""

    source: Source
    reading: Reading = field(default_factory=Reading)
    dropped: Counter[str] = field(default_factory=Counter)
    mended: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    characters: int = 0
    tokens: int = 0
    supervised: int = 0
    truncated: int = 0
    tokens_train: int = 0
    tokens_validation: int = 0
    repeats: float = 1.0
    lines: list[dict[str, str]] = field(default_factory=list)
    """What dropped.jsonl says of this source."""

    def drop(self, reason: str, where: str, identity: str = "") -> None:
        """Leave a row out for a reason."""
        self.dropped[reason] += 1
        self.lines.append({"id": identity, "source": self.source.name, "where": where, "reason": reason})

    def close(self) -> SourceLedger:
        """The record of this account.

        Raises:
            SectorLMError: the books do not balance, which is a fault of ours.
        """
        kept, dropped, refused = self.documents, self.dropped.total(), self.reading.refused.total()
        if self.reading.rows != kept + dropped + refused:
            raise SectorLMError(
                f"the ledger does not balance: {self.reading.rows} rows, but {kept} kept, {dropped} dropped and "
                f"{refused} refused",
                where=self.source.name,
                hint="This is a fault of SectorLM: please report it with the recipe.",
            )
        return SourceLedger(
            name=self.source.name,
            channel=self.source.channel,
            licence=self.source.licence,
            origin=self.source.origin,
            language=self.source.language,
            grade=self.source.grade,
            files=self.reading.files,
            encodings=dict(sorted(self.reading.encodings.items())),
            rows=self.reading.rows,
            refused=dict(sorted(self.reading.refused.items())),
            dropped=dict(sorted(self.dropped.items())),
            mended=dict(sorted(self.mended.items())),
            documents=self.documents,
            characters=self.characters,
            tokens=self.tokens,
            supervised=self.supervised,
            truncated=self.truncated,
            tokens_train=self.tokens_train,
            tokens_validation=self.tokens_validation,
            repeats=round(self.repeats, 4),
        )


class Ledger:
    """The accounts of all sources."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.accounts = {source.name: Account(source) for source in sources}

    def keep(self, verdicts: Iterable[Verdict]) -> list[Document]:
        """The documents that stay; the others are booked with their reason."""
        kept = []
        for document, reason in verdicts:
            if reason:
                self.accounts[document.source].drop(reason, document.where, document.id)
            else:
                kept.append(document)
        return kept

    def reasons(self) -> str:
        """Why rows were left out, over all sources: `not selected: 12, duplicate: 3`."""
        total: Counter[str] = Counter()
        for account in self.accounts.values():
            total += account.dropped + account.reading.refused
        return ", ".join(f"{reason}: {count:,}" for reason, count in total.most_common())

    def close(self) -> tuple[SourceLedger, ...]:
        """The records of all accounts, in the recipe's order.

        Raises:
            SectorLMError: an account does not balance.
        """
        return tuple(account.close() for account in self.accounts.values())


def tell(corpus: Corpus) -> None:
    """Print what became of each source, one line each, and the sum."""
    for source in corpus.sources:
        left_out = ", ".join(f"{reason} {count:,}" for reason, count in (source.dropped | source.refused).items())
        say(
            f"  {source.name}: {source.rows:,} rows, {source.documents:,} kept{f' ({left_out})' if left_out else ''}, "
            f"{source.tokens:,} tokens{f', {source.repeats:.2f} times' if source.repeats != 1 else ''}"
        )
    say(
        f"corpus: {corpus.documents:,} documents, {corpus.tokens_train:,} training tokens in {corpus.rows_train:,} rows "
        f"({corpus.supervised_train:,} supervised, {corpus.padding_train:.1%} padding), "
        f"{corpus.rows_validation:,} validation rows"
    )
