"""Terms that a sector's text has and general text has not: words, and runs of Chinese characters, by likelihood ratio."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WORD = re.compile(r"[^\W\d_\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]{2,}(?:[-'’][^\W\d_\u3040-\u30ff\u3400-\u9fff]+)*")
"""A word of a script that parts words by spaces, with its hyphens and apostrophes."""
HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]+")
"""A run of Chinese characters."""
LONGEST = 6
"""Characters of a Chinese term at the most: longer ones are phrases."""
LEAST, DOCUMENTS = 5, 3
"""A term stands this often in the sample, and in this many documents: less is one document's habit."""
CRITICAL = 10.83
"""Likelihood ratio above which a difference is no accident: chi-squared with one degree of freedom, p = 0.001."""
PART = 0.8
"""A run that mostly stands within one longer run is a piece of it (Frantzi et al. 2000, C-value: nested terms)."""


class Found(NamedTuple):
    """A term and how often it stands in the sector's sample and in the general one."""

    text: str
    times: int
    general: int
    ratio: float
    """Dunning's log-likelihood ratio, G squared."""


def log_likelihood(here: int, there: int, size_here: int, size_there: int) -> float:
    """G squared of a term that stands `here` times among `size_here` and `there` times among `size_there` (Dunning 1993,
    "Accurate Methods for the Statistics of Surprise and Coincidence", section 4; in Rayson and Garside's form of 2000).

    >>> round(log_likelihood(10, 0, 1000, 1000), 2), round(log_likelihood(5, 5, 1000, 1000), 2)
    (13.86, 0.0)
    """
    both, size = here + there, size_here + size_there
    parts = ((here, size_here * both / size), (there, size_there * both / size))
    return 2 * sum(seen * math.log(seen / expected) for seen, expected in parts if seen)


def find_terms(sector: Sequence[str], general: Sequence[str]) -> list[Found]:
    """Terms of the sector's texts that are rarer in general ones, the most telling first."""
    found = []
    for count in (_words, _runs):
        (here, documents, size_here), (there, _, size_there) = count(sector), count(general)
        nested = _nested(here)
        for text, often in here.items():
            rare = there[text] / max(1, size_there) < often / size_here
            if often < LEAST or documents[text] < DOCUMENTS or not rare or text in nested:
                continue
            ratio = log_likelihood(often, there[text], size_here, size_there)
            if ratio > CRITICAL:
                found.append(Found(text, often, there[text], ratio))
    return sorted(found, key=lambda it: (-it.ratio, it.text))


def _words(texts: Iterable[str]) -> tuple[Counter[str], Counter[str], int]:
    """How often each word stands there, in how many texts, and the number of words."""
    often, documents = Counter[str](), Counter[str]()
    for text in texts:
        words = WORD.findall(text)
        often.update(words)
        documents.update(set(words))
    return often, documents, often.total()


def _runs(texts: Iterable[str]) -> tuple[Counter[str], Counter[str], int]:
    """The same of runs of 2 to LONGEST Chinese characters, among the characters."""
    often, documents, size = Counter[str](), Counter[str](), 0
    for text in texts:
        own = Counter[str]()
        for run in HAN.findall(text):
            size += len(run)
            for length in range(2, min(LONGEST, len(run)) + 1):
                own.update(run[start : start + length] for start in range(len(run) - length + 1))
        often.update(own)
        documents.update(own.keys())
    return often, documents, size


def _nested(often: Counter[str]) -> set[str]:
    """The Chinese runs that mostly stand within one run that is a character longer."""
    longer = ((text, count) for text, count in often.items() if count >= LEAST and HAN.match(text))
    return {part for text, count in longer for part in (text[1:], text[:-1]) if count >= PART * often[part]}
