"""The forms of files: each turns a stream of bytes into records, and counts what it must refuse.

A form is a function `(member, ask, reading) -> (record, position)...`; a record is what stands in the file, before
`records:` looks inside of it. Memory is bounded by one record for lists and tables, by one file for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

from configs.archives import Member
from configs.errors import DataError, UnsafeArtefactError
from configs.markup import read_html, read_rst
from configs.nested import is_jsonl, read_json, read_jsonl, read_xml
from configs.pages import read_docx, read_pdf
from configs.reading import Ask, Found, Reading
from configs.tables import read_arrow, read_csv, read_parquet, read_xlsx
from configs.texts import read_text

__all__ = ["ENDINGS", "FORMS", "WHOLE", "form_of", "is_jsonl", "kind_of"]

Form = Callable[[Member, Ask, Reading], Found]
FORMS: dict[str, Form] = {
    "json": read_json,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_csv,
    "text": read_text,
    "markdown": read_text,
    "rst": read_rst,
    "html": read_html,
    "xml": read_xml,
    "parquet": read_parquet,
    "arrow": read_arrow,
    "xlsx": read_xlsx,
    "pdf": read_pdf,
    "docx": read_docx,
}
WHOLE = frozenset({"text", "markdown", "rst", "html", "pdf", "docx", "xlsx"})
"""Forms whose records are no nested data: `records` means something else to them, if anything."""
ENDINGS = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".txt": "text",
    ".rst": "rst",
    ".md": "markdown",
    ".markdown": "markdown",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".xml": "xml",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
    ".xlsx": "xlsx",
    ".pdf": "pdf",
    ".docx": "docx",
}
BEGINNINGS = ((b"PAR1", "parquet"), (b"ARROW1", "arrow"), (b"%PDF-", "pdf"), (b"{", "json"), (b"[", "json"))
MARKUP = (
    b"<!doctype html",
    b"<html",
    b"<sec-document>",
    b"<submission>",
    b"<ims-document>",
    b"-----begin privacy-enhanced",
)
"""How web pages and filings to the SEC begin, whatever their name."""


def form_of(member: Member) -> str:
    """By the ending, and by how the file begins: a filing named .txt is one; without a known ending it is text.

    Raises:
        UnsafeArtefactError: it begins like a pickle.
        DataError: it begins like a script, or is the old binary form of an office document.
    """
    head = member.head.lstrip()
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        raise UnsafeArtefactError("is a pickle, which runs code when opened", where=member.where)
    if head.startswith(b"#!/"):
        raise UnsafeArtefactError("is a script, not a data set; nothing is run here", where=member.where)
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise DataError(
            "an office document of the old binary form", where=member.where, hint="Save it as docx or xlsx."
        )
    ending = PurePosixPath(member.name.lower()).suffix
    known = ENDINGS.get(ending)
    if known in (None, "text"):
        start = head[:4096].lower()
        if start.startswith(MARKUP) or (start.startswith(b"<document>") and b"<type>" in start):
            return "html"
    if known is not None:
        return known
    return next((form for beginning, form in BEGINNINGS if head.startswith(beginning)), "text")


def kind_of(form: str) -> str:
    """Forms whose rows have the same fields, so that they may stand in one source."""
    if form in WHOLE - {"xlsx"}:
        return "text"
    return {"jsonl": "json", "tsv": "csv"}.get(form, form)
