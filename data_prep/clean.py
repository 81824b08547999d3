"""Cleaning: a table of repairs, and a table of rules that leave a document out. A new one is one row.

Rules know scripts: a Chinese character says about as much as two Latin letters, so it counts twice where length matters.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from configs.reading import encodes
from data_prep.ledger import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from configs.recipe import Prepare
    from data_prep.documents import Document
    from data_prep.ledger import Ledger

CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
"""Control characters of Unicode (category Cc) but tab, line feed, form feed, return and next line, and the byte-order mark."""
LINE_END = re.compile("\r\n?|[\x0c\x85\u2028\u2029]")
"""Line ends of Unicode (UAX 14, class BK and NL) other than the line feed."""
WIDE = re.compile("[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]")
"""Kana, Han and Hangul: characters of double width."""
UNREADABLE = 0.01
"""Part of U+FFFD characters beyond which a document counts as damaged."""


class Repair(NamedTuple):
    """Something that is mended in place and counted by document."""

    name: str
    mend: Callable[[str], str]


class Rule(NamedTuple):
    """Something that leaves a document out: the reason, and when it holds."""

    reason: str
    holds: Callable[[Document, Prepare], bool]


REPAIRS = (
    Repair("line ends", lambda text: LINE_END.sub("\n", text)),
    Repair("control characters", lambda text: CONTROL.sub("", text)),
    Repair("not in NFC", lambda text: unicodedata.normalize("NFC", text)),
)
RULES = (
    Rule("lone surrogate", lambda document, _: not encodes(document.content)),
    Rule("no answer", lambda document, _: bool(document.messages) and not _answered(document)),
    Rule("too short", lambda document, prepare: visible_length(document.content) < prepare.min_chars),
    Rule("unreadable", lambda document, _: document.content.count("�") > UNREADABLE * len(document.content)),
)


def clean(documents: Iterable[Document], prepare: Prepare, ledger: Ledger) -> Iterator[Verdict]:
    """Mend each document, then judge it by the first rule that holds."""
    for document in documents:
        mended = _mended(document, ledger)
        reason = next((rule.reason for rule in RULES if rule.holds(mended, prepare)), "")
        yield Verdict(mended, reason)


def visible_length(text: str) -> int:
    """Characters without white space; those of double width count twice.

    >>> visible_length("a b"), visible_length("利率")
    (2, 4)
    """
    return len("".join(text.split())) + (0 if text.isascii() else len(WIDE.findall(text)))


def _mended(document: Document, ledger: Ledger) -> Document:
    for repair in REPAIRS:
        text = repair.mend(document.text)
        messages = tuple(message._replace(content=repair.mend(message.content)) for message in document.messages)
        if text != document.text or messages != document.messages:
            document = replace(document, text=text, messages=messages)
            ledger.accounts[document.source].mended[repair.name] += 1
    return document


def _answered(document: Document) -> bool:
    answers = [message.content for message in document.messages if message.role == "assistant"]
    return bool(answers) and all(answer.strip() for answer in answers)
