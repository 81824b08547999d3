"""Nested data: JSON Lines, JSON and XML."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from configs.errors import DataError
from configs.reading import (
    DOCUMENT_BYTES,
    Ask,
    Found,
    Reading,
    as_text,
    encodes,
    encoding_of,
    lines_of,
    text_of,
    trouble_of,
)

if TYPE_CHECKING:
    import io
    from xml.etree.ElementTree import Element

    from configs.archives import Member

CHUNK = 2**22
"""Characters of a JSON list that are looked at in one go."""
SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
SPACE = re.compile(r"[ \t\r\n\ufeff]*")


class _Twice(dict[str, Any]):
    """An object in which a key stood twice."""


class Parser:
    """A JSON decoder that refuses what JSON decoders let pass: keys that stand twice, and lone surrogates."""

    def __init__(self) -> None:
        self.twice = False
        self.decoder = json.JSONDecoder(object_pairs_hook=self._object)
        self.raw_decode = self.decoder.raw_decode
        self.scan: Any = getattr(self.decoder, "scan_once")  # noqa: B009 - its stub does not know it

    def decode(self, text: str) -> Any:
        """The value that is the whole text."""
        try:
            value, end = self.scan(text, 0)
        except StopIteration:  # spaces before it, or no value: the decoder knows
            return self.decoder.decode(text)
        return value if end == len(text) - 1 and text[end] == "\n" else self.decoder.decode(text)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        once = dict(pairs)
        if len(once) == len(pairs):
            return once
        self.twice = True
        return _Twice(once)

    def flaw(self, value: Any, text: str, start: int = 0, stop: int | None = None) -> str | None:
        """Why `value`, which was parsed from `text[start:stop]`, must not be used, if so."""
        if not self.twice and (
            "\\u" not in text or SURROGATE.search(text, start, len(text) if stop is None else stop) is None
        ):
            return None
        return _flaw(value)


def _flaw(value: Any) -> str | None:
    """A key that stands twice or a lone surrogate, anywhere in `value`."""
    if isinstance(value, str):
        return None if encodes(value) else "lone surrogate"
    if isinstance(value, _Twice):
        return "duplicate key"
    inner = [*value.keys(), *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((flaw for part in inner if (flaw := _flaw(part)) is not None), None)


def read_jsonl(member: Member, ask: Ask, reading: Reading) -> Found:
    """One JSON value per line; empty lines are passed over."""
    parser = Parser()
    decode, flaw_of = parser.decode, parser.flaw
    for line, number in lines_of(member, ask, reading):
        try:
            value = decode(line)
            flaw = flaw_of(value, line)
        except (ValueError, RecursionError) as error:
            if line.strip():
                reading.refuse(*_malformed(line, error, f"{member.where}:{number}"))
            continue
        if flaw is not None:
            reading.refuse(flaw, f"{member.where}:{number}")
            parser.twice = False
            continue
        yield value, number


def _malformed(line: str, error: Exception, where: str) -> tuple[str, str, str]:
    if not line.endswith("\n"):
        return "last line looks cut off", where, ""
    if "\0" in line:
        return "NUL bytes", where, f"column {line.index(chr(0)) + 1}"
    return "malformed JSON", where, _why(error)


def _why(error: Exception) -> str:
    """What the JSON decoder stumbled over."""
    if isinstance(error, json.JSONDecodeError):
        return _told(error.msg, error.colno)
    return "nested too deeply" if isinstance(error, RecursionError) else "a number of more than 4,300 digits"


def _told(reason: str, column: int) -> str:
    """A reason of the JSON decoder, some of which end in the middle (`Invalid control character at`), with its place."""
    return f"column {column}: {reason.rstrip(' :').removesuffix(' at').removesuffix(' starting')}"


# ---------------------------------------------------------------- JSON


def read_json(member: Member, ask: Ask, reading: Reading) -> Found:
    """A list (its elements are the records, read one by one) or one object; JSON Lines are recognised."""
    if is_jsonl(member.head):
        yield from read_jsonl(member, ask, reading)
        return
    window = _Window(as_text(member, encoding_of(member, ask, reading)), Parser(), member.where)
    if window.mark() == "[":
        for number, (value, text) in enumerate(window.elements(), 1):
            flaw = trouble_of(text, ask) or window.parser.flaw(value, text)
            window.parser.twice = False
            if flaw is None:
                yield value, number
            else:
                reading.refuse(flaw, f"{member.where}:{number}")
    elif window.mark():
        value, text = window.value()
        window.finish()
        if not encodes(text):
            raise DataError("holds bytes that are not in its encoding", where=member.where, hint="Set `encoding:`.")
        if (flaw := window.parser.flaw(value, text)) is not None:
            reading.refuse(flaw, member.where)
        else:
            yield value, 0


def is_jsonl(head: bytes) -> bool:
    """The first line is a whole object and another one follows."""
    first, _, rest = head.lstrip(b"\xef\xbb\xbf \r\n\t").partition(b"\n")
    if not first.startswith(b"{") or not rest.lstrip().startswith(b"{"):
        return False
    try:
        json.loads(first)
    except ValueError:
        return False
    return True


class _Window:
    """A stretch of a JSON text that moves on as values are taken from it: one element of a list in memory, not all."""

    def __init__(self, text: io.TextIOWrapper, parser: Parser, where: str) -> None:
        self.text, self.parser, self.where = text, parser, where
        self.buffer, self.at, self.lines = "", 0, 0

    def more(self) -> bool:
        """Read on, at least as much as is there; False at the end."""
        self.lines += self.buffer.count("\n", 0, self.at)
        left = self.buffer[self.at :]
        if len(left) > DOCUMENT_BYTES:
            raise DataError("larger than 256 MiB", where=self.place(0), hint="Split it, or use JSON Lines.")
        read = self.text.read(max(CHUNK, len(left)))
        self.buffer, self.at = left + read, 0
        return bool(read)

    def mark(self) -> str:
        """The next character that is no space, or nothing at the end."""
        while True:
            self.at = SPACE.match(self.buffer, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self.more():
                return ""

    def value(self) -> tuple[Any, str]:
        """The next value and its text.

        Raises:
            DataError: it is malformed, cut off or nested too deeply.
        """
        self.mark()
        while True:
            try:
                value, end = self.parser.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                started = "Unterminated" in error.msg or error.pos > len(self.buffer) - 16
                if not (started and self.more()):
                    cut = started and not error.msg.startswith("Invalid")
                    raise self.trouble(error.msg, error.pos, cut=cut) from error
                continue
            except (ValueError, RecursionError) as error:
                raise DataError(f"the JSON cannot be read: {_why(error)}", where=self.place(self.at)) from error
            if end == len(self.buffer) and self.more():
                continue  # a number may go on
            text, self.at = self.buffer[self.at : end], end
            return value, text

    def elements(self) -> Any:
        """The elements of the list that begins here, each with its text."""
        self.at += 1
        if self.mark() != "]":
            yield self.value()
        while (mark := self.mark()) == ",":
            self.at += 1
            yield self.value()
        if mark != "]":
            raise self.trouble("Expecting ',' delimiter", self.at, cut=not mark)
        self.at += 1
        self.finish()

    def finish(self) -> None:
        """Nothing may follow."""
        if self.mark():
            raise self.trouble("Extra data", self.at, cut=False)

    def trouble(self, reason: str, position: int, *, cut: bool) -> DataError:
        column = position - self.buffer.rfind("\n", 0, position)
        what = "looks cut off" if cut else f"is not JSON: {_told(reason, column)}"
        return DataError(f"the file {what}", where=self.place(position))

    def place(self, position: int) -> str:
        return f"{self.where}:{self.lines + self.buffer.count(chr(10), 0, position) + 1}"


# ---------------------------------------------------------------- XML


def read_xml(member: Member, ask: Ask, reading: Reading) -> Found:
    """The root element as one record.

    An element with children becomes an object of its attributes and children; one without, or with words between its
    children (`<p>Take <b>one</b> daily.</p>`), becomes its whole text, and its attributes stand beside it as
    `Tag_attribute`; repeated tags become a list. expat >= 2.4.1 stops entity bombs.
    """
    from xml.etree import ElementTree

    text = text_of(member, ask, reading, named=True)
    if not text.strip():
        return
    try:
        root = ElementTree.fromstring(re.sub(r"^\s*<\?xml[^>]*\?>", "", text, count=1))
    except ElementTree.ParseError as error:
        line, column = error.position
        reading.refuse("malformed XML", f"{member.where}:{line}", f"column {column}: {error}")
        return
    try:
        record = _element(root)
    except RecursionError:
        reading.refuse("malformed XML", member.where, "nested too deeply")
        return
    yield record, 0


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
