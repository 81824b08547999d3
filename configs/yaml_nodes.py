"""Strict YAML 1.2: one document of plain mappings, lists and scalars, and the line of every value.

PyYAML only splits the text into events; what a scalar means is decided here by the core schema of YAML 1.2.2 (section
10.3.2), so that `1e-4` is a number, and `no`, `12:30:45` and `2026-01-31` are text. Tags, anchors and aliases are
refused: a recipe never needs them, and an alias bomb is nine short lines.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from configs.errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KeyPath = tuple[str | int, ...]
"""The way to a value in a tree: ("corpora", 0, "share")."""
MAX_BYTES = 1_000_000
"""Largest file that is read; a recipe has about 1,000 bytes."""
MAX_DEPTH = 32
"""Deepest nesting; a recipe has four levels."""
WORDS = {"": None, "~": None, "null": None, "Null": None, "NULL": None} | {
    form: truth for truth in (True, False) for form in (str(truth), str(truth).lower(), str(truth).upper())
}
INTEGER = re.compile(r"[-+]?[0-9]{1,300}")
BASED = re.compile(r"0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
QUOTED = 'Put a template in quotes: "{{ title }}".'
NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class Place(NamedTuple):
    """Where a value was written: `finance.yaml:14`, or `--set train.rank=8`."""

    source: str
    line: int | None = None

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


class Tree(NamedTuple):
    """A parsed document: plain dicts, lists and scalars, and the place of every key and list member."""

    value: Any
    places: dict[KeyPath, Place]


def read_yaml(path: Path) -> Tree:
    """Read one strict YAML 1.2 file whose top is a mapping.

    Raises:
        RecipeError: there is no such file, it is not UTF-8, too large, or not strict YAML; with file and line.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= MAX_BYTES else None
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RecipeError("no such file", where=str(path)) from error
    except IsADirectoryError as error:
        raise RecipeError("is a folder, not a YAML file", where=str(path)) from error
    except OSError as error:
        raise RecipeError(f"cannot be read ({error.strerror})", where=str(path)) from error
    if data is None:
        raise RecipeError(f"larger than {MAX_BYTES:,} bytes: not a recipe or a task", where=str(path))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        message = f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start}"
        raise RecipeError(message, where=str(path), hint="Save the file as UTF-8.") from error
    tree = parse_yaml(text, str(path))
    if not isinstance(tree.value, dict):
        found = "nothing" if tree.value is None else "a list" if isinstance(tree.value, list) else "one scalar"
        raise RecipeError(f"holds {found} where `key: value` lines are expected", where=str(path))
    return tree


def parse_yaml(text: str, source: str, *, lines: bool = True) -> Tree:
    """Parse one document; `lines=False` for a fragment that has no file (`--set`).

    Raises:
        RecipeError: it is not strict YAML 1.2; with source and line.
    """
    reader = _Reader(source, lines)
    with reader.syntax(text):
        events = yaml.parse(text, Loader=yaml.SafeLoader)
        value: Any = None
        documents = 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise reader.refused(event, "a second document starts here; one file holds one document")
                value = reader.node(next(events), events, ())
    return Tree(value, reader.places)


def scalar(text: str) -> Any:
    """What a plain (unquoted) scalar means in the core schema of YAML 1.2.2.

    >>> [scalar(text) for text in ("1e-4", "no", "0o17", "12:30:45", "~", "TRUE")]
    [0.0001, 'no', 15, '12:30:45', None, True]
    """
    if text in WORDS:
        return WORDS[text]
    if INTEGER.fullmatch(text):
        return int(text)
    if BASED.fullmatch(text):
        return int(text, 0)
    if FLOAT.fullmatch(text):
        return float(text)
    if NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


class _Reader:
    """Builds the tree from PyYAML's events and remembers where everything stood."""

    def __init__(self, source: str, lines: bool) -> None:
        self.source, self.lines = source, lines
        self.places: dict[KeyPath, Place] = {}

    def place(self, mark: Any) -> Place:
        return Place(self.source, mark.line + 1 if self.lines and mark is not None else None)

    def refused(self, event: Any, message: str, hint: str = "") -> RecipeError:
        return RecipeError(message, where=str(self.place(event.start_mark)), hint=hint)

    @contextmanager
    def syntax(self, text: str) -> Iterator[None]:
        """Turn PyYAML's complaints into ours."""
        try:
            yield
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1 if self.lines else None
            message = f"control character U+{ord(text[error.position]):04X} is not allowed in YAML"
            raise RecipeError(message, where=str(Place(self.source, line))) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            hint = "Indent with spaces, not tabs." if "'\\t'" in str(error.problem) else ""
            if "mapping values" in str(error.problem):
                hint = "Put text that contains a colon and a space in quotes."
            if mark is not None and re.search(r"\{[{%]", text.split("\n")[mark.line]):
                hint = QUOTED
            raise RecipeError(f"not YAML: {error.problem}", where=str(self.place(mark)), hint=hint) from error

    def node(self, event: Any, events: Iterator[Any], at: KeyPath) -> Any:
        """The value that starts with `event`."""
        self.places.setdefault(at, self.place(event.start_mark))
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            name = f"{'*' if isinstance(event, yaml.AliasEvent) else '&'}{event.anchor}"
            raise self.refused(event, f"anchors and aliases ({name}) are not read", "Write the value out.")
        if event.tag is not None:
            raise self.refused(event, f"tags ({event.tag}) are not read: YAML here is data, never code")
        if len(at) > MAX_DEPTH:
            raise self.refused(event, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.ScalarEvent):
            return self.text(event) if event.style else scalar(event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            return self.members(events, at)
        return self.mapping(events, at)

    def text(self, event: Any) -> str:
        value: str = event.value
        if any("\ud800" <= letter <= "\udfff" for letter in value):
            raise self.refused(event, "half of a surrogate pair is not a character")
        return value

    def members(self, events: Iterator[Any], at: KeyPath) -> list[Any]:
        found: list[Any] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            found.append(self.node(event, events, (*at, len(found))))
        return found

    def mapping(self, events: Iterator[Any], at: KeyPath) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while not isinstance(key := next(events), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                template = isinstance(key, yaml.MappingStartEvent)  # {{ title }} without quotes
                raise self.refused(key, "a key must be one word or text", QUOTED if template else "")
            self.node(key, events, (*at, key.value))  # refuses anchors and tags on keys, and keeps the key's line
            if key.value in found:
                first = self.places[*at, key.value]
                raise self.refused(key, f"key {key.value!r} is given twice: first in line {first.line}")
            found[key.value] = self.node(next(events), events, (*at, key.value))
        return found
