"""The words of pages, reports and cards in English and in Chinese: English stands in the code, Chinese in YAML files.

A sentence is its own key, so code and templates read as English. Values are filled in by name, since word order differs.
What every stage says lies in `wording.yaml` beside this file; a stage's own words lie beside its code.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from configs.errors import RecipeError, did_you_mean
from configs.yaml_nodes import read_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

LANGUAGES = {"en": "en", "zh": "zh-Hans"}
"""What --lang takes, and the tag of BCP 47 that a page carries."""
SHARED = Path(__file__).with_name("wording.yaml")
HOLDING = ("leak:{of} cut out", "leak:{of}", "the rejected answer {of}")
"""Reasons that hold a task or another reason."""


class Wording:
    """Says a sentence in one language: `tell("{count} items", count="12")`."""

    def __init__(
        self, lang: str, words: Mapping[str, str], tables: Mapping[str, Mapping[str, str]] | None = None
    ) -> None:
        self.lang, self.words, self.tables = lang, words, tables or {}
        self.tag = LANGUAGES[lang]

    def __call__(self, text: str, /, **values: object) -> str:
        """The sentence, its values filled in."""
        told = self.words.get(text, text)
        return told.format(**values) if values else told

    def term(self, table: str, word: str) -> str:
        """A word that records hold, by the table it belongs to; a word that is not in it stays as it is."""
        return self.tables.get(table, {}).get(word, word)

    def reason(self, reason: str) -> str:
        """Why a document was left out or what was mended in it, as the ledger has it in English.

        >>> wording("zh").reason("few letters"), wording("zh").reason("leak:fpb")
        ('文字太少', '与测试题重合：fpb')
        """
        for form in HOLDING:
            if found := re.fullmatch(form.replace("{of}", "(?P<of>.+)"), reason):
                return self.term("reasons", form).format(of=self.reason(found["of"]))
        return self.term("reasons", reason)

    def name(self, sector: str) -> str:
        """A sector or `general` as a person says it."""
        from configs.recipe import SECTORS
        from configs.sector import load_sector

        if sector not in SECTORS:
            return self(sector)
        return load_sector(sector).zh if self.lang == "zh" else sector.replace("_", " ")


ENGLISH = Wording("en", {})
"""What is said where nobody asked for a language."""


@lru_cache(maxsize=8)
def wording(lang: str, beside: Path | None = None) -> Wording:
    """The words of a language, with those of the file `beside` a stage's code.

    Raises:
        RecipeError: there is no such language.
    """
    if lang not in LANGUAGES:
        hint = f"{did_you_mean(lang, LANGUAGES)} Languages: {', '.join(LANGUAGES)}.".strip()
        raise RecipeError(f"no such language: {lang!r}", where="--lang", hint=hint)
    if lang == "en":
        return ENGLISH
    tables = dict(read_yaml(SHARED).value)
    words = tables.pop("sentences") | (dict(read_yaml(beside).value) if beside else {})
    return Wording(lang, words, tables)
