"""The words of the pages and reports in English and in Chinese: English stands in the code, Chinese in `wording.yaml`.

A sentence is its own key, so code and templates read as English. Values are filled in by name, since word order differs.
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
HERE = Path(__file__).parent
SAID = re.compile(r'\b_\("((?:[^"\\]|\\.)*)"')
"""A sentence in a template or a script."""


class Wording:
    """Says a sentence in one language: `tell("{count} items", count="12")`."""

    def __init__(self, lang: str, words: Mapping[str, str]) -> None:
        self.lang, self.words = lang, words
        self.tag = LANGUAGES[lang]

    def __call__(self, text: str, /, **values: object) -> str:
        """The sentence, its values filled in."""
        told = self.words.get(text, text)
        return told.format(**values) if values else told

    def name(self, sector: str) -> str:
        """A sector or `general` as a person says it."""
        from configs.recipe import SECTORS
        from configs.sector import load_sector

        if sector not in SECTORS:
            return self(sector)
        return load_sector(sector).zh if self.lang == "zh" else sector.replace("_", " ")

    def of_scripts(self, script: str) -> dict[str, str]:
        """The sentences that a script says, in this language."""
        said = SAID.findall(script)
        return {text: self.words[text] for text in said if text in self.words}


ENGLISH = Wording("en", {})
"""What is said where nobody asked for a language."""


@lru_cache(maxsize=4)
def wording(lang: str) -> Wording:
    """The words of a language.

    Raises:
        RecipeError: there is no such language.
    """
    if lang not in LANGUAGES:
        hint = f"{did_you_mean(lang, LANGUAGES)} Languages: {', '.join(LANGUAGES)}.".strip()
        raise RecipeError(f"no such language: {lang!r}", where="--lang", hint=hint)
    return ENGLISH if lang == "en" else Wording(lang, dict(read_yaml(HERE / "wording.yaml").value))
