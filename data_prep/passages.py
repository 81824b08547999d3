"""Repeated passages: sentences and paragraphs that stand in many documents, such as a licence at the end of every page.

A passage is one line or several that begin and end as a sentence does, so that cutting it out takes no half sentence:
lines that are wrapped in the middle of one belong together. Headings, list items, numbered steps and articles, tables,
markup and fenced code are no passages, however often they are repeated: what stands around them would lose its sense.

    N code points, L lines, R runs of lines, P passages, D documents
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xxhash

from data_prep.units import EXPANDS, SINGLE, tables, texts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from data_prep.units import Texts

WIDTH = 40
"""Letters and digits that a passage has at least; a Chinese character counts as two."""
LONG = 400
"""The same for what does not end as a sentence: the menu of a web page, on one line."""
END, CLOSER, OPENER, NUMBER, WHOLE, ARTICLE, SMALL, TICK = (1 << bit for bit in range(8))
MARKS = {
    END: ".!?。！？…",
    CLOSER: "\"')]”’」』）】》",
    OPENER: "\"'“‘「『",
    NUMBER: ".)、．）",
    WHOLE: "#|",
    ARTICLE: "第",
    SMALL: "abcdefghijklmnopqrstuvwxyz",
    TICK: "`",
}
"""What ends a sentence; may follow that; may stand before the first letter; makes a number of a list after up to three
letters (`a)`, `ii.`, `十一、`); makes a heading or a row of a table; begins the number of an article (第三条); goes on
with a sentence; fences code."""
AT_ONCE = 1 << 22
"""Passages of all documents that are counted at once; more are counted in parts, by the first bits of their hashes."""


class Passages(NamedTuple):
    """Passages of D texts side by side."""

    hashes_P: np.ndarray
    """uint64: of the folded letters, whatever stands between them."""
    starts_P: np.ndarray
    """int64: the place of the first code point of the first line."""
    ends_P: np.ndarray
    """int64: the place after the last line and the blank ones that follow it."""
    counts: np.ndarray
    """int32 [D]: how many each text has."""


class _Lines(NamedTuple):
    """Lines of all texts, and what is known of their code points."""

    points_N: np.ndarray
    data: np.ndarray
    """uint32: the folded letters of all lines side by side."""
    starts: np.ndarray
    first: np.ndarray
    """The first code point that is no space; in blank lines, the first."""
    last: np.ndarray
    """The last one; in blank lines, the place before the line."""
    letters: np.ndarray
    """Letters in the line."""
    widths: np.ndarray
    """The same, Chinese and Japanese ones counted twice."""
    is_head: np.ndarray
    """bool: the first line of its text."""

    def marks(self, at: np.ndarray) -> np.ndarray:
        """Flags of the code points at these places."""
        points = self.points_N[np.clip(at, 0, len(self.points_N) - 1)]
        return np.asarray(np.take(_flags(), points, mode="clip"))


def passages_of(texts: Texts) -> Passages:
    """The passages of texts, in order.

    >>> page = "# Copying\\n\\nThis page may be copied, changed and sold by anyone,\\nat any time and for any purpose.\\n"
    >>> passages_of(texts_of([page, "Nothing here.", page.upper()])).counts.tolist()
    [1, 0, 1]
    """
    if not len(texts.points_N):
        nowhere = np.empty(0, np.int64)
        return Passages(nowhere.astype(np.uint64), nowhere, nowhere, np.zeros(len(texts.starts) - 1, np.int32))
    lines = _lines(texts)
    ends_L, prose_L = _end_sentences(lines), _begin_as_prose(lines)
    first_R, last_R = _runs(lines, ends_L, prose_L)
    upto_L = np.concatenate([[0], np.cumsum(lines.widths)])
    wide_R = upto_L[last_R + 1] - upto_L[first_R] >= np.where(ends_L[last_R], WIDTH, LONG)
    first_P, last_P = first_R[wide_R & prose_L[first_R]], last_R[wide_R & prose_L[first_R]]
    upto_L = np.concatenate([[0], np.cumsum(lines.letters)])
    bounds = zip(upto_L[first_P].tolist(), upto_L[last_P + 1].tolist(), strict=True)
    hashes = [xxhash.xxh3_64_intdigest(lines.data[begin:end].data) for begin, end in bounds]
    text_P = np.searchsorted(texts.starts, lines.starts[first_P], side="right") - 1
    counts = np.bincount(text_P, minlength=len(texts.starts) - 1).astype(np.int32)
    return Passages(np.array(hashes, np.uint64), lines.starts[first_P], _with_blanks(lines, last_P), counts)


def cut_passages(texts: Sequence[str], hashes: Sequence[Collection[int]]) -> list[str]:
    """Each text without its passages of these hashes, and the blank lines after each; all else stays as it is.

    >>> page = "# Copying\\n\\nThis page may be copied, changed and sold by anyone.\\n\\nThe end"
    >>> cut_passages([page], [passages_of(texts_of([page])).hashes_P.tolist()])
    ['# Copying\\n\\nThe end']
    """
    found = passages_of(texts_of(texts))
    places = list(zip(*(column.tolist() for column in found[:3]), strict=True))
    ends, heads = np.cumsum(found.counts).tolist(), np.cumsum([0, *map(len, texts)]).tolist()
    left = []
    for text, wanted, count, end, head in zip(texts, hashes, found.counts.tolist(), ends, heads, strict=False):
        kept, at = [], 0
        for value, start, stop in places[end - count : end]:
            if value in wanted:
                kept.append(text[at : start - head])
                at = stop - head
        left.append("".join([*kept, text[at:]]))
    return left


def boilerplate(
    shards: Sequence[Callable[[], tuple[np.ndarray, np.ndarray]]], alive_D: np.ndarray, most: int
) -> list[np.ndarray]:
    """What is to be cut out of each shard's documents: uint64 [n, 2] = (document in the shard, hash), ascending.

    A passage that stands in more than `most` documents stays in the first of them.

    Args:
        shards: for each shard, in corpus order, what opens its hashes, uint64 [P], and counts by document, int [d].
        alive_D: bool [D], the documents that take part.
        most: documents that may share a passage.
    """
    sizes = np.array([[len(column) for column in look()] for look in shards], np.int64).reshape(-1, 2)
    parts = max(int(sizes[:, 0].sum()) // AT_ONCE, 1)
    starts = np.concatenate([[0], np.cumsum(sizes[:, 1])])
    found = [_repeated(shards, starts, alive_D, most, (part, parts)) for part in range(parts)]
    documents, hashes = (np.concatenate([pair[side] for pair in found]) for side in (0, 1))
    order = np.lexsort((hashes, documents))
    documents, hashes = documents[order], hashes[order]
    bounds = np.searchsorted(documents, starts)
    return [
        np.stack([(documents[begin:end] - start).astype(np.uint64), hashes[begin:end]], axis=1)
        for start, begin, end in zip(starts.tolist(), bounds.tolist(), bounds[1:].tolist(), strict=False)
    ]


def _repeated(
    shards: Sequence[Callable[[], tuple[np.ndarray, np.ndarray]]],
    starts: np.ndarray,
    alive_D: np.ndarray,
    most: int,
    part: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Documents, and the passages to cut out of them, for the hashes of one part of all."""
    documents, hashes = [np.empty(0, np.int64)], [np.empty(0, np.uint64)]
    for start, look in zip(starts.tolist(), shards, strict=False):
        hash_P, counts = look()
        document_P = start + np.repeat(np.arange(len(counts)), counts)
        mine_P = alive_D[document_P] & ((hash_P >> np.uint64(32)) * np.uint64(part[1]) >> np.uint64(32) == part[0])
        documents.append(document_P[mine_P])
        hashes.append(hash_P[mine_P])
    document_P, hash_P = np.concatenate(documents), np.concatenate(hashes)
    order = np.lexsort((document_P, hash_P))
    document_P, hash_P = document_P[order], hash_P[order]
    once = np.append(True, (hash_P[1:] != hash_P[:-1]) | (document_P[1:] != document_P[:-1]))[: len(hash_P)]
    document_P, hash_P = document_P[once], hash_P[once]
    first = np.flatnonzero(np.append(True, hash_P[1:] != hash_P[:-1])[: len(hash_P)])
    sizes = np.diff(first, append=len(hash_P))
    repeated_P = np.repeat(sizes > most, sizes)
    repeated_P[first] = False
    return document_P[repeated_P], hash_P[repeated_P]


def _lines(texts: Texts) -> _Lines:
    from data_prep.fast import kernels

    if compiled := kernels():
        return _Lines(texts.points_N, *compiled.passage_lines(*texts, tables().letters))
    points_N = texts.points_N
    letters_N = np.take(tables().letters, points_N, mode="clip")
    if (letters_N == EXPANDS).any():
        letters_N = np.where(letters_N == EXPANDS, points_N, letters_N)
    heads = texts.starts[:-1][texts.starts[:-1] < texts.starts[1:]]
    head_N, line_N = np.zeros(len(points_N), bool), np.zeros(len(points_N), bool)
    head_N[heads] = line_N[heads] = True
    line_N[1:] |= points_N[:-1] == ord("\n")
    starts = np.flatnonzero(line_N)
    ends = np.append(starts[1:], len(points_N))
    solid_N = (points_N > ord(" ")) & (points_N != 0xA0) & (points_N != 0x3000)
    begins, stops = solid_N.copy(), solid_N.copy()
    begins[1:] &= ~solid_N[:-1] | line_N[1:]
    stops[:-1] &= ~solid_N[1:] | line_N[1:]
    first, last = (np.append(np.flatnonzero(mask), place) for mask, place in ((begins, len(points_N)), (stops, -1)))
    first = first[np.searchsorted(first, starts)]
    first = np.where(first < ends, first, starts)
    last = np.maximum(last[np.searchsorted(last[:-1], ends) - 1], starts - 1)
    letters = np.add.reduceat((letters_N > 0).view(np.uint8), starts, dtype=np.int64)
    singles = np.add.reduceat((letters_N >= SINGLE).view(np.uint8), starts, dtype=np.int64)
    return _Lines(points_N, letters_N[letters_N > 0], starts, first, last, letters, letters + singles, head_N[starts])


def _runs(lines: _Lines, ends_L: np.ndarray, prose_L: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first and the last line of each run: lines with letters, outside of fenced code, that nothing parts."""
    fence_L = _are_fences(lines)
    fences_L = np.cumsum(fence_L)
    inside_L = (fences_L - (fences_L - fence_L)[lines.is_head][np.cumsum(lines.is_head) - 1]) % 2 == 1
    ours_L = (lines.letters > 0) & ~fence_L & ~inside_L
    whole_L = lines.marks(lines.first) & WHOLE > 0
    begins_L = ours_L & (lines.is_head | ~prose_L)
    begins_L[1:] |= ours_L[1:] & (~ours_L | ends_L | whole_L)[:-1]
    first_R = np.flatnonzero(begins_L)
    stops = np.append(np.flatnonzero(~ours_L | begins_L), len(ours_L))
    return first_R, stops[np.searchsorted(stops, first_R, side="right")] - 1


def _begin_as_prose(lines: _Lines) -> np.ndarray:
    """Whether lines begin with a letter that is no number of a list or an article."""
    at = lines.first + (lines.marks(lines.first) & OPENER > 0)
    letters = np.take(tables().letters, lines.points_N[np.minimum(at, len(lines.points_N) - 1)], mode="clip")
    digits = (letters >= ord("0")) & (letters <= ord("9"))
    prose = (letters > 0) & ~digits & (lines.marks(at) & ARTICLE == 0)
    for step in (1, 2, 3):
        prose &= lines.marks(at + step) & NUMBER == 0
    return np.asarray(prose)


def _end_sentences(lines: _Lines) -> np.ndarray:
    """Whether lines end as a sentence does, and the next one does not go on in small letters, as after `Inc.`"""
    last, before = lines.marks(lines.last), lines.marks(lines.last - 1)
    ends_L = (last & END > 0) | ((last & CLOSER > 0) & (before & END > 0))
    goes_on_L = (lines.marks(lines.first) & SMALL > 0) & ~lines.is_head & (lines.letters > 0)
    ends_L[:-1] &= ~goes_on_L[1:]
    return np.asarray(ends_L)


def _are_fences(lines: _Lines) -> np.ndarray:
    """Lines of three ticks, or of three and a language (CommonMark 0.31, section 4.5)."""
    ticks = np.all([lines.marks(lines.first + step) & TICK > 0 for step in range(3)], axis=0)
    return np.asarray(ticks & ((lines.last == lines.first + 2) | (lines.marks(lines.last) & TICK == 0)))


def _with_blanks(lines: _Lines, last_P: np.ndarray) -> np.ndarray:
    """The places after the blank lines that follow these lines."""
    stops = np.append(np.flatnonzero((lines.last >= lines.starts) | lines.is_head), len(lines.starts))
    after_P = stops[np.searchsorted(stops, last_P, side="right")]
    return np.asarray(np.append(lines.starts, len(lines.points_N))[after_P])


@lru_cache(maxsize=1)
def _flags() -> np.ndarray:
    """The marks of each code point of the basic plane, uint8; the last stands for all others."""
    flags = np.zeros(0x10000, np.uint8)
    for flag, marks in MARKS.items():
        for mark in marks:
            flags[ord(mark)] |= flag
    return flags
