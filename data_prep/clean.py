"""Repairs: what is mended in a text, as rows of a table. A new one is one row.

A repair takes away what no writer meant: characters that nothing shows, letters read in the wrong encoding, remains of
markup, lines that belong to the page and not to the text. Code, formulas and copyright notices stay as they are. Each
repair has a name, is counted by document, and is switched off by `rules: {NAME: false}`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections import Counter
from heapq import merge
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
"""Control characters of Unicode (category Cc) but tab, line feed, form feed, return and next line, and the byte-order mark."""
LINE_ENDS = ("\r\n", *"\r\x0c\x85\u2028\u2029")
"""Line ends of Unicode (UAX 14, class BK and NL) other than the line feed."""
INVISIBLE = re.compile(
    "[\xad\u180e\u200b\u2060-\u2064]|(?<=[\x00-\x7f\u2e80-\u9fff])[\u200c\u200d]|[\u200c\u200d](?=[\x00-\x7f\u2e80-\u9fff])"
)
"""Format characters (category Cf) without width. Joiners (U+200C, U+200D) stay where Persian, Indic scripts and emoji
need them: they go beside ASCII and Chinese only. Marks of direction stay."""
PRIVATE = re.compile("[\ue000-\uf8ff\U000f0000-\U0010ffff]")
"""Private use areas (The Unicode Standard, section 23.5): what they show depends on a font that is not here."""
BULLETS = "\uf06c\uf06e\uf076\uf0a7\uf0b7\uf0d8\uf0fc"
"""Private characters that are known: the list marks of the fonts Symbol and Wingdings, as Word and PDF files hand them on."""
MOJIBAKE = re.compile("[\xc2-\xef][\x80-\xbf\u0152-\u0178\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]")
"""A UTF-8 lead byte and a continuation byte, both read as Latin-1 or Windows-1252: `Ã©` for é, `â€` for a dash."""
ODD = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\xad\xc2-\xef\u180e\u200b-\u200d\u2060-\u2064\ue000-\uf8ff\ufeff\U000f0000-\U0010ffff]"
)
"""What the four patterns above begin with."""
PLAIN = b"\t\n\x0c\r" + bytes(range(0x20, 0x7F))
"""ASCII that none of them is about."""

FENCES = {
    "```": "```",
    "~~~": "~~~",
    "$$": "$$",
    "\\[": "\\]",
    "<pre": "</pre>",
    "<code": "</code>",
    "<math": "</math>",
}
"""How a line begins a block of code or a formula, and what ends the block."""
SPARED = "repair left out: protected terms"
"""Counted beside the repairs, for a text that one of them would have harmed."""
INDENT = ("    ", "\t")
"""Lines that begin so are code as well (CommonMark 0.31, section 4.4; literal blocks of reStructuredText)."""
CODE = r"(?P<kept>(?P<ticks>``?)(?!`).+?(?P=ticks)|\$\$.*?\$\$|\$[^$]+\$|\\\(.*?\\\)|\\\[.*?\\\]|<code\b.*?</code>)"
"""Code and formulas inside a line."""
BREAKS = re.compile(
    "address|article|blockquote|br|caption|center|dd|div|dl|dt|figure|footer|form|h[1-6]|header|hr|li|nav|ol|p|section|table|"
    "tbody|tfoot|thead|tr|ul"
)
INLINE = "a|abbr|b|big|em|figcaption|font|i|img|ins|kbd|label|small|span|strike|strong|td|th|tt|u|var"
TAG = re.compile(rf"</?(?P<tag>{BREAKS.pattern}|{INLINE})(?:\s[^<>]{{0,500}})?/?>|<!--.*?-->", re.IGNORECASE)
"""Tags of HTML by name, so that `List<T>` and `<file>` stay; `sup` and `sub` stay because formulas need them."""
ENTITY = re.compile(r"&(?:[a-z]{2,8}\d{0,2}|#\d{2,6}|#x[0-9a-f]{2,5});", re.IGNORECASE)
MARKUP = re.compile(rf"{CODE}|{TAG.pattern}|{ENTITY.pattern}", re.IGNORECASE)
CLOSED = re.compile(r"</([a-z0-9]{1,10})\s*>", re.IGNORECASE)
VOID = frozenset({"br", "hr", "img"})
"""Tags that have no closing form; any other one must be closed somewhere, else it may be a placeholder like `<a>`."""
TARGET = (
    r"\((?=[<#/.]|[a-z][a-z0-9+.-]*:|[^\s()]*[./#])<?[^\s()<>]*(?:\([^\s()]*\)[^\s()<>]*)*>?(?:\s+[\"'][^\n]*?[\"'])?\)"
)
LINK = re.compile(
    rf"{CODE}|!?(?<![\w\])])\[(?P<text>[^\[\]]{{0,300}})\]{TARGET}(?:\{{:[^{{}}]*\}})?", re.IGNORECASE | re.ASCII
)
"""Links and images of Markdown (CommonMark 0.31, section 6.3) with the attributes of kramdown."""
LINKED = re.compile(rf"\]{TARGET}", re.IGNORECASE | re.ASCII)
PAGE_NUMBER = re.compile(
    r"\n[ \t]*(?:(?:Page|PAGE) \d{1,4}(?: ?(?:of|OF|/) ?\d{1,4})?|[-–—] ?\d{1,4} ?[-–—]"
    r"|第 ?\d{1,4} ?页(?:[，,/ ]{0,2}共 ?\d{1,4} ?页)?|共 ?\d{1,4} ?页[，,/ ]{0,2}第 ?\d{1,4} ?页)[ \t]*(?=\n)"
)
LEADERS = re.compile(r"(?:\.\.\.\.\.|\. \. \. \. \.|………|·····)[ \t.…·]*(?:\d{1,4}|[ivxl]{1,6})[ \t]*(?=\n)")
"""What a line of a table of contents ends with."""
COOKIES = re.compile(
    r"\n[ \t]*(?:(?:(?:This|Our) (?:web)?site|We) uses? cookies\b[^\n]{0,400}|By (?:continuing|using|browsing)[^\n]{0,120}"
    r"\bcookies\b[^\n]{0,200}|(?:Accept|Reject|Allow|Manage|Decline)(?: all)? cookies\.?"
    r"|(?:本网站|本站|我们的网站|我们)(?:会|将)?使用 ?cookies?[^\n]{0,200}|接受(?:所有|全部) ?cookies?)[ \t]*(?=\n)",
    re.IGNORECASE,
)
LINE = 200
"""Characters of the longest line that counts as one of a table of contents."""
SCRIPTS = re.compile(
    r"\n[ \t]*(?:(?:Please|You (?:need|have|must)(?: to)?) (?:enable|turn on|activate|allow) JavaScript\b[^\n]{0,200}"
    r"|(?:Enable|Turn on|Activate) JavaScript(?: to continue| in your (?:web )?browser)?[.!]?"
    r"|(?:(?:It (?:looks|seems|appears)(?: like| that)?|Sorry,|Warning:) )?JavaScript (?:is|seems to be|appears to be)"
    r"(?: currently)? (?:disabled|turned off|switched off|not enabled)(?: (?:in|on|by) your (?:web )?browser\b[^\n]{0,200}"
    r"|[.!](?: (?:Please|You|To|For)\b[^\n]{0,200})?)?"
    r"|(?:This|Our) (?:web ?)?(?:site|page) requires JavaScript"
    r"(?:[.!]?|(?: enabled| to (?:be|work|function|run|display|continue)\b| in your browser|[.!] (?:Please|You)\b)[^\n]{0,200})"
    r"|请(?:您|先)?(?:在(?:您的)?浏览器中)?(?:启用|开启|打开|允许)(?:您的|您|浏览器|的){0,3} ?JavaScript"
    r" ?(?:功能|支持|脚本)?(?:[，,。.！!；;以并才再后然][^\n]{0,100})?"
    r"|(?:您的|当前)?浏览器(?:未启用|已禁用|禁用了|不支持) ?JavaScript(?:[，,。.！!；;][^\n]{0,100})?)[ \t]*(?=\n)",
    re.IGNORECASE,
)
"""What a page says instead of its text. Raffel et al. 2020, section 2.2, drop every line that names JavaScript, which costs
every manual of a web framework its sentences."""
CONTROLS = (
    "skip to content|skip to main content|skip to navigation|back to top|return to top|top of page|print this page|"
    "share this page|share this article|share on facebook|share on twitter|email this page|toggle navigation|"
    "subscribe to our newsletter|read more »|next page|previous page|advertisement|"
    "返回顶部|回到顶部|返回首页|返回列表|网站首页|上一页|下一页|上一篇|下一篇|打印本页|关闭窗口|【打印】|【关闭】|"
    "【打印】【关闭】|点击查看更多|查看更多|阅读全文|展开全文|收藏本站|设为首页|加入收藏|网站地图|分享到微信|扫一扫分享"
)
NAVIGATION = frozenset(
    form for phrase in CONTROLS.split("|") for form in (phrase, phrase.capitalize(), phrase.title(), phrase.upper())
)
"""Lines that are nothing but a control of a web page."""


class Repair(NamedTuple):
    """Something that is mended in place and counted by document."""

    name: str
    mend: Callable[[str], str]
    marks: tuple[str, ...] = ()
    """One of these stands in every text that needs it."""
    odd: str | None = None
    """A repair of characters has this instead: the class of those of ODD that it begins with. A repair with neither is for
    every text that is not ASCII."""


def repair(
    text: str,
    off: frozenset[str] = frozenset(),
    likely: Sequence[str] | None = None,
    protected: re.Pattern[str] | None = None,
) -> tuple[str, tuple[str, ...]]:
    """The mended text, and the names of the repairs that changed it; those in `off` are left out.

    `likely` are the repairs that it may need, as data_prep/guard.py has them: all others would change nothing. One that
    would lose a `protected` term is not made; `SPARED` stands among the names instead.

    >>> repair("It\\u200bs cafÃ© &amp; bar\\r\\nPage 3 of 12\\nopen")
    ('Its café & bar\\nopen', ('mojibake', 'line ends', 'invisible characters', 'HTML remains', 'page numbers'))
    """
    changed: list[str] = []
    original, rest, odd = text, "", None
    for name, mend, marks, own in REPAIRS:
        if name in off or (likely is not None and name not in likely):
            continue
        if marks:
            if not _has(text, marks):
                continue
        elif likely is None:
            rest, odd = _odd_of(original) if odd is None else (rest, odd)
            if not (odd and re.search(own, odd) if own else rest):
                continue
        mended = mend(text)
        if mended != text and protected is not None and _loses(protected, text, mended):
            changed.append(SPARED)
        elif mended != text:
            text = mended
            changed.append(name)
            if name != "line ends":  # which bring nothing together that was apart
                likely = None
    return text, tuple(changed)


def _loses(protected: re.Pattern[str], text: str, mended: str) -> bool:
    """Whether a term stands less often in the mended text."""
    before, after = (Counter(found[0] for found in protected.finditer(it)) for it in (text, mended))
    return bool(before - after)


def _odd_of(text: str) -> tuple[str, str]:
    """What is not ASCII or is odd ASCII, and the characters of ODD among it."""
    rest = text.encode("utf-8", "surrogatepass").translate(None, PLAIN).decode("utf-8", "surrogatepass")
    return rest, "".join(set(ODD.findall(rest)))


def _has(text: str, marks: tuple[str, ...]) -> bool:
    """Whether a mark stands in the text; single characters are looked up ten times faster, so they are first."""
    for mark in marks:  # noqa: SIM110, a generator would cost more than the look-ups
        if mark[0] in text and mark in text:
            return True
    return False


def _decoded(text: str) -> str:
    """Lines that were read in the wrong encoding, read again; ftfy decides (Speer 2019, "ftfy", Zenodo 2591652)."""
    if not MOJIBAKE.search(text):
        return text
    from ftfy import fix_encoding

    return "\n".join(fix_encoding(line) if MOJIBAKE.search(line) else line for line in text.split("\n"))


def _with_line_feeds(text: str) -> str:
    for end in LINE_ENDS:
        text = text.replace(end, "\n")
    return text


def _shown(text: str) -> str:
    """Known private characters as the bullet they show, others as U+FFFD, which the rule "unreadable" counts."""
    return PRIVATE.sub(lambda found: "•" if found[0] in BULLETS else "\ufffd", text)


def _in_prose(text: str, marks: tuple[str, ...], mend: Callable[[str], str]) -> str:
    """Mend the lines that hold a mark and are no code."""
    blocks = _blocks(text)
    begin, end = next(blocks, (len(text), len(text)))
    parts, at = [], 0
    for place, _ in _places(text, marks):
        while place >= end:
            begin, end = next(blocks, (len(text), len(text)))
        if at <= place < begin:
            start, stop = _line(text, place)
            line = text[start:stop]
            parts += [text[at:start], line if line.startswith(INDENT) else mend(line)]
            at = stop
    return "".join([*parts, text[at:]])


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Begins and ends of the blocks of code, which are whole lines; one that nothing ends goes on to the end."""
    at = 0
    for place, opening in _places(text, tuple(FENCES)):
        if place < at:
            continue
        begin, at = _line(text, place)
        closing, inner = FENCES[opening], place + len(opening)
        if not text[begin:place].strip() and text.find(closing, inner, at) < 0:
            close = text.find(closing, inner)
            at = _line(text, close)[1] if close >= 0 else len(text)
            yield begin, at


def _line(text: str, place: int) -> tuple[int, int]:
    """Begin and end of the line around a place."""
    end = text.find("\n", place)
    return text.rfind("\n", 0, place) + 1, end if end >= 0 else len(text)


def _places(text: str, marks: tuple[str, ...]) -> Iterator[tuple[int, str]]:
    """Where the marks stand, in order, and which. Plain search passes over a text ten times faster than a pattern."""

    def places(mark: str) -> Iterator[tuple[int, str]]:
        place = text.find(mark)
        while place >= 0:
            yield place, mark
            place = text.find(mark, place + 1)

    return merge(*map(places, marks))


def _stands(pattern: re.Pattern[str], mark: str, text: str) -> bool:
    """Whether the pattern, which begins with the mark, is anywhere in the text; a search of its own is ten times slower."""
    place = text.find(mark)
    while place >= 0:
        if pattern.match(text, place):
            return True
        place = text.find(mark, place + 1)
    return False


def _without_markup(text: str) -> str:
    """Tags, comments and entities of HTML taken out of prose."""
    if not (_stands(TAG, "<", text) or _stands(ENTITY, "&", text)):
        return text
    closed = VOID | {name.lower() for name in CLOSED.findall(text)}

    def mend(found: re.Match[str]) -> str:
        name = (found["tag"] or "").lower()
        if found["kept"] is not None or (name and name not in closed):
            return found[0]
        if found[0].startswith("&"):
            return html.unescape(found[0]).replace("\xa0", " ")
        return "\n" if BREAKS.fullmatch(name) else " " if name in ("td", "th") else ""

    return _in_prose(text, ("<", "&"), lambda line: MARKUP.sub(mend, line))


def _without_links(text: str) -> str:
    """The words of links and images in place of them; twice, because an image may be the words of a link."""
    if not _stands(LINKED, "](", text):
        return text

    def words(found: re.Match[str]) -> str:
        return found["text"] if found["kept"] is None else found[0]

    def mend(line: str) -> str:
        line = LINK.sub(words, line)
        return LINK.sub(words, line) if "](" in line else line

    return _in_prose(text, ("](",), mend)


def _without(lines: re.Pattern[str]) -> Callable[[str], str]:
    """A repair that takes out the lines of a pattern, which begins with a line feed and ends before one."""
    return lambda text: lines.sub("", f"\n{text}\n")[1:-1] if lines.search(f"\n{text}\n") else text


def _without_leaders(text: str) -> str:
    """Lines of a table of contents taken out: some words, dots, a page number; longer ones are prose."""
    kept, start = [], 0
    for found in LEADERS.finditer(text + "\n"):
        begin = text.rfind("\n", 0, found.start()) + 1
        if found.end() - begin <= LINE and re.search(r"\w", text[begin : found.start()]):
            kept.append(text[start:begin])
            start = found.end() + 1
    return "".join(kept) + text[start:]


def _without_navigation(text: str) -> str:
    lines = text.split("\n")
    if NAVIGATION.isdisjoint(map(str.strip, lines)):
        return text
    return "\n".join(line for line in lines if line.strip() not in NAVIGATION)


REPAIRS = (
    Repair("mojibake", _decoded, odd="[\xc2-\xef]"),
    Repair("line ends", _with_line_feeds, marks=LINE_ENDS),
    Repair("control characters", lambda text: CONTROL.sub("", text), odd=CONTROL.pattern),
    Repair("invisible characters", lambda text: INVISIBLE.sub("", text), odd="[\xad\u180e\u200b-\u200d\u2060-\u2064]"),
    Repair("private characters", _shown, odd=PRIVATE.pattern),
    Repair("not in NFC", lambda text: unicodedata.normalize("NFC", text)),
    Repair("HTML remains", _without_markup, ("<", "&")),
    Repair("Markdown links", _without_links, ("](",)),
    Repair("page numbers", _without(PAGE_NUMBER), ("\n",)),
    Repair("dot leaders", _without_leaders, (".....", ". . . . .", "………", "·····")),
    Repair("cookie notices", _without(COOKIES), ("ookie",)),
    Repair("script notices", _without(SCRIPTS), ("JavaScript",)),
    Repair("navigation lines", _without_navigation, ("\n",)),
)
"""In this order: a wrong encoding shows in control characters, so it comes first; lines are judged without markup."""
