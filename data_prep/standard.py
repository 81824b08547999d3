"""Kept documents as records of TC609-5-2025-02 (SAC/TC609, "High-quality dataset: format requirements"), one per line.

What is known of the standard. Its text was not at hand: no clause number is quoted. The eleven names of fields are those
that three public uses of it agree on (Dingo's checks 0201, 0203 and 0204, and two published sets of records); from Dingo
come the kinds of value, the parts of `data_content` and `annotation`, and the words that `annotation_method` and
`annotator` may hold. Ours are: times as ISO 8601, a span allowed; `source` is the source's name in the recipe;
`source_details` its origin and the file and line.

A file in this format is a source like any other; no reader of its own is needed:

    text: "{{ data_content[0].content }}"                    plain documents
    prompt: "{{ data_content[0].content }}"                  questions with answers
    answer: "{{ annotation.label[0].answer }}"
    messages: data_content                                   conversations
    where: {source: [fomc-minutes]}                          one source of several in a file
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.errors import did_you_mean
from configs.licences import licence_name
from configs.store import staged

if TYPE_CHECKING:
    from pathlib import Path

    from configs.chat import Message
    from configs.recipe import Source

FOLDER, FILE = "tc609", "records.jsonl"
METHODS = ("人工标注", "自动标注", "半自动标注", "其他")
"""How an annotation was made: by people, by a program, by both, otherwise."""
ANNOTATORS = ("普通标注员", "专业标注员", "行业领域专家", "其他")
"""Who made it: an annotator, a trained annotator, an expert of the field, somebody else."""


class StandardDocument(NamedTuple):
    """A kept document with what its record says."""

    id: str
    where: str
    """File and line it came from."""
    source: Source
    text: str = ""
    messages: tuple[Message, ...] = ()
    rejected: str = ""
    """The answer that the last message is preferred to."""
    related: tuple[str, ...] = ()
    """Ids of the documents it was made from."""
    generated: bool = False
    """Whether a program made it, although its source is not generated as a whole."""


class Edition(NamedTuple):
    """What all records of one file say alike."""

    version: str
    """Version of the data set: a number, or the digest of the corpus record."""
    modified: str
    """When the records got their present form, ISO 8601."""


class Written(NamedTuple):
    """What `write_tc609` did."""

    path: Path
    records: int
    problems: dict[str, int]
    """What the records lack, to their number: `fomc: original_time: is empty`; the recipe can say it."""


def write_tc609(corpus: Path, documents: Iterable[StandardDocument], edition: Edition) -> Written:
    """Write `corpus`/tc609/records.jsonl, one record per document in the order given: all of it or nothing.

    A value that the recipe does not state stays empty and is counted; nothing is made up.

    Raises:
        StorageError: the disk is full or read-only.
    """
    target, found, count = corpus / FOLDER, Counter[str](), 0
    with staged(target) as staging, (staging / FILE).open("w", encoding="utf-8", newline="\n") as file:
        for document in documents:
            count += 1
            row = tc609_row(document, edition)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
            found.update(f"{document.source.name}: {problem}" for problem in validate_tc609(row))
    return Written(target / FILE, count, dict(found))


def tc609_row(document: StandardDocument, edition: Edition) -> dict[str, Any]:
    """The record of one document, its fields in the order of the standard.

    A question's answer is its annotation; how and by whom it was annotated no recipe says, so both stay null. A longer
    conversation stays together, each turn with its role.
    """
    source = document.source
    content, annotation = _content(document)
    return {
        "id": document.id,
        "rid": list(document.related),
        "data_content": content,
        "annotation": annotation,
        "original_time": source.time,
        "last_modified_time": edition.modified,
        "version": edition.version,
        "license": licence_name(source.licence),
        "source": source.name,
        "source_details": "; ".join(filter(None, (source.origin, document.where))),
        "generated_data_indicator": int(source.generated or document.generated),
    }


def _content(document: StandardDocument) -> tuple[list[dict[str, str]], dict[str, Any] | None]:
    """The parts of `data_content` and the annotation."""
    if not document.messages:
        return [{"media_type": "text", "content": document.text}], None
    if document.source.prompt is None:
        return [{"media_type": "text", "role": role, "content": said} for role, said in document.messages], None
    *asked, answer = document.messages
    label = {"answer": answer.content} | ({"rejected": document.rejected} if document.rejected else {})
    content = [{"media_type": "text", "content": said} for _, said in asked]
    return content, {"label": [label], "annotation_method": None, "annotator": None}


# ---------------------------------------------------------------- is a row in this format?


def validate_tc609(row: Any) -> list[str]:
    """What is wrong with a row, a line per field; empty when it is a record of TC609-5-2025-02.

    Fields beside the eleven are let through: public sets of records carry some.

    >>> validate_tc609({"id": "a1"})[0]
    'rid: is missing'
    """
    if not isinstance(row, Mapping):
        return [f"a record is an object, not {_kind(row)}"]
    others = [str(name) for name in row if name not in FIELDS]
    found = []
    for name, check in FIELDS.items():
        if name not in row:
            near = [other for other in others if did_you_mean(other, [name])]
            found.append(f"{name}: is missing" + (f"; {near[0]} is no field" if near else ""))
        else:
            found += [f"{name}{problem}" for problem in check(row[name])]
    return found


Check = Callable[[Any], list[str]]


def _text(value: Any) -> list[str]:
    if not isinstance(value, str):
        return [f": is a text, not {_kind(value)}"]
    return [] if value.strip() else [": is empty"]


def _related(value: Any) -> list[str]:
    """Null, or a list of ids."""
    if value is None:
        return []
    if not isinstance(value, list):
        return [f": is a list of ids or null, not {_kind(value)}"]
    return [f"[{place}]{problem}" for place, member in enumerate(value) for problem in _text(member)]


def _parts(value: Any) -> list[str]:
    """A list of {media_type, content}, and whatever else a part may say."""
    if not isinstance(value, list):
        return [f": is a list of parts, not {_kind(value)}"]
    found = [] if value else [": is empty"]
    for place, part in enumerate(value):
        if not isinstance(part, Mapping):
            found.append(f"[{place}]: is an object, not {_kind(part)}")
            continue
        for name in ("media_type", "content"):
            problems = _text(part[name]) if name in part else [": is missing"]
            found += [f"[{place}].{name}{problem}" for problem in problems]
    return found


def _annotation(value: Any) -> list[str]:
    """Null, or an object with `label`, `annotation_method` and `annotator`."""
    if value is None:
        return []
    if not isinstance(value, Mapping):
        return [f": is an object or null, not {_kind(value)}"]
    label = value.get("label")
    found = [] if isinstance(label, list) and label else [".label: is a list of at least one label"]
    for name, allowed in (("annotation_method", METHODS), ("annotator", ANNOTATORS)):
        if name not in value:
            found.append(f".{name}: is missing")
        elif value[name] is not None and value[name] not in allowed:
            found.append(f".{name}: is {value[name]!r}; allowed: null, {', '.join(allowed)}")
    return found


def _time(value: Any) -> list[str]:
    """A year, a month, a day or a moment of ISO 8601."""
    return _text(value) or ([] if _moment(value) else [f": is {value!r}, no time of ISO 8601 (2024-03-20)"])


def _span(value: Any) -> list[str]:
    """The same, or two of them with a slash between."""
    parts = value.split("/") if isinstance(value, str) else []
    return [] if len(parts) == 2 and all(map(_moment, parts)) else _time(value)


def _moment(text: str) -> bool:
    whole = text + "-01-01"[len(text) - 4 :] if re.fullmatch(r"\d{4}(-\d\d)?", text) else text
    try:
        (date if len(whole) == 10 else datetime).fromisoformat(whole)
    except ValueError:
        return False
    return True


def _indicator(value: Any) -> list[str]:
    """1 for generated data, 0 for others."""
    return [] if type(value) is int and value in (0, 1) else [f": is 0 or 1, not {json.dumps(value)}"]


def _kind(value: Any) -> str:
    """What JSON calls a value.

    >>> _kind(None), _kind([1])
    ('null', 'a list')
    """
    names = {
        str: "a text",
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "null")


FIELDS: dict[str, Check] = {
    "id": _text,
    "rid": _related,
    "data_content": _parts,
    "annotation": _annotation,
    "original_time": _span,
    "last_modified_time": _time,
    "version": _text,
    "license": _text,
    "source": _text,
    "source_details": _text,
    "generated_data_indicator": _indicator,
}
"""The fields of a record in the standard's order, and what is looked at."""
