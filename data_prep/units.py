"""Texts as units: a word, or one Chinese or Japanese character, each as 64 bits that depend on nothing but its letters.

Near-duplicates, repeated passages and leaks all compare runs of units, so a text is taken apart once. Two texts that
differ only in case, width (ａ and a), punctuation, spacing or simplified against traditional script have the same units.

    N code points, D texts, U units
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE = 0x30000
"""Code points that the tables cover: the planes 0 to 2; all letters beyond stand for themselves."""
ALONE = (
    (0x3040, 0x30FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2FFFF),
)
"""Kana and Han (Unicode blocks), whose characters are units by themselves: their words have no spaces between them."""
SEPARATOR, LETTER, CHARACTER = 0, 1, 2
"""Kinds of folded code points: between units, part of a word, a unit by itself."""
EXPANDS = np.uint32(0xFFFFFFFF)
"""Mark of a code point whose folded form is several letters (™, ½, ß)."""
BASE = 0x9E3779B97F4A7C15
"""Odd multiplier of the polynomial hashes, modulo 2**64 (Knuth, TAOCP 3, section 6.4: the golden ratio)."""
POWERS = 64
"""Letters after which the powers of BASE repeat."""


class Texts(NamedTuple):
    """Code points of D texts side by side: text d is `points_N[starts[d] : starts[d + 1]]`."""

    points_N: np.ndarray
    """uint32."""
    starts: np.ndarray
    """int64 [D + 1]."""


class Units(NamedTuple):
    """Units of D texts side by side: text d has `values_U[starts[d] : starts[d + 1]]`."""

    values_U: np.ndarray
    """uint64."""
    starts: np.ndarray
    """int64 [D + 1]."""
    single_U: np.ndarray
    """bool, where the unit is one Chinese or Japanese character."""


class Tables(NamedTuple):
    """What becomes of each code point below TABLE."""

    folded: np.ndarray
    """uint32: compatibility form, case folded, simplified; white space is a space; EXPANDS where it is several letters."""
    kinds: np.ndarray
    """uint8, by folded code point: SEPARATOR, LETTER or CHARACTER."""


def texts_of(texts: Sequence[str]) -> Texts:
    """Texts as code points.

    >>> texts_of(["ab", "", "利率"]).starts.tolist()
    [0, 2, 2, 4]
    """
    joined = "".join(texts).encode("utf-32-le", "surrogatepass")
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) for text in texts], out=starts[1:])
    return Texts(np.frombuffer(joined, np.uint32), starts)


def units_of(texts: Texts) -> Units:
    """Take texts apart into units.

    >>> a = units_of(texts_of(["The Fed's 利率, 2%", "ＴＨＥ fed S 利 率 2"]))
    >>> len(a.values_U), bool((a.values_U[:6] == a.values_U[6:]).all())
    (12, True)
    """
    texts, folded_N = folded(texts)
    kinds_N = tables().kinds[np.minimum(folded_N, TABLE - 1)]
    letter_N = kinds_N == LETTER
    begins_N = letter_N.copy()
    begins_N[1:] &= ~letter_N[:-1]
    heads = texts.starts[:-1][texts.starts[:-1] < len(letter_N)]
    begins_N[heads] = letter_N[heads]
    begins_N |= kinds_N == CHARACTER
    begins_U = np.flatnonzero(begins_N)
    starts = np.searchsorted(begins_U, texts.starts)
    if not len(begins_U):
        return Units(np.empty(0, np.uint64), starts, np.empty(0, bool))
    place_N = np.arange(len(kinds_N)) - begins_U[np.maximum(np.cumsum(begins_N) - 1, 0)]
    weighted_N = np.where(kinds_N > SEPARATOR, folded_N, np.uint32(0)) * powers()[place_N & (POWERS - 1)]
    return Units(mixed(np.add.reduceat(weighted_N, begins_U)), starts, kinds_N[begins_U] == CHARACTER)


def folded(texts: Texts) -> tuple[Texts, np.ndarray]:
    """The folded code points, uint32 [N], and the texts they belong to: those with ™ or ½ are spelt out first."""
    table = tables().folded
    folded_N = table[np.minimum(texts.points_N, TABLE - 1)]
    beyond_N = texts.points_N >= TABLE
    if beyond_N.any():
        folded_N = np.where(beyond_N, texts.points_N, folded_N)
    expands = np.flatnonzero(folded_N == EXPANDS)
    if not len(expands):
        return texts, folded_N
    spelt = strings(texts)
    for position in np.unique(np.searchsorted(texts.starts, expands, side="right") - 1).tolist():
        spelt[position] = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", spelt[position]).casefold())
    texts = texts_of(spelt)
    return texts, np.where(texts.points_N < TABLE, table[np.minimum(texts.points_N, TABLE - 1)], texts.points_N)


def strings(texts: Texts) -> list[str]:
    """Code points as texts again."""
    joined = texts.points_N.tobytes().decode("utf-32-le", "surrogatepass")
    ends = texts.starts.tolist()
    return [joined[start:end] for start, end in zip(ends, ends[1:], strict=False)]


def digests_of(texts: Texts) -> list[str]:
    """128 bits of each text's folded form (xxh3), white space collapsed: equal for what counts as the same content.

    >>> a, b, c = digests_of(texts_of(["Ｒate  rises\\n", "rate RISES", "rate rises."]))
    >>> a == b, a == c
    (True, False)
    """
    texts, folded_N = folded(texts)
    space_N = folded_N == ord(" ")
    keep_N = np.ones(len(folded_N), bool)
    keep_N[1:] = ~(space_N[1:] & space_N[:-1])
    heads = texts.starts[:-1][texts.starts[:-1] < len(space_N)]
    keep_N[heads] = ~space_N[heads]
    starts = np.concatenate([[0], np.cumsum(keep_N)])[texts.starts].tolist()
    data = folded_N[keep_N]
    found = []
    for start, end in zip(starts, starts[1:], strict=False):
        last = end - 1 if end > start and data[end - 1] == ord(" ") else end
        found.append(xxhash.xxh3_128_hexdigest(data[start:last].tobytes()))
    return found


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
    return values ^ (values >> np.uint64(33))


@lru_cache(maxsize=1)
def powers() -> np.ndarray:
    """BASE to the powers 0 to 63, modulo 2**64."""
    return np.array([pow(BASE, exponent, 1 << 64) for exponent in range(POWERS)], np.uint64)


@lru_cache(maxsize=1)
def tables() -> Tables:
    """The two tables, made once for a process; traditional to simplified after OpenCC's table of single characters."""
    folded_T = np.arange(TABLE, dtype=np.uint32)
    kinds_T = np.zeros(TABLE, np.uint8)
    for point in range(TABLE):
        if _stands_for_itself(point):
            kinds_T[point] = CHARACTER
            continue
        letter = chr(point)
        form = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", letter).casefold())
        if letter.isspace():
            folded_T[point] = ord(" ")
        elif len(form) == 1:
            folded_T[point] = ord(form)
        elif any(part.isalnum() for part in form):
            folded_T[point] = EXPANDS
        if len(form) == 1 and form == letter and letter.isalnum():
            kinds_T[point] = CHARACTER if any(low <= point <= high for low, high in ALONE) else LETTER
    for line in files("opencc").joinpath("dictionary", "TSCharacters.txt").read_text("utf-8").splitlines():
        traditional, simple = line.split("\t")
        if ord(traditional) < TABLE and len(simple.split()[0]) == 1:
            folded_T[ord(traditional)] = ord(simple.split()[0])
    return Tables(folded_T, kinds_T)


def _stands_for_itself(point: int) -> bool:
    """Han ideographs but the compatibility ones: no normal form changes them (UAX 15)."""
    return 0x3400 <= point <= 0x4DBF or 0x4E00 <= point <= 0x9FFF or 0x20000 <= point < 0x2F800
