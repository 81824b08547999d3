"""Files of any form to rows: streamed, bounded in memory, and every refused record counted with its reason.

    for row in read_rows([Path("10-K.zip")], "*.json", reading=(reading := Reading())):
        row.fields["item_1"], row.where            # "...", "10-K.zip!10-K/1000180_10K_2010.json"
    reading.rows, reading.refused, reading.encodings

`records` says where the records lie inside nested data, as steps from the top with a dot between them:

    data[].paragraphs[]    each element of the list `paragraphs` of each element of the list `data`
    *                      each value of an object whose keys are ids; the key becomes the field `_key`
    QAPairs.QAPair[]       XML: each element QAPair of QAPairs; a single one counts as a list of one
    1                      the second element of a list
    questions[]+table      each element of the list `questions`, with the list or object `table` that stands beside it

Plain fields on the way are carried down to the inner records, lists and objects where a `+` names them; an inner field of
the same name wins. The elements of a top-level list and the lines of JSON Lines are records already; the steps start
inside of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

from configs.archives import Member, members
from configs.errors import DataError, did_you_mean
from configs.forms import FORMS, WHOLE, form_of, kind_of
from configs.reading import Ask, How, Reading
from configs.spans import Span
from configs.store import digest_once

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

__all__ = ["Reading", "Row", "Span", "digest_files", "labels_of", "read_rows"]


class Row(NamedTuple):
    """One record: its fields, and where it stands (`a.zip!b.json:12`: the twelfth line or element)."""

    fields: dict[str, Any]
    where: str


def read_rows(
    files: Sequence[Path | Span],
    inside: str = "",
    *,
    labels: Mapping[Path, str] | None = None,
    reading: Reading | None = None,
    **how: Unpack[How],
) -> Iterator[Row]:
    """Read the rows of `files`, or of parts of them, in order; `inside` is a glob over the members of archives.

    `how` is a source's `format`, `encoding`, `columns`, `records` and the `max_record_bytes`. `labels` are the names
    that stand in `where`. Records that cannot be used (malformed, too large, bytes of another encoding, duplicate keys,
    lone surrogates) are counted in `reading` and passed over.

    Raises:
        DataError: a file is missing, damaged, not text, or of another form than its neighbours; a path of `records`
            that the first record does not have.
        UnsafeArtefactError: a bomb, a link or a path that leaves an archive, a pickle or a program.
    """
    reading, ask = reading or Reading(), Ask(**how)
    labels = labels_of([file for file in files if not isinstance(file, Span)]) if labels is None else labels
    seen: tuple[str, str] | None = None
    for file in files:
        path, part = (file.path, file) if isinstance(file, Span) else (file, None)
        for member in members(path, labels.get(path, path.name), inside, part):
            form = form_of(member) if ask.format == "auto" else ask.format
            seen = _same_form(seen, form, member.where)
            if member.begins:
                reading.files += 1
                reading.forms[form] += 1
            if not member.head:
                reading.left_out["empty file"] += 1
            yield from _member_rows(member, form, ask, reading)


def _member_rows(member: Member, form: str, ask: Ask, reading: Reading) -> Iterator[Row]:
    steps = [] if form in WHOLE else _steps(ask.records)
    try:
        for record, position in FORMS[form](member, ask, reading):
            where = f"{member.where}:{position}" if position else member.where
            if steps or not isinstance(record, dict):
                yield from _rows(record, steps, where, reading)
            else:
                reading.rows += 1
                yield Row(record, where)
    except UnicodeDecodeError as error:  # half a character of UTF-16: of other encodings only the record is lost
        raise DataError(
            f"not {error.encoding} at byte {error.start}", where=member.where, hint="Is it cut off?"
        ) from error


def _steps(records: str) -> list[str]:
    """The steps of a path.

    Raises:
        DataError: a step has no name.
    """
    steps = records.split(".") if records else []
    if any(step.partition("+")[0] in ("", "[]") for step in steps):
        raise DataError(
            f"a step without a name in {records!r}",
            where="records",
            hint="Steps are NAME, NAME[] or *, with a dot between them: data[].questions[]. NAME[]+TABLE carries the list "
            "TABLE down too. The elements of a list at the top are records already.",
        )
    return steps


def labels_of(files: Sequence[Path]) -> dict[Path, str]:
    """Short names of files that still differ: paths below the folder that they share."""
    if len(files) == 1:
        return {files[0]: files[0].name}
    shared = os.path.commonpath([file.parent for file in files]) if files else ""
    return {file: file.relative_to(shared).as_posix() for file in files}


def digest_files(files: Sequence[Path], roots: Sequence[Path]) -> dict[str, str]:
    """sha256 of each file; its label is the path below the innermost root that holds it, else its name.

    Where two files would have the same label, the later one gets a longer one: no file goes unnoticed.
    """
    digests: dict[str, str] = {}
    for file in dict.fromkeys(files):
        inner = [file.relative_to(root).as_posix() for root in roots if file.is_relative_to(root)]
        names = [*sorted(inner, key=len), file.name, file.as_posix()]
        digests[next(name for name in names if name not in digests)] = digest_once(file)
    return digests


def _same_form(seen: tuple[str, str] | None, form: str, where: str) -> tuple[str, str]:
    """One source, one form: a README among tables is a mistake in the path, not a record."""
    kind = kind_of(form)
    if seen is not None and seen[0] != kind:
        raise DataError(
            f"files of different forms: {seen[1]} is {seen[0]}, {where} is {kind}",
            where=where,
            hint="Select the files with a glob, `folder/*.jsonl` or `archive.zip!*.json`, or set `format:`.",
        )
    return seen or (kind, where)


class _NotThereError(Exception):
    """A step of `records` that a record does not have."""


def _rows(record: Any, steps: list[str], where: str, reading: Reading) -> Iterator[Row]:
    try:
        found = list(_expand(record, steps, {}))
    except _NotThereError as error:
        if reading.rows == 0:
            raise DataError(str(error), where=where, hint="Correct `records:`.") from error
        reading.refuse("no such path of `records`", where, str(error))
        return
    for number, fields in enumerate(found, 1):
        place = f"{where}#{number}" if steps else where
        if fields is None:
            reading.refuse("not an object", place)
        else:
            reading.rows += 1
            yield Row(fields, place)


def _expand(value: Any, steps: list[str], outer: Mapping[str, Any]) -> Iterator[dict[str, Any] | None]:
    """The records below `value`; None for one that is no object."""
    if not steps:
        if isinstance(value, dict):
            yield {**outer, **value}
        else:
            yield {**outer, "text": value} if isinstance(value, str) else None
        return
    (step, *kept), rest = steps[0].split("+"), steps[1:]
    if step == "*":
        for key, inner in _mapping(value, step).items():
            yield from _expand(inner, rest, {**outer, "_key": key})
        return
    name, many = step.removesuffix("[]"), step.endswith("[]")
    if isinstance(value, dict):
        plain = {key: inner for key, inner in value.items() if key in kept or not isinstance(inner, (dict, list))}
        outer = {**outer, **plain}
    inner = _child(value, name) if value or not many else []  # an empty XML element holds no records
    for each in inner if many and isinstance(inner, list) else [inner]:
        yield from _expand(each, rest, outer)


def _child(value: Any, name: str) -> Any:
    if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    keys = _mapping(value, name)
    if name not in keys:
        near = did_you_mean(name, map(str, keys))
        raise _NotThereError(f"no {name} in the record. {near} It has: {', '.join(map(str, list(keys)[:20]))}.")
    return keys[name]


def _mapping(value: Any, step: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _NotThereError(f"{step} asks for an object, but there is a {type(value).__name__}.")
    return value
