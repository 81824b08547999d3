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
from data_prep.documents import CONTENT_KEYS, ROLE_KEYS, Document, documents_of, first_row_kinds, is_selected
from data_prep.ledger import Account

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from configs.recipe import Source

CELL = 200
"""Characters of a field that are shown."""
FIELDS = 30
"""Fields of a record that are shown."""
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
    seen = preview(source, roots_of(recipe, target), count)
    return seen.as_json(), preview_lines(seen)


def preview(source: Source, roots: tuple[Path, ...], count: int) -> Preview:
    """Read and render the first `count` selected rows of a source; what is wrong with the first one is told, not raised.

    Raises:
        DataError: a file is missing or damaged.
        UnsafeArtefactError: a file that is not safe to open.
        StorageError: a data set of the hub cannot be reached.
    """
    account = Account(source.name)
    rows, files = _source_rows(source, roots, account.reading)
    shown: list[Row] = []
    documents: list[Document] = []
    for row in rows:
        if not shown:
            try:
                kinds = first_row_kinds(source, row)
            except DataError as error:
                return Preview(source.name, files, account.reading, _kinds(row.fields), [row], [], str(error))
        if is_selected(source, row):
            shown.append(row)
            documents += documents_of(source, [row], account, kinds)
        if len(documents) >= count or account.reading.rows >= count + 1000:
            break
    columns = _kinds(shown[0].fields) if shown else {}
    return Preview(source.name, files, account.reading, columns, shown, documents)


def preview_file(path: Path, count: int) -> Preview:
    """Read the first `count` rows of a data file that no recipe names yet, and guess its entry in a recipe.

    Raises:
        DataError: the file is missing, damaged or not a data file.
        UnsafeArtefactError: it is not safe to open.
    """
    reading = Reading()
    rows = list(islice(read_rows([path], reading=reading), max(count, 2)))
    records = _records(rows[0].fields) if len(rows) == 1 else ""
    if records:
        reading = Reading()
        rows = list(islice(read_rows([path], reading=reading, records=records), count))
    first = rows[0].fields if rows else {}
    entry = _entry(path, records, first) if rows else ""
    return Preview(path.name, 1, reading, _kinds(first), rows[:count], entry=entry)


def _source_rows(source: Source, roots: tuple[Path, ...], reading: Reading) -> tuple[Iterator[Row], int]:
    from configs.hub import HUB, hub_rows

    paths = (source.path,) if isinstance(source.path, str) else source.path
    local = {path: find_files(path, roots) for path in paths if not path.startswith(HUB)}

    def rows() -> Iterator[Row]:
        for path in paths:
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


# ---------------------------------------------------------------- a guess at the recipe

PAIRS = (
    ("question", "answer"),
    ("question", "answers"),
    ("instruction", "output"),
    ("prompt", "response"),
    ("prompt", "completion"),
    ("query", "response"),
    ("ask", "answer"),
    ("input", "output"),
)
TEXTS = ("text", "content", "body", "document", "article", "abstract", "paragraphs", "segment", "sentence")


def _records(fields: Mapping[str, Any]) -> str:
    """Where the records of a file with a single value may lie: an object keyed by ids, or lists inside of one another."""
    values = list(fields.values())
    if len(values) > 1 and all(isinstance(value, dict) for value in values):
        return "*"
    steps: list[str] = []
    while True:
        lists = [
            name for name, value in fields.items() if isinstance(value, list) and value and isinstance(value[0], dict)
        ]
        if len(lists) != 1 or "question" in fields or any(key in fields[lists[0]][0] for key in ROLE_KEYS):
            return ".".join(steps)
        steps.append(f"{lists[0]}[]")
        fields = fields[lists[0]][0]


def _entry(path: Path, records: str, fields: Mapping[str, Any]) -> str:
    """Lines of YAML for `corpora:`; the shape is guessed by the names and the values of the columns."""
    name = "".join(
        char if char.isascii() and (char.isalnum() or char in "_-") else "-" for char in path.name.split(".")[0]
    )
    given = {"name": name.strip("-") or "corpus", "path": path.name, **({"records": records} if records else {})}
    given |= _shape(fields)
    lines = [
        f"{key}: {value if key == 'name' else json.dumps(value, ensure_ascii=False)}" for key, value in given.items()
    ]
    lines.append("licence: unknown    # SPDX identifier, or a name that `sectorlm check` lists")
    return "\n".join(("  - " if number == 0 else "    ") + line for number, line in enumerate(lines))


def _shape(fields: Mapping[str, Any]) -> dict[str, str]:
    lower = {str(name).lower(): str(name) for name in fields}
    for name, value in fields.items():
        turns = value if isinstance(value, list) and value and isinstance(value[0], dict) else ()
        if turns and any(key in turns[0] for key in ROLE_KEYS) and any(key in turns[0] for key in CONTENT_KEYS):
            return {"messages": str(name)}
    if {"chosen", "rejected", "prompt"} <= lower.keys():
        return {key: _column(lower[key]) for key in ("prompt", "chosen", "rejected")}
    for asked, answered in PAIRS:
        if asked in lower and answered in lower:
            before = _column(lower["context"]) + "\n" if "context" in lower else ""
            after = "\n" + _column(lower["input"]) if asked == "instruction" and "input" in lower else ""
            several = isinstance(fields[lower[answered]], list)  # the form of SQuAD
            answer = f"{{{{ {lower[answered]}[0].text }}}}" if several else _column(lower[answered])
            return {"prompt": before + _column(lower[asked]) + after, "answer": answer}
    known = next((lower[name] for name in TEXTS if name in lower), None)
    if known is not None:
        return {"text": _column(known)}
    plain = {name: value for name, value in fields.items() if isinstance(value, str)}
    longest = max(plain, key=lambda name: len(plain[name]), default="...")
    return {"text": _column(str(longest))}


def _column(name: str) -> str:
    return f"{{{{ {name} }}}}" if name.isidentifier() else f'{{{{ row["{name}"] }}}}'


# ---------------------------------------------------------------- lines


def preview_lines(seen: Preview) -> list[str]:
    """The view of a source: how it is read, its columns, and each document with what is supervised between « and »."""
    lines = [
        f"{seen.source}: {seen.files} files; {_how(seen.reading)}",
        *_columns(seen.columns),
        *_refused(seen.reading),
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
