"""Texts as units: a word, or one Chinese or Japanese character, each as 64 bits that depend on nothing but its letters.

Near-duplicates, repeated passages and leaks all compare runs of units, so a text is taken apart once. Two texts that
differ only in case, width (ａ and a), punctuation, spacing or simplified against traditional script have the same units.
Each code point is folded by a table, whatever stands beside it: that is what makes one pass over numbers enough.

    N code points, D texts, U units
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

TABLE = 0x34000
"""Code points that the tables cover: the planes 0 to 2 and the Han characters of plane 3. None beyond is a letter."""
ALONE = (
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x33FFF),
)
"""Kana and Han (Unicode blocks), whose characters are units by themselves: their words have no spaces between them."""
SINGLE = 1 << 24
"""Added to the folded code point of a unit by itself."""
EXPANDS = 0xFFFFFFFF
"""Mark of a code point whose folded form is several letters (™, ½, ß)."""
BASE = 0x9E3779B97F4A7C15
"""Odd multiplier of the polynomial hashes, modulo 2**64 (Knuth, TAOCP 3, section 6.4: the golden ratio)."""
INVERSE = pow(BASE, -1, 1 << 64)
BLOCK = 1 << 15
"""Code points that are worked on at once: their arrays stay in a core's cache."""
NEAR = 256
"""Code points among which the end of a block is looked for at once."""


class Texts(NamedTuple):
    """Code points of D texts side by side: text d is `points_N[starts[d] : starts[d + 1]]`."""

    points_N: np.ndarray
    """uint32."""
    starts: np.ndarray
    """int64 [D + 1]."""


class Units(NamedTuple):
    """Units of D texts side by side: text d has `values_U[starts[d] : starts[d + 1]]`."""

    values_U: np.ndarray
    """uint64: sum of letter * BASE**place modulo 2**64, mixed."""
    starts: np.ndarray
    """int64 [D + 1]."""
    single_U: np.ndarray
    """bool, where the unit is one Chinese or Japanese character."""


class Tables(NamedTuple):
    """What becomes of each code point below TABLE."""

    folded: np.ndarray
    """uint32: compatibility form, case folded, simplified; white space is a space; EXPANDS where it is several letters."""
    letters: np.ndarray
    """uint32: 0 between units, else the folded code point, SINGLE added for a unit by itself; EXPANDS as above."""
    expanding: np.ndarray
    """uint32 [E], ascending: the code points that expand."""
    spellings: np.ndarray
    """uint32: their folded forms side by side."""
    ends: np.ndarray
    """int64 [E + 1]: form e is `spellings[ends[e] : ends[e + 1]]`."""


def texts_of(texts: Sequence[str]) -> Texts:
    """Texts as code points.

    >>> texts_of(["ab", "", "利率"]).starts.tolist()
    [0, 2, 2, 4]
    """
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=starts[1:])
    return Texts(np.frombuffer(joined, np.uint32), starts)


def strings(texts: Texts) -> list[str]:
    """Code points as texts again."""
    joined = texts.points_N.tobytes().decode("utf-32-le", "surrogatepass")
    ends = texts.starts.tolist()
    return [joined[start:end] for start, end in pairwise(ends)]


def units_of(texts: Texts) -> Units:
    """Take texts apart into units.

    >>> a = units_of(texts_of(["The Fed's 利率, 2%", "ＴＨＥ fed S 利 率 2"]))
    >>> len(a.values_U), bool((a.values_U[:6] == a.values_U[6:]).all())
    (12, True)
    """
    return units_in(spelt(texts))


def units_in(texts: Texts) -> Units:
    """The same of texts that are `spelt` out."""
    from data_prep.fast import kernels

    if compiled := kernels():
        return Units(*compiled.units(*texts, tables().letters, BASE))
    blocks = [_units_between(texts, start, end) for start, end in _blocks(texts.points_N)]
    nothing = (np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, bool))
    values_U, places_U, single_U = map(np.concatenate, zip(nothing, *blocks, strict=True))
    return Units(values_U, np.searchsorted(places_U, texts.starts), single_U)


def _blocks(points_N: np.ndarray) -> Iterator[tuple[int, int]]:
    """Starts and ends of blocks that no unit reaches over."""
    start = 0
    while start < len(points_N):
        end = start + BLOCK
        while end < len(points_N):
            letters = np.take(tables().letters, points_N[end : end + NEAR], mode="clip")
            apart = np.flatnonzero((letters == 0) | (letters >= SINGLE))
            if len(apart):
                end += int(apart[0])
                break
            end += NEAR
        yield start, min(end, len(points_N))
        start = end


def _units_between(texts: Texts, start: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values, places in the texts' code points, and whether each is a single character, of the units of a block."""
    points_N = texts.points_N[start:end]
    first, last = np.searchsorted(texts.starts, [start, end])
    heads = texts.starts[first:last] - start
    letters_N = np.take(tables().letters, points_N, mode="clip")
    word_N = (letters_N - np.uint32(1)) < np.uint32(SINGLE - 1)
    begins_N = word_N.copy()
    begins_N[1:] &= ~word_N[:-1]
    begins_N[heads] = word_N[heads]
    begins_N |= letters_N >= SINGLE
    begins_U = np.flatnonzero(begins_N)
    powers, inverses = powers_of(len(letters_N))
    sums = np.zeros(len(letters_N) + 1, np.uint64)
    np.cumsum(letters_N * powers[: len(letters_N)], out=sums[1:])
    upto_U = sums[begins_U]
    values_U = np.diff(upto_U, append=sums[-1]) * inverses[begins_U]
    return mixed(values_U), begins_U + start, letters_N[begins_U] >= SINGLE


def spelt(texts: Texts) -> Texts:
    """Texts with the folded forms of several letters in place of code points such as ™ and ½.

    >>> strings(spelt(texts_of(["1½", "™"])))
    ['11⁄2', 'tm']
    """
    table = tables()
    high = np.flatnonzero(texts.points_N >= table.expanding[0])
    expands = high[np.take(table.folded, texts.points_N[high], mode="clip") == EXPANDS]
    if not len(expands):
        return texts
    rows = np.searchsorted(table.expanding, texts.points_N[expands])
    growth = np.concatenate([[0], np.cumsum(np.diff(table.ends)[rows] - 1)])
    parts, at = [], 0
    for place, begin, end in zip(
        expands.tolist(), table.ends[rows].tolist(), table.ends[rows + 1].tolist(), strict=True
    ):
        parts += [texts.points_N[at:place], table.spellings[begin:end]]
        at = place + 1
    starts = texts.starts + growth[np.searchsorted(expands, texts.starts)]
    return Texts(np.concatenate([*parts, texts.points_N[at:]]), starts)


def _folded(texts: Texts) -> np.ndarray:
    """The folded code points of texts that are spelt out, uint32 [N]."""
    folded_N = np.empty(len(texts.points_N), np.uint32)
    for start in range(0, len(folded_N), BLOCK):
        part = slice(start, start + BLOCK)
        np.take(tables().folded, texts.points_N[part], mode="clip", out=folded_N[part])
    if len(folded_N) and texts.points_N.max() >= TABLE:
        folded_N = np.where(texts.points_N < TABLE, folded_N, texts.points_N)
    return folded_N


def digests_of(texts: Texts) -> list[str]:
    """128 bits of each text's folded form (xxh3), white space collapsed: equal for what counts as the same content.

    >>> a, b, c = digests_of(texts_of(["Ｒate  rises\\n", "rate RISES", "rate rises."]))
    >>> a == b, a == c
    (True, False)
    """
    return digests_in(spelt(texts))


def digests_in(texts: Texts) -> list[str]:
    """The same of texts that are `spelt` out."""
    from data_prep.fast import kernels

    found: list[str] = []
    groups = [(0, len(texts.starts) - 1)] if kernels() else _groups(texts.starts)
    for first, last in groups:
        starts = texts.starts[first : last + 1]
        data, starts = collapsed(Texts(texts.points_N[starts[0] : starts[-1]], starts - starts[0]))
        ends = starts[1:].copy()
        if len(data):
            ends[(ends > starts[:-1]) & (data.take(ends - 1, mode="clip") == ord(" "))] -= 1
        letters, size = data.view(np.uint8).data, data.itemsize
        for start, end in zip((starts[:-1] * size).tolist(), (ends * size).tolist(), strict=True):
            found.append(xxhash.xxh3_128_hexdigest(letters[start:end]))
    return found


def _groups(starts: np.ndarray) -> Iterator[tuple[int, int]]:
    """Runs of texts of about BLOCK code points together, or one long text."""
    first = 0
    while first < len(starts) - 1:
        last = max(int(np.searchsorted(starts, starts[first] + BLOCK, side="right")) - 1, first + 1)
        yield first, last
        first = last


def collapsed(texts: Texts) -> Texts:
    """The folded form of texts that are spelt out, without the spaces that begin a text or follow a space.

    >>> strings(collapsed(texts_of([" Two\\n\\nWORDS　", "", "　"])))
    ['two words ', '', '']
    """
    from data_prep.fast import kernels

    if compiled := kernels():
        return Texts(*compiled.collapsed(*texts, tables().folded))
    folded_N = _folded(texts)
    space_N = folded_N == ord(" ")
    drop_N = space_N.copy()
    drop_N[1:] &= space_N[:-1]
    heads = texts.starts[:-1][texts.starts[:-1] < len(space_N)]
    drop_N[heads] = space_N[heads]
    dropped = np.flatnonzero(drop_N)
    return Texts(np.delete(folded_N, dropped), texts.starts - np.searchsorted(dropped, texts.starts))


def rolling(values_U: np.ndarray, length: int) -> np.ndarray:
    """Hashes of all runs of `length` values: sum of value * BASE**(length - 1 - place), modulo 2**64."""
    hashes = np.zeros(len(values_U), np.uint64)
    for step in range(length):
        hashes = hashes[: max(len(values_U) - step, 0)] * np.uint64(BASE) + values_U[step:]
    return hashes


def room_of(starts: np.ndarray) -> np.ndarray:
    """How many units stand from each unit to the end of its text, itself included: int64 [U]."""
    lengths = np.diff(starts)
    return np.repeat(starts[1:], lengths) - np.arange(starts[-1])


def mixed(values: np.ndarray) -> np.ndarray:
    """Every bit of the input spread over all bits of the output (the finaliser of MurmurHash3, Appleby 2011)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return np.asarray(values ^ (values >> np.uint64(33)))


def powers_of(count: int) -> tuple[np.ndarray, np.ndarray]:
    """BASE and its inverse to the powers 0 to at least count - 1, modulo 2**64."""
    return _usual_powers() if count <= 2 * BLOCK else (_powers(BASE, count), _powers(INVERSE, count))


@lru_cache(maxsize=1)
def _usual_powers() -> tuple[np.ndarray, np.ndarray]:
    return _powers(BASE, 2 * BLOCK), _powers(INVERSE, 2 * BLOCK)


def _powers(factor: int, count: int) -> np.ndarray:
    factors = np.full(count, factor, np.uint64)
    factors[0] = 1
    return np.cumprod(factors)


@lru_cache(maxsize=1)
def tables() -> Tables:
    """The tables, made once for a process; traditional to simplified after OpenCC's table of single characters."""
    folded_T = np.arange(TABLE, dtype=np.uint32)
    marks_T = np.where(_han(folded_T), folded_T | np.uint32(SINGLE), np.uint32(0))
    forms: dict[int, str] = {}
    marks_T[0xAC00:0xD7A4] = folded_T[0xAC00:0xD7A4]  # Hangul syllables
    for point in told():
        letter = chr(point)
        form = unicodedata.normalize("NFKC", letter).casefold()
        form = form if form == letter else unicodedata.normalize("NFKC", form)
        if letter.isspace():
            folded_T[point] = ord(" ")
        elif len(form) == 1:
            folded_T[point] = ord(form)
        elif any(part.isalnum() for part in form):
            folded_T[point] = EXPANDS
            forms[point] = form
        if form == letter and letter.isalnum():
            marks_T[point] = point | (SINGLE if any(low <= point <= high for low, high in ALONE) else 0)
    for line in files("opencc").joinpath("dictionary", "TSCharacters.txt").read_text("utf-8").splitlines():
        traditional, simple = line.split("\t")
        if ord(traditional) < TABLE and len(simple.split()[0]) == 1:
            folded_T[ord(traditional)] = ord(simple.split()[0])
    letters_T = np.take(marks_T, folded_T, mode="clip")
    letters_T[folded_T == EXPANDS] = EXPANDS
    ends = np.cumsum([0, *map(len, forms.values())])
    spellings = np.frombuffer("".join(forms.values()).encode("utf-32-le"), np.uint32)
    return Tables(folded_T, letters_T, np.array(list(forms), np.uint32), spellings, ends)


@lru_cache(maxsize=1)
def told() -> tuple[int, ...]:
    """The code points below TABLE of which Unicode tells more than what block they are in: 46,000 of 213,000.

    Not Han ideographs (but compatibility ones), Hangul syllables, private ones, surrogates and those of no character.
    """
    points = np.arange(TABLE)
    rest = points[~_han(points) & ((points < 0xAC00) | (points > 0xF8FF) | ((points > 0xD7A3) & (points < 0xD800)))]
    return tuple(point for point in rest.tolist() if unicodedata.category(chr(point)) != "Cn")


def _han(points: np.ndarray) -> np.ndarray:
    """Where these are Han ideographs but the compatibility ones: no normal form changes them (UAX 15)."""
    ranges = ((0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0x20000, 0x2F7FF), (0x30000, 0x3347F))
    return np.asarray(np.any([(points >= low) & (points <= high) for low, high in ranges], axis=0))
