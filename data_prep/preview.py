"""The first records of a source as the model will see them, before anything is prepared: a wrong guess must be visible.

print("\n".join(preview_lines(preview(source, roots, 3))))
print("\n".join(file_lines(preview_file(Path("filings.csv"), 3))))
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from configs.errors import DataError, RecipeError
from configs.job import find_files, roots_of
from configs.read import Reading, Row, labels_of, read_rows
from configs.recipe import Prepare
from configs.tables import NO_HEADER
from data_prep.documents import Document, documents_of, first_row_kinds, is_selected
from data_prep.guess import entry_of, placeholders, records_of
from data_prep.ledger import Account
from data_prep.read import care_of, family, mended

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from configs.recipe import Source

CELL = 200
"""Characters of a field that are shown."""
FIELDS = 30
"""Fields of a record that are shown."""
MOST = 20
"""Documents that are shown: many exercises may be made of one row."""
DOCUMENT = 1500
"""Characters of a document that are shown."""


@dataclass(frozen=True)
class Preview:
    """What the first records of a source look like."""

    source: str
    files: int
    """Files that the source's paths name."""
    reading: Reading
    """Counts of what was read for this view: rows seen and refused, encodings, separators."""
    columns: dict[str, str] = field(default_factory=dict)
    """The first row's columns and the kind of value in each."""
    rows: list[Row] = field(default_factory=list)
    documents: list[Document] = field(default_factory=list)
    """The first rows that are selected, rendered."""
    dropped: dict[str, int] = field(default_factory=dict)
    """Rows that became no document, by reason."""
    trouble: str = ""
    """Why the first row cannot be rendered."""
    entry: str = ""
    """A guess at how a recipe names the file, ready to be pasted under `corpora:`."""

    def as_json(self) -> dict[str, Any]:
        """The same as plain data."""
        return {
            "source": self.source,
            "files": self.files,
            "reading": self.reading.figures(),
            "columns": self.columns,
            "rows": [row._asdict() for row in self.rows],
            "documents": [{"where": it.where, "text": it.text, "messages": it.messages} for it in self.documents],
            "dropped": self.dropped,
            "trouble": self.trouble,
            "entry": self.entry,
        }


def look(target: Path, name: str, sets: Sequence[str], count: int) -> tuple[dict[str, Any], list[str]]:
    """The first records of a data file, or of the source `name` of a recipe: plain data, and lines for a person.

    Raises:
        RecipeError: the recipe is wrong, or has no such source.
        DataError: a file is missing or damaged.
        UnsafeArtefactError: a file that is not safe to open.
    """
    from configs.load import load_recipe

    if not name:
        seen = preview_file(target, count)
        return seen.as_json(), file_lines(seen)
    recipe = load_recipe(target, sets)
    source = next((it for it in recipe.corpora if it.name == name), None)
    if source is None:
        known = ", ".join(it.name for it in recipe.corpora)
        raise RecipeError(f"no source {name!r}", where="--source", hint=f"The recipe has: {known}.")
    seen = preview(source, roots_of(recipe, target), count, recipe.prepare, recipe.seed)
    return seen.as_json(), preview_lines(seen)


def preview(
    source: Source, roots: tuple[Path, ...], count: int, prepare: Prepare | None = None, seed: int = 0
) -> Preview:
    """The first `count` selected rows of a source as the model will see them: mended, masked, with what is composed of them.

    What is wrong with the first row is told, not raised.

    Raises:
        DataError: a file is missing or damaged.
        UnsafeArtefactError: a file that is not safe to open.
        StorageError: a data set of the hub cannot be reached.
    """
    account = Account(source.name)
    rows, files = source_rows(source, roots, account.reading)
    care = care_of(prepare or Prepare(), source)
    shown: list[Row] = []
    documents: list[Document] = []
    for row in rows:
        if not shown:
            try:
                kinds = first_row_kinds(source, row)
            except DataError as error:
                return Preview(source.name, files, account.reading, _kinds(row.fields), [row], trouble=str(error))
        if is_selected(source, row):
            shown.append(row)
            for read in documents_of(source, [row], account, kinds):
                document = mended(read, care, account)
                entries = family(document, row.fields, source, care, seed, account)
                documents += [entry.document for entry in entries]
        if len(documents) >= count or account.reading.rows >= count + 1000:
            break
    columns = _kinds(shown[0].fields) if shown else {}
    return Preview(source.name, files, account.reading, columns, shown, documents[:MOST], dropped=dict(account.dropped))


def preview_file(path: Path, count: int) -> Preview:
    """Read the first `count` rows of a data file that no recipe names yet, and guess its entry in a recipe.

    Raises:
        DataError: the file is missing, damaged or not a data file.
        UnsafeArtefactError: it is not safe to open.
    """
    reading = Reading()
    rows = list(islice(read_rows([path], reading=reading), max(count, 2)))
    records = records_of(rows[0].fields, single=len(rows) == 1) if rows else ""
    columns = placeholders(len(rows[0].fields)) if rows and NO_HEADER in reading.notes else None
    if records or columns:
        again = Reading(notes=reading.notes)
        rows = list(islice(read_rows([path], reading=again, records=records, columns=columns), count))
        reading = again
    first = rows[0].fields if rows else {}
    entry = entry_of(path, first, records, columns or ()) if first else ""
    return Preview(path.name, 1, reading, _kinds(first), rows[:count], entry=entry)


def source_rows(source: Source, roots: tuple[Path, ...], reading: Reading) -> tuple[Iterator[Row], int]:
    """The rows of a source as its files hold them, and how many local files these are."""
    from configs.hub import HUB, hub_rows

    local = {path: find_files(path, roots) for path in source.paths if not path.startswith(HUB)}

    def rows() -> Iterator[Row]:
        for path in source.paths:
            if path not in local:
                yield from hub_rows(path, reading)
                continue
            yield from read_rows(
                local[path],
                path.partition("!")[2],
                labels=labels_of(local[path]),
                reading=reading,
                format=source.format,
                encoding=source.encoding,
                columns=source.columns,
                records=source.records,
            )

    return rows(), sum(map(len, local.values()))


def _kinds(fields: Mapping[str, Any]) -> dict[str, str]:
    return {name: _kind(value) for name, value in fields.items()}


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return "text"
    if isinstance(value, list):
        return f"list of {len(value)}"
    if isinstance(value, dict):
        return f"object: {', '.join(map(str, list(value)[:8]))}"
    return type(value).__name__


# ---------------------------------------------------------------- lines


def preview_lines(seen: Preview) -> list[str]:
    """The view of a source: how it is read, its columns, and each document with what is supervised between « and »."""
    lines = [
        f"{seen.source}: {seen.files} files; {_how(seen.reading)}",
        *_columns(seen.columns),
        *_refused(seen.reading),
        *(f"left out: {reason}: {count:,}" for reason, count in seen.dropped.items()),
    ]
    if seen.trouble:
        return [*lines, "", f"the first row cannot be used: {seen.trouble}", *_fields(seen.rows[0])]
    for document in seen.documents:
        lines += ["", f"-- {document.where}", *_document(document)]
    return lines


def file_lines(seen: Preview) -> list[str]:
    """The view of a data file: how it is read, the fields of its first records, and an entry for a recipe."""
    lines = [f"{seen.source}: {_how(seen.reading)}", *_columns(seen.columns), *_refused(seen.reading)]
    for row in seen.rows:
        lines += ["", f"-- {row.where}", *_fields(row)]
    return [*lines, "", "a recipe may name it so (a guess: check it):", "corpora:", seen.entry] if seen.entry else lines


def _how(reading: Reading) -> str:
    """`json, utf-8, 3 rows read`."""
    parts = [", ".join(reading.forms), ", ".join(reading.encodings)]
    parts += [f"cells parted by {', '.join(reading.dialects)}"] if reading.dialects else []
    parts += [f"{reading.rows:,} rows read", f"{reading.refused.total():,} refused" if reading.refused else ""]
    return ", ".join(filter(None, parts))


def _columns(columns: Mapping[str, str]) -> list[str]:
    named = "; ".join(f"{_cut(name, 60)} ({kind})" for name, kind in islice(columns.items(), FIELDS))
    return [f"columns: {named}"] if columns else []


def _refused(reading: Reading) -> list[str]:
    notes = [f"note: {what}: {where}" for what, where in reading.notes.items()]
    left_out = [f"left out: {what}: {count:,}" for what, count in reading.left_out.items()]
    return [*notes, *left_out, *(f"refused: {example}" for example in reading.examples)]


def _fields(row: Row) -> list[str]:
    lines = [f"   {name}: {_cut(_plain(value), CELL)}" for name, value in islice(row.fields.items(), FIELDS)]
    more = len(row.fields) - FIELDS
    return [*lines, f"   ... {more:,} fields more"] if more > 0 else lines


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _cut(text: str, most: int) -> str:
    shown = text if len(text) <= most else f"{text[:most]} ... ({len(text) - most:,} characters more)"
    return shown.replace("\n", "\n      ")


def _document(document: Document) -> Sequence[str]:
    if not document.messages:
        return [f"   «{_cut(document.text, DOCUMENT)}»"]
    lines = []
    for role, content in document.messages:
        said = _cut(content, DOCUMENT)
        lines.append(f"   {role}: «{said}»" if role == "assistant" else f"   {role}: {said}")
    return [*lines, f"   rejected: {_cut(document.rejected, DOCUMENT)}"] if document.rejected else lines
