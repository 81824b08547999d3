"""Lines: one look at every code point gives the classes of a text's characters, its lines and its words.

N code points, D texts, C classes of characters, L lines, W runs of white space
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data_prep.repetition import later_copies
from data_prep.units import ALONE, BASE, BLOCK, TABLE, mixed, powers_of, told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_prep.units import Texts

LATIN, UPPER, LETTER, HAN, FUNCTION, HANGUL, DIGIT, MARK, SYMBOL, HASH, BRACE, LOST, SPACE, CLASSES = range(14)
"""Classes of characters: Latin letters in lower case and without case, Latin capitals, other letters; Han characters and
kana, those of them that are function words, Hangul; digits, punctuation, symbols; `#` and the ellipsis, curly brackets,
U+FFFD, white space. Letters come first, and those of double width side by side."""
CHINESE_FUNCTION = (
    "的了在是和不有我他她它你们這那也就都与及以而为之于其或因但被把从对将应所并则者可要能地得着过这你個个们門等"
    "與為於從對將應過們並則這裡里說说到由向自此该該各每某已曾又再更最很吗嗎呢吧啊矣焉哉乎且若乃即亦"
)
"""Characters of grammar, simplified and traditional: particles, pronouns, prepositions, conjunctions, auxiliaries; but not
those that name places of a web page too (中 in 中心, 会 in 会员). Hiragana are as good: they write the grammar of Japanese."""
HIRAGANA = slice(0x3041, 0x30A0)
BULLETS = "•‣◦▪●○■□◆◇★☆·-–—*+※➢✓"
"""Marks that a line of a list begins with (Rae et al. 2021 name the bullet; the hyphen after datatrove)."""
ENDS = ".!?:;…。！？：；．,，、\"'”’)]}」』）】》〉*_`|>"
"""What a line of prose, of verse or of a list ends with: a mark that ends a sentence or a clause, a closing quotation mark
or bracket, a mark of Markdown. FineWeb and C4 know the ASCII ones."""
SHORT = 30
"""Width of a short line (Penedo et al. 2024, section 3.6: 30 characters; 15 Chinese ones)."""
SENTENCE = 60
"""Width from which a line with a bullet is no heading but a sentence: lists of those are good text."""
BULLET, END, LOWER = 1, 2, 4
"""Bits of `mark_table`."""
LINE_BLOCK = BLOCK
"""Code points that are worked on at once; a block ends with a line."""
LONGEST = 1 << 18
"""Code points of the longest line; what follows counts as another one."""
LINE_FEED = 10


class Lines(NamedTuple):
    """Lines of D texts side by side; those without a visible character have width 0."""

    text_L: np.ndarray
    """int64: the text it belongs to."""
    width_L: np.ndarray
    """int64: visible characters, those of double width counted twice."""
    words_L: np.ndarray
    """int64: runs of visible characters."""
    lettered_L: np.ndarray
    """int64: words with a letter."""
    first_L: np.ndarray
    """uint32: first visible code point."""
    last_L: np.ndarray
    """uint32: last visible code point."""
    dots_L: np.ndarray
    """bool: whether it ends in three full stops."""
    hash_L: np.ndarray
    """uint64: of its code points without the white space around it."""


def lines_of(texts: Texts) -> tuple[np.ndarray, Lines]:
    """How many characters of each class a text has, int64 [D, C], and its lines, ended by line feeds.

    >>> from data_prep.units import texts_of
    >>> counts, lines = lines_of(texts_of(["Rates  rose 2%.\\n\\n利率 ...", "", "利率 ..."]))
    >>> counts[:, HAN].tolist(), lines.text_L.tolist(), lines.width_L.tolist(), lines.words_L.tolist()
    ([2, 0, 2], [0, 0, 0, 2], [12, 0, 7, 7], [3, 0, 2, 2])
    >>> bool(lines.hash_L[2] == lines.hash_L[3]), lines.dots_L.tolist()
    (True, [False, False, True, True])
    """
    from data_prep.fast import kernels

    if compiled := kernels():
        counts_DC = compiled.histogram(*texts, class_table(), CLASSES)
        return counts_DC, Lines(*compiled.lines(*texts, look_table(), BASE, LONGEST))
    counts_DC = np.zeros((len(texts.starts) - 1, CLASSES), np.int64)
    parts = [_lines_between(texts, begin, end, counts_DC) for begin, end in _blocks(texts)]
    if not parts:
        parts = [tuple(np.empty(0, np.uint64 if name == "hash_L" else np.int64) for name in Lines._fields)]
    return counts_DC, Lines(*map(np.concatenate, zip(*parts, strict=True)))


def line_columns(lines: Lines, texts: int) -> dict[str, np.ndarray]:
    """Shares of lines by what they begin and end with, and of the text that repeated lines and paragraphs hold.

    A line whose next one goes on in lower case was wrapped by a typesetter: where it ends says nothing.
    """
    seen = np.flatnonzero(lines.width_L)
    text_S, width_S = lines.text_L[seen], lines.width_L[seen]
    marks = mark_table()
    same = (np.diff(seen, append=-2) == 1) & (text_S == np.append(text_S[1:], -1))
    wrapped = same & (np.take(marks, np.append(lines.first_L[seen][1:], 0), mode="clip") & LOWER > 0)
    ended = np.take(marks, lines.last_L[seen], mode="clip") & END > 0
    bullet = (np.take(marks, lines.first_L[seen], mode="clip") & BULLET > 0) & (width_S < SENTENCE)
    dots = lines.dots_L[seen] | (lines.last_L[seen] == ord("…"))
    every, whole, width = (sums(text_S, column, texts) for column in (None, ~wrapped, width_S))
    begins = np.flatnonzero(~np.append(False, same[:-1])) if len(seen) else seen
    powers, inverses = powers_of(len(seen) + 1)
    upto = np.concatenate([np.zeros(1, np.uint64), np.cumsum(lines.hash_L[seen] * powers[: len(seen)])])
    hash_P = mixed((upto[np.append(begins[1:], len(seen))] - upto[begins]) * inverses[begins])
    width_P = np.diff(np.concatenate([[0], np.cumsum(width_S)])[np.append(begins, len(seen))])
    return {
        "bullet_lines": share(sums(text_S, bullet, texts), every),
        "ellipsis_lines": share(sums(text_S, dots, texts), every),
        "unended_lines": share(sums(text_S, ~(ended | wrapped), texts), whole),
        "short_lines": share(sums(text_S, width_S < SHORT, texts), every),
        "fragment_lines": share(sums(text_S, (width_S < SHORT) & ~(ended | wrapped), texts), every),
        "duplicate_lines": share(_copied(lines.hash_L[seen], width_S, text_S, texts), width),
        "duplicate_paragraphs": share(_copied(hash_P, width_P, text_S[begins], texts), width),
    }


def _copied(hashes: np.ndarray, widths: np.ndarray, places: np.ndarray, texts: int) -> np.ndarray:
    """Width of what has occurred before in its text; `places` are the texts, ascending."""
    copies = later_copies(hashes, np.searchsorted(places, np.arange(texts + 1)))
    return sums(places[copies], widths[copies], texts)


def sums(places: np.ndarray, values: np.ndarray | None, texts: int) -> np.ndarray:
    """The sum of the values of each text, which are whole numbers; without values how many places there are."""
    totals: np.ndarray = np.bincount(places, values, texts)
    return totals


def share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The quotient as float32; 0 where the whole is."""
    quotient: np.ndarray = part / np.maximum(whole, 1)
    return quotient.astype(np.float32)


def _blocks(texts: Texts) -> Iterator[tuple[int, int]]:
    """Begins and ends of blocks of whole lines; a line that is longer than a block is one by itself.

    One of more than LONGEST code points is cut, counted from its begin, so that memory stays bounded.
    """
    points_N, starts = texts
    begin, last = 0, len(points_N)
    while begin < last:
        end = min(begin + LINE_BLOCK, last)
        if end < last:
            breaks = np.flatnonzero(points_N[begin:end] == LINE_FEED)
            head = int(starts[np.searchsorted(starts, end, side="right") - 1])
            end = max(begin + int(breaks[-1]) + 1 if len(breaks) else 0, head)
        if end <= begin:
            border = min(int(starts[np.searchsorted(starts, begin, side="right")]), begin + LONGEST)
            breaks = np.flatnonzero(points_N[begin:border] == LINE_FEED)
            end = begin + int(breaks[0]) + 1 if len(breaks) else border
        yield begin, end
        begin = end


def _lines_between(texts: Texts, begin: int, end: int, counts_DC: np.ndarray) -> tuple[np.ndarray, ...]:
    """The columns of Lines for one block; its characters are added to `counts_DC`."""
    points_N = texts.points_N[begin:end]
    codes_N = np.take(class_table(), points_N, mode="clip")
    first, last = np.searchsorted(texts.starts, begin, side="right") - 1, np.searchsorted(texts.starts, end)
    heads = np.maximum(texts.starts[first:last] - begin, 0)
    _count(codes_N, heads, counts_DC[first:last])
    opens_N = np.empty(len(points_N), bool)
    np.equal(points_N[:-1], LINE_FEED, out=opens_N[1:])
    opens_N[heads] = True
    starts_L = np.flatnonzero(opens_N)
    ends_L = np.append(starts_L[1:], len(points_N))
    first_L, last_L, visible_L, words_L, lettered_L = _words(codes_N, heads, starts_L, ends_L)
    wide_N = (codes_N - np.uint8(HAN)) <= HANGUL - HAN
    wide_L = np.add.reduceat(wide_N, starts_L, dtype=np.int64) if wide_N.any() else 0
    powers, inverses = powers_of(len(points_N))
    sums = np.zeros(len(points_N) + 1, np.uint64)
    np.cumsum(points_N * powers[: len(points_N)], out=sums[1:])
    hash_L = mixed((sums[last_L + 1] - sums[first_L]) * inverses[first_L])
    dots_L = last_L - first_L >= 2
    for step in range(3):
        dots_L &= points_N[np.maximum(last_L - step, 0)] == ord(".")
    text_L = np.searchsorted(texts.starts, starts_L + begin, side="right") - 1
    return text_L, visible_L + wide_L, words_L, lettered_L, points_N[first_L], points_N[last_L], dots_L, hash_L


def _count(codes_N: np.ndarray, heads: np.ndarray, counts_DC: np.ndarray) -> None:
    """Add the classes of a block to the counts of its texts, which begin at `heads`."""
    if len(heads) == 1:
        counts_DC[0] += np.bincount(codes_N, minlength=CLASSES)
        return
    lengths = np.diff(heads, append=len(codes_N))
    keys = np.repeat(np.arange(0, len(heads) * CLASSES, CLASSES), lengths) + codes_N
    counts_DC += np.bincount(keys, minlength=len(heads) * CLASSES).reshape(-1, CLASSES)


def _words(codes_N: np.ndarray, heads: np.ndarray, starts_L: np.ndarray, ends_L: np.ndarray) -> tuple[np.ndarray, ...]:
    """First and last visible place of each line, its visible characters, its words, and its words with a letter."""
    seen_N = codes_N != SPACE
    begins_N, ends_N = seen_N.copy(), seen_N.copy()
    begins_N[1:] &= ~seen_N[:-1]
    ends_N[:-1] &= ~seen_N[1:]
    begins_N[heads] = seen_N[heads]
    ends_N[heads - 1] = seen_N[heads - 1]  # the last of a block ends anyway
    begins, ends = np.flatnonzero(begins_N), np.flatnonzero(ends_N) + 1
    low, high = np.searchsorted(begins, starts_L), np.searchsorted(begins, ends_L)
    blank_L = low == high
    first_L = np.where(blank_L, starts_L, np.append(begins, 0)[low])
    last_L = np.where(blank_L, starts_L, np.append(ends, 0)[high - 1] - 1)
    letters_N = np.concatenate([[0], np.cumsum(codes_N < DIGIT, dtype=np.int32)])
    lettered = np.concatenate([[0], np.cumsum(letters_N[ends] > letters_N[begins])])
    visible = np.concatenate([[0], np.cumsum(ends - begins)])
    return first_L, last_L, visible[high] - visible[low], high - low, lettered[high] - lettered[low]


@lru_cache(maxsize=1)
def class_table() -> np.ndarray:
    """Class of each code point below TABLE: uint8; letters after the general category of Unicode, marks on them too."""
    table = np.full(TABLE, SYMBOL, np.uint8)
    kinds = {"L": LETTER, "M": LETTER, "N": DIGIT, "P": MARK, "Z": SPACE}
    for point in told():
        letter = chr(point)
        table[point] = SPACE if letter.isspace() else kinds.get(unicodedata.category(letter)[0], SYMBOL)
    latin = (table == LETTER) & (np.arange(TABLE) < 0x250)
    latin[0x1E00:0x1F00] = True
    capital = np.zeros(TABLE, bool)
    capital[[point for point in np.flatnonzero(latin).tolist() if chr(point).isupper()]] = True
    table[latin] = LATIN
    table[latin & capital] = UPPER
    for low, high in ALONE:
        table[low : high + 1] = HAN
    table[HIRAGANA] = FUNCTION
    table[0xAC00:0xD7B0] = HANGUL
    table[[ord(letter) for letter in CHINESE_FUNCTION]] = FUNCTION
    table[[ord("#"), ord("…")]] = HASH
    table[[ord("{"), ord("}")]] = BRACE
    table[0xFFFD] = LOST
    return table


@lru_cache(maxsize=1)
def look_table() -> np.ndarray:
    """What the compiled loop sees of a code point: 0 for white space, else 1, 2 for a letter, 4 for double width; uint8."""
    classes = class_table()
    wide = (classes >= HAN) & (classes <= HANGUL)
    table: np.ndarray = (classes != SPACE) | (classes < DIGIT).astype(np.uint8) << 1 | wide.astype(np.uint8) << 2
    return table


@lru_cache(maxsize=1)
def mark_table() -> np.ndarray:
    """What a code point says at the begin or the end of a line: BULLET, END and LOWER as bits, uint8 [TABLE]."""
    table = np.zeros(TABLE, np.uint8)
    table[[ord(mark) for mark in BULLETS]] |= BULLET
    table[[ord(mark) for mark in ENDS]] |= END
    table[class_table() == LATIN] |= LOWER
    return table
