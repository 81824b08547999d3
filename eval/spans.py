"""Answers that are sets: spans with their types, and the letters of several right choices.

The format of spans is strict: pieces between `;` or line ends, each `type: text`, or the text alone in a task without
types; `none` where there is nothing to find.
"""

from __future__ import annotations

import re

from eval.amounts import narrow
from eval.texts import normal

Span = tuple[str, str]
"""Type and text; the type is empty where the task has none."""
NOTHING = frozenset({"none", "no entities", "无", "没有"})
"""Answers that say: there is nothing to find."""
BETWEEN = r"(?:[\s,、;/&.()\[\]]|and|和|与|及)*"
AFTER = r"(?![A-Za-z])(?=[\s)\]]*(?:$|\n|[^\w\s]|[\u4e00-\u9fff]))"
LETTERS = re.compile(rf"[\s(\[]*([A-Z](?:{BETWEEN}[A-Z])*){AFTER}")
"""Capital letters one after another or with what lists them between; no word may follow on the same line."""
SMALL = re.compile(r"[\s(\[]*[a-z](?:[\s,、;/&.()]+[a-z])*[\s.)\]]*")
"""Small letters one by one, and nothing else."""
MARK = re.compile(r"(?:answers?|choices?)\s*(?:is|are|:)+\s*|答案\s*(?:是|为|:)*\s*|选[项择]?\s*", re.IGNORECASE)
"""What stands before the letters where a text explains itself."""


def spans_of(text: str) -> frozenset[Span]:
    """The spans that a text lists, in their normal form.

    >>> sorted(spans_of("org: ABC Bank; loc: Berlin"))
    [('loc', 'berlin'), ('org', 'abc bank')]
    """
    pieces = (piece.strip() for piece in re.split(r"[;；\n]", text))
    named = (piece.replace("：", ":").partition(":") for piece in pieces if piece and normal(piece) not in NOTHING)
    return frozenset((normal(kind), normal(span)) if colon else ("", normal(kind)) for kind, colon, span in named)


def lists_spans(given: str, gold: str) -> bool:
    """Whether a text can be read as a list of spans: `none`, or at least one piece with a type where the gold has types."""
    found, typed = spans_of(given), any(kind for kind, _ in spans_of(gold))
    return not found or not typed or any(kind for kind, _ in found)


def shared_spans(given: str, gold: str) -> list[float]:
    """How many spans both list, how many were given, and how many are right: sums for micro F1.

    A span counts where type and text are the same. Source: Tjong Kim Sang and De Meulder 2003 (CoNLL-2003), section 3.2,
    by texts instead of places, so that one that occurs twice counts once.
    """
    ours, theirs = spans_of(given), spans_of(gold)
    return [len(ours & theirs), len(ours), len(theirs)]


def letters_of(text: str) -> frozenset[str] | None:
    """The letters that a text answers, or None: `ABD`, `A、B、D`, `A, B and D`, `The answer is (A)(C)`, `答案：AC`.

    They stand at the beginning or after the last mark such as `answer is` or `答案`; the same letter twice, or a word on
    their line, is no answer. Small letters count only where there is nothing else.

    >>> sorted(letters_of("A, B and D") or ())
    ['A', 'B', 'D']
    >>> letters_of("A cat") is None
    True
    """
    text = narrow(text).strip()
    marks = list(MARK.finditer(text))
    for part in (text[marks[-1].end() :] if marks else "", text):
        if found := LETTERS.match(part.upper() if SMALL.fullmatch(part) else part):
            letters = [letter for letter in found[1].replace("and", "") if letter.isupper()]
            return frozenset(letters) if len(set(letters)) == len(letters) else None
    return None
