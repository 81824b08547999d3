"""Markup as readable text: web pages, filings to the SEC in their SGML envelope, reStructuredText."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING

from configs.reading import TOO_LARGE, Ask, Found, Reading, text_of
from configs.texts import about
from configs.webpage import page_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from configs.archives import Member


def read_html(member: Member, ask: Ask, reading: Reading) -> Found:
    """A web page as one record: `text`, `title`, `file`; a filing to the SEC as one record per document in it.

    Scripts, styles, ways through the site and hidden elements are left out, rows of tables become lines with ` | `
    between their cells. A filing's records have `type` and `description` too; its attachments that are not text
    (pictures, spreadsheets, XBRL) are counted as left out.
    """
    text = text_of(member, ask, reading, named=True)
    if not text.strip():
        return
    fields = about(member)
    filing = re.search(r"<DOCUMENT>\s*<TYPE>", text)
    if filing is None:
        content, title = page_text(text)
        documents = iter([{"text": content, "title": title or fields["title"]}])
    else:
        documents = _filing(text[filing.start() :], fields["title"], reading)
    for number, document in enumerate(documents, 1 if filing else 0):
        where = f"{member.where}:{number}" if number else member.where
        if len(document["text"].encode()) > ask.max_record_bytes:
            reading.refuse(TOO_LARGE, where)
        elif document["text"]:
            yield fields | document, number
        else:
            reading.refuse("no text in it", where)


# ---------------------------------------------------------------- filings

DOCUMENT = re.compile(r"<DOCUMENT>(.*?)(?:</DOCUMENT>|(?=<DOCUMENT>)|\Z)", re.DOTALL)
BODY = re.compile(r"<TEXT>(.*?)(?:</TEXT>|\Z)", re.DOTALL)
NOT_TEXT = re.compile(r"GRAPHIC|ZIP|EXCEL|PDF|XML|JSON|EX-10[014](\.|$)")
"""Types of attachments that hold no text of their own (EDGAR Filer Manual, volume II, chapter 5)."""
ENCODED = re.compile(r"\s*(<PDF>\s*)?begin [0-7]{3,4} \S")
"""How a uuencoded attachment begins."""
SGML = re.compile(r"</?(PAGE|TABLE|CAPTION|S|C|FN|F\d+|R|PRE|TEXT|XBRL|PDF)>", re.IGNORECASE)
"""Marks in filings that are typed text: they set tables in ASCII."""
DASH = re.compile(r"^- (?=-)", re.MULTILINE)
"""What privacy-enhanced mail puts before a line that begins with a dash (RFC 1421, section 4.3.2.2)."""
IS_HTML = re.compile(r"<(html|body|div|p|br|font|tr|td)\b", re.IGNORECASE)


def _filing(text: str, name: str, reading: Reading) -> Iterator[dict[str, str]]:
    """The documents of a full submission (SEC, PDS Technical Specification, SGML envelope)."""
    for found in DOCUMENT.finditer(text):
        kind, body = _header(found[1], "TYPE"), BODY.search(found[1])
        content = body[1] if body else ""
        if NOT_TEXT.match(kind) or ENCODED.match(content):
            reading.left_out[f"attachment {kind}"] += 1
            continue
        if IS_HTML.search(content):
            plain, title = page_text(content)
        else:
            plain, title = typed_text(content), ""
        description = _header(found[1], "DESCRIPTION")
        yield {"text": plain, "title": title or description or name, "type": kind, "description": description}


def _header(document: str, name: str) -> str:
    found = re.search(rf"<{name}>([^\n<]*)", document.partition("<TEXT>")[0])
    return found[1].strip() if found else ""


def typed_text(text: str) -> str:
    """A document that was typed, not set: its lines and columns stay, the marks of SGML go."""
    lines = (line.rstrip() for line in html.unescape(DASH.sub("", SGML.sub("", text))).expandtabs().splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


# ---------------------------------------------------------------- reStructuredText

NOISE = re.compile(
    r"\.\.( _.*|$| (?!\S+::|\[|\|)\S.*| (contents|image|raw|include|toctree|index|meta|highlight|sectnum|default-role)::.*"
    r"| \|[^|]+\| (image|replace|unicode)::.*)"
)
"""Explicit markup that says nothing to a reader: comments, link targets, and directives for the page's maker."""


def read_rst(member: Member, ask: Ask, reading: Reading) -> Found:
    """The file as one record, as it is written but for comments, link targets and directives without words.

    reStructuredText is made to be read as it stands: headings, lists, tables and code stay untouched, roles and inline
    marks too, because taking them off safely needs a full parser.
    """
    text = text_of(member, ask, reading)
    if len(text.encode()) > ask.max_record_bytes:
        reading.refuse(TOO_LARGE, member.where)
    elif text:
        yield {"text": rst_text(text), **about(member)}, 0


def rst_text(text: str) -> str:
    """Leave out noise with the indented lines below it (docutils, reStructuredText specification, explicit markup).

    >>> rst_text("Title\\n=====\\n.. comment\\n   more of it\\n\\nWords.\\n.. note:: Mind.\\n")
    'Title\\n=====\\n\\nWords.\\n.. note:: Mind.\\n'
    """
    kept, inside = [], False
    for line in text.splitlines(keepends=True):
        inside = (inside and (line[0] in " \t\r\n")) or NOISE.fullmatch(line.rstrip()) is not None
        if not inside or not line.strip():
            kept.append(line)
    return "".join(kept)
