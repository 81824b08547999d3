"""Files of any form to rows: streamed, bounded in memory, and every refused record counted with its reason.

    for row in read_rows([Path("10-K.zip")], "*.json", reading=(reading := Reading())):
        row.fields["item_1"], row.where            # "...", "10-K.zip!10-K/1000180_10K_2010.json"
    reading.rows, reading.refused, reading.encodings

`records` says where the records lie inside nested data, as steps from the top with a dot between them:

    data[].paragraphs[]    each element of the list `paragraphs` of each element of the list `data`
    *                      each value of an object whose keys are ids; the key becomes the field `_key`
    QAPairs.QAPair[]       XML: each element QAPair of QAPairs; a single one counts as a list of one
    1                      the second element of a list

Plain fields on the way are carried down to the inner records; an inner field of the same name wins. The elements of a
top-level list and the lines of JSON Lines are records already; the steps start inside of them.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.archives import Member, members
from configs.errors import DataError, UnsafeArtefactError, did_you_mean
from configs.forms import ENDINGS, FORMS
from configs.reading import Ask, Reading
from configs.store import digest_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Reading", "Row", "digest_files", "read_rows"]


class Row(NamedTuple):
    """One record: its fields, and where it stands (`a.zip!b.json:12`: the twelfth line or element)."""

    fields: dict[str, Any]
    where: str


def read_rows(
    files: Sequence[Path],
    inside: str = "",
    *,
    format: str = "auto",  # noqa: A002
    encoding: str = "auto",
    columns: Sequence[str] | None = None,
    records: str = "",
    max_record_bytes: int = 10_000_000,
    reading: Reading | None = None,
) -> Iterator[Row]:
    """Read the rows of `files`, in order; `inside` is a glob over the members of archives.

    Records that cannot be used (malformed, too large, bytes of another encoding, duplicate keys, lone surrogates) are
    counted in `reading` and passed over.

    Raises:
        DataError: a file is missing, damaged, not text, or of another form than its neighbours; a path of `records`
            that the first record does not have.
        UnsafeArtefactError: a bomb, a link or a path that leaves an archive, or a pickle.
    """
    reading = Reading() if reading is None else reading
    ask = Ask(encoding, tuple(columns) if columns else None, records, max_record_bytes)
    steps = [] if format == "xlsx" else [step for step in records.split(".") if step]
    seen: tuple[str, str] | None = None
    for path, label in _labels(files).items():
        for member in members(path, label, inside):
            form = _form(member) if format == "auto" else format
            seen = _same_form(seen, form, member.where)
            reading.files += 1
            for record, position in FORMS[form](member, ask, reading):
                where = f"{member.where}:{position}" if position else member.where
                yield from _rows(record, [] if form == "xlsx" else steps, where, reading)


def digest_files(files: Sequence[Path], roots: Sequence[Path]) -> dict[str, str]:
    """sha256 of each file; its label is the path below the innermost root that holds it, else its name.

    Where two files would have the same label, the later one gets a longer one: no file goes unnoticed.
    """
    digests: dict[str, str] = {}
    for file in dict.fromkeys(files):
        inner = [file.relative_to(root).as_posix() for root in roots if file.is_relative_to(root)]
        names = [*sorted(inner, key=len), file.name, file.as_posix()]
        digests[next(name for name in names if name not in digests)] = digest_file(file)
    return digests


def _labels(files: Sequence[Path]) -> dict[Path, str]:
    """Short names that still differ: paths below the folder that the files share."""
    if len(files) == 1:
        return {files[0]: files[0].name}
    shared = os.path.commonpath([file.parent for file in files]) if files else ""
    return {file: file.relative_to(shared).as_posix() for file in files}


def _form(member: Member) -> str:
    """By the ending; a file with another ending is parquet or JSON if it begins so, else text."""
    head = member.stream.peek(4096).lstrip()  # type: ignore[attr-defined]
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        raise UnsafeArtefactError("is a pickle, which runs code when opened", where=member.where)
    known = ENDINGS.get(PurePosixPath(member.name.lower()).suffix)
    if known is not None:
        return known
    if head.startswith(b"PAR1"):
        return "parquet"
    return "json" if head.startswith((b"{", b"[")) else "text"


def _same_form(seen: tuple[str, str] | None, form: str, where: str) -> tuple[str, str]:
    """One source, one form: a README among tables is a mistake in the path, not a record."""
    kind = {"jsonl": "json", "markdown": "text", "tsv": "csv"}.get(form, form)
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
    step, rest = steps[0], steps[1:]
    if step == "*":
        for key, inner in _mapping(value, step).items():
            yield from _expand(inner, rest, {**outer, "_key": key})
        return
    name, many = step.removesuffix("[]"), step.endswith("[]")
    if isinstance(value, dict):
        outer = {**outer, **{key: inner for key, inner in value.items() if not isinstance(inner, (dict, list))}}
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
