"""How much of a text repeats itself: lines, paragraphs, and runs of units.

Array to array, integers in and out, so that a compiled twin can give the same numbers. Every text has a look-up table of
its own, so that what is found in one text depends on no other.

    D texts, U units, R rows that may be equal
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from data_prep.units import BASE

if TYPE_CHECKING:
    from data_prep.units import Units

ROOM = 2
"""Slots of a look-up table for each row at least; the next power of two is taken."""


def slots_of(starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the table of each text begins, int64 [D + 1], and how far a hash is shifted to be a slot of it, uint64 [D]."""
    bits = np.ceil(np.log2(np.maximum(np.diff(starts) * ROOM, 2))).astype(np.int64)
    return np.concatenate([[0], np.cumsum(1 << bits)]), (64 - bits).astype(np.uint64)


def later_copies(hashes_R: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Which rows have occurred before in their text, whose rows begin at `starts`: bool [R].

    Each row is looked up in its text's table; rows that another value stands in the way of are looked up again among
    themselves, with other bits of the hash.

    >>> later_copies(np.array([5, 6, 5, 5, 6], np.uint64) << np.uint64(59), np.array([0, 3, 5])).tolist()
    [False, False, True, False, False]
    """
    from data_prep.fast import kernels

    if compiled := kernels():
        return compiled.later_copies(hashes_R, starts)
    copies = np.zeros(len(hashes_R), bool)
    rows = np.arange(len(hashes_R), dtype=np.int32)
    seeds_R = hashes_R
    while len(rows):
        begins, shifts = slots_of(starts)
        lengths = np.diff(starts)
        slots_R = (seeds_R >> np.repeat(shifts, lengths)).astype(np.int64) + np.repeat(begins[:-1], lengths)
        table = np.empty(begins[-1], np.int32)
        table[slots_R[::-1]] = rows[::-1]
        first_R = table[slots_R]
        same_R = hashes_R[first_R] == hashes_R[rows]
        copies[rows] = same_R & (first_R < rows)
        left = np.flatnonzero(~same_R)
        starts = np.searchsorted(left, starts)
        rows, seeds_R = rows[left], seeds_R[left] * np.uint64(BASE)
    return copies


def most_frequent(hashes_R: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """How often the most frequent row of a text occurs, 0 where none occurs twice: int64 [D].

    Only the fullest slot of a text's table is counted out. What makes up a good part of a text fills it; a row that
    occurs two or three times may be overlooked.
    """
    begins, shifts = slots_of(starts)
    lengths = np.diff(starts)
    slots_R = (hashes_R >> np.repeat(shifts, lengths)).astype(np.int64) + np.repeat(begins[:-1], lengths)
    counts = np.bincount(slots_R, minlength=begins[-1])
    most = np.zeros(len(lengths), np.int64)
    if not len(hashes_R):
        return most
    full = np.flatnonzero(counts == np.repeat(np.maximum.reduceat(counts, begins[:-1]), np.diff(begins)))
    fullest = full[np.searchsorted(full, begins[:-1])]
    rows = np.flatnonzero(slots_R == np.repeat(fullest, lengths))
    texts = np.searchsorted(starts, rows, side="right") - 1
    order = np.lexsort((hashes_R[rows], texts))
    rows, texts = rows[order], texts[order]
    new = np.append(True, (np.diff(texts) > 0) | (np.diff(hashes_R[rows]) > 0))
    runs = np.flatnonzero(new)
    np.maximum.at(most, texts[runs], np.diff(runs, append=len(rows)))
    return np.where(most > 1, most, 0)


def runs_of(units: Units, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all runs of `length` units that end inside their text, and where the runs of each text begin."""
    values_U, starts, _ = units
    hashes = values_U[: max(len(values_U) - length + 1, 0)].copy()
    for step in range(1, length):
        hashes *= np.uint64(BASE)
        hashes += values_U[step : len(hashes) + step]
    kept = np.concatenate([[0], np.cumsum(np.maximum(np.diff(starts) - length + 1, 0))])
    late = starts[1:, None] - np.arange(1, length)
    inside = np.ones(len(hashes), bool)
    inside[late[(late >= starts[:-1, None]) & (late < len(hashes))]] = False
    return hashes[inside], kept


def top_run(units: Units, length: int) -> np.ndarray:
    """Units that the most frequent run of `length` units covers, 0 where no run occurs twice: int64 [D].

    >>> from data_prep.units import texts_of, units_of
    >>> top_run(units_of(texts_of(["on and on and on", "on and off"])), 2).tolist()
    [4, 0]
    """
    from data_prep.fast import kernels

    if compiled := kernels():
        return compiled.top_run(units.values_U, units.starts, BASE, length, ROOM)
    most = most_frequent(*runs_of(units, length))
    covered: np.ndarray = np.minimum(most * length, np.diff(units.starts))
    return covered


def repeated_runs(units: Units, length: int) -> np.ndarray:
    """Units that lie in a run of `length` units which has occurred before in the text: int64 [D].

    >>> from data_prep.units import texts_of, units_of
    >>> repeated_runs(units_of(texts_of(["a b c d e f, a b c d e f", "a b c d e f"])), 5).tolist()
    [6, 0]
    """
    from data_prep.fast import kernels

    if compiled := kernels():
        return compiled.repeated_runs(units.values_U, units.starts, BASE, length)
    hashes_R, starts = runs_of(units, length)
    rows = np.flatnonzero(later_copies(hashes_R, starts))
    text_R = np.searchsorted(starts, rows, side="right") - 1
    gaps = np.diff(rows, append=np.iinfo(np.int64).max)
    gaps[:-1][text_R[1:] != text_R[:-1]] = length
    return np.bincount(text_R, np.minimum(gaps, length), len(starts) - 1).astype(np.int64)
