"""What can be written beside a corpus from its shards: the texts that were left out, and the records of a standard."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from configs.errors import RecipeError
from configs.store import written_whole
from data_prep.ledger import Account
from data_prep.library import text_batches
from data_prep.standard import Edition, StandardDocument, write_tc609

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from configs.records import Corpus
    from data_prep.standard import Written
    from data_prep.tokenise import TokenWork

DROPPED = "dropped-texts.jsonl"
STANDARDS = ("tc609",)


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

    What the policy on personal data left out is not there: its text is stored nowhere.

    Raises:
        StorageError: the disk is full or read-only.
    """
    path = root / DROPPED
    with written_whole(path) as file:
        for work in works:
            reasons = _reasons(work)
            for batch in text_batches(work.read):
                for identity, where, _, text, turns, rejected in zip(*batch.values(), strict=True):
                    if (identity, where) in reasons:
                        line = {"id": identity, "source": work.source.name, "where": where}
                        line |= {"reason": reasons[identity, where], "text": text}
                        line |= {"messages": json.loads(turns)} if turns else {}
                        line |= {"rejected": rejected} if rejected else {}
                        file.write(json.dumps(line, ensure_ascii=False) + "\n")
    return path


def _reasons(work: TokenWork) -> dict[tuple[str, str], str]:
    path = work.target / "dropped.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    return {(line["id"], line["where"]): line["reason"] for line in map(json.loads, lines)}


def write_standard(root: Path, works: Sequence[TokenWork], corpus: Corpus) -> Written:
    """The kept documents as records of TC609-5-2025-02, beside the corpus.

    Raises:
        StorageError: the disk is full or read-only.
    """
    return write_tc609(root, _standard_documents(works), Edition(corpus.content(), corpus.made.finished))


def _standard_documents(works: Sequence[TokenWork]) -> Iterator[StandardDocument]:
    for work in works:
        gone = _reasons(work)
        for kept in work.kept(Account(work.source.name)):
            document = kept.document
            if (document.id, document.where) in gone:  # too long for a row
                continue
            made = "~" in document.where.rpartition("!")[2]
            related = (document.group,) if made and document.group else ()
            yield StandardDocument(
                document.id,
                document.where,
                work.source,
                document.text,
                document.messages,
                document.rejected,
                related,
                made,
            )
