"""Places in a text where tokens always end, so that texts which begin alike need be tokenised only from there on.

A seam stands between a letter or digit and the space or line end after it. Tokenizers that split a text into words
before they make tokens (GPT-2, Llama 3, Qwen, DeepSeek) split it there, whatever follows; those that make tokens of the
whole text (Llama 2, Mistral) cannot join what no piece of their vocabulary spans. Of other tokenizers, and of those
whose pattern looks back, no text is cut.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from configs.chat import ChatTokenizer

SEAM = re.compile(r"(?<=[^\W_])(?=[ \n])")
SPANS = re.compile(r"[^\W_][ \n▁]")
"""A piece of a vocabulary that spans a seam, in the letters of tokenizers that make tokens of the whole text."""
LOOKS_BACK = re.compile(r"\(\?<|\\[bBAGZz]|(?<!\[)\^|\$")
"""What makes a pattern's pieces depend on more than the text from their start on."""
SPLITS = frozenset({"ByteLevel", "Digits", "Sequence", "Split"})
"""Steps that split from left to right."""
SAME, SPACED = frozenset({"NFC", "NFKC", "Sequence"}), frozenset({"NFC", "NFKC", "Prepend", "Replace", "Sequence"})
"""Normalisers that change nothing across a seam, and those that write spaces as marks too."""
TRIED = ("a b", "7 b", "a\nb", "中 b", "中\nb", "é \n b", "a  b", "a\n\nb", "a \n", "B b")
FOLLOWS = ("", "a", " a", "\n", "\n\n", "  ", "1", "。", "中", "'s", "\u0301", ".", "\nB: c", "</s>", "ll")
"""Ways in which a text may go on."""


class Seams:
    """The seams of one tokenizer."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self.there = tokenizer.backend is not None and _described(tokenizer.backend) and self._hold(tokenizer)

    def last(self, text: str, start: int = 0) -> int:
        """Where the last seam of a text stands, not before `start`; `start` where there is none."""
        if not self.there:
            return start
        for end in range(len(text) - 1, start, -1):
            if text[end] in " \n" and text[end - 1].isalnum():
                return end
        return start

    def _hold(self, tokenizer: ChatTokenizer) -> bool:
        """Whether texts are tokenised in parts as they are in one, on what is tried."""
        texts = [f"{text}{more}" for text in TRIED for more in FOLLOWS]
        wholes = tokenizer.ids(texts)
        for text, whole in zip(texts, wholes, strict=True):
            for seam in SEAM.finditer(text):
                at = seam.start()
                if tokenizer.ids([text[:at]])[0] + tokenizer.ids_after([text[at:]])[0] != whole:
                    return False
        return True


def _described(backend: Any) -> bool:
    """Whether the tokenizer's own description lets seams be: how it normalises, splits, and makes tokens."""
    for added in backend.get_added_tokens_decoder().values():
        if not added.special and (added.rstrip or added.lstrip or added.single_word or SEAM.search(added.content)):
            return False
    normal, splits = _steps(backend.normalizer), _steps(backend.pre_tokenizer)
    if type(backend.model).__name__ != "BPE" or backend.model.dropout:
        return False
    if _kinds(normal) <= SAME and splits:
        patterns = [str(step.get("pattern", "")) for step in splits]
        if any(map(LOOKS_BACK.search, patterns)) or any(step.get("add_prefix_space") for step in splits):
            return False
        return _kinds(splits) <= SPLITS and all(_splits(backend, text) for text in TRIED)
    spaced = _kinds(normal) <= SPACED and all(len(str(step.get("content", ""))) <= 1 for step in normal)
    return spaced and not any(map(SPANS.search, backend.get_vocab(with_added_tokens=False)))


def _splits(backend: Any, text: str) -> bool:
    """Whether a text is split at each of its seams before tokens are made."""
    bounds = {start for _, (start, _) in backend.pre_tokenizer.pre_tokenize_str(text)}
    return all(seam.start() in bounds for seam in SEAM.finditer(text))


def _steps(part: Any) -> list[dict[str, Any]]:
    """The steps of a normaliser or splitter, as its description has them."""
    if part is None:
        return []
    step = json.loads(part.__getstate__())
    inner = step.get("normalizers", step.get("pretokenizers", ()))
    return [step, *inner]


def _kinds(steps: list[dict[str, Any]]) -> set[str]:
    return {str(step["type"]) for step in steps}
