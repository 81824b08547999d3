"""Sources to documents: rows are selected, rendered by the recipe's templates, and given an id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from configs.errors import DataError, StorageError
from configs.job import find_files
from configs.progress import track
from configs.read import Row, read_rows
from configs.store import crash_point
from data_prep.documents import Document, documents_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from configs.job import Job
    from configs.recipe import Prepare, Source
    from data_prep.ledger import Account, Ledger

HUB = "hf:"


def read_sources(job: Job, ledger: Ledger) -> Iterator[Document]:
    """The documents of all sources in the recipe's order; what cannot be used is booked in the ledger.

    Raises:
        DataError: a file is missing or damaged, a source has no rows, a column is not there, or more than
            `max_bad_rows` of a source's rows cannot be used.
        UnsafeArtefactError: an archive or a file that is not safe to open.
    """
    with track("reading", len(job.recipe.corpora), "sources") as bar:
        for source in job.recipe.corpora:
            account = ledger.accounts[source.name]
            yield from documents_of(source, _rows(source, job, account), account)
            _check_rows(source, account, job.recipe.prepare)
            crash_point("prepare.source")
            bar.advance()


def source_files(source: Source, roots: tuple[Path, ...]) -> list[Path]:
    """The local files of a source, in the order they are read.

    Raises:
        DataError: a path matches nothing.
        UnsafeArtefactError: a file lies outside of the roots.
    """
    return [file for path in _paths(source) if not path.startswith(HUB) for file in find_files(path, roots)]


def _paths(source: Source) -> tuple[str, ...]:
    return (source.path,) if isinstance(source.path, str) else source.path


def _rows(source: Source, job: Job, account: Account) -> Iterator[Row]:
    for path in _paths(source):
        if path.startswith(HUB):
            yield from _hub_rows(path.removeprefix(HUB), account)
            continue
        yield from read_rows(
            find_files(path, job.roots),
            path.partition("!")[2],
            format=source.format,
            encoding=source.encoding,
            columns=source.columns,
            records=source.records,
            max_record_bytes=job.recipe.prepare.max_record_bytes,
            reading=account.reading,
        )


def _hub_rows(name: str, account: Account) -> Iterator[Row]:
    """The training split of a hub data set, streamed: plain data only, never its code (`org/name@revision`)."""
    from datasets import load_dataset

    name, _, revision = name.partition("@")
    try:
        stream = load_dataset(name, split="train", revision=revision or None, streaming=True)
        for number, fields in enumerate(stream, 1):
            account.reading.rows += 1
            yield Row(fields, f"{HUB}{name}:{number}")
    except Exception as error:  # datasets, fsspec and huggingface_hub each raise their own kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        hint = "Check the network with `sectorlm doctor`, or give local files."
        raise StorageError(f"the data set cannot be read from the hub ({reason})", where=name, hint=hint) from error


def _check_rows(source: Source, account: Account, prepare: Prepare) -> None:
    reading = account.reading
    files = ", ".join(_paths(source))
    bad = reading.refused.total()
    if bad > prepare.max_bad_rows * reading.rows:
        raise DataError(
            f"{bad:,} of {reading.rows:,} rows cannot be used, more than max_bad_rows ({prepare.max_bad_rows:.2%}):\n  "
            + "\n  ".join(reading.examples),
            where=source.name,
            hint="Mend the file, or allow more with `prepare: {max_bad_rows: ...}`; all of them are counted.",
        )
    if reading.rows == 0:
        raise DataError(f"0 rows in {files}", where=source.name, hint="Is it the right file, and complete?")
