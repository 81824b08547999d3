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


def later_copies(hashes_R: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """`repetition.later_copies`: which rows have occurred before in their text."""
    copies = np.zeros(len(hashes_R), np.bool_)
    table = np.empty(2, np.int64)
    for text in range(len(starts) - 1):
        begin, rows = starts[text], starts[text + 1] - starts[text]
        if rows < 2:
            continue
        bits = _bits(rows * 2)
        if len(table) < 1 << bits:
            table = np.empty(1 << bits, np.int64)
        table[: 1 << bits] = -1
        for row in range(begin, begin + rows):
            slot = hashes_R[row] >> np.uint64(64 - bits)
            while table[slot] >= 0 and hashes_R[table[slot]] != hashes_R[row]:
                slot = (slot + np.uint64(1)) & np.uint64((1 << bits) - 1)
            copies[row] = table[slot] >= 0
            table[slot] = row if table[slot] < 0 else table[slot]
    return copies


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
    data, room, beyond = np.empty(len(points_N) + 1, np.uint32), _room(points_N, starts), np.uint32(len(letters_T) - 1)
    places, first_L, last_L = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    letters, widths, is_head = np.zeros(room, np.int64), np.zeros(room, np.int64), np.zeros(room, np.bool_)
    line = count = 0
    for text in range(len(starts) - 1):
        end = starts[text]
        while end < starts[text + 1]:
            begin, before, singles, point = end, count, 0, np.uint32(0)
            while end < starts[text + 1] and point != NEWLINE:
                point = points_N[end]
                letter = letters_T[min(point, beyond)]
                data[count] = point if letter == EXPANDS else letter
                singles += data[count] >= SINGLE
                count += letter != 0
                end += 1
            first, last = begin, end - 1
            while last >= begin and (points_N[last] <= SPACE or points_N[last] in (0xA0, 0x3000)):
                last -= 1
            while first < last and (points_N[first] <= SPACE or points_N[first] in (0xA0, 0x3000)):
                first += 1
            places[line], first_L[line], last_L[line], is_head[line] = begin, first, last, begin == starts[text]
            letters[line], widths[line] = count - before, count - before + singles
            line += 1
    return data[:count], places[:line], first_L[:line], last_L[:line], letters[:line], widths[:line], is_head[:line]


def lines(points_N: np.ndarray, starts: np.ndarray, looks_T: np.ndarray, base: np.uint64, longest: int) -> Arrays:
    """The columns of `lines.Lines`; `looks_T` is `lines.look_table`. No branch inside a line: none is guessed wrong."""
    room, beyond = _room(points_N, starts) + len(points_N) // longest, np.uint32(len(looks_T) - 1)
    numbers, hash_L = np.zeros((4, room), np.int64), np.empty(room, np.uint64)
    first_L, last_L, dots_L = np.empty(room, np.uint32), np.empty(room, np.uint32), np.zeros(room, np.bool_)
    line = 0
    for text in range(len(starts) - 1):
        end = starts[text]
        while end < starts[text + 1]:
            begin = end
            border = min(begin + longest, starts[text + 1])
            end += 1
            while end < border and points_N[end - 1] != NEWLINE:
                end += 1
            first, last = begin, end - 1
            while last > begin and looks_T[min(points_N[last], beyond)] == 0:
                last -= 1
            while first < last and looks_T[min(points_N[first], beyond)] == 0:
                first += 1
            value, power, width, words, lettered = np.uint64(0), np.uint64(1), 0, 0, 0
            look = has_letter = np.uint8(0)
            for place in range(first, last + 1):
                value += np.uint64(points_N[place]) * power
                power *= base
                before = look & 1
                look = looks_T[min(points_N[place], beyond)]
                width += (look & 1) + (look >> 2)
                words += (look & 1) & (before ^ 1)
                has_letter &= before
                lettered += (look >> 1 & 1) & (has_letter ^ 1)
                has_letter |= look >> 1 & 1
            if width == 0:
                first = last = begin
                value = np.uint64(points_N[begin])
            numbers[0, line], numbers[1, line], numbers[2, line], numbers[3, line] = text, width, words, lettered
            first_L[line], last_L[line], hash_L[line] = points_N[first], points_N[last], _mixed(value)
            dots_L[line] = last - first >= 2 and points_N[last] == points_N[last - 1] == points_N[last - 2] == DOT
            line += 1
    columns = (numbers[0, :line], numbers[1, :line], numbers[2, :line], numbers[3, :line])
    return (*columns, first_L[:line], last_L[:line], dots_L[:line], hash_L[:line])


def histogram(points_N: np.ndarray, starts: np.ndarray, table: np.ndarray, classes: int) -> np.ndarray:
    """`language.histogram`: how many code points of each class a text has.

    Four counts in turn: a processor waits for one number to be stored before it can add to it again.
    """
    counts_DC, turns = np.zeros((len(starts) - 1, classes), np.int64), np.empty((4, classes), np.int64)
    beyond = np.uint32(len(table) - 1)
    for text in range(len(starts) - 1):
        turns[:] = 0
        whole = starts[text + 1] - (starts[text + 1] - starts[text]) % 4
        for place in range(starts[text], whole, 4):
            for turn in range(4):
                turns[turn, table[min(points_N[place + turn], beyond)]] += 1
        for place in range(whole, starts[text + 1]):
            turns[0, table[min(points_N[place], beyond)]] += 1
        for turn in range(4):
            counts_DC[text] += turns[turn]
    return counts_DC


def word_counts(
    values_U: np.ndarray,
    starts: np.ndarray,
    rows: np.ndarray,
    words: np.ndarray,
    sets: np.ndarray,
    kinds: tuple[int, int],
) -> np.ndarray:
    """`language.word_counts`: function words of each set of languages; `kinds` are the shift of the table and the sets."""
    shift, count = kinds
    counts_DS = np.zeros((len(starts) - 1, count), np.int64)
    for text in range(len(starts) - 1):
        for unit in range(starts[text], starts[text + 1]):
            row = rows[values_U[unit] >> np.uint64(shift) & np.uint64(len(rows) - 1)]
            if row and words[row] == values_U[unit]:
                counts_DS[text, sets[row]] += 1
    return counts_DS


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
    """`repetition.repeated_runs`: units that lie in a run of `length` units which has occurred before in the text.

    A run's hash is made from the one before: its first unit taken out, the next one added.
    """
    covered, leaving = np.zeros(len(starts) - 1, np.int64), np.uint64(1)
    for _ in range(length):
        leaving *= base
    table, hashes = np.empty(0, np.int32), np.empty(0, np.uint64)
    for text in range(len(starts) - 1):
        begin, runs = starts[text], starts[text + 1] - starts[text] - length + 1
        if runs < 2:
            continue
        bits = _bits(runs * 2)
        if len(hashes) < runs:
            table, hashes = np.empty(1 << bits, np.int32), np.empty(runs, np.uint64)
        table[: 1 << bits] = -1
        value, gone, upto = _rolled(values_U, begin, length - 1, base), np.uint64(0), 0
        for run in range(runs):
            value = value * base + values_U[begin + run + length - 1] - gone * leaving
            hashes[run], gone = value, values_U[begin + run]
            slot = value >> np.uint64(64 - bits)
            while table[slot] >= 0 and hashes[table[slot]] != value:
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
