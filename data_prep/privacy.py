r"""Personal data: e-mail addresses, phone, identity, card and record numbers, in English and Chinese text.

Numbers are recognised by what their standards say of them (check digits, assigned prefixes, valid dates), not by their
length alone; the words before a number count only where its form says too little. Chinese characters are no letters
here: a number may touch them (`\b` of the usual patterns takes them for letters and misses every such number).

A gate finds the few places of a text that could hold anything. Only these are brought to half width, one character to
one so that positions stay, and looked at by every row of `KINDS`. Names of persons and postal addresses need a language
model and are not looked for.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from data_prep.personal import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class _Plain(dict[int, int]):
    """A table for `str.translate` that learns which characters stay: a miss would cost ten times as much as a look-up."""

    def __missing__(self, code: int) -> int:
        return self.setdefault(code, code)


PLAIN = _Plain((code, code - 0xFEE0) for code in range(0xFF01, 0xFF5F))
PLAIN |= dict.fromkeys((0x3000, 0xA0, 0x2007, 0x202F), 32) | dict.fromkeys((*range(0x2010, 0x2016), 0x2212), 45)
"""Full-width forms, spaces and dashes to ASCII, one character to one (Unicode 16, blocks FF00, 3000 and 2000)."""
WIDE_DIGITS = "０１２３４５６７８９"
LINK = "[-. ()\u3000\xa0‐-―−－．（）]"


def _number_gate(digit: str) -> re.Pattern[str]:
    """Six digits with at most three marks between them, or four numbers with dots.

    The look-behind stands after the first digit: a pattern that begins with a set of characters is searched faster.
    """
    many = f"(?:{LINK}{{0,3}}+{digit}){{5,}}+"
    return re.compile(f"{digit}(?<!{digit}{{2}})(?:{many}|{digit}{{0,2}}(?:[.．]{digit}{{1,3}}){{3}})")


NUMBERS, WIDE_NUMBERS = _number_gate("[0-9]"), _number_gate(f"[0-9{WIDE_DIGITS}]")
CODES = bytes(48 if chr(code) in "0123456789" else 45 if chr(code) in "-. ()?\xa0" else 32 for code in range(256))
"""Latin-1 as digits (0), what may stand between them or is no Latin-1 at all (-), and the rest."""
DIGITS = re.compile(b"0(?:-{0,3}+0){3,}+")
"""What every number of the gate lies in: a pattern that begins with one character is searched five times faster."""
SIGNS = tuple(
    re.compile(sign)
    for sign in (
        r"@(?<=\w@)(?=\w)",
        r"＠(?<=\w＠)(?=\w)",
        "<[0-9A-Za-z._+-]+ at ",
        "::|:[0-9A-Fa-f]{1,4}:[0-9A-Fa-f]{1,4}:",
    )
)
"""What else opens the gate: the sign of an address, or the word for it, and the colons of an IPv6 address."""
BEFORE, AFTER_NUMBER, AFTER_SIGN = 66, 8, 72
"""Characters looked at before such a place (what announces a number, or the 64 of an address before its sign), after a
number (an extension or a unit), and after a sign (a domain of usual length)."""
ANNOUNCING = tuple(
    {need for kind in KINDS.values() for shape in kind.shapes for need in shape.needs if need[-1].isalpha()}
)
"""Words that make a place of a number of less than nine digits."""


class Found(NamedTuple):
    """One finding: its kind, and the half-open span of characters that it takes in the text."""

    kind: str
    start: int
    end: int


def find(text: str) -> list[Found]:
    """Return the personal data in a text: findings in the order of the text, none overlapping another.

    >>> find("联系人手机１３８００１３８０００，邮箱zhang@example.com。")
    [Found(kind='phone_cn', start=5, end=16), Found(kind='email', start=19, end=36)]
    """
    found: list[Found] = []
    for start, end in _places(text):
        place = text[start:end]
        plain = place if place.isascii() else place.translate(PLAIN)
        found += [Found(kind, start + own, start + its_end) for kind, own, its_end in _look(plain)]
    return found


def mask(text: str, found: Sequence[Found]) -> str:
    """Return a text with the mark of its kind in the place of every finding, the same in every language.

    >>> mask("身份证号：11010519491231002X。", find("身份证号：11010519491231002X。"))
    '身份证号：[ID]。'
    """
    parts, position = [], 0
    for kind, start, end in found:
        parts += [text[position:start], KINDS[kind].mark]
        position = end
    return "".join([*parts, text[position:]])


def _places(text: str) -> Iterator[tuple[int, int]]:
    """Yield the spans of a text that the gates let through, with what stands around them, in order and apart."""
    wide = not text.isascii() and any(digit in text for digit in WIDE_DIGITS)
    numbers = WIDE_NUMBERS.finditer(text) if wide else _numbers(text)
    spans = [(max(0, m.start() - BEFORE), m.end() + AFTER_NUMBER) for m in numbers if _promising(m)]
    spans += [
        (max(0, m.start() - BEFORE), m.end() + AFTER_SIGN)
        for sign in SIGNS
        if sign.pattern[0] in text
        for m in sign.finditer(text)
    ]
    start = end = 0
    for left, right in sorted(spans):
        if left > end:
            if end:
                yield start, end
            start = left
        end = max(end, right)
    if end:
        yield start, end


def _numbers(text: str) -> Iterator[re.Match[str]]:
    """What NUMBERS finds."""
    codes = text.encode("latin-1", "replace").translate(CODES)
    for digits in DIGITS.finditer(codes):
        yield from NUMBERS.finditer(text, *digits.span())


def _promising(number: re.Match[str]) -> bool:
    """Whether a number could be personal data: nine digits, or dots, or words before it that announce a shorter one."""
    digits = number[0]
    if "." in digits or "．" in digits or sum(map(str.isdigit, digits)) >= 9:
        return True
    before = number.string[max(0, number.start() - BEFORE) : number.start()].translate(PLAIN).lower()
    return any(word in before for word in ANNOUNCING)


def _look(plain: str) -> list[Found]:
    """Return what the rows find in a text at half width; where two overlap, the earlier row has it."""
    settled: list[Found] = []
    taken = bytearray(len(plain))
    lower = plain.lower()
    for name, kind in KINDS.items():
        for pattern, needs in kind.shapes:
            if needs and not any(map(lower.__contains__, needs)):
                continue
            for match in pattern.finditer(plain):
                start, end = match.span(1)
                before = plain[max(0, start - BEFORE) : start].rpartition("\n")[2]
                if taken.find(1, start, end) < 0 and kind.holds(match[1], before):
                    settled.append(Found(name, start, end))
                    taken[start:end] = b"\1" * (end - start)
    return sorted(settled, key=lambda found: found.start)
