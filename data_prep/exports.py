"""What can be written beside a corpus from its shards: the texts that were left out, and the records of a standard."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from configs.errors import RecipeError
from configs.store import written_whole
from data_prep.documents import Document
from data_prep.ledger import EXCLUDED, Account, line_with_text
from data_prep.library import text_batches, turns_of
from data_prep.rows import LATE
from data_prep.standard import Edition, StandardDocument, write_tc609

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from configs.records import Corpus
    from data_prep.standard import Written
    from data_prep.tokenise import TokenWork

DROPPED = "dropped-texts.jsonl"
STANDARDS = ("tc609",)
MADE = re.compile(r"~(reading|(articles|table):\d+)$")
"""How the place of a document ends that rules made (data_prep/compose.py)."""


def check_standard(standard: str) -> None:
    """Refuse a standard that is not known.

    Raises:
        RecipeError: it is not.
    """
    if standard and standard not in STANDARDS:
        raise RecipeError(f"no standard {standard!r}", where="--standard", hint=f"Known: {', '.join(STANDARDS)}.")


def export(
    root: Path, works: Sequence[TokenWork], corpus: Corpus, *, keep_dropped: bool, standard: str
) -> Iterator[str]:
    """Write what was asked for beside the corpus; says what it wrote, a line for each.

    Raises:
        StorageError: the disk is full or read-only.
    """
    if keep_dropped:
        yield f"dropped texts: {write_dropped_texts(root, works)}"
    if standard:
        written = write_standard(root, works, corpus)
        yield f"{standard}: {written.records:,} records in {written.path}"
        for problem, count in written.problems.items():
            yield f"  {count:,} records: {problem}"


def write_dropped_texts(root: Path, works: Sequence[TokenWork]) -> Path:
    """Every document that was read and then left out, with its text and the reason, as JSON Lines.

    What the policy on personal data or a removal request left out is not there.

    Raises:
        StorageError: the disk is full or read-only.
    """
    path = root / DROPPED
    with written_whole(path) as file:
        late = _late(root)
        for work in works:
            with (work.read / "unusable.jsonl").open(encoding="utf-8") as unusable:
                file.writelines(unusable)
            reasons = _reasons(work) | late
            for batch in text_batches(work.read):
                for identity, where, _, text, turns, rejected in zip(*batch.values(), strict=True):
                    reason = reasons.get((identity, where), EXCLUDED)
                    if reason != EXCLUDED:
                        document = Document(identity, work.source.name, where, text, turns_of(turns), rejected)
                        file.write(line_with_text(document, reason))
    return path


def _reasons(work: TokenWork) -> dict[tuple[str, str], str]:
    """Why documents of a shard were left out, by id and place."""
    return _told(work.target / "dropped.jsonl")


def _late(root: Path) -> dict[tuple[str, str], str]:
    """What was left out when the shards were put together, which no shard knows of."""
    return _told(root / "corpus/dropped.jsonl", LATE)


def _told(path: Path, only: str = "") -> dict[tuple[str, str], str]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as file:
        lines = (json.loads(line) for line in file if only in line)
        return {(it["id"], it["where"]): it["reason"] for it in lines if only in ("", it["reason"])}


def write_standard(root: Path, works: Sequence[TokenWork], corpus: Corpus) -> Written:
    """The kept documents as records of TC609-5-2025-02, beside the corpus.

    Raises:
        StorageError: the disk is full or read-only.
    """
    return write_tc609(root, _standard_documents(works, _late(root)), Edition(corpus.content(), corpus.made.finished))


def _standard_documents(works: Sequence[TokenWork], late: dict[tuple[str, str], str]) -> Iterator[StandardDocument]:
    for work in works:
        gone = _reasons(work) | late
        for kept in work.kept(Account(work.source.name)):
            document = kept.document
            if (document.id, document.where) in gone:  # too long for a row
                continue
            made = MADE.search(document.where) is not None
            yield StandardDocument(
                document.id,
                document.where,
                work.source,
                document.text,
                document.messages,
                document.rejected,
                (kept.parent,) if kept.parent != document.id else (),
                made,
            )
