"""The words of report and leaderboard in Chinese, `wording.yaml`, beside those that every stage says (configs/wording.py)."""

from __future__ import annotations

import re
from pathlib import Path

from configs.wording import ENGLISH, LANGUAGES, Wording
from configs.wording import wording as shared

__all__ = ["ENGLISH", "HERE", "LANGUAGES", "SAID", "Wording", "of_scripts", "wording"]

HERE = Path(__file__).parent
SAID = re.compile(r'\b_\("((?:[^"\\]|\\.)*)"')
"""A sentence in a template or a script."""


def wording(lang: str) -> Wording:
    """The words of a language.

    Raises:
        RecipeError: there is no such language.
    """
    return shared(lang, HERE / "wording.yaml")


def of_scripts(script: str, tell: Wording) -> dict[str, str]:
    """The sentences that a script says, in another language than English."""
    return {text: tell.words[text] for text in SAID.findall(script) if text in tell.words}
