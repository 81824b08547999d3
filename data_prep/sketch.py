"""MinHash signatures: what is left of a text's shingles when only the smallest of each of 108 orders is kept.

Two signatures agree in a place with the probability of the Jaccard overlap of the two sets of shingles (Broder 1997). Cut
into 18 bands of 6, signatures make candidates of pairs at Jaccard 0.8 with probability 1 - (1 - 0.8**6)**18 = 0.9958,
at 0.5 with 0.25 (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4).

    U units, S shingles, D texts, P permutations
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from data_prep.units import BASE, mixed, powers_of, rolling

if TYPE_CHECKING:
    from data_prep.units import Units

SHINGLE = 5
"""Units in a shingle: words, or Chinese characters."""
BANDS, ROWS = 18, 6
PERMUTATIONS = BANDS * ROWS
NOTHING = np.uint32(0xFFFFFFFF)
"""Every value in the signature of a text without units."""
BLOCK = 1 << 15
"""Shingles that are permuted at once: they and their permuted values stay in a core's cache."""


def signatures_of(units: Units) -> np.ndarray:
    """MinHash signatures of texts, uint32 [D, 108], over shingles of 5 units; a shorter text is one shingle.

    A permutation is the product with a random odd number modulo 2**32, a bijection: enough for shingles that are hashes.

    >>> from data_prep.units import texts_of, units_of
    >>> a, b, nothing = signatures_of(units_of(texts_of(["one two three four five six", "One, two, three, four five six!", ""])))
    >>> bool((a == b).all()), bool((nothing == NOTHING).all())
    (True, True)
    """
    from data_prep.fast import kernels

    if compiled := kernels():
        return compiled.signatures(units.values_U, units.starts, factors(), BASE, SHINGLE)
    shingles_S, starts = shingles_of(units)
    found = np.full((PERMUTATIONS, len(starts) - 1), NOTHING)
    permuted = np.empty(BLOCK, np.uint32)
    for start in range(0, len(shingles_S), BLOCK):
        block = shingles_S[start : start + BLOCK]
        first = int(np.searchsorted(starts, start, side="right")) - 1
        last = int(np.searchsorted(starts, start + len(block), side="left"))
        texts = first + np.flatnonzero(np.diff(starts[first : last + 1]))
        heads = np.maximum(starts[texts] - start, 0)
        smallest = np.empty((PERMUTATIONS, len(texts)), np.uint32)
        values = permuted[: len(block)]
        for row, factor in zip(smallest, factors(), strict=True):
            np.multiply(block, factor, out=values)
            np.minimum.reduceat(values, heads, out=row)
        found[:, texts] = np.minimum(found[:, texts], smallest)
    return np.ascontiguousarray(found.T)


def shingles_of(units: Units) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the shingles of D texts side by side, uint32 [S], and where each text's start, int64 [D + 1]."""
    starts, lengths = units.starts[:-1], np.diff(units.starts)
    hashes_U = np.zeros(len(units.values_U), np.uint64)
    runs = rolling(units.values_U, SHINGLE)
    hashes_U[: len(runs)] = runs
    keep_U = np.ones(len(hashes_U), bool)
    for step in range(1, SHINGLE):
        keep_U[(starts + lengths)[lengths >= step] - step] = False
    for length in range(1, SHINGLE):
        short = starts[lengths == length]
        hashes_U[short] = sum(
            units.values_U[short + place] * factor for place, factor in enumerate(powers_of(length)[0][:length][::-1])
        )
        keep_U[short] = True
    counts = np.where(lengths < SHINGLE, np.minimum(lengths, 1), lengths - SHINGLE + 1)
    shingles_S = (hashes_U[keep_U] >> np.uint64(32)).astype(np.uint32)
    return shingles_S, np.concatenate([[0], np.cumsum(counts)])


def band_of(signatures: np.ndarray, number: int) -> np.ndarray:
    """Keys of one band, uint64 [D]: equal where all 6 values of the band are, else different but for 1 in 2**64."""
    keys = np.zeros(len(signatures), np.uint64)
    for row in range(number * ROWS, (number + 1) * ROWS):
        keys = keys * np.uint64(BASE) + signatures[:, row]
    return mixed(keys)


@lru_cache(maxsize=1)
def factors() -> np.ndarray:
    """The odd factor of each permutation, uint32 [P]: fixed for ever, they are part of what a signature means."""
    return mixed(np.arange(1, PERMUTATIONS + 1, dtype=np.uint64) * np.uint64(BASE)).astype(np.uint32) | np.uint32(1)
