"""The forms of files: each turns a stream of bytes into records, and counts what it must refuse.

A form is a function `(member, ask, reading) -> (record, position)...`; a record is what stands in the file, before
`records:` looks inside of it. Memory is bounded by one record for JSON Lines and tables, by one file for the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from configs.archives import HEAD_BYTES, Member
from configs.errors import DataError
from configs.reading import Ask, Found, Reading, decoded, encodes, lines_of, text_of, trouble_of
from configs.tables import read_csv, read_parquet, read_xlsx

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

Form = Callable[[Member, Ask, Reading], Found]


def read_text(member: Member, ask: Ask, reading: Reading) -> Found:
    """The whole file is one record: `text`, `title` (its name without the ending) and `file`."""
    content = decoded(member, ask, reading).read(ask.max_record_bytes + 1)
    if (trouble := trouble_of(content, ask)) is not None:
        reading.refuse(trouble, member.where)
        return
    name = member.where.rpartition("!")[2]
    title = name.rpartition("/")[2].rpartition(".")[0] or name
    yield {"text": content, "title": title, "file": name}, 0


# ---------------------------------------------------------------- JSON

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


class _Twice(dict[str, Any]):
    """An object in which a key stood twice; `key` is the first of them."""

    key = ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    once = dict(pairs)
    if len(once) == len(pairs):
        return once
    names = [name for name, _ in pairs]
    twice = _Twice(once)
    twice.key = next(name for name in names if names.count(name) > 1)
    return twice


def _flaw(value: Any) -> str | None:
    """A key that stands twice or a lone surrogate, anywhere in `value`."""
    if isinstance(value, str):
        return None if encodes(value) else "lone surrogate"
    if isinstance(value, _Twice):
        return "duplicate key"
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((flaw for part in inner if (flaw := _flaw(part)) is not None), None)


class _Parser:
    """A JSON decoder that knows whether a closer look for flaws is needed."""

    def __init__(self) -> None:
        self.suspicious = False
        self.decode = json.JSONDecoder(object_pairs_hook=self._object).decode

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = _object(pairs)
        self.suspicious = self.suspicious or isinstance(made, _Twice)
        return made

    def parse(self, text: str) -> Any:
        self.suspicious = SURROGATE.search(text) is not None
        return self.decode(text)


def read_jsonl(member: Member, ask: Ask, reading: Reading) -> Found:
    """One JSON value per line; empty lines are passed over."""
    parser = _Parser()
    for line, number in lines_of(decoded(member, ask, reading), ask, reading, member.where):
        if not line.strip():
            continue
        where = f"{member.where}:{number}"
        if (trouble := trouble_of(line, ask)) is not None:
            reading.refuse(trouble, where)
            continue
        try:
            value = parser.parse(line)
        except (json.JSONDecodeError, RecursionError) as error:
            if not line.endswith("\n"):
                reading.refuse("last line looks cut off", where)
            else:
                reading.refuse("malformed JSON", where, _place(error))
            continue
        if parser.suspicious and (flaw := _flaw(value)) is not None:
            reading.refuse(flaw, where)
            continue
        yield value, number


def _place(error: Exception) -> str:
    return f"column {error.colno}: {error.msg}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"


def read_json(member: Member, ask: Ask, reading: Reading) -> Found:
    """A list (its elements are the records) or one object; JSON Lines under the wrong name are recognised."""
    if _is_jsonl(member.stream.peek(HEAD_BYTES)[:HEAD_BYTES]):  # type: ignore[attr-defined]
        yield from read_jsonl(member, ask, reading)
        return
    text = text_of(member, ask, reading)
    if not text.strip():
        return
    parser = _Parser()
    try:
        value = parser.parse(text)
    except json.JSONDecodeError as error:
        cut = error.pos >= len(text.rstrip()) - 1
        reason = "looks cut off" if cut else f"is not JSON: column {error.colno}: {error.msg}"
        raise DataError(f"the file {reason}", where=f"{member.where}:{error.lineno}") from error
    except RecursionError as error:
        raise DataError("the JSON is nested too deeply", where=member.where) from error
    large = len(text) * 4 > ask.max_record_bytes
    for position, record in enumerate(value, 1) if isinstance(value, list) else ((0, value),):
        flaw = _flaw(record) if parser.suspicious else None
        if flaw is None and large and isinstance(value, list):
            flaw = trouble_of(json.dumps(record, ensure_ascii=False), ask)
        if flaw is not None:
            reading.refuse(flaw, f"{member.where}:{position}")
        else:
            yield record, position


def _is_jsonl(head: bytes) -> bool:
    """The first line is a whole object and another one follows."""
    first, _, rest = head.lstrip(b"\xef\xbb\xbf \r\n\t").partition(b"\n")
    if not first.startswith(b"{") or not rest.lstrip().startswith(b"{"):
        return False
    try:
        json.loads(first)
    except ValueError:
        return False
    return True


# ---------------------------------------------------------------- XML


def read_xml(member: Member, ask: Ask, reading: Reading) -> Found:
    """The root element as one record.

    An element with children becomes an object of its attributes and children; one without, or with words between its
    children (`<p>Take <b>one</b> daily.</p>`), becomes its whole text, and its attributes stand beside it as
    `Tag_attribute`; repeated tags become a list. expat >= 2.4.1 stops entity bombs.
    """
    from xml.etree import ElementTree

    text = text_of(member, ask, reading)
    if not text.strip():
        return
    try:
        root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text, count=1))
    except ElementTree.ParseError as error:
        line, column = error.position
        reading.refuse("malformed XML", f"{member.where}:{line}", f"column {column}: {error}")
        return
    yield _element(root), 0


def _element(element: Element) -> dict[str, Any]:
    fields: dict[str, Any] = dict(element.attrib)
    repeated: set[str] = set()
    for child in element:
        tag = child.tag.rpartition("}")[2]
        plain = not len(child) or _has_words(child)
        value = "".join(child.itertext()).strip() if plain else _element(child)
        if plain:
            fields.update({f"{tag}_{name}": content for name, content in child.attrib.items()})
        if tag not in fields:
            fields[tag] = value
        elif tag in repeated:
            fields[tag].append(value)
        else:
            fields[tag] = [fields[tag], value]
            repeated.add(tag)
    return fields


def _has_words(element: Element) -> bool:
    """Whether words stand beside the children of an element."""
    return any(text and not text.isspace() for text in (element.text, *(child.tail for child in element)))


FORMS: dict[str, Form] = {
    "json": read_json,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_csv,
    "text": read_text,
    "markdown": read_text,
    "xml": read_xml,
    "parquet": read_parquet,
    "xlsx": read_xlsx,
}
ENDINGS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".rst": "text",
    ".md": "markdown",
    ".markdown": "markdown",
    ".xml": "xml",
    ".parquet": "parquet",
    ".xlsx": "xlsx",
}
