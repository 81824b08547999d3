"""Numbers in answers: `$(12.6) million`, `12.5%`, `3,500万`, `百分之十二点五`, `1.2 \\times 10^{3}`, and when two are the same.

A number is read as a person reads it: thousands separators, currency and units fall away, a scale word multiplies, a
percent sign divides by 100, brackets around the whole answer make it negative (accountants' form).
"""

from __future__ import annotations

import re
from typing import NamedTuple

TOLERANCE = 0.001
"""Relative tolerance where a task sets none: `isclose(rel_tol=0.001)` of Chen et al. 2022, "Program of Thoughts
Prompting", with which FinQA and TAT-QA are scored there. TAT-QA's own script rounds both to two decimals instead."""
SCALES = {
    **{"hundred": 1e2, "thousand": 1e3, "thousands": 1e3, "million": 1e6, "millions": 1e6, "mn": 1e6, "mm": 1e6},
    **{"billion": 1e9, "billions": 1e9, "bn": 1e9, "trillion": 1e12, "trillions": 1e12},
    **{"百万": 1e6, "千万": 1e7, "十亿": 1e9, "百亿": 1e10, "千亿": 1e11, "万亿": 1e12},
    **{"百": 1e2, "千": 1e3, "万": 1e4, "亿": 1e8},
}
"""Words after a number that multiply it; TAT-QA's `scale` is one of thousand, million, billion, percent."""
SHORT = {"k": 1e3, "m": 1e6, "b": 1e9}
"""Single letters multiply only after a currency sign: 5 m may be a length."""
PERCENT = ("%", "percentage points", "percentage point", "percent", "per cent", "pct", "个百分点", "百分点")
MONEY = "(?:us\\$|hk\\$|[$€£¥]|usd|eur|gbp|rmb|cny|人民币)"
_WORDS = "|".join(sorted(map(re.escape, (*SCALES, *PERCENT, *SHORT)), key=len, reverse=True))
NUMBER = re.compile(
    rf"(?<![a-z0-9_.\-/])(?<!\d,)(?P<minus>[-+](?=[\d.$€£¥(]))?(?P<open>\()?(?P<money>{MONEY})?\s*(?P<bracket>\()?(?P<sign>[-+])?"
    rf"(?P<digits>\d{{1,3}}(?:,\d{{3}})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?![.,/\-]?\d)"
    rf"(?:e(?P<power>[-+]?\d+)|\s*(?:\\times|\\cdot|[x×*])\s*10\s*\^?\s*\{{?\s*(?P<ten>-?\d+)\s*\}}?)?"
    rf"(?P<close>\))?\s*(?P<word>(?:{_WORDS})(?![a-z]))?(?P<end>\))?"
)
MARK = re.compile(r"answer\s*(?:is|are|=|:)|答案\s*(?:是|为|:)|[=≈]")
"""What stands before the answer where a text explains itself."""
RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
CHINESE = {
    mark: value for value, marks in enumerate(("〇零", "一壹", "二贰两", "三叁", "四肆", "五伍")) for mark in marks
}
CHINESE |= {mark: value for value, marks in enumerate(("六陆", "七柒", "八捌", "九玖"), 6) for mark in marks}
TENS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
NUMERAL = "[〇零一壹二贰两三叁四肆五伍六陆七柒八捌九玖十拾百佰千仟万亿]"
SPOKEN = re.compile(rf"(负)?(百分之)?({NUMERAL}{{1,20}})(?:点([〇零一二三四五六七八九]{{1,20}}))?(个?百分点)?")

COUNTED = frozenset({"", "元", "美元", "人民币", "人", "个", "名", "年", "家", "次", "项"})
"""What may follow a Chinese numeral that is an answer."""


class Number(NamedTuple):
    """A number as it is meant, and whether it was written as a percentage."""

    value: float
    """12.5% is 0.125."""
    percent: bool


def read_number(text: str) -> Number | None:
    """The number that a text answers, or None.

    After the last mark such as `the answer is`, `答案是` or `=` the first number; else the number that the text begins
    with; else its last one (the `flexible-extract` of lm-evaluation-harness' GSM8K). A range, a date, a fraction such as
    3/4 and figures with uncertain separators (12,34 or 1.234.567) are not read. Chinese numerals count where they are
    the whole answer: in a sentence 一 is mostly no number.

    >>> read_number("$(12.6) million")
    Number(value=-12600000.0, percent=False)
    >>> read_number("增长了１２．５％。")
    Number(value=0.125, percent=True)
    """
    text = _plain(text)
    mark = next(reversed(list(MARK.finditer(text))), None)
    if mark is not None and (answered := _first(text[mark.end() :])) is not None:
        return answered
    return _first(text, or_last=True)


def same_number(given: Number, gold: Number, tolerance: float = TOLERANCE) -> bool:
    """Whether an answer is the gold within a part `tolerance` of the gold's size.

    Where only one of the two is written as a percentage, the other may be the fraction or the bare figure: 12.5%, 0.125
    and 12.5 are the same. So TAT-QA's script (`add_percent_pred`) and the FinQA rule of Chen et al. 2022, which allows
    a factor of 100 either way; here only if one of them says percent. Thousand and million are never forgiven (TAT-QA).
    """
    factors = (1.0,) if given.percent == gold.percent else (1.0, 100.0 if given.percent else 0.01)
    room = tolerance * abs(gold.value) * (1 + 1e-9) + 1e-12
    return any(abs(given.value * factor - gold.value) <= room for factor in factors)


def narrow(text: str) -> str:
    """Full-width letters, digits and marks as their ASCII forms.

    NFKC would also make 10³ a 103.

    >>> narrow("１２．５％")
    '12.5%'
    """
    return "".join(chr(ord(c) - 0xFEE0) if "\uff01" <= c <= "\uff5e" else c for c in text).replace("\u3000", " ")


def _first(text: str, *, or_last: bool = False) -> Number | None:
    """The first number of a text; with `or_last` its last one, unless the text begins with a number."""
    text = text.strip(" :。;,").rstrip(".")
    if (spoken := _spoken(text)) is not None:
        return spoken
    found = list(NUMBER.finditer(text))
    if not found:
        return None
    return _number(found[-1 if or_last and found[0].start() > 0 else 0], text)


def _plain(text: str) -> str:
    """Lower case; full-width forms, LaTeX marks, raised digits and the several minus signs in their plain form."""
    text = narrow(text)
    text = re.sub(r"10([⁻⁰¹²³⁴-⁹]+)", lambda found: f"10^{found[1].translate(RAISED)}", text)
    text = re.sub(r"\\boxed\s*\{([^{}]*)\}", r"\1", text)
    text = text.replace("{,}", ",").replace("\\,", "").replace("\\%", "%").replace("\\$", "$")
    return " ".join(re.sub("[−–﹣]", "-", text).casefold().split())


def _number(found: re.Match[str], text: str) -> Number:
    digits, word = found["digits"].replace(",", ""), found["word"] or ""
    value = float(f"{digits}e{found['power'] or found['ten'] or 0}")  # infinite where too large, never an error
    whole = found.start() == 0 and not re.search(r"[^\W\d_]|\d", text[found.end() :])
    opened, closed = found["open"] or found["bracket"], found["close"] or found["end"]
    if "-" in (found["minus"], found["sign"]) or (opened and closed and whole):
        value = -value
    percent = word in PERCENT
    if word in SHORT:
        return Number(value * (SHORT[word] if found["money"] else 1.0), False)
    return Number(value / 100 if percent else value * SCALES.get(word, 1.0), percent)


def _spoken(text: str) -> Number | None:
    """A Chinese numeral that is the whole text, units aside: 三千五百万元, 百分之十二点五, 负二."""
    found = SPOKEN.match(text)
    if found is None or text[found.end() :] not in COUNTED:
        return None
    value = _numeral(found[3])
    if value is None:
        return None
    if found[4]:
        value += float("0." + "".join(str(CHINESE[mark]) for mark in found[4]))
    percent = bool(found[2] or found[5])
    return Number((-value if found[1] else value) / (100 if percent else 1), percent)


def _numeral(marks: str) -> float | None:
    """三千五百万 as 35,000,000, 二〇二四 as 2024; None for marks that make no number."""
    if all(mark in CHINESE for mark in marks):
        return float("".join(str(CHINESE[mark]) for mark in marks))
    total, section, digit = 0, 0, None
    for mark in marks:
        if mark in CHINESE:
            digit = CHINESE[mark]
        elif mark in TENS:
            section += (1 if digit is None else digit) * TENS[mark]
            digit = None
        else:
            section += digit or 0
            total = total + section * 10**4 if mark == "万" else (total + section) * 10**8
            section, digit = 0, None
    return float(total + section + (digit or 0))
