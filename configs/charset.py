"""Which encoding a file is in: declared, by mark, or by what its first bytes can be."""

from __future__ import annotations

import codecs
import re

from configs.archives import HEAD_BYTES
from configs.errors import DataError

EUROPEAN = ("cp1252", "latin-1", "iso8859-1")
NAMED = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z][\w.:-]*)""")
"""What HTML and XML say about themselves in their first lines."""
WEB_NAMES = {"gb2312": "gb18030", "gbk": "gb18030", "iso-8859-1": "cp1252", "us-ascii": "cp1252", "ascii": "cp1252"}
"""What browsers read under these names (WHATWG encoding standard, section 4.2)."""
CONTROLS = bytes(set(range(32)) - {9, 10, 12, 13, 27})
FEW = 4
"""Control characters that damage, not a binary form, may bring into a short text."""
BINARY = (
    b"\x89PNG\r\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\x28\xb5\x2f\xfd",
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf",
    b"Rar!\x1a",
    b"\x7fELF",
    b"SQLite format 3\x00",
    b"%PDF-",
)
"""How images, archives, programs, databases and PDF files begin, whatever their name."""
BROKEN = re.compile("[\udc80-\udcff]")
HAN = re.compile("[\u3400-\u9fff]")
COMMON = re.compile("[\t\n\r -~\u00a0-\u024f\u2010-\u203b\u3000-\u30ff\u3400-\u9fff\uff00-\uffef]")
"""Letters, figures and punctuation of the languages met here: a third of all code units, nearly all of a text."""


def find_encoding(head: bytes, declared: str, where: str, *, named: bool = False) -> str:
    """The codec for a file that begins with `head`: `declared`, or found out.

    The order is: a byte order mark, UTF-16 without one, UTF-8, the name that the file gives itself (`named`: HTML and
    XML), GB18030, windows-1252, Latin-1. `head` is the whole file if it is shorter than HEAD_BYTES.

    Raises:
        DataError: the bytes are not text, or not in the declared encoding.
    """
    whole = len(head) < HEAD_BYTES
    if declared != "auto":
        return _declared(head, declared, where, whole=whole)
    if head.startswith(b"\xef\xbb\xbf"):
        return "utf-8-sig"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if (wide := _wide(head, whole=whole)) is not None:
        return wide
    if _is_binary(head):
        raise DataError(
            "not a text file: it holds bytes that no text has",
            where=where,
            hint="`format:` names forms that are not text; a glob, folder/*.jsonl, leaves other files out.",
        )
    if _decodes(head, "utf-8", whole=whole) is None or _mostly_utf8(head):
        return "utf-8"
    if named and (own := _named(head)) is not None and _decodes(head, own, whole=whole) is None:
        return own
    if _looks_chinese(head):
        return "gb18030"
    return "cp1252" if _decodes(head, "cp1252", whole=whole) is None else "latin-1"


def keeps_line_ends(encoding: str) -> bool:
    """True of encodings in which the byte 10 is a line end and nothing else: all but UTF-16 and its like."""
    return "{\n".encode(encoding.removesuffix("-sig")) == b"{\n"


def is_utf8_instead(line: bytes, encoding: str) -> bool:
    """A line of UTF-8 in a file of another encoding: read in that one it would be garbled without an error.

    The bytes of other encodings almost never make UTF-8: two Chinese or three other characters in a line are proof.
    """
    if encoding == "utf-8" or line.isascii():
        return False
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return encoding in EUROPEAN or len(HAN.findall(text)) >= 2 or sum(not char.isascii() for char in text) >= 3


def _declared(head: bytes, declared: str, where: str, *, whole: bool) -> str:
    try:
        "".encode(declared)  # refuses codecs of other things than text
    except (LookupError, ValueError) as error:
        raise DataError(f"unknown encoding {declared}", where=where, hint="Use utf-8, gb18030 or latin-1.") from error
    offset = _decodes(head, declared, whole=whole)
    if offset is None:
        return "utf-8-sig" if declared.lower() in ("utf-8", "utf8") else codecs.lookup(declared).name
    if _mostly_utf8(head) and codecs.lookup(declared).name == "utf-8":
        return "utf-8-sig"  # a few broken records: refused one by one
    guess = find_encoding(head, "auto", where)
    raise DataError(
        f"not {declared} at byte {offset}", where=where, hint=f"It looks like {guess}: `encoding: {guess}`."
    )


def _decodes(head: bytes, encoding: str, *, whole: bool) -> int | None:
    """None if `head` decodes, else the offset of the first byte that does not; a cut at the end is no error."""
    try:
        codecs.getincrementaldecoder(encoding)("strict").decode(head, final=whole)
    except UnicodeError as error:  # UTF-16 without a mark has no place
        return getattr(error, "start", 0)
    return None


def _named(head: bytes) -> str | None:
    """The encoding that a page or an XML file names in its first 2,048 bytes, if there is such a one."""
    found = NAMED.search(head[:2048])
    name = found[1].decode().lower() if found else ""
    try:
        return codecs.lookup(WEB_NAMES.get(name, name)).name if name else None
    except LookupError:
        return None


def _wide(head: bytes, *, whole: bool) -> str | None:
    """UTF-16 without a mark: line ends and spaces hold a zero byte, and nearly all of what it spells is common."""
    if b"\0" not in head[:4096]:
        return None
    for encoding in ("utf-16-le", "utf-16-be"):
        if _decodes(head, encoding, whole=whole) is None:
            text = head[:4096].decode(encoding, "ignore")
            if len(COMMON.findall(text)) > 0.95 * len(text):
                return encoding
    return None


def _is_binary(head: bytes) -> bool:
    """By its beginning, or where one byte in a hundred is a control character: random bytes have eleven, text none."""
    controls = len(head) - len(head.translate(None, CONTROLS))
    return head.startswith(BINARY) or controls > max(len(head) / 100, FEW)


def _mostly_utf8(head: bytes) -> bool:
    """Ten good characters beyond ASCII for each byte that does not decode: a few broken rows, not another encoding."""
    text = head.decode("utf-8", "surrogateescape")
    broken, beyond = len(BROKEN.findall(text)), sum(not char.isascii() for char in text)
    return beyond - broken > 10 * broken


def _looks_chinese(head: bytes) -> bool:
    """High bytes come in runs, not alone between ASCII letters, and most of what they spell are Chinese characters.

    A few bytes may be broken: ten characters for each, as with UTF-8.
    """
    runs = re.findall(rb"[\x80-\xff]+", head)
    alone = sum(len(run) == 1 for run in runs)
    text = head.decode("gb18030", "replace")
    broken, han, other = text.count("\ufffd"), len(HAN.findall(text)), sum(not char.isascii() for char in text)
    return alone < len(runs) / 2 and han > max(other / 2, len(text) / 100, 10 * broken)
