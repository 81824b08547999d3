"""Near-duplicates: documents whose sets of shingles overlap by at least a threshold (Jaccard); the first one stays.

Documents are numbered in corpus order. A document is dropped when it is near an earlier one that is *kept*: chains of
small changes do not carry from one end to the other. Pairs that share a band of their signatures are candidates
(Broder 1997). The part of equal values estimates the overlap with a deviation of sqrt(J(1 - J)/108): three deviations
below the threshold a pair is rejected, three above it is accepted, and between them the texts themselves decide.

The result depends on nothing but the signatures, the texts and their order. It takes 45 bytes of memory for a document
and 80 MB for the pairs at hand; corpora of nothing but near-duplicates take up to 500 bytes for a document.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, sqrt
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data_prep.sketch import BANDS, NOTHING, PERMUTATIONS, band_of, shingles_of
from data_prep.units import texts_of, units_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from data_prep.units import Units

DEVIATIONS = 3.0
"""Standard deviations of the estimate within which the texts are compared: 1 pair in 741 is misjudged on each side."""
HUBS, WINDOW = 8, 8
"""A member of a group is compared with the first 8 members and with the 8 before it: in groups of up to 17 with all."""
ROUNDS = 8
"""Most often that groups larger than 17 are looked through again, each time without what was dropped."""
NEAR, FAR = 255, 0
"""What stands in the place of the count of equal values when the texts have decided."""
TOGETHER = 1 << 14
"""Documents, and pairs, whose signatures are at hand at once: they stay in a core's cache."""
REMEMBERED = 128
"""Documents whose shingles are kept for the next comparison."""


class Pairs(NamedTuple):
    """Candidates, ascending."""

    keys: np.ndarray
    """int64: later document * number of documents + earlier document."""
    equal: np.ndarray
    """uint8: equal values of the two signatures, or NEAR or FAR."""


class Signatures:
    """The signatures of all documents, in corpus order, in the shards' files: uint32 [d, 108], nothing before or after.

    Files are opened for each look and let go, so that they do not count as this process's memory.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = list(files)
        counts = [file.stat().st_size // (4 * PERMUTATIONS) for file in files]
        self.starts = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def rows(self, documents: np.ndarray) -> np.ndarray:
        """Signatures of these documents, uint32 [n, 108]."""
        found = np.empty((len(documents), PERMUTATIONS), np.uint32)
        shard_n = np.searchsorted(self.starts, documents, side="right") - 1
        for shard in np.unique(shard_n).tolist():
            at = np.flatnonzero(shard_n == shard)
            found[at] = self._opened(shard)[documents[at] - self.starts[shard]]
        return found

    def band(self, number: int) -> np.ndarray:
        """Keys of one band, uint64 [D]."""
        parts = [band_of(self._opened(shard), number) for shard in np.flatnonzero(np.diff(self.starts)).tolist()]
        return np.concatenate([np.empty(0, np.uint64), *parts])

    def _opened(self, shard: int) -> np.ndarray:
        return np.memmap(self.files[shard], np.uint32, "r").reshape(-1, PERMUTATIONS)


class Overlap:
    """Jaccard overlap of documents by number, from the texts that `text_of` fetches."""

    def __init__(self, text_of: Callable[[int], str]) -> None:
        self._set_of = lru_cache(REMEMBERED)(lambda document: _set(units_of(texts_of([text_of(document)]))))

    def __call__(self, one: int, other: int) -> float:
        """Overlap of their sets of shingles."""
        return _overlap(self._set_of(one), self._set_of(other))


def jaccard_of(one: Units, other: Units) -> float:
    """Overlap of the sets of shingles of two texts: intersection over union, 0 where a text has no units.

    >>> a, b = (units_of(texts_of([text])) for text in ("a b c d e f g h i j", "a b c d e f g h i x"))
    >>> jaccard_of(a, b) == 5 / 7
    True
    """
    return _overlap(_set(one), _set(other))


def _set(units: Units) -> np.ndarray:
    return np.unique(shingles_of(units)[0])


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / max(len(one) + len(other) - shared, 1)


def near_duplicates(
    signatures: Signatures, alive: np.ndarray, threshold: float, jaccard: Callable[[int, int], float]
) -> np.ndarray:
    """For each document the earlier kept document that it is a near-duplicate of, or -1: int64 [D].

    Args:
        signatures: of all documents, in corpus order.
        alive: bool [D], the documents that take part: those that nothing else has dropped.
        threshold: Jaccard overlap from which two documents count as one.
        jaccard: the overlap of two documents by number, for pairs that the signatures leave open.
    """
    deviation = DEVIATIONS * sqrt(threshold * (1 - threshold) / PERMUTATIONS)
    sure = ceil((threshold + deviation) * PERMUTATIONS)
    possible = ceil((threshold - deviation) * PERMUTATIONS)
    found = np.full(len(signatures), -1, np.int64)
    pairs = Pairs(np.empty(0, np.int64), np.empty(0, np.uint8))
    for _ in range(ROUNDS):
        known = len(pairs.keys)
        pairs, all_compared = _with_candidates(pairs, signatures, alive & (found < 0), possible)
        if len(pairs.keys) == known:
            break
        found = _decided(pairs, len(signatures), sure, lambda one, other: jaccard(one, other) >= threshold)
        if all_compared:
            break
    return found


def _decided(pairs: Pairs, documents: int, sure: int, are_near: Callable[[int, int], bool]) -> np.ndarray:
    """Drop documents in corpus order: pairs are sorted by the later one, so that all before it is decided."""
    found = np.full(documents, -1, np.int64)
    for start in range(0, len(pairs.keys), TOGETHER):
        later, earlier = np.divmod(pairs.keys[start : start + TOGETHER], documents)
        for at, (late, early) in enumerate(zip(later.tolist(), earlier.tolist(), strict=True), start):
            if found[late] >= 0 or found[early] >= 0 or pairs.equal[at] == FAR:
                continue
            if pairs.equal[at] < sure:
                pairs.equal[at] = NEAR if are_near(early, late) else FAR
            if pairs.equal[at] >= sure:
                found[late] = early
    return found


def _with_candidates(pairs: Pairs, signatures: Signatures, alive: np.ndarray, possible: int) -> tuple[Pairs, bool]:
    """The pairs and the candidates among these documents, band by band; whether all members of all groups were compared."""
    nothing = band_of(np.full((1, PERMUTATIONS), NOTHING), 0)[0]
    all_compared = True
    for band in range(BANDS):
        keys = signatures.band(band)
        documents, begin_M = _groups(keys, np.flatnonzero(alive & (keys != nothing)))
        rank_M = np.arange(len(begin_M)) - begin_M
        all_compared &= bool((rank_M <= HUBS + WINDOW).all())
        for start in range(0, len(documents), TOGETHER):
            places, late, early = _to_compare(rank_M, start, min(start + TOGETHER, len(documents)))
            rows = signatures.rows(documents[places])
            equal = _equal_values(rows, np.searchsorted(places, late), np.searchsorted(places, early))
            likely = equal >= possible
            fresh = documents[late[likely]] * len(signatures) + documents[early[likely]]
            pairs = _merged(pairs, Pairs(fresh, equal[likely]))
    return pairs, all_compared


def _groups(keys: np.ndarray, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Documents that share their key with another, group by group in corpus order, and where each one's group begins."""
    documents = documents[np.argsort(keys[documents], kind="stable")]
    keys = keys[documents]
    same = np.zeros(len(keys) + 1, bool)
    same[1:-1] = keys[1:] == keys[:-1]
    grouped = same[1:] | same[:-1]
    begins = np.flatnonzero(~same[:-1][grouped])
    return documents[grouped], np.repeat(begins, np.diff(begins, append=int(grouped.sum())))


def _to_compare(rank_M: np.ndarray, start: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The places of members needed, ascending, and the pairs of places to compare, whose later one is in [start, end)."""
    rank_m = rank_M[start:end]
    steps = [(np.flatnonzero(rank_m >= step) + start, step) for step in range(1, WINDOW + 1)]
    hubs = [(np.flatnonzero(rank_m > WINDOW + hub) + start, hub) for hub in range(HUBS)]
    late = np.concatenate([at for at, _ in steps + hubs])
    early = np.concatenate([at - step for at, step in steps] + [at - rank_M[at] + hub for at, hub in hubs])
    return np.union1d(early, np.arange(start, end)), late, early


def _equal_values(rows: np.ndarray, late: np.ndarray, early: np.ndarray) -> np.ndarray:
    """How many values of two rows are equal, uint8 [pairs]."""
    found = np.empty(len(late), np.uint8)
    for start in range(0, len(late), TOGETHER):
        part = slice(start, start + TOGETHER)
        (rows[late[part]] == rows[early[part]]).view(np.uint8).sum(1, dtype=np.uint8, out=found[part])
    return found


def _merged(pairs: Pairs, fresh: Pairs) -> Pairs:
    """Both without repeats; what was decided before stays decided."""
    keys, first = np.unique(np.concatenate([pairs.keys, fresh.keys]), return_index=True)
    return Pairs(keys, np.concatenate([pairs.equal, fresh.equal])[first])
