"""A web page as readable text, in one pass over its tags: linear in its length, whatever it holds."""

from __future__ import annotations

import html
import re

SILENT = frozenset(
    "script style noscript template svg iframe object select textarea button nav aside footer rp rt ix:header".split()  # noqa: SIM905
)
"""Elements without words of the text: programs, forms, ways through the site, reading aids, XBRL's hidden facts."""
BLOCKS = frozenset(
    "address article blockquote body center dd details div dl dt fieldset figcaption figure form header hr html li main ol p "  # noqa: SIM905
    "page pre section summary table tbody td tfoot th thead title tr ul h1 h2 h3 h4 h5 h6".split()
)
"""Elements that begin on a line of their own."""
APART = frozenset("p table ul ol dl pre blockquote hr h1 h2 h3 h4 h5 h6 page".split())  # noqa: SIM905
"""Elements with an empty line before and after them."""
SEEN = BLOCKS | {"br", "sup"}
VOID = frozenset("area base br col embed hr img input link meta param source track wbr page".split())  # noqa: SIM905
"""Elements that hold nothing."""
TAG = re.compile(r"<(?:(/?)([A-Za-z][^\s/>]*)|[!?])([^>]*)>")
HIDDEN = re.compile(r"display\s*:\s*none|role\s*=\s*[\"']?navigation", re.IGNORECASE)
POWER = re.compile("\ue000([-+−]?[0-9n]+)")
"""A raised number: `10<sup>3</sup>` is not 103."""
BEFORE = re.compile(
    r"[$€£¥•·●○■□▪☐☒¨–—*(ox-]|\(?(\d{1,3}|[a-zA-Z]|[ivxlcIVXLC]{1,6})[.)]|(item|article|section|note|part)\s[\w.()]{1,8}",
    re.IGNORECASE,
)
"""Cells that belong to the next one: currency signs, bullets, numbers of items."""
AFTER = re.compile(r"[)%]{1,2}")
"""Cells that belong to the one before: `(1,234` `)`."""


def page_text(page: str) -> tuple[str, str]:
    r"""The readable text of a web page, and its title.

    Scripts, styles, navigation and hidden elements are left out; a row of a table is a line with ` | ` between its
    cells; typed text (`<pre>`) keeps its lines and columns.

    >>> page_text("<title>Rates</title><p>They <b>rose</b>.<table><tr><td>2024<td>$<td>1,234</table>")
    ('They rose.\n\n2024 | $1,234', 'Rates')
    """
    page = _without_comments(page)
    shown: set[str] = set()
    while True:  # an element that never ends does not swallow the rest: it is taken for none
        found = _Page(page, SILENT - shown, hide=not shown)
        if not found.silent:
            return found.text(), found.title
        shown.add(found.silent)


def _without_comments(page: str) -> str:
    """A comment that never ends is not one."""
    *parts, last = page.split("-->")
    return "".join(part.partition("<!--")[0] if "<!--" in part else f"{part}-->" for part in parts) + last


def _tag_end(page: str, found: re.Match[str], end: int) -> int:
    """Where a tag ends: beyond a `>` that stands in quotes, if the quotes are closed soon."""
    for mark in "\"'":
        if found[3].count(mark) % 2 and "=" in found[3]:
            close = page.find(mark, found.end(), min(end, found.end() + 2000))
            follow = page.find(">", close, min(end, close + 2000)) if close >= 0 else -1
            if follow >= 0 and "<" not in page[found.end() : close]:
                return follow + 1
    return found.end()


def _after(page: str, name: str, at: int) -> int:
    """Where the element `name` that begins before `at` ends, the same inside of it included; -1 if it never does."""
    depth = 1
    for found in re.compile(rf"<(/?){re.escape(name)}(?=[\s/>])[^>]*>", re.IGNORECASE).finditer(page, at):
        depth += -1 if found[1] else not found[0].endswith("/>") and name not in ("script", "style")
        if depth == 0:
            return found.end()
    return -1


class _Table:
    """A table that is being read: the cells of its row so far, and whether the last is still open."""

    def __init__(self) -> None:
        self.cells: list[list[str]] = []
        self.open = False


class _Page:
    """Collects lines; while a cell is open they belong to it, else to the page."""

    def __init__(self, page: str, silent: frozenset[str], *, hide: bool) -> None:
        self.lines: list[str] = []
        self.words: list[str] = []
        self.tables: list[_Table] = []
        self.pre = 0
        self.title = ""
        self.silent = ""
        at, end = 0, page.rfind(">") + 1
        while (found := TAG.search(page, at, end)) is not None:
            closing, name, attributes = found[1], (found[2] or "").lower(), found[3]
            self.words.append(page[at : found.start()])
            at = _tag_end(page, found, end) if '"' in attributes or "'" in attributes else found.end()
            if name in VOID and name not in BLOCKS and name != "br":
                continue
            if closing:
                self.end(name)
            elif name in silent or (hide and "n" in attributes and HIDDEN.search(attributes)):
                if not attributes.endswith("/") and (at := _after(page, name, at)) < 0:
                    self.silent = name
                    return
            elif name in SEEN:
                self.start(name, empty=attributes.endswith("/"))
        self.words.append(page[at:])

    def start(self, tag: str, *, empty: bool = False) -> None:
        """Begin an element."""
        if tag == "br":
            self._flush()
        elif tag == "sup" and self.words and self.words[-1][-1:].strip():
            self.words.append("\ue000")
        elif tag in BLOCKS:
            self._block(tag)
            if tag == "li":
                self.words.append("- ")
            self.pre += tag == "pre" and not empty

    def end(self, tag: str) -> None:
        """End an element."""
        if tag == "title":
            self.title = self.title or " ".join(html.unescape("".join(self.words)).split())
            self.words.clear()
        elif tag in BLOCKS and tag not in VOID:
            self._end_block(tag)

    def text(self) -> str:
        """All lines, with at most one empty one between two."""
        self._flush()
        while self.tables:
            self._end_block("table")
        text = POWER.sub(r"^\1", "\n".join(self.lines)).replace("\ue000", "")
        return re.sub(r"\n{3,}", "\n\n", text).strip("\n")

    # ------------------------------------------------------------ lines and cells

    def _sink(self) -> list[str]:
        """Where a finished line goes: the innermost open cell, or the page."""
        return next((table.cells[-1] for table in reversed(self.tables) if table.open), self.lines)

    def _flush(self) -> None:
        """End the line."""
        if not self.words:
            return
        text = "".join(self.words)
        self.words.clear()
        if not text or text.isspace():
            return
        text = html.unescape(text)
        if self.pre:
            self._sink().extend(line.rstrip() for line in text.expandtabs().splitlines())
        elif (line := " ".join(text.split())) not in ("", "-"):
            self._sink().append(line)

    def _gap(self) -> None:
        sink = self._sink()
        if sink and sink[-1]:
            sink.append("")

    def _block(self, tag: str) -> None:
        self._flush()
        if tag in ("td", "th", "tr"):
            self._end_cell()
            if tag == "tr":
                self._end_row()
            elif self.tables:
                self.tables[-1].cells.append([])
                self.tables[-1].open = True
            return
        if tag in APART:
            self._gap()
        if tag == "table":
            self.tables.append(_Table())

    def _end_block(self, tag: str) -> None:
        self._flush()
        if tag in ("td", "th", "tr", "table"):
            self._end_cell()
        if tag in ("tr", "table"):
            self._end_row()
        if tag == "table" and self.tables:
            self.tables.pop()
        if tag == "pre":
            self.pre = max(0, self.pre - 1)
        if tag in APART:
            self._gap()

    def _end_cell(self) -> None:
        if self.tables:
            self.tables[-1].open = False

    def _end_row(self) -> None:
        if not self.tables:
            return
        table = self.tables[-1]
        cells = [cell for cell in ("\n".join(cell).strip() for cell in table.cells) if cell]
        table.cells = []
        if cells:
            self._sink().extend(cells[0].split("\n") if len(cells) == 1 else [_row(cells)])


def _row(cells: list[str]) -> str:
    """The cells of a row as a line; signs, bullets and brackets go to the cell that they belong to."""
    line, glue = "", ""
    for number, cell in enumerate(" ".join(cell.split()) for cell in cells):
        if number and AFTER.fullmatch(cell):
            line += cell
            continue
        line += glue + cell
        item = number == 0 and BEFORE.fullmatch(cell) is not None
        glue = "" if cell in "$€£¥(" else " " if item else " | "
    return line
