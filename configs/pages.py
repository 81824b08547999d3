"""PDF and DOCX: the text of a file as one record, by the extra `documents`."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from configs.archives import check_packed
from configs.errors import DataError
from configs.reading import TOO_LARGE, Ask, Found, Reading, content_of
from configs.texts import about

if TYPE_CHECKING:
    from configs.archives import Member

HYPHEN = re.compile("[\ufffe\x02\u00ad]\\s*\n\\s*")
"""A word that was parted at a line's end, as pdfium marks it."""
NO_TEXT = "no text in it (scanned pages?)"


def read_pdf(member: Member, ask: Ask, reading: Reading) -> Found:
    """The pages of a PDF, one below the other, as `text`; `title` is the file's own, or its name.

    Raises:
        DataError: pypdfium2 is missing, or the file is damaged or locked.
    """
    try:
        import pypdfium2
    except ImportError as error:
        raise _extra("PDF", "pypdfium2", member) from error
    try:
        document = pypdfium2.PdfDocument(content_of(member))
        pages = [page.get_textpage().get_text_range() for page in document]
        title = document.get_metadata_dict().get("Title", "").strip()
        document.close()
    except pypdfium2.PdfiumError as error:
        locked = "assword" in str(error)
        raise DataError(
            f"not a readable PDF ({error})",
            where=member.where,
            hint="Unlock it first." if locked else "Fetch it again.",
        ) from error
    text = "\n\n".join(page.replace("\r\n", "\n").strip() for page in pages)
    yield from _record(member, HYPHEN.sub("", text), title, ask, reading)


def read_docx(member: Member, ask: Ask, reading: Reading) -> Found:
    """The paragraphs and tables of a Word document in their order as `text`; a table's row is a line.

    Raises:
        DataError: python-docx is missing, or the file is damaged.
        UnsafeArtefactError: it is a decompression bomb.
    """
    try:
        import docx
    except ImportError as error:
        raise _extra("DOCX", "python-docx", member) from error
    content = content_of(member)
    check_packed(content, member.where)
    try:
        document = docx.Document(io.BytesIO(content))
        blocks = [_block(block) for block in document.iter_inner_content()]
        title = document.core_properties.title.strip()
    except Exception as error:  # python-docx lets KeyError, ValueError, lxml's and zipfile's errors through
        raise DataError(f"not a readable DOCX ({error})", where=member.where, hint="Fetch it again.") from error
    yield from _record(member, "\n\n".join(block for block in blocks if block), title, ask, reading)


def _block(block: Any) -> str:
    """A paragraph's text, or a table's rows; a cell that spans several columns stands once."""
    if not hasattr(block, "rows"):
        return str(block.text).strip()
    rows = []
    for row in block.rows:
        cells = {id(cell._tc): " ".join(cell.text.split()) for cell in row.cells}
        rows.append(" | ".join(filter(None, cells.values())))
    return "\n".join(filter(None, rows))


def _record(member: Member, text: str, title: str, ask: Ask, reading: Reading) -> Found:
    if not text.strip():
        reading.refuse(NO_TEXT, member.where)
    elif len(text.encode("utf-8", "replace")) > ask.max_record_bytes:
        reading.refuse(TOO_LARGE, member.where)
    else:
        fields = about(member)
        yield fields | {"text": text, "title": title or fields["title"]}, 0


def _extra(form: str, package: str, member: Member) -> DataError:
    return DataError(f"reading {form} needs {package}", where=member.where, hint="pip install 'sectorlm[documents]'.")
