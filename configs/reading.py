"""What a reader is asked, what it counts, and how bytes become text."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypedDict

from configs.archives import HEAD_BYTES, Member
from configs.charset import find_encoding, is_utf8_instead, keeps_line_ends
from configs.errors import DataError

Found = Iterator[tuple[Any, int]]
"""Records and their positions in the file."""
EXAMPLES = 5
"""Refused records that are shown in full."""
DOCUMENT_BYTES = 2**28
"""Largest file of a form that must be read whole (JSON that is no list, XML, HTML, packed parquet, xlsx, PDF, DOCX)."""
TOO_LARGE = "larger than max_record_bytes"
NOT_ENCODED = "bytes not in the file's encoding"


@dataclass
class Reading:
    """What was met while reading: `rows` are all records found, the refused ones included."""

    files: int = 0
    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    forms: Counter[str] = field(default_factory=Counter)
    """As what the files were read: `json`, `html` ..., files each."""
    encodings: Counter[str] = field(default_factory=Counter)
    dialects: Counter[str] = field(default_factory=Counter)
    """How the tables' cells are separated: `comma`, `tab` ..., files each."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Parts of files that are no records: attachments of a filing, empty files."""
    notes: dict[str, str] = field(default_factory=dict)
    """What looks odd but may be meant, and the first place where it does."""
    examples: list[str] = field(default_factory=list)

    def refuse(self, reason: str, where: str, detail: str = "") -> None:
        """Count a record that cannot be used, and keep the first few as examples."""
        self.rows += 1
        self.refused[reason] += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(f"{where}: {reason}{': ' if detail else ''}{detail}")

    def take_back(self, reason: str, where: str, detail: str = "") -> None:
        """Refuse a row that was already handed out."""
        self.rows -= 1
        self.refuse(reason, where, detail)

    def figures(self) -> dict[str, Any]:
        """All counts as plain data."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: dict(value) if isinstance(value, dict) else value for name, value in values.items()}

    def add(self, later: Reading) -> None:
        """Add what was met in the files or parts that follow."""
        for name in (each.name for each in fields(self)):
            mine, other = getattr(self, name), getattr(later, name)
            if isinstance(mine, Counter):
                mine.update(other)
            elif isinstance(mine, dict):
                setattr(self, name, other | mine)
            else:
                setattr(self, name, mine + other)
        del self.examples[EXAMPLES:]


class How(TypedDict, total=False):
    """How a file shall be read, as a caller says it: the fields of Ask."""

    format: str
    encoding: str
    columns: Sequence[str] | None
    records: str
    max_record_bytes: int


@dataclass(frozen=True)
class Ask:
    """How a file shall be read."""

    format: str = "auto"
    encoding: str = "auto"
    columns: Sequence[str] | None = None
    records: str = ""
    max_record_bytes: int = 10_000_000


# ---------------------------------------------------------------- text


def encoding_of(member: Member, ask: Ask, reading: Reading, *, named: bool = False) -> str:
    """The codec of a member, counted in `reading`; see `find_encoding`."""
    encoding = find_encoding(member.head, ask.encoding, member.where, named=named)
    if member.begins:
        reading.encodings[encoding.removesuffix("-sig")] += 1
    return encoding


def as_text(member: Member, encoding: str) -> io.TextIOWrapper:
    """The member as text; bytes that do not decode become lone surrogates (PEP 383): only their record is lost."""
    return io.TextIOWrapper(member.stream, encoding, errors="surrogateescape", newline="")


def trouble_of(text: str, ask: Ask, encoding: str = "utf-8") -> str | None:
    """Why a text that was read with `as_text` must not be used, if so."""
    if text.isascii():
        return TOO_LARGE if len(text) > ask.max_record_bytes else None
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        return NOT_ENCODED if 0xDC80 <= ord(text[error.start]) <= 0xDCFF else "lone surrogate"
    if size > ask.max_record_bytes:
        return TOO_LARGE
    known = encoding.removesuffix("-sig")
    return NOT_ENCODED if known != "utf-8" and is_utf8_instead(text.encode(known), known) else None


def lines_of(member: Member, ask: Ask, reading: Reading) -> Iterator[tuple[str, int]]:
    """Lines as text with their numbers, in bounded memory; one too long or not in the encoding is refused."""
    encoding = encoding_of(member, ask, reading).removesuffix("-sig")
    if not keeps_line_ends(encoding):
        yield from _wide_lines(member, encoding, ask, reading)
        return
    number, limit, readline = member.first - 1, ask.max_record_bytes, member.stream.readline
    foreign = encoding != "utf-8"
    while line := readline(limit + 1):
        number += 1
        if len(line) > limit:
            while not line.endswith(b"\n") and (line := readline(HEAD_BYTES)):
                pass
            reading.refuse(TOO_LARGE, f"{member.where}:{number}")
            continue
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            reading.refuse(NOT_ENCODED, f"{member.where}:{number}", _guess(line, error, reading))
            continue
        if foreign and is_utf8_instead(line, encoding):
            reading.refuse(NOT_ENCODED, f"{member.where}:{number}", f"UTF-8 in a file of {encoding}")
            continue
        yield text.removeprefix("\ufeff"), number  # joined files have their marks in the middle


def _guess(line: bytes, error: UnicodeDecodeError, reading: Reading) -> str:
    """Which byte it was and what the line looks like; only the few that are shown are looked at."""
    place = f"byte {error.start + 1}"
    if len(reading.examples) >= EXAMPLES:
        return place
    try:
        return f"{place}, not {error.encoding}; the line looks like {find_encoding(line, 'auto', '')}"
    except DataError:
        return place


def _wide_lines(member: Member, encoding: str, ask: Ask, reading: Reading) -> Iterator[tuple[str, int]]:
    """Lines of UTF-16 and other encodings whose line end is not one byte."""
    for number, (line, whole) in enumerate(text_lines(as_text(member, encoding), ask.max_record_bytes), 1):
        trouble = trouble_of(line, ask) if whole else TOO_LARGE
        if trouble is None:
            yield line, number
        else:
            reading.refuse(trouble, f"{member.where}:{number}")


def text_lines(text: io.TextIOWrapper, limit: int) -> Iterator[tuple[str, bool]]:
    """Lines in bounded memory; of one longer than `limit` characters the beginning, and False."""
    while line := text.readline(limit + 1):
        beginning = line
        while len(line) > limit and not line.endswith("\n") and (line := text.readline(limit + 1)):
            pass
        yield beginning, len(beginning) <= limit


def encodes(text: str) -> bool:
    """False for a text with lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_of(member: Member, ask: Ask, reading: Reading, *, named: bool = False) -> str:
    """The whole member as text; `named` looks for an encoding that the file names itself (HTML, XML).

    Raises:
        DataError: it is larger than 256 MiB, or not in its encoding.
    """
    text = as_text(member, encoding_of(member, ask, reading, named=named)).read(DOCUMENT_BYTES + 1)
    if len(text) > DOCUMENT_BYTES:
        raise DataError(
            "larger than 256 MiB", where=member.where, hint="This form is read whole: use JSON Lines, or split it."
        )
    if not text.isascii() and not encodes(text):
        raise DataError("holds bytes that are not in its encoding", where=member.where, hint="Set `encoding:`.")
    return text


def content_of(member: Member) -> bytes:
    """The whole member as bytes.

    Raises:
        DataError: it is larger than 256 MiB.
    """
    content = member.stream.read(DOCUMENT_BYTES + 1)
    if len(content) > DOCUMENT_BYTES:
        raise DataError("larger than 256 MiB", where=member.where, hint="Unpack it, or split it into several files.")
    return content
