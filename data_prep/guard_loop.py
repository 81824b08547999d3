"""The guard of guard.py as a loop that numba compiles (fast.py): one look at each code point, and at what stands beside marks.

N code points, D texts
"""

from __future__ import annotations

import numpy as np

from data_prep.guard import (
    BREAK,
    CLOSE,
    CONTROLS,
    DECIMAL,
    DIGIT,
    HEX,
    JOINS,
    LEAD,
    LETTER,
    LINE,
    LINK,
    LONE,
    MARKED,
    NAME,
    OPEN,
    OWN,
    PAGE,
    SIGN,
    TRAIL,
    UNSEEN,
    WHITE,
)
from data_prep.guard import DOT as DOT_OF_LEADERS

SPACE, POINT, WIDE_POINT, COLON, LESS = 32, 46, 0xFF0E, 58, 60
LONGEST, MOST = 64, 400
"""Characters of the longest line that a repair of lines is about, and from which trailing spaces are not even counted."""
BITS = tuple(np.uint16(1 << number) for number in range(13))
"""Bits of the repairs, in the order of guard.WATCHED."""
Arrays = tuple[np.ndarray, ...]


def needs(points_N: np.ndarray, starts: np.ndarray, table: np.ndarray, controls: np.ndarray) -> Arrays:
    """`guard.needs_of`: bits of the repairs that texts may need, and whether they may hold personal data or lone surrogates.

    Nothing is found across texts here, as numpy does for speed: both pass all that needs something.
    """
    repairs_D, count, beyond = np.zeros(len(starts) - 1, np.uint16), len(points_N), np.uint32(len(table) - 1)
    mask_D, lone_D = np.zeros(len(starts) - 1, np.bool_), np.zeros(len(starts) - 1, np.bool_)
    for text in range(len(starts) - 1):
        bits, line, last, digits, dots = np.uint16(0), starts[text], -9, 0, 0
        for place in range(starts[text], starts[text + 1]):
            kind = table[min(points_N[place], beyond)]
            if kind & MARKED == 0:
                continue
            if kind & DIGIT:
                gap = place - last
                joined = gap <= 4
                for between in range(last + 1, place if joined else 0):
                    joined &= table[min(points_N[between], beyond)] & LINK != 0
                digits = digits + 1 if joined else 1
                dots = dots + (gap == 2 and points_N[place - 1] in (POINT, WIDE_POINT)) if joined else 0
                mask_D[text] |= digits >= 6 or (digits >= 4 and dots >= 3)
                last = place
            elif kind & (LINE | BREAK):
                if kind & BREAK:
                    bits |= BITS[1]
                bits |= _odd_line(points_N, line, place, table, controls)
                line = place + 1
            else:
                after = points_N[place + 1] if place + 1 < count else np.uint32(0)
                bits |= _mended_at(points_N, place, kind, table)
                if kind & OPEN and points_N[place] == LESS:
                    mask_D[text] |= table[min(after, beyond)] & NAME != 0
                elif kind & SIGN:
                    mask_D[text] |= points_N[place] != COLON or after == COLON or _hex_colon(points_N, place + 1, table)
                lone_D[text] |= kind & LONE != 0
        repairs_D[text] = bits | _odd_line(points_N, line, starts[text + 1], table, controls)
    return repairs_D, mask_D, lone_D


def _mended_at(points_N: np.ndarray, place: int, kind: np.uint32, table: np.ndarray) -> np.uint16:
    """The bits of repairs that a mark calls for, other than those of lines."""
    bits, count, beyond = np.uint16(0), len(points_N), np.uint32(len(table) - 1)
    after = points_N[place + 1] if place + 1 < count else np.uint32(0)
    if kind & LEAD and table[min(after, beyond)] & TRAIL:
        bits |= BITS[0]
    if kind & CONTROLS:
        bits |= BITS[2]
    if kind & UNSEEN:
        bits |= BITS[3]
    if kind & OWN:
        bits |= BITS[4]
    if kind & JOINS:
        bits |= BITS[5]
    if kind & OPEN and (97 <= (after | np.uint32(32)) <= 122 or after in (33, 35, 47)):
        bits |= BITS[6]
    if kind & CLOSE and after == 40:
        bits |= BITS[7]
    if kind & DOT_OF_LEADERS and place + 4 < count:
        point, one, two = points_N[place], points_N[place + 2], points_N[place + 4]
        same = after == point and one == point and (point == 0x2026 or (points_N[place + 3] == point and two == point))
        if same or (after == SPACE and one == point and points_N[place + 3] == SPACE and two == point):
            bits |= BITS[9]
    if kind & LETTER and place + 2 < count:
        if points_N[place] == 107:
            if (
                place >= 2
                and points_N[place - 1] == 111
                and points_N[place - 2] == 111
                and after == 105
                and points_N[place + 2] == 101
            ):
                bits |= BITS[10]
        elif after == 97 and points_N[place + 2] == 118 and place + 4 < count and points_N[place + 4] == 83:
            bits |= BITS[11]
    return bits


def _hex_colon(points_N: np.ndarray, place: int, table: np.ndarray) -> bool:
    """Whether one to four digits of base 16 stand here, and a colon after them."""
    for step in range(5):
        if place + step >= len(points_N):
            return False
        point = points_N[place + step]
        if point == COLON:
            return step > 0
        if table[min(point, np.uint32(len(table) - 1))] & HEX == 0:
            return False
    return False


def _odd_line(points_N: np.ndarray, first: int, end: int, table: np.ndarray, controls: np.ndarray) -> np.uint16:
    """The bits of the repairs of lines, for the line that ends before `end`."""
    bits, last, beyond = np.uint16(0), end - 1, np.uint32(len(table) - 1)
    while first <= last and table[min(points_N[first], beyond)] & WHITE:
        first += 1
    if last - first > MOST:
        return bits
    while first < last and table[min(points_N[last], beyond)] & WHITE:
        last -= 1
    size = last - first + 1
    if not 0 < size <= LONGEST:
        return bits
    head = points_N[first]
    key = (np.int64(head) << 27) + (np.int64(points_N[last]) << 6) + min(size, 63)
    slot = np.searchsorted(controls, key)
    if slot < len(controls) and controls[slot] == key:
        bits |= BITS[12]
    if table[min(head, beyond)] & PAGE and size > 1:
        at = first + 1 + (points_N[first + 1] == SPACE)
        if points_N[first + 1] in (65, 97) or (at <= last and table[min(points_N[at], beyond)] & DECIMAL):
            bits |= BITS[8]
    return bits
