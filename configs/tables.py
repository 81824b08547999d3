"""Tables as rows: CSV and TSV with their traps, worksheets, parquet and Arrow."""

from __future__ import annotations

import csv
import io
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from configs.archives import check_packed
from configs.errors import DataError
from configs.reading import TOO_LARGE, Ask, Found, Reading, as_text, content_of, encoding_of, text_lines, trouble_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from configs.archives import Member

MARKS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
"""What may separate the cells of a table, the most common first."""
SAMPLE_LINES = 30
"""Lines that are looked at to find the separator."""
NO_HEADER = "the first row looks like data, not like names"
"""What is noted of a table that seems to have no header row."""
NAME_CHARACTERS = 64
"""A longer cell in the first row is hardly a column's name: PostgreSQL's longest is 63."""


def read_csv(member: Member, ask: Ask, reading: Reading) -> Found:
    """A table with a header row, or with the names given as `columns`; the separator is , tab ; or |."""
    encoding = encoding_of(member, ask, reading)
    lines = _lines(member, encoding, ask, reading)
    sample = list(islice(lines, SAMPLE_LINES))
    if not sample:
        return
    delimiter = _delimiter(sample, ask.columns)
    reading.dialects[MARKS[delimiter]] += 1
    csv.field_size_limit(ask.max_record_bytes)
    spaced = f'{delimiter} "' in sample[0]
    rows = csv.reader(chain(sample, lines), delimiter=delimiter, skipinitialspace=spaced, strict=True)
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
        if not cells:
            continue
        if names is None:
            names = _header(cells, member.where, reading)
        elif (flaw := _row_flaw(cells, names, ask, encoding)) is not None:
            reading.refuse(flaw[0], f"{member.where}:{rows.line_num}", flaw[1])
        else:
            yield dict(zip(names, cells, strict=True)), rows.line_num


def _lines(member: Member, encoding: str, ask: Ask, reading: Reading) -> Iterator[str]:
    for number, (line, whole) in enumerate(text_lines(as_text(member, encoding), ask.max_record_bytes), 1):
        if whole:
            yield line
        else:
            reading.refuse(TOO_LARGE, f"{member.where}:{number}")


def _delimiter(sample: list[str], columns: Sequence[str] | None) -> str:
    """The separator that cuts most of the first rows into as many cells as the header (or `columns`) has."""

    def fit(mark: str) -> tuple[float, int]:
        try:
            rows = [cells for cells in csv.reader(sample, delimiter=mark, skipinitialspace=True) if cells]
        except csv.Error:
            return 0.0, 0
        wide = len(columns) if columns else len(rows[0]) if rows else 0
        same = sum(len(cells) == wide for cells in rows) / max(len(rows), 1)
        return (same if wide > 1 else 0.0), wide

    return max(MARKS, key=fit)


def _header(cells: list[str], where: str, reading: Reading | None = None) -> list[str]:
    names = [name.strip() or f"column_{position}" for position, name in enumerate(cells, 1)]
    hint = "If the table has no header row, name its columns: `columns: [a, b, c]`."
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"two columns are called {twice!r}", where=f"{where}:1", hint=hint)
    odd = next((name for name in names if len(name) > NAME_CHARACTERS), None)
    if odd is not None and reading is not None:
        reading.notes.setdefault(NO_HEADER, f"{where}:1: {odd[:60]}... {hint}")
    return names


def _row_flaw(cells: list[str], names: list[str], ask: Ask, encoding: str) -> tuple[str, str] | None:
    """Why a table row must not be used, and a detail."""
    if len(cells) != len(names):
        return "wrong number of cells", f"{len(cells)} instead of {len(names)}"
    trouble = trouble_of("".join(cells), ask, encoding)
    return None if trouble is None else (trouble, "")


# ---------------------------------------------------------------- worksheets


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
            names = _header(["" if cell is None else str(cell) for cell in cells], member.where, reading)
        elif len(cells) != len(names):
            reading.refuse("wrong number of cells", f"{member.where}:{number}", f"{len(cells)} instead of {len(names)}")
        else:
            yield dict(zip(names, cells, strict=True)), number


# ---------------------------------------------------------------- columns


def read_parquet(member: Member, _ask: Ask, _reading: Reading) -> Found:
    """Rows of a parquet file, batch by batch; a plain file is never whole in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(member.path or pa.BufferReader(content_of(member)))
        groups = list(range(*_groups(member, table.num_row_groups)))
        yield from _numbered(table.iter_batches(batch_size=1024, row_groups=groups), member.first)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a readable parquet file ({error})", where=member.where) from error


def read_arrow(member: Member, _ask: Ask, _reading: Reading) -> Found:
    """Rows of an Arrow IPC file (Feather 2) or stream, batch by batch."""
    import pyarrow as pa

    try:
        if not member.head.startswith(b"ARROW1"):
            yield from _numbered(pa.ipc.open_stream(pa.PythonFile(member.stream, mode="r")), 1)
            return
        source = pa.memory_map(str(member.path)) if member.path else pa.BufferReader(content_of(member))
        file = pa.ipc.open_file(source)
        batches = (file.get_batch(number) for number in range(*_groups(member, file.num_record_batches)))
        yield from _numbered(batches, member.first)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a readable Arrow file ({error})", where=member.where) from error


def group_rows(path: Path, form: str) -> list[int]:
    """How many rows each row group of a parquet file, or each record batch of an Arrow file, has.

    A stream of Arrow batches has no index: it counts as one group.

    Raises:
        DataError: the file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if form == "parquet":
            found = pq.read_metadata(path)
            return [found.row_group(number).num_rows for number in range(found.num_row_groups)]
        with path.open("rb") as file:
            if file.read(6) != b"ARROW1":
                return [0]
        batches = pa.ipc.open_file(pa.memory_map(str(path)))
        return [batches.get_batch(number).num_rows for number in range(batches.num_record_batches)]
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"not a readable {form} file ({error})", where=path.name) from error


def _groups(member: Member, total: int) -> tuple[int, int]:
    part = member.part
    whole = part is None or (part.start == 0 and part.stop >= total)
    return (0, total) if part is None or whole else (part.start, part.stop)


def _numbered(batches: Iterable[Any], first: int) -> Found:
    for batch in batches:
        for number, row in enumerate(batch.to_pylist(), first):
            yield row, number
        first += len(batch)
