"""What a reader is asked, what it counts, and how bytes become text."""

from __future__ import annotations

import codecs
import io
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from configs.archives import HEAD_BYTES, Member
from configs.errors import DataError

Found = Iterator[tuple[Any, int]]
"""Records and their positions in the file."""
EXAMPLES = 5
"""Refused records that are shown in full."""
DOCUMENT_BYTES = 2**30
"""Largest file of a form that must be read whole (JSON, XML, parquet, xlsx)."""


@dataclass
class Reading:
    """What was met while reading: `rows` are all records found, the refused ones included."""

    files: int = 0
    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
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


@dataclass(frozen=True)
class Ask:
    """How a file shall be read."""

    encoding: str = "auto"
    columns: tuple[str, ...] | None = None
    records: str = ""
    max_record_bytes: int = 10_000_000


# ---------------------------------------------------------------- text


def decoded(member: Member, ask: Ask, reading: Reading) -> io.TextIOWrapper:
    """The member as text; bytes that do not decode become lone surrogates (PEP 383): only their record is lost."""
    head = member.stream.peek(HEAD_BYTES)[:HEAD_BYTES]  # type: ignore[attr-defined]
    encoding = find_encoding(head, ask.encoding, member.where, whole=len(head) < HEAD_BYTES)
    reading.encodings[encoding.removesuffix("-sig")] += 1
    return io.TextIOWrapper(member.stream, encoding, errors="surrogateescape", newline="")


def trouble_of(text: str, ask: Ask) -> str | None:
    """Why this text must not be used, if so."""
    if text.isascii():
        return "larger than max_record_bytes" if len(text) > ask.max_record_bytes else None
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        undecoded = 0xDC80 <= ord(text[error.start]) <= 0xDCFF
        return "bytes not in the file's encoding" if undecoded else "lone surrogate"
    return "larger than max_record_bytes" if size > ask.max_record_bytes else None


def lines_of(text: io.TextIOWrapper, ask: Ask, reading: Reading, where: str) -> Iterator[tuple[str, int]]:
    """Lines with their numbers, in bounded memory: a line that is too long is refused without keeping it."""
    number = 0
    while line := text.readline(ask.max_record_bytes + 1):
        number += 1
        if len(line) > ask.max_record_bytes:
            while not line.endswith("\n") and (line := text.readline(ask.max_record_bytes)):
                pass
            reading.refuse("larger than max_record_bytes", f"{where}:{number}")
            continue
        yield line, number


def encodes(text: str) -> bool:
    """False for a text with lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def text_of(member: Member, ask: Ask, reading: Reading) -> str:
    """The whole member as text.

    Raises:
        DataError: it is larger than 1 GiB, or not in its encoding.
    """
    text = decoded(member, ask, reading).read(DOCUMENT_BYTES + 1)
    if len(text) > DOCUMENT_BYTES:
        raise DataError("larger than 1 GiB", where=member.where, hint="This form is read whole: use JSON Lines.")
    if not text.isascii() and not encodes(text):
        raise DataError("holds bytes that are not in its encoding", where=member.where, hint="Set `encoding:`.")
    return text


def content_of(member: Member) -> bytes:
    """The whole member as bytes.

    Raises:
        DataError: it is larger than 1 GiB.
    """
    content = member.stream.read(DOCUMENT_BYTES + 1)
    if len(content) > DOCUMENT_BYTES:
        raise DataError("larger than 1 GiB", where=member.where, hint="Split it into several files.")
    return content


# ---------------------------------------------------------------- encodings


def find_encoding(head: bytes, declared: str, where: str, *, whole: bool) -> str:
    """The codec for a file that begins with `head`: `declared`, or by mark, UTF-8, GB18030 and Latin-1, in this order.

    Latin-1 is read as windows-1252 where it can be, as the WHATWG encoding standard has it.

    Raises:
        DataError: the bytes are not text, or not in the declared encoding.
    """
    if declared != "auto":
        return _declared(head, declared, where, whole=whole)
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if _is_binary(head):
        raise DataError(
            "not a text file: it holds bytes that no text has",
            where=where,
            hint="Corpora are text, tables, JSON, XML, parquet or xlsx; name the files with a glob: folder/*.jsonl.",
        )
    if _decodes(head, "utf-8", whole=whole) is None or _mostly_utf8(head):
        return "utf-8"
    if _decodes(head, "gb18030", whole=whole) is None and _looks_chinese(head):
        return "gb18030"
    return "cp1252" if _decodes(head, "cp1252", whole=whole) is None else "latin-1"


def _declared(head: bytes, declared: str, where: str, *, whole: bool) -> str:
    try:
        offset = _decodes(head, declared, whole=whole)
    except LookupError as error:
        raise DataError(f"unknown encoding {declared}", where=where, hint="Use utf-8, gb18030 or latin-1.") from error
    if offset is None:
        return "utf-8-sig" if declared.lower() in ("utf-8", "utf8") else declared
    guess = find_encoding(head, "auto", where, whole=whole)
    raise DataError(
        f"not {declared} at byte {offset}", where=where, hint=f"It looks like {guess}: `encoding: {guess}`."
    )


def _decodes(head: bytes, encoding: str, *, whole: bool) -> int | None:
    """None if `head` decodes, else the offset of the first byte that does not; a cut at the end is no error."""
    try:
        codecs.getincrementaldecoder(encoding)("strict").decode(head, final=whole)
    except UnicodeDecodeError as error:
        return error.start
    return None


CONTROLS = bytes(set(range(32)) - {9, 10, 12, 13, 27})


def _is_binary(head: bytes) -> bool:
    """More than one byte in a hundred is a control character: random bytes have eleven, text none."""
    return len(head) - len(head.translate(None, CONTROLS)) > len(head) / 100


BROKEN = re.compile("[\udc80-\udcff]")


def _mostly_utf8(head: bytes) -> bool:
    """Ten good characters beyond ASCII for each byte that does not decode: a few broken rows, not another encoding."""
    text = head.decode("utf-8", "surrogateescape")
    broken, beyond = len(BROKEN.findall(text)), sum(not char.isascii() for char in text)
    return beyond - broken > 10 * broken


HAN = re.compile("[\u3400-\u9fff]")


def _looks_chinese(head: bytes) -> bool:
    """High bytes come in runs, not alone between ASCII letters, and most of what they spell are Chinese characters."""
    runs = re.findall(rb"[\x80-\xff]+", head)
    alone = sum(len(run) == 1 for run in runs)
    text = head.decode("gb18030", "ignore")
    han, other = len(HAN.findall(text)), sum(not char.isascii() for char in text)
    return alone < len(runs) / 2 and han > other / 2 and han > len(text) / 100
