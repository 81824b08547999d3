"""The hottest loops as plain Python over arrays, in the part of the language that numba compiles (fast.py).

Each gives the same bits as the numpy function that its docstring names, in one pass. Read those to know what is computed;
here it only goes faster.

    N code points, U units, L lines, D texts
"""

from __future__ import annotations

import numpy as np

from data_prep.units import EXPANDS, SINGLE

SPACE, NEWLINE, DOT = 32, 10, 46
Arrays = tuple[np.ndarray, ...]


def units(points_N: np.ndarray, starts: np.ndarray, letters_T: np.ndarray, base: np.uint64) -> Arrays:
    """`units.units_of`, of what is spelt out: the values of all units, where each text's start, the singleness of all."""
    values_U, single_U = np.empty(len(points_N), np.uint64), np.empty(len(points_N), np.bool_)
    found, count, beyond = np.zeros(len(starts), np.int64), 0, np.uint32(len(letters_T) - 1)
    for text in range(len(starts) - 1):
        place, end = starts[text], starts[text + 1]
        while place < end:
            letter = letters_T[min(points_N[place], beyond)]
            place += 1
            if letter == 0:
                continue
            value, power = np.uint64(letter), base
            single_U[count] = letter >= SINGLE
            while letter < SINGLE and place < end:
                letter = letters_T[min(points_N[place], beyond)]
                if not 0 < letter < SINGLE:
                    break
                value += np.uint64(letter) * power
                power *= base
                place += 1
            values_U[count] = _mixed(value)
            count += 1
        found[text + 1] = count
    return values_U[:count], found, single_U[:count]


def collapsed(points_N: np.ndarray, starts: np.ndarray, folded_T: np.ndarray) -> Arrays:
    """`units.collapsed`, of what is spelt out: code points without spaces that begin a text or follow a space; starts."""
    data, found = np.empty(len(points_N) + 1, np.uint32), np.zeros(len(starts), np.int64)
    count = 0
    for text in range(len(starts) - 1):
        after_space = True
        for place in range(starts[text], starts[text + 1]):
            point = points_N[place]
            letter = folded_T[point] if point < len(folded_T) else point
            data[count] = letter
            count += not (after_space and letter == SPACE)
            after_space = letter == SPACE
        found[text + 1] = count
    return data[:count], found


def signatures(
    values_U: np.ndarray, starts: np.ndarray, factors: np.ndarray, base: np.uint64, length: int
) -> np.ndarray:
    """`sketch.signatures_of`: the smallest product of each text's shingles of `length` units with each factor."""
    smallest = np.full((len(starts) - 1, len(factors)), np.uint32(0xFFFFFFFF), np.uint32)
    for text in range(len(starts) - 1):
        own = smallest[text]
        units = starts[text + 1] - starts[text]
        for place in range(starts[text], starts[text + 1] - min(length, units) + (1 if units else 0)):
            value = np.uint64(0)
            for unit in range(place, place + min(length, units)):
                value = value * base + values_U[unit]
            shingle = np.uint32(value >> np.uint64(32))
            for order in range(len(factors)):
                own[order] = min(own[order], np.uint32(shingle * factors[order]))
    return smallest


def passage_lines(points_N: np.ndarray, starts: np.ndarray, letters_T: np.ndarray) -> Arrays:
    """`passages._lines`: all letters, and of each line start, first, last, letters, width, and whether it heads a text."""
    data, room = np.empty(len(points_N) + 1, np.uint32), _room(points_N, starts)
    places, first_L, last_L = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    letters, widths, is_head = np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room, np.bool_)
    line = count = 0
    for text in range(len(starts) - 1):
        place = starts[text]
        while place < starts[text + 1]:
            begin, before, singles = place, count, 0
            first, last = begin, begin - 1
            while place < starts[text + 1]:
                point = points_N[place]
                if point > SPACE and point not in (0xA0, 0x3000):
                    first = place if last < begin else first
                    last = place
                letter = letters_T[min(point, np.uint32(len(letters_T) - 1))]
                data[count] = point if letter == EXPANDS else letter
                singles += data[count] >= SINGLE
                count += letter != 0
                place += 1
                if point == NEWLINE:
                    break
            places[line], first_L[line], last_L[line], is_head[line] = begin, first, last, begin == starts[text]
            letters[line], widths[line] = count - before, count - before + singles
            line += 1
    return data[:count], places[:line], first_L[:line], last_L[:line], letters[:line], widths[:line], is_head[:line]


def lines(
    points_N: np.ndarray,
    starts: np.ndarray,
    classes_T: np.ndarray,
    kinds: tuple[int, ...],
    base: np.uint64,
    longest: int,
) -> Arrays:
    """`lines.lines_of`: the classes of each text's characters, and the columns of Lines; `kinds` are those of classes."""
    space, digit, han, hangul, classes = kinds
    room = _room(points_N, starts) + len(points_N) // longest
    counts_DC = np.zeros((len(starts) - 1, classes), np.int64)
    numbers = np.zeros((4, room), np.int64)
    first_L, last_L = np.empty(room, np.uint32), np.empty(room, np.uint32)
    dots_L, hash_L = np.zeros(room, np.bool_), np.empty(room, np.uint64)
    line = 0
    for text in range(len(starts) - 1):
        end = starts[text]
        while end < starts[text + 1]:
            begin = first = last = run = end
            border = min(begin + longest, starts[text + 1])
            visible, wide, words, lettered, has_letter = 0, 0, 0, 0, False
            value, power, hashed = np.uint64(0), np.uint64(1), np.uint64(points_N[begin])
            kind, feed = space, False
            while True:  # once for each run of characters of one class
                if kind != space:
                    visible += end - run
                    wide += (end - run) * (han <= kind <= hangul)
                    last, hashed = end - 1, value
                counts_DC[text, kind] += end - run
                if feed or end == border:
                    break
                run, before = end, kind
                kind = classes_T[min(points_N[end], np.uint32(len(classes_T) - 1))]
                if kind != space and before == space:
                    words, has_letter = words + 1, False
                    if visible == 0:
                        first, value, power = end, np.uint64(0), np.uint64(1)
                if kind < digit and not has_letter:
                    lettered, has_letter = lettered + 1, True
                while (
                    end < border and not feed and classes_T[min(points_N[end], np.uint32(len(classes_T) - 1))] == kind
                ):
                    value += np.uint64(points_N[end]) * power
                    power *= base
                    feed = points_N[end] == NEWLINE
                    end += 1
            numbers[:, line] = text, visible + wide, words, lettered
            first_L[line], last_L[line], hash_L[line] = points_N[first], points_N[last], _mixed(hashed)
            dots_L[line] = last - first >= 2 and points_N[last] == points_N[last - 1] == points_N[last - 2] == DOT
            line += 1
    columns = (numbers[0, :line], numbers[1, :line], numbers[2, :line], numbers[3, :line])
    return counts_DC, *columns, first_L[:line], last_L[:line], dots_L[:line], hash_L[:line]


def histogram(points_N: np.ndarray, starts: np.ndarray, table: np.ndarray, classes: int) -> np.ndarray:
    """`language.histogram`: how many code points of each class a text has."""
    counts_DC = np.zeros((len(starts) - 1, classes), np.int64)
    for text in range(len(starts) - 1):
        run, kind = starts[text], 0
        for place in range(starts[text], starts[text + 1]):
            own = table[min(points_N[place], np.uint32(len(table) - 1))]
            if own != kind:
                counts_DC[text, kind] += place - run
                run, kind = place, own
        counts_DC[text, kind] += starts[text + 1] - run
    return counts_DC


def top_run(values_U: np.ndarray, starts: np.ndarray, base: np.uint64, length: int, slack: int) -> np.ndarray:
    """`repetition.top_run`: units that the most frequent run of `length` units covers; tables have `slack` slots a run."""
    covered = np.zeros(len(starts) - 1, np.int64)
    counts, hashes = np.zeros(2, np.int32), np.empty(0, np.uint64)
    for text in range(len(starts) - 1):
        runs = starts[text + 1] - starts[text] - length + 1
        if runs < 2:
            continue
        bits = _bits(runs * slack)
        if len(counts) < 1 << bits:
            counts = np.empty(1 << bits, np.int32)
        counts[: 1 << bits] = 0
        if len(hashes) < runs:
            hashes = np.empty(runs, np.uint64)
        for run in range(runs):
            hashes[run] = _rolled(values_U, starts[text] + run, length, base)
            counts[hashes[run] >> np.uint64(64 - bits)] += 1
        fullest = np.argmax(counts[: 1 << bits])
        if counts[fullest] < 2:
            continue
        own = np.empty(counts[fullest], np.uint64)
        count = 0
        for run in range(runs):
            if hashes[run] >> np.uint64(64 - bits) == fullest:
                own[count] = hashes[run]
                count += 1
        own.sort()
        most = same = 1
        for place in range(1, count):
            same = same + 1 if own[place] == own[place - 1] else 1
            most = max(most, same)
        if most > 1:
            covered[text] = min(most * length, runs + length - 1)
    return covered


def repeated_runs(values_U: np.ndarray, starts: np.ndarray, base: np.uint64, length: int) -> np.ndarray:
    """`repetition.repeated_runs`: units that lie in a run of `length` units which has occurred before in the text."""
    covered = np.zeros(len(starts) - 1, np.int64)
    table, hashes = np.empty(0, np.int32), np.empty(0, np.uint64)
    for text in range(len(starts) - 1):
        runs = starts[text + 1] - starts[text] - length + 1
        if runs < 2:
            continue
        bits = _bits(runs * 2)
        if len(hashes) < runs:
            table, hashes = np.empty(1 << bits, np.int32), np.empty(runs, np.uint64)
        table[: 1 << bits] = -1
        upto = 0
        for run in range(runs):
            hashes[run] = _rolled(values_U, starts[text] + run, length, base)
            slot = hashes[run] >> np.uint64(64 - bits)
            while table[slot] >= 0 and hashes[table[slot]] != hashes[run]:
                slot = (slot + np.uint64(1)) & np.uint64((1 << bits) - 1)
            if table[slot] < 0:
                table[slot] = run
            else:
                covered[text] += run + length - max(run, upto)
                upto = run + length
    return covered


def _mixed(value: np.uint64) -> np.uint64:
    """`units.mixed`."""
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    value = (value ^ (value >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return value ^ (value >> np.uint64(33))


def _rolled(values_U: np.ndarray, place: int, length: int, base: np.uint64) -> np.uint64:
    """The hash of a run of values, as `units.rolling` has it."""
    value = np.uint64(0)
    for unit in range(place, place + length):
        value = value * base + values_U[unit]
    return value


def _bits(slots: int) -> int:
    """Bits of the number of a slot in a table of at least so many."""
    bits = 1
    while 1 << bits < slots:
        bits += 1
    return bits


def _room(points_N: np.ndarray, starts: np.ndarray) -> int:
    """At least the number of lines."""
    room = len(starts)
    for point in points_N:
        room += point == NEWLINE
    return room
