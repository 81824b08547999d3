"""Likeness of two texts: the same, shared words or characters, longest common subsequence, shared runs of characters.

Each measure takes the given and the expected text. What is shared is counted; the sums and the formula are in score.py.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Kana and Han: scripts written without spaces."""
ORDER = 6
"""Longest run of characters that chrF counts (Popovic 2015: the best of 1 to 6 and the default of sacrebleu)."""
PUNCTUATION, DIGITS = (str.maketrans("", "", marks) for marks in (string.punctuation, string.digits))


def normal(text: str) -> str:
    """A text for comparison: NFKC, lower case, single spaces, no full stop at the end.

    >>> normal(" Ｙｅｓ. ")
    'yes'
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split()).rstrip(".。")


def same_text(given: str, gold: str, options: Mapping[str, Any]) -> bool:
    """Whether two texts are the same: in their normal form, or with any option as lm-evaluation-harness compares.

    There (`exact_match_hf_evaluate`): what the patterns find is taken out, then lower case, then ASCII punctuation,
    then digits, as asked for; nothing else is forgiven but spaces at the ends, which a generated text loses here always.
    """
    if not options:
        return normal(given) == normal(gold)
    return _stripped(given, options) == _stripped(gold, options)


def _stripped(text: str, options: Mapping[str, Any]) -> str:
    for pattern in options.get("regexes_to_ignore", ()):
        text = re.sub(pattern, "", text)
    text = text.lower() if options.get("ignore_case") else text
    text = text.translate(PUNCTUATION) if options.get("ignore_punctuation") else text
    return text.translate(DIGITS) if options.get("ignore_numbers") else text


def words(text: str) -> list[str]:
    """Words without punctuation, in lower case; Kana and Han one character each.

    >>> words("The rate: 3.5 利率")
    ['the', 'rate', '3', '5', '利', '率']
    """
    return re.findall(rf"[{CJK}]|[^\W_{CJK}]+", unicodedata.normalize("NFKC", text).casefold())


def tokens(text: str) -> list[str]:
    """The words without English articles.

    Sources: Rajpurkar et al. 2016 (SQuAD), evaluation script; Cui et al. 2019 (CMRC 2018) for Chinese characters.

    >>> tokens("The rate, 利率")
    ['rate', '利', '率']
    """
    return [word for word in words(text) if word not in ("a", "an", "the")]


def token_f1(given: str, gold: str) -> float:
    """Harmonic mean of precision and recall over tokens (Rajpurkar et al. 2016, section 6.1)."""
    return _f1(tokens(given), tokens(gold))


def char_f1(given: str, gold: str) -> float:
    """The same over characters, spaces and punctuation left out: for Chinese, where words have no edges.

    Source: Shao et al. 2018, "DRCD: a Chinese Machine Reading Comprehension Dataset", section 4.
    """
    return _f1(list("".join(words(given))), list("".join(words(gold))))


def _f1(ours: Sequence[str], theirs: Sequence[str]) -> float:
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))


def rouge_l(given: str, gold: str) -> float:
    """F of the longest common subsequence of words, with precision and recall weighing the same.

    Source: Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries", section 3.1, with beta 1 as in the
    package rouge_score; without stemming; a Han character is a word.
    """
    ours, theirs = words(given), words(gold)
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * longest_common(ours, theirs) / (len(ours) + len(theirs))


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Length of the longest common subsequence, all columns of its table at once as the bits of a number.

    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited".

    >>> longest_common("the cat sat".split(), "the big cat".split())
    2
    """
    places: dict[str, int] = {}
    for place, word in enumerate(one):
        places[word] = places.get(word, 0) | 1 << place
    whole = (1 << len(one)) - 1
    row = whole
    for word in other:
        met = row & places.get(word, 0)
        row = ((row + met) | (row - met)) & whole
    return len(one) - row.bit_count()


def shared_runs(given: str, gold: str) -> list[float]:
    """For runs of 1 to 6 characters: how many were given, expected and shared; 18 numbers, which add up over items.

    Spaces do not count, case does. Source: Popovic 2015, "chrF: character n-gram F-score for automatic MT evaluation",
    in the form of sacrebleu, where runs longer than the expected text are not held against the given one.
    """
    ours, theirs = ("".join(text.split()) for text in (given, gold))
    counts = list[float]()
    for length in range(1, ORDER + 1):
        have, want = (
            Counter(text[at : at + length] for at in range(len(text) - length + 1)) for text in (ours, theirs)
        )
        counts += [have.total() if want else 0, want.total(), (have & want).total()]
    return counts
