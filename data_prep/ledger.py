"""The ledger: every row of every source is kept, dropped or refused, and each for a reason that is counted.

Shards keep accounts of their own, which are added up by source; nothing depends on the order in which they are done.
"""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from configs.errors import DataError, SectorLMError
from configs.forms import kind_of
from configs.progress import say
from configs.reading import Reading, encodes
from configs.records import SourceLedger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from configs.recipe import Receipt, Source
    from configs.records import Corpus
    from data_prep.documents import Document

EXCLUDED = "excluded"
"""The reason that a removal request gives."""
MANY = 10_000
"""Lines of dropped.jsonl that are held in memory."""
SUMS = ("documents", "characters", "tokens", "supervised", "truncated", "lost", "rejected")
COUNTERS = ("dropped", "left_out", "mended", "composed", "exercises", "languages", "personal")


class _Booked(Reading):
    """A reading whose refused records stand in dropped.jsonl, each with its place and what was wrong."""

    def __init__(self, account: Account) -> None:
        super().__init__()
        self.account = account

    def refuse(self, reason: str, where: str, detail: str = "") -> None:
        """Count a record that cannot be used, and write it down."""
        super().refuse(reason, where, detail)
        self.account.note({"id": "", "where": where, "reason": reason} | ({"detail": detail} if detail else {}))


@dataclass
class Account:
    """The running account of one source, or of one shard of it."""

    source: str
    reading: Reading = field(init=False)
    dropped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    """Characters of what was dropped or cut out, by reason."""
    mended: Counter[str] = field(default_factory=Counter)
    composed: Counter[str] = field(default_factory=Counter)
    exercises: Counter[str] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    personal: Counter[str] = field(default_factory=Counter)
    documents: int = 0
    characters: int = 0
    tokens: int = 0
    supervised: int = 0
    truncated: int = 0
    lost: int = 0
    rejected: int = 0
    tokens_train: int = 0
    tokens_validation: int = 0
    repeats: float = 1.0
    lines: list[str] = field(default_factory=list)
    """Lines of dropped.jsonl that are not written yet."""
    noted: int = 0
    """How many lines there have been."""
    sink: Path | None = None
    """The dropped.jsonl that takes them when there are many."""

    def __post_init__(self) -> None:
        self.reading = _Booked(self)

    def drop(self, reason: str, where: str, identity: str = "", *, characters: int = 0, detail: str = "") -> None:
        """Leave a row, or a document of so many characters, out for a reason."""
        self.dropped[reason] += 1
        if characters:
            self.left_out[reason] += characters
        self.note({"id": identity, "where": where, "reason": reason} | ({"detail": detail} if detail else {}))

    def note(self, line: dict[str, str]) -> None:
        """Keep a line for dropped.jsonl."""
        self.lines.append(json.dumps({"source": self.source, **line}, ensure_ascii=False) + "\n")
        self.noted += 1
        if self.sink is not None and len(self.lines) >= MANY:
            write_lines(self.sink, [self])

    @contextmanager
    def read_ahead(self) -> Iterator[Callable[[int], None]]:
        """Put what is noted from now on among the lines that are there already: rows are read before they are judged.

        The function that it gives is told, before each note, how many of all lines so far come before it.
        """
        waiting, first, place = self.lines, self.noted - len(self.lines), 0
        self.lines = []

        def go_on(count: int) -> None:
            nonlocal place
            upto = max(count - first, place)
            self.lines += waiting[place:upto]
            place = upto

        yield go_on
        self.lines += waiting[place:]

    def counts(self) -> dict[str, Any]:
        """All figures as plain data, for shard.json."""
        sums = {name: getattr(self, name) for name in SUMS}
        return {"reading": self.reading.figures(), **sums, **{name: dict(getattr(self, name)) for name in COUNTERS}}

    def add(self, counts: Mapping[str, Any]) -> Self:
        """Add the figures of a shard."""
        reading = {name: Counter(it) if isinstance(it, dict) else it for name, it in counts["reading"].items()}
        self.reading.add(Reading(**{**reading, "notes": counts["reading"]["notes"]}))
        for name in SUMS:
            setattr(self, name, getattr(self, name) + counts[name])
        for name in COUNTERS:
            getattr(self, name).update(counts[name])
        return self

    def close(self, source: Source) -> SourceLedger:
        """The record of this account.

        Raises:
            SectorLMError: the books do not balance, which is a fault of ours.
        """
        kept, dropped, refused = self.documents, self.dropped.total(), self.reading.refused.total()
        if self.reading.rows + self.composed.total() != kept + dropped + refused:
            raise SectorLMError(
                f"the ledger does not balance: {self.reading.rows} rows and {self.composed.total()} composed, but "
                f"{kept} kept, {dropped} dropped and {refused} refused",
                where=source.name,
                hint="This is a fault of SectorLM: please report it with the recipe.",
            )
        figures: dict[str, Any] = {name: getattr(self, name) for name in SUMS}
        figures |= {name: _sorted(getattr(self, name)) for name in COUNTERS if name != "left_out"}
        return SourceLedger(
            name=source.name,
            channel=source.channel,
            licence=source.licence,
            origin=source.origin,
            language=source.language,
            grade=source.grade,
            time=source.time,
            purpose=source.purpose,
            consent=source.consent,
            files=self.reading.files,
            rows=self.reading.rows,
            forms=_sorted(self.reading.forms),
            encodings=_sorted(self.reading.encodings),
            dialects=_sorted(self.reading.dialects),
            left_out=_sorted(self.reading.left_out),
            characters_left_out=_sorted(self.left_out),
            notes=dict(sorted(self.reading.notes.items())),
            refused=_sorted(self.reading.refused),
            tokens_train=self.tokens_train,
            tokens_validation=self.tokens_validation,
            repeats=round(self.repeats, 4),
            **figures,
        )


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return {name: counter[name] for name in sorted(counter)}


class Ledger:
    """The accounts of all sources."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = {source.name: source for source in sources}
        self.accounts = {source.name: Account(source.name) for source in sources}

    def add(self, places: Sequence[int], pages: Iterable[Mapping[str, Any]]) -> None:
        """Add the figures of shards; `places` says which source each belongs to, by its place in the recipe."""
        accounts = list(self.accounts.values())
        for place, page in zip(places, pages, strict=True):
            accounts[place].add(page)

    def reasons(self) -> str:
        """Why rows were left out, over all sources: `not selected: 12, duplicate: 3`."""
        total: Counter[str] = Counter()
        for account in self.accounts.values():
            total += account.dropped + account.reading.refused
        return ", ".join(f"{reason}: {count:,}" for reason, count in total.most_common())

    def check_rows(self, max_bad_rows: float) -> None:
        """Refuse sources without rows, with files of different forms, or with too many rows that cannot be used.

        Raises:
            DataError: there is such a source.
        """
        for name, account in self.accounts.items():
            if len({kind_of(form) for form in account.reading.forms}) > 1:
                raise DataError(
                    f"files of different forms: {', '.join(sorted(account.reading.forms))}",
                    where=name,
                    hint="Select the files with a glob, `folder/*.jsonl` or `archive.zip!*.json`, or set `format:`.",
                )
            reading, bad = account.reading, account.reading.refused.total()
            if bad > max_bad_rows * reading.rows:
                raise DataError(
                    f"{bad:,} of {reading.rows:,} rows cannot be used, more than max_bad_rows ({max_bad_rows:.2%}):\n  "
                    + "\n  ".join(reading.examples),
                    where=name,
                    hint="Mend the file, or allow more with `prepare: {max_bad_rows: ...}`; all of them are counted.",
                )
            if reading.rows == 0:
                files = ", ".join(self.sources[name].paths)
                raise DataError(f"0 rows in {files}", where=name, hint="Is it the right file, and complete?")

    def close(self) -> tuple[SourceLedger, ...]:
        """The records of all accounts, in the recipe's order.

        Raises:
            SectorLMError: an account does not balance.
        """
        return tuple(account.close(self.sources[name]) for name, account in self.accounts.items())


def write_lines(path: Path, accounts: Iterable[Account]) -> None:
    """Append what was dropped since the last time to a dropped.jsonl."""
    with path.open("a", encoding="utf-8") as file:
        for account in accounts:
            file.writelines(account.lines)
            account.lines.clear()


def line_with_text(document: Document, reason: str) -> str:
    """A document that was left out, as a line of JSON that a recipe can read again."""
    line: dict[str, Any] = {"id": document.id, "source": document.source, "where": document.where, "reason": reason}
    line |= {"messages": [it._asdict() for it in document.messages]} if document.messages else {"text": document.text}
    line |= {"rejected": document.rejected} if document.rejected else {}
    told = json.dumps(line, ensure_ascii=False)
    return (told if encodes(told) else json.dumps(line)) + "\n"


def excluded_ids(path: Path) -> set[str]:
    """Ids of the documents that a dropped.jsonl names as excluded."""
    with path.open(encoding="utf-8") as file:
        lines = (json.loads(line) for line in file if f'"reason": "{EXCLUDED}"' in line)
        return {line["id"] for line in lines if line["reason"] == EXCLUDED}


def check_receipt(corpus: Corpus, limits: Receipt) -> None:
    """Hold the corpus against the limits of the recipe, before any GPU hour is spent on it.

    Raises:
        DataError: a limit is broken; all broken ones are named.
    """
    found = []
    for source in corpus.sources:
        counted = source.rows + sum(source.composed.values()) - source.dropped.get("not selected", 0)
        gone = sum(source.refused.values()) + sum(source.dropped.values()) - source.dropped.get("not selected", 0)
        truncated, read = source.truncated + source.lost, source.tokens + source.truncated + source.lost
        found += [
            _broken(f"{source.name}: dropped", gone / max(counted, 1), limits.max_dropped, 1),
            _broken(f"{source.name}: truncated", truncated / max(read, 1), limits.max_truncated, 1),
        ]
    supervised = corpus.supervised_train / max(corpus.tokens_train, 1)
    found += [
        _broken("supervised", supervised, limits.min_supervised, -1),
        _broken("padding", corpus.padding_train, limits.max_padding, 1),
    ]
    if limits.min_tokens is not None and corpus.tokens_train < limits.min_tokens:
        found.append(f"{corpus.tokens_train:,} training tokens, fewer than min_tokens ({limits.min_tokens:,})")
    if problems := [problem for problem in found if problem]:
        raise DataError(
            "the receipt breaks its limits:\n  " + "\n  ".join(problems),
            where=corpus.name,
            hint="The lines above count what was left out, and why. Mend the source, or change `prepare: {receipt: ...}`.",
        )


def _broken(what: str, value: float, limit: float | None, sign: int) -> str:
    if limit is None or sign * (value - limit) <= 0:
        return ""
    return f"{what} {value:.2%}, {'more' if sign > 0 else 'less'} than {limit:.2%}"


def tell(corpus: Corpus) -> None:
    """Print what became of each source: the data receipt."""
    for source in corpus.sources:
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in (source.dropped | source.refused).items())
        composed = f" and {sum(source.composed.values()):,} composed" if source.composed else ""
        left_out = f" ({reasons})" if reasons else ""
        say(f"  {source.name}: {source.rows:,} rows{composed}, {source.documents:,} kept{left_out}")
        figures = {
            "tokens": source.tokens,
            "supervised": source.supervised,
            "masked": source.tokens - source.supervised,
            "lost": source.truncated + source.lost,
            "characters left out": sum(source.characters_left_out.values()),
            "pieces of personal data": sum(source.personal.values()),
        }
        told = ", ".join(f"{count:,} {name}" for name, count in figures.items() if count)
        say(f"    {told or 'no tokens'}{f', seen {source.repeats:.2f} times a pass' if source.repeats != 1 else ''}")
    say(
        f"corpus: {corpus.documents:,} documents, {corpus.tokens_train:,} training tokens in {corpus.rows_train:,} rows "
        f"({corpus.supervised_train:,} supervised, {corpus.padding_train:.1%} padding), "
        f"{corpus.rows_validation:,} validation rows"
    )
