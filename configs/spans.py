"""Cutting large files into parts that can be read apart: JSON Lines at line ends, parquet and Arrow by groups of rows.

spans = spans_of(Path("filings.jsonl"), "auto", "auto", 64 * 2**20)
labels = labels_of([Path("filings.jsonl")])
rows = [row for span in spans for row in read_rows({span: labels[span.path]})]      # as if read in one go
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from configs.archives import PACKED, members
from configs.charset import find_encoding, keeps_line_ends
from configs.forms import form_of, is_jsonl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


CHUNK_BYTES = 2**22
"""Bytes looked at in one go when lines are counted."""


class Span(NamedTuple):
    """A part of a file: bytes of a text file, row groups or record batches of a parquet or Arrow file."""

    path: Path
    start: int
    stop: int
    line: int
    """Number of its first line or row, counted from 1."""
    size: int
    """Its bytes, about."""


def spans_of(path: Path, format: str, encoding: str, size: int) -> list[Span]:  # noqa: A002
    """Cut a file into spans of about `size` bytes that give the same rows and the same places as the whole file.

    JSON Lines are cut at line ends, parquet and Arrow files between row groups; a compressed file, an archive and any
    other form is one span.

    Raises:
        DataError: the file is missing, damaged or not text.
        UnsafeArtefactError: it is a pickle or a program.
    """
    total = path.stat().st_size if path.is_file() else 0
    whole = [Span(path, 0, total, 1, total)]
    if PACKED.search(path.name.lower()):
        return whole
    member = next(members(path, path.name))
    form = form_of(member) if format == "auto" else format
    if member.path is None or total <= size:
        return whole
    if form in ("parquet", "arrow"):
        return _row_groups(path, form, size, total)
    if form != "jsonl" and not (form == "json" and is_jsonl(member.head)):
        return whole
    if not keeps_line_ends(find_encoding(member.head, encoding, member.where)):
        return whole
    return list(_lines(path, size, total))


def _lines(path: Path, size: int, total: int) -> Iterator[Span]:
    """Spans that end after the first line end beyond each multiple of `size`."""
    start, line = 0, 1
    with path.open("rb") as file:
        while start < total:
            seen, newlines, stop = start, 0, total
            file.seek(start)
            while chunk := file.read(CHUNK_BYTES):
                end = chunk.find(b"\n", max(start + size - seen - 1, 0))
                newlines += chunk.count(b"\n", 0, len(chunk) if end < 0 else end + 1)
                if end >= 0:
                    stop = seen + end + 1
                    break
                seen += len(chunk)
            yield Span(path, start, stop, line, stop - start)
            start, line = stop, line + newlines


def _row_groups(path: Path, form: str, size: int, total: int) -> list[Span]:
    from configs.tables import group_rows

    rows = group_rows(path, form)
    each = max(1, len(rows) * size // total)
    cuts = [(start, min(start + each, len(rows))) for start in range(0, len(rows), each)]
    return [
        Span(path, start, stop, 1 + sum(rows[:start]), total * (stop - start) // len(rows)) for start, stop in cuts
    ] or [Span(path, 0, 0, 1, total)]
