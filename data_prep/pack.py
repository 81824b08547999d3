"""Documents to rows: long text is split without loss, and pieces are packed so that little room stays empty."""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np


def cut(length: int, row: int) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of the pieces of at most `row` tokens, each beginning with its forerunner's last token.

    >>> [part.tolist() for part in cut(9, 4)]
    [[0, 3, 6], [4, 4, 3]]
    """
    starts = np.arange(0, max(length - 1, 1), row - 1)
    return starts, np.minimum(row, length - starts)


def pack(lengths: np.ndarray, row: int) -> np.ndarray:
    """The row of each piece, best-fit decreasing (Johnson 1974): at most 11/9 of the fewest rows, plus 6/9.

    Equal lengths keep their order, so that the result depends on nothing but the lengths.

    >>> pack(np.array([2, 7, 3, 8]), 10).tolist()
    [0, 1, 1, 0]
    """
    order = np.argsort(-lengths, kind="stable")
    rows = np.empty(len(lengths), np.int64)
    full = int((lengths == row).sum())
    rows[order[:full]] = np.arange(full)
    count = full
    open_rows: dict[int, list[int]] = {}
    rooms: list[int] = []  # sorted: every room that some open row has left
    placed = []
    for length in lengths[order[full:]].tolist():
        slot = bisect_left(rooms, length)
        if slot == len(rooms):
            target, room = count, row
            count += 1
        else:
            room = rooms[slot]
            target = open_rows[room].pop()
            if not open_rows[room]:
                del rooms[slot]
        placed.append(target)
        left = room - length
        if left > 1:  # one token alone has nothing to predict
            if not open_rows.setdefault(left, []):
                insort(rooms, left)
            open_rows[left].append(target)
    rows[order[full:]] = placed
    return rows
