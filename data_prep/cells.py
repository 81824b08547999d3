"""Records of a table as questions on their columns: what is the charge of this station?"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from data_prep.sentences import HAN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAMES = re.compile(
    r"(?:.*[ _-])?(?:name|title|term|label|entity|product|item|topic)|.*(?:名称|名|标题|站名|词条|品名)", re.I
)
"""Columns that say what a record is about."""
NO_CONTENT = re.compile(
    r"|_.*|index|no\.?|row|(?:.*[ _-])?(?:id|ids|uuid|guid|url|uri|link|href|hash|sha256|md5|image|img|path|file)|序号|编号",
    re.I,
)
"""Columns that say nothing about it."""
ADDRESS = re.compile(
    r"(?:https?|ftp)://|www\.|[\w.-]+\.(?:jpe?g|png|gif|pdf|html?)$|[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{24,}", re.I
)
KEY_LENGTHS, VALUE_LENGTH, LIST_LENGTH = (2, 300), 500, 12
"""Characters of a key and of a value; members of a list that is spelt out."""
WORDLIKE = re.compile(f"[{HAN}]{{2}}|[^\\W\\d_]{{2}}[a-zß-ÿ]")
"""What a key holds: two Chinese characters, or a word that is not all capitals, so that codes and classes are none."""


def cells_of(fields: Mapping[str, Any]) -> tuple[str, list[tuple[str, str]]]:
    """What a record is about, and its other columns with their values; an empty list where that is not clear.

    >>> cells_of({"id": 7, "code": "0101", "description": "Horses; live", "level": 4})
    ('Horses; live', [('code', '0101'), ('level', '4')])
    """
    texts = {str(column): said for column, value in fields.items() if (said := _said(value))}
    keys = [column for column, said in texts.items() if _is_key(column, said, fields[column])]
    about = next((column for column in keys if NAMES.fullmatch(column)), next(iter(keys), None))
    if about is None:
        return "", []
    return texts[about], list(_others(texts, about))


def _others(texts: Mapping[str, str], about: str) -> Iterator[tuple[str, str]]:
    for column, said in texts.items():
        if column != about and said != texts[about] and not NO_CONTENT.fullmatch(column) and not ADDRESS.match(said):
            yield " ".join(re.split(r"[_\s]+", column)), said


def _is_key(column: str, said: str, value: Any) -> bool:
    shortest, longest = KEY_LENGTHS
    named = isinstance(value, str) and "\n" not in said and shortest <= len(said) <= longest
    return bool(named and WORDLIKE.search(said) and not NO_CONTENT.fullmatch(column) and not ADDRESS.match(said))


def _said(value: Any) -> str:
    """A value as it stands in the table; nothing for what cannot be said in a line or two."""
    if isinstance(value, list) and value and len(value) <= LIST_LENGTH and all(isinstance(it, str) for it in value):
        return "、".join(value) if re.search(f"[{HAN}]", value[0]) else ", ".join(value)
    if value is None or isinstance(value, bool | list | dict):
        return ""
    said = str(value).strip()
    return said if len(said) <= VALUE_LENGTH and said.lower() not in ("nan", "null", "none", "n/a", "-") else ""
