"""Texts as sentences, in English and in Chinese: what exercises quote must be whole, and stand so in the text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

Language = Literal["en", "zh"]

HAN = "\u3400-\u4dbf\u4e00-\u9fff"
"""Chinese characters, as inside of a regular expression's brackets."""
CHINESE_SHARE, KANA_SHARE, FUNCTION_SHARE = 0.3, 0.05, 0.15
"""Part of the letters that are Chinese from which a text is Chinese; part that is kana from which it is Japanese; part
of the words that are English function words from which it is English."""
HEAD = 20_000
"""Characters that the language is judged by."""
FUNCTION_WORDS = re.compile(
    r"\b(?:an?|and|are|as|at|be|by|for|from|in|is|it|of|on|or|that|the|this|to|was|were|with)\b"
)
ABBREVIATIONS = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Inc|Ltd|Co|Corp|No|Nos|Fig|Figs|Eq|Sec|Art|vs|cf|ca|al|etc|approx|Jan|Feb|Mar|Apr|Jun|"
    r"Jul|Aug|Sept?|Oct|Nov|Dec|Gov|Sen|Rep|Gen|Col|Jr|Sr|Vol|pp|e\.g|i\.e)|\b[A-Z])\.$"
)
"""What ends with a full stop that does not end a sentence: titles, months, initials."""
ENGLISH_END = re.compile(r"[.!?]+[\"”’)\]]*(?=\s+[\"“‘(\[]?[A-Z0-9]|\s*$)")
LABEL = re.compile(r"[ \t\u3000]*第[一二三四五六七八九十百千零〇\d]+条(?:之[一二三四五六七八九十]+)?[ \t\u3000]+")
"""The number of an article, which is no part of its first sentence."""
CHINESE_BEGIN = re.compile(f"(?![则則且即和与與其]|[并並]将)[{HAN}A-Z0-9]")
"""What goes on after a formula or a picture is no whole sentence."""
CHINESE_END = re.compile(r"[。！？!?]+[”’」』）》]*")
MARKED = re.compile(r"\s*(?:[#>|*+\-=~`!<]|\d+[.)、]|[（(]\w{1,3}[)）]|[一二三四五六七八九十]+、)")
"""How a heading, an item of a list, a table or a picture begins."""
UNQUOTABLE = re.compile(
    r"[#|{}<>\[\]\\=*_`\"“”「」『』〈〉\ufffd]|https?:|www\.|[a-z]\.[\dA-Z]|\.{3}|…|"
    r"[a-z)] (?:The|This|These|Those|In|It|As|At|For|On|We|However|Although) [a-z]"
)
"""What a sentence must not hold to be quoted: mark-up, quotation marks, addresses, footnotes, a heading."""
WRAPPED = (50, 100)
"""Length of the lines of a text with hard line ends (Project Gutenberg: 60 to 75 characters)."""
SIZES: dict[Language, tuple[int, int]] = {"en": (40, 400), "zh": (14, 160)}
"""Characters of a sentence that is quoted: shorter ones say little, longer ones are lists."""


class Sentence(NamedTuple):
    """A sentence of a text."""

    text: str
    """Its words with single spaces between them."""
    start: int
    end: int
    """Where it stands: `whole[start:end]`."""
    paragraph: int
    quotable: bool
    """Whole, of a sensible length and free of mark-up."""


def language_of(text: str) -> Language | None:
    """The language that exercises can be made in, by the text's first 20,000 characters.

    >>> language_of("The bank raised its rate in March."), language_of("央行下调了利率。"), language_of("Der Satz wurde erhöht.")
    ('en', 'zh', None)
    """
    head = text[:HEAD]
    letters = sum(map(str.isalpha, head))
    if len(re.findall(r"[\u3040-\u30ff]", head)) > KANA_SHARE * letters:
        return None
    if letters and len(re.findall(f"[{HAN}]", head)) >= CHINESE_SHARE * letters:
        return "zh"
    words = len(re.findall(r"[^\W\d_]+", head))
    return "en" if words and len(FUNCTION_WORDS.findall(head.lower())) >= FUNCTION_SHARE * words else None


def sentences_of(text: str, language: Language) -> Iterator[Sentence]:
    """The sentences of a text in their order; between them stand only white space and the numbers of articles.

    >>> [it.text for it in sentences_of("Mr. Li came. He sat. Then", "en")]
    ['Mr. Li came.', 'He sat.', 'Then']
    """
    for start, end, number in _lines(text, language):
        marked = MARKED.match(text, start, end) is not None
        label = LABEL.match(text, start, end)
        for left, right in _sentences(text, label.end() if label else start, end, language):
            words = " ".join(text[left:right].split())
            yield Sentence(words, left, right, number, not marked and _quotable(words, language))


def _lines(text: str, language: Language) -> Iterator[tuple[int, int, int]]:
    """Lines that end sentences, with the number of their paragraph; none of these where lines are wrapped by hand."""
    lengths = [len(line) for line in text[:HEAD].split("\n") if line.strip()]
    wrapped = sum(WRAPPED[0] <= length <= WRAPPED[1] for length in lengths) > max(len(lengths) / 2, 2)
    end = re.compile(r"\n\s*\n" if wrapped and language == "en" else r"\n\s*")
    cursor = number = 0
    for found in end.finditer(text):
        yield cursor, found.start(), number
        cursor = found.end()
        number += found.group().count("\n") > 1
    yield cursor, len(text), number


def _sentences(text: str, start: int, end: int, language: Language) -> Iterator[tuple[int, int]]:
    ends = CHINESE_END if language == "zh" else ENGLISH_END
    cursor = start
    for found in ends.finditer(text, start, end):
        if language == "en" and ABBREVIATIONS.search(text[max(cursor, found.end() - 12) : found.end()]):
            continue
        yield from _trimmed(text, cursor, found.end())
        cursor = found.end()
    yield from _trimmed(text, cursor, end)


def _trimmed(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    inner = text[start:end]
    if words := inner.strip():
        left = start + inner.index(words[0])
        yield left, left + len(words)


@lru_cache(maxsize=4096)
def _quotable(sentence: str, language: Language) -> bool:
    shortest, longest = SIZES[language]
    whole = sentence.endswith((".", "!", "?") if language == "en" else ("。", "！", "？"))
    begins = sentence[0].isupper() if language == "en" else CHINESE_BEGIN.match(sentence) is not None
    balanced = all(sentence.count(left) == sentence.count(right) for left, right in ("()", "（）", "《》"))
    return shortest <= len(sentence) <= longest and whole and begins and balanced and not UNQUOTABLE.search(sentence)
