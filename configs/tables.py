"""Tables as rows: CSV and TSV with their traps, worksheets, parquet."""

from __future__ import annotations

import csv
import io
import re
from typing import TYPE_CHECKING

from configs.archives import check_packed
from configs.errors import DataError
from configs.reading import Ask, Found, Reading, content_of, decoded, lines_of, trouble_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from configs.archives import Member


def read_csv(member: Member, ask: Ask, reading: Reading) -> Found:
    """A table with a header row, or with the names given as `columns`; the separator is , tab ; or |."""
    text = decoded(member, ask, reading)
    lines = lines_of(text, ask, reading, member.where)
    first = next(lines, None)
    if first is None:
        return
    delimiter = _delimiter(first[0], ask.columns)
    csv.field_size_limit(ask.max_record_bytes)
    spaced = f'{delimiter} "' in first[0]
    rows = csv.reader(_chain(first[0], lines), delimiter=delimiter, skipinitialspace=spaced, strict=True)
    names = list(ask.columns) if ask.columns else None
    while True:
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end of data" in str(error):
                raise DataError(
                    "a quoted cell is never closed: the file is cut off, or a quotation mark is too many",
                    where=member.where,
                ) from error
            reading.refuse("malformed table row", f"{member.where}:{rows.line_num}", str(error))
            continue
        if names is None:
            names = _header(cells, member.where)
        elif cells and (flaw := _row_flaw(cells, names, ask)) is not None:
            reading.refuse(flaw[0], f"{member.where}:{rows.line_num}", flaw[1])
        elif cells:
            yield dict(zip(names, cells, strict=True)), rows.line_num


def _chain(first: str, lines: Iterator[tuple[str, int]]) -> Iterator[str]:
    yield first
    for line, _ in lines:
        yield line


def _delimiter(line: str, columns: tuple[str, ...] | None) -> str:
    """The separator that makes the declared number of cells, else the most frequent one outside of quotes."""
    bare = re.sub(r'"[^"]*"?', "", line)
    if columns:
        return next((mark for mark in ",\t;|" if bare.count(mark) == len(columns) - 1), ",")
    return max(",\t;|", key=lambda mark: (bare.count(mark), mark == ","))


def _header(cells: list[str], where: str) -> list[str]:
    names = [name.strip() or f"column_{position}" for position, name in enumerate(cells, 1)]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(
            f"two columns are called {twice!r}",
            where=f"{where}:1",
            hint="If the table has no header row, name its columns: `columns: [a, b, c]`.",
        )
    return names


def _row_flaw(cells: list[str], names: list[str], ask: Ask) -> tuple[str, str] | None:
    """Why a table row must not be used, and a detail."""
    if len(cells) != len(names):
        return "wrong number of cells", f"{len(cells)} instead of {len(names)}"
    trouble = trouble_of("".join(cells), ask)
    return None if trouble is None else (trouble, "")


def read_xlsx(member: Member, ask: Ask, reading: Reading) -> Found:
    """A worksheet with a header row; `records` names the sheet where there are several."""
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise DataError(
            "reading xlsx needs openpyxl", where=member.where, hint="pip install 'sectorlm[xlsx]', or save it as CSV."
        ) from error
    content = content_of(member)
    check_packed(content, member.where)
    try:
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    except Exception as error:  # openpyxl raises KeyError, ValueError, BadZipFile and its own
        raise DataError(f"not an xlsx file ({error})", where=member.where) from error
    sheets = {sheet.title: sheet for sheet in book.worksheets}
    wanted = ask.records or next(iter(sheets), "")
    if wanted not in sheets or (len(sheets) > 1 and not ask.records):
        raise DataError(
            f"no sheet {ask.records!r}" if ask.records else "several sheets",
            where=member.where,
            hint=f"Choose one with `records: SHEET`: {', '.join(sheets)}.",
        )
    names: list[str] | None = list(ask.columns) if ask.columns else None
    for number, cells in enumerate(sheets[wanted].iter_rows(values_only=True), 1):
        if all(cell is None for cell in cells):
            continue
        if names is None:
            names = _header(["" if cell is None else str(cell) for cell in cells], member.where)
        elif len(cells) != len(names):
            reading.refuse("wrong number of cells", f"{member.where}:{number}", f"{len(cells)} instead of {len(names)}")
        else:
            yield dict(zip(names, cells, strict=True)), number


def read_parquet(member: Member, _ask: Ask, _reading: Reading) -> Found:
    """Rows of a parquet file, batch by batch."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(pa.BufferReader(content_of(member)))
        number = 0
        for batch in table.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield row, number
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a readable parquet file ({error})", where=member.where) from error
