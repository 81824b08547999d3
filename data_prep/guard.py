"""A guard before repairs and personal data: one look at all code points says which texts none of them can change.

Most texts need nothing, and asking each repair (clean.py) and each gate (privacy.py) about each text costs more than
everything that is computed of it. So the places where something could begin are found for a whole batch at once, and
tested with the characters beside them. What passes may still need nothing; what does not pass needs nothing for sure.
tests/test_guard.py holds it to that.

    N code points, D texts, P places, L lines
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data_prep.clean import NAVIGATION, REPAIRS
from data_prep.units import TABLE, told

if TYPE_CHECKING:
    from collections.abc import Iterable

    from data_prep.units import Texts

LEAD, BREAK, CONTROLS, UNSEEN, OWN, JOINS, LONE, OPEN, CLOSE, LINE, DOT, LETTER, SIGN, DIGIT = (
    1 << bit for bit in range(14)
)
"""Bits of code points that something can begin with: the first half of a letter in the wrong encoding; line ends other than
the line feed; control characters; characters without width; private ones; what NFC changes or puts together; lone
surrogates; `<` and `&`; `]`; line feed; dots of leaders; `k` of cookie and `J` of JavaScript; signs of addresses; digits."""
MARKED = (1 << 14) - 1
TRAIL, LINK, WHITE, DECIMAL, HEX, NAME, PAGE = (1 << bit for bit in range(14, 21))
"""Bits of code points that are only looked at beside those: the second half of such a letter; what may stand between the
digits of a number; white space; digits of any script; digits of base 16; letters and marks of a name of mail; what the
number of a page begins with."""
SHORT, INDENT = 64, 14
"""Characters of the longest line that is looked at closely; a longer one can only be a page number or a control of a page
if at least INDENT spaces begin or end it."""
WATCHED = (
    "mojibake",
    "line ends",
    "control characters",
    "invisible characters",
    "private characters",
    "not in NFC",
    "HTML remains",
    "Markdown links",
    "page numbers",
    "dot leaders",
    "cookie notices",
    "script notices",
    "navigation lines",
)
"""The repairs whose marks are known here; the number of each is that of its bit. Any other one is for every text."""
BIT = {name: np.uint16(1 << number) for number, name in enumerate(WATCHED)}
OTHER = np.uint16(1 << 15)
"""The bit of all repairs that are not watched."""


class Needs(NamedTuple):
    """What texts may need."""

    repairs_D: np.ndarray
    """uint16: the bits of repairs; `likely` names them."""
    mask_D: np.ndarray
    """bool: the search for personal data."""
    lone_D: np.ndarray
    """bool, exact: whether it holds a lone surrogate."""


class _Batch(NamedTuple):
    """A batch of texts, with the places of its marks."""

    texts: Texts
    places_P: np.ndarray
    kinds_P: np.ndarray
    """uint32: their bits."""

    def of(self, kind: int) -> np.ndarray:
        """The places of a kind."""
        return self.places_P[self.kinds_P & kind > 0]

    def points(self, places: np.ndarray, step: int = 0) -> np.ndarray:
        """The code points so many places on."""
        found: np.ndarray = self.texts.points_N.take(places + step, mode="clip")
        return found

    def has(self, kind: int, places: np.ndarray, step: int = 0) -> np.ndarray:
        """Whether they are of a kind."""
        return np.asarray(table().take(self.points(places, step), mode="clip") & kind > 0)

    def follow(self, places: np.ndarray, word: str, step: int = 1) -> np.ndarray:
        """Whether these characters stand so many places on."""
        found = np.ones(len(places), bool)
        for at, letter in enumerate(word, step):
            found &= self.points(places, at) == ord(letter)
        return found


def needs_of(texts: Texts) -> Needs:
    """Which repairs texts may need, which of them may hold personal data, and which cannot be encoded.

    >>> from data_prep.units import texts_of
    >>> needs = needs_of(texts_of(["It rose by 2.5%.", "cafÃ©", "tel 555 0100 22", "a@b.org", "x\\n  Page 3\\n", "利率上升。"]))
    >>> [likely(bits) for bits in needs.repairs_D.tolist()]
    [(), ('mojibake',), (), (), ('page numbers',), ()]
    >>> needs.mask_D.tolist()
    [False, False, True, True, False, False]
    """
    from data_prep.fast import kernels

    count = len(texts.starts) - 1
    if not len(texts.points_N):
        return Needs(np.zeros(count, np.uint16), np.zeros(count, bool), np.zeros(count, bool))
    every = OTHER if _others() else np.uint16(0)
    if compiled := kernels():
        repairs_D, mask_D, lone_D = compiled.needs(*texts, table(), navigation())
        return Needs(repairs_D | every, mask_D, lone_D)
    kinds_N = table().take(texts.points_N, mode="clip")
    places_P = np.flatnonzero(kinds_N & MARKED)
    kinds_P = kinds_N[places_P]
    batch = _Batch(texts, places_P, kinds_P)
    repairs_D = np.full(count, every)
    for name, places in _to_mend(batch):
        repairs_D[_texts_with(texts, places)] |= BIT[name]
    found = Needs(repairs_D, np.zeros(count, bool), np.zeros(count, bool))
    for places in _to_mask(batch):
        found.mask_D[_texts_with(texts, places)] = True
    found.lone_D[_texts_with(texts, batch.of(LONE))] = True
    return found


def likely(bits: int) -> tuple[str, ...]:
    """The names of repairs by their bits.

    >>> likely(int(BIT["line ends"] | BIT["dot leaders"]))
    ('line ends', 'dot leaders')
    """
    return tuple(name for name, bit in BIT.items() if bits & int(bit)) + (_others() if bits & int(OTHER) else ())


def _others() -> tuple[str, ...]:
    return tuple(row.name for row in REPAIRS if row.name not in BIT)


def _texts_with(texts: Texts, places: np.ndarray) -> np.ndarray:
    """The texts in which these places lie."""
    return np.searchsorted(texts.starts, places, side="right") - 1


def _to_mend(batch: _Batch) -> Iterable[tuple[str, np.ndarray]]:
    """Places that repairs may be about, with the name of each."""
    lead, opens, close, dot, letter = (batch.of(kind) for kind in (LEAD, OPEN, CLOSE, DOT, LETTER))
    yield "mojibake", lead[batch.has(TRAIL, lead, 1)]
    yield "line ends", batch.of(BREAK)
    yield "control characters", batch.of(CONTROLS)
    yield "invisible characters", batch.of(UNSEEN)
    yield "private characters", batch.of(OWN)
    yield "not in NFC", batch.of(JOINS)
    after = batch.points(opens, 1)
    yield "HTML remains", opens[((after | 0x20) - 97 < 26) | np.isin(after, [ord(mark) for mark in "/!#"])]
    yield "Markdown links", close[batch.follow(close, "(")]
    leads = [batch.follow(dot, row) for row in ("....", " . . . .", "……", "····")]
    yield "dot leaders", dot[np.any(leads, axis=0)]
    yield "cookie notices", letter[batch.follow(letter, "ookie", -2)]
    yield "script notices", letter[batch.follow(letter, "JavaScript", 0)]
    page, control = _odd_lines(batch)
    yield "page numbers", page
    yield "navigation lines", control


def _odd_lines(batch: _Batch) -> tuple[np.ndarray, np.ndarray]:
    """Where lines begin that may be the number of a page, and those that may be a control of a web page.

    A line may end at any line end: the first of the repairs that changes something makes them alike.
    """
    points_N, starts = batch.texts
    ends = batch.of(LINE | BREAK) + 1
    begins_L = np.concatenate([starts[:-1], ends])
    begins_L.sort(kind="stable")
    sizes_L = np.diff(begins_L, append=len(points_N))
    padded = np.flatnonzero(sizes_L > SHORT)
    begins_L, long_L = begins_L[sizes_L <= SHORT], begins_L[padded]
    sizes_L, last_L = sizes_L[sizes_L <= SHORT], long_L + sizes_L[padded] - 1
    around = np.all([batch.has(WHITE, long_L, step) for step in (0, INDENT)], axis=0)
    around |= np.all([batch.has(WHITE, last_L, step) for step in (-1, -INDENT)], axis=0)
    begins_L, sizes_L = begins_L[sizes_L > 0], sizes_L[sizes_L > 0]
    first_L, last_L = begins_L.copy(), begins_L + sizes_L - 1
    _strip(batch, last_L, first_L, -1)
    _strip(batch, first_L, last_L, 1)
    head_L = batch.points(first_L)
    after = batch.has(DECIMAL, first_L, 1) | (batch.follow(first_L, " ") & batch.has(DECIMAL, first_L, 2))
    page_L = batch.has(PAGE, first_L) & (after | (batch.points(first_L, 1) | 0x20 == ord("a")))
    keys_L, known = _line_keys(head_L, batch.points(last_L), last_L - first_L + 1), navigation()
    control_L = known[np.minimum(np.searchsorted(known, keys_L), len(known) - 1)] == keys_L
    return np.append(begins_L[page_L], long_L[around]), np.append(begins_L[control_L], long_L[around])


def _strip(batch: _Batch, places_L: np.ndarray, stops_L: np.ndarray, step: int) -> None:
    """Move places over white space, in place, but not beyond their stops."""
    left = np.flatnonzero(batch.has(WHITE, places_L))
    while len(left := left[places_L[left] != stops_L[left]]):
        places_L[left] += step
        left = left[batch.has(WHITE, places_L[left])]


def _to_mask(batch: _Batch) -> Iterable[np.ndarray]:
    """Places that a gate of privacy.py may open at."""
    sign, opens, digit = batch.of(SIGN), batch.of(OPEN), batch.of(DIGIT)
    colon = batch.points(sign) == ord(":")
    again = np.any([batch.follow(sign, ":", step) for step in range(2, 6)], axis=0)
    yield sign[~colon | batch.follow(sign, ":") | (batch.has(HEX, sign, 1) & again)]
    yield opens[(batch.points(opens) == ord("<")) & batch.has(NAME, opens, 1)]
    yield digit[_in_numbers(batch, digit)]


def _in_numbers(batch: _Batch, places: np.ndarray) -> np.ndarray:
    """Which of these digits stand in a number of six, or in four numbers with dots between them."""
    gaps = np.diff(places)
    joins = gaps == 1
    dots = np.zeros(len(gaps), bool)
    for gap in (2, 3, 4):
        own = np.flatnonzero(gaps == gap)
        joins[own] = np.all([batch.has(LINK, places[own], step) for step in range(1, gap)], axis=0)
        if gap == 2:
            dots[own] = np.isin(batch.points(places[own], 1), [ord("."), ord("．")])
    number = np.concatenate([[0], np.cumsum(~joins)])[: len(places)]
    digits, dotted = np.bincount(number), np.bincount(number[1:], joins & dots, len(number) and number[-1] + 1)
    return np.asarray(((digits >= 6) | ((digits >= 4) & (dotted >= 3)))[number])


def _line_keys(first_L: np.ndarray, last_L: np.ndarray, sizes_L: np.ndarray) -> np.ndarray:
    return np.asarray((first_L.astype(np.int64) << 27) + (last_L.astype(np.int64) << 6) + sizes_L)


@lru_cache(maxsize=1)
def navigation() -> np.ndarray:
    """First and last character and length of the controls of a web page as numbers: int64, ascending."""
    words = sorted(NAVIGATION)
    first, last = (np.array([ord(word[place]) for word in words], np.uint32) for place in (0, -1))
    return np.unique(_line_keys(first, last, np.array([len(word) for word in words])))


@lru_cache(maxsize=1)
def table() -> np.ndarray:
    """The bits of each code point below TABLE, uint32; the last stands for all beyond, private ones among them."""
    found = np.zeros(TABLE, np.uint32)
    for kind, ranges in RANGES.items():
        for low, high in ranges:
            found[low : high + 1] |= kind
    for kind, marks in MARKS.items():
        found[[ord(mark) for mark in marks]] |= kind
    for point in told():
        letter = chr(point)
        if unicodedata.combining(letter):
            found[point] |= JOINS
        if letter.isspace():
            found[point] |= WHITE
        elif letter.isdecimal():
            found[point] |= DECIMAL
        if not (parts := unicodedata.decomposition(letter)):
            continue
        if parts[0] != "<":
            if unicodedata.normalize("NFC", letter) != letter:
                found[point] |= JOINS
            found[[int(part, 16) for part in parts.split()[1:]]] |= JOINS
    return found


RANGES = {
    CONTROLS: ((0x00, 0x08), (0x0B, 0x0B), (0x0E, 0x1F), (0x7F, 0x84), (0x86, 0x9F)),
    UNSEEN: ((0x200B, 0x200D), (0x2060, 0x2064)),
    OWN: ((0xE000, 0xF8FF), (TABLE - 1, TABLE - 1)),
    JOINS: ((0x1161, 0x1175), (0x11A8, 0x11C2), (TABLE - 1, TABLE - 1)),
    LONE: ((0xD800, 0xDFFF),),
    LEAD: ((0xC2, 0xEF),),
    TRAIL: ((0x80, 0xBF), (0x152, 0x178), (0x2013, 0x203A)),
    DIGIT: ((0x30, 0x39), (0xFF10, 0xFF19)),
    LINK: ((0x2010, 0x2015),),
    HEX: ((0x30, 0x39), (0x41, 0x46), (0x61, 0x66)),
    NAME: ((0x30, 0x39), (0x41, 0x5A), (0x61, 0x7A)),
}
"""First and last code points, as clean.py and privacy.py have them in their patterns; of Hangul the vowels and tails that NFC
puts together (The Unicode Standard, section 3.12)."""
MARKS = {
    CONTROLS: "\ufeff",
    BREAK: "\r\x0c\x85\u2028\u2029",
    UNSEEN: "\xad\u180e",
    TRAIL: "\u0192\u02c6\u02dc\u20ac\u2122",
    OPEN: "<&",
    CLOSE: "]",
    LINE: "\n",
    DOT: ".…·",
    LETTER: "kJ",
    SIGN: "@＠:",
    LINK: "-. ()\u3000\xa0\u2212－．（）",
    NAME: "._+-",
    PAGE: "P-–—第共",
}
