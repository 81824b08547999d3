"""Documents to rows: long text is split without loss, and pieces are packed so that little room stays empty."""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Piece(NamedTuple):
    """A run of tokens of one document, that fits into a row."""

    document: int
    """Position of the document among the kept ones."""
    start: int
    """Its first token in tokens.bin."""
    length: int


def cut(document: int, start: int, length: int, row: int) -> list[Piece]:
    """Split a document of `length` tokens into pieces of at most `row`, each beginning with its forerunner's last token.

    >>> [(piece.start, piece.length) for piece in cut(0, 100, 9, 4)]
    [(100, 4), (103, 4), (106, 3)]
    """
    steps = range(0, max(length - 1, 1), row - 1)
    return [Piece(document, start + step, min(row, length - step)) for step in steps]


def pack(lengths: Sequence[int], row: int) -> list[list[int]]:
    """Rows of positions in `lengths`, best-fit decreasing (Johnson 1974): at most 11/9 of the fewest rows, plus 6/9.

    Equal lengths keep their order, so that the result depends on nothing but the lengths.

    >>> pack([2, 7, 3, 8], 10)
    [[3, 0], [1, 2]]
    """
    rows: list[list[int]] = []
    open_rows: dict[int, list[int]] = {}
    rooms: list[int] = []  # sorted: every room that some open row has left
    for position in sorted(range(len(lengths)), key=lambda position: -lengths[position]):
        length = lengths[position]
        slot = bisect_left(rooms, length)
        if slot == len(rooms):
            target, room = len(rows), row
            rows.append([])
        else:
            room = rooms[slot]
            target = open_rows[room].pop()
            if not open_rows[room]:
                del rooms[slot]
        rows[target].append(position)
        left = room - length
        if left > 1:  # one token alone has nothing to predict
            if not open_rows.setdefault(left, []):
                insort(rooms, left)
            open_rows[left].append(target)
    return rows
